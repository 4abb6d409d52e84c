"""2.2.11 The steps of training, and what mini-batches are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import nn, optim
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Sample, Settings, T, at_least, at_most,
    band, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.speed import ratio, seconds
from fathom.nn import functional as F

question = Question(
    "2.2.11",
    title=T(
        "What are the steps of training, and why mini-batches?",
        "训练流程有哪些步骤？为什么使用小批量？",
    ),
    difficulty=2,
    frequency=3,
    topics=("training loop", "SGD", "mini-batch", "训练循环", "小批量", "梯度清零"),
    answer=T(
        "A step clears the gradients, runs the batch forward, computes the loss, propagates it "
        "backward and lets the optimizer change the weights. Clearing may stand anywhere between "
        "one optimizer step and the next backward pass; leave it out and old gradients add to new "
        "ones. A batch is used because one matrix product over many rows keeps the hardware busy "
        "where single rows leave it waiting on overhead, up to a size at which it is saturated. "
        "Against the whole data set, a batch gives many steps for the price of one, at the cost of "
        "noise that falls with the square root of its size. The noise moves weights off a saddle's "
        "ridge and out of shallow minima, if it has a part in the direction of escape and is strong "
        "against the barrier. It does not break the symmetry of units that start alike.",
        "每一步依次是：清零梯度、前向计算一个批次、算损失、反向传播、优化器更新权重。清零可以放在上一次"
        "更新之后到下一次反向之前的任何位置；漏掉它，旧梯度就会叠加到新梯度上。使用批次是因为一次多行矩阵"
        "乘法能让硬件忙起来，单个样本时硬件多半在等开销，直到批次大到饱和为止。与整个数据集相比，小批量用"
        "一次的代价换来许多步，代价是噪声，它随批量的平方根下降。噪声能把权重推离鞍脊、推出浅的极小值，"
        "前提是它在逃离方向上有分量，且相对势垒足够强。它打破不了初始相同的神经元之间的对称。",
    ),
    flips=T(
        "If the batch is so large that the hardware is saturated, more rows a batch only mean fewer "
        "steps a second.",
        "如果批量已经大到硬件饱和，再加大批量只会减少每秒的步数。",
    ),
    analogy=T(
        "A bus beats a taxi for each passenger until it is full; and a bumpy ride shakes you off "
        "a ridge, not out of a deep valley.",
        "按人头算公交比出租车划算，直到坐满；颠簸能把你震下山脊，却震不出深谷。",
    ),
    generative=T(
        "Language models train on batches of millions of tokens, gathered from many small ones by "
        "gradient accumulation.",
        "语言模型的批量达数百万词元，由许多小批量的梯度累积而成。",
    ),
    classical=T(
        "For small convex problems the full batch with a second-order method is quicker than SGD.",
        "对小规模凸问题，全量数据加二阶方法比 SGD 更快。",
    ),
    driving=T(
        "Large camera images leave room for a few rows a batch only, so gradients are accumulated "
        "and batch statistics shared across devices.",
        "大尺寸相机图像使每批只能容纳几张，因此要累积梯度，并跨设备同步批统计量。",
    ),
    change=T(
        "Raise the batch size of the double well from 1 to 32: the runs stay in the poor minimum.",
        "把双势阱实验的批量从 1 提高到 32：各次运行都留在较差的极小值里。",
    ),
    alone=True,
)

ORDERS = ("cleared", "cleared after forward", "never cleared")


@once
def courses(lab: Lab, order: str) -> Any:
    """Mean loss of each epoch, a row a seed: an MLP on the digits, SGD by hand-written loop."""
    data = digits()
    found = []
    for seed in lab.seeds(5, 3):
        with fathom.seed(seed):
            model = fathom.models.mlp(64, 10, hidden=(32,))
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        rng = np.random.default_rng(seed)
        found.append([epoch(model, optimizer, data, rng, order) for _ in range(lab.pick(6, 3))])
    return np.array(found)


def epoch(model: Any, optimizer: Any, data: Any, rng: Any, order: str) -> float:
    """One pass over the rows: the mean loss before each step."""
    losses = []
    for rows in np.array_split(rng.permutation(len(data.x)), len(data.x) // 32):
        if order == "cleared":
            optimizer.zero_grad()
        loss = F.cross_entropy(model(fathom.tensor(data.x[rows])), fathom.tensor(data.y[rows]))
        if order == "cleared after forward":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


@question.experiment(
    "C2.2.11-01",
    T(
        "Clear gradients, forward, loss, backward, step is a correct training loop.",
        "清零梯度、前向、损失、反向、更新，是正确的训练循环。",
    ),
    at_most(0.5),
)
def order_of_steps(lab: Lab) -> Evidence:
    """Loss of the last epoch over that of the first, an MLP on the digits; and the course of the
    losses when clearing comes after the forward pass instead: largest difference."""
    usual, later = courses(lab, "cleared"), courses(lab, "cleared after forward")
    return All({
        "last over first": Sample(usual[:, -1] / usual[:, 0]),
        "clearing later": Check(float(np.abs(usual - later).max()), at_most(0.0)),
    })  # fmt: skip


def stepper(engine: str, batch: int) -> Callable[[], Any]:
    """One training step of a 64-64-10 network on a batch, by one of the engines."""
    data = digits()
    x, y = data.x[:batch], data.y[:batch]
    if engine == "NumPy":
        draw = np.random.default_rng(0).standard_normal
        weights = [draw(shape).astype(np.float32) / 8 for shape in ((64, 64), (64, 10))]
        return lambda: by_hand(x, y, weights)
    with fathom.seed(0):
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.01)

    def step(xb: Any, yb: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(xb), yb)
        loss.backward()
        optimizer.step()
        return loss

    run = fathom.compile(step) if engine == "Fathom, compiled" else step
    xb, yb = fathom.tensor(x), fathom.tensor(y)
    return lambda: run(xb, yb)


def by_hand(x: Any, y: Any, w: Any) -> None:
    """The same step in NumPy, without biases."""
    h = np.maximum(x @ w[0], 0)
    z = h @ w[1]
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    back = (p @ w[1].T) * (h > 0)
    w[1] -= 0.01 * h.T @ p
    w[0] -= 0.01 * x.T @ back


ENGINES = ("Fathom, eager", "Fathom, compiled", "NumPy")


@question.experiment(
    "C2.2.11-02",
    T(
        "Single samples cannot saturate the hardware; batching raises the throughput.",
        "单个样本无法让硬件饱和；批处理提高吞吐量。",
    ),
    at_least(1.5),
    weight=2,
)
def throughput(lab: Lab) -> Evidence:
    """Rows a second of processor time, batch 32 over batch 1, and batch 512 over 32 (to be no lower): a training step
    of a 64-64-10 network on one core, both timed in turn; the bounds are to be cleared by a tenth."""

    def gain(engine: str, small: int, large: int) -> Sample:
        rounds = lab.pick(15, 4)
        runs = large // small
        few, one = stepper(engine, large), stepper(engine, small)
        return ratio(lambda: [one() for _ in range(min(runs, 32))],
                     lambda: [few() for _ in range(max(1, min(runs, 32) // runs))], rounds)  # fmt: skip

    return Settings(T("the engine", "计算引擎"), {
        engine: All({
            "1 to 32": gain(engine, 1, 32),
            "32 to 512": Check(gain(engine, 32, 512), at_least(1.0)),
        })
        for engine in ENGINES
    })  # fmt: skip


def saddle(seed: int, batch: int | None) -> bool:
    """Whether 1,000 steps from the ridge of a saddle get away from it: 64 rows whose slopes differ,
    w1^2 / 2 - w2^2 / 2 + w2^4 / 4 in the mean."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((64, 2))
    rows -= rows.mean(axis=0)
    w = np.array([1.0, 0.0])
    for _ in range(1000):
        noise = rows[rng.integers(0, 64, batch)].mean(axis=0) if batch else 0.0
        w = w - 0.1 * (np.array([w[0], w[1] ** 3 - w[1]]) + noise)
        if abs(w[1]) > 0.5:
            return True
    return False


