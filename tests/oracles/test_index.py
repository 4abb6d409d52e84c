"""Indexing, gathering and writing against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from tests.oracles.harness import CHECKS, Case, check

torch = pytest.importorskip("torch")

GRID = [((3, 5),)]
CUBE = [((3, 4, 5),)]


def case(name, ours, theirs=None, shapes=GRID, **more):
    return Case(name, ours, theirs or ours, shapes, **more)


def t(values):
    return torch.tensor(values)


def both(index):
    """An index as it is for us, and with tensors for PyTorch."""
    parts = index if isinstance(index, tuple) else (index,)
    return tuple(torch.tensor(p) if isinstance(p, (list, np.ndarray)) else p for p in parts)


s_ = np.s_
INDICES = {
    "number": s_[1], "last": s_[-1, -2], "slice": s_[1:, ::2], "steps": s_[:, 4:0:1],
    "new": s_[None, ..., 0], "ellipsis": s_[..., None, 1:], "nothing": s_[2:2],
    "integers": s_[[0, 2, 0],], "negative": s_[[-1, 0],], "pairs": s_[[0, 1], [2, 2]],
    "grid": s_[[[0, 1], [2, 0]],], "beside": s_[:, [0, 0, 3]], "mixed": s_[1, [0, 2]],
    "broadcast": s_[[[0], [2]], [1, 1, 4]], "mask": s_[np.array([True, False, True])],
    "mask_beside": s_[:, np.arange(5) > 2], "mask_all": s_[np.arange(15).reshape(3, 5) % 4 == 1],
    "mask_and_number": s_[np.array([True, False, True]), 2], "none": s_[np.zeros(3, bool)],
}  # fmt: skip
DEEP = {
    "apart": s_[[0, 1], :, [2, 2]], "middle": s_[:, [0, 3, 3]],
    "together": s_[..., [0, 1], [2, 2]], "mask_two": s_[np.arange(12).reshape(3, 4) % 3 == 0],
    "slices_and_integers": s_[1:, [0, 2], ::2], "none_and_integers": s_[None, [0, 2, 2]],
}  # fmt: skip

READS = [
    *(case(n, lambda x, i=i: x[i], lambda x, i=i: x[both(i)]) for n, i in INDICES.items()),
    *(case(n, lambda x, i=i: x[i], lambda x, i=i: x[both(i)], CUBE) for n, i in DEEP.items()),
]
UNIQUE = {
    n: i
    for n, i in INDICES.items()
    if n not in ("integers", "pairs", "beside", "broadcast", "grid")
}


def set_theirs(x, index, v):
    y = x.clone()
    y[both(index)] = v
    return y


def put_theirs(x, index, v):
    holder = torch.zeros_like(x)
    return x + holder.index_put(full(index, x), v.expand(x[both(index)].shape), accumulate=True)


def full(index, x):
    """Only index arrays, as index_put wants them."""
    places = torch.arange(x.numel()).reshape(x.shape)[both(index)]
    return tuple(torch.unravel_index(places, x.shape))


def set_in_place(x, index, v):
    y = x * 1.0 + 0.0 * v.sum()
    y[index if isinstance(x, ft.Tensor) else both(index)] = v
    return y * x


WRITES = [
    *(
        case(
            f"set_{n}",
            lambda x, v, i=i: x.at[i].set(v[0]),
            lambda x, v, i=i: set_theirs(x, i, v[0]),
            [((3, 5), (2,))],
        )
        for n, i in UNIQUE.items()
    ),
    *(
        case(
            f"add_{n}",
            lambda x, v, i=i: x.at[i].add(v[0] * v[1]),
            lambda x, v, i=i: put_theirs(x, i, v[0] * v[1]),
            [((3, 5), (2,))],
        )
        for n, i in INDICES.items()
    ),
    case(
        "set_row",
        lambda x, v: x.at[1].set(v),
        lambda x, v: set_theirs(x, 1, v),
        [((3, 5), (5,)), ((3, 5), (1,)), ((3, 5), ())],
    ),
    case(
        "set_grid",
        lambda x, v: x.at[1:, ::2].set(v * v),
        lambda x, v: set_theirs(x, s_[1:, ::2], v * v),
        [((3, 5), (2, 3)), ((3, 5), (3,)), ((3, 5), (2, 1))],
    ),
    case("set_number", lambda x: x.at[0, 1:].set(2), lambda x: set_theirs(x, s_[0, 1:], 2)),
    case(
        "mul",
        lambda x, v: x.at[[0, 2]].mul(v),
        lambda x, v: set_theirs(x, s_[[0, 2],], x[[0, 2]] * v),
        [((3, 5), (5,)), ((3, 5), (2, 1))],
    ),
    case(
        "max",
        lambda x, v: x.at[[0, 2, 2], 1].max(v),
        lambda x, v: torch.scatter_reduce(x.reshape(-1), 0, t([1, 11, 11]), v, "amax").reshape(
            3, 5
        ),
        [((3, 5), (3,))],
    ),
    case(
        "min",
        lambda x, v: x.at[[0, 2, 2], 1].min(v),
        lambda x, v: torch.scatter_reduce(x.reshape(-1), 0, t([1, 11, 11]), v, "amin").reshape(
            3, 5
        ),
        [((3, 5), (3,))],
    ),
    case(
        "in_place",
        lambda x, v: set_in_place(x, s_[1:, ::2], v),
        shapes=[((3, 5), (3,)), ((3, 5), (2, 3))],
    ),
    case(
        "in_place_integers", lambda x, v: set_in_place(x, s_[[0, 2],], v), shapes=[((3, 5), (5,))]
    ),
]

PICKS, GRID_PICKS = [[0], [2], [1]], [[0, 1, 1], [4, 0, 2]]
ALONG = [
    case("gather", lambda x: ft.gather(x, 1, PICKS), lambda x: torch.gather(x, 1, t(PICKS))),
    case(
        "gather_0",
        lambda x: x.gather(0, [[0, 2, 0], [1, 1, 2]]),
        lambda x: x.gather(0, t([[0, 2, 0], [1, 1, 2]])),
    ),
    case(
        "gather_dim",
        lambda x: ft.gather(x, dim=-1, index=GRID_PICKS),
        lambda x: torch.gather(x, dim=-1, index=t(GRID_PICKS)),
    ),
    case(
        "take_along_axis",
        lambda x: x.take_along_axis([[0, 1, 1]], 1),
        lambda x: torch.take_along_dim(x, t([[0, 1, 1]]), 1),
    ),
    case(
        "take_along_broadcast",
        lambda x: ft.take_along_dim(x, PICKS, dim=1),
        lambda x: torch.take_along_dim(x, t(PICKS), dim=1),
        [((1, 5),)],
    ),
    case(
        "take_along_flat",
        lambda x: ft.take_along_axis(x, [3, 0, 3]),
        lambda x: torch.take_along_dim(x, t([3, 0, 3])),
    ),
    case(
        "scatter",
        lambda x, v: ft.scatter(x, 1, PICKS, v),
        lambda x, v: torch.scatter(x, 1, t(PICKS), v),
        [((3, 5), (3, 1))],
    ),
    case(
        "scatter_value",
        lambda x: x.scatter(0, [[1, 2]], value=3.0),
        lambda x: x.scatter(0, t([[1, 2]]), value=3.0),
    ),
    case(
        "scatter_add",
        lambda x, v: ft.scatter_add(x, 1, GRID_PICKS, v),
        lambda x, v: torch.scatter_add(x, 1, t(GRID_PICKS), v),
        [((3, 5), (2, 3))],
    ),
    case(
        "index_select",
        lambda x: ft.index_select(x, 1, [0, 0, 3]),
        lambda x: torch.index_select(x, 1, t([0, 0, 3])),
    ),
    case(
        "index_select_dim",
        lambda x: x.index_select(dim=0, index=[2]),
        lambda x: x.index_select(dim=0, index=t([2])),
        CUBE,
    ),
    case(
        "index_add",
        lambda x, v: ft.index_add(x, 0, [0, 2, 0], v, alpha=2.0),
        lambda x, v: torch.index_add(x, 0, t([0, 2, 0]), v, alpha=2.0),
        [((3, 5), (3, 5))],
    ),
    case(
        "index_copy",
        lambda x, v: ft.index_copy(x, 1, [4, 0], v),
        lambda x, v: torch.index_copy(x, 1, t([4, 0]), v),
        [((3, 5), (3, 2))],
    ),
    case(
        "index_fill",
        lambda x: x.index_fill(1, [0, 2], 7.0),
        lambda x: x.index_fill(1, t([0, 2]), 7.0),
    ),
    case(
        "masked_select",
        lambda x: ft.masked_select(x, np.arange(5) % 2 == 0),
        lambda x: torch.masked_select(x, torch.arange(5) % 2 == 0),
    ),
    case("masked_fill", lambda x: x.masked_fill(x > 0, -1.0)),
    case(
        "take",
        lambda x: ft.take(x, [[3, 0], [14, 3]]),
        lambda x: torch.take(x, t([[3, 0], [14, 3]])),
    ),
    case(
        "take_axis",
        lambda x: ft.take(x, [[3, 0], [1, 3]], axis=1),
        lambda x: x[:, t([[3, 0], [1, 3]])],
        CUBE,
    ),
    case("select", lambda x: x.select(1, -2), shapes=CUBE),
    case("narrow", lambda x: x.narrow(1, 1, 2), shapes=CUBE),
]
CASES = READS + WRITES + ALONG


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_pytorch(case: Case, what: str) -> None:
    check(case, what, torch)


def test_numpy_takes_negative_steps_too() -> None:
    x = np.arange(12.0).reshape(3, 4)
    leaf = ft.Tensor(x, True)
    y = leaf[::-1, 2::-2]
    np.testing.assert_array_equal(y.detach().numpy(), x[::-1, 2::-2])
    y.sum().backward()
    assert leaf.grad.tolist() == [[1, 0, 1, 0]] * 3
    i, m = ft.tensor([2, 0]), ft.tensor([True, False, True])
    np.testing.assert_array_equal(ft.tensor(x)[i, 1].numpy(), x[[2, 0], 1])
    np.testing.assert_array_equal(ft.tensor(x)[m].numpy(), x[[True, False, True]])
    assert ft.ones(3, 4, 5)[0, :, [1, 1]].shape == (2, 4)  # as in NumPy
    assert ft.tensor(x)[range(2)].shape == (2, 4) and ft.tensor(x)[ft.tensor(1)].shape == (4,)


# -- indices that differ from row to row -----------------------------------------------------------

PER_ROW = {
    "getitem": (lambda x, i: x[i], (4, 5), (3,)),
    "getitem_column": (lambda x, i: x[:, i], (5, 4), (3,)),
    "getitem_number": (lambda x, i: x[i], (4,), ()),
    "take": (lambda x, i: ft.take(x, i, axis=1), (2, 4, 3), (2, 2)),
    "gather": (lambda x, i: ft.gather(x, 1, i), (3, 4), (3, 2)),
    "scatter": (lambda x, i: ft.scatter(x, 1, i, x[:, :2]), (3, 4), (3, 2)),
    "scatter_add": (lambda x, i: ft.scatter_add(x, 1, i, x[:, :2] ** 2), (3, 4), (3, 2)),
    "index_add": (lambda x, i: ft.index_add(x, 0, i, x[:3] ** 2), (4, 2), (3,)),
    "one_hot": (lambda x, i: ft.one_hot(i, 4) * x, (4,), (3,)),
}


@pytest.mark.parametrize("name", PER_ROW)
@pytest.mark.parametrize("dims", [(0, 0), (None, 0), (0, None)])
def test_vmap_over_indices(name: str, dims) -> None:
    f, shape, index = PER_ROW[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, *shape) if dims[0] == 0 else shape)
    i = np.argsort(rng.random((5, *index, 4)), -1)[..., :1].reshape(5, *index)
    i = i if dims[1] == 0 else i[0]

    def slope(x, i):
        return ft.func.grad(lambda x: (f(x, i) ** 2).sum())(x)

    for g in (f, slope):
        found = ft.func.vmap(g, dims)(ft.Tensor(x), ft.Tensor(i)).numpy()
        rows = [
            g(ft.Tensor(x[k] if dims[0] == 0 else x), ft.Tensor(i[k] if dims[1] == 0 else i))
            for k in range(5)
        ]
        np.testing.assert_allclose(found, np.stack([r.numpy() for r in rows]), rtol=1e-12)


# -- writing in place ------------------------------------------------------------------------------


def test_in_place_writes_as_in_pytorch() -> None:
    a, v = np.arange(6.0).reshape(2, 3), np.array([10.0, 20.0])
    x, w = ft.Tensor(a.copy(), True), ft.Tensor(v.copy(), True)
    y = x * 2
    y[:, 1] = w
    y[0] = 5.0
    (y * y).sum().backward()
    tx, tw = torch.tensor(a, requires_grad=True), torch.tensor(v, requires_grad=True)
    ty = tx * 2
    ty[:, 1] = tw
    ty[0] = 5.0
    (ty * ty).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), tx.grad.numpy())
    np.testing.assert_array_equal(w.grad.numpy(), tw.grad.numpy())


EDITS = {
    "clamp_": lambda m, x, v: x.clamp_(-0.5, 0.5),
    "neg_": lambda m, x, v: x.neg_(),
    "exp_": lambda m, x, v: x.exp_(),
    "sqrt_": lambda m, x, v: x.abs().sqrt_(),
    "pow_": lambda m, x, v: x.pow_(3),
    "mul_": lambda m, x, v: x.mul_(v[0]),
    "masked_fill_": lambda m, x, v: x.masked_fill_(x > 0, 2.0),
    "index_add_": lambda m, x, v: x.index_add_(0, m.tensor([2, 2]), v * 2.0),
    "scatter_": lambda m, x, v: x.scatter_(1, m.tensor([[1], [0]]), v[:, :1]),
    "scatter_add_": lambda m, x, v: x.scatter_add_(1, m.tensor([[1], [0]]), v[:, :1]),
    "copy_": lambda m, x, v: x.copy_(v[0]),
    "fill_": lambda m, x, v: x.fill_(2.0),
    "zero_": lambda m, x, v: x.zero_(),
    "where": lambda m, x, v: x.where(x > 0, v[1]),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_as_in_pytorch(name: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    ours = [ft.Tensor(a.copy(), True), ft.Tensor(b.copy(), True)]
    theirs = [torch.tensor(v, requires_grad=True) for v in (a, b)]
    y, ty = EDITS[name](ft, ours[0] * 1.0, ours[1]), EDITS[name](torch, theirs[0] * 1.0, theirs[1])
    np.testing.assert_allclose(y.detach().numpy(), ty.detach().numpy(), rtol=1e-12)
    g = ft.autograd.grad((y**2).sum(), ours, allow_unused=True)
    tg = torch.autograd.grad((ty**2).sum(), theirs, allow_unused=True)
    for left, right in zip(g, tg, strict=True):
        assert (left is None) == (right is None)
        if left is not None:
            np.testing.assert_allclose(left.numpy(), right.numpy(), rtol=1e-12)


def test_in_place_writes_that_are_refused() -> None:
    leaf = ft.ones(3, requires_grad=True)
    with pytest.raises(ft.FathomError, match="leaf"):
        leaf[0] = 1.0
    with ft.no_grad():
        leaf[0] = 7.0
    assert leaf.tolist() == [7, 1, 1]
    y = leaf.exp()
    y[0] = 0.0
    with pytest.raises(ft.FathomError, match="edited in place"):
        y.sum().backward()
    plain = ft.zeros(3)
    plain[1] = leaf[0]
    assert plain.requires_grad
    for wrong in (lambda: ft.zeros(3).__setitem__(0, "a"), lambda: ft.zeros(3).__setitem__(5, 1.0),
                  lambda: ft.arange(3).__setitem__(0, 0.5), lambda: ft.zeros(3).__setitem__("a", 1),
                  lambda: ft.zeros(2, 3).__setitem__(0, ft.ones(2))):  # fmt: skip
        with pytest.raises(ft.FathomError):
            wrong()


def test_in_place_writes_inside_transforms() -> None:
    def f(x):
        y = x * 1.0
        y[0] = x[1] * 3
        y += 1.0
        y.masked_fill_(y > 100, 0.0)
        return (y**2).sum()

    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(
        ft.func.grad(f)(ft.Tensor(x[0])).numpy(), [0.0, 2 * 7 * 3 + 2 * 3]
    )
    found = ft.func.vmap(ft.func.grad(f))(ft.Tensor(x)).numpy()
    np.testing.assert_array_equal(found, [ft.func.grad(f)(ft.Tensor(r)).numpy() for r in x])
    assert ft.func.jvp(f, (x[0],), (np.ones(2),))[1].item() == 48.0
    outside = ft.zeros(2)

    def leak(x):
        outside[0] = x[0]
        return x.sum()

    with pytest.raises(ft.FathomError, match="outside"):
        ft.func.grad(leak)(ft.Tensor(x[0]))


def test_a_source_may_be_longer_than_the_index() -> None:
    x, v = ft.zeros(3, 5, requires_grad=True), ft.ones(3, 4, requires_grad=True)
    for f in (ft.scatter, ft.scatter_add):
        y = f(x, 1, PICKS, v)
        assert y.tolist() == torch.zeros(3, 5).scatter(1, t(PICKS), torch.ones(3, 4)).tolist()
        gx, gv = ft.autograd.grad(y.sum(), [x, v])
        assert gv.tolist() == [[1, 0, 0, 0]] * 3 and gx.sum() == (12 if f is ft.scatter else 15)


# -- places ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[[0.0, 5.0], [7.0, 0.0]], [0.0, 0.0], 3.0, 0.0, []], ids=str)
def test_nonzero(values) -> None:
    x, y = ft.tensor(values), torch.tensor(values)
    assert x.nonzero().tolist() == y.nonzero().tolist() and x.nonzero().shape == y.nonzero().shape
    assert ft.argwhere(x).tolist() == torch.argwhere(y).tolist()
    ours, theirs = ft.nonzero(x, as_tuple=True), torch.nonzero(y, as_tuple=True)
    assert [i.tolist() for i in ours] == [i.tolist() for i in theirs]
    assert [i.tolist() for i in ft.where(x)] == [i.tolist() for i in torch.where(y)]


@pytest.mark.parametrize("labels", [[2, 0], [[1], [3]], 2], ids=str)
def test_one_hot(labels) -> None:
    ours = ft.one_hot(ft.tensor(labels), 4)
    theirs = torch.nn.functional.one_hot(torch.tensor(labels), 4)
    assert ours.tolist() == theirs.tolist() and ours.dtype == np.int64
    assert ft.one_hot(labels).shape[-1] == np.max(labels) + 1


def test_raw_arrays_stay_arrays() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert isinstance(ft.take(x, [0]), np.ndarray)
    assert isinstance(ft.gather(x, 1, [[0]]), np.ndarray)


X = lambda: ft.ones(2, 3)  # noqa: E731
MISTAKES = {
    r"x\[": [
        lambda: X()[2],
        lambda: X()[0, 3],
        lambda: X()[[0, 5]],
        lambda: X()[0, 0, 0],
        lambda: X()[np.ones(3, bool)],
        lambda: X()[[0.5]],
        lambda: X()["a"],
        lambda: X()[0.5],
        lambda: X()[[0, 1], [0, 1, 2]],
        lambda: X()[..., ...],
    ],
    "gather": [
        lambda: ft.gather(X(), 2, [[0]]),
        lambda: ft.gather(X(), 1, [0]),
        lambda: ft.gather(X(), 1, [[3]]),
        lambda: ft.gather(X(), 1, [[0], [0], [0]]),
        lambda: ft.gather(X(), 1, [[0.5]]),
        lambda: ft.gather("a", 0, [0]),
    ],
    "take_along_axis": [
        lambda: ft.take_along_axis(X(), [0], 1),
        lambda: ft.take_along_axis(X(), [[0]], 2),
        lambda: ft.take_along_axis(X(), [[0], [0], [0]], 1),
    ],
    "scatter": [
        lambda: ft.scatter(X(), 0, [[0]]),
        lambda: ft.scatter(X(), 2, [[0]], 1.0),
        lambda: ft.scatter(X(), 1, [[5]], 1.0),
        lambda: ft.scatter(X(), 1, [[0, 1]], ft.ones(1, 1)),
        lambda: ft.scatter(X(), 1, [0], 1.0),
        lambda: ft.scatter(ft.arange(3), 0, [0], ft.ones(1)),
    ],
    "scatter_add": [
        lambda: ft.scatter_add(X(), 3, [[0]], 1.0),
        lambda: ft.scatter_add(X(), 1, [[0, 0], [0, 0], [0, 0]], ft.ones(3, 2)),
    ],
    "index_select": [lambda: ft.index_select(X(), 1, [[0]])],
    "take": [
        lambda: ft.take(X(), [6]),
        lambda: ft.take(X(), [3], axis=1),
        lambda: ft.take(X(), [0], 2),
        lambda: ft.take(X(), [0.5]),
        lambda: ft.index_select(X(), 1, [7]),
    ],
    "index_add": [
        lambda: ft.index_add(X(), 0, [0], ft.ones(2, 3)),
        lambda: ft.index_add(X(), 2, [0], X()),
        lambda: ft.index_add(X(), 0, [4], ft.ones(1, 3)),
        lambda: ft.index_add(X(), 0, [[0]], X()),
    ],
    "index_copy": [lambda: ft.index_copy(X(), 0, [0], ft.ones(2, 3))],
    "index_fill": [lambda: ft.index_fill(X(), 3, [0], 1.0)],
    "masked_select": [
        lambda: ft.masked_select(X(), X()),
        lambda: ft.masked_select(X(), [True] * 4),
    ],
    "masked_fill": [
        lambda: ft.masked_fill(X(), X(), 1.0),
        lambda: ft.masked_fill(X(), X() > 0, X()),
        lambda: ft.masked_fill(ft.arange(3), ft.arange(3) > 0, 0.5),
    ],
    "where": [lambda: ft.masked_fill(X(), ft.ones(4) > 0, 1.0)],
    "select": [lambda: ft.select(X(), 2, 0)],
    "narrow": [
        lambda: ft.narrow(X(), 1, 2, 2),
        lambda: ft.narrow(X(), 1, 0, -1),
        lambda: ft.narrow(X(), 5, 0, 1),
    ],
    "one_hot": [
        lambda: ft.one_hot([3], 3),
        lambda: ft.one_hot([-1], 3),
        lambda: ft.one_hot([0.5]),
        lambda: ft.one_hot(ft.zeros(0, dtype=ft.int64)),
    ],
    r"at": [
        lambda: X().at[5].set(1.0),
        lambda: X().at[0].set(ft.ones(2)),
        lambda: X().at.set(1.0),
        lambda: X().at[0].set("a"),
        lambda: ft.arange(3).at[0].set(0.5),
        lambda: X().at["a"].add(1.0),
        lambda: X().at[[0, 0]].mul(2.0),
        lambda: X().at[0].add(ft.ones(4)),
        lambda: X().at[9].max(1.0),
    ],
    "nonzero": [lambda: ft.func.vmap(ft.nonzero)(X()), lambda: ft.nonzero("a")],
    "vmap": [lambda: ft.func.vmap(lambda x, m: x[m])(X(), X() > 0)],
}


@pytest.mark.parametrize(
    ("name", "mistake"), [(n, i) for n, found in MISTAKES.items() for i in range(len(found))]
)
def test_mistakes(name: str, mistake: int) -> None:
    with pytest.raises(ft.FathomError, match=name):
        MISTAKES[name][mistake]()
