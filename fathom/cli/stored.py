"""A trained model read back: network, preprocessing, settings and history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.cli.settings import Settings
from fathom.data import Preprocessor
from fathom.engine.errors import CheckpointError, DataError, FathomError
from fathom.nn.module import Module
from fathom.train import checkpoint


@dataclass(frozen=True)
class StoredRun:
    """What `fathom train` stored with a model."""

    path: Path
    model: Module
    data: Mapping[str, Any]
    settings: Settings
    preprocessor: Preprocessor
    image_shape: tuple[int, int] | None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.preprocessor.target.classes if self.preprocessor.target else ()


def place_of(path: str) -> Path:
    """The checkpoint folder of RUN: itself, or `model` inside the folder of a training."""
    folder = Path(path)
    if (folder / "model").is_dir() or (folder / ".model.old").is_dir():
        return folder / "model"
    if (folder / "last").is_dir():
        raise CheckpointError(
            f"the training in {folder} did not come to its end: there is no {folder / 'model'}",
            fix=f"go on with fathom train ... --out {folder} --resume, or use {folder / 'last'}",
        )
    return folder


def load_model(path: str) -> Module:
    """The network of RUN, in eval mode."""
    return _guarded(place_of(path))[0]


def load_run(path: str) -> StoredRun:
    """The network of RUN with its preprocessing.

    Raises `CheckpointError` if `fathom train` did not write it, or it is damaged.
    """
    place = place_of(path)
    model, state = _guarded(place)
    data = state.get("data")
    if not isinstance(data, Mapping) or "preprocessor" not in data:
        raise CheckpointError(
            f"{place} holds a network but not how its data were prepared",
            fix="use a folder that `fathom train` wrote, or call fathom.load(path) in Python",
        )
    settings = Settings.from_dict(state.get("settings"))
    try:
        rules = Preprocessor.from_dict(data["preprocessor"])
        shape = data.get("image_shape")
        image_shape = None if shape is None else (int(shape[0]), int(shape[1]))
    except (DataError, TypeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{place / 'state.json'} is damaged: {error}") from error
    return StoredRun(place, model, {**data, "settings": state["settings"]}, settings, rules,
                     image_shape)  # fmt: skip


def _guarded(place: Path) -> tuple[Module, Mapping[str, Any]]:
    saved = checkpoint.load(place)
    try:
        return saved.build(), saved.state["state"]
    except FathomError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{place / 'state.json'} is damaged: {error!r}") from error
