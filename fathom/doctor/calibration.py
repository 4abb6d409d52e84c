"""From the strength of a hit to the probability that it is a fault: a table, made on the corpus.

`calibration.json` holds for each rule the probability at strengths 0, 0.25, 0.5, 0.75 and 1;
between them it is read off straight lines, and a rule without a row of its own takes the default.
`fit` makes the table from what the corpus has shown: `python -m fathom.doctor.calibration
RESULTS.json ...`, with what `python -m fathom.doctor.corpus --json RESULTS.json` wrote for the tune
and validate splits; held-out runs are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

KNOTS = (0.0, 0.25, 0.5, 0.75, 1.0)
DEFAULT = (0.5, 0.65, 0.8, 0.9, 0.97)
PRIOR = 6.0  # observations that the default counts for
PATH = Path(__file__).with_name("calibration.json")


def probability(rule: str, strength: float) -> float:
    """Probability of a fault, from a rule's name and the strength of its hit (0 to 1).

    >>> 0.5 <= probability("dead_units", 0.2) <= probability("dead_units", 0.9) <= 1.0
    True
    """
    return round(float(np.interp(strength, KNOTS, table().get(rule, DEFAULT))), 4)


@cache
def table() -> Mapping[str, tuple[float, ...]]:
    """Probabilities at `KNOTS` by rule, as the file has them."""
    rows: dict[str, list[float]] = json.loads(PATH.read_text()) if PATH.exists() else {}
    return {name: tuple(row) for name, row in rows.items()}


def fit(seen: Iterable[tuple[str, float, bool]]) -> dict[str, list[float]]:
    """A table from (rule, strength, whether it was right): at each knot the share of right ones
    among its neighbours, drawn to the default by `PRIOR` observations, never falling.

    >>> made = fit([("dead_units", 1.0, True)] * 50 + [("dead_units", 0.0, False)] * 50)
    >>> made["dead_units"][0] < 0.1, made["dead_units"][-1] > 0.95
    (True, True)
    """
    rows: dict[str, list[tuple[float, bool]]] = {}
    for rule, strength, right in seen:
        rows.setdefault(rule, []).append((strength, right))
    return {rule: _row(pairs) for rule, pairs in sorted(rows.items())}


def _row(pairs: list[tuple[float, bool]]) -> list[float]:
    strengths = np.array([s for s, _ in pairs])
    right = np.array([r for _, r in pairs], np.float64)
    found = []
    for knot, usual in zip(KNOTS, DEFAULT, strict=True):
        near = np.maximum(1.0 - np.abs(strengths - knot) / 0.25, 0.0)
        found.append((float((near * right).sum()) + PRIOR * usual) / (float(near.sum()) + PRIOR))
    return [round(float(v), 3) for v in np.maximum.accumulate(found)]


def save(made: Mapping[str, list[float]], path: str | Path = PATH) -> None:
    """Write a table."""
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(row)}" for n, row in sorted(made.items()))
    Path(path).write_text(f"{{\n{lines}\n}}\n" if lines else "{}\n")
    table.cache_clear()


def observed(records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, float, bool]]:
    """(rule, strength, whether it was right) of all findings in runs of the corpus; advice and
    held-out families are left out."""
    from fathom.doctor.corpus.cases import FAMILIES, HEALTHY

    for record in records:
        source = FAMILIES.get(record["family"]) or HEALTHY[record["family"]]
        if source.split == "held-out":
            continue
        for finding in record["findings"]:
            if finding["severity"] != "advice" and "strength" in finding:
                yield finding["kind"], finding["strength"], finding["kind"] in record["expected"]


def main(files: Iterable[str]) -> None:
    """The command: fit `calibration.json` to the results in these files."""
    records = [r for name in files for r in json.loads(Path(name).read_text())["runs"]]
    save(fit(observed(records)))
    print(f"{len(table())} rules from {len(records)} runs: {PATH}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])


__all__ = ["DEFAULT", "KNOTS", "fit", "main", "observed", "probability", "save", "table"]
