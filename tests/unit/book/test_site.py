"""The site: complete, offline, well formed."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fathom.book import catalogue, runner, site


class Reader(HTMLParser):
    VOID = frozenset("meta link input br img path image".split())

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if told.get("id"):
            self.ids.append(str(told["id"]))
        self.links += [str(told[name]) for name in ("href", "src", "xlink:href") if told.get(name)]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    question = catalogue.question("2.1.8")
    out = tmp_path_factory.mktemp("site")
    site.build(out, [question], {"2.1.8": runner.answer(question, quick=True)})
    return out


PAGES = ("index.html", "wrong.html", "q/2.1.8.html")


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_well_formed_and_ask_nothing_of_anyone(built: Path, page: str) -> None:
    reader = Reader()
    reader.feed((built / page).read_text(encoding="utf-8"))
    assert not reader.open
    assert len(set(reader.ids)) == len(reader.ids)
    for link in reader.links:
        if link.startswith(("data:", "#")):
            continue
        assert not re.match(r"\w+:|//", link), link
        assert (built / page).parent.joinpath(link.split("#")[0]).exists(), link


def test_both_languages_stand_on_the_page(built: Path) -> None:
    text = (built / "q/2.1.8.html").read_text(encoding="utf-8")
    assert "What does the bias term do" in text and "偏置项有什么作用" in text


def test_a_published_fact_stands_beside_the_claim_and_its_sources(built: Path) -> None:
    text = (built / "q/2.1.8.html").read_text(encoding="utf-8")
    claim = re.search(r'<article class="claim" id="C2.1.8-10".*?</article>', text, re.DOTALL)
    assert claim
    for said in ("no dense layer", "every dense layer", "论断称", "PaLM", "2022", "0.97"):
        assert said in claim[0], said


def test_a_figure_is_data_and_a_picture(built: Path) -> None:
    told = json.loads((built / "figures/2.1.8-shifted.json").read_text(encoding="utf-8"))
    assert told["marks"][0]["mark"] == "line" and len(told["marks"][0]["x"]) == 8
    picture = (built / "figures/2.1.8-shifted.svg").read_text(encoding="utf-8")
    axes = json.loads(re.search(r"data-axes='([^']+)'", picture)[1])  # type: ignore[index]
    assert axes["box"][0] < axes["box"][2] and axes["x"][0] < 0 < axes["x"][1]


def test_same_results_same_bytes(built: Path, tmp_path: Path) -> None:
    question = catalogue.question("2.1.8")
    told = json.loads((built / "figures/2.1.8-shifted.json").read_text(encoding="utf-8"))
    result = {"question": "2.1.8", "quick": False, "claims": [], "figures": {"shifted": told}}
    pages = []
    for name in ("a", "b"):
        site.build(tmp_path / name, [question], {"2.1.8": result})
        pages.append((tmp_path / name / "q/2.1.8.html").read_bytes())
    assert pages[0] == pages[1]


def test_text_from_results_is_escaped(tmp_path: Path) -> None:
    question = catalogue.question("2.1.8")
    result = runner.answer(question, quick=True)
    result["claims"][0]["text"] = {"en": "<script>alert(1)</script>", "zh": "<b>"}
    site.build(tmp_path, [question], {"2.1.8": result})
    assert "<script>alert" not in (tmp_path / "q/2.1.8.html").read_text(encoding="utf-8")


def test_sections_have_names_and_counts(built: Path) -> None:
    text = (built / "index.html").read_text(encoding="utf-8")
    for part in ("2", "2.1"):
        assert all(name in text for name in catalogue.PARTS[part])
    claims = json.loads((built / "ledger.json").read_text(encoding="utf-8"))["claims"]
    heading = re.search(r"<h3.*?</h3>", text, re.S)[0]  # type: ignore[index]
    assert sum(map(int, re.findall(r"<b>(\d+)</b>", heading))) == len(claims)


def test_every_part_of_the_book_has_a_name() -> None:
    parts = {part for q in catalogue.catalogue().values() for part in (q.section, q.chapter)}
    assert parts == set(catalogue.PARTS)


def test_figures_stand_in_both_languages_for_both_pages(built: Path) -> None:
    text = (built / "q/2.1.8.html").read_text(encoding="utf-8")
    for page in ("roomy", "narrow"):
        for language in ("en", "zh"):
            found = re.findall(rf'<div class="plot {page}"[^>]*lang="{language}"', text)
            assert len(found) == len(catalogue.question("2.1.8").figures)
