"""3.2.15 SELU: constants that make mean 0 and variance 1 a fixed point, and what they ask for."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from inspect import signature
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.activations import SELU_ALPHA, SELU_SCALE, elu, relu, selu
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Heat, Lab, Line, Question, Routes, Sample, Settings, T,
    at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.calculus import value
from fathom.book.material.elu_moments import elu_moments, normal_moments
from fathom.book.material.signal import Signal, through
from fathom.book.material.speed import ratio
from fathom.nn import functional as F

question = Question(
    "3.2.15",
    alone=True,
    title=T("What is SELU and how does it self-normalize?", "SELU 是什么？它如何自归一化？"),
    difficulty=5,
    frequency=3,
    topics=("SELU", "self-normalizing", "alpha dropout", "LeCun initialization", "自归一化", "LeCun 初始化"),
    answer=T(
        "SELU is lambda times the ELU of alpha, with lambda 1.0507 and alpha 1.6733 solved from two "
        "equations: for a standard normal input the output has mean 0 and variance 1. That point "
        "attracts: a small mean or a wrong variance is pulled back from layer to layer, so no batch "
        "statistics are needed. The pull holds near the point only; at unit variance a mean of 0.5 "
        "is pushed further out, unless the weights of the next layer sum to 0 and take it away. It "
        "asks for weights of variance 1/n (LeCun normal; orthogonal ones do as well), since He's "
        "let the variance grow. Dropout must be alpha dropout, which sets to -1.758 and then "
        "rescales; the setting alone leaves mean -0.88. Skip connections and convolutions with "
        "ReLU habits break the premise.",
        "SELU 是 lambda 乘以参数为 alpha 的 ELU，lambda = 1.0507、alpha = 1.6733 由两个方程解出："
        "标准正态输入时，输出均值为 0、方差为 1。这个点是吸引的：小的均值偏移或不对的方差会被逐层拉回，因此不需要批统计量。"
        "但拉力只在该点附近成立：方差为 1 时，均值 0.5 会被推得更远，要靠下一层权重之和为零把它消去。"
        "权重方差必须为 1/n（LeCun 正态；正交初始化也行），He 初始化会使方差不断增大。"
        "随机失活必须用 alpha dropout：先置为 -1.758 再做仿射校正；只置值不校正，均值会变成 -0.88。"
        "跳跃连接以及沿用 ReLU 习惯的卷积网络会破坏这些前提。",
    ),
    flips=T(
        "Initialize with He's rule or put plain dropout between the layers, and the variance is no "
        "longer 1.",
        "改用 He 初始化或在层间加普通 dropout，方差就不再是 1。",
    ),
    analogy=T(
        "A marble in a shallow bowl: pushed a little, it rolls back; pushed over the rim, it is gone.",
        "浅碗里的弹珠：轻推会滚回来，推过碗沿就一去不返。",
    ),
    generative=T(
        "Transformers keep layer normalization: it holds for every input, SELU for normal ones only.",
        "Transformer 仍用层归一化：它对任何输入都有效，而 SELU 只对近似正态的输入有效。",
    ),
    classical=T(
        "On tabular data deep SELU networks were the first plain ones that rivalled forests.",
        "在表格数据上，深层 SELU 网络是最早能与随机森林抗衡的普通全连接网络。",
    ),
    driving=T(
        "No batch statistics means the same answer for one frame as for a batch.",
        "不依赖批统计量，意味着单帧与成批输入得到相同结果。",
    ),
    change=T(
        "Swap LeCun's initialization for He's: the variance after 50 layers rises from 1 to hundreds.",
        "把 LeCun 初始化换成 He：50 层之后方差从 1 升到数百。",
    ),
)  # fmt: skip

LOW = -SELU_SCALE * SELU_ALPHA


def selu_numpy(x: Any) -> Any:
    """SELU in NumPy."""
    left = SELU_ALPHA * np.expm1(np.minimum(x, 0.0))
    return SELU_SCALE * np.where(x > 0, x, left)


def selu_moments(mean: float, variance: float) -> tuple[float, float]:
    """(mean, variance) behind SELU, in closed form."""
    return elu_moments(mean, variance, alpha=SELU_ALPHA, scale=SELU_SCALE)


@once
def deep(lab: Lab, rule: str) -> list[Signal]:
    """Rows N(0, 1) through 50 SELU layers of 256, one signal a seed."""
    depth, width = lab.pick((50, 256), (50, 64))
    return [
        through(selu, np.random.default_rng(s), depth=depth, width=width, rule=rule, batch=128)
        for s in lab.seeds(8, 2)
    ]


@question.experiment(
    "C3.2.15-01",
    T("Deep SELU networks keep mean 0 and variance 1 without batch normalization.",
      "深层 SELU 网络不用批归一化也能保持均值 0、方差 1。"),
    within(-0.1, 0.1),
    weight=3,
)  # fmt: skip
def keeps(lab: Lab) -> Evidence:
    """Mean and variance behind the last of 50 layers of 256, LeCun's initial weights, N(0, 1)
    inputs; the variance may be 20 % off."""
    last = deep(lab, "lecun")
    return All({
        "mean": Sample([s.mean[-1] for s in last]),
        "variance": Check(Sample([s.std[-1] ** 2 for s in last]), within(0.8, 1.2)),
    })  # fmt: skip


@question.exact(
    "C3.2.15-02",
    T("SELU is lambda times the ELU of alpha.", "SELU 等于 lambda 乘以参数为 alpha 的 ELU。"),
    at_most(1e-12),
)
def scaled(lab: Lab) -> Evidence:
    """Largest difference on [-10, 10]: against the library's ELU and against NumPy."""
    x = np.linspace(-10, 10, 4001)
    ours = value(selu, x)
    return Routes({
        "ELU": float(np.abs(ours - SELU_SCALE * value(lambda t: elu(t, SELU_ALPHA), x)).max()),
        "NumPy": float(np.abs(ours - selu_numpy(x)).max()),
    })  # fmt: skip


