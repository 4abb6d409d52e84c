"""All schedules under PyTorch's module name; here are those that cycle, and those that react."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fathom.engine.errors import ArgumentError
from fathom.optim.optimizer import Optimizer
from fathom.optim.schedules import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    InverseSquareRootLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    NoamLR,
    PolynomialLR,
    ReduceOnly,
    Schedule,
    SequentialLR,
    StepLR,
    WarmupCosineLR,
    cosine,
    count,
    straight,
)

LRScheduler = Schedule  # PyTorch's name for the base
ANNEAL: dict[str, Callable[[float, float, float], float]] = {"cos": cosine, "linear": straight}


def each_group(value: Any, optimizer: Optimizer, name: str, owner: Any) -> list[float]:
    """One number for all groups, or a list with one for each."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [float(value)] * groups
    if len(value) != groups:
        raise ArgumentError(
            f"{type(owner).__name__}: {name} has {len(value)} values for {groups} groups"
        )
    return [float(v) for v in value]


class Momentum(Schedule):
    """Base of the schedules that move the momentum against the rate."""

    cycle_momentum: bool
    base_momentums: list[float]
    max_momentums: list[float]

    def prepare(self, optimizer: Optimizer, cycle: bool, base: Any, most: Any) -> None:
        self.cycle_momentum = bool(cycle)
        if cycle and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ArgumentError(
                f"{type(self).__name__}: {type(optimizer).__name__} has neither momentum nor betas",
                fix="cycle_momentum=False",
            )
        self.base_momentums = each_group(base, optimizer, "base_momentum", self)
        self.max_momentums = each_group(most, optimizer, "max_momentum", self)

    def momentum_at(self, t: float, group: int = 0) -> float:
        """The momentum (or first beta) of a parameter group at step t."""
        raise NotImplementedError

    def set(self, i: int, group: dict[str, Any]) -> None:
        super().set(i, group)
        if not self.cycle_momentum:
            return
        value = self.momentum_at(self.last_epoch, i)
        if "betas" in group:
            group["betas"] = [value, *group["betas"][1:]]
        else:
            group["momentum"] = value


class CyclicLR(Momentum):
    """Triangles between base_lr and max_lr (Smith, 2017).

    mode "triangular2" halves their height each cycle, "exp_range" scales it by gamma^t.
    """

    per = "batch"
    hidden = ("optimizer", "scale_fn")

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        if scale_fn is None and mode not in ("triangular", "triangular2", "exp_range"):
            raise ArgumentError(
                f"CyclicLR: mode is triangular, triangular2 or exp_range; received {mode!r}"
            )
        self.lows = each_group(base_lr, optimizer, "base_lr", self)
        self.max_lrs = each_group(max_lr, optimizer, "max_lr", self)
        self.up = count(step_size_up, "step_size_up", self)
        self.down = self.up if step_size_down is None else count(step_size_down, "down", self)
        self.mode, self.gamma, self.scale_fn = mode, float(gamma), scale_fn
        by_step = scale_mode != "cycle" if scale_fn is not None else mode == "exp_range"
        self.scale_mode = "iterations" if by_step else "cycle"
        self.prepare(optimizer, cycle_momentum, base_momentum, max_momentum)
        if last_epoch == -1:
            for group, low in zip(optimizer.param_groups, self.lows, strict=True):
                group["lr"] = group["initial_lr"] = low
        super().__init__(optimizer, last_epoch)

    def height(self, t: float) -> float:
        """Where between the bounds (0 to 1) step t stands."""
        whole = self.up + self.down
        cycle = math.floor(1 + t / whole)
        x = 1.0 + t / whole - cycle
        ratio = self.up / whole
        share = x / ratio if x <= ratio else (x - 1) / (ratio - 1)
        place = cycle if self.scale_mode == "cycle" else t
        if self.scale_fn is not None:
            return share * self.scale_fn(place)
        if self.mode == "triangular2":
            return share / 2.0 ** (place - 1)
        return share * (self.gamma**place if self.mode == "exp_range" else 1.0)

    def lr_at(self, t: float, group: int = 0) -> float:
        low = self.lows[group]
        return low + (self.max_lrs[group] - low) * self.height(t)

    def momentum_at(self, t: float, group: int = 0) -> float:
        most = self.max_momentums[group]
        return most - (most - self.base_momentums[group]) * self.height(t)


