"""3.2.16 Choosing among the classical activations: properties, risks, and where each is at home."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import activations, nn
from fathom.activations import choose
from fathom.activations.measure import Audit
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Published, Question, Routes, Sample, Settings,
    Source, T, at_least, at_most, band, equals, once, true, within,
)  # fmt: skip
from fathom.book.material.calculus import derivative, value
from fathom.book.material.data import digits
from fathom.book.material.dead import dead_shares
from fathom.book.material.elu_moments import normal_moments
from fathom.book.material.signal import through
from fathom.book.material.stacks import parameters, stack
from fathom.models.mlp import make_activation

question = Question(
    "3.2.16",
    title=T("How to choose among the classical activations?", "如何在经典激活函数之间选型？"),
    difficulty=3,
    frequency=5,
    topics=("activation choice", "ReLU", "GELU", "decision tree", "激活函数选型", "决策树", "死亡神经元"),
    answer=T(
        "The last layer follows from the target: identity for real numbers, sigmoid for one "
        "probability, softmax for classes that exclude each other. Hidden layers: begin with ReLU "
        "and He's initialization; it is cheap, and its outputs are half zeros. Take GELU or SiLU in "
        "transformers by habit, though published ones with ReLU work; tanh in recurrent states, "
        "which must stay bounded; Leaky ReLU in discriminators, while generators are fine with ReLU. "
        "Deep and without normalization, ELU or SELU avoid dead units. Sigmoid in deep hidden "
        "layers vanishes whatever the initialization; the order of the others depends on the "
        "initial weights. On small tasks all but the sigmoid come out close, so the choice is "
        "worth less than the learning rate.",
        "输出层由目标决定：实数用恒等，单个概率用 sigmoid，互斥类别用 softmax。隐藏层先用 ReLU 加 He 初始化："
        "便宜，而且一半输出为零。Transformer 习惯用 GELU 或 SiLU，但用 ReLU 的已发表模型同样有效；"
        "循环网络的状态必须有界，用 tanh；判别器用 Leaky ReLU，而生成器用 ReLU 没有问题。"
        "很深又没有归一化时，ELU 或 SELU 可避免死亡单元。sigmoid 用在深层隐藏层时，无论怎样初始化梯度都会消失；"
        "其余函数的先后取决于初始权重。在小任务上除 sigmoid 外差别很小，选激活函数不如调学习率重要。",
    ),
    flips=T(
        "With normalization and a tuned rate the differences among ReLU, ELU and GELU fall below the "
        "scatter over seeds.",
        "有归一化并调好学习率后，ReLU、ELU、GELU 的差别小于随机种子的波动。",
    ),
    analogy=T(
        "Shoes: boots for mountains, slippers for home; most walks go well in any pair that fits.",
        "像选鞋：登山用靴，在家用拖鞋；多数路穿哪双合脚的都行。",
    ),
    generative=T(
        "Generators with ReLU and batch normalization, discriminators with a leak of 0.2: DCGAN's recipe.",
        "生成器用 ReLU 加批归一化，判别器用 0.2 的 Leaky ReLU：这是 DCGAN 的配方。",
    ),
    classical=T(
        "A shallow network on tables: ReLU, and time spent on the features instead.",
        "表格数据上的浅层网络：用 ReLU 就行，时间花在特征上更值。",
    ),
    driving=T(
        "On INT8 hardware ReLU and ReLU6 are exact on the codes; that often settles the question.",
        "在 INT8 硬件上 ReLU 与 ReLU6 对整数编码是精确的，这往往就定了选择。",
    ),
    change=T(
        "Change the initial weights from He's to Xavier's: ReLU's gradient falls behind tanh's.",
        "把 He 初始化换成 Xavier：ReLU 的梯度会落到 tanh 之后。",
    ),
)  # fmt: skip

RANGES = {
    "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf),
    "leaky_relu": (-math.inf, math.inf), "elu": (-1.0, math.inf),
}  # fmt: skip
NAMES = tuple(RANGES)


def function(name: str) -> Callable[[Any], Any]:
    """An activation by name."""
    found: Callable[[Any], Any] = getattr(activations, name)
    return found


def audited(name: str) -> tuple[float, float]:
    """The range the property audit finds."""
    found = activations.audit(name, timing=False)
    return found.range if isinstance(found, Audit) else (math.nan, math.nan)


def far(name: str) -> tuple[float, float]:
    """The values at -1e8 and 1e8; beyond 1e5 counts as infinite."""
    ends = (float(v) for v in value(function(name), np.array([-1e8, 1e8])))
    low, high = (math.copysign(math.inf, v) if abs(v) > 1e5 else v for v in ends)
    return low, high


@question.exact(
    "C3.2.16-01",
    T("Ranges: sigmoid (0, 1), tanh (-1, 1), ReLU [0, inf), Leaky ReLU all numbers, ELU (-alpha, inf).",
      "值域：sigmoid (0, 1)，tanh (-1, 1)，ReLU [0, ∞)，Leaky ReLU 全体实数，ELU (-alpha, ∞)。"),
    true(),
)  # fmt: skip
def ranges(lab: Lab) -> Evidence:
    """Whether both ends are as said, by the property audit and by values at -1e8 and 1e8."""
    return Routes({
        way: all(np.allclose(find(name), said, atol=1e-9) for name, said in RANGES.items())
        for way, find in (("audit", audited), ("far values", far))
    })  # fmt: skip


def kink(f: Callable[[Any], Any]) -> float:
    """Size of the jump of the slope at 0."""
    left, right = derivative(f, np.array([-1e-9, 1e-9]))
    return abs(float(right - left))


@question.exact(
    "C3.2.16-02",
    T("ELU has a continuous slope at 0; ReLU and Leaky ReLU do not.",
      "ELU 在 0 处斜率连续，ReLU 和 Leaky ReLU 不连续。"),
    at_most(1e-6),
    correction=T(
        "True of ELU with alpha 1; with alpha 0.5 the slope jumps by {n[0.5/jump of ELU]:.2g}. "
        "ReLU jumps by {n[0.5/jump of ReLU]:.2g}.",
        "ELU 仅在 alpha = 1 时如此；alpha = 0.5 时斜率跳变 {n[0.5/jump of ELU]:.2g}。"
        "ReLU 跳变 {n[0.5/jump of ReLU]:.2g}。",
    ),
)  # fmt: skip
def kinks(lab: Lab) -> Evidence:
    """Jumps of the slope at 0 by the tape."""

    def at(alpha: float) -> All:
        return All({
            "jump of ELU": kink(lambda x: activations.elu(x, alpha)),
            "jump of ReLU": Check(kink(activations.relu), at_least(0.5)),
            "jump of Leaky ReLU": Check(kink(activations.leaky_relu), at_least(0.5)),
        })  # fmt: skip

    return Settings(T("alpha of the ELU", "ELU 的 alpha"), {"1.0": at(1.0), "0.5": at(0.5)})


@question.exact(
    "C3.2.16-03",
    T("Sparsity is high for ReLU, low for Leaky ReLU and ELU, absent for sigmoid and tanh.",
      "稀疏性：ReLU 高，Leaky ReLU 与 ELU 低，sigmoid 与 tanh 没有。"),
    at_least(0.4),
    correction=T(
        "Only ReLU has exact zeros: {n[exactly 0/ReLU/drawn]:.0%}. Leaky ReLU and ELU have none "
        "({n[exactly 0/Leaky ReLU/drawn]:.0%}, {n[exactly 0/ELU/drawn]:.0%}), as sigmoid and tanh. If "
        "all below 0.02 in size count, Leaky ReLU is as sparse as ReLU "
        "({n[below 0.02 in size/Leaky ReLU/drawn]:.0%}).",
        "只有 ReLU 有精确的零：{n[exactly 0/ReLU/drawn]:.0%}。Leaky ReLU 与 ELU 没有"
        "（{n[exactly 0/Leaky ReLU/drawn]:.0%}、{n[exactly 0/ELU/drawn]:.0%}），与 sigmoid、tanh 一样。"
        "若绝对值小于 0.02 的都算零，Leaky ReLU 与 ReLU 一样稀疏"
        "（{n[below 0.02 in size/Leaky ReLU/drawn]:.0%}）。",
    ),
    weight=2,
)  # fmt: skip
def zeros(lab: Lab) -> Evidence:
    """Share of outputs that count as 0 for N(0, 1) inputs, exactly 0 or below 0.02 in size: drawn, and
    the mass of such inputs on a fine grid. "Low" is between 1 and 30 %, "absent" at most 5 %."""
    z = lab.rng("z").standard_normal(lab.pick(200_000, 20_000))
    grid = np.linspace(-8, 8, 16_000)  # without 0 itself
    mass = np.exp(-(grid**2) / 2)
    mass /= mass.sum()

    def share(name: str, bound: float) -> Routes:
        f = function(name)
        return Routes({
            "drawn": float((np.abs(value(f, z)) <= bound).mean()),
            "grid": float(mass @ (np.abs(value(f, grid)) <= bound)),
        })  # fmt: skip

    def row(bound: float) -> All:
        low, none = within(0.01, 0.3), at_most(0.05)
        return All({
            "ReLU": share("relu", bound),
            "Leaky ReLU": Check(share("leaky_relu", bound), low),
            "ELU": Check(share("elu", bound), low),
            "sigmoid": Check(share("sigmoid", bound), none),
            "tanh": Check(share("tanh", bound), none),
        })  # fmt: skip

    return Settings(
        T("what counts as 0", "何为零"),
        {"exactly 0": row(0.0), "below 0.02 in size": row(0.02)},
    )


INITS = {"He for all": ("he",) * 5, "Xavier for all": ("xavier",) * 5,
         "each its own": ("xavier", "xavier", "he", "he", "he")}  # fmt: skip
VARIANCE = {"he": 2.0, "xavier": 1.0}


@once
def simulated(lab: Lab, name: str, rule: str) -> Any:
    """log10 of the gradient at the first of 20 layers over that at the last, one a seed."""
    found = [
        through(function(name), np.random.default_rng(s), rule=rule, batch=100).backward_ratio
        for s in lab.seeds(10, 2)
    ]
    return np.log10(found)


@once
def foretold(lab: Lab, name: str, rule: str) -> float:
    """The same by mean-field theory: each step down multiplies the squared gradient by n Var(W) E f'^2."""
    f, spread = function(name), VARIANCE[rule]
    q, total = spread, 0.0
    for _ in range(19):
        mean, variance = normal_moments(lambda x: value(f, x), 0.0, q, 60)
        q = spread * (variance + mean**2)
        slope = normal_moments(lambda x: derivative(f, x), 0.0, q, 60)
        total += 0.5 * math.log10(spread * (slope[1] + slope[0] ** 2))
    return total


