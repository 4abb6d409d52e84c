"""3.1.6 Why it matters where the mean of an activation's output lies."""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.calculus import lowest, value
from fathom.book.material.data import digits
from fathom.book.material.gaussian import normal_mean
from fathom.doctor.probes.centring import bn_order, path_ratio, sign_agreement, sign_agreement_of

question = Question(
    "3.1.6",
    title=T(
        "Why does the distribution of an activation's output matter, and its centre above all?",
        "激活输出的分布，尤其是零中心，为什么重要？",
    ),
    difficulty=4,
    frequency=4,
    topics=(
        "zero-centering",
        "conditioning",
        "batch normalization",
        "zigzag",
        "零中心",
        "条件数",
        "批归一化",
    ),
    answer=T(
        "The gradient of a unit's weights is its error times its inputs. If all inputs are "
        "positive, then for a single row all entries have the sign of the error, and weights that "
        "must move in opposite directions are reached by zigzag only. Over a batch the errors have "
        "both signs: with ReLU inputs the effect on signs fades, with sigmoid inputs the common "
        "mean keeps much of it. It is a matter of conditioning: a common mean adds one large "
        "eigenvalue to the second moment of the inputs, and gradient descent needs steps in "
        "proportion to the condition number, about 12 for two sigmoid inputs, 1 for tanh. Of the "
        "usual activations only tanh is centred: for normal inputs the means are 0.5 for sigmoid, "
        "0.40 for ReLU, 0.28 for GELU, 0.21 for Swish. Batch normalization centres what it puts "
        "out: before the activation that is the input, so that ReLU's output still has mean 0.40; "
        "behind the activation it is the output. With normalization and Adam the question has lost "
        "most of its weight.",
        "一个单元的权重梯度等于误差乘以输入。若输入全为正，那么对单个样本，梯度各分量都与误差同号；"
        "需要向相反方向移动的权重就只能走之字形。一批样本的误差有正有负：ReLU 输入下同号现象消退，"
        "sigmoid 输入下共同的均值仍保留大半。本质是条件数：共同的均值给输入的二阶矩添上一个大特征"
        "值，梯度下降所需步数与条件数成正比，两个 sigmoid 输入约为 12，tanh 为 1。常用激活中只有 "
        "tanh 是零中心的：正态输入下，sigmoid 的均值是 0.5，ReLU 0.40，GELU 0.28，Swish 0.21。批归"
        "一化只把自己的输出居中：放在激活之前，居中的是激活的输入，ReLU 的输出均值仍是 0.40；放在激"
        "活之后，居中的才是激活的输出。有了归一化和 Adam，这个问题已不那么要紧。",
    ),
    flips=T(
        "In large batches, with normalization or an adaptive optimizer, the offset hardly slows "
        "training: ReLU, far from centred, became the standard.",
        "在大批量、有归一化或自适应优化器时，均值偏移几乎不拖慢训练：远非零中心的 ReLU 反而成了标"
        "准。",
    ),
    analogy=T(
        "A car whose wheels can only be turned left or right together with the speed: going "
        "straight to the goal means tacking.",
        "一辆车，方向只能与油门绑在一起调：想直奔目标，只好左右折行。",
    ),
    generative=T(
        "RMSNorm does not even centre, and large language models train with it: scale matters more "
        "than the mean.",
        "RMSNorm 甚至不做居中，大语言模型照样能训练：尺度比均值更重要。",
    ),
    classical=T(
        "Standardizing features before a linear model is the same medicine: it improves the "
        "condition number.",
        "线性模型之前的特征标准化是同一味药：改善条件数。",
    ),
    driving=T(
        "Camera pixels from 0 to 255 are all positive: subtract the mean before the first layer.",
        "相机像素取值 0 到 255，全为正：进入第一层之前要先减均值。",
    ),
    change=T(
        "Raise the batch from 1 to 256, or take the mean off the inputs: the agreement of signs "
        "and the extra steps vanish.",
        "把批量从 1 增到 256，或减去输入的均值：同号现象与多出的步数都消失。",
    ),
)


