"""fathom activations: timing and choosing."""

from __future__ import annotations

import json
import shlex

import pytest

from fathom.activations import select


def test_benchmark(run):
    found = json.loads(run("activations", "relu", "tanh", "--benchmark", "--json").stdout)
    assert {row["name"] for row in found["rows"]} == {"relu", "tanh"}
    assert all(0 < row["forward"] <= row["forward_median"] for row in found["rows"])
    assert found["machine"]["cpu"] and found["machine"]["numpy"]
    assert set(found["rank_correlation"]) == {
        "formula forward", "formula both", "plain forward", "plain both", "primitive forward",
        "primitive both", "table forward",
    }  # fmt: skip
    assert all(-1 <= value <= 1 for value in found["rank_correlation"].values())
    text = run("activations", "relu", "Leaky-ReLU", "--benchmark").stdout
    assert "leaky_relu" in text and "rank correlation" in text and "cores" in text


def test_choose(run):
    words = ("activations", "--choose", "layer=output", "--choose", "task=counts")
    text = run(*words).stdout
    assert text.startswith("exponential") and "because" in text and "output.counts" in text
    found = json.loads(run(*words, "--json").stdout)
    assert found["name"] == "exponential" and found["options"]["layer"] == "output"
    deep = json.loads(run("activations", "--choose", "depth=20", "--json").stdout)
    assert deep["name"] == "selu" and deep["init"] == "lecun_normal_"


def test_rules(run):
    assert run("activations", "--rules").stdout.strip() == select.tree()
    found = json.loads(run("activations", "--rules", "--json").stdout)
    assert [rule["key"] for rule in found] == [rule.key for rule in select.RULES]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--choose", "layer=outptu"), "did you mean 'output'"),
        (("--choose", "layr=output"), "did you mean 'layer'"),
        (("--choose", "layer=output"), "give a task"),
        (("--choose", "layer"), "should be KEY=VALUE"),
        (("--choose", "layer=gate", "--benchmark"), "exclude each other"),
        (("relu", "--rules"), "take no NAME"),
        (("rleu", "--benchmark"), "did you mean"),
    ],
    ids=str,
)
def test_mistakes(run, words, said):
    assert said in run("activations", *words, code=2).stderr


def test_examples_of_the_help_page_work(run):
    text = run("activations", "--help").stdout
    examples = [line.strip() for line in text.splitlines() if line.startswith("  fathom")]
    assert len(examples) >= 7
    for example in examples:
        words = shlex.split(example)[1:]
        if "--choose" in words or "--rules" in words:
            run(*words)
