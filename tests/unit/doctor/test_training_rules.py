"""Rules of the run as a whole: planted faults, their repaired twins, and the exemptions."""

import math
from functools import partial

import numpy as np
import pytest

from fathom.doctor.case import Layer
from fathom.doctor.progress import progress
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


# -- losses that are not finite without the rate being at fault ------------------------------------

BAD = {"ratio": math.nan, "gradient": math.nan, "loss": math.nan}


def of_logarithms(made, path, curve):
    """A run that falls, or rises, and whose loss is then nan."""
    steps = [*made.steps((0, 1, 2, 4), ratio=0.15), made.step(len(curve) - 1, **BAD)]
    evenly = np.full((40, 4), -1.386)
    return made.case(curve, steps, loss=made.call("custom", output=evenly, path=path, value=1.386))


FALLS = [*(1.386 * 0.9**i for i in range(12)), math.nan, math.nan]
RISES = [*(1.386 * 1.5**i for i in range(12)), math.nan, math.nan]


@pytest.mark.parametrize(("path", "curve", "rule"), [
    (("log", "softmax"), FALLS, "non_finite"),  # the logarithm of a probability that became 0
    (("log_softmax",), FALLS, "learning_rate_too_high"),
    (("softmax", "log"), FALLS, "learning_rate_too_high"),  # the logarithm is not the loss's own
    (("log", "softmax"), RISES, "learning_rate_too_high"),
    (("log", "softmax"), [1.386, 1.2, math.nan], "learning_rate_too_high"),  # too few to tell
])  # fmt: skip
def test_a_handwritten_logarithm_of_zero(made, path, curve, rule):
    assert list(found(of_logarithms(made, path, curve))) == [rule]


def test_one_finite_step_before_nan_says_nothing_of_the_rate(made):
    early = made.case([1.386, math.nan], [made.step(0, ratio=0.3), made.step(1, **BAD)])
    assert list(found(early)) == ["non_finite"]
    two = [*made.steps((0, 1), ratio=0.3), made.step(2, **BAD)]
    assert "learning_rate_too_high" in found(made.case([1.386, 1.5, math.nan], two))


@pytest.mark.parametrize(("ratio", "curve"), [
    (1.5, [1.386, math.nan]),  # more than the weights themselves
    (0.3, [1.386, 4.0, math.nan]),  # the loss rose
])  # fmt: skip
def test_one_finite_step_may_be_too_long_nevertheless(made, ratio, curve):
    case = made.case(curve, [made.step(0, ratio=ratio), made.step(1, **BAD)])
    assert "learning_rate_too_high" in found(case)


# -- how far a loss must have risen, and when ------------------------------------------------------


@pytest.mark.parametrize(("times", "told"), [
    ([1, 1, 25, 25, 25], True),
    ([1, 1, 15, 15, 15], False),  # far above, and too early for that
    ([1, 25, 25, 25], False),  # fewer than five steps
    ([1, 25, 25, 3, 25], False),  # up and down
    ([1, 1, 1, 1, 3, 3, 3, 3], True),  # from eight steps on twice the start will do
    ([1, 1, 1, 1, 1.8, 1.8, 1.8, 1.8], False),
    ([1, 1, 1, 3, 3, 3, 3], False),
])  # fmt: skip
def test_how_far_a_loss_must_rise_in_the_first_steps(made, times, told):
    curve = [1.386 * t for t in times]
    case = made.case(curve, made.steps((0, 1, 2, 4), ratio=0.5), ended=False)
    assert bool(raw("learning_rate_too_high", case)) is told


def of_no_known_scale(made, curve, ratio, steps=(0, 1, 2, 4, 8)):
    return made.case(curve, made.steps(steps, ratio=ratio), loss=made.call("custom"))


