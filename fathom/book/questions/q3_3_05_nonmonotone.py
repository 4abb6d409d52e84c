"""3.3.5 The dip below zero: where it lies, and what a unit can do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import activations, nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, NotMeasurable, Question, Routes, Sample,
    Settings, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.calculus import derivative, difference, lowest, root, value
from fathom.book.material.data import digits
from fathom.book.material.smooth_gates import SHAPES

question = Question(
    "3.3.5",
    title=T("What does non-monotonicity buy?", "非单调性带来了什么？"),
    difficulty=4,
    frequency=3,
    topics=("swish", "non-monotonic", "mish", "非单调", "表示能力"),
    answer=T(
        "Swish, GELU and Mish fall before they rise: their minima are -0.278 at -1.278, -0.170 "
        "at -0.752 and -0.309 at -1.192, and everything to the left of these is the falling "
        "part. A single unit with a dip can say 'inside an interval' against 'outside'; a single "
        "monotone unit with a threshold can only cut the line once, whatever its weights. That "
        "is a true gain of expressiveness, but of one unit: two or more monotone units do the "
        "same. In a network with layers of usual width the dip makes no difference that stands "
        "out: a copy of Swish that is flat to the left of its minimum does as well on digits. So "
        "non-monotonicity is a by-product of the smooth gate x g(x) with g going to 0, not a "
        "proven cause of its success. It has a price too: the slope is 0 at the minimum and "
        "negative beyond, and small outputs no longer tell where the input was.",
        "Swish、GELU、Mish 都先降后升：最小值分别是 -1.278 处的 -0.278、-0.752 处的 -0.170、-1.192 处的 "
        "-0.309，其左侧全是下降段。带下凹的单个单元能区分“在区间内”与“在区间外”；单个单调单元加阈值，"
        "无论权重如何都只能把直线切一刀。这是真实的表达能力增益，但只对单个单元成立：两个以上的单调单元"
        "就能做到同样的事。在通常宽度的网络里，下凹不产生显著差别：把 Swish 最小值左侧改平的副本在 digits "
        "上一样好。所以非单调性是光滑门 x g(x)（g 趋于 0）的副产品，而不是其成功的已证实原因。"
        "它也有代价：最小值处导数为 0、再往左为负，而且小的输出不再能说明输入在哪里。",
    ),
    flips=T(
        "With one or very few units a layer the dip decides; with many it does not matter.",
        "每层只有一个或极少单元时，下凹起决定作用；单元多时无关紧要。",
    ),
    analogy=T(
        "A road with one dip holds a puddle in the middle; a road that only climbs holds none.",
        "有一处凹陷的路中间能积水；一路上坡的路积不住。",
    ),
    generative=T(
        "The gate of SwiGLU has the dip, but it multiplies another branch, so its sign is "
        "arbitrary anyway.",
        "SwiGLU 的门有下凹，但它要乘上另一条支路，符号本来就是任意的。",
    ),
    classical=T(
        "A one-unit model on one feature is the place where the dip shows: age bands, for "
        "instance.",
        "只有一个特征、一个单元的模型最能体现下凹，例如年龄段。",
    ),
    driving=T(
        "Detectors with Mish or SiLU gain from smooth training; no ablation isolates the dip.",
        "使用 Mish 或 SiLU 的检测器受益于平滑的训练；没有消融实验单独验证下凹。",
    ),
    change=T(
        "Give the monotone twin a second unit: it solves the two-interval task as well.",
        "给单调副本加一个单元：它同样能解决两区间任务。",
    ),
)

NAMES = {"swish": activations.silu, "gelu": activations.gelu, "mish": activations.mish}
PLACES = np.linspace(-4.0, 4.0, 81, dtype=np.float32)[:, None]
WIDE = np.linspace(-8.0, 8.0, 4001)
BOTTOM = root(SHAPES["swish"].slope, -2.0, -1.0)  # where Swish is lowest
FLOOR = float(SHAPES["swish"].value(np.array(BOTTOM)))


@once
def minimum(lab: Lab, name: str) -> dict[str, tuple[float, float]]:
    """(place, value) of the minimum by two routes.

    The library's formula minimized by golden section, and the root of the closed-form slope.
    """
    shape = SHAPES[name]
    at = root(shape.slope, -3.0, -0.1)
    return {
        "minimized": lowest(lambda x: value(NAMES[name], x), -4.0, 0.0),
        "root of the slope": (at, float(shape.value(np.array(at)))),
    }


@question.exact(
    "C3.3.5-01",
    T(
        "Swish'(x) = sigmoid(x) + x sigmoid(x) (1 - sigmoid(x)).",
        "Swish'(x) = sigmoid(x) + x sigmoid(x) (1 - sigmoid(x))。",
    ),
    at_most(1e-12),
)
def slope_formula(lab: Lab) -> Evidence:
    """Largest difference on [-8, 8] from the tape's slope, and from central differences."""
    hand = SHAPES["swish"].slope(WIDE)
    apart = float(np.abs(difference(activations.silu, WIDE) - hand).max())
    return All({
        "autograd": float(np.abs(derivative(activations.silu, WIDE) - hand).max()),
        "central differences": Check(apart, at_most(1e-8)),
    })  # fmt: skip


