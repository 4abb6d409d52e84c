"""Training: the loop, its history, callbacks, metrics and checkpoints."""

from __future__ import annotations

import importlib
import os
from typing import Any

from fathom.nn.module import Module
from fathom.train import callbacks, checkpoint, losses, metrics, weights
from fathom.train.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    ModelCheckpoint,
    TimeLimit,
)
from fathom.train.fleet import Fleet, train_many
from fathom.train.history import History
from fathom.train.loop import attach
from fathom.train.progress import Progress
from fathom.train.trainer import Trainer


def load(path: str | os.PathLike[str]) -> Module:
    """The model of a checkpoint folder, rebuilt and in eval mode.

    Raises `MissingFileError` if nothing is there and `CheckpointError` if it is damaged,
    foreign, or of a class that only Python code can build.
    """
    return checkpoint.load(path).build()


LAZY = (  # tools that come in when they are used
    "activation_search", "augment", "collapse", "curvature", "distill", "landscape",
    "learning_curve", "lr_find", "penalty", "quantize", "report",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return importlib.import_module(f"fathom.train.{name}")
    raise AttributeError(f"module 'fathom.train' has no attribute {name!r}")


attach()

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "Fleet",
    "History",
    "LambdaCallback",
    "ModelCheckpoint",
    "Progress",
    "TimeLimit",
    "Trainer",
    "callbacks",
    "checkpoint",
    "load",
    "losses",
    "metrics",
    "train_many",
    "weights",
]
