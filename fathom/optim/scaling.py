"""Dynamic loss scaling: float16 gradients kept from underflow (Micikevicius et al., 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.modes import tracing
from fathom.engine.tensor import Array, Tensor
from fathom.optim.optimizer import Optimizer, at_least


class GradScaler:
    """`torch.amp.GradScaler`: scale the loss, unscale the gradients, skip steps that overflow.

    The scale is multiplied by `backoff_factor` after an overflow and by `growth_factor` after
    `growth_interval` good steps. With `simulate`, the gradients pass through that type, as if
    the backward pass had been computed in it.

    >>> import fathom
    >>> w = fathom.nn.Parameter([1.0])
    >>> optimizer = fathom.optim.SGD([w], lr=5e8)
    >>> scaler = GradScaler(simulate="float16")
    >>> scaler.scale((w * 1e-9).sum()).backward()  # 1e-9 is 0 in float16
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> round(w.item(), 2)
    0.5
    """

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
        simulate: str | None = None,
    ) -> None:
        if not growth_factor > 1.0 or not 0.0 < backoff_factor < 1.0:
            raise ArgumentError(
                "GradScaler: growth_factor must be > 1 and backoff_factor in (0, 1); received "
                f"{growth_factor!r} and {backoff_factor!r}"
            )
        self._scale = at_least(init_scale, 0.0, "init_scale", "GradScaler")
        self.growth_factor, self.backoff_factor = float(growth_factor), float(backoff_factor)
        self.growth_interval = int(at_least(growth_interval, 1, "growth_interval", "GradScaler"))
        self.enabled = bool(enabled)
        self.simulate = None if simulate is None else np.dtype(simulate)
        self.good, self.skipped = 0, 0
        self._found, self._unscaled = False, False

    def scale(self, loss: Any) -> Any:
        """The loss times the scale."""
        return loss * self._scale if self.enabled else loss

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale; overflow among them is noted."""
        if (tracer := tracing()) is not None:
            tracer.refuse(
                "GradScaler goes by the values of the gradients",
                "compile forward and backward only; call scaler.step and scaler.update outside",
            )
        if self._unscaled:
            raise ArgumentError("unscale_ has already been called since the last update")
        self._unscaled = True
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = Tensor(self._unscale(p.grad.value()))

    def _unscale(self, g: Array) -> Array:
        with np.errstate(all="ignore"):
            passed = g if self.simulate is None else g.astype(self.simulate).astype(g.dtype)
            self._found |= not bool(np.isfinite(passed).all())
            return np.asarray(passed / self._scale if self.enabled else passed, g.dtype)

    def step(self, optimizer: Optimizer) -> Any:
        """The optimizer's step, left out if a gradient overflowed."""
        if not self._unscaled:
            self.unscale_(optimizer)
        if self._found and self.enabled:
            self.skipped += 1
            return None
        return optimizer.step()

    def update(self, new_scale: float | None = None) -> None:
        """Adapt the scale; call it once after each step."""
        if new_scale is not None:
            self._scale = float(new_scale)
        elif self._found:
            self._scale, self.good = self._scale * self.backoff_factor, 0
        else:
            self.good += 1
            if self.good == self.growth_interval:
                self._scale, self.good = self._scale * self.growth_factor, 0
        self._found = self._unscaled = False

    def get_scale(self) -> float:
        return self._scale if self.enabled else 1.0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self._scale, "_growth_tracker": self.good, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._scale, self.good = float(state["scale"]), int(state["_growth_tracker"])
        self.skipped = int(state.get("skipped", 0))


def underflow_share(gradients: Any, scale: float = 1.0, dtype: str = "float16") -> float:
    """The share of nonzero gradients that become 0 in a float type, after scaling.

    >>> underflow_share(np.array([1e-3, 1e-9])), underflow_share(np.array([1e-3, 1e-9]), 1024)
    (0.5, 0.0)
    """
    arrays = gradients if isinstance(gradients, list | tuple) else [gradients]
    lost = total = 0
    for array in arrays:
        g = np.asarray(array, np.float64)
        nonzero = g != 0
        with np.errstate(all="ignore"):
            lost += int((nonzero & ((g * scale).astype(dtype) == 0)).sum())
        total += int(nonzero.sum())
    return lost / total if total else 0.0