def order(lab: Lab, rules: tuple[str, ...]) -> All:
    """How much lower each one's log10 ratio is than the next one's."""
    told = {n: foretold(lab, n, r) for n, r in zip(NAMES, rules, strict=True)}
    seen = {n: simulated(lab, n, r) for n, r in zip(NAMES, rules, strict=True)}

    def gap(worse: str, better: str) -> Routes:
        return Routes({
            "simulated": Sample(seen[better] - seen[worse]), "theory": told[better] - told[worse]
        })  # fmt: skip

    return All({
        "tanh over sigmoid": gap("sigmoid", "tanh"),
        "ELU over tanh": gap("tanh", "elu"),
        "ReLU over ELU": gap("elu", "relu"),
        "Leaky ReLU over ReLU": Check(gap("relu", "leaky_relu"), within(-0.1, 0.1)),
    })  # fmt: skip


@question.experiment(
    "C3.2.16-04",
    T("The risk of vanishing falls from sigmoid over tanh and ELU to ReLU, which equals Leaky ReLU.",
      "梯度消失的风险依次为 sigmoid > tanh > ELU > ReLU = Leaky ReLU。"),
    at_least(0.1),
    correction=T(
        "Sigmoid is worst under every initialization; the rest has no such order. ELU cannot be worse than "
        "ReLU for the same inputs, since its slope is nowhere smaller: over 20 layers ReLU's gradient is "
        "10^{n[each its own/ReLU over ELU/theory]:.1f} of ELU's with each its own initialization, "
        "10^{n[Xavier for all/ReLU over ELU/theory]:.1f} of it with Xavier's for all.",
        "sigmoid 在任何初始化下都最差；其余并无这样的次序。同样的输入下 ELU 不可能比 ReLU 更差，因为它的斜率处处不小于 "
        "ReLU：20 层后，各用自己的初始化时 ReLU 的梯度是 ELU 的 "
        "10^{n[each its own/ReLU over ELU/theory]:.1f} 倍，全用 Xavier 时为 "
        "10^{n[Xavier for all/ReLU over ELU/theory]:.1f} 倍。",
    ),
    weight=3,
)  # fmt: skip
def vanishing(lab: Lab) -> Evidence:
    """log10 of the gradient at the first over that at the last of 20 layers of 100: differences of
    neighbours in the order, simulated and by mean-field theory; 0.1 counts."""
    return Settings(
        T("initial weights", "初始化"), {name: order(lab, rules) for name, rules in INITS.items()}
    )


