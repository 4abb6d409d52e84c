"""vmap: every way a primitive keeps a batch axis, against the loop over rows."""

import numpy as np
import pytest

import fathom
from fathom import func
from fathom.engine.errors import ArgumentError, GraphError, ShapeError

RNG = np.random.default_rng(0)


def check(f, *args, in_dims=0) -> None:
    """vmap(f) against the loop, to the last digits."""
    dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(args)
    found = func.vmap(f, in_dims)(*map(fathom.Tensor, args))
    size = next(a.shape[d] for a, d in zip(args, dims, strict=True) if d is not None)
    rows = [
        f(*(fathom.Tensor(a if d is None else np.take(a, i, d)) for a, d in zip(args, dims)))  # noqa: B905
        for i in range(size)
    ]
    np.testing.assert_allclose(
        found.numpy(), np.stack([r.numpy() for r in rows]), rtol=1e-12, atol=1e-14
    )


A, B, C = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 5, 3)), RNG.standard_normal((4, 3))


@pytest.mark.parametrize(
    ("f", "args", "in_dims"),
    [
        (lambda x: x.exp() * 2 + 1, (A,), 0),
        (lambda x: x.exp(), (A,), 1),
        (lambda x, y: x + y, (A, B), 0),
        (lambda x, y: x * y, (A[0], B), (None, 0)),
        (lambda x, y: x - y, (A, C), 0),
        (lambda x: x.sum(), (B,), 0),
        (lambda x: x.sum(axis=-1), (B,), 1),
        (lambda x: x.mean(axis=0, keepdims=True), (B,), 0),
        (lambda x: x.max(axis=1), (B,), 0),
        (lambda x: x.T, (B,), 0),
        (lambda x: x.reshape(3, 5), (B,), 0),
        (lambda x: x.reshape(-1), (B,), 2),
        (lambda x: x[1:, 0], (B,), 0),
        (lambda x: x[[0, 2, 2]], (B,), 0),
        (lambda x: x[[0, 1], :, None], (B,), 0),
        (lambda x: x[[0, 1], None, [1, 2]], (B,), 0),
        (lambda x: fathom.where(x > 0, x, -x), (A,), 0),
        (lambda x, y: x @ y, (B, A), 0),
        (lambda x, y: x @ y.T, (B, B), 0),
        (lambda x, y: x @ y, (B, RNG.standard_normal((3, 2))), (0, None)),
        (lambda x: x.softmax(axis=-1), (B,), 0),
        (lambda x: fathom.concatenate([x, x * 2], 0), (B,), 0),
        (lambda x: fathom.stack([x, x], 1), (B,), 0),
        (lambda x: x.broadcast_to((2, 3)), (A,), 0),
        (lambda x: x.unsqueeze(0).squeeze(0), (A,), 0),
        (lambda x: x.std(), (A,), 0),
        (lambda x: x * x.detach(), (A,), 0),
        (lambda x: x.clone() * 2, (A,), 0),
    ],
)
def test_against_the_loop(f, args, in_dims) -> None:
    check(f, *args, in_dims=in_dims)


def test_nested() -> None:
    outer = func.vmap(lambda x: func.vmap(lambda y: (x * y).sum(), in_dims=1)(fathom.Tensor(A.T)))
    expected = A @ A.T
    np.testing.assert_allclose(outer(fathom.Tensor(A)).numpy(), expected)


def test_structures() -> None:
    def f(pair, scale):
        return {"sum": pair["a"] + pair["b"][0], "scaled": (pair["a"] * scale,)}

    pair = {"a": fathom.Tensor(A), "b": [fathom.Tensor(C.T.copy())]}
    out = func.vmap(f, in_dims=({"a": 0, "b": [1]}, None), out_dims={"sum": 1, "scaled": (0,)})(
        pair, 2.0
    )
    np.testing.assert_allclose(out["sum"].numpy(), (A + C).T)
    np.testing.assert_allclose(out["scaled"][0].numpy(), A * 2)


def test_one_axis_for_a_whole_structure_and_a_list_of_axes() -> None:
    out = func.vmap(lambda d: d["a"] - d["b"])({"a": fathom.Tensor(A), "b": fathom.Tensor(C)})
    np.testing.assert_allclose(out.numpy(), A - C)
    out = func.vmap(lambda x, y: x - y, in_dims=[0, None])(fathom.Tensor(A), fathom.Tensor(C[0]))
    np.testing.assert_allclose(out.numpy(), A - C[0])


