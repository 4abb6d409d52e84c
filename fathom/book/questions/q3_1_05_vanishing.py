"""3.1.5 Which activations make gradients vanish, and how much of it is the weights."""

from __future__ import annotations

from math import erf, exp, pi, sqrt
from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings,
    T, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.calculus import derivative, highest, lowest
from fathom.book.material.chain import chain_gaps
from fathom.book.material.gain import passage
from fathom.book.material.signal import through, weights

question = Question(
    "3.1.5",
    title=T(
        "Which activations make gradients vanish, and why?",
        "哪些激活函数会导致梯度消失？为什么？",
    ),
    difficulty=4,
    frequency=5,
    topics=(
        "vanishing gradient",
        "derivative range",
        "depth",
        "initialization",
        "梯度消失",
        "导数范围",
        "初始化",
    ),
    answer=T(
        "Going down a layer multiplies the gradient by the slope of the activation and by the "
        "weights, so in a deep network it changes by powers of that product, on average n Var(W) "
        "E[f'^2] for its square. The sigmoid is the clear case: its slope is 0.25 at most, and "
        "with Xavier weights 20 layers leave about 1e-12. Tanh has slope 1 at 0 and loses less "
        "than a factor of 10 in 20 layers with Xavier weights; ReLU with He weights loses nothing "
        "on average. A slope below 1 does not settle it: with larger weights tanh networks make "
        "gradients grow. GELU's slope reaches 1.13 and Swish's 1.10, both fall below 0. In "
        "practice one looks at the norms layer by layer, not only at first over last: with tiny "
        "weights the activations shrink as the gradients do, and weight gradients look alike in "
        "all layers while all are far too small.",
        "梯度每往下一层，就乘上激活的斜率和权重，所以深层网络中它按这个乘积的幂变化，其平方平均每层"
        "乘以 n Var(W) E[f'^2]。sigmoid 最明显：斜率最大 0.25，用 Xavier 权重，20 层之后约剩 "
        "1e-12。tanh 在 0 处斜率为 1，用 Xavier 权重 20 层损失不到 10 倍；ReLU 配 He 权重平均不损"
        "失。斜率小于 1 并不决定一切：权重更大时，tanh 网络的梯度反而增长。GELU 的斜率最高 1.13，"
        "Swish 最高 1.10，两者都会低于 0。实践中要逐层看范数，而不只看首层与末层之比：权重太小时激"
        "活与梯度一起缩小，各层权重梯度看起来差不多，却全都太小。",
    ),
    flips=T(
        "With residual paths or normalization the product no longer rules: even sigmoid networks "
        "can be deep.",
        "有了残差通路或归一化，这个乘积就不再起支配作用：连 sigmoid 网络也可以很深。",
    ),
    analogy=T(
        "Whispering down a line of people: each passes on a quarter of the volume, and the tenth "
        "hears nothing.",
        "一排人传话，每人只传下四分之一的音量，到第十个人就什么也听不见了。",
    ),
    generative=T(
        "Transformers of a hundred layers train because the residual stream has slope 1, whatever "
        "the activation.",
        "上百层的 Transformer 能训练，是因为残差流的斜率为 1，与激活无关。",
    ),
    classical=T(
        "Deep sigmoid networks once needed layer-wise pretraining for this reason.",
        "正因如此，早年的深层 sigmoid 网络需要逐层预训练。",
    ),
    driving=T(
        "In a deep camera backbone the first filters see the least gradient; if they stay random, "
        "edges and lanes are what suffers.",
        "在很深的视觉骨干网络里，最前面的滤波器得到的梯度最小；若它们停留在随机状态，受损的是边缘和"
        "车道线。",
    ),
    change=T(
        "Raise the gain of tanh's weights from 1 to 2: the gradient grows with depth instead of "
        "shrinking.",
        "把 tanh 权重的增益从 1 提到 2：梯度随深度增长而不是缩小。",
    ),
)

DEPTH, WIDTH = 20, 100


