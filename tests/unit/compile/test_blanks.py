"""Blank examples: laid out as NumPy lays out the results, and worked out when they are needed."""

from __future__ import annotations

import numpy as np
import pytest

import fathom
from fathom.compile.blanks import Blanks
from fathom.engine.primitive import TABLE, Extra, settle

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)
TURNED = X.transpose(0, 2, 1, 3)
LABELS = np.array([0, 2, 1])

CASES = {
    "add": ("add", [X, X[0]], {}),
    "add a number": ("add", [X, 2.0], {}),
    "add a double": ("add", [X, X.astype(np.float64)], {}),
    "add whole numbers": ("add", [X, LABELS[:, None, None, None]], {}),
    "turned": ("mul", [TURNED, 0.5], {}),
    "turned both": ("mul", [TURNED, X[:, :1].transpose(0, 2, 1, 3)], {}),
    "compare": ("greater", [X, 0.0], {}),
    "root": ("sqrt", [np.abs(X)], {}),
    "sum": ("sum", [X], {"axis": (1, 3), "keepdims": False}),
    "softmax": ("softmax", [X], {"axis": 2}),
    "product": ("matmul", [X, X.transpose(0, 1, 3, 2)], {}),
    "product of turned": ("matmul", [TURNED, TURNED.transpose(0, 1, 3, 2)], {}),
    "standardize": ("standardize", [X], {"axis": (1, 2), "eps": 1e-5}),
    "cross-entropy": ("cross_entropy", [X[0, 0, :3], LABELS], {}),
    "put": ("putitem", [TURNED], {"index": (slice(1, 4),), "shape": (6, 5, 4, 6)}),
}


def flat(out):
    return [np.asarray(a) for part in (out if isinstance(out, tuple) else (out,))
            for a in (part if isinstance(part, Extra) else (part,))]  # fmt: skip


def steps(array):
    return [s for s, n in zip(array.strides, array.shape, strict=True) if n > 1]


@pytest.mark.parametrize("case", CASES)
def test_a_blank_lies_as_the_result_would_and_has_its_values_when_filled(case):
    name, examples, settings = CASES[case]
    blanks, primitive = Blanks(), TABLE[name]
    out = blanks.made(primitive, examples, settings)
    real = primitive.forward(*examples, **settings)
    if primitive.form == "elementwise":
        real = settle(real, examples)
    assert out is not None and len(blanks.pending) == len(flat(real))
    for a, b in zip(flat(out), flat(real), strict=True):
        assert (a.shape, a.dtype, steps(a)) == (b.shape, b.dtype, steps(b))
    blanks.fill(out if not isinstance(out, tuple) else flat(out))
    assert not blanks.pending
    for a, b in zip(flat(out), flat(real), strict=True):
        assert a.tobytes() == b.tobytes()


def test_views_of_blanks_and_copies_of_them_are_filled_too():
    blanks = Blanks()
    y = blanks.made(TABLE["mul"], [X, 2.0], {})
    turned = blanks.made(TABLE["permute"], [y], {"axes": (0, 2, 1, 3)})
    assert np.shares_memory(turned, y)
    joined = blanks.made(TABLE["reshape"], [turned], {"shape": (3, 120)})
    assert not np.shares_memory(joined, y)
    blanks.fill(joined)
    assert not blanks.pending
    np.testing.assert_array_equal(joined, (X * 2).transpose(0, 2, 1, 3).reshape(3, 120))


def test_a_long_chain_is_filled_without_recursion():
    blanks, y = Blanks(), np.zeros(4, np.float32)
    for _ in range(3000):
        y = blanks.made(TABLE["add"], [y, 1.0], {})
    blanks.fill(y)
    assert y.tolist() == [3000.0] * 4


@pytest.mark.parametrize(
    ("name", "examples", "settings"),
    [
        ("add", [X, X[:2]], {}),
        ("matmul", [X, X], {}),
        ("add", ["x", 1.0], {}),
    ],
    ids=["shapes", "sizes", "text"],
)
def test_errors_are_left_to_the_operation(name, examples, settings):
    blanks = Blanks()
    assert blanks.made(TABLE[name], examples, settings) is None
    assert not blanks.pending


def test_what_goes_by_values_finds_them_in_a_trace(backend):
    table = fathom.tensor(np.arange(12.0).reshape(4, 3))

    def step(x):
        index = ((x * 3).floor() + 1).astype("int64")  # of blanks: garbage would lead outside
        return table[index] * 2

    x = fathom.tensor([0.0, 0.4, 0.9])
    compiled = fathom.compile(step, backend=backend)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x).numpy(), step(x).numpy())
