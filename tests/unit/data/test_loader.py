"""`DataLoader`: every row once, the order of its seed, and arrays that do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.data import DataLoader
from fathom.engine.errors import ArgumentError, DataError
from fathom.engine.random import Random, use


@given(
    n=st.integers(1, 50),
    batch_size=st.integers(1, 60),
    shuffle=st.booleans(),
)
def test_each_pass_holds_every_row_once(n, batch_size, shuffle):
    x = np.arange(n * 2).reshape(n, 2)
    loader = DataLoader(x, x[:, 0] * 10, batch_size, shuffle=shuffle, rng=Random(0))
    batches = list(loader)
    assert len(batches) == len(loader) == -(-n // batch_size)
    assert sorted(np.concatenate([b[0][:, 0] for b in batches]).tolist()) == x[:, 0].tolist()
    for a, y in batches:
        assert a.flags.c_contiguous
        assert (a[:, 0] * 10 == y).all()


def test_order_is_the_shuffle_stream_of_the_seed():
    x = np.arange(30)
    loader = DataLoader(x, batch_size=7, shuffle=True, rng=Random(5))
    stream = Random(5).stream("shuffle")
    for _ in range(3):
        got = np.concatenate([batch for batch, _ in loader])
        np.testing.assert_array_equal(got, stream.permutation(30))


def test_without_rng_the_current_one_is_used():
    with use(Random(3)):
        got = np.concatenate([b for b, _ in DataLoader(np.arange(9), batch_size=2, shuffle=True)])
    np.testing.assert_array_equal(got, Random(3).stream("shuffle").permutation(9))


def test_in_order_batches_are_views():
    x = np.arange(10)
    first, _ = next(iter(DataLoader(x, batch_size=4)))
    assert np.shares_memory(first, x)


def test_repr_tells_size_and_order():
    loader = DataLoader(np.zeros(10), batch_size=4, shuffle=True)
    assert repr(loader) == "DataLoader(10 rows, 3 batches of 4, shuffled)"


def test_last_short_batch():
    sizes = [len(x) for x, _ in DataLoader(np.arange(10), batch_size=4)]
    assert sizes == [4, 4, 2]
    assert [len(x) for x, _ in DataLoader(np.arange(10), batch_size=4, drop_last=True)] == [4, 4]


def test_several_inputs_and_weights():
    a, b, y, w = np.arange(6), np.ones((6, 2, 3)), np.arange(6), np.arange(6.0)
    loader = DataLoader((a, b), y, 4, shuffle=True, rng=Random(1), sample_weight=w)
    for (first, second), target, weight in loader:
        assert second.shape == (len(first), 2, 3)
        assert (first == target).all() and (weight == target).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.zeros(3), "y": np.zeros(4)}, "x has 3 rows, but y has 4"),
        ({"x": (np.zeros(3), np.zeros(2))}, r"x\[0\] has 3 rows, but x\[1\] has 2"),
        ({"x": np.zeros(3), "sample_weight": np.zeros(1)}, "but sample_weight has 1"),
        ({"x": np.zeros((0, 2))}, "no rows"),
        ({"x": np.float32(1)}, "single value"),
        ({"x": ()}, "empty tuple"),
    ],
)
def test_arrays_that_do_not_fit(arguments, message):
    with pytest.raises(DataError, match=message):
        DataLoader(**arguments)


@pytest.mark.parametrize("size", [0, -1, 1.5, "8", None, True])
def test_impossible_batch_size(size):
    with pytest.raises(ArgumentError, match="batch_size must be a whole number >= 1"):
        DataLoader(np.zeros(3), batch_size=size)


def test_drop_last_that_leaves_nothing():
    with pytest.raises(ArgumentError, match="drop_last leaves no batch: 3 rows"):
        DataLoader(np.zeros(3), batch_size=4, drop_last=True)


def test_a_number_is_no_rng():
    with pytest.raises(ArgumentError, match=r"Random\(0\)"):
        DataLoader(np.zeros(3), rng=0)
