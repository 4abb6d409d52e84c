"""How far a run has come: skill against the best constant answer, and whether it still learns.

The gate of the symptom rules: a symptom of a run that fits well is no fault. Saturated outputs,
dead units and small gradients are what a run that has come to its end looks like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fathom.doctor.baselines import baseline, lower_bound
from fathom.doctor.case import NAN, Case, LossCall
from fathom.engine.tensor import Array

BLOCKS = 16  # means of parts of the last half, through which the trend is laid
STATES = ("broken", "worse", "stuck", "plateau", "slow", "young", "learning", "done", "unknown")
FEW = 32  # steps before which a run is young
WAVERING = 0.25  # how far that factor may waver where a step's loss is a mean over its batches
EXACT = 1e-3  # and where it is of one batch: more is a term that was added
BLOWN = 100.0  # times its start: even a loss without a known scale has gone wrong then


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    base : loss of the best constant answer; nan where the task is not known. floor : the least
    the loss can be. start, now, best : smoothed losses. skill : (base - now) / (base - floor), or
    the share by which the loss fell where there is no base. slope : of the loss over its mean, a
    step, over the last half, with its standard error. drop : how much of base - floor it fell over
    the last half. noise : standard error of `now`. finite : no loss was nan or infinite. warming :
    the learning rate has only risen so far. known : whether base is that of this very loss.
    factor : of the curve over the loss as it was called (accumulation divides it). signed : the
    scale is not known, and losses had both signs, as those of policy gradients have.
    """

    base: float
    floor: float
    start: float
    now: float
    best: float
    skill: float
    slope: float
    slope_error: float
    finite: bool
    steps: int
    drop: float = 0.0
    noise: float = 0.0
    warming: bool = False
    known: bool = True
    factor: float = 1.0
    signed: bool = False

    @property
    def falling(self) -> bool:
        """Whether it still falls: by more than chance (one-sided t, p < 0.05), and to be seen."""
        return self.slope < -1.76 * self.slope_error and self.drop > 0.005

    @property
    def rising(self) -> bool:
        """Whether it rose clearly above its best, and not only for a moment near its end."""
        room = max(self.best - self.floor, 0.1 * self.room, 1e-12)
        return self.now - self.best > 0.3 * room + 4 * self.noise and self.skill < 0.75

    @property
    def room(self) -> float:
        """What there is to win: base - floor, or start - floor without a base."""
        top = self.base if math.isfinite(self.base) else self.start
        return max(top - self.floor, 0.0) if math.isfinite(top) else NAN

    @property
    def state(self) -> str:
        """One of `STATES`.

        broken : not finite. worse : rose above its best. stuck : no better than a constant.
        plateau : better, and falls no more. slow : falls, less than half of the way done. young :
        too few steps to tell. unknown : a loss whose scale is not known.
        """
        if not self.finite:
            return "broken"
        if not self.known:
            blown = self.start > 0 and self.now > BLOWN * self.start and self.now > self.best
            return "worse" if blown else "unknown"
        if self.skill >= 0.9:
            return "done"
        if self.rising:
            return "worse"
        if self.steps < FEW:
            return "young" if self.falling or self.skill > 0.1 else "stuck"
        if not self.falling:
            return "stuck" if self.skill < 0.1 else "plateau"
        return "slow" if self.skill < 0.5 else "learning"

    @property
    def learning(self) -> bool:
        """Whether all is well as far as the loss can tell."""
        if self.state == "unknown":
            return self.falling or self._fell
        return self.state in ("learning", "done") or (
            self.state in ("slow", "young") and self.skill >= 0.1
        )

    @property
    def _fell(self) -> bool:
        """Whether a loss of unknown scale came down by a tenth, and by more than chance; where it
        has had both signs, to well below 0."""
        top = 0.0 if self.signed else self.start
        return self.now < top - max(0.1 * abs(self.start), 4 * self.noise)

    @property
    def doubtful(self) -> bool:
        """Whether only strong evidence should count: neither stuck nor well on its way."""
        if self.state == "unknown":
            return not self.learning
        early = self.state == "stuck" and self.steps < FEW
        return (
            early
            or self.state in ("plateau", "slow")
            or (self.state == "young" and not self.learning)
        )


