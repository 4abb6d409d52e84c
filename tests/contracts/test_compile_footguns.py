"""What goes wrong with compiled functions elsewhere, and what happens here: one test each."""

from __future__ import annotations

import gc
import re
import sys
import warnings
import weakref
from dataclasses import dataclass

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile import RetraceWarning, TraceError
from fathom.engine.errors import AxisError
from fathom.func import functional_call, grad, hvp, per_sample_grad, vmap
from fathom.nn import functional as F
from tests.compiled import BACKENDS

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def values(x):
    return x.detach().numpy().tolist()


@pytest.fixture
def x():
    return fathom.tensor([1.0, 2.0, 3.0])


# -- what a function captures ----------------------------------------------------------------------


class TestCaptured:
    def test_arrays_are_read_at_each_call(self, x, backend):
        table = np.array([1.0, 10.0, 100.0], np.float32)
        f = fathom.compile(lambda x: x * table, backend=backend)
        assert values(f(x)) == [1.0, 20.0, 300.0]
        table[0] = 5.0
        assert values(f(x)) == [5.0, 20.0, 300.0]
        assert len(f.plans) == 1

    def test_tensors_are_read_at_each_call(self, x, backend):
        shift = fathom.tensor([1.0, 1.0, 1.0])
        f = fathom.compile(lambda x: x + shift, backend=backend)
        assert values(f(x)) == [2.0, 3.0, 4.0]
        shift.fill_(2.0)
        assert values(f(x)) == [3.0, 4.0, 5.0]
        shift.data = np.zeros(3, np.float32)  # other memory
        assert values(f(x)) == [1.0, 2.0, 3.0]
        assert len(f.plans) == 1

    def test_another_object_in_a_closure_is_traced_anew(self, x, backend):
        shift = fathom.tensor([1.0, 1.0, 1.0])
        f = fathom.compile(lambda x: x + shift, backend=backend)
        f(x)
        shift = fathom.tensor([5.0, 5.0, 5.0])
        assert values(f(x)) == [6.0, 7.0, 8.0]
        assert len(f.plans) == 2

    @pytest.mark.parametrize(
        "numbers",
        [(1, 2), (1, 1.5), (True, 2), (0.5, float("nan")), (np.float32(1), np.float32(2))],
    )
    def test_numbers_are_guarded(self, x, numbers, backend):
        factor = numbers[0]
        f = fathom.compile(lambda x: x * factor, backend=backend)
        np.testing.assert_array_equal(f(x).value(), (x * factor).value())
        f(x)
        assert len(f.plans) == 1
        factor = numbers[1]
        np.testing.assert_array_equal(f(x).value(), (x * factor).value())
        f(x)
        assert len(f.plans) == 2
        assert "guards failed" in f.traces[1]

    def test_numbers_that_helpers_read(self, x, backend):
        def helper(x):
            return x * scale

        scale = 2.0
        f = fathom.compile(lambda x: helper(x), backend=backend)
        assert values(f(x)) == [2.0, 4.0, 6.0]
        scale = 3.0
        assert values(f(x)) == [3.0, 6.0, 9.0]

    def test_globals_and_attributes(self, x, backend):
        class Trainer:
            def __init__(self):
                self.rate, self.calls = 2.0, 0

            def apply(self, x):
                return x * self.rate

        trainer = Trainer()
        f = fathom.compile(trainer.apply, backend=backend)
        assert values(f(x)) == [2.0, 4.0, 6.0]
        trainer.rate = 3.0
        assert values(f(x)) == [3.0, 6.0, 9.0]
        trainer.calls = 1  # nobody reads that
        f(x)
        assert len(f.plans) == 2

    def test_an_array_that_python_looks_into(self, x, backend):
        limits = np.array([0.5, 1.0])
        f = fathom.compile(lambda x: x * (2 if limits[0] < 1 else 3), backend=backend)
        assert values(f(x)) == [2.0, 4.0, 6.0]
        limits[0] = 2.0
        assert values(f(x)) == [3.0, 6.0, 9.0]

    def test_a_captured_tensor_that_python_asks(self, x, backend):
        flag = fathom.tensor(1.0)
        f = fathom.compile(lambda x: x * 2 if flag > 0.5 else x * flag.item(), backend=backend)
        with pytest.raises(TraceError):  # a comparison is computed: it has no value
            f(x)
        g = fathom.compile(lambda x: x * flag.item(), backend=backend)
        assert values(g(x)) == [1.0, 2.0, 3.0]
        flag.fill_(2.0)
        assert values(g(x)) == [2.0, 4.0, 6.0]
        assert len(g.plans) == 2

    def test_modes_and_options_of_modules(self, x, backend):
        layer = nn.Dropout(0.5)
        f = fathom.compile(lambda x: layer(x), backend=backend)
        with fathom.seed(0):
            f(x)
            layer.eval()
            assert values(f(x)) == [1.0, 2.0, 3.0]
            layer.train()
            f(x)
            assert len(f.plans) == 2
            layer.p = 0.0
            assert values(f(x)) == [1.0, 2.0, 3.0]

    def test_a_replaced_layer_or_parameter(self, x, backend):
        model = nn.Sequential(nn.Linear(3, 1, bias=False))
        f = fathom.compile(lambda x: model(x).detach(), backend=backend)
        f(x)
        model[0].weight = nn.Parameter([[1.0, 0.0, 0.0]])
        assert values(f(x)) == [1.0]
        setattr(model, "0", nn.Identity())
        assert values(f(x)) == [1.0, 2.0, 3.0]
        model.append(nn.ReLU())
        assert values(f(-x)) == [0.0, 0.0, 0.0]

    def test_lists_of_layers(self, x, backend):
        layers = [nn.Identity(), nn.ReLU()]

        def run(x):
            for layer in layers:
                x = layer(x)
            return x

        f = fathom.compile(run, backend=backend)
        assert values(f(-x)) == [0.0, 0.0, 0.0]
        layers.pop()
        assert values(f(-x)) == [-1.0, -2.0, -3.0]

    def test_constants_that_are_not_finite(self, x, backend):
        f = fathom.compile(lambda x: fathom.where(x > 1.5, -np.inf, x) * np.nan, backend=backend)
        assert np.isnan(f(x).value()).all()
        g = fathom.compile(lambda x: fathom.maximum(x, np.inf), backend=backend)
        assert values(g(x)) == [np.inf] * 3


