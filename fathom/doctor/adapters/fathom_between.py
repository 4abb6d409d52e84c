"""What a Fathom loop does between the model's output and the loss; see `between`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.doctor.adapters import between as shared
from fathom.engine.errors import FathomError
from fathom.engine.modes import no_grad
from fathom.engine.tensor import Tensor
from fathom.nn import functional as F

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda z: F.softmax(z, -1), "softmax over axis 1": lambda z: F.softmax(z, 1),
    "softmax over axis 0": lambda z: F.softmax(z, 0),
    "log_softmax": lambda z: F.log_softmax(z, -1),
    "log_softmax over axis 1": lambda z: F.log_softmax(z, 1),
    "log_softmax over axis 0": lambda z: F.log_softmax(z, 0), "sigmoid": F.sigmoid,
    "tanh": F.tanh, "relu": F.relu, "exp": lambda z: z.exp(), "log": lambda z: z.log(),
    "log of softmax": lambda z: F.softmax(z, -1).log(), "softplus": F.softplus,
}  # fmt: skip


class Between(shared.Between):
    """See `between.Between`."""

    tensor = Tensor
    failures = (FathomError, IndexError)
    functions = FUNCTIONS

    @staticmethod
    def alike(made: Any, given: Any) -> bool:
        return np.allclose(made.value(), given.value(), rtol=1e-3, atol=1e-5, equal_nan=True)


def between(output: Any, given: Any) -> Between | None:
    """How `given` comes from a model's output; None where that cannot be told."""
    if not isinstance(given, Tensor):
        return None
    with no_grad(), np.errstate(all="ignore"):
        return Between.told(output, given)


__all__ = ["FUNCTIONS", "Between", "between"]
