"""What the doctor says, in colours on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom.cli import console

if TYPE_CHECKING:
    from fathom.doctor.callback import Doctor

STYLES = {"error": "bold red", "warning": "bold yellow", "advice": "bold blue", "code": "cyan",
          "explains": "dim", "note": "dim", "evidence": "", "why": ""}  # fmt: skip


def show(lines: Sequence[Sequence[str]], file: Any = None) -> None:
    """Print the lines of `report.plain.as_lines`, a blank one before each finding."""
    console.console(file).print(_text(lines), soft_wrap=True)


@contextmanager
def attending(wanted: bool, report: Path, file: Any) -> Iterator[list[Doctor]]:
    """The doctor's callback for a run inside the block, if wanted; behind it, what it found,
    also where the run has failed, and the report."""
    if not wanted:
        yield []
        return
    from fathom.doctor.callback import Doctor
    from fathom.doctor.report.plain import as_lines

    doctor = Doctor(quiet=True)
    try:
        yield [doctor]
    finally:
        if doctor.watch is not None:
            doctor.watch.save(report)
            show(as_lines(doctor.watch), file)
            console.show(f"doctor  {report}", file=file)


def as_result(seen: Sequence[Doctor]) -> dict[str, Any]:
    """What was found, as a part of a run's result."""
    watch = seen[0].watch if seen else None
    return {} if watch is None else {"doctor": watch.to_dict()}


def _text(lines: Sequence[Sequence[str]]) -> Any:
    from rich.text import Text

    from fathom.doctor.report.plain import wrapped

    text = Text()
    for number, (part, line) in enumerate(lines):
        shown = wrapped(part, line)
        if number:
            text.append("\n")
        if part == "headline":
            head, colon, rest = shown.partition(":")
            text.append(head + colon, "bold red" if "found" in head and head[0].isdigit()
                        else "bold green").append(rest)  # fmt: skip
        elif part in ("error", "warning", "advice"):
            head, colon, rest = shown.partition(":")
            text.append("\n").append(head + colon, STYLES[part]).append(rest, "bold")
        elif part in ("fix", "trial"):
            head, colon, rest = shown.partition(":")
            text.append(head + colon, "bold").append(rest, _of_trial(part, rest))
        else:
            text.append(shown, STYLES.get(part, ""))
    return text


def _of_trial(part: str, words: str) -> str:
    if part != "trial":
        return ""
    return "green" if words.startswith(" proven") else "yellow"


__all__ = ["as_result", "attending", "show"]