def progress(case: Case) -> Progress:
    """Where a run stands after what has been seen of it; worked out once for each state of it.

    >>> from fathom.doctor.case import Case, LossCall
    >>> call = LossCall(0, "mse_loss", np.zeros((4, 1)), np.array([[-1.0], [1.0], [1.0], [3.0]]), 2)
    >>> progress(Case(losses=[call], curve=[2.0 * 0.95**i for i in range(40)])).state
    'learning'
    >>> progress(Case(losses=[call], curve=[2.0] * 80)).state
    'stuck'
    """
    key = (len(case.curve), len(case.steps), len(case.losses), case.ended)
    if case.remembered.get("progress", (None,))[0] != key:
        case.remembered["progress"] = (key, _progress(case))
    found: Progress = case.remembered["progress"][1]
    return found


def _progress(case: Case) -> Progress:
    curve = case.course()
    known = curve[np.isfinite(curve)]
    base, floor, factor, scaled = _scale(case)
    finite = not _broken(case, curve)
    if not len(known):
        return Progress(base, floor, NAN, NAN, NAN, 0.0, 0.0, 0.0, finite, 0, known=scaled,
                        factor=factor)  # fmt: skip
    smooth = smoothed(known)
    start, now = float(known[:3].mean()), float(smooth[-1])
    best = float(smooth[min(3, len(smooth) - 1) :].min())
    reference = base if math.isfinite(base) and base > floor else start
    room = reference - floor
    skill = (reference - now) / room if room > 1e-12 else 0.0
    slope, error = trend(known)
    if _at_rest(case):
        slope = 0.0  # whatever falls does so by chance
    drop = -slope * abs(now) * (len(known) / 2) / room if room > 1e-12 else 0.0
    return Progress(base, floor, start, now, best, skill, slope, error, finite, len(known),
                    drop, _noise(known), _warming(case), scaled, factor,
                    not scaled and bool(known.min() < 0 < known.max()))  # fmt: skip


def _scale(case: Case) -> tuple[float, float, float, bool]:
    """(base, floor, factor, whether they are those of the loss that the curve shows)."""
    call = case.loss
    if call is None:
        return NAN, 0.0, 1.0, False
    key = (len(case.losses), id(case.losses[0]), case.ended)
    if case.remembered.get("scale", (None,))[0] != key:
        base = NAN if _drifting(case) else baseline(case, call)
        case.remembered["scale"] = (key, base, lower_bound(call))
    _, base, floor = case.remembered["scale"]
    factor = _factor(case)
    if rooted(case):
        factor, base, floor = math.sqrt(_factor(case, 2)), math.sqrt(base), math.sqrt(floor)
    if call.count > 1 or math.isnan(factor):
        return base, floor, 1.0, False
    known = math.isfinite(base) and base - floor > 1e-6 * max(abs(base), 1e-6)
    known = known and _as_written(call)
    rows = sum(len(c.target) for c in case.losses if c.target is not None and c.target.ndim)
    base, floor = factor * base, factor * floor
    if known and rows < 24 and case.curve:  # too few targets to know what is usual among them
        base = max(base, float(np.nanmedian(case.curve[:8])))
    return base, floor, factor, known


def _as_written(call: LossCall) -> bool:
    """Whether a loss read off the graph is the mean it was taken for: not a sum over features."""
    whole = call.target is not None and call.shapes[:1] == (call.output.shape,)
    if call.function not in ("mse_loss", "l1_loss") or not whole or call.target is None:
        return True
    if call.target.shape != call.output.shape or call.options.get("reduction", "mean") != "mean":
        return True
    apart = np.abs(call.output.astype(np.float64) - call.target)
    own = float((apart**2 if call.function == "mse_loss" else apart).mean())
    return not own > 0 or 0.25 < call.value / own < 4.0


def _drifting(case: Case) -> bool:
    """Whether real targets move away from where they began, as those of a value function do."""
    kept = [np.asarray(c.target) for c in case.losses if c.target is not None]
    if len(kept) < 4 or not np.issubdtype(kept[0].dtype, np.floating) or len(kept[0]) < 8:
        return False
    first, last = kept[0], kept[-1]
    apart = abs(float(first.mean()) - float(last.mean()))
    return apart > max(float(first.std()), float(last.std()), 1e-12)