@question.exact(
    "C3.3.5-02",
    T(
        "Swish has its minimum at about -1.27, with the value -0.28.",
        "Swish 的最小值点约在 -1.27，值为 -0.28。",
    ),
    equals(-1.27, 0.005),
    correction=T(
        "The minimum lies at {n[place/minimized]:.5f}, which rounds to -1.28; the value "
        "{n[value/minimized]:.5f} is printed right.",
        "最小值点在 {n[place/minimized]:.5f}，四舍五入为 -1.28；值 {n[value/minimized]:.5f} 印得正确。",
    ),
)
def minimum_of_swish(lab: Lab) -> Evidence:
    """Place and value of the minimum by two routes; to half a unit of the last printed digit."""
    found = minimum(lab, "swish")
    return All({
        "place": Routes({route: at for route, (at, _) in found.items()}),
        "value": Check(Routes({r: low for r, (_, low) in found.items()}), equals(-0.28, 0.005)),
    })  # fmt: skip


@question.exact(
    "C3.3.5-03",
    T(
        "A moderately negative input gives a lower output than a slightly negative one.",
        "中等负的输入给出的输出比略负的输入更低。",
    ),
    at_least(0.05),
)
def dip(lab: Lab) -> Evidence:
    """f(-0.1) - f(-1.3) for Swish: by the library and by the closed form."""
    ours = value(activations.silu, [-0.1, -1.3])
    hand = SHAPES["swish"].value(np.array([-0.1, -1.3]))
    return Routes({"library": float(ours[0] - ours[1]), "closed form": float(hand[0] - hand[1])})


@question.exact(
    "C3.3.5-04",
    T(
        "Swish and Mish are not monotone on a part of the negative half-line: they fall up to "
        "-1.278 and -1.192.",
        "Swish 与 Mish 在负半轴的一部分非单调：分别在 -1.278 与 -1.192 以左下降。",
    ),
    at_least(0.1),
)
def falling_parts(lab: Lab) -> Evidence:
    """How far each falls from x = -30 to its minimum, and where the minimum lies."""
    parts: dict[str, Any] = {}
    for name, place in (("swish", -1.278), ("mish", -1.192)):
        found = minimum(lab, name)
        far = value(NAMES[name], -30.0).item()
        parts[f"{name} falls by"] = Routes({r: far - low for r, (_, low) in found.items()})
        parts[f"{name} until"] = Check(
            Routes({r: at for r, (at, _) in found.items()}), equals(place, 0.0005)
        )
    return All(parts)


