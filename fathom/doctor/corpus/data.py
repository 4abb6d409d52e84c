"""The corpus' data: NumPy arrays, standardized, then changed as a recipe's faults want them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

import fathom.data
from fathom.doctor.corpus.recipe import Recipe
from fathom.engine.random import Random
from fathom.engine.tensor import Array


@dataclass(frozen=True)
class Data:
    """Training and validation arrays. truth : the validation targets before any fault."""

    x: Array
    y: Array
    vx: Array
    vy: Array
    truth: Array
    classes: int = 0

    @property
    def features(self) -> int:
        return int(self.x.shape[-1])


def split(x: Array, y: Array, seed: int = 0, share: float = 0.25, most: int = 1500) -> Data:
    """Rows in random order, a share of them for validation."""
    order = Random(seed).stream("split").permutation(len(x))[:most]
    held = max(int(len(order) * share), 1)
    a, b = order[held:], order[:held]
    classes = int(y.max()) + 1 if y.dtype.kind in "iu" else 0
    return Data(x[a], y[a], x[b], y[b], y[b], classes)


def standardized(x: Array) -> Array:
    """Mean 0 and standard deviation 1 for each column."""
    return ((x - x.mean(axis=0)) / (x.std(axis=0) + 1e-8)).astype(np.float32)


def table(name: str, seed: int = 0, scaled: bool = True, **options: object) -> Data:
    """A set of `fathom.data`, standardized; amounts too."""
    found = fathom.data.load(name, **options)
    x = standardized(np.asarray(found.x, np.float32)) if scaled else np.asarray(found.x)
    y = np.asarray(found.y)
    if found.task == "regression":
        y = standardized(y.astype(np.float32)[:, None])
    return split(x, y if y.dtype.kind == "f" else y.astype(np.int64), seed)


@cache
def _digits() -> tuple[Array, Array]:
    found = fathom.data.load("digits")
    return np.asarray(found.x, np.float32) / 16.0, np.asarray(found.y).astype(np.int64)


def digits(seed: int = 0, image: bool = False, most: int = 1500) -> Data:
    """8 x 8 digits between 0 and 1: (n, 64), or (n, 1, 8, 8)."""
    x, y = _digits()
    return split(x.reshape(-1, 1, 8, 8) if image else x, y, seed, most=most)


def friedman(n: int = 800, seed: int = 0) -> Data:
    """Ten inputs, five of which matter (Friedman, 1991)."""
    stream = Random(seed).stream("data")
    x = stream.uniform((n, 10)).astype(np.float32)
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y = y + 10 * x[:, 3] + 5 * x[:, 4] + stream.normal((n,))
    return split(standardized(x), standardized(y.astype(np.float32)[:, None]), seed)


def clusters(
    n: int = 900, features: int = 20, classes: int = 4, seed: int = 0, spread: float = 1.0
) -> Data:
    """Classes of two clouds each in many dimensions."""
    stream = Random(seed).stream("data")
    centres = stream.normal((2 * classes, features)) * spread
    which = stream.integers(0, 2 * classes, (n,))
    x = centres[which] + stream.normal((n, features)) * 0.8
    return split(standardized(x), (which % classes).astype(np.int64), seed)


def categories(n: int = 900, seed: int = 0) -> tuple[Data, tuple[int, ...]]:
    """Three columns of codes and a number, one after the other as floats; a binary target."""
    stream = Random(seed).stream("data")
    sizes = (7, 12, 5)
    codes = np.stack([stream.integers(0, s, (n,)) for s in sizes], axis=1)
    worth = [stream.normal((s,)) for s in sizes]
    number = stream.normal((n,))
    z = sum(w[codes[:, i]] for i, w in enumerate(worth)) + number * worth[0][codes[:, 0]]
    x = np.concatenate([codes, number[:, None]], axis=1).astype(np.float32)
    return split(x, (z > 0).astype(np.int64), seed), sizes


def waves(n: int = 600, length: int = 24, classes: int = 3, seed: int = 0) -> Data:
    """Noisy sines (n, length, 1) whose frequency is the class."""
    stream = Random(seed).stream("data")
    y = stream.integers(0, classes, (n,))
    t = np.arange(length) / length
    phase = stream.uniform((n, 1)) * 2 * np.pi
    x = np.sin(2 * np.pi * (1.5 + 1.5 * y[:, None]) * t + phase) + 0.25 * stream.normal((n, length))
    return split(x[:, :, None].astype(np.float32), y.astype(np.int64), seed)


def running_sums(n: int = 600, length: int = 12, seed: int = 0) -> Data:
    """Sequences of normal numbers (n, length, 2); class 1 where the first column's sum is over
    the second's."""
    x = Random(seed).stream("data").normal((n, length, 2))
    return split(x, (x[:, :, 0].sum(axis=1) > x[:, :, 1].sum(axis=1)).astype(np.int64), seed)


def forecasts(n: int = 600, length: int = 20, seed: int = 0) -> Data:
    """Windows of a damped oscillation with noise (n, length, 1), and the value that follows."""
    stream = Random(seed).stream("data")
    t = np.arange(length + 1) * 0.35
    phase, speed = stream.uniform((n, 1)) * 6.28, 0.7 + 0.6 * stream.uniform((n, 1))
    x = np.sin(speed * t + phase) + 0.5 * np.sin(2.3 * speed * t) + 0.05 * stream.normal(
        (n, length + 1))  # fmt: skip
    x = x.astype(np.float32)
    return split(x[:, :length, None], x[:, length:], seed)


