"""A copy of a PyTorch run that can be edited and trained: the twin in a trial of a fix."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from fathom.doctor.adapters.scoring import CLASSIFYING
from fathom.doctor.adapters.torch_edits import TorchEdits, _options, generators
from fathom.doctor.adapters.torch_facts import array
from fathom.doctor.adapters.torch_rewrite import Rewrite
from fathom.doctor.adapters.twin import Twin
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array


class TorchPatient(Twin, TorchEdits):
    """See `adapter.Patient` and `twin.Twin`.

    Nothing of the run is touched: the model, its buffers and the optimizer are copied, hooks of
    the user's are left out of the copy, and random numbers (PyTorch's, NumPy's, Python's) go on
    as if nothing had been drawn.
    """

    no_grad = torch.no_grad

    def __init__(self, adapter: Any, seed: int, fresh: bool) -> None:
        self._take_over(adapter, seed)
        self.keywords: tuple[str, ...] = adapter.keywords
        self.model, memo = _copied(adapter.model)
        self._begin(adapter, fresh)
        self.rewrite = Rewrite()
        self.rewrite.last = self.last
        self.rewrite.follow(self.model)
        self.optimizer = self._copied_optimizer(adapter, memo)
        if not self.optimizer:
            self.rates = []
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

    # -- training ----------------------------------------------------------------------------

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
        now = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("base_lr", 1.0) * now

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

    def output(self, change: Callable[[Any], Any] | None = None, batch: int = 0) -> Any:
        inputs, _ = self.batches[batch]
        if change is not None:
            inputs = tuple(
                torch.as_tensor(change(array(x))).to(x) if torch.is_tensor(x) else x for x in inputs
            )
        with self._at_rest():
            return array(self.forward(inputs))

    def _array(self, tensor: Any) -> Array:
        return array(tensor)

    def _set(self, module: Any, **values: bool) -> None:
        for name, value in values.items():
            setattr(module, name, value)

    @contextmanager
    def _learning(self) -> Iterator[None]:
        with self._quietly(), torch.enable_grad():
            yield

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
