"""`fathom doctor`: what is wrong with a training, told without changing it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.cli import console, diagnosis
from fathom.cli.options import Command, json_option, option
from fathom.engine.errors import ArgumentError, DivergedError, MissingFileError

if TYPE_CHECKING:
    from fathom.doctor.callback import Doctor

FAULTY = 4  # the exit code of --strict
WEIGHTS = (".safetensors", ".pt", ".pth", ".npz")
STDERR = 2


@click.command(
    "doctor",
    cls=Command,
    short_help="Say what is wrong with a training, and what helps.",
    examples=(
        "fathom doctor train.py",
        "fathom doctor train.py --treat --report doctor.html -- --epochs 3",
        "fathom doctor run.toml --steps 200 --json",
        "fathom doctor runs/digits",
        "fathom doctor weights.safetensors --strict",
    ),
)
@click.argument("target")
@click.argument("arguments", nargs=-1)
@option("--treat", is_flag=True, help="Try the fixes on copies of the run, and say what came out.")
@option("--probes", is_flag=True, help="Run small experiments on copies, too (some seconds).")
@option("--steps", type=click.IntRange(min=1), help="End the training after so many steps.")
@option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write an HTML report; or all numbers, where the name ends in .json.",
)
@option("--strict", is_flag=True, help=f"Exit with code {FAULTY} if a fault was found.")
@option("--quiet", "-q", is_flag=True, help="No progress, and no word if no fault was found.")
@json_option
def command(
    target: str, arguments: tuple[str, ...], treat: bool, probes: bool, steps: int | None,
    report: Path | None, strict: bool, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Watch the training of TARGET and say what is wrong with it, or that nothing is.

    TARGET is a Python script that trains with PyTorch or Fathom: it runs as it is, with the
    ARGUMENTS behind --, and each model that an optimizer trains in it is watched. Or a file
    run.toml or run.json of `fathom train`: the run is made, and nothing of it kept. Or stored
    weights: the folder of a run or model, a .safetensors, .npz or .pt file.

    Exit code: that of the script, where it is not 0. Otherwise 0, also when faults were found;
    with --strict 4 then. 2: a mistake you can mend; 1: a bug in Fathom.
    """
    options = {"treat": treat, "probes": probes, "steps": steps,
               "report": str(report) if report is not None else None}  # fmt: skip
    kind = kind_of(target)
    if arguments and kind != "script":
        raise ArgumentError(f"arguments are for scripts; {target} is none")
    if kind == "script":
        found = _script(target, arguments, options, as_json)
    elif kind == "run":
        found = _run(target, options, as_json or quiet)
    else:
        found = _weights(target, options)
    faults = sum(run["found"]["faults"] for run in found["runs"])
    if as_json:
        console.print_json({
            "target": target, "kind": kind, "faults": faults, "exit_code": found["exit_code"],
            "reports": found["reports"],
            "runs": [{"model": run["model"], **run["found"]} for run in found["runs"]],
        })  # fmt: skip
    elif not quiet or faults or not found["runs"]:
        _tell(found)
    return found["exit_code"] or (FAULTY if strict and faults else 0)


def kind_of(target: str) -> str:
    """ "script", "run" or "weights"; raises where it is none of them.

    >>> kind_of("run.toml")
    'run'
    """
    path = Path(target)
    if path.suffix.lower() in (".toml", ".json"):
        return "run"
    if not path.exists():
        raise MissingFileError(
            f"there is no file or folder {target}",
            fix="a script.py, a run.toml, or the folder of a trained model",
        )
    if path.suffix == ".py":
        return "script"
    if path.is_dir() or path.suffix.lower() in WEIGHTS:
        return "weights"
    raise ArgumentError(
        f"{target} is no script, no run and no weights",
        fix=f"a file that ends in .py, .toml, .json, {', '.join(WEIGHTS)}, or a folder",
    )


def _tell(found: dict[str, Any]) -> None:
    """The blocks of each run on stderr, where the script's own output is not."""
    runs = found["runs"]
    if not runs:
        console.note("nothing was seen to train: no model was called with gradients whose "
                     "parameters an optimizer has")  # fmt: skip
    for run in runs:
        if len(runs) > 1:
            console.show(f"{run['model']}:", file=sys.stderr)
        diagnosis.show(run["lines"], sys.stderr)
    for path in found["reports"]:
        console.show(f"report  {path}", file=sys.stderr)


