"""`model.summary()`: one forward pass, watched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.engine.levels import watching
from fathom.engine.modes import no_grad
from fathom.engine.primitive import Primitive, record
from fathom.engine.tensor import Tensor

if TYPE_CHECKING:
    from fathom.nn.module import Module


@dataclass(frozen=True)
class Row:
    """One layer: where it is, what comes out, what it costs."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    bytes: int  # of the output


@dataclass(frozen=True)
class Summary:
    """What `model.summary()` returns: prints as a table, gives its rows as data."""

    rows: tuple[Row, ...]
    batch_size: int
    parameters: int
    trainable: int
    parameter_bytes: int

    @property
    def multiply_adds(self) -> int:
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        return sum(row.bytes for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "layers": [{**vars(row), "output_shape": list(row.output_shape)} for row in self.rows],
            "batch_size": self.batch_size,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "multiply_adds": self.multiply_adds,
            "parameter_bytes": self.parameter_bytes,
            "activation_bytes": self.activation_bytes,
        }

    @property
    def header(self) -> tuple[str, ...]:
        return ("layer", "type", "output shape", "parameters", "multiply-adds", "bytes")

    def cells(self) -> list[tuple[str, ...]]:
        """The table's rows as text."""
        return [
            (
                row.name, row.kind, str(row.output_shape), f"{row.parameters:,}",
                f"{row.multiply_adds:,}", f"{row.bytes:,}",
            )
            for row in self.rows
        ]  # fmt: skip

    def totals(self) -> str:
        frozen = self.parameters - self.trainable
        return (
            f"{self.parameters:,} parameters ({self.trainable:,} trainable"
            + (f", {frozen:,} frozen" if frozen else "")
            + f"), {self.parameter_bytes:,} bytes; {self.multiply_adds:,} multiply-adds and "
            f"{self.activation_bytes:,} bytes of activations for a batch of {self.batch_size}"
        )

    def __str__(self) -> str:
        table = [self.header, *self.cells()]
        widths = [max(len(line[i]) for line in table) for i in range(len(self.header))]
        lines = [
            "  ".join(
                cell.ljust(width) if i < 3 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in table
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:], rule, self.totals()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{c}</th>" for c in self.header)
        body = "".join(
            "<tr>" + "".join(f"<td>{c}</td>" for c in line) + "</tr>" for line in self.cells()
        )
        return f"<table><tr>{head}</tr>{body}</table><p>{self.totals()}</p>"


@contextmanager
def count_multiply_adds(counts: list[int]) -> Iterator[None]:
    """Add the multiply-adds of every contraction inside the block to `counts[-1]`."""

    def watch(primitive: Primitive, args: Any, params: dict[str, Any], grad: bool) -> Any:
        if callable(primitive.cost):
            shapes = [np.shape(a) if not isinstance(a, Tensor) else a.shape for a in args]
            counts[-1] += int(primitive.cost(*shapes, **params))
        return record(primitive, args, params, grad)

    with watching(watch):
        yield


def summarize(module: Module, input_shape: Any, batch_size: int) -> Summary:
    """Run zeros through the model and note what each layer that does something puts out."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ArgumentError(f"summary: batch_size must be >= 1; received {batch_size!r}")
    shape = _sample_shape(module, input_shape)
    rows: list[Row] = []
    counts: list[int] = []

    def before(layer: Module, inputs: Any) -> None:
        counts.append(0)

    def after(layer: Module, inputs: Any, output: Any) -> None:
        own = counts.pop()
        if own or layer._parameters or not layer._modules:
            out = output if isinstance(output, Tensor) else output[0]
            rows.append(_row(names[id(layer)], layer, out, own))

    names = {id(m): n or type(m).__name__ for n, m in module.named_modules()}
    layers = list(module.modules())
    hooks = [m.register_forward_pre_hook(before) for m in layers]
    hooks += [m.register_forward_hook(after) for m in layers]
    modes = [(m, m.training) for m in layers]
    try:
        with no_grad(), count_multiply_adds(counts):
            module.eval()(Tensor(np.zeros((batch_size, *shape), _float_type(module))))
    finally:
        for hook in hooks:
            hook.remove()
        for m, training in modes:
            object.__setattr__(m, "training", training)
    parameters = list(module.parameters())
    return Summary(
        tuple(rows),
        batch_size,
        sum(p.size for p in parameters),
        sum(p.size for p in parameters if p.requires_grad),
        sum(p.nbytes for p in parameters),
    )


def _row(name: str, layer: Module, out: Tensor, multiply_adds: int) -> Row:
    own = [p for p in layer._parameters.values() if p is not None]
    return Row(
        name,
        type(layer).__name__,
        out.shape,
        sum(p.size for p in own),
        sum(p.size for p in own if p.requires_grad),
        multiply_adds,
        out.nbytes,
    )


def _float_type(module: Module) -> Any:
    return next((p.dtype for p in module.parameters()), np.dtype(np.float32))


def _sample_shape(module: Module, input_shape: Any) -> Sequence[int]:
    if input_shape is not None:
        shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
            raise ArgumentError(f"summary: sizes must be >= 1; received input_shape={shape}")
        return shape
    for layer in module.modules():
        features = getattr(layer, "in_features", None)
        if features is not None:
            return (int(features),)
    raise ArgumentError(
        "summary: the first layer does not say how many features it takes",
        fix="model.summary(input_shape=(features,))",
    )
