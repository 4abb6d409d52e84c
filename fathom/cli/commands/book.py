"""`fathom book`: the questions of a textbook, their claims, and running the experiments."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console
from fathom.cli.options import Command, json_option, option

if TYPE_CHECKING:
    from fathom.book.question import Question

OUT = Path("book-out")
CHANGED = 1  # a verdict is not the committed one, or a check failed


@click.group(
    "book",
    short_help="A textbook's claims, checked by experiment.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """A textbook of deep learning, checked line by line.

    Every claim is a function that measures, and a rule stated beforehand that gives the verdict:
    confirmed, refuted, depends, undecided, not measurable. Every command takes --json.

    \b
    Examples:
      fathom book ask "why do gradients vanish"
      fathom book run 3.2 --quick
      fathom book report
    """


def out_option(function: Any) -> Any:
    return option(
        "--out", type=click.Path(path_type=Path), default=OUT, show_default=True,
        metavar="FOLDER", help="Where results, ledger and site are written.",
    )(function)  # fmt: skip


def language_option(function: Any) -> Any:
    return option(
        "--lang", "language", type=click.Choice(["en", "zh"]), default="en", show_default=True,
        help="English or Chinese.",
    )(function)  # fmt: skip


@command.command(
    "list", cls=Command, examples=("fathom book list", "fathom book list 2.1 --lang zh")
)
@click.argument("parts", metavar="[PART]...", nargs=-1)
@language_option
@json_option
def list_(parts: tuple[str, ...], language: str, as_json: bool) -> None:
    """List the questions, or those of a chapter ("3") or section ("2.1")."""
    from fathom.book import ledger

    questions = _chosen(parts)
    known = ledger.reference()
    rows = [
        {
            "id": q.id, "title": getattr(q.title, language), "claims": len(q.claims),
            "verdicts": dict(Counter(known[c]["verdict"] for c in q.claims if c in known)),
        }
        for q in questions
    ]  # fmt: skip
    if as_json:
        console.print_json(rows)
        return
    for row in rows:
        counts = ", ".join(f"{n} {word}" for word, n in row["verdicts"].items())
        console.show(f"{row['id']:<7}{row['title']}" + (f"  ({counts})" if counts else ""))


@command.command(
    "show", cls=Command, examples=("fathom book show 2.1.8", "fathom book show S.3 --lang zh")
)
@click.argument("id", metavar="QUESTION")
@language_option
@json_option
def show(id: str, language: str, as_json: bool) -> None:
    """Show a question: its answer, its claims and the committed verdicts."""
    from fathom.book import catalogue, ledger
    from fathom.book.verdict import Verdict

    question, known = catalogue.question(id), ledger.reference()
    if as_json:
        claims = [
            known.get(c.id)
            or {"id": c.id, "text": c.text._asdict(), "rule": c.region.words._asdict()}
            for c in question.claims.values()
        ]
        console.print_json({**_told(question), "claims": claims})
        return
    answer, flips = getattr(question.answer, language), getattr(question.flips, language)
    console.show(f"{question.id}  {getattr(question.title, language)}", "", answer, "", flips, "")
    for claim in question.claims.values():
        entry = known.get(claim.id)
        verdict = getattr(Verdict(entry["verdict"]).words, language) if entry else "-"
        console.show(f"{claim.id}  [{verdict}]  {getattr(claim.text, language)}")
        if entry and entry["correction"]:
            console.show(f"    {entry['correction'][language]}")


@command.command(
    "run",
    cls=Command,
    examples=(
        "fathom book run 2.1.8",
        "fathom book run 3.2 S.3 --quick",
        "fathom book run --all --out book-out",
    ),
)
@click.argument("parts", metavar="[PART]...", nargs=-1)
@option("--all", "every", is_flag=True, help="All questions.")
@option("--quick", is_flag=True, help="Fewer seeds and smaller sizes; results are marked so.")
@option("--jobs", type=int, metavar="N", help="Questions at a time; all cores by default.")
@option("--again", is_flag=True, help="Run also what the folder has already.")
@out_option
@json_option
def run(
    parts: tuple[str, ...], every: bool, quick: bool, jobs: int | None, again: bool, out: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Run questions ("2.1.8"), sections ("3.2") or chapters ("2"): check claims, draw figures.

    Results are kept as they come: a stopped run goes on where it was. Exit code 1 if a check
    failed or a verdict is not the committed one.
    """
    from fathom.book import ledger, runner

    if not parts and not every:
        raise click.UsageError("name questions, sections or chapters, or give --all")
    questions = _chosen(() if every else parts)
    began = time.perf_counter()
    folder = out / ("results-quick" if quick else "results")
    with _Progress(questions, sys.stderr if as_json else sys.stdout) as progress:
        results = list(
            runner.run(questions, folder, quick=quick, jobs=jobs, again=again, tell=progress.tell)
        )
    good = [r for r in results if "error" not in r]
    order = {q.id: i for i, q in enumerate(questions)}
    good.sort(key=lambda r: order[r["question"]])
    whole = ledger.assemble(good, quick, time.perf_counter() - began)
    ledger.write(out / ("ledger-quick.json" if quick else "ledger.json"), whole)
    changed = ledger.compare(whole["claims"])
    failed = [r for r in results if "error" in r]
    if as_json:
        console.print_json({**whole, "changed": changed, "failed": failed})
    else:
        _summary(whole, changed, failed)
        console.show(f"next    fathom book report --out {out}")
    if failed or (changed and not quick):
        raise SystemExit(CHANGED)


