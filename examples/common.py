"""What the examples share: command line, data, table and figure. The stories are beside it."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import fathom
from fathom import nn, optim
from fathom.data import Dataset
from fathom.nn.utils import clip_grad_norm_

# Jane Austen, Pride and Prejudice (1813), chapter 1: in the public domain.
PARAGRAPH = """It is a truth universally acknowledged, that a single man in possession of a good \
fortune, must be in want of a wife.

However little known the feelings or views of such a man may be on his first entering a \
neighbourhood, this truth is so well fixed in the minds of the surrounding families, that he is \
considered as the rightful property of some one or other of their daughters.

"My dear Mr. Bennet," said his lady to him one day, "have you heard that Netherfield Park is let \
at last?"

Mr. Bennet replied that he had not.

"But it is," returned she; "for Mrs. Long has just been here, and she told me all about it."

Mr. Bennet made no answer.

"Do not you want to know who has taken it?" cried his wife impatiently.

"You want to tell me, and I have no objection to hearing it."

This was invitation enough.
"""


def options(story: str | None) -> argparse.Namespace:
    """quick, seed and out: the same three for every example."""
    parser = argparse.ArgumentParser(description=(story or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds, smaller numbers")
    parser.add_argument("--seed", type=int, default=0, help="fixes weights, order and splits")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="save the figure here")
    return parser.parse_args()


def data_folder() -> Path | None:
    """$FATHOM_DATA, or a folder ../shared/data beside the repository; None without either."""
    given = os.environ.get("FATHOM_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def digit_images(train: int, test: int, seed: int) -> tuple[Dataset, Dataset]:
    """Training and test digits, x (n, 784) from 0 to 1: MNIST, or the built-in ones enlarged."""
    folder = data_folder()
    if folder is not None:
        os.environ.setdefault("FATHOM_DATA", str(folder))
    try:
        data = fathom.data.mnist(download=False)
    except fathom.FathomError:
        print("MNIST not found (set FATHOM_DATA): the built-in 8 x 8 digits, enlarged, instead")
        data = fathom.data.load("digits")
        images = np.kron(data.x.reshape(-1, 8, 8) / 16, np.ones((3, 3)))  # (n, 24, 24)
        images = np.pad(images, ((0, 0), (2, 2), (2, 2)))  # (n, 28, 28)
        data = replace(
            data, x=images.reshape(len(data), 784), image_shape=(28, 28), feature_names=()
        )
    known, _, unseen = data.split(validation=0, test=0.2, seed=seed)
    known = known.subset(range(min(train, len(known))))
    unseen = unseen.subset(range(min(test, len(unseen))))
    print(f"{data.name}: {len(known):,} training and {len(unseen):,} test images")
    return known, unseen


def characters(limit: int | None = None) -> tuple[np.ndarray, np.ndarray, str]:
    """A text as numbers: the first nine tenths, the rest, and the alphabet they index."""
    folder = data_folder()
    file = folder / "text" / "tinyshakespeare.txt" if folder else None
    if file is not None and file.is_file():
        text, name = file.read_text(encoding="utf-8")[:limit], file.stem
    else:
        print("tinyshakespeare not found (set FATHOM_DATA): a paragraph of Jane Austen instead")
        text, name = PARAGRAPH, "Pride and Prejudice"
    alphabet = "".join(sorted(set(text)))
    codes = np.array([alphabet.index(c) for c in text])
    cut = len(codes) * 9 // 10
    print(f"{name}: {cut:,} characters to learn from, {len(codes) - cut:,} to be judged by")
    return codes[:cut], codes[cut:], alphabet


def ngram_losses(train: np.ndarray, valid: np.ndarray, kinds: int, n: int = 3) -> list[float]:
    """Cross-entropy (nats a character) of the 1-gram ... n-gram models of a text.

    Each backs off to the one below by the rule of Witten and Bell (1991): the weight of the
    shorter context is the number of different characters seen after the longer one.
    """

    def contexts(codes: np.ndarray, k: int) -> np.ndarray:  # the k - 1 characters before, as one
        start = np.zeros(len(codes) - n + 1, np.int64)
        return sum((codes[n - 1 - j : -j] * kinds ** (j - 1) for j in range(1, k)), start)

    losses, p = [], np.full((1, kinds), 1 / kinds)  # (contexts, kinds)
    for k in range(1, n + 1):
        counts = np.zeros((kinds ** (k - 1), kinds))
        np.add.at(counts, (contexts(train, k), train[n - 1 :]), 1)
        lower = p[np.arange(len(counts)) % len(p)]
        followers = (counts > 0).sum(1, keepdims=True)
        total = counts.sum(1, keepdims=True) + followers
        p = np.where(total > 0, (counts + followers * lower) / np.maximum(total, 1), lower)
        losses.append(float(-np.log(p[contexts(valid, k), valid[n - 1 :]]).mean()))
    return losses


Curve = tuple[list[float], list[tuple[int, float]], float]


def train_on_text(
    model: nn.Module,
    optimizer: optim.Optimizer,
    steps: int,
    batch_loss: Callable[[], fathom.Tensor],
    valid_loss: Callable[[], float],
) -> Curve:
    """Minimize the losses of random windows of a text; five times, look at the unseen rest.

    The rate rises for 5 % of the steps, then falls along a cosine to a tenth. Returns the training
    losses, (step, validation loss) and the seconds it took.
    """
    rate = optimizer.param_groups[0]["lr"]
    start, curve, rows = time.perf_counter(), [], []
    for step in range(1, steps + 1):
        share = min(step / (0.05 * steps), 0.55 + 0.45 * math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = rate * share
        optimizer.zero_grad()
        loss = batch_loss()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)  # a long chain now and then explodes
        optimizer.step()
        curve.append(loss.item())
        if step % (steps // 5) == 0:
            rows.append((step, valid_loss()))
            recent, unseen = np.mean(curve[-50:]), rows[-1][1]
            print(f"step {step:5}: training loss {recent:.3f}, validation {unseen:.3f}", flush=True)
    return curve, rows, time.perf_counter() - start


def compare_with_tables(
    name: str, model: nn.Module, run: Curve, tables: Sequence[float], text: str, folder: Path | None
) -> None:
    """What a language model reached, beside the n-gram tables; what it writes; the figure."""
    curve, rows, seconds = run
    final, three = rows[-1][1], tables[-1]
    print()
    names = [*(f"{n}-gram" for n in range(1, len(tables) + 1)), name]
    table(("model", "validation loss"), list(zip(names, [*tables, final], strict=True)))
    print("\nit writes: " + text.strip().replace("\n", "\n  "))
    weights = sum(p.size for p in model.parameters())
    verdict = "below" if final < three else "not below"
    print(f"\n{name} ({weights:,} weights) {final:.3f} is {verdict} the 3-gram baseline", end=" ")
    print(f"{three:.3f} ({seconds:.0f} s)")
    if folder:
        save_losses(curve, rows, three, name, folder, f"char_{name.lower()}")


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows under a header; floats with three decimals."""
    cells = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    names = [str(name) for name in header]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for row in [names, ["-" * w for w in widths], *cells]:
        first, *rest = (c.ljust(w) if i == 0 else c.rjust(w)
                        for i, (c, w) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
        print("  ".join([first, *rest]).rstrip())


def panels(columns: int) -> tuple[Any, Any]:
    """A matplotlib figure and its axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * columns, 3.6), layout="constrained")
    return figure, figure.subplots(1, columns)


def save_figure(figure: Any, folder: Path, name: str) -> None:
    """Write the figure as PNG and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=120)
    print(f"figure: {folder / f'{name}.png'}")


def save_losses(
    training: Sequence[float],
    validation: Sequence[tuple[int, float]],
    baseline: float,
    model: str,
    folder: Path,
    name: str,
) -> None:
    """The learning curve of a language model, with the 3-gram's loss as a line."""
    figure, axes = panels(1)
    axes.plot(training, lw=0.5, alpha=0.5, label="training")
    axes.plot(*zip(*validation, strict=True), "o-", label="validation")
    axes.axhline(baseline, color="k", ls="--", label="3-gram")
    axes.set(xlabel="step", ylabel="nats a character", title=f"{model} against 3-gram")
    axes.legend()
    save_figure(figure, folder, name)
