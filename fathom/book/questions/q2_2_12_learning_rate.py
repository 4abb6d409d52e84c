"""2.2.12 The learning rate: where it diverges, what a small one costs, and how to pick it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T, at_least,
    at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits

question = Question(
    "2.2.12",
    title=T(
        "How does the learning rate affect training, and how should it be picked?",
        "学习率如何影响训练？应如何选取？",
    ),
    difficulty=2,
    frequency=4,
    topics=("learning rate", "range test", "divergence", "学习率", "学习率搜索", "发散"),
    answer=T(
        "Along a direction of curvature c, a step of gradient descent multiplies the error by "
        "1 - lr c: it converges below 2/c, oscillates at 2/c and diverges above, so the largest "
        "curvature sets the limit. A rate far below it wastes steps, because the flat directions "
        "hardly move. That it traps training in poor minima is true of narrow ripples, which a "
        "large rate jumps over; on ordinary networks a small rate with enough steps mostly reaches "
        "as low a training loss. To pick one, raise the rate batch by batch and watch the loss: "
        "where it falls steepest is usually good, a few times below where it blows up. A coarse "
        "grid in factors of 3 is the check.",
        "沿曲率为 c 的方向，梯度下降一步把误差乘以 1 - lr·c：低于 2/c 收敛，等于 2/c 振荡，高于则发散，"
        "所以最大曲率决定上限。远低于上限的学习率浪费步数，因为平坦方向几乎不动。说它会陷入较差的极小值，"
        "对窄的波纹成立，大学习率能跳过去；在普通网络上，小学习率只要步数足够，训练损失大多同样低。选取时，"
        "可逐批增大学习率并观察损失：下降最陡处通常合适，比爆炸点低几倍。再用 3 倍间隔的粗网格核对。",
    ),
    flips=T(
        "With a budget of few steps the small rate always loses; with many steps and a smooth loss "
        "it ends as low as a large one.",
        "步数很少时小学习率必输；步数很多且损失平滑时，它的终点与大学习率一样低。",
    ),
    analogy=T(
        "Long strides carry you over the ruts of a field and past the bottom of a narrow gorge.",
        "大步能跨过田里的车辙，也会越过窄谷的谷底。",
    ),
    generative=T(
        "Large models are trained with rates that shrink as the width grows, else the first "
        "thousand steps diverge.",
        "大模型的学习率要随宽度缩小，否则头一千步就会发散。",
    ),
    classical=T(
        "For least squares the limit is known beforehand: 2 over the largest eigenvalue.",
        "最小二乘的上限可事先算出：2 除以最大特征值。",
    ),
    driving=T(
        "Fine-tuning a detector takes a tenth of the rate of training it, lest the features learned "
        "before are lost in the first steps.",
        "微调检测器的学习率取训练时的十分之一，以免头几步就毁掉已学到的特征。",
    ),
    change=T(
        "Widen the ripples of the one-dimensional loss until their curvature is that of the bowl: "
        "the small rate is no longer worse.",
        "把一维损失的波纹加宽，直到其曲率与大碗相当：小学习率不再更差。",
    ),
)


def bowl(rate: float, steps: int = 2000, curvature: float = 100.0) -> Any:
    """|x| of gradient descent on curvature x^2 / 2 from x = 1, after each step."""
    return np.abs(1 - rate * curvature) ** np.arange(steps + 1)


def threshold(step: Callable[[float], float], low: float, high: float) -> float:
    """The rate at which the end stops being below the start, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if step(middle) < 1 else (low, middle)
    return (low + high) / 2


def descend(matrix: Any, start: Any, rate: float, steps: int = 2000) -> float:
    """The largest entry after gradient descent on x' A x / 2 over that of the start, stepwise."""
    x = start
    for _ in range(steps):
        x = x - rate * matrix @ x
        if not np.abs(x).max() < 1e6:
            break
    return float(np.abs(x).max() / np.abs(start).max())


