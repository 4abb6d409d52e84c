"""2.2.4 How depth and width trade what can be represented against what can be trained."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample, Settings,
    Source, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.stacks import parameters, stack, width_for
from fathom.book.statistics import slope
from fathom.doctor import rank_collapse
from fathom.nn import Linear, Module, MultiheadAttention, Sequential
from fathom.nn.functional import cross_entropy

question = Question(
    "2.2.4",
    title=T(
        "How do depth and width trade expressiveness against trainability?",
        "深度与宽度如何在表达能力与训练难度之间取舍？",
    ),
    difficulty=3,
    frequency=4,
    topics=("depth", "width", "degradation", "residual", "over-smoothing", "深度", "宽度", "退化", "残差", "过平滑"),
    answer=T(
        "Width adds features in parallel: it is easy to train and easy to run in parallel, but the "
        "matrices between hidden layers grow with its square. Depth composes features and grows "
        "only linearly, but signal and gradient must pass through every layer. Plain deep nets get "
        "a higher training error than shallow ones (degradation), which is a failure of training "
        "and not of capacity, since the added layers could be the identity. Residual connections "
        "remove most of it, if their branches are normalized or scaled. Once depth can be trained it is no free lunch: wide residual nets of 16 "
        "to 28 layers matched ones of a thousand. In attention stacks depth has a danger of its "
        "own: without skips and feed-forward layers the tokens become one and the same.",
        "宽度是并行增加特征：易训练、易并行，但隐层之间的矩阵按宽度平方增长。深度是复合特征，参数只线性"
        "增长，但信号与梯度必须穿过每一层。朴素的深网络训练误差反而比浅网络高（退化），这是训练失败而非"
        "容量不足，因为新增层完全可以取恒等映射。残差连接消除了其中大部分，前提是分支经过归一化或缩放。深度能训练之后也不是免费午餐："
        "16 到 28 层的宽残差网络就能匹敌上千层的。在注意力堆叠中深度另有危险：没有捷径和前馈层，各个词元"
        "会变得一模一样。",
    ),
    flips=T(
        "With residual connections, scaled or normalized, depth raises the training error far less.",
        "有了经过缩放或归一化的残差连接，加深对训练误差的抬高小得多。",
    ),
    analogy=T(
        "A message whispered through twenty people is lost; give each also the original note and it arrives.",
        "一句话经二十人耳语相传会走样；若每人同时传一张原件，就能送达。",
    ),
    generative=T(
        "Language models grow width and depth together, with a residual stream from bottom to top.",
        "语言模型宽度与深度同步增长，并有一条自下而上的残差流。",
    ),
    classical=T(
        "For tables two or three hidden layers are enough; widen before you deepen.",
        "表格数据用两三个隐层就够；先加宽再加深。",
    ),
    driving=T(
        "Backbones choose moderate depth: every layer waits for the one before it, latency adds up.",
        "车载主干网络取适中的深度：每层都要等上一层，时延会累加。",
    ),
    change=T(
        "Switch scaled residual connections on: the curve over depth becomes much flatter.",
        "打开带缩放的残差连接：损失随深度的曲线平缓得多。",
    ),
)  # fmt: skip


@question.exact(
    "C2.2.4-01",
    T(
        "Making a network wider grows its parameters with the square of the width.",
        "加宽网络时，参数量按宽度的平方增长。",
    ),
    equals(2.0, 0.1),
    correction=T(
        "The matrices between hidden layers do (exponent {n[hidden to hidden]:.2f}); with one hidden layer "
        "the whole net grows in proportion ({n[net with 1 hidden layer]:.2f}), with four nearly as the "
        "square ({n[net with 4 hidden layers]:.2f}).",
        "隐层之间的矩阵如此（指数 {n[hidden to hidden]:.2f}）；只有一个隐层时整个网络按正比增长"
        "（{n[net with 1 hidden layer]:.2f}），四个隐层时接近平方（{n[net with 4 hidden layers]:.2f}）。",
    ),
)
def widening(lab: Lab) -> Evidence:
    """Exponent of parameters against width, 128 to 1,024, counted on networks for the digits."""
    widths = [128, 256, 512, 1024]
    nets = {k: [parameters(stack(64, 10, w, k, init="default")) for w in widths] for k in (1, 4)}
    between = [parameters(Linear(w, w)) for w in widths]
    return Settings(T("what is counted", "统计对象"), {
        "hidden to hidden": slope(np.log(widths), np.log(between)),
        "net with 1 hidden layer": slope(np.log(widths), np.log(nets[1])),
        "net with 4 hidden layers": slope(np.log(widths), np.log(nets[4])),
    })  # fmt: skip


# -- depth at a fixed budget ---------------------------------------------------------------------

BUDGET = 12_000


def net(depth: int, kind: str) -> Sequential:
    """A stack at the budget: "plain", "residual" with branches scaled by 1 / sqrt(depth), or "bare"."""
    scale = 1.0 if kind == "bare" else float(depth) ** -0.5
    width = width_for(BUDGET, 64, 10, depth)
    return stack(64, 10, width, depth, residual=kind != "plain", scale=scale)


def first_gradient(depth: int, kind: str, seed: int) -> float:
    """Gradient norm of the first weights over that of the last, at the start."""
    data = digits()
    with fathom.seed(seed):
        model = net(depth, kind)
    cross_entropy(model(fathom.tensor(data.x[:200])), data.y[:200]).backward()
    both = [m.weight.grad for m in model.modules() if isinstance(m, Linear)]
    return float(np.linalg.norm(both[0].value()) / np.linalg.norm(both[-1].value()))


@once
def trained(lab: Lab, depth: int, kind: str) -> Any:
    """Training loss after 15 epochs on the digits at 12,000 parameters, one a seed; ln 10 if lost."""
    data = digits()
    spec = {
        "model": lambda: net(depth, kind), "optimizer": "sgd", "lr": 0.05,
        "epochs": lab.pick(15, 4), "batch_size": 50,
    }  # fmt: skip
    fleet = fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(8, 3), threads=1)
    return np.nan_to_num(fleet.losses[:, -1], nan=np.log(10))


@question.experiment(
    "C2.2.4-02",
    T(
        "Deeper plain networks are in danger of degradation: a higher training error.",
        "更深的朴素网络有退化的风险：训练误差反而更高。",
    ),
    at_least(0.1),
    weight=3,
)
def degradation(lab: Lab) -> Evidence:
    """Training loss of 24 plain layers less that of 2, and less that of 24 residual ones (nats).

    12,000 parameters each, digits, 15 epochs of SGD, He's weights; 0.1 nats count. Residual
    branches are scaled by 1 / sqrt(depth).
    """
    deep = trained(lab, 24, "plain")
    return All({
        "deep less shallow": Sample(deep - trained(lab, 2, "plain")),
        "plain less residual": Sample(deep - trained(lab, 24, "residual")),
    })  # fmt: skip


@question.reference(
    "C2.2.4-03",
    T(
        "ResNet showed that depth, once it can be trained, gains far more than width.",
        "ResNet 表明：一旦可以训练，增加深度的收益远大于增加宽度。",
    ),
    at_least(1.0),
    correction=T(
        "The ResNet paper varied depth only. Wide ResNets compared: the error of 28 layers ten times as "
        "wide differs from that of 1,001 thin ones by {n[CIFAR-100]:+.2f} points on CIFAR-100, that of 50 "
        "layers twice as wide from that of 152 by {n[ImageNet]:+.2f} on ImageNet.",
        "ResNet 论文只改变了深度。Wide ResNet 做了比较：在 CIFAR-100 上，28 层、宽十倍的网络与 1001 层窄网络"
        "的错误率相差 {n[CIFAR-100]:+.2f} 个百分点；在 ImageNet 上，50 层、宽两倍的与 152 层的相差 "
        "{n[ImageNet]:+.2f}。",
    ),
    weight=3,
)
def depth_against_width(lab: Lab) -> Evidence:
    """Error of a wide residual net less that of a deep one of the same time, in points: WRN-28-10
    (19.25) and pre-activation ResNet-1001 (22.71), trained by the same authors; WRN-50-2 and ResNet-152
    by another group (accuracies 78.468 and 78.312). Far more is taken as a point or more.
    """
    paper = Source(
        "Zagoruyko & Komodakis, Wide Residual Networks, table 5 and released code", 2016, 0.98
    )
    library = Source(
        "torchvision, models/resnet.py (weights IMAGENET1K_V1: acc@1 of both networks)", 2021, 0.98
    )
    return Routes({
        "CIFAR-100": Published(19.25 - 22.71, (paper,)),
        "ImageNet": Published(78.312 - 78.468, (library,)),
    })  # fmt: skip


@question.reference(
    "C2.2.4-04",
    T(
        "The feed-forward net of a Transformer is usually four times as wide as the model.",
        "Transformer 的前馈层宽度通常是模型宽度的四倍。",
    ),
    equals(4.0),
)
def four_times(lab: Lab) -> Evidence:
    """Published sizes: 2,048 / 512, 3,072 / 768, 49,152 / 12,288. Gated nets use 8/3 instead."""
    return Published(
        4.0,
        (
            Source("Vaswani et al., Attention Is All You Need, table 3 (512, 2048)", 2017, 0.98),
            Source("Devlin et al., BERT (feed-forward size 4H)", 2018, 0.97),
            Source("Brown et al., Language Models are Few-Shot Learners (d_ff = 4 d_model)", 2020, 0.97),
        ),
    )  # fmt: skip


# -- tokens --------------------------------------------------------------------------------------


class Mixer(Module):
    """Self-attention, with a way around it or not."""

    def __init__(self, skip: bool) -> None:
        super().__init__()
        self.attention = MultiheadAttention(32, 4, batch_first=True)
        self.skip = skip

    def forward(self, x: Any) -> Any:
        mixed = self.attention(x, x, x, need_weights=False)[0]
        return x + mixed if self.skip else mixed


@once
def residuals(lab: Lab, skip: bool) -> Any:
    """Length of tokens' differences from their mean over their length, (seeds, 13 places)."""
    found = []
    for seed in lab.seeds(8, 3):
        with fathom.seed(seed):
            layers = Sequential(*[Mixer(skip) for _ in range(12)]).double()
        x = np.random.default_rng(seed).standard_normal((4, 16, 32))
        found.append([row.residual for row in rank_collapse(layers, x).rows])
    return np.array(found)


