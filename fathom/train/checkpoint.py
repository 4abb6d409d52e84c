"""Checkpoints: a folder with weights, optimizer and state, complete or not there at all.

    run/model.safetensors   the model's state dict
    run/optim.safetensors   the optimizer's arrays
    run/best.safetensors    the best weights so far (if early stopping keeps them)
    run/state.json          architecture, options, random streams, history, checksums

A checkpoint is written beside its place and renamed. Killed at any moment, either the old or
the new one can be loaded: between the two renames the old one waits under its `.old` name,
where `load` finds it. What others put into the folder is carried over; what a killed process
left beside it goes with the next save. Nothing is unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, CheckpointError, MissingFileError, OutputError
from fathom.engine.tensor import Array
from fathom.nn.module import Module
from fathom.nn.spec import from_spec, to_spec
from fathom.optim import Optimizer
from fathom.version import __version__

FORMAT = "fathom-checkpoint"
VERSION = 1
PARTS = ("model.safetensors", "optim.safetensors", "best.safetensors")
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
        spec = self.state["model"].get("spec")
        if spec is None:
            raise CheckpointError(
                f"{self.path}: the architecture of {self.state['model'].get('class')} is not "
                "stored (it is not a tree of Fathom's own layers)",
                fix="build it in Python and call model.load(path)",
            )
        model = from_spec(spec)
        self.restore(model)
        return model.eval()

    def restore(self, model: Module) -> None:
        """Copy the weights into a model that fits."""
        model.load_state_dict(self.model)  # refuses, before any change, what does not fit
        own = model.state_dict()
        for name, value in self.model.items():
            if value.dtype.kind == "f" and own[name].dtype != value.dtype:
                model.to(value.dtype).load_state_dict(self.model)
                break


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
    folder = _place(path)
    files: dict[str, Arrays] = {"model": {n: t.value() for n, t in model.state_dict().items()}}
    about: dict[str, Any] = {}
    if optimizer is not None:
        files["optim"], about = _pack_optimizer(optimizer)
    if best:
        files["best"] = dict(best)
    record: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "fathom": __version__,
        "model": {"class": type(model).__name__, "spec": _spec_or_none(model)},
        "optimizer": about,
        "state": dict(state or {}),
    }
    blobs = {f"{name}.safetensors": _serialize(arrays) for name, arrays in files.items()}
    record["blake2b"] = {name: _digest(blob) for name, blob in blobs.items()}
    blobs["state.json"] = _sealed(record)
    try:
        _write(folder, blobs)
    except OSError as error:
        raise OutputError(
            f"cannot write the checkpoint {folder}: {error.strerror or error}",
            fix="choose a folder you may write to, with room on its disk",
        ) from error
    return folder


def _spec_or_none(model: Module) -> dict[str, Any] | None:
    try:
        return to_spec(model)
    except ArgumentError:
        return None


def _sealed(record: dict[str, Any]) -> bytes:
    """The record as JSON, with the checksum of its content."""
    try:
        checksum = _digest(json.dumps(record).encode())
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"the state of a checkpoint must be JSON values: {error}",
            fix="numbers, text, lists and dictionaries; arrays as array.tolist()",
        ) from None
    return json.dumps({**record, "checksum": checksum}, indent=1).encode()


def _write(folder: Path, blobs: Mapping[str, bytes]) -> None:
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(folder)
    aside = _aside(folder, str(os.getpid()))
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        for name, blob in blobs.items():
            _write_file(aside / name, blob)
        _carry_over(_latest(folder), aside)
        _sync(aside)
        _swap(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _refuse_foreign(folder: Path) -> None:
    """Only a checkpoint (or an empty folder) is ever replaced."""
    if folder.exists() and any(folder.iterdir()):
        try:
            _read_record(folder)
        except CheckpointError as error:
            reason = "the folder exists and is not a sound checkpoint; it is left untouched"
            raise OSError(None, f"{reason} ({error.message})") from None


def _carry_over(folder: Path, aside: Path) -> None:
    """Copy what is not part of the checkpoint: notes and reports others put there."""
    for entry in folder.iterdir() if folder.exists() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, aside / entry.name, symlinks=True)
        elif entry.name not in (*PARTS, "state.json"):
            shutil.copy2(entry, aside / entry.name, follow_symlinks=False)


def _clear_leftovers(folder: Path) -> None:
    """Remove what saves left unfinished if their process, on this machine, is gone."""
    pattern = re.escape(_aside(folder, "PROCESS").name).replace("PROCESS", r"(\d{1,9})")
    for entry in folder.parent.iterdir():
        match = re.fullmatch(pattern, entry.name)
        if match and not _alive(int(match[1])):
            shutil.rmtree(entry, ignore_errors=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # no harmless signal there: leave the folder
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def _aside(folder: Path, process: str) -> Path:
    """Where a process prepares a checkpoint; the machine's name counts on shared disks."""
    machine = re.sub(r"\W", "-", platform.node())
    return folder.with_name(f".{folder.name}.{machine}-{process}.tmp")


def _place(path: str | os.PathLike[str]) -> Path:
    """The folder itself: links are followed, "." gets its name."""
    folder = Path(path)
    if folder.is_symlink() or folder.name in ("", ".."):
        folder = folder.resolve()
    if not folder.name:
        raise OutputError(f"{folder} cannot be a checkpoint", fix="give the name of a folder")
    return folder


def _latest(folder: Path) -> Path:
    """The folder, or its `.old` neighbour if a save was killed between its two renames."""
    return _old(folder) if not folder.exists() and _old(folder).exists() else folder


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


def check_optimizer(checkpoint: Checkpoint, optimizer: Optimizer) -> None:
    """Refuse the state of an optimizer of another class."""
    saved = checkpoint.state["optimizer"].get("class", "no optimizer")
    if saved != type(optimizer).__name__:
        raise CheckpointError(
            f"{checkpoint.path} was trained with {saved}, not {type(optimizer).__name__}",
            fix="resume with the same optimizer, or start a new run from the weights",
        )


def restore_optimizer(checkpoint: Checkpoint, optimizer: Optimizer) -> None:
    """Give an optimizer of the same class and parameters the saved state."""
    check_optimizer(checkpoint, optimizer)
    about = checkpoint.state["optimizer"]
    try:
        state: dict[int, dict[str, Any]] = {
            int(number): {"step": step} for number, step in about["steps"].items()
        }
        for name, array in checkpoint.optimizer.items():
            number, _, slot = name.partition(".")
            state[int(number)][slot] = array
        optimizer.load_state_dict({"state": state, "param_groups": about["param_groups"]})
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint.path}: the optimizer's state is incomplete ({error!r})"
        ) from None


# -- reading -------------------------------------------------------------------------------------


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a checkpoint folder.

    Raises `MissingFileError` if nothing is there, `CheckpointError` if it is damaged,
    incomplete, newer than this Fathom, or something else.
    """
    folder = _latest(_place(path))
    if not folder.exists():
        raise MissingFileError(f"no checkpoint at {folder}", fix="check the path; see --out")
    record = _read_record(folder)
    arrays = {}
    for name, digest in record["blake2b"].items():
        if name not in PARTS:
            raise CheckpointError(f"{folder}: state.json names a file {name!r}, which is not ours")
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
    except (ValueError, OSError, RecursionError) as error:
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
    if record.pop("checksum", None) != _digest(json.dumps(record).encode()):
        raise CheckpointError(
            f"{place} is damaged or was edited: its checksum is not that of its content",
            fix="use another copy of the checkpoint",
        )
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
