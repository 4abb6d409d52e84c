"""Figures as SVG: every mark inside its axes, every word on the page, none upon another."""

import json
import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fathom.book import draw
from fathom.book.figure import Axis, Bars, Figure, Heat, Level, Line
from fathom.book.lettering import SIZE, width, wrap
from fathom.book.scale import Scale, values_of, words
from fathom.book.text import T

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [T(word, f"第{i}个类别的名称") for i, word in enumerate("one two three four five".split())]
CATEGORIES = Axis(T("which of them", "哪一个"), ticks=NAMES)
PLAIN, LOG = Axis(T("measured quantity", "测得的量")), Axis(T("size", "大小"), log=True)


def told(marks: list[Any], x: Axis = PLAIN, y: Axis = PLAIN) -> dict[str, Any]:
    return Figure(x, y, marks, T("What one sees.", "所见。")).as_json()


CURVE = Line(
    T("a", "甲"), [1, 2, 4, 8], [1.0, 0.1, 0.01, 1e-9], [0.5, 0.05, 0.0, 0.0], [2, 1, 1, 1]
)
GAPS = Line(T("b", "乙"), np.arange(40.0), [*np.ones(20), np.nan, *-np.ones(19)])
FIGURES = {
    "log": told([CURVE, Level(T("limit", "界限"), y=1e-3)], LOG, LOG),
    "gaps": told([GAPS, Level(T("here", "此处"), x=50.0)]),
    "points": told([Line(T("c", "丙"), np.arange(50.0), np.arange(50.0) ** 2, points=True)]),
    "bars": told([Bars(T(n, n), [1, -2, 3, 0, 5], [0] * 5, [6] * 5) for n in "abc"], CATEGORIES),
    "log bars": told([Bars(T("d", "丁"), [1e-9, 0.0, 1, 10, 1e6])], CATEGORIES, LOG),
    "heat": told([Heat(T("e", "戊"), [[1, 2], [3, np.nan]], (0, 1), (5, 7))]),
    "flat": told([Line(T("f", "己"), [3.0], [7.0])]),
    "nothing": told([Line(T("g", "庚"), [np.nan], [np.nan])], LOG),
}


@pytest.mark.parametrize("page", [draw.WIDE, draw.NARROW])
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", FIGURES)
def test_everything_stands_on_the_page(name: str, language: str, page: float) -> None:
    drawn = draw.svg(FIGURES[name], language, page)
    assert drawn == draw.svg(FIGURES[name], language, page)
    root = ElementTree.fromstring(drawn)
    _, _, wide, high = map(float, root.attrib["viewBox"].split())
    axes = json.loads(root.attrib["data-axes"])
    left, top, right, bottom = axes["box"]
    assert 0 < left < right < wide == page and 0 < top < bottom < high
    assert "nan" not in drawn and "inf" not in drawn
    for path in root.findall(f"{SVG}path"):  # those of the legend are in groups
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.attrib["d"]):
            assert left - 0.1 <= float(x) <= right + 0.1 and top - 0.1 <= float(y) <= bottom + 0.1
    boxes = [box(text) for text in root.findall(f"{SVG}text") if "transform" not in text.attrib]
    for a, b, line, _ in boxes:
        assert -1 <= a and b <= wide + 1 and 0 < line < high
    for i, (a, b, line, text) in enumerate(boxes):
        for c, d, other, more in boxes[:i]:
            assert b <= c or d <= a or abs(line - other) > 10, (text, more)


def box(text: ElementTree.Element) -> tuple[float, float, float, str]:
    x, wide = float(text.attrib["x"]), width(text.text or "", SIZE)
    back = {"middle": 0.5, "end": 1.0}.get(text.attrib.get("text-anchor", ""), 0.0)
    return x - back * wide, x + (1 - back) * wide, float(text.attrib["y"]), text.text or ""


def test_a_point_lies_where_the_page_looks_for_it() -> None:
    """`data-axes` leads from a value to its marker, on both kinds of axes."""
    drawn = draw.svg(FIGURES["log"], "en")
    axes = json.loads(re.search(r"data-axes='([^']+)'", drawn)[1])  # type: ignore[index]
    left, top, right, bottom = axes["box"]
    at = [Scale(*axes[axis], log=True).at(value) for axis, value in (("x", 4.0), ("y", 0.01))]
    place = left + at[0] * (right - left), bottom - at[1] * (bottom - top)
    assert f"M{place[0]:.1f} {place[1]:.1f}m-3,0a3,3" in drawn


def test_bars_of_a_group_stand_side_by_side_on_nought() -> None:
    drawn = draw.svg(FIGURES["bars"], "en")
    axes = json.loads(re.search(r"data-axes='([^']+)'", drawn)[1])  # type: ignore[index]
    _, top, _, bottom = axes["box"]
    foot = bottom + axes["y"][0] / (axes["y"][1] - axes["y"][0]) * (bottom - top)
    bars = re.findall(r"M([\d.]+) ([\d.]+)V[\d.]+H([\d.]+)V[\d.]+Z", drawn)
    assert len(bars) == 15
    assert all(float(y) == pytest.approx(foot, abs=0.1) for _, y, _ in bars)
    spans = sorted((float(a), float(b)) for a, _, b in bars)
    assert all(b < c for (_, b), (c, _) in pairwise(spans))


def test_text_is_escaped() -> None:
    marks = [Line(T("<b>", "a & b"), [1, 2], [1, 2])]
    assert "&lt;b&gt;" in draw.svg(told(marks), "en") and "a &amp; b" in draw.svg(told(marks), "zh")


def test_few_measured_places_are_the_ticks() -> None:
    places = [2, 8, 32, 64]
    drawn = draw.svg(told([Line(T("a", "甲"), places, places)], LOG), "en")
    assert all(f">{place}</text>" in drawn for place in places) and ">5</text>" not in drawn


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("most", range(2, 9))
def test_ticks_are_few_round_and_within(log: bool, most: int) -> None:
    rng = np.random.default_rng(most)
    for _ in range(200):
        scale = Scale.around(10.0 ** rng.uniform(-20, 20, 2), log)
        ticks = scale.ticks(most)
        assert 1 <= len(ticks) <= most
        assert all(scale.low - 1e-9 * abs(scale.low) <= t <= scale.high * (1 + 1e-9) for t in ticks)
        assert len(set(words(ticks))) == len(ticks)


def test_axes_show_what_they_are_given() -> None:
    assert Scale.around([5.0, 5.0], log=False).at(5.0) == pytest.approx(0.5)
    assert Scale.around([-1.0, -3.0], log=False, bars=True).high == 0.0
    scale = Scale.around([0.0, 1e-3, 10.0, np.inf], log=True)
    assert np.isnan(scale.at(0.0)) and 0 < scale.at(1e-3) < scale.at(10.0) < 1
    assert values_of([1, None], 2.0).tolist() == pytest.approx([1, np.nan, 2], nan_ok=True)


@pytest.mark.parametrize(
    "text", ["gradient of the first over the last", "首层与末层梯度之比的对数"]
)
def test_wrapped_text_is_the_text(text: str) -> None:
    lines = wrap(text, 90.0, SIZE)
    assert len(lines) > 1 and all(width(line, SIZE) <= 90.0 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
