"""`Optimizer`: parameter groups, state in flat buffers, and one update for all of them.

The gradients of a group are laid end to end in one flat array, the update rule runs on that
array in blocks that fit the cache, and the resulting steps are subtracted from the parameters.
A subclass is its update rule; one that needs the norms of whole parameters (LAMB) has `finish`
as well, and one that evaluates the loss itself (L-BFGS, SAM, Newton) takes a closure in `step`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fathom.engine.errors import ArgumentError, DivergedError
from fathom.engine.hearing import step_heard
from fathom.engine.modes import enable_grad, tracing
from fathom.engine.tensor import Array, Tensor, mark_written

BLOCK = 1 << 16  # elements worked on at a time: 256 KiB of float32 an array


Closure = Callable[[], Any]


class Flat:
    """Parameters of one dtype in one group, with their state as flat arrays."""

    def __init__(self, parameters: Sequence[Tensor], slots: Sequence[str]) -> None:
        self.parameters = parameters
        ends = list(itertools.accumulate(p.size for p in parameters))
        self.slices = [slice(e - p.size, e) for e, p in zip(ends, parameters, strict=True)]
        size, dtype = ends[-1], parameters[0].dtype
        self.gradient = np.zeros(size, dtype)
        self.scratch = np.empty(min(size, BLOCK), dtype)
        self.state = {slot: np.zeros(size, dtype) for slot in slots}
        self.steps = [0] * len(parameters)

    def gather(self, weight_decay: float, maximize: bool = False) -> list[tuple[slice, int]]:
        """Lay the gradients end to end; the runs of neighbours that take the same step."""
        runs: list[tuple[slice, int]] = []
        for i, (p, place) in enumerate(zip(self.parameters, self.slices, strict=True)):
            if p.grad is None:
                continue
            gradient = self.gradient[place]
            gradient[...] = p.grad.value().reshape(-1)
            if maximize:
                np.negative(gradient, out=gradient)
            if weight_decay:
                gradient += weight_decay * p.value().reshape(-1)
            self.steps[i] += 1
            if runs and runs[-1][0].stop == place.start and runs[-1][1] == self.steps[i]:
                place = slice(runs.pop()[0].start, place.stop)
            runs.append((place, self.steps[i]))
        return runs

    def subtract(self) -> None:
        """Take the steps that now stand in place of the gradients."""
        for p, place in zip(self.parameters, self.slices, strict=True):
            if p.grad is not None:
                data = p.value()
                data -= self.gradient[place].reshape(data.shape)
                mark_written(p)


def root(x: Any) -> Any:
    """The square root of a number that an update works out from its options.

    While a step is compiled such a number is an expression, with a root of its own.
    """
    return math.sqrt(x) if isinstance(x, float) else x.sqrt()


def worked_out(function: Callable[..., Any], *numbers: Any) -> Any:
    """function(*numbers) for numbers of an update, some of which may be such expressions."""
    expression = next((n for n in numbers if hasattr(n, "call")), None)
    return function(*numbers) if expression is None else expression.call(function, *numbers)


class Optimizer:
    """Base of the optimizers. `params`: parameters, or dicts with "params" and own options."""

    slots: ClassVar[tuple[str, ...]] = ()  # names of the flat state arrays
    needs_closure: ClassVar[bool] = False  # whether `step` must evaluate the loss itself
    wants_graph: ClassVar[bool] = False  # whether its closure leaves the backward pass to it

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "step" in vars(cls):  # one of its own
            cls.step = step_heard(vars(cls)["step"])  # type: ignore[method-assign]

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        if isinstance(params, Tensor):
            raise ArgumentError("an optimizer takes a list of parameters; received one tensor")
        entries = list(params)
        if not entries:
            raise ArgumentError(
                "an optimizer needs at least one parameter; received an empty list",
                fix="model.parameters() is used up after one pass if it was stored as an iterator",
            )
        self.defaults = dict(defaults)
        self.param_groups: list[dict[str, Any]] = []
        self._flats: list[list[Flat]] = []
        groups = entries if isinstance(entries[0], Mapping) else [{"params": entries}]
        for group in groups:
            self.add_param_group(group)
        self.check_finite = False

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters with options of their own."""
        merged = {**self.defaults, **group}
        parameters = (
            [merged["params"]] if isinstance(merged["params"], Tensor) else merged["params"]
        )
        merged["params"] = list(parameters)
        unknown = sorted(set(group) - set(self.defaults) - {"params"})
        if unknown:
            raise ArgumentError(
                f"{type(self).__name__}: unknown option {unknown[0]!r}; "
                f"known: {', '.join(sorted(self.defaults))}"
            )
        seen = {id(p) for g in self.param_groups for p in g["params"]}
        for i, p in enumerate(merged["params"]):
            if not isinstance(p, Tensor):
                raise ArgumentError(f"parameter {i} is a {type(p).__name__}, not a tensor")
            if not p.is_leaf:
                raise ArgumentError(f"parameter {i} is not a leaf: it was computed from others")
            if id(p) in seen:
                raise ArgumentError(f"parameter {i} appears twice in the optimizer")
            seen.add(id(p))
        self.param_groups.append(merged)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        tracer = tracing()
        for group in self.param_groups:
            for p in group["params"]:
                if tracer is not None:
                    tracer.adopt(p)
                p.grad = None if set_to_none else Tensor(np.zeros(p.shape, p.dtype))

    def flats(self) -> list[list[Flat]]:
        """For each group, its flat buffers: one for each dtype."""
        for group in self.param_groups[len(self._flats) :]:
            kinds: dict[Any, list[Tensor]] = {}
            for p in group["params"]:
                kinds.setdefault(p.dtype, []).append(p)
            self._flats.append([self.fresh(group, ps) for ps in kinds.values()])
        return self._flats

    def fresh(self, group: dict[str, Any], parameters: Sequence[Tensor]) -> Flat:
        """The buffers of parameters that have not been stepped yet."""
        return Flat(parameters, self.slots_of(group))

    def slots_of(self, group: dict[str, Any]) -> tuple[str, ...]:
        """The state arrays that the options of a group ask for."""
        return self.slots

    @step_heard
    def step(self, closure: Closure | None = None) -> Any:
        """Change every parameter that has a gradient.

        `closure`, if given, computes the loss and its gradients first; its loss is returned.
        """
        loss = None if closure is None else evaluate(closure)
        tracer = tracing()
        if tracer is not None:
            tracer.step(self)
            return loss
        work = list(zip(self.param_groups, self.flats(), strict=True))
        with np.errstate(all="ignore"):  # what is not finite shows in the result
            for group, flats in work:
                for flat in flats:
                    self._compute(group, flat)
        every = [flat for _, flats in work for flat in flats]
        if self.check_finite and not all(np.isfinite(flat.gradient).all() for flat in every):
            raise DivergedError(
                "the update is not finite; the weights were left as they are",
                fix="a smaller learning rate, gradient clipping, or scaled inputs",
            )
        for flat in every:
            flat.subtract()
        return loss

    def _compute(self, group: dict[str, Any], flat: Flat) -> None:
        for run, step in flat.gather(self.coupled_decay(group), group.get("maximize", False)):
            for start in range(run.start, run.stop, BLOCK):
                block = slice(start, min(start + BLOCK, run.stop))
                g = flat.gradient[block]
                state = {name: array[block] for name, array in flat.state.items()}
                self.update(group, g, state, step, flat.scratch[: len(g)])
        if self.finishes(group):
            for p, place in zip(flat.parameters, flat.slices, strict=True):
                if p.grad is not None:
                    self.finish(group, p.value().reshape(-1), flat.gradient[place])

    def finishes(self, group: dict[str, Any]) -> bool:
        """Whether `finish` has anything to do."""
        return type(self).finish is not Optimizer.finish or bool(self.decoupled_decay(group))

    def coupled_decay(self, group: dict[str, Any]) -> Any:
        """Weight decay that is added to the gradient (L2 penalty)."""
        return 0.0 if self.decoupled_decay(group) else group.get("weight_decay", 0.0)

    def decoupled_decay(self, group: dict[str, Any]) -> Any:
        """Weight decay that shrinks the weights beside the step (Loshchilov & Hutter, 2019)."""
        return group["weight_decay"] if group.get("decoupled_weight_decay") else 0.0

    def update(
        self, group: dict[str, Any], g: Array, state: dict[str, Array], step: int, scratch: Array
    ) -> None:
        """Turn the gradient `g` into the step to subtract, in place; change `state` in place."""
        raise NotImplementedError

    def finish(self, group: dict[str, Any], w: Array, step: Array) -> None:
        """Last word on the step of one whole parameter, in place: its weights stand in `w`."""
        decay = self.decoupled_decay(group)
        if decay:
            step += (group["lr"] * decay) * w

    # -- state --------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Options of the groups and, for each parameter by number, its step and arrays."""
        state: dict[int, dict[str, Any]] = {}
        groups, number = [], itertools.count()
        for group, flats in zip(self.param_groups, self.flats(), strict=True):
            place = {id(p): (f, i) for f in flats for i, p in enumerate(f.parameters)}
            numbers = []
            for p in group["params"]:
                n = next(number)
                numbers.append(n)
                flat, i = place[id(p)]
                if flat.steps[i]:
                    arrays = {
                        slot: array[flat.slices[i]].reshape(p.shape).copy()
                        for slot, array in flat.state.items()
                    }
                    state[n] = {"step": flat.steps[i], **arrays}
            options = {k: v for k, v in group.items() if k != "params"}
            groups.append({**options, "params": numbers})
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on where a saved optimizer of the same parameters stood."""
        sizes = [len(g["params"]) for g in self.param_groups]
        if [len(g["params"]) for g in saved["param_groups"]] != sizes:
            raise ArgumentError(
                f"the saved optimizer has other parameter groups than this one ({sizes} parameters)"
            )
        number = itertools.count()
        for group, options in zip(self.param_groups, saved["param_groups"], strict=True):
            group.update({k: v for k, v in options.items() if k != "params"})
        self._flats = []  # the options say which arrays there are
        for group, flats in zip(self.param_groups, self.flats(), strict=True):
            place = {id(p): (f, i) for f in flats for i, p in enumerate(f.parameters)}
            for p in group["params"]:
                flat, i = place[id(p)]
                entry = saved["state"].get(next(number), {"step": 0})
                flat.steps[i] = int(entry["step"])
                for slot, array in flat.state.items():
                    if slot in entry:
                        array[flat.slices[i]] = np.asarray(entry[slot]).reshape(-1)

    def config(self) -> dict[str, Any]:
        """The options all groups started from."""
        return dict(self.defaults)

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in self.defaults.items())
        return f"{type(self).__name__}({options})"


def count_up(counter: list[int]) -> Any:
    """Add one to a count, and return it; in a compiled step, at every call."""
    if (tracer := tracing()) is not None:
        return tracer.count_up(counter)
    counter[0] += 1
    return counter[0]


def evaluate(closure: Closure) -> Any:
    """The closure's loss, its gradients recorded even under `no_grad`."""
    if not callable(closure):
        raise ArgumentError(f"a closure is a function that returns the loss; received {closure!r}")
    with enable_grad():
        return closure()


