"""3.2.7 ReLU, and why it eases vanishing gradients."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, equals, once, true, within,
)  # fmt: skip
from fathom.book.material.calculus import derivative
from fathom.book.material.chain import missing_factors, weight_gradient
from fathom.book.material.data import digits
from fathom.book.material.gain import passage
from fathom.book.material.signal import through
from fathom.book.material.speed import CLOCKS, Ratio, about, rounds_of
from fathom.nn import Linear, Module, ReLU, Sequential
from fathom.train import train_many

question = Question(
    "3.2.7",
    title=T(
        "What is ReLU, and why does it ease vanishing gradients?",
        "ReLU 的定义是什么？为什么能缓解梯度消失？",
    ),
    difficulty=2,
    frequency=5,
    topics=("relu", "vanishing gradient", "subgradient", "梯度消失", "次梯度", "线性整流"),
    answer=T(
        "ReLU is max(0, x): the identity on the right, 0 on the left. Its slope is 1 for x > 0 "
        "and 0 "
        "for x < 0; at 0 there is none, and libraries take 0. On the right it never saturates, "
        "so an "
        "active unit passes its gradient on unchanged, where a sigmoid takes at least three "
        "quarters "
        "of it: along active paths only the weights are left in the product. That eases vanishing "
        "and does not abolish it. Half of the units are off, so each layer halves the mean square "
        "of the gradient unless the weights make up for it: He's variance 2/n does, while with 1/n "
        "twenty layers cost three orders of magnitude. Units that are off for every input are dead "
        "and get no gradient at all.",
        "ReLU 即 max(0, x)：右侧是恒等映射，左侧为 0。导数在 x > 0 时为 1，x < 0 时为 0；"
        "在 0 处不可导，各个库取 0。它在右侧从不饱和，激活的单元把梯度原样传下去，"
        "而 sigmoid 至少要损失四分之三：沿激活的通路，乘积里只剩下权重。"
        "这缓解了梯度消失，但没有根除。有一半单元关闭，因此每层让梯度的均方减半，除非由权重补偿："
        "He 初始化的方差 2/n 正好补偿，而方差取 1/n 时，二十层会损失三个数量级。"
        "对所有输入都关闭的单元是死单元，完全得不到梯度。",
    ),
    flips=T(
        "With weights too small (variance 1/n and below) a deep ReLU net without normalization "
        "vanishes as well, and with N(0, 1) weights it explodes.",
        "权重过小（方差 1/n 及以下）时，没有归一化的深层 ReLU 网络同样会梯度消失；"
        "权重取 N(0, 1) 则会爆炸。",
    ),
    analogy=T(
        "A one-way valve: what flows forward flows freely, what would flow back is stopped.",
        "单向阀：正向的水流畅通无阻，反向的则完全截断。",
    ),
    generative=T(
        "The first Transformer used it; its smooth relatives GELU and SwiGLU took its place.",
        "最初的 Transformer 用的就是它；后来被光滑的近亲 GELU 和 SwiGLU 取代。",
    ),
    classical=T(
        "AlexNet's training times made it the default of convolutional nets in 2012.",
        "2012 年 AlexNet 的训练速度让它成为卷积网络的默认选择。",
    ),
    driving=T(
        "On embedded accelerators it is the activation of choice: a comparison, exact in INT8.",
        "嵌入式加速器上的首选激活：只需一次比较，在 INT8 下精确。",
    ),
    change=T(
        "Replace He's 2/n by 1/n: the gradient at layer 1 falls by a factor of 1.4 a layer.",
        "把 He 的 2/n 换成 1/n：第 1 层的梯度每层缩小约 1.4 倍。",
    ),
    alone=True,
)

DEPTHS = (5, 10, 20, 30, 50)


@question.exact(
    "C3.2.7-01",
    T("ReLU(x) = x times the indicator of x > 0.", "ReLU(x) 等于 x 乘以 x > 0 的指示函数。"),
    equals(0.0),
    correction=T(
        "For every finite number and +infinity. At -infinity floating point makes NaN of the "
        "product and 0 of max(0, x), so code should use the maximum.",
        "对所有有限数和正无穷成立。在负无穷处，浮点乘积得 NaN，而 max(0, x) 得 0，所以代码应取最"
        "大值。",
    ),
)
def indicator(lab: Lab) -> Evidence:
    """How many numbers give another value than the library's ReLU: 10,000 of all magnitudes with
    both zeros and +infinity, and -infinity; the product by NumPy and by Python.
    """
    rng = lab.rng("numbers")
    some = rng.standard_normal(10_000) * 10.0 ** rng.uniform(-320, 300, 10_000)

    def differ(x: Any) -> Evidence:
        library = fathom.relu(fathom.tensor(x)).value()
        with np.errstate(invalid="ignore"):
            product = x * (x > 0)
        python = np.array([float(v) * float(v > 0) for v in x.tolist()])
        return Routes({
            "NumPy": int((product != library).sum()), "Python": int((python != library).sum()),
        })  # fmt: skip

    return Settings(
        T("input", "输入"),
        {
            "finite and +infinity": differ(np.append(some, [0.0, -0.0, np.inf])),
            "-infinity": differ(np.array([-np.inf])),
        },
    )


class OneAtZero(Module):
    """ReLU with slope 1 at 0."""

    def forward(self, x: Any) -> Any:
        return fathom.where(x >= 0.0, x, 0.0)


@once
def trained(lab: Lab, at_zero: int, ties: bool) -> Any:
    """Test accuracy on digits with slope 0 or 1 at 0, (seeds,): two layers of 32, biases 0.

    ties : pixels are 0 or 1 and weights start at +-1/8, so that many sums are exactly 0.
    """
    data = digits()
    layer = OneAtZero if at_zero else ReLU
    x, test_x = ((np.round(a) if ties else a) for a in (data.x, data.test_x))

    def model() -> Sequential:
        net = Sequential(Linear(64, 32), layer(), Linear(32, 32), layer(), Linear(32, 10))
        for part in net:
            if isinstance(part, Linear):
                part.bias.data[...] = 0.0  # type: ignore[union-attr]
                if ties:
                    part.weight.data[...] = np.sign(part.weight.value()) / 8
        return net

    spec = {"model": model, "optimizer": "adam", "lr": 0.003, "epochs": lab.pick(6, 2),
            "batch_size": 32}  # fmt: skip
    fleet = train_many(spec, x, data.y, seeds=lab.seeds(30, 4))
    return fleet.evaluate(test_x, data.test_y)["accuracy"]


@once
def tied(lab: Lab) -> float:
    """Share of first-layer sums that are exactly 0 at the start, where `ties`."""
    signs = np.where(lab.rng("signs").random((64, 32)) < 0.5, -1.0, 1.0)
    return float((np.round(digits().x) @ signs == 0).mean())


@question.experiment(
    "C3.2.7-02",
    T(
        "In practice the derivative at 0 may be taken as 0 or as 1.",
        "实践中 0 处的导数取 0 或 1 都可以。",
    ),
    within(-0.01, 0.01),
    needs=("torch",),
)
def at_zero(lab: Lab) -> Evidence:
    """Test accuracy on digits with slope 1 at 0 less that with slope 0, same seeds, to stay within
    0.01: on an ordinary start, and on one with binary pixels and weights +-1/8, where many sums are
    exactly 0 (a twentieth or more); and what Fathom and PyTorch take, which is to be 0 or 1.
    """
    import torch

    at = torch.zeros(1, requires_grad=True)
    torch.relu(at).sum().backward()
    theirs = float(at.grad.item()) if at.grad is not None else math.nan
    ours = float(derivative(fathom.relu, 0.0))
    return All({
        "accuracy": Sample(trained(lab, 1, False) - trained(lab, 0, False)),
        "accuracy, many exact zeros": Sample(trained(lab, 1, True) - trained(lab, 0, True)),
        "share of exact zeros there": Check(tied(lab), at_least(0.05)),
        "Fathom takes 0 or 1": Check(ours in (0.0, 1.0), true()),
        "PyTorch takes 0 or 1": Check(theirs in (0.0, 1.0), true()),
        "slope of the variant": Check(float(derivative(OneAtZero(), 0.0)), equals(1.0)),
    })  # fmt: skip


def standard(rule: str, width: int = 100) -> float:
    """The standard deviation of a weight by rule."""
    return {"He": math.sqrt(2 / width), "Xavier": math.sqrt(1 / width), "N(0, 1)": 1.0}[rule]


@once
def by_tape(lab: Lab, rule: str) -> Any:
    """log10 of first over last gradient, 20 layers of 100, by Fathom's tape; (seeds,)."""
    seeds = lab.seeds(12, 4)
    signals = [
        through(fathom.relu, np.random.default_rng(s), depth=20, rule=standard(rule)) for s in seeds
    ]
    return np.log10([signal.backward_ratio for signal in signals])