class OneCycleLR(Momentum):
    """Up to max_lr and down to almost nothing in total_steps steps (Smith & Topin, 2018)."""

    per = "batch"

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError(
                    "OneCycleLR needs total_steps, or both epochs and steps_per_epoch"
                )
            total_steps = epochs * steps_per_epoch
        self.total_steps = count(total_steps, "total_steps", self)
        if not 0.0 <= pct_start <= 1.0:
            raise ArgumentError(f"OneCycleLR: pct_start must lie in [0, 1]; received {pct_start!r}")
        if anneal_strategy not in ANNEAL:
            raise ArgumentError(
                f"OneCycleLR: anneal_strategy is 'cos' or 'linear'; received {anneal_strategy!r}"
            )
        self.anneal_strategy = anneal_strategy
        self.max_lrs = each_group(max_lr, optimizer, "max_lr", self)
        self.div_factor, self.final_div_factor = float(div_factor), float(final_div_factor)
        rise = float(pct_start * self.total_steps) - 1
        self.ends = [rise, self.total_steps - 1]
        if three_phase:
            self.ends.insert(1, float(2 * pct_start * self.total_steps) - 2)
        self.prepare(optimizer, cycle_momentum, base_momentum, max_momentum)
        if last_epoch == -1:
            for group, most in zip(optimizer.param_groups, self.max_lrs, strict=True):
                group["initial_lr"] = most / self.div_factor
        super().__init__(optimizer, last_epoch)

    def along(self, t: float, corners: list[float]) -> float:
        """The value at step t between those at the ends of the phases."""
        if t > self.total_steps:
            raise ArgumentError(f"OneCycleLR ends after {self.total_steps} steps; asked for {t}")
        start = 0.0
        for i, end in enumerate(self.ends):
            if t <= end or i == len(self.ends) - 1:
                share = (t - start) / (end - start) if end != start else 1.0
                return ANNEAL[self.anneal_strategy](corners[i], corners[i + 1], share)
            start = end
        return corners[-1]

    def lr_at(self, t: float, group: int = 0) -> float:
        most = self.max_lrs[group]
        first = most / self.div_factor
        middle = [first] if len(self.ends) == 3 else []
        return self.along(t, [first, most, *middle, first / self.final_div_factor])

    def momentum_at(self, t: float, group: int = 0) -> float:
        low, high = self.base_momentums[group], self.max_momentums[group]
        return self.along(t, [high, low, high, high])


class SWALR(Schedule):
    """From base to swa_lr over anneal_epochs steps, then constant (Izmailov et al., 2018)."""

    def __init__(
        self, optimizer: Optimizer, swa_lr: float | Sequence[float], anneal_epochs: int = 10,
        anneal_strategy: str = "cos", last_epoch: int = -1,
    ) -> None:  # fmt: skip
        if anneal_strategy not in ANNEAL:
            raise ArgumentError(
                f"SWALR: anneal_strategy is 'cos' or 'linear'; received {anneal_strategy!r}"
            )
        self.swa_lrs = each_group(swa_lr, optimizer, "swa_lr", self)
        self.anneal_epochs = count(anneal_epochs, "anneal_epochs", self, 0)
        self.anneal_strategy = anneal_strategy
        for group in optimizer.param_groups:  # it takes over from another schedule
            group["initial_lr"] = group["lr"]
        super().__init__(optimizer, last_epoch)

    def lr_at(self, t: float, group: int = 0) -> float:
        share = min(t / self.anneal_epochs, 1.0) if self.anneal_epochs else 1.0
        anneal = ANNEAL[self.anneal_strategy]
        return anneal(self.base_lrs[group], self.swa_lrs[group], share)


