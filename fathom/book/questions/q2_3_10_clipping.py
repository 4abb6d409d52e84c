"""2.3.10 How exploding gradients are noticed, and what clipping does about them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T,
    at_least, at_most, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.nn import functional as F
from fathom.nn.utils import clip_grad_norm_, clip_grad_value_

question = Question(
    "2.3.10",
    title=T(
        "How is gradient explosion detected, and how does clipping work?",
        "如何发现梯度爆炸？梯度裁剪如何工作？",
    ),
    difficulty=4,
    frequency=5,
    topics=(
        "exploding gradient",
        "gradient clipping",
        "rnn",
        "梯度爆炸",
        "梯度裁剪",
        "循环神经网络",
    ),
    answer=T(
        "Watch the total gradient norm: an explosion shows as a jump by orders of magnitude "
        "above the "
        "run's own recent median, then as NaN or Inf in the loss. A fixed alarm such as 1000 is "
        "only as good as the "
        "units of the loss, since summing over 256 rows instead of averaging multiplies every "
        "norm by 256. "
        "Norm clipping multiplies all gradients by min(1, c / ||g||) with one norm over all "
        "parameters: "
        "the direction stays and the length is at most c. Value clipping limits each element and "
        "turns the direction. "
        "Clipping bounds the step of SGD; it does not repair a Jacobian that multiplies, and it "
        "does nothing against "
        "vanishing. It rescues recurrent nets at rates that otherwise diverge, and at "
        "moderate rates it changes nothing. A good threshold lies near the typical norm of a "
        "healthy run.",
        "看总梯度范数：爆炸表现为比该次训练近期的中位数跳高几个数量级，随后损失变成 NaN 或 Inf。"
        "像 1000 这样的固定报警线只在损失的单位确定时才有意义：对 256 行求和而不求平均，"
        "所有范数都乘 256。"
        "范数裁剪用全部参数的一个总范数，把所有梯度乘以 min(1, c / ||g||)：方向不变，长度不超过 "
        "c。"
        "按值裁剪限制每个元素，会改变方向。裁剪限制的是 SGD 的步长；它并不修复连乘的雅可比矩阵，"
        "对梯度消失也无能为力。"
        "在否则会发散的学习率下它能救回循环网络；学习率适中时它什么也不改变。"
        "阈值宜取在健康训练的典型范数附近。",
    ),
    flips=T(
        "With a moderate rate, or an optimizer that divides by the gradient's size, runs with and "
        "without clipping end alike.",
        "学习率适中，或优化器本身会除以梯度大小时，有无裁剪结果相同。",
    ),
    analogy=T(
        "A speed limiter: it does not steer, it only keeps a steep hill from throwing you off "
        "the road.",
        "如同限速器：它不管方向，只是不让陡坡把车甩出路面。",
    ),
    generative=T(
        "GPT-3 and LLaMA train with a global norm clipped at 1.0, as an insurance against rare "
        "spikes.",
        "GPT-3 与 LLaMA 训练时把全局范数裁剪到 1.0，作为防范偶发尖峰的保险。",
    ),
    classical=T(
        "Boosted trees have no such chain; for linear models a rate below 2 over the curvature "
        "does the same.",
        "提升树没有这样的链条；对线性模型，学习率低于 2 除以曲率就够了。",
    ),
    driving=T(
        "One corrupt frame can give one enormous gradient; clipping keeps it from ruining weeks "
        "of "
        "training.",
        "一帧坏数据可能带来一个巨大的梯度；裁剪使它不至于毁掉数周的训练。",
    ),
    change=T(
        "Lower the rate from 0.5 to 0.02: no run diverges and clipping is no longer needed.",
        "把学习率从 0.5 降到 0.02：没有一次发散，裁剪不再需要。",
    ),
)

LENGTH, UNITS = 40, 32


class Adder(nn.Module):
    """A tanh RNN that adds the two marked numbers of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, UNITS, batch_first=True)
        self.out = nn.Linear(UNITS, 1)

    def forward(self, x: Any) -> Any:
        states, _ = self.rnn(x)
        return self.out(states[:, -1])