def tags(n: int = 500, length: int = 10, words: int = 20, seed: int = 0) -> Data:
    """Sequences of words (n, length); each one's tag depends on it and on the word before."""
    x = Random(seed).stream("data").integers(0, words, (n, length))
    before = np.concatenate([np.zeros((n, 1), np.int64), x[:, :-1]], axis=1)
    return split(x, (x % 3 + (before % 2)) % 4, seed)


@cache
def _text() -> tuple[Array, int]:
    text = " . ".join(" ".join(s) for s in fathom.data.grammar(600).sentences)
    letters = sorted(set(text))
    code = {letter: i for i, letter in enumerate(letters)}
    return np.array([code[letter] for letter in text], np.int64), len(letters)


def characters(context: int, seed: int = 0, n: int = 3000, each: bool = False) -> Data:
    """Windows of text as codes (n, context), and the letter behind it (or behind each)."""
    codes, letters = _text()
    start = Random(seed).stream("data").integers(0, len(codes) - context - 1, (n,))
    rows = start[:, None] + np.arange(context)
    y = codes[rows + 1] if each else codes[start + context]
    return replace(split(codes[rows], y, seed, most=n), classes=letters)


def sentences(seed: int = 0, length: int = 12) -> tuple[Data, int]:
    """Sentences as word numbers, filled up with 0; the class is what they speak about."""
    topics = ("people", "places")
    found = [(s, i) for i, t in enumerate(topics) for s in fathom.data.grammar(
        300, (t,), seed=seed).sentences]  # fmt: skip
    words = sorted({w for s, _ in found for w in s})
    number = {w: i + 1 for i, w in enumerate(words)}
    x = np.zeros((len(found), length), np.int64)
    for row, (sentence, _) in enumerate(found):
        ids = [number[w] for w in sentence][:length]
        x[row, : len(ids)] = ids
    return split(x, np.array([c for _, c in found], np.int64), seed), len(words) + 1


def shapes(n: int = 700, size: int = 12, seed: int = 0, colours: int = 1) -> Data:
    """Squares, crosses, rings and bars on noise (n, colours, size, size), four classes."""
    stream = Random(seed).stream("data")
    y = stream.integers(0, 4, (n,))
    x = 0.3 * stream.normal((n, colours, size, size))
    centre = stream.integers(3, size - 3, (n, 2))
    grid = np.arange(size)
    for i in range(n):
        down, across = abs(grid[:, None] - centre[i, 0]), abs(grid[None] - centre[i, 1])
        far, near = np.maximum(down, across), np.minimum(down, across)
        drawn = ((far <= 2), (near == 0) & (far <= 2), (far == 2), (down <= 1) & (across <= 3))
        x[i, i % colours] += 1.5 * drawn[int(y[i])]
    return split(x.astype(np.float32), y.astype(np.int64), seed)


def prepared(data: Data, recipe: Recipe, seed: int = 0) -> Data:
    """The data as a recipe wants it."""
    x, y = data.x, data.y
    if recipe.rows:
        x, y = x[: recipe.rows], y[: recipe.rows]
    stream = Random(seed).stream("fault")
    if recipe.targets == "permuted":
        y = y[stream.permutation(len(y))]
    data = replace(data, x=_inputs(x, recipe), vx=_inputs(data.vx, recipe, held=True))
    return replace(data, y=_targets(y, recipe), vy=_targets(data.vy, recipe, held=True))


def _inputs(x: Array, recipe: Recipe, held: bool = False) -> Array:
    value = recipe.input_value
    if recipe.inputs and x.dtype.kind in "iu":
        return np.broadcast_to(x[:1], x.shape).copy() if recipe.inputs in ("same", "zeros") else x
    match recipe.inputs:
        case "scale":
            return x * np.float32(value)
        case "offset":
            return x + np.float32(value)
        case "one":
            x = x.copy()
            x[..., 0] *= value
            return x
        case "zeros":
            return np.zeros_like(x)
        case "same":
            return np.broadcast_to(x[:1], x.shape).copy()
        case "nan":
            x = x.copy()
            if not held:
                x.reshape(len(x), -1)[:: max(len(x) // 5, 1), 0] = np.nan
            return x
    return x


def _targets(y: Array, recipe: Recipe, held: bool = False) -> Array:
    value = recipe.target_value
    match recipe.targets:
        case "scale":
            return y * np.float32(value)
        case "offset":
            return y + np.float32(value)
        case "shifted":
            return y + 1
        case "signed":
            return 2 * y - 1
        case "tiny":
            return (y / 255).astype(y.dtype)
        case "reshaped":
            return y.reshape(-1) if y.ndim == 2 else y[:, None]
        case "nan":
            y = y.copy()
            if not held:
                y[:: max(len(y) // 5, 1)] = np.nan
            return y
    return y


__all__ = [
    "Data", "categories", "characters", "clusters", "digits", "forecasts", "friedman", "prepared",
    "running_sums", "sentences", "shapes", "split", "standardized", "table", "tags", "waves",
]  # fmt: skip
