"""Named streams: the same seed and name give the same numbers, whatever else is drawn."""

import json

import numpy as np
import pytest

import fathom
from fathom.engine import random
from fathom.engine.errors import ArgumentError
from fathom.engine.random import Random


def test_draws_depend_on_seed_name_and_index_alone() -> None:
    a, b = Random(3), Random(3)
    b.stream("other").normal((100,))
    for _ in range(3):
        np.testing.assert_array_equal(a.stream("init").normal((5,)), b.stream("init").normal((5,)))
    assert not np.array_equal(a.stream("x").normal((5,)), a.stream("y").normal((5,)))
    assert not np.array_equal(Random(4).stream("init").normal((5,)),
                              Random(3).stream("init").normal((5,)))  # fmt: skip


def test_draw_number_i_does_not_depend_on_sizes_before_it() -> None:
    a, b = Random(0).stream("s"), Random(0).stream("s")
    a.uniform((1,))
    b.uniform((1000,))
    np.testing.assert_array_equal(a.uniform((4,)), b.uniform((4,)))


def test_draws_within_a_stream_differ() -> None:
    s = Random(0).stream("s")
    assert len({float(s.uniform()) for _ in range(1000)}) > 990


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distributions(dtype) -> None:
    s = Random(0).stream("s")
    u = s.uniform((20000,), -1.0, 3.0, dtype)
    assert u.dtype == dtype and u.min() >= -1 and u.max() <= 3
    assert abs(float(u.astype(np.float64).mean()) - 1) < 0.05
    z = s.normal((20000,), 2.0, 0.5, dtype)
    assert z.dtype == dtype
    assert abs(float(z.astype(np.float64).mean()) - 2) < 0.02
    assert abs(float(z.astype(np.float64).std()) - 0.5) < 0.02


def test_whole_numbers_permutations_and_coins() -> None:
    s = Random(0).stream("s")
    n = s.integers(2, 5, (1000,))
    assert n.dtype == np.int64 and set(n.tolist()) == {2, 3, 4}
    assert sorted(s.permutation(10).tolist()) == list(range(10))
    coins = s.bernoulli(0.25, (20000,))
    assert coins.dtype == np.bool_ and abs(coins.mean() - 0.25) < 0.02


def test_state_goes_through_json_and_goes_on() -> None:
    rng = Random(5)
    rng.stream("a").normal((3,))
    rng.stream("b").normal((3,))
    state = json.loads(json.dumps(rng.state_dict()))
    expected = [rng.stream(n).normal((3,)) for n in "abc"]
    other = Random(99)
    other.load_state_dict(state)
    for name, values in zip("abc", expected, strict=True):
        np.testing.assert_array_equal(other.stream(name).normal((3,)), values)
    assert repr(other) == "Random(seed=5, a@2, b@2, c@1)"


def test_spawned_parts_are_independent_and_fixed() -> None:
    a = Random(1).spawn("worker-0")
    assert a.seed == Random(1).spawn("worker-0").seed
    assert len({Random(1).spawn("worker-1").seed, a.seed, Random(2).spawn("worker-0").seed}) == 3


@pytest.mark.parametrize("bad", [-1, 1.5, "a", True])
def test_bad_seeds(bad) -> None:
    with pytest.raises(ArgumentError, match="whole number >= 0"):
        Random(bad)


def test_current_is_a_context() -> None:
    with fathom.seed(0) as outer:
        assert random.current() is outer
        with fathom.seed(1) as inner:
            assert random.current() is inner
        assert random.current() is outer
        mine = Random(2)
        with random.use(mine):
            assert random.current() is mine
        assert fathom.manual_seed(4).seed == 4 and random.current().seed == 4


def test_without_a_seed_each_is_different() -> None:
    assert Random().seed != Random().seed
