"""One training run from settings to a folder: model, checkpoint, history, result, report."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fathom.cli import console, fitting
from fathom.cli.live import Interrupt
from fathom.cli.prepare import Array, Part, Prepared, prepare, target_of
from fathom.cli.settings import Settings, resumed
from fathom.engine.errors import ArgumentError, CheckpointError, DivergedError, OutputError
from fathom.nn.module import Module
from fathom.train import Callback, EarlyStopping, History, ModelCheckpoint, checkpoint
from fathom.train.augment import with_moved_copies
from fathom.train.learning_curve import Overfit, overfit_batch
from fathom.train.report import Outcome, write_report

Tell = Callable[[str], None]
RESULTS = ("history.csv", "result.json", "report.html", "doctor.html")
SMALL_STEP = 5e7  # floating-point operations of a matrix product that one thread does best


@dataclass(frozen=True)
class Run:
    """A finished training: the model with its best weights, and what was measured."""

    settings: Settings
    prepared: Prepared
    model: Module
    history: History
    outcome: Outcome
    result: dict[str, Any]


def train(
    settings: Settings,
    out: Path,
    *,
    views: Sequence[Callback] = (),
    tell: Tell = lambda line: None,
    resume: bool = False,
    given: set[str] | None = None,
    report: bool = True,
    title: str = "",
    fast_dev_run: bool = False,
) -> Run:
    """Train as the settings say and write everything to the folder `out`.

    `given` names the settings the user typed, which a resumed run must not contradict.
    `fast_dev_run` takes one batch of each kind, to see that all fits together. Raises
    `FathomError`s; after a `DivergedError` the last finite weights are in `out`/model.
    """
    settings.check()
    if resume:
        settings = resumed(_stored_settings(out / "last"), settings, given or set())
        settings.check()
    settings, prepared = prepare(settings)
    fitting.check_task(settings, prepared)
    claim(out, keep_last=resume)
    for line in describe(settings, prepared):
        tell(line)
    model = fitting.network(settings, prepared)
    interrupt = Interrupt()
    began = time.perf_counter()
    with interrupt.listening():
        try:
            history, best = fit(
                settings, prepared, model, out, [*views, interrupt], resume, fast_dev_run
            )
        except DivergedError as error:
            save(out, settings, prepared, model, History())
            error.message += f" in {out / 'model'}"
            raise
        seconds = time.perf_counter() - began
        save(out, settings, prepared, model, history)
        outcome = judge(prepared, model)
        result = _result(settings, prepared, model, history, best, outcome, seconds, out)
        _write(out / "history.csv", _history_csv(history))
        if report:
            heading = title or f"{prepared.name}: {outcome.part} results"
            report_on(out / "report.html", settings, prepared, model, history, best, outcome,
                      seconds, heading, out)  # fmt: skip
            result["files"]["report"] = str(out / "report.html")
        _write(out / "result.json", json.dumps(console.plain(result), indent=1) + "\n")
    return Run(settings, prepared, model, history, outcome, result)


def claim(out: Path, keep_last: bool) -> None:
    """Make the folder, be sure it can be written to, and take away results of an older run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        trial = out / f".trial.{os.getpid()}"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write to the folder {out}: {error.strerror or error}",
            fix="choose another folder with --out",
        ) from error
    for name in ("model", "last"):
        place = out / name
        foreign = place.is_file() or (place.is_dir() and any(place.iterdir()))
        if foreign and not (place / "state.json").exists():
            raise OutputError(
                f"{place} is there and is not a checkpoint; it is left untouched",
                fix="choose another folder with --out",
            )
    if not keep_last:
        shutil.rmtree(out / "last", ignore_errors=True)
        shutil.rmtree(out / ".last.old", ignore_errors=True)
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)


def describe(settings: Settings, prepared: Prepared) -> list[str]:
    """What is about to happen, in a few lines."""
    sizes = prepared.sizes()
    held = ", ".join(f"{n:,} {name}" for name, n in sizes.items() if n)
    how = "stratified, " if prepared.classes else ""
    lines = [f"data   {prepared.name}: {held} rows ({how}seed {settings.seed})"]
    if not sizes["test"]:
        lines.append("       no test rows: the result is measured on rows used in training")
    lines += [f"       {note}" for note in prepared.notes]
    goal = f"{len(prepared.classes)} classes" if prepared.classes else "regression"
    target = target_of(prepared.preprocessor).name
    inputs = len(prepared.preprocessor.feature_names_out)
    lines.append(f"task   {goal} of {target!r} from {inputs} inputs")
    widths = "-".join(map(str, [inputs, *(settings.layers or ()), prepared.outputs]))
    drop = f", dropout {settings.dropout:g}" if settings.dropout else ""
    copies = "; images also moved by part of a pixel" if settings.augment else ""
    lines.append(
        f"model  {widths} {settings.activation}{drop}; {settings.optimizer} lr {settings.lr:g}, "
        f"batches of {settings.batch_size}, at most {settings.epochs} epochs{copies}"
    )
    more = fitting.words(settings)
    if more:
        lines.append(f"       {', '.join(more)}")
    return lines


