"""Rules of layers: a planted fault, its repaired twin, and what they are exempt from."""

import math

import numpy as np
import pytest

from fathom.doctor.case import Layer
from fathom.doctor.reasoning import reason
from fathom.doctor.rules import RULES, run


def found(case):
    return {f.kind: f for f in reason(case, run(RULES.values(), case, {})).findings}


def raw(name, case):
    return RULES[name](case)


def with_layers(made, **layers):
    return made.case(made.stuck(), made.steps(layers=layers))


def test_vanishing_gradients_name_the_first_layer(made):
    one = found(made.case(made.stuck(), made.steps(gradient=(1e-6, 1e-3, 1.0))))
    assert one["vanishing_gradients"].where == "first"
    assert not raw("vanishing_gradients", made.case(made.stuck(), made.steps()))


def test_gradients_that_are_small_in_a_run_that_learns_are_fine(made):
    assert not found(made.case(made.learned(200), made.steps(gradient=(1e-6, 1e-3, 1.0))))


def test_a_last_layer_that_starts_at_zero_is_no_vanishing_gradient(made):
    steps = made.steps((0, 1), gradient=(0.0, 0.0, 1.0))
    assert not raw("vanishing_gradients", made.case([1.4, 1.4], steps))


def test_exploding_through_the_layers_from_the_first_step_on(made):
    one = found(made.case(made.stuck(), made.steps(gradient=(4e4, 500.0, 1.0))))
    assert list(one) == ["exploding_gradients"] and one["exploding_gradients"].where == "first"


def test_exploding_in_time(made):
    steps = [*made.steps((0, 1, 2, 4)), made.step(8, gradient=(0.5, 900.0, 0.5))]
    (hit,) = raw("exploding_gradients", made.case(made.stuck(), steps))
    assert (hit.where, hit.since_step) == ("second", 8)


def test_exploding_recurrent_network(made):
    case = made.case(made.stuck(), made.steps(gradient=2000.0))
    assert not raw("exploding_gradients", case)
    case = made.case(made.stuck(), made.steps(gradient=2000.0))
    case.layers["rnn"] = Layer("rnn", "RNN")
    assert raw("exploding_gradients", case)


def test_gradients_that_grow_from_zero_are_fine(made):
    steps = [made.step(0, gradient=0.0), *made.steps((1, 2, 4))]
    assert not raw("exploding_gradients", made.case(made.stuck(), steps))


DEAD = {"zero": 0.9, "dead": 0.8, "examples": 1024}


def test_dead_units(made):
    one = found(with_layers(made, second=DEAD))
    assert one["dead_units"].where == "second" and one["dead_units"].severity == "warning"


@pytest.mark.parametrize(
    "stats",
    [
        {**DEAD, "dead": 0.5},  # as in healthy runs
        {**DEAD, "examples": 64},  # too few have been seen
    ],
)
def test_units_that_may_be_alive(made, stats):
    assert not raw("dead_units", with_layers(made, second=stats))


def test_a_layer_that_died_is_an_error_from_the_step_it_died_at(made):
    gone = {"second": {"zero": 1.0, "dead": 0.3, "examples": 64}}
    steps = [*made.steps((0, 1, 2, 4)), *made.steps((8, 16, 32), layers=gone)]
    (hit,) = raw("dead_units", made.case(made.stuck(), steps))
    assert (hit.severity, hit.since_step, hit.where) == ("error", 8, "second")


def test_saturated_units(made):
    full = {"flat": 0.9}
    assert found(with_layers(made, first=full))["saturated_units"].where == "first"
    assert not raw("saturated_units", with_layers(made, first={"flat": 0.1}))
    assert not raw("saturated_units", with_layers(made, last=full))  # outputs may


def test_one_odd_sample_is_no_symptom(made):
    steps = [*made.steps((0, 1, 2)), made.step(4, layers={"first": {"flat": 0.9}})]
    assert not raw("saturated_units", made.case(made.stuck(), steps))


def test_off_centre_is_advice(made):
    case = made.case(made.stuck(50), made.steps((0, 1, 2, 4), layers={"first": {"off": 0.9}}))
    one = found(case)
    assert one["off_centre"].severity == "advice"


def test_off_centre_in_front_of_a_normalization_is_fine(made):
    case = with_layers(made, first={"off": 0.9})
    case.layers = {"first": case.layers["first"], "norm": Layer("norm", "LayerNorm"),
                   "last": case.layers["last"]}  # fmt: skip
    assert not raw("off_centre", case)