@pytest.mark.parametrize(("curve", "ratio", "steps", "told"), [
    ("falls", 0.6, (0, 1, 2, 4, 8), False),  # it learns, whatever the steps are
    ("signs", 0.6, (0, 1, 2), True),
    ("signs", 0.2, (0, 1, 2), False),  # three samples tell only of very wide ones
    ("signs", 0.2, (0, 1, 2, 4), True),
    ("signs", 0.05, (0, 1, 2, 4), False),
    ("rests", 0.2, (0, 1, 2, 4), True),
    ("grows", 0.05, (0, 1, 2, 4), True),  # a loss at twice its start
    ("grows", 0.01, (0, 1, 2, 4), False),  # with steps of usual length
])  # fmt: skip
def test_wide_steps_where_the_loss_has_no_known_scale(made, curve, ratio, steps, told):
    n = np.arange(60)
    curves = {"falls": made.learned(60), "rests": made.stuck(60), "grows": 1.0 + n,
              "signs": np.random.default_rng(0).normal(size=60)}  # fmt: skip
    case = of_no_known_scale(made, list(curves[curve]), ratio, steps)
    assert bool(raw("learning_rate_too_high", case)) is told


@pytest.mark.parametrize(("end", "told"), [(1.1, True), (0.6, False)])
def test_a_run_that_ended_on_a_rise_must_have_lost_half(made, end, told):
    """Skill is 0.2 where it is told, 0.57 where it may be a moment's."""
    curve = [1.386, 5.0, *np.linspace(1.3, 0.05, 100), *np.full(40, end)]
    case = made.case(curve, made.steps(ratio=0.2))
    assert progress(case).state == "worse"
    assert bool(raw("learning_rate_too_high", case)) is told


@pytest.mark.parametrize(("rest", "told"), [(0.7, True), (0.25, False)])
def test_a_run_that_rests_nearly_at_the_floor_had_no_rate_too_high(made, rest, told):
    noise = 0.02 * np.random.default_rng(0).normal(size=160)
    curve = [1.386, 5.0, *(np.r_[np.linspace(1.3, rest, 40), np.full(120, rest)] + noise)]
    case = made.case(curve, made.steps(ratio=0.2))
    assert progress(case).state == "plateau"
    assert bool(raw("learning_rate_too_high", case)) is told


# -- penalties in runs of which little was sampled -------------------------------------------------


def decayed(made, *, left, numbers=(0,), ended=True):
    """A run of 100 steps under a decay of 1 of which few steps were sampled."""
    case = made.case(made.stuck(), made.steps(numbers, gradient=1e-3), decay=1.0, kind="SGD",
                     ended=ended)  # fmt: skip
    for p in case.parameters.values():
        p.initial = np.ones(p.shape)
        p.value = partial(np.full, p.shape, left)
    return case


def test_one_sample_and_what_became_of_the_weights_tell_of_a_strong_decay(made):
    (hit,) = raw("strong_regularization", decayed(made, left=0.01))
    assert hit.evidence[1].value == pytest.approx(0.01)
    assert raw("strong_regularization", decayed(made, left=0.01, numbers=(0, 64)))


def test_few_samples_of_weights_that_are_still_there_tell_nothing(made):
    assert not raw("strong_regularization", decayed(made, left=0.9, numbers=(0, 64)))
    assert raw("strong_regularization", decayed(made, left=0.9, numbers=(0, 32, 64)))


@pytest.mark.parametrize("ended", [True, False])
def test_few_samples_of_a_run_that_goes_on_tell_nothing(made, ended):
    case = decayed(made, left=0.01, ended=ended)
    case.steps = [made.step(0, gradient=1e-3), made.step(64, gradient=1e-3, weight=0.05)]
    assert bool(raw("strong_regularization", case)) is ended


# -- runs that creep -------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "steps", "told"), [
    (0.04, 400, True),
    (0.08, 400, False),  # noisy labels leave no more to be learned
    (0.04, 180, False),  # it had little time
])  # fmt: skip
def test_creeping_is_not_learning_below_a_twentieth(made, end, steps, told):
    curve = 1.386 * (1 - end * np.linspace(0, 1, steps))
    case = made.case(list(curve), made.steps(ratio=1e-1), ended=True)
    assert progress(case).state == "slow"
    assert bool(raw("not_learning", case)) is told
    case.ended = False
    assert not raw("not_learning", case)  # it may get there