# -- the three kinds -----------------------------------------------------------------------------


def _script(
    script: str, arguments: tuple[str, ...], options: dict[str, Any], as_json: bool
) -> dict[str, Any]:
    """Run a script in a process of its own; with --json its output goes to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        words = [sys.executable, "-m", "fathom.doctor.attaching",
                 json.dumps({**options, "out": str(out)}), script, *arguments]  # fmt: skip
        sys.stdout.flush()
        try:
            code = subprocess.run(words, stdout=STDERR if as_json else None, check=False).returncode
        except KeyboardInterrupt:
            code = 130
        if out.exists():
            found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
            return found
    console.note("the script ended its process at once: there was no time to tell what was seen")
    return {"exit_code": code, "reports": [], "runs": []}


def _run(target: str, options: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Make the run of a settings file, watched, and keep nothing of it."""
    from fathom.cli import live, specs, training
    from fathom.cli.commands.train import command as train
    from fathom.cli.settings import Settings
    from fathom.doctor.attaching import told

    values = specs.read(target, train.params)
    known = Settings.__dataclass_fields__
    settings = Settings(**{name: value for name, value in values.items() if name in known})
    doctor = limited(options["steps"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            training.train(settings, Path(folder) / "run", report=False,
                           views=[doctor, *live.view(sys.stderr, quiet)])  # fmt: skip
        except DivergedError as error:
            console.note(error.message.partition(" in ")[0])
    seen = doctor.watch
    if seen is None:
        raise ArgumentError(f"{target}: nothing was trained")
    if options["probes"]:
        seen.probe()
    if options["treat"]:
        treat_all(doctor)
    if options["report"]:
        seen.save(options["report"])
    reports = [options["report"]] if options["report"] else []
    return {"exit_code": 0, "reports": reports, "runs": [told(settings.data, seen)]}


def limited(steps: int | None = None) -> Doctor:
    """The doctor's callback; it ends the run after so many steps."""
    from fathom.doctor.callback import Doctor

    class Limited(Doctor):
        def on_batch_end(self, trainer: Any, batch: int, loss: float) -> None:
            if steps is not None and trainer.steps >= steps:
                raise KeyboardInterrupt  # what the trainer takes as a wish to end

    return Limited(quiet=True)


def treat_all(doctor: Any) -> None:
    """Try the fixes of all faults."""
    for finding in [f for f in doctor.findings if f.severity != "advice"]:
        doctor.treat(finding)


def _weights(target: str, options: dict[str, Any]) -> dict[str, Any]:
    from fathom.cli.stored import load_model
    from fathom.doctor.attaching import told
    from fathom.doctor.weights import examine_weights

    if options["treat"] or options["probes"] or options["steps"]:
        raise ArgumentError(
            "--treat, --probes and --steps need a training; these are weights",
            fix="the script or the run.toml that made them",
        )
    path = Path(target)
    if path.is_dir():
        model = load_model(target)
        name, arrays = type(model).__name__, {n: t.value() for n, t in model.state_dict().items()}
    else:
        name, arrays = path.name, _arrays(path)
    seen = examine_weights(arrays)
    if options["report"]:
        seen.save(options["report"])
    reports = [options["report"]] if options["report"] else []
    return {"exit_code": 0, "reports": reports, "runs": [told(name, seen)]}


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of a file by name."""
    from fathom.engine.errors import CheckpointError

    try:
        if path.suffix.lower() == ".npz":
            import numpy as np

            with np.load(path) as stored:
                return {name: stored[name] for name in stored.files}
        if path.suffix.lower() == ".safetensors":
            from safetensors.numpy import load_file

            loaded: dict[str, Any] = load_file(path)
            return loaded
        return _of_torch(path)
    except ImportError:
        raise ArgumentError(f"{path} is read with PyTorch, which is not installed") from None
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _of_torch(path: Path) -> dict[str, Any]:
    """Tensors of a PyTorch file, also inside "state_dict" or "model"; no code of it is run."""
    import torch

    loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    return {str(n): t.float().numpy() for n, t in loaded.items() if torch.is_tensor(t)}
