"""Ratios of times as evidence: near the edge of a region they decide nothing. No clock is read."""

import numpy as np
import pytest

from fathom.book import Routes, Settings, T, Verdict
from fathom.book.material.activation_cost import FORMULAS
from fathom.book.material.speed import Exponent, Ratio, Saved, about
from fathom.book.questions.q3_1_07_cost import roofline
from fathom.book.verdict import decide, holds

ONE = np.ones(5)
RANGE = about(5.0, 10.0)  # 4 to 12


@pytest.mark.parametrize(
    ("measured", "said"), [(8.0, True), (4.2, None), (3.8, None), (3.4, False), (13.5, False)]
)
def test_a_ratio_has_to_clear_the_edge(measured: float, said: bool | None) -> None:
    assert holds(Ratio(measured * ONE, ONE), RANGE) is said


def test_a_range_is_a_fifth_wider_than_printed() -> None:
    assert (RANGE.low, RANGE.high) == (4.0, 12.0)
    assert about(1.1).low == pytest.approx(0.88) and about(1.1).high == pytest.approx(1.32)


def test_settings_near_the_edge_do_not_hide_those_that_are_clear() -> None:
    def at(*ratios: float) -> Verdict:
        parts = {f"{r}": Routes({c: Ratio(r * ONE, ONE) for c in "ab"}) for r in ratios}
        return decide(Settings(T("size", "规模"), parts), RANGE).verdict

    assert at(2.0, 4.1, 8.0) is Verdict.DEPENDS
    assert at(2.0, 4.1) is Verdict.UNDECIDED
    assert at(2.0, 3.0) is Verdict.REFUTED


def test_rounds_widen_the_interval_further() -> None:
    steady, noisy = Ratio(ONE, ONE), Ratio(np.array([0.5, 1.5, 0.7, 1.3, 1.0]), ONE)
    assert noisy.low < steady.low and noisy.high > steady.high


def test_what_is_saved_has_the_margin_of_what_is_left() -> None:
    found = Saved(ONE, 5 * ONE)
    assert (found.mean, found.low, found.high) == pytest.approx((0.8, 0.78, 0.82))


def test_an_exponent_has_the_margin_of_its_ends() -> None:
    sizes = np.array([100.0, 200.0, 400.0])
    found, off = Exponent(sizes, np.array([sizes**3] * 3)), sizes**3 * np.array([1, 1, 1.09])
    assert found.mean == pytest.approx(3.0)
    assert found.low < Exponent(sizes, np.array([off] * 3)).mean < found.high


def test_leaky_relu_is_written_without_a_selection() -> None:
    x = np.array([-3.0, -0.0, 0.5], np.float32)
    np.testing.assert_array_equal(
        FORMULAS["leaky_relu"](x), np.where(x > 0, x, x * x.dtype.type(0.01))
    )


@pytest.mark.parametrize("width", [512, 768, 4096])
def test_roofline_is_the_closed_form_where_products_are_bound_by_arithmetic(width: int) -> None:
    """Product 16 T d^2 / 312e12, GELU 16 T d / 1.555e12: GELU's share is 1 / (1 + d / 200.6)."""
    assert roofline(width) == pytest.approx(1 / (1 + width * 1.555e12 / 312e12))
