"""3.4.6 Normalization before or behind the activation, and before or behind the residual sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import Axis, Bars, Figure, Lab, Level, Line, Question, Sample, T, band
from fathom.book.material.data import digits
from fathom.doctor.probes.centring import bn_order
from fathom.models.mlp import make_activation

question = Question(
    "3.4.6",
    title=T(
        "In which order should activation and normalization be placed?",
        "激活与归一化应按什么顺序放置？",
    ),
    difficulty=3,
    frequency=4,
    topics=(
        "batch normalization", "layer normalization", "ordering", "pre-norm", "post-norm", "批归一化",
        "层归一化", "顺序", "前置归一化",
    ),
    answer=T(
        "The usual order is linear, batch norm, activation, as in the paper of 2015: the activation "
        "then sees mean 0 and variance 1, so few units are dead or saturated; the preceding bias is "
        "superfluous. The next layer, however, receives a positive mean again, 0.40 behind ReLU and "
        "0.5 behind the sigmoid. With the norm behind the activation the next layer receives mean 0, "
        "which speeds up small learning rates, most of all with a sigmoid. Near the best rate the two "
        "differ by a point or less with ReLU, so keep the order of the recipe you follow; norm "
        "before ReLU can also be folded into the layer for deployment. In transformers the question "
        "is another: pre-norm, x + f(norm(x)), keeps a clear identity path and trains at rates where "
        "post-norm, norm(x + f(x)), stays at chance; post-norm needs warm-up.",
        "常用的顺序是线性层、批归一化、激活，与 2015 年的论文一致：激活看到的是均值 0、方差 1，死亡或饱和"
        "的单元很少；前面的偏置则是多余的。但下一层收到的均值又变为正：ReLU 后为 0.40，sigmoid 后为 "
        "0.5。归一化放在激活之后，下一层收到的均值为 0，学习率较小时训练更快，对 sigmoid 尤其明显。在最佳学"
        "习率附近，用 ReLU 时两者相差至多约一个百分点，所以沿用所参照配方的顺序即可；线性层后紧跟的归一化在"
        "部署时还可以折叠进该层。Transformer 里是另一个问题：前置归一化 x + f(norm(x)) 保留了恒等通路，"
        "在后置归一化 norm(x + f(x)) 停在随机水平的学习率下仍能训练；后置归一化需要预热。",
    ),
    flips=T(
        "With a sigmoid and a small rate, norm behind the activation is far ahead; at the best rate "
        "the lead shrinks to three points, and with ReLU to nothing.",
        "用 sigmoid 且学习率小时，归一化放在激活之后遥遥领先；在最佳学习率下领先缩小到三个百分点，用 ReLU 时则没有领先。",
    ),
    analogy=T(
        "Focus the picture before the film is exposed, or touch up the print afterwards.",
        "是曝光之前先对焦，还是洗出照片后再修。",
    ),
    generative=T(
        "GPT-2 and nearly all later language models put the norm before attention and feed-forward "
        "part, and one more at the end.",
        "GPT-2 及其后的几乎所有语言模型都把归一化放在注意力和前馈之前，并在最后再加一个。",
    ),
    classical=T(
        "Standardizing inputs is the same step for the first layer: it too gives a layer mean 0.",
        "对输入做标准化就是给第一层做同一件事：让它收到均值为 0 的输入。",
    ),
    driving=T(
        "Convolution, batch norm, ReLU folds into one convolution at inference, which the cameras' "
        "frame rate rewards.",
        "卷积、批归一化、ReLU 在推理时可折叠为一个卷积，对摄像头的帧率很有利。",
    ),
    change=T(
        "Lower the rate from 0.1 to 0.01: norm behind the activation takes the lead.",
        "把学习率从 0.1 降到 0.01：归一化在激活之后的网络领先。",
    ),
)  # fmt: skip

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
ORDERS = {
    "before": T("linear, norm, activation", "线性、归一化、激活"),
    "behind": T("linear, activation, norm", "线性、激活、归一化"),
    "none": T("no norm", "无归一化"),
}


def network(order: str, activation: str) -> nn.Sequential:
    """Three hidden layers of 32 on digits."""
    layers: list[nn.Module] = []
    for inputs in (64, 32, 32):
        bend, norm = make_activation(activation), nn.BatchNorm1d(32)
        parts = {"before": [norm, bend], "behind": [bend, norm], "none": [bend]}[order]
        layers += [nn.Linear(inputs, 32), *parts]
    return nn.Sequential(*layers, nn.Linear(32, 10))


def by_rate(lab: Lab, make: Callable[[], nn.Module], rates: Any, **options: Any) -> list[Sample]:
    """Test accuracy on digits at each rate, one number a seed."""
    data, rows, count = digits(), options.pop("rows", None), options.pop("seeds", 5)
    spec, seeds = {"model": make, "batch_size": 64, **options}, lab.seeds(count, 2)
    fleet = fathom.train_many(spec, data.x[:rows], data.y[:rows], seeds=seeds, grid={"lr": rates})
    found = fleet.evaluate(data.test_x, data.test_y)["accuracy"].reshape(len(rates), -1)
    return [Sample(row) for row in found]


def line(name: T, x: Any, at: list[Sample]) -> Line:
    """Means with bands."""
    return Line(name, x, *band(at))


def rates_figure(lab: Lab, activation: str, caption: T) -> Figure:
    """Accuracy after four passes of SGD, by order and rate."""
    rates = lab.pick(RATES, (0.01, 0.1))
    lines = [
        line(name, rates, by_rate(
            lab, lambda order=order: network(order, activation), rates, optimizer="sgd",
            epochs=lab.pick(4, 1),
        ))
        for order, name in ORDERS.items()
    ]  # fmt: skip
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        lines,
        caption,
    )


@question.figure(T("Batch norm and ReLU, both orders", "批归一化与 ReLU 的两种顺序"))
def with_relu(lab: Lab) -> Figure:
    """Digits, three hidden layers of 32, four passes of SGD at five rates, bands over five seeds."""
    return rates_figure(
        lab,
        "relu",
        T(
            "At small rates the norm behind ReLU is ahead, near the best rate the orders differ by "
            "about a point. At a rate of 1 the norm behind ReLU scatters widely. Without norm the network "
            "has hardly begun.",
            "学习率小时，归一化放在 ReLU 之后领先；在最佳学习率附近两种顺序相差约一个百分点；学习率为 1 时，归"
            "一化在 ReLU 之后的结果波动很大。没有归一化的网络才刚刚起步。",
        ),
    )


@question.figure(T("Batch norm and sigmoid, both orders", "批归一化与 sigmoid 的两种顺序"))
def with_sigmoid(lab: Lab) -> Figure:
    """The same with sigmoids."""
    return rates_figure(
        lab,
        "sigmoid",
        T(
            "With sigmoids the norm behind the activation learns at small rates already, because the "
            "next layer's inputs are centred and of unit size; at large rates the gap shrinks to "
            "a point or two.",
            "用 sigmoid 时，归一化放在激活之后在小学习率下就能学习，因为下一层的输入居中且尺度为 1；学"
            "习率大时差距缩小到一两个百分点。",
        ),
    )


@question.figure(T("What the next layer receives", "下一层收到什么"))
def received(lab: Lab) -> Figure:
    """Mean of a layer's outputs on digits at the start, norm before and behind; bars over seeds."""
    names = ("relu", "gelu", "silu", "sigmoid", "tanh")
    x = digits().x[:500]
    found = {n: [bn_order(x, activation=n, seed=seed) for seed in lab.seeds(8, 3)] for n in names}
    before = [Sample([o.before_mean for o in found[n]]) for n in names]
    behind = [Sample([o.behind_mean for o in found[n]]) for n in names]
    marks = [
        Bars(name, *band(at))
        for name, at in ((ORDERS["before"], before), (ORDERS["behind"], behind))
    ]
    normal = float(1.0 / np.sqrt(2.0 * np.pi))
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in names]),
        Axis(T("mean of the next layer's input", "下一层输入的均值")),
        [*marks, Level(T("E[ReLU(z)], z normal", "z 为正态时的 E[ReLU(z)]"), y=normal)],
        T(
            "Norm before the activation leaves the next layer a mean of about 0.4 (ReLU) or 0.5 "
            "(sigmoid); norm behind it leaves 0. Tanh, an odd function, hardly cares.",
            "归一化在激活之前时，下一层收到的均值约为 0.4（ReLU）或 0.5（sigmoid）；在激活之后时为 0。"
            "tanh 是奇函数，几乎不受影响。",
        ),
    )


