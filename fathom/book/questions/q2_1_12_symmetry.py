"""2.1.12 How random initial weights break symmetry, and how large they should be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.signal import through, weights
from fathom.book.material.stacks import stack
from fathom.models.backprop import BackpropMLP
from fathom.nn import Linear
from fathom.nn.functional import cross_entropy
from fathom.nn.init import apply_, xavier_normal_
from fathom.ops.special import erfinv

question = Question(
    "2.1.12",
    title=T(
        "What is symmetry breaking and how does random initialization achieve it?",
        "什么是对称性破坏？随机初始化如何做到？",
    ),
    difficulty=3,
    frequency=4,
    topics=("initialization", "Xavier", "He", "LSUV", "variance", "初始化", "对称性破坏", "方差"),
    answer=T(
        "Units with equal weights get equal gradients, so something must make them differ at the "
        "start: random weights do. Their size then decides whether signals and gradients survive "
        "depth. A layer multiplies the mean square of its input by n_in Var(W), so Var(W) = 1/n_in "
        "keeps it forward and 1/n_out keeps gradients backward; Xavier takes 2/(n_in + n_out) "
        "between the two. ReLU halves the mean square, so He uses 2/n_in and the second moment of "
        "pre-activations stays constant in expectation. Xavier was derived for functions that are "
        "the identity near 0: with tanh the variance still shrinks slowly, about like 1/depth, and "
        "with sigmoid, whose slope is at most 1/4, differences between inputs vanish within a few "
        "layers. LSUV measures instead of deriving: orthogonal weights, then each layer rescaled on "
        "data to unit variance. All of it matters less where normalization or residual paths "
        "control the scale.",
        "权重相同的单元得到相同的梯度，所以起点上必须有东西使它们不同：随机权重正是如此。权重的大小则"
        "决定信号与梯度能否穿过深度。一层把输入的均方乘以 n_in Var(W)，因此 Var(W) = 1/n_in 使前向保持，"
        "1/n_out 使反向梯度保持；Xavier 在两者之间取 2/(n_in + n_out)。ReLU 使均方减半，所以 He 取 "
        "2/n_in，预激活的二阶矩在期望上保持不变。Xavier 是对 0 附近近似恒等的函数推导的：用 tanh 时方差"
        "仍会缓慢缩小，约按 1/深度；用 sigmoid 时斜率最多 1/4，不同输入之间的差异几层之内就消失。LSUV 以"
        "测量代替推导：先取正交权重，再用数据把每层缩放到单位方差。若有归一化或残差通路控制尺度，这一切就"
        "不那么重要了。",
    ),
    flips=T(
        "With batch or layer normalization after every layer the scale of the weights hardly matters.",
        "每层之后若有批归一化或层归一化，权重的尺度几乎无关紧要。",
    ),
    analogy=T(
        "A microphone chain: each stage should neither fade nor amplify, or the last one hears nothing or noise.",
        "如同一串话筒放大级：每一级既不能衰减也不能放大，否则最后只剩寂静或啸叫。",
    ),
    generative=T(
        "GPT-2 draws from N(0, 0.02²) and scales residual outputs by 1/sqrt(number of layers).",
        "GPT-2 从 N(0, 0.02²) 抽取权重，并把残差输出按 1/sqrt(层数) 缩小。",
    ),
    classical=T(
        "He initialization let ReLU nets of 30 layers train without pretraining.",
        "He 初始化使 30 层的 ReLU 网络无需预训练即可训练。",
    ),
    driving=T(
        "A new head on a pretrained backbone starts small, so that it does not disturb what is learned.",
        "在预训练主干上新加的检测头取较小的初值，以免破坏已学到的特征。",
    ),
    change=T(
        "Replace He's factor 2 by 1 under ReLU: the signal halves with every layer.",
        "在 ReLU 下把 He 的系数 2 换成 1：信号逐层减半。",
    ),
)  # fmt: skip

DEPTH, WIDTH = 20, 100


def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def relu(z: Any) -> Any:
    """max(z, 0)."""
    return np.maximum(z, 0)


# -- symmetry ------------------------------------------------------------------------------------


def moved_by_tape(activation: str, x: Any, y: Any) -> float:
    """Largest change of a hidden weight in one gradient step from zeros, rate 1."""
    model = stack(6, 3, 8, 2, activation=activation, init="zeros").double()
    cross_entropy(model(fathom.tensor(x)), y).backward()
    hidden = [m for m in model.modules() if isinstance(m, Linear)][:2]
    return max(float(m.weight.grad.abs().max().item()) for m in hidden)


def moved_by_hand(activation: str, x: Any, y: Any) -> float:
    """The same by the four equations of backpropagation."""
    sizes = [(8, 6), (8, 8), (3, 8)]
    zeros = [np.zeros(size) for size in sizes]
    net = BackpropMLP(zeros, [w[:, 0] for w in zeros], activation, loss="cross_entropy")
    return max(float(np.abs(layer.weight).max()) for layer in net.gradients(x, y)[:2])


@question.exact(
    "C2.1.12-01",
    T(
        "After one step from all zeros the weights of the hidden units have become one common value "
        "other than 0.",
        "从全零走一步之后，隐单元的权重变成同一个非零值。",
    ),
    at_least(1e-12),
    correction=T(
        "They do not move at all (largest change {n[tape/sigmoid]:.1f}): the gradient reaches them "
        "through the weights behind, which are 0. Only the output layer moves: its biases, and with the "
        "sigmoid, whose units give 0.5, its weights.",
        "它们根本不动（最大变化 {n[tape/sigmoid]:.1f}）：梯度须经过后面为 0 的权重才能到达。只有输出层会动："
        "动的是偏置；用 sigmoid 时隐单元输出 0.5，输出层的权重也会动。",
    ),
    weight=2,
)
def first_step(lab: Lab) -> Evidence:
    """Largest change of a hidden weight in one gradient step; two hidden layers, three classes.

    By the tape, and by the equations of backpropagation on arrays.
    """
    rng = lab.rng("rows")
    x, y = rng.standard_normal((32, 6)), rng.integers(0, 3, 32)
    names = ("tanh", "relu", "sigmoid")
    return Routes({
        "tape": All({name: moved_by_tape(name, x, y) for name in names}),
        "by hand": All({name: moved_by_hand(name, x, y) for name in names}),
    })  # fmt: skip


@once
def trained(lab: Lab, depth: int, optimizer: str, lr: float) -> dict[str, Any]:
    """Fleets on the digits by initial weights: `depth` layers with weights, ReLU, 20 epochs."""
    data = digits()

    def net(rule: str) -> Any:
        model = stack(64, 10, 48, depth - 1)
        return apply_(model, "normal", std=0.01) if rule == "small" else apply_(model, rule)

    spec = {
        "model": net, "optimizer": optimizer, "lr": lr, "epochs": lab.pick(20, 2), "batch_size": 50
    }  # fmt: skip
    rules = ["he_normal", "xavier_normal", "small", "zeros"]
    seeds = lab.seeds(8, 2)
    fleet = fathom.train_many(spec, data.x, data.y, seeds=seeds, grid={"rule": rules}, threads=1)
    parts = [fleet.runs[i * len(seeds) : (i + 1) * len(seeds)] for i in range(len(rules))]
    return dict(zip(rules, parts, strict=True))


def nearest_rows(weight: Any) -> float:
    """Least distance of two rows over the mean length of a row."""
    apart = np.linalg.norm(weight[:, None] - weight[None], axis=2)
    apart[np.diag_indices(len(weight))] = np.inf
    return float(apart.min() / np.linalg.norm(weight, axis=1).mean())


@question.experiment(
    "C2.1.12-02",
    T(
        "Random initial weights keep the units different while they are trained.",
        "随机初始化使各神经元在训练过程中保持不同。",
    ),
    at_least(0.1),
)
def rows_differ(lab: Lab) -> Evidence:
    """Least distance of two units' weights over their mean length, first layer, after training."""
    runs = trained(lab, 3, "sgd", 0.1)["he_normal"]
    return Sample([nearest_rows(run.model[0].weight.value()) for run in runs])


