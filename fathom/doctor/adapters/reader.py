"""What readers of both engines share: what the first loss's graph tells of the model, and the
sample of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fathom.doctor.adapters.base import Base, ordered, spread
from fathom.doctor.adapters.graph import Structure
from fathom.doctor.case import NAN, LayerStats, ParameterStats, Step


class Reader(Base):
    """The part of an adapter that looks; an engine's side knows when."""

    optimizer: Any
    _structure: Structure
    _step: int
    _losses: Sequence[Any]  # of steps that are over
    _sample: Any  # of layers
    _parameters: Any  # the sample of weights, while there is one
    _times: Any
    _first_bad: str

    def _find_unregistered(self) -> None:
        """Parameters the model's output depends on that neither it nor an optimizer knows."""
        raise NotImplementedError

    def _take(self, found: Structure) -> None:
        """What the graph of the first loss tells."""
        case, self._structure = self.case, found
        case.operations, case.reached = found.operations, found.parameters
        case.straight, case.softmaxes = found.straight, found.softmaxes
        case.swaps = found.swaps
        for name, activation in found.activations.items():
            if name in case.layers:
                case.layers[name].activation = activation
        for name in found.normalized & set(case.layers):
            case.layers[name].normalized = True
        case.layers = ordered(case.layers, found.order)
        self._find_unregistered()

    def _finish(self) -> Step:
        """The sample of the step that is over."""
        case, lr = self.case, self._lr()
        layers: dict[str, LayerStats] = self.part(
            "statistics of layers", self._sample.stats, case.layers, self._structure.direct,
            default={},
        )  # fmt: skip
        self.part("gradients through time", self._times.fill, layers, case.layers, case.parameters)
        parameters: dict[str, ParameterStats] = {}
        if self._parameters is not None:
            found = self.part("statistics of weights", self._parameters.stats, default={})
            parameters, self._parameters = found, None
        call = case.losses[-1] if case.losses else None
        apart = spread(call) if call is not None and call.step == self._step else NAN
        return Step(self._step, float(self._losses[-1]), lr, layers, parameters, apart,
                    first_bad=self._first_bad)  # fmt: skip

    def _lr(self) -> float:
        """The learning rates as they are now."""
        facts = self.case.optimizer
        if facts is None:
            return NAN
        for old, group in zip(facts.groups, self.optimizer.param_groups, strict=False):
            new = float(group.get("lr") or 0.0)
            self.case.scheduled |= new != old.get("lr")
            old["lr"] = new
        return facts.lr


__all__ = ["Reader"]