@question.experiment(
    "C2.2.4-05",
    T(
        "Deep token mixers smooth too much: the tokens' representations become the same.",
        "深层的词元混合器会过平滑：各词元的表示趋于相同。",
    ),
    at_most(0.01),
    correction=T(
        "Attention alone does ({n[without skips]:.0e} of the differences are left after 12 layers); with "
        "skip connections {n[with skips]:.2f} is left.",
        "纯注意力会如此（12 层后差异只剩 {n[without skips]:.0e}）；有捷径连接时还剩 {n[with skips]:.2f}。",
    ),
    weight=2,
)
def smoothing(lab: Lab) -> Evidence:
    """What tokens differ by after 12 layers of self-attention, over the same at the input."""
    return Settings(T("architecture", "结构"), {
        name: Sample(r[:, -1] / r[:, 0])
        for name, r in (
            ("without skips", residuals(lab, False)), ("with skips", residuals(lab, True))
        )
    })  # fmt: skip


# -- figures -------------------------------------------------------------------------------------


KINDS = {
    "plain": T("plain", "朴素"),
    "residual": T("residual, scaled branches", "残差，分支已缩放"),
    "bare": T("residual, not scaled", "残差，分支未缩放"),
}


@question.figure(T("Training loss by depth at a fixed budget", "固定预算下训练损失随深度的变化"))
def by_depth(lab: Lab) -> Figure:
    """12,000 parameters in 1 to 24 hidden layers: plain, residual, residual without scaling."""
    depths = lab.pick([1, 2, 4, 8, 16, 24], [2, 24])
    lines = [
        Line(name, depths, *band(Sample(trained(lab, d, kind)) for d in depths))
        for kind, name in KINDS.items()
    ]
    return Figure(
        Axis(T("hidden layers", "隐层数")),
        Axis(T("training loss", "训练损失")),
        [*lines, Level(T("ln 10: learns nothing", "ln 10：什么也没学到"), y=float(np.log(10)))],
        T(
            "At the same number of parameters plain nets learn less and less as they get deeper; "
            "residual ones suffer far less, if their branches are scaled: otherwise they explode.",
            "参数量相同时，朴素网络越深学得越少；残差网络受影响小得多，前提是缩放分支，否则会爆炸。",
        ),
    )