class Rows(nn.Module):
    """A transformer of four blocks over the eight rows of a digit."""

    def __init__(self, norm_first: bool, layers: int = 4) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(8, 16), nn.Linear(16, 10)
        self.place = nn.Parameter(np.sin(np.arange(128.0)).reshape(8, 16).astype(np.float32))
        block = nn.TransformerEncoderLayer(
            16, 2, 32, dropout=0.0, batch_first=True, norm_first=norm_first
        )
        self.blocks = nn.TransformerEncoder(block, layers, nn.LayerNorm(16) if norm_first else None)

    def forward(self, x: Any) -> Any:
        return self.out(self.blocks(self.embed(x.reshape(-1, 8, 8)) + self.place).mean(axis=1))


@question.figure(T("Norm before or behind the residual sum", "归一化在残差相加之前还是之后"))
def transformer(lab: Lab) -> Figure:
    """Digits as sequences of eight rows, four blocks, four passes of Adam without warm-up, bands
    over five seeds."""
    rates = lab.pick((0.003, 0.01, 0.03), (0.01,))
    lines = [
        line(name, rates, by_rate(
            lab, lambda first=first: Rows(first, lab.pick(4, 1)), rates, rows=lab.pick(None, 64),
            seeds=5, epochs=lab.pick(4, 1),
        ))
        for first, name in ((True, T("pre-norm", "前置归一化")), (False, T("post-norm", "后置归一化")))
    ]  # fmt: skip
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("chance", "随机水平"), y=0.1)],
        T(
            "At moderate rates the two learn alike; at 0.03 post-norm falls towards chance while "
            "pre-norm goes on learning.",
            "学习率适中时两者相近；学习率为 0.03 时，后置归一化跌向随机水平，前置归一化仍在学习。",
        ),
    )
