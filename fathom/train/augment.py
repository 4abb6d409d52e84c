"""Data augmentation: changes of a batch that keep what it means, drawn anew each time.

A transform is called as `(x, y, rng)` with arrays and a NumPy generator, and returns new
`(x, y)`; the arrays it was given are left alone. `fit(..., augment=...)` hands it the stream
"augment" of the run. Images are (n, height, width) or (n, channels, height, width).

>>> rng = np.random.default_rng(0)
>>> chain = Compose(Flip(), Crop(padding=1), Noise(0.1))
>>> x, y = chain(np.ones((8, 1, 4, 4), np.float32), np.arange(8), rng)
>>> x.shape, y.tolist()
((8, 1, 4, 4), [0, 1, 2, 3, 4, 5, 6, 7])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError
from fathom.engine.tensor import Array
from fathom.nn.named import build, named, pick

Rng = np.random.Generator
Pair = tuple[Array, Array]


class Transform:
    """Base: `change(x, rng)` returns new inputs; targets stay."""

    def __call__(self, x: Array, y: Array, rng: Rng) -> Pair:
        return self.change(x, rng), y

    def change(self, x: Array, rng: Rng) -> Array:
        raise NotImplementedError

    def __repr__(self) -> str:
        options = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({options})"


class Compose:
    """One transform after another."""

    def __init__(self, *transforms: Any) -> None:
        for transform in transforms:
            if not callable(transform):
                raise ArgumentError(f"Compose takes transforms; received {transform!r}")
        self.transforms = transforms

    def __call__(self, x: Array, y: Array, rng: Rng) -> Pair:
        for transform in self.transforms:
            x, y = transform(x, y, rng)
        return x, y

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


class Images(Transform):
    """For images that come as rows: reshapes them to `shape`, transforms, flattens again.

    >>> Images((2, 2), Flip(p=1.0))(np.array([[1.0, 2, 3, 4]]), None, np.random.default_rng(0))[0]
    array([[2., 1., 4., 3.]])
    """

    def __init__(self, shape: Sequence[int], *transforms: Any) -> None:
        self.shape, self.chain = tuple(shape), Compose(*transforms)

    def __call__(self, x: Array, y: Array, rng: Rng) -> Pair:
        if x.ndim != 2 or x.shape[1] != int(np.prod(self.shape)):
            raise ShapeError(f"rows of shape {x.shape} are no images of shape {self.shape}")
        images, y = self.chain(x.reshape(-1, *self.shape), y, rng)
        return images.reshape(len(x), -1), y


def _share(value: float, name: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise ArgumentError(f"{name} must lie in [0, 1]; received {value!r}")
    return float(value)


def _at_least(value: float, name: str) -> float:
    if not 0.0 <= value < float("inf"):
        raise ArgumentError(f"{name} must be a number >= 0; received {value!r}")
    return float(value)


def _image(x: Array) -> Array:
    if x.ndim not in (3, 4):
        raise ShapeError(
            f"images are (n, height, width) or (n, channels, height, width); received {x.shape}",
            fix="Images((28, 28), ...) for images that come as rows",
        )
    return x


class Flip(Transform):
    """Left and right exchanged with probability p (up and down with axis="vertical")."""

    def __init__(self, p: float = 0.5, axis: str = "horizontal") -> None:
        if axis not in ("horizontal", "vertical"):
            raise ArgumentError(f"axis is 'horizontal' or 'vertical'; received {axis!r}")
        self.p, self.axis = _share(p, "p"), axis

    def change(self, x: Array, rng: Rng) -> Array:
        turned = rng.random(len(x)) < self.p
        out = _image(x).copy()
        out[turned] = np.flip(x[turned], -1 if self.axis == "horizontal" else -2)
        return out


class Crop(Transform):
    """A window of the same size from the image padded on all sides (He et al., 2016)."""

    def __init__(self, padding: int = 4, value: float = 0.0) -> None:
        self.padding, self.value = int(_at_least(padding, "padding")), float(value)

    def change(self, x: Array, rng: Rng) -> Array:
        down, right = rng.integers(0, 2 * self.padding + 1, (2, len(x)))
        return moved(_image(x), down - self.padding, right - self.padding, self.value)


class Shift(Transform):
    """Moved by up to `most` pixels (whole ones) each way."""

    def __init__(self, most: int = 2, value: float = 0.0) -> None:
        self.most, self.value = int(_at_least(most, "most")), float(value)

    def change(self, x: Array, rng: Rng) -> Array:
        down, right = rng.integers(-self.most, self.most + 1, (2, len(x)))
        return moved(_image(x), down, right, self.value)


def moved(x: Array, down: Array, right: Array, value: float = 0.0) -> Array:
    """Each image moved by its own whole number of pixels."""
    height, width = x.shape[-2:]
    rows = np.arange(height) - np.asarray(down)[:, None]
    columns = np.arange(width) - np.asarray(right)[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    picked = (
        np.arange(len(x))[:, None, None],
        np.clip(rows, 0, height - 1)[:, :, None],
        np.clip(columns, 0, width - 1)[:, None, :],
    )
    if x.ndim == 3:
        return np.where(inside, x[picked], x.dtype.type(value))
    n, i, j = picked
    taken = x.transpose(0, 2, 3, 1)[n, i, j].transpose(0, 3, 1, 2)
    return np.where(inside[:, None], taken, x.dtype.type(value))


def with_moved_copies(x: Array, y: Array, part: float = 0.75) -> Pair:
    """The images and four copies of each, moved by `part` of a pixel to every side.

    >>> x, y = with_moved_copies(np.ones((2, 2, 2), np.float32), np.array([0, 1]))
    >>> x.shape, y.tolist()
    ((10, 2, 2), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1])
    """
    every = [_image(x)]
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        whole = moved(x, np.full(len(x), down), np.full(len(x), right))
        every.append((1 - part) * x + part * whole)
    return np.concatenate(every).astype(x.dtype), np.tile(y, len(every))


class Rotate(Transform):
    """Turned by up to `degrees` each way about the middle, by bilinear interpolation."""

    def __init__(self, degrees: float = 15.0, value: float = 0.0) -> None:
        self.degrees, self.value = _at_least(degrees, "degrees"), float(value)

    def change(self, x: Array, rng: Rng) -> Array:
        angles = np.deg2rad(rng.uniform(-self.degrees, self.degrees, len(x)))
        return rotated(_image(x), angles, self.value)


def rotated(x: Array, angles: Array, value: float = 0.0) -> Array:
    """Each image turned by its own angle (radians, counter-clockwise)."""
    height, width = x.shape[-2:]
    i, j = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    up, over = (height - 1) / 2.0, (width - 1) / 2.0
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    row = up + cos * (i - up) + sin * (j - over)
    column = over - sin * (i - up) + cos * (j - over)
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    padded = np.pad(
        x, [(0, 0)] * (x.ndim - 2) + [(1, 1), (1, 1)], constant_values=value
    )  # what lies outside
    total = np.zeros(x.shape, np.float64)
    n = np.arange(len(x))[:, None, None]
    channels = x.ndim == 4
    for di in (0, 1):
        for dj in (0, 1):
            weight = (1 - np.abs(row - top - di)) * (1 - np.abs(column - left - dj))
            a = np.clip(top + di + 1, 0, height + 1)
            b = np.clip(left + dj + 1, 0, width + 1)
            if channels:
                taken = padded.transpose(0, 2, 3, 1)[n, a, b].transpose(0, 3, 1, 2)
                total += weight[:, None] * taken
            else:
                total += weight * padded[n, a, b]
    return total.astype(x.dtype)


class Noise(Transform):
    """Normal noise of a standard deviation; for images and tables alike."""

    def __init__(self, std: float = 0.1) -> None:
        self.std = _at_least(std, "std")

    def change(self, x: Array, rng: Rng) -> Array:
        return np.asarray(x + self.std * rng.standard_normal(x.shape), x.dtype)


class Scale(Transform):
    """Each row times its own factor from [1 - most, 1 + most]."""

    def __init__(self, most: float = 0.1) -> None:
        self.most = _share(most, "most")

    def change(self, x: Array, rng: Rng) -> Array:
        factors = rng.uniform(1 - self.most, 1 + self.most, (len(x), *[1] * (x.ndim - 1)))
        return np.asarray(x * factors, x.dtype)


class Mask(Transform):
    """Each feature replaced, with probability p, by that of another row: noise for tables.

    (Swap noise: Jahrer, 2017; the columns keep their distribution.)
    """

    def __init__(self, p: float = 0.1) -> None:
        self.p = _share(p, "p")

    def change(self, x: Array, rng: Rng) -> Array:
        swapped = rng.random(x.shape) < self.p
        others = rng.integers(0, len(x), x.shape)
        return np.where(swapped, np.take_along_axis(x, others, 0), x)


class Cutout(Transform):
    """A square of `size` pixels about a random place is blanked (DeVries & Taylor, 2017)."""

    def __init__(self, size: int = 8, value: float = 0.0) -> None:
        if size < 1:
            raise ArgumentError(f"Cutout: size must be >= 1; received {size!r}")
        self.size, self.value = int(size), float(value)

    def change(self, x: Array, rng: Rng) -> Array:
        height, width = _image(x).shape[-2:]
        inside = boxes(
            rng.integers(0, height, len(x)), rng.integers(0, width, len(x)),
            np.full(len(x), self.size), np.full(len(x), self.size), height, width,
        )  # fmt: skip
        inside = inside if x.ndim == 3 else inside[:, None]
        return np.where(inside, x.dtype.type(self.value), x)


def boxes(
    rows: Array, columns: Array, heights: Array, widths: Array, height: int, width: int
) -> Array:
    """Masks (n, height, width) of boxes about their middles, cut at the edges."""

    def span(middle: Array, size: Array, length: int) -> Array:
        start = (middle - size // 2)[:, None]
        place = np.arange(length)
        return np.asarray((place >= start) & (place < start + size[:, None]))

    return span(rows, heights, height)[:, :, None] & span(columns, widths, width)[:, None, :]


# -- mixing rows ---------------------------------------------------------------------------------


class MixUp:
    """Rows and targets mixed with those of another row, share ~ Beta(alpha, alpha).

    (Zhang et al., 2018.) Labels become shares of `classes`; float targets are mixed as they are.

    >>> mix = MixUp(classes=2, alpha=1.0)
    >>> x, y = mix(np.eye(2), np.array([0, 1]), np.random.default_rng(1))
    >>> bool(np.allclose(x, y))
    True
    """

    def __init__(self, classes: int | None = None, alpha: float = 0.2) -> None:
        if not alpha > 0:
            raise ArgumentError(f"{type(self).__name__}: alpha must be > 0; received {alpha!r}")
        self.classes, self.alpha = classes, float(alpha)

    def __call__(self, x: Array, y: Array, rng: Rng) -> Pair:
        share = rng.beta(self.alpha, self.alpha)
        order = rng.permutation(len(x))
        mixed = np.asarray(share * x + (1.0 - share) * x[order], x.dtype)
        return mixed, blend(self.soft(x, y), order, share)

    def soft(self, x: Array, y: Array) -> Array:
        if y.dtype.kind == "f":
            return y
        if self.classes is None or y.max(initial=0) >= self.classes:
            raise ArgumentError(
                f"{type(self).__name__} needs the number of classes to mix labels; labels go up "
                f"to {int(y.max(initial=0))} and classes is {self.classes}",
                fix=f"{type(self).__name__}(classes={int(y.max(initial=0)) + 1})",
            )
        kind = x.dtype if x.dtype.kind == "f" else np.float32
        return np.eye(self.classes, dtype=kind)[y]


class CutMix(MixUp):
    """A box of each image comes from another, labels mixed by its area (Yun et al., 2019)."""

    def __init__(self, classes: int | None = None, alpha: float = 1.0) -> None:
        super().__init__(classes, alpha)

    def __call__(self, x: Array, y: Array, rng: Rng) -> Pair:
        height, width = _image(x).shape[-2:]
        side = np.sqrt(1.0 - rng.beta(self.alpha, self.alpha))
        order = rng.permutation(len(x))
        row, column = rng.integers(0, height, 1), rng.integers(0, width, 1)
        tall, wide = np.array([round(height * side)]), np.array([round(width * side)])
        box = boxes(row, column, tall, wide, height, width)[0]
        share = 1.0 - float(box.mean())
        return np.where(box, x[order], x), blend(self.soft(x, y), order, share)


def blend(y: Array, order: Array, share: float) -> Array:
    return np.asarray(share * y + (1.0 - share) * y[order], y.dtype)


# -- by name -------------------------------------------------------------------------------------

TRANSFORMS: dict[str, Any] = {
    "crop": Crop, "cutmix": CutMix, "cutout": Cutout, "flip": Flip, "mask": Mask, "mixup": MixUp,
    "noise": Noise, "rotate": Rotate, "scale": Scale, "shift": Shift,
}  # fmt: skip
MIXING = ("cutmix", "mixup")
FOR_IMAGES = ("crop", "cutmix", "cutout", "flip", "rotate", "shift")


def find(value: Any, classes: int | None = None, shape: Sequence[int] | None = None) -> Compose:
    """Transforms by name, with options or without, one after another.

    classes : of the labels, for those that mix rows. shape : of the image that each row is.

    >>> find(["flip", "crop:padding=2"])
    Compose(Flip(p=0.5, axis='horizontal'), Crop(padding=2, value=0.0))
    """
    made = [_made(one, classes) for one in ([value] if isinstance(value, str | dict) else value)]
    return Compose(*made) if shape is None else Compose(Images(shape, *made))


def _made(value: Any, classes: int | None) -> Any:
    if not isinstance(value, str | dict):
        return value
    name, options = named(value, "augment")
    kind = pick(TRANSFORMS, name, "augmentation")
    if kind in (MixUp, CutMix):
        options = {"classes": classes, **options}
    return build(kind, options, f"augmentation {name!r}")
