"""`examine`: what can be said of a model before it is trained, from a short trial on a copy."""

from __future__ import annotations

import copy
import itertools
import random as python_random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fathom.doctor.adapters import adapter_for
from fathom.doctor.schedule import Schedule
from fathom.doctor.watching import Watch
from fathom.engine import random
from fathom.engine.errors import ArgumentError, DataError
from fathom.engine.modes import enable_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn.embedding import Embedding, EmbeddingBag
from fathom.nn.module import Module

BATCHES, ROWS = 8, 64  # that a trial takes of the data
LR = 1e-3  # where no optimizer was given


class Examination(Watch):
    """What `examine` found: a `Watch` over a trial on a copy, with the same face."""

    how = "in a trial on a copy"

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """The trial is over; the run, which it stands for, has not begun: `ended` stays False."""
        self.adapter.close()
        self.seconds = self.schedule.spent
        self.reconsider()


def examine(
    model: Any, data: Any, loss: Any = None, optimizer: Any = None, *, steps: int = 32,
    probes: bool = False, treat: bool = False, report: str | Path | None = None,
) -> Examination:  # fmt: skip
    """Look for faults before training: contracts on a batch, and a trial of a few steps on a copy.

    Parameters
    ----------
    model : a `fathom.nn.Module` or a `torch.nn.Module`.
    data : a pair (x, y) of arrays or tensors; a data loader of either engine, or any iterable, of
        batches (x, y), (x1, x2, ..., y), x alone (its own target), or dictionaries of keywords
        for the model. Up to 8 batches are taken; an iterator loses them.
    loss : as in the training loop: a module or function (output, target); a name; None takes the
        model's own (an output with `.loss`, or a single number), else cross-entropy for whole
        numbers and mean squared error for others.
    optimizer : the one that will train the model, or a name; None: Adam with a rate of 0.001.
    steps : of the trial, over the batches again and again.
    probes : run the active probes, too (some seconds); see `probing`.
    treat : try the fixes of all faults found, on copies.
    report : where an HTML or JSON report is to be written.

    Model, optimizer, data and random numbers are afterwards what they were, bit for bit. Raises
    `ArgumentError` for a model that cannot be copied and `DataError` where there is no batch; what
    the model itself raises in the trial comes through, unless the doctor knows why.

    >>> import fathom
    >>> from fathom import doctor, nn
    >>> data = fathom.data.load("iris")
    >>> with fathom.seed(0):
    ...     model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 1), nn.Softmax(1))
    >>> found = examine(model, (data.x, data.y == 0), nn.BCELoss())
    >>> found.findings[0].kind
    'one_unit_softmax'
    """
    if steps < 1:
        raise ArgumentError(f"a trial has at least one step; received steps={steps}")
    side = _side(model)
    with _kept_random(data, side):
        batches = _batches(data, model, side)
        twin, measure, mover = _copies(model, loss, optimizer)
        if not isinstance(mover, str | type(None)):
            made = mover
        else:
            made = side.optimizer(twin, mover)
        seen = Examination(adapter_for(twin, made, measure if callable(measure) else None),
                           Schedule(every=8, budget=1.0))  # fmt: skip
        if mover is None:
            seen.case.notes.append(f"no optimizer was given: the trial took Adam, lr {LR:g}")
        _trial(seen, twin, batches, measure, made, steps, side)
        if probes:
            seen.probe()
        if treat:
            for finding in [f for f in seen.findings if f.severity != "advice"]:
                seen.treat(finding)
    if report is not None:
        seen.save(report)
    return seen


def _trial(
    seen: Examination, model: Any, batches: list[Any], loss: Any, optimizer: Any, steps: int,
    side: Any,
) -> None:  # fmt: skip
    """The usual loop; what it raises is passed on where the doctor does not know why."""
    failed: Exception | None = None
    if not model.training:
        model.train()
    with seen, enable_grad(), np.errstate(all="ignore"):
        try:
            for _, batch in zip(range(steps), itertools.cycle(batches), strict=False):
                optimizer.zero_grad()
                value = _loss_of(model, batch, loss, side)
                value.backward()
                optimizer.step()
        except Exception as error:
            failed = error
    if failed is not None:
        if not any(f.severity == "error" for f in seen.findings):
            raise failed
        seen.case.notes.append(f"the trial ended early: {type(failed).__name__}: {failed}")


