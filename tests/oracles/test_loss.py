"""Losses against PyTorch: value, gradient and second gradient."""

import itertools

import numpy as np
import pytest

import fathom
from fathom.nn import functional as F

torch = pytest.importorskip("torch")

CLASSES = 4
SHAPES = [(CLASSES,), (5, CLASSES), (3, CLASSES, 2), (2, CLASSES, 3, 2)]
REDUCTIONS = ["mean", "sum", "none"]
MIXES = list(itertools.product([False, True], [0.0, 0.3]))  # weighted, smoothing


def compare(ours, theirs, x, cotangent_seed=7):
    """Both losses of the same logits agree in value, gradient and second gradient."""
    rng = np.random.default_rng(cotangent_seed)
    a = fathom.tensor(x, requires_grad=True)
    b = torch.tensor(x, requires_grad=True)
    loss_a, loss_b = ours(a), theirs(b)
    assert loss_a.dtype == x.dtype
    assert loss_a.shape == tuple(loss_b.shape)
    np.testing.assert_allclose(loss_a.detach(), loss_b.detach(), rtol=1e-12, atol=1e-13)

    u = rng.standard_normal(loss_a.shape)
    v = rng.standard_normal(x.shape)
    (grad_a,) = fathom.autograd.grad(loss_a, a, fathom.tensor(u), create_graph=True)
    (grad_b,) = torch.autograd.grad(loss_b, b, torch.tensor(u), create_graph=True)
    np.testing.assert_allclose(grad_a.detach(), grad_b.detach(), rtol=1e-11, atol=1e-13)

    (second_a,) = fathom.autograd.grad(grad_a, a, fathom.tensor(v))
    (second_b,) = torch.autograd.grad(grad_b, b, torch.tensor(v))
    np.testing.assert_allclose(second_a, second_b, rtol=1e-10, atol=1e-13)


def logits(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape) * 3


def labels_for(shape, seed=1):
    rest = shape[:0] if len(shape) == 1 else shape[:1] + shape[2:]
    return np.asarray(np.random.default_rng(seed).integers(0, CLASSES, rest))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("weighted", "smoothing"), MIXES)
@pytest.mark.parametrize("ignore_index", [-100, 1])
def test_cross_entropy_of_indices(shape, reduction, weighted, smoothing, ignore_index):
    weight = np.array([0.5, 2.0, 1.0, 0.1]) if weighted else None
    labels = labels_for(shape)
    if labels.ndim == 0:
        labels = np.asarray(2)  # the only row must not be the ignored one
    else:
        labels.flat[:2] = (1, 2)  # something is ignored, something is not
    options = {
        "reduction": reduction, "label_smoothing": smoothing, "ignore_index": ignore_index,
    }  # fmt: skip
    compare(
        lambda x: F.cross_entropy(x, labels, weight, **options),
        lambda x: torch.nn.functional.cross_entropy(
            x, torch.tensor(labels), None if weight is None else torch.tensor(weight), **options
        ),
        logits(shape),
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("weighted", "smoothing"), MIXES)
def test_cross_entropy_of_probabilities(shape, reduction, weighted, smoothing):
    weight = np.array([0.5, 2.0, 1.0, 0.1]) if weighted else None
    axis = 0 if len(shape) == 1 else 1
    target = np.exp(logits(shape, seed=3))
    target /= target.sum(axis=axis, keepdims=True)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    compare(
        lambda x: F.cross_entropy(x, target, weight, **options),
        lambda x: torch.nn.functional.cross_entropy(
            x, torch.tensor(target), None if weight is None else torch.tensor(weight), **options
        ),
        logits(shape),
    )


def test_cross_entropy_differentiates_in_the_target_probabilities():
    target = np.full((3, CLASSES), 1 / CLASSES)
    a, b = fathom.tensor(target, requires_grad=True), torch.tensor(target, requires_grad=True)
    x = logits((3, CLASSES))
    F.cross_entropy(fathom.tensor(x), a, label_smoothing=0.2).backward()
    torch.nn.functional.cross_entropy(torch.tensor(x), b, label_smoothing=0.2).backward()
    np.testing.assert_allclose(a.grad, b.grad, rtol=1e-12)


def test_cross_entropy_when_everything_is_ignored_is_nan_as_in_torch():
    x, labels = logits((2, CLASSES)), np.array([1, 1])
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(x), torch.tensor(labels), ignore_index=1
    )
    assert np.isnan(float(theirs))
    assert np.isnan(F.cross_entropy(x, labels, ignore_index=1))


def test_cross_entropy_of_huge_logits():
    compare(
        lambda x: F.cross_entropy(x, np.array([0, 1])),
        lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 1])),
        np.array([[1e4, -1e4, 0.0], [800.0, 0.0, -800.0]]),
    )


@pytest.mark.parametrize("module", [True, False], ids=["module", "function"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4,), (3, 2), (2, 3, 2)], ids=str)
def test_mse_loss(shape, reduction, module):
    target = logits(shape, seed=5)
    ours = fathom.nn.MSELoss(reduction) if module else lambda x, y: F.mse_loss(x, y, reduction)
    compare(
        lambda x: ours(x, fathom.tensor(target)),
        lambda x: torch.nn.functional.mse_loss(x, torch.tensor(target), reduction=reduction),
        logits(shape),
    )


def test_cross_entropy_module_takes_the_same_options():
    options = {"ignore_index": 2, "reduction": "sum", "label_smoothing": 0.1}
    weight, labels, x = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 2, 3]), logits((3, CLASSES))
    ours = fathom.nn.CrossEntropyLoss(fathom.tensor(weight), **options)
    theirs = torch.nn.CrossEntropyLoss(torch.tensor(weight), **options)
    compare(lambda z: ours(z, labels), lambda z: theirs(z, torch.tensor(labels)), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_keeps_the_float_type(dtype):
    x = fathom.tensor(logits((3, CLASSES)).astype(dtype), requires_grad=True)
    loss = F.cross_entropy(x, np.array([0, 1, 2]), np.ones(CLASSES), label_smoothing=0.1)
    loss.backward()
    assert loss.dtype == x.grad.dtype == dtype
