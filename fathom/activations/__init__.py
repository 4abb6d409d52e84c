"""Activations, each written once: the formula, its exact derivatives, its measured properties.

Elementwise ones are `Formula`s: call them on tensors, ask for `.derivative()`, `.latex()`,
`.plot()` or `.analyse()`. Those that look at a whole axis (softmax and its kin, gated units,
maxout) are functions. `audit` measures what textbooks tabulate, `choose` says which to take and
why; the modules `benchmark`, `grammar` and `ticks` come in when they are used.

>>> import fathom
>>> from fathom import activations
>>> activations.silu(fathom.tensor([0.0, 1.0]))
tensor([0.    , 0.7311])
>>> activations.silu.derivative()(fathom.tensor(0.0))
tensor(0.5)
>>> activations.audit("relu").range
(0.0, inf)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fathom.activations.formulas import (
    FORMULAS,
    SELU_ALPHA,
    SELU_SCALE,
    celu,
    elu,
    exponential,
    gelu,
    gelu_sigmoid,
    gelu_tanh,
    hard_shrink,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    identity,
    leaky_relu,
    log_sigmoid,
    mish,
    prelu,
    relu,
    relu6,
    selu,
    sigmoid,
    sign,
    silu,
    soft_shrink,
    softplus,
    softsign,
    squared_relu,
    step,
    swish,
    tanh,
    tanh_shrink,
    threshold,
)
from fathom.activations.groups import (
    bilinear_glu,
    entmax15,
    geglu,
    glu,
    gumbel_softmax,
    log_softmax,
    maxout,
    online_softmax,
    reglu,
    rrelu,
    softmax,
    softmin,
    sparsemax,
    swiglu,
)
from fathom.activations.select import choose

if TYPE_CHECKING:
    from fathom.activations.measure import Audit, AuditTable

__all__ = [
    "FORMULAS",
    "SELU_ALPHA",
    "SELU_SCALE",
    "audit",
    "bilinear_glu",
    "celu",
    "choose",
    "elu",
    "entmax15",
    "exponential",
    "geglu",
    "gelu",
    "gelu_sigmoid",
    "gelu_tanh",
    "glu",
    "gumbel_softmax",
    "hard_shrink",
    "hard_sigmoid",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "maxout",
    "mish",
    "online_softmax",
    "prelu",
    "reglu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "soft_shrink",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "sparsemax",
    "squared_relu",
    "step",
    "swiglu",
    "swish",
    "tanh",
    "tanh_shrink",
    "threshold",
]


LAZY = ("benchmark", "grammar", "measure", "ticks")


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return importlib.import_module(f"fathom.activations.{name}")
    raise AttributeError(f"module 'fathom.activations' has no attribute {name!r}")


def audit(activation: Any = None, **options: Any) -> Audit | AuditTable:
    """The properties of an activation, measured: range, kinks, slopes, mean, cost, ...

    activation : a `Formula`, its name, a layer, or any elementwise function of a tensor; a list
        of them, or nothing for all of `FORMULAS`, gives a table.
    options : `low`, `high` (where to look closely, -12 to 12) and `timing` (False leaves the
        clock alone).

    >>> from fathom import activations
    >>> result = activations.audit("silu", timing=False)
    >>> result.monotone, result.smooth, round(result.range[0], 5)
    (False, True, -0.27846)
    >>> round(result.lipschitz, 4)
    1.0998
    """
    from fathom.activations.measure import audit as measured

    return measured(activation, **options)
