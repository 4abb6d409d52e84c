"""What a training run is made of, checked before anything is read or written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from fathom.engine.errors import ArgumentError, CheckpointError

# May differ when a run is resumed: they say when to end, not what is computed.
ENDINGS = ("epochs", "patience", "max_time")
LISTS = ("drop", "missing", "transform", "metrics")  # options that may be given several times
FEW_IMAGES = 5000  # with fewer to train on, moved copies are worth their time
TINY = 20  # with fewer rows than this nothing is held back


@dataclass(frozen=True)
class Settings:
    """All that determines a run; with the data it gives the same weights, byte for byte.

    None means "chosen from the data", and `filled` puts the choice in its place.
    """

    data: str
    target: str | None = None
    task: str | None = None
    types: tuple[tuple[str, str], ...] = ()
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    delimiter: str | None = None
    layers: tuple[int, ...] | None = None
    activation: str = "relu"
    dropout: float | None = None
    init: str | None = None
    augment: bool | None = None
    transform: tuple[str, ...] = ()
    optimizer: str = "adam"
    lr: float | None = None
    momentum: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 0
    validation: float | None = None
    test: float | None = None
    patience: int | None = None
    monitor: str | None = None
    min_delta: float | None = None
    max_time: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    clip_norm: float | None = None
    clip_value: float | None = None
    penalty: str | None = None
    accumulate: int | None = None
    ema: float | None = None
    label_smoothing: float | None = None
    class_weight: str | None = None
    loss: str | None = None
    metrics: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what no data could make right; the first `FathomError` is raised."""
        from fathom.cli import fitting

        for name in ("epochs", "batch_size", "patience", "accumulate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentError(f"{spelled(name)} must be at least 1; received {value}")
        for name in ("lr", "max_time", "clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ArgumentError(f"{spelled(name)} must be above 0; received {value:g}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ArgumentError(f"--dropout must be at least 0 and below 1; got {self.dropout:g}")
        if self.seed < 0:
            raise ArgumentError(f"--seed must be at least 0; received {self.seed}")
        fitting.check(self)
        self._check_shares()

    def _check_shares(self) -> None:
        for name in ("validation", "test"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ArgumentError(
                    f"--{name} is a share of the rows, at least 0 and below 1; received {value:g}"
                )

    def shares(self, rows: int) -> tuple[float, float]:
        """The shares of validation and test rows for this many rows."""
        tiny = rows < TINY
        validation = self.validation if self.validation is not None else (0.0 if tiny else 0.1)
        test = self.test if self.test is not None else (0.0 if tiny else 0.2)
        return validation, test

    def filled(self, rows: int, train: int, images: bool) -> Settings:
        """The choices for data of `rows` rows, `train` of them to train on."""
        from fathom.cli import fitting

        validation, test = self.shares(rows)
        tiny = rows < TINY
        chosen = {
            "layers": (256, 128) if images else (64, 32),
            "dropout": 0.3 if images else 0.0,
            "lr": fitting.usual_lr(self, images, tiny),
            "momentum": fitting.usual_momentum(self),
            "epochs": 500 if tiny else min(200, max(25, (50_000 if images else 80_000) // train)),
            "batch_size": 64 if images else 32,
            "augment": train < FEW_IMAGES if images else None,
            "validation": validation,
            "test": test,
        }
        missing = {name: value for name, value in chosen.items() if getattr(self, name) is None}
        return replace(self, **missing)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Settings:
        """The settings `to_dict` gave; `CheckpointError` if they are something else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or "data" not in values or set(values) - names:
            raise CheckpointError("the checkpoint has no settings of `fathom train`")
        made = dict(values)
        for name in ("layers", *LISTS):
            if made.get(name) is not None:
                made[name] = tuple(made[name])
        made["types"] = tuple((str(a), str(b)) for a, b in made.get("types", ()))
        return cls(**made)

    def command(self, out: str | None = None) -> str:
        """The command line that makes this run again, for a POSIX shell.

        >>> Settings("my data.csv", target="price", layers=()).command()
        "fathom train 'my data.csv' --target price --layers none --seed 0"
        """
        import shlex

        words = ["fathom", "train", self.data]
        for field in fields(self):
            value = getattr(self, field.name)
            flag = spelled(field.name)
            if field.name == "types":
                words += [word for name, kind in value for word in ("--type", f"{name}={kind}")]
            elif field.name in LISTS:
                words += [word for name in value for word in (flag, name)]
            elif field.name == "layers" and value is not None:
                words += [flag, ",".join(map(str, value)) or "none"]
            elif field.name == "augment" and value is not None:
                words.append(flag if value else "--no-augment")
            elif field.name == "seed" or (field.name != "data" and value != field.default):
                words += [flag, _word(value)]
        if out:
            words += ["--out", out]
        return shlex.join(words)


def spelled(name: str) -> str:
    """The option of a setting.

    >>> spelled("batch_size")
    '--batch-size'
    """
    return "--" + name.replace("_", "-")


def _word(value: Any) -> str:
    return repr(value) if isinstance(value, float) and value != int(value) else f"{value:g}" if (
        isinstance(value, float)
    ) else str(value)  # fmt: skip


def resumed(stored: Settings, asked: Settings, given: set[str]) -> Settings:
    """The stored settings with the new endings; other options that differ are an error."""
    for name in given - set(ENDINGS):
        old, new = getattr(stored, name), getattr(asked, name)
        if old != new:
            raise ArgumentError(
                f"the run was begun with {spelled(name)} {old}; it cannot go on with {new}",
                fix="leave the option out, or start a new run without --resume",
            )
    changed = {name: getattr(asked, name) for name in ENDINGS if name in given}
    return replace(stored, **changed)
