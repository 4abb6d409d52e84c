"""What a Fathom run is made of, and what its graph tells of a step: the part of the adapter that
looks. `fathom_eager` and `fathom_adapter` know when."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fathom.doctor.adapters.base import START, Hook, is_noisy, rows_kept
from fathom.doctor.adapters.fathom_batches import READ, Batches
from fathom.doctor.adapters.fathom_between import Between, between
from fathom.doctor.adapters.fathom_facts import (
    describe_layers,
    describe_optimizer,
    describe_parameters,
    held_elsewhere,
    hiding,
    values,
)
from fathom.doctor.adapters.fathom_graph import NORM_NAMES, name_of, read, strangers
from fathom.doctor.adapters.fathom_written import written
from fathom.doctor.adapters.graph import Structure, adopt, structure
from fathom.doctor.adapters.reader import Reader
from fathom.doctor.case import BATCH_NORMS, NAN, Case, LossCall
from fathom.doctor.probes.running import untouched
from fathom.engine.hearing import Hearer
from fathom.engine.modes import no_grad, tracing
from fathom.engine.tensor import Array, Removable, Tensor
from fathom.func import leaves
from fathom.nn import functional as F
from fathom.nn.lazy import UninitializedParameter
from fathom.nn.module import Module
from fathom.nn.parameter import Parameter

Call = tuple[str, tuple[Any, ...], dict[str, Any], Tensor]  # function, arguments, keywords, value


class Quiet(Hook):
    """A hook that is not called while a plan is traced."""

    def __call__(self, *args: Any) -> None:
        if tracing() is None:
            self._act(*args)

    def __deepcopy__(self, memo: Any) -> Any:
        return _inert


def _inert(*args: Any) -> None:
    """What is left of a hook in a copy."""


_inert.passive = True  # type: ignore[attr-defined]


class FathomReader(Reader, Hearer):
    """The parts of a run, its graph and its losses; fills a `Case`."""

    def __init__(self, model: Module, optimizer: Any = None, loss_fn: Any = None) -> None:
        super().__init__()
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.case = Case(engine="fathom")
        self.batches = Batches()
        self.case.kept_targets = lambda: [target.value() for _, target in self.batches]
        self.between: Between | None = None  # from the model's output to what the loss is given
        self.start: dict[str, Array] = {}  # the state a run began with, for trials
        self._structure = Structure()
        self._ways: dict[Any, Structure] = {}  # from a loss's input to a layer
        self._step = 0
        self._lazy = False
        self._reads = False  # whether the loss is read off the graph
        self._modules: dict[str, Module] = {}
        self._tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._trained: list[Any] = []
        self._noisy: list[Module] = []
        self._begin_step()
        try:
            self._describe()
        except Exception as error:
            self.fail(error, "looking at the model")

    def _describe(self) -> None:
        case = self.case
        case.layers, self._modules, case.coverage = describe_layers(self.model)
        case.parameters = describe_parameters(self.model, self.optimizer)
        own = dict(self.model.named_parameters())
        self._lazy = any(isinstance(p, UninitializedParameter) for p in own.values())
        self._tensors = {n: own[n] for n in case.parameters if n in own}
        self._names = {id(p): n for n, p in self._tensors.items()}
        self._owners = self._by_layer()
        self._norms = {n: layer.kind for n, layer in case.layers.items()
                       if layer.kind in BATCH_NORMS or layer.kind in NORM_NAMES}  # fmt: skip
        case.optimizer = describe_optimizer(self.optimizer, self._names)
        self._trained = sorted(self._given(), key=lambda p: p.size)  # the small ones first
        self._noisy = [m for n, m in self._modules.items() if is_noisy(case.layers[n])]

    def _by_layer(self) -> dict[int, str]:
        """Names of layers by the ids of their parameters."""
        return {id(p): self.case.parameters[n].layer for n, p in self._tensors.items()}

    def _given(self) -> list[Any]:
        if not hasattr(self.optimizer, "param_groups"):
            return [p for p in self._tensors.values() if p.requires_grad]
        return [p for g in self.optimizer.param_groups for p in g["params"]]

    def _keep_start(self) -> None:
        """The weights before the first step, as soon as there are any."""
        if self._lazy:
            return
        state = self.model.state_dict()
        if sum(t.size for t in state.values()) <= START:
            self.start = {n: t.value().copy() for n, t in state.items()}

    def _begin_step(self) -> None:
        """Forget what belongs to the step that is over."""
        self._inputs: tuple[Any, ...] | None = None
        self._output: Any = None
        self._foreign: list[float] = []  # losses that do not depend on the model
        self._calls: list[Call] = []
        self._values: list[float] = []
        self._backwards = 0
        self._was_cleared = False
        self._got_gradient = False
        self._in_eval = False
        self._first_bad, self._bad_value = "", NAN

    def _look_at_modes(self) -> None:
        still = bool(self._noisy) and not self.model.training
        self._in_eval = still and not any(m.training for m in self._modules.values())

    def _is_clear(self) -> bool:
        """Whether no trained parameter holds a gradient other than 0."""
        return not any(p.grad is not None and p.grad.value().any() for p in self._trained)

    # -- the graph ------------------------------------------------------------------------

    def _look(self, root: Tensor) -> LossCall | None:
        """Read the graph (once), and the call of the loss."""
        case = self.case
        if not case.reached and root.node is not None:
            ops = read(root.node, self._owners, self._names, self._norms)
            adopt(ops, case)
            self._owners = self._by_layer()
            self._take(structure(ops))
        for name, module in self._modules.items():
            case.layers[name].training = module.training
        return self._loss_call(*largest(self._calls)) if self._calls else None

    def _find_unregistered(self) -> None:
        """Parameters the model's output depends on that neither it nor an optimizer knows."""
        nodes = [o.node for o in leaves(self._output) if isinstance(o, Tensor)]
        node = next((n for n in nodes if n is not None), None)
        found = strangers(node, self._names) if node is not None else []
        known = held_elsewhere(None) if found else set()
        others = {id(p): p for p in found if id(p) not in known}
        attributes = hiding(self.model, others) if others else {}
        self.case.unregistered = [tuple(p.shape) for i, p in others.items()
                                  if i in attributes or isinstance(p, Parameter)]  # fmt: skip
        self.case.hidden_in = next(iter(attributes.values()), "")

    # -- the loss -------------------------------------------------------------------------

    def _is_to_be_read(self, sampling: bool) -> bool:
        """Whether a loss that was not heard is to be read off the graph in this step."""
        more = self._reads and len(self.batches) < READ and self.batches.wanted(False)
        return sampling or more

    def _read_loss(self, root: Tensor) -> None:
        """A loss that is written out by hand, as if it had been heard."""
        outputs = [o for o in leaves(self._output) if isinstance(o, Tensor)]
        found = written(root.node, outputs) if root.node is not None else None
        if found is not None:
            function, output, target, options = found
            self._calls.append((function, (output, target), options, root))
            self._reads = True

    def _loss_call(
        self, function: str, args: tuple[Any, ...], keywords: dict[str, Any], value: Tensor | None
    ) -> LossCall | None:
        given, goal = args[0] if args else keywords.get("input"), target_of(args, keywords)
        shapes = (_shape(given), _shape(goal))
        rows = rows_kept(*shapes)
        output, target = values(given, rows), values(goal, rows)
        if output is None or given is None:
            return None
        given_options = {**dict(zip(_options(function), args[2:], strict=False)), **keywords}
        options = {k: _plain(v) for k, v in given_options.items() if v is not None
                   and k not in ("input", "target")}  # fmt: skip
        options.setdefault("reduction", "mean")
        way = self._way(function, given)
        number = NAN if value is None else float(value.value().mean())
        number = math.copysign(options.pop("value", number), number)
        return LossCall(
            self._step, function, output, target, number, options, way.path, way.last, shapes,
            not self._in_eval, max(len(self._calls), 1), way.scaled, over=way.over,
        )  # fmt: skip

    def _way(self, function: str, output: Any) -> Structure:
        """What stands between the last layer and the loss; read once for each form of graph."""
        node = output.node if isinstance(output, Tensor) else None
        if node is None:
            return self._structure
        key = function, name_of(node), tuple(output.shape[1:])
        if key not in self._ways:
            self._ways[key] = structure(read(node, self._owners, self._names, self._norms))
        return self._ways[key]

    def _keep_batch(self, function: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        """Copy what was put in, and its target, for trials."""
        if not self.case.inputs:
            arrays = (values(x, rows_kept(_shape(x))) for x in self._inputs or ())
            self.case.inputs = [a for a in arrays if a is not None]
        target = target_of(args, keywords)
        if not self._inputs or target is None:
            return
        if self.between is None:
            self.between = between(self._output, args[0] if args else keywords.get("input"))
        self.batches.add(self._inputs, target)

    # -- numbers that are not finite ------------------------------------------------------

    def _blame(self) -> str:
        """The first module, in forward order, whose output is not finite; found by a replay."""
        if self._inputs is None:
            return "loss"
        bad: list[str] = []

        def check(name: str) -> Callable[..., None]:
            def note(module: Any, given: Any, output: Any) -> None:
                if isinstance(output, Tensor) and not bad and not np.isfinite(output.value()).all():
                    bad.append(name)

            return note

        hooks: list[Removable] = []
        self._replaying = True
        try:
            hooks += [m.register_forward_hook(Quiet(check(n))) for n, m in self._modules.items()]
            with untouched(self.model), no_grad():
                self.model(*self._inputs)
        except Exception:  # the model needs more than its tensors
            return "loss"
        finally:
            self._replaying = False
            for hook in hooks:
                hook.remove()
        return bad[0] if bad else "loss"


def largest(calls: list[Any]) -> Any:
    """The call of a loss with the most elements."""
    return max(calls, key=lambda call: getattr(call[1][0], "size", 0) if call[1] else 0)


def target_of(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The target among a loss's arguments."""
    return args[1] if len(args) > 1 else keywords.get("target")


def _shape(given: Any) -> tuple[int, ...]:
    return () if given is None else tuple(np.shape(given))


@functools.cache
def _options(function: str) -> tuple[str, ...]:
    """Names of a loss's arguments behind input and target."""
    found = getattr(F, function, None)
    return () if found is None else tuple(inspect.signature(found).parameters)[2:]


def _plain(value: Any) -> Any:
    return value.value().copy() if isinstance(value, Tensor) else value


__all__ = ["Call", "FathomReader", "Quiet", "largest", "target_of"]
