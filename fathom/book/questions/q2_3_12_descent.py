"""2.3.12 Variants of gradient descent, on a ravine, on sparse data and on images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Sample, Settings,
    Source, T, at_least, at_most, equals, once,
)  # fmt: skip
from fathom.book.material.normed import few
from fathom.book.material.tasks import cost_of_error, sweep

question = Question(
    "2.3.12",
    title=T(
        "What variants of gradient descent exist and how do they compare?",
        "梯度下降有哪些变体？各有何优劣？",
    ),
    difficulty=4,
    frequency=5,
    topics=("sgd", "momentum", "rmsprop", "adagrad", "adam", "动量", "自适应学习率", "条件数"),
    answer=T(
        "Plain gradient descent on a quadratic of condition number k shrinks the error by at best "
        "(k-1)/(k+1) a step: at the rate that achieves this it jumps from wall to wall across the "
        "ravine and creeps along it. Momentum adds a velocity, v = b v + g, which cancels across "
        "and builds up along; "
        "tuned, it needs about sqrt(k) instead of k steps. AdaGrad divides each coordinate by "
        "the root "
        "of the sum of its squared gradients, so that rare features keep large steps, but the "
        "sum only grows. "
        "RMSProp replaces the sum by a running average; Adam adds momentum and a correction of "
        "the start. "
        "None of them removes the learning rate: a tenfold error still costs. "
        "Which one generalizes better depends on tuning and problem; with both tuned the gap is "
        "small.",
        "在条件数为 k 的二次函数上，普通梯度下降每步最多把误差缩小到 (k-1)/(k+1)："
        "在达到这一速率的学习率下，"
        "它在峡谷两壁间来回跳，沿谷底缓慢爬行。动量引入速度 v = b v + g，横向相互抵消、"
        "纵向不断累积；"
        "调好后步数约为 √k 而不是 k。AdaGrad 把每个坐标除以其梯度平方之和的平方根，"
        "稀有特征因此保持大步长，"
        "但这个和只增不减。RMSProp 把和换成滑动平均；Adam 再加上动量和起始修正。"
        "它们都没有免除学习率：差十倍仍要付出代价。哪一种泛化更好取决于调参与问题；"
        "双方都调好时差距很小。",
    ),
    flips=T(
        "On a round bowl (condition number 1) plain gradient descent is done in one step and "
        "every "
        "variant is slower.",
        "在圆碗形（条件数为 1）的损失上，普通梯度下降一步到底，各种变体反而更慢。",
    ),
    analogy=T(
        "A ball in a bobsleigh run: without mass it bounces between the walls, with mass it "
        "rolls down the run.",
        "雪橇道里的球：没有质量就在两壁间弹跳，有质量就沿道滚下。",
    ),
    generative=T(
        "Language models are trained with AdamW: their gradients differ in size by orders of "
        "magnitude "
        "between embedding and output.",
        "大语言模型用 AdamW 训练：从词嵌入到输出，各处梯度大小相差几个数量级。",
    ),
    classical=T(
        "AdaGrad was made for sparse linear models of text and clicks, where rare features matter.",
        "AdaGrad 为文本和点击的稀疏线性模型而生，那里稀有特征很重要。",
    ),
    driving=T(
        "Image backbones are still often trained with SGD and momentum, detection transformers "
        "with AdamW.",
        "图像骨干网络至今常用带动量的 SGD，检测 Transformer 则用 AdamW。",
    ),
    change=T(
        "Set the condition number to 1: gradient descent overtakes momentum.",
        "把条件数设为 1：梯度下降反超动量。",
    ),
)

KAPPA = 100.0
CURVATURE = np.array([1.0, KAPPA])
BEST_RATE = 2 / (1 + KAPPA)
ROOT = np.sqrt(KAPPA)
HEAVY_RATE, HEAVY = (2 / (1 + ROOT)) ** 2, ((ROOT - 1) / (ROOT + 1)) ** 2  # Polyak, 1964


def by_formula(lr: float, momentum: float, steps: int, curvature: Any = CURVATURE) -> Any:
    """Iterates (steps + 1, 2) from (1, 1) on sum(curvature w^2) / 2."""
    w, v, path = np.ones(2), np.zeros(2), [np.ones(2)]
    for _ in range(steps):
        v = momentum * v + curvature * w
        w = w - lr * v
        path.append(w)
    return np.array(path)


def by_library(lr: float, momentum: float, steps: int) -> Any:
    """The same by tape and optimizer."""
    w = nn.Parameter(np.ones(2))
    sgd = fathom.optim.SGD([w], lr=lr, momentum=momentum)
    path = [np.ones(2)]
    for _ in range(steps):
        sgd.zero_grad()
        (0.5 * fathom.tensor(CURVATURE) * w * w).sum().backward()
        sgd.step()
        path.append(w.value().copy())
    return np.array(path)


def steps_to(path: Any, tolerance: float = 1e-6) -> int:
    """The first step from which on the distance to the minimum stays below."""
    far = np.linalg.norm(path, axis=1) / np.linalg.norm(path[0]) > tolerance
    return int(np.flatnonzero(far).max()) + 1


def halves(path: Any) -> tuple[float, float, float]:
    """Shrinkage a step, and how often each coordinate changes its sign."""
    shrink = float((np.linalg.norm(path[200]) / np.linalg.norm(path[100])) ** 0.01)
    turns = (np.sign(path[1:201]) != np.sign(path[:200])).mean(axis=0)
    return shrink, float(turns[1]), float(turns[0])


@question.exact(
    "C2.3.12-01",
    T(
        "Gradient descent swings across a ravine and crawls along it.",
        "梯度下降在峡谷两侧来回摆动，沿谷底缓慢前行。",
    ),
    equals((KAPPA - 1) / (KAPPA + 1), 1e-9),
    weight=2,
)
def ravine(lab: Lab) -> Evidence:
    """Shrinkage a step on a quadratic of condition number 100 at the best rate, 2 / (1 + 100).

    The steep coordinate must change its sign at each step, the flat one never; as a recurrence in
    NumPy and by the library.
    """
    parts: dict[str, Any] = {"shrinkage": {}, "across": {}, "along": {}}
    for way, path in (
        ("recurrence", by_formula(BEST_RATE, 0.0, 250)),
        ("library", by_library(BEST_RATE, 0.0, 250)),
    ):
        for name, value in zip(parts, halves(path), strict=True):
            parts[name][way] = value
    return All({
        "shrinkage": Routes(parts["shrinkage"]),
        "sign changes across": Check(Routes(parts["across"]), equals(1.0)),
        "sign changes along": Check(Routes(parts["along"]), equals(0.0)),
    })  # fmt: skip


def weight_on_the_past(dampening: float) -> Routes:
    """Velocity over gradient after 400 steps of the same gradient: 1 for an average."""
    w = nn.Parameter(np.zeros(1))
    sgd = fathom.optim.SGD([w], lr=1.0, momentum=0.9, dampening=dampening)
    for _ in range(400):
        before = w.value().copy()
        w.grad = fathom.tensor(np.ones(1))
        sgd.step()
    v = 0.0
    for _ in range(400):
        v = 0.9 * v + (1 - dampening)
    return Routes({"library": float((before - w.value())[0]), "recurrence": v})


@question.exact(
    "C2.3.12-02",
    T(
        "Momentum keeps an exponential moving average of the past gradients.",
        "动量保存过去梯度的指数滑动平均。",
    ),
    equals(1.0, 1e-6),
    correction=T(
        "The usual v = b v + g is not an average: its weights sum to "
        "{n[v = b v + g/library]:.1f} for b = 0.9. "
        "Only v = b v + (1-b) g is ({n[v = b v + (1-b) g/library]:.1f}); the paths agree if the "
        "rate is "
        "scaled by the same factor.",
        "常用的 v = b v + g 不是平均：b = 0.9 时权重之和为 {n[v = b v + g/library]:.1f}。只有 v "
        "= b v + (1-b) g "
        "才是（{n[v = b v + (1-b) g/library]:.1f}）；学习率按同一倍数缩放后两者路径一致。",
    ),
    weight=2,
)
def moving_average(lab: Lab) -> Evidence:
    """Sum of the weights that past gradients get, from 400 steps of a constant gradient, b = 0.9.

    An average has the sum 1. Both forms in use; by the library's SGD (dampening 0 and 0.9) and as
    recurrences.
    """
    return Settings(
        T("form of the velocity", "速度的形式"),
        {"v = b v + g": weight_on_the_past(0.0), "v = b v + (1-b) g": weight_on_the_past(0.9)},
    )


@question.exact(
    "C2.3.12-03",
    T("Momentum damps the swinging.", "动量抑制振荡。"),
    at_least(2.0),
    weight=2,
)
def damped(lab: Lab) -> Evidence:
    """Steps to 1e-6 without over with momentum, each at its best constants, condition number 100.

    The steep coordinate's size after 100 steps must be less than a tenth of that without.
    """
    found: dict[str, Evidence] = {}
    left: dict[str, Evidence] = {}
    for way, run in (("recurrence", by_formula), ("library", by_library)):
        plain, heavy = run(BEST_RATE, 0.0, 900), run(HEAVY_RATE, HEAVY, 300)
        found[way] = steps_to(plain) / steps_to(heavy)
        left[way] = float(np.abs(heavy[95:106, 1]).max() / np.abs(plain[95:106, 1]).max())
    return All({
        "steps saved, factor": Routes(found),
        "swing left": Check(Routes(left), at_most(0.1)),
    })  # fmt: skip


def pooled() -> Any:
    """Convolutions with pooling."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10),
    )  # fmt: skip


