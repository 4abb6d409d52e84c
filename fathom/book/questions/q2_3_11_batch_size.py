"""2.3.11 What the batch size does to gradients, to the end of training, and to batch norm."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, NotMeasurable, Published, Question, Routes,
    Sample, Settings, Source, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.normed import best_rate, few, fleet, judged, net
from fathom.book.material.tasks import Task, nets, task
from fathom.book.statistics import slope
from fathom.nn import functional as F
from fathom.train.curvature import batch_noise, sharpness

question = Question(
    "2.3.11",
    title=T("How does batch size affect gradients and updates?", "批大小如何影响梯度与更新？"),
    difficulty=3,
    frequency=4,
    topics=(
        "batch size",
        "gradient noise",
        "gradient accumulation",
        "批大小",
        "梯度噪声",
        "梯度累积",
    ),
    answer=T(
        "A batch gradient is the mean of B gradients drawn at random, so its covariance is that "
        "of one "
        "row divided by B: noise falls as 1/B in variance, 1/sqrt(B) in size. Larger batches "
        "therefore "
        "allow larger rates and make better use of hardware, up to the noise scale of the "
        "problem, beyond "
        "which more rows buy nothing. At equal epochs a large batch takes fewer steps and ends "
        "less trained; "
        "much of the famous generalization gap is that, and it shrinks at equal steps with a "
        "tuned rate. "
        "Accumulating k micro-batches and dividing by k gives exactly the gradient of the large "
        "batch unless a layer, like "
        "batch normalization, looks across the rows. Batch normalization itself suffers at "
        "batches of a few rows, since its "
        "statistics become noise; group or layer normalization does not. 32 to 256 is a habit "
        "from "
        "hardware and experience, not a law.",
        "批梯度是 B 个随机抽取的单行梯度的平均，所以协方差是单行的 1/B：方差按 1/B 下降，幅度按 "
        "1/√B 下降。"
        "因此更大的批允许更大的学习率，也更能用好硬件，直到问题的噪声尺度为止，再大就没有收益。"
        "轮数相同时大批走的步数少，训练得也少；著名的泛化差距有很大一部分就是这个原因，"
        "步数相同并调好学习率后会缩小。"
        "累积 k 个小批再除以 k 得到的正是大批的梯度，除非某层（如批归一化）跨行取统计量。"
        "批归一化在批只有几行时自身受损，因为统计量变成噪声；组归一化和层归一化则不会。"
        "32 到 256 是由硬件和经验形成的习惯，不是定律。",
    ),
    flips=T(
        "Count steps instead of epochs and tune the rate: the small batch's lead mostly goes.",
        "改按步数而不是轮数比较，并调好学习率：小批的优势大半消失。",
    ),
    analogy=T(
        "Polling: asking four times as many people halves the error, and after a few thousand "
        "nobody asks more.",
        "如同民调：多问四倍的人，误差减半；问到几千人之后就没人再多问了。",
    ),
    generative=T(
        "Language models train with millions of tokens a batch, put together by accumulation, "
        "since "
        "their noise scale grows as the loss falls.",
        "大语言模型用累积凑出每批数百万个 token，因为损失越低噪声尺度越大。",
    ),
    classical=T(
        "Full-batch methods such as L-BFGS are the rule where all the data fit in memory.",
        "数据能全部放进内存时，通常使用 L-BFGS 这类全批方法。",
    ),
    driving=T(
        "High-resolution detectors fit one or two images on a card: hence accumulation, "
        "synchronized or "
        "frozen batch norm, or group norm.",
        "高分辨率检测器一张卡只放得下一两张图：于是有梯度累积、同步或冻结的批归一化，"
        "以及组归一化。",
    ),
    change=T(
        "Compare after equally many steps instead of epochs, each with its best rate.",
        "改为在相同步数后比较，且各用最佳学习率。",
    ),
)

SMALL, LARGE = 16, 400
SIZES = (1, 4, 16, 64, 256)
KESKAR = Source(
    "Keskar et al., On Large-Batch Training for Deep Learning, ICLR, tables 2 and 3", 2017, 0.9
)


@once
def noise(lab: Lab) -> Any:
    """Mean squared distance of a batch's gradient from the full one, (seeds, sizes)."""
    data, found = few(), []
    for seed in lab.seeds(8, 3):
        with fathom.seed(seed):
            model = net(width=16)
        at = batch_noise(model, data.x, data.y, SIZES, lab.pick(150, 60), seed=seed)
        found.append([at[size] for size in SIZES])
    return np.array(found)


