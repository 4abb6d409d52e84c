"""Every rule is a whole record, and the table in the docs is made of the records."""

import importlib.util
from pathlib import Path

import pytest

from fathom.doctor.finding import SEVERITIES
from fathom.doctor.rules import KINDS, RULES
from fathom.doctor.treatment import ACTIONS

ROOT = Path(__file__).parents[4]
CONTRACTS = {"output", "targets", "setup", "structure", "loop", "trained", "mixing"}
NAMES = frozenset(
    """
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
)


def _of(name: str) -> str:
    return RULES[name].look.__module__.rpartition(".")[2]


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_record_is_whole(name: str) -> None:
    rule = RULES[name]
    assert rule.name == name and name in NAMES
    assert rule.kind in KINDS and rule.severity in SEVERITIES
    assert rule.formula and not rule.formula.endswith(".")
    assert rule.why.endswith(".")
    assert set(rule.explains) <= NAMES - {name}
    assert len(set(rule.explains)) == len(rule.explains)
    assert all(isinstance(v, int | float) for v in rule.thresholds.values())


@pytest.mark.parametrize("name", sorted(n for n in RULES if _of(n) in CONTRACTS))
def test_contract_rules_say_when_they_are_silent(name: str) -> None:
    assert RULES[name].exempt


@pytest.mark.parametrize("name", sorted(n for n in RULES if _of(n) in CONTRACTS))
def test_every_threshold_is_used(name: str) -> None:
    """A threshold stands in the record because the function reads it."""
    source = Path(RULES[name].look.__code__.co_filename).read_text()
    for threshold in RULES[name].thresholds:
        assert f'limits["{threshold}"]' in source, threshold


def test_edits_are_named_as_treatment_knows_them() -> None:
    import re

    for path in sorted((ROOT / "fathom" / "doctor" / "rules").glob("*.py")):
        used = set(re.findall(r'\bEdit\(\s*"(\w+)"', path.read_text()))
        assert used <= set(ACTIONS), path.name


def test_the_table_in_the_docs_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("rules_table", ROOT / "scripts/doctor_rules.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    written = (ROOT / "docs" / "doctor_rules.md").read_text(encoding="utf-8")
    assert written == script.table(), "run scripts/doctor_rules.py"
