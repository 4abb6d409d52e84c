"""2.3.13 How Adam works: its formula, its first step, its rate, and decay beside it."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_least,
    at_most, once,
)  # fmt: skip
from fathom.book.material.tasks import cost_of_error, sweep

question = Question(
    "2.3.13",
    title=T("How does Adam work and why does it do well?", "Adam 如何工作？为什么效果好？"),
    difficulty=4,
    frequency=5,
    topics=(
        "adam",
        "adamw",
        "bias correction",
        "weight decay",
        "偏差校正",
        "自适应学习率",
        "权重衰减",
    ),
    answer=T(
        "Adam keeps two running averages of each gradient, its mean m and its square v, divides "
        "both by 1 - b^t to make "
        "up for their start at 0, and moves by lr m / (sqrt(v) + eps). The quotient hardly "
        "depends on the "
        "scale of the gradient, so each parameter moves by about lr a step whatever the size of "
        "its "
        "gradient; the very first step is lr sign(g). That helps where gradients of different "
        "layers differ by "
        "orders of magnitude, as in transformers and embeddings. It does not make the rate a "
        "matter of indifference: the "
        "good range is somewhat over a decade, and a tenfold error still costs. An L2 penalty "
        "inside Adam is "
        "divided by sqrt(v) too, so that weights with large gradients decay least; AdamW takes "
        "the decay out of "
        "the quotient. Its price is two numbers of memory a parameter.",
        "Adam 为每个梯度保存两个滑动平均：均值 m 与平方 v，除以 1 - b^t 以修正从 0 开始的偏差，"
        "然后移动 "
        "lr·m / (√v + eps)。这个商几乎不依赖梯度的尺度，所以无论梯度大小，每个参数每步移动约 lr；"
        "第一步恰是 lr·sign(g)。当各层梯度相差几个数量级时（如 Transformer 与词嵌入），"
        "这很有帮助。"
        "但学习率并非无关紧要：良好区间只有一个多数量级，差十倍仍有代价。放进 Adam 的 L2 "
        "惩罚也会被 √v 除，"
        "结果梯度大的权重衰减最少；AdamW 把衰减移到这个商之外。它的代价是每个参数多存两个数。",
    ),
    flips=T(
        "With gradients smaller than eps the quotient is no longer free of scale: Adam turns "
        "into slow "
        "momentum SGD.",
        "当梯度小于 eps 时，这个商不再与尺度无关：Adam 退化成缓慢的动量 SGD。",
    ),
    analogy=T(
        "A hiker who takes steps of one length whatever the slope, looking only at its usual "
        "size and sign.",
        "像一个不论坡度都迈同样步幅的徒步者，只看坡的方向和它平常的陡度。",
    ),
    generative=T(
        "Practically every large language model is trained with AdamW, with b2 near 0.95 and "
        "warmup.",
        "几乎所有大语言模型都用 AdamW 训练，b2 约 0.95，并配合预热。",
    ),
    classical=T(
        "For convex problems of moderate size L-BFGS or coordinate descent are quicker and need "
        "no rate.",
        "对中等规模的凸问题，L-BFGS 或坐标下降更快，且不需要学习率。",
    ),
    driving=T(
        "Multi-task perception heads with losses of different scale share one Adam rate, where "
        "SGD would "
        "need one each.",
        "损失尺度不同的多任务感知头可以共用一个 Adam 学习率，SGD 则要各设一个。",
    ),
    change=T(
        "Multiply the loss by 1000: SGD's curve shifts by three decades, Adam's stays where it is.",
        "把损失乘以 1000：SGD 的曲线平移三个数量级，Adam 的曲线不动。",
    ),
)

BETAS, EPS = (0.9, 0.999), 1e-8


def by_formula(start: Any, gradients: Any, lr: float) -> Any:
    """Weights after each step, from the printed formula; m and v as sums written out at the end.

    The averages are computed from all gradients anew at each step, not by a recurrence.
    """
    w, path = start.copy(), []
    for t in range(1, len(gradients) + 1):
        ages = np.arange(t)[::-1][:, None]
        m = ((1 - BETAS[0]) * BETAS[0] ** ages * gradients[:t]).sum(axis=0)
        v = ((1 - BETAS[1]) * BETAS[1] ** ages * gradients[:t] ** 2).sum(axis=0)
        m_hat, v_hat = m / (1 - BETAS[0] ** t), v / (1 - BETAS[1] ** t)
        w = w - lr * m_hat / (np.sqrt(v_hat) + EPS)
        path.append(w)
    return np.array(path)


def by_library(start: Any, gradients: Any, lr: float) -> Any:
    """The same gradients given to the library's Adam."""
    w = nn.Parameter(start.copy())
    adam = fathom.optim.Adam([w], lr=lr)
    path = []
    for g in gradients:
        w.grad = fathom.tensor(g.copy())
        adam.step()
        path.append(w.value().copy())
    return np.array(path)