@question.experiment(
    "C2.3.11-01",
    T("The variance of the gradient falls with the batch size.", "梯度的方差随批大小下降。"),
    equals(-1.0, 0.05),
    weight=2,
)
def variance(lab: Lab) -> Evidence:
    """Slope of log noise over log batch, sizes 1 to 256, drawn with replacement; a net on digits.

    Noise is the mean squared distance from the gradient of all rows: the trace of the covariance.
    """
    return Sample([slope(np.log(SIZES), np.log(row)) for row in noise(lab)])


class End(NamedTuple):
    """Where training ended, a number a seed: accuracy, and the Hessian's top eigenvalue."""

    accuracy: Any
    highest: Any


def ends(lab: Lab, data: Task, batch: int, lr: float, epochs: int) -> End:
    """Accuracy on the rows to report, and the Hessian's top eigenvalue on the others."""
    made = nets(data, batch, lab.seeds(8, 3), lr, epochs)
    highest = [sharpness(run.model, *data.learn, steps=15) for run in made.runs]
    return End(made.evaluate(*data.report)["accuracy"], np.array(highest))


@once
def compared(lab: Lab, name: str, how: str) -> tuple[End, End]:
    """Batches of 16 and of all 400 rows: after equal epochs or equally many steps."""
    data, epochs = task(name), lab.pick(25, 4)
    steps = epochs * LARGE // SMALL
    long = epochs if how == "equal epochs" else steps
    rates = [0.1, 0.1]
    if how == "equal steps, best rates":
        for i, (batch, n) in enumerate(((SMALL, epochs), (LARGE, steps))):
            grid = lab.pick((0.03, 0.1, 0.3, 1.0), (0.1, 0.3))
            found = nets(data, batch, lab.seeds(2, 2), grid, n).evaluate(*data.choose)["accuracy"]
            rates[i] = grid[int(found.reshape(len(grid), -1).mean(axis=1).argmax())]
    return ends(lab, data, SMALL, rates[0], epochs), ends(lab, data, LARGE, rates[1], long)


@question.experiment(
    "C2.3.11-02",
    T(
        "Very large batches end in sharp minima and generalize worse.",
        "很大的批会落入尖锐的极小值，泛化更差。",
    ),
    at_least(0.01),
    correction=T(
        "On digits the full batch loses {n[equal epochs/accuracy lost/digits]:.3f} of accuracy "
        "after equal "
        "epochs, {n[equal steps, equal rates/accuracy lost/digits]:.3f} after equal steps and "
        "{n[equal steps, best rates/accuracy lost/digits]:.3f} with best rates, and its end is "
        "{n[equal epochs/times as sharp/digits]:.2f}, "
        "{n[equal steps, equal rates/times as sharp/digits]:.2f} "
        "and {n[equal steps, best rates/times as sharp/digits]:.2f} times as sharp: what these "
        "small nets on 400 rows lose after equal epochs is training. A published convolutional net "
        "on CIFAR-10, trained with batches of 256 and of a tenth of the data, does lose "
        "{n[published, CIFAR-10/accuracy lost]:.3f} and ends "
        "{n[published, CIFAR-10/times as sharp]:.0f} times as sharp; later work closes most of such "
        "gaps by longer training and tuned rates (Hoffer et al., 2017; Shallue et al., 2019).",
        "在 digits 上，全批在轮数相同时损失 {n[equal epochs/accuracy lost/digits]:.3f} 的准确率，"
        "步数相同时为 "
        "{n[equal steps, equal rates/accuracy lost/digits]:.3f}，各用最佳学习率时为 "
        "{n[equal steps, best rates/accuracy lost/digits]:.3f}；终点的尖锐程度分别为小批的 "
        "{n[equal epochs/times as sharp/digits]:.2f}、"
        "{n[equal steps, equal rates/times as sharp/digits]:.2f} "
        "与 {n[equal steps, best rates/times as sharp/digits]:.2f} 倍：对这些 400 行数据上的小网络，"
        "轮数相同时损失的是训练量。而文献中 CIFAR-10 上的一个卷积网络，分别用 256 与数据的"
        "十分之一作批训练，确实损失 {n[published, CIFAR-10/accuracy lost]:.3f}，终点尖锐 "
        "{n[published, CIFAR-10/times as sharp]:.0f} 倍；后来的工作用更长的训练和调好的学习率弥合了"
        "大部分差距（Hoffer 等，2017；Shallue 等，2019）。",
    ),
    weight=3,
)
def sharp_and_worse(lab: Lab) -> Evidence:
    """Test accuracy of batch 16 less that of the full batch (400), and the ratio of sharpness.

    ReLU nets on 400 digits and on 400 points of two moons, paired seeds. Worse means 0.01 of
    accuracy or more; sharper means a top Hessian eigenvalue at least 1.1 times as large. Beside
    them the study that the claim goes back to: net C1, test accuracies 80.04 and 77.26 %, their
    sharpness 28.58 and 707.23 (a rise of the loss nearby, in percent).
    """
    at: dict[str, Evidence] = {}
    for how in ("equal epochs", "equal steps, equal rates", "equal steps, best rates"):
        lost: dict[str, Evidence] = {}
        sharper: dict[str, Evidence] = {}
        for name in ("digits", "moons"):
            small, large = compared(lab, name, how)
            lost[name] = Sample(small.accuracy - large.accuracy)
            sharper[name] = Sample(large.highest / small.highest)
        at[how] = All({
            "accuracy lost": Routes(lost), "times as sharp": Check(Routes(sharper), at_least(1.1))
        })  # fmt: skip
    at["published, CIFAR-10"] = All({
        "accuracy lost": Published(0.0278, (KESKAR,)),
        "times as sharp": Check(Published(24.7, (KESKAR,)), at_least(1.1)),
    })  # fmt: skip
    return Settings(T("the problem, and what is held equal", "问题，以及保持相同的量"), at)


