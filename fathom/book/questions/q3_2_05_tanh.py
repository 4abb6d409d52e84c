"""3.2.5 How tanh is related to the sigmoid, and what it mends."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, highest, root, value
from fathom.book.material.data import digits
from fathom.book.material.gain import SHAPES, sigmoid
from fathom.book.material.gaussian import normal_mean
from fathom.book.material.stacks import stack
from fathom.train import train_many

question = Question(
    "3.2.5",
    title=T(
        "How is tanh related to the sigmoid, and what does it fix?",
        "Tanh 与 Sigmoid 有什么关系？它改进了什么？",
    ),
    difficulty=3,
    frequency=4,
    topics=("tanh", "sigmoid", "zero-centring", "双曲正切", "零中心", "梯度"),
    answer=T(
        "tanh is a sigmoid stretched and shifted: tanh(x) = 2 sigma(2x) - 1, with values in (-1, "
        "1) "
        "and slope 1 - tanh(x)^2. It fixes two things. It is odd, so for inputs symmetric about "
        "0 its "
        "mean is 0 and not 0.5, and the next layer's gradients are not pushed one way. Its "
        "slope at 0 is 1, four times the sigmoid's, so a signal near 0 passes a layer almost "
        "unchanged. It does not fix saturation: its slope falls like 4 exp(-2|x|), twice as fast "
        "in "
        "the exponent, and from |x| = 1.66 on it is below the sigmoid's. A network can express the "
        "same functions with either, since the factors and the shift fit into weights and biases; "
        "what differs is how well gradient descent starts.",
        "tanh 是拉伸并平移后的 sigmoid：tanh(x) = 2 sigma(2x) - 1，值域 (-1, 1)，导数 1 - "
        "tanh(x)^2。"
        "它改进了两点。第一，它是奇函数，输入关于 0 对称时均值为 0 而不是 0.5，"
        "下一层的梯度不会被推向同一方向。第二，它在 0 处的导数为 1，是 sigmoid 的四倍，"
        "0 附近的信号几乎原样通过一层。它没有解决饱和：导数按 4 exp(-2|x|) 衰减，指数上快一倍，"
        "从 |x| = 1.66 起就小于 sigmoid 的导数。两者能表示的网络函数相同，"
        "因为倍数和平移可以并入权重与偏置；不同的是梯度下降起步时的好坏。",
    ),
    flips=T(
        "If the sigmoid's weights are scaled by 4 (2 in the argument, 2 for the output) and the "
        "shift "
        "is put in the bias, it computes what tanh computes.",
        "如果把 sigmoid 的权重放大（自变量乘 2、输出乘 2）并把平移并入偏置，它算出的就是 tanh。",
    ),
    analogy=T(
        "The same dial with another scale: from -1 to 1 in place of 0 to 1, and geared higher in "
        "the "
        "middle.",
        "同一个表盘换了刻度：从 0 到 1 换成 -1 到 1，中间的传动比更大。",
    ),
    generative=T(
        "The generator of a GAN ends in tanh, since images are scaled to [-1, 1]; a discriminator "
        "seldom does (f-GAN's for the total variation).",
        "GAN 的生成器以 tanh 结尾，因为图像缩放到 [-1, 1]；判别器很少如此（f-GAN 用总变差时是）。",
    ),
    classical=T(
        "LeCun's 1.7159 tanh(2x/3) was the standard hidden unit of the 1990s.",
        "LeCun 的 1.7159 tanh(2x/3) 是 20 世纪 90 年代隐藏单元的标准选择。",
    ),
    driving=T(
        "Steering between full left and full right is a tanh; a throttle from 0 to 1 is a sigmoid.",
        "从左满舵到右满舵的转向用 tanh；0 到 1 的油门用 sigmoid。",
    ),
    change=T(
        "Feed pre-activations of 2 and more: now the sigmoid has the larger slope.",
        "让预激活达到 2 以上：这时 sigmoid 的导数反而更大。",
    ),
)


@question.exact(
    "C3.2.5-01",
    T("tanh(x) = 2 sigma(2x) - 1.", "tanh(x) = 2 sigma(2x) - 1。"),
    at_most(1e-14),
)
def stretched(lab: Lab) -> Evidence:
    """Largest difference over 10,000 points of [-20, 20], by NumPy and by the library."""
    x = lab.rng("points").uniform(-20.0, 20.0, 10_000)
    ours = value(fathom.tanh, x) - (2 * value(fathom.sigmoid, 2 * x) - 1)
    return Routes({
        "NumPy": float(np.abs(np.tanh(x) - (2 / (1 + np.exp(-2 * x)) - 1)).max()),
        "Fathom": float(np.abs(ours).max()),
    })  # fmt: skip


@question.exact(
    "C3.2.5-02",
    T(
        "For centred inputs the mean output is 0.5 for the sigmoid and 0 for tanh.",
        "输入居中时，sigmoid 的平均输出为 0.5，tanh 为 0。",
    ),
    equals(0.5, 0.005),
)
def means(lab: Lab) -> Evidence:
    """E f(z) for normal z, by quadrature and by drawing 400,000."""
    z = lab.rng("z").standard_normal(400_000)
    return All({
        name: Check(
            Routes({"quadrature": normal_mean(f), "drawn": float(f(z).mean())}),
            equals(told, 0.005),
        )
        for name, f, told in (("sigmoid", sigmoid, 0.5), ("tanh", np.tanh, 0.0))
    })  # fmt: skip


@question.exact(
    "C3.2.5-03",
    T(
        "At 0, 1, 2, 3 tanh and its slope are 0 and 1, .76 and .42, .96 and .07, .995 and .01.",
        "在 0、1、2、3 处，tanh 及其导数为 0 与 1、.76 与 .42、.96 与 .07、.995 与 .01。",
    ),
    equals(1.0, 1e-12),
)
def table(lab: Lab) -> Evidence:
    """Values and slopes in float64, to half a unit of the last printed digit."""
    told = {
        "slope at 0": (0.0, 1.0, 1e-12, 1), "tanh(0)": (0.0, 0.0, 1e-12, 0),
        "tanh(1)": (1.0, 0.76, 0.005, 0), "slope at 1": (1.0, 0.42, 0.005, 1),
        "tanh(2)": (2.0, 0.96, 0.005, 0), "slope at 2": (2.0, 0.07, 0.005, 1),
        "tanh(3)": (3.0, 0.995, 0.0005, 0), "slope at 3": (3.0, 0.01, 0.005, 1),
    }  # fmt: skip
    return All({
        name: Check(float((value, derivative)[order](fathom.tanh, x)), equals(expected, off))
        for name, (x, expected, off, order) in told.items()
    })  # fmt: skip


@question.exact(
    "C3.2.5-04",
    T(
        "tanh's largest slope is four times the sigmoid's.",
        "tanh 的最大导数是 sigmoid 的四倍。",
    ),
    equals(4.0, 1e-9),
)
def four_times(lab: Lab) -> Evidence:
    """The ratio of the maxima, by golden section on automatic derivatives, and by closed forms."""
    tops = [
        highest(lambda x, f=f: derivative(f, x), -6.0, 6.0)[1]
        for f in (fathom.tanh, fathom.sigmoid)
    ]
    at_zero = [float(SHAPES[name][1](np.zeros(1))[0]) for name in ("tanh", "sigmoid")]
    return Routes({"searched": tops[0] / tops[1], "closed form": at_zero[0] / at_zero[1]})


@question.exact(
    "C3.2.5-05",
    T("tanh has the larger gradient.", "tanh 的梯度更大。"),
    at_least(1.0),
    correction=T(
        "Only near 0: at 1 its slope is {n[x = 1/autodiff]:.1f} times the sigmoid's, at 2 "
        "{n[x = 2/autodiff]:.2f} and at 3 {n[x = 3/autodiff]:.2f} times. They cross at |x| = 1.66.",
        "只在 0 附近如此：在 1 处其导数是 sigmoid 的 {n[x = 1/autodiff]:.1f} 倍，在 2 处是 "
        "{n[x = 2/autodiff]:.2f} 倍，在 3 处是 {n[x = 3/autodiff]:.2f} 倍。两者在 |x| = 1.66 处相"
        "交。",
    ),
    weight=3,
)
def larger(lab: Lab) -> Evidence:
    """tanh' over sigma' at four places, by automatic differentiation and by closed forms."""

    def at(x: float) -> Evidence:
        auto = derivative(fathom.tanh, x) / derivative(fathom.sigmoid, x)
        hand = SHAPES["tanh"][1](np.array(x)) / SHAPES["sigmoid"][1](np.array(x))
        return Routes({"autodiff": float(auto), "closed form": float(hand)})

    return Settings(T("place", "位置"), {f"x = {x}": at(float(x)) for x in (0, 1, 2, 3)})


@question.reference(
    "C3.2.5-06",
    T("Some GAN discriminators have tanh as their output.", "有些 GAN 判别器以 tanh 为输出。"),
)
def discriminators(lab: Lab) -> Evidence:
    """What a published discriminator ends in; one that ends in tanh is enough for "some". f-GAN's
    output function belongs to the divergence: for the total variation it is tanh(v) / 2. The usual
    ones end in a sigmoid (DCGAN) or in a plain score; there the tanh ends the generator.
    """
    paper = Source("Nowozin, Cseke & Tomioka, f-GAN, appendix C, table 6", 2016, 0.93)
    return Published("tanh", (paper,), "tanh")


@once
def learning(lab: Lab, activation: str, init: str) -> Any:
    """Training loss on digits, (seeds, epochs): three layers of 32, plain gradient descent."""
    data = digits()
    spec = {
        "model": lambda: stack(64, 10, 32, 3, activation=activation, init=init),
        "optimizer": "sgd", "lr": 0.1, "epochs": lab.pick(20, 4), "batch_size": 32,
    }  # fmt: skip
    return train_many(spec, data.x, data.y, seeds=lab.seeds(8, 3)).losses


@question.figure(T("Slopes, and where they cross", "导数及其交点"))
def slopes(lab: Lab) -> Figure:
    """Both slopes against x, and the place where tanh's falls below the sigmoid's."""
    x = np.linspace(0.0, 6.0, 121)
    cross = root(lambda at: derivative(fathom.tanh, at) - derivative(fathom.sigmoid, at), 0.5, 4.0)
    return Figure(
        Axis(T("|x|", "|x|")),
        Axis(T("slope", "导数"), log=True),
        [
            Line(T("tanh", "tanh"), x, derivative(fathom.tanh, x)),
            Line(T("sigmoid", "sigmoid"), x, derivative(fathom.sigmoid, x)),
            Level(T("equal", "相等"), x=cross),
        ],
        T(
            "tanh starts four times as steep and falls twice as fast in the exponent: from the "
            "crossing on, the sigmoid has more gradient left.",
            "tanh 起点陡四倍，但指数上衰减快一倍：过了交点，sigmoid 剩下的梯度更多。",
        ),
        {"crossing": cross},
    )


@question.figure(T("Learning digits", "学习手写数字"))
def speed(lab: Lab) -> Figure:
    """Training loss by epoch, three hidden layers of 32 at rate 0.1, the same Xavier weights: mean
    and interval over seeds.
    """
    lines = []
    for name in ("sigmoid", "tanh"):
        losses = learning(lab, name, "xavier_normal")
        at = [Sample(column) for column in losses.T]
        epochs = np.arange(1, len(at) + 1)
        lines.append(Line(T(name, name), epochs, *band(at)))
    return Figure(
        Axis(T("epoch", "轮次")),
        Axis(T("training loss", "训练损失"), log=True),
        [*lines, Level(T("chance", "随机水平"), y=float(np.log(10)))],
        T(
            "tanh starts at once; the sigmoid of the same weights stays at the loss of guessing.",
            "tanh 立即开始学习；权重相同的 sigmoid 停留在随机猜测的损失上。",
        ),
    )
