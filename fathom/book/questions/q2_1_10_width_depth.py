"""2.1.10 What width and what depth do for what a network can represent."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, equals, once, true, within,
)  # fmt: skip
from fathom.book.material.stacks import parameters, stack, width_for
from fathom.book.statistics import slope
from fathom.models import mlp, parity_network, relu_interpolant, sawtooth_square, tent_map
from fathom.models.constructions import count_linear_pieces, hidden_units
from fathom.nn import Linear, Sequential
from fathom.nn.cost import conv_cost, linear_cost
from fathom.train import train_many

question = Question(
    "2.1.10",
    title=T(
        "How do width and depth change what a network can represent?",
        "宽度与深度如何改变网络的表达能力？",
    ),
    difficulty=4,
    frequency=4,
    topics=("width", "depth", "Telgarsky", "parity", "linear pieces", "宽度", "深度", "表达能力", "奇偶校验"),
    answer=T(
        "Width adds features side by side, depth composes them. One hidden layer of m ReLU units "
        "on a line has at most m + 1 straight pieces, while k layers of 2 units can have 2^k: that "
        "is Telgarsky's tent map, and the reason why depth can save exponentially many units. The "
        "saving exists for functions that are compositions; for sums of simple parts width does "
        "better at the same budget. Two examples often told are wrong for threshold or ReLU "
        "units: n bits of parity need one hidden layer of n units, not 2^n, and x^d on [0, 1] "
        "needs about 16 units for an error of 0.001 whatever d is. The exponential bounds hold "
        "for other circuits: OR of ANDs, or products of d different variables. Being able to "
        "represent is not the same as being easy to train, which speaks for moderate depth and "
        "for shortcuts.",
        "宽度把特征并排叠加，深度把特征逐层复合。在一条直线上，m 个 ReLU 单元的单隐层最多有 m + 1 "
        "段折线，而 k 层、每层 2 个单元可以有 2^k 段：这就是 Telgarsky 的帐篷映射，也是深度能指数级"
        "节省单元的原因。这种节省只存在于复合型函数；对简单部分之和，同等预算下宽度更好。两个常被"
        "引用的例子对阈值或 ReLU 单元并不成立：n 位奇偶校验只需 n 个单元的单隐层，而非 2^n；"
        "[0, 1] 上的 x^d 在误差 0.001 下只需约 16 个单元，与 d 无关。指数下界针对的是别的电路："
        "与或式，或 d 个不同变量的乘积。能表示不等于好训练，所以实践中取适中的深度并加捷径连接。",
    ),
    flips=T(
        "If the target is a sum of simple parts, or the deep net cannot be trained, width wins.",
        "如果目标函数是简单部分之和，或深网络训练不动，则宽度更好。",
    ),
    analogy=T(
        "Fold a sheet k times and one cut makes 2^k holes; without folding each hole needs its own cut.",
        "把纸对折 k 次，一剪刀就是 2^k 个洞；不折叠，每个洞都要单独剪一次。",
    ),
    generative=T(
        "Language models grow both: GPT-3 has 96 blocks of width 12,288.",
        "语言模型两者都加大：GPT-3 有 96 个宽 12288 的块。",
    ),
    classical=T(
        "Wide ResNets match residual nets of a thousand layers with 16 to 28.",
        "Wide ResNet 用 16 到 28 层就能匹敌上千层的残差网络。",
    ),
    driving=T(
        "On board, depth costs latency (layers wait for each other), width costs memory.",
        "车载部署中，深度增加时延（层与层须依次等待），宽度增加内存。",
    ),
    change=T(
        "Replace the composed target by a sum over the inputs: the advantage of depth goes away.",
        "把复合型目标换成各输入函数之和：深度的优势消失。",
    ),
)  # fmt: skip

FOLDS = 8
ERROR = 1e-3
BITS = 16


@question.exact(
    "C2.1.10-01",
    T(
        "A network of layers 4-6-5-4-1 has width 6 and depth 4.",
        "层宽为 4-6-5-4-1 的网络，宽度为 6，深度为 4。",
    ),
    true(),
)
def drawn(lab: Lab) -> Evidence:
    """Counted on the built network: layers with weights, and the widest hidden one."""
    widths = [
        m.out_features for m in mlp(4, 1, hidden=(6, 5, 4)).modules() if isinstance(m, Linear)
    ]
    return All({
        "width": Check(max(widths[:-1]), equals(6)),
        "depth": Check(len(widths), equals(4)),
    })  # fmt: skip


# -- trained at an equal budget ------------------------------------------------------------------

BUDGET, INPUTS = 1500, 4
TARGETS = {
    "composed": T("composition", "复合"),
    "sum": T("sum", "求和"),
    "product": T("product", "乘积"),
    "shallow net": T("a wide shallow net", "宽浅网络"),
}


def target(kind: str, x: Any, rng: np.random.Generator) -> Any:
    """A function on [-1, 1]^4, standardized."""
    if kind == "composed":

        def pair(a: Any, b: Any) -> Any:
            return np.sin(np.pi * (a + b * a))

        y = pair(pair(x[:, 0], x[:, 1]), pair(x[:, 2], x[:, 3]))
    elif kind == "sum":
        y = np.sin(np.pi * x).sum(axis=1)
    elif kind == "product":
        y = x.prod(axis=1)
    else:
        w, b, v = (
            rng.standard_normal((INPUTS, 50)),
            rng.standard_normal(50),
            rng.choice([-1, 1], 50),
        )
        y = np.maximum(2 * x @ w + b, 0.0) @ v
    return (y - y.mean()) / y.std()


@once
def budgets(lab: Lab, kind: str) -> dict[int, Any]:
    """Test errors of equal-budget nets by depth, one a seed; the same data for all depths."""
    rng = lab.rng("target " + kind)
    x = rng.uniform(-1, 1, (3000, INPUTS)).astype(np.float32)
    y = target(kind, x, rng).astype(np.float32)[:, None]
    found = {}
    seeds = lab.seeds(60 if kind == "composed" else 10, 3)  # near the edge of the region: more
    for depth in lab.pick((1, 2, 3, 4), (1, 3)):
        width = width_for(BUDGET, INPUTS, 1, depth)
        spec = {
            "model": lambda w=width, d=depth: stack(INPUTS, 1, w, d), "loss": "mse",
            "optimizer": "adam", "lr": 3e-3, "epochs": lab.pick(100, 8), "batch_size": 50,
        }  # fmt: skip
        fleet = train_many(spec, x[:2000], y[:2000], seeds=seeds, threads=1)
        found[depth] = fleet.evaluate(x[2000:], y[2000:])["loss"]
    return found


@question.experiment(
    "C2.1.10-02",
    T(
        "At equal parameters depth usually serves complex functions better than width.",
        "参数量相同时，对复杂函数深度通常比宽度更有效。",
    ),
    at_least(0.05),
    correction=T(
        "It depends on the target. Error of one hidden layer over that of three, as a power of ten: "
        "{n[composed]:.2f} for a composition, {n[sum]:.2f} for a sum of sines, {n[product]:.2f} for "
        "a product, {n[shallow net]:.2f} for a wide shallow net.",
        "取决于目标函数。单隐层误差与三隐层误差之比（以 10 为底的对数）：复合函数 {n[composed]:.2f}，"
        "正弦之和 {n[sum]:.2f}，乘积 {n[product]:.2f}，宽浅网络 {n[shallow net]:.2f}。",
    ),
    weight=4,
)
def equal_budget(lab: Lab) -> Evidence:
    """log10 of the test error of 1 hidden layer over that of 3, about 1,500 parameters each.

    Four targets of four inputs, the same 2,000 rows, paired by seed; at least 0.05 is an error
    lower by a tenth.
    """
    found = {}
    for kind in TARGETS:
        errors = budgets(lab, kind)
        found[kind] = Sample(np.log10(errors[1] / errors[3]))
    return Settings(T("target", "目标函数"), found)


# -- parity and powers ---------------------------------------------------------------------------


def polygon_parity(n: int) -> Sequential:
    """Parity by one hidden layer of n ReLU units: the zigzag 0, 1, 0, 1, ... of the sum of bits."""
    zigzag = relu_interpolant(lambda s: s % 2, np.arange(n + 1.0))
    net = Sequential(Linear(n, n).double(), zigzag[1], zigzag[2])
    net[0].weight.data[...] = np.repeat(zigzag[0].weight.value(), n, axis=1)
    net[0].bias.data[...] = zigzag[0].bias.value()
    return net


def parity_parameters(net: Any, bits: int) -> float:
    """Parameters of a net that is right on all inputs; infinite if it is wrong on one."""
    rows = (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1
    with fathom.no_grad():
        said = net(fathom.tensor(rows.astype(np.float64))).value()[:, 0]
    right = np.array_equal(np.round(said), rows.sum(axis=1) % 2)
    return float(parameters(net)) if right else float("inf")


@question.exact(
    "C2.1.10-03",
    T(
        "Parity of n bits needs about 2^n parameters in one hidden layer, about n^2 in a deep net.",
        "n 位奇偶校验用单隐层约需 2^n 个参数，用深网络约需 n^2 个。",
    ),
    at_least(2**BITS),
    correction=T(
        "One hidden layer of n units does it: {n[one hidden layer/threshold units]:.0f} parameters "
        "for 16 bits, right on all 65,536 inputs. 2^(n-1) terms are needed by an OR of ANDs.",
        "n 个单元的单隐层就够：16 位只需 {n[one hidden layer/threshold units]:.0f} 个参数，在全部 65536 "
        "个输入上都正确。需要 2^(n-1) 项的是“与或式”电路。",
    ),
    weight=3,
)
def parity(lab: Lab) -> Evidence:
    """Parameters of nets that are right on all inputs of 16 bits (10 when quick), against 2^16.

    One hidden layer in two ways: threshold units that count, ReLU units that make a zigzag of the
    sum. The deep one is a tree of XORs, at most n^2 parameters for each of its log2 n levels.
    """
    bits = lab.pick(BITS, 10)
    scale = 2.0 ** (BITS - bits)
    deep = parity_parameters(parity_network(bits, "tree"), bits)
    return All({
        "one hidden layer": Routes({
            "threshold units": scale * parity_parameters(parity_network(bits), bits),
            "ReLU units": scale * parity_parameters(polygon_parity(bits), bits),
        }),
        "deep, over n^2 log2 n": Check(deep / (bits**2 * np.log2(bits)), at_most(1.0)),
    })  # fmt: skip


def pieces_needed(d: int, error: float = ERROR) -> list[float]:
    """Knots of the fewest chords, shifted by half their gap, that stay within `error` of x^d."""
    knots = [0.0]
    while knots[-1] < 1.0:
        a, low, high = knots[-1], knots[-1], 1.0
        if chord_gap(d, a, 1.0) <= 2 * error:
            low = 1.0
        for _ in range(60 if low < 1.0 else 0):
            middle = (low + high) / 2
            low, high = (middle, high) if chord_gap(d, a, middle) <= 2 * error else (low, middle)
        knots.append(low)
    return knots


def chord_gap(d: int, a: float, b: float) -> float:
    """How far x^d lies below its chord from a to b, at most."""
    rise = (b**d - a**d) / (b - a)
    x = (rise / d) ** (1 / (d - 1))
    return float(a**d + rise * (x - a) - x**d)


def units_at_least(d: int, error: float = ERROR) -> float:
    """The integral of sqrt(f'' / 16 error): how many pieces of best length, for small errors."""
    return float(np.sqrt((d - 1) / d / error) / 2)


@question.exact(
    "C2.1.10-04",
    T(
        "To approximate x^d one hidden layer needs a number of neurons that grows like 2^d.",
        "用单隐层逼近 x^d 所需的神经元数按 2^d 增长。",
    ),
    at_least(0.5),
    correction=T(
        "The number hardly grows: by 2^({n[greedy pieces]:.3f} d); about 16 units suffice on [0, 1] "
        "at an error of 0.001. 2^d is for the product of d different variables.",
        "几乎不增长：按 2^({n[greedy pieces]:.3f} d)；[0, 1] 上误差 0.001 约 16 个单元即可。2^d 说的是 d 个"
        "不同变量的乘积。",
    ),
    weight=3,
)
def powers(lab: Lab) -> Evidence:
    """Doublings of the number of units for each 1 added to d, from d = 4 to 16, error 0.001.

    By the fewest pieces, found greedily from left to right, and by the integral of sqrt(f'').
    O(2^d) is read as growth, since it is set against the O(d) of a deep net: 2^d means 1 doubling
    for each; half a doubling would already count.
    """
    greedy = [len(pieces_needed(d)) - 1 for d in (4, 16)]
    formula = [units_at_least(d) for d in (4, 16)]
    return Routes({
        "greedy pieces": float(np.log2(greedy[1] / greedy[0])) / 12,
        "integral": float(np.log2(formula[1] / formula[0])) / 12,
    })  # fmt: skip


def power_network(d: int, m: int) -> Sequential:
    """x^d for d = 2, 4, 8 ...: squaring gadgets of m layers, one behind the other."""
    return Sequential(*[sawtooth_square(m) for _ in range(int(np.log2(d)))])


@question.exact(
    "C2.1.10-05",
    T("A deep network approximates x^d with O(d) neurons.", "深网络用 O(d) 个神经元即可逼近 x^d。"),
    at_most(1.0),
    weight=2,
)
def repeated_squaring(lab: Lab) -> Evidence:
    """Repeated squaring with Yarotsky's gadgets: growth exponent of units over d = 2 to 32.

    m is the smallest for which the largest error on 2,001 points is 0.001 or less.
    """
    x = np.linspace(0, 1, 2001)
    degrees, units, errors = [2, 4, 8, 16, 32], [], []
    for d in degrees:
        for m in range(1, 12):
            net = power_network(d, m)
            error = np.abs(net(fathom.tensor(x[:, None])).value()[:, 0] - x**d).max()
            if error <= ERROR:
                break
        units.append(hidden_units(sawtooth_square(m)) * int(np.log2(d)))
        errors.append(float(error))
    return All({
        "exponent": slope(np.log(degrees), np.log(units)),
        "largest error": Check(max(errors), at_most(ERROR)),
    })  # fmt: skip


# -- tents ---------------------------------------------------------------------------------------


def wide_tents(folds: int, layers: int) -> Sequential:
    """The tent map, folded `folds` times, by `layers` hidden layers only: each folds more often."""
    times = folds // layers
    knots = np.linspace(0, 1, 2**times + 1)

    def zigzag(x: Any) -> Any:
        return np.arange(len(x)) % 2

    return Sequential(*[relu_interpolant(zigzag, knots) for _ in range(layers)])


@question.exact(
    "C2.1.10-06",
    T(
        "Telgarsky: what a net of k layers does, shallower nets narrower than 2^k cannot.",
        "Telgarsky：k 层网络能表示的函数，更浅且宽度小于 2^k 的网络表示不了。",
    ),
    at_least(0.9),
    correction=T(
        "So it is for one hidden layer (2^k - 1 units). With k/2 layers 4 units each are enough: "
        "{n[k / 2 hidden layers]:.3f} of 2^k. The theorem compares about k^3 with k layers.",
        "只对单隐层成立（需 2^k - 1 个单元）。用 k/2 层时每层 4 个单元就够：仅为 2^k 的 "
        "{n[k / 2 hidden layers]:.3f}。定理比较的是约 k^3 层与 k 层。",
    ),
    weight=2,
)
def telgarsky(lab: Lab) -> Evidence:
    """Width that suffices for the tent map folded k = 8 times, over 2^k.

    For one hidden layer m + 1 pieces are the most, so 2^k - 1 units are the least; for more,
    networks are built, their pieces counted exactly and their values compared.
    """
    goal = 2**FOLDS
    x = fathom.tensor(np.linspace(0, 1, 4 * goal + 1)[:, None])
    found: dict[str, Evidence] = {"one hidden layer": (goal - 1) / goal}
    for layers, name in ((2, "2 hidden layers"), (FOLDS // 2, "k / 2 hidden layers")):
        net = wide_tents(FOLDS, layers)
        same = float((net(x) - tent_map(FOLDS)(x)).abs().max().item()) < 1e-9
        fits = same and count_linear_pieces(net) == goal
        width = hidden_units(wide_tents(FOLDS, layers)[0]) if fits else goal
        found[name] = width / goal
    return Settings(T("the shallower net", "较浅的网络"), found)


@question.exact(
    "C2.1.10-07",
    T("k layers can make 2^k pieces.", "k 层可以产生 2^k 个线性段。"),
    equals(1.0),
)
def pieces(lab: Lab) -> Evidence:
    """Pieces over 2^k for k = 1 to 10: least ratio and largest, and turns seen on a grid."""
    exact = [count_linear_pieces(tent_map(k)) / 2**k for k in range(1, 11)]
    x = np.arange(2**12 + 1) / 2**12
    seen = []
    for k in range(1, 11):
        y = x
        for _ in range(k):
            y = 1 - np.abs(2 * y - 1)
        turns = np.count_nonzero(np.diff(np.sign(np.diff(y))))
        seen.append((turns + 1) / 2**k)
    return Routes({
        "exact fractions": All({"least": min(exact), "most": max(exact)}),
        "turns on a grid": All({"least": min(seen), "most": max(seen)}),
    })  # fmt: skip


# -- sizes of known networks ---------------------------------------------------------------------


def convolution(i: int, o: int, kernel: int, groups: int = 1, bias: bool = True) -> int:
    """Parameters of a convolution."""
    return conv_cost(i, o, (kernel, kernel), (1, 1), groups=groups, bias=bias).parameters


def dense(i: int, o: int) -> int:
    """Parameters of a dense layer."""
    return linear_cost(i, o).parameters


@question.exact(
    "C2.1.10-08",
    T("AlexNet has 8 layers and about 60 million parameters.", "AlexNet 有 8 层、约 6000 万参数。"),
    within(57, 63),
)
def alexnet(lab: Lab) -> Evidence:
    """Counted from the layers of the paper (two groups in layers 2, 4, 5), in millions.

    "About" is taken as 5 %.
    """
    layers = [
        convolution(3, 96, 11), convolution(96, 256, 5, 2), convolution(256, 384, 3),
        convolution(384, 384, 3, 2), convolution(384, 256, 3, 2),
        dense(9216, 4096), dense(4096, 4096), dense(4096, 1000),
    ]  # fmt: skip
    return All({"millions": sum(layers) / 1e6, "layers": Check(len(layers), equals(8))})


@question.exact(
    "C2.1.10-09",
    T("VGG-16 has 138 million parameters and layers about 512 wide.", "VGG-16 有 1.38 亿参数，层宽约 512。"),
    equals(138, 0.5),
)  # fmt: skip
def vgg(lab: Lab) -> Evidence:
    """Counted from the layers, in millions; the width is that of the widest convolution.

    Its two dense layers are 4,096 wide and hold nine tenths of the parameters.
    """
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = [convolution(i, o, 3) for i, o in pairwise(channels)]
    top = [dense(512 * 49, 4096), dense(4096, 4096), dense(4096, 1000)]
    return All({
        "millions": sum(convolutions + top) / 1e6,
        "widest convolution": Check(max(channels), equals(512)),
        "layers": Check(len(convolutions + top), equals(16)),
    })  # fmt: skip


@question.exact(
    "C2.1.10-10",
    T("ResNet-152 has 60 million parameters and up to 2,048 channels.", "ResNet-152 有 6000 万参数，最多 2048 个通道。"),
    equals(60, 0.5),
)  # fmt: skip
def resnet(lab: Lab) -> Evidence:
    """Counted from bottleneck blocks (3, 8, 36, 3) with their batch norms, in millions."""
    total, wide = convolution(3, 64, 7, bias=False) + 2 * 64, 64
    for blocks, inner in zip((3, 8, 36, 3), (64, 128, 256, 512), strict=True):
        for block in range(blocks):
            out = 4 * inner
            sizes = [(wide, inner, 1), (inner, inner, 3), (inner, out, 1)]
            sizes += [(wide, out, 1)] if block == 0 else []
            total += sum(convolution(i, o, k, bias=False) + 2 * o for i, o, k in sizes)
            wide = out
    return All({
        "millions": (total + dense(wide, 1000)) / 1e6,
        "channels": Check(wide, equals(2048)),
    })  # fmt: skip


def wide_resnet(k: float, blocks: int = 4) -> float:
    """Parameters of WRN-28-k: three groups of four blocks, 16k, 32k and 64k channels."""
    total, wide = 3 * 16 * 9.0, 16.0
    for out in (16 * k, 32 * k, 64 * k):
        for block in range(blocks):
            total += 9 * (wide * out + out * out) + 2 * (wide + out)
            total += wide * out if block == 0 else 0
            wide = out
    return total + 2 * wide + 10 * wide + 10


@question.exact(
    "C2.1.10-11",
    T(
        "The wide ResNet of 28 layers has 36 million parameters and is about 4,096 wide.",
        "28 层的 Wide ResNet 有 3600 万参数，宽度约 4096。",
    ),
    equals(4096, 410),
    correction=T(
        "36 million are right, but the widest layer has {n[width/from the parameters]:.0f} channels; at 4,096 "
        "there would be {n[millions if 4096 wide]:.0f} million parameters.",
        "3600 万参数没错，但最宽的层只有 {n[width/from the parameters]:.0f} 个通道；若宽 4096，参数将达 "
        "{n[millions if 4096 wide]:.0f} 百万。",
    ),
)
def wide(lab: Lab) -> Evidence:
    """Channels: 64k with k = 10 as published; and by the k at which the layers add up to 36.5 million.

    "About" is taken as 10 %.
    """
    low, high = 1.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if wide_resnet(middle) < 36.5e6 else (low, middle)
    source = Source(
        "Zagoruyko & Komodakis, Wide Residual Networks, table 1 (64 k, k = 10)", 2016, 0.97
    )
    return All({
        "millions": Check(wide_resnet(10) / 1e6, within(36, 37)),
        "millions if 4096 wide": Check(wide_resnet(64) / 1e6, at_least(36)),
        "width": Routes({
            "from the parameters": 64 * low,
            "published": Published(640.0, (source,)),
        }),
    })  # fmt: skip


@question.exact(
    "C2.1.10-12",
    T(
        "GPT-3 has 96 blocks of width 12,288 and 175 billion parameters.",
        "GPT-3 有 96 层、宽 12288、1750 亿参数。",
    ),
    equals(175, 0.5),
)
def gpt3(lab: Lab) -> Evidence:
    """Billions: 12 d^2 a block with biases and norms, 50,257 tokens and 2,048 places."""
    d, blocks = 12_288, 96
    block = dense(d, 3 * d) + dense(d, d) + dense(d, 4 * d) + dense(4 * d, d) + 4 * d
    return (blocks * block + (50_257 + 2048) * d + 2 * d) / 1e9


# -- figures -------------------------------------------------------------------------------------


@question.figure(T("Error at an equal budget, by depth", "同等参数预算下不同深度的误差"))
def errors_by_depth(lab: Lab) -> Figure:
    """About 1,500 parameters in 1 to 4 hidden layers, four targets, trained alike."""
    lines = []
    for kind, name in TARGETS.items():
        at = [Sample(np.log10(e)) for e in budgets(lab, kind).values()]
        lines.append(Line(name, list(budgets(lab, kind)), *(10 ** band(at))))
    return Figure(
        Axis(T("hidden layers", "隐层数")),
        Axis(T("test error (share of variance)", "测试误差（占方差比例）"), log=True),
        lines,
        T(
            "At this budget depth lowers the error of the composition only; for a sum of sines and "
            "for a wide shallow net it raises it.",
            "在这一预算下，深度只降低复合函数的误差；对正弦之和与宽浅网络反而使误差升高。",
        ),
    )


@question.figure(T("Straight pieces by units", "单元数与线性段数"))
def pieces_by_units(lab: Lab) -> Figure:
    """The most pieces of one hidden layer; pieces of folded and of random deep nets."""
    folds = list(range(1, lab.pick(9, 6)))
    units = [2 * k for k in folds]
    random: list[list[int]] = []
    for seed in lab.seeds(10, 3):
        with fathom.seed(seed):
            random.append([
                count_linear_pieces(stack(1, 1, 2, k, init="default"), (-5.0, 5.0)) for k in folds
            ])  # fmt: skip
    at = [Sample(column) for column in np.array(random).T]
    return Figure(
        Axis(T("ReLU units", "ReLU 单元数")),
        Axis(T("straight pieces", "线性段数"), log=True),
        [
            Line(T("tent map, 2 units a layer", "帐篷映射，每层 2 个单元"), units,
                 [count_linear_pieces(tent_map(k)) for k in folds]),
            Line(T("one hidden layer, at most", "单隐层的上限"), units, [u + 1 for u in units]),
            Line(T("random deep net, 2 units a layer", "随机深网络，每层 2 个单元"), units,
                 [s.mean for s in at], [max(s.low, 0.5) for s in at], [s.high for s in at]),
        ],
        T(
            "Depth can double the pieces with every layer, but random deep nets make hardly any: "
            "what can be represented is not what a net starts with.",
            "深度每加一层可使段数翻倍，但随机初始化的深网络几乎没有几段：能表示不等于一开始就具备。",
        ),
    )  # fmt: skip


@question.figure(T("Parameters for parity", "奇偶校验所需参数"))
def parity_sizes(lab: Lab) -> Figure:
    """Counted on networks that are right on all inputs."""
    bits = [2, 4, 6, 8, 10]
    return Figure(
        Axis(T("bits", "位数"), ticks=[T(str(b), f"{b} 位") for b in bits]),
        Axis(T("parameters", "参数量"), log=True),
        [
            Bars(T("one layer of threshold units", "单层阈值单元"),
                 [parity_parameters(parity_network(b), b) for b in bits]),
            Bars(T("one layer of ReLU units", "单层 ReLU 单元"),
                 [parity_parameters(polygon_parity(b), b) for b in bits]),
            Bars(T("tree of XORs", "异或树"),
                 [parity_parameters(parity_network(b, "tree"), b) for b in bits]),
            Bars(T("OR of ANDs", "与或式"), [2 ** (b - 1) * (b + 2) + 1 for b in bits]),
        ],
        T(
            "One hidden layer that counts grows like n²; only an OR of ANDs grows like 2^n.",
            "会计数的单隐层按 n² 增长；只有与或式才按 2^n 增长。",
        ),
    )  # fmt: skip
