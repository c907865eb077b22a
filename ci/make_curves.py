"""PyTorch's curves of the loss for `tests/curve_nets.py`, with the weights and batches they come from, all in float64.

pip install torch && python -m ci.make_curves [folder]
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from nnbackend.io import safetensors
from tests.curve_nets import BATCHES, COURSES, Course, curve


def start(course: Course, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights and batches. The numbers of batches are so round that float16 holds them."""
    net = course.net(torch.nn).to(torch.float64)
    arrays = {f"start.{k}": v.numpy().copy() for k, v in net.state_dict().items()}
    for name, p in net.named_parameters():
        arrays[f"start.{name}"] = rng.standard_normal(p.shape) / 2
    shape = (BATCHES, *course.shape)
    numbers, letters = rng.standard_normal(shape).astype("float16"), rng.integers(0, max(course.letters, 1), shape)
    arrays["x"] = letters if course.letters else numbers
    aims = numbers.reshape(*shape[:2], -1)[..., :1].astype("float64") ** 2
    arrays["y"] = rng.integers(0, course.classes, shape[:2]) if course.classes else aims.astype("float16")
    return arrays


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    everything = {}
    for seed, (name, course) in enumerate(COURSES.items()):
        arrays = start(course, np.random.default_rng(seed))
        arrays["curve"] = np.array(curve(torch, course, arrays))
        everything |= {f"{name}.{k}": a for k, a in arrays.items()}
        print(name, arrays["curve"][[0, -2, -1]])
    path = folder / "torch_curves.safetensors"
    safetensors.write(path, everything, {"cases": json.dumps(list(COURSES)), "torch": torch.__version__})
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "tests" / "fixtures")
