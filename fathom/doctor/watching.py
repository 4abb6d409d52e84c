"""`watch`: follow a training loop, Fathom's or PyTorch's, and say what is wrong with it.

A `Watch` listens to an engine's adapter, keeps its `Case`, and asks the rules when it is time: at
the first loss (contracts), after steps 1, 3, 8, 16, 32, ... (symptoms), as soon as the loop does
something odd, and at the end.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from fathom.doctor import rules
from fathom.doctor.adapters import adapter_for
from fathom.doctor.case import Case, LossCall, Step
from fathom.doctor.finding import Finding
from fathom.doctor.reasoning import Opinion, reason, worth_asking
from fathom.doctor.schedule import Schedule, clock

CALLS = 8  # calls of the loss that are kept whole
FEW = 4  # times something odd in the loop is looked at on its own


class Watch:
    """A run that is watched; made by `watch`.

    Attributes
    ----------
    findings : at most three causes, likeliest first; empty while all is well.
    case : everything that was seen. coverage : which modules are watched, and why others are not.
    overhead : share of the run's time that watching took.
    """

    def __init__(
        self, adapter: Any, schedule: Schedule, *, planned: int | None = None,
        file: TextIO | None = None, report: str | Path | None = None,
        stop: Callable[[Finding], Any] | None = None, probes: bool = False,
    ) -> None:  # fmt: skip
        self.adapter, self.schedule = adapter, schedule
        self.case: Case = adapter.case
        self.case.planned = planned
        self.opinion = Opinion()
        self.seconds = 0.0  # of processor time, or on the clock, that the run took
        self.raised: Exception | None = None  # by `on_finding`, to stop the run
        self._file, self._report, self._tell = file, report, stop
        self._probes = probes
        self.told: dict[str, int] = {}  # kind -> steps taken when it was first a finding
        self._told: set[str] = set()
        self._off: dict[str, str] = {}
        self._decide_at = 1
        self._odd: tuple[int, ...] = ()

    # -- the run ------------------------------------------------------------------------------

    def __enter__(self) -> Watch:
        self.schedule.begin()
        start = clock()
        try:
            self.adapter.open(self)
        except BaseException:
            self.adapter.close()
            raise
        self.schedule.spent += clock() - start
        self._odd = self._oddities()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        start = clock()
        self.adapter.close()
        self.case.ended = True
        self._safely(self._decide)
        self._safely(self._tell_grave)
        self.schedule.decided(clock() - start)
        self.seconds = self.schedule.elapsed
        if self._probes and self.unclear:
            self._safely(self._probe)
        self._safely(self._say)

    def _say(self) -> None:
        if self._file is not None:
            print(self, file=self._file)
        if self._report is not None:
            try:
                self.save(self._report)
            except Exception as error:
                warnings.warn(f"the doctor's report was not written: {error}", stacklevel=4)
                raise

    def due(self, step: int) -> bool:
        return self.schedule.due(step)

    def took(self, seconds: float) -> None:
        self.schedule.took(seconds)

    def loss_called(self, call: LossCall) -> None:
        kept = self.case.losses
        kept.append(call)
        if len(kept) > CALLS:
            del kept[CALLS // 2]  # the first ones and the latest
        waiting = not self.case.usage.steps and self.case.usage.backwards in (4, 16, 64)
        if len(kept) == 1 or waiting:  # for a step that does not come
            self.decide()

    def stepped(self, step: int, sample: Step | None) -> None:
        if sample is not None:
            self.case.steps.append(sample)
        odd, taken = self._oddities(), step + 1
        if odd != self._odd:
            self._odd = odd
            self.decide()
        elif taken >= self._decide_at and (sample is not None or taken <= 8):
            if taken <= 8 or self.schedule.affords(self.schedule.decision):
                self._decide_at = _next_decision(taken)
                self.decide()

    def _oddities(self) -> tuple[int, ...]:
        """What a fault of the loop changes, and hardly anything else."""
        case, usage = self.case, self.case.usage
        return (
            min(len(usage.stale_steps), FEW), min(len(usage.empty_steps), FEW),
            min(len(usage.eval_steps), FEW), min(len(usage.noisy_evaluations), FEW),
            bool(case.bad_at), min(usage.broken, FEW), min(usage.high // FEW, 2),
            case.detached, len(case.unregistered),
        )  # fmt: skip

    def validation(self, loss: float) -> None:
        """Tell the loss on data that is not trained on, measured now."""
        self.case.validation.append((self.case.usage.steps, float(loss)))

    # -- what it says -------------------------------------------------------------------------

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.opinion.findings

    @property
    def unclear(self) -> bool:
        """Whether it does not learn, and no cause is known."""
        state = self.opinion.progress
        causes = [f for f in self.findings if f.kind != "not_learning" and f.severity != "advice"]
        return not causes and state is not None and state.steps > 0 and not state.learning

    @property
    def coverage(self) -> Any:
        return self.case.coverage

    @property
    def overhead(self) -> float:
        return self.schedule.spent / self.seconds if self.seconds else self.schedule.share

    def treat(self, finding: Finding | int = 0, **options: Any) -> Finding:
        """Try a finding's fix on copies of the run; the finding with its `trial`."""
        from fathom.doctor.treatment import treat

        chosen = self.findings[finding] if isinstance(finding, int) else finding
        treated = treat(chosen, self, **options)
        self.opinion = self.opinion.replaced(chosen, treated)
        return treated

    def probe(self, *names: str, seconds: float = 20.0) -> dict[str, Any]:
        """Run active probes on copies of the run; see `probing.probe`."""
        from fathom.doctor.probing import probe

        return probe(self, names or None, seconds=seconds)

    def _probe(self) -> None:
        self.probe()

    def reconsider(self) -> None:
        """Form the opinion anew, from all that is known by now."""
        self._safely(self._decide)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        from fathom.doctor.report.plain import as_dict

        return as_dict(self)

    def save(self, path: str | Path) -> None:
        """Write the HTML report, or JSON where the name ends in .json."""
        from fathom.doctor.report import save

        save(self, path)

    def __str__(self) -> str:
        from fathom.doctor.report.plain import as_text

        return as_text(self)

    # -- inside -------------------------------------------------------------------------------

    def decide(self) -> None:
        """Ask the rules now, and tell at once what is gravely wrong."""
        start = clock()
        self._safely(self._decide)
        self.schedule.decided(clock() - start)
        self._tell_grave()

    def _decide(self) -> None:
        """Form an opinion."""
        self.case.curve.extend(self.adapter.losses())
        hits = rules.run(worth_asking(self.case), self.case, self._off)
        for name, why in self._off.items():
            if (note := f"rule {name} is off: {why}") not in self.case.notes:
                self.case.notes.append(note)
        self.opinion = reason(self.case, hits)
        for finding in self.findings:
            self.told.setdefault(finding.kind, self.case.usage.steps)

    def _tell_grave(self) -> None:
        """Hand new grave findings over; what the user's function raises is meant."""
        for finding in self.findings:
            if finding.severity == "error" and finding.kind not in self._told:
                self._told.add(finding.kind)
                if self._tell is not None:
                    try:
                        self._tell(finding)
                    except Exception as error:
                        self.raised = error
                        raise

    def _safely(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # a watcher never stops what it watches
            self.case.notes.append(f"the doctor failed: {type(error).__name__}: {error}")


def _next_decision(taken: int) -> int:
    """Steps taken after which to decide next: 3, 8, 16, 32, ..., 256, then a quarter more."""
    if taken < 8:
        return 3 if taken < 3 else 8
    return 1 << taken.bit_length() if taken < 256 else taken + max(256, taken // 4)


def watch(
    model: Any, optimizer: Any = None, loss_fn: Any = None, *, planned_steps: int | None = None,
    every: int = 64, budget: float = 0.01, quiet: bool = False, report: str | Path | None = None,
    on_finding: Callable[[Finding], Any] | None = None, probes: str = "",
) -> Watch:  # fmt: skip
    """Watch the training loop inside a block; afterwards say what is wrong, or that all is well.

    Parameters
    ----------
    model : a `fathom.nn.Module` or a `torch.nn.Module`. optimizer : the one that trains it; a list
        of several that do so side by side, or in turns.
    loss_fn : the loss, a module or function; where it is not given, calls of the library's own
        losses are seen nevertheless.
    planned_steps : optimizer steps the run will take, if known; helps to tell "too slow".
    every, budget : sample steps 0, 1, 2, 4, ..., `every`, then each `every`-th, and more rarely
        where that costs more than this share of the time.
    quiet : print nothing at the end. report : where an HTML report is to be written.
    on_finding : called with each grave finding as soon as there is one; to stop a run, raise.
    probes : "auto" to run the active probes at the end, on copies, where a run does not learn and
        no cause is known; see `probing.probe`.

    Nothing of the run is changed: weights, modes, gradients and random numbers are, bit for bit,
    those of a run that nobody watches, and all hooks are gone behind the block.

    >>> import fathom
    >>> from fathom import doctor, nn
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), nn.Softmax(1))
    >>> optimizer, loss_fn = fathom.optim.Adam(model.parameters(), 0.01), nn.CrossEntropyLoss()
    >>> with doctor.watch(model, optimizer, loss_fn, quiet=True) as seen:
    ...     for _ in range(30):
    ...         optimizer.zero_grad()
    ...         loss_fn(model(fathom.tensor(data.x)), fathom.tensor(data.y)).backward()
    ...         optimizer.step()
    >>> seen.findings[0].kind
    'softmax_before_cross_entropy'
    """
    adapter = adapter_for(model, optimizer, loss_fn)
    file = None if quiet else sys.stderr
    return Watch(adapter, Schedule(every, budget), planned=planned_steps, file=file,
                 report=report, stop=on_finding, probes=probes == "auto")  # fmt: skip


__all__ = ["Watch", "watch"]
