import numpy as np
import pytest

from fathom.engine.errors import ArgumentError
from fathom.models import compound_scaling

BUDGETS = 2.0 ** np.arange(8)


def test_a_doubled_budget_doubles_the_cost():
    steps = [compound_scaling(budget, base=(32, 64, 128)) for budget in BUDGETS]
    np.testing.assert_allclose([s.cost_factor for s in steps], BUDGETS, rtol=1e-12)
    costs = np.array([s.multiply_adds for s in steps])
    np.testing.assert_allclose(costs[1:] / costs[:-1], 2.0, rtol=0.05)  # whole layers and pixels
    assert all(np.diff([getattr(s, n) for s in steps]).min() > 0 for n in ("depth", "width"))


def test_the_account_is_what_the_network_costs():
    for budget in (1.0, 2.0, 4.0):
        found = compound_scaling(budget, base=(3, 6, 10))
        side = found.resolution
        summary = found.network().summary((found.width, side, side))
        assert summary.multiply_adds == found.multiply_adds


def test_the_papers_constants():
    """1.2 * 1.1^2 * 1.15^2 = 1.92, about 2; phi = 1 is the step from B0 to B1."""
    product = 1.2 * 1.1**2 * 1.15**2
    assert product == pytest.approx(2, rel=0.05)
    assert compound_scaling(product).factors == pytest.approx((1.2, 1.1, 1.15))


@pytest.mark.parametrize("alone", ["depth", "width", "resolution"])
def test_sweep_one_dimension_alone_reaches_the_same_budget_less_evenly(alone):
    rates = {"depth": (2, 1, 1), "width": (1, 2, 1), "resolution": (1, 1, 2)}[alone]
    for budget in BUDGETS[1:]:
        one, all_three = compound_scaling(budget, *rates), compound_scaling(budget)
        assert one.cost_factor == pytest.approx(all_three.cost_factor)
        assert sorted(one.factors)[:2] == [1, 1]
        assert max(one.factors) > max(all_three.factors)


def test_errors():
    with pytest.raises(ArgumentError, match="budget must be > 0"):
        compound_scaling(0)
    with pytest.raises(ArgumentError, match="not all 1"):
        compound_scaling(2, 1, 1, 1)
    with pytest.raises(ArgumentError, match="base must be a whole number"):
        compound_scaling(2, base=(0, 4, 4))