class ReduceLROnPlateau(ReduceOnly):
    """The rate times `factor` when a measurement has not improved for `patience` epochs.

    `step(metrics)` takes the measurement. `lr_at(t)` tells the past and goes on as it is now;
    `simulate(values)` tells which rates a series of measurements would give.

    >>> import fathom
    >>> optimizer = fathom.optim.SGD([fathom.nn.Parameter([0.0])], lr=1.0)
    >>> ReduceLROnPlateau(optimizer, factor=0.5, patience=1).simulate([3, 2, 2, 2, 2, 2])
    [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]
    """

    position = (
        *Schedule.position, "best", "cooldown_counter", "num_bad_epochs", "history",
    )  # fmt: skip

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if not 0.0 < factor < 1.0:
            raise ArgumentError(f"ReduceLROnPlateau: factor must lie in (0, 1); received {factor}")
        if mode not in ("min", "max") or threshold_mode not in ("rel", "abs"):
            raise ArgumentError(
                "ReduceLROnPlateau: mode is 'min' or 'max' and threshold_mode 'rel' or 'abs'; "
                f"received {mode!r} and {threshold_mode!r}"
            )
        self.mode, self.factor, self.patience = mode, float(factor), int(patience)
        self.threshold, self.threshold_mode = float(threshold), threshold_mode
        self.cooldown, self.eps = int(cooldown), float(eps)
        self.min_lrs = each_group(min_lr, optimizer, "min_lr", self)
        self.best: float | None = None
        self.cooldown_counter = self.num_bad_epochs = 0
        self.history: list[list[float]] = []
        super().__init__(optimizer)

    def step(self, metrics: Any = None, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take a measurement; without one, only the beginning is noted."""
        if metrics is None and self.last_epoch >= 0:
            raise ArgumentError("ReduceLROnPlateau.step needs the measurement it watches")
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if metrics is not None:
            self._judge(float(metrics))
        self._last_lr = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.history.append(self.get_last_lr())

    def _judge(self, value: float) -> None:
        if self.is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group, low in zip(self.optimizer.param_groups, self.min_lrs, strict=True):
                lower = max(float(group["lr"]) * self.factor, low)
                if group["lr"] - lower > self.eps:
                    group["lr"] = lower
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        sign = 1.0 if self.mode == "min" else -1.0
        relative = self.threshold_mode == "rel"
        margin = self.threshold * (self.best if relative else sign) * (sign if relative else 1.0)
        return value < self.best - margin if self.mode == "min" else value > self.best - margin

    def lr_at(self, t: float, group: int = 0) -> float:
        return self.history[min(int(t), len(self.history) - 1)][group]

    def simulate(self, values: Sequence[float], group: int = 0) -> list[float]:
        """The rates after each of a series of measurements; nothing is changed."""
        rates = [float(g["lr"]) for g in self.optimizer.param_groups]
        kept = {k: list(v) if isinstance(v, list) else v for k, v in vars(self).items()}
        try:
            found = []
            for value in values:
                self.step(value)
                found.append(self.get_last_lr()[group])
        finally:
            vars(self).update(kept)
            for g, rate in zip(self.optimizer.param_groups, rates, strict=True):
                g["lr"] = rate
        return found

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "history": [list(row) for row in state["history"]]})


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": ConstantLR,
    "cosine": CosineAnnealingLR,
    "cosine_restarts": CosineAnnealingWarmRestarts,
    "cyclic": CyclicLR,
    "exponential": ExponentialLR,
    "inverse_sqrt": InverseSquareRootLR,
    "lambda": LambdaLR,
    "linear": LinearLR,
    "multistep": MultiStepLR,
    "noam": NoamLR,
    "onecycle": OneCycleLR,
    "plateau": ReduceLROnPlateau,
    "polynomial": PolynomialLR,
    "step": StepLR,
    "warmup_cosine": WarmupCosineLR,
}


def _cyclic(optimizer: Optimizer, epochs: int, batches: int) -> dict[str, Any]:
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    cycles = bool({"momentum", "betas"} & set(optimizer.defaults))
    half = max(epochs * batches // 8, 1)
    return {"base_lr": [r / 10.0 for r in rates], "max_lr": rates, "step_size_up": half,
            "cycle_momentum": cycles}  # fmt: skip


def _onecycle(optimizer: Optimizer, epochs: int, batches: int) -> dict[str, Any]:
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    cycles = bool({"momentum", "betas"} & set(optimizer.defaults))
    return {"max_lr": rates, "total_steps": epochs * batches, "cycle_momentum": cycles}


# The options a schedule made by name takes for a run, from (optimizer, epochs, batches).
DEFAULTS: dict[str, Callable[[Optimizer, int, int], dict[str, Any]]] = {
    "cosine": lambda o, epochs, batches: {"T_max": epochs * batches, "per": "batch"},
    "cosine_restarts": lambda o, e, b: {"T_0": max(e * b // 7, 1), "T_mult": 2, "per": "batch"},
    "cyclic": _cyclic,
    "exponential": lambda o, epochs, batches: {"gamma": 0.01 ** (1.0 / epochs)},
    "inverse_sqrt": lambda o, e, b: {"warmup_steps": max(e * b // 10, 1)},
    "linear": lambda o, e, b: {"total_iters": max(e * b // 10, 1), "per": "batch"},
    "multistep": lambda o, e, b: {"milestones": [e // 2, e * 3 // 4]},
    "onecycle": _onecycle,
    "polynomial": lambda o, epochs, batches: {"total_iters": epochs * batches, "per": "batch"},
    "step": lambda o, epochs, batches: {"step_size": max(-(-epochs // 3), 1)},
    "warmup_cosine": lambda o, e, b: {"warmup_steps": e * b // 10, "total_steps": e * b},
}

__all__ = [
    "DEFAULTS",
    "SCHEDULES",
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "InverseSquareRootLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "NoamLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "WarmupCosineLR",
]
