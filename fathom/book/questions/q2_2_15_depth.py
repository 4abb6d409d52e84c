"""2.2.15 Why deep networks are harder to train: products of many matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings, T,
    at_least, at_most, band, equals, within,
)  # fmt: skip
from fathom.book.material.calculus import derivative, difference, highest
from fathom.book.material.signal import through
from fathom.nn import functional as F

question = Question(
    "2.2.15",
    title=T("Why are deep networks harder to train?", "为什么深层网络更难训练？"),
    difficulty=4,
    frequency=5,
    topics=("vanishing gradient", "exploding gradient", "residual", "梯度消失", "梯度爆炸", "残差"),
    answer=T(
        "The gradient that reaches the first of L layers is a product of L - 1 weight matrices and "
        "of the activations' slopes, so it shrinks or grows geometrically with depth. What decides "
        "is not whether single weights exceed 1 but the gain of a layer: for random n x n matrices "
        "with deviation s it is s times the root of n, critical at s = 1 / sqrt(n) (or sqrt(2 / n) "
        "with ReLU). A sigmoid makes it worse by a factor of at most 0.25 a layer. A residual "
        "connection adds an identity to each factor, which keeps the gradient from vanishing; it "
        "does not keep it from growing, since branches of unit scale double the variance at each "
        "block. Normalization tames that growth and a small scale on the branch prevents it. ReLU's slope is "
        "exactly 1 on the right, GELU's and Swish's are not, and no slope alone cancels the decay.",
        "传到 L 层网络第一层的梯度是 L - 1 个权重矩阵与各层激活斜率的乘积，因此随深度按几何级数缩小或"
        "增大。起决定作用的不是单个权重是否大于 1，而是每层的增益：对标准差为 s 的 n×n 随机矩阵，增益是 "
        "s 乘以 n 的平方根，临界值为 s = 1/√n（配 ReLU 时为 √(2/n)）。sigmoid 使每层再乘一个不超过 0.25 "
        "的因子。残差连接给每个因子加上单位阵，使梯度不会消失；但它挡不住增长，因为单位尺度的分支每块都使"
        "方差翻倍。归一化能抑制这种增长，缩小分支则能避免它。ReLU 在右侧的斜率恰为 1，GELU 和 Swish 则不是，"
        "而且单靠斜率抵消不了衰减。",
    ),
    flips=T(
        "With small residual branches, or weights of the critical scale, a hundred layers pass the "
        "gradient on at about constant size.",
        "如果残差分支很小，或权重处于临界尺度，一百层也能以大致恒定的大小传递梯度。",
    ),
    analogy=T(
        "A message whispered through fifty people: each slightly too soft or too loud is enough to "
        "lose it.",
        "一句话经五十个人耳语相传：每人稍轻或稍响一点，就足以失真。",
    ),
    generative=T(
        "Transformers of a hundred layers owe their trainability to residuals with a norm in "
        "front, and to branch weights scaled down with depth.",
        "上百层的 Transformer 能训练，靠的是前置归一化的残差，以及随深度缩小的分支权重。",
    ),
    classical=T(
        "Unrolled in time a recurrent net is as deep as its sequence is long: the same product.",
        "循环网络沿时间展开后，深度等于序列长度：同样是连乘。",
    ),
    driving=T(
        "Backbones became hundreds of layers deep only with residual blocks.",
        "感知主干网络有了残差块之后才做到上百层。",
    ),
    change=T(
        "Divide the weights of the 100 x 100 layers by 2: from exploding the gradient turns to "
        "keeping its size.",
        "把 100×100 各层的权重除以 2：梯度从爆炸变为保持大小。",
    ),
)


def linear_chain(rng: np.random.Generator, depth: int, width: int = 6) -> list[Any]:
    """Weights of a chain of linear layers."""
    return [rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(depth)]


def first_gradient(matrices: list[Any], x: Any, up: Any) -> Any:
    """Gradient of up . (W_L ... W_1 x) by W_1, automatic."""
    weights = [fathom.tensor(w, requires_grad=True) for w in matrices]
    h = fathom.tensor(x)
    for w in weights:
        h = w @ h
    (h * fathom.tensor(up)).sum().backward()
    return weights[0].grad.value()


def factors_by_scaling(lab: Lab, depth: int) -> float:
    """How many matrices are in the first layer's gradient: the power of 3 by which it grows when
    all of them are made 3 times as large."""
    rng = lab.rng("chain")
    matrices, x, up = linear_chain(rng, depth), rng.standard_normal(6), rng.standard_normal(6)
    before = first_gradient(matrices, x, up)
    after = first_gradient([3.0 * w for w in matrices], x, up)
    return float(np.log(np.linalg.norm(after) / np.linalg.norm(before)) / np.log(3.0))


def factors_by_matching(lab: Lab, depth: int) -> float:
    """How many of the last matrices, transposed and multiplied, give the gradient written out."""
    rng = lab.rng("chain")
    matrices, x, up = linear_chain(rng, depth), rng.standard_normal(6), rng.standard_normal(6)
    right, delta, errors = first_gradient(matrices, x, up), up, []
    for count in range(depth + 1):
        errors.append(np.abs(np.outer(delta, x) - right).max())
        if count < depth:
            delta = matrices[depth - 1 - count].T @ delta
    return float(np.argmin(errors))


@question.exact(
    "C2.2.15-01",
    T(
        "The gradient of the first of L layers contains L weight matrices (counted here for 10).",
        "L 层网络第一层的梯度中包含 L 个权重矩阵（此处 L = 10）。",
    ),
    equals(10.0, 0.01),
    correction=T(
        "It contains {value:.0f} of the 10: its own matrix is not among them (the gradient by the "
        "input would contain all).",
        "10 个中只含 {value:.0f} 个：它自己的矩阵不在其中（对输入的梯度才包含全部）。",
    ),
)
def factors(lab: Lab) -> Evidence:
    """Ten linear layers: the power with which the gradient grows when all matrices are scaled; and
    the number of matrices whose product with the input reproduces it."""
    return Routes({
        "scaling": factors_by_scaling(lab, 10),
        "product written out": factors_by_matching(lab, 10),
    })  # fmt: skip


def gain(rng: np.random.Generator, depth: int, draw: Callable[..., Any]) -> float:
    """Norm of a random gradient behind `depth` random linear layers over its norm before them."""
    first = draw(rng)
    back = rng.standard_normal(len(first))
    start = np.linalg.norm(back)
    back = first.T @ back
    for _ in range(depth - 1):
        back = draw(rng).T @ back
    return float(np.linalg.norm(back) / start)


def uniform(width: int, low: float, high: float) -> Callable[..., Any]:
    """A draw of (width, width) weights of both signs with sizes between low and high."""

    def draw(rng: np.random.Generator) -> Any:
        size = rng.uniform(low, high, (width, width))
        return size * rng.choice([-1.0, 1.0], (width, width))

    return draw


def gains(lab: Lab, draw: Callable[..., Any]) -> Sample:
    """log10 of the gain of 20 layers, one a seed."""
    each = [gain(np.random.default_rng(s), 20, draw) for s in lab.seeds(20, 5)]
    return Sample(np.log10(each))


@question.experiment(
    "C2.2.15-02",
    T(
        "With initial weights below 1 the gradient vanishes.",
        "初始权重小于 1 时梯度消失。",
    ),
    at_most(-1.0),
    correction=T(
        "True of a chain of single units (10^{n[1 wide]:.1f}); with 100 units a layer, weights "
        "below 0.35 make it explode (10^{n[100 wide]:.1f}). The gain of a layer counts: "
        "deviation times the root of the width.",
        "对每层一个神经元的链成立（10^{n[1 wide]:.1f}）；每层 100 个时，小于 0.35 的权重反而使梯度爆炸"
        "（10^{n[100 wide]:.1f}）。起作用的是每层增益：标准差乘以宽度的平方根。",
    ),
    weight=3,
)
def below_one(lab: Lab) -> Evidence:
    """log10 of the gradient's gain through 20 random linear layers, all weights below 0.35 in size
    (deviation 0.2); to vanish is a gain of at most 0.1."""
    return Settings(
        T("units a layer", "每层神经元数"),
        {f"{n} wide": gains(lab, uniform(n, 0.0, 0.35)) for n in (1, 100)},
    )


@question.exact(
    "C2.2.15-03",
    T("The sigmoid's largest derivative is 0.25.", "sigmoid 的导数最大为 0.25。"),
    equals(0.25, 1e-9),
)
def steepest(lab: Lab) -> Evidence:
    """The highest point of the automatic derivative on [-10, 10], and of the central difference."""
    return Routes({
        "autodiff": highest(lambda x: derivative(fathom.sigmoid, x), -10, 10)[1],
        "differences": highest(lambda x: difference(fathom.sigmoid, x), -10, 10)[1],
    })  # fmt: skip


@question.experiment(
    "C2.2.15-04",
    T("With initial weights above 1 it explodes.", "初始权重大于 1 时梯度爆炸。"),
    at_least(1.0),
    correction=T(
        "Linear layers explode (10^{n[linear, 1 wide]:.1f} and 10^{n[linear, 100 wide]:.1f}); "
        "a chain of single sigmoid units with such weights makes it vanish "
        "(10^{n[sigmoid, 1 wide]:.1f}; 100 wide 10^{n[sigmoid, 100 wide]:.1f}).",
        "线性层会爆炸（10^{n[linear, 1 wide]:.1f} 与 10^{n[linear, 100 wide]:.1f}）；sigmoid 层用这样的"
        "权重时，单个神经元的链反而消失（10^{n[sigmoid, 1 wide]:.1f}），宽度 100 时为 "
        "10^{n[sigmoid, 100 wide]:.1f}。",
    ),
    weight=2,
)
def above_one(lab: Lab) -> Evidence:
    """log10 of the gradient's gain through 20 layers, all weights between 1.1 and 1.9 in size; to
    explode is a gain of at least 10."""

    def through_sigmoids(width: int) -> Sample:
        found = []
        for seed in lab.seeds(20, 5):
            rng = np.random.default_rng(seed)
            draw, h, back = uniform(width, 1.1, 1.9), rng.random(width), np.eye(width)
            for _ in range(20):
                w = draw(rng)
                h = 1 / (1 + np.exp(-w @ h))
                back = (h * (1 - h))[:, None] * w @ back
            size = np.linalg.norm(back.T @ rng.standard_normal(width)) / np.sqrt(width)
            found.append(np.log10(size))
        return Sample(found)

    return Settings(T("kind and width of the layers", "层的类型与宽度"), {
        "linear, 1 wide": gains(lab, uniform(1, 1.1, 1.9)),
        "linear, 100 wide": gains(lab, uniform(100, 1.1, 1.9)),
        "sigmoid, 1 wide": through_sigmoids(1),
        "sigmoid, 100 wide": through_sigmoids(100),
    })  # fmt: skip


def residual_gain(lab: Lab, scale: float) -> Sample:
    """Gain of a gradient through 50 factors 1 + scale J, J random of gain 1; one a seed."""
    found = []
    for seed in lab.seeds(20, 5):
        rng = np.random.default_rng(seed)
        back = rng.standard_normal(100)
        start = np.linalg.norm(back)
        for _ in range(50):
            back = back + scale * (rng.standard_normal((100, 100)) / 10.0).T @ back
        found.append(float(np.linalg.norm(back) / start))
    return Sample(found)


@question.experiment(
    "C2.2.15-05",
    T(
        "A residual addition lets the gradient flow back unchanged in size.",
        "残差相加使梯度无损地回传。",
    ),
    within(0.5, 2.0),
    correction=T(
        "It keeps it from vanishing; size is kept only where the branches are small. Gain of 50 "
        "blocks: {n[scale 0.1]:.2f} with branches of 0.1, {n[scale 1]:.1e} with branches of scale 1.",
        "它防止梯度消失；但只有分支很小时才保持大小。50 个块的增益：分支尺度 0.1 时为 {n[scale 0.1]:.2f}，"
        "尺度 1 时为 {n[scale 1]:.1e}。",
    ),
    weight=3,
)
def residuals(lab: Lab) -> Evidence:
    """Norm of a gradient behind 50 residual blocks over that before them, each block's branch a
    random Jacobian of the given gain."""
    return Settings(
        T("the branch", "分支"),
        {f"scale {s:g}": residual_gain(lab, s) for s in (0.01, 0.1, 1.0)},
    )


def swiglu(x: Any) -> Any:
    """SwiGLU with both halves fed the same number: swish(x) x."""
    return F.silu(x) * x


@question.exact(
    "C2.2.15-06",
    T(
        "ReLU, GELU and SwiGLU have slope exactly 1 for positive inputs and so cancel the decay "
        "altogether.",
        "ReLU、GELU、SwiGLU 对正输入导数恰为 1，从而完全消除衰减。",
    ),
    at_most(1e-6),
    correction=T(
        "Only ReLU's slope is 1 there. Largest distance from 1 for positive inputs up to 5: GELU "
        "{n[GELU/autodiff]:.2f}, Swish {n[Swish/autodiff]:.2f}, SwiGLU {n[SwiGLU/autodiff]:.1f}; and "
        "ReLU layers at the scale 1 / sqrt(n) still lose a factor of "
        "{n[decay of 20 ReLU layers/random layers]:.0f} over 20 layers.",
        "那里只有 ReLU 的斜率为 1。对 5 以内的正输入，与 1 的最大差距：GELU {n[GELU/autodiff]:.2f}，Swish "
        "{n[Swish/autodiff]:.2f}，SwiGLU {n[SwiGLU/autodiff]:.1f}；而且尺度为 1/√n 的 ReLU 层经过 20 层仍会"
        "损失 {n[decay of 20 ReLU layers/random layers]:.0f} 倍。",
    ),
    weight=3,
)
def slopes(lab: Lab) -> Evidence:
    """Largest |f' - 1| on (0, 5], automatic and by differences; and by what factor a gradient falls
    through 20 ReLU layers of weights with deviation 1 / sqrt(n), in a net and by halving its
    square at every layer."""
    x = np.linspace(0.01, 5, 500)

    def apart(f: Callable[[Any], Any]) -> Routes:
        ways = {"autodiff": derivative(f, x), "differences": difference(f, x)}
        return Routes({name: float(np.abs(g - 1).max()) for name, g in ways.items()})

    signals = [
        through(fathom.relu, np.random.default_rng(s), depth=21, rule="lecun")
        for s in lab.seeds(10, 3)
    ]
    lost = float(np.exp(-np.mean([np.log(s.backward_ratio) for s in signals])))
    return All({
        "ReLU": apart(fathom.relu),
        "GELU": apart(F.gelu),
        "Swish": apart(F.silu),
        "SwiGLU": apart(swiglu),
        "decay of 20 ReLU layers": Check(
            Routes({"random layers": lost, "a half a layer": float(2.0**10)}), at_most(1.1)
        ),
    })  # fmt: skip


def log_gains(lab: Lab, scale: float, width: int) -> Sample:
    """log10 of the gain of 20 layers of normal weights, one a seed."""

    def draw(rng: np.random.Generator) -> Any:
        return scale * rng.standard_normal((width, width))

    each = [gain(np.random.default_rng(seed), 20, draw) for seed in lab.seeds(4, 3)]
    return Sample(np.log10(each))


@question.figure(
    T("Gain of 20 layers against the scale of the weights", "20 层的增益随权重尺度的变化")
)
def critical(lab: Lab) -> Figure:
    """Gradient through 20 random linear layers of 10, 100 and 400 units, by the deviation of the
    weights."""
    scales = np.geomspace(0.02, 1.0, 15)
    lines = []
    for width in (10, 100, 400):
        x = scales[:: lab.pick(1, 7)]
        at = [log_gains(lab, float(s), width) for s in x]
        name = T(f"width {width}", f"宽度 {width}")
        lines.append(Line(name, x, *band(at)))
    return Figure(
        Axis(T("standard deviation of a weight", "权重标准差"), log=True),
        Axis(T("log10 of the gain", "增益的 log10")),
        [*lines, Level(T("size kept", "大小不变"), y=0.0)],
        T(
            "The gradient keeps its size where the deviation is one over the root of the width "
            "(0.32, 0.1, 0.05), far below 1, and not at 1.",
            "梯度大小不变的位置是标准差等于宽度平方根的倒数处（0.32、0.1、0.05），远小于 1，而不在 1 处。",
        ),
    )


def normed(z: Any) -> Any:
    """Layer norm over 64 units."""
    return F.layer_norm(z, (64,))


@question.figure(T("Gradient at the first layer, by depth", "第一层梯度随深度的变化"))
def by_depth(lab: Lab) -> Figure:
    """tanh layers of 64 units, weights of deviation 0.9 / sqrt(n): plain, residual, residual with a
    layer norm in front; gradient at the first layer over that at the last."""
    depths = [5, 10, 20, 35, 50]
    kinds: list[tuple[T, dict[str, Any]]] = [
        (T("plain", "普通"), {}),
        (T("residual", "残差"), {"residual": True}),
        (T("residual, normed", "残差加归一化"), {"residual": True, "normalize": normed}),
    ]
    lines = []
    for name, options in kinds:
        at = []
        for depth in depths:
            found = [
                through(fathom.tanh, np.random.default_rng(s), depth=depth, width=64,
                        rule=0.9 / 8, batch=64, **options).backward_ratio
                for s in lab.seeds(5, 3)
            ]  # fmt: skip
            at.append(Sample(np.log10(found)))
        lines.append(Line(name, depths, *band(at)))
    return Figure(
        Axis(T("layers", "层数")),
        Axis(T("log10 of first over last", "首层与末层之比的 log10")),
        [*lines, Level(T("size kept", "大小不变"), y=0.0)],
        T(
            "Plain layers lose orders of magnitude with depth; with residuals the first layer's "
            "gradient does not vanish, it grows.",
            "普通层随深度损失若干数量级；有残差时首层梯度不消失，反而增大。",
        ),
    )
