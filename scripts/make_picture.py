"""Make docs/images/demo.png: a small network learns two spirals, drawn as it happens.

    python scripts/make_picture.py

Everything in it is computed by Fathom: the data, the training, and the decision surface before
the first epoch and after 40, 60 and 200; below, the loss of every epoch. The same seed gives the
same picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

import fathom
from fathom.train import LambdaCallback
from fathom.train.report import softmax

OUT = Path(__file__).parents[1] / "docs" / "images" / "demo.png"
EPOCHS, MOMENTS = 200, (0, 40, 60, 200)
SIDE = 240  # points of the surface along each axis
LIMIT = 1.15
BLUE, ORANGE, INK = "#14529a", "#c75400", "#1a2230"
SURFACE = LinearSegmentedColormap.from_list("surface", ["#2f7fc1", "#ffffff", "#e8892f"])


def train() -> tuple[Any, Any, dict[int, NDArray[Any]], float]:
    """The data, the history, P(class 1) on a grid at each moment, and the test accuracy."""
    train, _, test = fathom.data.load("spirals", n=600, noise=0.02, turns=1.5).split(0.0, 0.2)
    with fathom.seed(3):
        model = fathom.models.mlp(2, 2, hidden=(32, 32), activation_name="tanh")
    ticks = np.linspace(-LIMIT, LIMIT, SIDE, dtype=np.float32)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    surfaces: dict[int, NDArray[Any]] = {}

    def look(epoch: int) -> None:
        if epoch in MOMENTS:
            surfaces[epoch] = softmax(model.predict(grid))[:, 1].reshape(SIDE, SIDE)

    look(0)
    history = model.fit(
        train.x, train.y, epochs=EPOCHS, batch_size=32, lr=0.01, seed=3, verbose=False,
        callbacks=[LambdaCallback(on_epoch_end=lambda trainer, epoch, logs: look(epoch))],
    )  # fmt: skip
    return train, history, surfaces, model.evaluate(test.x, test.y)["accuracy"]


def draw(data: Any, history: Any, surfaces: dict[int, NDArray[Any]], accuracy: float) -> Figure:
    """Four surfaces above the curve of the loss."""
    figure = Figure(figsize=(11, 4.9), facecolor="white", layout="constrained")
    axes = figure.subplot_mosaic(
        [[f"{epoch}" for epoch in MOMENTS], ["loss"] * len(MOMENTS)], height_ratios=(2.6, 1),
    )  # fmt: skip
    for epoch in MOMENTS:
        panel(axes[str(epoch)], data, surfaces[epoch])
        right = "" if epoch == 0 else f", {history['accuracy'][epoch - 1]:.0%} right"
        words = "before training" if epoch == 0 else f"epoch {epoch}{right}"
        axes[str(epoch)].set_title(words, fontsize=12, color=INK)
    curve(axes["loss"], history["loss"], accuracy)
    return figure


def panel(axes: Any, data: Any, surface: NDArray[Any]) -> None:
    """The surface as colour, its boundary as a line, the points of the data on it."""
    extent = (-LIMIT, LIMIT, -LIMIT, LIMIT)
    axes.imshow(surface, origin="lower", extent=extent, cmap=SURFACE, vmin=0, vmax=1,
                interpolation="bilinear")  # fmt: skip
    ticks = np.linspace(-LIMIT, LIMIT, SIDE)
    if surface.min() < 0.5 < surface.max():
        axes.contour(ticks, ticks, surface, levels=[0.5], colors=[INK], linewidths=1.0)
    for label, colour, marker in ((0, BLUE, "o"), (1, ORANGE, "s")):
        x = data.x[data.y == label]
        axes.plot(x[:, 0], x[:, 1], marker, ms=3.2, mfc=colour, mec="white", mew=0.4)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def curve(axes: Any, loss: list[float], accuracy: float) -> None:
    """The loss of every epoch on a logarithmic scale, the moments marked."""
    axes.semilogy(range(1, len(loss) + 1), loss, color=INK, lw=1.6)
    for epoch in MOMENTS[1:]:
        axes.plot(epoch, loss[epoch - 1], "o", color=ORANGE, ms=7, mec="white", zorder=3)
    axes.set_xlim(0, len(loss) + 2)
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel("training loss", color=INK)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    words = f"2-32-32-2 network, Adam; {accuracy:.1%} right on points it has not seen"
    axes.text(0.99, 0.9, words, ha="right", va="top", color=INK, transform=axes.transAxes)


def main() -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    draw(*train()).savefig(OUT, dpi=110, metadata={"Software": None})
    print(f"{OUT}: {OUT.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