# -- scale through depth -------------------------------------------------------------------------


def spread(
    f: Callable[[Any], Any], rng: np.random.Generator, rule: str | float, depth: int = DEPTH
) -> Any:
    """Variance of a unit's activation over 200 inputs, averaged over units, layer by layer."""
    return spreads(f, rng, rule, depth)[0]


def spreads(
    f: Callable[[Any], Any], rng: np.random.Generator, rule: str | float, depth: int
) -> Any:
    """That variance over inputs, and the one over units and inputs together: (2, depth)."""
    h, found = rng.standard_normal((200, WIDTH)), []
    for _ in range(depth):
        h = f(h @ weights(rule, WIDTH, rng))
        found.append((h.var(axis=0).mean(), h.var()))
    return np.array(found).T


@question.experiment(
    "C2.1.12-03",
    T(
        "Weights from N(0, 0.01²) are too small for deep networks: the signal dies.",
        "N(0, 0.01²) 的权重对深层网络太小：信号会消失。",
    ),
    at_most(-3.0),
    weight=2,
)
def too_small(lab: Lab) -> Evidence:
    """log10 of the last layer's spread (standard deviation) over the first's; 20 layers of 100."""
    found = {}
    for name, f in (("tanh", np.tanh), ("relu", relu)):
        runs = [spread(f, np.random.default_rng(s), 0.01) for s in lab.seeds(10, 4)]
        found[name] = Sample([np.log10(v[-1] / v[0]) / 2 for v in runs])
    return All(found)


