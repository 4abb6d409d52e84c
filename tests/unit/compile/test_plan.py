"""Plans to be read: source that runs, tables, memory."""

from __future__ import annotations

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.plan import Value, replace, walk
from fathom.nn import functional as F


def training(backend="numpy"):
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, fathom.compile(step, backend=backend)


X = fathom.tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))
Y = fathom.tensor([0, 1, 1, 0])


def test_values_know_their_size():
    v = Value("argument", (2, 3), np.float64, 0, "x0")
    assert (v.ndim, v.size, v.nbytes, repr(v)) == (2, 6, 48, "x0: float64[2, 3]")


def test_nests_are_walked_and_replaced():
    tree = {"a": (1, [2, slice(3, None, 4)]), "b": 5}
    assert list(walk(tree)) == [1, 2, 3, None, 4, 5]
    doubled = replace(tree, lambda v: v if v is None else 2 * v)
    assert doubled == {"a": (2, [4, slice(6, None, 8)]), "b": 10}


def test_the_source_runs_in_an_empty_namespace_with_the_same_bytes():
    model, step = training()
    with fathom.seed(1):
        step(X, Y)
    plan = step.plan
    assert plan.constants == {}  # everything has a name
    space: dict = {}
    exec(plan.source(), space)
    with fathom.seed(2):
        found = space["run"](*plan.values(X, Y))
    with fathom.seed(2):
        loss = step(X, Y)
    assert found[0].tobytes() == loss.value().tobytes()
    written = dict(zip(map(id, (t for t, _ in plan.writes)), found[1:], strict=False))
    for p in model.parameters():
        assert written[id(p)].tobytes() == p.value().tobytes()


def test_what_has_no_name_comes_as_a_constant():
    step = fathom.compile(lambda x: fathom.where(x > 0, x, np.float32(np.inf)), backend="numpy")
    step(X)
    plan = step.plan
    source = plan.source()
    assert set(plan.constants) == {"k0"}
    assert "# k0: float32, one of plan.constants" in source
    space = dict(plan.constants)
    exec(source, space)
    (out,) = space["run"](*plan.values(X))
    np.testing.assert_array_equal(out, step(X).value())


def test_the_source_says_what_goes_in_and_out():
    _, step = training()
    step(X, Y)
    source = step.plan.source()
    assert "# x0: float32[4, 3], argument 0" in source
    assert "['lr'] / " in source
    assert "# returns 1 outputs, new contents of 12, 4 gradients, 0 checks" in source


def test_explain_lists_steps_lines_and_costs():
    _, step = training()
    step(X, Y)
    text = step.plan.explain()
    first = next(line for line in text.splitlines() if " linear " in line)
    assert first.split()[:2] == ["0", "linear"]
    assert "192" in first  # multiply-adds, times two
    assert "test_plan.py:" in first
    assert "bytes come in" in text


def test_explain_tells_what_is_native_and_why_not():
    from fathom.compile.function import native_wanted

    if not native_wanted():
        pytest.skip("FATHOM_NATIVE=0")
    _, step = training("native")
    step(X, Y)
    text = step.plan.explain()
    assert "native code: " in text
    draw = next(line for line in text.splitlines() if "philox" in line)
    assert "kernel" in draw and "0 by NumPy" in text
    half = fathom.compile(lambda: fathom.rand(3, dtype=np.float16), backend="native")
    half()
    assert "draw: random numbers come from their stream" in half.plan.explain()
    line = next(line for line in text.splitlines() if "tanh" in line and "one loop" in line)
    assert "add" in line  # the bias is added in the same loop


def test_memory_counts_what_is_alive():
    step = fathom.compile(lambda x: fathom.exp(fathom.sin(fathom.cos(x))).sum(), backend="numpy")
    step(fathom.zeros(100))
    found = step.plan.memory()
    assert found == {"inputs": 400, "computed": 1204, "peak": 800}


def test_a_plan_prints_in_a_line():
    _, step = training()
    step(X, Y)
    assert repr(step.plan).startswith("<Plan step: ")
    assert repr(step.plan).endswith(" steps, 1 outputs, 12 writes>")