@question.exact(
    "C3.1.5-01",
    T(
        "dL/dW_l is dL/da_L times the product of the layers l + 1 to L.",
        "dL/dW_l 等于 dL/da_L 乘以第 l+1 到 L 层之积。",
    ),
    at_most(1e-6),
    correction=T(
        "That is dL/da_l. The gradient of W_l has f'(z_l) and a_(l-1) besides: without them the "
        "formula is off by {n[as stated/autodiff]:.0%} on average, with them by "
        "{n[with both]:.0e}.",
        "那是 dL/da_l。W_l 的梯度还要乘 f'(z_l) 与 a_(l-1)：缺了它们公式平均偏差 "
        "{n[as stated/autodiff]:.0%}，补上后只有 {n[with both]:.0e}。",
    ),
    weight=2,
)
def formula(lab: Lab) -> Evidence:
    """200 random chains of six tanh units, layer 3: mean relative distance of the formula from the
    gradient by the tape and by central differences; and with the missing factors."""
    gaps = chain_gaps(lab.rng("chains"), 6, 3)
    return All({
        "as stated": Routes({"autodiff": gaps.autodiff, "differences": gaps.differences}),
        "with both": gaps.restored,
    })  # fmt: skip


@once
def per_layer(lab: Lab, name: str, gain: float) -> Routes:
    """Gradient at the first over that at the last of 20 layers, as a factor for each layer."""
    f, std = getattr(activations, name), gain / np.sqrt(WIDTH)
    ours, apart = [], []
    for seed in lab.seeds(10, 3):
        rng = np.random.default_rng(seed)
        ours.append(through(f, rng, depth=DEPTH, width=WIDTH, rule=std).backward_ratio)
        apart.append(passage(name, rng, std=std, depth=DEPTH, width=WIDTH).backward)
    return Routes({
        "the tape": Sample(np.power(ours, 1 / (DEPTH - 1))),
        "NumPy": Sample(np.power(apart, 1 / (DEPTH - 1))),
    })  # fmt: skip


@question.experiment(
    "C3.1.5-02",
    T(
        "Where |f'| is below 1 the gradient falls exponentially with depth.",
        "只要 |f'| 小于 1，梯度就随深度指数衰减。",
    ),
    at_most(0.98),
    correction=T(
        "The weights count as much. tanh, whose slope is below 1 everywhere but at 0: a layer "
        "multiplies the gradient by {n[0.5/the tape]:.2f} for weights N(0, 0.25/n), by "
        "{n[1/the tape]:.2f} for N(0, 1/n), and by {n[2/the tape]:.2f} for N(0, 4/n).",
        "权重同样重要。tanh 的斜率除 0 处外处处小于 1，但每层给梯度乘的因子：权重 N(0, 0.25/n) 时为"
        " {n[0.5/the tape]:.2f}，N(0, 1/n) 时为 {n[1/the tape]:.2f}，N(0, 4/n) 时为 "
        "{n[2/the tape]:.2f}。",
    ),
    weight=4,
)
def weights_count(lab: Lab) -> Evidence:
    """20 layers of 100 tanh units, weights N(0, gain^2 / 100): what a layer multiplies the gradient
    by on average, by the tape and by a program in NumPy. To fall is 0.98 or less, a third in 20
    layers."""
    return Settings(T("gain of the weights", "权重增益"), {
        f"{gain:g}": per_layer(lab, "tanh", gain) for gain in (0.5, 1.0, 2.0)
    })  # fmt: skip


@question.exact(
    "C3.1.5-03",
    T(
        "Slopes: sigmoid (0, 0.25], tanh (0, 1], ReLU 0 or 1, Leaky ReLU alpha or 1.",
        "导数范围：sigmoid (0, 0.25]，tanh (0, 1]，ReLU 为 0 或 1，Leaky ReLU 为 alpha 或 1。",
    ),
    at_most(1e-9),
)
def ranges(lab: Lab) -> Evidence:
    """Slopes by the tape on [-15, 15]: distance of the largest from the bound; any at or below 0
    for sigmoid and tanh; any other value than the two of ReLU and Leaky ReLU (alpha 0.01)."""
    z = np.linspace(-15.0, 15.0, 6000)  # without 0

    def gap(name: str, top: float) -> All:
        def slope(at: Any) -> Any:
            return derivative(getattr(activations, name), at)

        best = abs(highest(slope, -15.0, 15.0)[1] - top)
        return All({"largest": best, "0 or less": float((slope(z) <= 0).mean())})

    def other(name: str, low: float) -> float:
        d = derivative(getattr(activations, name), z)
        return float(np.minimum(np.abs(d - low), np.abs(d - 1.0)).max())

    return All({
        "sigmoid": gap("sigmoid", 0.25), "tanh": gap("tanh", 1.0),
        "ReLU": other("relu", 0.0), "Leaky ReLU": other("leaky_relu", 0.01),
    })  # fmt: skip


