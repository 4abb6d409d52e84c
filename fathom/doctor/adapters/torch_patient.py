"""A copy of a PyTorch run that can be edited and trained: the twin in a trial of a fix."""

from __future__ import annotations

import copy
import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from fathom.doctor.adapters.edits import Batch, clipped
from fathom.doctor.adapters.scoring import CLASSIFYING, Pair
from fathom.doctor.adapters.torch_between import Between
from fathom.doctor.adapters.torch_edits import TorchEdits, _options, generators
from fathom.doctor.adapters.torch_facts import array
from fathom.doctor.adapters.torch_rewrite import Rewrite
from fathom.doctor.finding import Edit
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array


class TorchPatient(TorchEdits):
    """See `adapter.Patient`. It trains on the batches that were kept, in an order drawn anew.

    Nothing of the run is touched: the model, its buffers and the optimizer are copied, hooks of
    the user's are left out of the copy, and random numbers (PyTorch's, NumPy's, Python's) go on
    as if nothing had been drawn.
    """

    def __init__(self, adapter: Any, seed: int, fresh: bool) -> None:
        if not adapter.batches:
            raise ArgumentError(
                "no batch was kept: the loss's input and target were not seen together"
            )
        if adapter.between is None:
            raise ArgumentError("what the loop does between the model's output and the loss "
                                "could not be told")  # fmt: skip
        call, usage = adapter.case.loss, adapter.case.usage
        self.seed, self.clip = seed, clipped(adapter.case)
        self.between: Between = adapter.between
        self.keywords: tuple[str, ...] = adapter.keywords
        self.model, memo = _copied(adapter.model)
        self._begin(adapter, fresh)
        self.function = call.function if call is not None else "mse_loss"
        self.options = dict(call.options) if call is not None else {}
        self.batches = list(adapter.batches)
        self.zeroes = not usage.stale_steps
        self.clears_early = bool(usage.empty_steps)
        self.training = not usage.eval_steps
        self.noisy = bool(usage.noisy_evaluations)
        self.steps_taken = bool(usage.steps) or not usage.backwards
        self.last = call.layer if call is not None else ""
        self.rewrite = Rewrite()
        self.rewrite.last = self.last
        self.rewrite.follow(self.model)
        self.optimizer = self._copied_optimizer(adapter, memo)
        self.rates = [(s.number, s.lr) for s in adapter.case.steps if math.isfinite(s.lr)]
        if not self.optimizer or not adapter.case.scheduled:
            self.rates = []
        self.done = 0
        self._order = np.random.default_rng(seed)
        self._waiting: list[int] = []
        self._state: Any = None
        self._inside = False

    def _begin(self, adapter: Any, fresh: bool) -> None:
        """The weights a run began with."""
        if fresh and adapter.start:
            self.model.load_state_dict(adapter.start)
        for p in self.model.parameters():
            p.grad = None
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            began = fresh and not adapter.start
            raise ArgumentError(
                "the weights are not finite"
                + ("; the model is too large to keep those it began with" if began else "")
            )

    def apply(self, edit: Edit) -> None:
        with self._quietly():
            super().apply(edit)

    # -- training ----------------------------------------------------------------------------

    def train(self, steps: int) -> list[float]:
        curve = []
        self.model.train(self.training)
        with self._quietly(), torch.enable_grad():
            for _ in range(steps):
                if not self._waiting:
                    self._waiting = self._order.permutation(len(self.batches)).tolist()
                curve.append(self._train_step(*self.batches[self._waiting.pop()]))
        return curve

    def _train_step(self, inputs: tuple[Any, ...], target: Any) -> float:
        if self.optimizer is None:
            raise ArgumentError("the optimizer is not known")
        self._schedule()
        if self.zeroes:
            self.optimizer.zero_grad()
        loss = self._backward(inputs, target)
        if self.clears_early:
            self.optimizer.zero_grad()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        if self.steps_taken:
            if isinstance(self.optimizer, torch.optim.LBFGS):
                optimizer: Any = self.optimizer
                optimizer.step(lambda: self._backward(inputs, target, True))
            else:
                self.optimizer.step()
        self.done += 1
        return float(loss.detach().mean())

    def _backward(self, inputs: tuple[Any, ...], target: Any, clear: bool = False) -> Any:
        if clear:
            self.optimizer.zero_grad()
        loss = self._loss(self.forward(inputs), target)
        if loss.requires_grad:
            (self.sign * loss).backward()
        return loss

    def _schedule(self) -> None:
        """The learning rates of the run, as they were at its sampled steps."""
        if not self.rates:
            return
        numbers, rates = zip(*self.rates, strict=True)
        now = rates[0] if self.constant_rate else float(np.interp(self.done, numbers, rates))
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("base_lr", 1.0) * now

    def losses_at(self, rates: Sequence[float], batch: int = 0) -> list[float]:
        found = []
        self.model.train(self.training)
        self.rates = []
        with self._quietly(), torch.enable_grad():
            for rate in rates:
                for group in self._groups():
                    group["lr"] = rate
                found.append(self._train_step(*self.batches[batch]))
        return found

    def _loss(self, output: Any, target: Any) -> Any:
        options = {k: self._tensor(v, output) for k, v in self.options.items()}
        output, target = self._changed(output, target)
        if self.function in CLASSIFYING and not target.is_floating_point():
            target = target.long()
        elif self.function not in CLASSIFYING and not target.is_floating_point():
            target = target.to(output.dtype)
        loss = getattr(F, self.function)(output, target, **options)
        return loss.mean() if loss.ndim else loss

    def _changed(self, output: Any, target: Any) -> tuple[Any, Any]:
        """Output and target after the edits."""
        if self.output_change is not None:
            output = self.output_change(output)
        if self.target_change is not None:
            target = self.target_change(target)
        if self.squeezes and output.shape != target.shape and output.numel() == target.numel():
            target = target.reshape(output.shape)
        if self.function in CLASSIFYING and target.shape == output.shape and output.ndim > 1:
            target = target.argmax(1) if self.function == "nll_loss" else target.to(output.dtype)
        return output, target

    def _tensor(self, value: Any, like: Any) -> Any:
        if isinstance(value, np.ndarray):
            return torch.as_tensor(value, device=like.device)
        return value

    # -- measuring ----------------------------------------------------------------------------

    def forward(self, inputs: tuple[Any, ...], functions: bool = True) -> Any:
        named = len(self.keywords)
        positional = inputs[: len(inputs) - named]
        keywords = dict(zip(self.keywords, inputs[len(inputs) - named :], strict=True))
        self.rewrite.begin()
        with self.rewrite if self.rewrite.busy else nullcontext():
            output = self.model(*positional, **keywords)
        return self.between(output, functions and not self.plain_output)

    def answers(self, batches: Sequence[Batch]) -> list[Pair]:
        found = []
        with self._at_rest():
            if self.noisy:
                self.model.train()
            for inputs, target in batches:
                output, known = self._changed(self.forward(inputs), target)
                found.append((array(output), array(known)))
        return found

    def mean_loss(self, held: bool = False) -> float:
        """The loss itself, in eval mode, over a few batches; nan where there are none."""
        with self._at_rest():
            losses = [float(self._loss(self.forward(x), t))
                      for x, t in self._few(self.held if held else self.batches)]  # fmt: skip
        return float(np.mean(losses)) if losses else math.nan

    def output(self, change: Callable[[Any], Any] | None = None, batch: int = 0) -> Any:
        inputs, _ = self.batches[batch]
        if change is not None:
            inputs = tuple(
                torch.as_tensor(change(array(x))).to(x) if torch.is_tensor(x) else x for x in inputs
            )
        with self._at_rest():
            return array(self.forward(inputs))

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        modes = [(m, m.training) for m in self.model.modules()]
        norms = [m for m in self.model.modules() if getattr(m, "track_running_stats", False)]
        self.model.eval()
        for module in norms if self.by_batch else ():
            module.training, module.track_running_stats = True, False
        try:
            with self._quietly(), torch.no_grad():
                yield
        finally:
            for module in norms:
                module.track_running_stats = True
            for module, mode in modes:
                module.training = mode

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Random numbers of its own, which go on from one block to the next; errors told apart."""
        if self._inside:
            yield
            return
        self._inside = True
        python, numpys = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._state is None:
                torch.manual_seed(self.seed)
                self._state = torch.get_rng_state(), *_seeded(self.seed)
            torch.set_rng_state(self._state[0])
            random.setstate(self._state[1])
            np.random.set_state(self._state[2])
            try:
                yield
            except ArgumentError:
                raise
            except Exception as error:  # of the user's model, or of the edit
                raise ArgumentError(f"the copy fails: {_short(error)}") from error
            finally:
                self._inside = False
                self._state = torch.get_rng_state(), random.getstate(), np.random.get_state()
                random.setstate(python)
                np.random.set_state(numpys)

    # -- inside ----------------------------------------------------------------------------

    def joined(self, parts: Sequence[Any]) -> Any:
        return torch.cat(list(parts))

    def plain(self, value: Any) -> Array:
        return array(value) if torch.is_tensor(value) else np.asarray(value)

    def _copied_optimizer(self, adapter: Any, memo: dict[int, Any]) -> Any:
        """The same kind with the same options over the copy's parameters, its state empty."""
        old = adapter.optimizer
        if old is None or not hasattr(old, "param_groups"):
            return None
        own = dict(self.model.named_parameters())
        names = {id(p): n for n, p in adapter.model.named_parameters()}
        groups = []
        for group in old.param_groups:
            copies = [own.get(names.get(id(p), "")) for p in group["params"]]
            params = [p if p is not None else memo.get(id(q))
                      for p, q in zip(copies, group["params"], strict=True)]  # fmt: skip
            params = [p for p in params if p is not None]
            if params:
                groups.append({**_options(group), "params": params})
        if not groups:  # of another model: its steps change nothing here
            stranger = torch.nn.Parameter(torch.zeros(1))
            groups = [{**_options(old.param_groups[0]), "params": [stranger]}]
        top = max(float(g["lr"]) for g in groups) or 1.0
        try:
            made = type(old)(groups)
        except Exception as error:
            raise ArgumentError(f"the optimizer cannot be made anew: {_short(error)}") from None
        for group in made.param_groups:
            group["base_lr"] = float(group["lr"]) / top
        return made


def _copied(model: Any) -> tuple[Any, dict[int, Any]]:
    """A copy without hooks of the user's, and what became what."""
    memo: dict[int, Any] = {}
    for generator in generators(model):
        memo[id(generator)] = generator.clone_state()
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()  # left over from a forward pass
    try:
        made = copy.deepcopy(model, memo)
    except Exception as error:
        raise ArgumentError(f"the model cannot be copied: {_short(error)}") from None
    for module in made.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks, module._backward_hooks,
                      module._backward_pre_hooks):  # fmt: skip
            for key in [k for k, hook in hooks.items() if not _of_torch(hook)]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
                module._forward_hooks_with_kwargs.pop(key, None)
    return made, memo


def _of_torch(hook: Any) -> bool:
    """Whether a hook belongs to PyTorch: weight and spectral normalization, pruning."""
    home = getattr(hook, "__module__", None) or type(hook).__module__
    return str(home).startswith("torch.")


def _seeded(seed: int) -> tuple[Any, Any]:
    """States of Python's and NumPy's global generators for a seed."""
    return random.Random(seed).getstate(), np.random.RandomState(seed).get_state()


def _short(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__


__all__ = ["TorchPatient"]