# -- arguments -------------------------------------------------------------------------------------


class TestArguments:
    def test_another_shape_dtype_or_structure_is_another_plan(self, x, backend):
        f = fathom.compile(lambda x: x + x, backend=backend)
        f(x), f(x)
        f(fathom.ones(2, 2)), f(x.double()), f(fathom.tensor([1, 2])), f(x)
        assert len(f.plans) == 4
        g = fathom.compile(
            lambda parts: sum(parts) if isinstance(parts, list) else parts["a"], backend=backend
        )
        assert values(g([x, x])) == [2.0, 4.0, 6.0]
        assert values(g({"a": x})) == [1.0, 2.0, 3.0]
        assert values(g([x])) == [1.0, 2.0, 3.0]
        assert len(g.plans) == 3

    def test_python_numbers_are_part_of_the_signature(self, x, backend):
        f = fathom.compile(lambda x, k: x * k, backend=backend)
        for k in (2, 2.0, 3, True, -0.0, 0.0, float("nan"), float("nan")):
            np.testing.assert_array_equal(f(x, k).value(), (x * k).value())
        assert len(f.plans) == 7

    def test_keywords_and_dataclasses(self, x, backend):
        @dataclass
        class Batch:
            x: object
            weight: float

        f = fathom.compile(lambda batch, *, shift: batch.x * batch.weight + shift, backend=backend)
        assert values(f(Batch(x, 2.0), shift=x)) == [3.0, 6.0, 9.0]
        assert values(f(Batch(x + 1, 2.0), shift=x)) == [5.0, 8.0, 11.0]
        assert len(f.plans) == 1

    def test_arrays_in_arrays_out(self, x, backend):
        f = fathom.compile(lambda a: fathom.exp(a) * 2, backend=backend)
        out = f(x.value())
        assert type(out) is np.ndarray
        np.testing.assert_allclose(out, np.exp(x.value()) * 2, rtol=1e-6)

    def test_the_same_array_twice(self, x, backend):
        f = fathom.compile(lambda a, b: (a + b, a * b), backend=backend)
        total, product = f(x, x)
        assert values(total) == [2.0, 4.0, 6.0]
        assert values(product) == [1.0, 4.0, 9.0]

    def test_an_argument_in_the_memory_of_a_parameter(self, x, backend):
        w = nn.Parameter([1.0, 2.0, 3.0])
        optimizer = fathom.optim.SGD([w], lr=0.5)

        @fathom.compile(backend=backend)
        def step(x):
            optimizer.zero_grad()
            loss = (w * w).sum()
            loss.backward()
            optimizer.step()
            return (x * 10).sum()

        assert step(w.detach()).item() == 60.0  # as it was when the step began
        assert values(w) == [0.0, 0.0, 0.0]

    def test_an_argument_is_not_edited(self, x, backend):
        def edit(x):
            x += 1
            return x

        with pytest.raises(
            TraceError, match="argument 0 of a compiled function is edited in place"
        ):
            fathom.compile(edit, backend=backend)(x)
        assert values(x) == [1.0, 2.0, 3.0]

    def test_an_argument_that_requires_grad(self, x, backend):
        with pytest.raises(TraceError, match=r"requires grad.*\n.*x.detach\(\)"):
            fathom.compile(lambda x: x * 2, backend=backend)(nn.Parameter([1.0]))

    def test_views_transposes_and_read_only_memory(self, backend):
        base = np.arange(6, dtype=np.float32).reshape(2, 3)
        f = fathom.compile(lambda x: (x * 2).sum(0), backend=backend)
        for view in (base[:, ::-1], base.T[:2].copy().T, np.broadcast_to(base[0], (2, 3))):
            view = view[:, :2]
            np.testing.assert_array_equal(f(view), (view * 2).sum(0))

    def test_empty_integer_boolean_and_double(self, backend):
        f = fathom.compile(lambda x: (x + x).sum(), backend=backend)
        assert f(fathom.zeros(0, 3)).item() == 0.0
        assert f(fathom.tensor([1, 2])).item() == 6
        assert f(fathom.tensor([1.0], dtype=np.float64)).dtype == np.float64
        g = fathom.compile(lambda x: ~(x > 1), backend=backend)
        assert values(g(fathom.tensor([1, 2]))) == [True, False]

    def test_nan_comes_through(self, backend):
        f = fathom.compile(
            lambda x: (fathom.relu(x), fathom.maximum(x, 0.0), x.max()), backend=backend
        )
        bad = fathom.tensor([np.nan, 1.0, -1.0])
        for found, wanted in zip(f(bad), f.eager(bad), strict=True):
            np.testing.assert_array_equal(found.value(), wanted.value())