@once
def forty_digits(lab: Lab) -> tuple[float, float]:
    """(alpha, lambda) from the moment equations in decimals of 40 digits; erf by its series, pi by
    Machin's formula."""
    with localcontext() as context:
        context.prec = 40
        two, half = Decimal(2), Decimal("0.5")

        def series(first: Decimal, step: Callable[[int, Decimal], Decimal]) -> Decimal:
            total, term, k = first, first, 0
            while abs(term) > Decimal("1e-45"):
                k += 1
                term = step(k, term)
                total += term / (2 * k + 1)
            return total

        def arctan_of_one_over(n: int) -> Decimal:
            return series(1 / Decimal(n), lambda k, t: -t / (n * n))

        pi = 4 * (4 * arctan_of_one_over(5) - arctan_of_one_over(239))

        def below(x: Decimal) -> Decimal:  # Phi(-x) = (1 - erf(x / sqrt 2)) / 2
            u = x / two.sqrt()
            erf = 2 / pi.sqrt() * series(u, lambda k, t: -t * u * u / k)
            return (1 - erf) * half

        one, double = half.exp() * below(Decimal(1)), two.exp() * below(two)
        alpha = 1 / ((2 * pi).sqrt() * (half - one))
        scale = 1 / (half + alpha * alpha * (double - 2 * one + half)).sqrt()
        return float(alpha), float(scale)


@question.exact(
    "C3.2.15-03",
    T("alpha = 1.6732619243836698.", "alpha = 1.6732619243836698。"),
    equals(1.6732619243836698, 5e-16),
    correction=T(
        "It is {n[40 digits]:.16f}: the printed number is wrong from the sixth decimal on.",
        "应为 {n[40 digits]:.16f}：印出的数从小数点后第六位起就错了。",
    ),
)
def alpha(lab: Lab) -> Evidence:
    """The moment equations in 40 digits, in floating point, and with quadrature (its mean at the
    printed alpha must be 0, else a Newton step corrects it)."""
    said = 1.6732619243836698
    left = normal_moments(lambda x: np.where(x > 0, 0.0, np.expm1(np.minimum(x, 0.0))))[0]
    newton = said - (normal_moments(lambda x: np.maximum(x, 0.0))[0] + said * left) / left
    return Routes({
        "40 digits": forty_digits(lab)[0], "floating point": SELU_ALPHA, "quadrature": newton
    })  # fmt: skip


