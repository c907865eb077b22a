"""The flags that all examples share, and how they end."""

import argparse
import sys
from pathlib import Path

import nnbackend as nb


def parse(description: str, epochs: int | None, seed: int = 0, **choices: list[str]) -> argparse.Namespace:
    """Read the command line; `recipe=["tutorial", "modern"]` adds a flag --recipe, the first choice its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="auto", help='"auto" (default), "cpu", "cuda" or "cuda:N"')
    parser.add_argument("--seed", type=int, default=seed, help=f"one seed, one run (default {seed})")
    parser.add_argument(
        "--epochs", type=int, default=epochs, help=f"passes over the data (default {epochs or 'as the recipe says'})"
    )
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the trained weights here, as safetensors")
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0], help=f"default {values[0]}")
    args = parser.parse_args()
    args.device = nb.device(args.device)
    print(f"device: {args.device}")
    return args


def finish(net: nb.nn.Module, save: Path | None, result: str, value: float, target: float) -> None:
    """Save if asked, print the result, and exit with 1 if the target was missed."""
    if save:
        nb.save(net, save)
        print(f"saved: {save}")
    print(f"result: {result} {value:.4f} (target {target})")
    sys.exit(0 if value >= target else 1)
