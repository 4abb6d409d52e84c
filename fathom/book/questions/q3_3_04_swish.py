"""3.3.4 Swish: the family x sigmoid(beta x), and the search that brought it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import activations
from fathom.activations import grammar
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Published, Question,
    Routes, Sample, Settings, Source, T, at_most, equals, once, true,
)  # fmt: skip
from fathom.book.material.calculus import derivative, lowest, root, value
from fathom.book.material.data import digits
from fathom.book.material.smooth_gates import SHAPES, logistic, sign_changes
from fathom.book.material.stacks import stack
from fathom.book.statistics import slope as fitted_slope
from fathom.train.activation_search import Problem, SearchResult, search

question = Question(
    "3.3.4",
    title=T("What is Swish/SiLU and how was it found?", "什么是 Swish/SiLU？它是怎样被发现的？"),
    difficulty=3,
    frequency=4,
    topics=("swish", "silu", "activation search", "自动搜索", "激活函数"),
    answer=T(
        "Swish is x sigmoid(beta x); with beta = 1 it is also called SiLU. Small beta makes it "
        "x/2, large beta ReLU, from which it is at most 0.2785/beta away, so beta says how hard "
        "the gate is, and it can be learned. Hendrycks and Gimpel (2016) and Elfwing et al. "
        "(2017) had written x sigmoid(x) down already; Ramachandran, Zoph and Le (2017) came "
        "upon it again by an automated search over compositions of unary and binary functions "
        "and named it Swish. With beta = 1 it is smooth, unbounded above, bounded below by "
        "-0.2785 at x = -1.278, and not monotone. Its slope is 0 there and negative to the left, "
        "so single inputs can have no gradient but no unit is dead on a whole half-line. "
        "Searches of this kind rank candidates by small differences on small networks: the "
        "order of the first places is partly noise.",
        "Swish 是 x sigmoid(βx)；β = 1 时也叫 SiLU。β 很小时它是 x/2，β 很大时是 ReLU，与 ReLU 最多相差 "
        "0.2785/β，所以 β 表示门有多硬，也可以学习。Hendrycks 与 Gimpel（2016）、Elfwing 等（2017）早已写下 "
        "x sigmoid(x)；Ramachandran、Zoph 与 Le（2017）在一元、二元函数组合上做自动搜索时又遇到它，并命名为 "
        "Swish。β = 1 时它光滑、上无界、下有界（在 x = -1.278 处取最小值 -0.2785），且非单调。在该点导数为 0，"
        "再往左为负，所以个别输入可以没有梯度，但不会有单元在整个半轴上死亡。这类搜索按小网络上的微小"
        "差别排名：前几名的次序有一部分是噪声。",
    ),
    flips=T(
        "Make beta large and everything that sets Swish apart from ReLU is gone.",
        "把 β 取大，Swish 与 ReLU 的一切区别都消失。",
    ),
    analogy=T(
        "A tap whose handle the water itself turns: the more flows, the wider it opens.",
        "一个由水流自己拧开的龙头：水越大，开得越大。",
    ),
    generative=T(
        "SiLU is the gate in SwiGLU, the feed-forward layer of LLaMA and PaLM.",
        "SiLU 是 SwiGLU 中的门，即 LLaMA 与 PaLM 的前馈层。",
    ),
    classical=T(
        "On small tabular networks the step size matters more than Swish against ReLU.",
        "在小型表格网络上，学习率比选 Swish 还是 ReLU 更重要。",
    ),
    driving=T(
        "YOLOv5 and its successors use SiLU; on INT8 chips it often becomes hard-swish.",
        "YOLOv5 及其后继用 SiLU；在 INT8 芯片上常换成 hard-swish。",
    ),
    change=T(
        "Search on another data set or with other seeds: the winner changes, the family of "
        "shapes does not.",
        "换一个数据集或种子再搜：冠军会变，形状的家族不变。",
    ),
)

WIDE = np.linspace(-10.0, 10.0, 4001)
KNOWN = {
    "x sigmoid(x)": ("x", "sigmoid", "mul"),
    "max(x, sigmoid(x))": ("x", "sigmoid", "max"),
    "x tanh(x)": ("x", "tanh", "mul"),
    "ReLU": ("x", "positive", "max"),
}


def swish(x: Any, beta: float) -> Any:
    """x sigmoid(beta x) by the library's formula, on arrays."""
    return value(lambda t: activations.swish(t, beta=beta), x)


def slope(x: Any) -> Any:
    """The slope of SiLU by automatic differentiation."""
    return derivative(activations.silu, x)


def from_relu(beta: float) -> float:
    """Largest distance from ReLU: it lies within a few 1/beta of 0, so that is where we look."""
    x = np.linspace(-10.0, 10.0, 200_001) / beta
    return float(np.abs(swish(x, beta) - np.maximum(x, 0.0)).max())