@question.exact(
    "C3.3.5-05",
    T(
        "GELU's non-monotone part lies near x = 0.",
        "GELU 的非单调段在 x = 0 附近。",
    ),
    at_least(0.5),
    correction=T(
        "It lies left of -0.7518, and 0 is not in it: there GELU rises with slope 0.5. Within 1 "
        "of 0 is {n[|x| < 1/library]:.1%} of the fall, within 2 {n[|x| < 2/library]:.1%}: the "
        "steepest part is at -1.41.",
        "它在 -0.7518 以左，不含 0：在 0 处 GELU 以 0.5 的导数上升。|x| < 1 内只有 "
        "{n[|x| < 1/library]:.1%} 的下降，|x| < 2 内有 {n[|x| < 2/library]:.1%}：最陡处在 -1.41。",
    ),
)
def where_gelu_falls(lab: Lab) -> Evidence:
    """Share of GELU's whole fall that takes place within 1 of 0, and within 2.

    A half or more would mean near. For normalized inputs these are one and two deviations.
    """

    def share(f: Callable[[Any], Any], radius: int) -> float:
        steps = np.diff(f(np.linspace(-12.0, 12.0, 24_001)))
        middle = slice(12_000 - 1000 * radius, 12_000 + 1000 * radius)
        return float(np.minimum(steps[middle], 0.0).sum() / np.minimum(steps, 0.0).sum())

    return Settings(T("what counts as near", "多近算附近"), {
        f"|x| < {radius}": Routes({
            "library": share(lambda x: value(activations.gelu, x), radius),
            "closed form": share(SHAPES["gelu"].value, radius),
        })
        for radius in (1, 2)
    })  # fmt: skip


def flat_swish(x: Any) -> Any:
    """Swish, flat to the left of its minimum: the monotone twin."""
    return fathom.where(x < BOTTOM, FLOOR, activations.silu(x))