def forward_gain(n_in: int, n_out: int, lab: Lab) -> Sample:
    """Variance after one Xavier layer over that before, one a seed."""
    found = []
    for seed in lab.seeds(20, 6):
        with fathom.seed(seed):
            layer = Linear(n_in, n_out, bias=False)
            xavier_normal_(layer.weight)
        x = np.random.default_rng(seed).standard_normal((400, n_in))
        found.append((x @ layer.weight.value().T.astype(np.float64)).var() / x.var())
    return Sample(found)


@question.exact(
    "C2.1.12-04",
    T(
        "Xavier makes the variance of a layer's output equal to that of its input.",
        "Xavier 初始化使一层的输出方差等于输入方差。",
    ),
    equals(1.0, 0.05),
    correction=T(
        "Only where n_in = n_out: the ratio is 2 n_in / (n_in + n_out), {n[400 to 100/measured]:.2f} "
        "from 400 to 100 units and {n[100 to 400/measured]:.2f} from 100 to 400.",
        "只在 n_in = n_out 时成立：比值是 2 n_in / (n_in + n_out)，400 到 100 个单元时为 "
        "{n[400 to 100/measured]:.2f}，100 到 400 时为 {n[100 to 400/measured]:.2f}。",
    ),
    weight=2,
)
def xavier_forward(lab: Lab) -> Evidence:
    """Variance out over variance in of a linear layer: measured over seeds, and by the formula."""
    sizes = {"200 to 200": (200, 200), "400 to 100": (400, 100), "100 to 400": (100, 400)}
    return Settings(
        T("layer", "层的尺寸"),
        {
            name: Routes({"measured": forward_gain(i, o, lab), "formula": 2 * i / (i + o)})
            for name, (i, o) in sizes.items()
        },
    )


@question.exact(
    "C2.1.12-05",
    T(
        "ReLU halves the signal (its mean square), hence the factor 2 in He's rule.",
        "ReLU 使信号（均方）减半，因此 He 规则中有系数 2。",
    ),
    equals(0.5, 0.005),
    weight=2,
)
def halved(lab: Lab) -> Evidence:
    """E[relu(z)²] / E[z²] for four symmetric distributions: by quadrature over quantiles."""
    u = (np.arange(200_000) + 0.5) / 200_000
    normal = np.sqrt(2) * erfinv(fathom.tensor(2 * u - 1)).value()
    shapes = {
        "normal": normal,
        "uniform": 2 * u - 1,
        "Laplace": -np.sign(u - 0.5) * np.log(1 - 2 * np.abs(u - 0.5)),
        "two points": np.where(u < 0.5, -1.0, 1.0),
    }
    return All({
        name: float((np.maximum(z, 0) ** 2).mean() / (z**2).mean()) for name, z in shapes.items()
    })  # fmt: skip