@question.reference(
    "C3.2.16-05",
    T("Transformers should avoid ReLU.", "Transformer 应避免使用 ReLU。"),
    at_least(0.01),
    correction=T(
        "The first transformer, T5 and OPT use it and work. Against GELU its loss differs by "
        "{n[Shazeer]:+.3f} and {n[Narang and others]:+.3f} nats; what gains is a gate "
        "(SwiGLU, 0.04).",
        "最初的 Transformer、T5 和 OPT 都用 ReLU 且有效。与 GELU 相比，其损失相差 {n[Shazeer]:+.3f} 与 "
        "{n[Narang and others]:+.3f} nat；真正有提升的是门控（SwiGLU，0.04）。",
    ),
    weight=2,
)
def transformers(lab: Lab) -> Evidence:
    """Loss of a pretrained T5 with ReLU less that with GELU, in nats a token, in two papers (1.677 and
    1.679; 1.838 and 1.838). A loss worth avoiding is taken as 0.01, 1 % of perplexity."""
    glu = Source("Shazeer, GLU Variants Improve Transformer, table 1", 2020, 0.93)
    transfer = Source(
        "Narang et al., Do Transformer Modifications Transfer Across Implementations and "
        "Applications?, table 1 (final loss)", 2021, 0.9,
    )  # fmt: skip
    return Routes({
        "Shazeer": Published(1.677 - 1.679, (glu,)),
        "Narang and others": Published(1.838 - 1.838, (transfer,)),
    })  # fmt: skip


