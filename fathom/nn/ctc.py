"""Connectionist temporal classification (Graves et al., 2006)."""

from __future__ import annotations

from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, AxisError, DtypeError, ShapeError
from fathom.engine.hearing import loss_heard
from fathom.engine.tensor import Tensor, TensorLike
from fathom.ops.checks import by_value, floats, raw
from fathom.ops.create import as_tensor
from fathom.ops.elementwise import where
from fathom.ops.index import gather
from fathom.ops.losses.common import finish
from fathom.ops.reduce import logsumexp
from fathom.ops.shape import concatenate, stack

NEVER = -1e30  # the logarithm of a probability of 0, whose differences are still numbers


@loss_heard
def ctc_loss(
    log_probs: TensorLike,
    targets: TensorLike,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of a label sequence, summed over all its alignments.

    The forward algorithm in log space, of plain differentiable operations. An alignment names a
    class for each time step; blanks and repetitions are dropped from it.

    log_probs : (time, n, classes), or (time, classes); from `log_softmax`.
    targets : (n, longest), or all sequences one after the other; class numbers without `blank`.
    input_lengths, target_lengths : (n,) each. reduction : "mean" divides each loss by the
    length of its target first, as in PyTorch. zero_infinity : 0 where no alignment fits.

    >>> import fathom
    >>> uniform = fathom.log_softmax(fathom.zeros(2, 1, 3), -1)
    >>> ctc_loss(uniform, [[1]], [2], [1]).exp()  # 3 of the 9 alignments
    tensor(3.)
    """
    given = map(as_tensor, (log_probs, targets, input_lengths, target_lengths))
    return by_value(_ctc_loss, *given, blank=blank, reduction=reduction, inf=not zero_infinity)


def _ctc_loss(
    lp: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int, reduction: str,
    inf: bool,
) -> Tensor:  # fmt: skip
    floats("ctc_loss", lp)
    single = lp.ndim == 2
    if single:
        lp = lp.reshape(lp.shape[0], 1, lp.shape[1])
    if lp.ndim != 3:
        raise ShapeError(f"ctc_loss: log_probs is (time, n, classes); received {lp.shape}")
    steps, n, classes = lp.shape
    if not 0 <= blank < classes:
        raise ArgumentError(f"ctc_loss: blank lies in 0 .. {classes - 1}; received {blank!r}")
    times = _lengths("input_lengths", input_lengths, n, steps)
    sizes = _lengths("target_lengths", target_lengths, n, None)
    labels = _labels(targets, sizes, classes, blank)
    total = _forward(lp, labels, times, sizes)
    impossible = raw(total) < 0.5 * NEVER
    loss = where(impossible, np.inf if inf else 0.0, -total)
    if reduction == "mean":
        loss = loss / np.maximum(sizes, 1).astype(lp.dtype)
    loss = loss.reshape(()) if single else loss
    return finish("ctc_loss", loss, reduction)


def _lengths(name: str, values: Any, n: int, most: int | None) -> Any:
    found = np.atleast_1d(np.asarray(raw(as_tensor(values))))
    if found.dtype.kind not in "iu":
        raise DtypeError(f"ctc_loss: {name} are whole numbers; received {found.dtype}")
    if found.shape != (n,):
        raise ShapeError(f"ctc_loss: {name} must have shape ({n},); received {found.shape}")
    if (found < 0).any() or (most is not None and (found > most).any()):
        limit = "" if most is None else f" .. {most}"
        raise ArgumentError(f"ctc_loss: {name} lie in 0{limit}; received {found.tolist()}")
    return found.astype(np.int64)


def _labels(targets: Any, sizes: Any, classes: int, blank: int) -> Any:
    """(n, 2 * longest + 1): every sequence with blanks between, before and behind."""
    given = np.asarray(raw(as_tensor(targets)))
    if given.dtype.kind not in "iu" and given.size:
        raise DtypeError(f"ctc_loss: targets are class numbers; received {given.dtype}")
    longest = int(sizes.max(initial=0))
    out = np.full((len(sizes), 2 * longest + 1), blank, np.int64)
    if given.ndim == 1 and given.size != sizes.sum():
        raise ShapeError(
            f"ctc_loss: {given.size} labels one after the other, but target_lengths sum to "
            f"{sizes.sum()}"
        )
    if given.ndim == 2 and (given.shape[0] != len(sizes) or given.shape[1] < longest):
        raise ShapeError(
            f"ctc_loss: targets {given.shape} do not hold {len(sizes)} sequences of up to {longest}"
        )
    ends = np.cumsum(sizes)
    for i, size in enumerate(sizes):
        row = given[ends[i] - size : ends[i]] if given.ndim == 1 else given[i, :size]
        if ((row < 0) | (row >= classes)).any() or (row == blank).any():
            raise AxisError(
                f"ctc_loss: sequence {i} holds {row.tolist()}; labels lie in 0 .. {classes - 1} "
                f"and are not the blank {blank}"
            )
        out[i, 1 : 2 * size : 2] = row
    return out


def _forward(lp: Any, labels: Any, times: Any, sizes: Any) -> Any:
    """log p of each sequence: `alpha[s]` sums the alignments that end in state s."""
    steps, n, _ = lp.shape
    states = labels.shape[1]
    emitted = gather(lp, 2, np.broadcast_to(labels, (steps, n, states)).copy())
    emitted = where(raw(emitted) < NEVER, NEVER, emitted)  # probabilities of exactly 0
    skips = np.zeros((n, states), bool)  # over the blank between two different labels
    skips[:, 3::2] = labels[:, 3::2] != labels[:, 1:-2:2]
    bottom = np.full((n, states), NEVER, lp.dtype)
    first = np.arange(states) < 2
    alpha: Any = where(first & (times > 0)[:, None], emitted[0], bottom) if steps else bottom
    for t in range(1, steps):
        one = concatenate([bottom[:, :1], alpha[:, :-1]], 1)
        two = concatenate([bottom[:, :2], alpha[:, :-2]], 1)[:, :states]
        ways = stack([alpha, one, where(skips, two, bottom)], 0)
        moved = logsumexp(ways, 0) + emitted[t]
        alpha = where((t < times)[:, None], moved, alpha)
    rows = np.arange(n)
    last = alpha[rows, 2 * sizes]
    before = alpha[rows, np.maximum(2 * sizes - 1, 0)]
    total: Any = logsumexp(stack([last, where(sizes > 0, before, NEVER)], 0), 0)
    # with no time at all, only the empty sequence fits
    return where(times > 0, total, np.where(sizes == 0, 0.0, 2 * NEVER).astype(lp.dtype))
