"""Passes change the work, never a bit of the result."""

from __future__ import annotations

import numpy as np
import pytest

import fathom
from fathom.compile.passes import last_uses, sources

X = fathom.tensor([[1.0, -2.0], [0.0, 4.0]])


def plan_of(function, *args):
    step = fathom.compile(function, backend="numpy")
    found, wanted = step(*args), function(*args)
    for a, b in zip(flat(found), flat(wanted), strict=True):
        assert a.value().tobytes() == b.value().tobytes()
    return step.plan


def flat(tree):
    return [tree] if not isinstance(tree, tuple) else [x for part in tree for x in flat(part)]


def names(plan):
    return [step.primitive.name for step in plan.steps]


def test_what_nobody_uses_is_left_out():
    def run(x):
        fathom.exp(x)
        return x + 1

    assert names(plan_of(run, X)) == ["add"]


def test_random_draws_and_checks_stay():
    def run(x):
        fathom.rand(2)
        return x + 1

    step = fathom.compile(run, backend="numpy")
    with fathom.seed(0) as rng:
        step(X)
        assert rng.stream("sample").index == 1
    assert names(step.plan) == ["draw", "add"]


def test_equal_things_are_computed_once():
    plan = plan_of(lambda x: (fathom.exp(x) + 1, fathom.exp(x) + 2), X)
    assert names(plan).count("exp") == 1
    different = plan_of(lambda x: (x.sum(0), x.sum(1), x + 1, x + 1.0), X)
    assert names(different).count("sum") == 2


def test_draws_are_never_shared():
    step = fathom.compile(lambda: (fathom.rand(3), fathom.rand(3)), backend="numpy")
    with fathom.seed(0):
        a, b = step()
    assert (a.value() != b.value()).any()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 1) + 2,
        lambda x: (x / 1) + 2,
        lambda x: (x - 0) + 2,
        lambda x: fathom.neg(fathom.neg(x)) + 2,
        lambda x: x.reshape(2, 2) + 2,
        lambda x: x.astype(np.float32) + 2,
    ],
    ids=["mul", "div", "sub", "neg", "reshape", "astype"],
)
def test_what_changes_nothing_is_left_out(function):
    assert names(plan_of(function, X))[-1:] == ["add"]
    assert len([n for n in names(plan_of(function, X)) if n != "neg"]) == 1


@pytest.mark.parametrize("function", [lambda x: x + 0.0, lambda x: x * 0.0, lambda x: x * 1.5])
def test_what_changes_a_bit_stays(function):
    """-0.0 + 0.0 is 0.0, and nan * 0 is nan."""
    odd = fathom.tensor([-0.0, np.nan, np.inf])
    assert len(plan_of(function, odd).steps) == 1


def test_memory_falls_free_after_the_last_use():
    plan = plan_of(lambda x: fathom.exp(fathom.sin(x) * 2).sum(), X)
    dying = [[v.name for v in dead] for dead in last_uses(plan)]
    plan.number()
    assert dying[0] == []
    assert all(len(d) <= 1 for d in dying)


def test_a_view_keeps_its_memory():
    """The sum of a transposed view comes after memory of that size was wanted again."""

    def run(x):
        y = fathom.exp(x)
        t = y.T
        z = fathom.sin(x) * 2
        return t.sum(0) + z, (z * 3).T + t

    plan_of(run, X)


def test_code_that_hands_on_its_argument_keeps_it_alive():
    """`check_rows` returns the very array it was given."""
    table = fathom.tensor(np.arange(12.0).reshape(6, 2))

    def run(i):
        row = i + 1
        picked = fathom.nn.functional.embedding(row, table)
        return picked, i * 2 + i * 3

    plan = plan_of(run, fathom.tensor([0, 3, 1]))
    checked = next(s for s in plan.steps if s.primitive.name == "check_rows")
    assert checked.args[0] in sources(checked)


def test_old_values_are_copied_before_they_are_overwritten():
    a, b = fathom.tensor([1.0, 2.0]), fathom.tensor([5.0, 6.0])

    def swap():
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)

    step = fathom.compile(swap, backend="numpy")
    step()
    assert (a.tolist(), b.tolist()) == ([5.0, 6.0], [1.0, 2.0])
    step()
    assert (a.tolist(), b.tolist()) == ([1.0, 2.0], [5.0, 6.0])
