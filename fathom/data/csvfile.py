"""CSV files as cells with their line numbers; what the cells mean is decided in `table`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fathom.data._checks import FilePath, counted, existing_file, listing
from fathom.engine.errors import ArgumentError, DataError

DELIMITERS = (",", ";", "\t", "|")
LOOK = 20  # records by which the delimiter is judged


@dataclass(frozen=True, eq=False)
class Cells:
    """A header, rows of as many stripped cells, and the line (from 1) on which each row begins."""

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: NDArray[np.int64]


def read_cells(path: FilePath, delimiter: str | None = None) -> Cells:
    """The cells of a UTF-8 CSV file with a header; blank lines are skipped.

    Without `delimiter` it is the one of , ; tab | that divides the first records most evenly.
    Raises `MissingFileError`, or `DataError` naming the line of what is wrong with the file.
    """
    file = existing_file(path)
    if delimiter is not None and (len(str(delimiter)) != 1 or str(delimiter) in '"\r\n'):
        raise ArgumentError(f"delimiter must be one character such as ',' ; got {delimiter!r}")
    text = _text(file)
    records = _records(text, file, delimiter or _sniff(text))
    first = next(records, None)
    if first is None:
        raise DataError(f"{file} is empty", fix="it needs a header line and rows below it")
    header = _header(file, *first)
    rows, lines = [], []
    for line, row in records:
        if len(row) != len(header):
            raise DataError(
                f"{file}, line {line}: expected {counted(len(header), 'cell')} as in the header, "
                f"got {len(row)}",
                fix="look for a missing or extra delimiter, or a comma that should be in quotes",
            )
        rows.append(row)
        lines.append(line)
    if not rows:
        raise DataError(f"{file} holds a header but no rows below it")
    return Cells(file, header, rows, np.array(lines, np.int64))


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(
            f"{file} is UTF-16 (bytes {content[:2].hex(' ')} at offset 0), not UTF-8",
            fix="save it as 'CSV UTF-8'",
        )
    if content[:2] == b"\x1f\x8b":
        raise DataError(f"{file} is compressed with gzip", fix="unpack it first: gunzip")
    zero = content.find(b"\0")
    if zero >= 0:
        line = content.count(b"\n", 0, zero) + 1
        raise DataError(
            f"{file}, line {line}: a NUL byte at offset {zero}; this is not a text file",
            fix="export the table as CSV UTF-8 (spreadsheet files such as .xlsx are not CSV)",
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file}, line {line}: byte {content[error.start]:#04x} at offset {error.start} is not "
            "UTF-8",
            fix="save the file as UTF-8 ('CSV UTF-8' in a spreadsheet program)",
        ) from error
    return text.removeprefix("\ufeff")


def _records(text: str, file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, stripped cells) of each record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{file}, line {line}: {error}",
                fix='is a quote left open? a quote inside quotes is written twice: "5"" wide"',
            ) from error
        row = list(map(str.strip, record))
        if len(row) > 1 or any(row):
            yield line, row
        line = reader.line_num + 1


def _sniff(text: str) -> str:
    def fitness(delimiter: str) -> tuple[bool, float, int]:
        try:
            widths = [len(row) for _, row in islice(_records(text, Path(), delimiter), LOOK)]
        except DataError:
            return (False, 0.0, 0)
        same = sum(width == widths[0] for width in widths) / len(widths) if widths else 0.0
        return (bool(widths) and widths[0] > 1, same, widths[0] if widths else 0)

    return max(DELIMITERS, key=fitness)


def _header(file: Path, line: int, names: list[str]) -> tuple[str, ...]:
    empty = [i + 1 for i, name in enumerate(names) if not name]
    if empty:
        raise DataError(
            f"{file}, line {line}: no name above column {listing(empty)} "
            f"(of {counted(len(names), 'column')})",
            fix="give every column a name, or delete the column; a trailing delimiter adds one",
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        places = [i + 1 for i, name in enumerate(names) if name == twice[0]]
        raise DataError(
            f"{file}, line {line}: column name {twice[0]!r} stands above columns {listing(places)}",
            fix="give every column a name of its own",
        )
    return tuple(names)