def at_least(value: float, low: float, name: str, owner: str) -> float:
    """A finite number not below `low`."""
    if not isinstance(value, int | float | np.number) or not low <= value < float("inf"):
        raise ArgumentError(f"{owner}: {name} must be a number >= {low:g}; received {value!r}")
    return float(value)


def share(value: float, name: str, owner: str) -> float:
    """A number in [0, 1)."""
    if not isinstance(value, int | float | np.number) or not 0.0 <= value < 1.0:
        raise ArgumentError(f"{owner}: {name} must lie in [0, 1); received {value!r}")
    return float(value)


def pair_of_shares(values: Any, name: str, owner: str) -> list[float]:
    """Two numbers in [0, 1)."""
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise ArgumentError(f"{owner}: {name} are two numbers in [0, 1); received {values!r}")
    return [share(value, f"{name}[{i}]", owner) for i, value in enumerate(values)]


FLAGS = ("amsgrad", "decoupled_weight_decay", "maximize")


def checked(owner: str, **options: Any) -> dict[str, Any]:
    """Options of an optimizer: `betas` are shares, flags booleans, all else numbers >= 0.

    >>> checked("Adam", lr=1, betas=(0.9, 0.99), maximize=0)
    {'lr': 1.0, 'betas': [0.9, 0.99], 'maximize': False}
    """

    def value(name: str, given: Any) -> Any:
        if name == "betas":
            return pair_of_shares(given, name, owner)
        return bool(given) if name in FLAGS else at_least(given, 0.0, name, owner)

    return {name: value(name, given) for name, given in options.items()}
