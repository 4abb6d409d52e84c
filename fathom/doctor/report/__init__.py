"""The doctor's report: one HTML file that opens offline, or JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fathom.doctor.finding import Finding
from fathom.doctor.report import plain
from fathom.train.writing import write_text


def save(watch: Any, path: str | Path, *, title: str = "") -> Path:
    """Write what was found as HTML, or as JSON where the name ends in .json; the path.

    The HTML needs nothing else and asks nothing of anyone; JSON has the loss of every step and
    all sampled statistics as well. Written aside and renamed. Raises `OutputError` where it cannot
    be written.
    """
    place = Path(path)
    if place.suffix.lower() == ".json":
        values = plain.as_dict(watch, series=True)
        return write_text(place, json.dumps(values, allow_nan=False) + "\n", "the report")
    return write_text(place, _render(_page(watch, title)), "the report")


def _page(watch: Any, title: str) -> dict[str, Any]:
    from fathom.doctor.report import figures, heat

    return {
        "title": title or "Fathom doctor",
        "verdict": plain.verdict(watch),
        "headline": plain.headline(watch),
        "tiles": _tiles(watch),
        "findings": [_block(watch, f, i) for i, f in enumerate(watch.findings, 1)],
        "loss": figures.loss_curve(watch),
        "maps": heat.maps(watch.case),
        "marked": _marked(watch),
        "layers": _layers(watch),
        "coverage": watch.coverage,
        "notes": watch.case.notes,
        "held_back": watch.opinion.notes,
        "environment": environment(watch),
    }


def _marked(watch: Any) -> set[str]:
    """Names of the layers and parameters that are at fault."""
    places = [f.where for f in watch.findings if f.severity != "advice"]
    names = [*watch.case.layers, *watch.case.parameters]
    return {n for n in names for p in places if n == p or n.startswith(f"{p}.")}


def _block(watch: Any, finding: Finding, number: int) -> dict[str, Any]:
    from fathom.doctor.report import figures
    from fathom.doctor.rules import RULES

    return {
        "number": number,
        "found": finding,
        "place": plain.place(watch, finding),
        "since": f"step {finding.since_step:,}" if finding.since_step else "before the first step",
        "probability": plain.percent(finding.probability),
        "rule": RULES.get(finding.kind),
        "trial": finding.trial,
        "curves": figures.trial_curves(finding, number),
    }


def _tiles(watch: Any) -> list[tuple[str, str]]:
    case, state = watch.case, watch.opinion.progress
    tiles = [("verdict", plain.verdict(watch))]
    if state is not None and state.steps:
        tiles.append(("loss", f"{state.start:.3g} → {state.now:.3g}" if state.finite
                      else f"{state.start:.3g} → not finite"))  # fmt: skip
        tiles.append(("skill (1 perfect, 0 a constant answer)", plain.skill(state.skill)))
    tiles.append(("steps, sampled", f"{case.usage.steps:,}, {len(case.steps):,}"))
    if not getattr(watch, "how", ""):
        tiles.append(("overhead", plain.overhead(watch)))
    return tiles


def _layers(watch: Any) -> list[dict[str, Any]]:
    """A row for each layer: what it is, and its last statistics."""
    case = watch.case
    skipped = watch.coverage.skipped
    rows = []
    for name, layer in case.layers.items():
        sizes = [case.parameters[p].shape for p in layer.parameters if p in case.parameters]
        seen = [s.layers[name] for s in case.steps if name in s.layers]
        rows.append({
            "name": name or "(model)", "kind": layer.kind, "activation": layer.activation or "",
            "parameters": sum(_product(s) for s in sizes),
            "trained": _trained(case, layer), "watched": skipped.get(name, "yes"),
            "std": (f"{seen[0].std:.3g}", f"{seen[-1].std:.3g}") if seen else ("", ""),
        })  # fmt: skip
    return rows


def _trained(case: Any, layer: Any) -> str:
    own = [case.parameters[p] for p in layer.parameters if p in case.parameters]
    moved = [p for p in own if p.trainable and p.in_optimizer]
    if not own:
        return ""
    return "yes" if len(moved) == len(own) else "no" if not moved else "in part"


def _product(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def environment(watch: Any) -> dict[str, str]:
    """What the result may depend on."""
    import sys

    import numpy

    from fathom.version import __version__

    found = {"engine": watch.case.engine, "Fathom": __version__,
             "Python": platform.python_version(), "NumPy": numpy.__version__}  # fmt: skip
    torch = sys.modules.get("torch")
    if watch.case.engine == "torch" and torch is not None:
        found["PyTorch"] = str(torch.__version__)
    facts = watch.case.optimizer
    if facts is not None:
        found["optimizer"] = f"{facts.kind}, lr {facts.lr:g}"
    call = watch.case.loss
    if call is not None:
        found["loss"] = call.function
    return found | {"seconds": f"{watch.seconds:.2f}", "system": platform.system()}


def _render(page: Mapping[str, Any]) -> str:
    import jinja2

    surroundings = jinja2.Environment(
        loader=jinja2.PackageLoader("fathom.doctor.report", "templates"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return surroundings.get_template("report.html.j2").render(**page)


__all__ = ["environment", "save"]