def mean_of(name: str) -> Routes:
    """E f(z), z ~ N(0, 1), by quadrature and by the audit."""
    f = getattr(activations, name)
    return Routes({
        "quadrature": normal_mean(lambda z: value(f, z)),
        "audit": float(getattr(activations.audit(name, timing=False), "mean", np.nan)),
    })  # fmt: skip


@question.exact(
    "C3.1.6-01",
    T(
        "With centred inputs the mean output is 0.5 for sigmoid, 0 for tanh, above 0 for ReLU and "
        "Leaky ReLU.",
        "输入零中心时，平均输出：sigmoid 0.5，tanh 0，ReLU 与 Leaky ReLU 大于 0。",
    ),
    at_least(0.05),
)
def mean_outputs(lab: Lab) -> Evidence:
    """E f(z), z ~ N(0, 1), by quadrature and by the audit; above 0 is taken as 0.05 or more."""
    return All({
        "sigmoid": Check(mean_of("sigmoid"), equals(0.5, 1e-6)),
        "tanh": Check(mean_of("tanh"), equals(0.0, 1e-6)),
        "ReLU": mean_of("relu"),
        "Leaky ReLU": mean_of("leaky_relu"),
    })  # fmt: skip


@question.exact(
    "C3.1.6-02",
    T(
        "GELU is practically zero-centred; its values start at -0.17.",
        "GELU 基本零中心；取值从 -0.17 开始。",
    ),
    within(-0.05, 0.05),
    correction=T(
        "The lowest value is {n[lowest value]:.3f}, that is right; but the mean for normal inputs "
        "is {n[mean/closed form]:.3f}, not near 0.",
        "最小值 {n[lowest value]:.3f} 没错；但正态输入下均值是 {n[mean/closed form]:.3f}，并不接近 "
        "0。",
    ),
    weight=2,
)
def gelu_centre(lab: Lab) -> Evidence:
    """E GELU(z), z ~ N(0, 1), by closed form, quadrature and the audit: practically 0 is within
    0.05; and the lowest value, to half a unit of its last digit."""
    return All({
        "mean": Routes({"closed form": 1 / (2 * sqrt(pi)), **mean_of("gelu")}),
        "lowest value": Check(
            lowest(lambda z: value(activations.gelu, z), -8.0, 8.0)[1], equals(-0.17, 0.005)
        ),
    })  # fmt: skip


SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@once
def signs(lab: Lab, name: str) -> Any:
    """(seeds, sizes): share of units whose gradient entries all have one sign, noise as errors."""
    f = getattr(activations, name)
    found = []
    for seed in lab.seeds(10, 4):
        a = value(f, np.random.default_rng(seed).standard_normal((1000, 20)))
        shares = sign_agreement(a, sizes=SIZES, repeats=lab.pick(30, 10), seed=seed).by_batch()
        found.append([shares[size] for size in SIZES])
    return np.array(found)


@once
def in_a_net(lab: Lab, batch: int) -> Any:
    """The same share in the second layer of a sigmoid net on the digits, one a seed."""
    parts, found = digits(), []
    for seed in lab.seeds(12, 6):
        with fathom.seed(seed):
            net = fathom.models.mlp(64, 10, (20, 20), "sigmoid")
        seen = sign_agreement_of(
            net, "auto", parts.x[:400], parts.y[:400], sizes=(batch,), repeats=10, seed=seed
        )
        found.append(seen.by_batch("2")[batch])
    return np.array(found)


