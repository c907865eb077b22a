"""What this machine offers to nnbackend, what it lacks, and how to mend that."""

from __future__ import annotations

import os
import platform
from typing import Any, NamedTuple

from .backend import NUMPY, device
from .backend.cuda_faults import one_line
from .backend.detect import CudaStatus, cuda_status, importable
from .version import __version__

EXTRAS = {"plot": "matplotlib", "progress": "tqdm", "sklearn": "sklearn"}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
CUDA_VARIABLES = ("CUDA_", "CUPY_", "NNBACKEND_", "NVIDIA_VISIBLE_", "LD_LIBRARY_PATH")  # how their names begin


class Report(NamedTuple):
    """What `doctor()` found: printed it is a page to read, `as_dict()` is the same for programs."""

    nnbackend: str
    python: str
    platform: str
    numpy: str
    blas: str
    cpus: int | None
    threads: dict[str, str | None]
    array_api_compat: str | None
    extras: dict[str, bool]
    environment: dict[str, str]
    cuda: CudaStatus
    auto: str
    why: str

    def as_dict(self) -> dict[str, Any]:
        """Everything in dicts, lists, strings and numbers, ready for JSON."""
        return {
            **self._asdict(),
            "cuda": {
                **self.cuda._asdict(),
                "checks": [check._asdict() for check in self.cuda.checks],
                "gpus": [gpu._asdict() for gpu in self.cuda.gpus],
            },
        }

    def __str__(self) -> str:
        threads = ", ".join(f"{name}={value}" for name, value in self.threads.items() if value) or "no limit is set"
        extras = (
            f"{package} is here" if here else f'no {package}: pip install "nnbackend[{extra}]"'
            for (extra, package), here in zip(EXTRAS.items(), self.extras.values(), strict=True)
        )
        rows = {
            "nnbackend": f"{self.nnbackend} on Python {self.python}, {self.platform}",
            "NumPy": f"{self.numpy}, BLAS {self.blas}",
            "threads": f"{self.cpus} CPUs, {threads}",
            "array-api": f"array-api-compat {self.array_api_compat or 'is missing: pip install array-api-compat'}",
            "extras": "; ".join(extras),
            "variables": ", ".join(f"{name}={value}" for name, value in self.environment.items()),
            "CUDA": f"{'usable' if self.cuda.usable else 'not usable'}: {self.cuda.reason}",
        }
        lines = [f"{name:<10} {text}" for name, text in rows.items() if text]
        lines += [f"  {check.verdict:<8} {check.name:<10} {check.evidence}" for check in self.cuda.checks]
        lines += [f"  to mend it: {self.cuda.fix}"] if self.cuda.fix else []
        lines += ["  to see the GPUs at work: nvidia-smi"] if self.cuda.usable else []
        return "\n".join([*lines, f'device="auto" means {self.auto}: {self.why}'])

    def __repr__(self) -> str:
        return str(self)


def doctor() -> Report:
    """Look at this machine. In a console the answer prints itself; `python -m nnbackend doctor` does the same."""
    cuda = cuda_status()
    auto, why = _auto(cuda)
    return Report(
        nnbackend=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        numpy=NUMPY.xp.__version__,
        blas=_blas(),
        cpus=os.cpu_count(),
        threads={name: os.environ.get(name) for name in THREAD_VARIABLES},
        array_api_compat=_version("array-api-compat"),
        extras={extra: importable(package) for extra, package in EXTRAS.items()},
        environment={name: os.environ[name] for name in sorted(os.environ) if name.startswith(CUDA_VARIABLES)},
        cuda=cuda,
        auto=auto,
        why=why,
    )


def _auto(cuda: CudaStatus) -> tuple[str, str]:
    """What `device="auto"` means, and why."""
    wish = os.environ.get("NNBACKEND_DEVICE") or "auto"
    name = wish if wish != "auto" else "cuda:0" if cuda.usable else "cpu"
    why = cuda.reason if wish == "auto" else f"NNBACKEND_DEVICE={wish} is set"
    try:
        device(name)
    except Exception as error:  # a doctor does not fall ill
        why += f", but {one_line(str(getattr(error, 'reason', error)))}"
    return name, why


def _blas() -> str:
    """Name and version of NumPy's BLAS."""
    config: Any = NUMPY.xp.show_config(mode="dicts")
    blas = (config or {}).get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _version(distribution: str) -> str | None:
    from importlib import metadata  # slow to load

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version" if importable(distribution.replace("-", "_")) else None
