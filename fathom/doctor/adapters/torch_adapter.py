"""Watching a PyTorch run: any `torch.nn.Module`, any loop, nothing of it changed.

A few hooks are there all the time and only count and keep references: on the model as a whole,
on the optimizer's step, on `backward` and the loss functions. Hooks on layers come when a step is
to be sampled and go when it is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from fathom.doctor.adapters import torch_patches as patches
from fathom.doctor.adapters.adapter import Listener, rate_of
from fathom.doctor.adapters.base import EARLY, START, Hook, rows_kept, safe
from fathom.doctor.adapters.through_time import ThroughTime
from fathom.doctor.adapters.torch_batches import READ, TorchBatches
from fathom.doctor.adapters.torch_between import Between
from fathom.doctor.adapters.torch_facts import array
from fathom.doctor.adapters.torch_graph import kept_call, near
from fathom.doctor.adapters.torch_reading import (
    SYMMETRIC,
    TorchReader,
    is_swapped,
    largest,
    target_of,
    with_graph,
)
from fathom.doctor.adapters.torch_sample import LayerSample, ParameterSample
from fathom.doctor.adapters.torch_written import written_call
from fathom.doctor.case import NAN, WEIGHTED, Layer
from fathom.doctor.schedule import clock


class TorchAdapter(TorchReader):
    """Fills a `Case` from a PyTorch run; see `adapter.Adapter`."""

    def __init__(self, model: Any, optimizer: Any = None, loss_fn: Any = None) -> None:
        super().__init__(model, optimizer, loss_fn)
        self.start: dict[str, Any] = {}  # the state a run began with, for trials
        self.batches = TorchBatches()
        self.case.kept_targets = lambda: [array(target) for _, target in self.batches]
        self._handles: list[Any] = []
        self._layer_handles: list[Any] = []
        self._sample = LayerSample()
        self._times = ThroughTime(array)
        self._parameters: ParameterSample | None = None
        self._losses: list[Any] = []  # of steps that are over; on the device, if it is another
        self._evaluated: list[tuple[int, str, Any]] = []  # (step, function, loss) without gradients
        self._sampling = False
        self._attentive = False  # whether more is looked at in this step than the loss's value

    @property
    def between(self) -> Between | None:
        """From the model's output to what the loss is given."""
        return self.batches.between

    @property
    def keywords(self) -> tuple[str, ...]:
        """Names among the model's inputs, of the last ones."""
        return self.batches.keywords

    # -- opening and closing --------------------------------------------------------------

    def open(self, listener: Listener) -> None:
        self.listener = listener
        if not self.broken:
            self._attach()

    @safe
    def _attach(self) -> None:
        state = self.model.state_dict()
        if sum(t.numel() for t in state.values() if hasattr(t, "numel")) <= START:
            self.start = {n: t.detach().clone() if hasattr(t, "detach") else t
                          for n, t in state.items()}  # fmt: skip
        if isinstance(self.called, torch.jit.ScriptModule):
            self.sees_layers, self._noisy = False, []
            self.note("scripted modules call no Python hooks: forward passes are not seen")
        else:
            hook = self.called.register_forward_pre_hook
            self._handles.append(hook(Hook(self._forward), with_kwargs=True))
        if hasattr(self.optimizer, "register_step_pre_hook"):
            self._handles.append(self.optimizer.register_step_post_hook(Hook(self._post_step)))
        elif self.optimizer is not None:
            self.note(f"{type(self.optimizer).__name__} has no hooks: its steps are not seen")
        patches.hear(self)
        self._arm()

    def close(self) -> None:
        patches.unhear(self)
        self._disarm()
        while self._handles:
            self._handles.pop().remove()
        self._begin_step()

    def losses(self) -> list[float]:
        """Losses of the steps since the last call; moved over in one go."""
        self._validate()
        found, self._losses = self._losses, []
        away = [i for i, x in enumerate(found) if not isinstance(x, float)]
        if away:
            device = found[away[0]].device
            here = torch.stack([found[i].float().to(device) for i in away]).tolist()
            for i, value in zip(away, here, strict=True):
                found[i] = value
        return found

    def _validate(self) -> None:
        """Losses worked out without gradients between two steps are those of an evaluation, where
        the loop has told none of its own."""
        call, told = self.case.loss, dict(self.case.validation)
        found: dict[int, list[float]] = {}
        for step, function, value in self._evaluated:
            if call is not None and function == call.function and step not in told:
                found.setdefault(step, []).append(float(value))
        self._evaluated.clear()
        self.case.validation += [(step, sum(v) / len(v)) for step, v in found.items()]

    def patient(self, seed: int = 0, fresh: bool = True) -> Any:
        from fathom.doctor.adapters.torch_patient import TorchPatient

        return TorchPatient(self, seed, fresh)

    # -- the forward pass -----------------------------------------------------------------

    def _arm(self) -> None:
        """Before a step: hooks on the optimizer and the layers, if it is to be sampled."""
        self._sampling = self.listener.due(self._step)
        early = self._step < EARLY
        self._attentive = self._sampling or early or self.batches.wanted(False)
        if not self._attentive:
            return
        start = clock()
        handles = self._layer_handles
        if (self._sampling or early) and hasattr(self.optimizer, "register_step_pre_hook"):
            handles.append(self.optimizer.register_step_pre_hook(Hook(self._pre_step)))
        seen = not isinstance(self.called, torch.jit.ScriptModule)
        if seen and (self._sampling or self._reads or not self.batches):
            handles.append(self.called.register_forward_hook(Hook(self._came_out)))
        if self._sampling and self.sees_layers and "statistics of layers" not in self.off:
            for name, module in self._modules.items():
                if self.case.layers[name].parameters and name not in self.case.coverage.skipped:
                    handles.append(module.register_forward_hook(Hook(self._layer_hook(name))))
        self.listener.took(clock() - start)

    def _disarm(self) -> None:
        while self._layer_handles:
            self._layer_handles.pop().remove()

    def _layer_hook(self, name: str) -> Callable[..., None]:
        layer = self.case.layers[name]
        weighted = layer.kind in WEIGHTED

        def note(module: Any, given: Any, output: Any) -> None:
            if torch.is_grad_enabled():
                self.part("statistics of layers", self._sample.note, name, output)
                if layer.kind == "RNN":
                    self.part(
                        "gradients through time",
                        self._times.note,
                        layer,
                        output,
                        self._through_time,
                    )
                if weighted and not layer.given:
                    self.part("what layers are given", self._note_given, layer, given)
            elif self._inputs is not None and self._output is None:  # inside a forward pass with
                layer.without += 1

        return note

    def _through_time(self, name: str, gradient: Any) -> None:
        self.part("gradients through time", self._times.came_back, name, gradient)

    def _note_given(self, layer: Layer, given: Any) -> None:
        tensors = [x for x in given[:1] if isinstance(x, torch.Tensor)]
        layer.given = next((tuple(x.shape) for x in tensors), ())
        if not self.case.entering:
            self.case.entering = [array(x, rows_kept(x.shape)) for x in tensors]

    @safe
    def _forward(self, module: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        usage = self.case.usage
        if not torch.is_grad_enabled():
            usage.evaluations += 1
            if module.training and self._noisy and usage.steps:
                usage.noisy_evaluations.append(self._step)
            return
        usage.forwards += 1
        if self.optimizer is None and self._backwards:  # whoever steps by hand
            self._end_step()
        self._inputs = (*args, *keywords.values())
        self._named = tuple(keywords)
        still = not module.training and bool(self._noisy)
        self._in_eval = still and not any(m.training for m in self._modules.values())

    @safe
    def _came_out(self, module: Any, given: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self._raw = output
            self._output = with_graph(output) if self._sampling else None

    # -- the loss and its backward pass ---------------------------------------------------

    @safe
    def on_loss(
        self, function: str, args: tuple[Any, ...], keywords: dict[str, Any], value: Any
    ) -> None:
        if not isinstance(value, torch.Tensor):
            return
        if value.requires_grad:
            if not self._attentive:
                return
            if is_swapped(function, args):
                args = (args[1], args[0], *args[2:])
                keywords = keywords if function in SYMMETRIC else {**keywords, "swapped": True}
            self._calls.append((function, args, keywords, value))
        elif self._step and not value.ndim and not torch.is_grad_enabled():
            self._evaluated.append((self._step, function, value))
            if self.case.evaluation is None:
                self.case.evaluation = self._called(function, args, keywords, value)

    @safe
    def on_loss_error(
        self, function: str, args: tuple[Any, ...], keywords: dict[str, Any], error: Exception
    ) -> None:
        """What the loss was given explains why it raised."""
        call = self._called(function, args, keywords, None)
        if call is not None and torch.is_grad_enabled():
            call.error = f"{type(error).__name__}: {error}"
            self._keep_inputs()
            self._keep(function, args, keywords)  # for trials: nothing follows
            self.listener.loss_called(call)

    @safe
    def on_backward(self, roots: tuple[Any, ...]) -> bool:
        """Before a backward pass: the loss is there, and the graph still whole."""
        root = roots[0]
        if not isinstance(root, torch.Tensor):
            return False
        self._backwards += 1
        self.case.usage.backwards += 1
        if self._attentive:
            self._look_closely(root)
        else:
            self._note_value(root)
        if root.grad_fn is None:  # made anew from a number, or of nothing that is trained
            self._cut_off = True
            self.case.detached = self.case.detached or not root.requires_grad
        return self._sampling or self._step < EARLY

    def _look_closely(self, root: Any) -> None:
        """At gradients that were not cleared, the batch, the graph and the call of the loss."""
        close = self._sampling or self._step < EARLY
        start = clock() if close else 0.0
        if close and self._is_clear():
            self._was_cleared = True
            self.case.usage.zeroings += self._backwards > 1
            self._values.clear()
        self._note_value(root)
        self.part("kept batches", self._keep_batch, root)
        call = None
        if self._sampling and root.grad_fn is not None:
            call = self.part("reading the graph", self._look, root)
            if not self.batches and self._backwards == 1:  # the graph tells what was kept
                self.part("kept batches", self._keep_batch, root)
        self._calls_before = len(self._calls)
        if close:
            self.listener.took(clock() - start)
        if call is not None:
            self.listener.loss_called(call)

    @safe
    def on_backward_end(self) -> None:
        if self._step < EARLY and not self._got_gradient:
            self._got_gradient = not self._is_clear()
        if self._parameters is not None and self._backwards == 1:  # in the step's own closure
            self._parameters = self.part("statistics of weights", ParameterSample, self._tensors)

    def _note_value(self, root: Any) -> None:
        """The loss, and where it is not finite, by whose fault."""
        value: Any = root.detach().mean() if root.ndim else root
        if root.is_cpu:
            value = value.item()
            if not math.isfinite(value) and not self.case.bad_at:
                self.case.bad_at = self._first_bad = self._blame()
                self.part("kept batches", self._keep_read, root)
        self._values.append(value if root.is_cpu or root.ndim else root.detach())

    def _is_clear(self) -> bool:
        """Whether no trained parameter holds a gradient other than 0; the small ones are asked
        first."""
        grads = (p.grad for p in self._trained if p.grad is not None)
        return not any(bool(g.any()) for g in grads if g.layout is torch.strided)

    def _keep_inputs(self) -> None:
        if not self.case.inputs and self._inputs is not None:
            tensors = [x for x in self._inputs if isinstance(x, torch.Tensor)]
            self.case.inputs = [array(x, rows_kept(x.shape)) for x in tensors]

    def _keep_batch(self, root: Any) -> None:
        """Copy what was put in, and its target, for trials."""
        self._keep_inputs()
        if self._inputs is None or self._backwards > 1 or not self.batches.wanted(self._sampling):
            return
        if self._calls:
            self._keep(*largest(self._calls)[:3])
        elif self._reads and len(self.batches) < READ:
            self._keep_read(root)

    def _keep_read(self, root: Any) -> None:
        """The same, read off the graph; of the first loss that is not finite, too."""
        if root.grad_fn is None:
            return
        nodes = near(root.grad_fn)
        kept = kept_call(nodes) or written_call(nodes, with_graph(self._raw))
        if kept is not None:
            self._keep(kept[1], kept[2:4], {})

    def _keep(self, function: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        given = args[0] if args else keywords.get("input")
        target = target_of(function, args, keywords)
        if self._inputs is not None:
            self.batches.add(self._inputs, self._named, target, self._raw, given)

    # -- the optimizer's step -------------------------------------------------------------

    @safe
    def _pre_step(self, optimizer: Any, args: Any, keywords: Any) -> None:
        closure = args[1] if len(args) > 1 else keywords.get("closure")  # args[0]: the optimizer
        usage = self.case.usage
        usage.closures |= closure is not None
        start = clock() if self._sampling or self._step < EARLY else 0.0
        if closure is None and start:
            if self._backwards and not self._was_cleared and self._step:
                usage.stale_steps.append(self._step)
            if self._backwards and self._got_gradient and self._is_clear():
                usage.empty_steps.append(self._step)
        if self._sampling:
            if self._cut_off and not self._connected:
                self.case.detached = not self.case.reached
            self._parameters = self.part("statistics of weights", ParameterSample, self._tensors)
        if start:
            self.listener.took(clock() - start)

    @safe
    def _post_step(self, *_: Any) -> None:
        self._end_step()

    def _end_step(self) -> None:
        values, usage = self._values, self.case.usage
        if self._in_eval:
            usage.eval_steps.append(self._step)
        if self._backwards > 1:
            usage.accumulation = max(usage.accumulation, self._backwards)
        mean = sum(values[1:], values[0]) / len(values) if values else NAN
        self._losses.append(self.weigh(mean) if values else mean)
        sample = None
        if self._sampling:
            start = clock()
            sample = self._finish()
            self.listener.took(clock() - start)
        self._sampling = False
        self._disarm()
        usage.steps += 1
        self.case.rates.append(rate_of(self.optimizer))
        step, self._step = self._step, self._step + 1
        self._begin_step()
        self.listener.stepped(step, sample)
        self._arm()


__all__ = ["TorchAdapter"]
