"""Gates, what explains what, and the order of findings, on hits made by hand."""

import json

import pytest

from fathom.doctor import calibration
from fathom.doctor.finding import Evidence, Fix
from fathom.doctor.reasoning import MOST, reason, worth_asking
from fathom.doctor.rules import RULES, Hit


def hit(where="layer", since=0, strength=0.8, severity=""):
    return Hit(where, (Evidence("value", 1.0),), Fix("mend it"), since, strength, severity)


@pytest.fixture
def stuck(made):
    return made.case(made.stuck(), made.steps())


@pytest.fixture
def fine(made):
    return made.case(made.learned(), made.steps())


def kinds(case, **hits):
    found = {n: h if isinstance(h, list) else [h] for n, h in hits.items()}
    return [f.kind for f in reason(case, found).findings]


def test_symptoms_of_a_run_that_learns_are_notes(fine, stuck):
    assert kinds(fine, dead_units=hit()) == []
    assert reason(fine, {"dead_units": [hit("fc1")]}).notes == ("dead_units: fc1",)
    assert kinds(stuck, dead_units=hit()) == ["dead_units"]


def test_contracts_need_no_gate(fine):
    assert kinds(fine, softmax_before_cross_entropy=hit()) == ["softmax_before_cross_entropy"]


def test_only_strong_symptoms_count_on_a_plateau(made):
    case = made.case(made.stuck(at=0.6), made.steps())
    assert kinds(case, saturated_units=hit(strength=0.55)) == []
    assert kinds(case, saturated_units=hit(strength=0.9)) == ["saturated_units"]


def test_a_contract_accounts_for_its_symptoms(stuck):
    found = reason(stuck, {"dead_units": [hit()], "not_learning": [hit()],
                           "input_scale": [hit("inputs")]})  # fmt: skip
    assert [f.kind for f in found.findings] == ["input_scale"]
    assert set(found.findings[0].explains) == {"dead_units", "not_learning"}


def test_what_began_first_accounts_for_what_came_later(stuck):
    late, early = hit(since=30), hit(since=1)
    assert kinds(stuck, exploding_gradients=early, saturated_units=late) == ["exploding_gradients"]
    assert kinds(stuck, vanishing_gradients=late, dead_units=early) == ["dead_units"]


def test_no_two_findings_account_for_each_other(stuck):
    for first, one in RULES.items():
        for second in one.explains:
            if second in RULES and first in RULES[second].explains:
                both = reason(stuck, {first: [hit()], second: [hit()]})
                assert len(both.findings) + len(both.notes) >= 1


def test_likely_contracts_stand_before_graver_symptoms(stuck):
    assert kinds(stuck, constant_output=hit(), dropout_too_strong=hit())[0] == "dropout_too_strong"


def test_advice_goes_where_there_is_a_cause(stuck):
    assert kinds(stuck, off_centre=hit()) == ["off_centre"]
    assert "off_centre" not in kinds(stuck, off_centre=hit(), duplicate_units=hit())


def test_hits_of_one_rule_are_one_finding(stuck):
    several = [hit("a", 4, 0.6), hit("b", 2, 0.9)]
    (found,) = reason(stuck, {"dropout_too_strong": several}).findings
    assert (found.where, found.since_step) == ("b", 2)
    assert str(found.evidence[-1].value).startswith("2 places: a, b")


def test_at_most_three_and_always_the_same(stuck):
    hits = {n: [hit()] for n, r in RULES.items() if r.kind == "contract"}
    first = reason(stuck, hits)
    assert len(first.findings) == MOST
    again = reason(stuck, dict(reversed(list(hits.items()))))
    assert [f.kind for f in again.findings] == [f.kind for f in first.findings]


def test_warming_up_holds_symptoms_back(made):
    rising = [made.step(n, lr=1e-5 * (n + 1)) for n in (0, 1, 2, 4, 8)]
    case = made.case(made.stuck(), rising)
    assert kinds(case, vanishing_gradients=hit()) == []


