"""One call a layer: everything that must hold for any layer whatever.

    run_layer_test(lambda: nn.Linear(3, 2), (5, 3), parameters=8, output_shape=(5, 2))

builds the layer several times (seeded) and checks shape and dtype, the number of parameters, the
round trips (state_dict, spec, deepcopy), train and eval, a training step, gradcheck in float64,
per-sample gradients by `vmap(grad(functional_call))` against a loop, and three steps of training
compiled against eager (`tests/compiled.py`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.func import functional_call, grad, vmap
from tests.compiled import BACKENDS, check_training

Shape = tuple[int, ...]
NARROW = ("BCELoss", "GaussianNLLLoss")  # a hundred steps lead out of their inputs' range


def run_layer_test(
    make_layer: Callable[[], nn.Module],
    *input_shapes: Shape,
    parameters: int | None = None,
    output_shape: Any = None,
    inputs: Sequence[Any] | None = None,
    options: dict[str, Any] | None = None,
    tolerance: float = 1e-6,
    training_only: bool = False,
    spec: bool = True,
    gradcheck: bool = True,
    per_sample: bool = True,
    learns: bool = True,
    batch_axis: int = 0,
    scale: float = 1.0,
    compiled: bool = True,
    compiled_close: float = 0.0,
) -> nn.Module:
    """Run every check; returns a layer for further ones.

    input_shapes : shapes of the inputs, drawn from a normal distribution times `scale`; or
        `inputs`, arrays to use as they are (whole numbers stay whole numbers).
    options : keyword arguments of the call.
    output_shape : shape of the output, a list of them for several (in order of appearance).
    training_only : the layer is the identity in eval mode and must change its input in train mode.
    spec : the layer can be stored by `nn.to_spec`.
    gradcheck : False where the output is no differentiable function (masks are seeded: fine).
    per_sample : False where samples see each other, or the output has no batch axis.
    learns : False where a step need not change each parameter.
    batch_axis : axis of the samples in all inputs and outputs.
    compiled : False where `fathom.compile` must refuse (shapes that depend on values).
    compiled_close : what native code may be off where small differences grow.
    """
    test = _LayerTest(make_layer, input_shapes, inputs, options or {}, scale)
    test.shapes(output_shape, parameters)
    test.state_round_trip()
    if spec:
        test.spec_round_trip()
    test.modes(training_only)
    test.deepcopy()
    test.step(learns)
    if gradcheck:
        test.gradcheck()
    if per_sample:
        test.per_sample(batch_axis, tolerance)
    for backend in BACKENDS if compiled else ():
        close = compiled_close if backend == "native" else 0.0
        name = type(test.build()).__name__
        long = 100 if name.endswith("Loss") and name not in NARROW else 0
        check_training(
            test.build, test.arrays, test.options, backend=backend, close=close, long=long
        )
    return test.build()


def leaves(tree: Any) -> list[Any]:
    """The tensors of an output, nested tuples, lists and dicts taken apart."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, tuple | list):
        return [leaf for part in tree for leaf in leaves(part)]
    return [] if tree is None else [tree]