@question.reference(
    "C3.3.4-01",
    T(
        "Swish came out of an automated search at Google.",
        "Swish 来自谷歌的自动搜索。",
    ),
)
def origin(lab: Lab) -> Evidence:
    """The paper that named it: how it was found and where its authors work; the same function had
    been proposed before as SiLU."""
    paper = Source("Ramachandran, Zoph & Le, Searching for Activation Functions", 2017, 0.99)
    return All({
        "found by": Published("automated search", (paper,), "automated search"),
        "authors at": Published("Google", (paper,), "Google"),
    })  # fmt: skip


@question.exact(
    "C3.3.4-02",
    T(
        "Swish(x) = x sigmoid(beta x) = x / (1 + exp(-beta x)).",
        "Swish(x) = x sigmoid(βx) = x / (1 + exp(-βx))。",
    ),
    at_most(1e-12),
)
def two_forms(lab: Lab) -> Evidence:
    """Largest difference on [-10, 10] for beta 0.1, 1, 1.702, 10: library, tanh form, quotient."""
    betas = (0.1, 1.0, 1.702, 10.0)
    quotient = {b: WIDE / (1.0 + np.exp(-b * WIDE)) for b in betas}
    return All({
        "library": max(float(np.abs(swish(WIDE, b) - quotient[b]).max()) for b in betas),
        "logistic": max(float(np.abs(WIDE * logistic(b * WIDE) - quotient[b]).max())
                        for b in betas),
    })  # fmt: skip


@question.exact(
    "C3.3.4-03",
    T(
        "For beta towards 0 Swish becomes the linear function x/2.",
        "β 趋于 0 时 Swish 变成线性函数 x/2。",
    ),
    at_most(1e-4),
)
def small_beta(lab: Lab) -> Evidence:
    """Largest distance from x/2 on [-10, 10] at beta = 1e-6; it should fall in step with beta."""
    betas = 10.0 ** -np.arange(2, 7)
    apart = [float(np.abs(swish(WIDE, b) - WIDE / 2).max()) for b in betas]
    rate = fitted_slope(np.log(betas), np.log(apart))
    return All({"at 1e-6": apart[-1], "order": Check(rate, equals(1.0, 0.02))})


@question.exact(
    "C3.3.4-04",
    T(
        "For beta towards infinity Swish becomes ReLU.",
        "β 趋于无穷时 Swish 变成 ReLU。",
    ),
    at_most(1e-3),
)
def large_beta(lab: Lab) -> Evidence:
    """Largest distance from ReLU at beta = 1000, and times beta at 50: it should be 0.2785."""
    return All({
        "at 1000": from_relu(1000.0),
        "times beta, at 50": Check(50.0 * from_relu(50.0), equals(0.2785, 0.0001)),
    })  # fmt: skip


@once
def known_scores(lab: Lab) -> dict[str, Any]:
    """Scores on digits of the four functions the book ranks, one a seed."""
    problem = Problem("digits", (24,), steps=40)
    seeds = lab.pick(8, 2)
    first = lab.seeds(1)[0]
    return {n: problem.scores(grammar.build(g), seeds, first) for n, g in KNOWN.items()}


@question.unmeasurable(
    "C3.3.4-05",
    T(
        "In the search Swish scored 100 %, max(x, sigmoid(x)) 99.5 %, x tanh(x) 99 %, ReLU 97.5 %.",
        "搜索中 Swish 得 100 %，max(x, sigmoid(x)) 99.5 %，x tanh(x) 99 %，ReLU 97.5 %。",
    ),
)
def ranking(lab: Lab) -> Evidence:
    """Not measured; beside it the four functions' scores on digits relative to Swish's.

    A score is the geometric mean of the probability given to the right class.
    """
    scores = {name: float(found.mean()) for name, found in known_scores(lab).items()}
    top = scores["x sigmoid(x)"]
    return NotMeasurable(
        T(
            "the original search: its grammar, child networks and training budget, repeated",
            "需要重做原始搜索：同样的语法、子网络和训练预算，并重复多次",
        ),
        {f"{name}, relative, digits": found / top for name, found in scores.items()},
    )


@question.exact(
    "C3.3.4-06",
    T(
        "Swish is not monotone, unbounded above, bounded below and smooth.",
        "Swish 非单调、上无界、下有界且光滑。",
    ),
    true(),
)
def properties(lab: Lab) -> Evidence:
    """The audit of the library's formula, and its value far out on either side."""
    found = activations.audit("silu", timing=False)
    far = value(activations.silu, [1e6, -1e6])
    return All({
        "not monotone": not found.monotone,
        "unbounded above": found.range[1] == np.inf and far[0] > 1e5,
        "bounded below": -1.0 < found.range[0] < 0.0 and far[1] > -1.0,
        "smooth": found.smooth,
    })  # fmt: skip