def extremes(name: str, closed: Any) -> tuple[Routes, ...]:
    """The largest and smallest slope on [-10, 10]: by the tape, and of a closed form of f'."""

    def slope(z: Any) -> Any:
        return derivative(getattr(activations, name), z)

    ways = {"autodiff": slope, "closed form": closed}
    return tuple(
        Routes({way: find(f, -10.0, 10.0)[1] for way, f in ways.items()})
        for find in (highest, lowest)
    )


def slope_of_gelu(z: Any) -> Any:
    """Phi(z) + z phi(z)."""
    phi = np.exp(-z * z / 2) / sqrt(2 * pi)
    return np.array([0.5 * (1 + erf(v / sqrt(2))) for v in np.ravel(z)]) + z * phi


def slope_of_swish(z: Any) -> Any:
    """s + z s (1 - s)."""
    s = 1.0 / (1.0 + np.exp(-z))
    return s + z * s * (1.0 - s)


@question.exact(
    "C3.1.5-04",
    T(
        "GELU's slope lies in about (0, 1), its largest value is about 0.8.",
        "GELU 的导数约在 (0, 1) 内，最大约 0.8。",
    ),
    equals(0.8, 0.05),
    correction=T(
        "It lies between {n[smallest/autodiff]:.4f} and {n[largest/autodiff]:.4f}; the ends are at "
        "-sqrt(2) and sqrt(2).",
        "它介于 {n[smallest/autodiff]:.4f} 与 {n[largest/autodiff]:.4f} 之间，两端分别在 -sqrt(2) "
        "与 sqrt(2) 处。",
    ),
    weight=2,
)
def gelu(lab: Lab) -> Evidence:
    """Extreme slopes on [-10, 10] by golden section, of the tape's derivative and of Phi(z) + z
    phi(z). A printed 0.8 or 0 is taken to half a unit of the first decimal."""
    largest, smallest = extremes("gelu", slope_of_gelu)
    return All({"largest": largest, "smallest": Check(smallest, within(-0.05, 0.05))})


@question.exact(
    "C3.1.5-05",
    T(
        "Swish's slope lies in about (0, 1.1), its largest value is 1.1.",
        "Swish 的导数约在 (0, 1.1) 内，最大为 1.1。",
    ),
    equals(1.1, 0.05),
    correction=T(
        "The largest is {n[largest/autodiff]:.4f}, but the smallest is {n[smallest/autodiff]:.4f}, "
        "not 0: between -1.28 and the far left Swish falls.",
        "最大值是 {n[largest/autodiff]:.4f}，但最小值是 {n[smallest/autodiff]:.4f}，不是 0：在 "
        "-1.28 以左 Swish 随 z 增大而下降。",
    ),
)
def swish(lab: Lab) -> Evidence:
    """Extreme slopes on [-10, 10] by golden section, of the tape's derivative and of the closed
    form; to half a unit of the first decimal."""
    largest, smallest = extremes("silu", slope_of_swish)
    return All({"largest": largest, "smallest": Check(smallest, within(-0.05, 0.05))})


@question.exact(
    "C3.1.5-06",
    T(
        "With slope 0.1 the gradient of layer 1 is a ten-thousandth of layer 5's.",
        "斜率为 0.1 时，第 1 层的梯度是第 5 层的万分之一。",
    ),
    equals(1e-4, 1e-10),
)
def ten_thousandth(lab: Lab) -> Evidence:
    """1e-5 over 1e-1; and five units f(z) = 0.1 z in a row: gradients at the first and the last."""
    at = [fathom.tensor(np.array(1.0), requires_grad=True)]
    for _ in range(5):
        at.append(0.1 * at[-1])
    grads = [g.item() for g in fathom.autograd.grad(at[-1], [at[0], at[4]])]
    return Routes({"arithmetic": 1e-5 / 1e-1, "autodiff": grads[0] / grads[1]})


