"""Numbers, sizes and flags: what is taken, what is refused, and what the message says."""

import math

import numpy as np
import pytest

from fathom.engine.errors import ArgumentError
from fathom.ops.arguments import flag, number, positive, title, whole, whole_numbers
from fathom.ops.checks import sizes


class Layer:
    """Goes by its class in messages."""


def test_what_is_taken_comes_back_plain():
    for value in (3, np.int64(3), np.uint8(3)):
        assert type(positive(value, "size", "f")) is int
    for value in (0.5, np.float32(0.5), 1, np.int64(1)):
        assert type(number(value, "p", "f", 0.0, 1.0)) is float
    assert flag(np.bool_(True), "bias", "f") is True
    assert whole(-2, "dim", "f") == -2
    assert whole_numbers([1, np.int32(2)], "sizes", "f") == (1, 2)
    assert title(Layer()) == "Layer"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: positive(0, "size", Layer()), "Layer: size must be a whole number >= 1; rec.* 0"),
        (lambda: positive(True, "size", "f"), "f: size must be a whole number >= 1; received True"),
        (lambda: positive(2.0, "size", "f"), "received 2.0"),
        (lambda: whole("3", "dim", "f"), "f: dim must be a whole number; received '3'"),
        (lambda: number(math.nan, "x", "f"), "f: x must be a finite number; received nan"),
        (lambda: number(math.inf, "x", "f", 0.0), r"f: x must be >= 0 \(and finite\); rec.* inf"),
        (lambda: number(0.0, "x", "f", 0.0, above=True), r"f: x must be > 0 \(and finite\)"),
        (lambda: number(2, "p", "f", 0.0, 1.0), r"f: p must lie in \[0, 1\]; received 2"),
        (lambda: number(0, "p", "f", 0.0, 1.0, above=True), r"f: p must lie in \(0, 1\]"),
        (lambda: number(True, "p", "f", 0.0, 1.0), "received True"),
        (lambda: number(None, "p", "f"), "received None"),
        (lambda: flag(1, "bias", "f"), "f: bias must be True or False; received 1"),
        (lambda: flag("no", "bias", "f"), "received 'no'"),
        (lambda: whole_numbers("12", "sizes", "f"), "f: sizes must be a tuple of whole numbers"),
        (lambda: whole_numbers([1, 2.5], "sizes", "f"), "received 2.5"),
        (lambda: sizes("f", "stride", 1.5, 2), "f: stride is one whole number, or 2 of them"),
        (lambda: sizes("f", "stride", True, 2), "received True"),
        (lambda: sizes("f", "stride", "12", 2), "received '12'"),
        (lambda: sizes("f", "stride", (1, 2, 3), 2), r"received \(1, 2, 3\)"),
        (lambda: sizes("f", "stride", (1, 0), 2), "f: stride must be >= 1"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
