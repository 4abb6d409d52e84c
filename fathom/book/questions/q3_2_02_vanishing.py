"""3.2.2 Why the sigmoid makes gradients vanish."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, T, at_least,
    at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, highest, root, value
from fathom.book.material.chain import missing_factors, weight_gradient
from fathom.book.material.gain import passage
from fathom.doctor import saturation

question = Question(
    "3.2.2",
    title=T(
        "Why does the sigmoid make gradients vanish? Derive it.",
        "为什么 Sigmoid 会导致梯度消失？请推导。",
    ),
    difficulty=4,
    frequency=5,
    topics=("sigmoid", "vanishing gradient", "saturation", "梯度消失", "饱和", "链式法则"),
    answer=T(
        "By the chain rule the gradient at layer 1 is the gradient at the output times one factor "
        "diag(sigma'(z_l)) W_l for each layer above, and last sigma'(z_1) and the input. The slope "
        "sigma' = sigma (1 - sigma) is at most 0.25, at z = 0, so the slopes of L layers multiply "
        "to 0.25^L at best: 1e-6 for ten layers. Away from 0 it is far worse: 0.105 at 2, 0.018 "
        "at 4, 0.0025 at 6, since it falls like exp(-|z|). The bound holds for the slopes alone; "
        "the weights multiply, too. With weights of the usual scale nothing makes up for it; with "
        "weights eight times as large the gradient passes, but half of the units are flat and "
        "learn "
        "nothing. Small weights leave the slope at its best and shrink the gradient by "
        "themselves. Cures are ReLU-like activations, a matching initialization, normalization "
        "and skip connections.",
        "由链式法则，第 1 层的梯度等于输出处的梯度乘以其上每层的因子 diag(sigma'(z_l)) W_l，"
        "最后再乘 sigma'(z_1) 和输入。导数 sigma' = sigma(1 - sigma) 最大为 0.25（在 z = 0 处），"
        "所以 L 层导数的乘积最多是 0.25^L：十层约 1e-6。离开 0 之后更糟：2 处 0.105，4 处 0.018，"
        "6 处 0.0025，因为它按 exp(-|z|) 衰减。这个上界只针对导数因子；权重也参与相乘。"
        "常用尺度的权重补偿不了；权重放大八倍时梯度能通过，但约一半单元处于平坦区，学不到东西。"
        "小权重时导数处于最佳值，梯度变小是权重本身造成的。"
        "对策是 ReLU 类激活、匹配的初始化、归一化和跳跃连接。",
    ),
    flips=T(
        "If the activations are centred (sigma - 1/2) and the weights four times as large, the "
        "factor of a layer is near 1, and most of the signal comes through.",
        "如果把激活居中（sigma - 1/2）并把权重放大四倍，每层因子接近 1，信号就能通过。",
    ),
    analogy=T(
        "A message whispered down a row in which nobody passes on more than a quarter of what he "
        "heard.",
        "一排人传话，每个人最多只把听到的四分之一往下传。",
    ),
    generative=T(
        "No large model stacks sigmoids; where they gate, another path carries the gradient.",
        "大模型不会堆叠 sigmoid；在用作门控的地方，另有通路传递梯度。",
    ),
    classical=T(
        "It is why nets of the 1990s had one or two hidden layers, and why LSTM was invented.",
        "这正是 20 世纪 90 年代的网络只有一两个隐藏层、以及 LSTM 被提出的原因。",
    ),
    driving=T(
        "A perception backbone of fifty layers would not learn its first filters with sigmoids.",
        "五十层的感知主干网络若用 sigmoid，最前面的滤波器几乎学不到东西。",
    ),
    change=T(
        "Subtract 1/2 from each activation and set the gain to 4: at twenty layers a tenth is left "
        "of the gradient, not 1e-12 of it.",
        "给每个激活减去 1/2 并把增益设为 4：二十层后剩下约十分之一的梯度，而不是 1e-12。",
    ),
)

DEPTHS = (2, 4, 6, 10, 14, 20)
GAINS = (0.5, 1.0, 2.0, 4.0, 8.0)


def by_exponentials(x: float) -> float:
    """The slope as exp(-x) / (1 + exp(-x))^2."""
    e = float(np.exp(-abs(x)))
    return e / (1.0 + e) ** 2


def printed(x: float, values: tuple[float, float], slope: tuple[float, float],
            percent: tuple[float, float], digit: float) -> Evidence:  # fmt: skip
    """A line of the table, +-x: values to `digit`, slope and per cent with tolerances."""
    up, down = (1 / (1 + np.exp(-v)) for v in (x, -x))
    auto, hand = float(derivative(fathom.sigmoid, x)), by_exponentials(x)

    def two(first: float, second: float, told: float, off: float) -> Check:
        return Check(Routes({"library": first, "NumPy": second}), equals(told, off))

    return All({
        "value": two(float(value(fathom.sigmoid, x)), up, values[0], digit / 2),
        "value on the left": two(float(value(fathom.sigmoid, -x)), down, values[1], digit / 2),
        "slope": two(auto, hand, *slope),
        "percent": two(400 * auto, 400 * hand, *percent),
    })  # fmt: skip


@question.exact(
    "C3.2.2-01",
    T("The slope is largest at 0, where it is 0.25.", "导数在 0 处最大，为 0.25。"),
    equals(0.25, 1e-9),
)
def steepest(lab: Lab) -> Evidence:
    """The derivative's maximum by golden section; the root of s (1 - s) (1 - 2 s) by bisection."""

    def second(x: Any) -> Any:
        s = 1 / (1 + np.exp(-x))
        return s * (1 - s) * (1 - 2 * s)

    x, top = highest(lambda at: derivative(fathom.sigmoid, at), -8.0, 8.0)
    return All({
        "largest slope": top,
        "where": Check(abs(x), at_most(1e-6)),
        "where the second derivative is 0": Check(abs(root(second, -5.0, 7.0)), at_most(1e-9)),
    })  # fmt: skip


