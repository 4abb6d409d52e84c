"""Schedules: the learning rate as a function of the step, with PyTorch's stepping interface.

A schedule is its `value(base, t)`: the rate of a group that began at `base`, after t steps. From
that follow `lr_at(t)` and `plot()`, and `step()`, which moves to the next t and sets the rates.
`per` says what a step is when `fit` steps it: an "epoch", as is PyTorch's custom, or a "batch".

>>> import fathom
>>> optimizer = fathom.optim.SGD([fathom.nn.Parameter([0.0])], lr=0.8)
>>> schedule = StepLR(optimizer, step_size=2, gamma=0.5)
>>> [schedule.lr_at(t) for t in range(6)]
[0.8, 0.8, 0.4, 0.4, 0.2, 0.2]
>>> schedule.step()
>>> schedule.step()
>>> schedule.get_last_lr(), optimizer.param_groups[0]["lr"]
([0.4], 0.4)
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from fathom.engine.errors import ArgumentError
from fathom.optim.optimizer import Optimizer


class Schedule:
    """Base. A subclass calls `super().__init__` last and has `value`."""

    per: str = "epoch"
    hidden: ClassVar[tuple[str, ...]] = ("optimizer",)  # what state_dict leaves out
    position: ClassVar[tuple[str, ...]] = ("last_epoch", "_last_lr", "base_lrs")

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(
                f"{type(self).__name__} needs an optimizer; received {type(optimizer).__name__}"
            )
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ArgumentError(
                    f"parameter group {i} has no 'initial_lr', which going on from "
                    f"last_epoch={last_epoch} needs"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._last_lr: list[float] = []
        self.step()

    def value(self, base: float, t: float) -> float:
        """The rate after t steps of a group that began at `base`."""
        raise NotImplementedError

    def lr_at(self, t: float, group: int = 0) -> float:
        """The rate of a parameter group at step t, whatever has been stepped."""
        return float(self.value(self.base_lrs[group], t))

    def step(self, epoch: float | None = None) -> None:
        """Go to the next step (or to a given one) and set the rates."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch  # type: ignore[assignment]
        for i, group in enumerate(self.optimizer.param_groups):
            self.set(i, group)
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]

    def set(self, i: int, group: dict[str, Any]) -> None:
        group["lr"] = self.lr_at(self.last_epoch, i)

    def get_last_lr(self) -> list[float]:
        """The rates that are set now, one for each group."""
        return list(self._last_lr)

    def state_dict(self) -> dict[str, Any]:
        """Position and options as JSON values; functions are left out."""
        return {k: v for k, v in vars(self).items() if k not in self.hidden and not callable(v)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved position. The optimizer's own state holds the rates."""
        vars(self).update(state)

    def go_to(self, state: Mapping[str, Any]) -> None:
        """Take over the position of a saved state, not its options: for a run made longer."""
        vars(self).update({k: v for k, v in state.items() if k in self.position})

    def plot(self, steps: int = 100, ax: Any = None) -> Any:
        """The rate over the first `steps` steps, on a matplotlib axes, which is returned."""
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(6, 3.6), layout="constrained").subplots()
        for i in range(len(self.base_lrs)):
            label = type(self).__name__ if len(self.base_lrs) == 1 else f"group {i}"
            ax.plot(range(steps + 1), [self.lr_at(t, i) for t in range(steps + 1)], label=label)
        ax.set_xlabel("batch" if self.per == "batch" else "epoch")
        ax.set_ylabel("learning rate")
        ax.legend()
        return ax

    def __repr__(self) -> str:
        return f"{type(self).__name__}(last_epoch={self.last_epoch}, lr={self._last_lr})"


def count(value: Any, name: str, owner: Any, low: int = 1) -> int:
    if isinstance(value, bool) or int(value) != value or value < low:
        raise ArgumentError(
            f"{type(owner).__name__}: {name} must be a whole number >= {low}; received {value!r}"
        )
    return int(value)


def cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1.0)


def straight(start: float, end: float, share: float) -> float:
    return (end - start) * share + start


class LambdaLR(Schedule):
    """base * lr_lambda(t): one function, or a list with one for each group."""

    hidden = ("optimizer", "lr_lambdas")

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1) -> None:
        groups = len(optimizer.param_groups)
        several = isinstance(lr_lambda, list | tuple)
        self.lr_lambdas = list(lr_lambda) if several else [lr_lambda] * groups
        if len(self.lr_lambdas) != groups or not all(map(callable, self.lr_lambdas)):
            raise ArgumentError(f"{type(self).__name__} needs one function, or {groups} in a list")
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, group: int = 0) -> float:
        return float(self.base_lrs[group] * self.lr_lambdas[group](t))