def fit(
    settings: Settings,
    prepared: Prepared,
    model: Module,
    out: Path,
    callbacks: Sequence[Callback],
    resume: bool,
    fast_dev_run: bool = False,
) -> tuple[History, int]:
    """Train, and the best epoch; its weights are then in the model, the whole run in `out`/last."""
    x, y = prepared.train.x, prepared.train.y
    if settings.augment and prepared.image_shape is not None:
        x, y = with_moved_copies(x.reshape(-1, *prepared.image_shape), y)
        x = x.reshape(len(x), -1)
    held = prepared.validation
    stopping = EarlyStopping(settings.monitor, settings.patience, settings.min_delta or 0.0)
    extra = {"data": prepared.to_dict(), "settings": settings.to_dict()}
    with threads(model, settings.batch_size or 32):
        history: History = model.fit(
            x,
            y,
            epochs=settings.epochs or 1,
            batch_size=settings.batch_size or 32,
            optimizer=fitting.optimizer(settings, model.parameters()),
            validation_data=(held.x, held.y) if len(held) else None,
            callbacks=[
                stopping,
                *callbacks,
                ModelCheckpoint(out / "last", extra=extra),
            ],
            seed=settings.seed,
            max_time=settings.max_time,
            resume=out / "last" if resume else None,
            fast_dev_run=fast_dev_run,
            verbose=False,
            **fitting.options(settings, prepared),
        )
    return history, stopping.best_epoch or history.epochs


def overfit(settings: Settings) -> tuple[str, Overfit]:
    """The name of the data, and how the network learns one batch of it by heart."""
    settings.check()
    settings, prepared = prepare(settings)
    fitting.check_task(settings, prepared)
    model = fitting.network(settings, prepared)
    rows = prepared.train
    with threads(model, settings.batch_size or 32):
        return prepared.name, overfit_batch(
            model, rows.x, rows.y, rows=settings.batch_size or 32, lr=settings.lr or 1e-2,
            optimizer=fitting.named_optimizer(settings), loss=fitting.loss(settings),
        )  # fmt: skip


def threads(model: Module, batch: int) -> AbstractContextManager[Any]:
    """One BLAS thread for a small network: as fast, and steady on a busy machine."""
    import threadpoolctl

    largest = max(p.size for p in model.parameters())
    if 2.0 * batch * largest > SMALL_STEP:
        return nullcontext()
    limit: AbstractContextManager[Any] = threadpoolctl.threadpool_limits(1, user_api="blas")
    return limit


def save(
    out: Path, settings: Settings, prepared: Prepared, model: Module, history: History
) -> None:
    """The model with all that is needed to use it again."""
    state = {"settings": settings.to_dict(), "history": history.to_dict()}
    model.save(out / "model", data=prepared.to_dict(), **state)


def judge(prepared: Prepared, model: Module) -> Outcome:
    """The model's answers on the test rows (or what there is instead)."""
    name, part = prepared.scored()
    return answers(prepared, model, part, name)


def answers(prepared: Prepared, model: Module, part: Part, name: str) -> Outcome:
    """The model's answers on a part of the data."""
    outputs = model.predict(part.x)
    return told(prepared.preprocessor, outputs, part.y, part.raw, prepared.image_shape, name)


def told(
    rules: Any,
    outputs: Array,
    y: Array | None,
    raw: Array | None,
    shape: tuple[int, int] | None,
    name: str,
) -> Outcome:
    """Outputs and targets in the terms of the data."""
    target = target_of(rules)
    if y is None:
        raise ArgumentError(f"{name} has no targets to compare with")
    if target.task == "classification":
        return Outcome(y, outputs, target.classes, raw, shape, name)
    values = rules.inverse_target(outputs.reshape(-1))
    return Outcome(rules.inverse_target(y), values, (), raw, shape, name)


def versions() -> dict[str, str]:
    """What the result may depend on."""
    import platform

    from fathom.version import __version__

    return {"Fathom": __version__, "Python": platform.python_version(), "NumPy": np.__version__}


def report_on(
    path: Path,
    settings: Settings,
    prepared: Prepared,
    model: Module,
    history: History,
    best: int,
    outcome: Outcome,
    seconds: float | None,
    title: str,
    out: Path,
) -> Path:
    """Write the report of a run."""
    shown = {
        name.replace("_", " "): value
        for name, value in settings.to_dict().items()
        if value is not None and value != ()
    }
    return write_report(
        path,
        model=model,
        history=history,
        outcome=outcome,
        title=title,
        settings=shown,
        splits={name: n for name, n in prepared.sizes().items() if n},
        feature_names=prepared.preprocessor.feature_names_out,
        target_name=target_of(prepared.preprocessor).name,
        command=settings.command(str(out)),
        notes=prepared.notes,
        seconds=seconds,
        versions=versions(),
        best_epoch=best,
    )


def _result(
    settings: Settings,
    prepared: Prepared,
    model: Module,
    history: History,
    best: int,
    outcome: Outcome,
    seconds: float,
    out: Path,
) -> dict[str, Any]:
    return {
        "data": prepared.name,
        "task": prepared.task,
        "rows": prepared.sizes(),
        "notes": list(prepared.notes),
        "scored_on": outcome.part,
        "scores": outcome.scores(),
        "parameters": sum(p.size for p in model.parameters()),
        "epochs": history.epochs,
        "best_epoch": best,
        "stopped": history.stop_reason,
        "interrupted": history.stop_reason == "interrupted",
        "seconds": round(seconds, 3),
        "settings": settings.to_dict(),
        "command": settings.command(str(out)),
        "versions": versions(),
        "files": {
            "folder": str(out),
            "model": str(out / "model"),
            "last": str(out / "last") if (out / "last").exists() else None,
            "history": str(out / "history.csv"),
            "result": str(out / "result.json"),
        },
    }


def _stored_settings(place: Path) -> Settings:
    state = checkpoint.load(place).state["state"]
    if "settings" not in state:
        raise CheckpointError(f"{place} was not written by `fathom train`")
    return Settings.from_dict(state["settings"])


def _history_csv(history: History) -> str:
    buffer = io.StringIO()
    rows = list(history.rows())
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["epoch"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
