"""Networks whose weights are known, not learnt: what depth and width can do, exactly.

All are `Sequential`s of `Linear` and `ReLU` or `Step` in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError
from fathom.nn import Identity, Linear, Module, ReLU, Sequential
from fathom.nn.activation import Step
from fathom.nn.checks import positive
from fathom.ops.checks import one_of

Function = Callable[[Any], Any]


def _linear(weight: Any, bias: Any) -> Linear:
    """A layer with these numbers."""
    matrix = np.asarray(weight, np.float64)
    layer = Linear(matrix.shape[1], matrix.shape[0]).double()
    layer.weight.data[...] = matrix
    layer.bias.data[...] = bias  # type: ignore[union-attr]
    return layer


def _rising(name: str, knots: Any) -> Any:
    x = np.asarray(knots, np.float64)
    if x.ndim != 1 or len(x) < 2 or not (np.diff(x) > 0).all():
        raise ArgumentError(f"{name}: knots must be at least two rising numbers; received {knots}")
    return x


# -- one hidden layer: sums of kinks and of steps --------------------------------------------------


def relu_interpolant(function: Function, knots: Any) -> Sequential:
    """The polygon through (x, function(x)) at the knots: N intervals, N hidden ReLU units.

    function : of an array. knots : rising, (N + 1,). Constant before the first knot; goes straight
    on behind the last. Between knots h apart it errs by at most h^2 / 8 times the largest second
    derivative: 1 / (4 N^2) for x^2 on [0, 1], and lowered by half of that 1 / (8 N^2), the least
    that N straight pieces can do.

    >>> net = relu_interpolant(np.square, [0.0, 0.5, 1.0])
    >>> import fathom
    >>> net(fathom.tensor([[0.25], [0.5]], dtype=np.float64)).tolist()
    [[0.125], [0.25]]
    """
    x = _rising("relu_interpolant", knots)
    y = np.asarray(function(x), np.float64)
    slopes = np.diff(y) / np.diff(x)
    kinks = np.diff(slopes, prepend=0.0)
    ones = np.ones((len(kinks), 1))
    return Sequential(_linear(ones, -x[:-1]), ReLU(), _linear(kinks[None], y[0]))


def step_interpolant(function: Function, knots: Any) -> Sequential:
    """A staircase: between two knots the function's value in their middle, 0 outside.

    The sum of N bumps function(m_i) * (step(x - x_i) - step(x - x_i+1)), written with N + 1 step
    units: the picture behind the universal approximation theorem (Cybenko, 1989). Errs by at most
    h / 2 times the largest slope.

    >>> import fathom
    >>> net = step_interpolant(np.square, [0.0, 1.0, 2.0])
    >>> net(fathom.tensor([[0.1], [1.9], [2.0]], dtype=np.float64)).tolist()
    [[0.25], [2.25], [0.0]]
    """
    x = _rising("step_interpolant", knots)
    heights = np.asarray(function((x[:-1] + x[1:]) / 2), np.float64)
    jumps = np.diff(heights, prepend=0.0, append=0.0)
    return Sequential(_linear(np.ones((len(x), 1)), -x), Step(), _linear(jumps[None], 0.0))


def box_indicator(low: Sequence[float], high: Sequence[float]) -> Sequential:
    """1 in the box low <= x < high of d dimensions, else 0: 2 d step units, and one on their sum.

    Two units a dimension make a strip of height 1; where d strips meet, their sum reaches d.

    >>> import fathom
    >>> net = box_indicator([0, 0], [1, 2])
    >>> net(fathom.tensor([[0.5, 1.0], [0.5, 2.5], [1.0, 0.0]], dtype=np.float64)).tolist()
    [[1.0], [0.0], [0.0]]
    """
    a, b = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not (a < b).all():
        raise ArgumentError(f"box_indicator: needs low < high, (d,) each; received {low}, {high}")
    d = len(a)
    edges = _linear(np.vstack([np.eye(d), np.eye(d)]), -np.concatenate([a, b]))
    signs = np.concatenate([np.ones(d), -np.ones(d)])
    return Sequential(edges, Step(), _linear(signs[None], 0.5 - d), Step())


# -- depth: folding the interval -------------------------------------------------------------------

FOLD = np.array([2.0, -4.0])  # of relu(x) and relu(x - 1/2): the tent 0 -> 1 -> 0 on [0, 1]


def tent_map(k: int) -> Sequential:
    """The tent 1 - |2x - 1| applied k times to [0, 1]: k layers of 2 units, 2^k linear pieces.

    Telgarsky (2016). A net with one hidden layer has at most one piece more than it has units.

    >>> count_linear_pieces(tent_map(5))
    32
    """
    layers: list[Module] = []
    read = np.ones((1, 1))  # what the layer before puts out, as weights of its units
    for _ in range(positive(k, "k", "tent_map")):
        layers += [_linear(np.vstack([read, read]), [0.0, -0.5]), ReLU()]
        read = FOLD[None]
    return Sequential(*layers, _linear(read, 0.0))


def sawtooth_square(m: int) -> Sequential:
    """x^2 on [0, 1] from m layers of 3 ReLU units, with an error of 4^-(m + 1) at most.

    Yarotsky (2017): x^2 = x - sum_s T^s(x) / 4^s with the tent map T. It is the polygon of 2^m
    intervals, for which one hidden layer needs 2^m units.

    >>> import fathom
    >>> round(sawtooth_square(6)(fathom.tensor([[0.3]], dtype=np.float64)).item(), 3)
    0.09
    """
    layers: list[Module] = []
    tooth, total = np.ones((1, 1)), np.ones((1, 1))
    for s in range(1, positive(m, "m", "sawtooth_square") + 1):
        layers += [_linear(np.vstack([tooth, tooth, total]), [0.0, -0.5, 0.0]), ReLU()]
        tooth = np.append(FOLD, 0.0)[None]
        total = np.array([[0.0, 0.0, 1.0]]) - tooth / 4.0**s  # never < 0: it lies above x^2
    return Sequential(*layers, _linear(total, 0.0))


# -- parity ----------------------------------------------------------------------------------------


def parity_network(n: int, kind: str = "sum") -> Sequential:
    """Whether an odd number of n bits is 1, with threshold units: (..., n) of 0 and 1 -> (..., 1).

    "sum" : one hidden layer of n units; unit k fires from k ones on, and they count +1, -1, +1 ...
        (so 2^n units, as is often said, are needed by sums of conjunctions only).
    "tree" : XORs of two bits, each an OR and not an AND; ceil(log2 n) of them above each other.

    >>> import fathom
    >>> [hidden_units(parity_network(8, kind)) for kind in ("sum", "tree")]
    [8, 20]
    >>> parity_network(3)(fathom.tensor([[1, 1, 0], [1, 1, 1]], dtype=np.float64)).tolist()
    [[0.0], [1.0]]
    """
    one_of("parity_network", "kind", kind, ("sum", "tree"))
    bits = positive(n, "n", "parity_network")
    if kind == "sum":
        counts = np.arange(1, bits + 1)
        signs = np.where(counts % 2 == 1, 1.0, -1.0)
        first = _linear(np.ones((bits, bits)), 0.5 - counts)
        return Sequential(first, Step(), _linear(signs[None], -0.5), Step())
    layers: list[Module] = []
    while bits > 1:
        layers += _xor_level(bits)
        bits = (bits + 1) // 2
    return Sequential(*layers) if layers else Sequential(_linear([[1.0]], -0.5), Step())


def _xor_level(bits: int) -> Iterator[Module]:
    """XOR of neighbours; an odd bit at the end is passed on."""
    pairs, odd = divmod(bits, 2)
    both = np.kron(np.eye(pairs), np.ones((2, 2)))
    first, second = np.zeros((2 * pairs + odd, bits)), np.zeros((pairs + odd, 2 * pairs + odd))
    first[: 2 * pairs, : 2 * pairs] = both
    second[:pairs, : 2 * pairs] = np.kron(np.eye(pairs), [[1.0, -1.0]])
    if odd:
        first[-1, -1] = second[-1, -1] = 1.0
    yield _linear(first, [-0.5, -1.5] * pairs + [-0.5] * odd)
    yield Step()
    yield _linear(second, np.full(pairs + odd, -0.5))
    yield Step()


def hidden_units(net: Sequential) -> int:
    """Outputs of all `Linear` layers but the last.

    >>> hidden_units(tent_map(5))
    10
    """
    widths = [layer.out_features for layer in _layers(net) if isinstance(layer, Linear)]
    return sum(widths[:-1])


# -- counting pieces -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """slope * x + shift between start and end, in exact fractions."""

    start: Fraction
    end: Fraction
    slope: Fraction
    shift: Fraction


@dataclass(frozen=True)
class _Part:
    """An interval on which all units of a layer are straight: slopes and shifts, (units,)."""

    start: Fraction
    end: Fraction
    slopes: Any
    shifts: Any


def linear_pieces(net: Module, interval: tuple[float, float] = (0.0, 1.0)) -> list[Piece]:
    """The straight pieces of a ReLU net of one input and output, from left to right, exactly.

    Follows the interval through the layers in fractions, cutting it where a unit crosses 0;
    floats are fractions, so nothing is rounded. Takes `Linear`, `ReLU`, `Identity` and
    `Sequential`.

    >>> [(float(p.start), float(p.slope)) for p in linear_pieces(tent_map(1))]
    [(0.0, 2.0), (0.5, -2.0)]
    """
    low, high = (Fraction(float(v)) for v in interval)
    if not low < high:
        raise ArgumentError(f"linear_pieces: needs an interval low < high; received {interval}")
    parts = [_Part(low, high, np.array([Fraction(1)]), np.array([Fraction(0)]))]
    for layer in _layers(net):
        if isinstance(layer, Linear):
            parts = _through_linear(layer, parts)
        elif isinstance(layer, ReLU):
            parts = [_rectified(part) for whole in parts for part in _cut(whole)]
        elif not isinstance(layer, Identity):
            raise ArgumentError(
                f"linear_pieces: {type(layer).__name__} is not a layer of a ReLU net",
                fix="Linear, ReLU and Identity, in Sequential",
            )
    if parts[0].slopes.shape != (1,):
        raise ArgumentError(f"linear_pieces: the net has {len(parts[0].slopes)} outputs, not 1")
    return _merged(parts)


def count_linear_pieces(net: Module, interval: tuple[float, float] = (0.0, 1.0)) -> int:
    """How many straight pieces a ReLU net of one input and output has on an interval.

    See `linear_pieces`; neighbours of one slope are one piece.

    >>> count_linear_pieces(relu_interpolant(np.square, np.linspace(0, 1, 9)))
    8
    """
    return len(linear_pieces(net, interval))


def _layers(net: Module) -> list[Module]:
    if not isinstance(net, Sequential):
        return [net]
    return [layer for child in net.children() for layer in _layers(child)]


_exact = np.vectorize(lambda x: Fraction(float(x)), otypes=[object])


def _through_linear(layer: Linear, parts: list[_Part]) -> list[_Part]:
    width = len(parts[0].slopes)
    if layer.in_features != width:
        raise ArgumentError(
            f"linear_pieces: a layer of {layer.in_features} inputs follows {width} outputs; the "
            "net needs one input"
        )
    weight = _exact(layer.weight.value())
    bias = Fraction(0) if layer.bias is None else _exact(layer.bias.value())
    return [
        _Part(p.start, p.end, weight @ p.slopes, weight @ p.shifts + bias)
        for p in parts
    ]  # fmt: skip


def _cut(part: _Part) -> Iterator[_Part]:
    """The part in smaller ones, on each of which no unit changes its sign."""
    zeros = {-b / a for a, b in zip(part.slopes, part.shifts, strict=True) if a}
    inside = sorted(z for z in zeros if part.start < z < part.end)
    ends = [part.start, *inside, part.end]
    for start, end in pairwise(ends):
        yield _Part(start, end, part.slopes, part.shifts)


def _rectified(part: _Part) -> _Part:
    middle = (part.start + part.end) / 2
    alive = part.slopes * middle + part.shifts > 0
    return _Part(part.start, part.end, part.slopes * alive, part.shifts * alive)


def _merged(parts: list[_Part]) -> list[Piece]:
    """Neighbours of one slope as one (the net is continuous, so their shift is one, too)."""
    pieces: list[Piece] = []
    for part in parts:
        piece = Piece(part.start, part.end, part.slopes[0], part.shifts[0])
        if pieces and pieces[-1].slope == piece.slope:
            piece = Piece(pieces.pop().start, piece.end, piece.slope, piece.shift)
        pieces.append(piece)
    return pieces
