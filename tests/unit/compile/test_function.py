"""`fathom.compile` as people call it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fathom
from fathom.compile.function import native_wanted
from fathom.engine.errors import ArgumentError

X = fathom.tensor([1.0, 2.0])


def test_as_a_decorator_with_and_without_options(backend):
    @fathom.compile
    def first(x):
        """Twice."""
        return x * 2

    @fathom.compile(backend=backend)
    def second(x):
        return x * 2

    assert first(X).tolist() == second(X).tolist() == [2.0, 4.0]
    assert (first.__name__, first.__doc__) == ("first", "Twice.")
    assert first.eager(X).tolist() == [2.0, 4.0]


@pytest.mark.parametrize(
    ("function", "backend", "message"),
    [(lambda x: x, "cuda", "backend is one of"), (3, "auto", "expects a function; received a int")],
)
def test_bad_arguments(function, backend, message):
    with pytest.raises(ArgumentError, match=message):
        fathom.compile(function, backend=backend)


def test_there_is_no_plan_before_the_first_call():
    f = fathom.compile(lambda x: x)
    with pytest.raises(
        ArgumentError, match=r"nothing was compiled yet(?s:.*)call the function once"
    ):
        f.plan  # noqa: B018


def test_plans_and_why_they_were_made(backend):
    f = fathom.compile(lambda x: x * 2, backend=backend)
    f(X), f(X), f(fathom.ones(3))
    assert len(f.plans) == 2
    assert f.plan is f.plans[-1]
    assert f.traces[0] == "first call"
    assert f.traces[1].startswith("new arguments")


def test_results_keep_their_structure(backend):
    def run(x):
        return {"a": x + 1, "b": [x, (None, "text", 3)]}

    found = fathom.compile(run, backend=backend)(X)
    assert found["a"].tolist() == [2.0, 3.0]
    assert type(found["b"]) is list
    assert found["b"][1] == (None, "text", 3)


def test_named_tuples_come_back(backend):
    found = fathom.compile(lambda x: fathom.sort(x), backend=backend)(X)
    assert type(found) is type(fathom.sort(X))
    assert found.values.tolist() == [1.0, 2.0]


def test_keyword_order_and_defaults(backend):
    f = fathom.compile(lambda x, scale=2, *, shift: x * scale + shift, backend=backend)
    assert f(X, shift=X).tolist() == [3.0, 6.0]
    assert f(X, scale=3, shift=X).tolist() == [4.0, 8.0]


def test_the_switch():
    """FATHOM_NATIVE=0 is NumPy alone; llvmlite is not even imported."""
    code = (
        "import sys, fathom\n"
        "f = fathom.compile(lambda x: x * 2)\n"
        "assert f(fathom.tensor([1.0])).tolist() == [2.0]\n"
        "assert f.plan.native is None\n"
        "assert 'llvmlite' not in sys.modules\n"
    )
    env = {**__import__("os").environ, "FATHOM_NATIVE": "0"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_native_is_the_default_where_it_can_be():
    f = fathom.compile(lambda x: x * 2)
    f(X)
    assert (f.plan.native is not None) == native_wanted()


@pytest.mark.parametrize("kind", ["Adam", "RAdam", "Rprop", "Lookahead"])
def test_an_epoch_heeds_guards_that_go_by_the_number_of_steps(kind, backend):
    """RAdam changes its formula at step 6, Lookahead at every third."""

    def train(whole):
        with fathom.seed(0):
            model, x = fathom.nn.Linear(3, 2), fathom.randn(20, 3)
        optim = fathom.optim
        if kind == "Lookahead":
            optimizer = optim.Lookahead(optim.SGD(model.parameters(), lr=0.1), k=3)
        else:
            optimizer = getattr(optim, kind)(model.parameters(), lr=0.01)

        @fathom.compile(backend=backend)
        def step(x):
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        if whole:
            return step.epoch(x, batch_size=2).value(), model.weight.value()
        losses = [step(x[i : i + 2]).value() for i in range(0, 20, 2)]
        return np.stack(losses), model.weight.value()

    for a, b in zip(train(True), train(False), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_an_epoch_is_the_steps_one_after_the_other(backend):
    w = fathom.nn.Parameter([1.0])
    optimizer = fathom.optim.SGD([w], lr=0.1)

    @fathom.compile(backend=backend)
    def step(x):
        optimizer.zero_grad()
        loss = ((w - x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    losses = step.epoch(fathom.tensor(np.arange(5.0).reshape(5, 1)), batch_size=2)
    assert losses.shape == (3,)