@once
def by_numpy(lab: Lab, rule: str, depth: int) -> Any:
    """The same in plain NumPy, at any depth."""
    rngs = [np.random.default_rng([s, depth]) for s in lab.seeds(12, 4)]
    found = [passage("relu", r, std=standard(rule), depth=depth).backward for r in rngs]
    return np.log10(found)


@question.experiment(
    "C3.2.7-03",
    T("ReLU networks do not suffer from gradient decay.", "ReLU 网络没有梯度衰减问题。"),
    at_least(-1.0),
    correction=T(
        "It depends on the weights: with He's variance 2/n the first of twenty layers keeps its "
        "gradient (10^{n[He/tape]:.2f} of the last), with Xavier's 1/n 10^{n[Xavier/tape]:.2f} "
        "is left.",
        "取决于权重：He 方差 2/n 时，二十层中第一层的梯度得以保持（末层的 10^{n[He/tape]:.2f}）；"
        "Xavier 的 1/n 时只剩 10^{n[Xavier/tape]:.2f}。",
    ),
    weight=4,
)
def decay(lab: Lab) -> Evidence:
    """log10 of the first layer's gradient over the last's in 20 random layers of 100 units, by
    Fathom's tape and by plain NumPy. To lose less than a factor of 10 counts as no decay.
    """
    return Settings(
        T("initialization", "初始化"),
        {
            rule: Routes({
                "tape": Sample(by_tape(lab, rule)), "NumPy": Sample(by_numpy(lab, rule, 20)),
            })
            for rule in ("He", "Xavier", "N(0, 1)")
        },
    )  # fmt: skip


