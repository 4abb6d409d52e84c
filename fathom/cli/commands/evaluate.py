"""`fathom evaluate`: how good a stored model is, on rows it was not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fathom.cli import console
from fathom.cli.options import Command, json_option, option


@click.command(
    "evaluate",
    cls=Command,
    short_help="Measure a trained network on test rows or on a file.",
    examples=(
        "fathom evaluate runs/digits",
        "fathom evaluate runs/houses houses-2026.csv",
        "fathom evaluate runs/digits --json",
    ),
)
@click.argument("run")
@click.argument("data", required=False)
@option(
    "--part",
    type=click.Choice(["train", "validation", "test"]),
    help="Which rows of the data it was trained on [test].",
)
@json_option
def command(run: str, data: str | None, part: str | None, as_json: bool) -> None:
    """Measure the network in the folder RUN.

    Without DATA it is measured on the test rows of the data it was trained on: the same split,
    by the same seed. Another DATA, a CSV file with the target column or the name of a data set,
    is used with all its rows.
    """
    from fathom.cli import show, stored

    saved = stored.load_run(run)
    own = data is None or data == saved.settings.data
    if part and not own:
        raise click.UsageError("--part is for the data the network was trained on")
    outcome, notes = _own(saved, part) if own else _other(saved, data or "")
    result: dict[str, Any] = {
        "run": run,
        "data": data or saved.settings.data,
        "scored_on": outcome.part,
        "notes": notes,
        "scores": outcome.scores(),
    }
    for line in notes:
        console.note(line)
    if as_json:
        console.print_json(result)
        return
    scores = result["scores"]
    console.show(*show.scores(scores, outcome.part), *show.matrix(scores))


def _own(saved: Any, wanted: str | None) -> tuple[Any, list[str]]:
    """Answers on a part of the data of the training, split again as it was then."""
    from fathom.cli import prepare, training
    from fathom.engine.errors import ArgumentError, MissingFileError

    source = saved.settings.data
    if saved.data.get("kind") == "csv" and not Path(source).exists():
        raise MissingFileError(
            f"the data of the training are not at {source} any more",
            fix="run it from the folder in which it was trained, or name a file as DATA",
        )
    _, prepared = prepare.prepare(saved.settings, saved.preprocessor)
    notes = list(prepared.notes)
    if prepared.fingerprint != saved.data.get("fingerprint"):
        notes.append(f"{source} has changed since the training; test rows may have been seen in it")
    name, part = prepared.scored() if wanted is None else (wanted, getattr(prepared, wanted))
    if not len(part):
        raise ArgumentError(f"the run has no {name} rows")
    if name != "test" and wanted is None:
        notes.append(f"the run has no test rows; measured on its {name} rows")
    return training.answers(prepared, saved.model, part, name), notes


def _other(saved: Any, data: str) -> tuple[Any, list[str]]:
    from fathom.cli import prepare, training

    rows = prepare.rows_of(data, saved.data, saved.preprocessor, need_target=True)
    outputs = saved.model.predict(rows.x)
    outcome = training.told(saved.preprocessor, outputs, rows.y, rows.raw, saved.image_shape, data)
    return outcome, rows.notes
