"""`treat`: advice is tried before it is given.

Two copies of the run start from the same weights and see the same batches in the same order; one
gets the fix. Whether it helped is read off a score that does not depend on the loss's scale (a
fix may change the loss), on several seeds.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from fathom.doctor.adapters.edits import SCORED
from fathom.doctor.finding import Edit, Finding, Fix
from fathom.doctor.remedies import BEYOND, candidates
from fathom.doctor.rules.bounds import NONNEGATIVE
from fathom.doctor.rules.measures import besides
from fathom.doctor.trial import Course, Trial, better, mean_of, measure_of, stopped
from fathom.engine.errors import ArgumentError

# what an edit may do: every engine's patient knows all of these
ACTIONS = {
    "lr": "multiply the learning rates by value",
    "schedule": "keep the learning rate where it began",
    "optimizer": "train with a new optimizer: value = (name, learning rate)",
    "momentum": "set the momentum to value",
    "clip": "clip the gradient's norm to value before each step",
    "weight_decay": "set the weight decay of all groups to value",
    "zero_grad": "clear the gradients before each backward pass, and only there",
    "step": "take the optimizer's step behind each backward pass",
    "rebuild_optimizer": "give the optimizer all trainable parameters of the model (those of "
    "modules in plain lists, too), and no others",
    "unfreeze": "let the parameters of target (a prefix) get gradients, and train them",
    "connect": "detach(), .data and no_grad() inside the model have no effect",
    "sign": "go down the loss, not up",
    "train_mode": "train in train mode, evaluate in eval mode",
    "initialize": "new weights for target ('' for all layers), by value ('' for the usual ones)",
    "initialize_output": "new weights for the last layer, of a tenth of their size, and a bias at "
    "the base rates",
    "activation": "use value ('relu', 'leaky_relu', 'tanh', 'gelu') in place of target's "
    "activation",
    "insert_activation": "put value ('relu') behind the layer target",
    "insert_normalization": "put a layer normalization behind the layer target ('' hidden ones)",
    "drop_output_activation": "take away what stands between the last layer and the loss",
    "output_activation": "put value ('sigmoid', 'softmax', 'log_softmax') before the loss",
    "loss": "use the loss named value in PyTorch's functional names",
    "classes": "give the last layer a unit for each label, and use cross-entropy",
    "reduction": "reduce the loss by value ('mean')",
    "squeeze": "give output and target of the loss one shape",
    "labels": "number the labels 0, 1, ... in their order",
    "scale_targets": "divide the targets by value, or standardize them where it is None",
    "scale_inputs": "standardize the inputs by feature, with the statistics of the kept batches",
    "finite": "leave out the examples with values that are not finite",
    "batch": "put batches together to value examples or more",
    "dropout": "set the probability of the dropout layer target ('' for all) to value",
    "normalize": "use group normalization in place of the batch normalization target ('' all)",
    "softmax_axis": "let the softmax run over the classes",
    "widen": "more units in the layer target",
    "steps": "train value times as long",
    "stop": "stop where the score on held-out examples is best",
}
POINTS = (0.1, 0.25, 0.5, 0.75, 1.0)  # of a run: where it is scored
# faults that training itself does not suffer from: what is held out tells
UNSEEN = frozenset({
    "overfitting", "train_eval_gap", "batchnorm_few_samples", "dropout_too_strong",
    "eval_mode_in_training", "train_mode_in_evaluation",
})  # fmt: skip
GLANCE = 192  # examples scored on the way; `SCORED` at the end
FEW = 4  # batches: fewer are worth a word
SOME = 16  # examples held out, over all seeds, from which on they are heeded


def treat(
    finding: Finding, watched: Any, *, steps: int = 200, seeds: int = 3, seconds: float = 20.0,
    progress: Callable[[int, int], None] | None = None,
) -> Finding:  # fmt: skip
    """Try a finding's fix on copies of a watched run; the finding with what came out as `trial`.

    Parameters
    ----------
    watched : what `watch` or `examine` gave. steps : that each twin is trained, at most, from the
        weights the run began with. seeds : twins that are trained; each draws its own order of
        batches, its own dropout and which quarter of the examples is held out. seconds : that it
        may take in all, about; fewer steps are made of it where they are slow.
    progress : called with twins done and twins in all, at most.

    The score. A skill is 1 for perfect answers and 0 for the best constant one: likelihood of the
    labels over the entropy of their shares where both twins have losses of that family, 1 less
    squared error over variance for amounts (whatever their scale), accuracy beyond chance where
    the losses are of two kinds, the loss over its start where nothing else is known. A twin's
    score is half its skill at the end and half its mean skill along the way, so that learning
    faster counts; a twin whose numbers are not finite has -1. Faults that training does not suffer
    from (overfitting, modes, few samples for BatchNorm) are scored at the end on held-out examples;
    evaluating in train mode by how far the same examples get the same answers again. Batch
    normalization is scored with the statistics of the batch, but where it is itself in question.

    The rule. A fix has helped if the score is better on each seed, by a tenth of what was missing
    or more on the mean, at least 0.01, and by more than its standard deviation over the seeds
    (twice that, if by less than 0.03); and if the best skill on held-out examples (where there are
    16 or more) is above that of a constant answer and has not become worse. Fitting noise faster
    is no cure. Stopping early is judged on held-out examples alone, where the other seeds' twins
    were best; it takes 16 of them, two seeds, and validation losses (where the run told any) that
    have risen.

    Where the first fix does not help, the rule's alternatives are tried, then `remedies`; where
    none does and there is time, the likeliest of them over more steps. The finding comes back
    with the fix that is proven. The model that was watched, its optimizer and the random numbers
    of the run are not touched.
    """
    start = time.perf_counter()
    fixes = candidates(finding)
    try:
        if not fixes:
            raise ArgumentError(BEYOND.get(finding.kind, "there is no edit of the run that would "
                                           "carry this fix out"))  # fmt: skip
        trials = _Trials(finding.kind, watched, steps, seeds, seconds, progress, len(fixes))
        fix, trial = trials.first_that_helps(fixes)
    except ArgumentError as error:
        fix, trial = finding.fix, Trial((), (), (), (), 0, False, error.message)
    trial = dataclasses.replace(trial, fix=fix.words, seconds=time.perf_counter() - start,
                                left_out=_left_out(watched.adapter))  # fmt: skip
    if trial.helped and fix is not finding.fix:
        others = tuple(f for f in (finding.fix, *finding.fix.alternatives) if f is not fix)
        others = tuple(dataclasses.replace(f, alternatives=()) for f in others)
        fix = dataclasses.replace(fix, alternatives=others)
        return dataclasses.replace(finding, fix=fix, trial=trial)
    return dataclasses.replace(finding, trial=trial)


class _Trials:
    """Twins of one run, trained; those without a fix only once."""

    def __init__(
        self, kind: str, watched: Any, steps: int, seeds: int, seconds: float,
        progress: Callable[[int, int], None] | None, fixes: int,
    ) -> None:  # fmt: skip
        self.kind, self.adapter, self.seeds = kind, watched.adapter, seeds
        self.seconds, self.end = seconds, time.perf_counter() + seconds
        self.last = self.end + max(
            0.5 * seconds, 5.0
        )  # steps may be slower than they were at first
        self._progress, self._done, self._all = progress, 0, seeds * (1 + fixes)
        usage = self.adapter.case.usage
        if self.adapter.case.scheduled or kind == "still_improving":
            steps = min(steps, max(usage.steps, 16))
        self.upwards = _upwards(self.adapter)
        self.most = steps
        self._step, self._scoring = self._speed()
        self.steps = self._affordable(seconds / (seeds * (1 + min(fixes, 3))))
        self._untreated: dict[int, Course] = {}

    def _speed(self) -> tuple[float, float]:
        """Seconds for a step, and for scoring at all points; measured on a few."""
        patient = self._patient(0)
        start = warm = time.perf_counter()
        try:
            patient.train(2)
            warm = time.perf_counter()
            taken, trained = 0, warm
            while not taken or (taken < 8 and trained - warm < 0.02 * self.seconds):
                patient.train(1)
                taken, trained = taken + 1, time.perf_counter()
            _skills(patient, 1.0, False, GLANCE), _skills(patient, 1.0, True, GLANCE)
        except ArgumentError:
            return (time.perf_counter() - start) / 2, 0.0
        scored = time.perf_counter() - trained
        return (trained - warm) / max(taken, 1), scored * (len(POINTS) - 1 + SCORED / GLANCE)

    def _affordable(self, seconds: float) -> int:
        """As many steps as a twin may take."""
        steps = int((0.8 * seconds - self._scoring) / max(self._step, 1e-6))
        return max(min(self.most, steps), 10)

    def _patient(self, seed: int) -> Any:
        patient = self.adapter.patient(seed=seed)
        if self.kind != "train_mode_in_evaluation":
            patient.noisy = False
        patient.compares = self.kind == "train_mode_in_evaluation"
        patient.by_batch = self.kind not in UNSEEN  # running statistics lag behind in short trials
        patient.sign = -1.0 if self.upwards else 1.0
        patient.hold_out(seed % 4)
        return patient

    def first_that_helps(self, fixes: Sequence[Fix]) -> tuple[Fix, Trial]:
        """The first fix that helped, else the first that could be tried, with its trial."""
        tried: list[tuple[Fix, Trial]] = []
        error = ""
        for number, fix in enumerate(fixes, 1):
            if number > 1 and time.perf_counter() > self.end:
                break
            try:
                trial = dataclasses.replace(self.trial(fix), tried=number)
            except ArgumentError as failed:
                error = error or failed.message
                continue
            if trial.helped:
                return fix, trial
            tried.append((fix, trial))
        if not tried:
            raise ArgumentError(error or "there was no time")
        return self._longer(tried) or tried[0]

    def _longer(self, tried: Sequence[tuple[Fix, Trial]]) -> tuple[Fix, Trial] | None:
        """The likeliest fix once more, over as many steps as there is time for, if it helps."""
        left = self.end - time.perf_counter()
        steps = self._affordable(left / (2 * self.seeds))
        if steps < 1.5 * self.steps:
            return None
        self.steps = steps
        self._untreated.clear()
        fix = max(tried, key=lambda t: t[1].after[0] - t[1].before[0])[0]
        again = dataclasses.replace(self.trial(fix), tried=len(tried))
        return (fix, again) if again.helped else None

    def trial(self, fix: Fix) -> Trial:
        """Both twins, seed by seed, as long as the fix may still be one that helps."""
        before: list[Course] = []
        after: list[Course] = []
        measure, stops = "", any(e.action == "stop" for e in fix.edits)
        for seed in range(self.seeds):
            late = seed > 0 and time.perf_counter() > self.end
            if late:
                break
            try:
                untreated = self._without(seed)
                after.append(self._with(fix, seed, untreated))
            except ArgumentError:
                if seed and time.perf_counter() > self.last:
                    break  # what the other seeds say stands
                raise
            before.append(untreated)
            measure = measure or measure_of(before[0], after[0])
            scores = [[self.score(c, measure) for c in twins] for twins in (before, after)]
            if seed == 0 and scores[1][0] <= scores[0][0] and not stops:
                break
        if stops:
            if len(before) < 2 or sum(c.examples for c in before) < SOME:
                raise ArgumentError("there are too few examples to hold some out, on which to tell "
                                    "when to stop")  # fmt: skip
            last = [c.skill(measure, unseen=True)[-1] for c in before]
            after, scores = before, [last, stopped(before, measure)]
        old, new = tuple(scores[0]), tuple(scores[1])
        helped = (
            better(old, new)
            and len(old) >= min(self.seeds, 2)
            and self._real(before, after, measure)
            and (not stops or (mean_of(new) > 0.02 and self._has_risen()))
        )
        unseen = self.kind in UNSEEN
        return Trial(
            old, new, before[0].curve, after[0].curve, self.steps, helped, measure=measure,
            points_before=before[0].skill(measure, unseen),
            points_after=after[0].skill(measure, unseen),
        )  # fmt: skip

    def score(self, course: Course, measure: str) -> float:
        """See `treat`."""
        if self.kind in UNSEEN and course.examples:
            return course.skill(measure, unseen=True)[-1]
        skills = course.skill(measure)
        return 0.5 * skills[-1] + 0.5 * mean_of(skills)

    def _real(self, before: Sequence[Course], after: Sequence[Course], measure: str) -> bool:
        """Whether what was held out agrees."""
        if measure == "loss" or self.kind in UNSEEN or sum(c.examples for c in after) < SOME:
            return True
        old = mean_of([max(c.skill(measure, unseen=True)) for c in before])
        new = mean_of([max(c.skill(measure, unseen=True)) for c in after])
        chance = 0.02
        if measure == "accuracy":
            chance = max(chance, 0.5 * sum(c.examples for c in after) ** -0.5)
        return new > chance and new > old - 0.02

    def _has_risen(self) -> bool:
        """Whether the run's own validation losses say that it went on too long; True: none told."""
        losses = [loss for _, loss in self.adapter.case.validation if math.isfinite(loss)]
        return len(losses) < 3 or losses[-1] > 1.02 * min(losses)

    # -- twins ----------------------------------------------------------------------------

    def _without(self, seed: int) -> Course:
        if seed not in self._untreated:
            self._untreated[seed] = self._run(self._patient(seed), self.steps, math.nan)
        return self._untreated[seed]

    def _with(self, fix: Fix, seed: int, untreated: Course) -> Course:
        if fix.edits[0].action == "stop":
            return untreated
        patient, longer = self._patient(seed), 1
        tried, errors = 0, []
        for edit in fix.edits:
            if edit.action == "steps":
                longer = int(edit.value or 2)
                tried += 1
                continue
            try:
                patient.apply(edit)
                tried += 1
            except ArgumentError as error:
                errors.append(error.message)
        if not tried:
            raise ArgumentError(errors[0])
        start = untreated.fitted[0].get("start", math.nan)
        return self._run(patient, self.steps * longer, start)

    def _run(self, patient: Any, steps: int, start: float) -> Course:
        """Train, and score on the way."""
        if self._progress is not None:
            self._progress(min(self._done, self._all), self._all)
        self._done += 1
        curve: list[float] = []
        points: list[tuple[dict[str, float], dict[str, float]]] = []
        try:
            start = _loss(patient) if math.isnan(start) else start
            for share in POINTS:
                if time.perf_counter() > self.last:
                    raise ArgumentError("there was not time enough")
                curve += patient.train(max(round(share * steps), 1) - len(curve))
                some = GLANCE if share < 1 else SCORED
                points.append((_skills(patient, start, False, some),
                               _skills(patient, start, True, some)))  # fmt: skip
        except ArgumentError as error:
            if self.adapter.case.usage.steps:
                raise
            del error  # the run itself did not come further
        points += [({}, {})] * (len(POINTS) - len(points))
        held = sum(patient.rows(b) or 1 for b in patient.held)
        fitted, unseen = zip(*points, strict=True)
        return Course(fitted, unseen, tuple(curve), patient.function, held)