# -- results ---------------------------------------------------------------------------------------


class TestResults:
    def test_what_is_held_never_changes(self, backend):
        f = fathom.compile(lambda x: (x * 2, (x * 3).sum()), backend=backend)
        big = fathom.ones(50, 50)
        held = [f(big * i) for i in range(4)]
        for i, (a, b) in enumerate(held):
            assert (a.value() == 2.0 * i).all()
            assert b.item() == 7500.0 * i

    def test_held_gradients_never_change(self, backend):
        w = nn.Parameter(np.ones((40, 40), np.float32))
        optimizer = fathom.optim.SGD([w], lr=0.0)

        @fathom.compile(backend=backend)
        def step(x):
            optimizer.zero_grad()
            (w * x).sum().backward()
            optimizer.step()

        held = []
        for i in range(4):
            step(fathom.ones(40, 40) * i)
            held.append(w.grad)
        for i, g in enumerate(held):
            assert (g.value() == i).all()

    def test_results_are_nobody_elses(self, x, backend):
        w = nn.Parameter([1.0, 2.0])
        f = fathom.compile(lambda x: (x, x, x[:2], x.reshape(3, 1), w), backend=backend)
        outs = f(x)
        for i, out in enumerate(outs):
            for other in (x, w, *outs[:i]):
                assert not np.shares_memory(out.value(), other.value())

    def test_equal_gradients_of_two_parameters(self, backend):
        a, b = nn.Parameter([1.0, 2.0]), nn.Parameter([3.0, 4.0])

        @fathom.compile(backend=backend)
        def step(x):
            a.grad = b.grad = None
            ((a + b) * x).sum().backward()

        step(fathom.tensor([1.0, 2.0]))
        a.grad.data *= 100
        assert values(b.grad) == [1.0, 2.0]

    def test_old_contents_of_what_is_written(self, backend):
        count = fathom.tensor([1.0, 2.0])
        last = fathom.tensor([0.0, 0.0])

        @fathom.compile(backend=backend)
        def step():
            before = count.clone()
            last.copy_(count)
            count.add_(1.0)
            return before, count[:1].clone()

        before, now = step()
        assert (values(before), values(now)) == ([1.0, 2.0], [2.0])
        before, now = step()
        assert (values(before), values(last), values(count)) == ([2.0, 3.0], [2.0, 3.0], [3.0, 4.0])

    def test_a_result_that_waits_for_backward(self, x, backend):
        w = nn.Parameter([1.0, 1.0, 1.0])
        f = fathom.compile(lambda x: (w * x).sum(), backend=backend)
        with pytest.raises(TraceError, match="still waits for backward"):
            f(x)
        with fathom.no_grad():
            assert f(x).item() == 6.0

    def test_attributes_that_are_set(self, x, backend):
        class Recorder(nn.Module):
            def __init__(self):
                super().__init__()
                self.seen = None
                self.register_buffer("total", fathom.zeros(3))

            def forward(self, x):
                self.seen = x * 2
                self.total = self.total + x
                return x

        layer = Recorder()
        f = fathom.compile(lambda x: layer(x), backend=backend)
        for i in range(1, 5):
            f(x * i)
            assert values(layer.seen) == [2.0 * i, 4.0 * i, 6.0 * i]
        assert values(layer.total) == [10.0, 20.0, 30.0]
        assert len(f.plans) <= 2

    def test_a_variable_outside(self, x, backend):
        last = None

        def run(x):
            nonlocal last
            last = x * 3
            return x

        f = fathom.compile(run, backend=backend)
        for i in (1, 2, 3):
            f(x * i)
            assert values(last) == [3.0 * i, 6.0 * i, 9.0 * i]

    def test_a_list_outside(self, x, backend):
        losses = []

        def run(x):
            losses.append(x * 3)
            return x

        f = fathom.compile(run, backend=backend)
        with pytest.raises(TraceError, match=r"a list outside .* keeps a value"):
            f(x)
        assert losses == []


