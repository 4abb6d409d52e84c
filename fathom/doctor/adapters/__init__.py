"""The two engines' sides of watching: Fathom's own, and PyTorch's, loaded only when it is used."""

from __future__ import annotations

import sys
from typing import Any

from fathom.doctor.adapters.adapter import Adapter, Listener, Patient
from fathom.doctor.adapters.together import one_of
from fathom.engine.errors import ArgumentError
from fathom.nn.module import Module


def adapter_for(model: Any, optimizer: Any = None, loss_fn: Any = None) -> Adapter:
    """The adapter for a model of either engine; of several optimizers it sees one (`Together`)."""
    optimizer = one_of(optimizer)
    if isinstance(model, Module):
        from fathom.doctor.adapters.fathom_adapter import FathomAdapter

        return FathomAdapter(model, optimizer, loss_fn)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from fathom.doctor.adapters.torch_adapter import TorchAdapter

        return TorchAdapter(model, optimizer, loss_fn)
    raise ArgumentError(
        f"the doctor watches models; received a {type(model).__name__}",
        fix="a fathom.nn.Module or a torch.nn.Module",
    )


__all__ = ["Adapter", "Listener", "Patient", "adapter_for"]
