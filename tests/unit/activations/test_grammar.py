from __future__ import annotations

import itertools

import numpy as np
import pytest

import fathom
from fathom import activations as A
from fathom.activations import grammar
from fathom.engine.errors import ArgumentError

X = np.linspace(-2.5, 2.5, 51) + 0.013


@pytest.mark.parametrize("unary", grammar.UNARY)
def test_every_unary_has_an_exact_slope(unary):
    f = grammar.build((unary, "x", "add"))
    fathom.autograd.gradcheck(f, fathom.Tensor(X, True))


@pytest.mark.parametrize("binary", grammar.BINARY)
@pytest.mark.parametrize("depth", [1, 2])
def test_every_binary_has_an_exact_slope(binary, depth):
    f = grammar.build(("tanh", "exp", binary) * depth)
    fathom.autograd.gradcheck(f, fathom.Tensor(X, True))
    assert f.latex() and f.plot().lines


def test_known_activations_are_in_the_grammar():
    found = {
        "silu": ("x", "sigmoid", "mul"), "relu": ("positive", "x", "max"),
        "softplus": ("softplus", "x", "max"),
    }  # fmt: skip
    for name, genome in found.items():
        np.testing.assert_allclose(grammar.build(genome)(X), A.FORMULAS[name](X), rtol=1e-12)
    mish = grammar.build(("softplus", "softplus", "max", "tanh", "x", "mul"))
    np.testing.assert_allclose(mish(X), A.mish(X), rtol=1e-12)


def test_canonical_keeps_the_function():
    for first, second, binary in itertools.product(["x", "tanh"], ["sigmoid"], grammar.BINARY):
        genome = (second, first, binary)
        same = grammar.canonical(genome)
        np.testing.assert_allclose(grammar.build(same)(X), grammar.build(genome)(X), rtol=1e-12)
        assert grammar.canonical(same) == same
    assert grammar.canonical(("x", "sigmoid", "sub")) != grammar.canonical(("sigmoid", "x", "sub"))


def test_sane():
    assert grammar.sane(grammar.build(("x", "sigmoid", "mul")))
    assert not grammar.sane(grammar.build(("one", "one", "add")))  # constant
    assert not grammar.sane(grammar.build(("exp", "x", "add", "exp", "x", "add")))  # overflows


@pytest.mark.parametrize(
    ("f", "like"),
    [(A.silu, True), (A.gelu, True), (A.mish, True), (grammar.build(("exp", "neg", "min")), True),
     (A.relu, False), (A.tanh, False), (A.softplus, False), (grammar.build(("cos", "x", "sub")),
     False), (grammar.build(("sin", "x", "mul")), False), (A.tanh_shrink, False)],
    ids=lambda v: getattr(v, "name", str(v)),
)  # fmt: skip
def test_swish_like(f, like):
    assert grammar.swish_like(f) is like


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: grammar.build(("x", "x")), "3 names a unit; received 2"),
        (lambda: grammar.build(("x", "sigmoyd", "mul")), "did you mean 'sigmoid'"),
        (lambda: grammar.build(("x", "mul", "x")), "no 'mul' here"),
        (lambda: grammar.slots(0), "depth is a whole number"),
        (lambda: grammar.slots(1, ["sine"]), "did you mean 'sin'"),
        (lambda: grammar.slots(1, list(grammar.BINARY)), "a unary and a binary"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_mistakes(call, said):
    with pytest.raises(ArgumentError) as error:
        call()
    assert said in str(error.value)
