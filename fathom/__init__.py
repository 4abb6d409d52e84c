"""Fathom: deep learning you can see to the bottom of.

`import fathom` loads NumPy and nothing heavy; what is heavier comes in when it is used.
"""

from __future__ import annotations

import importlib as _importlib
import typing as _typing
import warnings as _warnings

import numpy as _np

from fathom import (
    activations,
    autograd,
    data,
    func,
    linalg,
    models,
    nn,
    ops,
    optim,
    train,
)
from fathom.compile.function import compile
from fathom.engine import random
from fathom.engine.errors import FathomError
from fathom.engine.modes import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from fathom.engine.random import Random, manual_seed, seed
from fathom.engine.tensor import Tensor
from fathom.ops import *
from fathom.train import load, train_many
from fathom.version import __version__

# Infinity and nan are results here, as in PyTorch: NumPy's warnings about them inside Fathom's own
# arithmetic are silenced (those in the user's code are not); anomaly mode finds their origin.
_warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"fathom\.")

float16, float32, float64 = (_np.dtype(t) for t in (_np.float16, _np.float32, _np.float64))
half, double = float16, float64
int8, int16, int32, int64 = (_np.dtype(t) for t in (_np.int8, _np.int16, _np.int32, _np.int64))
uint8, long = _np.dtype(_np.uint8), int64
bool_ = _np.dtype(_np.bool_)

__all__ = [
    "FathomError",
    "Random",
    "Tensor",
    "__version__",
    "activations",
    "autograd",
    "bool_",
    "compile",
    "data",
    "double",
    "enable_grad",
    "float16",
    "float32",
    "float64",
    "func",
    "half",
    "inference_mode",
    "int8",
    "int16",
    "int32",
    "int64",
    "is_grad_enabled",
    "linalg",
    "load",
    "long",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "random",
    "seed",
    "set_grad_enabled",
    "train",
    "train_many",
    "uint8",
]
_LATER = ("book", "doctor")  # packages that come in when they are first asked for

if _typing.TYPE_CHECKING:
    from fathom import book as book
    from fathom import doctor as doctor


def __getattr__(name: str) -> _typing.Any:
    if name in _LATER:
        return _importlib.import_module(f"fathom.{name}")
    raise AttributeError(f"module 'fathom' has no attribute {name!r}")


if not _typing.TYPE_CHECKING:  # a type checker follows the star import by itself
    __all__ += ops.__all__
