"""The report: whole without the network, accessible, true to the numbers, the same each time."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest

import fathom
from fathom.engine.errors import ArgumentError, OutputError, ShapeError
from fathom.train import History
from fathom.train.report import Outcome, softmax, write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with attributes, texts, and a check that elements nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def digits_report(path, **options):
    data = fathom.data.load("digits").subset(np.arange(300))
    with fathom.seed(0):
        model = fathom.models.mlp(64, 10, hidden=(12,))
    history = model.fit(data.x / 16, data.y, epochs=3, validation_split=0.2, seed=0, verbose=False)
    outcome = Outcome(data.y, model.predict(data.x / 16), data.classes, data.x, data.image_shape)
    write_report(
        path, model=model, history=history, outcome=outcome, title="Digits <b>&</b>",
        settings={"seed": 3, "lr": 0.001}, splits={"train": 240}, command="fathom train 'a b'",
        seconds=1.25, versions={"Fathom": "0"}, best_epoch=2, **options,
    )  # fmt: skip
    return outcome


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    outcome = digits_report(path)
    return path, outcome, Page(path.read_text(encoding="utf-8"))


def test_it_asks_nothing_of_the_network(digits):
    path, _, page = digits
    text = path.read_text(encoding="utf-8")
    for _, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
                assert value.startswith(("data:", "#")), (name, value[:60])
    for address in re.findall(r"url\(([^)]*)\)", text):
        assert address.strip("'\"").startswith(("data:", "#"))
    assert "@import" not in text and not page.all("script") and not page.all("iframe")
    outside = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_all_sections_are_there(digits):
    _, _, page = digits
    ids = [attributes["id"] for attributes in page.all("section")]
    assert ids == ["curves", "confusion", "classes", "wrong", "weights", "summary", "settings"]
    assert len(page.all("h1")) == 1 and len(page.all("main")) == 1


def test_references_and_ids_are_sound(digits):
    path, _, page = digits
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    text = path.read_text(encoding="utf-8")
    wanted = set(re.findall(r'(?:href="|url\(|aria-labelledby=")#?([\w.-]+)', text))
    assert {name for name in wanted if not name.startswith("data")} <= set(ids)


def test_numbers_are_those_of_the_test(digits):
    _, outcome, page = digits
    scores = outcome.scores()
    assert f"{scores['accuracy']:.2%}" in page.text and "1.2" in page.text
    assert "910 parameters" in page.text
    cells = [int(word) for word in re.findall(r"\b\d+\b", " ".join(
        re.search(r"true ↓ said →(.*?)Class by class", page.text).groups()))]  # fmt: skip
    counts = np.array(cells[10:]).reshape(10, 11)[:, 1:]
    assert (counts == outcome.confusion()).all()


def test_pictures_decode(digits):
    from matplotlib.image import imread

    _, outcome, page = digits
    images = page.all("img")
    assert len(images) == min(40, len(outcome.wrong())) + 12
    for attributes in images:
        assert attributes["alt"]
        kind, _, blob = attributes["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert imread(BytesIO(base64.b64decode(blob)), format="png").shape == (8, 8, 3)


def test_wrong_images_show_the_row_they_speak_of(digits):
    from matplotlib.image import imread

    _, outcome, page = digits
    row = outcome.wrong()[0]
    first = page.all("img")[0]
    image = imread(BytesIO(base64.b64decode(first["src"].partition(",")[2])), format="png")
    np.testing.assert_allclose(
        image[..., 0], 1 - outcome.inputs[row].reshape(8, 8) / 16, atol=0.003
    )
    said = outcome.classes[outcome.predicted[row]]
    assert first["alt"] == f"An image of {outcome.classes[outcome.targets[row]]}, taken for {said}"


def test_tables_have_headers_and_figures_have_words(digits):
    _, _, page = digits
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    charts = [a for a in page.all("figure") if a.get("role") == "img"]
    assert len(charts) == len(page.all("svg")) == 2
    assert all(len(chart["aria-label"]) > 20 for chart in charts)
    assert page.all("html")[0]["lang"] == "en"


def test_texts_are_escaped(digits):
    path, _, _ = digits
    assert "Digits &lt;b&gt;&amp;&lt;/b&gt;" in path.read_text(encoding="utf-8")


def test_light_dark_phone_and_print(digits):
    text = digits[0].read_text(encoding="utf-8")
    for words in ("prefers-color-scheme: dark", "@media print", "width=device-width"):
        assert words in text
    assert "currentColor" in text and "#010203" not in text


def test_same_run_same_bytes(digits, tmp_path):
    digits_report(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == digits[0].read_bytes()
    digits_report(tmp_path / "dated.html", created="2001-02-03")
    assert "2001-02-03" in (tmp_path / "dated.html").read_text(encoding="utf-8")


def test_nothing_is_left_beside_it(digits):
    assert [p.name for p in digits[0].parent.iterdir()] == ["report.html"]


def test_table_classification_shows_inputs_instead_of_pictures(tmp_path):
    data = fathom.data.load("iris")
    model = fathom.models.mlp(4, 3, hidden=())
    history = model.fit(data.x, data.y, epochs=1, verbose=False)
    path = write_report(
        tmp_path / "r.html", model=model, history=history,
        outcome=Outcome(data.y, model.predict(data.x), data.classes),
        feature_names=data.feature_names,
    )  # fmt: skip
    page = Page(path.read_text(encoding="utf-8"))
    assert "features" in [a["id"] for a in page.all("section")] and not page.all("img")
    assert "petal width (cm)" in page.text and "versicolor" in page.text


def test_regression_shows_scatter_and_errors(tmp_path):
    data = fathom.data.load("diabetes")
    model = fathom.models.mlp(10, 1, hidden=(4,))
    history = model.fit(data.x, data.y, epochs=1, verbose=False)
    outcome = Outcome(data.y, model.predict(data.x)[:, 0])
    path = write_report(tmp_path / "r.html", model=model, history=history, outcome=outcome)
    page = Page(path.read_text(encoding="utf-8"))
    assert [a["id"] for a in page.all("section")] == ["curves", "fit", "summary", "settings"]
    assert len(page.all("svg")) == 5 and "test R²" in page.text


def test_nothing_wrong_and_no_epoch(tmp_path):
    model = fathom.models.mlp(2, 2, hidden=())
    outcome = Outcome(np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]]), ("a", "b"))
    path = write_report(tmp_path / "r.html", model=model, history=History(), outcome=outcome)
    text = Page(path.read_text(encoding="utf-8")).text
    assert "Nowhere: all 2 test rows" in text and "No epoch was completed" in text


def test_unwritable_and_empty(tmp_path):
    (tmp_path / "file").write_text("")
    model = fathom.models.mlp(2, 2, hidden=())
    one = Outcome(np.array([0]), np.array([[1.0, 0.0]]), ("a", "b"))
    with pytest.raises(OutputError, match="cannot write the report"):
        write_report(tmp_path / "file" / "r.html", model=model, history=History(), outcome=one)
    none = Outcome(np.zeros(0, int), np.zeros((0, 2)), ("a", "b"))
    with pytest.raises(ArgumentError, match="at least one row"):
        write_report(tmp_path / "r.html", model=model, history=History(), outcome=none)
    with pytest.raises(ShapeError):
        Outcome(np.array([0]), np.array([[1.0, 0.0]]), ("a", "b", "c"))


def test_scores_against_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    y, outputs = draw.integers(0, 4, 200), draw.normal(size=(200, 4)) * 3
    outcome = Outcome(y, outputs, tuple("abcd"))
    scores, said = outcome.scores(), outputs.argmax(axis=1)
    assert scores["accuracy"] == sk.accuracy_score(y, said)
    assert scores["loss"] == pytest.approx(sk.log_loss(y, softmax(outputs)))
    assert scores["macro_f1"] == pytest.approx(sk.f1_score(y, said, average="macro"))
    precision, recall, f1, rows = sk.precision_recall_fscore_support(y, said)
    for i, row in enumerate(scores["per_class"]):
        assert row["precision"] == pytest.approx(precision[i])
        assert row["recall"] == pytest.approx(recall[i])
        assert row["f1"] == pytest.approx(f1[i]) and row["rows"] == rows[i]
    truth = draw.normal(size=50)
    values = truth + draw.normal(size=50) / 3
    found = Outcome(truth, values).scores()
    assert found["r2"] == pytest.approx(sk.r2_score(truth, values))
    assert found["mae"] == pytest.approx(sk.mean_absolute_error(truth, values))
    assert found["rmse"] ** 2 == pytest.approx(sk.mean_squared_error(truth, values))


def test_constant_targets_have_no_r2(tmp_path):
    outcome = Outcome(np.ones(3), np.array([1.0, 1.0, 2.0]))
    assert outcome.scores()["r2"] is None
    model = fathom.models.mlp(2, 1, hidden=())
    write_report(tmp_path / "r.html", model=model, history=History(), outcome=outcome)