@question.exact(
    "C3.2.7-04",
    T("0.25^10 is about 0.000001.", "0.25^10 约为 0.000001。"),
    equals(1e-6, 5e-7),
)
def quarter(lab: Lab) -> Evidence:
    """By fractions and by floats, to half a unit of the printed digit."""
    return Routes({"fractions": float(Fraction(1, 4) ** 10), "floats": 0.25**10})


@question.exact(
    "C3.2.7-05",
    T("0.1^10 is about 0.00000001.", "0.1^10 约为 0.00000001。"),
    equals(1e-8, 5e-9),
    correction=T("It is {value:.0e}, a hundred times less.", "实际为 {value:.0e}，小一百倍。"),
)
def tenth(lab: Lab) -> Evidence:
    """By fractions and by floats, to half a unit of the printed digit."""
    return Routes({"fractions": float(Fraction(1, 10) ** 10), "floats": 0.1**10})


def active_chain(rng: np.random.Generator, layers: int = 5, place: int = 2) -> dict[str, float]:
    """dL/dW of one layer in a chain of active ReLU units by two routes, and the stated product."""
    w, x, goal = rng.uniform(0.3, 2.0, layers), float(rng.uniform(0.3, 2.0)), -1.0
    before = x * float(np.prod(w[:place]))
    product = 2 * (x * float(np.prod(w)) - goal) * float(np.prod(w[place + 1 :]))
    routes = weight_gradient(lambda z: max(0.0, z), fathom.relu, w, x, goal, place)
    return {**routes, "product": product, "completed": product * before}


@question.exact(
    "C3.2.7-06",
    T(
        "Where all units are active dL/dW_l equals dL/da_L times the product of the W_k above.",
        "所有单元都激活时，dL/dW_l 等于 dL/da_L 乘以其上各层 W_k 之积。",
    ),
    at_most(1e-5),
    correction=T(
        "That product is dL/dz_l. For the weights it has to be multiplied by the layer's input "
        "a_(l-1): without it the result is off by {n[as stated/autodiff]:.0%} in the median, "
        "with it by "
        "{n[completed]:.0e}.",
        "该乘积是 dL/dz_l。对权重还要乘以该层输入 a_(l-1)：不乘时相对误差中位数为 "
        "{n[as stated/autodiff]:.0%}，乘上后为 {n[completed]:.0e}。",
    ),
    weight=2,
)
def product(lab: Lab) -> Evidence:
    """Median relative error of the product over 200 random chains of five active units, third
    weight, against automatic differentiation and central differences; and with the input put in.
    The product is taken over the layers above, the reading nearest to the truth.
    """
    rng = lab.rng("chains")
    return missing_factors([active_chain(rng) for _ in range(200)])


@question.exact(
    "C3.2.7-07",
    T("ReLU saturates on one side, the left.", "ReLU 只在左侧饱和（半饱和）。"),
    equals(0.0),
)
def one_side(lab: Lab) -> Evidence:
    """Slope and value at -10, -10^3, -10^6, which are to be 0; slopes on the right, to be 1; and
    the value at 10^6, which is to have no bound.
    """
    x = np.array([10.0, 1e3, 1e6])
    return All({
        "slope on the left": float(np.abs(derivative(fathom.relu, -x)).max()),
        "value on the left": float(fathom.relu(fathom.tensor(-x)).abs().max().item()),
        "slope on the right": Check(float(derivative(fathom.relu, x).min()), equals(1.0)),
        "value at 10^6": Check(float(fathom.relu(fathom.tensor(x)).max().item()), at_least(1e6)),
    })  # fmt: skip


