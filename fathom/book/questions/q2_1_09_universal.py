"""2.1.9 What the universal approximation theorem says, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Sample, Settings,
    Source, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.statistics import slope
from fathom.models import (
    boolean_inputs, count_linear_pieces, hidden_units, parity_network, relu_interpolant,
    sawtooth_square, step_interpolant,
)  # fmt: skip

question = Question(
    "2.1.9",
    title=T(
        "What does the universal approximation theorem say, and what does it leave out?",
        "通用近似定理说了什么？没说什么？",
    ),
    difficulty=4,
    frequency=4,
    topics=(
        "universal approximation",
        "width",
        "depth",
        "parity",
        "cybenko",
        "通用近似",
        "宽度",
        "深度",
    ),
    answer=T(
        "On a compact set, sums of enough units f(w . x + b) of one hidden layer come uniformly as close "
        "as one likes to any continuous function: for sigmoids by Cybenko (1989), for every bounded and "
        "not constant continuous f by Hornik (1991), and for an f that is not a polynomial, ReLU among "
        "them, by Leshno and others (1993). A single unit is not local; a bump is the difference of two. "
        "The theorem states existence: not how many units it takes, not that gradient descent finds "
        "the weights, and nothing about new data or about inputs outside the compact set. "
        "How many it takes depends on f and the function: for x^2 to accuracy eps about 1/eps step "
        "units, 1/sqrt(eps) ReLUs, and two tanh units for any eps. Depth can save exponentially many "
        "units, as for sawtooth functions, or log(1/eps) layers for x^2, but parity is no example: n "
        "threshold units in one layer do it.",
        "在紧集上，足够多的单隐藏层单元 f(w·x + b) 之和可以一致逼近任意连续函数：sigmoid 型由 Cybenko "
        "(1989) 证明，任何有界、非常数的连续 f 由 Hornik (1991) 证明，非多项式的 f（包括 ReLU）由 Leshno "
        "等人 (1993) 证明。单个单元并不是局部的，两个单元之差才是一个鼓包。定理只说存在性：不说需要多少"
        "单元，不保证梯度下降找得到权重，也不涉及新数据或紧集以外的输入。需要多少取决于 f 和目标函数："
        "把 x² 逼近到精度 ε，阶跃单元约需 1/ε 个，ReLU 约需 1/√ε 个，tanh 对任何 ε 都只要两个。"
        "深度确实可能指数级地节省单元，如锯齿函数，或用 log(1/ε) 层表示 x²；"
        "但奇偶校验不是例子：一层 n 个阈值单元就够了。",
    ),
    flips=T(
        "With a polynomial activation the theorem fails at any width; for ReLU of a width that does not "
        "exceed the number of inputs it fails at any depth.",
        "激活是多项式时，再宽也不成立；ReLU 网络的宽度不超过输入维数时，再深也不成立。",
    ),
    analogy=T(
        "That any picture can be drawn with enough pixels does not say how many, who draws it, or what "
        "lies outside the frame.",
        "“只要像素够多就能画出任何图”并没有说要多少像素、由谁来画、画框之外是什么。",
    ),
    generative=T(
        "Models scale by data and compute; that they could represent the answer is never what is missing.",
        "模型靠数据和算力扩展；“能否表示答案”从来不是瓶颈。",
    ),
    classical=T(
        "On tables a network of one layer is as universal as boosted trees, which are often easier to fit.",
        "在表格数据上，单层网络与提升树同样“通用”，而后者往往更容易拟合。",
    ),
    driving=T(
        "The guarantee ends at the edge of the compact set: outside what was recorded, nothing is promised.",
        "保证止于紧集的边界：在采集范围之外，定理什么也没承诺。",
    ),
    change=T(
        "Give the network 256 units and train: the error stops far above that of the weights set by hand.",
        "给网络 256 个单元并训练它：误差停在远高于手工设定权重的水平。",
    ),
)

FINE = np.linspace(0.0, 1.0, 20_001)


def ripple(x: Any) -> Any:
    """|sin 6x|: continuous, with kinks."""
    return np.abs(np.sin(6.0 * x))


def sup_error(net: Any, function: Callable[[Any], Any], at: Any = FINE) -> float:
    """Largest error of a network of one input on [0, 1), on 20,000 points."""
    with fathom.no_grad():
        out = net(fathom.tensor(at[:-1, None])).value()[:, 0]
    return float(np.abs(out - function(at[:-1])).max())


def sigmoid_staircase(function: Callable[[Any], Any], units: int) -> float:
    """Largest error of a sum of `units` steep sigmoids: a staircase with rounded edges."""
    edges = np.arange(1, units + 1) / (units + 1)
    middles = function((np.arange(units + 1) + 0.5) / (units + 1))
    worst = 0.0
    for x in np.array_split(FINE, 40):
        z = np.clip(20.0 * units * (x[:, None] - edges), -40.0, 40.0)
        out = middles[0] + (1 / (1 + np.exp(-z))) @ np.diff(middles)
        worst = max(worst, float(np.abs(out - function(x)).max()))
    return worst


def random_units(f: Callable[[Any], Any], rng: np.random.Generator, units: int) -> float:
    """Largest error on a square: random units of f, outer weights by least squares."""

    def target(p: Any) -> Any:
        return np.cos(3.0 * p[:, 0]) * p[:, 1] + p[:, 0] * np.abs(p[:, 1]) ** 1.5

    inner, shift = 2.0 * rng.normal(size=(2, units)), 2.0 * rng.normal(size=units)
    side = np.linspace(-1, 1, 40)
    learn = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    outer = np.linalg.lstsq(f(learn @ inner + shift), target(learn), rcond=1e-12)[0]
    fresh = rng.uniform(-1, 1, size=(4000, 2))
    return float(np.abs(f(fresh @ inner + shift) @ outer - target(fresh)).max())


@question.exact(
    "C2.1.9-01",
    T(
        "One hidden layer with a bounded, continuous, not constant activation comes as close as one likes "
        "to any continuous function on a cube.",
        "单隐藏层配有界、非常数的连续激活，可以任意逼近立方体上的任何连续函数。",
    ),
    at_most(0.01),
    weight=3,
)
def theorem(lab: Lab) -> Evidence:
    """Largest errors of constructions: three functions of one input by 2,048 sigmoids, one of two
    inputs by 500 random units of three kinds; and what the literature proves for all of them.
    """
    units = lab.pick(2048, 512)
    rng = lab.rng("units")
    kinds: dict[str, Any] = {"tanh": np.tanh, "sine": np.sin, "bump": lambda z: np.exp(-(z**2))}
    proved = "bounded, continuous, not constant"
    hornik = Source(
        "Hornik, Approximation Capabilities of Multilayer Feedforward Networks, theorem 2",
        1991,
        0.97,
    )
    return All({
        "x^2": sigmoid_staircase(np.square, units),
        "|sin 6x|": sigmoid_staircase(ripple, units),
        "|x - 0.3|": sigmoid_staircase(lambda x: np.abs(x - 0.3), units),
        **{f"two inputs, {name}": random_units(f, rng, 500) for name, f in kinds.items()},
        "activations of the theorem": Published(proved, (hornik,), proved),
    })  # fmt: skip


@question.exact(
    "C2.1.9-02",
    T(
        "Each sigmoid unit σ(w x + b) is a localized response.",
        "每个 sigmoid 单元 σ(wx + b) 都是局部响应。",
    ),
    at_most(1e-6),
    correction=T(
        "A sigmoid unit tends to {n[library]:.0f} on one side: it is a step, not a bump. The difference of "
        "two shifted ones is local.",
        "sigmoid 单元在一侧趋于 {n[library]:.0f}：它是台阶而不是鼓包。两个错开的单元之差才是局部的。",
    ),
    weight=2,
)
def localized(lab: Lab) -> Evidence:
    """The larger of the two limits of a sigmoid unit far from its place (w = 2, b = -1, x = ±1000), by
    the library and by the formula; a local response has 0 on both sides.
    """
    far = np.array([-1000.0, 1000.0])
    ours = fathom.sigmoid(fathom.tensor(2.0 * far - 1.0)).value()
    formula = 1 / (1 + np.exp(np.clip(-(2.0 * far - 1.0), -700, 700)))
    return Routes({"library": float(ours.max()), "formula": float(formula.max())})


SIZES = (8, 16, 32, 64, 128, 256)


def needed_power(errors: list[float]) -> float:
    """The a in "units grow like (1/eps)^a", from the errors at SIZES."""
    return slope(np.log(1.0 / np.array(errors)), np.log(SIZES))


@once
def square_by(lab: Lab, kind: str, route: str) -> list[float]:
    """Largest error for x^2 with 8 to 256 units: "relu" or "step", by "network" or "NumPy"."""
    found = []
    for units in SIZES:
        knots = np.linspace(0, 1, units + 1)
        if route == "network":
            build = relu_interpolant if kind == "relu" else step_interpolant
            found.append(sup_error(build(np.square, knots), np.square))
        else:
            place = np.minimum((FINE * units).astype(int), units - 1)
            middle = np.square((knots[:-1] + knots[1:]) / 2)[place]
            out = np.interp(FINE, knots, knots**2) if kind == "relu" else middle
            found.append(float(np.abs(out - FINE**2)[:-1].max()))
    return found


def two_tanh(accuracy: float, route: str) -> float:
    """Largest error for x^2 of two tanh units: the second difference of tanh at 1, step h.

    (tanh(1 + hx) + tanh(1 - hx) - 2 tanh 1) / (h^2 tanh''(1)) = x^2 + O(h^2 x^4).
    """
    h, bend = np.sqrt(accuracy), -2.0 * np.tanh(1.0) * (1.0 - np.tanh(1.0) ** 2)
    outer, shift = 1.0 / (h * h * bend), -2.0 * np.tanh(1.0) / (h * h * bend)
    if route == "NumPy":
        both = np.tanh(1.0 + h * FINE) + np.tanh(1.0 - h * FINE)
        return float(np.abs(outer * both + shift - FINE**2).max())
    net = nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    net[0].weight.data[...], net[0].bias.data[...] = [[h], [-h]], 1.0
    net[2].weight.data[...], net[2].bias.data[...] = outer, shift
    return sup_error(net, np.square)


def tanh_power(route: str) -> float:
    """The same power where the units are two for every accuracy reached, else not a number."""
    goals = np.geomspace(1e-2, 1e-6, 5)
    reached = all(two_tanh(float(goal), route) <= goal for goal in goals)
    return slope(np.log(1 / goals), np.log(np.full(5, 2.0))) if reached else float("nan")


@question.exact(
    "C2.1.9-03",
    T(
        "One hidden layer takes about O(1/eps) units to approximate x^2.",
        "单隐藏层逼近 x² 约需 O(1/ε) 个神经元。",
    ),
    equals(1.0, 0.1),
    correction=T(
        "Units grow like (1/eps)^a with a = {n[step/network]:.2f} for steps, {n[ReLU/network]:.2f} for "
        "ReLU, and {n[tanh/network]:.2f} for tanh, of which two do for any eps.",
        "所需单元数按 (1/ε)^a 增长：阶跃 a = {n[step/network]:.2f}，ReLU a = {n[ReLU/network]:.2f}，"
        "tanh a = {n[tanh/network]:.2f}（两个单元对任何 ε 都够）。",
    ),
    weight=2,
)
def units_for_square(lab: Lab) -> Evidence:
    """The power a in "units ~ (1/eps)^a" on [0, 1], the largest error measured: steps and ReLU from 8
    to 256 units, tanh with the fewest that reach 1e-2 to 1e-6; each by a network and by NumPy.
    """
    return Settings(
        T("activation", "激活函数"),
        {
            "step": Routes({r: needed_power(square_by(lab, "step", r)) for r in ("network", "NumPy")}),
            "ReLU": Routes({r: needed_power(square_by(lab, "relu", r)) for r in ("network", "NumPy")}),
            "tanh": Routes({r: tanh_power(r) for r in ("network", "NumPy")}),
        },
    )  # fmt: skip


@question.exact(
    "C2.1.9-04",
    T(
        "A deep ReLU network of constant width takes O(log 1/eps) layers for x^2.",
        "宽度固定的深 ReLU 网络逼近 x² 只需 O(log 1/ε) 层。",
    ),
    at_most(1.0),
)
def layers_for_square(lab: Lab) -> Evidence:
    """Layers for each bit of accuracy, log2(1/eps), largest from 1 to 10 layers of 3 units; and the
    widest layer; and the pieces missing from 2^layers, counted exactly up to 7 layers.
    """
    per_bit, widest, missing = [], 0, 0
    at = np.linspace(0.0, 1.0, 2**12 + 1)
    for m in range(1, lab.pick(11, 8)):
        net = sawtooth_square(m)
        per_bit.append(m / np.log2(1.0 / sup_error(net, np.square, at)))
        widest = max(widest, hidden_units(net) // m)
        if m <= 7:
            missing += abs(2**m - count_linear_pieces(net))
    return All({
        "layers a bit": max(per_bit),
        "units a layer": Check(widest, equals(3.0)),
        "pieces missing": Check(missing, equals(0.0)),
    })  # fmt: skip


def zigzag(bits: Any) -> Any:
    """Parity by n ReLU units of the sum: slopes +1, -1, +1 ... between whole numbers."""
    total, n = bits.sum(axis=1), bits.shape[1]
    outer = np.where(np.arange(n) % 2, -2.0, 2.0)
    outer[0] = 1.0
    return np.maximum(total[:, None] - np.arange(n), 0.0) @ outer


@once
def parity_wrong(lab: Lab, kind: str) -> dict[int, int]:
    """Inputs of all 2^n that come out wrong, by n: "sum", "tree" or "zigzag"."""
    wrong = {}
    for n in range(2, lab.pick(17, 11)):
        bits = boolean_inputs(n)
        odd = bits.sum(axis=1) % 2
        if kind == "zigzag":
            said = zigzag(bits)
        else:
            said = parity_network(n, kind)(fathom.tensor(bits.astype(np.float64))).value()[:, 0]
        wrong[n] = int((np.abs(said - odd) > 1e-9).sum())
    return wrong


@question.exact(
    "C2.1.9-05",
    T(
        "A network of one hidden layer needs 2^n neurons for the parity of n bits.",
        "单隐藏层网络计算 n 位奇偶校验需要 2^n 个神经元。",
    ),
    at_least(1.0),
    correction=T(
        "n suffice: unit k fires from k ones on, and their outputs are added with signs +, -, + ... "
        "(right on all 2^n inputs up to n = 16).",
        "n 个就够：第 k 个单元在至少有 k 个 1 时激活，输出按 +、-、+ … 相加（n ≤ 16 时全部 2^n 个输入都正确）。",
    ),
    weight=2,
)
def parity_units(lab: Lab) -> Evidence:
    """Hidden units used over 2^n at the largest n, where all inputs of all n come out right (else 1):
    threshold units in a network, and ReLU units by NumPy.
    """
    n = lab.pick(16, 10)
    used = {"thresholds": hidden_units(parity_network(n, "sum")) / 2**n, "ReLU": n / 2**n}
    wrong = {"thresholds": "sum", "ReLU": "zigzag"}
    return Routes({
        name: share if not any(parity_wrong(lab, wrong[name]).values()) else 1.0
        for name, share in used.items()
    })  # fmt: skip


@question.exact(
    "C2.1.9-06",
    T(
        "A deep network does parity with O(n) layers of O(n) neurons.",
        "深层网络计算奇偶校验用 O(n) 层、每层 O(n) 个神经元。",
    ),
    at_most(2.0),
)
def parity_tree(lab: Lab) -> Evidence:
    """A tree of XORs for n = 2 to 16: layers over n and widest layer over n, largest (the O is read as an
    upper bound, with 2 for the constant; the tree needs but 2 log2 n layers); and inputs wrong.
    """
    layers, widest = [], []
    for n in range(2, 17):
        sizes = [m.out_features for m in parity_network(n, "tree") if isinstance(m, nn.Linear)]
        layers.append(len(sizes) / n)
        widest.append(max(sizes) / n)
    wrong = sum(parity_wrong(lab, "tree").values())
    return All({
        "layers / n": max(layers),
        "widest / n": max(widest),
        "inputs wrong": Check(wrong, equals(0.0)),
    })  # fmt: skip


BITS = (4, 8, 16, 32)


def tree_units(n: int) -> int:
    """Hidden units of a tree of n - 1 XORs, by hand: 3 each, less the output (n a power of 2)."""
    return 3 * (n - 1) - 1


@question.exact(
    "C2.1.9-07",
    T(
        "Depth saves exponentially many units for parity.",
        "对奇偶校验，深度带来指数级的节省。",
    ),
    at_least(0.5),
    correction=T(
        "It does among ANDs and ORs of the bits: the ratio doubles {n[ANDs and ORs/counted]:.2f} times "
        "for each bit more. Threshold or ReLU units need only n in one layer, fewer than the tree: "
        "{n[threshold units/networks]:.2f} doublings a bit.",
        "对由 AND/OR 组成的电路成立：每增加一位，比值翻倍 {n[ANDs and ORs/counted]:.2f} 次。"
        "阈值或 ReLU 单元在一层里只需 n 个，比树还少：每位翻倍 {n[threshold units/networks]:.2f} 次。",
    ),
    weight=2,
)
def saving(lab: Lab) -> Evidence:
    """Doublings of (units of one hidden layer / units of an XOR tree) for each bit more, from 4 to 32
    bits: 0.5 or more would be exponential. In ANDs and ORs one layer takes an AND for each odd input.
    """
    shallow = [hidden_units(parity_network(n, "sum")) for n in BITS]
    deep = [hidden_units(parity_network(n, "tree")) for n in BITS]
    by_formula = slope(BITS, [np.log2(n / tree_units(n)) for n in BITS])
    listed = [int((boolean_inputs(n).sum(axis=1) % 2).sum()) for n in (4, 8, 12, 16)]
    return Settings(
        T("units", "单元类型"),
        {
            "threshold units": Routes({
                "networks": slope(BITS, np.log2(np.array(shallow) / deep)),
                "formula": by_formula,
            }),
            "ANDs and ORs": Routes({
                "counted": slope((4, 8, 12, 16), np.log2(
                    [k / tree_units(n) for k, n in zip(listed, (4, 8, 12, 16), strict=True)])),
                "formula": slope(BITS, [n - 1 - np.log2(tree_units(n)) for n in BITS]),
            }),
        },
    )  # fmt: skip


@question.reference(
    "C2.1.9-08",
    T(
        "Cybenko (1989) proved it for sigmoids, Hornik (1991) for a wider class, "
        "the bounded and not constant, Leshno and others (1993) for everything that is not a polynomial.",
        "Cybenko (1989) 证明了 sigmoid 情形，Hornik (1991) 推广到更大的类（有界非常数），Leshno 等人 (1993) 推广到一切非多项式。",
    ),
)
def history(lab: Lab) -> Evidence:
    """The three papers: their years, and the activations that each covers. The second class is wider
    than the first, as every sigmoid is bounded and not constant."""
    cybenko = Source("Cybenko, Math. Control Signals Systems 2, 303-314", 1989, 0.99)
    hornik = Source("Hornik, Neural Networks 4, 251-257", 1991, 0.98)
    leshno = Source("Leshno, Lin, Pinkus & Schocken, Neural Networks 6, 861-867", 1993, 0.98)
    bounded = "bounded, continuous, not constant"
    return All({
        "Cybenko, year": Check(Published(1989, (cybenko,)), equals(1989)),
        "Cybenko, activations": Published("sigmoids", (cybenko,), "sigmoids"),
        "Hornik, year": Check(Published(1991, (hornik,)), equals(1991)),
        "Hornik, activations": Published(bounded, (hornik,), bounded),
        "Leshno and others, year": Check(Published(1993, (leshno,)), equals(1993)),
        "Leshno and others, activations": Published("not polynomial", (leshno,), "not polynomial"),
    })  # fmt: skip


@question.reference(
    "C2.1.9-09",
    T(
        "Lu and others (2017) extended the theorem to ReLU.",
        "Lu 等人 (2017) 把定理推广到了 ReLU。",
    ),
    equals(2017),
    correction=T(
        "For one hidden layer ReLU was covered in 1993: it is not a polynomial, which is all Leshno and "
        "others ask for. New in 2017 was that deep ReLU networks of bounded width, inputs + 4, suffice.",
        "就单隐层而言，ReLU 在 1993 年已被涵盖：它不是多项式，而这正是 Leshno 等人唯一的要求。2017 年的新"
        "结果是：宽度有界（输入维数 + 4）的深 ReLU 网络就够了。",
    ),
)
def relu_history(lab: Lab) -> Evidence:
    """The years of the first proofs that hold for ReLU: of one hidden layer that may be wide, and of
    many layers whose width is bounded."""
    wide = (
        Source("Leshno, Lin, Pinkus & Schocken, Multilayer feedforward networks with a nonpolynomial "
               "activation function can approximate any function", 1993, 0.97),
        Source("Pinkus, Approximation theory of the MLP model in neural networks, Acta Numerica 8, "
               "section 3", 1999, 0.93),
    )  # fmt: skip
    deep = (
        Source("Lu, Pu, Wang, Hu & Wang, The Expressive Power of Neural Networks: A View from the "
               "Width", 2017, 0.97),
    )  # fmt: skip
    return Settings(T("network", "网络"), {
        "one hidden layer": Published(1993, wide), "deep, of bounded width": Published(2017, deep),
    })  # fmt: skip


@question.figure(T("Error for x^2 against the number of units", "逼近 x² 的误差与单元数"))
def square(lab: Lab) -> Figure:
    """Weights set by hand: one layer of steps, of ReLUs, two tanh units, and layers of three ReLUs."""
    depths = np.arange(1, 11)
    at = np.linspace(0.0, 1.0, 2**12 + 1)
    deep = [sup_error(sawtooth_square(int(m)), np.square, at) for m in depths]
    return Figure(
        Axis(T("hidden units", "隐藏单元数"), log=True),
        Axis(T("largest error", "最大误差"), log=True),
        [
            Line(T("one layer, steps", "单层，阶跃"), SIZES, square_by(lab, "step", "network")),
            Line(T("one layer, ReLU", "单层，ReLU"), SIZES, square_by(lab, "relu", "network")),
            Line(T("deep ReLU, 3 a layer", "深层 ReLU，每层 3 个"), 3 * depths, deep),
            Line(T("two tanh units", "两个 tanh 单元"), [2, 2, 2],
                 [two_tanh(g, "network") for g in (1e-2, 1e-4, 1e-6)], points=True),
        ],
        T(
            "Steps fall like 1/N, ReLUs like 1/N^2, depth like a power of 4 a layer; two tanh units reach "
            "any accuracy.",
            "阶跃按 1/N 下降，ReLU 按 1/N² 下降，加深时每层降为四分之一；两个 tanh 单元可达任意精度。",
        ),
        {
            "slope, steps": -1.0 / needed_power(square_by(lab, "step", "network")),
            "slope, ReLU": -1.0 / needed_power(square_by(lab, "relu", "network")),
        },
    )  # fmt: skip


def one_layer(width: int, activation: str) -> Any:
    """One hidden layer on a line."""
    f = nn.Tanh() if activation == "tanh" else nn.ReLU()
    return nn.Sequential(nn.Linear(1, width), f, nn.Linear(width, 1))


@question.figure(T("What exists and what training finds: |sin 6x|", "存在的与训练找到的：|sin 6x|"))
def trained(lab: Lab) -> Figure:
    """Largest error of trained networks of one hidden layer (inputs scaled to [-1, 1], Adam, 500
    epochs on 256 points), geometric mean over seeds, against the ReLU polygon.
    """
    widths = lab.pick([4, 16, 64, 256], [4, 64])
    x = np.linspace(0.0, 1.0, 256, dtype=np.float32)[:, None]
    spec = {
        "model": one_layer,
        "epochs": lab.pick(500, 60),
        "batch_size": 64,
        "lr": 0.02,
        "loss": "mse",
    }
    grid: dict[str, Any] = {"width": widths, "activation": ["relu", "tanh"]}
    fleet = fathom.train_many(spec, 2 * x - 1, ripple(x), seeds=lab.seeds(4, 3), grid=grid)
    found: dict[str, list[Sample]] = {"relu": [], "tanh": []}
    for settings, runs in fleet.groups():
        errors = [
            sup_error(lambda t, f=run.model: f(2.0 * t - 1.0), ripple, FINE.astype(np.float32))
            for run in runs
        ]
        found[settings["activation"]].append(Sample(np.log10(errors)))
    exact = [sup_error(relu_interpolant(ripple, np.linspace(0, 1, w + 1)), ripple) for w in widths]
    names = {
        "relu": T("trained, ReLU", "训练所得，ReLU"),
        "tanh": T("trained, tanh", "训练所得，tanh"),
    }
    return Figure(
        Axis(T("hidden units", "隐藏单元数"), log=True),
        Axis(T("largest error", "最大误差"), log=True),
        [
            *(Line(names[k], widths, *(10 ** band(at))) for k, at in found.items()),
            Line(T("ReLU, set by hand", "ReLU，手工设定"), widths, exact),
        ],
        T(
            "The weights that the theorem promises get better and better with width; those that training "
            "finds do not keep up.",
            "定理保证存在的权重随宽度越来越好；训练找到的权重跟不上。",
        ),
    )  # fmt: skip


@question.figure(T("Units for the parity of n bits", "n 位奇偶校验所需的单元数"))
def parity_counts(lab: Lab) -> Figure:
    """Hidden units: one layer of thresholds, a tree of XORs, and ANDs of all odd inputs."""
    bits = np.arange(2, 17)
    return Figure(
        Axis(T("bits", "位数")),
        Axis(T("hidden units", "隐藏单元数"), log=True),
        [
            Line(T("one layer, thresholds", "单层，阈值单元"), bits,
                 [hidden_units(parity_network(int(n), "sum")) for n in bits]),
            Line(T("tree of XORs", "XOR 树"), bits,
                 [hidden_units(parity_network(int(n), "tree")) for n in bits]),
            Line(T("one layer, ANDs", "单层，AND 单元"), bits, 2.0 ** (bits - 1)),
        ],
        T(
            "Only units confined to ANDs need exponentially many; threshold units in one layer need n, "
            "fewer than the tree.",
            "只有限定为 AND 的单元才需要指数多个；一层阈值单元只要 n 个，比树还少。",
        ),
    )  # fmt: skip