@question.exact(
    "C3.2.2-02",
    T(
        "At +-2 the values are 0.88 and 0.12, the slope is 0.105: 42 % of the largest.",
        "在 ±2 处取值 0.88 和 0.12，导数 0.105，为最大值的 42 %。",
    ),
    equals(0.105, 0.0005),
)
def at_two(lab: Lab) -> Evidence:
    """Values, slope and per cent of 0.25, by the library and by NumPy, to the printed digits."""
    return printed(2.0, (0.88, 0.12), (0.105, 5e-4), (42.0, 0.5), 0.01)


@question.exact(
    "C3.2.2-03",
    T("At +-4 the slope is 0.020, 8 % of the largest.", "在 ±4 处导数为 0.020，是最大值的 8 %。"),
    equals(0.020, 0.0005),
    correction=T(
        "It is {n[slope/library]:.4f}, {n[percent/library]:.1f} % of the largest.",
        "实际为 {n[slope/library]:.4f}，是最大值的 {n[percent/library]:.1f} %。",
    ),
)
def at_four(lab: Lab) -> Evidence:
    """Slope and per cent of 0.25 by automatic differentiation and by exponentials, to the printed
    digits.
    """
    auto, hand = float(derivative(fathom.sigmoid, 4.0)), by_exponentials(4.0)
    return All({
        "slope": Routes({"library": auto, "NumPy": hand}),
        "percent": Check(Routes({"library": 400 * auto, "NumPy": 400 * hand}), equals(8.0, 0.5)),
    })  # fmt: skip


