"""Splits: disjoint, covering, exact in number, stratified to within one row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.data import Dataset
from fathom.data.splitting import apportion, part_sizes, split_rows
from fathom.engine.errors import ArgumentError, DataError

fractions = st.tuples(st.floats(0, 0.49), st.floats(0, 0.49))


def classes_of(n, classes, seed=0):
    return np.random.default_rng(seed).integers(0, classes, n)


@given(n=st.integers(3, 300), parts=fractions, seed=st.integers(0, 5))
def test_parts_are_disjoint_and_cover_all_rows(n, parts, seed):
    split = split_rows(n, None, *parts, seed=seed)
    assert sorted(np.concatenate(split).tolist()) == list(range(n))


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    parts=fractions,
    seed=st.integers(0, 3),
)
def test_each_class_gets_its_share_to_within_one_row(counts, parts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    n = len(labels)
    if n < 3:
        return
    split = split_rows(n, labels, *parts, seed=seed)
    assert sorted(np.concatenate(split).tolist()) == list(range(n))
    for rows in split:
        share = np.bincount(labels[rows], minlength=len(counts))
        exact = np.array(counts) * len(rows) / n
        assert (np.abs(share - exact) < 1).all()


@given(n=st.integers(3, 2000), parts=fractions)
def test_sizes_are_exact(n, parts):
    sizes = part_sizes(n, *parts)
    wanted = np.array([1 - sum(parts), *parts])
    assert sizes.sum() == n
    assert ((sizes > 0) | (wanted == 0)).all()
    assert (sizes[wanted == 0] == 0).all()
    big = (wanted * n >= 1) & (sizes > 1)
    assert (np.abs(sizes - wanted * n)[big] <= 2).all()


@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    cut=st.tuples(st.integers(0, 100), st.integers(0, 100)),
)
def test_apportion_fits_rows_and_columns(counts, cut):
    counts = np.array(counts)
    n = int(counts.sum())
    first, second = sorted(c * n // 100 for c in cut)
    sizes = np.array([first, second - first, n - second])
    table = apportion(counts, sizes)
    assert (table.sum(axis=1) == counts).all()
    assert (table.sum(axis=0) == sizes).all()
    exact = counts[:, None] * sizes / n
    assert (table >= np.floor(exact - 1e-9)).all() and (table <= np.ceil(exact + 1e-9)).all()


def test_rows_move_where_it_costs_least():
    shares = apportion(np.array([100, 1, 1, 1, 7, 7]), np.array([81, 12, 24]))
    assert shares[1:4].tolist() == [[1, 0, 0]] * 3  # classes of one row stay in training


def test_round_numbers_come_out_round():
    assert part_sizes(10_000, 0.0, 0.2).tolist() == [8000, 0, 2000]
    assert part_sizes(100, 0.29, 0.0).tolist() == [71, 29, 0]
    assert part_sizes(1797, 0.1, 0.2).tolist() == [1258, 180, 359]


def test_a_small_fraction_still_gets_a_row():
    assert part_sizes(5, 0.01, 0.01).tolist() == [3, 1, 1]


def test_same_seed_same_rows_another_seed_others():
    labels = classes_of(200, 3)
    a, b, c = (split_rows(200, labels, 0.1, 0.2, seed=s) for s in (1, 1, 2))
    assert all((p == q).all() for p, q in zip(a, b, strict=True))
    assert not np.array_equal(a.test, c.test)


def test_rows_come_shuffled():
    rows = split_rows(300, np.repeat([0, 1, 2], 100), 0.1, 0.2).train
    assert not (np.diff(rows) > 0).all()


@pytest.mark.parametrize("bad", [{"validation": -0.1}, {"test": -1}, {"test": float("nan")}])
def test_fraction_outside_its_range(bad):
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        split_rows(10, None, **bad)


def test_fractions_that_leave_nothing_to_train_on():
    with pytest.raises(ArgumentError, match=r"validation=0\.5, test=0\.5"):
        split_rows(10, None, 0.5, 0.5)


def test_fraction_that_is_no_number():
    with pytest.raises(ArgumentError, match="'most'"):
        split_rows(10, None, test="most")


def test_fewer_rows_than_parts():
    with pytest.raises(DataError, match=r"2 rows cannot be split into 3 parts"):
        split_rows(2, None, 0.1, 0.2)
    assert [len(part) for part in split_rows(2, None, 0.0, 0.2)] == [1, 0, 1]


def test_seed_that_is_no_seed():
    data = Dataset("d", np.zeros((9, 1)), np.zeros(9), "regression")
    with pytest.raises(ArgumentError, match="seed"):
        data.split(seed=-1)