def strided() -> Any:
    """Convolutions with strides."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10),
    )  # fmt: skip


@once
def images(lab: Lab, which: str) -> dict[str, Any]:
    """Test accuracies of a small CNN by optimizer, each at the best of four rates; one a seed."""
    from fathom.book.material.data import digits

    data, whole = few(), digits()
    rows = slice(0, 400) if which == "pooled" else slice(500, 900)
    x, y = whole.x[rows] - whole.x.mean(), whole.y[rows]
    judge_x = np.concatenate([whole.x[1000:] - whole.x.mean(), data.test_x])
    judge_y = np.concatenate([whole.y[1000:], data.test_y])
    found = {}
    for optimizer, grid, options in (
        ("sgd", (0.01, 0.03, 0.1, 0.3), {"momentum": 0.9}),
        ("adam", (0.001, 0.003, 0.01, 0.03), {}),
    ):
        spec = {"model": pooled if which == "pooled" else strided, "optimizer": optimizer,
                "epochs": lab.pick(10, 1), "batch_size": 32, **options}  # fmt: skip

        def run(seeds: list[int], rates: Sequence[float], spec: Any = spec) -> Any:
            return fathom.train_many(spec, x, y, seeds=seeds, grid={"lr": rates}, threads=1)

        rates = grid[:: lab.pick(1, 4)]
        tried = run(lab.seeds(2, 2), rates).evaluate(data.choose_x, data.choose_y)["accuracy"]
        best = int(tried.reshape(len(rates), -1).mean(axis=1).argmax())
        made = run(lab.seeds(30, 2), rates[best : best + 1])
        found[optimizer] = made.evaluate(judge_x, judge_y)["accuracy"]
    return found


@question.experiment(
    "C2.3.12-04",
    T(
        "SGD with momentum generalizes best for convolutional nets.",
        "对卷积网络，带动量的 SGD 泛化最好。",
    ),
    at_least(0.01),
    correction=T(
        "With both rates tuned, SGD's accuracy less Adam's is {n[small nets, few digits/pooling]:+.3f} "
        "and {n[small nets, few digits/strides]:+.3f} in small nets on few digits. In a published "
        "comparison of large nets on CIFAR-10 it is {n[VGG, CIFAR-10 (published)]:+.3f}; with decay "
        "taken out of Adam's quotient (AdamW) and full tuning such leads mostly go (Loshchilov & "
        "Hutter, 2019; Choi et al., 2019).",
        "双方都调好学习率后，SGD 的准确率减去 Adam 的，在少量 digits 上的小网络中为 "
        "{n[small nets, few digits/pooling]:+.3f} 与 {n[small nets, few digits/strides]:+.3f}。在已发表的 "
        "CIFAR-10 大网络比较中为 {n[VGG, CIFAR-10 (published)]:+.3f}；把衰减移出 Adam 的商（AdamW）并充分"
        "调参后，这种领先大多消失（Loshchilov 与 Hutter，2019；Choi 等，2019）。",
    ),
    weight=3,
)
def best_for_images(lab: Lab) -> Evidence:
    """Test accuracy with SGD and momentum less that with Adam; better means 0.01 or more.

    Two small CNNs on two disjoint sets of 400 digits, the best of four rates each (chosen on
    other rows), paired seeds. Beside them the study that is quoted for it: test errors of 7.74 %
    with heavy-ball momentum and 9.78 % with Adam, both tuned.
    """
    return Settings(T("nets and data", "网络与数据"), {
        "small nets, few digits": Routes({
            name: Sample(images(lab, which)["sgd"] - images(lab, which)["adam"])
            for name, which in (("pooling", "pooled"), ("strides", "strided"))
        }),
        "VGG, CIFAR-10 (published)": Published(0.0204, (
            Source("Wilson et al., The Marginal Value of Adaptive Gradient Methods, NeurIPS, fig. 1",
                   2017, 0.8),
        )),
    })  # fmt: skip


@question.exact(
    "C2.3.12-05",
    T(
        "RMSProp and AdaGrad accumulate the sum of squared gradients.",
        "RMSProp 与 AdaGrad 累积梯度平方之和。",
    ),
    equals(1.0, 1e-9),
    correction=T(
        "AdaGrad does. RMSProp keeps a running average: after 200 gradients its store is "
        "{n[RMSProp/library]:.4f} of the sum, and it can fall again.",
        "AdaGrad 如此；RMSProp 保存的是滑动平均：200 个梯度之后它只有该和的 "
        "{n[RMSProp/library]:.4f}，而且可以再减小。",
    ),
    weight=2,
)
def accumulated(lab: Lab) -> Evidence:
    """What the method has stored after 200 random gradients, over their sum of squares.

    Read from the library's steps (rate times gradient over step, squared) and by the recurrences.
    """
    g = lab.rng("gradients").standard_normal(200) + 0.5
    total = float((g**2).sum())
    average = 0.0
    for value in g:
        average = 0.99 * average + 0.01 * value**2
    at: dict[str, Evidence] = {}
    for name, make, known in (
        ("AdaGrad", fathom.optim.Adagrad, 1.0), ("RMSProp", fathom.optim.RMSprop, average / total),
    ):  # fmt: skip
        w = nn.Parameter(np.zeros(1))
        method = make([w], lr=1.0, eps=0.0)
        for value in g:
            before = w.value().copy()
            w.grad = fathom.tensor(np.array([value]))
            method.step()
        step = float((before - w.value())[0])
        at[name] = Routes({"library": (g[-1] / step) ** 2 / total, "recurrence": known})
    return Settings(T("method", "方法"), at)


@question.experiment(
    "C2.3.12-06",
    T(
        "Coordinates with frequent gradients take smaller steps, rare ones larger.",
        "梯度频繁的坐标步长变小，稀有坐标步长变大。",
    ),
    at_least(2.0),
)
def rare(lab: Lab) -> Evidence:
    """Step for a unit gradient: of a feature on in 1 % of rows over that of one on in 50 %.

    Linear regression, 2,000 rows one at a time, read from each method's steps at the end: the
    median ratio of step to gradient over the last occurrences. For SGD it is 1.
    """
    runs: dict[str, list[float]] = {"AdaGrad": [], "RMSProp": []}
    for seed in lab.seeds(10, 3):
        rng = np.random.default_rng(seed)
        on = rng.random((2000, 2)) < (0.5, 0.01)
        y = on @ np.array([1.0, 1.0]) + rng.standard_normal(2000)
        for name in runs:
            w, store, scale = np.zeros(2), np.zeros(2), np.full(2, np.nan)
            for row, target in zip(on, y, strict=True):
                g = (row @ w - target) * row
                store = store + g**2 if name == "AdaGrad" else 0.99 * store + 0.01 * g**2
                step = 0.05 * g / (np.sqrt(store) + 1e-8)
                scale = np.where(g != 0, step / np.where(g != 0, g, 1), scale)
                w = w - step
            runs[name].append(float(scale[1] / scale[0]))
    return All({name: Sample(values) for name, values in runs.items()})


RATES = tuple(10.0 ** (k / 2) for k in range(-9, 3))  # two a decade, 3e-5 to 10


def rates(lab: Lab) -> tuple[float, ...]:
    """The rates tried: all, or those in the middle."""
    return RATES[lab.pick(0, 3) : lab.pick(12, 10)]


@once
def over_rates(lab: Lab, data: str, optimizer: str) -> Any:
    """Test accuracy (rates, seeds) after 40 epochs."""
    return sweep(data, optimizer, rates(lab), lab.seeds(12, 2), lab.pick(40, 2))


@question.experiment(
    "C2.3.12-07",
    T(
        "With AdaGrad or RMSProp the global rate needs no careful tuning.",
        "使用 AdaGrad 或 RMSProp 时，全局学习率无需仔细调节。",
    ),
    at_most(0.02),
    correction=T(
        "A rate three times off the best costs AdaGrad {n[moons (3 times off)/AdaGrad]:.3f} of "
        "accuracy on moons and {n[digits (3 times off)/AdaGrad]:.3f} on digits, RMSProp "
        "{n[moons (3 times off)/RMSProp]:.3f} and {n[digits (3 times off)/RMSProp]:.3f}; ten times off "
        "AdaGrad {n[moons (10 times off)/AdaGrad]:.2f} and {n[digits (10 times off)/AdaGrad]:.2f}, "
        "RMSProp {n[moons (10 times off)/RMSProp]:.2f} and {n[digits (10 times off)/RMSProp]:.2f}: the "
        "order of magnitude has to be right.",
        "学习率偏离最佳值三倍，AdaGrad 在 moons 上损失 {n[moons (3 times off)/AdaGrad]:.3f} 的准确率，在 "
        "digits 上损失 {n[digits (3 times off)/AdaGrad]:.3f}，RMSProp 为 {n[moons (3 times off)/RMSProp]:.3f} "
        "与 {n[digits (3 times off)/RMSProp]:.3f}；偏离十倍，AdaGrad 为 {n[moons (10 times off)/AdaGrad]:.2f} 与 "
        "{n[digits (10 times off)/AdaGrad]:.2f}，RMSProp 为 {n[moons (10 times off)/RMSProp]:.2f} 与 "
        "{n[digits (10 times off)/RMSProp]:.2f}：数量级必须选对。",
    ),
    weight=3,
)
def no_tuning(lab: Lab) -> Evidence:
    """Accuracy lost with a rate too large or too small by a factor of 3.2, as far as a search by
    powers of ten can miss, or by ten; the worse side counts.

    Not needing care is taken to mean 0.02 at most. Small nets on digits and on moons, trained for
    40 epochs, so that small rates have the time they take.
    """
    return Settings(T("problem, and how far the rate is off", "问题，以及学习率偏离多少"), {
        f"{data} ({factor} times off)": All({
            name: Sample(cost_of_error(over_rates(lab, data, key), steps))
            for name, key in (("AdaGrad", "adagrad"), ("RMSProp", "rmsprop"))
        })
        for factor, steps in ((3, 1), (10, 2))
        for data in ("moons", "digits")
    })  # fmt: skip


@question.figure(T("Distance to the minimum of a ravine", "到峡谷最低点的距离"))
def on_the_ravine(lab: Lab) -> Figure:
    """Condition number 100; each method at its best constants (Adam: best of nine rates)."""
    plain, heavy = by_formula(BEST_RATE, 0.0, 750), by_formula(HEAVY_RATE, HEAVY, 750)
    adam = min((adaptive(10.0 ** (k / 2), 750) for k in range(-6, 3)), key=steps_to)
    marks, steps = [], {}
    for name, path in (
        (T("gradient descent", "梯度下降"), plain), (T("momentum", "动量"), heavy),
        (T("Adam", "Adam"), adam),
    ):  # fmt: skip
        far = np.linalg.norm(path, axis=1)[::5]
        marks.append(Line(name, np.arange(len(far)) * 5, np.maximum(far, 1e-12)))
        steps[f"steps to 1e-6, {name.en}"] = float(steps_to(path))
    return Figure(
        Axis(T("step", "步")),
        Axis(T("distance to the minimum", "到最低点的距离"), log=True),
        marks,
        T(
            "Gradient descent needs 691 steps to 1e-6 where momentum with the best constants "
            "needs "
            "about a hundred.",
            "到 1e-6，梯度下降需要 691 步，而采用最佳常数的动量只需约一百步。",
        ),
        steps,
    )


def adaptive(lr: float, steps: int) -> Any:
    """Adam's iterates on the ravine."""
    w, m, v, path = np.ones(2), np.zeros(2), np.zeros(2), [np.ones(2)]
    for t in range(1, steps + 1):
        g = CURVATURE * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        path.append(w)
    return np.array(path)


@question.figure(T("Accuracy by learning rate", "准确率随学习率的变化"))
def accuracy_by_rate(lab: Lab) -> Figure:
    """400 digits, 40 epochs, bands over seeds."""
    lines = []
    for name, key in (("SGD", "sgd"), ("AdaGrad", "adagrad"), ("RMSProp", "rmsprop")):
        found = over_rates(lab, "digits", key)
        middle = found.mean(axis=1)
        lines.append(Line(T(name, name), rates(lab), middle, found.min(axis=1), found.max(axis=1)))
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        lines,
        T(
            "Every method has a range of good rates of about one and a half decades; they lie at "
            "different "
            "places, and outside of them accuracy drops.",
            "每种方法都有大约一个半数量级的良好学习率区间；区间位置不同，出了区间准确率就下降。",
        ),
    )
