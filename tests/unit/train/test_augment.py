import numpy as np
import pytest

import fathom
from fathom.engine.errors import ArgumentError, FathomError
from fathom.nn import functional as F
from fathom.train import augment

SHAPES = [(6, 8, 8), (6, 3, 8, 8)]


def rng(seed=0):
    return np.random.default_rng(seed)


def images(shape=(6, 3, 8, 8), dtype=np.float32):
    return rng(1).random(shape).astype(dtype)


ALL = [
    augment.Flip(),
    augment.Flip(1.0, "vertical"),
    augment.Crop(2),
    augment.Shift(3),
    augment.Rotate(30),
    augment.Noise(0.1),
    augment.Scale(0.2),
    augment.Mask(0.3),
    augment.Cutout(3),
    augment.MixUp(classes=6),
    augment.CutMix(classes=6),
    augment.Compose(augment.Flip(), augment.Rotate()),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("transform", ALL, ids=lambda t: type(t).__name__)
def test_shape_type_draws_and_the_users_arrays(transform, shape):
    x, y = images(shape), np.arange(6)
    kept = x.copy(), y.copy()
    a, b = transform(x, y, rng())
    assert a.shape == x.shape and a.dtype == x.dtype and len(b) == 6
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])
    again = transform(x, y, rng())
    np.testing.assert_array_equal(a, again[0])
    assert not np.shares_memory(a, x)


def test_flip_all_or_nothing():
    x = images()
    np.testing.assert_array_equal(augment.Flip(1.0)(x, None, rng())[0], x[..., ::-1])
    np.testing.assert_array_equal(augment.Flip(0.0)(x, None, rng())[0], x)
    half = augment.Flip(0.5)(np.tile(x[:1], (2000, 1, 1, 1)), None, rng())[0]
    assert (half == x[0]).all(axis=(1, 2, 3)).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_moved_by_hand(shape):
    x = images(shape)
    out = augment.moved(x, np.full(6, 2), np.full(6, -1), value=7.0)
    np.testing.assert_array_equal(out[..., 2:, :-1], x[..., :-2, 1:])
    assert (out[..., :2, :] == 7).all() and (out[..., -1] == 7).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rotation_by_right_angles_is_exact(shape):
    x = images(shape, np.float64)
    for turns in range(4):
        out = augment.rotated(x, np.full(6, turns * np.pi / 2))
        np.testing.assert_allclose(out, np.rot90(x, turns, (-2, -1)), atol=1e-9)


def test_rotation_against_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = images((4, 9, 9), np.float64)
    out = augment.rotated(x, np.full(4, np.deg2rad(20)))
    wanted = ndimage.rotate(x, 20, axes=(2, 1), reshape=False, order=1)
    inside = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_allclose(out[inside], wanted[inside], atol=1e-9)


def test_cutout_blanks_at_most_a_square():
    out = augment.Cutout(3)(np.ones((200, 8, 8)), None, rng())[0]
    blank = (out == 0).sum(axis=(1, 2))
    assert blank.max() == 9 and blank.min() >= 4  # cut at corners


def test_masked_features_come_from_the_same_column():
    x = np.arange(40.0).reshape(10, 4)
    out = augment.Mask(0.5)(x, None, rng())[0]
    for column in range(4):
        assert set(out[:, column]) <= set(x[:, column])
    assert (out != x).any()


def test_images_that_come_as_rows():
    x = images((6, 64))
    out, _ = augment.Images((8, 8), augment.Flip(1.0))(x, None, rng())
    np.testing.assert_array_equal(out.reshape(6, 8, 8), x.reshape(6, 8, 8)[..., ::-1])
    with pytest.raises(FathomError, match="no images of shape"):
        augment.Images((7, 7), augment.Flip())(x, None, rng())


def test_the_loss_of_mixed_labels_is_the_mixed_loss():
    logits = fathom.tensor(rng(2).standard_normal((8, 5)))
    y, order, share = rng(3).integers(0, 5, 8), rng(4).permutation(8), 0.3
    mixed = augment.blend(np.eye(5)[y], order, share)
    found = F.cross_entropy(logits, fathom.tensor(mixed)).item()
    one = F.cross_entropy(logits, fathom.tensor(y)).item()
    other = F.cross_entropy(logits, fathom.tensor(y[order])).item()
    assert found == pytest.approx(share * one + (1 - share) * other, rel=1e-12)


@pytest.mark.parametrize("kind", [augment.MixUp, augment.CutMix])
def test_mixed_targets_stay_shares(kind):
    for seed in range(20):
        x, y = kind(classes=3)(np.ones((4, 8, 8)), np.array([0, 1, 2, 2]), rng(seed))
        np.testing.assert_allclose(y.sum(axis=1), 1.0)
        np.testing.assert_allclose(x, 1.0)
        assert (y >= 0).all()


def test_cutmix_shares_are_areas():
    x = np.zeros((2, 10, 10))
    x[1] = 1.0
    for seed in range(30):
        out, y = augment.CutMix(classes=2)(x, np.array([0, 1]), rng(seed))
        assert y[0, 1] == pytest.approx(out[0].mean())


def test_mixing_float_targets():
    _, y = augment.MixUp()(np.ones((4, 2)), np.array([0.0, 1.0, 2.0, 3.0]), rng())
    assert y.sum() == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: augment.Flip(1.5), r"p must lie in \[0, 1\]"),
        (lambda: augment.Flip(axis="up"), "horizontal"),
        (lambda: augment.Noise(-1), "std"),
        (lambda: augment.Cutout(0), "size"),
        (lambda: augment.MixUp(alpha=0), "alpha"),
        (lambda: augment.Compose(3), "takes transforms"),
        (lambda: augment.MixUp()(np.ones((2, 2)), np.array([0, 1]), rng()), "number of classes"),
        (lambda: augment.Flip()(np.ones((2, 2)), None, rng()), "images are"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises((ArgumentError, FathomError), match=text):
        make()