# -- parameters, gradients, optimizers -------------------------------------------------------------


def training(backend, **options):
    with fathom.seed(0):
        model = nn.Linear(3, 2)
    optimizer = fathom.optim.Adam(model.parameters(), lr=0.1, **options)

    @fathom.compile(backend=backend)
    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def snapshot(model, optimizer):
    saved = optimizer.state_dict()
    arrays = [np.array(v) for v in model.state_dict().values()]
    for entry in saved["state"].values():
        arrays += [np.array(entry[k]) for k in sorted(entry)]
    arrays += [
        np.zeros(0) if p.grad is None else np.array(p.grad.value()) for p in model.parameters()
    ]
    return [a.tobytes() for a in arrays]


class TestTraining:
    def test_options_change_without_a_trace(self, x, backend):
        model, optimizer, step = training(backend)
        step(x)
        optimizer.param_groups[0]["lr"] = 0.0
        before = [values(p) for p in model.parameters()]
        step(x)
        assert [values(p) for p in model.parameters()] == before
        assert len(step.plans) == 1

    def test_a_loaded_optimizer(self, x, backend):
        model, optimizer, step = training(backend)
        saved = optimizer.state_dict(), {k: np.array(v) for k, v in model.state_dict().items()}
        first = [step(x).item() for _ in range(3)]
        optimizer.load_state_dict(saved[0])
        model.load_state_dict(saved[1])
        assert [step(x).item() for _ in range(3)] == first

    def test_freezing_is_noticed(self, x, backend):
        model, _, step = training(backend)
        step(x)
        model.weight.requires_grad_(False)
        before = values(model.weight)
        step(x)
        assert values(model.weight) == before
        assert model.weight.grad is None
        assert len(step.plans) == 2

    def test_memory_rebound_to_another_shape_or_dtype(self, backend):
        w = nn.Parameter([1.0, 2.0])
        f = fathom.compile(lambda: (w * 2).detach(), backend=backend)
        assert values(f()) == [2.0, 4.0]
        w.data = np.array([5.0, 6.0, 7.0], np.float32)
        assert values(f()) == [10.0, 12.0, 14.0]
        w.data = np.array([1.0], np.float64)
        assert f().dtype == np.float64

    def test_gradients_add_up(self, x, backend):
        w = nn.Parameter([1.0, 1.0, 1.0])
        f = fathom.compile(lambda x: (w * x).sum().backward(), backend=backend)
        for i in range(1, 4):
            f(x)
            assert values(w.grad) == [1.0 * i, 2.0 * i, 3.0 * i]
        w.grad = None
        f(x)
        assert values(w.grad) == [1.0, 2.0, 3.0]
        assert len(f.plans) == 2  # with and without a gradient at entry

    def test_python_that_looks_at_gradients(self, x, backend):
        w = nn.Parameter([1.0, 1.0, 1.0])

        def run(x):
            if w.grad is not None:
                w.grad.zero_()
            (w * x).sum().backward()

        f = fathom.compile(run, backend=backend)
        for _ in range(3):
            f(x)
            assert values(w.grad) == [1.0, 2.0, 3.0]

    def test_zero_grad_to_zeros_and_no_step(self, x, backend):
        model, optimizer, _ = training(backend)

        def run(x):
            optimizer.zero_grad(set_to_none=False)
            return [p.grad for p in model.parameters()]

        f = fathom.compile(run, backend=backend)
        assert all((g.value() == 0).all() for g in f(x))
        assert all((p.grad.value() == 0).all() for p in model.parameters())

    def test_in_place_edits_of_parameters(self, backend):
        w = nn.Parameter([1.0, -2.0])

        @fathom.compile(backend=backend)
        def clip():
            with fathom.no_grad():
                w.clamp_(min=0.0)
                w.mul_(2.0)

        version = w.version
        clip()
        assert values(w) == [2.0, 0.0]
        assert w.version > version

    def test_what_is_made_inside_is_new_at_each_call(self, x, backend):
        def run(x):
            total = fathom.zeros(3)
            for _ in range(2):
                total += x
            return total

        f = fathom.compile(run, backend=backend)
        assert [values(f(x)) for _ in range(3)] == [[2.0, 4.0, 6.0]] * 3

    def test_arrays_that_are_edited(self, x, backend):
        total = np.zeros(3, np.float32)

        def outside(x):
            nonlocal total
            total += x
            return x

        f = fathom.compile(outside, backend=backend)
        f(x), f(x)
        assert total.tolist() == [2.0, 4.0, 6.0]

        def inside(x):
            made = np.zeros(3, np.float32)
            made += x
            return made

        with pytest.raises(TraceError, match=r"edits an array of NumPy's.*\n.*fathom.zeros"):
            fathom.compile(inside, backend=backend)(x)

    def test_edits_of_views(self, x, backend):
        def run(x):
            y = x * 1.5
            y[0] = 0.0
            return y

        assert values(fathom.compile(run, backend=backend)(x)) == [0.0, 3.0, 4.5]

        def through_a_view(x):
            y = x * 1.0
            y[:2].zero_()
            return y

        with pytest.raises(TraceError, match="in-place edit of a view"):
            fathom.compile(through_a_view, backend=backend)(x)

    def test_a_lazy_layer(self, x, backend):
        layer = nn.LazyLinear(2)
        f = fathom.compile(lambda x: layer(x).detach(), backend=backend)
        with pytest.raises(TraceError, match=r"(?s)a lazy layer.*model\(x\) with a first batch"):
            f(x)
        layer(x)
        assert f(x).shape == (2,)


