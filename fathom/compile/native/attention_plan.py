"""Attention found in a plan: softmax(A @ B) @ V, its way back, and the two steps for them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fathom.compile.native import threads
from fathom.compile.plan import Plan, Step, Value
from fathom.engine.primitive import Primitive

LARGE = 8 << 20  # bytes of scores that leave the cache on their way; half as many if causal
SHORT = 64  # keys: fewer make no tiles


def _attend(a: Any, b: Any, v: Any, causal: bool) -> Any:
    p, logs = _weights(a, b, causal)
    return p @ v, logs


def _attend_backward(a: Any, b: Any, v: Any, out: Any, logs: Any, g: Any, causal: bool) -> Any:
    p, _ = _weights(a, b, causal)
    ds = p * (g @ v.swapaxes(-1, -2) - (g * out).sum(-1, keepdims=True))
    return ds @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ ds, p.swapaxes(-1, -2) @ g


def _weights(a: Any, b: Any, causal: bool) -> Any:
    scores = a @ b
    if causal:
        scores = np.where(_tri(scores.shape[-2:]), scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    e = np.exp(scores - top)
    total = e.sum(-1, keepdims=True)
    return e / total, (top + np.log(total))[..., 0]


def _tri(size: tuple[int, ...]) -> Any:
    return np.tri(*size, dtype=np.bool_)


FORWARD = Primitive("attend", "general", _attend, casts=True, listed=False)
BACKWARD = Primitive("attend_backward", "general", _attend_backward, casts=True, listed=False)


def tiled(plan: Plan) -> Plan:
    """Put tiled attention in the place of attention with many scores. Changes the plan."""
    if not any(_many(s) for s in plan.steps):
        return plan
    users: dict[Value, list[Step]] = {}
    for step in plan.steps:
        for value in dict.fromkeys(step.inputs()):
            users.setdefault(value, []).append(step)
    found = _Search(users, set(plan.results()))
    new: dict[Step, Step] = {}
    for step in plan.steps:
        if _many(step):
            new.update(found.attention(step, plan.steps))
    plan.steps = [s for step in plan.steps for s in ([new[step], step] if step in new else [step])]
    made = {v: s for s in new.values() for v in s.outs}
    plan.steps = [s for s in plan.steps if s in new.values() or not any(v in made for v in s.outs)]
    for value, step in made.items():
        value.origin = step
    return plan


def _many(step: Step) -> bool:
    if step.primitive.name != "softmax" or step.params["axis"] != step.out.ndim - 1:
        return False
    fine = step.out.dtype.name in ("float32", "float64")
    lead, length = step.out.shape[:-2], step.out.shape[-1]
    busy = max(lead, default=1) >= threads.count()  # the threads share the longest axis
    return fine and busy and step.out.nbytes >= LARGE // 2 and length > SHORT


class _Search:
    """Looks for the steps around a softmax, none of whose results may be used elsewhere."""

    def __init__(self, users: dict[Value, list[Step]], results: set[Value]) -> None:
        self.users, self.results = users, results

    def attention(self, softmax: Step, steps: list[Step]) -> dict[Step, Step]:
        """The new steps, each before which old one it stands; {} if this is no attention."""
        weights, scores, mask = softmax.out, softmax.args[0], None
        where = self.alone(scores, softmax)
        if where is not None and where.primitive.name == "where":
            mask, scores, low = where.args
            if not isinstance(mask, Value) or not triangle(mask) or low != -math.inf:
                return {}
            if mask.shape != weights.shape[-2:]:
                return {}
            where = self.alone(scores, where)
        if where is None or not multiplies(where) or weights in self.results:
            return {}
        a, b = where.args
        uses = list(self.users[weights])
        last = [s for s in uses if multiplies(s) and s.args[0] is weights]
        if len(last) != 1 or not all(isinstance(x, Value) for x in (a, b, last[0].args[1])):
            return {}
        forward, v = last[0], last[0].args[1]
        lead, params = scores.shape[:-2], {"causal": mask is not None}
        if {x.shape[:-2] for x in (a, b, v)} != {lead} or len({x.dtype for x in (a, b, v)}) > 1:
            return {}
        if softmax.out.nbytes < LARGE >> (mask is not None):
            return {}
        logs = Value("computed", (*lead, a.shape[-2]), a.dtype, None)
        first = Step(FORWARD, (a, b, v), params, (forward.out, logs), None, False)
        first.site = forward.site
        uses.remove(forward)
        if not uses:
            return {forward: first}
        back = self.backward(uses, (a, b, v), weights, mask)
        if back is None:
            return {}
        g, slopes, readers = back
        outs = tuple(
            x or Value("computed", like.shape, like.dtype, None)
            for x, like in zip(slopes, (a, b, v), strict=True)
        )
        second = Step(BACKWARD, (a, b, v, forward.out, logs, g), params, outs, None, False)
        begins = next(s for s in steps if s in readers)
        second.site = begins.site
        return {forward: first, begins: second}

    def alone(self, value: Any, user: Step) -> Step | None:
        """What makes a value that only one step uses."""
        if not isinstance(value, Value) or value in self.results:
            return None
        alone = self.users[value] == [user] and isinstance(value.origin, Step)
        return value.origin if alone else None

    def backward(
        self, uses: list[Step], inputs: tuple[Value, Value, Value], weights: Value, mask: Any
    ) -> tuple[Value, tuple[Value | None, ...], list[Step]] | None:
        """The gradient of the result, those of A, B and V, and the products that read the first.

        None: something else happens here.
        """
        a, b, v = inputs
        dv = self.taken(uses, lambda s: self.turned(s, weights))
        given: Value | None = None
        d_values: Value | None = None
        readers: list[Step] = []
        if dv is not None:
            product = self.only(dv.out)
            if product is None or not multiplies(product) or product.args[0] is not dv.out:
                return None
            d_values, given = product.out, product.args[1]
            readers.append(product)
        if not uses:
            return None if given is None else (given, (None, None, d_values), readers)
        if len(uses) != 2 or any(s.primitive.name != "mul" for s in uses):
            return None
        for inner, outer in (uses, uses[::-1]):
            found = self.scores(inner, outer, weights)
            if found is not None:
                break
        else:
            return None
        product, ds = found
        if not self.is_turned(product.args[1], v) or given not in (None, product.args[0]):
            return None
        if mask is not None:
            closed = self.only(ds)
            if closed is None or closed.primitive.name != "where" or closed.args[0] is not mask:
                return None
            if closed.args[1] is not ds or closed.args[2] != 0.0:
                return None
            ds = closed.out
        da = db = None
        if ds in self.results:
            return None
        for s in self.users[ds]:
            if not multiplies(s):
                return None
            if s.args[0] is ds and self.is_turned(s.args[1], b) and da is None:
                da = s.out
            elif s.args[1] is ds and self.is_turned(s.args[0], a) and db is None:
                db = s.out
            else:
                return None
        return product.args[0], (da, db, d_values), [*readers, product]

    def scores(self, inner: Step, outer: Step, weights: Value) -> tuple[Step, Value] | None:
        """weights * (dp - sum(dp * weights)): the product that makes dp, and the result."""
        dp = other(inner, weights)
        total = self.only(inner.out)
        if dp is None or total is None or total.primitive.name != "sum":
            return None
        last = tuple(total.params["axis"]) == (dp.ndim - 1,) and total.params["keepdims"]
        less = self.only(total.out)
        if not last or less is None or less.primitive.name != "sub" or less.args[0] is not dp:
            return None
        if self.only(less.out) is not outer or dp in self.results:
            return None
        product = dp.origin
        if {*self.users[dp]} != {inner, less} or not isinstance(product, Step):
            return None
        return (product, outer.out) if multiplies(product) else None

    def only(self, value: Value) -> Step | None:
        """The one step that uses a value."""
        uses = self.users.get(value, [])
        return uses[0] if len(uses) == 1 and value not in self.results else None

    def taken(self, uses: list[Step], test: Any) -> Step | None:
        """The only step that passes a test, out of a list."""
        fine = [s for s in uses if test(s)]
        if len(fine) != 1:
            return None
        uses.remove(fine[0])
        return fine[0]

    def turned(self, step: Step, value: Value) -> bool:
        """Whether a step swaps the last two axes of a value."""
        axes = tuple(range(value.ndim))
        swapped = (*axes[:-2], *axes[:-3:-1])
        permutes = step.primitive.name == "permute" and step.args[0] is value
        return permutes and tuple(step.params["axes"]) == swapped

    def is_turned(self, x: Any, y: Value) -> bool:
        """Whether x is y with its last two axes swapped."""
        if not isinstance(x, Value):
            return False
        there = isinstance(x.origin, Step) and self.turned(x.origin, y)
        return there or (isinstance(y.origin, Step) and self.turned(y.origin, x))


def multiplies(step: Step) -> bool:
    return step.primitive.name == "matmul"


def other(step: Step, value: Value) -> Value | None:
    """The factor beside a value."""
    x, y = step.args
    rest = y if x is value else x
    return rest if isinstance(rest, Value) and rest is not value else None


def triangle(mask: Value) -> bool:
    """Whether a value is the causal mask, which nobody can change."""
    array = mask.origin
    if mask.kind != "array" or mask.dtype != bool or not isinstance(array, np.ndarray):
        return False
    if array.ndim != 2 or array.flags.writeable or array.base is not None:
        return False
    return bool(np.array_equal(array, _tri(array.shape)))