@question.exact(
    "C3.1.5-07",
    T("sigmoid(10) is 0.99995, its slope 0.00005.", "sigmoid(10) = 0.99995，导数为 0.00005。"),
    at_most(0.5),
)
def at_ten(lab: Lab) -> Evidence:
    """Distance from the printed values in units of their last digit."""
    return All({
        "value": abs(1 / (1 + exp(-10.0)) - 0.99995) / 1e-5,
        "slope": abs(float(derivative(activations.sigmoid, [10.0])[0]) - 0.00005) / 1e-5,
    })  # fmt: skip


@question.exact(
    "C3.1.5-08",
    T("The sigmoid's largest slope is 0.25.", "sigmoid 的最大导数是 0.25。"),
    equals(0.25, 1e-9),
)
def quarter(lab: Lab) -> Evidence:
    """The largest slope by golden section; and s(1 - s) at s = 1/2, where its own slope is 0."""
    return Routes({
        "golden section": highest(lambda z: derivative(activations.sigmoid, z), -8.0, 8.0)[1],
        "vertex of s(1 - s)": 0.5 * (1 - 0.5),
    })  # fmt: skip


@question.experiment(
    "C3.1.5-09",
    T(
        "Every sigmoid layer shrinks the gradient to a quarter or less.",
        "每个 sigmoid 层至少把梯度缩小到四分之一。",
    ),
    at_most(0.25),
    correction=T(
        "To a quarter of its product with the weights. A layer multiplies the gradient by "
        "{n[1/the tape]:.2f} for weights N(0, 1/n), by {n[4/the tape]:.2f} for N(0, 16/n) and by "
        "{n[8/the tape]:.2f} for N(0, 64/n).",
        "缩到四分之一的是它与权重之积。每层给梯度乘的因子：权重 N(0, 1/n) 时为 "
        "{n[1/the tape]:.2f}，N(0, 16/n) 时为 {n[4/the tape]:.2f}，N(0, 64/n) 时为 "
        "{n[8/the tape]:.2f}。",
    ),
    weight=3,
)
def sigmoid_layer(lab: Lab) -> Evidence:
    """20 layers of 100 sigmoids, weights N(0, gain^2 / 100): the factor a layer puts on the
    gradient's norm on average, by the tape and by a program in NumPy."""
    return Settings(T("gain of the weights", "权重增益"), {
        f"{gain:g}": per_layer(lab, "sigmoid", gain) for gain in (1.0, 4.0, 8.0)
    })  # fmt: skip


@question.exact(
    "C3.1.5-10",
    T("tanh(3) is 0.995, its slope 0.01.", "tanh(3) = 0.995，导数为 0.01。"),
    at_most(0.5),
)
def at_three(lab: Lab) -> Evidence:
    """Distance from the printed values in units of their last digit."""
    return All({
        "value": abs(float(np.tanh(3.0)) - 0.995) / 1e-3,
        "slope": abs(float(derivative(activations.tanh, [3.0])[0]) - 0.01) / 1e-2,
    })  # fmt: skip


RULES = {"relu": ("he", sqrt(2.0)), "tanh": ("xavier", 1.0), "sigmoid": ("xavier", 1.0)}


def deep(lab: Lab, name: str, times: float = 1.0) -> Routes:
    """log10 of the gradient at the first of 20 layers over that at the last, with He's or Xavier's
    weights, so many times as large."""
    found = per_layer(lab, name, times * RULES[name][1])
    return Routes({
        way: Sample((DEPTH - 1) * np.log10(s.values))
        for way, s in found.items() if isinstance(s, Sample)
    })  # fmt: skip