@question.exact(
    "C3.2.2-04",
    T(
        "At +-6 the values are 0.997 and 0.003, the slope is 0.0025: 1 % of the largest.",
        "在 ±6 处取值 0.997 和 0.003，导数 0.0025，为最大值的 1 %。",
    ),
    equals(0.0025, 5e-5),
    correction=T(
        "Slope and share are right; the values are {n[value/library]:.4f} and "
        "{n[value on the left/library]:.4f}, to three places 0.998 and 0.002. 0.997 is cut off, not "
        "rounded, and 0.003 is what it leaves to 1.",
        "导数和占比正确；取值为 {n[value/library]:.4f} 和 {n[value on the left/library]:.4f}，"
        "保留三位小数应为 0.998 和 0.002。0.997 是截断而非四舍五入，0.003 则是 1 减去它。",
    ),
)
def at_six(lab: Lab) -> Evidence:
    """Values, slope and per cent of 0.25, by the library and by NumPy, to the printed digits."""
    return printed(6.0, (0.997, 0.003), (0.0025, 5e-5), (1.0, 0.5), 0.001)


@question.exact(
    "C3.2.2-05",
    T(
        "At +-10 the slope is 0.00005, 0.02 % of the largest.",
        "在 ±10 处导数为 0.00005，是最大值的 0.02 %。",
    ),
    equals(5e-5, 5e-6),
)
def at_ten(lab: Lab) -> Evidence:
    """Slope and per cent of 0.25, to the printed digits."""
    auto, hand = float(derivative(fathom.sigmoid, 10.0)), by_exponentials(10.0)
    return All({
        "slope": Routes({"library": auto, "NumPy": hand}),
        "percent": Check(Routes({"library": 400 * auto, "NumPy": 400 * hand}), equals(0.02, 0.005)),
    })  # fmt: skip


def chains(rng: np.random.Generator, layers: int = 5) -> dict[str, float]:
    """A chain of one-unit sigmoid layers: dL/dW_1 by two routes, and the product of the claim."""
    w, x = rng.normal(size=layers) * 2, float(rng.uniform(0.3, 2.0))
    activations = [x]
    for weight in w:
        activations.append(float(1 / (1 + np.exp(-weight * activations[-1]))))
    slopes = [s * (1 - s) for s in activations[1:]]
    product = 2 * (activations[-1] - 0.3) * float(np.prod(w[1:] * slopes[1:]))
    routes = weight_gradient(lambda z: 1 / (1 + np.exp(-z)), fathom.sigmoid, w, x, goal=0.3)
    return {**routes, "product": product, "completed": product * slopes[0] * x}


@question.exact(
    "C3.2.2-06",
    T(
        "dL/dW_1 equals dL/da_L times the product of W_l sigma'(z_l) over l = 2 to L.",
        "dL/dW_1 等于 dL/da_L 乘以 l = 2 到 L 的 W_l sigma'(z_l) 之积。",
    ),
    at_most(1e-5),
    correction=T(
        "The product is dL/da_1. For the weights two factors are missing, sigma'(z_1) and the "
        "input: without them the result is off by {n[as stated/autodiff]:.0f} times the "
        "gradient; with "
        "them it agrees within {n[completed]:.0e}. That gradients vanish is not touched by it.",
        "该乘积是 dL/da_1。求权重的梯度还缺两个因子 sigma'(z_1) 和输入：缺少它们时误差达梯度的 "
        "{n[as stated/autodiff]:.0f} 倍；补上后相差不超过 {n[completed]:.0e}。"
        "梯度消失的结论不受影响。",
    ),
    weight=2,
)
def chain_rule(lab: Lab) -> Evidence:
    """Median relative error of the product over 200 random chains of five one-unit layers, against
    automatic differentiation and central differences; and with the missing factors put in.
    """
    rng = lab.rng("chains")
    return missing_factors([chains(rng) for _ in range(200)])


@question.exact("C3.2.2-07", T("0.1^10 = 1e-10.", "0.1^10 = 1e-10。"), equals(1.0, 1e-12))
def tenth(lab: Lab) -> Evidence:
    """0.1^10 over 1e-10, by fractions and by floats."""
    return Routes({
        "fractions": float(Fraction(1, 10) ** 10 / Fraction(1, 10**10)),
        "floats": 0.1**10 / 1e-10,
    })  # fmt: skip


