"""Layers that drop at random while training."""

from __future__ import annotations

from typing import Any

from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.module import Module


class Dropout(Module):
    """Each element is zero with probability p, the others grow by 1/(1-p), while training.

    Srivastava et al. (2014). The mask is drawn from the stream "dropout" of the current
    `Random`; in `eval()` mode nothing changes.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ArgumentError(f"Dropout: p is a probability in [0, 1]; received {p!r}")
        self.p = float(p)

    def forward(self, x: TensorLike) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def config(self) -> dict[str, Any]:
        return {"p": self.p}
