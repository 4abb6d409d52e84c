"""2.2.8 What batch normalization computes, and what it repairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings,
    T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.stacks import stack
from fathom.book.statistics import slope
from fathom.doctor import covariate_drift
from fathom.engine.random import current
from fathom.nn import BatchNorm1d, Linear, Module, ReLU, Sequential
from fathom.nn.functional import cross_entropy
from fathom.nn.init import apply_

question = Question(
    "2.2.8",
    title=T(
        "What does batch normalization compute and what does it fix?",
        "批归一化计算什么？解决了什么问题？",
    ),
    difficulty=4,
    frequency=5,
    topics=("batch normalization", "normalization", "covariate shift", "learning rate", "批归一化", "内部协变量偏移", "学习率"),
    answer=T(
        "For each unit (channel) it subtracts the batch's mean and divides by sqrt(variance + ε), "
        "with the variance over m, not m - 1; a learned γ and β then scale and shift, and could "
        "undo it. In training the statistics are those of the batch; in inference running averages "
        "are used, so the layer is a fixed affine map. It lets much larger learning rates train and "
        "so speeds up convergence, because scale and offset of every layer no longer matter for the "
        "next. The first explanation, less internal covariate shift, does not hold: noise behind "
        "the norm that brings the drift back hardly spoils training; a smoother loss (Santurkar et "
        "al., 2018) is the explanation more widely held now. With few samples a device its statistics are noisy, "
        "with relative error about 1/sqrt(B); then group norm, synchronized or frozen statistics "
        "are used.",
        "对每个单元（通道），减去批次均值，再除以 sqrt(方差 + ε)，方差除以 m 而非 m - 1；随后用可学习的 γ、β "
        "缩放和平移，必要时可还原。训练时用批次统计量，推理时用滑动平均，因此推理时它是固定的仿射变换。它能"
        "承受大得多的学习率，从而加快收敛，因为每层的尺度与偏移不再影响下一层。最初的解释“减少内部协变量偏移”"
        "站不住脚：在归一化之后加噪声把漂移恢复，训练几乎不受损；现在更被接受的解释是损失面更平滑（Santurkar 等，2018）。"
        "每个设备样本很少时统计量噪声大，相对误差约 1/sqrt(B)；这时改用组归一化、同步或冻结的统计量。",
    ),
    flips=T(
        "With a few samples a batch, batch norm loses to group or layer norm.",
        "每批只有几个样本时，批归一化不如组归一化或层归一化。",
    ),
    analogy=T(
        "A sound engineer who sets every microphone to the same level before the next stage hears it.",
        "像调音师：每一路话筒先调到同一音量，再送入下一级。",
    ),
    generative=T(
        "Language models use layer or RMS norm instead: sequences and tiny batches break batch statistics.",
        "语言模型改用层归一化或 RMS 归一化：序列与小批次使批统计量不可靠。",
    ),
    classical=T(
        "In convolutional nets it folds into the layer before it for inference: no cost at all.",
        "在卷积网络中，推理时可并入前一层：没有任何额外代价。",
    ),
    driving=T(
        "Detectors on large images fit one or two a device: they freeze or synchronize the statistics.",
        "大图检测器每卡只放得下一两张：须冻结或跨卡同步统计量。",
    ),
    change=T(
        "Set the batch size to 2: the advantage turns into a handicap.",
        "把批大小设为 2：优势变成劣势。",
    ),
)  # fmt: skip

RATES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
EPOCHS = 15


@once
def sweep(lab: Lab, norm: bool) -> dict[str, Any]:
    """Five layers with weights, 48 wide, on the digits by learning rate: losses and accuracy.

    losses (rates, seeds, epochs), the mean of each epoch, nan from where it diverged.
    """
    data, rates = digits(), list(RATES)[:: lab.pick(1, 3)]
    seeds = lab.seeds(10, 3)
    spec = {"model": lambda: stack(64, 10, 48, 4, norm=norm), "optimizer": "sgd",
            "epochs": lab.pick(EPOCHS, 3), "batch_size": 50}  # fmt: skip
    fleet = fathom.train_many(spec, data.x, data.y, seeds=seeds, grid={"lr": rates}, threads=1)
    losses = fleet.losses.reshape(len(rates), len(seeds), -1)
    return {"rates": np.array(rates), "losses": losses}


@question.experiment(
    "C2.2.8-01",
    T("Batch norm allows larger learning rates.", "批归一化允许使用更大的学习率。"),
    at_least(1.0),
    weight=3,
)
def larger_rates(lab: Lab) -> Evidence:
    """Doublings from the largest learning rate that trains without to that with, one a seed.

    Digits, five layers, plain SGD; it trains if the mean loss of the last epoch is below half of
    ln 10, that of guessing. 1 is twice as large.
    """
    top = []
    for norm in (True, False):
        found = sweep(lab, norm)
        last = np.nan_to_num(found["losses"][..., -1], nan=np.inf)
        good = np.where(last < np.log(10) / 2, found["rates"][:, None], RATES[0] / 2)
        top.append(np.log2(good.max(axis=0)))
    return Sample(top[0] - top[1])


SMALL = {"1/16 for both": 1 / 16, "1/8 for both": 1 / 8}


def epochs_needed(losses: Any, goal: float = 0.1) -> Any:
    """Epochs until the training loss is below `goal`; one more than there are if it never is."""
    below = np.nan_to_num(losses, nan=np.inf) < goal
    return np.where(below.any(axis=-1), below.argmax(axis=-1) + 1, losses.shape[-1] + 1)


@question.experiment(
    "C2.2.8-02",
    T("Batch norm makes training converge faster.", "批归一化加快收敛。"),
    at_least(1.25),
    correction=T(
        "Where each has its best rate: {n[each its best]:.2f} times as many epochs without it. At the "
        "rate that is best without it the factor is {n[1/8 for both]:.2f}, at half of that "
        "{n[1/16 for both]:.2f}: most of the speed comes from the larger rate.",
        "各取最佳学习率时如此：没有它需要 {n[each its best]:.2f} 倍的轮数。在无归一化时最佳的学习率下是 "
        "{n[1/8 for both]:.2f} 倍，再减半时是 {n[1/16 for both]:.2f} 倍：速度主要来自更大的学习率。",
    ),
    weight=2,
)
def faster(lab: Lab) -> Evidence:
    """Epochs to a training loss of 0.1 without over those with, digits, paired by seed.

    At the rate 1/8 for both (where the plain net needs fewest) and half of it, and each at the rate
    where it needs fewest; a quarter more counts.
    """
    with_it, without = (epochs_needed(sweep(lab, norm)["losses"]) for norm in (True, False))
    best = [e[e.mean(axis=1).argmin()] for e in (without, with_it)]
    rates = sweep(lab, True)["rates"].tolist()
    same = {name: abs(np.log(rates) - np.log(r)).argmin() for name, r in SMALL.items()}
    return Settings(T("learning rate", "学习率"), {
        **{name: Sample(without[i] / with_it[i]) for name, i in same.items()},
        "each its best": Sample(best[0] / best[1]),
    })  # fmt: skip


# -- internal covariate shift --------------------------------------------------------------------


DRIFT_RATES, NOISES = (0.2, 0.1, 0.4), (0.125, 0.25, 0.5)


class Noise(Module):
    """A new random scale and shift of every unit at every step (Santurkar et al., 2018)."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Any) -> Any:
        if not self.training:
            return x
        stream, units = current().stream("noise"), x.shape[1]
        scale = fathom.tensor(stream.uniform((units,), 1 - self.size, 1 + self.size))
        return x * scale + fathom.tensor(stream.normal((units,), 0.0, self.size))


