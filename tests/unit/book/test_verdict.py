"""How verdicts follow from evidence and region."""

import math

import numpy as np
import pytest

from fathom.book import (
    All,
    Check,
    NotMeasurable,
    Published,
    Routes,
    Sample,
    Settings,
    Source,
    T,
    Verdict,
    at_least,
    at_most,
    decide,
    equals,
    true,
    within,
)
from fathom.book.evidence import as_json, numbers
from fathom.book.region import stated
from fathom.engine.errors import ArgumentError

HIGH, LOW = Sample([1.0, 1.1, 0.9, 1.0, 1.05]), Sample([0.0, 0.1, -0.1, 0.05, -0.05])
WIDE = Sample([-1.0, 2.0, 0.5, 1.5, -0.5])
DEPTH = T("depth", "深度")
SURE, DOUBTFUL = Source("A", 1990, 0.9), Source("B", 1991, 0.2)
FACT, OTHER = Published("relu", (SURE,), "relu"), Published("x", (SURE,), "y")


@pytest.mark.parametrize(
    ("evidence", "region", "verdict"),
    [
        (0.5, equals(0.5, 0.01), "confirmed"),
        (0.6, equals(0.5, 0.01), "undecided"),
        (True, true(), "confirmed"),
        (Routes(a=0.6, b=0.61), equals(0.5, 0.01), "refuted"),
        (Routes(a=0.6, b=0.5), equals(0.5, 0.01), "undecided"),
        (Routes(a=0.5, b=0.5), equals(0.5), "confirmed"),
        (HIGH, at_least(0.5), "confirmed"),
        (HIGH, at_most(0.5), "undecided"),
        (Routes(a=HIGH, b=1.0), at_most(0.5), "refuted"),
        (WIDE, at_least(0.5), "undecided"),
        (All(a=1.0, b=2.0), within(0, 3), "confirmed"),
        (All(a=1.0, b=5.0), within(0, 3), "undecided"),
        (All(a=1.0, b=Routes(c=5.0, d=5.1)), within(0, 3), "refuted"),
        (Routes(x=All(a=1.0, b=5.0), y=All(a=1.0, b=4.0)), within(0, 3), "refuted"),
        (All(a=1.0, b=Check(9.0, at_least(8))), at_most(1), "confirmed"),
        (All(a=1.0, b=Check(7.0, at_least(8))), at_most(1), "undecided"),
        (Settings(DEPTH, {"2": HIGH, "50": LOW}), at_least(0.5), "depends"),
        (Settings(DEPTH, {"2": HIGH, "50": WIDE}), at_least(0.5), "undecided"),
        (Settings(DEPTH, {"2": HIGH, "8": WIDE, "50": LOW}), at_least(0.5), "depends"),
        (Settings(DEPTH, {"2": LOW, "50": LOW}), at_least(0.5), "undecided"),
        (
            Settings(DEPTH, {"2": Routes(a=0, b=0), "50": Routes(a=0, b=0)}),
            at_least(0.5),
            "refuted",
        ),
        (Published(1958, (SURE,)), equals(1958), "confirmed"),
        (Published(1959, (SURE, SURE)), equals(1958), "refuted"),
        (Published(1959, (SURE, DOUBTFUL)), equals(1958), "undecided"),
        (Published(1958, (DOUBTFUL,)), equals(1958), "undecided"),
        (Published("relu", (SURE, SURE), "swish"), stated(), "refuted"),
        (Published("relu", (SURE,), "swish"), stated(), "undecided"),
        (Published("relu", (SURE,), "relu"), stated(), "confirmed"),
        (Published("relu", (DOUBTFUL,), "relu"), stated(), "undecided"),
        (Published("relu", (SURE,), "relu"), at_most(0.01), "confirmed"),
        (
            Routes(a=OTHER, b=Published("z", (SURE,), "y")),
            stated(),
            "refuted",
        ),
        (All(a=FACT, b=Check(Published(1958, (SURE,)), equals(1958))), stated(), "confirmed"),
        (All(a=FACT, b=Check(Published(1959, (SURE,)), equals(1958))), stated(), "undecided"),
        (All(a=FACT, b=NotMeasurable(T("a paper", "论文"))), stated(), "undecided"),
        (Settings(DEPTH, {"2": FACT, "50": OTHER}), stated(), "depends"),
        (NotMeasurable(T("a cluster", "集群")), true(), "not measurable"),
        (math.nan, at_least(0), "undecided"),
        (math.inf, at_least(0), "confirmed"),
    ],
)
def test_verdict(evidence: object, region: object, verdict: str) -> None:
    assert decide(evidence, region).verdict is Verdict(verdict)  # type: ignore[arg-type]


def test_depends_names_the_settings() -> None:
    decision = decide(Settings(DEPTH, {"2": 1.0, "50": 0.0}), at_least(0.5))
    assert decision.reason.en == "holds for depth = 2; fails for depth = 50"
    assert "深度 = 2" in decision.reason.zh


@pytest.mark.parametrize("values", [[], [1.0]])
def test_a_sample_needs_two(values: list[float]) -> None:
    with pytest.raises(ArgumentError, match="two seeds"):
        Sample(values)


def test_settings_need_two() -> None:
    with pytest.raises(ArgumentError, match="two settings"):
        Settings(DEPTH, {"2": 1.0})


@pytest.mark.parametrize(
    ("value", "expected", "said"),
    [
        (True, None, "received True"),
        (np.bool_(False), None, "received False"),
        ("ReLU", True, "received True"),
        ("ReLU", None, "'ReLU' cannot be compared"),
        ("ReLU", 1943, "'ReLU' cannot be compared"),
        (1943, "1943", "1943 cannot be compared"),
    ],
)
def test_a_published_fact_is_no_verdict(value: object, expected: object, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        Published(value, (SURE,), expected)  # type: ignore[arg-type]


def test_a_published_fact_needs_a_source() -> None:
    with pytest.raises(ArgumentError, match="needs a source"):
        Published(1943, ())


def test_a_number_needs_a_region() -> None:
    with pytest.raises(ArgumentError, match="no region says whether the claim allows 1943"):
        decide(Published(1943, (SURE,)), stated())


def test_published_facts_in_the_ledger() -> None:
    told = as_json(Published(33.82 - 32.64, (SURE,)))
    assert told == {
        "kind": "published", "value": 1.18, "expected": None,
        "sources": [{"work": "A", "year": 1990, "confidence": 0.9}],
    }  # fmt: skip
    assert as_json(FACT)["expected"] == "relu"
    assert as_json(Published(1958, (SURE,)))["value"] == 1958
    assert numbers(All(a=FACT, b=Published(640, (SURE,)))) == {"b": 640.0}


def test_reasons_speak_of_sources_where_phrases_are_compared() -> None:
    reason = decide(Published("relu", (SURE, SURE), "swish"), stated()).reason
    assert reason.en == "2 sources state otherwise" and "2 个来源" in reason.zh


def test_every_verdict_has_words_in_both_languages() -> None:
    assert {v.words.zh for v in Verdict} == {"证实", "证伪", "视条件而定", "未决", "此处无法测量"}
