"""2.2.13 Learning-rate schedules: steps, cosine, warm-up, and what each is worth."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import nn, optim
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T,
    at_least, at_most, band, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.softmaxes import shifted
from fathom.nn import functional as F
from fathom.optim.lr_scheduler import CosineAnnealingLR, StepLR

question = Question(
    "2.2.13",
    title=T(
        "What is learning-rate scheduling, and which schedules are common?",
        "什么是学习率调度？常见的调度策略有哪些？",
    ),
    difficulty=3,
    frequency=4,
    topics=("schedule", "warm-up", "cosine", "StepLR", "学习率调度", "预热", "余弦退火"),
    answer=T(
        "A schedule makes the rate a function of the step: high while there is far to go, low at "
        "the end, because near a minimum the noise of the batches keeps the weights jittering at a "
        "distance that grows with the rate. Step decay multiplies by a factor at fixed epochs; "
        "cosine annealing falls along half a cosine, slowly, then fast (steepest half-way), then "
        "slowly; linear warm-up climbs from 0 first. Decay pays where that noise persists, as with "
        "noisy targets or one pass over huge data; where every sample is fitted exactly the noise "
        "dies out by itself and a constant rate does as well. Warm-up saves training at "
        "high rates with Adam in Transformers, at lower ones already where the norm stands behind the "
        "residual; at a modest rate small nets do without it.",
        "调度让学习率成为步数的函数：离目标远时大，结尾时小，因为在极小值附近，小批量噪声使权重不停抖动，"
        "抖动幅度随学习率增大。阶梯衰减在固定轮次乘以一个因子；余弦退火沿半个余弦下降，先慢、后快"
        "（中点最陡）、再慢；线性预热先从 0 升上来。噪声持续存在时衰减才划算，例如目标带噪声，或海量数据"
        "只过一遍；如果每个样本都能精确拟合，噪声会自行消失，恒定学习率同样好。用 Adam、"
        "高学习率训练 Transformer 时，预热能挽救训练，后归一化的在较低的学习率下就需要它；学习率适中时，"
        "小网络不用它也行。",
    ),
    flips=T(
        "With noise-free targets and a model that fits them all, a constant rate is as good.",
        "目标无噪声且模型能全部拟合时，恒定学习率同样好。",
    ),
    analogy=T(
        "Big brush first, fine brush last; and do not floor the pedal with a cold engine.",
        "先用大刷子，再用细笔；发动机还凉时别把油门踩到底。",
    ),
    generative=T(
        "Most large language models warm up for about a thousand steps and then follow a cosine "
        "down to a tenth of the peak.",
        "多数大语言模型预热约一千步，再沿余弦降到峰值的十分之一。",
    ),
    classical=T(
        "Robbins and Monro asked in 1951 that the rates' sum diverge and their squares' sum not.",
        "Robbins 与 Monro 在 1951 年就要求学习率之和发散而平方和收敛。",
    ),
    driving=T(
        "Detectors are classically trained with a short warm-up and two or three drops by ten.",
        "检测器的经典训练方案是短暂预热加两三次除以十。",
    ),
    change=T(
        "Take the noise out of the targets: the gap between constant and cosine closes.",
        "去掉目标中的噪声：恒定与余弦之间的差距消失。",
    ),
)

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "constant": np.ones_like,
    "step": lambda part: np.where(part < 0.5, 1.0, np.where(part < 0.75, 0.1, 0.01)),
    "cosine": lambda part: (1 + np.cos(np.pi * part)) / 2,
    "warm-up + cosine": lambda part: np.where(
        part < 0.1, part / 0.1, (1 + np.cos(np.pi * (part - 0.1) / 0.9)) / 2
    ),
}
NOISE = {"regression": 1.0, "regression, no noise": 0.0, "digits, noisy labels": 0.3, "digits": 0.0}
PEAKS = {"regression": (0.003, 0.01, 0.03, 0.1), "digits": (0.1, 0.3, 1.0)}


def regression(seeds: list[int], factor: Any, peak: float, noise: float = 1.0) -> Any:
    """Linear regression in 20 dimensions by SGD of batch 4, new rows each step: the squared
    distance to the true weights at the end, one a seed (the test loss less the noise), 1e-12 counting as none."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        true, w = rng.standard_normal(20), np.zeros(20)
        x, e = rng.standard_normal((len(factor), 4, 20)), rng.standard_normal((len(factor), 4))
        for xb, eb, f in zip(x, e, peak * factor, strict=True):
            w = w - f * xb.T @ (xb @ (w - true) - noise * eb) / 4
        found.append(float(((w - true) ** 2).sum()) if np.isfinite(w).all() else 1e3)
    return np.clip(found, 1e-12, 1e3)


