"""Checkpoints: a folder with weights, optimizer and state, complete or not there at all.

    run/model.safetensors   the model's state dict
    run/optim.safetensors   the optimizer's arrays
    run/best.safetensors    the best weights so far (if early stopping keeps them)
    run/state.json          architecture, options, random streams, history, checksums

A checkpoint is written beside its place and renamed. Killed at any moment, either the old or
the new one can be loaded: between the two renames the old one waits under its `.old` name,
where `load` finds it. Nothing is unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fathom.engine.errors import CheckpointError, MissingFileError, OutputError
from fathom.engine.tensor import Array
from fathom.nn.module import Module
from fathom.nn.spec import LAYERS, from_spec, to_spec
from fathom.optim import Optimizer
from fathom.version import __version__

FORMAT = "fathom-checkpoint"
VERSION = 1
Arrays = dict[str, Array]


@dataclass
class Checkpoint:
    """What a checkpoint folder holds."""

    path: Path
    model: Arrays
    optimizer: Arrays = field(default_factory=dict)
    best: Arrays = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Module:
        """The saved model, rebuilt from its description, in eval mode."""
        spec = self.state["model"]["spec"]
        if spec is None:
            raise CheckpointError(
                f"{self.path}: the architecture of {self.state['model']['class']} is not stored "
                "(it is not made of Fathom's own layers)",
                fix="build it in Python and call model.load(path)",
            )
        model = from_spec(spec)
        self.restore(model)
        return model.eval()

    def restore(self, model: Module) -> None:
        """Copy the weights into a model that fits."""
        for name, value in self.model.items():
            own = dict(model.named_parameters()).get(name)
            if own is not None and own.dtype != value.dtype:
                model.to(value.dtype)
                break
        model.load_state_dict(self.model)


def save(
    path: str | os.PathLike[str],
    model: Module,
    optimizer: Optimizer | None = None,
    state: Mapping[str, Any] | None = None,
    best: Mapping[str, Array] | None = None,
) -> Path:
    """Write a checkpoint folder; an old one of that name is replaced when the new is complete.

    `state` are JSON values of the caller's. Raises `OutputError` where nothing can be written.
    """
    folder = Path(path)
    files: dict[str, Arrays] = {"model": {n: t.value() for n, t in model.state_dict().items()}}
    about: dict[str, Any] = {}
    if optimizer is not None:
        files["optim"], about = _pack_optimizer(optimizer)
    if best:
        files["best"] = dict(best)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "fathom": __version__,
        "model": {"class": type(model).__name__, "spec": _spec_or_none(model)},
        "optimizer": about,
        "state": dict(state or {}),
    }
    try:
        _write(folder, files, record)
    except OSError as error:
        raise OutputError(
            f"cannot write the checkpoint {folder}: {error.strerror or error}",
            fix="choose a folder you may write to, with room on its disk",
        ) from error
    return folder


def _spec_or_none(model: Module) -> dict[str, Any] | None:
    known = all(LAYERS.get(type(m).__name__) is type(m) for m in model.modules())
    return to_spec(model) if known else None


def _write(folder: Path, files: Mapping[str, Arrays], record: dict[str, Any]) -> None:
    if folder.exists() and not (folder / "state.json").exists() and any(folder.iterdir()):
        raise OSError(None, "the folder exists and is not a checkpoint; it is left untouched")
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        record["blake2b"] = {}
        for name, arrays in files.items():
            blob = _serialize(arrays)
            record["blake2b"][f"{name}.safetensors"] = _digest(blob)
            _write_file(aside / f"{name}.safetensors", blob)
        _write_file(aside / "state.json", json.dumps(record, indent=1).encode())
        _swap(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, folder: Path) -> None:
    """Put the complete folder in its place; the old one is there until the new one is."""
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    aside.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _write_file(path: Path, blob: bytes) -> None:
    with path.open("wb") as file:
        file.write(blob)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make renames durable, where the system lets a folder be synced."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _serialize(arrays: Arrays) -> bytes:
    from safetensors.numpy import save as to_bytes

    return to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _digest(blob: bytes) -> str:
    return hashlib.blake2b(blob, digest_size=16).hexdigest()


# -- the optimizer as arrays and JSON --------------------------------------------------------


def _pack_optimizer(optimizer: Optimizer) -> tuple[Arrays, dict[str, Any]]:
    saved = optimizer.state_dict()
    arrays = {
        f"{number}.{slot}": value
        for number, entry in saved["state"].items()
        for slot, value in entry.items()
        if slot != "step"
    }
    steps = {str(number): entry["step"] for number, entry in saved["state"].items()}
    return arrays, {
        "class": type(optimizer).__name__,
        "steps": steps,
        "param_groups": saved["param_groups"],
    }


def restore_optimizer(checkpoint: Checkpoint, optimizer: Optimizer) -> None:
    """Give an optimizer of the same class and parameters the saved state."""
    about = checkpoint.state["optimizer"]
    if about.get("class") != type(optimizer).__name__:
        raise CheckpointError(
            f"{checkpoint.path} was trained with {about.get('class', 'no optimizer')}, "
            f"not {type(optimizer).__name__}",
            fix="resume with the same optimizer, or start a new run from the weights",
        )
    state: dict[int, dict[str, Any]] = {
        int(number): {"step": step} for number, step in about["steps"].items()
    }
    for name, array in checkpoint.optimizer.items():
        number, _, slot = name.partition(".")
        state[int(number)][slot] = array
    optimizer.load_state_dict({"state": state, "param_groups": about["param_groups"]})


# -- reading -------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a checkpoint folder.

    Raises `MissingFileError` if nothing is there, `CheckpointError` if it is damaged,
    incomplete, newer than this Fathom, or something else.
    """
    folder = Path(path)
    if not folder.exists() and _old(folder).exists():
        folder = _old(folder)  # a save was killed between its two renames
    if not folder.exists():
        raise MissingFileError(f"no checkpoint at {folder}", fix="check the path; see --out")
    record = _read_record(folder)
    arrays = {}
    for name, digest in record["blake2b"].items():
        if Path(name).name != name:
            raise CheckpointError(f"{folder}: the file name {name!r} leaves the folder")
        arrays[name.removesuffix(".safetensors")] = _read_arrays(folder / name, digest)
    if "model" not in arrays:
        raise CheckpointError(f"{folder}: state.json names no model.safetensors")
    return Checkpoint(
        folder,
        arrays["model"],
        arrays.get("optim", {}),
        arrays.get("best", {}),
        record,
    )


def _read_record(folder: Path) -> dict[str, Any]:
    place = folder / "state.json"
    try:
        record = json.loads(place.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is not a Fathom checkpoint: it has no state.json",
            fix="give the folder that `fathom train --out` or model.save() wrote",
        ) from None
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{place} cannot be read: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise CheckpointError(f"{place} was not written by Fathom: no format {FORMAT!r} in it")
    if not isinstance(record.get("version"), int) or record["version"] > VERSION:
        raise CheckpointError(
            f"{place} has format version {record.get('version')}; this Fathom reads up to "
            f"{VERSION}",
            fix="upgrade Fathom",
        )
    for key, kind in (("blake2b", dict), ("model", dict), ("optimizer", dict), ("state", dict)):
        if not isinstance(record.get(key), kind):
            raise CheckpointError(f"{place}: the entry {key!r} is missing or damaged")
    return record


def _read_arrays(path: Path, digest: str) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        blob = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} belongs to the checkpoint and cannot be read: {error.strerror}"
        ) from None
    if _digest(blob) != digest:
        raise CheckpointError(
            f"{path} is damaged or truncated: its checksum is not the one in state.json",
            fix="use another copy of the checkpoint",
        )
    try:
        return dict(from_bytes(blob))
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None
