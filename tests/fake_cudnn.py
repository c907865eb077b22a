"""A stand-in for the package `cudnn`, over the memory of that for CuPy: NumPy does what a graph says, in float64.

It is as strict as the package and the library behind it where that matters here: the order of the calls, handles and
streams, addresses, workspaces, engines that must not be chosen, and nothing built inside a capture.
"""

import ctypes
import itertools
import math
import sys
from enum import Enum
from typing import Any

import numpy as np

data_type = Enum("data_type", "FLOAT HALF BFLOAT16")
heur_mode = Enum("heur_mode", "A FALLBACK")
numerical_note = Enum(
    "numerical_note",
    "TENSOR_CORE DOWN_CONVERT_INPUTS REDUCED_PRECISION_REDUCTION FFT NONDETERMINISTIC WINOGRAD STRICT_NAN_PROP",
)
NOTE = numerical_note
BITS = {data_type.FLOAT: np.float32, data_type.HALF: np.float16, data_type.BFLOAT16: np.uint16}

# What the heuristics find for a convolution in float32 on an H100, best first, and how much room it wants.
CONV = [
    ("eng1", {NOTE.NONDETERMINISTIC}, 0), ("eng38", {NOTE.TENSOR_CORE}, 4096), ("eng2", {NOTE.WINOGRAD}, 0),
    ("eng3", set(), 1 << 31), ("eng70", set(), 144), ("eng0", {NOTE.STRICT_NAN_PROP}, 0),
]  # fmt: skip
SDPA = [("sdpa_fwd_prefill_sm90", set(), 0), ("eng5", {NOTE.NONDETERMINISTIC}, 0), ("eng9", set(), 256)]


class cudnnGraphNotSupportedError(Exception):
    """There is no engine."""


class Handle:
    """What work is started with."""

    def __init__(self) -> None:
        self.device, self.stream = _cuda().get_device_id(), 0


def _cuda() -> Any:
    return sys.modules["cupy"].cuda


def backend_version() -> int:
    return 92801


def create_handle() -> Handle:
    _outside()
    return Handle()


def set_stream(handle: Handle, stream: int) -> None:
    assert isinstance(handle, Handle), f"set_stream expects a Handle, got {handle!r}"
    handle.stream = stream


def _outside() -> None:
    if _cuda().get_current_stream().is_capturing():
        raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED: operation not permitted when stream is capturing")


class Tensor:
    """Of a graph."""

    def __init__(self, name: str, dim: Any = None, stride: Any = None, data_type: Any = None) -> None:
        self.name, self.dim, self.stride, self.data_type = name, dim, stride, data_type
        self.output = False

    def set_output(self, value: bool) -> "Tensor":
        self.output = value
        return self

    def set_dim(self, dim: Any) -> "Tensor":
        self.dim = dim
        return self

    def set_stride(self, stride: Any) -> "Tensor":
        self.stride = stride
        return self

    def set_data_type(self, dtype: Any) -> "Tensor":
        self.data_type = dtype
        return self

    def check(self) -> None:
        if not (self.dim and self.stride and len(self.dim) == len(self.stride) and min(self.dim) > 0):
            raise ValueError(f"{self.name}: dims {self.dim}, strides {self.stride}")
        assert all(type(n) is int for n in (*self.dim, *self.stride)), "of Python's own numbers"

    def at(self, address: int) -> Any:
        """The memory."""
        kind = np.dtype(BITS[self.data_type])
        last = sum((n - 1) * s for n, s in zip(self.dim, self.stride, strict=True))
        flat = np.frombuffer((ctypes.c_uint8 * ((last + 1) * kind.itemsize)).from_address(address), kind)
        return np.lib.stride_tricks.as_strided(flat, self.dim, [s * kind.itemsize for s in self.stride])

    def read(self, address: int) -> Any:
        """The values."""
        x = self.at(address)
        if self.data_type is data_type.BFLOAT16:
            x = (x.astype(np.uint32) << 16).view(np.float32)
        return x.astype(np.float64)

    def write(self, address: int, y: Any) -> None:
        if self.data_type is data_type.BFLOAT16:
            bits = y.astype(np.float32).view(np.uint32)
            y = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        self.at(address)[...] = y


