"""The evaluation's numbers, from records made by hand; and one run from end to end."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fathom.doctor import watching
from fathom.doctor.corpus import evaluate as module
from fathom.doctor.corpus.cases import Run
from fathom.doctor.corpus.evaluate import evaluate, runs
from fathom.doctor.corpus.report import (
    Record,
    by_rule,
    calibration,
    delay,
    in_place,
    report,
    summary,
    wilson,
)
from fathom.doctor.corpus.running import observed


def record(fault: str = "zeros", *kinds: str, **changes: object) -> Record:
    findings = [{"kind": kind, "severity": "warning", "probability": 0.9, "where": "0", "since": 0,
                 "told": 4} for kind in kinds]  # fmt: skip
    made: Record = {
        "id": f"net/{fault or 'healthy'}", "family": "net", "fault": fault, "error": "",
        "expected": ["symmetric_initialization"] if fault else [], "places": ["0", "model"],
        "usage": False, "advice": False, "planned": 100, "onset": 0, "proven": None, "notes": [],
        "findings": findings,
    }  # fmt: skip
    return {**made, **changes}


RECORDS = [
    record("zeros", "symmetric_initialization", "not_learning"),
    record("zeros", "dead_units", "symmetric_initialization"),
    record("zeros", "dead_units"),
    record("zeros"),
    record(""),
    record("", "dead_units"),
]


def test_shares_count_what_they_say() -> None:
    found = {name: (v["hits"], v["of"]) for name, v in summary(RECORDS).items()
             if isinstance(v, dict) and "hits" in v}  # fmt: skip
    assert found["detected"] == (3, 4)
    assert found["right cause first"] == (1, 4)
    assert found["right cause in three"] == found["right place"] == (2, 4)
    assert found["verdict before step 1"] == (0, 4)
    assert found["verdict within 5 %"] == (2, 4)
    assert found["healthy: a warning or error"] == (1, 2)


def test_advice_counts_only_where_it_is_asked_for() -> None:
    mild = record("zeros", "still_improving")
    mild["findings"][0]["severity"] = "advice"
    assert summary([mild])["detected"]["hits"] == 0
    assert summary([{**mild, "advice": True}])["detected"]["hits"] == 1


def test_place_and_delay() -> None:
    at = record("zeros", "symmetric_initialization")
    assert in_place(at) and delay(at) == 4
    at["findings"][0]["where"] = "0.linear"
    assert in_place(at)
    at["findings"][0]["where"] = "01"
    assert not in_place(at)
    assert delay({**at, "onset": 10}) == 0 and delay(record("zeros")) is None


def test_calibration_error_is_the_distance_of_probability_and_share() -> None:
    certain = [record("zeros", "symmetric_initialization"), record("", "dead_units")]
    assert calibration(certain) == pytest.approx(0.4)  # 90 % said, 50 % true


def test_confusion_names_what_a_fault_is_taken_for() -> None:
    table = by_rule(RECORDS)
    assert table["symmetric_initialization"]["instead"] == {"dead_units": 2, "nothing": 1}
    assert table["dead_units"]["wrong"] == 2 and table["dead_units"]["healthy"] == 1
    assert "dead_units" in report(RECORDS, wrong=True)


def test_wilson_covers_the_share() -> None:
    low, high = wilson(0, 60)
    assert low == 0.0 and 0.05 < high < 0.07
    assert wilson(0, 0) == (0.0, 1.0)


def test_runs_are_of_one_split() -> None:
    chosen = runs("held-out", ["fathom"], healthy_seeds=2)
    assert {run.source.split for run in chosen} == {"held-out"}
    assert len({run.id for run in chosen}) == len(chosen)
    assert runs("tune", ["fathom"], only="iris_mlp/zeros") == [
        Run("iris_mlp", "zeros", "0", "fathom", 0)
    ]


def test_an_evaluation_goes_on_where_it_ended(tmp_path: Path) -> None:
    chosen = [Run("iris_mlp", "softmax_before_ce", "", "fathom", 0)]
    kept = tmp_path / "runs.jsonl"
    first = evaluate(chosen, jobs=1, resume=kept)
    assert not first[0]["error"] and json.loads(kept.read_text())["id"] == chosen[0].id
    assert evaluate(chosen, jobs=1, resume=kept) == first
    assert len(kept.read_text().splitlines()) == 1


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], dict[str, Any]]]:
    """Run the command line; the ids of the runs it would look at, and the options it would use."""
    seen: list[tuple[list[str], dict[str, Any]]] = []

    def looked(chosen: Sequence[Run], **options: Any) -> list[Record]:
        seen.append(([run.id for run in chosen], options))
        return RECORDS

    def run(*arguments: str) -> tuple[list[str], dict[str, Any]]:
        module.main(["--split", "tune", "--engine", "fathom", *arguments])
        return seen[-1]

    monkeypatch.setattr(module, "evaluate", looked)
    return run


def test_a_sample_is_each_nth_run(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    whole, _ = command("--only", "iris_mlp")
    some, _ = command("--only", "iris_mlp", "--sample", "3")
    assert len(whole) > 6 and some == whole[::3] and 0 < len(some) < len(whole)
    assert "detected" in capsys.readouterr().out


def test_the_budget_is_the_doctors_own_unless_one_is_given(command: Any) -> None:
    assert command("--only", "iris_mlp/zeros")[1]["budget"] is None
    assert command("--only", "iris_mlp/zeros", "--budget", "1")[1]["budget"] == 1.0


@pytest.mark.parametrize(("budget", "expected"), [(None, 0.01), (0.5, 0.5)])
def test_a_run_is_watched_with_the_budget_of_the_evaluation(
    monkeypatch: pytest.MonkeyPatch, budget: float | None, expected: float
) -> None:
    given: list[float] = []
    watch = watching.watch

    def heard(*args: Any, **keywords: Any) -> Any:
        seen = watch(*args, **keywords)
        given.append(seen.schedule.budget)
        return seen

    monkeypatch.setattr(watching, "watch", heard)
    record = observed(Run("iris_mlp", "softmax_before_ce", "", "fathom", 0), {"budget": budget})
    assert not record["error"] and given == [expected]
