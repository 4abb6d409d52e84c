"""`fathom demo`: the whole way in a few seconds: train, test, save, load, predict, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console
from fathom.cli.options import Command, json_option, option

if TYPE_CHECKING:
    from fathom.cli.training import Run
    from fathom.doctor import Watch

CLAIMS = ("CS.7-02", "C2.1.8-06", "C2.1.8-03")  # about what was just trained: dropout, biases
SICK = "Linear(64, 64), ReLU, Linear(64, 10), Softmax; CrossEntropyLoss; SGD(lr=0.1)"


@click.command(
    "demo",
    cls=Command,
    short_help="Train on handwritten digits, test, save, reload, report.",
    examples=("fathom demo", "fathom demo --seed 3 --out demo-3", "fathom demo --json"),
)
@option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    metavar="FOLDER",
    help="Where everything is written.",
)
@option("--epochs", type=int, default=30, show_default=True, help="Passes over the training rows.")
@option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Fixes split, first weights, order and dropout.",
)
@option("--open/--no-open", "open_it", default=False, help="Open the report in the browser.")
@json_option
def command(out: Path, epochs: int, seed: int, open_it: bool, as_json: bool) -> None:
    """Train a network on 1,797 handwritten digits, in seconds and without a download.

    Then test it on rows it has not seen, save it, load it again, check that the loaded network
    predicts the same to the last bit, write a report, and check three claims of the book. At the
    end, a network that does not train: what the doctor finds, and the cure, tried.
    """
    from fathom.cli import live, show, training
    from fathom.cli.settings import Settings

    file = sys.stderr if as_json else sys.stdout
    settings = Settings(
        "digits", layers=(512, 256), dropout=0.4, augment=True, epochs=epochs, seed=seed
    )
    run = training.train(
        settings, out, views=live.view(file, False), title="Fathom demo: handwritten digits",
        tell=lambda line: console.show(line, file=file),
    )  # fmt: skip
    same = _same_after_reload(run, out)
    checked = _check_claims()
    seen = _sick(run, out, seed)
    result = {**run.result, "reloaded_predicts_the_same": same, "claims": checked,
              "doctor": seen.to_dict()}  # fmt: skip
    if as_json:
        console.print_json(result)
    else:
        console.show(*show.scores(run.result["scores"], run.outcome.part))
        _tell(run, out)
        _tell_claims(checked)
        _tell_findings(seen, out)
    if open_it:
        click.launch(str(out / "report.html"))


def _same_after_reload(run: Run, out: Path) -> bool:
    """Whether the model read back from disk predicts the test rows the same, bit for bit."""
    import fathom
    from fathom.engine.errors import CheckpointError

    loaded = fathom.load(out / "model")
    x = run.prepared.scored()[1].x
    same = loaded.predict(x).tobytes() == run.model.predict(x).tobytes()
    if not same:
        raise CheckpointError("the network read back from disk predicts something else")
    return same


def _tell(run: Run, out: Path) -> None:
    wrong = run.outcome.wrong()
    seconds, parameters = run.result["seconds"], run.result["parameters"]
    console.show(
        f"{parameters:,} parameters, {run.result['epochs']} epochs in {seconds:.1f} s",
        f"saved to {out / 'model'}, loaded again: it predicts the same, bit for bit",
    )
    if len(wrong) and run.outcome.inputs is not None and run.outcome.image_shape is not None:
        row = int(wrong[0])
        _draw(run.outcome, row, "its most confident mistake: ")
    console.show(
        f"report  {out / 'report.html'}   (open it in a browser)",
        f"next    fathom predict {out} digits --rows 0:5",
    )


def _check_claims() -> list[dict[str, Any]]:
    """Three claims of the book, checked now: their entries in the ledger."""
    from fathom.book import Lab, catalogue, runner

    found = map(catalogue.claim, CLAIMS)
    return [runner.check(claim, Lab(question.id)) for question, claim in found]


def _tell_claims(checked: list[dict[str, Any]]) -> None:
    console.show("", "three claims of a textbook, measured just now:")
    for entry in checked:
        console.show(f"  {entry['verdict']:<10} {entry['text']['en']}")
        if entry["correction"]:
            console.show(f"{'':13}{entry['correction']['en']}")
    console.show(f"why     fathom book verify {CLAIMS[-1]}   (all of them: fathom book list)")


def _sick(run: Run, out: Path, seed: int) -> Watch:
    """A network that does not get far on the same rows, watched, and the fix, tried."""
    import fathom
    from fathom import doctor, nn, optim

    rows = run.prepared.train
    with fathom.seed(seed):
        model = nn.Sequential(
            nn.Linear(rows.x.shape[1], 64), nn.ReLU(), nn.Linear(64, 10), nn.Softmax(1)
        )
    seen = doctor.Doctor(quiet=True)
    model.fit(rows.x, rows.y, loss=nn.CrossEntropyLoss(), epochs=5, batch_size=64, seed=seed,
              optimizer=optim.SGD(model.parameters(), lr=0.1), callbacks=[seen],
              verbose=False)  # fmt: skip
    if seen.watch is None:
        raise RuntimeError("the run has not begun")
    seen.treat(0, seconds=10.0)
    seen.watch.save(out / "doctor.html")
    return seen.watch


def _tell_findings(seen: Watch, out: Path) -> None:
    from fathom.cli import diagnosis
    from fathom.doctor.report.plain import as_lines

    console.show("", "a network that does not train, and the doctor:", f"  {SICK}")
    diagnosis.show(as_lines(seen))
    console.show(
        f"report  {out / 'doctor.html'}",
        "next    fathom doctor train.py   (a script of yours, PyTorch's or Fathom's, as it is)",
    )


def _draw(outcome: Any, row: int, words: str) -> None:
    true, said = outcome.classes[outcome.targets[row]], outcome.classes[outcome.predicted[row]]
    chance = outcome.probabilities[row].max()
    console.show(f"{words}this {true} taken for a {said} ({chance:.0%})")
    console.show(console.draw_image(outcome.inputs[row], outcome.image_shape))
