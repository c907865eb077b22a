"""The flags that all examples share, and how they end."""

import argparse
import sys
from pathlib import Path

import nnbackend as nb


def parse(description, epochs, seed=0, picture=None, unit="passes over the data", resume=True, folder="", **choices):
    """Read the command line; `recipe=["tutorial", "modern"]` adds a flag --recipe, the first choice its default.

    `unit` is what --epochs counts. `picture` says what the example can draw: with it there is a flag --picture.
    With `resume` there is a flag --resume, for runs that may be cut short: the same command goes on. With `folder`, the
    one where the example writes unless told otherwise, there is a flag --folder.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="auto", help='"auto" (default), "cpu", "cuda" or "cuda:N"')
    parser.add_argument("--seed", type=int, default=seed, help=f"one seed, one run (default {seed})")
    parser.add_argument("--epochs", type=int, default=epochs, help=f"{unit} (default {epochs or 'as the recipe says'})")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the trained weights here, as safetensors")
    if resume:
        parser.add_argument(
            "--resume", type=Path, metavar="FOLDER", help="keep checkpoints here; go on from the newest"
        )
    parser.add_argument("--smoke", action="store_true", help="the least work that runs every line; no target")
    if picture:
        parser.add_argument("--picture", type=Path, metavar="FILE", help=f"draw {picture}: a .png, .svg or .pdf")
    if folder:
        parser.add_argument("--folder", type=Path, default=Path(folder), help=f"write there (default {folder})")
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0], help=f"default {values[0]}")
    args = parser.parse_args()
    args.device = nb.device(args.device)
    print(f"device: {args.device}")
    return args


def kept(args):
    """What `fit` must know of --resume."""
    return {"checkpoints": args.resume, "resume": True} if args.resume else {}


def opened(folder, state):
    """The file for a loop of one's own in the folder of --resume, and the state: that of the file if it is there."""
    if folder is None:
        return None, state
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "run.safetensors"
    return file, nb.load(file, into=state) if file.exists() else state


def finish(args, net, result, value, target, less=False):
    """Save if asked, print the result, and exit with 1 if it missed the target (with `less`, if it is above)."""
    if args.save:
        nb.save(net, args.save)
        print(f"saved: {args.save}")
    reached = value <= target if less else value >= target
    print(f"result: {result} {value:.4f} ({'smoke, no target' if args.smoke else f'target {target}'})")
    sys.exit(0 if reached or args.smoke else 1)