@question.exact(
    "C3.2.2-08",
    T(
        "The product of the slopes of L sigmoids is at most 0.25^L.",
        "L 个 sigmoid 导数之积不超过 0.25^L。",
    ),
    at_most(1.0),
)
def bound(lab: Lab) -> Evidence:
    """Largest product over 0.25^L: 10,000 draws of z with deviation 0.01 to 10, L = 1 to 50."""
    rng = lab.rng("z")
    z = rng.standard_normal((10_000, 50)) * 10.0 ** rng.uniform(-2, 1, (10_000, 1))
    ratios = 4.0 * derivative(fathom.sigmoid, z)
    return float(np.cumprod(ratios, axis=1).max())


@question.exact(
    "C3.2.2-09",
    T("0.25^10 is about 1e-6.", "0.25^10 约为 1e-6。"),
    equals(1e-6, 5e-7),
)
def quarter(lab: Lab) -> Evidence:
    """The power, by fractions and by floats; "about" is half a unit of the printed digit."""
    return Routes({"fractions": float(Fraction(1, 4) ** 10), "floats": 0.25**10})


@once
def flat_share(lab: Lab, gain: float) -> Any:
    """Share of z with a slope below 0.01 in three sigmoid layers of 64, over seeds."""
    shares = []
    for seed in lab.seeds(10, 4):
        rng = np.random.default_rng(seed)
        net = nn.Sequential(
            *[layer for _ in range(3) for layer in (nn.Linear(64, 64), nn.Sigmoid())]
        )
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.data[...] = gain / 8 * rng.standard_normal((64, 64))
                layer.bias.data[...] = 0.0  # type: ignore[union-attr]
        rows = saturation(net, rng.standard_normal((200, 64)).astype(np.float32)).rows
        shares.append(np.mean([row.flat_share for row in rows]))
    return np.array(shares)


@question.experiment(
    "C3.2.2-10",
    T("Too large an initialization saturates the sigmoid.", "初始化过大会使 sigmoid 饱和。"),
    at_least(0.2),
    weight=2,
)
def saturates(lab: Lab) -> Evidence:
    """Gain in the share of units with a slope below 0.01, from weights of deviation 1 / sqrt(n) to
    ten times that; three layers of 64, paired by seed.
    """
    return Sample(flat_share(lab, 10.0) - flat_share(lab, 1.0))


@question.exact(
    "C3.2.2-11",
    T(
        "Too small an initialization, with inputs in [-0.1, 0.1], makes gradients small because of "
        "the slope there.",
        "初始化过小（输入落在 [-0.1, 0.1]）时，梯度小是因为那里的导数小。",
    ),
    at_most(0.5),
    correction=T(
        "The slope there is {n[slope/library]:.2%} of its maximum. The gradient is small because "
        "of the weights: with deviation 0.1 / sqrt(n) the last layer but one has {n[gradient]:.3f} "
        "of the gradient of the last: a tenth by the weights, a quarter by the best slope there "
        "is.",
        "那里的导数是最大值的 {n[slope/library]:.2%}。梯度小是权重造成的：标准差取 0.1 / sqrt(n) "
        "时，"
        "倒数第二层的梯度只有最后一层的 {n[gradient]:.3f}：权重贡献十分之一，而四分之一已是 "
        "sigmoid 的最佳导数。",
    ),
    weight=3,
)
def small_start(lab: Lab) -> Evidence:
    """The least slope for |z| <= 0.1 over the largest, by the library and by exponentials; a slope
    counts as small below half of the largest. And the gradient's ratio from layer to layer in a net
    with such weights.
    """
    z = np.linspace(-0.1, 0.1, 201)
    net = passage("sigmoid", lab.rng("net"), std=0.1 / 8, depth=10, width=64)
    by_hand = 4 * min(by_exponentials(v) for v in z)
    library = float(4 * derivative(fathom.sigmoid, z).min())
    return All({
        "slope": Routes({"library": library, "NumPy": by_hand}),
        "gradient": Check(float((net.gradient[:-1] / net.gradient[1:]).mean()), at_most(0.5)),
    })  # fmt: skip