@question.experiment(
    "C2.1.12-06",
    T(
        "He's rule keeps the second moment of pre-activations constant under ReLU.",
        "He 初始化使 ReLU 网络预激活的二阶矩保持不变。",
    ),
    within(0.8, 1.25),
    weight=2,
)
def he_constant(lab: Lab) -> Evidence:
    """E[z²] in layer 20 over that in layer 1; 20 ReLU layers of 512, 8 rows, one ratio a seed."""
    found = []
    for seed in lab.seeds(60, 3):
        rng, moments = np.random.default_rng(seed), []
        h = rng.standard_normal((8, 512), dtype=np.float32)
        for _ in range(DEPTH):
            z = h @ rng.standard_normal((512, 512), dtype=np.float32) * np.float32(np.sqrt(2 / 512))
            moments.append(float((z**2).mean()))
            h = np.maximum(z, 0)
        found.append(moments[-1] / moments[0])
    return Sample(found)


@question.exact(
    "C2.1.12-07",
    T(
        "For weights of mean 0, Var(z) = n_in Var(W) Var(x).",
        "权重均值为 0 时，Var(z) = n_in Var(W) Var(x)。",
    ),
    equals(1.0, 0.05),
    correction=T(
        "It is n_in Var(W) E[x²]: the inputs must have mean 0, too. Behind a ReLU Var(z) is "
        "{n[ReLU outputs/measured]:.2f} times as large as the formula says.",
        "应为 n_in Var(W) E[x²]：输入均值也须为 0。在 ReLU 之后，Var(z) 是该公式的 "
        "{n[ReLU outputs/measured]:.2f} 倍。",
    ),
    weight=2,
)
def variance_of_sum(lab: Lab) -> Evidence:
    """Var(z) over n Var(W) Var(x), 50 inputs: drawn 20,000 times a seed, and E[x²] / Var(x)."""
    inputs: dict[str, Callable[[Any], Any]] = {"mean 0": np.asarray, "ReLU outputs": relu}
    formula = {"mean 0": 1.0, "ReLU outputs": 0.5 / (0.5 - 0.5 / np.pi)}
    found: dict[str, Evidence] = {}
    for name, f in inputs.items():
        ratios = []
        for seed in lab.seeds(12, 3):
            rng = np.random.default_rng(seed)
            w, x = rng.standard_normal((20_000, 50)), f(rng.standard_normal((20_000, 50)))
            ratios.append((w * x).sum(axis=1).var() / (50 * x.var()))
        found[name] = Routes({"measured": Sample(ratios), "formula": float(formula[name])})
    return Settings(T("inputs", "输入"), found)


@question.exact(
    "C2.1.12-08",
    T(
        "Xavier's compromise between the forward and the backward condition is 2 / (n_in + n_out).",
        "Xavier 在前向条件与反向条件之间的折中方差是 2 / (n_in + n_out)。",
    ),
    equals(1.0, 0.01),
)
def compromise(lab: Lab) -> Evidence:
    """Harmonic mean of 1 / n_in and 1 / n_out over 2 / (n_in + n_out); the library's draws over it."""
    sizes = [(400, 100), (64, 640), (300, 300)]
    harmonic, drawn = [], []
    for i, o in sizes:
        goal = 2 / (i + o)
        harmonic.append(1 / ((i + o) / 2) / goal)
        layer = Linear(i, o, bias=False)
        drawn.append(np.mean([xavier_normal_(layer.weight).value().var() for _ in range(8)]) / goal)
    names = [f"{i} to {o}" for i, o in sizes]
    return Routes({
        "harmonic mean": All(dict(zip(names, harmonic, strict=True))),
        "drawn": All({n: float(v) for n, v in zip(names, drawn, strict=True)}),
    })  # fmt: skip


