"""`docs/systems.md`: every name can be imported, every test exists, no system is missing."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "systems.md"
LIST = ROOT.parent / "shared" / "book" / "systems_ch23.md"
SIZES = {"A": 58, "B": 35, "C": 26}
WITHOUT_A_CHECK = {"C25", "C26"}  # out of scope, and no mechanism


@dataclass(frozen=True)
class Row:
    """A line of the page."""

    id: str
    system: str
    where: str
    tests: str
    measured: str

    @property
    def keyword(self) -> str:
        """The bold words, as they stand in the list."""
        return re.findall(r"\*\*(.+?)\*\*", self.system)[0].lower()

    @property
    def places(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.where)

    @property
    def cited(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.tests)


def cells(line: str) -> list[str]:
    """The cells of a line of a table; `\\|` is no border."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


ROWS = [
    Row(*cells(line)) for line in PAGE.read_text().splitlines() if re.match(r"\| [ABC]\d", line)
]


def listed() -> dict[str, str]:
    """The first column of the list, by id: A1 is the first row under "## A"."""
    found: dict[str, str] = {}
    letter, count = "", 0
    for line in LIST.read_text().splitlines():
        if heading := re.match(r"## ([A-Z])\.", line):
            letter, count = heading[1], 0
        elif letter and line.startswith("|") and not re.match(r"\| *(system|-+) *\|", line):
            count += 1
            found[f"{letter}{count}"] = cells(line)[0].lower()
    return found


@cache
def definitions(path: Path) -> set[str]:
    """The names of a test module: `test_f`, `TestC`, `TestC::test_g`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return found


def resolve(name: str) -> Any:
    """The object of a dotted name: the longest module, then attributes."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


def test_ids_are_complete_and_in_order() -> None:
    assert [row.id for row in ROWS] == [
        f"{letter}{i}" for letter, size in SIZES.items() for i in range(1, size + 1)
    ]


def test_every_row_says_where_and_how_it_is_checked() -> None:
    for row in ROWS:
        if row.id not in WITHOUT_A_CHECK:
            assert row.places and row.cited and row.measured, row.id
            assert all(place.startswith(("fathom.", "examples/")) for place in row.places), row.id


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_name_can_be_imported(row: Row) -> None:
    for place in row.places:
        if place.startswith("fathom."):
            resolve(place)
        else:
            assert (ROOT / place).is_file(), place


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_every_cited_test_exists(row: Row) -> None:
    for cited in row.cited:
        file, _, name = cited.partition("::")
        assert (ROOT / file).is_file(), cited
        assert name.split("::")[-1].startswith("test_"), cited
        assert name in definitions(ROOT / file), cited


def test_every_test_made_for_a_row_is_cited() -> None:
    cited = {test for row in ROWS for test in row.cited}
    for path in (ROOT / "tests" / "unit" / "systems").glob("test_*.py"):
        for name in definitions(path):
            if name.startswith("test_"):
                assert f"{path.relative_to(ROOT).as_posix()}::{name}" in cited, name


def test_the_page_has_every_row_of_the_list() -> None:
    if not LIST.is_file():
        pytest.skip("the list of systems is not beside the repository")
    wanted = listed()
    assert [row.id for row in ROWS] == list(wanted)
    for row in ROWS:
        assert row.keyword in wanted[row.id], f"{row.id}: {row.keyword!r}, not {wanted[row.id]!r}"
    for a, b in itertools.combinations(ROWS, 2):  # no two rows could change places unnoticed
        assert not (a.keyword in wanted[b.id] and b.keyword in wanted[a.id]), (a.id, b.id)