class _LayerTest:
    def __init__(self, make: Any, shapes: Any, inputs: Any, options: Any, scale: float) -> None:
        rng = np.random.default_rng(len(shapes) + 11)
        drawn = [rng.standard_normal(s) * scale for s in shapes]
        self.arrays = [np.asarray(a) for a in inputs] if inputs is not None else drawn
        self.make, self.options = make, options

    # -- helpers -----------------------------------------------------------------------------

    def build(self, dtype: Any = np.float32, seed: int = 0) -> nn.Module:
        """A new layer whose lazy sizes, if any, are filled in."""
        with fathom.seed(seed):
            layer = self.make()
            with fathom.no_grad():
                training = layer.training
                if any(p.size == 0 for p in layer.parameters()) or not list(layer.parameters()):
                    layer.eval()(*self.tensors(np.float32), **self.options)
                    layer.train(training)
        return layer.to(dtype)

    def tensors(self, dtype: Any, grad: bool = False) -> list[Any]:
        return [
            fathom.Tensor(a.astype(dtype), grad) if a.dtype.kind == "f" else fathom.Tensor(a)
            for a in self.arrays
        ]

    def call(self, layer: Any, inputs: Any, seed: int = 5) -> list[Any]:
        with fathom.seed(seed):
            return leaves(layer(*inputs, **self.options))

    def values(self, layer: Any, dtype: Any = np.float64) -> list[np.ndarray]:
        return [np.array(t.value()) for t in self.call(layer, self.tensors(dtype))]

    # -- checks ------------------------------------------------------------------------------

    def shapes(self, output_shape: Any, parameters: int | None) -> None:
        for dtype in (np.float32, np.float64):
            layer = self.build(dtype)
            outputs = self.call(layer, self.tensors(dtype))
            kinds = {t.dtype for t in outputs if t.dtype.kind == "f"}
            assert kinds <= {np.dtype(dtype)}, f"{layer}: {dtype.__name__} in, {kinds} out"
            assert all(np.isfinite(t.value()).all() for t in outputs if t.dtype.kind == "f")
            if output_shape is not None:
                wanted = output_shape if isinstance(output_shape, list) else [output_shape]
                found = [tuple(t.shape) for t in outputs]
                assert found == [tuple(s) for s in wanted], f"{layer}: shapes {found}"
            if parameters is not None:
                count = sum(p.size for p in layer.parameters())
                assert count == parameters, f"{layer}: {count} parameters"
        assert type(layer).__name__ in repr(layer)
        assert type(layer).__doc__, f"{type(layer).__name__} has no docstring"

    def state_round_trip(self) -> None:
        first, second = self.build(np.float64), self.build(np.float64, seed=1)
        names = [n for n, _ in first.named_parameters()]
        assert [n for n in first.state_dict() if n in names] == names
        self.values(first)  # running statistics move
        second.load_state_dict(first.state_dict())
        first.eval(), second.eval()
        same(self.values(first), self.values(second), "state_dict round trip")

    def spec_round_trip(self) -> None:
        layer = self.build()
        spec = json.loads(json.dumps(nn.to_spec(layer)))
        with fathom.seed(9):
            twin = nn.from_spec(spec)
        assert repr(twin) == repr(layer), "spec round trip: repr"
        assert nn.to_spec(twin) == spec, "spec round trip: spec"
        twin.load_state_dict(layer.state_dict())
        for training in (True, False):
            a, b = layer.train(training), twin.train(training)
            same(self.values(a.double()), self.values(b.double()), "spec round trip: values")

    def modes(self, training_only: bool) -> None:
        layer = self.build(np.float64)
        layer.eval()
        assert not any(m.training for m in layer.modules())
        out = self.values(layer)
        same(out, self.values(layer), "eval mode is not repeatable")
        if training_only:
            same(out, self.arrays[:1], "eval mode is not the identity")
            moved = self.values(layer.train())
            assert any((a != b).any() for a, b in zip(moved, out, strict=True)), "nothing changed"
        layer.train()
        assert all(m.training for m in layer.modules())

    def deepcopy(self) -> None:
        layer = self.build(np.float64)
        twin = copy.deepcopy(layer)
        before = self.values(copy.deepcopy(layer).eval())
        for p in twin.parameters():
            p.data[...] += 1.0
        same(before, self.values(layer.eval()), "a deepcopy shares memory")

    def step(self, learns: bool) -> None:
        layer = self.build(np.float64)
        own = dict(layer.named_parameters())
        outputs = [t for t in self.call(layer, self.tensors(np.float64)) if t.requires_grad]
        if not outputs:
            assert not own or not learns, f"{layer}: nothing to train"
            return
        rng = np.random.default_rng(3)
        targets = [rng.standard_normal(t.shape) for t in outputs]
        first = loss_of(outputs, targets)
        first.backward()
        slopes = [np.abs(p.grad.value()).max() for p in own.values() if p.grad is not None]
        lr = 1e-3 / max(1.0, *slopes, 1.0)
        for name, p in own.items():
            if learns:
                assert p.grad is not None and (p.grad.value() != 0).any(), f"{name}: no gradient"
            if p.grad is not None:
                assert p.grad.shape == p.shape and p.grad.dtype == p.dtype
                p.data -= lr * p.grad.value()
                fathom.engine.tensor.mark_written(p)
        again = [t for t in self.call(layer, self.tensors(np.float64)) if t.requires_grad]
        second = loss_of(again, targets)
        assert np.isfinite(second.item())
        assert second.item() <= first.item() + 1e-9, f"a step raised the loss: {first} -> {second}"

    def gradcheck(self) -> None:
        layer = self.build(np.float64)
        names = [n for n, p in layer.named_parameters()]
        inputs = self.tensors(np.float64, grad=True)
        weights = [fathom.Tensor(np.array(p.value()), True) for p in layer.parameters()]
        buffers = [fathom.Tensor(np.array(b.value())) for b in layer.buffers()]
        whole = [n for n, _ in layer.named_buffers()]

        def function(*values: Any) -> Any:
            xs, ps = values[: len(inputs)], values[len(inputs) :]
            state = dict(zip(names, ps, strict=True))
            state |= {n: b.clone() for n, b in zip(whole, buffers, strict=True)}
            with fathom.seed(5):
                out = leaves(functional_call(layer, state, xs, self.options))
            return tuple(t for t in out if t.dtype.kind == "f")

        if any(t.requires_grad for t in (*inputs, *weights)):
            fathom.autograd.gradcheck(function, (*inputs, *weights))

    def per_sample(self, axis: int, tolerance: float) -> None:
        layer = self.build(np.float64).eval()
        state = {n: fathom.Tensor(np.array(p.value())) for n, p in layer.named_parameters()}
        inputs = self.tensors(np.float64)
        cotangents = [
            np.random.default_rng(4).standard_normal(t.shape) for t in self.call(layer, inputs)
        ]
        count = inputs[0].shape[axis]
        us = [fathom.Tensor(np.moveaxis(u, axis, 0).copy()) for u in cotangents]
        xs = [fathom.Tensor(np.moveaxis(x.value(), axis, 0).copy()) for x in inputs]

        def loss(params: Any, x: Any, *rest: Any) -> Any:
            more, weights = rest[: len(xs) - 1], rest[len(xs) - 1 :]
            single = tuple(v.unsqueeze(axis) for v in (x, *more))
            out = leaves(functional_call(layer, params, single, self.options))
            total = fathom.zeros((), dtype=np.float64)
            for t, w in zip(out, weights, strict=True):
                if t.dtype.kind == "f":
                    total = total + (t.squeeze(axis) * w).sum()
            return total

        numbers = (0, 1) if xs[0].dtype.kind == "f" else (0,)
        if not state and numbers == (0,):
            return
        both = grad(loss, numbers)
        fast = leaves(vmap(both, (None, *(0 for _ in (*xs, *us))))(state, *xs, *us))
        for i in range(count):
            slow = leaves(both(state, *(v[i] for v in (*xs, *us))))
            for a, b in zip(fast, slow, strict=True):
                np.testing.assert_allclose(
                    a.value()[i], b.value(), rtol=tolerance, atol=tolerance * 1e-3,
                    err_msg=f"per-sample gradients of sample {i}",
                )  # fmt: skip


def loss_of(outputs: Any, targets: Any) -> Any:
    """The mean squared distance of all outputs to all targets."""
    total = fathom.zeros((), dtype=np.float64)
    for out, target in zip(outputs, targets, strict=True):
        total = total + ((out - target) * (out - target)).mean()
    return total


def same(first: Any, second: Any, what: str) -> None:
    assert len(first) == len(second), what
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-12, err_msg=what)
