"""The report of `compiled.py` as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIRST = ("fathom", "torch.compile", "jax")  # asked for the time to the first result
MEMORY = ("fathom", "torch", "jax")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]


def ratio_text(result: Mapping[str, Any], name: str) -> str:
    """How many times as long as Fathom it takes; `<` and the target where that is not reached."""
    found = result.get("ratio", {}).get(name)
    if found is None:
        return "-"
    target = result["targets"].get(name)
    short = f" <{target:g}" if target is not None and found["median"] < target else ""
    return f"{found['median']:.2f} ({found['low']:.2f}-{found['high']:.2f}){short}"


def table(report: Mapping[str, Any]) -> str:
    return "\n".join([*head(report), *steps(report), *firsts(report), *bytes_of(report),
                      *notes(report)])  # fmt: skip


def head(report: Mapping[str, Any]) -> list[str]:
    place, found = report["machine"], report["limits"]
    about = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    load = "" if place["load"] is None else f", load {place['load']:.1f} before the run"
    lines = [f"{place['cpu']}, {place['cores']} cores, {place['threads']} threads{load}; {about}"]
    if found:
        lines.append(
            f"limits: {found['peak_gflops']:.0f} GFLOP/s in registers (one thread), "
            f"{found['sgemm_gflops']:.0f} in a large product, "
            f"a copy moves {found['copy_gbytes']:.1f} GB/s (read and written)"
        )
    return lines


def steps(report: Mapping[str, Any]) -> list[str]:
    """Times, ratios to the first library, and the times of the least that is possible."""
    if not report["results"]:
        return []
    names = report["libraries"]
    others = [name for name in names[1:] if name != "copy"]
    rows = [["", *(f"{n} us" for n in names), *(f"{n}/{names[0]}" for n in others), "x limit"]]
    for result in report["results"]:
        times, limit = result["microseconds"], result.get("limit")
        rows.append(
            [
                result["case"],
                *(f"{times[n]:.1f}" if n in times else "-" for n in names),
                *(ratio_text(result, n) for n in others),
                f"{limit['times']:.2f} {limit['by']}" if limit else "-",
            ]
        )
    title = (
        f"microseconds a step (activations: a call); then the others' time over {names[0]}'s: "
        "median (lowest-highest), with < and its target where that is not reached"
    )
    return ["", title, *aligned(rows)]


def firsts(report: Mapping[str, Any]) -> list[str]:
    names = [n for n in FIRST if n in report["libraries"]]
    rows = [["", "at most", *names]]
    for result in report["first"]:
        held = [result["at_most"], *(result["seconds"].get(n) for n in names)]
        rows.append([result["case"], *map(pair, held)])
    title = "milliseconds to the first result: cold, and from what is on disk"
    return ["", title, *aligned(rows)] if report["first"] else []


def bytes_of(report: Mapping[str, Any]) -> list[str]:
    names = [n for n in MEMORY if n in report["libraries"]]
    rows = [["", *names]]
    for result in report["memory"]:
        held = [result["bytes"].get(n) for n in names]
        rows.append([result["case"], *("-" if b is None else f"{b / 1e6:.1f}" for b in held)])
    title = "megabytes that a network in training adds to its process, at most"
    return ["", title, *aligned(rows)] if report["memory"] else []


def pair(seconds: Mapping[str, float] | None) -> str:
    return "-" if seconds is None else " / ".join(f"{1e3 * s:.0f}" for s in seconds.values())


def notes(report: Mapping[str, Any]) -> list[str]:
    """What was left out, and results that are not the same."""
    found: dict[str, list[str]] = {}
    for name, why in report["absent"].items():
        found.setdefault(f"{name} left out: {why}", [])
    for result in (*report["results"], *report["first"], *report["memory"]):
        for name, why in result["skipped"].items():
            if name not in ("copy", "sklearn"):  # they have little to do with most rows
                found.setdefault(f"{name}: {why}", []).append(result["case"])
        for name in result.get("differs", ()):
            found.setdefault(f"{name} computes something else", []).append(result["case"])
    lines = []
    for why, cases in found.items():
        more = f" and {len(cases) - 3} more" if len(cases) > 4 else ""
        shown = ", ".join(cases[:3] if more else cases)
        lines.append(f"{why}{': ' if cases else ''}{shown}{more}")
    return ["", *lines] if lines else []