@question.exact(
    "C3.2.15-04",
    T("lambda = 1.0507009873554805.", "lambda = 1.0507009873554805。"),
    equals(1.0507009873554805, 5e-16),
)
def scale(lab: Lab) -> Evidence:
    """The moment equations in decimals of 40 digits, and in floating point."""
    return Routes({"40 digits": forty_digits(lab)[1], "floating point": SELU_SCALE})


@question.exact(
    "C3.2.15-05",
    T("On the left SELU saturates at about -1.76.", "SELU 左侧饱和于约 -1.76。"),
    equals(-1.76, 0.005),
)
def saturates(lab: Lab) -> Evidence:
    """-lambda alpha, and the value at -40."""
    return Routes({"product": LOW, "value at -40": float(value(selu, -40.0))})


def moved(mean: float, variance: float, lab: Lab) -> All:
    """How far mean and variance move through SELU; by closed form and by quadrature."""
    exact, counted = selu_moments(mean, variance), normal_moments(selu_numpy, mean, variance)
    return All({
        "mean": Routes({"closed form": abs(exact[0] - mean), "quadrature": abs(counted[0] - mean)}),
        "variance": Routes({
            "closed form": abs(exact[1] - variance), "quadrature": abs(counted[1] - variance),
        }),
    })  # fmt: skip


@question.exact(
    "C3.2.15-06",
    T("A normal input keeps its mean and its variance, whatever they are.",
      "正态输入无论均值、方差是多少，经过 SELU 后都保持不变。"),
    at_most(0.05),
    correction=T(
        "Only (0, 1) is kept. Elsewhere SELU moves them: the variance 4 by "
        "{n[(0, 4)/variance/closed form]:.2f}, the mean -1 by {n[(-1, 1)/mean/closed form]:.2f}. "
        "That is the point: an identity would pull nothing back.",
        "只有 (0, 1) 保持不变。其他情形都会移动：方差 4 移动 {n[(0, 4)/variance/closed form]:.2f}，"
        "均值 -1 移动 {n[(-1, 1)/mean/closed form]:.2f}。这正是要点：若是恒等映射，就什么也拉不回来。",
    ),
    weight=2,
)  # fmt: skip
def identity(lab: Lab) -> Evidence:
    """Moves of mean and variance for inputs N(mean, variance); "keeps" is within 0.05."""
    at = [(0.0, 1.0), (-1.0, 1.0), (0.0, 0.5), (0.0, 4.0)]
    return Settings(
        T("(mean, variance) of the input", "输入的（均值，方差）"),
        {f"({m:g}, {v:g})": moved(m, v, lab) for m, v in at},
    )


def nearer(mean: float) -> Routes:
    """By how much the mean's size shrinks at variance 1."""
    exact, counted = selu_moments(mean, 1.0)[0], normal_moments(selu_numpy, mean, 1.0)[0]
    return Routes({
        "closed form": abs(mean) - abs(exact), "quadrature": abs(mean) - abs(counted)
    })  # fmt: skip


