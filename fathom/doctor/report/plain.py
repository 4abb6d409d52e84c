"""What was found, in plain text and as plain values: one line when all is well."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from typing import Any

from fathom.doctor.finding import Finding
from fathom.doctor.table import plain

SCHEMA = 1  # of `as_dict`; grows when a key changes its meaning or goes
WIDTH = 100
MILD = "still_improving"  # advice that is no news: it is told in the line of a healthy run


def as_text(watch: Any) -> str:
    """A line about the run, and below it a block for each finding.

    >>> from fathom.doctor.finding import Evidence, Fix
    >>> share = Evidence("share of dead units", 0.93, "at most 0.68")
    >>> found = Finding("dead_units", "warning", 0.9, "fc1", 32, (share,), "They learn no more.",
    ...                 Fix("a smaller learning rate", "optimizer = Adam(params, lr=1e-3)"))
    >>> print(block(found))
    warning: dead_units in fc1, since step 32 (probability 90 %)
      share of dead units: 0.93 (healthy: at most 0.68)
      They learn no more.
      fix: a smaller learning rate
           optimizer = Adam(params, lr=1e-3)
    """
    return "\n".join(wrapped(part, text) for part, text in as_lines(watch))


def as_lines(watch: Any) -> list[tuple[str, str]]:
    """The lines of `as_text`, not wrapped, each with what it is: "headline", "error" (or another
    severity: the head of a finding), "evidence", "why", "fix", "code", "trial", "explains", "note".
    """
    shown = [f for f in watch.findings if f.kind != MILD]
    lines = [("headline", headline(watch))]
    for finding in shown:
        lines += block_lines(finding, place(watch, finding))
    return [*lines, *(("note", f"note: {note}") for note in watch.case.notes)]


def headline(watch: Any) -> str:
    """How the run stands, in one line."""
    facts = [fact for fact in (_course(watch), _watched(watch), _cost(watch)) if fact]
    how = getattr(watch, "how", "")
    return f"{verdict(watch)}{' ' * bool(how)}{how}: {'; '.join(facts)}"


def verdict(watch: Any) -> str:
    """ "no fault found", or how many there are; with "still improving" where it is so."""
    faults = [f for f in watch.findings if f.severity != "advice"]
    if faults:
        return f"{len(faults)} fault{'s' if len(faults) > 1 else ''} found"
    if any(f.kind == MILD for f in watch.findings):
        more = more_steps(watch)
        return "no fault found; still improving" + (f", about {more:,} more steps" if more else "")
    case = watch.case
    if not (case.usage.steps or case.losses or getattr(watch, "how", "")):
        return "nothing was seen to train"
    return "no fault found"


def more_steps(watch: Any) -> int:
    """How many steps a run that is still improving needs, about; 0 if nobody knows."""
    for finding in watch.findings:
        for evidence in finding.evidence if finding.kind == MILD else ():
            if evidence.name.startswith("steps") and isinstance(evidence.value, int | float):
                return round(evidence.value) if math.isfinite(evidence.value) else 0
    return 0


def block(finding: Finding) -> str:
    """A finding in a few lines."""
    return "\n".join(wrapped(part, text) for part, text in block_lines(finding))


def place(watch: Any, finding: Finding) -> str:
    """Where a finding is; of a layer also what kind it is."""
    layer = watch.case.layers.get(finding.where)
    if not finding.where:
        return "the model"
    return f"{finding.where} ({layer.kind})" if layer is not None else finding.where


def block_lines(finding: Finding, where: str = "") -> list[tuple[str, str]]:
    """The lines of a finding, each with what it is; see `as_lines`."""
    head = f"{finding.severity}: {finding.kind} in {where or finding.where or 'the model'}, "
    head += f"since step {finding.since_step:,}" if finding.since_step else "before the first step"
    lines = [(finding.severity, f"{head} (probability {percent(finding.probability)})")]
    lines += [("evidence", f"  {e}") for e in finding.evidence]
    lines.append(("why", f"  {finding.why}"))
    lines.append(("fix", f"  fix: {finding.fix.words}"))
    lines += [("code", f"       {line}") for line in finding.fix.code.splitlines()]
    lines += [("fix", f"  or: {other.words}") for other in finding.fix.alternatives]
    if finding.trial is not None:
        lines.append(("trial", f"  tried: {finding.trial}"))
    if finding.explains:
        lines.append(("explains", f"  explains: {', '.join(finding.explains)}"))
    return lines


def wrapped(part: str, text: str) -> str:
    """A long line in several; code and the headline stay as they are."""
    if part in ("code", "headline") or len(text) <= WIDTH:
        return text
    indent = len(text) - len(text.lstrip())
    return textwrap.fill(text.strip(), WIDTH, initial_indent=" " * indent,
                         subsequent_indent=" " * (indent + 2 * (part != "why")),
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip


def overhead(watch: Any) -> str:
    """What watching took: its share, or in a run of less than a second how much it was."""
    if watch.seconds < 1.0:
        return f"{1e3 * watch.schedule.spent:.0f} ms"
    return percent(watch.overhead)


def percent(share: float) -> str:
    """A share as people write it.

    >>> percent(0.5), percent(0.0123), percent(1.0)
    ('50 %', '1.2 %', '100 %')
    """
    if not math.isfinite(share):
        return "?"
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 9.95 else f"{value:.0f} %"


def _course(watch: Any) -> str:
    """Where the loss came from and went to."""
    state = watch.opinion.progress
    if state is None or not state.steps:
        return ""
    if not state.finite:
        return f"loss {_number(state.start)} -> not finite"
    text = f"loss {_number(state.start)} -> {_number(state.now)}"
    if not math.isfinite(state.base):
        return text
    return f"{text}, skill {skill(state.skill)}"


def skill(value: float) -> str:
    """A skill in two digits.

    >>> skill(0.951), skill(-0.001), skill(-1390979.1)
    ('0.95', '0.00', 'below -1')
    """
    return f"{round(value, 2) + 0.0:.2f}" if value > -1 else "below -1"


def _watched(watch: Any) -> str:
    case = watch.case
    if not case.layers:
        return f"looked at {len(case.parameters):,} arrays"
    taken = max(case.usage.steps, len(case.curve))
    at = f" at {len(case.steps):,} of {taken:,} steps" if taken else ""
    return f"{watch.coverage}{at}"


def _cost(watch: Any) -> str:
    return "" if getattr(watch, "how", "") else f"overhead {overhead(watch)}"


def _number(value: float) -> str:
    size = abs(value)
    return f"{value:.3g}" if size < 0.1 or size >= 1000 else f"{value:.2f}"


# -- values ------------------------------------------------------------------------------------


def as_dict(watch: Any, series: bool = False) -> dict[str, Any]:
    """Everything as values that JSON has; nan and the infinities are strings.

    series : with the loss of every step and the statistics of every sampled one.
    """
    case = watch.case
    found = {
        "schema": SCHEMA,
        "engine": case.engine,
        "verdict": verdict(watch),
        "faults": sum(f.severity != "advice" for f in watch.findings),
        "summary": headline(watch),
        "findings": [finding_dict(f) for f in watch.findings],
        "steps": {"taken": case.usage.steps, "sampled": len(case.steps), "planned": case.planned},
        "progress": _progress(watch),
        "coverage": dataclasses.asdict(watch.coverage),
        "overhead": watch.overhead,
        "seconds": watch.seconds,
        "usage": dataclasses.asdict(case.usage),
        "notes": list(case.notes),
        "held_back": list(watch.opinion.notes),
    }
    if series:
        found["curve"] = list(case.curve)
        found["validation"] = [list(pair) for pair in case.validation]
        found["samples"] = [dataclasses.asdict(step) for step in case.steps]
    values: dict[str, Any] = plain(found)
    return values


def finding_dict(finding: Finding) -> dict[str, Any]:
    """A finding, with its fix's edits and its trial."""
    found = finding.to_dict()
    if finding.trial is not None:
        found["trial"] = plain(dataclasses.asdict(finding.trial))
        found["trial"]["words"] = str(finding.trial)
    return found


def _progress(watch: Any) -> dict[str, Any] | None:
    state = watch.opinion.progress
    if state is None:
        return None
    return {**dataclasses.asdict(state), "learning": state.learning, "falling": state.falling,
            "more_steps": more_steps(watch) or None}  # fmt: skip


__all__ = [
    "SCHEMA", "as_dict", "as_lines", "as_text", "block", "block_lines", "finding_dict", "headline",
    "more_steps", "percent", "place", "skill", "verdict", "wrapped",
]  # fmt: skip