@question.unmeasurable(
    "C2.3.11-03",
    T("32 to 256 is the range to prefer.", "32 到 256 是首选范围。"),
)
def preferred(lab: Lab) -> Evidence:
    """A preference over all problems and machines; shown: test accuracy on digits by batch."""
    seeds = lab.seeds(5, 2)
    nearest = {
        f"batch {b}": float(judged(fleet("none", b, seeds, lr=0.1 * b / 16, epochs=10)).test.mean())
        for b in (8, 32, 128)
    }
    return NotMeasurable(
        T(
            "a convention: it would take the time to a given loss on many problems and on the "
            "reader's hardware",
            "这是惯例：需要在许多问题上、在读者的硬件上测量达到给定损失所需的时间",
        ),
        nearest,
    )


def gradients(model: Any, x: Any, y: Any, parts: int) -> Any:
    """The gradient of so many micro-batches' losses, each divided by their number, added up."""
    for p in model.parameters():
        p.grad = None
    for rows in np.split(np.arange(len(x)), parts):
        loss = F.cross_entropy(model(fathom.tensor(x[rows])), fathom.tensor(y[rows]))
        (loss / parts).backward()
    return np.concatenate([p.grad.value().ravel() for p in model.parameters()])


@question.exact(
    "C2.3.11-04",
    T(
        "Gradient accumulation reproduces the gradient of the large batch.",
        "梯度累积能复现大批的梯度。",
    ),
    at_most(1e-12),
    correction=T(
        "Exactly so without batch norm (relative gap {n[none]:.0e}), and with layer norm "
        "({n[layer norm]:.0e}); with batch norm the two are {n[batch norm]:.0%} apart.",
        "没有批归一化时完全相等（相对差 {n[none]:.0e}），层归一化也是（{n[layer norm]:.0e}）；"
        "有批归一化时两者相差 {n[batch norm]:.0%}。",
    ),
    weight=3,
)
def accumulated(lab: Lab) -> Evidence:
    """Four micro-batches of 16, losses divided by 4, against one batch of 64; relative distance."""
    data, at = few(), {}
    x, y = data.x[:64].astype(np.float64), data.y[:64]
    for name, norm in (("none", "none"), ("layer norm", "layer"), ("batch norm", "batch")):
        model = net(norm).double()
        whole, pieces = gradients(model, x, y, 1), gradients(model, x, y, 4)
        at[name] = float(np.linalg.norm(whole - pieces) / np.linalg.norm(whole))
    return Settings(T("normalization", "归一化"), at)


