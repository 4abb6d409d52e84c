"""S.9 What pooling is for."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T,
    at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.small_cnn import framed, small_cnn
from fathom.nn.cost import conv_cost
from fathom.nn.summary import count_multiply_adds

question = Question(
    "S.9",
    title=T("What is pooling for?", "池化有什么作用？"),
    difficulty=2,
    frequency=4,
    topics=(
        "pooling",
        "convolution",
        "parameters",
        "translation",
        "池化",
        "卷积",
        "参数量",
        "平移",
    ),
    answer=T(
        "Pooling puts a neighbourhood of a feature map into one number, its maximum or mean, and "
        "usually keeps every second place. It has no parameters and does not change those of the "
        "convolutions; it saves parameters only where a dense layer reads the flattened map. What "
        "it does save is work: after 2 x 2 pooling the following layers cost a quarter. It widens "
        "the receptive field, too. Against small shifts it helps somewhat for fine detail, hardly "
        "for smooth features, and since it subsamples the output does not stay the same. Global "
        "average pooling leaves one number a channel, whatever the size of the map, and replaces "
        "the dense layer. Many networks today let convolutions with stride 2 do the subsampling.",
        "池化把特征图的一个邻域变成一个数（最大值或平均值），通常隔一个位置取一个。它没有参数，也不"
        "改变卷积的参数量；只有当后面的全连接层读取展平的特征图时，才会节省参数。它真正节省的是计"
        "算：2 x 2 池化之后，后续层的开销是四分之一。它还扩大了感受野。对小平移它有一定帮助，对细节"
        "有效，对平滑特征几乎无效；而且由于下采样，输出并非不变。全局平均池化不管特征图多大，每个通"
        "道只留一个数，可替代全连接层。如今许多网络改用步幅为 2 的卷积来下采样。",
    ),
    flips=T(
        "Where places matter (segmentation, keypoints, board games) pooling throws away what one "
        "needs.",
        "当位置本身重要时（分割、关键点、棋盘），池化丢掉的正是所需的信息。",
    ),
    analogy=T(
        "A report that notes for each district only the loudest noise: shorter, and it does not "
        "matter in which street it was.",
        "一份报告，每个街区只记最响的噪声：更短，而且不在乎是哪条街。",
    ),
    generative=T(
        "A Vision Transformer cuts patches instead of pooling, and ends with a class token or a "
        "mean over all patches.",
        "视觉 Transformer 用切块代替池化，末尾用类别词元或对所有块取平均。",
    ),
    classical=T(
        "Bags of words and histograms of gradients are sum pooling over a whole document or cell.",
        "词袋和梯度直方图就是对整篇文档或一个单元格做求和池化。",
    ),
    driving=T(
        "A traffic light is few pixels wide: pool too early and it is gone.",
        "红绿灯只有几个像素宽：过早池化，它就消失了。",
    ),
    change=T(
        "Replace the dense head by a global mean: the parameters are the same with pooling and "
        "without.",
        "把全连接头换成全局平均：有无池化参数量都一样。",
    ),
)


def parameters(pool: str, head: str) -> int:
    return sum(p.size for p in small_cnn(pool, head).parameters())


@question.exact(
    "CS.9-01",
    T("Pooling reduces the number of parameters.", "池化减少参数量。"),
    at_least(0.05),
    correction=T(
        "The layer has none, and the convolutions keep theirs. With a dense layer on the flattened "
        "map the network has {n[dense over all places/counted]:.0%} fewer, with a global mean "
        "{n[global mean/counted]:.0%} fewer.",
        "池化层没有参数，卷积的参数也不变。后接展平的全连接层时，网络参数少 "
        "{n[dense over all places/counted]:.0%}；后接全局平均时少 {n[global mean/counted]:.0%}。",
    ),
    weight=2,
)
def fewer_parameters(lab: Lab) -> Evidence:
    """Share of parameters saved by 2 x 2 max pooling behind both convolutions of a small CNN on 8 x
    8 images: counted in the network, and added up from the sizes of its layers."""

    def added(places: int) -> int:
        return (8 * 9 + 8) + (16 * 8 * 9 + 16) + (16 * places * 10 + 10)

    def saved(head: str, places: tuple[int, int]) -> Routes:
        with_it, without = added(places[0]), added(places[1])
        return Routes({
            "counted": 1.0 - parameters("max", head) / parameters("none", head),
            "added up": 1.0 - with_it / without,
        })  # fmt: skip

    return Settings(T("head", "输出头"), {
        "dense over all places": saved("flat", (4, 64)), "global mean": saved("global", (1, 1)),
    })  # fmt: skip


def work(layer: nn.Module, x: Any) -> int:
    """Multiply-adds of one pass, as counted by the library."""
    counts = [0]
    with fathom.no_grad(), count_multiply_adds(counts):
        layer(x)
    return counts[0]


@question.exact(
    "CS.9-02",
    T(
        "Pooling reduces the work that follows: 2 x 2 pooling to a quarter.",
        "池化减少后续计算：2 x 2 池化后为四分之一。",
    ),
    equals(0.25, 0.005),
)
def less_work(lab: Lab) -> Evidence:
    """Multiply-adds of a convolution 8 -> 16 of 3 x 3 behind the pooling of a 16 x 16 map over
    those without: counted while it runs, and by the formula."""
    x, conv = fathom.ones(1, 8, 16, 16), nn.Conv2d(8, 16, 3, padding=1)
    small, full = (conv_cost(8, 16, (3, 3), (n, n)).multiply_adds for n in (8, 16))
    return Routes({
        "counted": work(conv, nn.MaxPool2d(2)(x)) / work(conv, x), "formula": small / full,
    })  # fmt: skip


def smooth(rng: np.random.Generator, sigma: float, side: int = 32) -> Any:
    """Noise (1, 8, side, side), blurred on a ring with a Gaussian of that width; 0: not at all."""
    noise = rng.standard_normal((1, 8, side, side))
    if sigma == 0:
        return noise
    f = np.fft.fftfreq(side)
    blur = np.exp(-2 * (np.pi * sigma) ** 2 * (f[:, None] ** 2 + f[None, :] ** 2))
    blurred = np.fft.ifft2(np.fft.fft2(noise) * blur).real
    return blurred / blurred.std()


def images(rng: np.random.Generator, kind: str) -> Any:
    """Eight maps of 32 x 32: white noise, blurred noise, or digits in a frame."""
    if kind == "digits":
        rows = digits().x[rng.integers(0, 1258, 8)]
        return framed(rows.astype(np.float64), 32).swapaxes(0, 1)
    return smooth(rng, {"white noise": 0.0, "blurred noise": 1.5}[kind])


POOLS: dict[str, Any] = {
    "max 2 x 2": nn.MaxPool2d(2), "mean 2 x 2": nn.AvgPool2d(2), "max 4 x 4": nn.MaxPool2d(4),
}  # fmt: skip


def change(f: Any, x: Any, shift: int = 1) -> float:
    """Root mean square of f(moved x) - f(x) over the deviation of f(x) over places."""
    still, moved = (f(fathom.tensor(a)).value() for a in (x, np.roll(x, shift, axis=-1)))
    spread = (still - still.mean(axis=(-2, -1), keepdims=True)).std()
    return float(np.sqrt(((moved - still) ** 2).mean()) / spread)


@once
def steadier(lab: Lab, kind: str, pool: str, shift: int = 1) -> Sample:
    """1 - (change with pooling / change without), one a seed."""
    found = []
    for seed in lab.seeds(12, 4):
        x = images(np.random.default_rng(seed), kind)
        plain = change(lambda a: a, x, shift)
        found.append(1.0 - change(POOLS[pool], x, shift) / plain)
    return Sample(found)


@question.experiment(
    "CS.9-03",
    T("Pooling makes the features more invariant to shifts.", "池化增强平移不变性。"),
    at_least(0.1),
    correction=T(
        "It depends on the image. Max pooling by 2 lessens the change under a shift of one pixel "
        "by {n[white noise]:.0%} for white noise, by {n[blurred noise]:z.0%} for blurred noise and "
        "by {n[digits]:.0%} for digits.",
        "取决于图像。平移一个像素时，2 x 2 最大池化使特征变化减少的比例：白噪声 "
        "{n[white noise]:.0%}，模糊噪声 {n[blurred noise]:z.0%}，手写数字 {n[digits]:.0%}。",
    ),
    weight=3,
)
def more_invariant(lab: Lab) -> Evidence:
    """A map of 32 x 32 is moved by one pixel (round the edge); the root mean square change of the
    map, in units of its spread over places, without pooling and behind 2 x 2 max pooling: share by
    which it is less. 0.1 or more counts."""
    return Settings(T("image", "图像"), {
        kind: steadier(lab, kind, "max 2 x 2") for kind in ("white noise", "blurred noise",
        "digits")
    })  # fmt: skip


@question.exact(
    "CS.9-04",
    T(
        "Global pooling makes one number of a whole feature map.",
        "全局池化把整张特征图变成一个数。",
    ),
    equals(1.0),
)
def one_number(lab: Lab) -> Evidence:
    """Numbers left per channel of maps of three sizes; their distance from the mean and the maximum
    over places."""
    left, gap = [], 0.0
    for i, side in enumerate((3, 8, 17)):
        x = lab.rng(f"map {i}").standard_normal((2, 5, side, side))
        mean = nn.GlobalAvgPool()(fathom.tensor(x)).value()
        most = nn.GlobalMaxPool()(fathom.tensor(x)).value()
        left += [mean.size / (2 * 5), most.size / (2 * 5)]
        gap = max(gap, float(np.abs(mean.reshape(2, 5) - x.mean(axis=(2, 3))).max()))
        gap = max(gap, float(np.abs(most.reshape(2, 5) - x.max(axis=(2, 3))).max()))
    return All({
        "fewest per channel": min(left), "most per channel": max(left),
        "distance": Check(gap, at_most(1e-12)),
    })  # fmt: skip


WAYS = ("max", "average", "stride", "none")
LABELS = {"max": T("max pooling", "最大池化"), "average": T("mean pooling", "平均池化"),
          "stride": T("stride 2", "步幅 2"), "none": T("none", "不下采样")}  # fmt: skip


@question.figure(
    T("Parameters, work and accuracy by kind of pooling", "各种池化的参数量、计算量与准确率")
)
def trade(lab: Lab) -> Figure:
    """A small CNN on the digits with each kind of pooling: parameters, multiply-adds (both relative
    to no pooling) and test accuracy."""
    parts = digits()
    x, test = parts.x.reshape(-1, 1, 8, 8), parts.test_x.reshape(-1, 1, 8, 8)
    sizes, works, hits = [], [], []
    for pool in WAYS:
        spec = {
            "model": lambda p=pool: small_cnn(p, "flat"), "lr": 0.003,
            "epochs": lab.pick(6, 2),
        }  # fmt: skip
        fleet = fathom.train_many(spec, x, parts.y, seeds=lab.seeds(6, 3))
        hits.append(Sample(fleet.evaluate(test, parts.test_y)["accuracy"]))
        sizes.append(parameters(pool, "flat") / parameters("none", "flat"))
        one = fathom.tensor(x[:1])
        works.append(work(small_cnn(pool), one) / work(small_cnn("none"), one))
    return Figure(
        Axis(T("pooling", "池化方式"), ticks=[LABELS[pool] for pool in WAYS]),
        Axis(T("relative to none; accuracy", "相对于不下采样；准确率")),
        [
            Bars(T("parameters", "参数量"), sizes),
            Bars(T("multiply-adds", "乘加次数"), works),
            Bars(T("test accuracy", "测试准确率"), *band(hits)),
        ],
        T(
            "Every way of subsampling saves most of the parameters (of the dense layer) and of the "
            "work; after the same few epochs it is somewhat less accurate.",
            "各种下采样都省去大部分参数（全连接层的）和计算；训练同样的几轮之后，准确率略低。",
        ),
    )  # fmt: skip


@question.figure(T("Change of the features under shifts", "平移时特征的变化"))
def under_shifts(lab: Lab) -> Figure:
    """Change of the map under shifts of 1 to 4 pixels, in units of its spread: digits, without
    pooling and with three kinds."""
    shifts, lines = (1, 2, 3, 4), []
    plans = [("none", T("none", "无池化"), lambda a: a)]
    plans += [(name, T(name, name.replace("max", "最大").replace("mean", "平均")), f)
              for name, f in POOLS.items()]  # fmt: skip
    for _, label, f in plans:
        at = [
            Sample([
                change(f, images(np.random.default_rng(s), "digits"), d) for s in lab.seeds(12, 4)
            ])
            for d in shifts
        ]  # fmt: skip
        lines.append(Line(label, shifts, *band(at)))
    return Figure(
        Axis(T("shift, pixels", "平移像素数")),
        Axis(T("change / spread", "变化 / 标准差")),
        lines,
        T(
            "Pooling lessens the change at shifts of one or two pixels, the larger window more; at "
            "four pixels hardly anything of it is left for the small windows.",
            "平移一两个像素时池化能减小变化，窗口越大越明显；平移四个像素时，小窗口的作用几乎消"
            "失。",
        ),
    )