@question.reference(
    "C3.2.16-06",
    T("GANs should avoid ReLU.", "GAN 应避免使用 ReLU。"),
    at_most(0.0),
    correction=T(
        "It depends on the network: DCGAN's discriminator takes a leaky ReLU of slope 0.2, its generator "
        "ReLU; BigGAN has ReLU in both.",
        "取决于网络：DCGAN 的判别器用斜率 0.2 的 Leaky ReLU，生成器用 ReLU；BigGAN 两者都用 ReLU。",
    ),
    weight=2,
)
def gans(lab: Lab) -> Evidence:
    """Share of the hidden layers that have ReLU, by part of two GANs others were built on; to avoid it
    is to have none."""
    dcgan = Source("Radford, Metz & Chintala, DCGAN, architecture guidelines", 2016, 0.97)
    biggan = Source("Brock, Donahue & Simonyan, BigGAN, appendix B", 2019, 0.88)
    code = Source(
        "ajbrock/BigGAN-PyTorch, BigGAN.py (G_activation, D_activation: nn.ReLU)", 2019, 0.97
    )
    return Settings(
        T("part of the GAN", "GAN 的部分"),
        {
            "DCGAN, discriminator": Published(0.0, (dcgan,)),
            "DCGAN, generator": Published(1.0, (dcgan,)),
            "BigGAN, discriminator": Published(1.0, (biggan, code)),
            "BigGAN, generator": Published(1.0, (biggan, code)),
        },
    )


