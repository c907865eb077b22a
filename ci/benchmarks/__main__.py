"""Parts of `ci/bench`, in a process of their own with a set number of threads: `python -m benchmarks xor`."""

import argparse
import os
import statistics
import sys

from . import attention, convolution, elementwise, estimators, files, memory, recurrent, training, updates
from .measure import chosen, markdown, ready, rounds_of, seconds, table

# Name, then what it is, how far results may differ (relative to the largest), and the contenders, the base first.
WORKLOADS = {
    "xor": ("XOR 2-4-1, sigmoid, float64, batch 4: forward, MSE, backward, SGD", 1e-12, training.XOR),
    "iris": ("Iris 4-5-10-3, sigmoid, float64, flower by flower: forward, MSE, backward, SGD", 1e-12, training.IRIS),
    "mlp": ("MLP 784-512-256-10, ReLU, float32, batch 128: forward, cross-entropy, backward, Adam", 1e-4, training.MLP),
    "gelu": ("GELU (tanh), float32, 2048x1024: forward, backward", 1e-5, elementwise.GELU),
    "norm": ("Layer norm, float32, 2048x1024: forward, backward for x, weight, bias", 1e-5, elementwise.NORM),
    "conv1": ("Convolution 3x3, 1 to 32 channels, 64 of 28x28, float32: forward, backward", 1e-4, convolution.SMALL),
    "conv32": ("Convolution 3x3, 32 to 64 channels, 64 of 14x14, float32: forward, backward", 1e-4, convolution.MIDDLE),
    "conv64": ("Convolution 3x3, 64 to 64 channels, 64 of 32x32, float32: forward, backward", 1e-4, convolution.LARGE),
    "convnet": ("Two convolutions and a linear layer, 64 of 28x28, cross-entropy, Adam", 1e-4, convolution.NET),
    "lstm": ("LSTM 128 to 256, 64 steps, batch 32, float32: forward, backward", 1e-4, recurrent.LSTM),
    "lstm-small": ("LSTM 32 to 64, 32 steps, batch 16, float32: forward, backward", 1e-4, recurrent.LSTM_SMALL),
    "gru": ("GRU 128 to 256, 64 steps, batch 32, float32: forward, backward", 1e-4, recurrent.GRU),
    "gru-small": ("GRU 32 to 64, 32 steps, batch 16, float32: forward, backward", 1e-4, recurrent.GRU_SMALL),
    "transformer": (
        "Transformer layer, 16x128 tokens, width 256, 4 heads, GELU, float32: forward, backward",
        1e-4,
        attention.TRANSFORMER,
    ),
    "attention": (
        "Attention, 2,048 tokens, 8 heads of 64, float32: forward, backward",
        1e-4,
        attention.ATTENTION,
    ),
}
IN_MEMORY = ("mlp", "gelu", "norm", "attention")


def recording(contenders, tries):
    """The first five calls of the step, eager and compiled, against the median eager step: medians over some tries."""
    step, _ = contenders["nnbackend, eager"]()
    usual = statistics.median(seconds(step, 1) for _ in range(10 * tries))
    rows = [(f"over the median eager step, {usual * 1e3:.2f} ms", "1st call", "2nd", "3rd", "4th", "5th")]
    for name in ("nnbackend, eager", "nnbackend, compiled"):
        calls = []
        for _ in range(tries):
            step, _ = contenders[name]()
            calls.append([seconds(step, 1) / usual for _ in range(5)])
        rows.append((name, *(f"{statistics.median(ratios):.2f}" for ratios in zip(*calls, strict=True))))
    return markdown(rows)


def run(name, threads, args):
    """Measure one part and print its table."""
    print(f"### {name}, {threads} thread{'s' * (threads > 1)}: ", end="", flush=True)
    pace = (2, 0.01, 0.02) if args.quick else (15, 0.02 if threads == 1 else 0.1, 0.06)  # rounds, lead, length
    if name == "memory":
        print("peak above what is resident after import, and what a step in steady state allocates\n")
        names = IN_MEMORY[:1] if args.quick else IN_MEMORY
        workloads = {w: chosen(WORKLOADS[w][2], torch_compile=False) for w in names}
        print(memory.report(workloads, 5 if args.quick else 50))
    elif name == "recording":
        print("what recording the MLP's step costs\n")
        print(recording(training.MLP, 2 if args.quick else 7))
    elif name == "optimizers":
        print("a step on 1 and on 10 million weights in ten matrices, float32, by PyTorch's default\n")
        for weights in (1_000_000, 10_000_000):
            print(f"{weights:,} weights\n")
            print(updates.report(weights, *pace))
    elif name == "estimators":
        splits = 1 if args.quick else 10
        print(f"their defaults, {splits} split{'s' * (splits > 1)} of sets that come with scikit-learn\n", flush=True)
        print(estimators.report(splits))
    elif name == "files":
        print(f"{40 if args.quick else 500} MB of weights in matrices of 4 MB\n")
        print(files.report(10 if args.quick else 125, 2 if args.quick else 7))
    else:
        title, tolerance, contenders = WORKLOADS[name]
        print(f"{title}\n", flush=True)
        print(table(rounds_of(ready(chosen(contenders, args.torch_compile), tolerance), *pace)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="+")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torch-compile", action="store_true")
    parser.add_argument("--peak", metavar="CONTENDER", help="print its memory instead, see memory.py")
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    if args.peak:
        memory.peak(args.peak, WORKLOADS[args.parts[0]][2][args.peak], args.steps)
        return
    for name in args.parts:
        run(name, int(os.environ["OMP_NUM_THREADS"]), args)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
