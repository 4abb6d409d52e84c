"""What a PyTorch loop does between the model's output and the loss; see `between`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from fathom.doctor.adapters import between as shared

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "softmax": lambda z: z.softmax(-1), "softmax over axis 1": lambda z: z.softmax(1),
    "softmax over axis 0": lambda z: z.softmax(0), "log_softmax": lambda z: z.log_softmax(-1),
    "log_softmax over axis 1": lambda z: z.log_softmax(1),
    "log_softmax over axis 0": lambda z: z.log_softmax(0), "sigmoid": torch.sigmoid,
    "tanh": torch.tanh, "relu": F.relu, "exp": torch.exp, "log": torch.log,
    "log of softmax": lambda z: z.softmax(-1).log(), "float": lambda z: z.float(),
    "softplus": F.softplus,
}  # fmt: skip


class Between(shared.Between):
    """See `between.Between`."""

    tensor = torch.Tensor
    failures = (RuntimeError, IndexError)
    functions = FUNCTIONS

    @staticmethod
    def alike(made: Any, given: Any) -> bool:
        return torch.allclose(made.float(), given.float(), rtol=1e-3, atol=1e-5, equal_nan=True)


between = Between.told

__all__ = ["FUNCTIONS", "Between", "between"]
