from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest

from fathom import activations, nn
from fathom.activations import select
from fathom.engine.errors import ArgumentError

SPACE = list(itertools.product(*select.OPTIONS.values()))


def test_every_rule_fires_and_nothing_falls_through():
    fired = set()
    for values in SPACE:
        choice = select.choose(**dict(zip(select.OPTIONS, values, strict=True)))
        fired.add(choice.rule)
        first = next(r for r in select.RULES if r.fits(choice.options))
        assert choice.rule == first.key
    assert fired == {rule.key for rule in select.RULES}


@pytest.mark.parametrize("rule", select.RULES, ids=lambda r: r.key)
def test_rules_name_what_exists(rule):
    for name in (rule.name, *rule.alternatives):
        assert callable(getattr(activations, name)), name
    assert callable(getattr(nn.init, rule.init))
    assert rule.reasons and all(rule.reasons) and rule.source
    assert rule.name not in rule.alternatives
    for key, values in rule.when.items():
        assert set(values) <= set(select.OPTIONS[key])


def test_keys_are_unique_and_the_tree_shows_them_all():
    keys = [rule.key for rule in select.RULES]
    assert len(set(keys)) == len(keys)
    tree = select.tree()
    assert all(f"({key})" in tree for key in keys)
    assert [line for line in tree.splitlines() if not line.startswith(" ")] == [
        "output", "gate", "attention", "hidden",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ({"layer": "output", "task": "binary"}, "sigmoid"),
        ({"layer": "output", "task": "multiclass"}, "softmax"),
        ({"layer": "output", "task": "multilabel"}, "sigmoid"),
        ({"layer": "output", "task": "regression"}, "identity"),
        ({"layer": "output", "task": "positive"}, "softplus"),
        ({"layer": "output", "task": "counts"}, "exponential"),
        ({"layer": "output", "task": "sparse"}, "sparsemax"),
        ({"layer": "output", "task": "image", "architecture": "generator"}, "tanh"),
        ({"layer": "hidden", "depth": 50}, "selu"),
        ({"depth": 50, "normalization": "batch"}, "silu"),
        ({"architecture": "transformer"}, "gelu"),
        ({"architecture": "transformer", "layer": "gate"}, "silu"),
        ({"architecture": "transformer", "layer": "attention"}, "softmax"),
        ({"architecture": "rnn"}, "tanh"),
        ({"architecture": "rnn", "layer": "gate"}, "sigmoid"),
        ({"architecture": "cnn", "environment": "mobile", "depth": 20}, "hard_swish"),
        ({"architecture": "cnn", "environment": "int8"}, "relu6"),
        ({"architecture": "discriminator"}, "leaky_relu"),
        ({"task": "physics"}, "tanh"),
        ({}, "relu"),
    ],
    ids=str,
)
def test_answers(question, name):
    choice = select.choose(**question)
    assert choice.name == name
    assert choice.function is getattr(activations, name)
    assert choice.reasons[0] in str(choice) and choice.source in str(choice)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"layer": "hiden"}, "did you mean 'hidden'"),
        ({"architecture": "vgg"}, "known: cnn, discriminator, generator, mlp, rnn, transformer"),
        ({"layer": "output"}, "give a task"),
        ({"layer": "output", "task": "multi"}, "multiclass"),
        ({"environment": "phone"}, "known: int8, mobile, server"),
        ({"depth": 0}, "a layer or more"),
        ({"depth": "very"}, "known: deep, shallow"),
        ({"normalization": "group"}, "known: batch, layer, none"),
    ],
    ids=str,
)
def test_mistakes(question, said):
    with pytest.raises(ArgumentError) as error:
        select.choose(**question)
    assert said in str(error.value)


@pytest.fixture(scope="module")
def script():
    path = Path(__file__).parents[3] / "scripts" / "score_selector.py"
    spec = importlib.util.spec_from_file_location("score_selector", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_rules_are_scored_by_training(script, capsys):
    """The log link against outputs that cannot be counts' rates, trained for real."""
    (row,) = script.score_rules(seeds=1, only=["counts"], steps=80)
    assert row.chosen == "exponential" and row.of == 6
    assert sorted(row.ranking) == sorted(script.settings()[-3].candidates)
    assert row.ranking.index("exponential") < row.ranking.index("sigmoid")
    assert row.gap >= 0 and row.ranking[row.rank - 1] == row.chosen
    assert "output: counts" in capsys.readouterr().out


def test_every_setting_of_the_grid_can_be_trained(script):
    for setting in script.settings():
        name = select.choose(**setting.question).name
        assert script.train(setting, name, 0.01, seed=0, steps=2) > -1e9, setting.name