class pygraph:
    """One operation; `stage` is how far it has come."""

    def __init__(
        self, name: str = "", io_data_type: Any = None, intermediate_data_type: Any = None,
        compute_data_type: Any = None, handle: Any = None,
    ) -> None:  # fmt: skip
        _outside()
        assert isinstance(handle, Handle)
        assert intermediate_data_type is compute_data_type is data_type.FLOAT
        self.stage, self.tensors = "made", list[Tensor]()
        self.barred, self.names, self.limit = set[Any](), list[str](), math.inf
        self.engines: list[Any] = []
        self.engine: Any = None
        self.work: Any = None

    def _to(self, stage: str, *before: str) -> None:
        _outside()
        if self.stage not in before:
            raise RuntimeError(f"{stage} after {self.stage}, expected {' or '.join(before)}")
        self.stage = stage

    # -- the operation
    def tensor(self, dim: Any, stride: Any = None, data_type: Any = None, name: str = "") -> Tensor:
        self.tensors.append(Tensor(name, dim, stride, data_type))
        return self.tensors[-1]

    def _does(self, work: Any, engines: Any, *names: str) -> list[Tensor]:
        self.work, self.engines = work, engines
        self.tensors += (outputs := [Tensor(name) for name in names])
        return outputs

    def _conv(self, name: str, pre: Any, post: Any, stride: Any, dilation: Any) -> Tensor:
        def work(a: Tensor, b: Tensor, y: Tensor, pack: Any) -> None:
            x, w = _conv_operands(name, a, b, y)
            if not (len(a.dim) == len(b.dim) == len(y.dim) in (4, 5) and len(pre) == len(a.dim) - 2):
                raise cudnnGraphNotSupportedError("a convolution has two or three axes")
            axes = zip(x.dim[2:], w.dim[2:], pre, post, stride, dilation, strict=True)
            count = [(n + p + q - d * (k - 1) - 1) // s + 1 for n, k, p, q, s, d in axes]
            dims = {"conv_fprop": y.dim, "conv_dgrad": a.dim, "conv_wgrad": b.dim}[name]
            if dims != [x.dim[0], w.dim[0], *count] or x.dim[1] % w.dim[1]:
                raise cudnnGraphNotSupportedError(f"{name}: {x.dim}, {w.dim} give {count}, not {dims}")
            if pack is None:
                return
            operands = [_rounded(t.read(pack[t]), self.engine) for t in (a, b)]
            where = (pre, post, stride, dilation, count, x.dim[1] // w.dim[1])
            y.write(pack[y], _convolved(name, *operands, x.dim, w.dim, *where))

        return self._does(work, CONV, "y")[0]

    def conv_fprop(
        self, image: Tensor, weight: Tensor, pre_padding: Any, post_padding: Any, stride: Any, dilation: Any
    ) -> Tensor:
        return self._conv("conv_fprop", pre_padding, post_padding, stride, dilation)

    def conv_dgrad(
        self, loss: Tensor, filter: Tensor, pre_padding: Any, post_padding: Any, stride: Any, dilation: Any
    ) -> Tensor:
        return self._conv("conv_dgrad", pre_padding, post_padding, stride, dilation)

    def conv_wgrad(
        self, image: Tensor, loss: Tensor, pre_padding: Any, post_padding: Any, stride: Any, dilation: Any
    ) -> Tensor:
        return self._conv("conv_wgrad", pre_padding, post_padding, stride, dilation)

    def sdpa(
        self, q: Tensor, k: Tensor, v: Tensor, attn_scale: float, use_causal_mask: bool, generate_stats: bool
    ) -> list[Tensor]:
        assert generate_stats

        def work(q: Tensor, k: Tensor, v: Tensor, y: Tensor, stats: Tensor, pack: Any) -> None:
            _heads(q, k, v, y)
            assert stats.data_type is data_type.FLOAT
            if pack is None:
                return
            s = _scores(q.read(pack[q]), k.read(pack[k]), attn_scale, use_causal_mask)
            logs = np.log(np.exp(s - s.max(-1, keepdims=True)).sum(-1, keepdims=True)) + s.max(-1, keepdims=True)
            y.write(pack[y], np.exp(s - logs) @ v.read(pack[v]))
            stats.write(pack[stats], logs)

        return self._does(work, SDPA, "o", "stats")

    def sdpa_backward(
        self, q: Tensor, k: Tensor, v: Tensor, o: Tensor, dO: Tensor, stats: Tensor, attn_scale: float,
        use_causal_mask: bool, use_deterministic_algorithm: bool,
    ) -> list[Tensor]:  # fmt: skip
        assert use_deterministic_algorithm

        def work(*tensors: Any) -> None:
            q, k, v, o, do, stats, *grads, pack = tensors
            _heads(q, k, v, o, do)
            if q.dim[2] == k.dim[2] == 1:
                raise cudnnGraphNotSupportedError("s_q = s_kv = 1 is not supported.")
            if pack is None:
                return
            qx, kx, vx, ox, dx, logs = (t.read(pack[t]) for t in (q, k, v, o, do, stats))
            w = np.exp(_scores(qx, kx, attn_scale, use_causal_mask) - logs)
            ds = w * (dx @ vx.swapaxes(2, 3) - (dx * ox).sum(-1, keepdims=True)) * attn_scale
            for t, value in zip(grads, (ds @ kx, ds.swapaxes(2, 3) @ qx, w.swapaxes(2, 3) @ dx), strict=True):
                t.write(pack[t], value)

        return self._does(work, SDPA, "dQ", "dK", "dV")

    # -- the plan
    def validate(self) -> None:
        self._to("valid", "made")
        for t in self.tensors:
            t.check()
        self.work(*self.tensors, None)

    def build_operation_graph(self) -> None:
        self._to("built", "valid")

    def create_execution_plans(self, heuristics: Any) -> None:
        assert heuristics == [heur_mode.A, heur_mode.FALLBACK]
        self._to("planned", "built")

    def deselect_engines(self, engine_names: list[str]) -> None:
        self.names += engine_names

    def deselect_numeric_notes(self, notes: list[Any]) -> None:
        if self.stage != "planned":
            raise RuntimeError("notes are those of plans, so there must be plans")
        self.barred |= set(notes)

    def deselect_workspace_greater_than(self, workspace_limit: int) -> None:
        self.limit = workspace_limit

    def check_support(self) -> None:
        self._to("checked", "planned")

    def build_plans(self) -> None:
        self._to("ready", "checked")
        for name, notes, size in self.engines:
            if not (any(each in name for each in self.names) or notes & self.barred or size > self.limit):
                if name.startswith("sdpa_") or NOTE.NONDETERMINISTIC in notes or size > 1 << 30:
                    raise AssertionError(f"{name} must not be chosen")
                self.engine = name, notes, size
                return
        raise cudnnGraphNotSupportedError("no plan in the list could be built")

    def get_workspace_size(self) -> int:
        assert self.stage == "ready"
        return int(self.engine[2])

    def execute(self, tensor_dict: dict[Tensor, int], workspace: int, handle: Handle) -> None:
        """On the handle's stream, which is to be CuPy's current one."""
        assert self.stage == "ready"
        assert (handle.device, handle.stream) == (_cuda().get_device_id(), _cuda().get_current_stream().ptr)
        missing = [t.name for t in self.tensors if t not in tensor_dict]
        if missing:
            raise ValueError(f"the variant pack is missing a buffer for {missing}")
        assert all(type(p) is int and p > 0 and p % 16 == 0 for p in tensor_dict.values()), "addresses"
        assert type(workspace) is int
        assert workspace > 0 or not self.engine[2], "a workspace"
        capture = _cuda()._capture.capturing()
        arguments = (dict(tensor_dict), workspace)
        if capture is None:
            self._execute(*arguments)
        else:
            capture.record(self._execute, arguments, {}, run=False)

    def _execute(self, pack: dict[Tensor, int], workspace: int) -> None:
        ctypes.memset(workspace, 0xFF, self.engine[2])  # NaN, if it is anybody else's
        self.work(*self.tensors, pack)


def _conv_operands(name: str, a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The input and the weights."""
    return {"conv_fprop": (a, b), "conv_dgrad": (y, b), "conv_wgrad": (a, y)}[name]


def _rounded(x: Any, engine: Any) -> Any:
    """Tensor cores keep 10 bits."""
    if NOTE.TENSOR_CORE not in engine[1]:
        return x
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000).astype(np.uint32).view(np.float32).astype(np.float64)


def _convolved(
    name: str, a: Any, b: Any, x_dim: Any, w_dim: Any, pre: Any, post: Any, stride: Any, dilation: Any,
    count: Any, groups: int,
) -> Any:  # fmt: skip
    """A sum over the elements of the kernel."""
    n, c, *size = x_dim
    padded = np.zeros((n, groups, c // groups, *(m + p + q for m, p, q in zip(size, pre, post, strict=True))))
    inner = (..., *(slice(p, p + m) for m, p in zip(size, pre, strict=True)))
    if name != "conv_dgrad":
        padded[inner] = a.reshape(n, groups, c // groups, *size)
    w = np.zeros((groups, w_dim[0] // groups, *w_dim[1:]))
    if name != "conv_wgrad":
        w[...] = b.reshape(w.shape)
    y = np.zeros((n, groups, w_dim[0] // groups, *count))
    if name != "conv_fprop":
        y[...] = (a if name == "conv_dgrad" else b).reshape(y.shape)
    for at in itertools.product(*map(range, w_dim[2:])):
        axes = zip(at, dilation, stride, count, strict=True)
        key = (..., *(slice(i * d, i * d + s * (m - 1) + 1, s) for i, d, s, m in axes))
        if name == "conv_fprop":
            y += np.einsum("ngc...,goc->ngo...", padded[key], w[(..., *at)])
        elif name == "conv_dgrad":
            padded[key] += np.einsum("ngo...,goc->ngc...", y, w[(..., *at)])
        else:
            flat = [x.reshape(*x.shape[:3], -1) for x in (padded[key], y)]
            w[(..., *at)] = np.einsum("ngcp,ngop->goc", *flat)
    return {
        "conv_fprop": y.reshape(n, w_dim[0], *count), "conv_dgrad": padded[inner].reshape(x_dim),
        "conv_wgrad": w.reshape(w_dim),
    }[name]  # fmt: skip


def _heads(*tensors: Tensor) -> None:
    """What attention takes."""
    for t in tensors:
        assert t.data_type in (data_type.HALF, data_type.BFLOAT16)
        if t.dim[3] % 8 or t.stride[3] != 1 or any(s * 2 % 16 for s in t.stride[:3]):
            raise cudnnGraphNotSupportedError(f"{t.name}: dims {t.dim}, strides {t.stride}")
        assert all(s > 0 for s in t.stride)


def _scores(q: Any, k: Any, scale: float, causal: bool) -> Any:
    s = q @ k.swapaxes(2, 3) * scale
    return np.where(np.tri(*s.shape[2:], dtype=bool), s, -np.inf) if causal else s
