"""`made`: cases put together by hand, as an adapter would have filled them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from fathom.doctor.case import (
    Case,
    Layer,
    LayerStats,
    LossCall,
    OptimizerFacts,
    Parameter,
    ParameterStats,
    Step,
    Usage,
)

LAYERS = ("first", "second", "last")


def labels(rows: int = 40, classes: int = 4) -> Any:
    return np.arange(rows) % classes


def call(
    function: str = "cross_entropy", target: Any = None, output: Any = None, **more: Any
) -> LossCall:
    target = labels() if target is None else np.asarray(target)
    output = np.zeros((len(target), 4)) if output is None else output
    value = more.pop("value", np.log(4))
    return LossCall(more.pop("step", 0), function, output, target, value, more.pop("options", {}),
                    layer="last", shapes=(output.shape, target.shape), **more)  # fmt: skip


def step(
    number: int, *, ratio: Any = 2e-3, gradient: Any = 0.5, weight: float = 5.0, lr: float = 1e-3,
    loss: float = 1.4, layers: dict[str, dict[str, float]] | None = None, spread: float = 0.5,
) -> Step:  # fmt: skip
    """ratio, gradient : one number for all three matrices, or one for each."""
    ratios = np.broadcast_to(ratio, 3).tolist()
    gradients = np.broadcast_to(gradient, 3).tolist()
    parameters = {
        f"{name}.weight": ParameterStats(weight, g, r * weight, 64, bool(np.isfinite(g)))
        for name, r, g in zip(LAYERS, ratios, gradients, strict=True)
    }
    stats = {name: LayerStats(**(layers or {}).get(name, {})) for name in LAYERS}
    return Step(number, loss, lr, stats, parameters, output_spread=spread)


def made_case(
    curve: Sequence[float] = (), steps: Sequence[Step] = (), *, loss: LossCall | None = None,
    activation: str = "relu", ended: bool = True, weight: Any = None, decay: float = 0.0,
    kind: str = "Adam", lr: float = 1e-3, **more: Any,
) -> Case:  # fmt: skip
    layers = {n: Layer(n, "Linear", activation=activation if n != "last" else None)
              for n in LAYERS}  # fmt: skip
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 8)) if weight is None else weight
    parameters = {
        f"{n}.weight": Parameter(f"{n}.weight", weight.shape, n, "weight", True, True,
                                 lambda: weight, weight)
        for n in LAYERS
    }  # fmt: skip
    first = curve[0] if len(curve) else 1.0
    facts = OptimizerFacts(kind, [{"lr": lr, "weight_decay": decay}])
    return Case(
        engine="test", layers=layers, parameters=parameters, optimizer=facts,
        usage=Usage(steps=len(curve)), losses=[loss or call(value=first)],
        curve=list(curve), steps=list(steps), ended=ended, **more,
    )  # fmt: skip


class Made:
    """What tests build with."""

    case = staticmethod(made_case)
    step = staticmethod(step)
    call = staticmethod(call)
    labels = staticmethod(labels)

    @staticmethod
    def steps(numbers: Sequence[int] = (0, 1, 2, 4, 8, 16, 32, 64), **more: Any) -> list[Step]:
        return [step(n, **more) for n in numbers]

    @staticmethod
    def stuck(n: int = 100, at: float = 1.386, noise: float = 0.02) -> list[float]:
        return list(at + noise * np.random.default_rng(1).normal(size=n))

    @staticmethod
    def learned(n: int = 100, start: float = 1.386, rate: float = 0.95) -> list[float]:
        return [start * rate**i for i in range(n)]


@pytest.fixture
def made() -> Callable[..., Any]:
    return Made  # type: ignore[return-value]