# -- randomness ------------------------------------------------------------------------------------


class TestRandomness:
    def test_streams_go_on_as_in_eager(self, backend):
        layer, x = nn.Dropout(0.5), fathom.ones(20)

        def run(x):
            return layer(x) + fathom.randn(20)

        f = fathom.compile(run, backend=backend)
        with fathom.seed(1) as first:
            eager = [values(run(x)) for _ in range(3)]
        with fathom.seed(1) as second:
            assert [values(f(x)) for _ in range(3)] == eager
        assert first.state_dict() == second.state_dict()
        with fathom.seed(2):
            assert values(f(x)) != eager[0]

    def test_a_trace_does_not_move_a_stream(self, backend):
        with fathom.seed(1) as rng:
            held = rng.stream("dropout")
            fathom.compile(lambda x: F.dropout(x), backend=backend)(fathom.ones(4))
            assert rng.stream("dropout") is held
            assert held.index == 1

    def test_a_generator_of_ones_own(self, x, backend):
        def run(x):
            with fathom.seed(3):
                return x + fathom.randn(3)

        with pytest.raises(TraceError, match=r"from another Random than the current one"):
            fathom.compile(run, backend=backend)(x)

        def raw(x):
            return x + fathom.random.current().stream("mine").next().gumbel(size=3)

        with pytest.raises(TraceError, match=r"NumPy's generator"):
            fathom.compile(raw, backend=backend)(x)