@question.exact(
    "C2.3.13-01",
    T(
        "The second moment gives each parameter a step size of its own.",
        "二阶矩使每个参数有自己的步长。",
    ),
    at_most(1e-5),
    weight=2,
)
def own_steps(lab: Lab) -> Evidence:
    """Largest distance of the first step over lr from sign(g), gradients of sizes 1e-2 to 1e4.

    After 50 random steps the effective rates (step over mean gradient) must differ at least
    thousandfold between parameters.
    """
    rng = lab.rng("gradients")
    size = 10.0 ** np.linspace(-2, 4, 50)
    g = rng.standard_normal((50, 50)) * size
    g = np.where(np.abs(g) < 1e-2, 1e-2, g)
    start, lr = rng.standard_normal(50), 0.01
    first: dict[str, Evidence] = {}
    spread: dict[str, Evidence] = {}
    for name, run in (("formula", by_formula), ("library", by_library)):
        path = np.concatenate([start[None], run(start, g, lr)])
        first[name] = float(np.abs((path[0] - path[1]) / lr - np.sign(g[0])).max())
        moved = np.abs(np.diff(path, axis=0)[-20:]).mean(axis=0) / size
        spread[name] = float(moved.max() / moved.min())
    return All({
        "first step": Routes(first),
        "spread of rates": Check(Routes(spread), at_least(1000.0)),
    })  # fmt: skip


@question.exact(
    "C2.3.13-02",
    T(
        "Adam moves by lr times m_hat over (sqrt(v_hat) + eps), with both moments bias-corrected.",
        "Adam 每步移动 lr·m̂ / (√v̂ + eps)，两个矩都做偏差校正。",
    ),
    at_most(1e-12),
)
def formula(lab: Lab) -> Evidence:
    """The printed formula, averages as sums over all past gradients, against the library.

    Largest difference of the weights over 1,000 steps of 20 parameters; so that it can fail,
    the difference without bias correction must show.
    """
    rng = lab.rng("thousand")
    g = rng.standard_normal((lab.pick(1000, 200), 20)) * 10.0 ** rng.uniform(-3, 3, 20)
    start = rng.standard_normal(20)
    path = by_library(start, g, 1e-3)
    m, v = 0.1 * g[0], 0.001 * g[0] ** 2
    bare = start - 1e-3 * m / (np.sqrt(v) + EPS)
    return All({
        "formula against library": float(np.abs(by_formula(start, g, 1e-3) - path).max()),
        "without correction, first step": Check(
            float(np.abs(bare - path[0]).max()), at_least(1e-3)
        ),
    })  # fmt: skip


RATES = tuple(10.0 ** (k / 2) for k in range(-10, 3))  # two a decade, 1e-5 to 10


def rates(lab: Lab) -> tuple[float, ...]:
    """The rates tried: all, or those in the middle."""
    return RATES[lab.pick(0, 3) : lab.pick(13, 11)]


@once
def over_rates(lab: Lab, data: str, optimizer: str) -> Any:
    """Test accuracy (rates, seeds) after 40 epochs."""
    return sweep(data, optimizer, rates(lab), lab.seeds(12, 2), lab.pick(40, 2))


@question.experiment(
    "C2.3.13-03",
    T(
        "Adam is insensitive to the initial learning rate.",
        "Adam 对初始学习率不敏感。",
    ),
    at_most(0.02),
    correction=T(
        "Over about a decade: a rate three times off costs Adam {n[3 times off/digits]:.3f} of "
        "accuracy on digits and {n[3 times off/moons]:.3f} on moons, ten times off "
        "{n[10 times off/digits]:.3f} and {n[10 times off/moons]:.3f}. What it does not depend on is "
        "the loss's units.",
        "约一个数量级之内如此：学习率差三倍时，Adam 在 digits 上损失 {n[3 times off/digits]:.3f} 的准确率，在 "
        "moons 上损失 {n[3 times off/moons]:.3f}；差十倍时为 {n[10 times off/digits]:.3f} 与 "
        "{n[10 times off/moons]:.3f}。它真正不依赖的是损失的单位。",
    ),
    weight=4,
)
def insensitive(lab: Lab) -> Evidence:
    """Accuracy lost with a rate too large or too small by a factor of 3.2, as far as a search by
    powers of ten can miss, or by ten; the worse side counts.

    Insensitive is taken to mean 0.02 at most. Small nets on digits and on moons, 40 epochs, rates
    1e-5 to 10.
    """
    return Settings(T("how far the rate is off", "学习率偏离多少"), {
        f"{factor} times off": Routes({
            data: Sample(cost_of_error(over_rates(lab, data, "adam"), steps))
            for data in ("digits", "moons")
        })
        for factor, steps in ((3, 1), (10, 2))
    })  # fmt: skip