@question.experiment(
    "C3.2.16-07",
    T("Deep ReLU networks without batch normalization run the risk of dead units.",
      "没有批归一化的深层 ReLU 网络有单元死亡的风险。"),
    at_least(0.02),
    weight=3,
)  # fmt: skip
def deep_and_dead(lab: Lab) -> Evidence:
    """Share of dead units of 12 layers of 32 on digits without less that with batch norm, same seeds, ten
    passes of SGD."""

    def apart(rate: float) -> Sample:
        seeds, epochs = lab.seeds(8, 2), lab.pick(10, 0)
        plain = dead_shares(seeds, 12, rate, epochs=epochs)
        apart = plain - dead_shares(seeds, 12, rate, norm=True, epochs=epochs)
        return Sample(apart[np.isfinite(apart)])

    return All({f"rate {rate}": apart(rate) for rate in (0.01, 0.1)})


@question.reference(
    "C3.2.16-08",
    T("ReLU in the generator of a GAN is a mistake.", "在 GAN 的生成器里用 ReLU 是错误。"),
    at_most(0.0),
    correction=T(
        "It is the recipe: ReLU in all layers of the generator but the last, which has tanh.",
        "这正是标准配方：生成器除最后一层用 tanh 外，各层都用 ReLU。",
    ),
    weight=2,
)
def generator(lab: Lab) -> Evidence:
    """Share of the generator's hidden layers that have ReLU in two GANs others were built on; of a
    mistake there would be none."""
    return Published(
        1.0,
        (
            Source("Radford, Metz & Chintala, DCGAN, architecture guidelines", 2016, 0.97),
            Source("Brock, Donahue & Simonyan, BigGAN, appendix B", 2019, 0.9),
        ),
    )


@question.exact(
    "C3.2.16-09",
    T("A softmax of two outputs for a binary target takes twice the parameters of a sigmoid, for nothing.",
      "二分类用两个输出的 softmax，参数是 sigmoid 的两倍，毫无收益。"),
    equals(2.0),
)  # fmt: skip
def two_outputs(lab: Lab) -> Evidence:
    """Parameters of the last layer, and the largest difference of softmax and the sigmoid of the difference."""
    z = lab.rng("z").standard_normal((200, 2))
    soft = fathom.nn.functional.softmax(fathom.tensor(z), -1).value()[:, 1]
    single = value(fathom.sigmoid, z[:, 1] - z[:, 0])
    counted = parameters(nn.Linear(32, 2)) / parameters(nn.Linear(32, 1))
    return All({
        "parameters": Routes({"counted": counted, "formula": 2 * (32 + 1) / (32 + 1)}),
        "difference in probability": Check(float(np.abs(soft - single).max()), at_most(1e-12)),
    })  # fmt: skip


@question.reference(
    "C3.2.16-10",
    T("EfficientNet uses ReLU.", "EfficientNet 使用 ReLU。"),
    correction=T("Its hidden layers use Swish (SiLU).", "它的隐藏层使用 Swish（SiLU）。"),
)
def efficientnet(lab: Lab) -> Evidence:
    """The paper, and a released implementation, whose SiLU is the same function."""
    return Published(
        "Swish",
        (
            Source("Tan & Le, EfficientNet, section 5.2 (swish activation)", 2019, 0.95),
            Source("torchvision, models/efficientnet.py (activation_layer=nn.SiLU)", 2021, 0.97),
        ),
        expected="ReLU",
    )


class Elman(nn.Module):
    """A recurrent network over the eight rows of a digit."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.inner, self.state = nn.Linear(8, 32), nn.Linear(32, 32, bias=False)
        self.out, self.bend = nn.Linear(32, 10), make_activation(name)
        nn.init.apply_(self, "orthogonal")

    def forward(self, x: Any) -> Any:
        rows = x.reshape(-1, 8, 8)
        h = self.bend(self.inner(rows[:, 0]))
        for t in range(1, 8):
            h = self.bend(self.inner(rows[:, t]) + self.state(h))
        return self.out(h)


class Tiny(nn.Module):
    """A transformer of one block over the eight rows of a digit."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(8, 16), nn.Linear(16, 10)
        self.place = nn.Parameter(np.sin(np.arange(128.0)).reshape(8, 16).astype(np.float32))
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(16, 32), make_activation(name), nn.Linear(32, 16))

    def forward(self, x: Any) -> Any:
        h = self.embed(x.reshape(-1, 8, 8)) + self.place
        rows = self.first(h)
        h = h + self.attention(rows, rows, rows, need_weights=False)[0]
        return self.out((h + self.feed(self.second(h))).mean(axis=1))


