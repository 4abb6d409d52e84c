"""What a PyTorch run is made of, and what its graph tells of a step: the part of the adapter that
looks. `torch_adapter.TorchAdapter` knows when."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch

from fathom.doctor.adapters.base import is_noisy, rows_kept
from fathom.doctor.adapters.graph import Structure, adopt, structure
from fathom.doctor.adapters.reader import Reader
from fathom.doctor.adapters.torch_facts import (
    array,
    describe_layers,
    describe_optimizer,
    describe_parameters,
    held_elsewhere,
    hiding,
    names_of,
    unwrapped,
)
from fathom.doctor.adapters.torch_graph import LIMIT, kept_call, name_of, reaches, read, strangers
from fathom.doctor.adapters.torch_written import written_call
from fathom.doctor.case import NAN, Case, LossCall

OTHER_TARGETS = {"margin_ranking_loss": 2, "cosine_embedding_loss": 2, "triplet_margin_loss": 9}
WITH_WEIGHT = ("cross_entropy", "nll_loss", "binary_cross_entropy",
               "binary_cross_entropy_with_logits")  # fmt: skip
SYMMETRIC = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")  # in output and target

Call = tuple[str, tuple[Any, ...], dict[str, Any], Any]  # function, arguments, keywords, value


class TorchReader(Reader):
    """The parts of a run, its graph and its losses; fills a `Case`."""

    def __init__(self, model: Any, optimizer: Any = None, loss_fn: Any = None) -> None:
        super().__init__()
        self.called = model
        self.model, note = unwrapped(model)
        self.optimizer, self.loss_fn = optimizer, loss_fn
        self.case = Case(engine="torch", notes=[note] if note else [])
        self.sees_layers = not note
        self._structure = Structure()
        self._ways: dict[Any, Structure] = {}  # from a loss's input to a layer
        self._reads = False  # whether the loss is read off the graph
        self._step = 0
        self._begin_step()
        self._modules: dict[str, Any] = {}
        self._tensors: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._owners: dict[int, str] = {}
        self._noisy: list[Any] = []
        try:
            self._describe()
        except Exception as error:
            self.fail(error, "looking at the model")

    def _describe(self) -> None:
        case = self.case
        case.layers, self._modules, case.coverage = describe_layers(self.model)
        if not self.sees_layers:
            case.coverage.skipped |= dict.fromkeys(case.coverage.watched, case.notes[0])
            case.coverage.watched = []
        case.parameters = describe_parameters(self.model, self.optimizer)
        self._names = names_of(self.model)
        self._tensors = {n: p for n, p in self.model.named_parameters() if n in case.parameters}
        self._owners = self._by_layer()
        case.optimizer = describe_optimizer(self.optimizer, self._names)
        self._noisy = [m for n, m in self._modules.items() if is_noisy(case.layers[n])]
        trained = [p for p in self._tensors.values() if p.requires_grad]
        if hasattr(self.optimizer, "param_groups"):
            trained = [p for g in self.optimizer.param_groups for p in g["params"]]
        lazy = torch.nn.parameter.UninitializedParameter
        self._trained = sorted((p for p in trained if not isinstance(p, lazy)), key=torch.numel)
        self._lazy = any(isinstance(p, lazy) for p in (*trained, *self.model.parameters()))

    def _by_layer(self) -> dict[int, str]:
        """Names of layers by the ids of their parameters."""
        known = self.case.parameters
        return {i: known[n].layer for i, n in self._names.items() if n in known}

    def _begin_step(self) -> None:
        """Forget what belongs to the step that is over."""
        self._inputs: tuple[Any, ...] | None = None
        self._named: tuple[str, ...] = ()
        self._output: Any = None
        self._raw: Any = None
        self._calls: list[Call] = []
        self._calls_before = 0  # those that belong to former backward passes
        self._cut_off = self._connected = False  # whether a loss depends on the model
        self._values: list[Any] = []
        self._backwards = 0
        self._was_cleared = False
        self._got_gradient = False
        self._in_eval = False
        self._first_bad = ""

    # -- the graph ------------------------------------------------------------------------

    def _look(self, root: Any) -> LossCall | None:
        """Read the graph (once), and the call of the loss."""
        if self._lazy:
            self._describe()  # lazy layers know their shapes now
        nodes: list[Any] = []
        if not self._structure.operations:
            ops, nodes = read(root.grad_fn, self._owners, self._names)
            adopt(ops, self.case)
            self._owners = self._by_layer()
            found = structure(ops)
            if self._is_detached(found.parameters, nodes):
                self._cut_off = True  # as the discriminator's loss is for a generator
                return None
            self._take(found)
        self._connected = True
        for name, module in self._modules.items():
            self.case.layers[name].training = module.training
        return self._loss_call(root, nodes)

    def _find_unregistered(self) -> None:
        """Parameters the model's output depends on that neither it nor an optimizer knows."""
        if self._output is None:
            return
        found = strangers(self._output.grad_fn, self._names)
        known = held_elsewhere(None) if found else set()
        found = {i: p for i, p in found.items() if i not in known}
        attributes = hiding(self.model, found) if found else {}
        self.case.unregistered = [
            tuple(p.shape)
            for i, p in found.items()
            if i in attributes or isinstance(p, torch.nn.Parameter)
        ]
        self.case.hidden_in = next(iter(attributes.values()), "")

    def _is_detached(self, reached: frozenset[str], nodes: list[Any]) -> bool:
        """Whether no parameter of the model stands in a graph that was seen as a whole."""
        hidden = any(hasattr(node, "_forward_cls") for node in nodes)  # as in checkpointing
        return bool(self._tensors) and not (reached or hidden or len(nodes) >= LIMIT)

    # -- the loss -------------------------------------------------------------------------

    def _loss_call(self, root: Any, nodes: list[Any]) -> LossCall | None:
        calls = self._calls[self._calls_before :]
        call = self._called(*largest(calls)) if calls else self._found(root, nodes)
        if call is not None:
            call.count = max(len(self._calls), 1)
            call.training = not self._in_eval
        return call

    def _called(
        self, function: str, args: tuple[Any, ...], keywords: dict[str, Any], value: Any
    ) -> LossCall | None:
        output = args[0] if args else keywords.get("input")
        target = target_of(function, args, keywords)
        if not isinstance(output, torch.Tensor):
            return None
        options = {k: _plain(v) for k, v in keywords.items() if v is not None and k not in
                   ("input", "target", "size_average", "reduce", "swapped")}  # fmt: skip
        if len(args) > 2 and args[2] is not None and function in WITH_WEIGHT:
            options["weight"] = _plain(args[2])
        options.setdefault("reduction", "mean")
        number = NAN if value is None else float(value.detach().mean())
        call = self._make(function, output, target, number, options)
        if call is not None:
            call.swapped = "swapped" in keywords
        return call

    def _found(self, root: Any, nodes: list[Any]) -> LossCall | None:
        """The call as far as the graph has kept it."""
        if not nodes:
            _, nodes = read(root.grad_fn, {}, {})
        kept = kept_call(nodes) or written_call(nodes, self._output)
        if kept is None:
            return None
        _, function, output, target, options = kept
        self._reads = True
        value = float(root.detach().mean())
        value = math.copysign(options.pop("value", value), value)
        return self._make(function, output, target, value, options)

    def _make(
        self, function: str, output: Any, target: Any, value: float, options: dict[str, Any]
    ) -> LossCall | None:
        way = self._structure
        if output.grad_fn is not None:
            if self.case.reached and not reaches(output.grad_fn, self._names):
                return None  # the loss of another model
            way = self._way(function, output)
        known = isinstance(target, torch.Tensor)
        shapes = (tuple(output.shape), tuple(target.shape) if known else ())
        rows = rows_kept(*shapes)
        return LossCall(
            self._step, function, array(output, rows), array(target, rows) if known else None,
            value, options, way.path, way.last, shapes, scaled=way.scaled, over=way.over,
        )  # fmt: skip

    def _way(self, function: str, output: Any) -> Structure:
        """What stands between the last layer and the loss; read once for each form of graph."""
        key = function, name_of(output.grad_fn), tuple(output.shape[1:])
        if key not in self._ways:
            ops, _ = read(output.grad_fn, self._owners, self._names)
            self._ways[key] = structure(ops)
        return self._ways[key]

    # -- numbers that are not finite ------------------------------------------------------

    def _spoilt(self) -> str:
        """Where the last step's gradient came from, if weights are not finite any more: the last
        layer with such weights; the loss, where it is the last of all."""
        owners = {n: p.layer or n for n, p in self.case.parameters.items() if n in self._tensors}
        bad = {owners[n] for n in owners if not bool(torch.isfinite(self._tensors[n]).all())}
        order = [n for n in self.case.layers if n in owners.values()] or sorted(bad)
        if not bad:
            return ""
        return "loss" if order[-1] in bad else next(n for n in reversed(order) if n in bad)

    def _blame(self) -> str:
        """The first module, in forward order, whose output is not finite; found by a replay."""
        if spoilt := self._spoilt():
            return spoilt
        if self._inputs is None or not self.sees_layers:
            return ""
        bad: list[str] = []

        def check(name: str) -> Callable[..., None]:
            def note(module: Any, given: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor) and not bad:
                    if not bool(torch.isfinite(output).all()):
                        bad.append(name)

            return note

        try:
            twin = copy.deepcopy(self.model)  # the graph of the step holds the original's buffers
            modules = dict(twin.named_modules())
            for name in self._modules:
                modules[name].register_forward_hook(check(name))
            with torch.random.fork_rng(enabled=True), torch.no_grad():
                twin(*self._inputs)
        except Exception:  # it cannot be copied, or needs more than its tensors
            return ""
        return bad[0] if bad else "loss"


