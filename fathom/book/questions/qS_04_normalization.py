"""S.4 What normalization does, and whether it does it by steadying the inputs of layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom import doctor, nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T,
    at_least, at_most, band, once,
)  # fmt: skip
from fathom.book.material.normed import few, fleet, judged, norm_layer
from fathom.book.material.tasks import Task, task
from fathom.engine.random import current
from fathom.nn import functional as F

question = Question(
    "S.4",
    title=T("What does normalization do?", "归一化有什么作用？"),
    difficulty=3,
    frequency=5,
    topics=(
        "batch normalization",
        "layer normalization",
        "internal covariate shift",
        "归一化",
        "内部协变量偏移",
    ),
    answer=T(
        "A normalization layer takes off a mean and divides by a standard deviation, so that the "
        "scale of the weights before it "
        "no longer matters, and then applies a learned scale and shift. Mean 0 and variance 1 "
        "hold right after that standardizing, "
        "over the axis it works on, and only until scale and shift have been trained; behind a "
        "ReLU, or with RMS norm, not at all. "
        "The effect is that signals and gradients keep their size through depth, that much "
        "larger rates are stable, and that the "
        "rate adapts to the weights' length. The original explanation, less internal covariate "
        "shift, does not stand up: "
        "noise put behind batch norm brings the shift back and training stays nearly as fast. "
        "Better supported is that the loss "
        "becomes smoother along the gradient. Noisy batch statistics also regularize a little.",
        "归一化层减去均值、除以标准差，使前面权重的尺度不再重要，再施加可学习的缩放和平移。"
        "零均值、单位方差只在标准化之后、在它所作用的轴上、且缩放和平移尚未训练时成立；在 ReLU "
        "之后或用 RMS 归一化时根本不成立。"
        "其效果是信号与梯度穿过各层保持大小，可以用大得多的学习率，"
        "并且有效步长会随权重长度自动调整。"
        "最初的解释“减少内部协变量偏移”站不住脚：在批归一化之后加噪声把偏移带回来，"
        "训练仍几乎同样快。"
        "更有依据的说法是损失沿梯度方向变得更平滑。批统计量的噪声还带来少许正则化。",
    ),
    flips=T(
        "In a shallow net with good initial weights and a small rate normalization changes little.",
        "浅层网络、初始化良好、学习率较小时，归一化几乎没有影响。",
    ),
    analogy=T(
        "A sound engineer who brings every track to the same level before the mix: no fader has "
        "to undo another.",
        "像混音前把每条音轨调到同一电平的录音师：不必用一个推子去抵消另一个。",
    ),
    generative=T(
        "RMS norm in today's language models leaves the mean in and loses nothing: centring is "
        "not the point.",
        "如今大语言模型用的 RMS 归一化不减均值也毫无损失：居中并非关键。",
    ),
    classical=T(
        "Standardizing the inputs does the same for a linear model: it rounds the bowl.",
        "对线性模型，标准化输入起同样的作用：把碗变圆。",
    ),
    driving=T(
        "Statistics learned on sunny data are wrong at night: batch norm's averages are "
        "re-estimated for a new domain.",
        "白天数据上学到的统计量到夜里就不对了：换域时要重新估计批归一化的滑动平均。",
    ),
    change=T(
        "Make the net two layers deep and the rate 0.03: the lines of the four nets fall together.",
        "把网络改成两层、学习率 0.03：四条线几乎重合。",
    ),
)


def off_standard(a: Any, axis: int) -> float:
    """The larger of |mean| and |variance - 1|, largest over what is left."""
    return float(max(np.abs(a.mean(axis=axis)).max(), np.abs(a.var(axis=axis) - 1).max()))


@question.experiment(
    "CS.4-01",
    T(
        "Normalization gives each layer zero mean and unit variance.",
        "归一化使每一层具有零均值和单位方差。",
    ),
    at_most(0.01),
    correction=T(
        "A new batch or layer norm does (off by {n[batch norm, new]:.0e}, "
        "{n[layer norm, new]:.0e}); after "
        "training scale and shift it is off by {n[batch norm, trained]:.2f}, RMS norm by "
        "{n[RMS norm, new]:.2f}, "
        "and what the next layer gets behind a ReLU by {n[batch norm and ReLU]:.2f}.",
        "新建的批归一化和层归一化如此（偏差 {n[batch norm, new]:.0e} 与 "
        "{n[layer norm, new]:.0e}）；缩放和平移训练之后"
        "偏差为 {n[batch norm, trained]:.2f}，RMS 归一化为 {n[RMS norm, new]:.2f}，"
        "ReLU 之后下一层得到的偏差为 {n[batch norm and ReLU]:.2f}。",
    ),
    weight=2,
)
def zero_and_one(lab: Lab) -> Evidence:
    """How far outputs are from mean 0 and variance 1 (the larger of both), over the norm's axis.

    Random rows off centre for new layers; the batch norms of nets trained on digits (mean over
    seeds of the worst unit of the first), in training mode on all 400 rows.
    """
    x = lab.rng("x").standard_normal((256, 64)) * 3 + 1
    rows = fathom.tensor(x)
    batch = nn.BatchNorm1d(64).double()(rows).value()
    trained = []
    for run in fleet("batch", 32, lab.seeds(5, 2), epochs=lab.pick(15, 3)).runs:
        net = run.model.train()
        trained.append(off_standard(net[1](net[0](fathom.tensor(few().x))).value(), 0))
    return Settings(
        T("where it is measured", "测量位置"),
        {
            "batch norm, new": off_standard(batch, 0),
            "layer norm, new": off_standard(nn.LayerNorm(64).double()(rows).value(), 1),
            "RMS norm, new": off_standard(nn.RMSNorm(64).double()(rows).value(), 1),
            "batch norm, trained": Sample(trained),
            "batch norm and ReLU": off_standard(np.maximum(batch, 0), 0),
        },
    )


class Noise(nn.Module):
    """A new random scale and shift of every unit at every step (Santurkar et al., 2018)."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Any) -> Any:
        stream, units = current().stream("noise"), x.shape[1]
        scale = fathom.tensor(stream.uniform((units,), 1 - self.size, 1 + self.size))
        return x * scale + fathom.tensor(stream.normal((units,), 0.0, self.size))


