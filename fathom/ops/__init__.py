"""Operations by family: the primitives and the functions composed of them."""

from fathom.ops import methods
from fathom.ops.elementwise import (
    abs,
    add,
    astype,
    clip,
    div,
    equal,
    exp,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    log,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    mul,
    neg,
    not_equal,
    power,
    reciprocal,
    relu,
    sigmoid,
    sign,
    sqrt,
    square,
    sub,
    tanh,
    where,
)
from fathom.ops.index import getitem, take_along_axis
from fathom.ops.linalg import affine, matmul
from fathom.ops.reduce import argmax, max, mean, min, std, sum, var
from fathom.ops.shape import (
    broadcast_to,
    concatenate,
    expand,
    flatten,
    permute,
    reshape,
    squeeze,
    stack,
    transpose,
    unsqueeze,
)
from fathom.ops.loss import cross_entropy, log_softmax, softmax

methods.attach()

_MODULES = {"axes", "create", "elementwise", "index", "linalg", "loss", "methods", "reduce", "shape"}
__all__ = [name for name in dir() if not name.startswith("_") and name not in _MODULES]  # noqa: PLE0605
