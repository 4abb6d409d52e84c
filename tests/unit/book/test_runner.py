"""Running questions, keeping results, finding them again."""

import json
from pathlib import Path

import pytest

from fathom.book import Lab, Routes, Sample, catalogue, ledger, runner
from fathom.book.evidence import Evidence
from fathom.book.question import Claim
from fathom.book.region import at_least, equals
from fathom.book.text import T
from fathom.engine.errors import ArgumentError


def claim(measure: object, region: object = at_least(0.5), **options: object) -> Claim:
    return Claim("C2.1.8-99", T("a", "b"), "exact", region, measure, **options)  # type: ignore[arg-type]


def test_an_entry_has_every_field_of_the_docs() -> None:
    def measure(lab: Lab) -> Evidence:
        """How it is measured.

        And more.
        """
        return Sample([1.0, 1.1, 0.9])

    entry = runner.check(claim(measure), Lab("2.1.8"))
    docs = (Path(__file__).parents[3] / "docs" / "book.md").read_text()
    for name in entry:
        assert f"`{name}`" in docs, name
    assert entry["method"] == "How it is measured." and entry["n"] == 3
    json.dumps(entry, allow_nan=False)


def test_a_correction_holds_the_measured_numbers() -> None:
    made = claim(
        lambda lab: Routes(hand=0.8, library=0.81), equals(0.5),
        correction=T("it is {value:.1f}, or {n[library]:.2f}", "是 {value:.1f}"),
    )  # fmt: skip
    entry = runner.check(made, Lab("2.1.8"))
    assert entry["correction"] == {"en": "it is 0.8, or 0.81", "zh": "是 0.8"}


def test_no_correction_where_the_claim_holds() -> None:
    made = claim(lambda lab: 1.0, correction=T("{value}", "{value}"))
    assert runner.check(made, Lab("2.1.8"))["correction"] is None


def test_a_missing_package_is_said() -> None:
    made = claim(lambda lab: 1.0, needs=("not_a_package",))
    entry = runner.check(made, Lab("2.1.8"))
    assert entry["verdict"] == "not measurable" and "not_a_package" in entry["reason"]["en"]


def test_same_numbers_whatever_the_jobs(tmp_path: Path) -> None:
    questions = catalogue.select(["3.2.3", "2.2.10"])  # of the quickest that have experiments
    told = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        results = {r["question"]: r for r in runner.run(questions, folder, quick=True, jobs=jobs)}
        told.append({
            id: [(c["evidence"], c["verdict"]) for c in result["claims"]]
            for id, result in results.items()
        })  # fmt: skip
    assert told[0] == told[1] and set(told[0]) == {"3.2.3", "2.2.10"}


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    question = catalogue.question("3.2.3")
    (first,) = runner.run([question], tmp_path, quick=True, jobs=1)
    seen = []
    (again,) = runner.run([question], tmp_path, quick=True, tell=lambda r, kept: seen.append(kept))
    assert seen == [True] and again == json.loads(json.dumps(first))


def test_a_result_of_other_code_is_not_used(tmp_path: Path) -> None:
    question = catalogue.question("2.1.8")
    ledger.write(tmp_path / "2.1.8.json", {"digest": "other", "quick": True, "claims": []})
    assert runner.fresh(tmp_path, question, True) is None
    assert runner.kept(tmp_path, question) is not None


def test_a_broken_result_names_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "2.1.8.json").write_text('{"a": 1,\n  oops}')
    with pytest.raises(ArgumentError, match="line 2 column 3"):
        runner.kept(tmp_path, catalogue.question("2.1.8"))


def test_writing_leaves_nothing_half_done(tmp_path: Path) -> None:
    ledger.write(tmp_path / "a" / "x.json", {"b": "中文"})
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.json"]
    assert ledger.read(tmp_path / "a" / "x.json") == {"b": "中文"}


def test_selecting() -> None:
    assert [q.id for q in catalogue.select(["2.1.8", "C2.1.8-01"])] == ["2.1.8"]
    assert all(q.section == "2.1" for q in catalogue.select(["2.1"]))
    with pytest.raises(ArgumentError, match=r"no question '2\.1\.88'"):
        catalogue.select(["2.1.88"])
    with pytest.raises(ArgumentError, match="no claim"):
        catalogue.select(["C2.1.8-77"])


def test_the_lab_is_the_same_each_time() -> None:
    assert Lab("2.1.8").rng("a").random() == Lab("2.1.8").rng("a").random()
    assert Lab("2.1.8").rng("a").random() != Lab("2.1.8").rng("b").random()
    assert Lab("2.1.8").seeds(5) != Lab("2.1.9").seeds(5)
    assert Lab("2.1.8", quick=True).seeds(40) == Lab("2.1.8").seeds(40)[:10]
