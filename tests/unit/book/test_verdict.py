"""How verdicts follow from evidence and region."""

import math

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
from fathom.engine.errors import ArgumentError

HIGH, LOW = Sample([1.0, 1.1, 0.9, 1.0, 1.05]), Sample([0.0, 0.1, -0.1, 0.05, -0.05])
WIDE = Sample([-1.0, 2.0, 0.5, 1.5, -0.5])
DEPTH = T("depth", "深度")
SURE, DOUBTFUL = Source("A", 1990, 0.9), Source("B", 1991, 0.2)


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
        (Published(1958, (SURE,), expected=True), equals(1958), "confirmed"),
        (Published(1959, (SURE, SURE)), equals(1958), "refuted"),
        (Published(1959, (SURE, DOUBTFUL)), equals(1958), "undecided"),
        (Published("relu", (SURE, SURE), expected="swish"), true(), "refuted"),
        (Published(True, (SURE,)), true(), "confirmed"),
        (Published(True, (DOUBTFUL,)), true(), "undecided"),
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


def test_every_verdict_has_words_in_both_languages() -> None:
    assert {v.words.zh for v in Verdict} == {"证实", "证伪", "视条件而定", "未决", "此处无法测量"}
