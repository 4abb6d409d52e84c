"""Tensors of the user's while a trace has put stand-ins in the place of their memory."""

from __future__ import annotations

from typing import Any

from fathom.compile.traced import Traced
from fathom.engine.tensor import Tensor


class AbsentGradient(BaseException):
    """Python looked at a gradient that is None: the step is traced anew, where it is None."""


class Adopted:
    """A tensor of the user's whose memory a stand-in has taken over, and how it was."""

    def __init__(self, tensor: Tensor, stand_in: Traced, grad: Traced | None) -> None:
        self.tensor = tensor
        self.data, self.grad = tensor.data, tensor.grad
        self.cell, self.edge, self.requires_grad = tensor.cell, tensor.edge, tensor.requires_grad
        self.stand_in = stand_in
        self.before = stand_in.ref
        self.grad_in, self.grad_before = grad, None if grad is None else grad.ref

    def untouched(self, grad: Any) -> bool:
        """Whether a gradient is the one the step was entered with."""
        if self.grad_in is None:
            return grad is self.grad
        return grad is self.grad_in and grad.ref is self.grad_before

    def written(self) -> bool:
        """Whether the step has changed it so far."""
        return self.stand_in.ref is not self.before

    def restore(self) -> None:
        t = self.tensor
        t.data, t.grad, t.cell = self.data, self.grad, self.cell
        t.edge, t.requires_grad = self.edge, self.requires_grad


class Memory:
    """The array a tensor had when it was met; another one must be alike."""

    def __init__(self, tensor: Tensor, data: Any) -> None:
        self.tensor, self.data = tensor, data
        self.shape, self.dtype = data.shape, data.dtype

    def fits(self) -> bool:
        """Whether what the tensor holds now has the same shape and dtype."""
        self.data = self.tensor.data
        return bool(self.data.shape == self.shape and self.data.dtype == self.dtype)