@question.exact(
    "C3.2.15-07",
    T("SELU pulls a positive mean towards 0.", "SELU 把正的均值拉向 0。"),
    at_least(1e-6),
    correction=T(
        "A small one: 0.1 shrinks by {n[0.1/closed form]:.4f}. Means of 0.5, 1 and 2 grow (they "
        "shrink by {n[0.5/closed form]:.3f}, {n[mean 1/closed form]:.3f}, {n[mean 2/closed form]:.3f}): "
        "lambda exceeds 1. What brings them back is the next layer's weights, whose sum is about 0.",
        "只对小的均值成立：0.1 缩小 {n[0.1/closed form]:.4f}。均值 0.5、1、2 的缩小量为 "
        "{n[0.5/closed form]:.3f}、{n[mean 1/closed form]:.3f}、{n[mean 2/closed form]:.3f}，即反而变大，"
        "因为 lambda 大于 1。真正把它拉回的是下一层总和约为 0 的权重。",
    ),
    weight=3,
)
def positive_mean(lab: Lab) -> Evidence:
    """|mean| before less |mean| behind SELU, variance 1."""
    return Settings(
        T("mean of the input", "输入均值"),
        {
            "0.1": nearer(0.1), "0.5": nearer(0.5), "mean 1": nearer(1.0), "mean 2": nearer(2.0),
        },
    )  # fmt: skip


@question.exact(
    "C3.2.15-08",
    T("SELU pulls a negative mean towards 0.", "SELU 把负的均值拉向 0。"),
    at_least(1e-6),
)
def negative_mean(lab: Lab) -> Evidence:
    """|mean| before less |mean| behind SELU, variance 1, for -0.1, -0.5, -1 and -2."""
    return All({f"{m:g}": nearer(m) for m in (-0.1, -0.5, -1.0, -2.0)})


@question.exact(
    "C3.2.15-09",
    T("A variance above 1 shrinks, one below 1 grows.", "大于 1 的方差缩小，小于 1 的方差增大。"),
    at_least(0.01),
)
def variances(lab: Lab) -> Evidence:
    """By how much the variance comes nearer to 1 at mean 0, for 0.25, 0.5, 1.5 and 4."""
    parts = {}
    for v in (0.25, 0.5, 1.5, 4.0):
        toward = math.copysign(1.0, 1 - v)
        parts[f"{v:g}, mean 0"] = Routes({
            "closed form": toward * (selu_moments(0.0, v)[1] - v),
            "quadrature": toward * (normal_moments(selu_numpy, 0.0, v)[1] - v),
        })  # fmt: skip
    return All(parts)


@question.exact(
    "C3.2.15-10",
    T("For a standard normal input the output has mean 0 and variance 1.",
      "标准正态输入时，输出均值为 0，方差为 1。"),
    at_most(1e-10),
)  # fmt: skip
def fixed_point(lab: Lab) -> Evidence:
    """Distance of mean from 0 and of variance from 1."""
    return moved(0.0, 1.0, lab)


@question.exact(
    "C3.2.15-11",
    T("At the fixed point the variance equals the second moment.", "在不动点处，方差等于二阶矩。"),
    at_most(1e-10),
)
def second_moment(lab: Lab) -> Evidence:
    """Difference of E f(z)^2, by quadrature of the square, and the variance in closed form."""
    square = normal_moments(lambda x: selu_numpy(x) ** 2)[0]
    return abs(square - selu_moments(0.0, 1.0)[1])


@question.exact(
    "C3.2.15-12",
    T("A deviation of 1/sqrt(784) is LeCun's normal initialization for 784 inputs.",
      "标准差 1/sqrt(784) 就是 784 个输入时的 LeCun 正态初始化。"),
    equals(1 / 28, 2e-4),
)  # fmt: skip
def lecun(lab: Lab) -> Evidence:
    """The formula, and the deviation of weights that `nn.init.lecun_normal_` fills."""
    layer = nn.Linear(784, 512)
    with fathom.seed(lab.seeds(1, 1)[0]):
        nn.init.lecun_normal_(layer.weight)
    return Routes({"formula": 784**-0.5, "filled": float(layer.weight.value().std())})


def by_mode(net: Any, x: Any) -> float:
    """Largest difference of a network's outputs in train and in eval mode."""
    with fathom.no_grad():
        train, evaluated = net.train()(x), net.eval()(x)
    return float((train - evaluated).abs().max())