@question.experiment(
    "C3.1.5-11",
    T(
        "After 20 layers the gradient is about 1 with ReLU, 0.01 with tanh, and 1e-4 or a little "
        "less with the sigmoid.",
        "20 层之后，梯度对 ReLU 约为 1，对 tanh 约为 1e-2，对 sigmoid 约为 1e-4 或更小一些。",
    ),
    within(-0.5, 0.5),
    correction=T(
        "As powers of ten, with He's and Xavier's weights: ReLU {n[Xavier/ReLU/the tape]:.1f}, tanh "
        "{n[Xavier/tanh/the tape]:.1f}, sigmoid {n[Xavier/sigmoid/the tape]:.1f}. Tanh loses less "
        "than said, the sigmoid far more; with weights four times Xavier's, as some advise for it, "
        "the sigmoid arrives at {n[four times Xavier for sigmoids/sigmoid/the tape]:.1f}.",
        "以 10 的幂计，用 He 与 Xavier 权重：ReLU {n[Xavier/ReLU/the tape]:.1f}，tanh "
        "{n[Xavier/tanh/the tape]:.1f}，sigmoid {n[Xavier/sigmoid/the tape]:.1f}。tanh 的损失比书中说的小，"
        "sigmoid 则大得多；若按有些建议把 sigmoid 的权重取为 Xavier 的四倍，则为 "
        "{n[four times Xavier for sigmoids/sigmoid/the tape]:.1f}。",
    ),
    weight=3,
)
def twenty_layers(lab: Lab) -> Evidence:
    """log10 of the gradient norm at the first over that at the last pre-activations: 20 layers of
    100, He's weights for ReLU, Xavier's else, and four times as large for the sigmoid (advised in
    the Deep Learning Tutorials, 2010); by the tape and by a program in NumPy. "About"
    is half a power of ten; "a little less" than 1e-4 reaches to 1e-6."""
    return Settings(T("weights", "权重"), {
        name: All({
            "ReLU": deep(lab, "relu"),
            "tanh": Check(deep(lab, "tanh"), within(-2.5, -1.5)),
            "sigmoid": Check(deep(lab, "sigmoid", times), within(-6.5, -3.5)),
        })
        for name, times in (("Xavier", 1.0), ("four times Xavier for sigmoids", 4.0))
    })  # fmt: skip


def weight_ratio(name: str, rule: str | float, seed: int, depth: int = 12) -> tuple[float, float]:
    """log10 of the weights' gradient norm: first layer over last, and first layer alone."""
    rng = np.random.default_rng(seed)
    f = getattr(activations, name)
    h = fathom.tensor(rng.standard_normal((100, WIDTH)))
    w = [fathom.tensor(weights(rule, WIDTH, rng), requires_grad=True) for _ in range(depth)]
    for part in w:
        h = f(h @ part)
    total = (h * fathom.tensor(rng.standard_normal(h.shape))).sum() / 100
    norms = [float(np.linalg.norm(g.value())) for g in fathom.autograd.grad(total, [w[0], w[-1]])]
    return np.log10(norms[0] / norms[1]), np.log10(norms[0])


@question.experiment(
    "C3.1.5-12",
    T(
        "One sees vanishing by a gradient norm in the first layer far below that in the last.",
        "首层梯度范数远小于末层，就表明梯度消失。",
    ),
    at_most(-1.0),
    correction=T(
        "With Xavier weights and sigmoids the first layer's is "
        "10^{n[sigmoid, Xavier/first over last]:.1f} of the last's. With tanh and weights N(0, "
        "0.01^2) the ratio is 10^{n[tanh, N(0, 0.01^2)/first over last]:.1f}, nothing to see, and "
        "yet all are small: 10^{n[tanh, N(0, 0.01^2)/first layer]:.1f}.",
        "Xavier 权重加 sigmoid 时，首层是末层的 10^{n[sigmoid, Xavier/first over last]:.1f} 倍。"
        "tanh 加 N(0, 0.01^2) 权重时，比值是 10^{n[tanh, N(0, 0.01^2)/first over last]:.1f}，看不出"
        "异常，但各层都很小：10^{n[tanh, N(0, 0.01^2)/first layer]:.1f}。",
    ),
    weight=3,
)
def what_the_ratio_shows(lab: Lab) -> Evidence:
    """12 layers of 100 whose gradients do vanish (the first layer's norm is below 0.001): log10 of
    the norm of the weights' gradient, first layer over last. Far below is a tenth or less."""

    def at(name: str, rule: str | float) -> All:
        both = np.array([weight_ratio(name, rule, seed) for seed in lab.seeds(10, 3)])
        return All({
            "first over last": Sample(both[:, 0]),
            "first layer": Check(Sample(both[:, 1]), at_most(-3.0)),
        })  # fmt: skip

    return Settings(T("network", "网络"), {
        "sigmoid, Xavier": at("sigmoid", "xavier"), "tanh, N(0, 0.01^2)": at("tanh", 0.01),
    })  # fmt: skip