def calls(function: Any, numbers: list[float]) -> Any:
    """A run that applies a function of one number to each."""

    def run() -> None:
        for x in numbers:
            function(x)

    return run


@question.experiment(
    "C3.2.7-08",
    T(
        "Written as Python functions of one number, ReLU is 5 to 10 times faster than the sigmoid.",
        "写成标量 Python 函数时，ReLU 比 sigmoid 快 5 到 10 倍。",
    ),
    about(5.0, 10.0),
    correction=T(
        "With math.exp the sigmoid takes {n[math.exp, max/quickest run]:.1f} times as long as "
        "max(0, x), {n[math.exp, comparison/quickest run]:.1f} times a comparison and "
        "{n[math.exp, np.maximum/quickest run]:.1f} times np.maximum; with np.exp "
        "{n[np.exp, max/quickest run]:.1f}, {n[np.exp, comparison/quickest run]:.1f} and "
        "{n[np.exp, np.maximum/quickest run]:.1f}. It is the cost of calls that is measured.",
        "用 math.exp 的 sigmoid，耗时是 max(0, x) 的 {n[math.exp, max/quickest run]:.1f} 倍、"
        "条件表达式的 {n[math.exp, comparison/quickest run]:.1f} 倍、np.maximum 的 "
        "{n[math.exp, np.maximum/quickest run]:.1f} 倍；用 np.exp 时分别为 "
        "{n[np.exp, max/quickest run]:.1f}、{n[np.exp, comparison/quickest run]:.1f} 和 "
        "{n[np.exp, np.maximum/quickest run]:.1f} 倍。测到的其实是函数调用的开销。",
    ),
)
def scalar_functions(lab: Lab) -> Evidence:
    """Time of 1 / (1 + exp(-x)) over that of ReLU, one call a number: each of the two exponentials
    Python offers with each of the three usual ways to write ReLU; by the quickest run and by
    processor time. The printed range is taken a fifth wider; a setting must clear its edges by a
    tenth.
    """
    numbers = lab.rng("numbers").standard_normal(lab.pick(3000, 500)).tolist()
    tasks = {
        "max": calls(lambda x: max(0, x), numbers),
        "comparison": calls(lambda x: x if x > 0 else 0, numbers),
        "np.maximum": calls(lambda x: np.maximum(0, x), numbers),
        "math.exp": calls(lambda x: 1 / (1 + math.exp(-x)), numbers),
        "np.exp": calls(lambda x: 1 / (1 + np.exp(-x)), numbers),
    }
    times = {name: rounds_of(tasks, clock, lab.pick(12, 3)) for name, clock in CLOCKS.items()}
    return Settings(
        T("the functions", "函数写法"),
        {
            f"{slow}, {fast}": Routes({c: Ratio(t[slow], t[fast]) for c, t in times.items()})
            for slow in ("math.exp", "np.exp")
            for fast in ("max", "comparison", "np.maximum")
        },
    )


@question.reference(
    "C3.2.7-09",
    T("EfficientNet uses ReLU.", "EfficientNet 使用 ReLU。"),
    correction=T(
        "It uses Swish (SiLU); only the Lite variants for phones put ReLU6 in its place.",
        "它使用 Swish（SiLU）；只有面向手机的 Lite 变体改用 ReLU6。",
    ),
)
def efficient_net(lab: Lab) -> Evidence:
    """The paper's experiments section, and the released implementations."""
    return Published(
        "Swish",
        (
            Source("Tan & Le, EfficientNet, section 5.2 (SiLU / Swish-1 activation)", 2019, 0.97),
            Source("torchvision.models.efficientnet (activation_layer=nn.SiLU)", 2021, 0.98),
        ),
        expected="ReLU",
    )


@question.figure(T("The gradient against depth", "梯度随深度的变化"))
def against_depth(lab: Lab) -> Figure:
    """First layer's gradient over the last's in random ReLU nets of 100 units, by the weights."""
    lines: list[Any] = []
    for rule in ("He", "Xavier", "N(0, 1)"):
        at = [Sample(by_numpy(lab, rule, depth)) for depth in DEPTHS]
        lines.append(Line(T(rule, rule), DEPTHS, *(10 ** band(at))))
    return Figure(
        Axis(T("layers", "层数")),
        Axis(T("gradient, first over last", "梯度比（首层/末层）"), log=True),
        [*lines, Level(T("unchanged", "不变"), y=1.0)],
        T(
            "With He's weights the gradient neither grows nor decays; with Xavier's a ReLU net "
            "vanishes like any other, and with N(0, 1) it explodes.",
            "用 He 权重时梯度既不增长也不衰减；用 Xavier 权重时 ReLU 网络同样梯度消失，用 N(0, "
            "1) 则爆炸。",
        ),
    )
