"""Results on disk: one JSON a question while a run goes on, one ledger of all claims at its end.

The ledger (`docs/book.md` documents every field) is what the book stands on: claim, kind, method,
rule, numbers, interval, verdict, reason, correction, seconds, versions. The one that ships was
made by `fathom book run --all` on a named machine; a run of yours is compared with it.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fathom.book.verdict import Verdict
from fathom.engine.errors import ArgumentError
from fathom.train.writing import write_text
from fathom.version import __version__

SCHEMA = 1
REFERENCE = Path(__file__).parent / "reference"


def write(path: Path, told: dict[str, Any]) -> None:
    """JSON written aside, then renamed: a file is whole or not there."""
    write_text(path, text(told), "the results")


def text(told: dict[str, Any]) -> str:
    """JSON with a line for each entry of the object, and for each item of its lists.

    >>> print(text({"a": 1, "b": [{"c": 2}, {"c": 3}]}), end="")
    {
    "a": 1,
    "b": [
     {"c": 2},
     {"c": 3}
    ]
    }
    """
    lines = []
    for name, value in told.items():
        if isinstance(value, list) and value:
            items = ",\n ".join(json.dumps(item, ensure_ascii=False) for item in value)
            lines.append(f"{json.dumps(name)}: [\n {items}\n]")
        else:
            lines.append(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read(path: Path) -> Any:
    """JSON from a file; an error says where it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArgumentError(f"{path} is not there", fix="fathom book run makes it") from None
    except json.JSONDecodeError as error:
        raise ArgumentError(
            f"{path}, line {error.lineno} column {error.colno}: {error.msg}",
            fix="remove the file; the run makes it again",
        ) from None


def machine() -> dict[str, str]:
    """What the results were measured with."""
    return {
        "fathom": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def assemble(results: Iterable[dict[str, Any]], quick: bool, seconds: float) -> dict[str, Any]:
    """The ledger of many questions' results; figures stay with the questions."""
    entries = [entry for result in results for entry in result["claims"]]
    return {
        "schema": SCHEMA,
        "made_with": machine(),
        "quick": quick,
        "seconds": round(seconds, 1),
        "counts": dict(Counter(entry["verdict"] for entry in entries)),
        "claims": entries,
    }


@cache
def reference() -> dict[str, dict[str, Any]]:
    """The committed results by claim id; empty where none have been committed."""
    path = REFERENCE / "ledger.json"
    return {e["id"]: e for e in read(path)["claims"]} if path.exists() else {}


@cache
def reference_figures() -> dict[str, dict[str, Any]]:
    """The committed figures by question and name."""
    path = REFERENCE / "figures.json"
    return dict(read(path)) if path.exists() else {}


def commit(results: Iterable[dict[str, Any]], seconds: float, folder: Path = REFERENCE) -> None:
    """Make these results the reference (`scripts/book_reference.py`)."""
    whole = list(results)
    write(folder / "ledger.json", assemble(whole, False, seconds))
    write(folder / "figures.json", {r["question"]: r["figures"] for r in whole})


def compare(
    entries: Iterable[dict[str, Any]], known: Mapping[str, dict[str, Any]] | None = None
) -> list[str]:
    """A line for each claim whose verdict is another than the known one, or the committed one.

    That the few seeds of a quick run leave a claim open is no change.

    >>> known = {"C1.1.1-01": {"verdict": "confirmed"}}
    >>> quick = {"id": "C1.1.1-01", "quick": True}
    >>> compare([{**quick, "verdict": "refuted"}], known)
    ['C1.1.1-01: confirmed in the reference, refuted here']
    >>> compare([{**quick, "verdict": "undecided"}], known)
    []
    """
    known = reference() if known is None else known
    return [
        f"{e['id']}: {known[e['id']]['verdict']} in the reference, {e['verdict']} here"
        for e in entries
        if e["id"] in known and e["verdict"] != known[e["id"]]["verdict"] and not _open(e)
    ]


def _open(entry: dict[str, Any]) -> bool:
    return entry["quick"] and entry["verdict"] == Verdict.UNDECIDED.value
