"""Losses that are written out by hand, recognised in the graph, whichever engine's it is.

Mean squared and absolute errors, cross-entropies of softmax and of sigmoid, hinges: what the loss
was given is put together from what its operations (`terms`) have kept for the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fathom.doctor.adapters.crossed import Crossed, spread_out
from fathom.doctor.adapters.terms import (
    CHAIN,
    MOVING,
    NEAR,
    Term,
    Terms,
    Written,
    is_complement,
    source,
)
from fathom.engine.tensor import Array

ROOTS = ("sqrt", "root")
OFFSETS = ("add", "clamp", "clamp_min", "clamp_max")  # that keep logarithms finite
LEAST = 1e-30  # of a probability whose logarithm is taken


def written_call(
    near: Sequence[Term], outputs: Sequence[Any], numbers: Callable[[Any], Array]
) -> Written | None:
    """What a loss by hand is, and what it was given.

    near : the graph, loss first. outputs : tensors the model gave in this step. numbers : a tensor
    as an array.
    """
    return _Reader(near[:NEAR], outputs, numbers).call()


class _Reader(Terms):
    def call(self) -> Written | None:
        under = self._under_root()
        reader = self if under is None else _Reader(under, self.outputs, self.numbers)
        found = reader._formula()
        if under is not None and found is not None and found[0] != "mse_loss":
            found = None
        return found or Crossed(self.near, self.outputs, self.numbers).call()

    def _under_root(self) -> Sequence[Term] | None:
        """What stands under the root of a number, as in the root of the mean squared error: nothing
        under a root of several; None where there is no root."""
        for i, term in enumerate(self.near[:3]):
            if term.name in ROOTS or (term.name == "pow" and term.power() == 0.5):
                return () if term.shape else self.near[i + 1 :]
        return None

    def _formula(self) -> Written | None:
        names = [term.name for term in self.near]
        reduction = next((n for n in names[:3] if n in ("mean", "sum", "norm")), "")
        if not reduction:
            return None
        reduction = "sum" if reduction == "norm" else reduction
        straight = self._straight()
        if straight is not None:
            return *straight, {"reduction": reduction}
        for term in self.near:
            found = self._error(term) or self._entropy(term)
            if found is None and term.name == "mul" and self._weighs(term):
                return None  # rewards, importance weights: another loss
            if found is not None:
                by_example = found[0] == "cross_entropy"  # sums over classes, means over examples
                options: dict[str, Any] = {"reduction": "mean" if by_example else reduction}
                if found[0] in ("mse_loss", "l1_loss"):
                    options["value"] = self._own(term, found[0], reduction)
                return *found, options
        return None

    # -- one chain of operations --------------------------------------------------------------

    def _straight(self) -> tuple[str, Any, Any] | None:
        """-log p of the class, hinges, softplus."""
        at = self.near[0]
        while at.name in CHAIN:
            before = source(at)
            if before is None or (at.name in ("mul", "div") and self._weighs(at)):
                return None
            at = before
        return self._chosen(at) or self._margin(at)

    def _chosen(self, term: Term) -> tuple[str, Any, Any] | None:
        """The log-probability of each example's class, gathered or indexed; or the logarithm of
        such a probability."""
        logged, at = term.name == "log", source(term) if term.name == "log" else term
        while logged and at is not None and at.name in (*OFFSETS, *MOVING):
            at = source(at)
        before = source(at) if at is not None and at.name in ("gather", "index") else None
        logs = self._scores(before, logged) if before is not None else None
        if at is None or before is None or logs is None:
            return None
        term, places, n = at, at.places(), before.shape[0]
        if term.name == "gather":
            fits = term.axis() % 2 == 1 and term.shape == (n, 1) and places[0] is not None
            return ("nll_loss", logs, np.asarray(places[0])[:, 0]) if fits else None
        rows, classes = places if len(places) == 2 else (None, None)
        if rows is None or classes is None or not rows.shape == classes.shape == (n,):
            return None
        return ("nll_loss", logs, classes) if bool((rows == np.arange(n)).all()) else None

    def _scores(self, term: Term, logged: bool) -> Any:
        """The log-probabilities of all classes, of which those of the labels were chosen; the
        model's raw output, if that is what they were chosen from."""
        if len(term.shape) != 2:
            return None
        if logged:
            p = term.result() if term.name in ("softmax", "sigmoid") else None
            return None if p is None else self._logarithm(p)
        if term.name == "log_softmax":  # not of all examples against all, as in contrastive losses
            rows, columns = term.shape
            return term.result() if term.axis() % 2 == 1 or rows != columns else None
        raw = term.name in ("linear", "matmul", "add", "conv")
        return next((t for t in self.outputs if raw and term.made(t)), None)

    def _logarithm(self, p: Any) -> Any:
        return p.log() if float(self.numbers(p).min()) > 0 else p.clip(LEAST, None).log()

    def _margin(self, term: Term) -> tuple[str, Any, Any] | None:
        """max(0, 1 - target * score), log(1 + exp(-target * score))."""
        function, at = "hinge_loss", source(term)
        if term.name in ("softplus", "log1_p", "log1p", "logsigmoid", "log"):
            function = "soft_margin_loss"
            if term.name == "log" and at is not None and at.name == "add":
                at = source(at)
            if term.name in ("log1_p", "log1p", "log"):
                at = source(at) if at is not None and at.name == "exp" else None
        elif term.name not in ("relu", "clamp", "clamp_min", "maximum"):
            return None
        sign = 1.0 if term.name == "logsigmoid" else -1.0  # of the target over the factor
        while at is not None and at.name in ("rsub", "add", "neg", "sub", "view", "squeeze"):
            sign = -sign if at.name == "neg" or is_complement(at) else sign
            at = source(at)
        factor = self.constant(at) if at is not None and at.name == "mul" else None
        if at is None or factor is None or factor.size < 2 or len(np.unique(factor)) != 2:
            return None
        side = next(i for i, parent in enumerate(at.before) if parent is not None)
        score = at.given(side)
        score = self.origin(at.before[side]) if score is None else score
        if score is None:  # it was not kept
            score = np.zeros(at.shape, np.float32)
        return function, score, sign * factor

    # -- errors -------------------------------------------------------------------------------

    def _error(self, term: Term) -> tuple[str, Any, Any] | None:
        """(output - target)**2, |output - target|, the length of output - target."""
        if term.name in ("pow", "square") and term.power() == 2.0:
            function = "mse_loss"
        elif term.name == "mul" and self._is_square(term):
            function = "mse_loss"
        elif term.name == "norm" and self._is_length(term):
            function = "mse_loss"
        elif term.name == "abs":
            function = "l1_loss"
        else:
            return None
        found = self.difference(term)
        return None if found is None else self._aimed_at(function, *found)

    def _is_length(self, term: Term) -> bool:
        """Whether a norm is the Euclidean one, of all numbers."""
        given, length = term.given(0), term.result()
        if given is None or length is None or term.shape:
            return False
        own = float(np.linalg.norm(np.ravel(self.numbers(given)).astype(np.float64)))
        return math.isclose(own, float(self.numbers(length)), rel_tol=1e-4)

    def _own(self, term: Term, function: str, reduction: str) -> float:
        """An error by itself, whatever the formula makes of it: a root, a sum over features."""
        apart = np.abs(np.asarray(self.numbers(term.given(0)), np.float64))
        each = apart**2 if function == "mse_loss" else apart
        return float(each.sum() if reduction == "sum" else each.mean())

    def _is_square(self, term: Term) -> bool:
        left, right = term.given(0), term.given(1)
        if left is None or right is None or self.constant(term) is not None:
            return False
        if left is right:
            return True
        a, b = self.numbers(left), self.numbers(right)
        return a.shape == b.shape and np.array_equal(a, b)

    def _aimed_at(
        self, function: str, output: Any, apart: Array, less: bool
    ) -> tuple[str, Any, Any] | None:
        """The target, from the output and what lies between them."""
        values = self.numbers(output)
        if values.size == apart.size:
            if values.shape != apart.shape:
                output, values = output.reshape(apart.shape), values.reshape(apart.shape)
            target = values + apart if less else values - apart
        else:
            both = spread_out(values, apart, less)
            if both is None:
                return None
            target = both[1]
            output = output if output.shape == both[0].shape else output.reshape(both[0].shape)
        if not target.size:
            return None
        largest, scale = float(np.abs(values).max()), float(np.abs(target).max())
        sharp = largest < 1e4 * max(scale, 1e-3)  # else little is left of the target's digits
        return (function, output, target) if sharp and scale < 1e30 else None

    # -- cross-entropies ----------------------------------------------------------------------

    def _entropy(self, term: Term) -> tuple[str, Any, Any] | None:
        """target * log(p), of classes or of one probability; logsumexp less the chosen logit."""
        if term.name == "logsumexp":
            return self._summed(term)
        target = self._share(term)
        if target is None:
            return None
        inside = next(parent for parent in term.before if parent is not None)
        while inside.name in OFFSETS and source(inside) is not None:
            inside = source(inside) or inside
        if inside.name == "log_softmax":
            logs = inside.result()
            same = logs is not None and len(inside.shape) > 1 and target.shape == inside.shape
            same = same and _sums_to_one(target)
            return ("nll_loss", logs, target.astype(np.float32)) if same else None
        if inside.name == "logsigmoid":
            return self._of_logits(inside, target)
        if inside.name != "log":
            return None
        p, other = self._probability(inside)
        if p is None:
            return None
        shape = tuple(p.shape)
        if target.shape != shape:  # (n, 1) against (n,): each with each
            n = math.prod(shape)
            if not (n > 1 and target.size == n and term.shape == (n, n)):
                return None
        elif len(shape) > 1 and shape[1] > 1 and not other and _sums_to_one(target):
            return "cross_entropy", self._logarithm(p), target.astype(np.float32)
        return "binary_cross_entropy", p, (1.0 - target if other else target)

    def _summed(self, term: Term) -> tuple[str, Any, Any] | None:
        """logsumexp(z) - (target * z).sum()."""
        logits = term.given(0)
        if logits is None:
            return None
        for each in self.near:
            target = self._share(each)
            if target is not None and target.shape == tuple(logits.shape):
                return "cross_entropy", logits, target.astype(np.float32)
        return None

    def _of_logits(self, term: Term, target: Array) -> tuple[str, Any, Any] | None:
        """target * logsigmoid(z), or (1 - target) * logsigmoid(-z)."""
        logits, before = term.given(0), term.before[0]
        if logits is None or tuple(logits.shape) != target.shape:
            return None
        if before is not None and before.name == "neg":
            logits, target = -logits, 1.0 - target
        return "binary_cross_entropy_with_logits", logits, target

    def _probability(self, log: Term) -> tuple[Any, bool]:
        """p of log(p) or log(1 - p), also with a small number added or clamped; whether it is the
        latter."""
        at = log.before[0]
        while at is not None and at.name in OFFSETS and source(at) is not None:
            at = source(at)
        if at is not None and is_complement(at):
            inner = source(at)
            p = inner.result() if inner is not None else None
            taken = log.given(0)
            return (p if p is not None or taken is None else 1.0 - taken), True
        p = at.result() if at is not None and at is not log.before[0] else None
        return (log.given(0) if p is None else p), False

    # -- constants ----------------------------------------------------------------------------

    def _share(self, term: Term) -> Array | None:
        """The factor of a product where these can be probabilities or labels, and not weights or
        rewards."""
        target = self.constant(term) if term.name == "mul" else None
        if target is None or not target.size or not np.isfinite(target).all():
            return None
        low, high = float(target.min()), float(target.max())
        if high <= 0 and low < 0:  # -target * log(p)
            target, low, high = -target, -high, -low
        whole = bool((target == np.round(target)).all())
        return target if whole or (low >= 0 and high <= 1) else None

    def _weighs(self, term: Term) -> bool:
        """Whether terms are multiplied by numbers of their own."""
        factor = self.constant(term)
        return factor is not None and factor.size > 1


def _sums_to_one(target: Array) -> bool:
    return bool((np.abs(target.sum(1) - 1) < 1e-4).all())


__all__ = ["written_call"]