@question.exact(
    "C3.2.15-13",
    T("SELU networks behave the same in training and at inference.",
      "SELU 网络在训练和推理时行为完全一致。"),
    at_most(1e-9),
    correction=T(
        "Without dropout, yes. With the alpha dropout made for it the outputs differ by up to "
        "{n[with alpha dropout]:.1f}.",
        "没有 dropout 时如此。加上专为它设计的 alpha dropout，输出最多相差 {n[with alpha dropout]:.1f}。",
    ),
    weight=2,
)  # fmt: skip
def modes(lab: Lab) -> Evidence:
    """Largest difference of the outputs of three SELU layers between the modes."""
    x = fathom.tensor(lab.rng("rows").standard_normal((64, 32)).astype(np.float32))

    def net(*between: nn.Module) -> nn.Sequential:
        return nn.Sequential(nn.Linear(32, 32), nn.SELU(), *between, nn.Linear(32, 8))

    with fathom.seed(lab.seeds(1, 1)[0]):
        return Settings(
            T("what stands between the layers", "层间的部件"),
            {
                "nothing": by_mode(net(), x),
                "with alpha dropout": by_mode(net(nn.AlphaDropout(0.1)), x),
            },
        )


def tasks(layer: Any, x: Any, training: bool, compiled: bool) -> Callable[[], Any]:
    """A forward pass at inference; forward and backward when training."""
    layer.train(training)
    if training:
        return lambda: layer(x).sum().backward()
    run = fathom.compile(layer) if compiled else layer
    at = x.detach()
    return lambda: run(at)


@once
def times(lab: Lab) -> dict[str, Sample]:
    """Time of SELU over that of batch norm and ReLU, rows (256, 256), one thread."""
    import torch

    torch.set_num_threads(1)
    rows = lab.rng("timed").standard_normal((256, 256)).astype(np.float32)
    x, y = fathom.tensor(rows, requires_grad=True), torch.tensor(rows, requires_grad=True)
    ours = nn.SELU(), nn.Sequential(nn.BatchNorm1d(256), nn.ReLU())
    theirs = torch.nn.SELU(), torch.nn.Sequential(torch.nn.BatchNorm1d(256), torch.nn.ReLU())
    found: dict[str, Sample] = {}
    rounds = lab.pick(30, 4)
    for mode in ("training", "inference"):
        training = mode == "training"
        with fathom.set_grad_enabled(training), torch.set_grad_enabled(training):
            for engine, pair, rows_ in (("Fathom", ours, x), ("PyTorch", theirs, y)):
                selu_run, norm_run = (
                    tasks(layer, rows_, training, engine == "Fathom") for layer in pair
                )
                found[f"{engine}, {mode}"] = ratio(selu_run, norm_run, rounds)
    maps = torch.randn((32, 64, 16, 16), generator=torch.Generator().manual_seed(0))
    maps.requires_grad_()
    pair = torch.nn.SELU(), torch.nn.Sequential(torch.nn.BatchNorm2d(64), torch.nn.ReLU())
    selu_run, norm_run = (tasks(layer, maps, True, False) for layer in pair)
    found["PyTorch, training, images"] = ratio(selu_run, norm_run, rounds)
    return found


@question.experiment(
    "C3.2.15-14",
    T("SELU is cheaper than batch normalization with ReLU.", "SELU 比批归一化加 ReLU 更便宜。"),
    at_most(0.95),
    correction=T(
        "When training, forward and back, it takes {n[PyTorch, training]:.2f} of their time in PyTorch "
        "({n[PyTorch, training, images]:.2f} on maps of images) and {n[Fathom, training]:.2f} in Fathom; at inference {n[PyTorch, inference]:.2f} and "
        "{n[Fathom, inference]:.2f}, since a frozen norm is a line, which can even be folded into "
        "the weights.",
        "训练时（前向加反向）用时之比：PyTorch {n[PyTorch, training]:.2f}（图像特征图上 {n[PyTorch, training, images]:.2f}），Fathom {n[Fathom, training]:.2f}；"
        "推理时为 {n[PyTorch, inference]:.2f} 和 {n[Fathom, inference]:.2f}，因为固定统计量的归一化只是线性变换，"
        "甚至可以并入权重。",
    ),
    needs=("torch",),
)  # fmt: skip
def cheaper(lab: Lab) -> Evidence:
    """Processor time of SELU over that of batch norm and ReLU, (256, 256) float32 and maps of 64 channels,
    one thread: forward and backward when training, forward at inference (compiled in Fathom). A
    setting must clear the edge by a tenth."""
    return Settings(T("engine and mode", "引擎与模式"), dict(times(lab)))