def _loss_of(model: Any, batch: Any, loss: Any, side: Any) -> Any:
    """The loss of one batch; see `examine` for the forms of both."""
    if isinstance(batch, Mapping):
        output, target = model(**batch), batch.get("labels")
    else:
        *inputs, target = batch
        output = model(*inputs)
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None and own is not None:
        return own
    if isinstance(output, Mapping) or hasattr(output, "logits"):
        output = output["logits"] if isinstance(output, Mapping) else output.logits
    if loss is None and getattr(output, "ndim", 1) == 0:
        return output
    return side.loss(loss, target)(output, target)


def _copies(model: Any, loss: Any, optimizer: Any) -> tuple[Any, Any, Any]:
    """Copies that belong together: the optimizer's parameters are those of the model's copy."""
    memo: dict[int, Any] = {}
    try:
        return (copy.deepcopy(model, memo), copy.deepcopy(loss, memo),
                copy.deepcopy(optimizer, memo))  # fmt: skip
    except Exception as error:
        raise ArgumentError(
            f"the model, its loss or its optimizer cannot be copied: {error}",
            fix="examine them before the first forward pass, or watch the training itself",
        ) from error


# -- the data ------------------------------------------------------------------------------------


def _batches(data: Any, model: Any, side: Any) -> list[Any]:
    """The first batches as copies, of arrays some rows drawn at random."""
    if _is_pair(data):
        parts = [np.asarray(a) if isinstance(a, list) else a for a in data]
        n = len(parts[0])
        if n == 0 or any(len(p) != n for p in parts):
            raise DataError(f"x and y have {' and '.join(str(len(p)) for p in parts)} rows")
        order = np.random.default_rng(0).permutation(n)[: BATCHES * ROWS]
        chunks = [order[i : i + ROWS] for i in range(0, len(order), ROWS)]
        raw: Iterable[Any] = ([p[rows] for p in parts] for rows in chunks)
    else:
        raw = data
    found = [_batch(one, model, side) for one in itertools.islice(iter(raw), BATCHES)]
    if not found:
        raise DataError("there is nothing to examine the model on: the data yield no batch")
    return found


def _is_pair(data: Any) -> bool:
    """Whether data are the arrays x and y themselves, and not an iterable of batches."""
    arrays = np.ndarray | Tensor
    return (
        isinstance(data, tuple)
        and len(data) == 2
        and all(isinstance(a, arrays | list) or hasattr(a, "detach") for a in data)
    )


def _batch(one: Any, model: Any, side: Any) -> Any:
    """A batch with copies of its arrays as the engine's tensors; of inputs alone, (x, x)."""
    if isinstance(one, Mapping):
        return {k: side.tensor(v, model) for k, v in one.items()}
    if not isinstance(one, tuple | list):
        one = (one, one)
    parts = [part for item in one for part in (item if isinstance(item, tuple) else (item,))]
    parts = [p for p in parts if p is not None]
    if len(parts) == 1:
        parts = parts * 2
    inputs = [side.tensor(p, model) for p in parts[:-1]]
    return (*inputs, side.target(parts[-1], model))


# -- the engines ---------------------------------------------------------------------------------


