"""`fathom train`: from data to a trained, saved and reported model."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fathom.cli import console
from fathom.cli.options import Command, Pair, Widths, json_option, option

DATA, MODEL, TRAINING, OUTPUT = "Data", "Network", "Training", "Output"


@click.command(
    "train",
    cls=Command,
    short_help="Train a network on a data set or a CSV file.",
    examples=(
        "fathom train digits",
        "fathom train houses.csv --target price --layers 128,64 --patience 20",
        "fathom train moons --activation tanh --epochs 300 --seed 1 --json",
        "fathom train digits --out runs/digits --epochs 120 --resume",
    ),
)
@click.argument("data")
@option("--target", group=DATA, help="Column to predict (needed for a CSV file).")
@option(
    "--task",
    group=DATA,
    type=click.Choice(["classification", "regression"]),
    help="Chosen from the target column unless given.",
)
@option(
    "--type",
    "types",
    group=DATA,
    multiple=True,
    type=Pair(),
    metavar="COLUMN=KIND",
    help="Say that a column is categorical or numeric. Repeatable.",
)
@option("--drop", group=DATA, multiple=True, metavar="COLUMN", help="Leave a column out.")
@option(
    "--missing",
    group=DATA,
    multiple=True,
    metavar="TEXT",
    help="One more spelling of 'no value', beside the empty cell, NA, ?, ...",
)
@option("--delimiter", group=DATA, help="Between the cells of the CSV file; found if not given.")
@option("--validation", group=DATA, type=float, help="Share of rows to choose weights by [0.1].")
@option("--test", group=DATA, type=float, help="Share of rows to test on [0.2].")
@option(
    "--layers",
    group=MODEL,
    type=Widths(),
    metavar="64,32",
    help="Widths of the hidden layers; 'none' for a linear model.",
)
@option(
    "--activation",
    group=MODEL,
    default="relu",
    show_default=True,
    help="After each hidden layer: relu, tanh, sigmoid, identity.",
)
@option("--dropout", group=MODEL, type=float, help="Share of hidden units dropped in training.")
@option("--optimizer", group=TRAINING, default="adam", show_default=True, help="adam or sgd.")
@option("--lr", group=TRAINING, type=float, help="Learning rate.")
@option("--momentum", group=TRAINING, type=float, help="For sgd [0.9].")
@option("--epochs", group=TRAINING, type=int, help="Passes over the training rows, at most.")
@option("--batch-size", group=TRAINING, type=int, help="Rows in a step.")
@option(
    "--augment/--no-augment",
    group=TRAINING,
    default=None,
    help="Images: train also on copies moved by part of a pixel [for fewer than 5,000].",
)
@option(
    "--seed",
    group=TRAINING,
    type=int,
    default=0,
    show_default=True,
    help="Fixes split, first weights, order and dropout.",
)
@option(
    "--patience",
    group=TRAINING,
    type=int,
    help="Stop after so many epochs without a better validation loss.",
)
@option(
    "--max-time",
    group=TRAINING,
    type=float,
    metavar="SECONDS",
    help="Stop after the epoch in which so many seconds have passed.",
)
@option(
    "--out",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where everything is written [runs/NAME].",
)
@option(
    "--resume",
    group=OUTPUT,
    is_flag=True,
    help="Go on with the run in the folder, as if it had not been stopped.",
)
@option("--report/--no-report", group=OUTPUT, default=True, help="Write report.html.")
@option("--quiet", "-q", group=OUTPUT, is_flag=True, help="No progress.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: Path | None,
    resume: bool,
    report: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a network on DATA: the name of a data set, or the path of a CSV file.

    The rows are split (seeded; classes in equal shares) into training, validation and test
    rows, prepared by rules of the training rows alone, and trained on. The weights that were
    best on the validation rows are kept, tested once on the test rows, and saved with the rules.
    Options left out are chosen from the data. Ctrl-C ends training and keeps what there is.

    The folder then holds model/ (for evaluate, predict and fathom.load), last/ (for --resume),
    history.csv, result.json and report.html.
    """
    from fathom.cli import live, show, training
    from fathom.cli.settings import Settings

    settings = Settings(**options)
    folder = out or Path("runs") / _name(settings.data)
    file = sys.stderr if as_json else sys.stdout
    said = {
        name for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    run = training.train(
        settings,
        folder,
        views=live.view(file, quiet),
        tell=(lambda line: None) if quiet else (lambda line: console.show(line, file=file)),
        resume=resume,
        given=said,
        report=report,
    )
    if as_json:
        console.print_json(run.result)
        return
    console.show(*show.scores(run.result["scores"], run.outcome.part))
    console.show(_ending(run.result), *_files(run.result["files"], folder))


def _name(data: str) -> str:
    """A folder name from DATA.

    >>> _name("data/My houses.csv"), _name("digits")
    ('My_houses', 'digits')
    """
    return re.sub(r"[^\w.-]+", "_", Path(data).stem if "." in Path(data).name else Path(data).name)


def _ending(result: dict[str, Any]) -> str:
    why = f", {result['stopped']}" if result["stopped"] else ""
    return (
        f"{result['epochs']} epochs in {result['seconds']:.1f} s{why}; weights of epoch "
        f"{result['best_epoch']}; {result['parameters']:,} parameters"
    )


def _files(files: dict[str, Any], folder: Path) -> list[str]:
    lines = [f"model   {files['model']}"]
    if "report" in files:
        lines.append(f"report  {files['report']}")
    return [*lines, f"next    fathom evaluate {folder}"]