def test_probability_follows_the_table(tmp_path, monkeypatch):
    file = tmp_path / "table.json"
    monkeypatch.setattr(calibration, "PATH", file)
    calibration.save({"dead_units": [0.1, 0.2, 0.3, 0.4, 0.5]}, file)
    try:
        assert calibration.probability("dead_units", 0.5) == pytest.approx(0.3)
        assert calibration.probability("dead_units", 1.0) == pytest.approx(0.5)
        assert calibration.probability("off_centre", 1.0) == calibration.DEFAULT[-1]
        assert list(json.loads(file.read_text())) == ["dead_units"]
    finally:
        calibration.table.cache_clear()


def test_a_fitted_table_never_falls_with_strength():
    seen = [("a", s / 10, s > 4) for s in range(11) for _ in range(10)]
    row = calibration.fit(seen)["a"]
    assert row == sorted(row) and row[0] < 0.3 < 0.9 < row[-1]


def test_while_a_run_goes_on_weak_symptoms_must_last_and_sure_ones_need_not(made):
    for strength, told in ((0.8, []), (0.95, ["dead_units"])):
        case = made.case(made.stuck(40), made.steps((0, 1, 2)), ended=False)
        assert kinds(case, dead_units=hit(strength=strength)) == told
        case.usage.steps += 8
        assert kinds(case, dead_units=hit(strength=strength)) == ["dead_units"]


def test_what_was_seen_at_several_steps_counts_at_once(made):
    case = made.case(made.stuck(40), made.steps((0, 1, 2)), ended=False)
    assert kinds(case, no_gradient=hit(strength=0.5)) == ["no_gradient"]


@pytest.mark.parametrize("rate", ["learning_rate_too_low", "learning_rate_too_high"])
def test_a_rate_accounts_for_what_the_probes_say_of_it(stuck, rate):
    found = reason(stuck, {rate: [hit("optimizer")], "learning_rate_range": [hit("optimizer")],
                           "one_batch": [hit()], "linear_baseline": [hit()]})  # fmt: skip
    assert [f.kind for f in found.findings] == [rate]


def test_a_dead_path_accounts_for_inputs_that_are_ignored(stuck):
    assert kinds(stuck, dead_units=hit(), inputs_ignored=hit("inputs")) == ["dead_units"]


# -- which rules are asked -------------------------------------------------------------------------

GATED = {n for n, r in RULES.items() if "not learning" in r.gates}


def asked(case):
    return {rule.name for rule in worth_asking(case)}


def test_rules_whose_gates_are_closed_are_not_asked_while_the_run_goes_on(made):
    assert GATED and len(GATED) < len(RULES)
    learns = made.case(made.learned(40), made.steps((0, 1, 2)), ended=False)
    assert asked(learns) == set(RULES) - GATED
    rising = [made.step(n, lr=1e-5 * (n + 1)) for n in (0, 1, 2, 4, 8)]
    assert asked(made.case(made.stuck(), rising, ended=False)) == set(RULES) - GATED


@pytest.mark.parametrize("at", [1.386, 0.6])
def test_all_rules_are_asked_of_a_run_that_does_not_learn_or_may_not(made, at):
    assert asked(made.case(made.stuck(at=at), made.steps(), ended=False)) == set(RULES)


def test_all_rules_are_asked_at_the_end_and_what_they_say_is_held_back(fine):
    assert asked(fine) == set(RULES)
    opinion = reason(fine, {"saturated_units": [hit("a")]})
    assert not opinion.findings and opinion.notes == ("saturated_units: a",)


def test_a_rate_too_high_is_told_at_the_first_decision_where_the_loss_has_blown_up(made):
    """Within 32 steps, at one look: the same with less of a rise has to be seen twice."""
    for times, told in ((200.0, ["learning_rate_too_high"]), (25.0, [])):
        curve = [1.386, 1.386, *[1.386 * times] * 3]
        case = made.case(curve, made.steps((0, 1, 2, 4), ratio=0.3), ended=False)
        hits = {"learning_rate_too_high": RULES["learning_rate_too_high"](case)}
        assert hits["learning_rate_too_high"]
        assert [f.kind for f in reason(case, hits).findings] == told
