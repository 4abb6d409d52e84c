"""2.2.7 How dropout works, in training and in inference."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_least,
    at_most, band, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.models import mlp
from fathom.nn import Dropout

question = Question(
    "2.2.7",
    title=T(
        "How does dropout work and how do training and inference differ?",
        "Dropout 的原理是什么？训练与推理有何不同？",
    ),
    difficulty=3,
    frequency=5,
    topics=("dropout", "ensemble", "regularization", "随机失活", "集成", "正则化", "推理"),
    answer=T(
        "In training dropout sets each activation to 0 with probability p, independently, and "
        "divides those that stay by 1 - p (inverted dropout), so the expectation stays x while the "
        "variance grows by x² p / (1 - p). In inference it is the identity: no mask, no scaling. A "
        "unit cannot rely on particular others, so features that depend on one another are "
        "discouraged; the gap between training and validation shrinks, at the price of slower "
        "training and a higher training loss. It is often called an ensemble of all thinned "
        "networks with shared weights. One pass without masks equals their average exactly only if "
        "everything behind the mask is linear; through a nonlinearity or a softmax it is an "
        "approximation, usually a good one.",
        "训练时 dropout 以概率 p 独立地把每个激活置零，并把保留者除以 1 - p（反向缩放），使期望仍为 x，方差"
        "增加 x² p / (1 - p)。推理时它是恒等映射：没有掩码，也不缩放。一个单元不能依赖特定的其他单元，于是"
        "抑制了特征间的相互依赖；训练与验证的差距缩小，代价是训练更慢、训练损失更高。它常被称为所有共享权重"
        "的稀疏子网络的集成。只有当掩码之后全是线性运算时，一次无掩码前向才精确等于它们的平均；经过非线性"
        "或 softmax 时只是近似，通常相当好。",
    ),
    flips=T(
        "With much data or a small model dropout only slows training and may cost accuracy.",
        "数据充足或模型很小时，dropout 只会拖慢训练，甚至降低准确率。",
    ),
    analogy=T(
        "A team that trains with random members missing learns not to depend on a single star.",
        "训练时随机缺人的球队，学会了不依赖某一个明星。",
    ),
    generative=T(
        "Large language models seen through once are trained without dropout; fine-tuning uses it again.",
        "只过一遍数据的大语言模型训练时不用 dropout；微调时又会用上。",
    ),
    classical=T(
        "On small image sets p = 0.5 in the dense layers was the standard remedy before batch norm.",
        "在批归一化之前，小图像数据集上全连接层 p = 0.5 是标准做法。",
    ),
    driving=T(
        "Masks left on in inference give a spread of answers, a rough measure of the detector's doubt.",
        "推理时保留掩码多次前向，可得到输出的离散程度，粗略衡量检测器的不确定性。",
    ),
    change=T(
        "Train on ten times the rows: the gap without dropout is small and p hardly matters.",
        "把训练数据增加到十倍：不用 dropout 时差距已很小，p 几乎无关紧要。",
    ),
)  # fmt: skip

RATES = (0.0, 0.2, 0.5, 0.8)
LABELS = {"clean labels": 0.0, "a fifth random": 0.2}


@once
def trained(lab: Lab, p: float, noise: float) -> dict[str, Any]:
    """Losses and accuracy without masks after training on 300 digits, one a seed."""
    data, rng = digits(), lab.rng("labels")
    x, y = data.x[:300], data.y[:300]
    y = np.where(rng.random(300) < noise, rng.integers(0, 10, 300), y)
    spec = {
        "model": lambda: mlp(64, 10, (128,), dropout=p), "lr": 2e-3,
        "epochs": lab.pick(100, 10), "batch_size": 50,
    }  # fmt: skip
    fleet = fathom.train_many(spec, x, y, seeds=lab.seeds(8, 3), threads=1)
    seen, new = fleet.evaluate(x, y), fleet.evaluate(data.test_x, data.test_y)
    return {
        "gap": new["loss"] - seen["loss"], "accuracy": new["accuracy"],
        "training": seen["loss"], "validation": new["loss"],
    }  # fmt: skip


@question.experiment(
    "C2.2.7-01",
    T("Dropout reduces overfitting.", "Dropout 能减轻过拟合。"),
    at_least(0.1),
    correction=T(
        "It depends on how much there is to overfit: p = 0.5 closes {n[a fifth random/gap closed]:.0%} "
        "of the gap with a fifth of the labels random, {n[clean labels/gap closed]:.0%} with clean ones.",
        "取决于有多少可过拟合：五分之一标签随机时，p = 0.5 使差距缩小 {n[a fifth random/gap closed]:.0%}；"
        "标签干净时缩小 {n[clean labels/gap closed]:.0%}。",
    ),
    weight=3,
)
def less_overfitting(lab: Lab) -> Evidence:
    """Share of the gap in loss (validation less training) that dropout with p = 0.5 closes, and what
    it takes off the validation loss.

    128 ReLU units, 300 digits, 100 epochs of Adam; masks off when judged; paired by seed. A tenth
    of the gap counts; the validation loss may not rise, since a gap can also close because training
    got worse.
    """
    found: dict[str, Evidence] = {}
    for name, noise in LABELS.items():
        bare, half = trained(lab, 0.0, noise), trained(lab, 0.5, noise)
        found[name] = All({
            "gap closed": Sample((bare["gap"] - half["gap"]) / bare["gap"].mean()),
            "off the validation loss": Check(
                Sample(bare["validation"] - half["validation"]), at_least(0.0)
            ),
        })  # fmt: skip
    return Settings(T("labels", "标签"), found)


def all_masks(units: int) -> Any:
    """Every way to keep or drop the units, (2^units, units)."""
    return ((np.arange(2**units)[:, None] >> np.arange(units)) & 1).astype(np.float64)


@question.exact(
    "C2.2.7-02",
    T(
        "Inverted dropout keeps the expectation: E[x m / (1 - p)] = x.",
        "反向缩放的 dropout 保持期望：E[x m / (1 - p)] = x。",
    ),
    at_most(0.02),
    weight=2,
)
def expectation(lab: Lab) -> Evidence:
    """Largest relative error of the mean: over all 1,024 masks, weighed; and over 100,000 draws.

    The draws are the library's, p = 0.2 and 0.5; their standard error is 0.003.
    """
    masks, x = all_masks(10), lab.rng("x").uniform(1, 2, 10)
    exact, drawn = 0.0, 0.0
    for p in (0.2, 0.5):
        kept = masks.sum(axis=1)
        chance = (1 - p) ** kept * p ** (10 - kept)
        mean = chance @ (x * masks / (1 - p))
        exact = max(exact, float(np.abs(mean / x - 1).max()))
        rows = fathom.tensor(np.broadcast_to(x, (lab.pick(100_000, 40_000), 10)).copy())
        mean = Dropout(p).train()(rows).value().mean(axis=0)
        drawn = max(drawn, float(np.abs(mean / x - 1).max()))
    return Routes({"all masks": exact, "draws": drawn})


@question.exact(
    "C2.2.7-03",
    T("In inference the output is the input, unscaled.", "推理时输出等于输入，不做缩放。"),
    at_most(0.0),
    weight=2,
)
def inference(lab: Lab) -> Evidence:
    """Largest difference of output and input in eval mode, p from 0 to 0.9."""
    x = fathom.tensor(lab.rng("x").standard_normal((50, 20)))
    return max(float((Dropout(p).eval()(x) - x).abs().max().item()) for p in (0.0, 0.2, 0.5, 0.9))


# -- the ensemble --------------------------------------------------------------------------------

UNITS = 10


def average_and_single(kind: str, seed: int, p: float = 0.5) -> tuple[Any, Any]:
    """Outputs of 40 rows: the mean over all 1,024 masks on ten units, and one pass without a mask."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 6))
    w, v, u = (
        rng.standard_normal((6, UNITS)) / 2,
        rng.standard_normal((UNITS, 8)) / 2,
        rng.standard_normal((8, 3)) / 2,
    )

    def rest(h: Any) -> Any:
        if kind == "linear":
            return h @ v @ u
        if kind == "ReLU before the mask":
            return h @ v @ u
        if kind == "ReLU behind the mask":
            return np.maximum(h @ v, 0) @ u
        z = np.exp(h @ v @ u)  # softmax
        return z / z.sum(axis=-1, keepdims=True)

    h = x @ w if kind == "linear" else np.maximum(x @ w, 0)
    masks = all_masks(UNITS)
    kept = masks.sum(axis=1)
    chance = (1 - p) ** kept * p ** (UNITS - kept)
    average = sum(c * rest(h * m / (1 - p)) for c, m in zip(chance, masks, strict=True))
    return average, rest(h)