def deep(data: Task, norm: str, noise: float) -> Any:
    """Six hidden ReLU layers of 32 units; He's weights, with which the plain net trains."""
    layers: list[Any] = []
    for i in range(6):
        layers += [nn.Linear(32 if i else data.widths[0], 32), *norm_layer(norm, 32), nn.ReLU()]
        layers += [Noise(noise)] if noise else []
    return nn.init.apply_(nn.Sequential(*layers, nn.Linear(32, data.widths[2])), "he_normal")


class Outcome(NamedTuple):
    """A number a seed: mean loss of the last ten steps, drift of layer inputs a step."""

    loss: Any
    drift: Any


@once
def outcome(lab: Lab, norm: str, noise: bool, name: str = "digits") -> Outcome:
    """Training with SGD on batches of 128 at the rate of three that ends lowest, the drift measured
    on those batches; the noise is the least of three sizes with which it is as large as the plain
    net's."""
    rates = (0.2, 0.1, 0.4)[: lab.pick(3, 1)]
    for size in (0.125, 0.25, 0.5) if noise else (0.0,):
        tried = [at_rate(lab, norm, size, name, lr) for lr in rates]
        best = min(tried, key=lambda found: float(found.loss.mean()))
        if not noise or best.drift.mean() >= outcome(lab, "none", False, name).drift.mean():
            break
    return best


def at_rate(lab: Lab, norm: str, noise: float, name: str, lr: float) -> Outcome:
    """The same at one rate."""
    data, losses, drifts = task(name), [], []
    x, y = data.learn
    for seed in lab.seeds(6, 2):
        with fathom.seed(seed):
            net = deep(data, norm, noise)
            seen: list[float] = []
            sgd = fathom.optim.SGD(net.parameters(), lr=lr)

            def step(net: Any = net, sgd: Any = sgd, seen: Any = seen) -> None:
                rows = current().stream("batches").integers(0, len(x), (128,))
                sgd.zero_grad()
                loss = F.cross_entropy(net(fathom.tensor(x[rows])), y[rows])
                loss.backward()
                sgd.step()
                seen.append(loss.item())

            drifts.append(doctor.covariate_drift(net, step, steps=lab.pick(50, 15)).drift)
        losses.append(float(np.mean(seen[-10:])))
    return Outcome(np.array(losses), np.array(drifts))