@question.figure(T("Gradient at the first layer", "第一层的梯度"))
def gradients(lab: Lab) -> Figure:
    """Norm of the first weights' gradient over the last's before training, by depth."""
    depths = lab.pick([2, 4, 8, 16, 24], [2, 24])
    lines = []
    for kind, name in KINDS.items():
        at = [
            Sample([np.log10(first_gradient(d, kind, s)) for s in lab.seeds(8, 3)]) for d in depths
        ]
        lines.append(Line(name, depths, *band(at)))
    return Figure(
        Axis(T("hidden layers", "隐层数")),
        Axis(T("log10 of first over last", "首末层之比的 log10")),
        lines,
        T(
            "With He's weights the gradient arrives even through 24 plain layers; what suffers is "
            "learning, not the gradient's size alone.",
            "用 He 初始化时梯度能穿过 24 层朴素网络到达首层；受损的是学习，而不只是梯度大小。",
        ),
    )


@question.figure(T("Tokens through layers of attention", "词元穿过注意力层"))
def tokens(lab: Lab) -> Figure:
    """What tokens differ by, layer by layer, with and without skips."""
    lines = []
    for skip, name in ((False, T("without skips", "无捷径")), (True, T("with skips", "有捷径"))):
        logs = np.log10(np.maximum(residuals(lab, skip), 1e-17))
        at = [Sample(column) for column in logs.T]
        middle, low, high = (
            10 ** np.array([getattr(s, part) for s in at]) for part in ("mean", "low", "high")
        )
        lines.append(Line(name, np.arange(13), middle, low, high))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("difference between tokens", "词元间差异"), log=True),
        lines,
        T(
            "Attention alone makes all tokens equal within a few layers, down to rounding; a skip "
            "connection keeps them apart.",
            "纯注意力几层之内就使所有词元相同（直到舍入误差）；捷径连接使它们保持不同。",
        ),
    )
