from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from fathom import activations as A
from fathom.activations.benchmark import (
    IMPLEMENTATIONS,
    Benchmark,
    Timing,
    benchmark,
    spearman,
    table_of,
)
from fathom.engine.errors import ArgumentError

NAMES = ["relu", "gelu", "tanh", "step", "celu"]


@pytest.fixture(scope="module")
def result():
    return benchmark(NAMES, size=256, repeats=3)


def test_every_implementation_is_timed(result):
    for kind in ("formula", "plain", "table"):
        assert sorted(result.select(kind)) == sorted(NAMES)
        assert sorted(result.ranking(kind)) == sorted(NAMES)
    assert sorted(result.select("primitive")) == ["relu", "tanh"]
    for row in result.rows:
        assert 0 < row.forward <= row.forward_median
        if row.implementation == "table":
            assert math.isnan(row.both)
        else:
            assert 0 < row.both <= row.both_median


def test_all_formulas_by_default():
    found = benchmark(size=16, repeats=1, implementations=["formula"])
    assert sorted(found.ranking("formula", "both")) == sorted(A.FORMULAS)


def test_machine_is_named(result):
    machine = result.machine
    assert machine["cpu"] and machine["system"] and machine["python"]
    assert machine["cores"] >= 1 and machine["threads"] >= 1
    assert machine["numpy"] == np.__version__
    text = str(result)
    assert "best of 3" in text and machine["cpu"] in text and "gelu" in text


def made(times: dict[str, float]) -> Benchmark:
    rows = tuple(Timing(name, "formula", t, t, 2 * t, 2 * t) for name, t in times.items())
    return Benchmark(rows, {}, 10, 1)


def test_ranking_and_its_stability():
    first = made({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    assert first.ranking() == ["a", "b", "c", "d"]
    assert first.stability(first) == 1.0
    assert first.stability(made({"d": 1.0, "c": 2.0, "b": 3.0, "a": 4.0}), what="both") == -1.0
    assert first.stability(made({"a": 2.0, "b": 1.0, "c": 3.0, "d": 4.0})) == pytest.approx(0.8)
    with pytest.raises(ArgumentError, match="same activations"):
        first.stability(made({"a": 1.0, "b": 2.0}))


def test_spearman_is_the_correlation_of_the_ranks():
    a, b = [3, 1, 4, 0, 2], [0, 1, 4, 3, 2]
    assert spearman(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_table_holds_the_function():
    table, codes = table_of(A.FORMULAS["gelu"]), np.arange(256)
    exact = A.gelu.apply(codes / 127.5 * 8.0 - 8.0)
    np.testing.assert_allclose(table, exact, atol=1e-6)
    assert table.dtype == np.float32 and table.shape == (256,)


def test_rows_as_text(result):
    cells = result.cells()
    assert {len(row) for row in cells} == {len(Benchmark.header)}
    base = next(c for c in cells if c[:2] == ("relu", "primitive"))
    assert base[-1] == "1"
    without = dataclasses.replace(result, rows=result.rows[-1:])
    assert without.cells()[0][-1] == "-"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"names": ["rleu"]}, "did you mean 'relu'"),
        ({"size": 0}, "size is a whole number"),
        ({"repeats": 1.5}, "repeats is a whole number"),
        ({"implementations": ["fast"]}, "known: " + ", ".join(sorted(IMPLEMENTATIONS))),
    ],
    ids=str,
)
def test_mistakes(options, said):
    with pytest.raises(ArgumentError) as error:
        benchmark(**{"names": ["relu"], "size": 8, "repeats": 1, **options})
    assert said in str(error.value)


def test_unknown_questions(result):
    with pytest.raises(ArgumentError, match="unknown implementation"):
        result.ranking("jit")
    with pytest.raises(ArgumentError, match="'forward' or 'both'"):
        result.ranking("formula", "backward")
