"""Matrix products on a GPU: matrices are read as they lie in memory, by algorithms that are chosen once.

A plan belongs to the shapes, strides and dtypes of its operands, and to no address: what it does is the same for equal
problems, eager or replayed. Plans and workspaces are made outside of captures, so what a capture meets must have run
before. cuBLASLt counts by columns: a row-major y = a @ b is asked for as y.T = b.T @ a.T.

A bias is added as the result is stored, by the algorithm of the plain product if it can do that: so
`product(x, w.T) + b` has the bits of `affine(x, w, b)`. In 16 bits it has not, because there the product alone is
rounded before the bias is added.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import operator
import threading
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from copy import copy
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from ..errors import DeviceError
from .base import Array, Precision, log
from .capture import UncapturedError
from .cublaslt import (
    POINTER_MODE_DEVICE,
    REDUCTION_SCHEME_COMPUTE_TYPE,
    Compute,
    CublasLtError,
    DataType,
    Desc,
    Descriptor,
    Epilogue,
    Found,
    Layout,
    Preference,
    library,
)
from .narrow import Narrowing
from .stacks import Calls, Lies, joined, uniform

NARROW = {"bfloat16": DataType.R_16BF, "float16": DataType.R_16F}  # the operands are float32 before they are narrowed
PRECISION: ContextVar[Precision] = ContextVar("precision", default="ieee")  # of products of float32
WORKSPACE = 32 << 20  # bytes for each stream: NVIDIA's advice for Hopper
ALIGNED = 16  # bytes: all addresses are, and no algorithm counts on more, so that an address changes no bits
PER_THREAD = 2  # the number of the stream that each thread has for itself
PLANS = 4096  # kept at a time
SIZES = {DataType.R_32F: 4, DataType.R_64F: 8, DataType.R_16F: 2, DataType.R_16BF: 2}  # bytes

Plan = Callable[..., Array]  # (a, b, out) or (x, w, b, out) -> the result, or NotImplemented


class Numbers(NamedTuple):
    """What the operands are, how they are multiplied and summed, what the result is."""

    operands: DataType
    compute: Compute
    result: DataType

    @property
    def scale(self) -> DataType:
        """What alpha and beta are."""
        return DataType.R_64F if self.compute == Compute.COMPUTE_64F else DataType.R_32F

    @property
    def scaled(self) -> bool:
        """Whether alpha and beta are found on the device, beside the operands."""
        return self.operands == DataType.R_16F and self.result == DataType.R_32F


def numbers(dtype: Any, precision: Precision) -> Numbers | None:
    """For operands of a dtype; None if cuBLASLt is not for them."""
    if dtype == np.float32 and precision in NARROW:
        return Numbers(NARROW[precision], Compute.COMPUTE_32F, DataType.R_32F)
    if dtype == np.float32:
        compute = Compute.COMPUTE_32F_FAST_TF32 if precision == "tf32" else Compute.COMPUTE_32F
        return Numbers(DataType.R_32F, compute, DataType.R_32F)
    if dtype == np.float64:
        return Numbers(DataType.R_64F, Compute.COMPUTE_64F, DataType.R_64F)
    if dtype == np.float16:
        return Numbers(DataType.R_16F, Compute.COMPUTE_32F, DataType.R_16F)
    return None


# -- what is called -------------------------------------------------------------------------------------------------


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    """The product of vectors, matrices or stacks of matrices that broadcast; NotImplemented for what is left to CuPy.

    (..., m, k), (..., k, n) -> (..., m, n). Operands are copied only where neither axis of a matrix is dense, where
    the stack is no uniform one, or where the address is odd. `out` must not share memory with `a` and `b`.
    """
    cupy = _cupy()
    if a.__class__ is not cupy.array or b.__class__ is not cupy.array:
        return NotImplemented
    key = _key(a), _key(b), None if out is None else _key(out), cupy.device(), PRECISION.get()
    return (_plans.get(key) or _planned(key, _product, a, b, out))(a, b, out)


def affine(x: Array, w: Array, b: Array | None, out: Array | None = None) -> Array:
    """`x @ w.T + b`: rows (n, i), (o, i), (o,) -> (n, o)."""
    if b is None:
        return product(x, w.T, out)
    cupy = _cupy()
    if not x.__class__ is w.__class__ is b.__class__ is cupy.array:
        return NotImplemented
    key = _key(x), _key(w), _key(b), None if out is None else _key(out), cupy.device(), PRECISION.get()
    return (_plans.get(key) or _planned(key, _affine, x, w, b, out))(x, w, b, out)


class _Cupy(NamedTuple):
    """What is used of CuPy."""

    array: Any
    device: Callable[[], int]
    stream: Callable[[], Any]
    empty: Callable[..., Array]
    module: Any


@cache
def _cupy() -> _Cupy:
    cupy = import_module("cupy")
    return _Cupy(cupy.ndarray, cupy.cuda.get_device_id, cupy.cuda.get_current_stream, cupy.empty, cupy)


def _key(x: Array) -> tuple[Any, ...]:
    at = x.data
    return x.shape, x.strides, x.dtype, at.device_id, at.ptr % ALIGNED


# -- plans ----------------------------------------------------------------------------------------------------------

_plans: dict[tuple[Any, ...], Plan] = {}
_workspaces: dict[tuple[int, int, int], Any] = {}  # of a device and a stream, whose products take turns
_logged: set[str] = set()
_ONES = {DataType.R_32F: ctypes.c_float(1.0), DataType.R_64F: ctypes.c_double(1.0)}
_ZEROS = {DataType.R_32F: ctypes.c_float(0.0), DataType.R_64F: ctypes.c_double(0.0)}


def _planned(key: tuple[Any, ...], make: Callable[..., Plan], *arguments: Any) -> Plan:
    if _cupy().stream().is_capturing():
        shapes = ", ".join(str(x.shape) for x in arguments if hasattr(x, "shape"))
        raise UncapturedError(f"a matrix product of {shapes} must run once before it is captured")
    try:
        plan = make(*arguments)
    except CublasLtError as error:
        plan = _left_to_cupy(str(error))
    while len(_plans) >= PLANS:
        _plans.pop(next(iter(_plans), key), None)
    return _plans.setdefault(key, plan)


def _left_to_cupy(reason: str | None) -> Plan:
    """No plan. The reason is logged when it is new."""
    if reason is not None and reason not in _logged:
        _logged.add(reason)
        log("matrix products are left to CuPy: %s", reason)
    return lambda *_: NotImplemented


def _product(a: Array, b: Array, out: Array | None) -> Plan:
    """The plan of `product`."""
    cupy = _cupy().module
    kind = numbers(a.dtype, PRECISION.get()) if a.dtype == b.dtype else None
    if kind is None:
        return _left_to_cupy(f"{a.dtype} @ {b.dtype}")
    if {a.data.device_id, b.data.device_id} != {_cupy().device()} or 0 in (a.ndim, b.ndim):
        return _left_to_cupy(None)  # which has an error for it
    if 1 in (a.ndim, b.ndim):
        return _of_vectors(a.ndim, b.ndim)
    (m, k), (rows, n) = a.shape[-2:], b.shape[-2:]
    try:
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return _left_to_cupy(None)
    if k != rows:
        return _left_to_cupy(None)
    shape = (*stack, m, n)
    if out is not None and (out.shape, out.dtype) != (shape, a.dtype):
        raise ValueError(f"out: expected {shape} of {a.dtype}, got {out.shape} of {out.dtype}")
    if 0 in (*shape, k):
        return _by(lambda a, b: cupy.zeros(shape, a.dtype))
    if out is not None and (out.data.ptr % ALIGNED or not out.flags.c_contiguous):
        return _by(product)
    narrow = Narrowing(a, b, PRECISION.get()) if kind.operands != kind.result else None
    read_a, read_b = (a, b) if narrow is None else narrow.laid_out(narrow(a, b))
    odd = [x.data.ptr % ALIGNED > 0 for x in (read_a, read_b)]
    if any(odd):
        return _after(lambda x: x.copy(order="K"), *odd)
    lies_a, lies_b = Lies.of(read_a), Lies.of(read_b)
    if lies_a is None or lies_b is None:
        return _after(cupy.ascontiguousarray, lies_a is None, lies_b is None)
    calls = Calls.of(stack, read_a, read_b, m * n * a.itemsize)
    if calls is None:
        apart = [not uniform(x, stack) for x in (read_a, read_b)]
        return _after(lambda x: cupy.ascontiguousarray(cupy.broadcast_to(x, (*stack, *x.shape[-2:]))), *apart)
    lies_a, calls = joined(lies_a, calls, read_a.itemsize)
    return Gemm(kind, shape, a.dtype, lies_a, lies_b, calls, narrow)


def _after(copied: Callable[[Array], Array], first: bool, second: bool) -> Plan:
    """A plan that copies the first or the second operand, or both."""
    return lambda a, b, out: product(copied(a) if first else a, copied(b) if second else b, out)


def _by(make: Callable[[Array, Array], Array]) -> Plan:
    """A plan without `out`, whose result is copied to it."""

    def run(a: Array, b: Array, out: Array | None) -> Array:
        y = make(a, b)
        if out is None or y is NotImplemented:
            return y
        out[...] = y
        return out

    return run


def _of_vectors(a_ndim: int, b_ndim: int) -> Plan:
    """A vector is one row of `a`, or one column of `b`."""

    def run(a: Array, b: Array) -> Array:
        y = product(a[None, :] if a_ndim == 1 else a, b[:, None] if b_ndim == 1 else b)
        if y is NotImplemented:
            return y
        y = y[..., 0] if b_ndim == 1 else y
        return y if a_ndim > 1 else y[..., 0] if b_ndim == 1 else y[..., 0, :]

    return _by(run)


def _affine(x: Array, w: Array, b: Array, out: Array | None) -> Plan:
    """The plan of `affine`: that of the product, with an epilogue where there can be one."""
    if (b.dtype, b.shape, b.data.device_id) != (x.dtype, w.shape[:1], x.data.device_id):
        return _left_to_cupy(None)
    if b.data.ptr % ALIGNED or b.strides != (b.itemsize,):
        return lambda x, w, b, out: affine(x, w, b.copy(), out)
    plain = _product(x, w.T, out)
    if isinstance(plain, Gemm) and (better := plain.also(Epilogue.BIAS)) is not None:
        return better

    def steps(x: Array, w: Array, b: Array, out: Array | None) -> Array:
        y = product(x, w.T, out)
        if y is not NotImplemented:
            y += b
        return y

    return steps


# -- the call -------------------------------------------------------------------------------------------------------


class Gemm:
    """One problem: its descriptors and its algorithm. A plan of `product`."""

    def __init__(
        self,
        kind: Numbers,
        shape: tuple[int, ...],
        dtype: Any,
        a: Lies,
        b: Lies,
        calls: Calls,
        narrow: Narrowing | None,
    ) -> None:
        self._library, self._device, self._narrow = library(), _cupy().device(), narrow
        self._kind, self._shape, self._dtype, self._offsets = kind, shape, dtype, calls.offsets
        self._transposed = b.transposed, a.transposed
        y = Lies(False, a.length if a.transposed else a.lines, shape[-1], shape[-1])
        numbers = kind.operands, kind.operands, kind.result
        self._layouts = [
            self._layout(number, lies, calls.matrices, stride)
            for number, lies, stride in zip(numbers, (a, b, y), calls.strides, strict=True)
        ]
        self._desc = self._described(Epilogue.DEFAULT)
        self._found = self._best(functools.reduce(operator.or_, itertools.chain(*calls.offsets)))
        self._needs = self._found.workspace  # bytes
        self._given = self._all_given()

    def __call__(self, a: Array, b: Array, out: Array | None) -> Array:
        """The product, in new memory or in `out`."""
        cupy = _cupy()
        handle, desc, la, lb, ly, one, zero, algorithm = self._given
        if self._narrow is not None:
            a, b, back = self._narrow(a, b)
            if back is not None:
                one, zero = back.data.ptr, back.data.ptr + back.itemsize
        y = cupy.empty(self._shape, self._dtype) if out is None else out
        at, bt, yt, stream = a.data.ptr, b.data.ptr, y.data.ptr, cupy.stream().ptr
        workspace = _workspace(self._device, stream) if self._needs else 0
        for i, j, k in self._offsets:
            status = self._library.matmul(
                *(handle, desc, one, bt + j, lb, at + i, la, zero, yt + k, ly, yt + k, ly),
                *(algorithm, workspace, workspace and WORKSPACE, stream),
            )
            if status:
                said = f"CUDA reports {self._library.status(status)} for a matrix product"
                raise DeviceError(f"{said}. An earlier op may have caused it: NNBACKEND_SYNC=1 shows which.")
        return y

    def _all_given(self) -> tuple[int, ...]:
        """What is the same for each call, as it is passed."""
        one, zero = (ctypes.addressof(numbers[self._kind.scale]) for numbers in (_ONES, _ZEROS))
        handle, desc, lb, la, ly, _ = self._problem
        return handle, desc, la, lb, ly, one, zero, ctypes.addressof(self._found)

    @property
    def _problem(self) -> tuple[int, ...]:
        a, b, y = (layout.address for layout in self._layouts)
        return self._library.handle(self._device), self._desc.address, b, a, y, y

    def _layout(self, number: DataType, lies: Lies, count: int, stride: int) -> Descriptor:
        layout = Descriptor(self._library, "MatrixLayout", number, lies.length, lies.lines, lies.step)
        if count > 1:
            layout.set(Layout.BATCH_COUNT, count)
            layout.set(Layout.STRIDED_BATCH_OFFSET, stride // SIZES[number])
        return layout

    def _described(self, epilogue: Epilogue) -> Descriptor:
        desc = Descriptor(self._library, "MatmulDesc", self._kind.compute, self._kind.scale)
        if self._kind.scaled:
            desc.set(Desc.POINTER_MODE, POINTER_MODE_DEVICE)
        desc.set(Desc.TRANSA, self._transposed[0])
        desc.set(Desc.TRANSB, self._transposed[1])
        desc.set(Desc.EPILOGUE, epilogue)
        return desc

    def _best(self, address: int) -> Found:
        """What the library thinks best, where addresses are multiples of what divides `address`."""
        preference = Descriptor(self._library, "MatmulPreference")
        preference.set(Preference.MAX_WORKSPACE_BYTES, WORKSPACE)
        if SIZES[self._kind.result] == 2:
            preference.set(Preference.REDUCTION_SCHEME_MASK, REDUCTION_SCHEME_COMPUTE_TYPE)
        address = address % ALIGNED or ALIGNED
        for which in "ABCD":
            preference.set(Preference[f"MIN_ALIGNMENT_{which}_BYTES"], address & -address)
        found, count = Found(), ctypes.c_int()
        ask = "cublasLtMatmulAlgoGetHeuristic"
        self._library.call(ask, *self._problem, preference.address, 1, ctypes.byref(found), ctypes.byref(count))
        if not count.value or found.state:
            raise CublasLtError(f"{ask} finds no algorithm for a result of {self._shape}, {self._dtype}")
        return found

    def also(self, epilogue: Epilogue) -> Plan | None:
        """The same with an epilogue, a plan of `affine`; None if the algorithm cannot do that."""
        other, found = copy(self), Found()
        other._desc = self._described(epilogue)
        other._desc.set(Desc.BIAS_POINTER, ALIGNED)  # looked at for how it is aligned
        other._given = other._all_given()
        check = self._library.functions["cublasLtMatmulAlgoCheck"]
        if check(*other._problem, self._found.algorithm, found) or found.workspace > WORKSPACE:
            return None
        other._needs = found.workspace
        lock, set_to, as_given = threading.Lock(), ALIGNED, self._narrow is None

        def run(x: Array, w: Array, b: Array | None, out: Array | None) -> Array:
            nonlocal set_to
            with lock:  # the descriptor is for one at a time
                if b is not None and b.data.ptr != set_to:
                    other._desc.set(Desc.BIAS_POINTER, b.data.ptr)
                    set_to = b.data.ptr
                return other(x, w if as_given else w.T, out)  # of which only the address counts

        return run


def _workspace(device: int, stream: int) -> int:
    """The address of the stream's, made when it is first needed and held as long as the stream."""
    key = (device, stream, threading.get_ident() if stream == PER_THREAD else 0)
    try:
        memory = _workspaces[key]
    except KeyError:
        cupy = _cupy()
        if cupy.stream().is_capturing():
            raise UncapturedError("the stream has no workspace yet, which a first product makes") from None
        memory = _workspaces.setdefault(key, cupy.module.get_default_memory_pool().malloc(WORKSPACE))
        weakref.finalize(cupy.stream(), _workspaces.pop, key, None).atexit = False
    address: int = memory.ptr
    return address