@question.exact(
    "C2.2.12-01",
    T(
        "Too large a learning rate oscillates or diverges (on a quadratic: from 2 over the largest "
        "curvature on).",
        "学习率过大会振荡或发散（二次函数上从 2 除以最大曲率开始）。",
    ),
    at_most(1e-3),
    weight=3,
)
def limit(lab: Lab) -> Evidence:
    """Relative distance of the rate at which descent stops converging (bisection, 2,000 steps in
    ten dimensions, largest curvature 100) from 2 / 100; and |x| after 2,000 steps at three rates."""
    rng = lab.rng("bowl")
    q = np.linalg.qr(rng.standard_normal((10, 10)))[0]
    matrix = q @ np.diag(np.geomspace(1, 100, 10)) @ q.T
    start = q[:, -1] + 0.1 * rng.standard_normal(10)
    found = threshold(lambda rate: descend(matrix, start, rate), 0.01, 0.04)
    return All({
        "threshold": abs(found / 0.02 - 1),
        "rate 0.0199": Check(float(bowl(0.0199)[-1]), at_most(1e-6)),
        "rate 0.02": Check(float(bowl(0.02)[-1]), equals(1.0, 1e-6)),
        "rate 0.0201": Check(float(bowl(0.0201)[-1]), at_least(1e6)),
    })  # fmt: skip


def ripples(starts: Any, rate: float, pitch: float = 6.0, steps: int = 2000) -> Any:
    """Where descent ends on 0.1 w^2 + 0.3 (1 - cos(pitch w)): the value there, one a start.

    The rate falls to 0 in a straight line, so that every run comes to rest.
    """
    w = np.array(starts)
    for n in range(steps):
        w = w - rate * (1 - n / steps) * (0.2 * w + 0.3 * pitch * np.sin(pitch * w))
    return 0.1 * w**2 + 0.3 * (1 - np.cos(pitch * w))