def mean_field(f: Callable[[Any], Any], depth: int) -> Any:
    """What `spreads` become at infinite width under Xavier: Gaussian integrals, layer by layer.

    q and c are the variance of pre-activations and their covariance for two inputs (Poole et al.,
    2016); the spread of an activation over inputs is E[f²] - E[f f'],
    that over units E[f²] - E[f]².
    """
    z, w = np.polynomial.hermite_e.hermegauss(80)
    w = w / w.sum()
    q, c, found = 1.0, 0.0, []
    for _ in range(depth):
        r = min(c / q, 1.0)
        first = f(np.sqrt(q) * z)
        second = f(np.sqrt(q) * (r * z[:, None] + np.sqrt(max(1 - r * r, 0.0)) * z[None]))
        q, c = float(w @ first**2), float((w * first) @ second @ w)
        found.append((q - c, q - float(w @ first) ** 2))
    return np.array(found).T


def stability(lab: Lab, f: Callable[[Any], Any]) -> Evidence:
    """Variance in the last layer over that in the first, by what it is taken over and for three
    depths, by two routes."""
    runs = np.array([spreads(f, np.random.default_rng(s), "xavier", 50) for s in lab.seeds(10, 4)])
    theory = mean_field(f, 50)
    return Settings(T("what it is taken over, and depth", "统计对象与深度"), {
        f"{over}, {d}": Routes({
            "simulated": Sample(runs[:, i, d - 1] / runs[:, i, 0]),
            "infinite width": float(theory[i, d - 1] / theory[i, 0]),
        })
        for i, over in enumerate(("inputs", "units")) for d in (5, 20, 50)
    })  # fmt: skip


@question.experiment(
    "C2.1.12-09",
    T(
        "Xavier keeps the variance stable in sigmoid networks.",
        "Xavier 使 sigmoid 网络中的方差保持稳定。",
    ),
    within(0.1, 10.0),
    correction=T(
        "Over the units of a layer it settles ({n[units, 20/simulated]:.2f} of the first layer's after "
        "20), but then the units differ from each other and hardly respond: over inputs "
        "{n[inputs, 5/simulated]:.0e} of it is left after 5 layers, because the slope of the sigmoid is "
        "at most 1/4.",
        "对一层的各单元统计时方差会稳定下来（20 层后为第一层的 {n[units, 20/simulated]:.2f}），但那只是单元"
        "之间的差别，单元对输入几乎没有反应：对输入统计时，5 层之后只剩 {n[inputs, 5/simulated]:.0e}，因为 "
        "sigmoid 的斜率最多 1/4。",
    ),
    weight=3,
)
def xavier_sigmoid(lab: Lab) -> Evidence:
    """Variance of activations, last layer over first, width 100; and at infinite width.

    Over the inputs, unit by unit (what is left of the signal); and over units and inputs together.
    Stable is taken to mean: within a factor of 10 of the first layer's, as in S.3.
    """
    return stability(lab, sigmoid)


@question.experiment(
    "C2.1.12-10",
    T(
        "Xavier keeps the variance stable in tanh networks.",
        "Xavier 使 tanh 网络中的方差保持稳定。",
    ),
    within(0.1, 10.0),
    correction=T(
        "It depends on depth, since it shrinks slowly, like 1 / depth: to {n[inputs, 5/simulated]:.2f} of the first layer's "
        "after 5 layers, {n[inputs, 20/simulated]:.2f} after 20, {n[inputs, 50/simulated]:.3f} after 50. A gain of 5/3 prevents it.",
        "取决于深度，因为它按 1/深度缓慢缩小：5 层后为第一层的 {n[inputs, 5/simulated]:.2f}，20 层后 "
        "{n[inputs, 20/simulated]:.2f}，50 层后 {n[inputs, 50/simulated]:.3f}。取增益 5/3 可避免。",
    ),
    weight=2,
)
def xavier_tanh(lab: Lab) -> Evidence:
    """As for the sigmoid: variance over inputs, and over units, last layer over first, two routes.

    Standard normal inputs; weaker ones stay in the straight part of tanh and shrink less.
    """
    return stability(lab, np.tanh)


