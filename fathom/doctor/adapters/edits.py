"""What patients of both engines share: edits of habits, loss and data, and how they are scored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np

from fathom.doctor.adapters.scoring import BINARY, CLASSIFYING, Pair, skills
from fathom.doctor.finding import Edit
from fathom.engine.errors import ArgumentError
from fathom.engine.tensor import Array

Batch = tuple[tuple[Any, ...], Any]  # inputs and target
SCORED = 512  # examples, about, that a score is made of
TOGETHER = 32  # rows of a held-out batch, where there are so many
SMALL = 8  # rows: smaller batches are held out whole


class Edits:
    """Base of patients: `apply` finds the method `edit_<action>`; habits of the loop are flags.

    An engine's side sets these attributes and adds `answers`, `joined` and the edits of its models
    and optimizers. held : batches that are scored and not trained on.
    """

    function: str
    options: dict[str, Any]
    batches: list[Any]
    zeroes: bool
    clears_early: bool
    training: bool
    clip: float  # what the gradient's norm is clipped to; 0: it is not
    sign: float = 1.0  # -1: the loop goes up the loss, not down
    by_batch: bool = False  # whether batch normalization is scored with the batch's statistics
    steps_taken: bool = True  # whether the optimizer's step is made at all
    noisy: bool = False  # whether it is evaluated in train mode
    compares: bool = False  # whether "agreement" is among the skills
    constant_rate: bool = False  # whether a schedule is left out
    output_change: Callable[[Any], Any] | None = None
    target_change: Callable[[Any], Any] | None = None
    squeezes: bool = False
    held: tuple[Batch, ...] = ()

    # -- what an engine's side adds -----------------------------------------------------------

    def answers(self, batches: Sequence[Batch]) -> list[Pair]:
        """What the loss is given for these batches, in eval mode (or as `noisy` says): output
        and target, both as changed by the edits."""
        raise NotImplementedError

    def joined(self, parts: Sequence[Any]) -> Any:
        """Tensors, one behind the other along their first axis."""
        raise NotImplementedError

    def softmax(self, output: Any, kind: str) -> Any:
        """An output activation by name."""
        raise NotImplementedError

    def plain(self, value: Any) -> Array:
        """A tensor as an array."""
        return np.asarray(value)

    # -- edits ----------------------------------------------------------------------------

    def apply(self, edit: Edit) -> None:
        """Carry out an edit; `ArgumentError` where this run has nothing to do it to."""
        act = getattr(self, f"edit_{edit.action}", None)
        if act is None:
            raise ArgumentError(f"{edit.action!r} cannot be tried on a copy of the run")
        act(edit)

    def edit_zero_grad(self, edit: Edit) -> None:
        self.zeroes, self.clears_early = True, False

    def edit_step(self, edit: Edit) -> None:
        self.steps_taken = True

    def edit_sign(self, edit: Edit) -> None:
        self.sign = 1.0

    def edit_train_mode(self, edit: Edit) -> None:
        self.training, self.noisy = True, False

    def edit_clip(self, edit: Edit) -> None:
        self.clip = float(edit.value)

    def edit_schedule(self, edit: Edit) -> None:
        self.constant_rate = True

    def edit_loss(self, edit: Edit) -> None:
        self.function = str(edit.value)
        self.options = {"reduction": "mean"}
        self.squeezes = self.squeezes or self.function in BINARY

    def edit_reduction(self, edit: Edit) -> None:
        self.options["reduction"] = edit.value

    def edit_squeeze(self, edit: Edit) -> None:
        self.squeezes = True

    def edit_output_activation(self, edit: Edit) -> None:
        kind = str(edit.value)
        self.output_change = lambda output: self.softmax(output, kind)

    def edit_scale_targets(self, edit: Edit) -> None:
        if edit.value is not None:
            self.target_change = lambda t: t / float(edit.value)
            return
        rows = np.concatenate([self.plain(t).ravel() for _, t in self.batches]).astype(np.float64)
        rows = rows[np.isfinite(rows)]
        mean, std = float(rows.mean()), float(rows.std()) or 1.0
        self.target_change = lambda t: (t - mean) / std

    def edit_labels(self, edit: Edit) -> None:
        rows = np.concatenate([self.plain(t).ravel() for _, t in self.batches])
        values = np.unique(rows)
        self.batches = [(x, self.numbered(t, values)) for x, t in self.batches]
        self.held = tuple((x, self.numbered(t, values)) for x, t in self.held)

    def edit_batch(self, edit: Edit) -> None:
        """Batches of so many examples, put together from the kept ones."""
        wanted = int(edit.value)
        size = max(self.rows(self.batches[0]), 1)
        n = min(-(-wanted // size), len(self.batches))
        if n < 2:
            raise ArgumentError("there are too few kept batches to make larger ones of")
        groups = [self.batches[i : i + n] for i in range(0, len(self.batches) - n + 1, n)]
        self.batches = [self._merged(group) for group in groups]

    def _merged(self, group: Sequence[Batch]) -> Batch:
        first, rows = group[0][0], self.rows(group[0])
        inputs = tuple(
            self.joined([x[i] for x, _ in group]) if _rows(first[i]) == rows else first[i]
            for i in range(len(first))
        )
        return inputs, self.joined([t for _, t in group])

    def edit_finite(self, edit: Edit) -> None:
        """Leave out the examples with values that are not finite."""
        self.batches = [b for b in map(self._finite, self.batches) if b is not None]
        self.held = tuple(b for b in map(self._finite, self.held) if b is not None)
        if not self.batches:
            raise ArgumentError("every kept batch has values that are not finite throughout")

    def _finite(self, batch: Batch) -> Batch | None:
        kept = np.flatnonzero(self._fine(batch))
        return self.taken(batch, kept) if len(kept) > 1 or len(kept) == self.rows(batch) else None

    def _fine(self, batch: Batch) -> Array:
        """For each example whether all its values are finite."""
        n = self.rows(batch)
        fine = np.ones(n, bool)
        for value in (*batch[0], batch[1]):
            if n and _rows(value) == n:
                values = self.plain(value).reshape(n, -1)
                fine &= np.isfinite(values).all(axis=1) if values.dtype.kind == "f" else True
        return fine

    def numbered(self, target: Any, values: Array) -> Any:
        """Labels as numbers 0, 1, ... of a list of values."""
        found = np.searchsorted(values, self.plain(target))
        return type(target)(found) if isinstance(target, np.ndarray) else _as(target, found)

    # -- examples ----------------------------------------------------------------------------

    def rows(self, batch: Batch) -> int:
        """Examples in a batch; 0 where inputs and target do not tell."""
        n = _rows(batch[1])
        return n if any(_rows(x) == n for x in batch[0]) else 0

    def taken(self, batch: Batch, chosen: Array) -> Batch:
        """Some examples of a batch."""
        n = self.rows(batch)
        inputs = tuple(x[chosen] if _rows(x) == n else x for x in batch[0])
        return inputs, batch[1][chosen]

    def hold_out(self, part: int, parts: int = 4) -> None:
        """Set one part of the examples aside in `held`, not to be trained on.

        Examples that come again, in later epochs, fall into the same part; those with values that
        are not finite are trained on. Batches of fewer than
        8 rows, and those whose rows cannot be told apart, are held out whole.
        """
        whole = any(self.rows(b) < SMALL for b in self.batches)
        train: list[Batch] = []
        held: list[Batch] = []
        known: set[int] = set()
        for number, batch in enumerate(self.batches):
            keys = self._keys(batch, whole)
            if whole:
                mine = number % parts == part
                (held if mine else train).append(batch)
                known.update(() if mine else keys)
                continue
            ours = np.array([key % parts == part for key in keys], bool) & self._fine(batch)
            new = np.array([key not in known for key in keys], bool)
            known.update(keys)
            if (ours & new).any():
                held.append(self.taken(batch, np.flatnonzero(ours & new)))
            if (~ours).sum() > 1:
                train.append(self.taken(batch, np.flatnonzero(~ours)))
        if whole:
            held = [b for b in held if known.isdisjoint(self._keys(b, True))]
        if train and held:
            self.batches, self.held = train, tuple(held if whole else self._put_together(held))

    def _put_together(self, batches: Sequence[Batch]) -> list[Batch]:
        """Batches of a few rows become larger ones, where their shapes fit."""
        groups: list[list[Batch]] = []
        for batch in batches:
            last = groups[-1] if groups else []
            few = last and sum(self.rows(b) for b in last) < TOGETHER
            if few and _shape(last[0]) == _shape(batch):
                last.append(batch)
            else:
                groups.append([batch])
        return [self._merged(g) if len(g) > 1 else g[0] for g in groups]

    def _keys(self, batch: Batch, whole: bool) -> list[int]:
        """A number for each example (or for the batch), the same wherever it comes again."""
        n = 1 if whole else self.rows(batch)
        columns = [self.plain(v) for v in (*batch[0], batch[1]) if whole or _rows(v) == n]
        parts = [c.reshape(n, -1) for c in columns if c.dtype != object and c.size]
        parts = [np.ascontiguousarray(c[:, :: max(c.shape[1] // 64, 1)]) for c in parts]
        return [crc32(b"".join(c[i].tobytes() for c in parts)) for i in range(n)]

    def keep(self, batches: int, examples: int | None = None) -> None:
        """Go on with fewer batches, or with one of so many examples."""
        self.batches = list(self.batches[:batches])
        if examples is not None:
            self.batches = [
                self.taken(b, np.arange(min(self.rows(b), examples))) if self.rows(b) else b
                for b in self.batches
            ]

    def permute_targets(self) -> None:
        """Shuffle the targets among the kept examples."""
        order = np.random.default_rng(getattr(self, "seed", 0))
        targets = self.joined([t for _, t in self.batches])
        mixed = targets[order.permutation(len(targets))]
        ends = np.cumsum([0, *(len(t) for _, t in self.batches)])
        self.batches = [(x, mixed[int(a) : int(b)]) for (x, _), a, b in zip(
            self.batches, ends[:-1], ends[1:], strict=True)]  # fmt: skip

    # -- scores ----------------------------------------------------------------------------

    def skills(self, held: bool = False, examples: int = SCORED) -> dict[str, float]:
        """How good the answers are on what is trained on, or held out; see `scoring.skills`.
        examples : so many are looked at, about."""
        batches = self._few(self.held if held else self.batches, examples)
        found = skills(self.answers(batches), self.function, self.options)
        return {"agreement": self._agreement(batches), **found} if self.compares else found

    def _agreement(self, batches: Sequence[Batch]) -> float:
        """1 less the square of what the answers to the same examples differ by, in batches of half
        the size, over the variance of the answers."""
        apart, spread = [0.0], [1e-12]
        for batch in batches:
            middle, n = self.rows(batch) // 2, self.rows(batch)
            if middle < 2:
                continue
            parts = [self.taken(batch, np.arange(middle)), self.taken(batch, np.arange(middle, n))]
            whole = np.asarray(self.answers([batch])[0][0], np.float64)
            again = np.concatenate([o for o, _ in self.answers(parts)]).astype(np.float64)
            if whole.shape == again.shape and np.isfinite(whole).all():
                apart.append(float(((whole - again) ** 2).sum()))
                spread.append(float(((whole - whole.mean(axis=0)) ** 2).sum()))
        return 1.0 - sum(apart) / sum(spread)

    def _few(self, batches: Sequence[Batch], examples: int = SCORED) -> list[Batch]:
        """Batches of so many examples in all, about, evenly picked."""
        if not batches:
            return []
        size = max(max(self.rows(b) for b in batches[:4]), 1)
        most = max(examples // size, 2)
        return list(batches[:: -(-len(batches) // most)])

    def score(self) -> float:
        """The coarsest measure there is for the loss: accuracy, else squared error."""
        found = self.skills()
        return next((found[m] for m in ("accuracy", "squared error", "likelihood") if m in found),
                    -1.0)  # fmt: skip

    def scored(self, output: Array, target: Array) -> float:
        """The same for given answers."""
        found = skills([(output, target)], self.function, self.options)
        return next((found[m] for m in ("accuracy", "squared error", "likelihood") if m in found),
                    -1.0)  # fmt: skip

    def label_values(self) -> Array:
        """The distinct labels among the kept targets."""
        return np.unique(np.concatenate([self.plain(t).ravel() for _, t in self.batches]))


def _rows(value: Any) -> int:
    """Length of the first axis, 0 where there is none."""
    shape: tuple[int, ...] = getattr(value, "shape", ())
    return int(shape[0]) if len(shape) else 0


def _shape(batch: Batch) -> list[Any]:
    """Shapes of all tensors but for the number of rows."""
    return [
        (getattr(x, "dtype", None), getattr(x, "shape", (0,))[1:]) for x in (*batch[0], batch[1])
    ]


def clipped(case: Any) -> float:
    """What the loop clips the gradient's norm to; 0 where it does not seem to.

    The norms of several sampled steps that learn are then one and the same round number.
    """
    norms = []
    for step in case.steps:
        stats = [p for p in step.parameters.values() if p.gradient > 0]
        norm = math.sqrt(sum(p.gradient**2 for p in stats))
        if math.isfinite(norm) and any(p.update > 0 for p in stats):
            norms.append(norm)
    top = max(norms, default=0.0)
    plain = float(f"{top:.2g}")
    same = [n for n in norms if abs(n - plain) < 1e-3 * plain]
    return plain if len(same) >= 3 else 0.0


def _as(like: Any, values: Array) -> Any:
    return like.new_tensor(values) if hasattr(like, "new_tensor") else type(like)(values)


__all__ = ["BINARY", "CLASSIFYING", "Batch", "Edits", "clipped"]
