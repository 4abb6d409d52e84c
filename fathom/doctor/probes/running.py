"""Running a model so that nothing of it is left behind, and finding one's way in its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fathom.data import DataLoader
from fathom.doctor.probes.recording import Filter, Record, Seen, choose, record
from fathom.engine import random
from fathom.engine.errors import ArgumentError
from fathom.engine.modes import enable_grad, no_grad
from fathom.engine.tensor import Array, Tensor
from fathom.nn.activation import Elementwise, PReLU, Swish
from fathom.nn.embedding import Embedding, EmbeddingBag
from fathom.nn.lazy import KNOWN, UninitializedBuffer, UninitializedParameter
from fathom.nn.module import Module
from fathom.train.arguments import as_inputs, as_targets, find_loss

ACTIVATIONS = (Elementwise, Swish, PReLU)


@contextmanager
def untouched(model: Module, training: bool | None = None) -> Iterator[None]:
    """Do anything with a model inside the block; afterwards it is, bit for bit, as before.

    Weights and buffers are copies while the block runs, the originals come back when it ends;
    so do gradients and modes. Random numbers come from a stream of its own with a fixed seed.

    training : the mode inside; None leaves every module's as it is.
    """
    modules = list(model.modules())
    modes = [(m, m.training) for m in modules]
    buffers = [(m, dict(m._buffers)) for m in modules]
    own: tuple[Tensor, ...] = (*model.parameters(), *model.buffers())
    tensors = list({id(t): t for t in own}.values())  # a shared one once
    if any(isinstance(t, UninitializedParameter | UninitializedBuffer) for t in tensors):
        raise ArgumentError("a layer has not learned the size of its input yet", fix=KNOWN)
    kept = [(t, t.data, t.cell, t.grad) for t in tensors]
    try:
        for tensor in tensors:
            tensor.data, tensor.cell, tensor.grad = tensor.data.copy(), None, None
        if training is not None:
            model.train(training)
        with random.use(random.Random(0)):
            yield
    finally:
        for tensor, data, cell, grad in kept:
            tensor.data, tensor.cell, tensor.grad = data, cell, grad
        for module, registry in buffers:
            module._buffers.clear()
            module._buffers.update(registry)
        for module, mode in modes:
            object.__setattr__(module, "training", mode)


def batches(model: Module, data: Any, batch_size: int = 256) -> Iterator[Array]:
    """The inputs of a data set, batch by batch: of an array, a `DataLoader`, or any iterable.

    A loader is read in order and to its end, so that its random stream does not move.
    """
    if isinstance(data, DataLoader):
        if isinstance(data.x, tuple):
            raise ArgumentError(
                "this loader yields several inputs; a probe runs models of one",
                fix="wrap the model in a Module that takes one array",
            )
        data, batch_size = data.x, data.batch_size
    if isinstance(data, np.ndarray | Tensor | list):
        x = as_inputs(model, data)
        for start in range(0, len(x), batch_size):
            yield x[start : start + batch_size]
        return
    for batch in data:
        yield as_inputs(model, batch[0] if isinstance(batch, tuple) else batch)


def watch(
    model: Module, data: Any, look: Callable[[Record], Any], only: Filter = None,
    *, inputs: bool = False, training: bool = False, batch_size: int = 256,
) -> None:  # fmt: skip
    """Call `look` with the record of each batch's forward pass: the same object, cleared between.

    A function, and not a generator, so that the model is itself again whatever `look` raises.
    """
    count = 0
    with untouched(model, training), record(model, only, inputs=inputs) as seen, no_grad():
        for x in batches(model, data, batch_size):
            seen.clear()
            model(Tensor(x))
            look(seen)
            count += 1
    if not count:
        raise ArgumentError("there is no data to look at: the iterable yields no batch")


@contextmanager
def differentiated(model: Module, loss: Any, x: Any, y: Any) -> Iterator[tuple[float, Record]]:
    """Forward and backward on one batch, watched: the loss and the record.

    Inside the block the parameters hold the gradients; outside nothing has happened.
    """
    inputs = as_inputs(model, x)
    targets = as_targets(y, inputs, loss)
    measure = find_loss(loss, targets)
    with untouched(model), record(model, inputs=True) as seen, enable_grad():
        value = measure(model(Tensor(inputs)), Tensor(targets))
        value.backward()
        yield float(value.item()), seen


# -- which layers ----------------------------------------------------------------------------------


def is_activation(name: str, module: Module) -> bool:
    """Whether a module is an elementwise activation."""
    return isinstance(module, ACTIVATIONS)


def activation_layers(model: Module, only: Filter) -> Filter:
    """The filter to look at activations with; says what to do if a model has none."""
    if only is None and not any(isinstance(m, ACTIVATIONS) for m in model.modules()):
        raise ArgumentError(
            "the model has no activation layer",
            fix="nn.ReLU() in place of F.relu can be watched; or name layers: only='encoder.*'",
        )
    return is_activation if only is None else only


def has_weights(name: str, module: Module) -> bool:
    """Whether a module owns a matrix (or more) of weights that multiply its input."""
    if isinstance(module, Embedding | EmbeddingBag):
        return False
    return any(p is not None and p.ndim > 1 for p in module._parameters.values())


def weight_layers(model: Module) -> dict[str, Module]:
    """The modules with weights by name."""
    modules = dict(model.named_modules())
    if not any(has_weights(n, m) for n, m in modules.items()):
        raise ArgumentError("the model has no layer with a matrix of weights")
    return choose(modules, has_weights)


def kind_of(seen: Seen) -> str:
    return type(seen.module).__name__


def unit_axis(ndim: int, channels_first: bool) -> int:
    """The axis along which the units lie: channels behind a convolution, else the last one."""
    return 1 if ndim > 3 or (ndim == 3 and channels_first) else ndim - 1


def by_unit(array: Array, channels_first: bool = False) -> Array:
    """An output as (everything else, units)."""
    moved = np.moveaxis(array, unit_axis(array.ndim, channels_first), -1)
    return moved.reshape(-1, moved.shape[-1])


def channels_first(model: Module) -> bool:
    """Whether outputs of three axes are (n, channels, length): so in models with Conv1d."""
    return any(type(m).__name__ in ("Conv1d", "LazyConv1d", "ConvTranspose1d") for m in
               model.modules())  # fmt: skip