def largest(calls: list[Call]) -> Call:
    """The call of a loss with the most elements."""
    return max(calls, key=lambda call: _size(call[1]))


def is_swapped(function: str, args: tuple[Any, ...]) -> bool:
    """Whether the target was given first, and what depends on the weights second."""
    if len(args) < 2 or function not in SYMMETRIC + WITH_WEIGHT:
        return False
    first, second = args[:2]
    return isinstance(second, torch.Tensor) and second.requires_grad and not first.requires_grad


def target_of(function: str, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The target among a loss's arguments; None where it has none."""
    place = OTHER_TARGETS.get(function, 1)
    return args[place] if len(args) > place else keywords.get("target")


def with_graph(output: Any) -> Any:
    """The first tensor with a graph in what a model put out; None if there is none."""
    if isinstance(output, dict):
        output = tuple(output.values())
    if isinstance(output, tuple | list):
        return next((t for t in map(with_graph, output) if t is not None), None)
    return output if isinstance(output, torch.Tensor) and output.grad_fn is not None else None


def _size(args: tuple[Any, ...]) -> int:
    return int(args[0].numel()) if args and isinstance(args[0], torch.Tensor) else 0


def _plain(value: Any) -> Any:
    return array(value) if isinstance(value, torch.Tensor) else value


__all__ = ["SYMMETRIC", "Call", "TorchReader", "is_swapped", "largest", "target_of", "with_graph"]