KINDS = {
    "plain": T("plain", "无归一化"),
    "norm": T("batch norm", "批归一化"),
    "noise": T("batch norm, then noise", "批归一化后加噪声"),
}


def deep(kind: str, inputs: int, outputs: int, noise: float, width: int = 32) -> Sequential:
    """Six hidden layers: linear, norm, ReLU, noise; He's weights, with which the plain net trains."""
    layers: list[Module] = []
    for _ in range(6):
        layers += [Linear(inputs, width)]
        layers += [BatchNorm1d(width)] if kind != "plain" else []
        layers += [ReLU()]
        layers += [Noise(noise)] if kind == "noise" else []
        inputs = width
    model = Sequential(*layers, Linear(inputs, outputs))
    apply_(model, "he_normal")
    return model


def stepper(model: Module, x: Any, y: Any, losses: list[float], lr: float) -> Callable[[], None]:
    """A step of SGD on 128 random rows."""
    sgd = fathom.optim.SGD(model.parameters(), lr=lr)

    def step() -> None:
        i = current().stream("batches").integers(0, len(x), (128,))
        sgd.zero_grad()
        loss = cross_entropy(model(fathom.tensor(x[i])), y[i])
        loss.backward()
        sgd.step()
        losses.append(float(loss.item()))

    return step