def rooted(case: Case) -> bool:
    """Whether what is backpropagated is the root of the loss that was seen, as in RMSE."""
    if case.loss is None or case.loss.function != "mse_loss":
        return False
    plain, squared = _factor(case), _factor(case, 2)
    very = abs(squared - 1.0) < EXACT < abs(plain - 1.0)  # a loss that stands still fits both
    return very or (math.isnan(plain) and not math.isnan(squared))


def as_called(case: Case, value: float) -> float:
    """What would be backpropagated of a loss of this value."""
    return progress(case).factor * (math.sqrt(max(value, 0.0)) if rooted(case) else value)


def _factor(case: Case, power: int = 1) -> float:
    """What was backpropagated (to a power) over the loss that was seen: accumulation divides it, a
    weight multiplies it. nan where further terms change it from step to step."""
    seen = [
        call for call in case.losses
        if call.step < len(case.curve) and math.isfinite(case.curve[call.step])
        and math.isfinite(call.value) and abs(call.value) > 1e-9
    ]  # fmt: skip
    factors = [case.curve[call.step] ** power / call.value for call in seen]
    if not factors:
        return 1.0
    middle = float(np.median(factors))
    if middle <= 0 or (power > 1 and min(case.curve[call.step] for call in seen) < 0):
        return NAN
    apart = float(np.median(np.abs(np.asarray(factors) / middle - 1.0)))
    return middle if apart < (WAVERING if case.usage.accumulation > 1 else EXACT) else NAN


def _broken(case: Case, curve: Array) -> bool:
    """Whether a loss was not finite, and the last ones are not sound again."""
    if len(curve) >= 8 and np.isfinite(curve[-8:]).all():
        return False  # it came through
    sampled = bool(case.steps) and not math.isfinite(case.steps[-1].loss)
    return sampled or bool(case.bad_at) or bool(np.isinf(curve).any())


def _at_rest(case: Case) -> bool:
    """Whether no step that was sampled has moved a parameter."""
    moves = [p.update for s in case.steps for p in s.parameters.values() if p.update == p.update]
    return len(case.steps) > 2 and bool(moves) and max(moves) == 0.0


def _warming(case: Case) -> bool:
    rates = np.asarray(case.rates or [s.lr for s in case.steps])
    rates = rates[np.isfinite(rates)]
    if len(rates) < 3 or not np.any(np.diff(rates)):
        return False
    return bool(rates[-1] > rates[-2] and (np.diff(rates) >= 0).all())


def smoothed(curve: Array) -> Array:
    """Mean over the last values: about an eighth of the run, 4 to 32 steps."""
    n = len(curve)
    span = _span(n)
    total: Array = np.convolve(curve, np.ones(span))[:n]  # no running sum: losses may be huge
    return total / np.minimum(np.arange(1, n + 1), span)


def _span(n: int) -> int:
    return min(max(n // 8, 4), 32)


def _noise(curve: Array) -> float:
    """Standard error of the smoothed loss, from differences of neighbours."""
    last = curve[-64:]
    if len(last) < 4:
        return 0.0
    jump = float(np.median(np.abs(np.diff(last))))  # of a normal: 0.954 standard deviations
    return jump / 0.954 / math.sqrt(_span(len(curve)))


def trend(curve: Array) -> tuple[float, float]:
    """Slope a step over the last half, over its mean, and the standard error (of block means)."""
    last = curve[-max(len(curve) // 2, 8) :]
    if len(last) < 8:
        return 0.0, math.inf
    blocks = min(len(last) // 2, BLOCKS)
    edges = np.linspace(0, len(last), blocks + 1).astype(np.intp)
    means = np.add.reduceat(last, edges[:-1]) / np.diff(edges)
    y = means / max(abs(float(means.mean())), 1e-12)
    x = (np.arange(blocks) - (blocks - 1) / 2) * (len(last) / blocks)
    square = float((x * x).sum())
    slope = float((x * y).sum()) / square
    residual = y - y.mean() - slope * x
    error = math.sqrt(float((residual**2).sum()) / max(blocks - 2, 1) / square)
    return slope, error


__all__ = ["STATES", "Progress", "as_called", "baseline", "lower_bound", "progress", "rooted",
           "smoothed", "trend"]  # fmt: skip
