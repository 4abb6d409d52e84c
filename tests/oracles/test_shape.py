"""Shape operations against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import fathom as ft
from tests.oracles.harness import CHECKS, Case, check

torch = pytest.importorskip("torch")
F = torch.nn.functional

CUBE = [((2, 3, 4),)]
GRID = [((3, 5),), ((1, 4),)]


def case(name, ours, theirs=None, shapes=CUBE, **more):
    return Case(name, ours, theirs or ours, shapes, **more)


def joined(pieces):
    """Pieces used each in its own way, so that their gradients differ."""
    total = 0
    for k, piece in enumerate(pieces):
        total = total + (k + 1) * (piece**2).sum()
    return total


PADS = [
    ((3, 5), (1, 2)), ((3, 5), (1, 0, 2, 1)), ((2, 3, 4), (0, 1, 2, 0, 1, 1)), ((3, 5), (0, 0)),
    ((3, 5), (-1, 2)), ((3, 5), (2, -2, -1, -1)), ((4,), (2, 3)), ((0, 3), (1, 1, 2, 0)),
]  # fmt: skip
MODES = [
    ((2, 3, 5), (1, 2)), ((2, 3, 5), (4, 3)), ((2, 3, 4, 5), (1, 2, 2, 0)),
    ((1, 2, 3, 4, 5), (1, 2, 2, 0, 1, 1)), ((2, 3, 5), (0, 0)), ((2, 3, 5), (2, -1)),
]  # fmt: skip
MODE_CASES = [
    case(f"pad_{mode}_{pad}", lambda x, p=pad, m=mode: ft.pad(x, p, mode=m),
         lambda x, p=pad, m=mode: F.pad(x, p, mode=m), [(shape,)])
    for mode in ("reflect", "replicate", "circular") for shape, pad in MODES
    if not (mode != "circular" and min(pad) < 0)
]  # fmt: skip

CASES = [
    case("reshape", lambda x: x.reshape(3, -1), shapes=[((2, 3),), ((3, 0),)][:1]),
    case("reshape_empty", lambda x: x.reshape(0, 6), shapes=[((2, 0),)]),
    case("view", lambda x: x.reshape(4, 6).view(-1)),
    case("view_as", lambda x: ft.zeros(6, 4).numpy().shape and x.reshape(6, 4) * 1.0),
    case("ravel", lambda x: x.ravel(), shapes=[*CUBE, ((),)]),
    case("flatten", lambda x: x.flatten(1), shapes=[*CUBE, ((2, 3),)]),
    case("flatten_number", lambda x: x.flatten(), shapes=[((),), ((3,),)]),
    case("unflatten", lambda x: x.unflatten(-1, (2, -1))),
    case("permute", lambda x: x.permute(2, 0, -2)),
    case("permute_tuple", lambda x: x.permute((1, 0, 2))),
    case("permute_dims", lambda x: ft.permute(x, dims=(1, 2, 0)),
         lambda x: torch.permute(x, dims=(1, 2, 0))),
    case("transpose", lambda x: x.transpose(0, -1)),
    case("swapaxes", lambda x: x.swapaxes(0, 1)),
    case("movedim", lambda x: x.movedim(0, -1)),
    case("movedim_several", lambda x: x.movedim((0, 1), (2, 0))),
    case("T", lambda x: x.T, shapes=[((2, 3),)]),
    case("mT", lambda x: x.mT),
    case("broadcast_to", lambda x: x.broadcast_to((2, 4, 3)), shapes=[((4, 1),), ((3,),), ((),)]),
    case("expand", lambda x: x.expand(4, -1, 3), shapes=[((2, 1),)]),
    case("expand_as", lambda x, y: x.expand_as(y) * y, shapes=[((2, 1), (4, 2, 3))]),
    case("squeeze", lambda x: x.squeeze(1), shapes=[((2, 1, 3),), ((2, 3),)]),
    case("squeeze_all", lambda x: x.squeeze(), shapes=[((2, 1, 3, 1),), ((1,),)]),
    case("squeeze_some", lambda x: x.squeeze((0, 1)), shapes=[((1, 1, 3, 1),)]),
    case("unsqueeze", lambda x: x.unsqueeze(-1), shapes=[((2, 3),), ((),)]),
    case("flip", lambda x: x.flip((0, 2))),
    case("flip_dims", lambda x: ft.flip(x, dims=(1,)), lambda x: torch.flip(x, dims=(1,))),
    case("flip_ends", lambda x: x.fliplr() * x.flipud()),
    case("roll", lambda x: x.roll(5)),
    case("roll_axes", lambda x: x.roll((1, -2), dims=(0, 2))),
    case("concatenate", lambda x, y: ft.concatenate([x, y], axis=1),
         lambda x, y: torch.cat([x, y], dim=1), [((2, 3), (2, 1)), ((2, 0), (2, 1))]),
    case("cat", lambda x, y: ft.cat((x, y * y, x), dim=-2),
         lambda x, y: torch.cat((x, y * y, x), dim=-2), [((2, 3), (1, 3))]),
    case("cat_constant", lambda x: ft.cat([ft.ones(2, 3, dtype=ft.float64).astype(x.dtype), x, x]),
         lambda x: torch.cat([torch.ones(2, 3, dtype=x.dtype), x, x]), [((1, 3),)]),
    case("cat_nothing", lambda x: ft.cat([ft.zeros(0).astype(x.dtype), x]),
         lambda x: torch.cat([torch.zeros(0, dtype=x.dtype), x]), [((2, 3),)]),
    case("stack", lambda x, y: ft.stack([x, y], dim=-1), lambda x, y: torch.stack([x, y], dim=-1),
         [((2, 3), (2, 3)), ((), ())]),
    case("hstack", lambda x, y: ft.hstack([x, y]), lambda x, y: torch.hstack([x, y]),
         [((2, 3), (2, 1)), ((3,), (2,)), ((), ())]),
    case("vstack", lambda x, y: ft.vstack([x, y]), lambda x, y: torch.vstack([x, y]),
         [((2, 3), (1, 3)), ((3,), (3,))]),
    case("split", lambda x: joined(x.split(2, 1)), shapes=GRID),
    case("split_sizes", lambda x: joined(x.split([1, 2, 2], dim=1)), shapes=[((3, 5),)]),
    case("split_last", lambda x: x.split(2, dim=-1)[-1], shapes=GRID),
    case("chunk", lambda x: joined(x.chunk(3, dim=1)), shapes=GRID),
    case("unbind", lambda x: joined(x.unbind(1)), shapes=GRID),
    case("unbind_one", lambda x: x.unbind(dim=-1)[1], shapes=GRID),
    case("tile", lambda x: x.tile((2, 3)), shapes=[((3,),), ((2, 3),), ((2, 1, 2),), ((),)]),
    case("repeat", lambda x: x.repeat(2, 1, 3), shapes=[((3,),), ((2, 3),), ((2, 1, 2),)]),
    case("repeat_none", lambda x: x.repeat(0, 2), shapes=[((3,),)]),
    case("repeat_interleave", lambda x: x.repeat_interleave(2), shapes=[((2, 3),)]),
    case("repeat_interleave_dim", lambda x: x.repeat_interleave(3, dim=0), shapes=[((2, 3),)]),
    case("repeat_interleave_each", lambda x: ft.repeat_interleave(x, [2, 0, 1], dim=1),
         lambda x: torch.repeat_interleave(x, torch.tensor([2, 0, 1]), dim=1), [((2, 3),)]),
    case("unfold", lambda x: x.unfold(1, 3, 2), shapes=[((2, 7),), ((2, 8),), ((2, 3, 2),)]),
    case("unfold_overlap", lambda x: x.unfold(0, 2, 1), shapes=[((4, 2),), ((5,),)]),
    case("unfold_gaps", lambda x: x.unfold(-1, 2, 3), shapes=[((2, 8),)]),
    case("meshgrid", lambda x, y: joined([a * b for a, b in [ft.meshgrid(x, y)]]),
         lambda x, y: joined([a * b for a, b in [torch.meshgrid(x, y, indexing="ij")]]),
         [((3,), (2,))]),
    case("meshgrid_xy", lambda x, y: ft.meshgrid(x, y, indexing="xy")[0],
         lambda x, y: torch.meshgrid(x, y, indexing="xy")[0], [((3,), (2,))]),
    *(case(f"pad_{pad}", lambda x, p=pad: ft.pad(x, p, value=1.5),
           lambda x, p=pad: F.pad(x, p, value=1.5), [(shape,)]) for shape, pad in PADS),
    *MODE_CASES,
]  # fmt: skip


@pytest.mark.parametrize("what", CHECKS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_equals_pytorch(case: Case, what: str) -> None:
    check(case, what, torch)


def test_padding_of_any_axis_in_any_mode() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert ft.pad(x, (0, 0, 1, 1), mode="circular")[:, 0].tolist() == [3, 0, 3, 0]
    names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    for mode, theirs in names.items():
        widths = ((1, 1), (2, 1))
        np.testing.assert_array_equal(
            ft.pad(x, (2, 1, 1, 1), mode=mode), np.pad(x, widths, mode=theirs)
        )
    assert ft.pad(ft.tensor([1, 2]), (1, 0), value=7).tolist() == [7, 1, 2]
    assert ft.pad(ft.tensor([True]), (1, 0)).dtype == np.bool_


def test_views_share_memory() -> None:
    x = ft.zeros(2, 6)
    for piece in (x.flip(1), x.split(2, 1)[0], x.unbind(0)[0], x.unfold(1, 2, 2), x.movedim(0, 1)):
        assert np.shares_memory(piece.numpy(), x.numpy())
        assert piece.cell is x.cell


def test_shapes_of_everything_else() -> None:
    x = ft.zeros(2, 3)
    assert x.view_as(ft.zeros(6)).shape == (6,) and x.new_zeros(4).shape == (4,)
    assert x.contiguous() is x and x.T.contiguous().numpy().flags.c_contiguous
    assert [p.shape for p in ft.zeros(0, 2).chunk(2)] == [(0, 2), (0, 2)]
    assert ft.zeros(()).expand(2, 3).shape == (2, 3)


MISTAKES = {
    "reshape": [
        lambda x: x.reshape(4, -1),
        lambda x: x.reshape(-1, -1),
        lambda x: x.reshape(2.5),
        lambda x: x.reshape(-2, 3),
        lambda x: x.reshape("ab"),
    ],
    "view_as": [lambda x: x.view_as("text")],
    "unflatten": [lambda x: x.unflatten(2, (1, 2)), lambda x: x.unflatten(1, "a")],
    "flatten": [lambda x: x.flatten(2), lambda x: x.flatten(1, 0), lambda x: ft.flatten("text")],
    "permute": [
        lambda x: x.permute(0, 2),
        lambda x: x.permute(0),
        lambda x: x.permute(0, 0),
        lambda x: x.permute(0.5, 1),
        lambda x: ft.permute("text", 0),
    ],
    "transpose": [lambda x: x.transpose(0, 2), lambda x: x.transpose(0, "a")],
    "movedim": [
        lambda x: x.movedim(0, 2),
        lambda x: x.movedim((0, 1), 0),
        lambda x: x.movedim((0, 0), (0, 1)),
    ],
    "broadcast_to": [
        lambda x: x.broadcast_to((3,)),
        lambda x: x.broadcast_to((2, 4)),
        lambda x: x.broadcast_to((2, -1)),
        lambda x: x.broadcast_to(None),
    ],
    "expand": [lambda x: x.expand(3, 3), lambda x: x.expand("a"), lambda x: x.expand(-1, 2, 3)],
    "squeeze": [lambda x: x.squeeze(2), lambda x: x.squeeze(0.5), lambda x: ft.squeeze("text")],
    "unsqueeze": [lambda x: x.unsqueeze(3), lambda x: x.unsqueeze("a")],
    "flip": [lambda x: x.flip(2), lambda x: x.flip((0, 0)), lambda x: ft.flip("text")],
    "roll": [
        lambda x: x.roll(1, 2),
        lambda x: x.roll((1, 2)),
        lambda x: x.roll((1, 2), 0),
        lambda x: x.roll(0.5),
    ],
    "concatenate": [
        lambda x: ft.cat([x, ft.ones(3, 2)]),
        lambda x: ft.cat([x], 2),
        lambda x: ft.cat([]),
        lambda x: ft.cat(5),
        lambda x: ft.cat([x, "text"]),
        lambda x: ft.cat([x, ft.ones(3)]),
        lambda x: ft.cat([1.0, 2.0]),
    ],
    "stack": [
        lambda x: ft.stack([x, ft.ones(3, 2)]),
        lambda x: ft.stack([]),
        lambda x: ft.stack([x], 3),
        lambda x: ft.stack("text"),
    ],
    "hstack": [lambda x: ft.hstack([])],
    "vstack": [lambda x: ft.vstack(5)],
    "split": [
        lambda x: x.split([1, 1], 1),
        lambda x: x.split(0),
        lambda x: x.split(1, 2),
        lambda x: x.split(1.5),
        lambda x: x.split([4, -1], 1),
    ],
    "chunk": [lambda x: x.chunk(0), lambda x: x.chunk(2, 2), lambda x: x.chunk("a")],
    "unbind": [lambda x: x.unbind(2), lambda x: ft.unbind(ft.tensor(1.0))],
    "tile": [lambda x: x.tile((2, -1)), lambda x: x.tile(0.5)],
    "repeat": [lambda x: x.repeat(2), lambda x: x.repeat("a", 1)],
    "repeat_interleave": [
        lambda x: x.repeat_interleave(-1, 0),
        lambda x: x.repeat_interleave(2, 2),
        lambda x: x.repeat_interleave([1, 2, 3], 0),
        lambda x: x.repeat_interleave(1.5),
    ],
    "sliding_windows": [
        lambda x: x.unfold(2, 1, 1),
        lambda x: x.unfold(1, 4, 1),
        lambda x: x.unfold(1, 1, 0),
        lambda x: x.unfold(1, 1.5, 1),
    ],
    "meshgrid": [lambda x: ft.meshgrid(x, x), lambda x: ft.meshgrid(x[0], indexing="ji")],
    "pad": [
        lambda x: ft.pad(x, (1,)),
        lambda x: ft.pad(x, (1,) * 6),
        lambda x: ft.pad(x, 1.5),
        lambda x: ft.pad(x, (3, 0), mode="reflect"),
        lambda x: ft.pad(x, (4, 0), mode="circular"),
        lambda x: ft.pad(x, (1, 1), mode="mirror"),
        lambda x: ft.pad(x, (-2, -2)),
        lambda x: ft.pad(x, (1, 1), mode="reflect", value=1.0),
        lambda x: ft.pad(ft.zeros(2, 0), (1, 1), mode="replicate"),
        lambda x: ft.pad(ft.tensor([1]), (1, 1), value=0.5),
        lambda x: ft.pad("text", (1, 1)),
    ],
}


@pytest.mark.parametrize(
    ("name", "mistake"), [(n, i) for n, found in MISTAKES.items() for i in range(len(found))]
)
def test_mistakes(name: str, mistake: int) -> None:
    with pytest.raises(ft.FathomError, match=name):
        MISTAKES[name][mistake](ft.ones(2, 3))


# -- creation --------------------------------------------------------------------------------------

SAME = [
    ("arange", (5,)), ("arange", (2, 9, 3)), ("arange", (0.0, 1.0, 0.25)), ("arange", (5, 0, -2)),
    ("arange", (3, 3)), ("linspace", (-1, 2, 7)), ("linspace", (0, 1, 1)), ("linspace", (0, 1, 0)),
    ("logspace", (0, 2, 5)), ("eye", (3,)), ("eye", (2, 4)), ("zeros", (2, 3)), ("ones", ((2, 0),)),
    ("full", ((2,), 1.5)), ("full", ((2,), 3)), ("full", ((2,), True)), ("tensor", ([[1, 2]],)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), SAME, ids=str)
def test_creation_as_in_pytorch(name: str, args) -> None:
    ours, theirs = getattr(ft, name)(*args).numpy(), getattr(torch, name)(*args).numpy()
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_like_and_keywords() -> None:
    x = ft.ones(2, 3, dtype=ft.float64)
    for name, value in [("zeros_like", 0), ("ones_like", 1)]:
        out = getattr(ft, name)(x, requires_grad=True)
        assert out.dtype == x.dtype and out.requires_grad and (out == value).all()
    assert ft.full_like(x, 2, dtype=ft.int64).dtype == np.int64
    assert ft.empty_like(x).shape == x.shape and ft.empty(2, 3).dtype == np.float32
    assert ft.arange(3, dtype=ft.float64).dtype == np.float64
    assert ft.as_tensor(x) is x and ft.as_tensor([1.0]).dtype == np.float32


def test_random_draws_come_from_the_stream_sample() -> None:
    def draw():
        return [
            ft.rand(3),
            ft.randn(2, 2),
            ft.randint(10, (4,)),
            ft.randperm(5),
            ft.randn_like(ft.ones(2)),
        ]

    with ft.seed(3) as rng:
        first = draw()
        assert rng.state_dict()["streams"] == {"sample": 5}
    with ft.seed(3):
        second = draw()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert sorted(first[3].tolist()) == [0, 1, 2, 3, 4] and first[2].dtype == np.int64
    with ft.seed(0):
        x = ft.randn(20000, dtype=ft.float64).numpy()
        u = ft.rand(20000).numpy()
        n = ft.randint(2, 5, (20000,)).numpy()
    assert abs(x.mean()) < 0.03 and abs(x.std() - 1) < 0.03
    assert abs(u.mean() - 0.5) < 0.01 and u.min() >= 0 and u.max() < 1
    assert set(n.tolist()) == {2, 3, 4}


WRONG = [
    ("zeros", (-1,)), ("zeros", (1.5,)), ("ones", ("a",)), ("empty", (2, -3)), ("eye", (-1,)),
    ("full", ((2,), "a")), ("full", ((-2,), 1)), ("arange", ("a",)), ("arange", (0, 5, 0)),
    ("arange", (0, 5, -1)), ("linspace", (0, 1, -1)), ("linspace", (0, 1, 2.5)),
    ("linspace", ("a", 1, 2)), ("rand", (-1,)), ("randn", ("a",)), ("randint", (5, 5, (2,))),
    ("randint", (5,)), ("randint", (0.5, (2,))), ("randperm", (-1,)), ("from_numpy", ([1.0],)),
    ("zeros_like", ("a",)), ("tensor", ("a",)), ("as_tensor", ([[1], [1, 2]],)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), WRONG, ids=str)
def test_wrong_creation(name: str, args) -> None:
    with pytest.raises(ft.FathomError):
        getattr(ft, name)(*args)
    if name in ("zeros", "rand", "eye"):
        with pytest.raises(ft.FathomError, match=name):
            getattr(ft, name)(2, dtype="nothing")