@once
def ratios(lab: Lab, gain: float, shift: float) -> Any:
    """log10 of the first layer's gradient over the last's, (seeds, depths); sigma(z) - shift."""
    table = []
    for seed in lab.seeds(8, 3):
        row = []
        for depth in DEPTHS:
            rng = np.random.default_rng([seed, depth])
            h, kept, width = rng.standard_normal((50, 64)), [], 64
            weights = [rng.standard_normal((width, width)) * gain / 8 for _ in range(depth)]
            for w in weights:
                s = 1 / (1 + np.exp(-(h @ w)))
                kept.append(s * (1 - s))
                h = s - shift
            delta = rng.standard_normal(h.shape) * kept[-1]
            last = np.linalg.norm(delta)
            for w, slope in zip(weights[:0:-1], kept[-2::-1], strict=True):
                delta = (delta @ w.T) * slope
            row.append(np.log10(np.linalg.norm(delta) / last))
        table.append(row)
    return np.array(table)


@question.figure(
    T("The gradient against depth, by the scale of the weights", "不同权重尺度下梯度随深度的变化")
)
def depth_and_gain(lab: Lab) -> Figure:
    """First layer's gradient over the last's in random sigmoid nets of 64 units, gains 0.5 to 8
    times 1 / sqrt(n); and with centred activations at gain 4. Mean of logarithms over seeds.
    """
    lines: list[Any] = []
    settings = [(g, 0.0, T(f"gain {g:g}", f"增益 {g:g}")) for g in GAINS]
    settings.append((4.0, 0.5, T("gain 4, centred", "增益 4，居中")))
    for gain, shift, name in settings:
        at = [Sample(column) for column in ratios(lab, gain, shift).T]
        lines.append(Line(name, DEPTHS, *(10 ** band(at))))
    slopes = [0.25 ** (d - 1) for d in DEPTHS]
    lines.append(Line(T("0.25^(L-1)", "0.25^(L-1)"), DEPTHS, slopes, points=True))
    return Figure(
        Axis(T("layers", "层数")),
        Axis(T("gradient, first over last", "梯度比（首层/末层）"), log=True),
        lines,
        T(
            "The bound holds for the slopes, not for the gradient: larger weights lie above it. "
            "At gain "
            "8, or centred at gain 4, a tenth of the gradient comes through twenty layers; at "
            "gain 1 "
            "a million-millionth.",
            "该上界针对导数而非梯度：权重较大时曲线在它之上。增益为 8、或居中且增益为 4 时，"
            "二十层之后仍剩约十分之一的梯度；增益为 1 时只剩约一万亿分之一。",
        ),
    )


@question.figure(T("Flat units against the scale of the weights", "平坦单元占比随权重尺度的变化"))
def flatness(lab: Lab) -> Figure:
    """Share of units with a slope below 0.01, three layers of 64, over seeds."""
    gains = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 16.0)
    at = [Sample(flat_share(lab, g)) for g in gains]
    return Figure(
        Axis(T("deviation of the weights, times sqrt(n)", "权重标准差 × sqrt(n)"), log=True),
        Axis(T("share of flat units", "平坦单元占比")),
        [
            Line(T("slope below 0.01", "导数小于 0.01"), gains, *band(at)),
            Level(T("usual scale", "常用尺度"), x=1.0),
        ],
        T(
            "At the usual scale no unit is flat; at ten times that scale a large part is.",
            "常用尺度下没有平坦单元；放大十倍后很大一部分变得平坦。",
        ),
    )  # fmt: skip