class Unit(nn.Module):
    """Any function of a tensor as a layer."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


UNITS: dict[str, Callable[[Any], Any]] = {
    "swish": activations.silu, "flat": flat_swish, "relu": activations.relu,
}  # fmt: skip


@once
def intervals(lab: Lab, name: str, units: int) -> Any:
    """Best accuracy of 4 starts on 81 places of a line, one a seed.

    The middle of the line, an interval drawn for each seed, is one class and its two sides are
    the other; one hidden layer, 400 full-batch steps of Adam.
    """
    best = []
    for seed in lab.seeds(8, 2):
        rng = np.random.default_rng(seed)
        left = rng.uniform(-2.5, -0.5)
        right = left + rng.uniform(1.5, 3.0)
        y = ((left < PLACES[:, 0]) & (PLACES[:, 0] < right)).astype(np.int64)
        spec = {
            "model": lambda: nn.Sequential(
                nn.Linear(1, units), Unit(UNITS[name]), nn.Linear(units, 2)
            ),
            "lr": 0.05, "epochs": 400, "batch_size": len(y),
        }  # fmt: skip
        fleet = fathom.train_many(spec, PLACES, y, seeds=4)
        best.append(fleet.evaluate(PLACES, y)["accuracy"].max())
    return np.array(best)


@once
def on_digits(lab: Lab, name: str) -> Any:
    """Test accuracy on digits, one a seed: two hidden layers of 32, 15 epochs of Adam."""
    rows, function = digits(), UNITS[name]
    spec = {
        "model": lambda: nn.Sequential(
            nn.Linear(64, 32), Unit(function), nn.Linear(32, 32), Unit(function), nn.Linear(32, 10)
        ),
        "lr": 2e-3, "epochs": lab.pick(15, 2),
    }  # fmt: skip
    fleet = fathom.train_many(spec, rows.x, rows.y, seeds=lab.seeds(8, 3))
    return fleet.evaluate(rows.test_x, rows.test_y)["accuracy"]


@question.experiment(
    "C3.3.5-06",
    T(
        "Non-monotone units let a network represent more, and so solve more.",
        "非单调单元使网络能表示更多，从而解决更多问题。",
    ),
    at_least(0.02),
    correction=T(
        "On two intervals one unit with the dip gains {n[one unit]:.3f} in accuracy over its "
        "monotone twin, four units gain {n[four units]:.3f}; on digits the dip is worth "
        "{n[digits, two layers of 32]:.4f}. It helps where units are scarce.",
        "在两区间任务上，一个带下凹的单元比单调副本准确率高 {n[one unit]:.3f}，四个单元高 "
        "{n[four units]:.3f}；在 digits 上下凹值 {n[digits, two layers of 32]:.4f}。"
        "它只在单元稀缺时有用。",
    ),
    weight=3,
)
def what_the_dip_buys(lab: Lab) -> Evidence:
    """Accuracy of Swish less that of its copy made flat left of the minimum, paired by seed.

    On a line whose middle is one class and whose sides are the other, with one unit and with
    four; and on digits. Two points of accuracy is what we call more.
    """
    gain = {
        title: Sample(intervals(lab, "swish", n) - intervals(lab, "flat", n))
        for title, n in (("one unit", 1), ("four units", 4))
    }
    gain["digits, two layers of 32"] = Sample(on_digits(lab, "swish") - on_digits(lab, "flat"))
    return Settings(T("network", "网络"), gain)


@question.unmeasurable(
    "C3.3.5-07",
    T(
        "ImageNet accuracies rise from ReLU to the non-monotone activations: 76.2, 76.5, 76.8, "
        "77.1, 77.3 %.",
        "ImageNet 准确率从 ReLU 到非单调激活逐步上升：76.2、76.5、76.8、77.1、77.3 %。",
    ),
)
def imagenet(lab: Lab) -> Evidence:
    """Not measured; accuracies on digits of ReLU, Swish and its flat twin stand beside it."""
    return NotMeasurable(
        T(
            "the same network trained on ImageNet with each activation, over several seeds",
            "需要在 ImageNet 上用每种激活函数训练同一网络，并重复多个种子",
        ),
        {f"{name}, digits": float(on_digits(lab, name).mean()) for name in UNITS},
    )


@question.unmeasurable(
    "C3.3.5-08",
    T(
        "The ImageNet accuracy printed for GELU is the same wherever it is printed.",
        "书中各处印出的 GELU 的 ImageNet 准确率一致。",
    ),
)
def consistent(lab: Lab) -> Evidence:
    """Not measured: the numbers of both tables are known, not which of them is GELU's. Beside it
    how far each of the three of one table lies from the nearest of the five of the other."""
    five = np.array([76.2, 76.5, 76.8, 77.1, 77.3])
    return NotMeasurable(
        T(
            "both tables with the names of their rows: GELU's number cannot be told from the "
            "numbers alone",
            "需要两个表格各行的名称：仅凭数字无法判断哪个属于 GELU",
        ),
        {
            f"{number}, distance from the other table": float(np.abs(five - number).min())
            for number in (76.2, 77.0, 77.1)
        },
    )


@question.figure(T("Three dips", "三个下凹"))
def dips(lab: Lab) -> Figure:
    """Swish, GELU and Mish left of 0, with their minima."""
    x = np.linspace(-6.0, 0.5, 261)
    titles = {"swish": "Swish", "gelu": "GELU", "mish": "Mish"}
    lines = [Line(T(titles[n], titles[n]), x, value(f, x)) for n, f in NAMES.items()]
    minima = [minimum(lab, n)["minimized"] for n in NAMES]
    points = Line(
        T("minima", "最小值"), [at for at, _ in minima], [low for _, low in minima], points=True
    )
    return Figure(
        Axis(T("x", "x")),
        Axis(T("output", "输出")),
        [*lines, points],
        T(
            "All three fall to the left of their minimum and rise to the right of it; Mish has "
            "the deepest dip, GELU the shallowest.",
            "三者都在最小值左侧下降、右侧上升；Mish 的下凹最深，GELU 最浅。",
        ),
        {f"{titles[n]}, minimum at": at for n, (at, _) in zip(NAMES, minima, strict=True)},
    )


@question.figure(T("Two intervals, by number of units", "两区间任务与单元个数"))
def by_units(lab: Lab) -> Figure:
    """Accuracy on the two-interval task for Swish, its flat twin and ReLU."""
    widths = (1, 2, 4)
    names = {"swish": T("Swish", "Swish"), "flat": T("Swish, flat left of its minimum",
             "最小值左侧改平的 Swish"), "relu": T("ReLU", "ReLU")}  # fmt: skip
    lines = []
    for name, title in names.items():
        at = [Sample(intervals(lab, name, n)) for n in widths]
        lines.append(Line(title, widths, *band(at)))
    return Figure(
        Axis(T("hidden units", "隐藏单元数")),
        Axis(T("accuracy, best of 4 starts", "准确率，4 次中最好")),
        lines,
        T(
            "One unit solves the task only with the dip; from two units on all three do.",
            "只有一个单元时，唯有带下凹的能解；从两个单元起三者都行。",
        ),
    )