def rows_of(name: str) -> tuple[Any, Any]:
    """Digits, or standardized iris."""
    if name == "digits":
        return digits().x, digits().y
    data = fathom.data.load("iris")
    x = (data.x - data.x.mean(axis=0)) / data.x.std(axis=0)
    return x.astype(np.float32), np.asarray(data.y, np.int64)


@once
def drifts(lab: Lab, name: str) -> dict[str, dict[str, Any]]:
    """For each kind of net at its best rate: drift of the layers' inputs, and the last losses.

    The noise is the least of three sizes that makes the drift as large as the plain net's.
    """
    found = {kind: at_best_rate(lab, name, kind) for kind in ("plain", "norm")}
    for size in NOISES:
        found["noise"] = at_best_rate(lab, name, "noise", size)
        if found["noise"]["drift"].mean() >= found["plain"]["drift"].mean():
            break
    return found


def at_best_rate(lab: Lab, name: str, kind: str, noise: float = 0.0) -> dict[str, Any]:
    """Drift and mean loss of the last ten of 40 steps, at the rate where that loss is lowest."""
    x, y = rows_of(name)
    tried = []
    for lr in DRIFT_RATES[: lab.pick(3, 1)]:
        rows = []
        for seed in lab.seeds(6, 2):
            losses: list[float] = []
            with fathom.seed(seed):
                model = deep(kind, x.shape[1], int(y.max()) + 1, noise)
                step = stepper(model, x, y, losses, lr)
                drift = covariate_drift(model, step, steps=lab.pick(40, 12)).drift
            rows.append((drift, np.mean(losses[-10:])))
        tried.append(dict(zip(("drift", "loss"), np.array(rows).T, strict=True)))
    return min(tried, key=lambda found: float(found["loss"].mean()))


@question.experiment(
    "C2.2.8-03",
    T(
        "Batch norm works because it removes internal covariate shift.",
        "批归一化之所以有效，是因为消除了内部协变量偏移。",
    ),
    at_least(0.5),
    correction=T(
        "Noise behind the norm makes the drift {n[digits/drift over plain]:.1f} times that of a plain net, "
        "yet only {n[digits/advantage lost]:.0%} of the advantage is lost on digits and "
        "{n[iris/advantage lost]:.0%} on iris: the drift is not the cause.",
        "在归一化后加噪声，使漂移达到普通网络的 {n[digits/drift over plain]:.1f} 倍，但优势在手写数字上只损失 "
        "{n[digits/advantage lost]:.0%}，在鸢尾花上 {n[iris/advantage lost]:.0%}：漂移不是原因。",
    ),
    weight=3,
)
def covariate_shift(lab: Lab) -> Evidence:
    """Share of batch norm's gain in training loss that is lost when noise brings the drift back.

    Six hidden layers, 40 steps (Santurkar et al., 2018), on two data sets; He's weights, and each
    net at the best of three rates. Were drift the cause, half of the gain at least should go; the
    noise is the least of three sizes with which the drift is as large as the plain net's.
    """
    routes: dict[str, Evidence] = {}
    for name in ("digits", "iris"):
        d = drifts(lab, name)
        plain, norm, noise = (d[kind]["loss"] for kind in ("plain", "norm", "noise"))
        routes[name] = All({
            "advantage lost": Sample((noise - norm) / (plain - norm).mean()),
            "drift over plain": Check(
                Sample(d["noise"]["drift"] / d["plain"]["drift"].mean()), at_least(1.0)
            ),
        })  # fmt: skip
    return Routes(routes)


