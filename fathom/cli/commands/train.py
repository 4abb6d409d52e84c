"""`fathom train`: from data to a trained, saved and reported model."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from fathom.cli import console
from fathom.cli.options import Command, json_option, option
from fathom.cli.run_options import (
    DATA_OPTIONS,
    NETWORK_OPTIONS,
    OUTPUT,
    TRAINING_OPTIONS,
    options,
)


@click.command(
    "train",
    cls=Command,
    short_help="Train a network on a data set or a CSV file.",
    examples=(
        "fathom train digits",
        "fathom train houses.csv --target price --layers 128,64 --patience 20",
        "fathom train moons --activation tanh --epochs 300 --seed 1 --json",
        "fathom train iris --optimizer adamw --weight-decay 0.05 --schedule cosine --ema 0.99",
        "fathom train iris --epochs 50 --save-spec iris.json",
        "fathom train iris.json --lr 0.01",
        "fathom train digits --out runs/digits --epochs 120 --resume",
    ),
)
@click.argument("data")
@options(DATA_OPTIONS, NETWORK_OPTIONS, TRAINING_OPTIONS)
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
@option(
    "--save-spec",
    group=OUTPUT,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the settings as JSON, for another `fathom train FILE`.",
)
@option("--quiet", "-q", group=OUTPUT, is_flag=True, help="No progress.")
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: Path | None,
    resume: bool,
    report: bool,
    save_spec: Path | None,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a network on DATA: the name of a data set, or the path of a CSV file.

    The rows are split (seeded; classes in equal shares) into training, validation and test
    rows, prepared by rules of the training rows alone, and trained on. The weights that were
    best on the validation rows are kept, tested once on the test rows, and saved with the rules.
    Options left out are chosen from the data. Ctrl-C ends training and keeps what there is.

    DATA may also be a file run.toml or run.json with the names of these options and their values:
    data = "digits", layers = [64, 32], lr = 0.003, batch-size = 32, ... Options on the command
    line go before it; the data it names are looked for from the present folder.

    The folder then holds model/ (for evaluate, predict and fathom.load), last/ (for --resume),
    history.csv, result.json and report.html.
    """
    from fathom.cli import live, show, specs, training
    from fathom.cli.settings import Settings

    specs.claim(save_spec)
    said = _said(ctx)
    if specs.is_spec(values["data"]):
        spec = specs.read(values["data"], ctx.command.params)
        spec = {name: value for name, value in spec.items() if name == "data" or name not in said}
        out, report = spec.pop("out", out), spec.pop("report", report)
        values |= spec
        said |= set(spec)
    settings = Settings(**values)
    folder = out or Path("runs") / _name(settings.data)
    file = sys.stderr if as_json else sys.stdout
    run = training.train(
        settings,
        folder,
        views=live.view(file, quiet),
        tell=(lambda line: None) if quiet else (lambda line: console.show(line, file=file)),
        resume=resume,
        given=said & set(values),
        report=report,
    )
    if save_spec is not None:
        specs.write(save_spec, run.settings)
    if as_json:
        console.print_json(run.result)
        return
    console.show(*show.scores(run.result["scores"], run.outcome.part))
    console.show(_ending(run.result), *_files(run.result["files"], folder))


def _said(ctx: click.Context) -> set[str]:
    """The parameters that were typed."""
    sources = ((name, ctx.get_parameter_source(name)) for name in ctx.params)
    return {name for name, source in sources if source is ParameterSource.COMMANDLINE}


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
