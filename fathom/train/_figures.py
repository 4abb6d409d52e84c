"""Figures of the report: inline SVG from matplotlib.

Blue and orange tell things apart (safe for colour-blind readers), dash and marker tell it again.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fathom.train.history import History
from fathom.train.pictures import BLUE, ORANGE

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

Array = NDArray[Any]
INK = "#010203"  # stands for the colour of the page's text until the SVG is inlined
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fathom",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#8a93a0",
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
NAMES = {"r2": "R²", "mae": "mean absolute error", "mse": "mean squared error"}


def curves(history: History, best: int | None = None) -> list[dict[str, Any]]:
    """One figure for the loss and one for each metric, training and validation together."""
    made = []
    for name in [n for n in history.columns if not n.startswith("val_")]:
        columns = [("training", history[name], BLUE, "-")]
        if f"val_{name}" in history.columns:
            columns.append(("validation", history[f"val_{name}"], ORANGE, "--"))
        label = NAMES.get(name, name)
        ends = "; ".join(f"{part} ends at {values[-1]:.4g}" for part, values, *_ in columns)
        made.append(
            {
                "name": label,
                "alt": f"{label} over {history.epochs} epochs: {ends}.",
                "svg": _curve(name, label, columns, best),
            }
        )
    return made


def _curve(
    name: str, label: str, columns: list[tuple[str, list[float], str, str]], best: int | None
) -> Markup:
    with _style():
        figure, axes = _figure()
        for part, values, colour, dash in columns:
            epochs = np.arange(1, len(values) + 1)
            marker = "o" if len(values) < 3 else ""
            axes.plot(epochs, values, dash, color=colour, label=part, lw=2, marker=marker)
        if best:
            axes.axvline(best, color=INK, ls=":", lw=1, label=f"weights kept (epoch {best})")
        if name == "loss" and all(v > 0 for _, values, *_ in columns for v in values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_plain_numbers())
            axes.yaxis.set_minor_formatter(_plain_numbers(minor=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        return inline(figure, f"curve-{name}")


def _plain_numbers(minor: bool = False) -> Any:
    from matplotlib.ticker import FuncFormatter

    def words(value: float, position: int | None = None) -> str:
        digit = round(value / 10.0 ** np.floor(np.log10(value))) if value > 0 else 0
        return f"{value:g}" if not minor or digit in (2, 5) else ""

    return FuncFormatter(words)


def scatter(targets: Array, predicted: Array) -> dict[str, Any]:
    """Predicted values over true ones, with the line on which they agree."""
    with _style():
        figure, axes = _figure(4.8, 4.4)
        low = float(min(targets.min(), predicted.min()))
        high = float(max(targets.max(), predicted.max()))
        axes.plot([low, high], [low, high], "--", color=ORANGE, lw=1.5, label="predicted = true")
        axes.plot(targets, predicted, "o", color=BLUE, alpha=0.6, ms=4, mew=0)
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        axes.legend()
        alt = f"Predicted over true values of {len(targets)} rows, from {low:.4g} to {high:.4g}."
        return {"name": "Predicted and true", "alt": alt, "svg": inline(figure, "scatter")}


def residuals(targets: Array, predicted: Array) -> dict[str, Any]:
    """How the errors are spread."""
    rest = np.asarray(predicted, np.float64) - np.asarray(targets, np.float64)
    with _style():
        figure, axes = _figure(4.8, 4.4)
        axes.hist(rest, bins=min(30, max(5, round(len(rest) ** 0.5))), color=BLUE, alpha=0.85)
        axes.axvline(0.0, color=ORANGE, ls="--", lw=1.5)
        axes.set_xlabel("predicted - true")
        axes.set_ylabel("rows")
        alt = f"Histogram of the errors: mean {rest.mean():.4g}, deviation {rest.std():.4g}."
        return {"name": "Errors", "alt": alt, "svg": inline(figure, "residuals")}


def _style() -> Any:
    import matplotlib

    return matplotlib.rc_context(STYLE)


def _figure(width: float = 5.6, height: float = 3.4) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots()
    axes.patch.set_alpha(0.0)
    return figure, axes


def inline(figure: Figure, prefix: str) -> Markup:
    """The figure as an SVG element: same bytes each time, ids of its own, the page's ink."""
    from markupsafe import Markup

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = text.replace(INK, "currentColor").replace("<svg ", '<svg aria-hidden="true" ', 1)
    return Markup(text)  # made by matplotlib from numbers and fixed words


def shaded(counts: Array) -> list[list[dict[str, Any]]]:
    """Cells of a confusion matrix with a cividis shade of their share in the row."""
    from matplotlib import colormaps

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shades = (colormaps["cividis"](np.sqrt(shares))[..., :3] * 255).round().astype(int)
    light = shades @ np.array([0.2126, 0.7152, 0.0722]) > 115
    return [
        [
            {
                "count": int(counts[i, j]),
                "share": float(shares[i, j]),
                "colour": "#{:02x}{:02x}{:02x}".format(*shades[i, j]),
                "ink": "#000" if light[i, j] else "#fff",
            }
            for j in range(counts.shape[1])
        ]
        for i in range(counts.shape[0])
    ]
