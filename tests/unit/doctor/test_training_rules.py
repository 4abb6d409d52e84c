"""Rules of the run as a whole: planted faults, their repaired twins, and the exemptions."""

import math
from functools import partial

import numpy as np
import pytest

from fathom.doctor.case import Layer
from fathom.doctor.reasoning import reason
from fathom.doctor.rules import RULES, run


def found(case):
    """Kinds of findings by name."""
    return {f.kind: f for f in reason(case, run(RULES.values(), case, {})).findings}


def raw(name, case):
    return RULES[name](case)


# -- values that are not finite --------------------------------------------------------------------


def test_non_finite_names_the_first_bad_place_and_step(made):
    steps = made.steps((0, 1, 2))
    bad = made.step(3, gradient=(0.5, math.inf, 0.5), loss=math.nan)
    case = made.case([1.4, 1.4, 1.4, math.nan], [*steps, bad])
    (hit,) = raw("non_finite", case)
    assert (hit.where, hit.since_step) == ("second", 3)


def test_a_skipped_step_is_not_non_finite(made):
    bad = made.step(2, gradient=(0.5, math.inf, 0.5))
    case = made.case(made.learned(), [*made.steps((0, 1)), bad, *made.steps((4, 8, 16))])
    assert not raw("non_finite", case)


# -- the learning rate -----------------------------------------------------------------------------


def test_rate_too_high_that_diverges(made):
    curve = [1.386, 4.0, 60.0, 900.0, 1e9, math.inf]
    case = made.case(curve, made.steps((0, 1, 2, 4), ratio=(0.5, 0.4, 0.6)))
    assert list(found(case)) == ["learning_rate_too_high"]


def test_rate_too_high_that_wanders(made):
    curve = [1.386, *(5.0 + 3.0 * np.random.default_rng(0).random(99))]
    one = found(made.case(curve, made.steps(ratio=0.3)))
    assert next(iter(one)) == "learning_rate_too_high"
    assert one["learning_rate_too_high"].since_step == 1


def test_rate_too_high_that_kills_all_units(made):
    dead = {"first": {"zero": 1.0, "dead": 1.0, "examples": 512}}
    steps = [*made.steps((0, 1, 2), ratio=0.4), *made.steps((4, 8, 16, 32), ratio=0, layers=dead)]
    curve = [1.386, 30.0, 8.0, *made.stuck(97)]
    one = found(made.case(curve, steps))
    assert list(one) == ["learning_rate_too_high"]
    assert "dead_units" in one["learning_rate_too_high"].explains


def test_long_steps_that_learn_are_fine(made):
    assert not raw("learning_rate_too_high", made.case(made.learned(), made.steps(ratio=0.2)))


def test_weight_decays_part_of_a_step_is_not_the_rates(made):
    case = made.case(made.stuck(), made.steps(ratio=0.2, lr=0.02), decay=10.0)
    assert not raw("learning_rate_too_high", case)


def test_a_spike_that_is_never_made_good(made):
    curve = [1.386, 4e4, *np.linspace(2e4, 0.7, 98)]
    assert "learning_rate_too_high" in found(made.case(curve, made.steps(ratio=0.01)))


def test_rate_too_low(made):
    one = found(made.case(made.stuck(), made.steps(ratio=1e-7, lr=1e-7)))
    assert list(one) == ["learning_rate_too_low"]
    edit = one["learning_rate_too_low"].fix.edits[0]
    assert edit.action == "lr" and 1e3 < edit.value <= 1e7


def test_rate_too_low_by_the_path_it_can_go(made):
    case = made.case(made.stuck(200), made.steps(ratio=9e-5))
    assert raw("learning_rate_too_low", case)
    case.ended, case.planned = False, 20_000  # far enough, in time
    assert not raw("learning_rate_too_low", case)


def test_small_steps_at_the_end_of_a_run_that_fits_are_fine(made):
    case = made.case(made.learned(), [*made.steps((0, 1, 2)), *made.steps((64, 99), ratio=1e-7)])
    assert not raw("learning_rate_too_low", case)


def test_a_schedule_that_takes_the_rate_away_too_early(made):
    late = made.steps((32, 64, 96, 128), ratio=0.0, lr=1e-9)
    case = made.case(made.stuck(129, at=0.5, noise=0), [*made.steps((0, 1, 2, 4)), *late],
                     loss=made.call(value=0.5), scheduled=True)  # fmt: skip
    case.curve[0], case.losses[0].value = 1.386, 1.386
    case.rates = [1e-2] * 20 + [1e-9] * 109
    (hit,) = raw("learning_rate_too_low", case)
    assert hit.since_step == 20


# -- weight decay ----------------------------------------------------------------------------------


def shrinking(made, **more):
    return [made.step(n, weight=5 * 0.5**i, **more) for i, n in enumerate((0, 1, 2, 4, 8, 16))]


def test_strong_regularization_coupled(made):
    case = made.case(made.stuck(), shrinking(made), decay=1.0, kind="SGD")
    assert list(found(case)) == ["strong_regularization"]


def test_strong_regularization_decoupled(made):
    case = made.case(made.stuck(), shrinking(made, gradient=100.0, lr=0.01), decay=1.0,
                     kind="AdamW")  # fmt: skip
    assert "strong_regularization" in found(case)


def test_usual_decay_is_fine(made):
    assert not raw("strong_regularization", made.case(made.stuck(), made.steps(), decay=1e-4))
    learns = made.case(made.learned(), shrinking(made), decay=0.1)
    assert "strong_regularization" not in found(learns)


# -- values a loss cannot have ---------------------------------------------------------------------