# -- what it computes ----------------------------------------------------------------------------


def normalized(lab: Lab, rows: int = 32) -> tuple[Any, Any]:
    """Rows of units with different means and deviations, and what the layer makes of them."""
    rng = lab.rng("rows")
    x = rng.standard_normal((rows, 8)) * rng.uniform(0.5, 5, 8) + rng.uniform(-10, 10, 8)
    return x, BatchNorm1d(8).double().train()(fathom.tensor(x)).value()


@question.exact(
    "C2.2.8-04",
    T(
        "Batch norm divides by the biased variance of the batch (over m).",
        "批归一化除以批次的有偏方差（除以 m）。",
    ),
    at_most(1e-12),
)
def biased(lab: Lab) -> Evidence:
    """Largest difference of the library's layer from the formula with 1/m, and with 1/(m - 1).

    The running variance, in contrast, is kept with 1/(m - 1), as in other libraries.
    """
    x, y = normalized(lab)
    layer = BatchNorm1d(8).double().train()
    layer(fathom.tensor(x))
    running = 0.9 + 0.1 * x.var(axis=0, ddof=1)
    by = [(x - x.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=k) + 1e-5) for k in (0, 1)]
    return All({
        "over m": float(np.abs(y - by[0]).max()),
        "over m - 1": Check(float(np.abs(y - by[1]).max()), at_least(1e-3)),
        "running variance over m - 1": float(np.abs(layer.running_var.value() - running).max()),
    })  # fmt: skip


@question.exact(
    "C2.2.8-05",
    T(
        "In training the normalized values of a batch have mean 0 and variance 1.",
        "训练时，归一化后的批次数值均值为 0、方差为 1。",
    ),
    at_most(1e-3),
)
def standardized(lab: Lab) -> Evidence:
    """Largest |mean| and |variance - 1| of units of deviation 0.5 to 5, before γ and β.

    Not exactly: ε = 1e-5 makes the variance v / (v + ε), which shows once v is near ε.
    """
    _, y = normalized(lab)
    return All({
        "mean": float(np.abs(y.mean(axis=0)).max()),
        "variance": float(np.abs(y.var(axis=0) - 1).max()),
    })  # fmt: skip


@question.exact(
    "C2.2.8-06",
    T("With γ and β the layer can give back the original values.", "借助 γ 与 β，该层可以还原原来的分布。"),
    at_most(1e-12),
)  # fmt: skip
def restored(lab: Lab) -> Evidence:
    """Largest difference of output and input with γ = sqrt(variance + ε) and β = mean."""
    x, _ = normalized(lab)
    layer = BatchNorm1d(8).double().train()
    layer.weight.data[...] = np.sqrt(x.var(axis=0) + 1e-5)
    layer.bias.data[...] = x.mean(axis=0)
    return float(np.abs(layer(fathom.tensor(x)).value() - x).max())


SIZES = (2, 4, 8, 16, 32, 64, 128, 256)


@once
def noise_of_statistics(lab: Lab) -> Any:
    """Deviation of the batch's mean over that of the unit by batch size, (seeds, sizes).

    Units are the first pre-activations of a random layer on digits; 400 batches a size.
    """
    x, found = digits().x.astype(np.float64), []
    for seed in lab.seeds(8, 3):
        rng = np.random.default_rng(seed)
        z = x @ rng.standard_normal((64, 32)) / 8
        z = (z - z.mean(axis=0)) / z.std(axis=0)
        row = []
        for size in SIZES:
            picks = rng.integers(0, len(z), (lab.pick(400, 150), size))
            row.append(z[picks].mean(axis=1).std(axis=0).mean())
        found.append(row)
    return np.array(found)