# -- Python that asks for values -------------------------------------------------------------------


ASKS = {
    "if": lambda x: x if x.sum() > 0 else -x,
    "item": lambda x: x * x.max().item(),
    "float": lambda x: x * float(x[0]),
    "print": lambda x: print(x) or x,
    "numpy": lambda x: x * np.asarray(x),
    "tolist": lambda x: x.tolist(),
    "format": lambda x: f"{x.sum():.3f}",
    "while": lambda x: [x := x / 2 for _ in iter(lambda: bool((x > 1).any()), False)],
    "index": lambda x: [1, 2, 3][x.argmax()],
    "mask": lambda x: x[x > 1.0],
    "nonzero": lambda x: fathom.nonzero(x),
    "unique": lambda x: fathom.unique(x),
    "deepcopy": lambda x: __import__("copy").deepcopy(x),
}


@pytest.mark.parametrize("name", ASKS)
def test_python_that_asks_for_values(name, x, backend):
    f = fathom.compile(ASKS[name], backend=backend)
    with pytest.raises(TraceError) as caught:
        f(x)
    assert re.search(r"test_compile_footguns\.py:\d+", str(caught.value)), caught.value
    assert "try: " in str(caught.value)
    assert f.plans == []


# -- when something fails --------------------------------------------------------------------------