@question.exact(
    "C2.3.13-04",
    T(
        "AdamW repairs the way Adam treats an L2 penalty.",
        "AdamW 修正了 Adam 对 L2 惩罚的处理。",
    ),
    at_most(1e-12),
    weight=3,
)
def decoupled(lab: Lab) -> Evidence:
    """Spread of the decay's share of w over parameters whose gradients differ by up to 1e6.

    The decay is the step with it less the step without, over w. AdamW shrinks all alike (spread
    0); inside Adam the shares must differ by a factor of ten or more. One step of 50 parameters
    after 20 without decay, by the library and by the formula.
    """
    rng = lab.rng("decay")
    g = rng.standard_normal((21, 50)) * 10.0 ** np.linspace(-3, 3, 50)
    start, lr, decay = rng.uniform(1, 2, 50), 1e-3, 0.1

    def last(name: str, rate: float) -> Any:
        w = nn.Parameter(start.copy())
        method = fathom.optim.make(name, [w], lr=lr, weight_decay=0.0)
        for i, row in enumerate(g):
            if i == 20:
                method.param_groups[0]["weight_decay"] = rate
                before = w.value().copy()
            w.grad = fathom.tensor(row.copy())
            method.step()
        return w.value(), before

    shares = {}
    for name in ("adam", "adamw"):
        (with_it, before), (without, _) = last(name, decay), last(name, 0.0)
        shares[name] = (without - with_it) / before / lr
    at = by_formula(start, g[:20], lr)[-1]
    coupled = np.vstack([g[:20], g[20] + decay * at])
    ages = np.arange(21)[::-1][:, None]
    moved = []
    for rows in (g, coupled):
        m = (0.1 * 0.9**ages * rows).sum(axis=0) / (1 - 0.9**21)
        v = (0.001 * 0.999**ages * rows**2).sum(axis=0) / (1 - 0.999**21)
        moved.append(m / (np.sqrt(v) + EPS))
    by_hand = np.abs((moved[1] - moved[0]) / at)
    inside = np.abs(shares["adam"])
    return All({
        "AdamW": float(np.ptp(shares["adamw"])),
        "L2 in Adam": Check(
            Routes({"library": float(inside.max() / inside.min()),
                    "formula": float(by_hand.max() / by_hand.min())}), at_least(10.0)),
    })  # fmt: skip


@question.figure(T("Accuracy by learning rate: Adam and SGD", "准确率随学习率的变化：Adam 与 SGD"))
def accuracy_by_rate(lab: Lab) -> Figure:
    """400 digits, 40 epochs, bands over seeds; width is the range within 0.02 of the best."""
    lines, widths = [], {}
    for name, key in (("Adam", "adam"), ("SGD", "sgd")):
        found = over_rates(lab, "digits", key)
        middle = found.mean(axis=1)
        lines.append(Line(T(name, name), rates(lab), middle, found.min(axis=1), found.max(axis=1)))
        good = np.flatnonzero(middle >= middle.max() - 0.02)
        widths[f"decades within 0.02 of the best, {name}"] = float(np.ptp(good) / 2)
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        lines,
        T(
            "Adam has a plateau of about a decade and falls off on both sides; SGD's best rates "
            "lie "
            "far higher, in a narrower peak.",
            "Adam 有约一个数量级的平台，两侧都下降；SGD 的最佳学习率高得多，峰也更窄。",
        ),
        widths,
    )


@question.figure(T("The first steps, with and without bias correction", "有无偏差校正时的最初几步"))
def first_steps(lab: Lab) -> Figure:
    """Size of Adam's step over lr for a constant gradient, with and without the correction."""
    t = np.arange(1, 201)
    plain = (1 - BETAS[0] ** t) / np.sqrt(1 - BETAS[1] ** t)
    return Figure(
        Axis(T("step", "步")),
        Axis(T("step size over lr", "步长除以 lr")),
        [
            Line(T("with correction", "有校正"), t, np.ones(200)),
            Line(T("without", "无校正"), t, plain),
        ],
        T(
            "Without the correction the steps for a constant gradient begin at 3.2 times lr and "
            "rise to more than 6 times before they come down: v starts too small.",
            "没有校正时，恒定梯度下的步长从 3.2 倍 lr 开始，升到 6 倍以上才回落：因为 v 起步太小。",
        ),
        {"largest without": float(plain.max())},
    )
