"""Sequences of different lengths in one array: padded, or packed step by step as in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError, mark_axes
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.checks import operand, raw
from fathom.ops.embedding import embedding
from fathom.ops.shape import concatenate, reshape, stack, transpose

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
]


class PackedSequence(NamedTuple):
    """Steps of all sequences one after the other, longest sequence first, without padding.

    data : (sum of the lengths, ...), first step 0 of every sequence, then step 1, ...
    batch_sizes : how many sequences have a step 0, 1, ...
    sorted_indices, unsorted_indices : the order by length, and back.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None


def check_lengths(lengths: Any, count: int, longest: int, owner: str) -> Any:
    """Lengths as an array of whole numbers from 1 to `longest`, one a sequence."""
    found = np.asarray(raw(operand(lengths)))
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise ShapeError(
            f"{owner}: lengths must be {count} whole numbers, one a sequence; received shape "
            f"{found.shape} of {found.dtype}"
        )
    if count and not 1 <= found.min() <= found.max() <= longest:
        raise ArgumentError(
            f"{owner}: lengths lie in [1, {longest}], the steps of the input; received "
            f"{found.tolist()}"
        )
    return found.astype(np.int64)


def _places(lengths: Any) -> tuple[Any, Any]:
    """Step and sequence of each packed row, for lengths that do not grow."""
    steps = np.arange(int(lengths.max(initial=0)))
    alive = steps[:, None] < lengths[None, :]
    time, sequence = np.nonzero(alive)
    return time, sequence


def pack_padded_sequence(
    input: TensorLike, lengths: TensorLike, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded batch (time, n, ...) without its padding.

    With `enforce_sorted`, the lengths must not grow; without, the sequences are sorted.

    >>> import fathom
    >>> packed = pack_padded_sequence(fathom.ones(3, 2, 4), [3, 1])
    >>> packed.data.shape, packed.batch_sizes.tolist()
    ((4, 4), [2, 1, 1])
    """
    x = operand(input)
    if x.ndim < 2:
        raise ShapeError(f"pack_padded_sequence: needs (time, n, ...); received {x.shape}")
    if batch_first:
        x = transpose(x, 0, 1)
    sizes = check_lengths(lengths, x.shape[1], x.shape[0], "pack_padded_sequence")
    order = np.argsort(-sizes, kind="stable")
    if enforce_sorted and (np.diff(sizes) > 0).any():
        raise ArgumentError(
            f"pack_padded_sequence: lengths {sizes.tolist()} grow", fix="enforce_sorted=False"
        )
    time, sequence = _places(sizes[order])
    rows = time * x.shape[1] + order[sequence]
    data = _rows(x, rows)
    counts = np.bincount(time)
    if enforce_sorted:
        return PackedSequence(data, Tensor(counts))
    return PackedSequence(data, Tensor(counts), Tensor(order), Tensor(np.argsort(order)))


def _rows(x: Any, rows: Any) -> Any:
    """Rows of (time, n, ...) by their number."""
    width = x.shape[2:]
    flat = reshape(x, (x.shape[0] * x.shape[1], int(np.prod(width, dtype=np.int64))))
    return reshape(embedding(rows, flat), (len(rows), *width))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The padded batch (time, n, ...) of a packed one, and the lengths."""
    sizes = raw(sequence.batch_sizes)
    lengths = (np.arange(sizes[0])[None, :] < sizes[:, None]).sum(axis=0)
    time, row = _places(lengths)
    if sequence.unsorted_indices is not None:
        order = raw(sequence.sorted_indices)
        row = order[row]
        lengths = lengths[raw(sequence.unsorted_indices)]
    steps = len(sizes) if total_length is None else int(total_length)
    if steps < len(sizes):
        raise ArgumentError(
            f"pad_packed_sequence: total_length {steps} is shorter than the longest sequence, "
            f"{len(sizes)}"
        )
    data = sequence.data
    table = concatenate([data, Tensor(np.full((1, *data.shape[1:]), padding_value, data.dtype))], 0)
    index = np.full((steps, int(sizes[0])), len(time))
    index[time, row] = np.arange(len(time))
    flat = reshape(table, (len(time) + 1, -1))
    out = reshape(embedding(index, flat), (*index.shape, *data.shape[1:]))
    return (transpose(out, 0, 1) if batch_first else out), Tensor(lengths)


def pad_sequence(
    sequences: Sequence[TensorLike], batch_first: bool = False, padding_value: float = 0.0
) -> Tensor:
    """Sequences (time_i, ...) of several lengths as one batch (time, n, ...).

    >>> import fathom
    >>> pad_sequence([fathom.ones(2), fathom.ones(1)], batch_first=True)
    tensor([[1., 1.],
            [1., 0.]])
    """
    found = [operand(s) for s in sequences]
    if not found or any(not s.ndim or s.shape[1:] != found[0].shape[1:] for s in found):
        shapes = ", ".join(mark_axes(s.shape, range(1, s.ndim)) for s in found)
        raise ShapeError(
            f"pad_sequence: needs sequences (time, ...) that agree behind their first axis; "
            f"received {shapes or 'none'}"
        )
    longest = max(len(s) for s in found)
    padded = []
    for s in found:
        rest = np.full((longest - len(s), *s.shape[1:]), padding_value, s.dtype)
        padded.append(concatenate([s, Tensor(rest)], 0) if len(rest) else s)
    return stack(padded, 0 if batch_first else 1)


def pack_sequence(sequences: Sequence[TensorLike], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (time_i, ...) packed."""
    lengths = [len(operand(s)) for s in sequences]
    return pack_padded_sequence(
        pad_sequence(sequences), np.array(lengths, np.int64), enforce_sorted=enforce_sorted
    )