@once
def printed_dropout(lab: Lab) -> dict[str, tuple[float, float]]:
    """(mean, variance) of z ~ N(0, 1) with half of its entries set to -1.758: drawn, and exact."""
    rng = lab.rng("printed")
    z = rng.standard_normal(lab.pick(1_000_000, 100_000))
    kept = np.where(rng.random(z.size) < 0.5, z, LOW)
    mean = 0.5 * LOW
    return {
        "drawn": (float(kept.mean()), float(kept.var())),
        "closed form": (mean, 0.5 * (1 + LOW**2) - mean**2),
    }


@question.exact(
    "C3.2.15-15",
    T("Alpha dropout keeps an entry or sets it to -1.758 and does nothing else, which keeps mean 0 and "
      "variance 1.",
      "Alpha dropout 只是保留原值或置为 -1.758，仅此而已，就能保持均值 0、方差 1。"),
    within(-0.02, 0.02),
    correction=T(
        "That alone gives mean {n[mean/closed form]:.2f} and variance {n[variance/closed form]:.2f} at p = "
        "0.5. The affine step a x + b that follows restores 0 and 1 "
        "({n[mean with the affine step]:.3f}, {n[variance with the affine step]:.3f}).",
        "仅此一步，p = 0.5 时均值为 {n[mean/closed form]:.2f}，方差为 {n[variance/closed form]:.2f}。"
        "随后的仿射变换 a·x + b 才恢复到 0 和 1"
        "（{n[mean with the affine step]:.3f}、{n[variance with the affine step]:.3f}）。",
    ),
    weight=3,
)  # fmt: skip
def without_affine(lab: Lab) -> Evidence:
    """Mean and variance of the rule as said, drawn and in closed form; and of the library's."""
    found = printed_dropout(lab)
    z = lab.rng("whole").standard_normal(lab.pick(1_000_000, 100_000))
    with fathom.seed(lab.seeds(1, 1)[0]):
        whole = F.alpha_dropout(fathom.tensor(z), 0.5, True).value()
    return All({
        "mean": Routes({way: m for way, (m, _) in found.items()}),
        "variance": Check(Routes({way: v for way, (_, v) in found.items()}), within(0.98, 1.02)),
        "mean with the affine step": float(whole.mean()),
        "variance with the affine step": Check(float(whole.var()), within(0.98, 1.02)),
    })  # fmt: skip


@question.exact(
    "C3.2.15-16",
    T("Standard dropout breaks the normalization.", "普通 dropout 会破坏归一化。"),
    at_least(0.5),
    weight=2,
)
def plain_dropout(lab: Lab) -> Evidence:
    """Variance less 1 of N(0, 1) entries behind dropout of 0.5: drawn, and 1/(1 - p) - 1."""
    z = lab.rng("plain").standard_normal(lab.pick(400_000, 50_000))
    with fathom.seed(lab.seeds(1, 1)[0]):
        out = F.dropout(fathom.tensor(z), 0.5, True).value()
    return Routes({"drawn": float(out.var()) - 1, "closed form": 1 / (1 - 0.5) - 1})