def cnn(name: str) -> nn.Sequential:
    """Two convolutions of eight channels."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for a, b in ((1, 8), (8, 8)):
        layers += [nn.Conv2d(a, b, 3), make_activation(name)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


MAKERS: dict[str, Callable[[str], Any]] = {
    "mlp": lambda name: stack(64, 10, 32, 3, activation=name, init="auto"), "cnn": cnn,
    "rnn": Elman, "transformer": Tiny,
}  # fmt: skip
TRIED = ("sigmoid", "tanh", "relu", "elu", "gelu")


@once
def tried(lab: Lab, kind: str, name: str) -> Sample:
    """Test accuracies on digits after eight passes of Adam."""
    data = digits()
    spec = {
        "model": lambda: MAKERS[kind](name), "lr": 0.003, "batch_size": 64,
        "epochs": lab.pick(8, 1),
    }  # fmt: skip
    fleet = fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(3, 2))
    return Sample(fleet.evaluate(data.test_x, data.test_y)["accuracy"])


@question.figure(T("Five activations in four architectures", "五种激活函数在四种结构中的表现"))
def grid(lab: Lab) -> Figure:
    """Digits, eight passes of Adam at 0.003, three seeds. The number below is the share of architectures
    in which the first choice of `activations.choose` lies within a standard error of the best."""
    kinds, names = lab.pick((tuple(MAKERS), TRIED), (("mlp",), TRIED[:3]))
    found = {(k, n): tried(lab, k, n) for k in kinds for n in names}
    good = 0
    for kind in kinds:
        best = max((found[kind, n] for n in names), key=lambda s: s.mean)
        error = float(best.values.std(ddof=1)) / math.sqrt(best.n)
        first = choose("hidden", kind).name
        good += found[kind, first].mean >= best.mean - error
    words = {
        "mlp": T("MLP", "全连接"), "cnn": T("CNN", "卷积"), "rnn": T("RNN", "循环"),
        "transformer": T("transformer", "Transformer 块"),
    }  # fmt: skip
    marks = [
        Bars(T(n, n), [found[k, n].mean for k in kinds], [found[k, n].values.min() for k in kinds],
             [found[k, n].values.max() for k in kinds])
        for n in names
    ]  # fmt: skip
    return Figure(
        Axis(T("architecture", "结构"), ticks=[words[k] for k in kinds]),
        Axis(T("test accuracy", "测试准确率")),
        marks,
        T(
            "The sigmoid falls far behind wherever nothing normalizes; the others lie close together.",
            "凡是没有归一化的结构，sigmoid 都远远落后；其余几种彼此接近。",
        ),
        {"first choice within a standard error of the best": good / len(kinds)},
    )


@question.figure(T("Gradient through 20 layers", "20 层后的梯度"))
def through_depth(lab: Lab) -> Figure:
    """log10 of the gradient at the first layer over that at the last; bands over seeds."""
    marks = []
    for rule, name in (("he", T("He", "He 初始化")), ("xavier", T("Xavier", "Xavier 初始化"))):
        seen = [Sample(simulated(lab, n, rule)) for n in NAMES]
        marks.append(Bars(name, *band(seen)))
    ticks = [T(n, n.replace("_", " ") + " ") for n in NAMES]
    return Figure(
        Axis(T("activation", "激活函数"), ticks=ticks),
        Axis(T("log10 of first over last", "首层与末层梯度之比的 log10")),
        marks,
        T(
            "Sigmoid loses ten powers of ten either way; for the rest the initial weights decide.",
            "sigmoid 无论怎样都损失约十个数量级；其余取决于初始权重。",
        ),
    )