def classifier() -> Any:
    """A small network for the digits."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def two_hidden() -> Any:
    """As small as a network for XOR can be, and known to have poor minima."""
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))


def small_net(kind: str) -> dict[str, Any]:
    """What `train_many` needs to train a small network of that task."""
    if kind == "digits":
        data = digits()
        return {"x": data.x, "y": data.y, "model": classifier}
    cloud = fathom.data.load("xor_cloud", n=200, noise=0.1, seed=0)
    return {"x": cloud.x, "y": cloud.y, "model": two_hidden}


@once
def poor_ends(lab: Lab, kind: str, rate: float, epochs: int) -> Any:
    """Training loss at the end, one a seed: SGD, batches of 32."""
    given = small_net(kind)
    spec = {"model": given["model"], "optimizer": "sgd", "lr": rate, "epochs": epochs}
    fleet = fathom.train_many(
        spec, given["x"], given["y"], seeds=lab.seeds(24 if kind == "xor" else 6, 2), threads=1
    )
    return fleet.evaluate(given["x"], given["y"])["loss"]


@question.experiment(
    "C2.2.12-02",
    T(
        "Too small a learning rate easily traps training in a local optimum.",
        "学习率过小容易使训练陷入局部最优。",
    ),
    at_least(0.2),
    correction=T(
        "Only where minima are narrow: on a rippled bowl {n[ripples]:.0%} more runs end badly with "
        "the small rate; with enough steps it is {n[2 hidden units on XOR]:.0%} on XOR and "
        "{n[MLP on digits]:.0%} on digits. A small rate is slow rather than trapped.",
        "仅当极小值很窄时成立：在带波纹的碗上，小学习率多 {n[ripples]:.0%} 的运行结局较差；步数足够时，"
        "XOR 上为 {n[2 hidden units on XOR]:.0%}，digits 上为 {n[MLP on digits]:.0%}。"
        "小学习率主要是慢，而不是被困住。",
    ),
    weight=3,
)
def trapped(lab: Lab) -> Evidence:
    """Share of runs that end badly with a small rate less the share with a rate 30 times as large,
    30 times as many steps for the small one: value above 0.3 on the ripples (half the height of
    one), for the networks a loss more than 0.05 above the lowest that any run of either rate found."""
    starts = lab.rng("starts").uniform(-10, 10, (lab.pick(20, 3), 20))
    small, large = ((ripples(starts, r) > 0.3).mean(axis=1) for r in (0.02, 0.6))
    few = lab.pick(24, 4)

    def share(kind: str) -> Sample:
        small, large = poor_ends(lab, kind, 0.01, 30 * few), poor_ends(lab, kind, 0.3, few)
        bar = 0.05 + min(small.min(), large.min())
        return Sample((small > bar) * 1.0 - (large > bar) * 1.0)

    return Settings(T("the landscape", "损失地形"), {
        "ripples": Sample(small - large),
        "2 hidden units on XOR": share("xor"),
        "MLP on digits": share("digits"),
    })  # fmt: skip


@once
def grid(lab: Lab, optimizer: str) -> Any:
    """Test accuracies after eight epochs on the digits: (rates, seeds)."""
    rates, seeds = grid_rates(lab, optimizer), lab.seeds(12, 2)
    fleet = eight_epochs(optimizer, seeds, rates.tolist())
    return accuracies(fleet, digits()).reshape(len(rates), len(seeds))


def grid_rates(lab: Lab, optimizer: str) -> Any:
    """Twelve rates over four decades, lower ones for Adam."""
    rates = np.geomspace(1e-3, 10, lab.pick(12, 2))
    return rates if optimizer == "sgd" else rates / 10


def eight_epochs(optimizer: str, seeds: list[int], rates: list[float]) -> Any:
    """The fleet of a small MLP on the digits."""
    given = small_net("digits")
    spec = {"model": given["model"], "optimizer": optimizer, "epochs": 8, "batch_size": 32}
    return fathom.train_many(
        spec, given["x"], given["y"], seeds=seeds, grid={"lr": rates}, threads=1
    )


@once
def suggested(lab: Lab, optimizer: str) -> tuple[Any, Any]:
    """(rates suggested by the library's running mean, by a centred mean), one a seed each."""
    given, found = small_net("digits"), []
    for seed in lab.seeds(12, 2):
        with fathom.seed(seed):
            model = given["model"]()
        test = model.lr_find(given["x"], given["y"], optimizer=optimizer, seed=seed, start=1e-5)
        found.append((test.suggestion, steepest(test.lrs, test.losses)))
    running, centred = np.array(found).T
    return running, centred


def steepest(rates: Any, losses: Any, width: int = 11) -> float:
    """The rate at which the loss, smoothed by a centred mean, falls fastest before its minimum."""
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    last = max(int(np.argmin(smooth)), 2)
    place = int(np.argmin(np.gradient(smooth[: last + 1]))) + width // 2
    return float(rates[place])


@once
def reached(lab: Lab, optimizer: str, centred: bool) -> Any:
    """Test accuracy with each seed's own suggestion."""
    rates, seeds = suggested(lab, optimizer)[int(centred)], lab.seeds(12, 2)
    different = np.unique(rates)
    fleet = eight_epochs(optimizer, seeds, different.tolist())
    table = accuracies(fleet, digits()).reshape(len(different), len(seeds))
    return table[np.searchsorted(different, rates), np.arange(len(seeds))]


def accuracies(fleet: Any, data: Any) -> Any:
    """Test accuracy of every run; chance where it diverged."""
    found = fleet.evaluate(data.test_x, data.test_y)["accuracy"]
    return np.array([0.1 if r.diverged else a for r, a in zip(fleet.runs, found, strict=True)])


@question.experiment(
    "C2.2.12-03",
    T(
        "The place of steepest descent in the range test is a good learning rate.",
        "学习率范围测试中下降最陡处的学习率是好的选择。",
    ),
    at_most(0.02),
    correction=T(
        "It depends on how the loss is smoothed. Accuracy lost with a centred mean: "
        "{n[SGD, centred mean]:.1%} (SGD), {n[Adam, centred mean]:.1%} (Adam); with a running mean, "
        "which lags and so suggests larger rates: {n[SGD, running mean]:.1%} and "
        "{n[Adam, running mean]:.1%}.",
        "取决于损失如何平滑。用居中均值时准确率损失为 {n[SGD, centred mean]:.1%}（SGD）、"
        "{n[Adam, centred mean]:.1%}（Adam）；用滞后的滑动均值会建议更大的学习率，损失为 "
        "{n[SGD, running mean]:.1%} 和 {n[Adam, running mean]:.1%}。",
    ),
    weight=2,
)
def suggestion(lab: Lab) -> Evidence:
    """Test accuracy lost against the best of 12 rates (of 4 decades), an MLP on the digits, eight
    epochs; the best rate is that with the highest mean over the seeds."""

    def lost(optimizer: str, centred: bool) -> Sample:
        table = grid(lab, optimizer)
        return Sample(table[table.mean(axis=1).argmax()] - reached(lab, optimizer, centred))

    return Settings(T("optimizer and smoothing of the loss", "优化器与损失的平滑方式"), {
        "SGD, centred mean": lost("sgd", True),
        "Adam, centred mean": lost("adam", True),
        "SGD, running mean": lost("sgd", False),
        "Adam, running mean": lost("adam", False),
    })  # fmt: skip


@question.figure(T("|x| on a bowl of curvature 100", "曲率 100 的碗上 |x| 的变化"))
def around_the_limit(lab: Lab) -> Figure:
    """Gradient descent on 50 x^2 just below, at and above the rate 0.02."""
    steps = np.arange(0, 401)
    return Figure(
        Axis(T("step", "步")),
        Axis(T("|x|", "|x|"), log=True),
        [
            Line(T(f"rate {r:g}", f"学习率 {r:g}"), steps, np.maximum(bowl(r, 400), 1e-9))
            for r in (0.01995, 0.02, 0.0201)
        ],
        T(
            "Half a percent below 2/100 the distance shrinks, at 2/100 it swings without loss, half "
            "a percent above it grows without bound.",
            "比 2/100 低一点时距离缩小，恰为 2/100 时等幅振荡，略高则无限增长。",
        ),
    )


@question.figure(T("Accuracy over the learning rate", "准确率随学习率的变化"))
def over_rates(lab: Lab) -> Figure:
    """An MLP on the digits, eight epochs, twelve rates; and what the range test suggests."""
    marks: list[Any] = []
    for optimizer, name in (("sgd", T("SGD", "SGD")), ("adam", T("Adam", "Adam"))):
        at, x = [Sample(row) for row in grid(lab, optimizer)], grid_rates(lab, optimizer)
        marks.append(Line(name, x, *band(at)))
        middle = float(np.median(suggested(lab, optimizer)[1]))
        words = T(f"suggested, {name.en}", f"{name.zh} 的建议值")
        marks.append(Level(words, x=middle))
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        marks,
        T(
            "Accuracy is flat over about a decade and falls off on both sides, steeply where "
            "training diverges; the range test's suggestions lie on or beside the plateau.",
            "准确率在大约一个数量级内平坦，两侧下降，发散一侧很陡；范围测试的建议值位于平台上或其旁。",
        ),
    )


@question.figure(T("Where a rippled bowl lets go", "带波纹的碗上的终点"))
def rippled(lab: Lab) -> Figure:
    """Mean value at the end over starts in (-10, 10), the rate falling to 0."""
    starts = lab.rng("starts").uniform(-10, 10, (lab.pick(20, 3), 20))
    rates = np.geomspace(0.005, 1.0, lab.pick(14, 5))
    at = [Sample(np.maximum(ripples(starts, r).mean(axis=1), 1e-3)) for r in rates]
    return Figure(
        Axis(T("learning rate at the start", "初始学习率"), log=True),
        Axis(T("value at the end", "终点的函数值"), log=True),
        [
            Line(T("rippled bowl", "带波纹的碗"), rates, *band(at)),
            Level(T("2 / largest curvature", "2 / 最大曲率"), x=float(2 / (0.2 + 0.3 * 36))),
        ],
        T(
            "Below twice the inverse curvature of the ripples a run stays in the ripple it starts "
            "in; above it, it passes over them and ends near the bottom.",
            "学习率低于波纹曲率倒数的两倍时，运行停在起始的波纹里；高于它则越过波纹，停在碗底附近。",
        ),
    )  # fmt: skip
