"""3.1.4 Saturation: where an activation is flat, and what that does to gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import activations, nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_least,
    at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, difference, highest, lowest, value
from fathom.book.material.chain import chain_gaps
from fathom.doctor import saturation

question = Question(
    "3.1.4",
    title=T(
        "What is saturation, and what does it do to gradients?", "什么是饱和？它对梯度有什么影响？"
    ),
    difficulty=4,
    frequency=4,
    topics=("saturation", "sigmoid", "tanh", "dead units", "饱和", "梯度", "激活函数"),
    answer=T(
        "An activation saturates where its slope goes to 0 while the input keeps growing: sigmoid "
        "and tanh on both sides, ReLU, ELU, GELU and Swish on the left. The slope is a factor of "
        "every gradient that passes the unit, so a saturated unit neither learns nor lets those "
        "below learn. The sigmoid's slope is at most 0.25 and only 0.0025 at 6; tanh's is at most "
        "1 and never below 0. Five layers with slope 0.1 leave 0.00001 of a gradient. What counts "
        "is the distribution of the pre-activations: with large weights or unscaled inputs most "
        "units are flat, with scale 1 hardly any are. That is why sensible initial weights and "
        "normalization help, and why bounded outputs still do well at the end of a network, where "
        "cross-entropy cancels the slope.",
        "输入继续增大而斜率趋于 0，就叫饱和：sigmoid 与 tanh 两侧都饱和，ReLU、ELU、GELU、Swish 在"
        "左侧饱和。斜率是每个穿过该单元的梯度的一个因子，所以饱和的单元自己学不动，也让下面的层学不"
        "动。sigmoid 的斜率最大 0.25，在 6 处只有 0.0025；tanh 的斜率最大为 1，从不小于 0。五层斜率"
        " 0.1 之后，梯度只剩 0.00001。关键是预激活的分布：权重过大或输入未缩放时，大多数单元是平"
        "的；尺度为 1 时几乎没有。这就是合理初始化与归一化有用的原因，也是有界输出在网络末端依然好"
        "用的原因：在那里交叉熵会把斜率约掉。",
    ),
    flips=T(
        "In gates, attention weights and output probabilities saturation is wanted: a decision "
        "should be able to be firm.",
        "在门控、注意力权重和输出概率中，饱和正是所需：判断应当能够坚决。",
    ),
    analogy=T(
        "A microphone that is shouted at: the needle stands at the stop, and louder or softer can "
        "no longer be told apart.",
        "对着麦克风大喊：指针顶到头，再大声或小声都分辨不出来。",
    ),
    generative=T(
        "Attention divides its scores by the root of d so that softmax does not saturate.",
        "注意力把得分除以 d 的平方根，就是为了不让 softmax 饱和。",
    ),
    classical=T(
        "Logistic regression on separable data drives its sigmoid into saturation; regularization "
        "stops it.",
        "可分数据上的逻辑回归会把 sigmoid 推入饱和，正则化能阻止它。",
    ),
    driving=T(
        "A sensor value that leaves the range seen in training pushes units into their flat part: "
        "the network no longer notices changes.",
        "传感器读数超出训练范围，会把单元推到平坦区：网络不再察觉变化。",
    ),
    change=T(
        "Multiply the weights by 10: the share of flat units rises and the gradient below falls. "
        "Put a normalization in: both go back.",
        "把权重乘以 10：平坦单元的比例上升，下层梯度下降。加入归一化：两者恢复。",
    ),
)


def logistic(z: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-z))


Z = np.linspace(-8.0, 8.0, 1601)


@question.exact(
    "C3.1.4-01",
    T("The sigmoid's slope is s(1 - s).", "sigmoid 的导数是 s(1 - s)。"),
    at_most(1e-9),
)
def slope_of_sigmoid(lab: Lab) -> Evidence:
    """Largest difference on [-8, 8] from the slope by the tape and by central differences."""
    said = logistic(Z) * (1.0 - logistic(Z))
    return Routes({
        "autodiff": float(np.abs(derivative(activations.sigmoid, Z) - said).max()),
        "differences": float(np.abs(difference(activations.sigmoid, Z) - said).max()),
    })  # fmt: skip


@question.exact(
    "C3.1.4-02",
    T(
        "sigmoid is 0.0025 and 0.9975 at -6 and 6 with slope 0.0025, 0.047 and 0.953 at -3 and 3 "
        "with slope 0.045, 0.5 at 0 with slope 0.25.",
        "sigmoid 在 -6、6 处为 0.0025、0.9975，斜率 0.0025；在 -3、3 处为 0.047、0.953，斜率 "
        "0.045；在 0 处为 0.5，斜率 0.25。",
    ),
    at_most(0.5),
)
def values_of_sigmoid(lab: Lab) -> Evidence:
    """Distance from the printed value in units of its last digit; half a unit is right."""
    printed = {
        -6.0: (0.0025, 0.0025, 1e-4), 6.0: (0.9975, 0.0025, 1e-4), -3.0: (0.047, 0.045, 1e-3),
        3.0: (0.953, 0.045, 1e-3), 0.0: (0.5, 0.25, 1e-2),
    }  # fmt: skip
    off: dict[str, Evidence] = {}
    for z, (said, slope, unit) in printed.items():
        off[f"value at {z:g}"] = abs(float(logistic(z)) - said) / unit
        off[f"slope at {z:g}"] = abs(float(derivative(activations.sigmoid, [z])[0]) - slope) / unit
    return All(off)


@question.exact(
    "C3.1.4-03",
    T("The slope of tanh is 1 - tanh squared.", "tanh 的导数是 1 减 tanh 的平方。"),
    at_most(1e-9),
)
def slope_of_tanh(lab: Lab) -> Evidence:
    """Largest difference on [-8, 8] from the slope by the tape and by central differences."""
    said = 1.0 - np.tanh(Z) ** 2
    return Routes({
        "autodiff": float(np.abs(derivative(activations.tanh, Z) - said).max()),
        "differences": float(np.abs(difference(activations.tanh, Z) - said).max()),
    })  # fmt: skip


@question.exact(
    "C3.1.4-04",
    T(
        "The curve of tanh's slope goes below 0, towards -1.",
        "tanh 导数曲线会降到 0 以下，趋向 -1。",
    ),
    at_most(-0.1),
    correction=T(
        "tanh rises everywhere: its slope lies between 0 and 1, its smallest value on [-12, 12] is "
        "{n[1 / cosh squared]:.1e}.",
        "tanh 处处上升：斜率介于 0 与 1 之间，在 [-12, 12] 上最小值是 {n[1 / cosh squared]:.1e}。",
    ),
    weight=2,
)
def below_zero(lab: Lab) -> Evidence:
    """The smallest slope on [-12, 12]: by another closed form, by the tape, and by the rise of tanh
    between neighbouring points. "Below 0" is taken as -0.1 or less."""
    z = np.linspace(-12.0, 12.0, 4801)
    return Routes({
        "1 / cosh squared": float((1.0 / np.cosh(z) ** 2).min()),
        "autodiff": float(derivative(activations.tanh, z).min()),
        "rise between points": float((np.diff(np.tanh(z)) / (z[1] - z[0])).min()),
    })  # fmt: skip


@question.exact(
    "C3.1.4-05",
    T(
        "Slopes lie in [0, 1] for tanh and in [0, 0.25] for the sigmoid.",
        "导数范围：tanh 为 [0, 1]，sigmoid 为 [0, 0.25]。",
    ),
    equals(0.0, 1e-9),
)
def ranges(lab: Lab) -> Evidence:
    """Largest slope less the bound said, by golden section, and the smallest on [-30, 30]. (0 is a
    limit: in exact arithmetic no slope reaches it.)"""

    def extremes(f: Any, top: float) -> All:
        def slope(z: Any) -> Any:
            return derivative(f, z)

        return All({
            "largest less bound": highest(slope, -30.0, 30.0)[1] - top,
            "smallest": lowest(slope, -30.0, 30.0)[1],
        })  # fmt: skip

    return All({
        "tanh": extremes(activations.tanh, 1.0), "sigmoid": extremes(activations.sigmoid, 0.25),
    })  # fmt: skip


@question.exact(
    "C3.1.4-06",
    T("ReLU never saturates.", "ReLU 永不饱和。"),
    at_least(0.01),
    correction=T(
        "To the right its slope stays {n[right/autodiff]:g}, to the left it is "
        "{n[left/autodiff]:g} from 0 on: a unit that is off for all inputs gets no gradient at "
        "all.",
        "右侧斜率恒为 {n[right/autodiff]:g}，左侧从 0 开始就是 {n[left/autodiff]:g}：对所有输入都关"
        "闭的单元完全得不到梯度。",
    ),
    weight=3,
)
def relu_far_out(lab: Lab) -> Evidence:
    """Slope at 1,000 and at -1,000, by the tape and by differences; to saturate is a slope below
    0.01, the threshold of the saturation probe."""

    def at(z: float) -> Routes:
        rise = value(activations.relu, [z + 1.0]) - value(activations.relu, [z - 1.0])
        return Routes({
            "autodiff": float(derivative(activations.relu, [z])[0]),
            "differences": float(rise[0]) / 2.0,
        })  # fmt: skip

    return Settings(T("side", "哪一侧"), {"right": at(1000.0), "left": at(-1000.0)})


@question.exact(
    "C3.1.4-07",
    T(
        "dL/dw_1 is dL/da_L times the product of da_k/da_(k-1) over the layers 2 to L.",
        "dL/dw_1 等于 dL/da_L 乘以第 2 到 L 层 da_k/da_(k-1) 之积。",
    ),
    at_most(1e-6),
    correction=T(
        "That product is dL/da_1. For the weight the factor da_1/dw_1 = f'(z_1) x is missing: "
        "without it the formula is off by {n[without the last factor/autodiff]:.0%} on average, "
        "with it by {n[with it]:.0e}.",
        "那个乘积是 dL/da_1。对权重还缺一个因子 da_1/dw_1 = f'(z_1) x：缺它时公式平均偏差 "
        "{n[without the last factor/autodiff]:.0%}，补上后只有 {n[with it]:.0e}。",
    ),
    weight=2,
)
def product_over_layers(lab: Lab) -> Evidence:
    """200 random chains of five tanh units: mean relative distance of the formula from the gradient
    by the tape and by central differences; and with the missing factor put back."""
    gaps = chain_gaps(lab.rng("chains"), 5, 1)
    return All({
        "without the last factor": Routes(
            {"autodiff": gaps.autodiff, "differences": gaps.differences}
        ),
        "with it": gaps.restored,
    })  # fmt: skip


@question.exact(
    "C3.1.4-08",
    T(
        "Five layers of slope 0.1 leave 0.1, 0.01, ... and in the end 0.00001 of a gradient.",
        "五层斜率各为 0.1，梯度依次剩 0.1、0.01……最后为 0.00001。",
    ),
    equals(1e-5, 1e-12),
)
def five_layers(lab: Lab) -> Evidence:
    """0.1 to the power of 5, and the gradient through five units f(z) = 0.1 z by the tape."""
    x = fathom.tensor(np.array(1.0), requires_grad=True)
    h = x
    for _ in range(5):
        h = 0.1 * h
    h.backward()
    return Routes(
        {"power": 0.1**5, "autodiff": float(x.grad.item()) if x.grad is not None else 0.0}
    )


def classifier(norm: bool) -> nn.Sequential:
    """Two hidden layers of 32 sigmoids, with batch norm before them or without."""
    layers: list[nn.Module] = []
    for inputs in (64, 32):
        layers += [nn.Linear(inputs, 32)]
        layers += [nn.BatchNorm1d(32)] if norm else []
        layers += [nn.Sigmoid()]
    net = nn.Sequential(*layers, nn.Linear(32, 10))
    nn.init.apply_(net, "xavier_normal")
    return net


@once
def trained(lab: Lab, scale: float, norm: bool) -> Any:
    """Share of flat units (|slope| < 0.01) over both layers after training on the digits."""
    from fathom.book.material.data import digits

    parts = digits()
    x = (parts.x * scale).astype(np.float32)
    spec = {"model": lambda: classifier(norm), "lr": 0.003, "epochs": lab.pick(8, 2)}
    fleet = fathom.train_many(spec, x, parts.y, seeds=lab.seeds(8, 3))
    shares = []
    for run in fleet.runs:
        shares.append(np.mean([row.flat_share for row in saturation(run.model, x).rows]))
    return np.array(shares)


@question.experiment(
    "C3.1.4-09",
    T(
        "Normalization keeps the inputs of activations in the part that is not saturated.",
        "归一化使激活的输入保持在非饱和区。",
    ),
    at_least(0.1),
    weight=2,
)
def normalized(lab: Lab) -> Evidence:
    """Two layers of sigmoids trained on the digits with raw pixels, 0 to 16: share of
    pre-activations with slope below 0.01 without batch norm less that with it, on the same seeds;
    with it 0.05 at most."""
    plain, norm = trained(lab, 16.0, False), trained(lab, 16.0, True)
    return All({
        "without less with": Sample(plain - norm),
        "with batch norm": Check(Sample(norm), at_most(0.05)),
    })  # fmt: skip


SCALES = np.geomspace(0.1, 20.0, 16)
KINDS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU", "gelu": "GELU"}


@once
def swept(lab: Lab, name: str) -> tuple[Any, Any]:
    """(seeds, scales): share of flat units, and gradient below over gradient above, the scale of
    the weights taken out."""
    flat, kept = [], []
    f = getattr(activations, name)
    for seed in lab.seeds(8, 3):
        rng = np.random.default_rng(seed)
        x, w = rng.standard_normal((200, 100)), rng.standard_normal((100, 100)) / 10.0
        above = rng.standard_normal((200, 100))
        slopes = [derivative(f, s * (x @ w)) for s in SCALES]
        flat.append([float((np.abs(d) < 0.01).mean()) for d in slopes])
        kept.append([np.linalg.norm((above * d) @ w.T) / np.linalg.norm(above) for d in slopes])
    return np.array(flat), np.array(kept)


def lines_of(lab: Lab, which: int) -> list[Line]:
    """A line with a band for each activation."""
    lines = []
    for name, shown in KINDS.items():
        at = [Sample(column) for column in swept(lab, name)[which].T]
        lines.append(Line(T(shown, shown), SCALES, *band(at)))
    return lines


@question.figure(T("Flat units against the scale of the inputs", "平坦单元比例随预激活尺度的变化"))
def flat_share(lab: Lab) -> Figure:
    """Share of units with slope below 0.01 in a random layer of 100, by the deviation of z."""
    return Figure(
        Axis(T("standard deviation of z", "z 的标准差"), log=True),
        Axis(T("share of flat units", "平坦单元的比例")),
        lines_of(lab, 0),
        T(
            "Sigmoid and tanh saturate as the scale grows; for ReLU half of the units are flat at "
            "any scale.",
            "尺度变大时 sigmoid 与 tanh 逐渐饱和；ReLU 在任何尺度下都有一半单元是平的。",
        ),
    )


@question.figure(T("Gradient that reaches the layer below", "传到下一层的梯度"))
def gradient_below(lab: Lab) -> Figure:
    """Norm of the gradient below over that above, divided by the scale of the weights."""
    return Figure(
        Axis(T("standard deviation of z", "z 的标准差"), log=True),
        Axis(T("gradient below / above", "下层梯度 / 上层梯度"), log=True),
        lines_of(lab, 1),
        T(
            "The more units are flat, the less gets through: at scale 20 tanh and sigmoid pass a "
            "fraction of what they pass at scale 1; ReLU passes the same at all scales.",
            "平的单元越多，通过的梯度越少：尺度为 20 时 tanh 与 sigmoid 只通过尺度为 1 时的一部分；"
            "ReLU 在任何尺度下都一样。",
        ),
    )