def scale_errors(rule: str, seed: int) -> float:
    """Mean |ln deviation| of pre-activations over 8 hidden ReLU layers, on rows not used to set it."""
    data = digits()
    with fathom.seed(seed):
        model = stack(64, 10, 64, 8)
        apply_(model, rule, *([fathom.tensor(data.x[:300])] if rule == "lsuv" else []))
    h, found = fathom.tensor(data.test_x[:300]), []
    with fathom.no_grad():
        for layer in list(model)[:-1]:
            h = layer(h)
            found += [abs(float(np.log(h.value().std())))] if isinstance(layer, Linear) else []
    return float(np.mean(found))


@question.experiment(
    "C2.1.12-11",
    T(
        "LSUV rescales layer by layer and meets unit variance better than formulas do.",
        "LSUV 逐层迭代缩放，比公式更精确地达到单位方差。",
    ),
    at_least(0.05),
)
def lsuv(lab: Lab) -> Evidence:
    """Mean |ln deviation| of layers under He and Xavier less that under LSUV, fresh digits."""
    seeds = lab.seeds(12, 4)
    errors = {r: np.array([scale_errors(r, s) for s in seeds])
              for r in ("lsuv", "he_normal", "xavier_normal")}  # fmt: skip
    return All({
        "He less LSUV": Sample(errors["he_normal"] - errors["lsuv"]),
        "Xavier less LSUV": Sample(errors["xavier_normal"] - errors["lsuv"]),
        "LSUV": Check(Sample(errors["lsuv"]), at_most(0.1)),
    })  # fmt: skip


@question.experiment(
    "C2.1.12-12",
    T(
        "Training loss: He and Xavier do best, small random weights are slower, zeros do not learn.",
        "训练损失：He 与 Xavier 最好，小随机权重较慢，全零不收敛。",
    ),
    at_least(0.05),
    correction=T(
        "With 3 layers it takes Adam ({n[3 layers, Adam/zeros less small]:.2f} nats better than "
        "zeros); with plain SGD N(0, 0.01²) stays where zeros stay "
        "({n[3 layers, SGD/zeros less small]:.3f} apart), and with 8 layers under either.",
        "3 层时需要 Adam（比全零低 {n[3 layers, Adam/zeros less small]:.2f} 奈特）；用普通 SGD 时 "
        "N(0, 0.01²) 与全零停在同一处（相差 {n[3 layers, SGD/zeros less small]:.3f}），8 层时两种优化器都如此。",
    ),
    weight=2,
)
def ordering(lab: Lab) -> Evidence:
    """Differences of the training loss after 20 epochs on the digits, in nats.

    SGD at 0.1 and Adam at 0.001, 3 and 8 layers with weights. 0.05 nats count as a difference;
    zeros must stay above 2.2 (ln 10 is 2.303).
    """
    found: dict[str, Evidence] = {}
    for depth in lab.pick((3, 8), (3,)):
        for name, lr in (("SGD", 0.1), ("Adam", 0.001)):
            fleets = trained(lab, depth, name.lower(), lr)
            last = {r: np.array([run.losses[-1] for run in runs]) for r, runs in fleets.items()}
            found[f"{depth} layers, {name}"] = All({
                "small less He": Sample(last["small"] - last["he_normal"]),
                "small less Xavier": Sample(last["small"] - last["xavier_normal"]),
                "zeros less small": Sample(last["zeros"] - last["small"]),
                "zeros": Check(Sample(last["zeros"]), at_least(2.2)),
            })  # fmt: skip
    return Settings(T("depth and optimizer", "深度与优化器"), found)