@question.figure(T("The gradient on its way down 20 layers", "梯度向下穿过 20 层"))
def way_down(lab: Lab) -> Figure:
    """Gradient norm at each layer over that at the last, by activation; weights by its usual
    rule."""
    lines = []
    plans = (
        ("ReLU, He", activations.relu, "he"), ("GELU, He", activations.gelu, "he"),
        ("tanh, Xavier", activations.tanh, "xavier"),
        ("sigmoid, Xavier", activations.sigmoid, "xavier"),
    )  # fmt: skip
    for name, f, rule in plans:
        rows = []
        for seed in lab.seeds(10, 3):
            found = through(f, np.random.default_rng(seed), depth=DEPTH, width=WIDTH, rule=rule)
            rows.append(np.log10(found.gradient / found.gradient[-1]))
        middle, spread = np.mean(rows, axis=0), np.std(rows, axis=0)
        lines.append(Line(
            T(name, name), np.arange(1, DEPTH + 1), 10**middle, 10 ** (middle - spread),
            10 ** (middle + spread),
        ))  # fmt: skip
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("gradient, last layer = 1", "梯度（末层 = 1）"), log=True),
        lines,
        T(
            "With sigmoids the gradient loses more than half a power of ten a layer; with tanh and "
            "ReLU and the weights made for them it hardly changes.",
            "sigmoid 每层损失超过半个数量级；tanh 与 ReLU 配上各自的初始化则几乎不变。",
        ),
    )


@question.figure(T("Slope and weights together", "斜率与权重共同决定"))
def gain_sweep(lab: Lab) -> Figure:
    """What a layer multiplies the gradient's norm by, against the gain of the weights."""
    gains = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
    lines = []
    for name in ("relu", "tanh", "sigmoid"):
        at: list[Any] = []
        for gain in gains:
            std = gain / np.sqrt(WIDTH)
            ratios = [
                passage(name, np.random.default_rng(s), std=std, depth=DEPTH, width=WIDTH).backward
                for s in lab.seeds(6, 3)
            ]
            at.append(Sample(np.power(ratios, 1 / (DEPTH - 1))))
        lines.append(Line(T(name, name), gains, *band(at)))
    return Figure(
        Axis(T("gain of the weights", "权重增益"), log=True),
        Axis(T("factor of a layer", "每层的因子"), log=True),
        [*lines, Level(T("neither vanishes nor grows", "既不消失也不增长"), y=1.0)],
        T(
            "Each activation has a gain at which the gradient keeps its size: above it even "
            "sigmoids make it grow.",
            "每种激活都有一个增益使梯度保持大小：超过它，连 sigmoid 也会使梯度增长。",
        ),
    )


@question.figure(T("Smallest and largest slope", "最小与最大导数"))
def slope_ranges(lab: Lab) -> Figure:
    """Extreme values of f' on [-12, 12], from the audit."""
    names = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "mish")
    found = [activations.audit(name, timing=False) for name in names]
    slopes = np.array([getattr(a, "slopes", (0.0, 0.0)) for a in found])
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in names]),
        Axis(T("slope", "斜率")),
        [
            Bars(T("smallest", "最小"), slopes[:, 0]),
            Bars(T("largest", "最大"), slopes[:, 1]),
            Level(T("slope 1", "斜率 1"), y=1.0),
        ],
        T(
            "Only the sigmoid stays far below 1; GELU, Swish and Mish rise above 1 and fall below "
            "0.",
            "只有 sigmoid 远低于 1；GELU、Swish、Mish 会超过 1，也会低于 0。",
        ),
    )