@question.experiment(
    "C3.1.6-03",
    T(
        "With positive inputs all weights of a unit must move in the same direction.",
        "输入全为正时，同一神经元的所有权重必须朝同一方向移动。",
    ),
    at_least(0.99),
    correction=T(
        "For a single row, yes. For a batch the sum over rows decides: of the units in a sigmoid "
        "net {n[256/a net on digits]:.0%} move all weights one way in batches of 256, with random "
        "errors {n[256/random errors]:.0%}.",
        "对单个样本成立。对一批样本取决于各行之和：批量 256 时，sigmoid 网络中只有 "
        "{n[256/a net on digits]:.0%} 的单元所有权重同向移动，误差随机时只有 "
        "{n[256/random errors]:.0%}。",
    ),
    weight=3,
)
def one_direction(lab: Lab) -> Evidence:
    """Share of units whose weight gradients all have one sign, sigmoid activations as inputs: with
    random errors, and with those of an untrained net on the digits."""
    at = {
        str(size): Routes({
            "random errors": Sample(signs(lab, "sigmoid")[:, SIZES.index(size)]),
            "a net on digits": Sample(in_a_net(lab, size)),
        })
        for size in (1, 256)
    }  # fmt: skip
    return Settings(T("batch size", "批量大小"), at)


def steps_alone(a: Any, rate: float, rng: np.random.Generator, limit: int = 4000) -> int:
    """Single-row steps of least squares from 0 until w is within 0.05 of (1, -1)."""
    goal = np.array([1.0, -1.0])
    w = np.zeros(2)
    for step, i in enumerate(rng.integers(0, len(a), limit), 1):
        w = w - rate * float(a[i] @ (w - goal)) * a[i]
        if np.abs(w - goal).max() < 0.05:
            return step
    return limit


RATES = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)


@once
def journeys(lab: Lab) -> Any:
    """(seeds, 4): steps of full gradient descent and of single rows, sigmoid inputs as they are and
    with the mean taken off; each with the best rate of a list."""
    found = []
    for seed in lab.seeds(10, 4):
        rng = np.random.default_rng(seed)
        a = 1.0 / (1.0 + np.exp(-rng.standard_normal((400, 2))))
        full = path_ratio(a, [1.0, -1.0])
        alone = [
            min(
                np.mean([steps_alone(rows, r, np.random.default_rng(k)) for k in range(3)])
                for r in RATES
            )
            for rows in (a, a - a.mean(axis=0))
        ]
        found.append([full.steps, full.centred_steps, *alone])
    return np.array(found)


@question.experiment(
    "C3.1.6-04",
    T(
        "Inputs off the centre force a zigzag and slow convergence.",
        "非零中心的输入导致之字形路径，收敛更慢。",
    ),
    at_least(2.0),
    weight=3,
)
def zigzag(lab: Lab) -> Evidence:
    """A linear unit with two sigmoid inputs learns w* = (1, -1): steps needed over those with the
    mean taken off. Full gradient descent with the best rate, and steps on single rows with the best
    of ten rates. Slower is twice as many or more."""
    full, centred, alone, alone_centred = journeys(lab).T
    return All({
        "full gradient": Sample(full / centred), "single rows": Sample(alone / alone_centred),
    })  # fmt: skip


@question.experiment(
    "C3.1.6-05",
    T(
        "With ReLU inputs all entries of w must increase together or decrease together.",
        "输入来自 ReLU 时，w 的各维必须同时增大或同时减小。",
    ),
    at_least(0.99),
    correction=T(
        "Even for a single row only those with a positive input move, {n[1/entries that move]:.0%} "
        "of them; none goes the other way ({n[1/no two opposed]:.0%} of the units). In batches of "
        "64 {n[64/no two opposed]:.0%} of the units have no opposed entries.",
        "即使对单个样本，也只有输入为正的维会动，占 {n[1/entries that move]:.0%}；没有反向的（"
        "{n[1/no two opposed]:.0%} 的单元如此）。批量 64 时只有 {n[64/no two opposed]:.0%} 的单元没"
        "有反向分量。",
    ),
    weight=2,
)
def together(lab: Lab) -> Evidence:
    """Share of units whose weight gradients have no two entries of opposite sign (an input of 0
    counts with either), inputs ReLU(z), random errors; beside it the share of entries that are not
    0."""

    def at(size: int) -> All:
        moving = []
        for seed in lab.seeds(10, 4):
            a = np.maximum(np.random.default_rng(seed).standard_normal((100, size, 20)), 0.0)
            moving.append(float((a.sum(axis=1) > 0).mean()))
        return All({
            "no two opposed": Sample(signs(lab, "relu")[:, SIZES.index(size)]),
            "entries that move": Check(Sample(moving), at_least(0.4)),
        })  # fmt: skip

    return Settings(T("batch size", "批量大小"), {"1": at(1), "64": at(64)})


