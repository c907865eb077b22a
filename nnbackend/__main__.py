"""The command line: `python -m nnbackend doctor [--json]`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from .doctor import doctor


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; without one, print the help."""
    parser = argparse.ArgumentParser(prog="python -m nnbackend", description="Neural networks on plain arrays.")
    commands = parser.add_subparsers(dest="command", metavar="command")
    about = "say what this machine offers, what it lacks, and how to mend that"
    command = commands.add_parser("doctor", help=about, description=f"Doctor: {about}.")
    command.add_argument("--json", action="store_true", help="print JSON for programs")
    given = parser.parse_args(arguments)
    if given.command == "doctor":
        report = doctor()
        print(json.dumps(report.as_dict(), indent=2) if given.json else report)
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
