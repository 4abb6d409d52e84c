"""The report's curves: the loss with the moments marked, and twins with and without the fix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.doctor.finding import Finding
from fathom.doctor.progress import smoothed
from fathom.engine.tensor import Array
from fathom.train import _figures as figures
from fathom.train.pictures import BLUE, ORANGE

POINTS = 2000  # of a curve that are drawn
RED = "#d0473d"


def loss_curve(watch: Any) -> dict[str, Any] | None:
    """The loss of every step, its running mean, validation, and when each finding began."""
    curve = np.asarray(watch.case.curve, np.float64)
    known = np.flatnonzero(np.isfinite(curve))
    if not len(known):
        return None
    state = watch.opinion.progress
    base = state.base if state is not None else math.nan
    with figures._style():
        figure, axes = figures._figure(5.6, 3.8)
        mean = smoothed(curve[known])
        keep = _thin(len(known))
        axes.plot(known[keep], curve[known][keep], "-", color=BLUE, lw=0.8, alpha=0.45)
        marker = "o" if len(known) < 3 else ""
        axes.plot(known[keep], mean[keep], "-", color=BLUE, lw=2, marker=marker,
                  label="training loss, smoothed")  # fmt: skip
        if watch.case.validation:
            steps, losses = zip(*watch.case.validation, strict=True)
            if np.isfinite(losses).any():
                axes.plot(steps, losses, "--o", color=ORANGE, lw=2, ms=4, label="validation loss")
        if math.isfinite(base):
            axes.axhline(base, color=figures.INK, ls=":", lw=1, label="best constant answer")
        _mark(axes, watch.findings)
        if known[-1] < len(curve) - 1:
            axes.axvspan(known[-1] + 0.5, len(curve), color=RED, alpha=0.15, lw=0,
                         label="not finite")  # fmt: skip
        axes.set_xlim(-0.02 * len(curve), max(1.02 * len(curve), 1))
        _log_axis(axes, curve[known])
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        figure.legend(loc="outside lower left", ncols=2, fontsize=10)
        svg = figures.inline(figure, "loss")
    return {"svg": svg, "alt": _alt(curve[known], watch.findings)}


def _mark(axes: Any, findings: Sequence[Finding]) -> None:
    """A line at the step since which something is wrong."""
    for number, finding in enumerate(findings, 1):
        if finding.severity != "advice":
            axes.axvline(finding.since_step, color=RED, lw=1.5, ls="-" if number == 1 else "-.",
                         label=f"{number}. {finding.kind}, step {finding.since_step}")  # fmt: skip


def _alt(curve: Array, findings: Sequence[Finding]) -> str:
    moments = "".join(f" {f.kind} since step {f.since_step}." for f in findings
                      if f.severity != "advice")  # fmt: skip
    return f"Loss over {len(curve)} steps, from {curve[0]:.4g} to {curve[-1]:.4g}.{moments}"


def trial_curves(finding: Finding, number: int) -> dict[str, Any] | None:
    """The loss of the twin as it was, and of the one with the fix."""
    trial = finding.trial
    if trial is None or not trial.curve_before or not trial.curve_after:
        return None
    before, after = (np.asarray(c, np.float64) for c in (trial.curve_before, trial.curve_after))
    with figures._style():
        figure, axes = figures._figure(5.6, 3.2)
        for values, colour, dash, label in (
            (before, ORANGE, "--", "as it was"), (after, BLUE, "-", "with the fix"),
        ):  # fmt: skip
            axes.plot(np.arange(len(values)), values, dash, color=colour, lw=1.8, label=label)
        _log_axis(axes, np.concatenate([before, after]))
        axes.set_xlabel("step of the trial")
        axes.set_ylabel("loss")
        axes.legend()
        svg = figures.inline(figure, f"trial{number}")
    alt = f"Loss in the trial: as it was {_ends(before)}, with the fix {_ends(after)}."
    return {"svg": svg, "alt": alt}


def _ends(curve: Array) -> str:
    return f"from {curve[0]:.4g} to {curve[-1]:.4g}"


def _thin(count: int) -> Array:
    """Places of at most `POINTS` of so many points."""
    return np.unique(np.round(np.linspace(0, count - 1, min(count, POINTS))).astype(int))


def _log_axis(axes: Any, values: Array) -> None:
    """A log scale where the values are positive and far apart."""
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 4 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(figures._plain_numbers())
        axes.yaxis.set_minor_formatter(figures._plain_numbers(minor=True))


__all__ = ["loss_curve", "trial_curves"]