def test_out_dims() -> None:
    f = func.vmap(lambda x: (x, x.sum(), fathom.tensor(7.0)), out_dims=(-1, 0, None))
    x, total, constant = f(fathom.Tensor(A))
    np.testing.assert_array_equal(x.numpy(), A.T)
    assert total.shape == (4,) and constant.item() == 7.0
    same = func.vmap(lambda x: fathom.tensor(7.0))(fathom.Tensor(A))
    assert same.tolist() == [7.0] * 4
    with pytest.raises(ArgumentError, match="out_dims is None"):
        func.vmap(lambda x: x, out_dims=None)(fathom.Tensor(A))


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 9])
def test_chunks_change_nothing(chunk) -> None:
    def f(x, y):
        return x @ y, {"s": x.sum(axis=-1)}

    x, y = fathom.Tensor(RNG.standard_normal((5, 4, 3))), fathom.Tensor(A[0])
    whole = func.vmap(f, in_dims=(1, None), out_dims=(1, {"s": 0}))(x, y)
    parts = func.vmap(f, in_dims=(1, None), out_dims=(1, {"s": 0}), chunk_size=chunk)(x, y)
    np.testing.assert_allclose(parts[0].numpy(), whole[0].numpy())
    np.testing.assert_allclose(parts[1]["s"].numpy(), whole[1]["s"].numpy())
    assert whole[0].shape == (5, 4)


def test_an_empty_batch() -> None:
    assert func.vmap(lambda x: x.exp().sum())(fathom.zeros(0, 3)).shape == (0,)


def test_gradients_flow_through_to_captured_tensors() -> None:
    w = fathom.tensor([2.0, 3.0], requires_grad=True)
    func.vmap(lambda x: (x * w).sum())(fathom.ones(4, 2)).sum().backward()
    assert w.grad.tolist() == [4.0, 4.0]


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (lambda: func.vmap(lambda x: x)(fathom.tensor(1.0)), ArgumentError, "axis 0 is out of"),
        (lambda: func.vmap(lambda x: x, 2)(fathom.ones(3)), ArgumentError, "axis 2"),
        (lambda: func.vmap(lambda x, y: x, (0,))(fathom.ones(3), 1), ArgumentError, "1 entries"),
        (
            lambda: func.vmap(lambda x, y: x)(fathom.ones(3), fathom.ones(4)),
            ShapeError,
            r"sizes \[3, 4\]",
        ),
        (lambda: func.vmap(lambda x: x, None)(fathom.ones(3)), ShapeError, "all None"),
        (lambda: func.vmap(lambda x: x if x > 0 else -x)(fathom.ones(3)), GraphError, "where"),
        (lambda: func.vmap(lambda x: x * x.item())(fathom.ones(3)), GraphError, "each row"),
        (lambda: func.vmap(lambda x: np.asarray(x))(fathom.ones(3, 2)), GraphError, "each row"),
        (lambda: func.vmap(lambda x: x.tolist())(fathom.ones(3)), GraphError, "each row"),
    ],
)
def test_refused(run, error, match) -> None:
    with pytest.raises(error, match=match):
        run()


def test_what_a_row_looks_like() -> None:
    seen = []

    def f(x):
        seen.append((x.shape, x.ndim, x.size, x.dtype, repr(x).split(", level")[0]))
        return x

    func.vmap(f)(fathom.zeros(4, 2, 3))
    assert seen == [((2, 3), 2, 6, np.dtype(np.float32), "Batched(4 rows of shape (2, 3)")]


def test_rows_one_by_one_without_a_rule() -> None:
    from fathom.engine.primitive import general

    pair = general("pair_for_test", lambda x: (x.sum(), x * 2), (None,), listed=False)
    total, double = func.vmap(lambda x: pair(x))(fathom.Tensor(A))
    np.testing.assert_allclose(total.numpy(), A.sum(1))
    np.testing.assert_allclose(double.numpy(), A * 2)
    flip = general("flip_for_test", lambda x: x[::-1].copy(), (None,), listed=False)
    np.testing.assert_allclose(func.vmap(flip)(fathom.Tensor(A)).numpy(), A[:, ::-1])