@question.exact(
    "C3.3.4-07",
    T("The minimum of Swish is about -0.28.", "Swish 的最小值约 -0.28。"),
    equals(-0.28, 0.005),
)
def minimum(lab: Lab) -> Evidence:
    """The library's formula minimized, and the closed form at the zero of its slope."""
    at = root(SHAPES["swish"].slope, -2.0, -1.0)
    return Routes({
        "minimized": lowest(lambda x: value(activations.silu, x), -5.0, 0.0)[1],
        "zero of the slope": float(SHAPES["swish"].value(np.array(at))),
    })  # fmt: skip


@question.exact(
    "C3.3.4-08",
    T(
        "On the negative side Swish's slope is not 0, so no unit dies.",
        "Swish 在负半轴导数不为零，因此不会有死神经元。",
    ),
    equals(0.0),
    correction=T(
        "Between -10 and 0 it exceeds 1e-4 in size somewhere in every window of length 0.1, so "
        "unlike ReLU's it is 0 on no interval. It is 0 at {n[nowhere 0/autograd]:.0f} place, the minimum at -1.2785; and "
        "left of -20 it stays below 1e-7: a unit that far left learns no more than a dead one.",
        "在 -10 与 0 之间，每个长 0.1 的窗口里都有绝对值大于 1e-4 的导数，所以不像 ReLU，它不在任何区间上为 0。"
        "它在 {n[nowhere 0/autograd]:.0f} 处（最小值点 -1.2785）为 0；而在 -20 以左导数小于 1e-7："
        "落到那里的单元与死神经元无异。",
    ),
)
def zeros_of_the_slope(lab: Lab) -> Evidence:
    """Three readings of "not 0": how often the slope changes its sign on [-20, 0); how many of the
    windows of length 0.1 in which its size nowhere exceeds 1e-4 there are on [-10, 0), and how
    many on [-30, -20). The tape's slope, and the closed form's."""
    ways = {"autograd": slope, "closed form": SHAPES["swish"].slope}

    def flat(f: Callable[[Any], Any], low: float) -> int:
        sizes = np.abs(f(low + np.arange(10_000) / 1000.0)).reshape(100, 100)
        return int((sizes.max(axis=1) <= 1e-4).sum())

    return Settings(T("what is asked", "问的是什么"), {
        "nowhere 0": Routes({k: sign_changes(f, -20.0, -1e-9) for k, f in ways.items()}),
        "no flat stretch, to -10": Routes({k: flat(f, -10.0) for k, f in ways.items()}),
        "no flat stretch, -30 to -20": Routes({k: flat(f, -30.0) for k, f in ways.items()}),
    })  # fmt: skip


@once
def by_depth(lab: Lab, depth: int) -> Any:
    """Test accuracy on digits, SiLU less ReLU, one a seed."""
    rows = digits()
    found = []
    for name in ("silu", "relu"):
        spec = {
            "model": lambda name=name: stack(64, 10, 24, depth, activation=name),
            "lr": 2e-3, "epochs": lab.pick(12, 1),
        }  # fmt: skip
        fleet = fathom.train_many(spec, rows.x, rows.y, seeds=lab.seeds(4, 2))
        found.append(fleet.evaluate(rows.test_x, rows.test_y)["accuracy"])
    return found[0] - found[1]


@question.unmeasurable(
    "C3.3.4-09",
    T(
        "Swish's lead over ReLU grows with the depth of a ResNet, from 0.3 to 1.1 % on ImageNet.",
        "Swish 对 ReLU 的优势随 ResNet 深度增长，在 ImageNet 上从 0.3 % 到 1.1 %。",
    ),
)
def with_depth(lab: Lab) -> Evidence:
    """Not measured; the accuracy gained on digits by stacks of 2 and 6 layers stands beside it."""
    return NotMeasurable(
        T(
            "ResNets of several depths trained on ImageNet with both activations and several seeds",
            "需要在 ImageNet 上用两种激活函数、多种深度、多个种子训练 ResNet",
        ),
        {
            f"SiLU - ReLU, digits, depth {d}": float(by_depth(lab, d).mean())
            for d in lab.pick((2, 6), (2,))
        },
    )