def sums(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """Sequences of numbers with two marked, and the sum of those two."""
    x = np.zeros((rows, LENGTH, 2), np.float32)
    x[:, :, 0] = rng.random((rows, LENGTH))
    half = LENGTH // 2
    x[np.arange(rows), rng.integers(0, half, rows), 1] = 1
    x[np.arange(rows), rng.integers(half, LENGTH, rows), 1] = 1
    return x, (x[:, :, 0] * x[:, :, 1]).sum(axis=1, keepdims=True)


class Course(NamedTuple):
    """A training run: loss and gradient norm before clipping at each step."""

    losses: Any
    norms: Any

    @property
    def diverged(self) -> bool:
        """The loss ended as no number, or ten times above where it began."""
        last = self.losses[-1]
        return bool(not np.isfinite(last) or last > 10 * self.losses[0])


def clip(parameters: Any, how: str, bound: float) -> Any:
    """Clip in place; the norm before."""
    norm = clip_grad_norm_(parameters, bound if how == "norm" else 1e30)
    if how == "value":
        clip_grad_value_(parameters, bound)
    return norm


def train(model: Any, optimizer: Any, loss: Any, batches: Any, how: str) -> Course:
    """Steps over (x, y) batches with gradients clipped at 1 by norm, at 0.1 by value, or not."""
    parameters = list(model.parameters())
    bound = 0.1 if how == "value" else 1.0

    @fathom.compile
    def step(x: Any, y: Any) -> Any:
        value = loss(model(x), y)
        value.backward()
        norm = clip(parameters, how, bound)
        optimizer.step()
        optimizer.zero_grad()
        return value.detach(), norm

    found = [
        [float(v.item()) for v in step(fathom.tensor(x), fathom.tensor(y))] for x, y in batches
    ]
    return Course(*np.array(found).T)


@once
def adding(lab: Lab, lr: float, how: str, rows: int, reduction: str) -> list[Course]:
    """The RNN on the adding problem, a course for each seed; orthogonal recurrent weights."""
    courses = []
    for seed in lab.seeds(10, 2):
        rng = np.random.default_rng(seed)
        with fathom.seed(seed):
            model = Adder()
        turn = np.linalg.qr(rng.standard_normal((UNITS, UNITS)))[0]
        model.rnn.weight_hh_l0.data = turn.astype(np.float32)
        rate = lr / rows if reduction == "sum" else lr
        sgd = fathom.optim.SGD(model.parameters(), lr=rate)
        batches = (sums(rng, rows) for _ in range(lab.pick(60, 20)))

        def loss(said: Any, y: Any) -> Any:
            return F.mse_loss(said, y, reduction=reduction)

        courses.append(train(model, sgd, loss, batches, how))
    return courses


class Encoder(nn.Module):
    """Pre-norm transformer blocks over the eight rows of a digit."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.enter = nn.Linear(8, 16)
        self.place = nn.Parameter(np.zeros((8, 16), np.float32))
        self.blocks = nn.Sequential(*[
            nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(blocks)
        ])  # fmt: skip
        self.leave = nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        return self.leave(self.blocks(self.enter(x.reshape(-1, 8, 8)) + self.place).mean(1))


@once
def reading(lab: Lab, optimizer: str, lr: float, how: str) -> list[Course]:
    """The transformer on digits, a course for each seed."""
    data, courses = digits(), []
    for seed in lab.seeds(5, 2):
        rng = np.random.default_rng(seed)
        with fathom.seed(seed):
            model = Encoder(lab.pick(6, 2))
        picks = (rng.integers(0, len(data.x), 32) for _ in range(lab.pick(50, 8)))
        batches = ((data.x[k], data.y[k]) for k in picks)
        made = fathom.optim.make(optimizer, model.parameters(), lr=lr)
        courses.append(train(model, made, F.cross_entropy, batches, how))
    return courses


@question.experiment(
    "C2.3.10-01",
    T(
        "A gradient norm that jumps into the thousands signals an explosion.",
        "梯度范数跳到几千，就说明发生了梯度爆炸。",
    ),
    at_least(0.9),
    correction=T(
        "Where the loss is a mean the alarm is right in {n[mean over 256 rows]:.0%} of runs; the "
        "same runs "
        "with a loss summed over the rows trip it when nothing is wrong "
        "({n[sum over 256 rows]:.0%} right). "
        "Compare with the run's own median instead.",
        "损失取平均时，报警在 {n[mean over 256 rows]:.0%} 的训练中正确；"
        "同样的训练若损失对各行求和，"
        "没有问题也会报警（正确率 {n[sum over 256 rows]:.0%}）。应当与该次训练自身的中位数比较。",
    ),
    weight=2,
)
def alarm(lab: Lab) -> Evidence:
    """Share of runs that the rule "norm above 1000" tells rightly; half of them explode.

    An RNN on the adding problem, batches of 256, rates 0.02 (sound) and 2.0 (explodes). Summing
    the loss over rows with the rate divided by 256 gives the same steps in other units.
    """
    at: dict[str, Evidence] = {}
    for name, reduction in (("mean over 256 rows", "mean"), ("sum over 256 rows", "sum")):
        pairs = zip(*(adding(lab, lr, "none", 256, reduction) for lr in (0.02, 2.0)), strict=True)
        at[name] = Sample([
            float(np.mean([(np.nanmax(c.norms) > 1000) == c.diverged for c in pair]))
            for pair in pairs
        ])  # fmt: skip
    return Settings(T("how the loss is put together", "损失的汇总方式"), at)


@question.exact(
    "C2.3.10-02",
    T(
        "g c / ||g|| keeps the direction of g and gives it the norm c.",
        "g·c/||g|| 保持 g 的方向，并把范数变为 c。",
    ),
    at_most(1e-12),
)
def direction_kept(lab: Lab) -> Evidence:
    """1 - cosine and relative error of the norm, by the formula and by the library's clipping.

    1,000 gradients longer than c in float64; the library divides by norm + 1e-6, as PyTorch does,
    so its norm may be off by that. Gradients shorter than c must be left as they are.
    """
    rng = lab.rng("gradients")
    g = rng.standard_normal((1000, 50)) * rng.uniform(1, 1e4, (1000, 1))
    length, c = np.linalg.norm(g, axis=1), 0.5
    ours = g * (c / length)[:, None]
    theirs = np.empty_like(g)
    for i, row in enumerate(g):
        w = nn.Parameter(np.zeros(50))
        w.grad = fathom.tensor(row)
        clip_grad_norm_([w], c)
        theirs[i] = w.grad.value()
    short = nn.Parameter(np.zeros(2))
    short.grad = fathom.tensor(np.array([0.3, 0.1]))
    clip_grad_norm_([short], c)

    def turned(a: Any) -> float:
        cosine = (a * g).sum(axis=1) / (np.linalg.norm(a, axis=1) * length)
        return float(np.abs(1 - cosine).max())

    def off(a: Any) -> float:
        return float(np.abs(np.linalg.norm(a, axis=1) / c - 1).max())

    return All({
        "direction, formula": turned(ours), "norm, formula": off(ours),
        "direction, library": turned(theirs), "norm, library": Check(off(theirs), at_most(1e-5)),
        "a short one is changed by": float(np.abs(short.grad.value() - [0.3, 0.1]).max()),
    })  # fmt: skip


def rescued(bare: list[Course], clipped: list[Course]) -> Sample:
    """1 where a run diverged without and not with clipping, -1 the other way; one a seed."""
    pairs = zip(bare, clipped, strict=True)
    return Sample([float(a.diverged) - float(b.diverged) for a, b in pairs])


@question.experiment(
    "C2.3.10-03",
    T(
        "Deep transformers and recurrent nets cannot do without clipping.",
        "深层 Transformer 与循环网络离不开梯度裁剪。",
    ),
    at_least(0.5),
    correction=T(
        "It depends on the rate: clipping rescues {n[RNN, SGD 0.5]:.0%} of the recurrent nets at "
        "0.5 and "
        "{n[RNN, SGD 0.02]:.0%} at 0.02; of the transformers {n[transformer, SGD 1]:.0%} at SGD "
        "with 1 and "
        "{n[transformer, Adam 0.001]:.0%} with Adam at 0.001.",
        "取决于学习率：循环网络在 0.5 时被裁剪救回 {n[RNN, SGD 0.5]:.0%}，在 0.02 时为 "
        "{n[RNN, SGD 0.02]:.0%}；"
        "Transformer 用 SGD 学习率 1 时为 {n[transformer, SGD 1]:.0%}，用 Adam 学习率 0.001 时为 "
        "{n[transformer, Adam 0.001]:.0%}。",
    ),
    weight=3,
)
def indispensable(lab: Lab) -> Evidence:
    """Diverged runs without clipping less those with the norm clipped at 1, on the same seeds.

    A tanh RNN of 32 units on the adding problem (40 numbers), and a transformer of six pre-norm
    blocks on digits; each at a moderate and at an aggressive rate.
    """
    at: dict[str, Evidence] = {}
    for lr in (0.02, 0.5):
        bare, clipped = (adding(lab, lr, how, 32, "mean") for how in ("none", "norm"))
        at[f"RNN, SGD {lr}"] = rescued(bare, clipped)
    for name, lr in (("Adam", 0.001), ("SGD", 1)):
        runs = [reading(lab, name.lower(), float(lr), how) for how in ("none", "norm")]
        at[f"transformer, {name} {lr}"] = rescued(*runs)
    return Settings(T("net and learning rate", "网络与学习率"), at)


@question.figure(T("Runs that diverge, by clipping", "不同裁剪方式下发散的比例"))
def diverged(lab: Lab) -> Figure:
    """An RNN on the adding problem: no clipping, norm at 1, values at 0.1; three learning rates."""
    rates = lab.pick((0.02, 0.1, 0.5), (0.02, 0.5))
    names = {
        "none": T("none", "不裁剪"),
        "norm": T("norm", "按范数"),
        "value": T("value", "按值"),
    }

    def lost(how: str) -> list[float]:
        return [
            float(np.mean([c.diverged for c in adding(lab, lr, how, 32, "mean")])) for lr in rates
        ]

    bars = [Bars(name, lost(how)) for how, name in names.items()]
    rng = np.random.default_rng(lab.seeds(1, 1)[0])
    with fathom.seed(lab.seeds(1, 1)[0]):
        model = Adder()
    x, y = sums(rng, 32)
    F.mse_loss(model(fathom.tensor(x)), fathom.tensor(y)).backward()
    raw = np.concatenate([p.grad.value().ravel() for p in model.parameters()]).astype(np.float64)
    cut = np.clip(raw, -0.1, 0.1)
    cosine = float(raw @ cut / np.linalg.norm(raw) / np.linalg.norm(cut))
    return Figure(
        Axis(T("learning rate", "学习率"), ticks=[T(str(r), str(r)) for r in rates]),
        Axis(T("share of diverged runs", "发散的比例")),
        bars,
        T(
            "At moderate rates nothing diverges and clipping is idle; at high ones it keeps the "
            "runs "
            "finite. Clipping by value turns the gradient, by norm it does not.",
            "学习率适中时没有发散，裁剪不起作用；学习率高时它使训练保持有限。"
            "按值裁剪会转动梯度方向，按范数则不会。",
        ),
        {"cosine of raw gradient with that clipped by value": cosine},
    )


@question.figure(T("The gradient norm along a run", "训练过程中的梯度范数"))
def norm_along(lab: Lab) -> Figure:
    """Median over seeds; the same runs with mean and with summed loss, sound and exploding."""
    lines = []
    units = (("mean", "mean loss", "损失取平均"), ("sum", "summed loss", "损失求和"))
    for lr, en, zh in ((0.02, "sound", "健康"), (2.0, "exploding", "爆炸")):
        for reduction, en2, zh2 in units:
            runs = np.array([c.norms for c in adding(lab, lr, "none", 256, reduction)])
            middle = np.median(np.where(np.isfinite(runs), runs, np.inf), axis=0)
            lines.append(Line(T(f"{en}, {en2}", f"{zh}，{zh2}"), np.arange(len(middle)), middle))
    return Figure(
        Axis(T("step", "步")),
        Axis(T("gradient norm", "梯度范数"), log=True),
        [*lines, Level(T("alarm at 1000", "报警线 1000"), y=1000.0)],
        T(
            "An explosion is a jump away from the run's own level; a fixed line of 1000 is "
            "crossed by "
            "a sound run, too, where the loss is a sum.",
            "爆炸是偏离该次训练自身水平的跳跃；当损失是求和时，健康的训练也会越过 1000 "
            "这条固定的线。",
        ),
    )
