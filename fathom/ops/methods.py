"""The methods and operators of `Tensor`: every one is a function of this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from fathom.engine.errors import GraphError
from fathom.engine.modes import tracing
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops import (
    assemble,
    counting,
    create,
    cumulate,
    distance,
    index,
    linalg,
    loss,
    matrix_functions,
    order,
    products,
    reduce,
    rounding,
    running,
    scattering,
    shape,
    solve,
    special,
    statistics,
    tiling,
    triangle,
    trigonometric,
    writing,
)
from fathom.ops import elementwise as e
from fathom.ops.handling import Handling
from fathom.ops.inplace import InPlace


class TensorMethods(Handling, InPlace):
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

    copysign = rounding.copysign
    heaviside = rounding.heaviside
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
    logit = special.logit
    sinc = special.sinc
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
    baddbmm = products.baddbmm
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

    clone = create.clone
    is_floating_point = create.is_floating_point
    numel = create.numel
    nelement = create.numel

    aminmax = statistics.aminmax
    corrcoef = statistics.corrcoef
    cov = statistics.cov
    nanmean = statistics.nanmean
    nanmedian = statistics.nanmedian
    nansum = statistics.nansum

    cummax = running.cummax
    cummin = running.cummin
    diff = running.diff
    logcumsumexp = running.logcumsumexp

    dist = distance.dist
    renorm = distance.renorm

    bincount = counting.bincount
    histc = counting.histc
    unique = counting.unique

    dsplit = assemble.dsplit
    hsplit = assemble.hsplit
    rot90 = assemble.rot90
    t = assemble.t
    tensor_split = assemble.tensor_split
    vsplit = assemble.vsplit

    index_put = scattering.index_put
    scatter_reduce = scattering.scatter_reduce
    matrix_exp = matrix_functions.matrix_exp

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
    def H(self) -> Tensor:
        """A matrix with rows and columns swapped: of real numbers, what `t()` gives."""
        return assemble.t(self)  # type: ignore[arg-type]

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return shape.transpose(self, -2, -1)  # type: ignore[arg-type]

    def where(self: Any, condition: TensorLike, other: TensorLike) -> Tensor:
        """This tensor where the condition holds, the other elsewhere."""
        return cast(Tensor, e.where(condition, self, other))

    @property
    def at(self) -> writing.At:
        """`x.at[index].set(v)`, `.add`, `.mul`, `.min`, `.max`: writes that return a new tensor."""
        return writing.At(self)  # type: ignore[arg-type]


def _bits(x: Any, bitwise: Any, logical: Any) -> Any:
    """The operation on bits for whole numbers, on truth otherwise."""
    return bitwise if x.dtype.kind in "iu" else logical


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
    np.copysign: rounding.copysign, np.heaviside: rounding.heaviside,
    np.positive: create.clone,
    np.deg2rad: trigonometric.deg2rad, np.rad2deg: trigonometric.rad2deg,
}  # fmt: skip


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
    """`np.exp(tensor)` and `array * tensor` run our op, so that nothing loses its history."""
    operation = _UFUNCS.get(ufunc)
    tracer = tracing()
    if tracer is not None and operation is not None and method == "__call__" and "out" in keywords:
        return tracer.written(keywords["out"][0], operation(*inputs))  # type: ignore[operator]
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
    hidden = ("__module__", "__doc__", "__dict__", "__weakref__", "__hash__")
    for part in (Handling, InPlace, TensorMethods):
        for name, member in vars(part).items():
            if name not in hidden:
                setattr(Tensor, name, member)
    Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