@question.experiment(
    "CS.4-02",
    T(
        "Normalization works by reducing internal covariate shift.",
        "归一化之所以有效，是因为减少了内部协变量偏移。",
    ),
    at_most(0.5),
    correction=T(
        "On digits batch norm does cut the drift of layer inputs, but with noise that puts it "
        "back (to "
        "{n[drift with noise, of the plain net's/digits]:.1f} and "
        "{n[drift with noise, of the plain net's/moons]:.1f} "
        "times that of the plain net, digits and moons) {n[gain kept/digits]:.0%} and "
        "{n[gain kept/moons]:.0%} "
        "of its gain in loss remain.",
        "在 digits 上批归一化确实减小了层输入的漂移；但用噪声把漂移带回来（在 digits 与 moons "
        "上达到无归一化网络的 "
        "{n[drift with noise, of the plain net's/digits]:.1f} 倍与 "
        "{n[drift with noise, of the plain net's/moons]:.1f} 倍）"
        "之后，它在损失上的收益仍保留 {n[gain kept/digits]:.0%} 与 {n[gain kept/moons]:.0%}。",
    ),
    weight=4,
)
def by_less_shift(lab: Lab) -> Evidence:
    """Share of batch norm's gain in loss over a plain net kept where noise restores the shift.

    If the shift were the reason, most of the gain would go (0.5 at most kept). Six ReLU layers with
    He's weights on digits and on moons, each at the best of three rates; the noise must bring the drift of layer inputs to the plain net's or above.
    Layer norm is in the figure: it does not lower the drift of single units at all.
    """
    kept: dict[str, Evidence] = {}
    drift: dict[str, Evidence] = {}
    for name in ("digits", "moons"):
        plain, quiet, noisy = (
            outcome(lab, norm, noise, name)
            for norm, noise in (("none", False), ("batch", False), ("batch", True))
        )
        gain = float((plain.loss - quiet.loss).mean())
        kept[name] = Sample(1 - (noisy.loss - quiet.loss) / gain)
        drift[name] = Sample(noisy.drift / plain.drift.mean())
    return All({
        "gain kept": Routes(kept),
        "drift with noise, of the plain net's": Check(Routes(drift), at_least(1.0)),
    })  # fmt: skip


@question.figure(T("Drift of layer inputs, and loss", "层输入的漂移与损失"))
def drift_and_loss(lab: Lab) -> Figure:
    """Six ReLU layers on digits, 50 steps of SGD, each at its best rate; intervals over seeds."""
    kinds = {
        T("plain", "无归一化"): ("none", False),
        T("batch norm", "批归一化"): ("batch", False),
        T("batch norm, then noise", "批归一化后加噪声"): ("batch", True),
        T("layer norm", "层归一化"): ("layer", False),
        T("layer norm, then noise", "层归一化后加噪声"): ("layer", True),
    }
    found = [outcome(lab, *kind) for kind in kinds.values()]
    bars = []
    for name, part in ((T("drift a step", "每步漂移"), "drift"), (T("loss", "损失"), "loss")):
        at = [Sample(getattr(f, part)) for f in found]
        bars.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("net", "网络"), ticks=list(kinds)),
        Axis(T("drift and loss", "漂移与损失")),
        bars,
        T(
            "Noise behind batch norm makes the inputs of layers drift more than in the plain "
            "net, and yet "
            "the loss stays far below; layer norm lowers the loss without lowering the drift.",
            "批归一化之后的噪声使层输入的漂移超过无归一化网络，损失却仍远低于它；"
            "层归一化降低了损失，却没有降低漂移。",
        ),
    )


@question.figure(T("Which rates are stable", "哪些学习率是稳定的"))
def stable_rates(lab: Lab) -> Figure:
    """Four hidden layers on 400 digits, 8 epochs of SGD: test accuracy by rate and norm."""
    rates = lab.pick([0.01, 0.03, 0.1, 0.3, 1.0, 3.0], [0.03, 0.3])
    lines = []
    for norm, name in (
        ("none", T("none", "无")), ("batch", T("batch norm", "批归一化")),
        ("layer", T("layer norm", "层归一化")), ("group", T("group norm", "组归一化")),
    ):  # fmt: skip
        nets = fleet(norm, 32, lab.seeds(4, 2), lr=rates, epochs=lab.pick(8, 1), depth=4)
        found = judged(nets).test.reshape(len(rates), -1)
        lines.append(Line(name, rates, found.mean(axis=1), found.min(axis=1), found.max(axis=1)))
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        lines,
        T(
            "Normalized nets learn over a far wider range of rates; in eight epochs the plain "
            "net hardly "
            "learns at any, and batch norm stands the highest ones.",
            "带归一化的网络在宽得多的学习率范围内都能学习；"
            "八轮之内无归一化的网络几乎在任何学习率下都学不到什么，批归一化能承受的学习率最高。",
        ),
    )