@question.experiment(
    "C2.2.8-07",
    T(
        "With few samples a device the batch statistics are inaccurate.",
        "每个设备的样本很少时，批统计量不准确。",
    ),
    at_least(0.5),
    weight=2,
)
def inaccurate(lab: Lab) -> Evidence:
    """Deviation of the batch mean over the unit's at 2 samples; it falls like B to the power -1/2.

    Half a deviation counts as inaccurate; at 256 samples it must be below a tenth.
    """
    found = noise_of_statistics(lab)
    powers = [slope(np.log(SIZES), np.log(row)) for row in found]
    return All({
        "2 samples": Sample(found[:, 0]),
        "256 samples": Check(Sample(found[:, -1]), at_most(0.1)),
        "power of B": Check(Sample(powers), equals(-0.5, 0.03)),
    })  # fmt: skip


# -- figures -------------------------------------------------------------------------------------


@question.figure(T("Training loss by learning rate", "训练损失与学习率"))
def by_rate(lab: Lab) -> Figure:
    """Mean loss of the last of 15 epochs on the digits, five layers; where it diverged, ln 10."""
    lines = []
    for norm, name in ((True, T("batch norm", "批归一化")), (False, T("without", "无归一化"))):
        found = sweep(lab, norm)
        last = np.nan_to_num(found["losses"][..., -1], nan=np.log(10))
        at = [Sample(row) for row in np.minimum(last, 5)]
        lines.append(Line(name, found["rates"], *band(at)))
    return Figure(
        Axis(T("learning rate", "学习率"), log=True),
        Axis(T("training loss", "训练损失")),
        [*lines, Level(T("ln 10: guessing", "ln 10：瞎猜"), y=float(np.log(10)))],
        T(
            "Without the norm training breaks down at a rate below 1; with it rates several times as "
            "large still train.",
            "没有归一化时学习率不到 1 训练就崩溃；有归一化时几倍大的学习率仍能训练。",
        ),
    )


@question.figure(T("Drift and loss", "漂移与损失"))
def drift_and_loss(lab: Lab) -> Figure:
    """Drift of the layers' inputs a step, and the loss at the end, on digits."""
    found = drifts(lab, "digits")
    names = {
        "drift": T("drift of inputs", "输入漂移"),
        "loss": T("training loss", "训练损失"),
    }
    bars = []
    for kind, name in KINDS.items():
        at = [Sample(found[kind][key]) for key in names]
        bars.append(Bars(name, *band(at)))
    return Figure(
        Axis(T("measured", "测量量"), ticks=list(names.values())),
        Axis(T("value", "数值")),
        bars,
        T(
            "Noise behind the norm makes the drift larger than in the plain net, and yet it trains "
            "far better: the loss does not go with the drift.",
            "归一化后加噪声使漂移比普通网络还大，训练却好得多：损失并不随漂移变化。",
        ),
    )


@question.figure(T("Noise of the batch mean", "批均值的噪声"))
def mean_noise(lab: Lab) -> Figure:
    """Deviation of the batch mean in units of the unit's deviation, by batch size."""
    at = [Sample(column) for column in noise_of_statistics(lab).T]
    return Figure(
        Axis(T("samples in the batch", "批内样本数"), log=True),
        Axis(T("error of the mean", "均值误差"), log=True),
        [
            Line(T("digits", "手写数字"), SIZES, *band(at)),
            Line(T("1/sqrt(B)", "1/sqrt(B) 理论值"), SIZES, [b**-0.5 for b in SIZES]),
        ],
        T(
            "With two samples the mean is off by 0.7 standard deviations; it takes 100 to bring it to 0.1.",
            "两个样本时均值偏差达 0.7 个标准差；要降到 0.1 需 100 个样本。",
        ),
    )  # fmt: skip
