"""One namespace for both engines: what is written for it runs in Fathom and in PyTorch.

Fathom's eager interface reads like PyTorch's, so most names are the engine's own; the few places
where the two differ are hidden here.

>>> from fathom.doctor.corpus.api import api
>>> one = api("fathom")
>>> one.numpy(one.nn.functional.relu(one.tensor([-1.0, 2.0]))).tolist()
[0.0, 2.0]
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.random import seed as fathom_seed
from fathom.engine.tensor import Array

ENGINES = ("fathom", "torch")


class Api:
    """An engine's names: `nn`, `F`, `optim`, `utils`; any other name is looked up in its root."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: Any = importlib.import_module(name)
        self.nn: Any = importlib.import_module(f"{name}.nn")
        self.F: Any = importlib.import_module(f"{name}.nn.functional")
        self.utils: Any = importlib.import_module(f"{name}.nn.utils")
        self.optim: Any = importlib.import_module(f"{name}.optim")
        self.swa: Any = importlib.import_module(f"{name}.optim.swa_utils")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.root, name)

    def tensor(self, values: Any) -> Any:
        """float32 and int64 tensors of NumPy arrays or lists, copied."""
        array = np.asarray(values)
        wanted = np.int64 if array.dtype.kind in "iub" else np.float32
        return self.root.tensor(array.astype(wanted))

    def numpy(self, tensor: Any) -> Array:
        """A tensor's values, out of the graph."""
        return np.array(tensor.detach().numpy())

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Draw from a generator of this seed inside the block; the former one goes on behind it."""
        if self.name == "fathom":
            with fathom_seed(seed):
                yield
        else:
            with self.root.random.fork_rng(devices=[]):
                self.root.manual_seed(seed)
                yield

    def seed(self, value: int) -> None:
        """Seed the engine from here on."""
        self.root.manual_seed(value)

    def __repr__(self) -> str:
        return f"api({self.name!r})"


@cache
def api(name: str) -> Api:
    """The namespace of an engine, "fathom" or "torch"."""
    if name not in ENGINES:
        raise ArgumentError(f"unknown engine {name!r}", fix="one of fathom, torch")
    if name == "torch" and not available("torch"):
        raise ArgumentError("PyTorch is not installed", fix="pip install torch, or --engine fathom")
    return Api(name)


def available(name: str) -> bool:
    """Whether an engine can be imported."""
    return importlib.util.find_spec(name) is not None


__all__ = ["ENGINES", "Api", "api", "available"]