@command.command(
    "report", cls=Command, examples=("fathom book report", "fathom book report --out book-out")
)
@out_option
@option("--open/--no-open", "open_it", default=False, help="Open it in the browser.")
@json_option
def report(out: Path, open_it: bool, as_json: bool) -> None:
    """Build the site from the results in the folder, and from the committed ones for the rest."""
    from fathom.book import catalogue, runner, site

    results = {}
    for question in catalogue.catalogue().values():
        for found in (
            runner.kept(out / "results", question),
            _committed(question),
            runner.kept(out / "results-quick", question),
        ):
            if found is not None:
                results[question.id] = found
                break
    if not results:
        raise click.UsageError(f"{out} has no results; fathom book run makes them")
    questions = [q for q in catalogue.catalogue().values() if q.id in results]
    pages = site.build(out / "site", questions, results)
    if as_json:
        console.print_json({"index": str(pages[0]), "pages": len(pages)})
    else:
        console.show(f"{len(pages)} pages; open {pages[0]}")
    if open_it:
        click.launch(str(pages[0]))


@command.command(
    "verify",
    cls=Command,
    examples=("fathom book verify C2.1.8-08", "fathom book verify C3.2.1-01 --json"),
)
@click.argument("ids", metavar="CLAIM...", nargs=-1, required=True)
@option("--quick", is_flag=True, help="Fewer seeds and smaller sizes.")
@language_option
@json_option
def verify(ids: tuple[str, ...], quick: bool, language: str, as_json: bool) -> None:
    """Check claims now, and say how the verdict follows from the numbers.

    Exit code 1 if a verdict is not the committed one.
    """
    from fathom.book import catalogue, ledger, runner
    from fathom.book.lab import Lab

    entries = []
    for id in ids:
        question, claim = catalogue.claim(id)
        entries.append(runner.check(claim, Lab(question.id, quick)))
        if not as_json:
            console.show(*_lines(entries[-1], language), "")
    changed = ledger.compare(entries)
    if as_json:
        console.print_json({"claims": entries, "changed": changed})
    elif changed:
        console.show(*changed)
    if changed and not quick:
        raise SystemExit(CHANGED)


@command.command(
    "ask",
    cls=Command,
    examples=(
        'fathom book ask "why do gradients vanish"',
        'fathom book ask "神经元死亡" --lang zh',
    ),
)
@click.argument("words", nargs=-1, required=True)
@option("--most", type=int, default=5, show_default=True, help="How many questions to show.")
@language_option
@json_option
def ask(words: tuple[str, ...], most: int, language: str, as_json: bool) -> None:
    """Find the questions nearest to free words, in English or Chinese."""
    from fathom.book.search import ask as search

    found = search(" ".join(words), most)
    if as_json:
        console.print_json([{**_told(q), "score": round(score, 3)} for q, score in found])
        return
    if not found:
        console.show("nothing found; try other words, or: fathom book list")
        return
    best = found[0][0]
    console.show(f"{best.id}  {getattr(best.title, language)}", "", getattr(best.answer, language))
    if found[1:]:
        console.show("", "also:")
    for question, _ in found[1:]:
        console.show(f"  {question.id:<7}{getattr(question.title, language)}")


def _chosen(parts: Sequence[str]) -> list[Question]:
    from fathom.book import catalogue

    return catalogue.select(parts) if parts else list(catalogue.catalogue().values())