def off(kind: str, lab: Lab) -> Sample:
    """Length of the difference over the length of the average, one a seed."""
    found = []
    for seed in lab.seeds(8, 3):
        average, single = average_and_single(kind, seed)
        found.append(float(np.linalg.norm(average - single) / np.linalg.norm(average)))
    return Sample(found)


@question.exact(
    "C2.2.7-04",
    T(
        "The pass without masks equals the ensemble of all sub-networks.",
        "推理时的一次前向等价于所有子网络的集成。",
    ),
    at_most(1e-9),
    correction=T(
        "Exactly so only where all behind the mask is linear. With a ReLU behind it, it is off by "
        "{n[ReLU behind the mask]:.0%}, with a softmax by {n[softmax behind the mask]:.0%}, at p = 0.5.",
        "只有掩码之后全为线性时才精确相等。其后有 ReLU 时相差 {n[ReLU behind the mask]:.0%}，有 softmax 时"
        "相差 {n[softmax behind the mask]:.0%}（p = 0.5）。",
    ),
    weight=3,
)
def ensemble(lab: Lab) -> Evidence:
    """Relative difference of one pass and the exact average over all 1,024 masks on ten units."""
    kinds = ("linear", "ReLU before the mask", "ReLU behind the mask", "softmax behind the mask")
    return Settings(T("network", "网络"), {kind: off(kind, lab) for kind in kinds})


