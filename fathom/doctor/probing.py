"""Active probes: small experiments on copies of a run, which tell its possible faults apart.

Can it learn one batch by heart? Which learning rates make the loss fall? Does it look at its
inputs, does it mix examples, does a line do better, and is there anything to learn at all? They run
on request, or by themselves for an unclear case where that was asked for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.doctor.adapters.scoring import BINARY, CLASSIFYING, MEASURES
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array

Make = Callable[..., Any]  # (seed=0, fresh=True) -> Patient
LOWEST, HIGHEST, RATES = 1e-6, 10.0, 60
STEPS = 200


@dataclass(frozen=True)
class OneBatch:
    """Training on one batch alone. skill : at the end, 1 perfect; start, end : losses."""

    examples: int
    steps: int
    start: float
    end: float
    skill: float

    @property
    def learnt(self) -> bool:
        """Whether the batch was learned by heart, or nearly so."""
        return self.skill >= 0.8 or self.end < 0.2 * self.start


@dataclass(frozen=True)
class RateRange:
    """A learning-rate range test. low, high : the rates with which the loss of one batch falls
    and does not yet rise, a third of the bound above; nan where there are none. now : the run's.
    confidence : share of the repeats that found such a range. spread : decades between them."""

    low: float
    high: float
    now: float
    confidence: float
    spread: float

    @property
    def usable(self) -> bool:
        """Whether there is a usable rate. Where there is none, the rate is not the fault."""
        return self.confidence > 0.5 and self.low < self.high

    def __str__(self) -> str:
        if not self.usable:
            return "no usable learning rate: something else is to be fixed first"
        return f"learning rates of {self.low:.1g} to {self.high:.1g} ({self.confidence:.0%} sure)"


@dataclass(frozen=True)
class InputsIgnored:
    """change : of the outputs where inputs are exchanged among examples, over their size."""

    change: float

    @property
    def ignored(self) -> bool:
        return self.change < 1e-5


@dataclass(frozen=True)
class SampleMixing:
    """change : of an example's output in eval mode where only others change, over its spread."""

    change: float

    @property
    def mixed(self) -> bool:
        return self.change > 1e-3


@dataclass(frozen=True)
class LinearBaseline:
    """Scores on held-out examples, of ridge regression and of the network after its steps."""

    linear: float
    network: float
    measure: str

    @property
    def beaten(self) -> bool:
        """Whether a line does clearly better than the network."""
        return self.linear > max(self.network, 0.0) + 0.15


@dataclass(frozen=True)
class PermutedLabels:
    """Scores on held-out examples after training on the labels as they are, and on labels
    shuffled among the examples."""

    true: float
    permuted: float
    examples: int

    @property
    def signal(self) -> bool:
        """Whether the labels have to do with the inputs as far as the network can tell."""
        return self.true > max(self.permuted, 0.0) + max(0.03, 0.5 * self.examples**-0.5)


def one_batch(make: Make, *, examples: int = 64, steps: int = STEPS) -> OneBatch:
    """Train a copy on one batch. It fails: model, loss or learning rate are at fault; it
    succeeds: it is a matter of data, of generalization or of time."""
    patient = make(seed=0)
    patient.keep(1, examples)
    curve = patient.train(steps)
    skill = _skill(patient.skills())[1]
    return OneBatch(patient.rows(patient.batches[0]), steps, curve[0], curve[-1], skill)


def learning_rate_range(make: Make, *, repeats: int = 3) -> RateRange:
    """Raise the rate from step to step on one batch; see where its loss falls (Smith, 2017)."""
    rates = np.geomspace(LOWEST, HIGHEST, RATES)
    found = []
    now = math.nan
    for seed in range(repeats):
        patient = make(seed=seed)
        now = float(max(g["lr"] for g in patient.optimizer.param_groups))
        curve = np.asarray(patient.losses_at(rates.tolist(), seed % len(patient.batches)))
        bounds = _falling(rates, curve)
        if bounds is not None:
            found.append(bounds)
    if not found:
        return RateRange(math.nan, math.nan, now, 0.0, math.nan)
    low, high = (float(np.exp(np.median(np.log(side)))) for side in zip(*found, strict=True))
    tops = [math.log10(high) for _, high in found]
    return RateRange(low, high / 3, now, len(found) / repeats, max(tops) - min(tops))


