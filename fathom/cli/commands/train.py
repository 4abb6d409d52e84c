"""`fathom train`: from data to a trained, saved and reported model."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console
from fathom.cli.options import Command, json_option, option
from fathom.cli.run_options import (
    DATA_OPTIONS,
    NETWORK_OPTIONS,
    OUTPUT,
    SPEC,
    TRAINING_OPTIONS,
    options,
)

if TYPE_CHECKING:
    from fathom.cli.settings import Settings

TRIAL = "Trial runs"


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
        "fathom train --spec iris.json --lr 0.01",
        "fathom train diabetes --loss huber:delta=0.5 --penalty l1 --init auto --monitor val_r2",
        "fathom train digits --transform mixup --activation swiglu --overfit-batch",
        "fathom train digits --out runs/digits --epochs 120 --resume",
        "fathom train moons --lr 5 --doctor",
    ),
)
@click.argument("data", required=False)
@options((SPEC,), DATA_OPTIONS, NETWORK_OPTIONS, TRAINING_OPTIONS)
@option(
    "--fast-dev-run",
    group=TRIAL,
    is_flag=True,
    help="One batch of training and of validation, to see that everything fits together.",
)
@option(
    "--overfit-batch",
    group=TRIAL,
    is_flag=True,
    help="Only see whether the network can learn one batch by heart; nothing is written.",
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
@option(
    "--doctor",
    group=OUTPUT,
    is_flag=True,
    help="Watch the training, say what is wrong with it (or nothing), and write doctor.html.",
)
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
    doctor: bool,
    save_spec: Path | None,
    quiet: bool,
    as_json: bool,
    fast_dev_run: bool,
    overfit_batch: bool,
    **values: Any,
) -> None:
    """Train a network on DATA: the name of a data set, or the path of a CSV file.

    The rows are split (seeded; classes in equal shares) into training, validation and test
    rows, prepared by rules of the training rows alone, and trained on. The weights that were
    best on the validation rows are kept, tested once on the test rows, and saved with the rules.
    Options left out are chosen from the data. Ctrl-C ends training and keeps what there is.

    DATA may also be a file run.toml or run.json (or --spec names it) with the names of these
    options and their values: data = "digits", layers = [64, 32], lr = 0.003, batch-size = 32, ...
    Options on the command line go before it; the data it names are looked for from the present
    folder.

    What has a name (optimizer, loss, schedule, penalty, transform, init, activation) may have
    options: --loss huber:delta=0.5, or loss = {name = "huber", delta = 0.5} in a file.

    The folder then holds model/ (for evaluate, predict and fathom.load), last/ (for --resume),
    history.csv, result.json, report.html and, with --doctor, doctor.html.
    """
    from fathom.cli import diagnosis, live, show, specs, training
    from fathom.cli.settings import Settings

    specs.claim(save_spec)
    values, said = specs.gather(ctx, values, ctx.command.params)
    out, report = values.pop("out", out), values.pop("report", report)
    doctor = values.pop("doctor", doctor)
    fast_dev_run = values.pop("fast_dev_run", fast_dev_run)
    overfit_batch = values.pop("overfit_batch", overfit_batch)
    settings = Settings(**values)
    folder = out or Path("runs") / _name(settings.data)
    file = sys.stderr if as_json else sys.stdout
    if overfit_batch:
        _overfit(settings, as_json)
        return
    with diagnosis.attending(doctor, folder / "doctor.html", sys.stderr) as seen:
        run = training.train(
            settings,
            folder,
            views=[*seen, *live.view(file, quiet)],
            tell=(lambda line: None) if quiet else (lambda line: console.show(line, file=file)),
            resume=resume,
            given=said & set(values),
            report=report,
            fast_dev_run=fast_dev_run,
        )
        if save_spec is not None:
            specs.write(save_spec, run.settings)
        if as_json:
            console.print_json(run.result | diagnosis.as_result(seen))
            return
        console.show(*show.scores(run.result["scores"], run.outcome.part))
        console.show(_ending(run.result), *_files(run.result["files"], folder))


def _overfit(settings: Settings, as_json: bool) -> None:
    """Say whether the network of the settings can learn one batch by heart."""
    from fathom.cli import training

    name, outcome = training.overfit(settings)
    if as_json:
        facts = {key: getattr(outcome, key) for key in ("passed", "first", "last", "steps")}
        console.print_json({"data": name, **facts, "settings": settings.to_dict()})
        return
    console.show(f"data   {name}", f"result {outcome}")
    if not outcome.passed:
        console.note("a network that cannot has a fault in its wiring, its loss or its data")


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
