"""A Fathom loop as it runs step by step: what is heard of it (`engine.hearing`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fathom.doctor.adapters.adapter import Listener, rate_of
from fathom.doctor.adapters.base import EARLY, rows_kept, safe
from fathom.doctor.adapters.fathom_facts import values
from fathom.doctor.adapters.fathom_graph import reaches
from fathom.doctor.adapters.fathom_reading import FathomReader, Quiet, largest
from fathom.doctor.adapters.fathom_sample import LayerSample, ParameterSample
from fathom.doctor.adapters.through_time import ThroughTime
from fathom.doctor.adapters.together import Together
from fathom.doctor.case import NAN, WEIGHTED, Layer, Step
from fathom.doctor.schedule import clock
from fathom.engine.hearing import HEARERS, Rehearsed
from fathom.engine.modes import is_grad_enabled
from fathom.engine.tensor import Removable, Tensor
from fathom.nn.module import Module


class FathomEager(FathomReader):
    """Hooks, losses, backward passes and steps of an eager loop."""

    def __init__(self, model: Module, optimizer: Any = None, loss_fn: Any = None) -> None:
        super().__init__(model, optimizer, loss_fn)
        self._rehearsing = False
        self._handles: list[Removable] = []
        self._layer_handles: list[Removable] = []
        self._sample = LayerSample()
        self._times = ThroughTime(values)
        self._parameters: ParameterSample | None = None
        self._stepping: Any = None  # the optimizer whose step is under way
        self._losses: list[float] = []  # of steps that are over
        self._ill_kept = False
        self._probe: Tensor | None = None  # a parameter that gets a gradient
        self._sampling = False

    # -- opening and closing --------------------------------------------------------------

    def open(self, listener: Listener) -> None:
        self.listener = listener
        if not self.broken:
            self._attach()

    @safe
    def _attach(self) -> None:
        self._keep_start()
        self._handles = [self.model.register_forward_pre_hook(Quiet(self._forward))]
        HEARERS.append(self)
        self._arm()

    def close(self) -> None:
        if self in HEARERS:
            HEARERS.remove(self)
        self._disarm()
        while self._handles:
            self._handles.pop().remove()
        self._end_badly()
        self._begin_step()

    @safe
    def _end_badly(self) -> None:
        """Tell of a loss that was not finite, where the run ended before that step was made."""
        if self._first_bad:
            self._losses.append(self._bad_value)
            sample = Step(self._step, self._bad_value, self._lr(), first_bad=self._first_bad)
            self.listener.stepped(self._step, sample)

    def losses(self) -> list[float]:
        """Losses of the steps since the last call."""
        found, self._losses = self._losses, []
        return found

    def patient(self, seed: int = 0, fresh: bool = True) -> Any:
        from fathom.doctor.adapters.fathom_patient import FathomPatient

        return FathomPatient(self, seed, fresh)

    def _took(self, start: float) -> None:
        if not self._rehearsing:  # that is counted as a whole
            self.listener.took(clock() - start)

    # -- the forward pass -----------------------------------------------------------------

    def _arm(self) -> None:
        """Before a step: hooks on the layers, if it is to be sampled."""
        self._sampling = self.listener.due(self._step)
        if self._sampling or not self.batches or self._reads:
            came_out = self.model.register_forward_hook(Quiet(self._came_out))
            self._layer_handles.append(came_out)
        if self._sampling and "statistics of layers" not in self.off:
            start = clock()
            for name, module in self._modules.items():
                if self.case.layers[name].parameters:
                    hook = Quiet(functools.partial(self._passed, name))
                    self._layer_handles.append(module.register_forward_hook(hook))
            self._took(start)

    def _disarm(self) -> None:
        while self._layer_handles:
            self._layer_handles.pop().remove()

    @safe
    def _passed(self, name: str, module: Any, given: Any, output: Any) -> None:
        """A layer's output in a sampled step."""
        if is_grad_enabled():
            self.part("statistics of layers", self._sample.note, name, output)
            layer = self.case.layers[name]
            if layer.kind == "RNN":
                self.part(
                    "gradients through time", self._times.note, layer, output, self._through_time
                )
            if not layer.given and layer.kind in WEIGHTED:
                self.part("what layers are given", self._note_given, layer, given)
        elif self._inputs is not None and self._output is None:  # inside a forward pass with
            self.case.layers[name].without += 1

    def _through_time(self, name: str, gradient: Any) -> None:
        self.part("gradients through time", self._times.came_back, name, gradient)

    def _note_given(self, layer: Layer, given: Any) -> None:
        tensors = [x for x in given[:1] if hasattr(x, "shape")]
        layer.given = next((tuple(x.shape) for x in tensors), ())
        if not self.case.entering:
            found = (values(x, rows_kept(x.shape)) for x in tensors)
            self.case.entering = [a for a in found if a is not None]

    @safe
    def _forward(self, module: Any, inputs: tuple[Any, ...]) -> None:
        usage = self.case.usage
        if not is_grad_enabled():
            usage.evaluations += 1
            if module.training and self._noisy and usage.steps:
                usage.noisy_evaluations.append(self._step)
            return
        usage.forwards += 1
        if self.optimizer is None and self._backwards and not self._rehearsing:
            self._post_step()  # whoever steps by hand
        self._inputs = inputs
        self._look_at_modes()

    @safe
    def _came_out(self, module: Any, inputs: Any, output: Any) -> None:
        if is_grad_enabled():
            self._output = output

    # -- the loss and its backward pass ---------------------------------------------------

    @safe
    def on_loss(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any], value: Any
    ) -> None:
        if isinstance(value, Tensor) and value.requires_grad and not value.level:
            self._calls.append((name, args, keywords, value))
            if value.size == 1:
                self._check(float(value.value().item()))

    @safe
    def on_loss_error(
        self, name: str, args: tuple[Any, ...], keywords: dict[str, Any], error: Exception
    ) -> None:
        """What the loss was given explains why it raised."""
        call = self._loss_call(name, args, keywords, None) if is_grad_enabled() else None
        if call is not None:
            call.error = f"{type(error).__name__}: {error}"
            self._keep_batch(name, args, keywords)
            self.listener.loss_called(call)

    @safe
    def on_backward(self, roots: Sequence[Any]) -> None:
        """The loss is there, and the graph still whole."""
        root = roots[0]
        if root.level:
            return
        start = clock() if self._sampling else 0.0
        if self._lazy:  # its layers know their shapes now
            self._describe()
            self._keep_start()
        if root.edge is None or (self._sampling and not reaches(root.node, self._names)[0]):
            self._foreign.append(_mean(root))  # of another model, or cut off
            self._calls.clear()
            return
        if self._backwards and self._probe is not None and self._probe.grad is None:
            self._backwards = 0  # what came before was thrown away
            self._values.clear()
            own = [call for call in self._calls if call[3] is root]
            self._calls = own or ([] if self._reads else self._calls[-1:])
        self._backwards += 1
        if (self._step < EARLY or self._sampling) and self._is_clear():
            self._was_cleared = True
            self.case.usage.zeroings += self._backwards > 1
            self._values.clear()
        self._values.append(self._check(self._measured(root)))
        if not self._calls and self._backwards == 1 and self._is_to_be_read(self._sampling):
            self.part("reading the loss", self._read_loss, root)
        if self._sampling:
            call = self.part("reading the graph", self._look, root)
            self._took(start)
            if call is not None:
                self.listener.loss_called(call)

    @safe
    def on_backward_end(self, leaves: Mapping[int, Any]) -> None:
        if not self._values:
            return
        if self._probe is None or id(self._probe) not in leaves:
            ours = (p for p in self._trained if id(p) in leaves and id(p) in self._names)
            found = next(ours, None)
            self._probe = self._probe if found is None else found
            if found is None and not any(i in leaves for i in self._names):  # another model's
                self._foreign.append(self._values.pop())
                self._backwards -= 1
                self._calls.clear()
                return
        ill = bool(self._first_bad) and not self._ill_kept  # the batch that may have brought it
        wanted = self.batches.wanted(self._sampling) or ill
        self._ill_kept |= ill
        if self._calls and self._backwards == 1 and wanted:
            self.part("kept batches", self._keep_batch, *largest(self._calls)[:3])
        if self._step < EARLY and not self._got_gradient:
            self._got_gradient = not self._is_clear()
        self.case.usage.backwards += 1

    def _measured(self, root: Tensor) -> float:
        """The loss, also where it was scaled on its way to `backward`."""
        node = root.node
        if node is not None and node.primitive.name in ("mul", "div"):
            before = [p for p in node.parents if p is not None]
            for _, _, _, value in self._calls:
                if len(before) == 1 and value.edge == before[0] and value.size == 1:
                    return float(value.value().item())
        return _mean(root)

    def _check(self, value: float) -> float:
        """A loss; where it is not finite, by whose fault."""
        if not math.isfinite(value) and not self._first_bad:
            self._bad_value = value
            self._first_bad = self._blame()
            self.case.bad_at = self.case.bad_at or self._first_bad
        return value

    # -- the optimizer's step -------------------------------------------------------------

    @safe
    def _is_ours(self, optimizer: Any) -> bool:
        own = self.optimizer
        if isinstance(own, Together):
            return own.holds(optimizer)
        while own is not None and own is not optimizer:
            own = getattr(own, "optimizer", None)  # SAM, Lookahead
        return own is not None

    def on_step(self, optimizer: Any, closure: Any) -> bool:
        if self._is_ours(optimizer) and (self._stepping is None or self._stepping is optimizer):
            self._before_step(optimizer, closure)
            if self._rehearsing:
                raise Rehearsed
            self._stepping = optimizer
        return self._rehearsing

    def _before_step(self, optimizer: Any, closure: Any) -> None:
        several = self.optimizer
        if isinstance(several, Together):
            closure = closure if several.joint else several  # gradients of others may be left over
            several.begins(optimizer, lambda: self._pre_step(closure))
        else:
            self._pre_step(closure)

    @safe
    def _pre_step(self, closure: Any) -> None:
        usage = self.case.usage
        usage.closures |= closure is not None
        if closure is None and (self._step < EARLY or self._sampling):
            if self._backwards and not self._was_cleared and self._step:
                usage.stale_steps.append(self._step)
            if self._backwards and self._got_gradient and self._is_clear():
                usage.empty_steps.append(self._step)
        if self._backwards > 1:
            usage.accumulation = max(usage.accumulation, self._backwards)
        if not self._sampling:
            return
        start = clock()
        if self._parameters is None:
            self._parameters = self.part("statistics of weights", ParameterSample, self._tensors)
        else:
            self.part("statistics of weights", self._parameters.note_gradients)
        self._took(start)

    @safe
    def on_step_end(self, optimizer: Any) -> None:
        if optimizer is not self._stepping:
            return
        self._stepping = None
        if self._parameters is not None and not self._parameters.has_gradients:  # of a closure
            self._parameters.note_gradients()
        if isinstance(self.optimizer, Together):
            self.optimizer.ended(optimizer, self._post_step)
        else:
            self._post_step()

    def _post_step(self) -> None:
        measured = self._values or self._foreign[-1:] or [NAN]
        mean = sum(measured) / len(measured)
        self._losses.append(self.weigh(mean) if self._values else mean)
        if self._foreign and not self._backwards and not self.case.reached:
            self.case.detached = True
        if self._in_eval:
            self.case.usage.eval_steps.append(self._step)
        sample = None
        if self._sampling:
            start = clock()
            sample = self._finish()
            self._took(start)
        self._sampling = False
        self._disarm()
        self.case.usage.steps += 1
        self.case.rates.append(rate_of(self.optimizer))
        step, self._step = self._step, self._step + 1
        self._begin_step()
        self.listener.stepped(step, sample)
        self._arm()


def _mean(root: Tensor) -> float:
    value = root.value()
    return float(value.item() if value.size == 1 else value.mean())


__all__ = ["FathomEager"]