def _upwards(adapter: Any) -> bool:
    """Whether the loop goes up a loss that cannot be negative: its minus is backpropagated."""
    call = adapter.case.loss
    if call is None or call.function not in NONNEGATIVE or not call.value < -1e-6:
        return False
    try:
        own = float(adapter.patient(seed=0).mean_loss())
    except ArgumentError:
        return False
    return own > 0 and abs(own + call.value) < 0.5 * own


def _left_out(adapter: Any) -> tuple[str, ...]:
    """What the run does besides, and trials do not."""
    case, found, n = adapter.case, [], len(adapter.batches)
    if 0 < n < FEW and case.usage.steps > n:
        found.append(f"all batches but {n} that {'was' if n == 1 else 'were'} kept")
    if besides(case):
        found.append("what the loop adds to the loss")
    if any(call.count > 1 for call in case.losses):
        found.append("further losses of the same step")
    if case.usage.accumulation > 1:
        found.append("accumulation (each batch has a step of its own)")
    return tuple(found)


def _loss(patient: Any) -> float:
    """The loss at the start; nan where an engine's patient does not tell."""
    mean = getattr(patient, "mean_loss", None)
    return float(mean()) if mean is not None else math.nan


def _skills(patient: Any, start: float, held: bool, examples: int = SCORED) -> dict[str, float]:
    """All measures; "start" goes along for the other twin."""
    if held and not patient.held:
        return {}
    found: dict[str, float] = dict(patient.skills(held=held, examples=examples))
    if not found and start > 0:
        lost = float(patient.mean_loss(held=held))
        found["loss"] = 1.0 - lost / start if math.isfinite(lost) else -1.0
    return {**found, "start": start}


__all__ = ["ACTIONS", "Course", "Edit", "Trial", "better", "treat"]
