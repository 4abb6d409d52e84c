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
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.version import __version__

SCHEMA = 1
REFERENCE = Path(__file__).parent / "reference"


def write(path: Path, told: Any) -> None:
    """JSON written aside, then renamed: a file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


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


def compare(entries: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each claim whose verdict is another than the committed one."""
    known = reference()
    return [
        f"{e['id']}: {known[e['id']]['verdict']} in the reference, {e['verdict']} here"
        for e in entries
        if e["id"] in known and known[e["id"]]["verdict"] != e["verdict"]
    ]
