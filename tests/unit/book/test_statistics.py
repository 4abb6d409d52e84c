"""Intervals and tests against theory and scipy."""

import numpy as np
import pytest

from fathom.book.statistics import _student, interval, sign_flip, slope

scipy_stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 30, 200])
def test_student_quantile(freedom: int) -> None:
    assert _student(freedom, 0.975) == pytest.approx(scipy_stats.t.ppf(0.975, freedom), rel=1e-4)


@pytest.mark.parametrize("n", [5, 10, 20])
def test_interval_covers_as_promised(n: int) -> None:
    rng = np.random.default_rng(n)
    hits = 0
    for _ in range(400):
        low, high = interval(rng.standard_normal(n) + 3.0)
        hits += low <= 3.0 <= high
    assert 0.90 <= hits / 400 <= 0.99


def test_interval_is_the_same_each_time() -> None:
    assert interval([1.0, 2.0, 4.0]) == interval([1.0, 2.0, 4.0])


def test_interval_of_equal_values_is_a_point() -> None:
    assert interval([2.0, 2.0, 2.0]) == (2.0, 2.0)


def test_interval_with_nan_is_nan() -> None:
    assert np.isnan(interval([1.0, np.nan, 2.0])).all()


def test_sign_flip_agrees_with_scipy() -> None:
    values = np.array([0.3, 1.2, -0.4, 0.9, 0.8, 1.1, -0.2, 0.5])
    exact = scipy_stats.permutation_test(
        (values,), lambda v: v.mean(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip(values) == pytest.approx(exact)


def test_sign_flip_of_many_is_never_zero() -> None:
    assert 0 < sign_flip(np.ones(30)) < 0.01


def test_slope() -> None:
    x = np.arange(10.0)
    assert slope(x, 3 * x - 1) == pytest.approx(3.0)
