"""What is said of a watched run: a line, blocks, JSON, the HTML page."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

import fathom
from fathom import nn, optim
from fathom.doctor.case import Case, LayerStats, ParameterStats, Step
from fathom.doctor.finding import Edit, Evidence, Finding, Fix
from fathom.doctor.reasoning import Opinion
from fathom.doctor.report import heat, plain, save
from fathom.doctor.treatment import Trial
from fathom.doctor.watching import watch
from fathom.engine.errors import OutputError


def run(*last, steps=40, lr=0.05, planned=None):
    """A watched run on iris; `last` stands behind the last layer."""
    data = fathom.data.load("iris")
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3), *last)
    x, y = fathom.tensor(data.x - data.x.mean(0)), fathom.tensor(data.y)
    optimizer, loss = optim.Adam(model.parameters(), lr=lr), nn.CrossEntropyLoss()
    with watch(model, optimizer, loss, quiet=True, budget=1.0, planned_steps=planned) as seen:
        for _ in range(steps):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
    return seen


@pytest.fixture(scope="module")
def well():
    return run(steps=150)


@pytest.fixture(scope="module")
def sick():
    return run(nn.Softmax(1))


def test_one_line_when_all_is_well(well):
    text = str(well)
    assert "\n" not in text and text.startswith("no fault found: loss 0.84 -> ")
    assert re.search(r"skill 0\.9\d; watched 3 of 3 modules at \d+ of 150 steps; overhead ", text)


def test_still_improving_is_told_in_the_line():
    seen = run(steps=30, lr=0.003)
    assert [f.kind for f in seen.findings] == ["still_improving"]
    text = str(seen)
    assert "\n" not in text
    assert re.match(r"no fault found; still improving, about [\d,]+ more steps: loss ", text)
    assert seen.to_dict()["progress"]["more_steps"] == plain.more_steps(seen) > 0
    assert seen.to_dict()["faults"] == 0


def test_a_block_for_a_finding(sick):
    head, first, *rest = str(sick).splitlines()
    assert head.startswith("1 fault found: ")
    assert first.startswith("error: softmax_before_cross_entropy in output, before the first step")
    assert any(line.startswith("  fix: ") for line in rest)
    assert any("(healthy: " in line for line in rest)
    assert all(len(line) <= plain.WIDTH for line in rest)


def finding(**changes):
    made = Finding(
        "dead_units", "warning", 0.93, "body.<b>", 64, (Evidence("share dead", 0.97, "below 0.7"),),
        "They learn no more.", Fix("a smaller rate", "lr=0.001", (Edit("lr", value=0.1),),
                                   (Fix("another start"),)), ("vanishing_gradients",),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_every_part_of_a_block():
    trial = Trial((0.1, 0.2), (0.8, 0.9), (2.0, 1.9), (2.0, 0.3), 2, True, measure="accuracy")
    text = plain.block(finding(trial=trial))
    wanted = (
        "warning: dead_units in body.<b>, since step 64 (probability 93 %)",
        "share dead: 0.97 (healthy: below 0.7)", "They learn no more.", "fix: a smaller rate",
        "lr=0.001", "or: another start", "tried: proven: score 0.15 -> 0.85 (2 seeds, 2 steps each",
        "explains: vanishing_gradients",
    )  # fmt: skip
    places = [text.index(part) for part in wanted]
    assert places == sorted(places)


def test_long_lines_are_wrapped_but_not_code():
    words = " ".join(["word"] * 60)
    lines = plain.block(finding(why=words, fix=Fix("x", "y = " + "z" * 150))).splitlines()
    assert sum("word" in line for line in lines) >= 3
    assert max(len(line) for line in lines if "word" in line) <= plain.WIDTH
    assert any(len(line) > 150 for line in lines)


def test_dictionary_is_json(sick):
    found = sick.to_dict()
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again == found and found["schema"] == plain.SCHEMA and found["engine"] == "fathom"
    assert found["faults"] == 1 and found["findings"][0]["kind"] == "softmax_before_cross_entropy"
    assert found["steps"]["taken"] == 40 and found["coverage"]["watched"]
    assert "curve" not in found


def test_rules_that_raised_are_named(sick):
    sick.case.notes.append("rule x is off: KeyError: 'y'")
    try:
        assert str(sick).endswith("note: rule x is off: KeyError: 'y'")
        assert "rule x is off" in sick.to_dict()["notes"][-1]
    finally:
        sick.case.notes.pop()


class Page(HTMLParser):
    """Checks that elements are closed, and collects addresses."""

    VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.ids = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.addresses += [given[n] for n in ("src", "href", "xlink:href") if n in given]
        if "id" in given:
            self.ids.append(given["id"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page(sick, tmp_path):
    place = save(sick, tmp_path / "deep" / "report.html")
    text = place.read_text(encoding="utf-8")
    page = Page(text)
    assert all(a.startswith(("#", "data:")) for a in page.addresses)  # it needs nothing else
    assert len(set(page.ids)) == len(page.ids)
    assert "softmax before cross entropy" in text and "prefers-color-scheme: dark" in text
    assert "the loss cannot fall below" in text and "update / weight" in text
    sampled = sick.case.steps[2]
    ratio = f"{sampled.parameters['0.weight'].ratio:.3g}"
    assert f'title="0.weight, step {sampled.number}: {ratio}"><span>{ratio}</span>' in text
    assert not list(tmp_path.glob("**/*.tmp"))


def test_page_with_trial_and_names_that_look_like_html(sick, tmp_path):
    trial = Trial((0.1,), (0.8,), (2.0, 1.9, 1.8), (2.0, 0.9, 0.3), 3, True)
    opinion, sick.opinion = sick.opinion, Opinion((finding(trial=trial),), sick.opinion.progress)
    try:
        text = save(sick, tmp_path / "report.html").read_text(encoding="utf-8")
    finally:
        sick.opinion = opinion
    Page(text)
    assert "body.&lt;b&gt;" in text and "body.<b>" not in text
    assert "with the fix" in text and "Or: another start" in text


def test_page_of_a_healthy_run_and_of_none(well, tmp_path):
    text = save(well, tmp_path / "well.html").read_text(encoding="utf-8")
    Page(text)
    assert "No fault found: loss" in text
    with watch(nn.Linear(2, 1), quiet=True) as seen:
        pass
    assert str(seen).startswith("nothing was seen to train: watched 1 of 1 modules")
    Page(save(seen, tmp_path / "none.html").read_text(encoding="utf-8"))


def test_json_file_has_the_series(sick, tmp_path):
    found = json.loads(save(sick, tmp_path / "report.json").read_text(encoding="utf-8"))
    assert len(found["curve"]) == 40 and len(found["samples"]) == found["steps"]["sampled"]
    assert found["samples"][0]["layers"]["0"]["std"] > 0


def test_where_it_cannot_be_written(sick, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the report"):
        save(sick, tmp_path / "file" / "report.html")


# -- heat maps ------------------------------------------------------------------------------------


def case_of(steps):
    case = Case()
    names = {n for s in steps for n in s.layers}
    case.layers = dict.fromkeys(sorted(names))
    case.parameters = dict.fromkeys(sorted({n for s in steps for n in s.parameters}))
    return case, setattr(case, "steps", steps)


def test_maps_show_what_was_measured():
    steps = [Step(i, 1.0, 0.1, {"a": LayerStats(std=10.0**-i), "b": LayerStats()},
                  {"a.w": ParameterStats(2.0, 0.5, 0.02, 4)}) for i in range(3)]  # fmt: skip
    case, _ = case_of(steps)
    found = {m.statistic.name: m for m in heat.maps(case)}
    assert set(found) == {"std", "weight", "gradient", "ratio"}
    row = found["std"].rows[0][1]
    assert [c.value for c in row] == ["1", "0.1", "0.01"] and len({c.colour for c in row}) == 3
    assert [name for name, _ in found["std"].rows] == ["a"]
    assert found["std"].statistic.scale == "log" and (found["std"].low, found["std"].high) == (
        "0.01", "1")  # fmt: skip
    middle = row[1].colour  # a tenth lies half way between 1 and a hundredth
    assert middle == "#{:02x}{:02x}{:02x}".format(*_cividis(0.5))


def _cividis(share):
    from fathom.train.pictures import cividis

    return cividis(np.array([share]))[0]


def test_maps_mark_what_is_not_finite():
    steps = [Step(0, 1.0, 0.1, {"a": LayerStats(std=1.0)}),
             Step(1, math.nan, 0.1, {"a": LayerStats(finite=False)}),
             Step(2, 1.0, 0.1, {})]  # fmt: skip
    case, _ = case_of(steps)
    (found,) = [m for m in heat.maps(case) if m.statistic.name == "std"]
    cells = found.rows[0][1]
    assert [c.value for c in cells] == ["1", "not finite", "not measured"]
    assert cells[1].colour == heat.BAD[0] and cells[2].colour == ""


def test_maps_are_thinned_but_keep_the_ends():
    steps = [Step(i, 1.0, 0.1, {"a": LayerStats(mean=float(i))}) for i in range(200)]
    case, _ = case_of(steps)
    (found,) = heat.maps(case)
    assert len(found.steps) == heat.COLUMNS and (found.steps[0], found.steps[-1]) == (0, 199)


def test_a_zero_on_a_log_scale_is_told_from_the_smallest_value():
    stats = [ParameterStats(1.0, g, 0.1, 4) for g in (1.0, 0.0, 1e-9)]
    case, _ = case_of([Step(i, 1.0, 0.1, {}, {"w": s}) for i, s in enumerate(stats)])
    (found,) = [m for m in heat.maps(case) if m.statistic.name == "gradient"]
    cells = found.rows[0][1]
    assert cells[1].colour == heat.NOTHING[0] and cells[2].colour == "#00224e"


def test_layers_at_fault_are_marked_and_named_with_their_kind(sick, tmp_path):
    opinion, sick.opinion = sick.opinion, Opinion((finding(where="0"),), sick.opinion.progress)
    try:
        text = save(sick, tmp_path / "report.html").read_text(encoding="utf-8")
        assert "dead_units in 0 (Linear), since step 64" in str(sick)
    finally:
        sick.opinion = opinion
    assert text.count('<tr class="marked"><th scope="row" title="0.weight">') >= 2
    assert 'class="marked"><th scope="row" title="2' not in text