def relu_with_norm(rng: np.random.Generator, behind: bool) -> Routes:
    """Mean of what the next layer gets, batch norm behind ReLU or before it: library and NumPy."""
    x = rng.standard_normal((2000, 16)).astype(np.float32)
    found = bn_order(x, seed=1)
    z = x @ rng.standard_normal((16, 64)) / 4.0

    def norm(v: Any) -> Any:
        return (v - v.mean(axis=0)) / v.std(axis=0)

    by_hand = norm(np.maximum(z, 0.0)) if behind else np.maximum(norm(z), 0.0)
    return Routes({
        "library": abs(found.behind_mean if behind else found.before_mean),
        "NumPy": abs(float(by_hand.mean())),
    })  # fmt: skip


@question.exact(
    "C3.1.6-06",
    T(
        "Batch normalization makes the output of the activation zero-centred.",
        "批归一化使激活的输出零中心。",
    ),
    within(-0.01, 0.01),
    correction=T(
        "Only behind it. In the usual order (linear, norm, ReLU) the output's mean is "
        "{n[before ReLU/library]:.3f}; behind ReLU it is {n[behind ReLU/library]:.0e}.",
        "仅当放在激活之后。按通常顺序（线性、归一化、ReLU），输出均值是 "
        "{n[before ReLU/library]:.3f}；放在 ReLU 之后是 {n[behind ReLU/library]:.0e}。",
    ),
    weight=3,
)
def norm_and_relu(lab: Lab) -> Evidence:
    """|mean| of what the next layer gets on 2,000 normal rows, 64 units; layers of the library, and
    the same computed in NumPy with other weights."""
    rng = lab.rng("rows")
    return Settings(T("place of the norm", "归一化的位置"), {
        "before ReLU": relu_with_norm(rng, False), "behind ReLU": relu_with_norm(rng, True),
    })  # fmt: skip


@question.exact(
    "C3.1.6-07",
    T("The mean output of GELU is about -0.17.", "GELU 的平均输出约为 -0.17。"),
    equals(-0.17, 0.005),
    correction=T(
        "It is {n[closed form]:.3f} for normal inputs. -0.17 is GELU's lowest value, reached at "
        "-0.75.",
        "正态输入下是 {n[closed form]:.3f}。-0.17 是 GELU 的最小值，在 -0.75 处取得。",
    ),
    weight=2,
)
def mean_of_gelu(lab: Lab) -> Evidence:
    """E GELU(z), z ~ N(0, 1): 1 / (2 sqrt(pi)), by quadrature, and by the audit."""
    return Routes({"closed form": 1 / (2 * sqrt(pi)), **mean_of("gelu")})


@question.reference(
    "C3.1.6-08",
    T(
        "In a Transformer the layer norm stands right before the activation.",
        "Transformer 中层归一化紧接在激活之前。",
    ),
    correction=T(
        "It stands around the whole block: behind the residual sum in the first Transformer, "
        "before the block's first linear layer in pre-norm ones. Between norm and activation lies "
        "a linear layer.",
        "它位于整个子层的边界：原始 Transformer 放在残差相加之后，pre-norm 放在子层的第一个线性层之"
        "前。归一化与激活之间隔着一个线性层。",
    ),
    weight=2,
)
def where_the_norm_stands(lab: Lab) -> Evidence:
    """The architectures as published: what stands right before the activation of the feed-forward
    block."""
    return Published(
        "linear layer",
        (
            Source("Vaswani et al., Attention Is All You Need, section 3.3", 2017, 0.98),
            Source("Xiong et al., On Layer Normalization in the Transformer", 2020, 0.95),
            Source("Radford et al., GPT-2, released code (norm, c_fc, gelu)", 2019, 0.98),
        ),
        expected="layer norm",
    )  # fmt: skip