def _falling(rates: Array, curve: Array) -> tuple[float, float] | None:
    """The rate from which the loss falls, and the one from which it rises again."""
    kept = np.where(np.isfinite(curve), curve, np.inf)
    start = kept[:4].mean()
    ends = np.flatnonzero(~np.isfinite(kept))
    smooth = kept[: ends[0] if len(ends) else None]
    if len(smooth) < 6 or not math.isfinite(start):
        return None
    best = int(smooth.argmin())
    drop = start - smooth[best]
    if drop < 0.1 * abs(start):
        return None
    first = int(np.flatnonzero(smooth < start - 0.1 * drop)[0])
    above = np.flatnonzero(smooth[best:] > smooth[best] + 0.3 * drop)
    last = best + int(above[0]) if len(above) else min(len(smooth), len(rates) - 1)
    return float(rates[first]), float(rates[last])


def inputs_ignored(make: Make) -> InputsIgnored:
    """Give each example the inputs of another: does the network answer differently?"""
    patient = make(seed=0, fresh=False)
    own = np.asarray(patient.output(), np.float64)
    other = np.asarray(patient.output(lambda x: np.roll(x, 1, axis=0)), np.float64)
    blank = np.asarray(patient.output(np.zeros_like), np.float64)
    size = max(float(np.abs(own).mean()), 1e-12)
    apart = max(float(np.abs(own - other).mean()), float(np.abs(own - blank).mean()))
    return InputsIgnored(apart / size)


def sample_mixing(make: Make) -> SampleMixing:
    """Change all examples of a batch but the first: its answer must stay as it is in eval mode."""
    patient = make(seed=0, fresh=False)
    own = np.asarray(patient.output(), np.float64)
    n = patient.rows(patient.batches[0])
    if n < 2 or len(own) != n:
        raise ArgumentError("examples and answers do not go together one by one")

    def others(x: Array) -> Array:
        changed = np.array(x)
        if len(x) == n:
            changed[1:] = x[:1] if x.dtype.kind in "iub" else 2.0 * x[1:] + x[1:].std()
        return changed

    spread = max(float(own.std()), 1e-3 * float(np.abs(own).mean()), 1e-12)
    first = np.asarray(patient.output(others), np.float64)[0]
    return SampleMixing(float(np.abs(first - own[0]).max()) / spread)


def linear_baseline(make: Make, *, steps: int = STEPS) -> LinearBaseline:
    """Ridge regression on the flattened inputs against the network, on held-out examples."""
    patient = make(seed=0)
    patient.hold_out(0)
    if not patient.held or not patient.rows(patient.held[0]):
        raise ArgumentError("there are too few examples to hold some out")
    x, y = _table(patient, patient.batches)
    held_x, held_y = _table(patient, patient.held)
    classes = patient.function in CLASSIFYING or patient.function in BINARY
    values = np.unique(y)
    if classes:
        y = (y == values).astype(np.float64)
    answer = _ridge(x, y, held_x)
    patient.train(steps)
    found = patient.skills(held=True)
    measure = "accuracy" if classes else "squared error"
    if measure not in found:
        raise ArgumentError("the answers cannot be compared with a line's")
    if classes:
        linear = _above_chance(values[answer.argmax(axis=1)], held_y.ravel())
    else:
        linear = 1.0 - float(((answer - held_y) ** 2).mean() / max(held_y.var(), 1e-12))
    return LinearBaseline(max(linear, -1.0), found[measure], measure)


def _table(patient: Any, batches: Iterable[Any]) -> tuple[Array, Array]:
    """Inputs and targets as rows of numbers."""
    xs, ys = [], []
    for inputs, target in batches:
        x, y = patient.plain(inputs[0]), patient.plain(target)
        if len(x) != len(y) or x.dtype.kind not in "fu" or y.ndim > 2:
            raise ArgumentError("inputs and targets are no rows of numbers")
        xs.append(x.reshape(len(x), -1).astype(np.float64))
        ys.append(y.reshape(len(y), -1).astype(np.float64))
    return np.concatenate(xs), np.concatenate(ys)


