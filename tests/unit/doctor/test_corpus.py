"""The corpus: every program runs on both engines, always the same, and faults are edits."""

import warnings
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest

from fathom.doctor.corpus import (
    FAMILIES,
    FAULTS,
    HEALTHY,
    SPLITS,
    Family,
    Recipe,
    api,
    available,
    counted,
    faulty,
    healthy,
)
from fathom.doctor.corpus.parts import weighted

RULES = """
one_unit_softmax softmax_before_cross_entropy sigmoid_before_bce_with_logits
probabilities_expected activation_on_logits softmax_wrong_axis unreachable_targets wrong_loss
label_range loss_broadcast sum_reduction input_scale target_scale symmetric_initialization
initialization_scale initial_loss no_nonlinearity bottleneck missing_from_optimizer
stale_optimizer wrongly_frozen batchnorm_few_samples eval_mode_in_training
train_mode_in_evaluation dropout_too_strong inputs_constant non_finite exploding_gradients
vanishing_gradients dead_units saturated_units off_centre constant_output
learning_rate_too_high learning_rate_too_low missing_zero_grad gradients_cleared missing_step
frozen_parameters no_gradient duplicate_units strong_regularization loss_below_bound
loss_zero_at_start overfitting underfitting still_improving train_eval_gap no_signal
not_learning one_batch learning_rate_range inputs_ignored sample_mixing linear_baseline
permuted_labels
""".split()

ENGINES = [
    "fathom",
    pytest.param("torch", marks=pytest.mark.skipif(not available("torch"), reason="no PyTorch")),
]
SOURCES = {**FAMILIES, **HEALTHY}
KINDS = "tables digits sequences text images autoencoders gans contrastive policies".split()


def brief(source: Family, recipe: Recipe | None = None, steps: int = 3) -> Recipe:
    return replace(recipe or source.recipe, steps=steps)


def trained(engine: str, source: Family, recipe: Recipe, seed: int = 0) -> list[np.ndarray]:
    one = api(engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = source.program(one, recipe, seed)
        program.run()
    return [one.numpy(p) for p in program.model.parameters()]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SOURCES)
def test_a_healthy_program_trains(engine: str, name: str) -> None:
    source, one = SOURCES[name], api(engine)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = source.program(one, brief(source))
        before = [one.numpy(p) for p in program.model.parameters()]
        program.run()
        assert -1.0 <= program.score() <= 1.0
    after = [one.numpy(p) for p in program.model.parameters()]
    assert all(np.isfinite(a).all() for a in after)
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert program.planned == 3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["iris_mlp", "digits_cnn_bn", "diabetes_mlp", "gan_clouds"])
def test_a_program_is_the_same_each_time(engine: str, name: str) -> None:
    source = SOURCES[name]
    first, again, other = (trained(engine, source, brief(source), seed) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def applying(fault: str) -> Family:
    """The family with the fewest parameters to try a fault on."""
    fits = [f for f in FAMILIES.values() if FAULTS[fault].applies(f)]
    assert fits, f"{fault} applies nowhere"
    return min(fits, key=lambda f: (f.kind not in ("tables", "sequences"), f.recipe.width))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_an_edit_and_runs(engine: str, name: str) -> None:
    fault, source = FAULTS[name], applying(name)
    for strength in fault.strengths:
        recipe = fault.recipe(source, strength)
        changed = {f.name for f in fields(Recipe)
                   if getattr(recipe, f.name) != getattr(source.recipe, f.name)}  # fmt: skip
        assert changed, f"{name} {strength} changes nothing"
        only = fault.engines.get(strength, engine)
        if only != engine:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = source.program(api(engine), brief(source, recipe))
            program.run()
        assert [where for where in fault.where(program.model, recipe)]


@pytest.mark.parametrize("name", FAULTS)
def test_expected_causes_are_rules(name: str) -> None:
    assert set(FAULTS[name].expected) <= set(RULES)


def test_many_rules_have_a_fault() -> None:
    canonical = {fault.kind for fault in FAULTS.values()}
    assert len(canonical) >= 35


def test_splits_are_by_family_and_hold_all_kinds() -> None:
    assert not set(FAMILIES) & set(HEALTHY)
    assert len(FAMILIES) >= 30 and len(HEALTHY) >= 60
    shares = Counter(f.split for f in FAMILIES.values())
    assert set(shares) == set(SPLITS) and min(shares.values()) >= 0.2 * len(FAMILIES)
    assert {f.kind for f in FAMILIES.values()} == set(KINDS)
    for split in ("tune", "held-out"):
        here = {f.kind for f in SOURCES.values() if f.split == split}
        assert here == set(KINDS)
    seen = [{run.family for run in faulty(s, "fathom")} | {run.family for run in healthy(
        s, "fathom")} for s in SPLITS]  # fmt: skip
    assert not seen[0] & seen[1] and not seen[1] & seen[2] and not seen[0] & seen[2]


def test_counted_cases_do_harm_or_are_always_wrong() -> None:
    cases = counted()
    assert len({c["family"] for c in cases}) == len(FAMILIES)
    assert len({(c["family"], c["fault"], c["strength"]) for c in cases}) == len(cases)
    for case in cases:
        fault = FAULTS[case["fault"]]
        assert fault.applies(FAMILIES[case["family"]]) and case["strength"] in fault.strengths
        assert fault.always or case["healthy"] - case["faulty"] >= 0.149
        assert case["engines"]
    assert {c["fault"] for c in cases} >= set(FAULTS) - {"tanh_on_logits"}


def test_a_frozen_part_keeps_its_weights_and_the_rest_moves() -> None:
    source = FAMILIES["iris_mlp"]
    one, recipe = api("fathom"), FAULTS["frozen_body"].recipe(source, "")
    program = source.program(one, brief(source, recipe))
    before = {n: one.numpy(p) for n, p in program.model.named_parameters()}
    program.run()
    head = weighted(program.model)[-1]
    for name, p in program.model.named_parameters():
        assert (one.numpy(p) == before[name]).all() == (not name.startswith(head))