@question.experiment(
    "C3.1.6-09",
    T("Large batches relieve the problem of equal signs.", "大批量能缓解同号问题。"),
    at_least(0.3),
    correction=T(
        "It depends on what comes in. From batch 1 to batch 256 the share of units with one sign "
        "falls by {n[ReLU inputs, random errors]:.0%} with ReLU inputs and by "
        "{n[sigmoid inputs, random errors]:.0%} with sigmoid inputs if the errors are random, but "
        "by {n[a sigmoid net on digits]:.0%} only in a sigmoid net on the digits, where the common "
        "mean of the inputs rules the sum.",
        "取决于输入。批量从 1 增到 256，同号单元的比例：误差随机时，ReLU 输入下降 "
        "{n[ReLU inputs, random errors]:.0%}，sigmoid 输入下降 "
        "{n[sigmoid inputs, random errors]:.0%}；而在手写数字上的 sigmoid 网络中只下降 "
        "{n[a sigmoid net on digits]:.0%}，因为输入的共同均值支配了求和。",
    ),
    weight=2,
)
def large_batches(lab: Lab) -> Evidence:
    """Share of units with all entries of one sign, batch 1 less batch 256, on the same seeds. To
    relieve is taken as 0.3 or more."""

    def fall(name: str) -> Sample:
        return Sample(signs(lab, name)[:, 0] - signs(lab, name)[:, -1])

    return Settings(T("inputs and errors", "输入与误差"), {
        "ReLU inputs, random errors": fall("relu"),
        "sigmoid inputs, random errors": fall("sigmoid"),
        "a sigmoid net on digits": Sample(in_a_net(lab, 1) - in_a_net(lab, 256)),
    })  # fmt: skip


@question.figure(T("Equal signs against the batch size", "同号比例随批量的变化"))
def agreement(lab: Lab) -> Figure:
    """Share of units whose 20 weight gradients have no two opposed entries."""
    lines = []
    for name, shown in (
        ("sigmoid", "sigmoid"),
        ("relu", "ReLU"),
        ("gelu", "GELU"),
        ("tanh", "tanh"),
    ):
        at = [Sample(column) for column in signs(lab, name).T]
        lines.append(Line(T(shown, shown), SIZES, *band(at)))
    return Figure(
        Axis(T("batch size", "批量大小"), log=True),
        Axis(T("units with one sign", "梯度同号的单元比例")),
        lines,
        T(
            "In single rows sigmoid and ReLU inputs push all weights one way; in batches errors of "
            "both signs part them, sooner for ReLU with its zeros. Tanh inputs never do it.",
            "单个样本时，sigmoid 与 ReLU 输入把所有权重推向同一方向；批量增大后正负误差使其分开，带"
            "零的 ReLU 更早。tanh 输入从不如此。",
        ),
    )


@question.figure(T("Steps to learn weights of both signs", "学会一正一负的权重所需步数"))
def steps_needed(lab: Lab) -> Figure:
    """Steps to (1, -1) for full gradient descent and for single rows, inputs raw and centred."""
    at = [Sample(column) for column in journeys(lab).T]
    bars = []
    for name, pick in (
        (T("as they are", "原样"), (0, 2)),
        (T("mean taken off", "减去均值"), (1, 3)),
    ):
        chosen = [at[i] for i in pick]
        bars.append(Bars(name, *band(chosen)))
    return Figure(
        Axis(T("method", "方法"), ticks=[
            T("full gradient", "全批梯度"), T("single rows", "单样本"),
        ]),
        Axis(T("steps", "步数"), log=True),
        bars,
        T(
            "With sigmoid inputs as they are, both methods need many times the steps that centred "
            "inputs need.",
            "sigmoid 输入不居中时，两种方法所需步数都是居中后的许多倍。",
        ),
    )  # fmt: skip