class MultiplicativeLR(LambdaLR):
    """The rate times lr_lambda(t) at each step t >= 1."""

    def lr_at(self, t: float, group: int = 0) -> float:
        factor = self.lr_lambdas[group]
        return self.base_lrs[group] * math.prod(float(factor(i)) for i in range(1, int(t) + 1))


class StepLR(Schedule):
    """base * gamma^(t // step_size)."""

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size, self.gamma = count(step_size, "step_size", self), float(gamma)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        return base * self.gamma ** (int(t) // self.step_size)


class MultiStepLR(Schedule):
    """base * gamma^(number of milestones up to t)."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.milestones, self.gamma = sorted(int(m) for m in milestones), float(gamma)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        return base * self.gamma ** bisect.bisect_right(self.milestones, t)


class ConstantLR(Schedule):
    """base * factor before step total_iters, base from then on."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if not 0.0 <= factor <= 1.0:
            raise ArgumentError(f"ConstantLR: factor must lie in [0, 1]; received {factor!r}")
        self.factor, self.total_iters = float(factor), count(total_iters, "total_iters", self, 0)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        return base * (self.factor if t < self.total_iters else 1.0)


class LinearLR(Schedule):
    """A ramp from base * start_factor to base * end_factor over total_iters steps: a warm-up."""

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1.0 / 3, end_factor: float = 1.0,
        total_iters: int = 5, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if not 0.0 < start_factor <= 1.0 or not 0.0 <= end_factor <= 1.0:
            raise ArgumentError(
                "LinearLR: start_factor must lie in (0, 1] and end_factor in [0, 1]; received "
                f"{start_factor!r} and {end_factor!r}"
            )
        self.start_factor, self.end_factor = float(start_factor), float(end_factor)
        self.total_iters = count(total_iters, "total_iters", self)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        share = min(t, self.total_iters) / self.total_iters
        return base * straight(self.start_factor, self.end_factor, share)


class ExponentialLR(Schedule):
    """base * gamma^t."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = float(gamma)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        return float(base * self.gamma**t)


class PolynomialLR(Schedule):
    """base * (1 - t / total_iters)^power, 0 from total_iters on."""

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters, self.power = count(total_iters, "total_iters", self), float(power)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        return float(base * (1.0 - min(t, self.total_iters) / self.total_iters) ** self.power)


class CosineAnnealingLR(Schedule):
    """Half a cosine from base to eta_min over T_max steps, and back (Loshchilov & Hutter, 2017)."""

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max, self.eta_min = count(T_max, "T_max", self), float(eta_min)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        return cosine(base, self.eta_min, t / self.T_max)


class CosineAnnealingWarmRestarts(Schedule):
    """Cosines from base to eta_min of length T_0, T_0 * T_mult, ... (Loshchilov & Hutter, 2017)."""

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.T_0, self.T_mult = count(T_0, "T_0", self), count(T_mult, "T_mult", self)
        self.eta_min = float(eta_min)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        length = self.T_0
        if self.T_mult == 1:
            t = t % length
        while t >= length:
            t, length = t - length, length * self.T_mult
        return cosine(base, self.eta_min, t / length)


class InverseSquareRootLR(Schedule):
    """A linear warm-up to base, then base * sqrt(warmup_steps / t); t counts from 1."""

    per = "batch"

    def __init__(self, optimizer: Optimizer, warmup_steps: int, last_epoch: int = -1) -> None:
        self.warmup_steps = count(warmup_steps, "warmup_steps", self)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        return base * min((t + 1) / self.warmup_steps, math.sqrt(self.warmup_steps / (t + 1)))


class NoamLR(Schedule):
    """base * d_model^-0.5 * min(t^-0.5, t * warmup_steps^-1.5), t from 1 (Vaswani et al., 2017).

    With lr=1 in the optimizer this is the paper's rate.
    """

    per = "batch"

    def __init__(
        self, optimizer: Optimizer, d_model: int, warmup_steps: int = 4000, last_epoch: int = -1
    ) -> None:
        self.d_model = count(d_model, "d_model", self)
        self.warmup_steps = count(warmup_steps, "warmup_steps", self)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        shape = min((t + 1) ** -0.5, (t + 1) * self.warmup_steps**-1.5)
        return float(base * self.d_model**-0.5 * shape)


class WarmupCosineLR(Schedule):
    """A linear ramp over warmup_steps, then half a cosine to eta_min at total_steps."""

    per = "batch"

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, total_steps: int, eta_min: float = 0.0,
        start_factor: float = 0.0, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.warmup_steps = count(warmup_steps, "warmup_steps", self, 0)
        self.total_steps = count(total_steps, "total_steps", self, self.warmup_steps + 1)
        self.eta_min, self.start_factor = float(eta_min), float(start_factor)
        super().__init__(optimizer, last_epoch)

    def value(self, base: float, t: float) -> float:
        if t < self.warmup_steps:
            return base * straight(self.start_factor, 1.0, t / self.warmup_steps)
        done = (t - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return cosine(base, self.eta_min, min(done, 1.0))


# -- composed ------------------------------------------------------------------------------------


class Composed(Schedule):
    """Schedules of one optimizer, made into one."""

    hidden = ("optimizer", "schedulers")
    schedulers: list[Schedule]

    def take(self, optimizer: Optimizer | None, schedulers: Sequence[Schedule]) -> Optimizer:
        self.schedulers = list(schedulers)
        if not self.schedulers:
            raise ArgumentError(f"{type(self).__name__} needs at least one schedule")
        owner = self.schedulers[0].optimizer if optimizer is None else optimizer
        for i, schedule in enumerate(self.schedulers):
            if isinstance(schedule, ReduceOnly) or schedule.optimizer is not owner:
                raise ArgumentError(
                    f"{type(self).__name__}: schedule {i} cannot be composed: all need the same "
                    "optimizer and a rate that depends on the step alone"
                )
        self.per = self.schedulers[0].per
        return owner

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self.schedulers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own = dict(state)
        for schedule, saved in zip(self.schedulers, own.pop("_schedulers"), strict=True):
            schedule.load_state_dict(saved)
        super().load_state_dict(own)


class ReduceOnly(Schedule):
    """Base of schedules that react to measurements, and so have no rate known beforehand."""


class SequentialLR(Composed):
    """One schedule after another; each counts from its milestone.

    >>> import fathom
    >>> optimizer = fathom.optim.SGD([fathom.nn.Parameter([0.0])], lr=1.0)
    >>> warm = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> both = SequentialLR(optimizer, [warm, ExponentialLR(optimizer, 0.5)], milestones=[2])
    >>> [both.lr_at(t) for t in range(5)]
    [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if len(milestones) != len(schedulers) - 1 or sorted(milestones) != list(milestones):
            raise ArgumentError(
                f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} rising "
                f"milestones; received {list(milestones)}"
            )
        self.milestones = [int(m) for m in milestones]
        super().__init__(self.take(optimizer, schedulers), last_epoch)

    def lr_at(self, t: float, group: int = 0) -> float:
        i = bisect.bisect_right(self.milestones, t)
        return self.schedulers[i].lr_at(t - (self.milestones[i - 1] if i else 0), group)

    def set(self, i: int, group: dict[str, Any]) -> None:
        k = bisect.bisect_right(self.milestones, self.last_epoch)
        current = self.schedulers[k]
        current.last_epoch = self.last_epoch - (self.milestones[k - 1] if k else 0)
        current.set(i, group)


class ChainedScheduler(Composed):
    """All schedules at once: base times the product of their factors."""

    def __init__(self, schedulers: Sequence[Schedule], optimizer: Optimizer | None = None) -> None:
        super().__init__(self.take(optimizer, schedulers))

    def lr_at(self, t: float, group: int = 0) -> float:
        rate = base = self.base_lrs[group]
        for schedule in self.schedulers:
            rate *= schedule.lr_at(t, group) / base if base else 1.0
        return rate


# -- by name -------------------------------------------------------------------------------------


def make(
    name: str, optimizer: Optimizer, epochs: int = 10, batches: int = 1, **options: Any
) -> Schedule:
    """A schedule by name for a run of so many epochs of so many batches.

    Options beyond those of the schedule have defaults that fit the run. Names: `SCHEDULES`.

    >>> import fathom
    >>> optimizer = fathom.optim.SGD([fathom.nn.Parameter([0.0])], lr=0.1)
    >>> schedule = make("cosine", optimizer, epochs=4, batches=25)
    >>> schedule.per, schedule.T_max, round(schedule.lr_at(50), 4)
    ('batch', 100, 0.05)
    """
    from fathom.engine.errors import suggest
    from fathom.optim.lr_scheduler import DEFAULTS, SCHEDULES

    if not isinstance(name, str) or name.lower() not in SCHEDULES:
        raise ArgumentError(f"unknown schedule {name!r}", fix=suggest(str(name), SCHEDULES))
    kind = SCHEDULES[name.lower()]
    filled: Callable[..., dict[str, Any]] | None = DEFAULTS.get(name.lower())
    defaults = {} if filled is None else filled(optimizer, epochs, batches)
    per = defaults.pop("per", kind.per)
    try:
        schedule: Schedule = kind(optimizer, **{**defaults, **options})
    except TypeError as error:
        raise ArgumentError(f"schedule {name!r}: {error}") from None
    schedule.per = per
    return schedule