def mlp_on_digits(seeds: list[int], factor: Any, peak: float, noise: float = 0.0) -> Any:
    """A 64-32-10 network by SGD of batch 32, all seeds at once: test loss, one a seed.

    noise : share of the training labels that are drawn anew.
    """
    data, n = digits(), len(seeds)
    rngs = [np.random.default_rng(s) for s in seeds]
    labels = np.stack([np.where(r.random(len(data.y)) < noise, r.integers(0, 10, len(data.y)),
                                data.y) for r in rngs])  # fmt: skip
    w1 = np.stack([r.standard_normal((64, 32)) * np.sqrt(2 / 64) for r in rngs]).astype(np.float32)
    w2 = np.stack([r.standard_normal((32, 10)) * np.sqrt(1 / 32) for r in rngs]).astype(np.float32)
    b1, b2 = np.zeros((n, 1, 32), np.float32), np.zeros((n, 1, 10), np.float32)
    eye, which = np.eye(10, dtype=np.float32), np.arange(n)[:, None]
    for f in (peak * factor).astype(np.float32):
        rows = np.stack([r.integers(0, len(data.y), 32) for r in rngs])
        x, y = data.x[rows], eye[labels[which, rows]]
        h = np.maximum(x @ w1 + b1, 0)
        slope = (shifted(h @ w2 + b2) - y) / 32
        back = (slope @ w2.transpose(0, 2, 1)) * (h > 0)
        w2 -= f * h.transpose(0, 2, 1) @ slope
        b2 -= f * slope.sum(axis=1, keepdims=True)
        w1 -= f * x.transpose(0, 2, 1) @ back
        b1 -= f * back.sum(axis=1, keepdims=True)
    p = shifted(np.maximum(data.test_x @ w1 + b1, 0) @ w2 + b2)
    return -np.log(np.maximum(p[:, np.arange(len(data.test_y)), data.test_y], 1e-12)).mean(axis=1)


@once
def ends(lab: Lab, task: str, schedule: str) -> Any:
    """Test losses at the end with the peak rate that is best for the schedule, one a seed."""
    part = np.arange(lab.pick(800, 60)) / lab.pick(800, 60)
    factor, seeds = SCHEDULES[schedule](part), lab.seeds(10, 2)
    run = mlp_on_digits if task.startswith("digits") else regression
    peaks = PEAKS[task.split(",")[0]][lab.pick(0, 2) :]
    tried = [run(seeds, factor, peak, NOISE[task]) for peak in peaks]
    return min(tried, key=lambda found: found.mean())


@question.experiment(
    "C2.2.13-01",
    T(
        "A rate that starts large and decays does better than a constant one.",
        "先大后小的学习率优于恒定学习率。",
    ),
    at_least(0.05),
    correction=T(
        "It takes noise that lasts. Test loss lower by {n[regression]:.0%} with noisy targets, "
        "{n[digits, noisy labels]:.0%} and {n[digits]:.0%} on digits with and without random "
        "labels; by {n[regression, no noise]:.0%} where the data can be fitted exactly.",
        "前提是噪声持续存在：目标带噪声时测试损失低 {n[regression]:.0%}，digits 上（有、无随机标签）低 "
        "{n[digits, noisy labels]:.0%} 和 {n[digits]:.0%}；数据可被精确拟合时低 "
        "{n[regression, no noise]:.0%}。",
    ),
    weight=3,
)
def decay(lab: Lab) -> Evidence:
    """Share by which the test loss at the end is lower with cosine decay than with a constant rate,
    equal numbers of steps, each with the best of three or four peak rates (excess loss for the
    regression)."""
    found = {}
    for task in NOISE:
        constant, cosine = ends(lab, task, "constant"), ends(lab, task, "cosine")
        found[task] = Sample((constant - cosine) / constant.mean())
    return Settings(T("the task", "任务"), found)


