"""Numeric, symbolic, forward and reverse differentiation on one function."""

import numpy as np

import fathom as ft
from fathom.autograd import compare_gradients


def chain(*xs):
    """A product of squashed numbers: every input matters to every derivative."""
    out = xs[0]
    for x in xs[1:]:
        out = out * ft.tanh(x) + ft.sin(out)
    return out


def test_four_ways_agree():
    at = np.linspace(0.3, 1.2, 6)
    table = compare_gradients(chain, at)
    exact = table["reverse"].gradient
    assert np.abs(table["forward"].gradient - exact).max() < 1e-13
    assert np.abs(table["symbolic"].gradient - exact).max() < 1e-13
    assert 0 < np.abs(table["numeric"].gradient - exact).max() < 1e-7
    assert table.value == chain(*map(ft.Tensor, at)).item()


def test_what_each_way_pays():
    few, many = (compare_gradients(chain, np.full(n, 0.5)) for n in (4, 16))
    for name, passes in (("numeric", 32), ("forward", 16), ("reverse", 1)):
        assert many[name].passes == passes
    growth = {way.name: way.operations / few[way.name].operations for way in many.ways}
    assert growth["reverse"] < 6  # with the function: 4 times the inputs, 5 times the operations
    assert growth["forward"] > 12 and growth["numeric"] > 12  # times the inputs once more
    assert many["symbolic"].written > 4 * many["symbolic"].operations  # written out, it swells


def test_the_table_has_a_line_for_each_way():
    lines = str(compare_gradients(lambda a, b: a * b + a, [2.0, 3.0])).splitlines()
    assert [line.split()[0] for line in lines] == [
        "way", "numeric", "symbolic", "forward", "reverse",
    ]  # fmt: skip


def test_an_input_that_does_not_matter():
    table = compare_gradients(lambda a, b: a * a, [3.0, 1.0])
    assert [way.gradient[1] for way in table.ways] == [0.0] * 4
