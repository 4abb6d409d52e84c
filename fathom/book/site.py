"""The book as a folder of static pages: works from a file, asks nothing of anyone.

index.html            all questions, counts of verdicts, a filter
q/2.1.8.html          a question: answer, figures, claims with their numbers and code
wrong.html            refuted claims, those that matter most first
figures/2.1.8-*.json  what each figure shows, with its .svg beside it
ledger.json           every number and verdict
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fathom.book import draw, ledger
from fathom.book.catalogue import PARTS
from fathom.book.lettering import raised
from fathom.book.question import KINDS, Question
from fathom.book.text import LANGUAGES, T
from fathom.book.verdict import Verdict
from fathom.train.writing import write_text

KIND_WORDS = dict(
    zip(
        KINDS,
        (
            T("exact", "精确计算"), T("experiment", "实验"),
            T("reference", "文献"), T("not measurable here", "此处无法测量"),
        ),
        strict=True,
    )
)  # fmt: skip
WORDS = {verdict.value: verdict.words for verdict in Verdict}


def build(
    out: Path, questions: Sequence[Question], results: Mapping[str, dict[str, Any]],
    tell: Callable[[str], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Write the site for the questions that have results; the pages, index first."""
    done = [q for q in questions if q.id in results]
    quick = any(results[q.id]["quick"] for q in done)
    whole = ledger.assemble((results[q.id] for q in done), quick, 0.0)
    templates = _Templates({"made_with": whole["made_with"], "quick": quick})
    pages = {"index.html": _index(templates, done, results)}
    pages["wrong.html"] = templates.render("wrong", root="", parts=_wrong(whole["claims"]))
    for i, question in enumerate(done):
        near = (done[i - 1] if i else None, done[i + 1] if i + 1 < len(done) else None)
        pages[f"q/{question.id}.html"] = _page(templates, out, question, results[question.id], near)
        if tell:
            tell(question.id)
    for name in ("book.css", "book.js"):
        pages[name] = (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
    for name, text in pages.items():
        write_text(out / name, text, "the page")
    ledger.write(out / "ledger.json", whole)
    return [out / name for name in pages if name.endswith(".html")]


class _Templates:
    def __init__(self, common: dict[str, Any]) -> None:
        import jinja2

        self.environment = jinja2.Environment(
            loader=jinja2.PackageLoader("fathom.book", "templates"),
            autoescape=True, trim_blocks=True, lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )  # fmt: skip
        self.environment.filters |= {"slug": slug, "raised": raised, "number": number, "fact": fact}
        self.environment.globals |= {**common, "words": WORDS, "kinds": KIND_WORDS}

    def render(self, name: str, **values: Any) -> str:
        return self.environment.get_template(f"{name}.html.j2").render(**values)


def slug(text: str) -> str:
    """A word for classes and anchors.

    >>> slug("not measurable")
    'not-measurable'
    """
    return text.replace(" ", "-").replace(".", "-")


def number(value: Any) -> str:
    """Four digits, or the word it is.

    >>> number(0.123456), number(True), number(12345678.0), number(None)
    ('0.1235', 'yes', '12,345,678', '–')
    """
    if value is None or isinstance(value, str):
        return value or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if float(value).is_integer() and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:.4g}"


def fact(value: float | str) -> str:
    """A published value as its source prints it: years without commas.

    >>> fact(1958.0), fact(0.0254), fact("GELU")
    ('1958', '0.0254', 'GELU')
    """
    return value if isinstance(value, str) else f"{value:.6g}"


def _index(
    templates: _Templates, questions: Sequence[Question], results: Mapping[str, dict[str, Any]]
) -> str:
    chapters: dict[str, dict[str, list[dict[str, Any]]]] = {}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for q in questions:
        claims = results[q.id]["claims"]
        words = (q.id, *q.title, *q.topics, *(t for c in claims for t in c["text"].values()))
        for part in {q.id, q.section, q.chapter, ""}:  # "" is the whole book
            counts[part].update(c["verdict"] for c in claims)
        entry = {"id": q.id, "title": q.title, "search": " ".join(words).lower()}
        chapters.setdefault(q.chapter, {}).setdefault(q.section, []).append(entry)
    ordered = {part: {w: n[w] for w in WORDS if n[w]} for part, n in counts.items()}
    return templates.render(
        "index", root="", questions=questions, chapters=chapters, names=PARTS, counts=ordered
    )


def _wrong(claims: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Refuted, then dependent claims, those that matter most first."""
    return {
        verdict.value: sorted(
            (c for c in claims if c["verdict"] == verdict.value),
            key=lambda c: (-c["weight"], c["id"]),
        )
        for verdict in (Verdict.REFUTED, Verdict.DEPENDS)
    }


def _page(
    templates: _Templates, out: Path, question: Question, result: dict[str, Any],
    near: tuple[Question | None, Question | None],
) -> str:  # fmt: skip
    figures = [_figure(out, question, name, told) for name, told in result["figures"].items()]
    claims = []
    for entry in result["claims"]:
        known = question.claims.get(entry["id"])
        claims.append({**entry, "code": known.code if known else ""})
    return templates.render(
        "question", root="../", q=question, figures=figures, claims=claims, previous=near[0],
        following=near[1],
    )  # fmt: skip


def _figure(out: Path, question: Question, name: str, told: dict[str, Any]) -> dict[str, Any]:
    from markupsafe import Markup

    data = f"figures/{question.id}-{name}.json"
    ledger.write(out / data, told)
    pages = {"roomy": draw.WIDE, "narrow": draw.NARROW}
    images = [
        {"page": page, "lang": language, "svg": Markup(draw.svg(told, language, wide))}
        for page, wide in pages.items() for language in LANGUAGES
    ]  # fmt: skip  # drawn by us from numbers and escaped words
    write_text(out / f"figures/{question.id}-{name}.svg", images[0]["svg"], "the figure")
    drawn = question.figures.get(name)
    safe = json.dumps(told, ensure_ascii=False).replace("<", "\\u003c")
    return {
        **told, "name": slug(name), "data": data, "images": images, "json": Markup(safe),
        "code": drawn.code if drawn else "",
    }  # fmt: skip