# -- figures -------------------------------------------------------------------------------------


@question.figure(T("Overfitting by rate of dropout", "过拟合与 dropout 比率"))
def by_rate(lab: Lab) -> Figure:
    """Training and validation loss, masks off, after training on 300 digits."""
    lines, rates = [], RATES if not lab.quick else (0.0, 0.5)
    words = {"clean labels": "干净标签", "a fifth random": "五分之一随机"}
    for labels, noise in LABELS.items():
        for key, zh in (("training", "训练"), ("validation", "验证")):
            at = [Sample(trained(lab, p, noise)[key]) for p in rates]
            lines.append(Line(T(f"{key}, {labels}", f"{zh}，{words[labels]}"), rates, *band(at)))
    accuracy = {
        f"test accuracy, {labels}, p = {p}": float(trained(lab, p, noise)["accuracy"].mean())
        for labels, noise in LABELS.items()
        for p in rates
    }
    return Figure(
        Axis(T("dropout rate p", "dropout 比率 p")),
        Axis(T("loss (nats)", "损失（奈特）")),
        lines,
        T(
            "More dropout raises the training loss and narrows the gap; the validation loss falls "
            "clearly only where labels are noisy.",
            "dropout 越强，训练损失越高、差距越小；只有标签有噪声时验证损失才明显下降。",
        ),
        accuracy,
    )


@question.figure(T("Averaging passes with masks", "多次带掩码前向的平均"))
def passes(lab: Lab) -> Figure:
    """Distance of the mean of k stochastic passes from the pass without masks, trained nets, p 0.5."""
    data, counts = digits(), lab.pick([1, 3, 10, 30, 100, 300, 1000], [1, 10, 100])
    lines = []
    for kind, name in (
        ("identity", T("linear net", "线性网络")),
        ("relu", T("ReLU net", "ReLU 网络")),
    ):
        rows: list[list[float]] = []
        for seed in lab.seeds(5, 2):
            with fathom.seed(seed), fathom.no_grad():
                model = mlp(64, 10, (64, 64), kind, dropout=0.5)
                x = fathom.tensor(data.test_x[:20])
                single = model.eval()(x).value()
                drawn = fathom.tensor(np.repeat(data.test_x[:20], counts[-1], axis=0))
                outputs = model.train()(drawn).value().reshape(20, counts[-1], -1)
            size = np.linalg.norm(single)
            rows.append(
                [float(np.linalg.norm(outputs[:, :k].mean(axis=1) - single) / size) for k in counts]
            )
        at = [Sample(np.log10(column)) for column in np.array(rows).T]
        middle, low, high = (
            10 ** np.array([getattr(s, part) for s in at]) for part in ("mean", "low", "high")
        )
        lines.append(Line(name, counts, middle, low, high))
    return Figure(
        Axis(T("passes averaged", "平均的前向次数"), log=True),
        Axis(T("relative distance", "相对距离"), log=True),
        lines,
        T(
            "For a linear net the average goes to the pass without masks like 1/sqrt(k); for a ReLU "
            "net it stops at a difference that no number of passes removes.",
            "线性网络的平均按 1/sqrt(k) 趋于无掩码前向；ReLU 网络则停在一个再多次也消不掉的差异上。",
        ),
    )
