"""Stand-ins: what is noted, what stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.trace import Tracer
from fathom.compile.traced import Traced, TraceError
from fathom.engine.errors import GraphError


@pytest.fixture
def tracer():
    return Tracer()


def argument(tracer, *shape):
    return fathom.Tensor(tracer.argument(np.zeros(shape, np.float32), len(tracer.arguments)))


def names(tracer):
    return [step.primitive.name for step in tracer.steps]


def test_operations_are_noted_with_shape_dtype_and_line(tracer):
    with tracer.open():
        x = argument(tracer, 4, 3)
        y = (fathom.exp(x) @ fathom.ones(3, 2)).sum(axis=0) > 1
    assert names(tracer) == ["exp", "matmul", "sum", "greater"]
    assert (y.shape, y.dtype) == ((2,), np.bool_)
    assert tracer.steps[0].site[0].co_filename == __file__


def test_backward_is_noted_like_anything_else(tracer):
    w = nn.Parameter(np.ones(3, np.float32))
    with tracer.open():
        (w * w).sum().backward()
        assert isinstance(w.grad.storage(), Traced)
        plan = tracer.plan([], "step")
    assert [t is w for t, _ in plan.gradients] == [True]
    assert w.grad is None
    assert type(w.data) is np.ndarray


def test_memory_is_put_back_whatever_happens(tracer):
    w, data = nn.Parameter([1.0]), None
    data = w.data
    with pytest.raises(KeyError), tracer.open():
        (w * 2).sum().backward()
        raise KeyError
    assert w.data is data
    assert w.grad is None
    assert fathom.is_grad_enabled()


def test_writes_are_effects(tracer):
    buffer = fathom.zeros(3)
    with tracer.open():
        buffer.add_(argument(tracer, 3))
        buffer.mul_(2.0)
        plan = tracer.plan([], "step")
    assert [(t is buffer, v.origin.primitive.name) for t, v in plan.writes] == [(True, "mul")]
    assert buffer.tolist() == [0.0, 0.0, 0.0]


def test_a_tensor_made_while_tracing_is_no_state(tracer):
    with tracer.open():
        total = fathom.zeros(3)
        assert total.tolist() == [0.0, 0.0, 0.0]  # a constant has values
        total += argument(tracer, 3)
        plan = tracer.plan([], "step")
        with pytest.raises(TraceError, match="the values of a tensor are asked for"):
            total.tolist()
    assert plan.writes == []


def test_captured_values_may_be_asked_and_are_guarded(tracer):
    limit = fathom.tensor([2.0])
    with tracer.open():
        assert limit.item() == 2.0
    holds = tracer.book.guard(list(tracer.book.guards))
    assert holds()
    limit.fill_(3.0)
    assert not holds()


def test_an_old_view_of_what_was_edited(tracer):
    with tracer.open():
        x = argument(tracer, 4) * 1.0
        front = x[:2]
        x += 1.0
        with pytest.raises(TraceError, match=r"a view is used .* after the memory it shows"):
            front * 2


def test_stand_ins_do_not_outlive_their_trace(tracer):
    with tracer.open():
        x = argument(tracer, 2) * 2.0
    with pytest.raises(TraceError, match="left behind"):
        x.numpy()


def test_one_trace_at_a_time(tracer):
    with tracer.open(), pytest.raises(TraceError, match="inside another trace"), Tracer().open():
        pass
    assert issubclass(TraceError, GraphError)


def test_random_draws_are_operations(tracer):
    with fathom.seed(0) as rng:
        tracer = Tracer()
        with tracer.open():
            fathom.rand(3)
            fathom.nn.functional.dropout(argument(tracer, 3))
        assert names(tracer)[0] == "draw"
        assert names(tracer).count("draw") == 2
        assert rng.state_dict()["streams"] == {}


def test_the_optimizer_reads_its_options_as_expressions():
    w = nn.Parameter([1.0, 2.0])
    optimizer = fathom.optim.Adam([w], lr=0.1)
    tracer = Tracer()
    with tracer.open():
        (w * w).sum().backward()
        optimizer.step()
        plan = tracer.plan([], "step")
    texts = {v.origin.text for v in plan.inputs() if v.kind == "scalar"}
    assert any("['lr']" in text for text in texts)
    assert len(plan.writes) == 3  # weights and two averages
    assert optimizer.state_dict()["state"] == {}
    assert [places for _, places in plan.counters] == [[0]]


def test_code_that_goes_by_values_is_one_operation():
    def clipped(x, w):
        return x * w if float(w.detach().value().max()) < 2.0 else x * 2.0

    from fathom.ops.checks import by_value

    w = nn.Parameter([1.0, 1.0])

    @fathom.compile(backend="numpy")
    def step(x):
        out = by_value(clipped, x, w)
        out.sum().backward()
        return out.detach()

    x = fathom.tensor([1.0, 2.0])
    assert step(x).tolist() == [1.0, 2.0]
    assert w.grad.tolist() == [1.0, 2.0]
    assert {"clipped", "clipped_gradients"} <= {s.primitive.name for s in step.plan.steps}
    w.grad = None
    w.data[0] = 5.0
    assert step(x).tolist() == [2.0, 4.0]
    assert w.grad.tolist() == [0.0, 0.0]
