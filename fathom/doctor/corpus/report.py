"""The numbers of an evaluation: detection, cause, place, false alarms, time, calibration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]
GRAVE = ("error", "warning")


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927).

    >>> tuple(round(p, 3) for p in wilson(1, 100))
    (0.002, 0.054)
    """
    if not of:
        return 0.0, 1.0
    p, n = hits / of, float(of)
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)


def grave(record: Record) -> list[dict[str, Any]]:
    """The findings that count: warnings and errors; advice where there is no more to say."""
    return [f for f in record["findings"] if f["severity"] in GRAVE or record["advice"]]


def right(record: Record, most: int = 3) -> dict[str, Any] | None:
    """The first of so many findings that names the right cause."""
    found = (f for f in record["findings"][:most] if f["kind"] in record["expected"])
    return next(found, None)


def in_place(record: Record) -> bool:
    """Whether the finding that names the right cause names the right place, too."""
    finding = right(record)
    if finding is None:
        return False
    where = finding["where"]
    names = {place.lower() for place in record["places"]}
    parts = [where.lower(), *(w.strip().lower() for w in where.split(","))]
    return any(p in names or any(n and p.startswith(n + ".") for n in names) for p in parts)


def delay(record: Record) -> int | None:
    """Steps from the fault's onset until the right cause was first told."""
    finding = right(record)
    return None if finding is None else max(finding["told"] - record.get("onset", 0), 0)


def calibration(records: Sequence[Record], bins: int = 10) -> float:
    """Expected calibration error of all findings' probabilities (Naeini et al., 2015)."""
    findings = [(f["probability"], f["kind"] in r["expected"]) for r in records
                for f in r["findings"] if f["severity"] in GRAVE]  # fmt: skip
    if not findings:
        return math.nan
    p = np.clip([f[0] for f in findings], 0.0, 1.0)
    true = np.array([f[1] for f in findings], np.float64)
    which = np.minimum((p * bins).astype(int), bins - 1)
    parts = [which == b for b in range(bins)]
    return float(sum(abs(p[m].mean() - true[m].mean()) * m.mean() for m in parts if m.any()))


Test = Callable[[Record], bool]


def _early(record: Record) -> bool:
    steps = delay(record)
    return steps is not None and steps <= max(0.05 * record.get("planned", 0), 1)


def _within(limit: int) -> Test:
    def test(record: Record) -> bool:
        steps = delay(record)
        return steps is not None and steps <= limit

    return test


SHARES: dict[str, Test] = {
    "detected": lambda r: bool(grave(r)),
    "right cause first": lambda r: right(r, 1) is not None,
    "right cause in three": lambda r: right(r) is not None,
    "right place": in_place,
    "verdict before step 1": _within(0),
    "verdict within 5 %": _early,
}


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """All shares with hits, runs and intervals, by name."""
    faulty = [r for r in records if r["fault"] and not r["error"]]
    healthy = [r for r in records if not r["fault"] and not r["error"]]
    usage = [r for r in faulty if r["usage"]]
    found = {name: _share(faulty, test) for name, test in SHARES.items()}
    found["usage faults within 3 steps"] = _share(usage, _within(3))
    found["usage faults within 10 steps"] = _share(usage, _within(10))
    found["healthy: a warning or error"] = _share(healthy, lambda r: bool(grave(r)))
    found["healthy: any finding"] = _share(healthy, lambda r: bool(r["findings"]))
    tried = [r for r in faulty if r["proven"] is not None]
    if tried:
        found["fix proven, of those right"] = _share(tried, lambda r: bool(r["proven"]))
    numbers: dict[str, Any] = {
        name: {"hits": hits, "of": of, "share": hits / of if of else math.nan,
               "interval": wilson(hits, of)} for name, (hits, of) in found.items()
    }  # fmt: skip
    numbers["calibration error"] = calibration(records)
    numbers["could not be run"] = sum(bool(r["error"]) for r in records)
    numbers["rules"] = by_rule(records)
    return numbers


def _share(records: Sequence[Record], test: Test) -> tuple[int, int]:
    return sum(map(test, records)), len(records)


def by_rule(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """The confusion table: what became of the faults of each kind, and a rule's false alarms."""
    table: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["error"]:
            continue
        first = (grave(record) or record["findings"] or [{"kind": "nothing"}])[0]["kind"]
        if record["fault"]:
            row = table.setdefault(record["expected"][0], _row())
            row["runs"] += 1
            row["detected"] += bool(grave(record))
            row["first"] += right(record, 1) is not None
            row["three"] += right(record) is not None
            row["place"] += in_place(record)
            if right(record, 1) is None:
                row["instead"][first] += 1
        for finding in grave(record):
            if finding["kind"] not in record["expected"]:
                wrong = table.setdefault(finding["kind"], _row())
                wrong["wrong" if record["fault"] else "healthy"] += 1
    return dict(sorted(table.items()))


def _row() -> dict[str, Any]:
    return {"runs": 0, "detected": 0, "first": 0, "three": 0, "place": 0, "wrong": 0,
            "healthy": 0, "instead": Counter()}  # fmt: skip


def report(records: Sequence[Record], wrong: bool = False) -> str:
    """The tables as text; wrong : with a line for each run that went wrong."""
    numbers = summary(records)
    rules = numbers.pop("rules")
    lines = [f"{len(records)} runs", ""]
    for name, value in numbers.items():
        if isinstance(value, dict):
            low, high = value["interval"]
            share = f"{value['share']:7.1%}   ({low:.1%} to {high:.1%})" if value["of"] else ""
            lines.append(f"{name:30} {value['hits']:5} of {value['of']:5} {share}".rstrip())
        else:
            lines.append(f"{name:30} {value:14.3g}")
    lines += ["", "cause (rule)                   runs  found  first  in 3  place  wrongly  healthy"
                  "   taken for"]  # fmt: skip
    for name, row in rules.items():
        instead = ", ".join(f"{k} {n}" for k, n in row["instead"].most_common(3))
        lines.append(f"{name:30} {row['runs']:4} {row['detected']:6} {row['first']:6} "
                     f"{row['three']:5} {row['place']:6} {row['wrong']:8} {row['healthy']:8}"
                     f"   {instead}".rstrip())  # fmt: skip
    if wrong:
        lines += ["", *(_line(r) for r in records if _went_wrong(r))]
    return "\n".join(lines)


def _went_wrong(record: Record) -> bool:
    if record["error"] or record["notes"]:
        return True
    return right(record, 1) is None if record["fault"] else bool(grave(record))


def _line(record: Record) -> str:
    said = ", ".join(f"{f['kind']} in {f['where']} ({f['severity']}, {f['probability']:.2f}, told "
                     f"{f['told']})" for f in record["findings"])  # fmt: skip
    return f"{record['id']}: {record['error'] or said or 'nothing'}" + "".join(
        f"\n    {note}" for note in record["notes"])  # fmt: skip


__all__ = [
    "by_rule", "calibration", "delay", "grave", "in_place", "report", "right", "summary", "wilson",
]  # fmt: skip
