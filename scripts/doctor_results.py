"""Write docs/doctor_results.md: how well the doctor does on the families it was not made on.

python -m fathom.doctor.corpus --split held-out --engine both --json held.json
python -m fathom.doctor.corpus --split held-out --engine both --sample 28 --treat --json tried.json
python benchmarks/doctor.py > overhead.txt
python scripts/doctor_results.py held.json --tried tried.json --overhead overhead.txt
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fathom.doctor.corpus.report import Record, summary  # noqa: E402
from fathom.doctor.rules import RULES  # noqa: E402

HEAD = """# How well the doctor does

Made by `scripts/doctor_results.py` from what `python -m fathom.doctor.corpus` measured on the
held-out families: no threshold and no probability was fitted on them
([the corpus](doctor.md#the-corpus)). Shares stand with 95 % intervals (Wilson, 1927). Settings are
the default ones; steps of the corpus take a fraction of a millisecond.
"""
ENGINES = {"torch": "PyTorch", "fathom": "Fathom"}
TARGETS = {  # the least that is asked for, and what is aimed at
    "detected": ("92 %", "97 %"),
    "healthy: a warning or error": ("3 % at most", "1 %"),
    "right cause first": ("80 %", "90 %"),
    "right cause in three": ("92 %", "97 %"),
    "right place": ("75 %", "90 %"),
    "fix proven, of those right": ("60 %", "80 %"),
    "usage faults within 10 steps": ("90 %", ""),
    "usage faults within 3 steps": ("", "100 %"),
    "verdict before step 1": ("50 %", "70 %"),
    "verdict within 5 %": ("90 %", "95 %"),
}


def page(records: list[Record], tried: list[Record], overhead: str) -> str:
    """The whole page."""
    parts = [HEAD, _machine(), "## Against the targets\n", *_targets(records, tried)]
    parts += ["\n## By cause\n", *_causes(records)]
    if overhead:
        rows = [line for line in overhead.splitlines() if "%" in line and ":" not in line]
        parts += ["\n## What watching costs\n", _OVERHEAD, _in_all(rows)]
        parts += ["```", overhead.splitlines()[0], *rows, "```"]
    return "\n".join(parts) + "\n"


_OVERHEAD = """`python benchmarks/doctor.py`: 300 steps, watched and unwatched in turns on one
thread; *counted* is what the doctor measures of itself, *in all* adds what it does in every step. A
compiled step is sampled by running it eagerly once more, which takes several times as long. Most of
the cost is fixed, in the first steps and at the end: longer runs have less of it.
"""


def _in_all(rows: list[str]) -> str:
    """What it comes to in steps of 2 ms and more."""
    slow = [row.split() for row in rows if float(row.split()[2]) >= 2.0]
    own, measured = ([float(row[i].rstrip("%")) for row in slow] for i in (-1, 3))
    return (
        f"Steps of 2 ms and more, in all: median {statistics.median(own):.1f} % (2 % at most, 1 % "
        f"aimed at), most {max(own):.1f} % (5 %, 3 %). The ratios of whole runs, watched over "
        f"unwatched, have a median of {statistics.median(measured):.1f} %, and are noisy here.\n"
    )


def _machine() -> str:
    versions = [f"Python {platform.python_version()}", f"NumPy {np.__version__}"]
    try:
        import torch

        versions.append(f"PyTorch {torch.__version__}")
    except ImportError:
        pass
    return f"{platform.machine()}, 2 cores; {', '.join(versions)}.\n"


def _targets(records: list[Record], tried: list[Record]) -> Iterator[str]:
    columns = {
        name: summary([r for r in records if r["engine"] == key]) for key, name in ENGINES.items()
    }
    columns["both"] = summary(records)
    for key, name in (*ENGINES.items(), ("", "both")):
        some = [r for r in tried if key in ("", r["engine"])]
        found = summary(some).get("fix proven, of those right") if some else None
        if found:
            columns[name]["fix proven, of those right"] = found
    runs = ", ".join(
        f"{sum(bool(r['fault']) for r in records if r['engine'] == key)} faulty and "
        f"{sum(not r['fault'] for r in records if r['engine'] == key)} healthy runs of {name}"
        for key, name in ENGINES.items()
    )
    yield f"{runs}.\n"
    yield "| | must | aim | " + " | ".join(columns) + " |"
    yield "|---|---|---|" + "---|" * len(columns)
    for what, (must, aim) in TARGETS.items():
        cells = [_share(column.get(what)) for column in columns.values()]
        yield f"| {what} | {must} | {aim} | " + " | ".join(cells) + " |"
    errors = [f"{column['calibration error']:.3f}" for column in columns.values()]
    yield "| calibration error of the probabilities | | | " + " | ".join(errors) + " |"


def _share(value: dict[str, Any] | None) -> str:
    if not value or not value["of"]:
        return ""
    low, high = value["interval"]
    return f"{value['share']:.1%} of {value['of']} ({100 * low:.0f} to {100 * high:.0f})"


def _causes(records: list[Record]) -> Iterator[str]:
    yield ("Both engines. *wrongly*: said of runs with another fault; *healthy*: of runs without "
           "one. *taken for*: what was said first instead.\n")  # fmt: skip
    yield "| cause | runs | found | first | in three | place | wrongly | healthy | taken for |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, row in summary(records)["rules"].items():
        instead = ", ".join(f"{k} {n}" for k, n in row["instead"].most_common(3))
        link = f"[{name}](doctor_rules.md#{name})" if name in RULES else name
        yield (f"| {link} | {row['runs']} | {row['detected']} | {row['first']} | {row['three']} | "
               f"{row['place']} | {row['wrong']} | {row['healthy']} | {instead} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("held", type=Path)
    parser.add_argument("--tried", type=Path)
    parser.add_argument("--overhead", type=Path)
    options = parser.parse_args()
    records = json.loads(options.held.read_text())["runs"]
    tried = json.loads(options.tried.read_text())["runs"] if options.tried else []
    overhead = options.overhead.read_text() if options.overhead else ""
    path = ROOT / "docs" / "doctor_results.md"
    path.write_text(page(records, tried, overhead))
    print(f"{path}: {len(records)} runs")


if __name__ == "__main__":
    main()