@question.reference(
    "C3.3.4-10",
    T("YOLOv4 to YOLOv8 use SiLU.", "从 YOLOv4 到 YOLOv8 都用 SiLU。"),
    correction=T(
        "YOLOv4 has Mish in its backbone and leaky ReLU elsewhere; SiLU came with YOLOv5 (release 4).",
        "YOLOv4 的骨干网络用 Mish，其余用 leaky ReLU；SiLU 从 YOLOv5（第 4 版）开始。",
    ),
    weight=2,
)
def detectors(lab: Lab) -> Evidence:
    """The activation that each release states: for YOLOv4 the paper (backbone) and the configuration
    released with it."""
    four = (
        Source("Bochkovskiy, Wang & Liao, YOLOv4, section 3.4 (Mish activation)", 2020, 0.97),
        Source("darknet, cfg/yolov4.cfg (activation=mish, activation=leaky)", 2020, 0.97),
    )
    five = Source("ultralytics/yolov5, models/common.py since release 4 (nn.SiLU)", 2021, 0.96)
    eight = Source("ultralytics, nn/modules/conv.py (default_act = nn.SiLU())", 2023, 0.98)
    return All({
        "YOLOv4": Published("Mish", four, "SiLU"),
        "YOLOv5": Published("SiLU", (five,), "SiLU"),
        "YOLOv8": Published("SiLU", (eight,), "SiLU"),
    })  # fmt: skip


@question.reference(
    "C3.3.4-11",
    T("MobileNetV3 uses Swish.", "MobileNetV3 使用 Swish。"),
    correction=T(
        "It uses hard-swish, x relu6(x + 3) / 6, in its deeper half, and ReLU before.",
        "它在较深的一半用 hard-swish，即 x relu6(x + 3) / 6，之前用 ReLU。",
    ),
)
def mobile(lab: Lab) -> Evidence:
    """The paper and the code in torchvision: the piecewise function is not x sigmoid(x)."""
    return Published(
        "hard-swish",
        (
            Source("Howard et al., Searching for MobileNetV3, section 5.2", 2019, 0.98),
            Source("torchvision, models/mobilenetv3.py (nn.Hardswish, nn.ReLU)", 2021, 0.97),
        ),
        expected="Swish",
    )


@question.figure(T("From a line to ReLU", "从直线到 ReLU"))
def family(lab: Lab) -> Figure:
    """Swish for several beta."""
    x = np.linspace(-5.0, 3.0, 161)
    betas = (0.01, 0.5, 1.0, 2.0, 20.0)
    lines = [Line(T(f"beta = {b:g}", f"β = {b:g}"), x, swish(x, b)) for b in betas]
    return Figure(
        Axis(T("x", "x")),
        Axis(T("x sigmoid(beta x)", "x sigmoid(βx)")),
        lines,
        T(
            "From x/2 at small beta to ReLU at large; in between there is a dip left of 0, the "
            "nearer to 0 and the shallower the larger beta.",
            "β 小时是 x/2，β 大时是 ReLU；其间 0 的左侧有一个下凹，β 越大越靠近 0、越浅。",
        ),
    )


@once
def searched(lab: Lab, strategy: str) -> SearchResult:
    """Candidates tried on digits: one hidden layer of 24, 40 steps, two networks each."""
    return search(
        strategy, "digits", trials=lab.pick(30, 3), hidden=(24,), steps=40, seeds=2, top=1,
        repeats=2, seed=lab.seeds(1)[0],
    )  # fmt: skip


@question.figure(T("A small search, and where Swish ranks", "一次小搜索，以及 Swish 的名次"))
def ranks(lab: Lab) -> Figure:
    """Scores of all candidates from best to worst, beside the four functions of the book."""
    lines = []
    for strategy, name in (("random", T("random", "随机")), ("evolution", T("evolution", "进化"))):
        scores = [c.score for c in searched(lab, strategy).candidates]
        lines.append(Line(name, np.arange(1, len(scores) + 1), scores, points=True))
    names = {"x sigmoid(x)": "x sigmoid(x)", "ReLU": "ReLU", "x tanh(x)": "x tanh(x)"}
    marks = [Level(T(n, n), y=float(known_scores(lab)[n].mean())) for n in names]
    intervals = {n: Sample(found) for n, found in known_scores(lab).items()}
    ahead = sum(s > marks[0].y for line in lines for s in np.asarray(line.y))
    return Figure(
        Axis(T("rank", "名次")),
        Axis(T("score on digits", "digits 上的得分")),
        [*lines, *marks],
        T(
            "Swish and ReLU score alike, and after so short a training several candidates of two "
            "networks each lie above them; most random ones lie far below.",
            "Swish 与 ReLU 得分相近；训练这么短时，若干候选（各两个网络）排在它们之上，"
            "多数随机候选远在其下。",
        ),
        {
            "candidates above x sigmoid(x)": float(ahead),
            **{f"{n}, {end}": getattr(s, end) for n, s in intervals.items()
               for end in ("low", "mean", "high")},
        },
    )  # fmt: skip