def _committed(question: Question) -> dict[str, Any] | None:
    """The question's result as it is in the package."""
    from fathom.book import ledger

    known = ledger.reference()
    drawn = ledger.reference_figures().get(question.id)
    if drawn is None or not set(question.claims) <= set(known):
        return None
    claims = [known[c] for c in question.claims]
    return {"question": question.id, "quick": False, "claims": claims, "figures": drawn}


def _told(question: Question) -> dict[str, Any]:
    return {
        "id": question.id, "title": question.title._asdict(), "answer": question.answer._asdict(),
        "flips": question.flips._asdict(), "topics": list(question.topics),
    }  # fmt: skip


def _lines(entry: dict[str, Any], language: str) -> list[str]:
    """A claim's verdict and how it came about, to print."""
    from fathom.book.verdict import Verdict

    verdict = getattr(Verdict(entry["verdict"]).words, language)
    lines = [f"{entry['id']}  {verdict.upper()}  {entry['text'][language]}"]
    lines.append(f"  how       {entry['method']}")
    if entry["kind"] != "unmeasurable":
        lines.append(f"  rule      {entry['rule'][language]}")
    lines += [f"  measured  {name}: {value}" for name, value in leaves(entry["evidence"])]
    lines.append(f"  because   {entry['reason'][language]}")
    if entry["correction"]:
        lines.append(f"  instead   {entry['correction'][language]}")
    return lines


def leaves(evidence: dict[str, Any], path: str = "") -> list[tuple[str, str]]:
    """The numbers of a ledger's evidence, each with its path.

    >>> leaves({"kind": "routes", "of": {"a": {"kind": "number", "value": 1.0}}})
    [('a', '1.0')]
    """
    kind = evidence["kind"]
    if kind == "number":
        return [(path or "value", str(evidence["value"]))]
    if kind == "sample":
        low, high = evidence["interval"]
        return [(path or "mean", f"{evidence['mean']} [{low}, {high}], n = {evidence['n']}")]
    if kind == "check":
        return [
            (name, f"{v} ({evidence['region']['en']})") for name, v in leaves(evidence["of"], path)
        ]
    if kind == "published":
        said = evidence["expected"]
        told = str(evidence["value"]) + (f" (the claim says: {said})" if said else "")
        works = "; ".join(f"{s['work']}, {s['year']}" for s in evidence["sources"])
        return [(path or "stated", f"{told}, by {works}")]
    if kind == "not measurable":
        return [("needs", evidence["needs"]["en"])]
    return [
        leaf
        for name, part in evidence["of"].items()
        for leaf in leaves(part, f"{path} / {name}" if path else name)
    ]


def _summary(whole: dict[str, Any], changed: list[str], failed: list[dict[str, Any]]) -> None:
    counts = ", ".join(f"{n} {word}" for word, n in whole["counts"].items())
    console.show(f"{len(whole['claims'])} claims in {whole['seconds']:.0f} s: {counts}")
    for line in changed:
        console.show(f"changed  {line}")
    for result in failed:
        console.show(f"failed   {result['question']}: {result['error']}")


class _Progress:
    """A bar with the time left on a terminal, one line a question when piped."""

    def __init__(self, questions: Sequence[Question], file: Any) -> None:
        from fathom.book.runner import expected_seconds

        self.file = file
        self.expected = {q.id: expected_seconds(q) for q in questions}
        self.bar: Any = None

    def __enter__(self) -> _Progress:
        if self.file.isatty():
            from rich import progress
            from rich.console import Console

            self.bar = progress.Progress(
                progress.TextColumn("{task.fields[last]:<8}"),
                progress.BarColumn(),
                progress.TextColumn("{task.fields[done]}/{task.fields[many]} questions"),
                progress.TimeRemainingColumn(),
                console=Console(file=self.file),
            )
            self.task = self.bar.add_task(
                "", total=sum(self.expected.values()), last="", done=0, many=len(self.expected)
            )
            self.bar.start()
        self.done = 0
        return self

    def tell(self, result: dict[str, Any], found: bool) -> None:
        self.done += 1
        id = result["question"]
        if self.bar:
            self.bar.update(self.task, advance=self.expected[id], last=id, done=self.done)
        elif "error" in result:
            print(f"{id}: failed: {result['error']}", file=self.file, flush=True)
        else:
            counts = Counter(c["verdict"] for c in result["claims"])
            words = ", ".join(f"{n} {word}" for word, n in counts.items()) or "figures only"
            when = "kept" if found else f"{result['seconds']:.1f} s"
            line = f"[{self.done}/{len(self.expected)}] {id}: {words} ({when})"
            print(line, file=self.file, flush=True)

    def __exit__(self, *problem: object) -> None:
        if self.bar:
            self.bar.stop()
