"""Normalization, embeddings and attention against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from fathom.nn import functional as F
from tests.oracles.battery import battery
from tests.oracles.harness import Case

torch = pytest.importorskip("torch")
TF = torch.nn.functional


def same(name, shapes, call, **options):
    """One expression for both libraries: `call(x..., functional)`."""
    return Case(
        name, lambda *xs: call(*xs, f=F), lambda *xs: call(*xs, f=TF), shapes, **options
    )  # fmt: skip


STATISTICS = np.array([0.1, -0.2, 0.3, 0.0]), np.array([0.5, 1.0, 2.0, 1.5])


def fixed(function, shapes, **options):
    """Normalization by running statistics."""

    def theirs(x, w, b):
        m, v = (torch.tensor(a).to(x.dtype) for a in STATISTICS)
        return getattr(TF, function)(x, m, v, w, b, **options)

    def ours(x, w, b):
        m, v = (ft.tensor(a.astype(x.dtype)) for a in STATISTICS)
        return getattr(F, function)(x, m, v, w, b, **options)

    return Case(f"{function} {options}", ours, theirs, shapes)


C, IMAGES = (4,), ((3, 4, 5, 2), (3, 4), (3, 4, 6))
NORMS = [
    same("batch_norm", [(s, C, C) for s in IMAGES],
         lambda x, w, b, f: f.batch_norm(x, None, None, w, b, training=True)),
    same("batch_norm_plain", [(s,) for s in IMAGES],
         lambda x, f: f.batch_norm(x, None, None, training=True, eps=0.1)),
    same("batch_norm_weight", [((3, 4), C)],
         lambda x, w, f: f.batch_norm(x, None, None, w, training=True)),
    fixed("batch_norm", [(s, C, C) for s in IMAGES[:2]] + [((0, 4), C, C)], training=False),
    fixed("batch_norm", [((3, 4), C, C)], training=False, eps=0.2),
    same("layer_norm", [((3, 4), C, C), ((2, 3, 4), C, C), ((4,), C, C), ((0, 4), C, C)],
         lambda x, w, b, f: f.layer_norm(x, (4,), w, b)),
    same("layer_norm_2", [((2, 3, 4), (3, 4), (3, 4))],
         lambda x, w, b, f: f.layer_norm(x, (3, 4), w, b, eps=1e-3)),
    same("layer_norm_plain", [((2, 3, 4),)], lambda x, f: f.layer_norm(x, (4,))),
    same("group_norm", [((3, 4, 5), C, C), ((3, 4), C, C), ((2, 4, 3, 2), C, C), ((0, 4, 2), C, C)],
         lambda x, w, b, f: f.group_norm(x, 2, w, b)),
    *(same(f"group_norm_{g}", [((3, 4, 2),)], lambda x, f, g=g: f.group_norm(x, g))
      for g in (1, 4)),
    same("instance_norm", [((3, 4, 5), C, C), ((2, 4, 3, 2), C, C)],
         lambda x, w, b, f: f.instance_norm(x, weight=w, bias=b)),
    fixed("instance_norm", [((3, 4, 5), C, C)], use_input_stats=False),
    same("rms_norm", [((3, 4), C), ((2, 3, 4), C), ((0, 4), C)],
         lambda x, w, f: f.rms_norm(x, (4,), w)),
    same("rms_norm_2", [((2, 3, 4),)], lambda x, f: f.rms_norm(x, (3, 4), eps=1e-3)),
    *(same(f"local_response_norm_{n}", [((2, 5, 3),), ((2, 5, 3, 2),), ((1, 5, 2, 2, 2),)],
           lambda x, f, n=n: f.local_response_norm(x, n, alpha=0.5, beta=0.6, k=1.5))
      for n in (1, 2, 3, 5)),
    *(same(f"normalize_{p}", [((3, 4),), ((2, 3, 2),)], lambda x, f, p=p: f.normalize(x, p))
      for p in (1.0, 2.0, 3.0, np.inf)),
    same("normalize_dim", [((3, 4),), ((4,),)], lambda x, f: f.normalize(x, dim=-1, eps=2.0)),
]  # fmt: skip

IDS = np.array([[1, 0, 1], [3, 3, 1]])
TABLE = [((5, 3),)]


def lookup(name, call, shapes=TABLE, **options):
    """`call(table, ids, functional)` with the numbers as array and as tensor."""
    return Case(
        name,
        lambda *xs: call(*xs, IDS, f=F),
        lambda *xs: call(*xs, torch.tensor(IDS), f=TF),
        shapes,
        **options,
    )


FLAT, STARTS = np.array([1, 0, 1, 3, 3, 4]), np.array([0, 2, 2, 5])


def bag(name, shapes=TABLE, theirs=None, **options):
    return Case(
        name,
        lambda w: F.embedding_bag(FLAT, w, STARTS, **options),
        lambda w: TF.embedding_bag(torch.tensor(FLAT), w, torch.tensor(STARTS), **options),
        shapes, second=False,  # PyTorch has no second derivative here
    )  # fmt: skip


EMBEDDINGS = [
    lookup("embedding", lambda w, i, f: f.embedding(i, w)),
    lookup("embedding_padding", lambda w, i, f: f.embedding(i, w, padding_idx=3)),
    lookup("embedding_padding_-2", lambda w, i, f: f.embedding(i, w, padding_idx=-2)),
    lookup("embedding_freq", lambda w, i, f: f.embedding(i, w, scale_grad_by_freq=True),
           second=False),
    *(lookup(f"embedding_bag_{m}", lambda w, i, f, m=m: f.embedding_bag(i, w, mode=m),
             second=False) for m in ("sum", "mean", "max")),
    *(bag(f"embedding_bag_offsets_{m}", mode=m) for m in ("sum", "mean", "max")),
    bag("embedding_bag_padding", mode="sum", padding_idx=3),
    bag("embedding_bag_padding_mean", mode="mean", padding_idx=1),
    lookup("embedding_bag_weights",
           lambda w, s, i, f: f.embedding_bag(i, w, mode="sum", per_sample_weights=s),
           [((5, 3), (2, 3))], second=False),
]  # fmt: skip

QKV = [((2, 3, 4), (2, 5, 4), (2, 5, 3)), ((3, 4), (5, 4), (5, 3)),
       ((2, 2, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3))]  # fmt: skip
ALLOWED = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 0, 0]], bool)


def attention(name, shapes=QKV, mask=None, **options):
    return Case(
        name,
        lambda *xs: F.scaled_dot_product_attention(*xs, attn_mask=mask, **options),
        lambda *xs: TF.scaled_dot_product_attention(
            *xs,
            attn_mask=None
            if mask is None
            else torch.tensor(mask, dtype=torch.bool if mask.dtype == bool else xs[0].dtype),
            **options,
        ),
        shapes,
    )


ATTENTION = [
    attention("attention"),
    attention("attention_causal", is_causal=True),
    attention("attention_scale", scale=0.3),
    attention("attention_mask", mask=ALLOWED),
    attention("attention_bias", mask=np.where(ALLOWED, 0.3, -np.inf)),
    attention("attention_gqa", [((2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 3))], enable_gqa=True),
    same("attention_learned_mask", [((2, 3, 4), (2, 5, 4), (2, 5, 3), (3, 5))],
         lambda q, k, v, m, f: f.scaled_dot_product_attention(q, k, v, m)),
    same("softmin", [((2, 3),)], lambda x, f: f.softmin(x, dim=0)),
]  # fmt: skip

CASES = NORMS + EMBEDDINGS + ATTENTION
test_equals_pytorch, test_forward_mode, test_vmap, test_float32_stays_float32 = battery(
    CASES, torch, rtol=1e-4, atol=1e-5
)


# -- running statistics ---------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", IMAGES, ids=str)
@pytest.mark.parametrize("function", ["batch_norm", "instance_norm"])
def test_running_statistics_move_as_in_pytorch(function: str, shape, momentum: float) -> None:
    if function == "instance_norm" and len(shape) < 3:
        shape = (*shape, 3)
    rng = np.random.default_rng(0)
    ours = [ft.tensor(np.zeros(4)), ft.tensor(np.ones(4))]
    theirs = [torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)]
    training = {"batch_norm": "training", "instance_norm": "use_input_stats"}[function]
    for _ in range(3):
        x = rng.standard_normal(shape) + 2
        for f, buffers, data in ((F, ours, ft.tensor(x)), (TF, theirs, torch.tensor(x))):
            getattr(f, function)(data, *buffers, **{training: True}, momentum=momentum)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)
    assert ours[0].version == 3


def test_running_statistics_stay_float32_and_out_of_the_graph() -> None:
    x = ft.tensor(np.random.default_rng(0).standard_normal((4, 3)), dtype=np.float32)
    x.requires_grad_()
    mean, var = ft.zeros(3), ft.ones(3)
    out = F.batch_norm(x, mean, var, training=True)
    assert mean.dtype == var.dtype == out.dtype == np.float32
    assert not mean.requires_grad
    before = mean.tolist()
    ft.func.grad(lambda v: F.batch_norm(v, mean, var, training=True).sum())(x)
    assert mean.tolist() != before  # a transform of our own sees the batch as it is


def test_standardize_equals_its_composition() -> None:
    from fathom.ops.normalization import standardize

    x = ft.tensor(np.random.default_rng(0).standard_normal((3, 4, 5)), requires_grad=True)
    axes = (0, 2)

    def fused(v):
        y, m, s = standardize(v, axes, 1e-3)
        return (y**3).sum() + (m**2 * 2).sum() + (s**2).sum() + (y * m * s).sum()

    def plain(v):
        m = v.mean(axis=axes, keepdims=True)
        s = ((v - m) ** 2).mean(axis=axes, keepdims=True)
        y = (v - m) / (s + 1e-3).sqrt()
        return (y**3).sum() + (m**2 * 2).sum() + (s**2).sum() + (y * m * s).sum()

    t = np.random.default_rng(1).standard_normal(x.shape)
    for f in (lambda g: g(x), lambda g: ft.func.grad(g)(x), lambda g: ft.func.hvp(g, (x,), (t,))):
        a, b = f(fused), f(plain)
        a, b = (v[0] if isinstance(v, tuple) else v for v in (a, b))
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_an_empty_batch_leaves_the_running_statistics_alone() -> None:
    x, mean, var = ft.zeros(0, 4, 3).requires_grad_(), ft.zeros(4), ft.ones(4)
    for function in (F.batch_norm, F.instance_norm):
        out = function(x, mean, var, None, None, True)
        out.sum().backward()
        assert out.shape == x.grad.shape == (0, 4, 3)
    assert mean.tolist() == [0] * 4 and var.tolist() == [1] * 4


def test_max_norm_shortens_rows_in_place_as_in_pytorch() -> None:
    w = np.random.default_rng(0).standard_normal((5, 3)) * 3
    ours, theirs = ft.tensor(w), torch.tensor(w)
    a = F.embedding(IDS, ours, max_norm=1.5)
    b = TF.embedding(torch.tensor(IDS), theirs, max_norm=1.5)
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
    assert ours.version == 1


def test_vmap_over_row_numbers() -> None:
    w = ft.tensor(np.arange(10.0).reshape(5, 2))
    found = ft.func.vmap(lambda i: F.embedding(i, w))(ft.Tensor(IDS))
    np.testing.assert_array_equal(found.numpy(), w.numpy()[IDS])
    each = ft.func.vmap(lambda i, t: F.embedding(i, t))(ft.Tensor(IDS), ft.stack([w, w * 2]))
    np.testing.assert_array_equal(each.numpy()[1], 2 * w.numpy()[IDS[1]])


def test_one_hot() -> None:
    assert F.one_hot(IDS).tolist() == TF.one_hot(torch.tensor(IDS)).tolist()
    assert F.one_hot(IDS, 6).tolist() == TF.one_hot(torch.tensor(IDS), 6).tolist()
    assert F.one_hot(IDS).dtype == np.int64


def test_rows_that_may_attend_to_nothing_give_zeros() -> None:
    q = ft.tensor(np.ones((2, 3)), requires_grad=True)
    mask = np.array([[True, True], [False, False]])
    for m in (mask, np.where(mask, 0.0, -np.inf)):
        out = F.scaled_dot_product_attention(q, q, q, attn_mask=m)
        assert out.tolist() == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
        out.sum().backward()
        assert np.isfinite(q.grad.numpy()).all()


X = ft.ones(2, 4, 3)
BAD = [
    (lambda: F.batch_norm(ft.ones(4), None, None, training=True), ValueError, "(n, c, ...)"),
    (lambda: F.batch_norm(X, None, None), ValueError, "running_mean and running_var"),
    (lambda: F.batch_norm(ft.ones(1, 4), None, None, training=True), ValueError, ">1<"),
    (lambda: F.batch_norm(X, ft.ones(3), ft.ones(4)), ValueError, "running_mean must have"),
    (lambda: F.batch_norm(X, None, None, ft.ones(3), training=True), ValueError, "weight must"),
    (lambda: ft.func.vmap(lambda x: F.batch_norm(x, ft.zeros(3), ft.ones(3), training=True))(X),
     RuntimeError, "vmap"),
    (lambda: F.layer_norm(X, (4,)), ValueError, ">3<"),
    (lambda: F.layer_norm(X, 3, ft.ones(4)), ValueError, "weight must have shape (3,)"),
    (lambda: F.group_norm(X, 3), ValueError, "num_groups=3"),
    (lambda: F.instance_norm(ft.ones(2, 3, 1)), ValueError, "one value"),
    (lambda: F.local_response_norm(ft.ones(2, 3), 2), ValueError, "(n, c, ...)"),
    (lambda: F.embedding([5], ft.ones(5, 2)), IndexError, "rows, numbered from 0 to 4"),
    (lambda: F.embedding([0.5], ft.ones(5, 2)), TypeError, "whole numbers"),
    (lambda: F.embedding([0], ft.ones(5, 2), padding_idx=5), ValueError, "padding_idx 5"),
    (lambda: F.embedding_bag([0], ft.ones(5, 2)), ValueError, "needs offsets"),
    (lambda: F.embedding_bag([0], ft.ones(5, 2), [1]), ValueError, "rise from 0"),
    (lambda: F.embedding_bag([[0]], ft.ones(5, 2), mode="avg"), ValueError, "unknown mode"),
    (lambda: F.one_hot([3], 2), IndexError, "num_classes=2"),
    (lambda: F.scaled_dot_product_attention(X, ft.ones(2, 4, 2), X), ValueError, ">2<"),
    (lambda: F.scaled_dot_product_attention(X, X, ft.ones(2, 3, 3)), ValueError, "source length"),
    (lambda: F.scaled_dot_product_attention(X, X, X, np.ones((4, 4), bool), is_causal=True),
     ValueError, "not both"),
    (lambda: F.scaled_dot_product_attention(X, X, X, np.ones((3, 4), bool)), ValueError,
     "broadcast"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "text"), BAD, ids=[t for *_, t in BAD])
def test_errors_teach(call, kind, text) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, ft.FathomError)
    assert text in str(caught.value)