class TestFailures:
    def test_an_exception_during_a_trace_leaves_no_mark(self, x, backend):
        model, optimizer, _ = training(backend)
        norm = nn.BatchNorm1d(2)
        with fathom.seed(0) as rng:
            optimizer.zero_grad()
            model(x).sum().backward()
            optimizer.step()
            F.dropout(x)
            before = snapshot(model, optimizer), rng.state_dict(), values(norm.running_mean)
            grads = [p.grad for p in model.parameters()]

            @fathom.compile(backend=backend)
            def step(x):
                optimizer.zero_grad()
                out = norm(model(F.dropout(x)).reshape(1, 2).expand(4, 2) * fathom.randn(4, 2))
                out.sum().backward()
                optimizer.step()
                model.eval()
                model.mark = out
                raise KeyError("stop")

            for _ in range(2):
                with pytest.raises(KeyError):
                    step(x)
            assert (
                snapshot(model, optimizer),
                rng.state_dict(),
                values(norm.running_mean),
            ) == before
        assert [p.grad for p in model.parameters()] == grads
        assert model.training
        assert not hasattr(model, "mark")
        assert all(type(p.data) is np.ndarray for p in model.parameters())
        assert fathom.is_grad_enabled()
        model(x).sum().backward()  # still whole

    def test_a_label_out_of_range(self, backend):
        model, optimizer, _ = training(backend)

        def run(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        step, x = fathom.compile(run, backend=backend), fathom.ones(4, 3)
        step(x, fathom.tensor([0, 1, 0, 1]))
        before = snapshot(model, optimizer)
        bad = fathom.tensor([0, 1, 7, 1])
        with pytest.raises(AxisError) as eager:
            F.cross_entropy(model(x), bad)
        with pytest.raises(AxisError) as found:
            step(x, bad)
        assert str(found.value).split("\n")[0] == str(eager.value).split("\n")[0]
        assert snapshot(model, optimizer) == before
        step(x, fathom.tensor([0, 1, 0, 1]))

    def test_an_update_that_is_not_finite(self, x, backend):
        model, optimizer, step = training(backend)
        optimizer.check_finite = True
        step(x)
        before = [values(p) for p in model.parameters()]
        with pytest.raises(fathom.engine.errors.DivergedError, match="the weights were left"):
            step(x * np.inf)
        assert [values(p) for p in model.parameters()] == before

    def test_a_shape_error_is_the_same(self, x, backend):
        f = fathom.compile(lambda x: x @ fathom.ones(2, 2), backend=backend)
        with pytest.raises(fathom.engine.errors.ShapeError) as found:
            f(x)
        with pytest.raises(fathom.engine.errors.ShapeError) as eager:
            f.eager(x)
        assert str(found.value) == str(eager.value)

    def test_too_many_traces_are_reported(self, x, backend):
        f = fathom.compile(lambda x, k: x * k, backend=backend)
        with pytest.warns(RetraceWarning, match=r"traced 8 times: new arguments .*int"):
            for k in range(8):
                f(x, k)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for k in range(8, 12):
                f(x, k)

    def test_old_plans_are_forgotten(self, x, backend):
        f = fathom.compile(lambda x, k: x * k, backend="numpy")
        with pytest.warns(RetraceWarning):
            for k in range(100):
                f(x, k)
        assert len(f.plans) == 64
        assert sum(map(len, f._entries.values())) == 64


# -- together with others --------------------------------------------------------------------------


class TestTogether:
    def test_compiled_in_compiled(self, x, backend):
        inner = fathom.compile(lambda x: x * 2, backend=backend)
        outer = fathom.compile(lambda x: inner(x) + 1, backend=backend)
        assert values(outer(x)) == [3.0, 5.0, 7.0]
        assert inner.plans == []  # it became part of the other

    def test_inside_of_transforms_it_runs_eagerly(self, x, backend):
        f = fathom.compile(lambda x: (x * x).sum(), backend=backend)
        assert values(grad(f)(x)) == [2.0, 4.0, 6.0]
        assert values(vmap(f)(x.reshape(3, 1))) == [1.0, 4.0, 9.0]
        assert f.plans == []

    def test_no_grad_is_another_plan(self, x, backend):
        w = nn.Parameter([1.0, 1.0, 1.0])
        f = fathom.compile(lambda x: (w * x).detach(), backend=backend)
        f(x)
        with fathom.no_grad():
            f(x)
        f(x)
        assert len(f.plans) == 2

    def test_transforms_inside(self, backend):
        with fathom.seed(0):
            model, x = nn.Linear(3, 1), fathom.randn(4, 3)
        w = fathom.tensor([1.0, 2.0, 3.0])

        def loss(parameters, y):
            return functional_call(model, parameters, (y,)).square().sum()

        def run(x, v):
            each = per_sample_grad(loss)(dict(model.named_parameters()), x)
            single = grad(lambda u: (u**3).sum())(v)
            rows = vmap(grad(lambda u: (u**3).sum()))(x)
            curve = hvp(lambda u: (u**3).sum(), (v,), (v,))
            return each["weight"].detach(), single, rows, curve

        f = fathom.compile(run, backend=backend)
        for _ in range(2):
            found, wanted = f(x, w), run(x, w)
            for a, b in zip(found, wanted, strict=True):
                a, b = (t[0] if isinstance(t, tuple) else t for t in (a, b))
                np.testing.assert_allclose(a.value(), b.value(), rtol=1e-5)
        assert len(f.plans) == 1

    def test_methods(self, x, backend):
        class Model(nn.Module):
            def __init__(self, k):
                super().__init__()
                self.k = k

            @fathom.compile(backend=backend)
            def scaled(self, x):
                return x * self.k

        a, b = Model(2.0), Model(3.0)
        assert values(a.scaled(x)) == [2.0, 4.0, 6.0]
        assert values(b.scaled(x)) == [3.0, 6.0, 9.0]
        a.k = 4.0
        assert values(a.scaled(x)) == [4.0, 8.0, 12.0]

    def test_a_module_itself(self, x, backend):
        with fathom.seed(0):
            model = nn.Linear(3, 2)
        f = fathom.compile(model, backend=backend)
        with fathom.no_grad():
            np.testing.assert_allclose(f(x).value(), model(x).value(), rtol=1e-6)
            model.weight.fill_(0.0)
            np.testing.assert_allclose(f(x).value(), model.bias.value(), rtol=1e-6)

    def test_a_generator_function(self, x, backend):
        def run(x):
            yield x

        with pytest.raises(TraceError, match="a generator"):
            fathom.compile(run, backend=backend)(x)


# -- memory ----------------------------------------------------------------------------------------


def test_memory_is_flat(backend):
    _, _, step = training(backend)
    x = fathom.ones(8, 3)
    for _ in range(100):
        step(x)
    gc.collect()
    before = sys.getallocatedblocks()  # of Python: every array has some
    for _ in range(10_000):
        step(x)
    gc.collect()
    grown = sys.getallocatedblocks() - before
    assert grown < 500, grown
    assert len(step.plans) == 1


def test_nothing_of_a_trace_stays(backend):
    from fathom.compile.traced import Traced

    model, optimizer, step = training(backend)
    step(fathom.ones(8, 3))
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is Traced]
    gone = weakref.ref(step)
    del step
    gc.collect()
    assert gone() is None
    assert model is not None and optimizer is not None
