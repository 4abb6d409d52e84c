"""A PyTorch run's batches that are kept for trials: a limited number, of bytes, and of time."""

from __future__ import annotations

from typing import Any

import torch

from fathom.doctor.adapters.torch_between import Between, between
from fathom.doctor.schedule import clock

BATCHES, BYTES = 64, 32 << 20
READ = 24  # batches at most, where they are read off the graph
SURE, SECONDS = 8, 0.002  # batches kept whatever it costs; time for copies of further ones

Batch = tuple[tuple[Any, ...], Any]  # inputs and target


class TorchBatches(list[Batch]):
    """Inputs and targets, copied.

    between : from the model's output to what the loss is given. keywords : names of the model's
    last inputs.
    """

    def __init__(self) -> None:
        self.between: Between | None = None
        self.keywords: tuple[str, ...] = ()
        self._bytes = 0
        self._seconds = 0.0

    def wanted(self, sampling: bool) -> bool:
        """Whether another one is to be kept of this step."""
        if len(self) >= BATCHES or self._bytes > BYTES:
            return False
        return sampling or len(self) < SURE or self._seconds < SECONDS

    def add(
        self, inputs: tuple[Any, ...], keywords: tuple[str, ...], target: Any, raw: Any, given: Any
    ) -> None:
        """Copy a batch. raw : what the model put out. given : what the loss was given."""
        if not isinstance(target, torch.Tensor):
            return
        if not self:
            with torch.no_grad():
                self.between = between(raw, given)
            self.keywords = keywords
        elif self.keywords != keywords:
            return
        start = clock()
        held = tuple(x.detach().clone() if isinstance(x, torch.Tensor) else x for x in inputs)
        self.append((held, target.detach().clone()))
        kept = (t for t in (*held, target) if isinstance(t, torch.Tensor))
        self._bytes += sum(t.numel() * t.element_size() for t in kept)
        self._seconds += clock() - start


__all__ = ["READ", "TorchBatches"]
