"""A runner for the command line, tables to train on, and runs made once for all tests."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fathom.cli import cli

Run = Callable[..., Result]
HEADER = "area,rooms,district,garden,price,kind\n"


def call(*words: object, code: int = 0) -> Result:
    """Run `fathom words...` in this process; the exit code must be `code`."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == code, f"exit {result.exit_code}\n{result.output}\n{result.exception}"
    return result


@pytest.fixture
def run() -> Run:
    return call


def houses(path: Path, rows: int = 120) -> Path:
    """A table with numbers, categories and missing values; `price` and `kind` can be learned."""
    draw = random.Random(0)
    lines = [HEADER]
    for _ in range(rows):
        area, rooms = draw.uniform(40, 200), draw.randint(1, 7)
        district = draw.choice(["north", "south", "east"])
        garden = draw.choice(["yes", "no", ""])
        extra = {"north": 0, "south": 30, "east": -10}[district]
        price = area + 5 * rooms + extra + draw.gauss(0, 2)
        shown = "" if draw.random() < 0.05 else f"{area:.1f}"
        kind = "large" if area > 120 else "small"
        lines.append(f"{shown},{rooms},{district},{garden},{price:.1f},{kind}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    return houses(tmp_path / "houses.csv")


@pytest.fixture(scope="session")
def iris_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on iris, for tests that only read it."""
    out = tmp_path_factory.mktemp("runs") / "iris"
    call("train", "iris", "--epochs", 40, "--out", out, "--quiet")
    return out


@pytest.fixture(scope="session")
def diabetes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression, for tests that only read it."""
    out = tmp_path_factory.mktemp("runs") / "diabetes"
    call("train", "diabetes", "--epochs", 10, "--out", out, "--quiet")
    return out