def rates(make: Callable[[Any], Any], epochs: int, lr: float = 0.4) -> Any:
    """The rate at every epoch of a scheduler."""
    optimizer = optim.SGD([nn.Parameter(np.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


@question.exact(
    "C2.2.13-02",
    T(
        "StepLR multiplies the rate by a factor at fixed epochs.",
        "StepLR 在固定轮次把学习率乘以一个因子。",
    ),
    at_most(1e-12),
)
def steps(lab: Lab) -> Evidence:
    """Relative distance from lr gamma^floor(t / size) at 100 epochs, for sizes 1, 7 and 30 and
    gammas 0.1 and 0.9."""
    t, worst = np.arange(100), []
    for size in (1, 7, 30):
        for gamma in (0.1, 0.9):
            made = rates(functools.partial(StepLR, step_size=size, gamma=gamma), 100)
            worst.append(np.abs(made / (0.4 * gamma ** (t // size)) - 1).max())
    return float(max(worst))


@question.exact(
    "C2.2.13-03",
    T(
        "Cosine annealing falls slowly, then fast, then slowly again.",
        "余弦退火先慢、后快、再慢地下降。",
    ),
    at_most(1e-9),
)
def cosine(lab: Lab) -> Evidence:
    """Drops from epoch to epoch over 100 against the sine that half a cosine must give; the place
    of the largest; the first and the last over it."""
    total = 100
    drop = -np.diff(rates(lambda o: CosineAnnealingLR(o, total), total + 1, 1.0))
    t = np.arange(total)
    sine = np.sin(np.pi / (2 * total)) * np.sin(np.pi * (t + 0.5) / total)
    return All({
        "against the sine": float(np.abs(drop - sine).max()),
        "largest from the middle": Check(abs(float(drop.argmax()) + 0.5 - 50), at_most(0.5)),
        "first over largest": Check(float(drop[0] / drop.max()), at_most(0.1)),
        "last over largest": Check(float(drop[-1] / drop.max()), at_most(0.1)),
    })  # fmt: skip


class Mirror(nn.Module):
    """A small Transformer that is to give a row of tokens backwards."""

    def __init__(self, norm_first: bool, layers: int = 6, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, width)
        self.place = nn.Embedding(8, width)
        self.layers = nn.Sequential(*(
            nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True,
                                       norm_first=norm_first)
            for _ in range(layers)
        ))  # fmt: skip
        self.norm = nn.LayerNorm(width) if norm_first else nn.Identity()
        self.head = nn.Linear(width, 8)

    def forward(self, tokens: Any) -> Any:
        """(n, 8) tokens -> (n, 8, 8) logits."""
        h = self.embed(tokens) + self.place(fathom.arange(8))
        return self.head(self.norm(self.layers(h)))


@once
def mirrored(lab: Lab, norm_first: bool, peak: float, warm: int, seed: int) -> Any:
    """The losses of 130 steps of Adam (30 of one layer when quick), the rate constant behind a linear warm-up."""
    with fathom.seed(seed):
        model = Mirror(norm_first, lab.pick(6, 1))
    optimizer = optim.Adam(model.parameters(), lr=peak)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).reshape(-1, 8), y.reshape(-1))
        loss.backward()
        optimizer.step()
        return loss

    run, rng, losses = fathom.compile(step), np.random.default_rng(seed), []
    for t in range(lab.pick(130, 30)):
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (t + 1) / warm)
        x = rng.integers(0, 8, (16, 8))
        losses.append(float(run(fathom.tensor(x), fathom.tensor(x[:, ::-1].copy()))))
    return np.array(losses)


def failed(losses: Any) -> float:
    """1 where the last 20 steps lie above half the loss of guessing, else 0."""
    last = losses[-20:].mean()
    return float(not last < np.log(8) / 2)


@question.experiment(
    "C2.2.13-04",
    T(
        "Warm-up prevents destructive updates early in training, above all in Transformers.",
        "预热避免训练初期的破坏性更新，对 Transformer 尤其如此。",
    ),
    at_least(0.2),
    correction=T(
        "It depends on the rate, and the place of the norm decides which rates are too high. With the "
        "norm behind the residual it saves {n[norm behind, 0.01]:.0%} of the runs at 0.01, "
        "{n[norm behind, 0.03]:.0%} at 0.03 and {n[norm behind, 0.1]:.0%} at 0.1; with the norm in front "
        "{n[norm in front, 0.01]:.0%}, {n[norm in front, 0.03]:.0%} and {n[norm in front, 0.1]:.0%}.",
        "取决于学习率，而归一化的位置决定多大的学习率算过大。后归一化时，预热挽救的运行比例为：0.01 时 "
        "{n[norm behind, 0.01]:.0%}，0.03 时 {n[norm behind, 0.03]:.0%}，0.1 时 {n[norm behind, 0.1]:.0%}；"
        "归一化在前时为 {n[norm in front, 0.01]:.0%}、{n[norm in front, 0.03]:.0%} 与 "
        "{n[norm in front, 0.1]:.0%}。",
    ),
    weight=3,
)
def warm_up(lab: Lab) -> Evidence:
    """Share of failed runs without warm-up less that with 50 steps of it (loss of the last 20 of
    130 steps above half the loss of guessing): six layers, width 16, Adam at three rates, rows of
    eight tokens to be given backwards; the same seeds."""

    def saved(norm_first: bool, peak: float) -> Sample:
        each = lab.seeds(6, 2)
        runs = [[failed(mirrored(lab, norm_first, peak, w, s)) for w in (1, 50)] for s in each]
        return Sample([without - with_it for without, with_it in runs])

    return Settings(T("place of the norm and rate", "归一化位置与学习率"), {
        f"norm {place}, {peak}": saved(first, peak)
        for place, first in (("behind", False), ("in front", True))
        for peak in (0.01, 0.03, 0.1)
    })  # fmt: skip


@question.figure(T("Test loss at the end, by schedule", "各调度策略的最终测试损失"))
def compared(lab: Lab) -> Figure:
    """Equal steps, each schedule with its own best peak rate; relative to the constant rate."""
    names = (
        T("noisy regression", "带噪回归"),
        T("digits, 30 % random labels", "digits，30 % 随机标签"),
        T("digits", "digits"),
    )
    bars = []
    for task, name in zip(("regression", "digits, noisy labels", "digits"), names, strict=True):
        base = ends(lab, task, "constant").mean()
        at = [Sample(ends(lab, task, s) / base) for s in SCHEDULES]
        bars.append(Bars(name, *band(at)))
    ticks = (T("constant", "恒定"), T("step", "阶梯"), T("cosine", "余弦"), T("warm-up", "预热"))
    return Figure(
        Axis(T("schedule", "调度策略"), ticks=ticks),
        Axis(T("test loss over constant's", "测试损失与恒定之比")),
        [*bars, Level(T("as constant", "与恒定相同"), y=1.0)],
        T(
            "Every decay ends below the best constant rate, most of all where the targets are noisy.",
            "任何衰减的结局都低于最好的恒定学习率，目标带噪声时差距最大。",
        ),
    )


@question.figure(
    T("A post-norm Transformer with and without warm-up", "后归一化 Transformer：有无预热")
)
def saved_by_warming(lab: Lab) -> Figure:
    """Loss over the steps at rate 0.03, mean over seeds."""
    lines = []
    for warm, name in ((1, T("no warm-up", "无预热")), (50, T("50 steps of it", "预热 50 步"))):
        runs = np.array([mirrored(lab, False, 0.03, warm, s) for s in lab.seeds(10, 2)])
        blocks = runs.reshape(len(runs), -1, 10).mean(axis=2)
        at = [Sample(column) for column in blocks.T]
        x = 10 * np.arange(len(at)) + 5
        lines.append(Line(name, x, *band(at)))
    return Figure(
        Axis(T("step", "步")),
        Axis(T("loss", "损失")),
        [*lines, Level(T("guessing", "随机猜测"), y=float(np.log(8)))],
        T(
            "Without warm-up the loss stays at that of guessing; with it most runs learn.",
            "没有预热时损失停在随机猜测的水平；有预热时多数运行能学会。",
        ),
    )