def test_loss_below_bound_and_at_zero(made):
    low = made.case([0.2, -5.0], loss=made.call("binary_cross_entropy", value=-5.0, step=1))
    assert raw("loss_below_bound", low)[0].since_step == 1
    assert raw("loss_zero_at_start", made.case([0.0], loss=made.call(value=0.0)))
    fine = made.case([1.386])
    assert not raw("loss_below_bound", fine) and not raw("loss_zero_at_start", fine)


def test_losses_of_the_users_own_may_be_negative(made):
    assert not raw("loss_below_bound", made.case([-3.0], loss=made.call("custom", value=-3.0)))
    assert not raw("loss_zero_at_start", made.case([0.0], loss=made.call("custom", value=0.0)))


# -- validation ------------------------------------------------------------------------------------


def validated(made, values, curve=None, **more):
    pairs = [(10 * (i + 1), v) for i, v in enumerate(values)]
    return made.case(made.learned() if curve is None else curve, made.steps(), validation=pairs,
                     **more)  # fmt: skip


def test_overfitting_from_its_lowest_validation_loss_on(made):
    case = validated(made, [1.2, 1.0, 0.8, 0.75, 0.8, 0.95, 1.1, 1.3])
    (hit,) = raw("overfitting", case)
    assert hit.since_step == 40


@pytest.mark.parametrize(
    "values",
    [
        [1.2, 1.0, 0.8, 0.7, 0.65, 0.6],  # still falls
        [1.2, 0.9, 1.3],  # too few
        [0.8, 0.6, 0.9, 0.7, 1.0, 0.65, 0.95, 0.7],  # up and down
        [0.3, 0.1, 0.11, 0.13, 0.15, 0.16],  # risen, and good nevertheless
    ],
)
def test_not_overfitting(made, values):
    assert not raw("overfitting", validated(made, values))


def test_overfitting_needs_a_training_loss_that_falls(made):
    curve = [*made.learned(20), *([0.5] * 80)]
    values = [1.2, 1.0, 0.8, 0.75, 0.8, 0.95, 1.1, 1.3]
    assert not raw("overfitting", validated(made, values, curve))


def test_train_eval_gap(made):
    case = validated(made, [6.0, 7.0, 6.5])
    case.validation = [(40, 6.0), (60, 7.0), (80, 6.5)]
    assert not raw("train_eval_gap", case)  # nothing that depends on the mode
    case.layers["norm"] = Layer("norm", "BatchNorm1d")
    assert raw("train_eval_gap", case)[0].where == "norm"
    case.validation[0] = (5, 6.0)
    case.validation[1:] = []
    assert not raw("train_eval_gap", case)  # running statistics take their time


def test_no_signal_from_validation(made):
    curve = np.linspace(1.386, 0.9, 100)
    noise = [1.39, 1.40, 1.42, 1.45, 1.5]
    assert list(found(validated(made, noise, curve))) == ["no_signal"]
    assert not raw("no_signal", validated(made, [1.3, 1.2, 1.1, 1.0], curve))


def test_no_signal_without_validation(made):
    case = made.case(made.stuck(200), made.steps(ratio=3e-3))
    assert list(found(case)) == ["no_signal"]
    short = made.case(made.stuck(70), made.steps(ratio=3e-3))
    assert list(found(short)) == ["not_learning"]


# -- how it came out -------------------------------------------------------------------------------


def test_still_improving_says_for_how_long(made):
    curve = 1.386 * 0.99 ** np.arange(100)
    one = found(made.case(curve, made.steps()))
    assert list(one) == ["still_improving"] and one["still_improving"].severity == "advice"
    steps = int(one["still_improving"].evidence[1].value)
    assert 80 <= steps <= 200  # it takes 130: 0.99**229 is a tenth


def test_still_improving_is_silent_while_it_goes_on_and_when_done(made):
    curve = 1.386 * 0.99 ** np.arange(100)
    assert not raw("still_improving", made.case(curve, made.steps(), ended=False))
    assert not raw("still_improving", made.case(made.learned(200), made.steps()))


def test_underfitting_where_a_layer_is_small(made):
    narrow = np.random.default_rng(0).normal(size=(2, 8))
    case = made.case(made.stuck(200, at=0.8), made.steps(), weight=narrow)
    case.losses[0].value = case.curve[0] = 1.386
    assert raw("underfitting", case)
    wide = made.case(made.stuck(200, at=0.8), made.steps())
    wide.losses[0].value = wide.curve[0] = 1.386
    assert not raw("underfitting", wide)


def test_not_learning_is_silent_where_the_loss_is_not_known(made):
    case = made.case(made.stuck(200), made.steps(), loss=made.call("custom"))
    assert not found(case)


def test_a_healthy_run_has_no_findings(made):
    assert not found(made.case(made.learned(200), made.steps()))


# -- what the loop adds to the loss, and where gradients go bad ------------------------------------


def penalized(made, left):
    """A loss that stays, and a sum of absolute weights added to it that falls with them."""
    calls = [made.call(value=1.386, step=n) for n in (0, 64, 128)]
    case = made.case([1.386 + 10 * 0.9**i for i in range(200)], made.steps((0, 64, 128)),
                     loss=calls[0])  # fmt: skip
    case.losses = calls
    for p in case.parameters.values():
        p.initial = np.ones(p.shape)
        p.value = partial(np.full, p.shape, left)
    return case


def test_an_added_penalty_that_eats_the_weights(made):
    (hit,) = raw("strong_regularization", penalized(made, left=0.01))
    assert hit.where == "loss" and hit.evidence[0].value == pytest.approx(10 / 1.386, rel=0.01)


def test_an_added_term_that_leaves_the_weights_alone_is_fine(made):
    assert not raw("strong_regularization", penalized(made, left=0.9))
