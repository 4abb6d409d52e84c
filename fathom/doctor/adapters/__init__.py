"""The two engines' sides of watching: Fathom's own, and PyTorch's, loaded only when it is used.

What both share has no prefix; `fathom_...` and `torch_...` are what an engine adds to it.

- watching: `adapter` (what an engine's side must do), `base` (nothing raises into the loop),
  `reader`, `together` (several optimizers); `*_adapter` with `fathom_eager` or `torch_patches`
  knows when, `*_reading` looks
- the parts of a run: `facts`
- the graph of a loss: `graph`, `reshaping` (axes exchanged by mistake)
- losses by hand: `terms` (their graph), `written` (known formulas), `crossed` (each output against
  each target)
- samples of a step: `array_sample`, `through_time` (recurrent layers)
- trials on copies: `edits` (habits, loss, data), `model_edits`, `twin` (set up, trained, measured),
  `between` (from output to loss), `scoring`; `*_batches`, `*_rewrite`, `*_patient`
"""

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
        f"the doctor watches models; received {type(model).__name__}",
        fix="a fathom.nn.Module or a torch.nn.Module",
    )


__all__ = ["Adapter", "Listener", "Patient", "adapter_for"]
