"""3.1.2 Why activations must be nonlinear, and what "linear" means exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

import fathom
from fathom import activations, nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, once,
)  # fmt: skip
from fathom.book.material.calculus import value

question = Question(
    "3.1.2",
    title=T("Why must activations be nonlinear?", "激活函数为什么必须是非线性的？"),
    difficulty=3,
    frequency=4,
    topics=("activation", "nonlinearity", "superposition", "激活函数", "非线性", "叠加原理"),
    answer=T(
        "A function is linear if f(ax + by) = a f(x) + b f(y) for all x, y, a and b; for one "
        "number that leaves f(x) = kx only, and kx + c is affine but not linear. With such an f a "
        "network of L layers is one matrix, the product of its weights times k for every "
        "activation on the way, so no depth helps: its best fit is the least-squares line, "
        "whatever the data. It fits 2x + 1 exactly, of x squared on a symmetric interval nothing, "
        "and XOR not at all. A nonlinearity need not be strong: one kink makes pieces that can be "
        "put together. It must not be a polynomial though, for polynomials of a fixed degree stay "
        "polynomials. Linear steps have their place where mixing or a small rank is wanted: "
        "logits, embeddings, attention's projections, bottlenecks, LoRA.",
        "若对所有 x、y、a、b 都有 f(ax + by) = a f(x) + b f(y)，函数就是线性的；对一元函数，这只剩"
        "下 f(x) = kx，而 kx + c 是仿射的，不是线性的。用这样的 f，L 层网络就是一个矩阵：权重之积，"
        "再为途中每个激活乘一个 k，所以多深都没用：它的最优拟合就是最小二乘直线。它能精确拟合 2x + "
        "1，在对称区间上对 x 的平方毫无办法，XOR 也完全不行。非线性不必很强：一个折点就能造出可以拼"
        "接的片段。但它不能是多项式，因为固定次数的多项式复合仍是多项式。需要混合或低秩时线性步骤自"
        "有其位置：logits、嵌入、注意力投影、瓶颈层、LoRA。",
    ),
    flips=T(
        "Between layers one wants to fuse or to keep small (low-rank factors, attention's "
        "projections), the missing nonlinearity is the point.",
        "在需要合并或压缩的层之间（低秩分解、注意力投影），没有非线性恰恰是目的。",
    ),
    analogy=T(
        "Exchanging money through ten currencies is one exchange rate in the end; only a fee that "
        "depends on the amount changes the picture.",
        "经十种货币兑换，最终仍是一个汇率；只有随金额变化的手续费才会改变局面。",
    ),
    generative=T(
        "Attention without its softmax is linear attention: it can be computed as a recurrence, "
        "and is weaker at looking up single tokens.",
        "去掉 softmax 的注意力就是线性注意力：可以写成递推，但精确检索单个词元的能力更弱。",
    ),
    classical=T(
        "A generalized linear model is linear up to its link function: the coefficients stay "
        "readable.",
        "广义线性模型除了连接函数以外都是线性的：系数因此仍可解释。",
    ),
    driving=T(
        "The braking distance grows with the square of the speed: no linear model of it holds over "
        "the range from town to motorway.",
        "刹车距离随车速的平方增长：任何线性模型都无法从市区车速一直适用到高速公路。",
    ),
    change=T(
        "Replace the identity by leaky ReLU and let its slope fall from 1: the fit of x squared "
        "improves as soon as there is a kink.",
        "把恒等激活换成 Leaky ReLU，让负侧斜率从 1 往下降：一出现折点，x 的平方就开始拟合得上。",
    ),
)


def superposition(f: Callable[[Any], Any], rng: np.random.Generator) -> float:
    """Largest |f(ax + by) - a f(x) - b f(y)| over 2,000 random quadruples."""
    a, b, x, y = rng.uniform(-2.0, 2.0, (4, 2000))
    return float(np.abs(f(a * x + b * y) - a * f(x) - b * f(y)).max())


def line(k: float, c: float) -> Callable[[Any], Any]:
    """kx + c."""
    return lambda x: k * x + c


@question.exact(
    "C3.1.2-01",
    T(
        "f(ax + by) = a f(x) + b f(y) holds for f(x) = kx and for nothing else.",
        "f(ax + by) = a f(x) + b f(y) 恰好刻画 f(x) = kx。",
    ),
    at_most(1e-12),
)
def superposed(lab: Lab) -> Evidence:
    """Largest gap between the two sides for kx over random numbers; the smallest such gap of kx + c
    and ten activations, which must be 0.1 or more. (That nothing else passes: b = 0 and x = 1 give
    f(a) = a f(1).)"""
    rng = lab.rng("numbers")
    lines = [superposition(line(k, 0.0), rng) for k in (-3.0, 0.5, 1.0, 2.0)]
    names = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softplus", "mish",
             "softsign")  # fmt: skip
    others = [superposition(line(2.0, c), rng) for c in (-0.2, 1.0)]
    formulas = [getattr(activations, name) for name in names]
    others += [superposition(partial(value, f), rng) for f in formulas]
    return All({"kx": max(lines), "the others, least": Check(min(others), at_least(0.1))})


def chain(k: float, rng: np.random.Generator) -> tuple[Any, Any, float]:
    """Rows, and what four layers with f(z) = kz make of them by the tape; relative gap to the
    product of the matrices alone."""
    layers = [nn.Linear(6, 6, bias=False).double() for _ in range(4)]
    x = rng.standard_normal((50, 6))
    h = fathom.tensor(x)
    for layer in layers:
        h = k * layer(h)
    product = np.linalg.multi_dot([layer.weight.value() for layer in layers[::-1]])
    return x @ product.T, h.value(), float(np.abs(h.value() - x @ product.T).max())


@question.exact(
    "C3.1.2-02",
    T(
        "With f(x) = kx a deep net is W_L ... W_1 x.",
        "取 f(x) = kx 时，深层网络等于 W_L ... W_1 x。",
    ),
    at_most(1e-12),
    correction=T(
        "Every activation contributes a factor k: with k = 2 and four layers the output is "
        "{n[k = 2/factor]:.0f} times the product of the matrices, k to the power of 4.",
        "每个激活都贡献一个因子 k：k = 2、四层时输出是矩阵之积的 {n[k = 2/factor]:.0f} 倍，即 k 的 "
        "4 次方。",
    ),
    weight=2,
)
def product_of_matrices(lab: Lab) -> Evidence:
    """Four layers, float64: output against the product of the matrices, largest difference relative
    to the largest output. For k = 2 the factor between the two is given, too."""
    found: dict[str, Evidence] = {}
    for k in (1.0, 2.0):
        flat, deep, gap = chain(k, lab.rng(f"k {k}"))
        factor = float((deep * flat).sum() / (flat * flat).sum())
        found[f"k = {k:g}"] = All({
            "difference": gap / float(np.abs(deep).max()),
            "factor": Check(factor, at_least(0.5)),
        })  # fmt: skip
    return Settings(T("slope of the activation", "激活的斜率"), found)


@cache
def tasks() -> dict[str, tuple[Any, Any]]:
    """Inputs and targets (n, 1) of the four tasks."""
    x = np.linspace(-3.0, 3.0, 128, dtype=np.float32)[:, None]
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    return {
        "2x + 1": (x, 2 * x + 1),
        "x squared": (x, x**2),
        "sin x": (x, np.sin(x)),
        "XOR": (np.repeat(corners, 32, axis=0),
                np.repeat(np.array([[0], [1], [1], [0]], np.float32), 32, axis=0)),
    }  # fmt: skip


NAMES = {
    "2x + 1": "2x + 1", "x squared": "x 的平方", "sin x": "sin x", "XOR": "异或"
}  # fmt: skip


@once
def fitted(lab: Lab, task: str, depth: int, bend: bool) -> Any:
    """R squared of trained nets of that depth (layers of weights), one a seed."""
    x, y = tasks()[task]
    sizes = [x.shape[1]] + [16] * (depth - 1) + [1]

    def net() -> nn.Sequential:
        layers: list[nn.Module] = []
        for i in range(depth):
            layers.append(nn.Linear(sizes[i], sizes[i + 1]))
            if bend and i < depth - 1:
                layers.append(nn.Tanh())
        return nn.Sequential(*layers)

    spec = {"model": net, "lr": 0.01, "loss": "mse", "epochs": lab.pick(250, 120)}
    fleet = fathom.train_many(spec, x, y, seeds=lab.seeds(8, 3))
    return 1.0 - fleet.evaluate(x, y)["loss"] / float(y.var())


@question.experiment(
    "C3.1.2-03",
    T(
        "Linear nets fit 2x + 1, but not x squared, sin x or XOR; nonlinear ones fit all four.",
        "线性网络能拟合 2x + 1，却拟合不了 x 的平方、sin x 和 XOR；非线性网络四个都能拟合。",
    ),
    at_least(0.95),
    weight=2,
)
def who_fits_what(lab: Lab) -> Evidence:
    """R squared after training: two linear layers, and two layers with tanh between. To fit is
    taken as 0.95 or more, not to fit as 0.75 or less."""
    parts: dict[str, Any] = {}
    for task in tasks():
        linear, bent = (Sample(fitted(lab, task, 2, bend)) for bend in (False, True))
        can = task == "2x + 1"
        parts[f"linear: {task}"] = linear if can else Check(linear, at_most(0.75))
        parts[f"tanh: {task}"] = bent
    return All(parts)


@question.reference(
    "C3.1.2-04",
    T(
        "A linear activation is useful in the output layer of a regression only.",
        "线性激活只在回归的输出层有用。",
    ),
    correction=T(
        "Linear steps are in use in many places: MobileNetV2's bottlenecks, LoRA's factors, the "
        "projections of attention, embeddings, and the logits of every classifier.",
        "许多地方都用线性步骤：MobileNetV2 的瓶颈、LoRA 的低秩因子、注意力投影、嵌入，以及所有分类"
        "器的 logits。",
    ),
    weight=3,
)
def where_linear_is_used(lab: Lab) -> Evidence:
    """Where published architectures have a linear layer with no activation behind it."""
    claimed = "output of a regression"
    mobile = Source("Sandler et al., MobileNetV2: ... and Linear Bottlenecks", 2018, 0.99)
    lora = Source("Hu et al., LoRA: Low-Rank Adaptation of Large Language Models", 2021, 0.99)
    attention = Source("Vaswani et al., Attention Is All You Need, section 3.2.2", 2017, 0.98)
    return Routes({
        "MobileNetV2": Published("bottleneck of every block", (mobile,), claimed),
        "LoRA": Published("update of a hidden layer's weights", (lora,), claimed),
        "Transformer": Published("queries, keys and values", (attention,), claimed),
    })  # fmt: skip


DEPTHS = (1, 2, 4, 8)


@question.figure(T("Fit against depth, linear and bent", "拟合优度随深度的变化"))
def fit_by_depth(lab: Lab) -> Figure:
    """R squared of linear nets of depth 1 to 8 after training; tanh nets of the same depth."""
    lines, depths = [], lab.pick(DEPTHS, (1, 2))
    for task in tasks():
        at = [Sample(fitted(lab, task, depth, False)) for depth in depths]
        lines.append(Line(T(f"linear: {task}", f"线性：{NAMES[task]}"), depths, *band(at)))
    bent = [Sample(fitted(lab, "x squared", depth, True)) for depth in depths[1:]]
    lines.append(Line(T("tanh: x squared", "tanh：x 的平方"), depths[1:], *band(bent)))
    x, y = tasks()["sin x"]
    best = float(np.corrcoef(x[:, 0], y[:, 0])[0, 1] ** 2)
    return Figure(
        Axis(T("layers of weights", "权重层数")),
        Axis(T("R squared", "决定系数 R²")),
        [*lines, Level(T("least-squares line of sin x", "sin x 的最小二乘直线"), y=best)],
        T(
            "Linear nets of every depth end at the least-squares line: all of 2x + 1, a part of "
            "sin x, nothing of x squared and XOR; one tanh layer is enough for x squared, while "
            "seven in a row are hard to train.",
            "任何深度的线性网络都止于最小二乘直线：2x + 1 全部拟合，sin x 只有一部分，x 的平方与 "
            "XOR 为零；加一层 tanh 就足以拟合 x 的平方，而连续七层 tanh 反而难以训练。",
        ),
    )


@question.figure(T("How much of a bend is enough", "弯折多大才够"))
def how_much_bend(lab: Lab) -> Figure:
    """Best fit of x squared and sin x by 30 leaky ReLU units with random kinks, against the slope
    on the left; 1 is the identity. The outer weights by least squares."""
    slopes = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99, 1.0])
    lines = []
    for task in ("x squared", "sin x"):
        x, y = (a.astype(np.float64) for a in tasks()[task])
        found = []
        for seed in lab.seeds(10, 4):
            rng = np.random.default_rng(seed)
            z = x * rng.choice((-1.0, 1.0), 30) + rng.uniform(-3.0, 3.0, 30)
            found.append([ridge_fit(np.where(z > 0, z, s * z), y) for s in slopes])
        at = [Sample(column) for column in np.array(found).T]
        lines.append(Line(T(task, NAMES[task]), slopes, *band(at)))
    return Figure(
        Axis(T("slope on the left", "负侧斜率")),
        Axis(T("R squared", "决定系数 R²")),
        lines,
        T(
            "A slope of 0.99 instead of 1 on one side is nonlinear enough: the fit is lost only "
            "where the kink vanishes.",
            "一侧斜率是 0.99 而不是 1，就已足够非线性：只有折点消失时才失去拟合能力。",
        ),
    )


def ridge_fit(rows: Any, y: Any, ridge: float = 1e-6) -> float:
    """R squared of y (n, 1) on features, with a constant and hardly any ridge."""
    full = np.column_stack([rows, np.ones(len(rows))])
    w = np.linalg.solve(full.T @ full + ridge * np.eye(full.shape[1]), full.T @ y)
    return float(1.0 - ((full @ w - y) ** 2).mean() / y.var())
