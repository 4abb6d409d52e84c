"""What the engine promises about memory: no recursion, no cycles, nothing left behind."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import func, nn
from fathom.autograd import Function, backward_steps, checkpoint, detect_anomaly, grad
from fathom.engine.tape import Node
from fathom.engine.tensor import Tensor

LENGTH = 150_000
X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 8)


@contextmanager
def without_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def alive() -> int:
    """Tensors and nodes that exist."""
    return sum(issubclass(type(o), (Tensor, Node)) for o in gc.get_objects())


def traced() -> int:
    """Bytes in use, without what Python keeps to be used again."""
    assert gc.collect() == 0
    return tracemalloc.get_traced_memory()[0]


def in_thread(work: Callable[[], Any]) -> Any:
    """Run with the small stack of a fresh thread; errors come back."""
    box: list[Any] = []

    def target() -> None:
        try:
            box.append(work())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if isinstance(box[0], BaseException):
        raise box[0]
    return box[0]


def chain(x: Any, length: int = LENGTH) -> Any:
    for _ in range(length // 3):
        x = (fathom.relu(x) + 1e-6) * 1.0
    return x


def test_long_chain_back_propagates_and_is_freed_without_recursion() -> None:
    def work() -> tuple[float, bool]:
        x = fathom.ones(2, requires_grad=True)
        y = chain(x)
        y.sum().backward()
        last = weakref.ref(y.node)
        del y
        return float(x.grad.sum()), last() is None

    with without_gc():
        before = alive()
        assert in_thread(work) == (2.0, True)
        assert alive() <= before


def test_long_chain_that_never_ran_backward_is_freed() -> None:
    def work() -> int:
        y = chain(fathom.ones(2, requires_grad=True))
        node = weakref.ref(y.node)
        del y
        return int(node() is None)

    with without_gc():
        before = alive()
        assert in_thread(work) == 1
        assert alive() <= before


def test_long_chain_by_other_ways() -> None:
    def work() -> list[float]:
        x = fathom.ones(2, requires_grad=True)
        (a,) = grad(chain(x, 30_000).sum(), x, create_graph=True)
        b = func.grad(lambda v: chain(v, 30_000).sum())(fathom.ones(2))
        steps = backward_steps(chain(x, 3_000).sum())
        list(steps)
        return [float(g.sum()) for g in (a, b, x.grad)]

    with without_gc():
        before = alive()
        assert in_thread(work) == [2.0, 2.0, 2.0]
        assert alive() <= before


# -- training: nothing is left of a step -----------------------------------------------------------


class Squash(Function):
    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        y = x.tanh()
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        _, y = ctx.saved_tensors
        return g * (1 - y * y)


def model_and_optimizer() -> tuple[Any, Any]:
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, fathom.optim.Adam(model.parameters(), lr=1e-3)


def plain(model: Any) -> None:
    nn.functional.cross_entropy(model(fathom.Tensor(X)), fathom.Tensor(Y)).backward()


def checkpointed(model: Any) -> None:
    (checkpoint(model, fathom.Tensor(X)) ** 2).mean().backward()


def custom(model: Any) -> None:
    (Squash.apply(model(fathom.Tensor(X))) ** 2).mean().backward()


def hooked(model: Any) -> None:
    h = model(fathom.Tensor(X))
    h.register_hook(lambda g: g * 2)
    h.retain_grad()
    h.node.register_prehook(lambda grads: None)
    handle = model[0].weight.register_hook(lambda g: g)
    module = model[1].register_full_backward_hook(lambda m, i, o: None)
    (h * h).mean().backward()
    model(fathom.Tensor(X)).sum().backward()
    handle.remove()
    module.remove()


def twice(model: Any) -> None:
    x = fathom.tensor(X, requires_grad=True)
    (g,) = grad(model(x).tanh().sum(), x, create_graph=True)
    (g * g).sum().backward()


def backward_with_graph(model: Any) -> None:
    model(fathom.Tensor(X)).exp().mean().backward(create_graph=True)


def retained_and_dropped(model: Any) -> None:
    loss = model(fathom.Tensor(X)).tanh().mean()
    loss.backward(retain_graph=True)
    model(fathom.Tensor(X)).exp()  # never differentiated


def transformed(model: Any) -> None:
    params = {n: p.detach() for n, p in model.named_parameters()}

    def loss(weights: Any, x: Any, y: Any) -> Any:
        out = func.functional_call(model, weights, (x[None],))
        return nn.functional.cross_entropy(out, y[None])

    func.per_sample_grad(loss)(params, fathom.Tensor(X), fathom.Tensor(Y))
    x = fathom.Tensor(X[0])
    func.jvp(lambda v: model(v).exp(), (x,), (x,))
    func.hessian(lambda v: model(v).exp().sum())(x)
    func.vjp(lambda v: model(v).tanh(), x)[1](fathom.ones(3))
    func.linearize(lambda v: model(v).tanh(), x)[1](x)
    model(fathom.Tensor(X)).sum().backward()


def failing(model: Any) -> None:
    for _ in range(2):
        try:
            model(fathom.ones(2, 9))
        except ValueError:
            pass
    plain(model)


def watched(model: Any) -> None:
    with detect_anomaly():
        plain(model)


STEPS = [plain, checkpointed, custom, hooked, twice, backward_with_graph, retained_and_dropped,
         transformed, failing, watched]  # fmt: skip


def train(step: Any, model: Any, optimizer: Any, count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        step(model)
        optimizer.step()


@pytest.mark.parametrize("step", STEPS)
def test_no_cycles_after_a_step(step: Any) -> None:
    model, optimizer = model_and_optimizer()
    train(step, model, optimizer, 2)
    optimizer.zero_grad()
    with without_gc():
        train(step, model, optimizer, 3)
        assert gc.collect() == 0


@pytest.mark.parametrize("step", STEPS)
def test_memory_after_many_steps_equals_memory_after_few(step: Any) -> None:
    many = 1000 if step is plain else 60 if step is transformed else 200
    model, optimizer = model_and_optimizer()
    with without_gc():
        tracemalloc.start()
        try:
            train(step, model, optimizer, 10)
            objects, held = alive(), traced()
            train(step, model, optimizer, many - 10)
            assert alive() == objects
            growth = traced() - held
        finally:
            tracemalloc.stop()
        # NumPy keeps some small blocks for reuse; a thing left behind would weigh more than this
        assert growth < 64 * many, f"{growth} bytes more after {many} steps than after 10"


def test_a_graph_lives_as_long_as_its_output() -> None:
    with without_gc():
        x = fathom.ones(3, requires_grad=True)
        middle = x.exp()
        node = weakref.ref(middle.node)
        y = (middle * 2).sum()
        del middle
        assert node() is not None
        y.backward()
        assert node().saved is None  # freed as it was consumed
        del y
        assert node() is None


def test_saved_values_go_during_the_pass_not_after_it() -> None:
    """The peak of backward does not hold all activations and all gradients."""
    x = fathom.tensor(np.ones(1 << 16, np.float32), requires_grad=True)
    seen: list[bool] = []
    first = x * 1
    h = first
    nodes = []
    for _ in range(5):
        h = h.exp() * 1e-3
        nodes.append(weakref.ref(h.node))
    first.register_hook(lambda g: seen.extend(n() is None or n().saved is None for n in nodes))
    h.sum().backward()
    assert seen == [True] * 5