def test_constant_output_since_when(made):
    steps = [*made.steps((0, 1, 2, 4)), *made.steps((8, 16, 32, 64), spread=1e-7)]
    (hit,) = raw("constant_output", made.case(made.stuck(), steps))
    assert (hit.where, hit.since_step) == ("last", 8)
    assert not raw("constant_output", made.case(made.stuck(), made.steps()))


def test_constant_output_at_the_start_or_of_constant_targets_is_fine(made):
    early = made.steps((0, 1, 2, 4), spread=0.0)
    assert not raw("constant_output", made.case(made.stuck(5), early))
    same = made.call(target=np.zeros(40, int))
    case = made.case(made.stuck(), made.steps(spread=0.0), loss=same)
    assert not raw("constant_output", case)


def test_duplicate_units(made):
    weight = np.random.default_rng(0).normal(size=(8, 8))
    assert not raw("duplicate_units", made.case(made.stuck(), made.steps(), weight=weight))
    twins = weight.copy()
    twins[1], twins[2], twins[3] = twins[0], -2 * twins[0], twins[0]
    (hit,) = raw("duplicate_units", made.case(made.stuck(), made.steps(), weight=twins))
    assert hit.evidence[0].value == 0.5
    assert not raw("duplicate_units", made.case(made.learned(200), made.steps(), weight=twins))


def test_narrow_inputs_have_twins_by_chance(made):
    twins = np.ones((8, 2))
    assert not raw("duplicate_units", made.case(made.stuck(), made.steps(), weight=twins))


def test_every_rule_is_silent_about_an_empty_case():
    from fathom.doctor.case import Case

    off = {}
    assert not run(RULES.values(), Case(), off) and not off


def test_every_rule_stands_a_run_of_nan(made):
    off = {}
    steps = made.steps(ratio=math.nan, gradient=math.nan, loss=math.nan)
    run(RULES.values(), made.case([math.nan] * 20, steps), off)
    assert not off


def test_a_recurrent_network_that_explodes_at_its_first_step(made):
    case = made.case([5e3], made.steps((0,), gradient=3e6), ended=False)
    assert not raw("exploding_gradients", case)  # no recurrent one: a sum over many rows, perhaps
    case.layers["rnn"] = Layer("rnn", "RNN")
    (hit,) = raw("exploding_gradients", case)
    assert hit.strength >= 0.9
    case = made.case([1.4], made.steps((0,), gradient=3e6), ended=False)
    case.layers["rnn"] = Layer("rnn", "RNN")
    assert not raw("exploding_gradients", case)  # its loss is as usual


# -- what is exempt, beside the fault --------------------------------------------------------------


def test_steps_that_a_gradient_scaler_skips_do_not_explode(made):
    skipped = made.step(1, gradient=math.inf, ratio=0.0)
    case = made.case(made.stuck(), [made.step(0), skipped, *made.steps((2, 4, 8, 16, 32, 64))])
    assert not raw("exploding_gradients", case)


def test_outputs_may_be_off_centre_and_a_run_of_one_sample_says_nothing(made):
    off = {"off": 0.9}
    assert raw("off_centre", with_layers(made, second=off))
    assert not raw("off_centre", with_layers(made, last=off))
    once = [*made.steps((0, 1, 2)), made.step(4, layers={"second": off})]
    assert not raw("off_centre", made.case(made.stuck(), once))


def test_two_layers_are_too_few_for_gradients_to_vanish(made):
    case = made.case(made.stuck(), made.steps(gradient=(1e-6, 1e-3, 1.0)))
    assert raw("vanishing_gradients", case)
    case = made.case(made.stuck(), made.steps(gradient=(1e-6, 1e-3, 1.0)))
    del case.parameters["second.weight"]
    assert not raw("vanishing_gradients", case)


@pytest.mark.parametrize(("steps", "ended", "told"), [
    (64, False, True), (256, False, True), (65, False, False), (65, True, True),
])  # fmt: skip
def test_duplicates_are_looked_for_at_two_steps_and_at_the_end(made, steps, ended, told):
    twins = np.tile(np.random.default_rng(0).normal(size=(4, 8)), (2, 1))
    case = made.case(made.stuck(steps), made.steps(), weight=twins, ended=ended)
    assert bool(raw("duplicate_units", case)) is told


def test_a_gradient_that_explodes_in_a_run_that_breaks_counts(made):
    steps = [*made.steps((0, 1, 2)), made.step(4, gradient=(0.5, math.inf, 0.5), loss=math.nan)]
    case = made.case([1.386, 1.386, 1.386, 1.386, math.nan], steps)
    (hit,) = raw("exploding_gradients", case)
    assert (hit.where, hit.since_step) == ("second", 4)
