"""Losses as modules."""

from __future__ import annotations

from typing import Any

from fathom.engine.tensor import Tensor, TensorLike
from fathom.nn import functional as F
from fathom.nn.module import Module


class CrossEntropyLoss(Module):
    """Cross-entropy of logits; see `functional.cross_entropy`."""

    def __init__(
        self,
        weight: TensorLike | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", None if weight is None else Tensor(weight))
        self.ignore_index = ignore_index
        self.reduction = reduction
        self.label_smoothing = label_smoothing

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        return F.cross_entropy(
            input, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )

    def config(self) -> dict[str, Any]:
        weight = None if self.weight is None else self.weight.tolist()
        return {
            "weight": weight,
            "ignore_index": self.ignore_index,
            "reduction": self.reduction,
            "label_smoothing": self.label_smoothing,
        }


class MSELoss(Module):
    """Mean squared error; see `functional.mse_loss`."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: TensorLike, target: TensorLike) -> Tensor:
        return F.mse_loss(input, target, self.reduction)

    def config(self) -> dict[str, Any]:
        return {"reduction": self.reduction}