@question.exact(
    "C3.2.15-17",
    T(
        "F.alpha_dropout(x, p=0.5) applies alpha dropout.",
        "F.alpha_dropout(x, p=0.5) 会施加 alpha dropout。",
    ),
    at_least(0.4),
    correction=T(
        "So called it changes {n[called]:.0%} of the entries: its `training` is False by default. Pass "
        "training=self.training, or use the layer AlphaDropout.",
        "这样调用只改变 {n[called]:.0%} 的元素：它的 training 参数默认为 False。应传入 "
        "training=self.training，或使用 AlphaDropout 层。",
    ),
    weight=4,
    needs=("torch",),
)
def as_called(lab: Lab) -> Evidence:
    """Share of entries that the call changes in PyTorch; and half of them where the default of
    `training` in its signature is true, else none."""
    import torch

    call = torch.nn.functional.alpha_dropout
    x = lab.rng("called").standard_normal(10_000)
    default = signature(call).parameters["training"].default
    return Routes({
        "called": float((call(torch.from_numpy(x), p=0.5).numpy() != x).mean()),
        "signature": 0.5 * bool(default),
    })  # fmt: skip


@question.experiment(
    "C3.2.15-18",
    T("LeCun's initialization is mandatory: with any other SELU fails.",
      "必须用 LeCun 初始化：换成别的 SELU 就失效。"),
    at_least(math.log(2.0)),
    correction=T(
        "What is needed is variance 1/n. He's rule is off by a factor e^{n[he]:.1f} after 50 layers; "
        "orthogonal weights (e^{n[orthogonal]:.2f}) and Xavier's on equal widths (e^{n[xavier]:.2f}) "
        "keep it.",
        "需要的是方差 1/n。He 初始化 50 层后偏离 e^{n[he]:.1f} 倍；正交初始化（e^{n[orthogonal]:.2f}）"
        "和等宽时的 Xavier（e^{n[xavier]:.2f}）都能保持。",
    ),
    weight=3,
)  # fmt: skip
def mandatory(lab: Lab) -> Evidence:
    """|log variance| behind 50 layers; "fails" is off by a factor of 2 or more."""
    return Settings(
        T("initial weights", "初始化"),
        {
            rule: Sample([abs(math.log(s.std[-1] ** 2)) for s in deep(lab, rule)])
            for rule in ("he", "xavier", "orthogonal")
        },
    )


@question.figure(T("Variance through 50 layers", "方差随 50 层的变化"))
def through_depth(lab: Lab) -> Figure:
    """SELU under two initializations, and ReLU under He's; geometric means over seeds and bands."""
    width = lab.pick(256, 64)
    others = [
        through(relu, np.random.default_rng(s), depth=50, width=width, rule="he", batch=128)
        for s in lab.seeds(8, 2)
    ]
    kinds = [
        (T("SELU, LeCun", "SELU，LeCun"), deep(lab, "lecun")),
        (T("SELU, He", "SELU，He"), deep(lab, "he")),
        (T("ReLU, He", "ReLU，He"), others),
    ]
    lines = []
    for name, signals in kinds:
        seen = [Sample(column) for column in np.log10([s.std**2 for s in signals]).T]
        lines.append(Line(name, range(1, 51), *(10 ** band(seen))))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("variance", "方差"), log=True),
        lines,
        T(
            "With LeCun's weights the variance of SELU stays at 1; with He's it rises to hundreds; "
            "ReLU wanders.",
            "LeCun 权重下 SELU 的方差保持在 1；He 权重下升到数百；ReLU 则随机漂移。",
        ),
    )


@question.figure(T("Where SELU pulls to", "SELU 把统计量拉向何处"))
def pull(lab: Lab) -> Figure:
    """Closed form: how the distance from (mean 0, variance 1) changes in one SELU."""
    means, variances_ = np.linspace(-1, 1, 41), np.linspace(0.2, 3, 41)
    change = []
    for v in variances_:
        row = []
        for m in means:
            a, b = selu_moments(float(m), float(v))
            row.append(math.hypot(a, b - 1) - math.hypot(m, v - 1))
        change.append(row)
    return Figure(
        Axis(T("mean before", "输入均值")),
        Axis(T("variance before", "输入方差")),
        [Heat(T("change of the distance", "距离的变化"), change, (-1, 1), (0.2, 3))],
        T(
            "Too large a variance is pulled back strongly; with a positive mean and a variance near 1 "
            "one pass pushes slightly away.",
            "方差过大时被强烈拉回；均值为正且方差接近 1 时，一次变换反而略微推远。",
        ),
    )
