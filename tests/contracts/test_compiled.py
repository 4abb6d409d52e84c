"""Compiled training against eager training: losses, optimizers, wrappers and whole models.

Every layer is compared by its own harness (`tests/unit/nn/layer_harness.py`); here is the rest.
NumPy back end: the same bits in outputs, weights, buffers, gradients and random streams. Native:
1e-5 of the values, and 1e-4 in the loss after 100 steps.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile import TraceError
from fathom.nn import functional as F
from fathom.nn import objectives
from fathom.optim import swa_utils
from tests.compiled import BACKENDS, alike, check_training

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def classes(count: int, *shape: int) -> Any:
    return np.random.default_rng(5).integers(0, count, shape)


X = draw(8, 5)
MLP = lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))  # noqa: E731
SIGNS = np.sign(draw(8, 3, seed=2))
ONES = (draw(8, 3, seed=3) > 0).astype(np.float32)
EVEN = np.full((8, 3), 1 / 3, np.float32)

LOSSES: dict[str, tuple[Any, Any]] = {
    "mse": (nn.MSELoss(), draw(8, 3)),
    "l1": (nn.L1Loss(), draw(8, 3)),
    "huber": (nn.HuberLoss(), draw(8, 3)),
    "smooth_l1": (nn.SmoothL1Loss(), draw(8, 3)),
    "log_cosh": (nn.LogCoshLoss(), draw(8, 3)),
    "quantile": (nn.QuantileLoss(0.3), draw(8, 3)),
    "cross_entropy": (nn.CrossEntropyLoss(), classes(3, 8)),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.1), classes(3, 8)),
    "weighted": (nn.CrossEntropyLoss(weight=[1.0, 2.0, 3.0], ignore_index=1), classes(3, 8)),
    "soft_labels": (nn.CrossEntropyLoss(), EVEN),
    "nll": (nn.NLLLoss(), classes(3, 8)),
    "kl": (nn.KLDivLoss(reduction="batchmean"), EVEN),
    "bce_logits": (nn.BCEWithLogitsLoss(), ONES),
    "focal": (nn.FocalLoss(), classes(3, 8)),
    "poisson": (nn.PoissonNLLLoss(), np.abs(draw(8, 3))),
    "multi_margin": (nn.MultiMarginLoss(), classes(3, 8)),
    "multilabel_margin": (nn.MultiLabelMarginLoss(), np.tile([1, 0, -1], (8, 1))),
    "multilabel_soft": (nn.MultiLabelSoftMarginLoss(), ONES),
    "soft_margin": (nn.SoftMarginLoss(), SIGNS),
    "squared_hinge": (nn.SquaredHingeLoss(), SIGNS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, backend):
    loss, target = LOSSES[name]
    given = fathom.tensor(target)
    check_training(MLP, [X], backend=backend, loss=lambda out: loss(out, given), long=100)


def test_losses_of_other_shapes(backend):
    def gaussian(out):
        return F.gaussian_nll_loss(out[:, :1], out[:, 1:2], F.softplus(out[:, 2:]) * 1e-6)

    def boxes(out):
        low, size = out[:, :2], F.softplus(out[:, 1:3])
        first = fathom.concatenate([low, low + size], 1)
        return objectives.generalized_box_iou_loss(first, first.detach() + 0.3, reduction="mean")

    def cosine(out):
        return F.cosine_embedding_loss(out, out.detach() * 2 + 1, fathom.tensor([1, -1] * 4))

    def ctc(out):
        frames = F.log_softmax(out, -1).reshape(4, 2, 3)
        return F.ctc_loss(frames, [[1, 2], [1, 1]], [4, 4], [2, 1])

    def probabilities(out):
        return F.binary_cross_entropy(out.sigmoid(), fathom.tensor(ONES))

    for loss in (gaussian, boxes, cosine, ctc, probabilities):
        check_training(
            MLP, [X], backend=backend, loss=loss, close=1e-4 if backend == "native" else 0.0,
            long=100,
        )  # fmt: skip


OPTIMIZERS: dict[str, Any] = {
    "SGD": {},
    "SGD momentum": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    "Adadelta": {},
    "Adagrad": {"lr_decay": 0.1},
    "Adam": {"amsgrad": True, "weight_decay": 0.01},
    "AdamW": {},
    "Adamax": {},
    "LAMB": {},
    "Lion": {},
    "NAdam": {},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "SGD maximize": {"maximize": True},
}
TWICE: dict[str, Any] = {  # the first steps differ
    "Rprop": {},
    "SGD dampened": {"momentum": 0.9, "dampening": 0.1},
    "RAdam": {},
}


@pytest.mark.parametrize("name", [*OPTIMIZERS, *TWICE])
def test_optimizers(name, backend):
    options = {**OPTIMIZERS, **TWICE}[name]
    make = getattr(fathom.optim, name.split()[0])
    check_training(
        MLP, [X], backend=backend, optimizer=lambda ps: make(ps, lr=0.01, **options), steps=4,
        long=100, plans=2 if name in TWICE else 1, close=1e-4 if backend == "native" else 0.0,
    )  # fmt: skip


def both_ways(make, backend, steps=4, plans=1, close=0.0):
    """`make()` gives (step, tensors to compare); eager and compiled."""
    with fathom.seed(1):
        eager, state = make()
    with fathom.seed(1):
        other, found = make()
    compiled = fathom.compile(other, backend=backend)
    for number in range(steps):
        a, b = eager(), compiled()
        tolerance = max(close, 1e-5) if backend == "native" else close
        alike(a.detach().value(), b.value(), tolerance, f"step {number}: loss")
        for i, (p, q) in enumerate(zip(state(), found(), strict=True)):
            alike(p.value(), q.value(), tolerance, f"step {number}: tensor {i}")
    assert len(compiled.plans) <= plans, compiled.traces
    return compiled


def regression(make_optimizer):
    model = MLP()
    x, y = fathom.tensor(X), fathom.tensor(draw(8, 3, seed=9))
    return model, make_optimizer(model.parameters()), lambda: ((model(x) - y) ** 2).mean()


def test_parameter_groups_and_a_frozen_layer(backend):
    def make():
        model = MLP()
        model[0].bias.requires_grad_(False)
        groups = [{"params": [model[0].weight], "lr": 0.1}, {"params": model[2].parameters()}]
        optimizer = fathom.optim.Adam(groups, lr=0.01)

        def step():
            optimizer.zero_grad()
            loss = model(fathom.tensor(X)).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, lambda: list(model.parameters())

    both_ways(make, backend)


@pytest.mark.parametrize("norm_type", [1.0, 2.0, np.inf])
def test_clipping_by_norm(norm_type, backend):
    def make():
        model, optimizer, loss_of = regression(lambda ps: fathom.optim.SGD(ps, lr=0.1))

        def step():
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1, norm_type)
            optimizer.step()
            return loss.detach() + norm

        return step, lambda: [*model.parameters(), *(p.grad for p in model.parameters())]

    both_ways(make, backend)


def test_clipping_by_value(backend):
    def make():
        model, optimizer, loss_of = regression(lambda ps: fathom.optim.SGD(ps, lr=0.1))

        def step():
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            nn.utils.clip_grad_value_(model.parameters(), 0.01)
            optimizer.step()
            return loss

        return step, lambda: [*model.parameters(), *(p.grad for p in model.parameters())]

    both_ways(make, backend)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam(adaptive, backend):
    def make():
        model, optimizer, loss_of = regression(
            lambda ps: fathom.optim.SAM(ps, fathom.optim.SGD, lr=0.1, adaptive=adaptive)
        )

        def closure():
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            return loss

        return lambda: optimizer.step(closure).detach(), lambda: list(model.parameters())

    both_ways(make, backend)


def test_lookahead_has_a_plan_for_each_kind_of_step(backend):
    def make():
        model, optimizer, loss_of = regression(
            lambda ps: fathom.optim.Lookahead(fathom.optim.SGD(ps, lr=0.1), k=2)
        )

        def step():
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            optimizer.step()
            return loss

        return step, lambda: [*model.parameters(), *map(fathom.Tensor, optimizer.slow)]

    both_ways(make, backend, steps=6, plans=2)


@pytest.mark.parametrize("average", [None, swa_utils.get_ema_avg_fn(0.9)], ids=["mean", "ema"])
def test_averages_of_weights(average, backend):
    def make():
        model, optimizer, loss_of = regression(lambda ps: fathom.optim.SGD(ps, lr=0.1))
        averaged = swa_utils.AveragedModel(model, avg_fn=average)

        def step():
            optimizer.zero_grad()
            loss = loss_of()
            loss.backward()
            optimizer.step()
            averaged.update_parameters(model)
            return loss

        return step, lambda: [*model.parameters(), *averaged.module.parameters()]

    both_ways(make, backend, plans=2)  # the first weights are copied


def test_schedulers_do_not_trace_anew(backend):
    model, optimizer, loss_of = regression(lambda ps: fathom.optim.Adam(ps, lr=0.1))
    twin = copy.deepcopy(model)
    reference = fathom.optim.Adam(twin.parameters(), lr=0.1)
    x, y = fathom.tensor(X), fathom.tensor(draw(8, 3, seed=9))

    @fathom.compile(backend=backend)
    def step():
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()

    schedules = [fathom.optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (optimizer, reference)]
    for _ in range(5):
        step()
        reference.zero_grad()
        ((twin(x) - y) ** 2).mean().backward()
        reference.step()
        for schedule in schedules:
            schedule.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        alike(q.value(), p.value(), 1e-5 if backend == "native" else 0.0, "weights")
    assert len(step.plans) == 1


@pytest.mark.parametrize("kind", ["LBFGS", "Newton", "NewtonCG", "LevenbergMarquardt"])
def test_optimizers_that_search_say_what_to_do(kind, backend):
    w = nn.Parameter([3.0, -2.0])
    optimizer = getattr(fathom.optim, kind)([w])

    def closure():
        optimizer.zero_grad()
        loss = (w - 1.0) ** 2 if kind == "LevenbergMarquardt" else ((w - 1.0) ** 4).sum()
        if not optimizer.wants_graph:
            loss.backward()
        return loss

    step = fathom.compile(lambda: optimizer.step(closure), backend=backend)
    with pytest.raises(
        TraceError, match=r"goes by the values of the loss.*\n.*compile the closure"
    ):
        step()
    np.testing.assert_array_equal(w.value(), [3.0, -2.0])
    assert w.grad is None


def test_a_grad_scaler_stays_outside(backend):
    _, optimizer, loss_of = regression(lambda ps: fathom.optim.SGD(ps, lr=0.1))
    scaler = fathom.optim.GradScaler(init_scale=8.0)

    def whole():
        scaler.scale(loss_of()).backward()
        scaler.step(optimizer)

    with pytest.raises(
        TraceError, match=r"GradScaler.*\n.*call scaler.step and scaler.update outside"
    ):
        fathom.compile(whole, backend=backend)()

    @fathom.compile(backend=backend)
    def gradients():
        optimizer.zero_grad()
        loss = loss_of()
        scaler.scale(loss).backward()
        return loss

    losses = []
    for _ in range(20):
        losses.append(gradients().item())
        scaler.step(optimizer)
        scaler.update()
    assert losses[-1] < losses[0]
    assert len(gradients.plans) == 1


def test_batch_norm_with_a_plain_average(backend):
    make = lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, momentum=None))  # noqa: E731
    check_training(make, [X], backend=backend, steps=4)


def test_instance_norm_with_running_statistics(backend):
    make = lambda: nn.InstanceNorm1d(3, affine=True, track_running_stats=True)  # noqa: E731
    check_training(make, [draw(4, 3, 6)], backend=backend)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_embedding_bags_with_offsets(mode, backend):
    make = lambda: nn.EmbeddingBag(10, 4, mode=mode, padding_idx=0)  # noqa: E731
    check_training(make, [classes(10, 7), np.array([0, 3, 3])], backend=backend)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_embeddings_of_limited_length(kind, backend):
    check_training(lambda: kind(10, 4, max_norm=0.5), [classes(10, 3, 4)], backend=backend)


def test_the_routing_of_a_mixture_is_set_at_each_call(backend):
    with fathom.seed(0):
        layer = nn.MixtureOfExperts(4, 6, 3, k=2)
    step = fathom.compile(lambda x: layer(x).detach(), backend=backend)
    for i in range(3):
        x = fathom.tensor(draw(6, 4, seed=i))
        step(x)
        found = layer.routing
        layer(x)
        np.testing.assert_array_equal(found.experts, layer.routing.experts)
        np.testing.assert_allclose(
            found.aux_loss.value(), layer.routing.aux_loss.value(), rtol=1e-5
        )
    assert len(step.plans) == 1


def test_lengths_decide_shapes(backend):
    with fathom.seed(0):
        layer = nn.GRU(3, 4, batch_first=True)
    x = fathom.tensor(draw(2, 5, 3))

    def last(x, lengths):
        packed = nn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return nn.pad_packed_sequence(layer(packed)[0], batch_first=True)[0].detach()

    step = fathom.compile(last, backend=backend)
    for lengths in ([5, 2], [3, 4], [5, 2]):
        np.testing.assert_allclose(
            step(x, lengths).value(), last(x, lengths).value(), rtol=1e-5, atol=1e-6
        )
    assert len(step.plans) == 2
    with pytest.raises(TraceError, match="pass numbers that decide shapes as Python numbers"):
        step(x, fathom.tensor([5, 2]))


MODELS: dict[str, Any] = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(5, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 3)),
        [X],
    ),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64, 3),
        ),
        [draw(4, 1, 8, 8)],
    ),
    "lstm": (lambda: nn.LSTM(5, 8, batch_first=True), [draw(3, 6, 5)]),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True),
        [draw(3, 5, 8)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_after_a_hundred_steps(name, backend):
    make, arrays = MODELS[name]

    def run(wrap):
        with fathom.seed(4):
            model, x = make(), fathom.tensor(arrays[0])
            # the slope of a key's bias is rounding alone: a larger eps, not to blow it up to 1
            optimizer = fathom.optim.Adam(model.parameters(), lr=1e-3, eps=1e-5)

            @wrap
            def step():
                optimizer.zero_grad()
                out = model(x)
                out = out[0] if isinstance(out, tuple) else out
                loss = ((out - 1.0) ** 2).mean()
                loss.backward()
                optimizer.step()
                return loss.detach()

            return [step().item() for _ in range(100)], step

    eager, _ = run(lambda f: f)
    found, step = run(fathom.compile(backend=backend))
    assert eager[-1] < eager[0]
    np.testing.assert_allclose(found, eager, rtol=0.0 if backend == "numpy" else 1e-4)
    assert len(step.plans) == 1