@question.reference(
    "C2.1.12-13",
    T("GPT and BERT use initial weights by He's rule.", "GPT 与 BERT 使用 He 之类的初始化。"),
    equals(math.sqrt(2 / 768), 0.005),
    correction=T(
        "Both draw from a fixed N(0, 0.02²), whatever the width (BERT cuts it off at 2 deviations; "
        "GPT-2 scales residual layers by 1/sqrt(N)).",
        "两者都从固定的 N(0, 0.02²) 抽取，与宽度无关（BERT 在 2 倍标准差处截断；GPT-2 把残差层按 1/sqrt(N) 缩小）。",
    ),
)
def language_models(lab: Lab) -> Evidence:
    """Standard deviation of the first weights of a layer with 768 inputs, the width of both models;
    He's rule gives sqrt(2/768) = 0.051, and about is taken as 10 %."""
    return Published(
        0.02,
        (
            Source("Radford et al., Improving Language Understanding by Generative Pre-Training, section 4.1", 2018, 0.97),
            Source("Devlin et al., BERT, released code (truncated_normal_initializer, initializer_range 0.02)", 2018, 0.97),
        ),
    )  # fmt: skip


# -- figures -------------------------------------------------------------------------------------

RULES = {
    "0.01": T("N(0, 0.01²)", "N(0, 0.01²) 小随机"), "xavier": T("Xavier", "Xavier 初始化"),
    "he": T("He", "He 初始化"), "orthogonal": T("orthogonal", "正交"), "lsuv": T("LSUV", "LSUV 法"),
}  # fmt: skip


def moments(f: Callable[[Any], Any], rule: str, rng: np.random.Generator) -> Any:
    """Mean square of activations by layer; LSUV divides orthogonal weights by what they make."""
    h, found = rng.standard_normal((200, WIDTH)), []
    for _ in range(DEPTH):
        given: str | float = {"0.01": 0.01, "lsuv": "orthogonal"}.get(rule, rule)  # type: ignore[assignment]
        z = h @ weights(given, WIDTH, rng)
        h = f(z / z.std() if rule == "lsuv" else z)
        found.append((h**2).mean())
    return np.array(found)


@question.figure(T("Signal through 20 ReLU layers", "信号穿过 20 层 ReLU"))
def signal(lab: Lab) -> Figure:
    """Mean square of the activations by layer under five rules; bands over seeds."""
    lines = []
    for rule, name in RULES.items():
        drawn = np.log10([
            moments(relu, rule, np.random.default_rng(s))
            for s in lab.seeds(10, 4)
        ])  # fmt: skip
        at = [Sample(column) for column in np.maximum(drawn, -9).T]
        middle, low, high = (10 ** np.array([getattr(s, part) for s in at])
                             for part in ("mean", "low", "high"))  # fmt: skip
        lines.append(Line(name, np.arange(1, DEPTH + 1), middle, low, high))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("mean square of activations", "激活均方"), log=True),
        lines,
        T(
            "He and LSUV keep the signal, Xavier and orthogonal weights halve it with every layer, "
            "small ones lose it at once (what is below 1e-9 is shown there).",
            "He 与 LSUV 保持信号，Xavier 与正交权重每层减半，小权重立即丢失信号（低于 1e-9 的画在 1e-9 处）。",
        ),
    )


@question.figure(T("Which pairs keep signal and gradient", "哪些组合能保持信号与梯度"))
def pairs(lab: Lab) -> Figure:
    """Gradient at the first layer over that at the last, by activation and rule, 20 layers."""
    functions = {"tanh": fathom.tanh, "relu": fathom.relu, "sigmoid": fathom.sigmoid}
    bars = []
    for rule, name in list(RULES.items())[:4]:
        given: str | float = 0.01 if rule == "0.01" else rule
        at = [
            Sample([np.log10(through(f, np.random.default_rng(s), depth=lab.pick(DEPTH, 8), width=WIDTH,
                                     rule=given).backward_ratio) for s in lab.seeds(5, 2)])
            for f in functions.values()
        ]  # fmt: skip
        bars.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("activation", "激活函数"), ticks=[T(n, n) for n in functions]),
        Axis(T("log10 of first over last gradient", "首层与末层梯度之比的 log10")),
        [*bars, Level(T("kept", "保持"), y=0.0)],
        T(
            "Only ReLU with He, and tanh with Xavier or orthogonal weights, bring the gradient through; "
            "with sigmoid every rule loses it.",
            "只有 ReLU 配 He、tanh 配 Xavier 或正交权重能让梯度通过；sigmoid 用任何规则都会丢失梯度。",
        ),
    )
