"""Generated problems: exact tables, geometry without noise, seeds, bad arguments."""

import numpy as np
import pytest

from fathom.data import blobs, checkerboard, circles, curve, gates, moons, spirals, xor_cloud
from fathom.data.generators import CURVES, GATES
from fathom.engine.errors import ArgumentError

CLOUDS = [xor_cloud, moons, circles, spirals, blobs, checkerboard]
EVERY = [*CLOUDS, curve]


@pytest.mark.parametrize("kind", GATES)
def test_gate_is_its_truth_table(kind):
    logic = {
        "xor": lambda a, b: a != b,
        "and": lambda a, b: a and b,
        "or": lambda a, b: a or b,
        "nand": lambda a, b: not (a and b),
        "nor": lambda a, b: not (a or b),
        "xnor": lambda a, b: a == b,
    }
    data = gates(kind)
    assert len(data) == 4 and data.name == kind
    for (a, b), y in zip(data.x.tolist(), data.y.tolist(), strict=True):
        assert y == int(logic[kind](bool(a), bool(b)))


@pytest.mark.parametrize("make", EVERY)
def test_same_seed_same_bytes(make):
    a, b, c = make(n=60, noise=0.1), make(n=60, noise=0.1), make(n=60, noise=0.1, seed=1)
    assert a.x.tobytes() == b.x.tobytes() and a.y.tobytes() == b.y.tobytes()
    assert (a.x.tobytes(), a.y.tobytes()) != (c.x.tobytes(), c.y.tobytes())


@pytest.mark.parametrize("make", [xor_cloud, moons, circles, spirals, blobs])
def test_classes_are_even(make):
    counts = np.bincount(make(n=101).y)
    assert counts.sum() == 101 and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("make", [moons, circles, spirals, checkerboard, xor_cloud])
def test_without_noise_classes_do_not_touch(make):
    data = make(n=200, noise=0.0)
    a, b = data.x[data.y == 0], data.x[data.y == 1]
    gap = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1)).min()
    assert gap > (0 if make is checkerboard else 0.02)


def test_geometry_without_noise():
    rings = circles(n=200, noise=0.0, factor=0.4)
    radius = np.hypot(*rings.x.T)
    np.testing.assert_allclose(radius, np.where(rings.y == 0, 1.0, 0.4), rtol=1e-6)
    cloud = xor_cloud(n=40, noise=0.0)
    assert np.unique(np.abs(cloud.x)).tolist() == [1.0]
    assert ((np.sign(cloud.x[:, 0]) != np.sign(cloud.x[:, 1])) == (cloud.y == 1)).all()
    board = checkerboard(n=500, cells=4)
    square = np.floor((board.x.astype(np.float64) + 1) * 2).astype(int).sum(axis=1) % 2
    assert (square == board.y).all()
    middle = np.array([[0.0, 0.0, 1.0], [5.0, 5.0, 2.0]])
    data = blobs(n=10, noise=0.0, centers=middle)
    np.testing.assert_array_equal(data.x, middle[data.y])


def test_noise_has_the_size_it_is_told():
    data = xor_cloud(n=4000, noise=0.3)
    corner = np.where(data.x > 0, 1.0, -1.0)
    assert 0.27 < (data.x - corner).std() < 0.31
    flat = curve("step", n=4000, noise=0.5, low=1, high=2)
    assert 0.47 < flat.y.std() < 0.53


def test_sizes_and_options():
    assert np.unique(spirals(n=90, classes=5).y).tolist() == [0, 1, 2, 3, 4]
    assert blobs(n=30, classes=4, features=7).x.shape == (30, 7)
    assert checkerboard(n=10).task == "classification"


@pytest.mark.parametrize("kind", CURVES)
def test_curves_without_noise_are_the_function(kind):
    data = curve(kind, n=51, noise=0.0)
    expected = {
        "sine": np.sin,
        "cosine": np.cos,
        "step": lambda x: (x >= 0) * 1.0,
        "abs": np.abs,
        "sinc": lambda x: np.where(x == 0, 1.0, np.sin(x) / np.where(x == 0, 1, x)),
        "polynomial": lambda x: x**3 - x,
        "gaussian": lambda x: np.exp(-x * x),
        "sawtooth": lambda x: x % 1,
    }[kind]
    np.testing.assert_allclose(data.y, expected(data.x[:, 0].astype(np.float64)), atol=2e-6)
    assert data.task == "regression" and data.classes == ()


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("n", [0, -5, 2.5, "many", True])
def test_impossible_n(make, n):
    with pytest.raises(ArgumentError, match="n must be a whole number"):
        make(n=n)


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("noise", [-0.1, float("nan"), float("inf"), "loud", None])
def test_impossible_noise(make, noise):
    with pytest.raises(ArgumentError, match="noise must be a"):
        make(noise=noise)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gates("xro"), "did you mean 'xor'"),
        (lambda: curve("sinus"), "did you mean 'sin"),
        (lambda: curve("abs", low=1, high=1), "low must be below high"),
        (lambda: spirals(classes=1), "classes must be a whole number >= 2"),
        (lambda: spirals(n=3, classes=4), "n must be a whole number >= 4"),
        (lambda: circles(factor=2), "factor"),
        (lambda: checkerboard(cells=1), "cells"),
        (lambda: blobs(features=0), "features"),
        (lambda: blobs(centers=[[0, 0]]), "at least 2 classes"),
        (lambda: blobs(centers=[[0, 0], [1]]), "centers"),
        (lambda: moons(seed=-1), "seed"),
    ],
)
def test_impossible_options(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