def _ridge(x: Array, y: Array, new: Array) -> Array:
    """Answers of ridge regression on standardized inputs, by the kernel where rows are fewer."""
    mean, std = x.mean(axis=0), x.std(axis=0)
    std = np.where(std > 1e-9, std, 1.0)
    x, new = (x - mean) / std, (new - mean) / std
    centre = y.mean(axis=0)
    strength = 1e-2 * len(x) * max(1.0, x.shape[1] / len(x))
    if x.shape[1] <= len(x):
        weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ (y - centre))
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + strength * np.eye(len(x)), y - centre)
    found: Array = new @ weights + centre
    return found


def _above_chance(said: Array, true: Array) -> float:
    _, counts = np.unique(true, return_counts=True)
    chance = counts.max() / counts.sum()
    return float(((said == true).mean() - chance) / max(1.0 - chance, 1e-9))


def permuted_labels(make: Make, *, steps: int = STEPS, seeds: int = 3) -> PermutedLabels:
    """Train on the labels, and on the same labels shuffled: where held-out examples fare alike,
    the labels have nothing to do with the inputs (Zhang et al., 2017)."""
    scores: dict[bool, list[float]] = {False: [], True: []}
    examples = 0
    for seed in range(seeds):
        for shuffled in (False, True):
            patient = make(seed=seed)
            patient.hold_out(seed % 4)
            if not patient.held:
                raise ArgumentError("there are too few examples to hold some out")
            if shuffled:
                patient.permute_targets()
            best = -1.0
            for _ in range(4):
                patient.train(steps // 4)
                best = max(best, _skill(patient.skills(held=True))[1])
            scores[shuffled].append(best)
        examples += sum(patient.rows(b) or 1 for b in patient.held)
    return PermutedLabels(float(np.mean(scores[False])), float(np.mean(scores[True])), examples)


def _skill(found: dict[str, float]) -> tuple[str, float]:
    """The finest measure there is."""
    for measure in MEASURES:
        if measure in found:
            return measure, found[measure]
    raise ArgumentError("the answers cannot be scored: the task is not known")


PROBES: dict[str, Callable[[Make], Any]] = {
    "inputs_ignored": inputs_ignored, "sample_mixing": sample_mixing, "one_batch": one_batch,
    "learning_rate_range": learning_rate_range, "linear_baseline": linear_baseline,
    "permuted_labels": permuted_labels,
}  # fmt: skip


def probe(
    watch: Any, names: Iterable[str] | None = None, *, seconds: float = 20.0
) -> dict[str, Any]:
    """Run probes on copies of a watched run; the results by name, kept in `case.probes`, too.

    Parameters
    ----------
    watch : what `watch` or `examine` gave. names : of `PROBES`; all of them if not given.
    seconds : after which no further probe begins.

    A probe that cannot be made on this run is noted in `case.notes`, with the reason. Rules read
    what came out, and the opinion is formed anew. The run is not touched. Raises `ArgumentError`
    for a name that there is no probe of.
    """
    chosen = list(PROBES) if names is None else list(names)
    unknown = [n for n in chosen if n not in PROBES]
    if unknown:
        raise ArgumentError(f"no probe {unknown[0]!r}", fix=f"one of {', '.join(PROBES)}")
    start = time.perf_counter()
    found: dict[str, Any] = {}
    notes: list[str] = []
    for name in chosen:
        if time.perf_counter() - start > seconds:
            notes.append(f"probe {name}: no time left")
            continue
        try:
            with np.errstate(all="ignore"):
                found[name] = PROBES[name](watch.adapter.patient)
        except (ArgumentError, ArithmeticError, np.linalg.LinAlgError) as error:
            notes.append(f"probe {name}: {getattr(error, 'message', error)}")
    watch.case.probes.update(found)
    watch.reconsider()
    watch.case.notes.extend(notes)
    return found


__all__ = [
    "PROBES", "InputsIgnored", "LinearBaseline", "OneBatch", "PermutedLabels", "RateRange",
    "SampleMixing", "inputs_ignored", "learning_rate_range", "linear_baseline", "one_batch",
    "permuted_labels", "probe", "sample_mixing",
]  # fmt: skip