@question.experiment(
    "C2.3.11-05",
    T(
        "With tiny batches accumulation is a must, to tame the noise.",
        "批很小时必须用梯度累积来压住噪声。",
    ),
    at_least(0.01),
    correction=T(
        "It cuts the noise to {n[rate 0.8/noise, of that of batch 2]:.3f}, but a smaller rate "
        "does as well: at "
        "a rate of 0.8 it gains {n[rate 0.8/accuracy gained]:.3f} of accuracy, with each side's "
        "best rate "
        "{n[best rate/accuracy gained]:.3f}.",
        "它把噪声降到 {n[rate 0.8/noise, of that of batch 2]:.3f}，但降低学习率同样有效：学习率 "
        "0.8 时它多得 "
        "{n[rate 0.8/accuracy gained]:.3f} 的准确率，双方各用最佳学习率时为 "
        "{n[best rate/accuracy gained]:.3f}。",
    ),
    weight=2,
)
def must(lab: Lab) -> Evidence:
    """Accuracy with batches of 2 accumulated to 32 less that with steps after each 2 rows.

    Without batch norm, so that 16 accumulated batches of 2 are a batch of 32. 15 epochs each,
    paired seeds; noise as in the first claim.
    """
    at: dict[str, Evidence] = {}
    data, seeds, epochs = few(), lab.seeds(12, 3), lab.pick(15, 4)
    with fathom.seed(seeds[0]):
        model = net()
    spread = batch_noise(model, data.x, data.y, (2, 32), 400)
    tuned = [
        best_rate(
            "none",
            b,
            seeds[:3],
            [r * m for r in lab.pick((0.01, 0.03, 0.1, 0.3), (0.03, 0.1))],
            epochs,
        )
        for b, m in ((2, 1), (32, 4))
    ]
    rates = {"rate 0.8": (0.8, 0.8), "best rate": (tuned[0], tuned[1])}
    for name, (alone, together) in rates.items():
        tiny, big = (
            judged(fleet("none", b, seeds, lr=r, epochs=epochs)).test
            for b, r in ((2, alone), (32, together))
        )
        at[name] = All({
            "accuracy gained": Sample(big - tiny),
            "noise, of that of batch 2": Check(spread[32] / spread[2], equals(1 / 16, 0.01)),
        })  # fmt: skip
    return Settings(T("learning rate", "学习率"), at)


@once
def normed(lab: Lab, norm: str, batch: int) -> Any:
    """Test accuracy after 15 epochs at a rate of batch / 160, at most 0.1; one a seed."""
    return judged(
        fleet(norm, batch, lab.seeds(10, 3), lr=min(0.1, batch / 160), epochs=lab.pick(15, 4))
    ).test


@question.experiment(
    "C2.3.11-06",
    T(
        "Batch norm fails at batches of 1 or 2, and group norm or a frozen batch norm has to "
        "replace it.",
        "批大小为 1 或 2 时批归一化失效，必须用组归一化或冻结的批归一化代替。",
    ),
    at_least(0.02),
    weight=3,
)
def tiny_batches(lab: Lab) -> Evidence:
    """Test accuracies on digits at batches of 2, against 16 and against the two replacements.

    Differences of 0.02 or more on the same seeds, at a rate of batch / 160; a batch of one row
    must be refused in training.
    """
    two = normed(lab, "batch", 2)
    try:
        nn.BatchNorm1d(4).train()(fathom.zeros(1, 4))
        refused = False
    except fathom.FathomError:
        refused = True
    return All({
        "batch norm at 16 less at 2": Sample(normed(lab, "batch", 16) - two),
        "group norm less batch norm at 2": Sample(normed(lab, "group", 2) - two),
        "frozen less batch norm at 2": Sample(normed(lab, "frozen", 2) - two),
        "one row is refused": Check(refused, equals(1.0)),
    })  # fmt: skip


@question.figure(T("Noise of the gradient by batch size", "梯度噪声随批大小的变化"))
def noise_by_batch(lab: Lab) -> Figure:
    """Mean squared distance from the full gradient, drawn with replacement; digits."""
    found = noise(lab)
    middle = found.mean(axis=0)
    return Figure(
        Axis(T("batch size", "批大小"), log=True),
        Axis(T("squared distance", "平方距离"), log=True),
        [
            Line(T("measured", "实测"), SIZES, middle, found.min(axis=0), found.max(axis=0)),
            Line(T("1/B", "1/B"), SIZES, middle[0] / np.array(SIZES), points=True),
        ],
        T(
            "The noise falls in proportion to 1/B from one row to 256.",
            "从 1 行到 256 行，噪声与 1/B 成正比地下降。",
        ),
        {"noise times B, smallest": float((middle * SIZES).min()),
         "noise times B, largest": float((middle * SIZES).max())},
    )  # fmt: skip


@question.figure(
    T("Test accuracy by batch size and normalization", "测试准确率随批大小与归一化的变化")
)
def norms_by_batch(lab: Lab) -> Figure:
    """400 digits, 15 epochs, the rate in proportion to the batch up to 0.1 at 16 rows."""
    batches = (2, 4, 16, 64)
    names = {
        "batch": T("batch norm", "批归一化"),
        "group": T("group norm", "组归一化"),
        "frozen": T("frozen batch norm", "冻结的批归一化"),
    }
    bars = []
    for norm, name in names.items():
        at = [Sample(normed(lab, norm, b)) for b in batches]
        bars.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("batch size", "批大小"), ticks=[T(str(b), str(b)) for b in batches]),
        Axis(T("test accuracy", "测试准确率")),
        bars,
        T(
            "Batch norm loses much of its accuracy at batches of two; group norm and frozen "
            "statistics keep it.",
            "批大小为 2 时批归一化的准确率大幅下降；组归一化与冻结统计量则保持不变。",
        ),
    )