def double_well(seed: int, batch: int | None) -> bool:
    """Whether 2,000 steps from the poorer of two minima reach the better one:
    (w^2 - 1)^2 / 4 + 0.15 w, the slope of each of 64 rows off by a standard normal number."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(64)
    rows -= rows.mean()
    w = 0.9
    noise = rows[rng.integers(0, 64, (2000, batch))].mean(axis=1) if batch else np.zeros(2000)
    for n in noise.tolist():
        w -= 0.1 * (w**3 - w + 0.15 + n)
        if w < -0.7:
            return True
    return False


def twins(seed: int, batch: int | None) -> bool:
    """Whether 100 steps on the digits tell apart hidden units that start alike."""
    data, rng = digits(), np.random.default_rng(seed)
    with fathom.seed(seed):
        first, last = nn.Linear(64, 8).double(), nn.Linear(8, 10).double()
    model = nn.Sequential(first, nn.Tanh(), last)
    with fathom.no_grad():
        first.weight.copy_(np.tile(first.weight.value()[:1], (8, 1)))
        last.weight.copy_(np.tile(last.weight.value()[:, :1], (1, 8)))
        first.bias.copy_(np.zeros(8))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    for _ in range(100):
        rows = rng.integers(0, len(data.x), batch) if batch else np.arange(256)
        optimizer.zero_grad()
        x = fathom.tensor(data.x[rows].astype(np.float64))
        F.cross_entropy(model(x), fathom.tensor(data.y[rows])).backward()
        optimizer.step()
    return bool(np.ptp(first.weight.value(), axis=0).max() > 1e-6)


def gained(run: Callable[..., bool], seeds: list[int], batch: int) -> Sample:
    """Runs that get away with mini-batches less those with all rows, one number a seed."""
    return Sample([float(run(s, batch)) - float(run(s, None)) for s in seeds])


@question.experiment(
    "C2.2.11-03",
    T(
        "The noise of mini-batches helps to get away from saddles and poor minima.",
        "小批量的噪声有助于逃离鞍点和较差的极小值。",
    ),
    at_least(0.2),
    correction=T(
        "It helps off a saddle's ridge ({n[saddle, batch 8]:.0%} more runs get away) and out of a "
        "poor minimum if the batch is small ({n[double well, batch 1]:.0%} more at 1, "
        "{n[double well, batch 32]:.0%} at 32); units that start alike it never tells apart "
        "({n[equal units, batch 8]:.0%}).",
        "它能帮助离开鞍脊（多 {n[saddle, batch 8]:.0%} 的运行逃离）；批量小时也能逃出较差的极小值"
        "（批量 1 多 {n[double well, batch 1]:.0%}，批量 32 多 {n[double well, batch 32]:.0%}）；"
        "但永远分不开初始相同的神经元（{n[equal units, batch 8]:.0%}）。",
    ),
    weight=2,
)
def escape(lab: Lab) -> Evidence:
    """Share of runs that get away with mini-batches less the share with all rows, on the same
    seeds, rate and number of steps."""
    many, few = lab.seeds(30, 8), lab.seeds(5, 3)
    return Settings(T("landscape and batch", "地形与批量"), {
        "saddle, batch 8": gained(saddle, many, 8),
        "double well, batch 1": gained(double_well, many, 1),
        "double well, batch 32": gained(double_well, many, 32),
        "equal units, batch 8": gained(twins, few, 8),
    })  # fmt: skip


@question.figure(T("Loss of three loops", "三种训练循环的损失"))
def loops(lab: Lab) -> Figure:
    """An MLP on the digits: gradients cleared before forward, after forward, and never."""
    names = (
        T("cleared first", "先清零"),
        T("cleared after forward", "前向之后清零"),
        T("never cleared", "从不清零"),
    )
    lines = []
    for order, name in zip(ORDERS, names, strict=True):
        at = [Sample(column) for column in np.minimum(courses(lab, order), 50.0).T]
        x = np.arange(1, len(at) + 1)
        lines.append(Line(name, x, *band(at)))
    return Figure(
        Axis(T("epoch", "轮次")),
        Axis(T("training loss", "训练损失"), log=True),
        lines,
        T(
            "Where the gradients are cleared makes no difference, the two curves coincide; without "
            "clearing, old gradients pile up and training fails.",
            "在哪里清零没有区别，两条曲线重合；不清零时旧梯度不断堆积，训练失败。",
        ),
    )


@question.figure(T("Throughput against batch size", "吞吐量随批量的变化"))
def saturation(lab: Lab) -> Figure:
    """Rows a second of a training step of a 64-64-10 network, best of several runs."""
    batches = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512][:: lab.pick(1, 4)]
    names = (
        T("Fathom, eager", "Fathom 即时"),
        T("Fathom, compiled", "Fathom 编译"),
        T("NumPy", "NumPy"),
    )
    lines = []
    for engine, name in zip(ENGINES, names, strict=True):
        rates = []
        for batch in batches:
            run = stepper(engine, batch)
            run()
            rates.append(batch / seconds(run, lab.pick(30, 5)))
        lines.append(Line(name, batches, rates))
    return Figure(
        Axis(T("batch size", "批量"), log=True),
        Axis(T("rows a second", "每秒样本数"), log=True),
        lines,
        T(
            "Rows a second grow nearly in proportion to the batch at first and level off when the "
            "core is busy.",
            "每秒样本数起初几乎与批量成正比，核心忙满后趋于平缓。",
        ),
    )


@question.figure(T("Escapes by batch size", "逃离比例随批量的变化"))
def escapes(lab: Lab) -> Figure:
    """Share of runs that leave the poor minimum of the double well, and the saddle's ridge."""
    batches = [1, 2, 4, 8, 16, 32, 64]
    lines = []
    for run, name in ((saddle, T("saddle", "鞍点")), (double_well, T("double well", "双势阱"))):
        at = [Sample([float(run(s, b)) for s in lab.seeds(20, 5)]) for b in batches]
        lines.append(Line(name, batches, *band(at)))
    return Figure(
        Axis(T("batch size", "批量"), log=True),
        Axis(T("share that gets away", "逃离比例")),
        lines,
        T(
            "Any noise leads off the ridge of a saddle; a barrier is crossed by small batches only.",
            "任何噪声都能使其离开鞍脊；而越过势垒只有小批量才行。",
        ),
    )