class _Fathom:
    """Fathom's tensors, losses and optimizers."""

    def tensor(self, value: Any, model: Any) -> Any:
        if isinstance(value, Tensor):
            return Tensor(value.value().copy())
        array = np.array(value)
        indices = any(isinstance(m, Embedding | EmbeddingBag) for m in model.modules())
        return Tensor(_typed(array, next((p.dtype for p in model.parameters()), np.float32),
                             indices))  # fmt: skip

    def target(self, value: Any, model: Any) -> Any:
        if isinstance(value, Tensor):
            return Tensor(value.value().copy())
        return Tensor(_typed(np.array(value), np.float32, True))

    def loss(self, given: Any, target: Any) -> Callable[..., Any]:
        if callable(given):
            return given
        from fathom.train.losses import find_loss

        found: Callable[..., Any] = find_loss("auto" if given is None else given, target.value())
        return found

    def optimizer(self, model: Any, name: str | None) -> Any:
        from fathom.optim import make

        return make(name, model.parameters()) if name else make("adam", model.parameters(), lr=LR)

    @contextmanager
    def kept_random(self, data: Any) -> Iterator[None]:
        yield


class _Torch:
    """PyTorch's."""

    def __init__(self) -> None:
        self.torch: Any = sys.modules["torch"]

    def tensor(self, value: Any, model: Any) -> Any:
        if self.torch.is_tensor(value):
            return value.detach().clone()
        if not isinstance(value, np.ndarray | list | float | int | np.generic):
            return value
        first = next(model.parameters(), None)
        embeds = self.torch.nn.Embedding, self.torch.nn.EmbeddingBag
        indices = any(isinstance(m, embeds) for m in model.modules())
        made = self.torch.as_tensor(_typed(np.array(value), np.float32, indices))
        if first is None:
            return made
        return made.to(first.device, first.dtype if made.is_floating_point() else None)

    def target(self, value: Any, model: Any) -> Any:
        if self.torch.is_tensor(value):
            return value.detach().clone()
        made = self.torch.as_tensor(_typed(np.array(value), np.float32, True))
        first = next(model.parameters(), None)
        return made if first is None else made.to(first.device)

    def loss(self, given: Any, target: Any) -> Callable[..., Any]:
        functions = self.torch.nn.functional
        if given is None:
            given = "mse_loss" if target.is_floating_point() else "cross_entropy"
        if isinstance(given, str) and not hasattr(functions, given):
            raise ArgumentError(f"torch.nn.functional has no loss {given!r}")
        found: Callable[..., Any] = getattr(functions, given) if isinstance(given, str) else given
        return found

    def optimizer(self, model: Any, name: str | None) -> Any:
        kinds = {k.lower(): v for k, v in vars(self.torch.optim).items() if isinstance(v, type)}
        if name is not None and name.lower() not in kinds:
            raise ArgumentError(f"torch.optim has no {name!r}")
        trained = [p for p in model.parameters() if p.requires_grad]
        return kinds[name.lower()](trained) if name else kinds["adam"](trained, lr=LR)

    @contextmanager
    def kept_random(self, data: Any) -> Iterator[None]:
        """PyTorch's own numbers, and those of a data loader's generators."""
        owners = (data, getattr(data, "sampler", None))
        found = [g for o in owners if (g := getattr(o, "generator", None)) is not None]
        states = [(g, g.get_state()) for g in {id(g): g for g in found}.values()]
        try:
            with self.torch.random.fork_rng():
                self.torch.manual_seed(0)
                yield
        finally:
            for generator, state in states:
                generator.set_state(state)


def _side(model: Any) -> Any:
    if isinstance(model, Module):
        return _Fathom()
    adapter_for(model)  # says what it is that cannot be watched
    return _Torch()


def _typed(array: Array, floats: Any, whole: bool) -> Array:
    """Floats in the model's type; whole numbers as they are where they may be, else as floats."""
    if array.dtype.kind in "iub":
        return array.astype(np.int64) if whole else array.astype(floats)
    return array.astype(floats, copy=False)


@contextmanager
def _kept_random(data: Any, side: Any) -> Iterator[None]:
    """All random numbers go on behind the block as if it had not been there."""
    python, numpy = python_random.getstate(), np.random.get_state()
    own = getattr(data, "rng", None)
    stood = own.streams() if isinstance(own, random.Random) else None
    try:
        with random.use(random.Random(0)), side.kept_random(data):
            yield
    finally:
        python_random.setstate(python)
        np.random.set_state(numpy)
        if stood is not None and own is not None:
            own.rewind(stood)


__all__ = ["Examination", "examine"]
