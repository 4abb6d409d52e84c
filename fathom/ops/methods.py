"""The methods and operators of `Tensor`: every one is a function of this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from fathom.engine.errors import DtypeError, GraphError, InplaceError, ShapeError
from fathom.engine.tensor import (
    Tensor,
    TensorLike,
    clock,
    is_grad_enabled,
    mark_written,
)
from fathom.ops import (
    create,
    cumulate,
    index,
    linalg,
    loss,
    order,
    products,
    reduce,
    rounding,
    shape,
    solve,
    special,
    tiling,
    triangle,
    trigonometric,
    writing,
)
from fathom.ops import elementwise as e


class TensorMethods:
    """Mixed into `Tensor`; see the functions for their documentation."""

    __add__ = e.add
    __sub__ = e.sub
    __mul__ = e.mul
    __truediv__ = e.true_divide
    __floordiv__ = rounding.floor_divide
    __mod__ = rounding.remainder
    __pow__ = e.power
    __neg__ = e.neg
    __abs__ = e.abs
    __matmul__ = linalg.matmul
    __getitem__ = index.getitem
    __gt__ = e.greater
    __ge__ = e.greater_equal
    __lt__ = e.less
    __le__ = e.less_equal
    __eq__ = e.equal  # type: ignore[assignment]
    __ne__ = e.not_equal  # type: ignore[assignment]

    abs = e.abs
    absolute = e.absolute
    add = e.add
    allclose = e.allclose
    astype = e.astype
    clamp = e.clamp
    clip = e.clip
    div = e.div
    divide = e.divide
    eq = e.eq
    equal = e.equal
    exp = e.exp
    exp2 = e.exp2
    expm1 = e.expm1
    fmax = e.fmax
    fmin = e.fmin
    ge = e.ge
    greater = e.greater
    greater_equal = e.greater_equal
    gt = e.gt
    hypot = e.hypot
    isclose = e.isclose
    isfinite = e.isfinite
    isinf = e.isinf
    isnan = e.isnan
    le = e.le
    lerp = e.lerp
    less = e.less
    less_equal = e.less_equal
    log = e.log
    log10 = e.log10
    log1p = e.log1p
    log2 = e.log2
    logical_and = e.logical_and
    logical_not = e.logical_not
    logical_or = e.logical_or
    logical_xor = e.logical_xor
    lt = e.lt
    maximum = e.maximum
    minimum = e.minimum
    mul = e.mul
    multiply = e.multiply
    nan_to_num = e.nan_to_num
    ne = e.ne
    neg = e.neg
    negative = e.negative
    not_equal = e.not_equal
    pow = e.power
    reciprocal = e.reciprocal
    relu = e.relu
    rsqrt = e.rsqrt
    sigmoid = e.sigmoid
    sign = e.sign
    sqrt = e.sqrt
    square = e.square
    sub = e.sub
    subtract = e.subtract
    tanh = e.tanh
    true_divide = e.true_divide

    bitwise_and = rounding.bitwise_and
    bitwise_not = rounding.bitwise_not
    bitwise_or = rounding.bitwise_or
    bitwise_xor = rounding.bitwise_xor
    ceil = rounding.ceil
    fix = rounding.fix
    floor = rounding.floor
    floor_divide = rounding.floor_divide
    fmod = rounding.fmod
    frac = rounding.frac
    remainder = rounding.remainder
    round = rounding.round
    trunc = rounding.trunc

    acos = trigonometric.acos
    acosh = trigonometric.acosh
    arccos = trigonometric.arccos
    arccosh = trigonometric.arccosh
    arcsin = trigonometric.arcsin
    arcsinh = trigonometric.arcsinh
    arctan = trigonometric.arctan
    arctan2 = trigonometric.arctan2
    arctanh = trigonometric.arctanh
    asin = trigonometric.asin
    asinh = trigonometric.asinh
    atan = trigonometric.atan
    atan2 = trigonometric.atan2
    atanh = trigonometric.atanh
    cos = trigonometric.cos
    cosh = trigonometric.cosh
    deg2rad = trigonometric.deg2rad
    rad2deg = trigonometric.rad2deg
    sin = trigonometric.sin
    sinh = trigonometric.sinh
    tan = trigonometric.tan

    digamma = special.digamma
    erf = special.erf
    erfc = special.erfc
    erfinv = special.erfinv
    lgamma = special.lgamma
    logaddexp = special.logaddexp
    logaddexp2 = special.logaddexp2
    xlogy = special.xlogy

    all = reduce.all
    amax = reduce.amax
    amin = reduce.amin
    any = reduce.any
    argmax = reduce.argmax
    argmin = reduce.argmin
    count_nonzero = reduce.count_nonzero
    logsumexp = reduce.logsumexp
    max = reduce.max
    mean = reduce.mean
    min = reduce.min
    norm = reduce.norm
    std = reduce.std
    sum = reduce.sum
    var = reduce.var

    cumprod = cumulate.cumprod
    cumsum = cumulate.cumsum
    prod = cumulate.prod

    argsort = order.argsort
    kthvalue = order.kthvalue
    median = order.median
    msort = order.msort
    quantile = order.quantile
    sort = order.sort
    topk = order.topk

    broadcast_to = shape.broadcast_to
    expand = shape.expand
    expand_as = shape.expand_as
    flatten = shape.flatten
    flip = shape.flip
    fliplr = shape.fliplr
    flipud = shape.flipud
    moveaxis = shape.moveaxis
    movedim = shape.movedim
    permute = shape.permute
    ravel = shape.ravel
    reshape = shape.reshape
    roll = shape.roll
    squeeze = shape.squeeze
    swapaxes = shape.swapaxes
    swapdims = shape.swapdims
    transpose = shape.transpose
    unflatten = shape.unflatten
    unsqueeze = shape.unsqueeze
    view = shape.view
    view_as = shape.view_as

    chunk = tiling.chunk
    repeat = tiling.repeat
    repeat_interleave = tiling.repeat_interleave
    split = tiling.split
    tile = tiling.tile
    unbind = tiling.unbind
    unfold = tiling.sliding_windows

    argwhere = index.argwhere
    gather = index.gather
    index_select = index.index_select
    masked_select = index.masked_select
    narrow = index.narrow
    nonzero = index.nonzero
    select = index.select
    take = index.take
    take_along_axis = index.take_along_axis
    take_along_dim = index.take_along_dim

    index_add = writing.index_add
    index_copy = writing.index_copy
    index_fill = writing.index_fill
    masked_fill = writing.masked_fill
    scatter = writing.scatter
    scatter_add = writing.scatter_add

    matmul = linalg.matmul
    addmm = products.addmm
    bmm = products.bmm
    cross = products.cross
    dot = products.dot
    inner = products.inner
    kron = products.kron
    matrix_power = products.matrix_power
    mm = products.mm
    mv = products.mv
    outer = products.outer
    vdot = products.vdot

    det = solve.det
    inverse = solve.inv
    logdet = solve.logdet
    pinverse = solve.pinv
    slogdet = solve.slogdet

    diag = triangle.diag
    diag_embed = triangle.diag_embed
    diagonal = triangle.diagonal
    trace = triangle.trace
    tril = triangle.tril
    triu = triangle.triu

    softmax = loss.softmax
    log_softmax = loss.log_softmax

    def __radd__(self, other: TensorLike) -> Tensor:
        return e.add(other, self)  # type: ignore[arg-type]

    def __rsub__(self, other: TensorLike) -> Tensor:
        return e.sub(other, self)  # type: ignore[arg-type]

    def __rmul__(self, other: TensorLike) -> Tensor:
        return e.mul(other, self)  # type: ignore[arg-type]

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return e.div(other, self)  # type: ignore[arg-type]

    def __rpow__(self, other: TensorLike) -> Tensor:
        return e.power(other, self)  # type: ignore[arg-type]

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return rounding.floor_divide(other, self)  # type: ignore[arg-type]

    def __rmod__(self, other: TensorLike) -> Tensor:
        return rounding.remainder(other, self)  # type: ignore[arg-type]

    # of whole numbers bit by bit, of anything else whether it is true (not zero)

    def __and__(self, other: TensorLike) -> Tensor:
        return _bits(self, rounding.bitwise_and, e.logical_and)(self, other)

    def __or__(self, other: TensorLike) -> Tensor:
        return _bits(self, rounding.bitwise_or, e.logical_or)(self, other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return _bits(self, rounding.bitwise_xor, e.logical_xor)(self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Tensor:
        return _bits(self, rounding.bitwise_not, e.logical_not)(self)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return linalg.matmul(other, self)  # type: ignore[arg-type]

    def __iter__(self: Any) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return shape.matrix_transpose(self)  # type: ignore[arg-type]

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return shape.transpose(self, -2, -1)  # type: ignore[arg-type]

    def numel(self: Any) -> int:
        return self.size

    def dim(self: Any) -> int:
        return self.ndim

    def half(self: Any) -> Tensor:
        return e.astype(self, np.float16)

    def float(self: Any) -> Tensor:
        return e.astype(self, np.float32)

    def double(self: Any) -> Tensor:
        return e.astype(self, np.float64)

    def int(self: Any) -> Tensor:
        return e.astype(self, np.int32)

    def long(self: Any) -> Tensor:
        return e.astype(self, np.int64)

    def bool(self: Any) -> Tensor:
        return e.astype(self, np.bool_)

    def type_as(self: Any, other: Tensor) -> Tensor:
        """This tensor in the dtype of another."""
        return e.astype(self, other.dtype)

    def contiguous(self: Any) -> Tensor:
        """Itself if its memory is in order, else a copy that is."""
        return self if self.value().flags.c_contiguous else self.clone()

    def new_zeros(self: Any, *sizes: Any) -> Tensor:
        """Zeros of this dtype."""
        return create.zeros(*sizes, dtype=self.dtype)

    def new_ones(self: Any, *sizes: Any) -> Tensor:
        """Ones of this dtype."""
        return create.ones(*sizes, dtype=self.dtype)

    def new_full(self: Any, sizes: Any, value: Any) -> Tensor:
        """All `value`, of this dtype."""
        return create.full(sizes, value, self.dtype)

    def where(self: Any, condition: TensorLike, other: TensorLike) -> Tensor:
        """This tensor where the condition holds, the other elsewhere."""
        return cast(Tensor, e.where(condition, self, other))

    @property
    def at(self) -> writing.At:
        """`x.at[index].set(v)`, `.add`, `.mul`, `.min`, `.max`: writes that return a new tensor."""
        return writing.At(self)  # type: ignore[arg-type]

    def clone(self: Any) -> Tensor:
        """A copy that keeps its history."""
        return e.mul(self, 1) if self.requires_grad else Tensor(self.value().copy())

    # -- in place: the trailing underscore of PyTorch

    def __iadd__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.add, other)

    def __isub__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.sub, other)

    def __imul__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.mul, other)

    def __itruediv__(self: Any, other: TensorLike) -> Tensor:  # type: ignore[misc]
        return write(self, e.div, other)

    add_, sub_, mul_, div_ = __iadd__, __isub__, __imul__, __itruediv__

    def copy_(self: Any, other: TensorLike) -> Tensor:
        return write(self, lambda x, y: writing.At(x)[...].set(y), other)

    def zero_(self: Any) -> Tensor:
        return write(self, lambda x, _: writing.At(x)[...].set(0), None)

    def fill_(self: Any, value: TensorLike) -> Tensor:
        return write(self, lambda x, y: writing.At(x)[...].set(y), value)

    def clamp_(self: Any, min: TensorLike | None = None, max: TensorLike | None = None) -> Tensor:
        return write(self, lambda x, _: e.clip(x, min, max), None)

    clip_ = clamp_

    def neg_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.neg(x), None)

    def exp_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.exp(x), None)

    def sqrt_(self: Any) -> Tensor:
        return write(self, lambda x, _: e.sqrt(x), None)

    def pow_(self: Any, exponent: TensorLike) -> Tensor:
        return write(self, e.power, exponent)

    def masked_fill_(self: Any, mask: TensorLike, value: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.masked_fill(x, mask, v), value)

    def index_add_(self: Any, dim: Any, index: TensorLike, source: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.index_add(x, dim, index, v), source)

    def scatter_(self: Any, dim: Any, index: TensorLike, src: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.scatter(x, dim, index, v), src)

    def scatter_add_(self: Any, dim: Any, index: TensorLike, src: TensorLike) -> Tensor:
        return write(self, lambda x, v: writing.scatter_add(x, dim, index, v), src)

    def __setitem__(self: Any, where: Any, value: TensorLike) -> None:
        """x[where] = value, in the memory of x; recorded like any other in-place edit."""
        place = index.plain_index(where)
        recorded = self.requires_grad or getattr(value, "requires_grad", False)
        if self.level or getattr(value, "level", 0) or (is_grad_enabled() and recorded):
            write(self, lambda x, v: writing.At(x)[place].set(v), value)
            return
        writing.write_into(self.value(), place, value)
        mark_written(self)


def _bits(x: Any, bitwise: Any, logical: Any) -> Any:
    """The operation on bits for whole numbers, on truth otherwise."""
    return bitwise if x.dtype.kind in "iu" else logical


def write(target: Tensor, operation: Any, other: Any) -> Tensor:
    """`target = operation(target, other)` in the memory of `target`.

    Recorded like any operation when gradients are; refused where PyTorch refuses: on a leaf
    that requires grad, and on views of recorded values.
    """
    level = getattr(other, "level", 0)
    if target.level or level:
        return _write_wrapped(target, operation, other, level)
    recorded = is_grad_enabled() and (
        target.requires_grad or (isinstance(other, Tensor) and other.requires_grad)
    )
    if recorded:
        if target.is_leaf and target.requires_grad:
            raise GraphError(
                "a leaf that requires grad is edited in place while operations are recorded",
                fix="edit it inside `with fathom.no_grad():`, as optimizers do",
            )
        if target.cell is not None and target.cell.shared:
            raise InplaceError(
                "in-place edit of memory that another recorded tensor shares (a view)",
                fix="write it out of place: y = x + 1",
            )
        before = Tensor(target.value().copy())
        before.edge, before.requires_grad = target.edge, target.requires_grad
        result = operation(before, before if other is target else other)
        target.edge, target.requires_grad = result.edge, result.requires_grad
    else:
        result = operation(target.value(), other.value() if isinstance(other, Tensor) else other)
    data = result.value() if isinstance(result, Tensor) else result
    if data.shape != target.shape:
        raise ShapeError(f"an in-place edit cannot change shape {target.shape} to {data.shape}")
    if data.dtype.kind == "f" and target.dtype.kind != "f":
        raise DtypeError(f"floats cannot be written in place into a tensor of {target.dtype}")
    target.value()[...] = data
    mark_written(target)
    if recorded and target.edge is not None:
        target.edge[0].sequence = next(clock)  # the write is part of the operation
    return target


def _write_wrapped(target: Any, operation: Any, other: Any, level: int) -> Tensor:
    """An in-place edit inside a transform: the wrapper takes over what the result holds."""
    if level > target.level:
        raise GraphError(
            "an in-place edit of a tensor from outside a transform with a value from inside it",
            fix="make the tensor inside the function you transform, or write out of place",
        )
    before = object.__new__(type(target))
    before.__dict__.update(target.__dict__)
    result = operation(before, before if other is target else other)
    if result.shape != target.shape:
        raise ShapeError(f"an in-place edit cannot change shape {target.shape} to {result.shape}")
    target.__dict__.update(result.__dict__)
    return cast(Tensor, target)


_UFUNCS = {
    np.add: e.add, np.subtract: e.sub, np.multiply: e.mul, np.true_divide: e.true_divide,
    np.negative: e.neg, np.power: e.power, np.exp: e.exp, np.log: e.log, np.sqrt: e.sqrt,
    np.tanh: e.tanh, np.abs: e.abs, np.sign: e.sign, np.square: e.square,
    np.maximum: e.maximum, np.minimum: e.minimum, np.matmul: linalg.matmul,
    np.greater: e.greater, np.greater_equal: e.greater_equal, np.less: e.less,
    np.less_equal: e.less_equal, np.equal: e.equal, np.not_equal: e.not_equal,
    np.isfinite: e.isfinite, np.isnan: e.isnan, np.isinf: e.isinf, np.reciprocal: e.reciprocal,
    np.exp2: e.exp2, np.expm1: e.expm1, np.log2: e.log2, np.log10: e.log10, np.log1p: e.log1p,
    np.hypot: e.hypot, np.fmax: e.fmax, np.fmin: e.fmin, np.logical_and: e.logical_and,
    np.logical_or: e.logical_or, np.logical_xor: e.logical_xor, np.logical_not: e.logical_not,
    np.logaddexp: special.logaddexp, np.logaddexp2: special.logaddexp2,
    np.floor: rounding.floor, np.ceil: rounding.ceil, np.trunc: rounding.trunc,
    np.rint: rounding.round, np.floor_divide: rounding.floor_divide,
    np.remainder: rounding.remainder, np.fmod: rounding.fmod,
    np.bitwise_and: rounding.bitwise_and, np.bitwise_or: rounding.bitwise_or,
    np.bitwise_xor: rounding.bitwise_xor, np.invert: rounding.bitwise_not,
    np.sin: trigonometric.sin, np.cos: trigonometric.cos, np.tan: trigonometric.tan,
    np.arcsin: trigonometric.asin, np.arccos: trigonometric.acos, np.arctan: trigonometric.atan,
    np.arctan2: trigonometric.atan2, np.sinh: trigonometric.sinh, np.cosh: trigonometric.cosh,
    np.arcsinh: trigonometric.asinh, np.arccosh: trigonometric.acosh,
    np.arctanh: trigonometric.atanh,
    np.deg2rad: trigonometric.deg2rad, np.rad2deg: trigonometric.rad2deg,
}  # fmt: skip


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
    """`np.exp(tensor)` and `array * tensor` run our op, so that nothing loses its history."""
    operation = _UFUNCS.get(ufunc)
    if method != "__call__" or operation is None or keywords:
        if any(isinstance(x, Tensor) and (x.requires_grad or x.level) for x in inputs):
            raise GraphError(
                f"np.{ufunc.__name__} cannot be recorded on a tensor that requires grad",
                fix="use the function of fathom, or x.detach().numpy()",
            )
        arrays = [x.value() if isinstance(x, Tensor) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **keywords)
    function: Any = operation
    return function(*inputs)


def attach() -> None:
    """Give `Tensor` its methods; called once, when `fathom.ops` is imported."""
    for name, member in vars(TensorMethods).items():
        if name not in ("__module__", "__doc__", "__dict__", "__weakref__", "__hash__"):
            setattr(Tensor, name, member)
    Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