# -- sums with what may be negative ----------------------------------------------------------------


@pytest.mark.parametrize(("backpropagated", "told"), [
    (-5.0, True),  # the loss alone
    (3.0, False),  # beside a larger term
    (-9.0, False),
])  # fmt: skip
def test_a_negative_loss_that_is_part_of_a_sum_may_be_meant(made, backpropagated, told):
    low = made.call("binary_cross_entropy", value=-5.0, step=1)
    case = made.case([0.2, backpropagated], loss=low)
    assert bool(raw("loss_below_bound", case)) is told


def test_a_share_of_a_negative_loss_is_no_sum(made):
    case = made.case([0.1, -1.25], loss=made.call("binary_cross_entropy", value=-5.0, step=1))
    assert not raw("loss_below_bound", case)
    case.usage.accumulation = 4
    assert raw("loss_below_bound", case)
    case.usage.accumulation, case.curve = 1, [0.1]  # that step has not been added up yet
    assert raw("loss_below_bound", case)


@pytest.mark.parametrize(("loss", "target"), [
    ("cross_entropy", np.zeros(40, int)),  # labels that are all the same
    ("hinge_embedding_loss", None),  # hinges may start at 0
    ("mse_loss", np.tile([1.0, 1.0 + 1e-4], 20)[:, None]),  # a constant answers as well
])  # fmt: skip
def test_losses_that_may_be_zero_at_the_start(made, loss, target):
    output = np.zeros((40, 1)) if loss == "mse_loss" else None
    call = made.call(loss, target=target, output=output, value=0.0)
    assert not raw("loss_zero_at_start", made.case([0.0], loss=call))
    varied = np.tile([-1.0, 1.0], 20)[:, None] if loss == "mse_loss" else None
    told = "cross_entropy" if loss.startswith("hinge") else loss
    call = made.call(told, target=varied, output=output, value=0.0)
    assert raw("loss_zero_at_start", made.case([0.0], loss=call))


# -- what is exempt, beside the fault --------------------------------------------------------------


@pytest.mark.parametrize(("gradient", "told"), [(1e-9, True), (0.0, False)])
def test_without_a_gradient_it_is_not_the_rate(made, gradient, told):
    case = made.case(made.stuck(), made.steps(ratio=1e-7, gradient=gradient))
    assert bool(raw("learning_rate_too_low", case)) is told


def small(made, weight, **more):
    case = made.case(made.stuck(200, at=0.8), made.steps(), weight=weight, **more)
    case.losses[0].value = case.curve[0] = 1.386
    return case


@pytest.mark.parametrize(("shape", "told"), [
    ((4, 9), True),
    ((4, 8), False),  # no more inputs than twice its units
    ((2, 2), True),
    ((5, 64), False),
])  # fmt: skip
def test_a_layer_may_be_as_small_as_what_it_is_given(made, shape, told):
    weight = np.random.default_rng(0).normal(size=shape)
    assert bool(raw("underfitting", small(made, weight))) is told


def test_a_model_without_hidden_layers_does_not_underfit(made):
    weight = np.random.default_rng(0).normal(size=(2, 8))
    case = small(made, weight)
    assert raw("underfitting", case)
    case.parameters = {"last.weight": case.parameters["last.weight"]}
    assert not raw("underfitting", case)


def test_no_signal_needs_a_loss_of_known_scale(made):
    unknown = made.case(made.stuck(200), made.steps(ratio=3e-3), loss=made.call("custom"))
    known = made.case(made.stuck(200), made.steps(ratio=3e-3))
    assert raw("no_signal", known) and not raw("no_signal", unknown)


@pytest.mark.parametrize(("decay", "told"), [(1.0, True), (9e-4, False)])
def test_a_decay_below_a_thousandth_is_never_strong(made, decay, told):
    case = made.case(made.stuck(), shrinking(made, gradient=1e-6), decay=decay, kind="SGD")
    assert bool(raw("strong_regularization", case)) is told
