"""Examples of a batch that are mixed with each other: reshapes in place of permutations, batches
taken for time, and what the active probe has shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from fathom.doctor.adapters.reshaping import Shape, exchanged
from fathom.doctor.case import Case, Layer
from fathom.doctor.finding import Edit, Evidence, Fix
from fathom.doctor.rules.rule import Hit, rule
from fathom.engine.tensor import Array

OVER_TIME = frozenset({"RNN", "LSTM", "GRU", "MultiheadAttention"})
TURNED = ("A reshape keeps the order of the values in memory: with two axes exchanged, each row is "
          "put together of pieces of several examples, places or channels.")  # fmt: skip
TIMED = ("The layer takes its first axis for time and the second for the batch: it runs over the "
         "examples, one after the other, and each answer depends on those before it.")  # fmt: skip

Found = tuple[str, tuple[Evidence, ...], Fix, str]  # where, evidence, fix, why


@rule(
    "sample_mixing", "contract", "error",
    formula="a reshape of (..., a, b, ...) to (..., b, a, ...) with a != b; or a recurrent or "
    "attention layer with batch_first=False that is given (B, T, F) where there is a target for "
    "each of the B sequences; or, where it was probed, the change of f(x)_0 in eval mode, where "
    "only x_1, x_2, ... change, over its spread",
    thresholds={"change": 1e-3},
    why="An example's answer depends on the others in its batch: a softmax, a mean or a reshape "
    "runs over the batch.",
    exempt=("what was permuted right before the reshape: then the sizes tell nothing",
            "swaps that are taken back, with nothing but elementwise functions and layers on the "
            "last axis in between", "parameters in another shape",
            "a that is a multiple of b, or b of a, where axes may have been split and merged as "
            "they should be: groups, heads, windows",
            "time-first models", "batch normalization in train mode"),
    explains=("not_learning", "still_improving", "underfitting", "overfitting", "no_signal",
              "train_eval_gap", "linear_baseline", "one_batch", "permuted_labels"),
)  # fmt: skip
def sample_mixing(case: Case, limits: Mapping[str, float]) -> Iterator[Hit]:
    known = [*_in_graph(case), *_of_inputs(case), *_over_batch(case)]
    for where, evidence, fix, why in known:
        yield Hit(where, evidence, fix, strength=0.95, why=why)
    found = case.probes.get("sample_mixing")
    if known or found is None or not found.change > limits["change"]:
        return
    evidence = (Evidence("change of an answer where only other examples change", found.change,
                         "0"),)  # fmt: skip
    fix = Fix("look at each softmax, mean, view and reshape: axis 0 is the batch",
              "softmax(dim=1); x.flatten(1)", (Edit("softmax_axis"),))  # fmt: skip
    yield Hit("model", evidence, fix, strength=0.9)


def _in_graph(case: Case) -> Iterator[Found]:
    """Reshapes in the graph of the first loss that exchange axes."""
    for name, before, after in reversed(case.swaps):  # as the forward pass meets them
        if not _may_be_meant(case, case.layers.get(name), before, after):
            yield name or "output", _shapes(before, after), _permute(before, after), TURNED


def _may_be_meant(case: Case, layer: Layer | None, before: Shape, after: Shape) -> bool:
    """Whether axes may have been split and merged as they should be: where one size is a multiple
    of the other, and neither a layer that takes time first comes next nor the axis of classes."""
    first, m, n = exchanged(before, after) or (0, 1, 1)
    if m % n and n % m:
        return False
    call = case.loss
    classes = layer is None and call is not None and call.shapes == (after, after[:1] + after[2:])
    return not classes and not (first == 0 and len(after) == 3 and _takes_time_first(layer))


def _of_inputs(case: Case) -> Iterator[Found]:
    """The model's inputs, reshaped before the first layer with weights: no graph knows of it, but
    the layer is given the same values in the same order, in another shape."""
    layer = next((a for a in case.weighted() if a.given), None)
    if layer is None or not case.inputs or not case.entering:
        return
    x, z, given = case.inputs[0], case.entering[0], layer.given
    if x.ndim < 2 or z.shape[1:] != given[1:] or math.prod(given) != x.size:
        return  # of more rows than are kept, or made of something else
    timed = len(given) == 3 and 1 < given[0] != given[1] == len(x) and _takes_time_first(layer)
    if not timed and (not exchanged(x.shape, given) or _may_be_meant(case, layer, x.shape, given)):
        return
    if _same_order(x, z):
        yield layer.name, _shapes(x.shape, given), _permute(x.shape, given), TURNED


def _same_order(x: Array, z: Array) -> bool:
    """Whether values are the same one after the other, and not the same all over."""
    flat = x.ravel()[: z.size]
    return bool((flat != flat[0]).any()) and np.array_equal(flat, z.ravel())


def _over_batch(case: Case) -> Iterator[Found]:
    """A layer that takes time first and is given the batch first: known for sure where there is
    one target, or a few numbers, for each sequence."""
    call = case.loss
    x = next((x for x in case.inputs if x.ndim), None)
    if call is None or x is None or not call.shapes[1]:
        return
    rows, *more = call.shapes[1]
    if len(more) > 1 or not rows == len(x) == (call.shapes[0] or (0,))[0]:
        return
    for layer in case.weighted():
        given = layer.given
        if not _takes_time_first(layer) or len(given) != 3 or given[0] != rows:
            continue
        if given[1] in (1, rows, *more):  # (T, B, F), with a target for each of both
            continue
        evidence = (
            Evidence("the layer is given", str(given), f"({given[1]}, {given[0]}, {given[2]})"),
            Evidence("sequences in the batch", rows),
            Evidence("batch_first", "False", "True"),
        )
        fix = Fix("batch_first=True, or the batch as axis 1 of what comes in and out",
                  f"nn.{layer.kind}(..., batch_first=True)")  # fmt: skip
        yield layer.name, evidence, fix, TIMED
        return


def _takes_time_first(layer: Layer | None) -> bool:
    return layer is not None and layer.kind in OVER_TIME and not layer.options.get("batch_first")


def _shapes(before: Shape, after: Shape) -> tuple[Evidence, ...]:
    return Evidence("shape before the reshape", str(before)), Evidence("after it", str(after))


def _permute(before: Shape, after: Shape) -> Fix:
    """Words and code for the exchange that was meant."""
    words = "exchange axes with transpose or permute: reshape and view only split and merge them"
    found = exchanged(before, after)
    if found is None:  # (B, T F) to (T, B, F)
        sizes = ", ".join(map(str, (after[1], after[0], *after[2:])))
        return Fix(words, f"x.reshape({sizes}).transpose(0, 1)")
    first, m, _ = found
    k = next(k for k in range(1, len(before)) if math.prod(before[first : first + k]) == m)
    last = max(i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
    if last == first + 1:
        return Fix(words, f"x.transpose({first}, {last})")
    axes = list(range(len(before)))
    axes[first : last + 1] = [*axes[first + k : last + 1], *axes[first : first + k]]
    return Fix(words, f"x.permute({', '.join(map(str, axes))})")


__all__ = ["OVER_TIME", "sample_mixing"]
