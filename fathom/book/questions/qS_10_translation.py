"""S.10 Translation: what moves with the image, and what stays."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_most, band,
    once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.small_cnn import framed, small_cnn
from fathom.doctor import shift_response

question = Question(
    "S.10",
    title=T("What is translation invariance?", "什么是平移不变性？"),
    difficulty=3,
    frequency=4,
    topics=("equivariance", "invariance", "pooling", "aliasing", "等变", "不变", "混叠", "平移"),
    answer=T(
        "f is invariant to shifts if f(shift x) = f(x), and equivariant if f(shift x) = shift "
        "f(x). A convolution with stride 1 is equivariant (exactly on a ring, away from the edges "
        "with padding), and not invariant: its map moves along. Invariance comes from summing or "
        "taking the maximum over all places; then equivariant layers and a global pooling together "
        "are invariant. Strides and pooling keep only every second place: shifts by a multiple of "
        "the total stride pass, others alias, so the output changes. A dense layer over the "
        "flattened map has weights for each place and depends on the position altogether. Training "
        "with shifted images teaches what the architecture does not guarantee.",
        "若 f(平移 x) = f(x)，f 对平移不变；若 f(平移 x) = 平移 f(x)，f 对平移等变。步幅为 1 的卷积"
        "是等变的（环形边界下精确成立，有填充时在远离边缘处成立），而不是不变的：它的特征图跟着移"
        "动。不变性来自对所有位置求和或取最大值；等变层加上全局池化合起来才是不变的。步幅和池化只保"
        "留每隔一个的位置：平移量是总步幅的倍数时没有影响，否则发生混叠，输出会变。展平后的全连接层"
        "对每个位置各有权重，完全依赖位置。用平移过的图像训练，可以教会结构所不能保证的东西。",
    ),
    flips=T(
        "Where the position carries meaning (segmentation, detection boxes), equivariance is "
        "wanted and invariance is a fault.",
        "当位置有意义时（分割、检测框），需要的是等变，不变反而是缺陷。",
    ),
    analogy=T(
        "A spotlight follows the actor across the stage: equivariant. A microphone that hears him "
        "equally well everywhere: invariant.",
        "追光灯跟着演员在台上走，是等变；无论他站在哪里都听得一样清楚的麦克风，是不变。",
    ),
    generative=T(
        "Generators with aliasing layers glue texture to the pixel grid; StyleGAN3 filters before "
        "each subsampling.",
        "有混叠的生成器会把纹理粘在像素网格上；StyleGAN3 在每次采样前后都做滤波。",
    ),
    classical=T(
        "The magnitude of the Fourier transform is invariant to shifts, the transform itself is "
        "not.",
        "傅里叶变换的幅值对平移不变，变换本身则不是。",
    ),
    driving=T(
        "A detector whose score flickers as a pedestrian moves by one pixel has an aliasing "
        "problem, not a data problem.",
        "行人移动一个像素，检测分数就闪烁，这是混叠问题，不是数据问题。",
    ),
    change=T(
        "Move by 4 pixels instead of 1 in the network with two poolings: the change falls to 0.",
        "在有两次池化的网络里平移 4 个像素而不是 1 个：变化降为 0。",
    ),
)


def by_fft(x: Any, kernel: Any) -> Any:
    """Circular convolution of an image (side, side) with a small kernel, through Fourier space."""
    return np.fft.ifft2(np.fft.fft2(x) * np.fft.fft2(kernel, s=x.shape)).real


def relative(after: Any, before: Any) -> float:
    """Root mean square change over the deviation before."""
    return float(np.sqrt(((after - before) ** 2).mean()) / before.std())


@question.exact(
    "CS.10-01",
    T(
        "Convolution is by nature (locally) translation invariant.",
        "卷积天然具有（局部）平移不变性。",
    ),
    at_most(1e-6),
    correction=T(
        "It is equivariant: moved by (2, 3), its map moves along (largest difference "
        "{n[moved along]:.1g}). Compared in place the map changes by {n[noise by (2, 3)/library]:.2f} "
        "times its spread, and where a digit is moved by a single pixel still by "
        "{n[digit by 1 pixel/library]:.2f}.",
        "它是等变的：输入平移 (2, 3)，特征图随之平移（最大差 {n[moved along]:.1g}）。在原位比较，特"
        "征图的变化是其标准差的 {n[noise by (2, 3)/library]:.2f} 倍；数字只平移一个像素时仍有 "
        "{n[digit by 1 pixel/library]:.2f} 倍。",
    ),
    weight=3,
)
def convolution_moves(lab: Lab) -> Evidence:
    """Circular convolution of 16 x 16 images: root mean square of f(shift x) - f(x) over the
    deviation of f(x), by the library's layer and through Fourier space; and the largest difference
    of f(shift x) from shift f(x).

    Noise is moved by (2, 3); for the "locally", a digit by a single pixel. Invariant is read as
    f(shift x) = f(x); signal processing calls shift-invariant what is equivariant here.
    """
    rng = lab.rng("image")
    x, kernel = rng.standard_normal((16, 16)), rng.standard_normal((3, 3))
    digit = framed(digits().x[:1])[0, 0].astype(np.float64)
    conv = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", bias=False).double()

    def ours(image: Any) -> Any:
        return conv(fathom.tensor(image[None, None])).value()

    def in_place(image: Any, shift: tuple[int, int]) -> Routes:
        moved = np.roll(image, shift, (0, 1))
        return Routes({
            "library": relative(ours(moved), ours(image)),
            "Fourier": relative(by_fft(moved, kernel), by_fft(image, kernel)),
        })  # fmt: skip

    response = shift_response(conv, x[None, None], (2, 3))
    return All({
        "noise by (2, 3)": in_place(x, (2, 3)),
        "digit by 1 pixel": in_place(digit, (0, 1)),
        "moved along": response.equivariance_error,
    })  # fmt: skip


@once
def moved_features(lab: Lab, pool: str, head: str) -> Any:
    """(seeds, shifts 1 to 8): change of an untrained network's output, digits moved round the edge,
    over the distance between two digits."""
    found = []
    for seed in lab.seeds(10, 4):
        rng = np.random.default_rng(seed)
        x = framed(digits().x[rng.integers(0, 1258, 32)]).astype(np.float64)
        with fathom.seed(seed):
            net = small_cnn(pool, head, 16, padding_mode="circular").double()

        def said(images: Any, net: Any = net) -> Any:
            with fathom.no_grad():
                return net(fathom.tensor(images)).value()

        still = said(x)
        scale = np.sqrt(((still - np.roll(still, 1, axis=0)) ** 2).mean())
        moves = [said(np.roll(x, d, axis=-1)) - still for d in range(1, 9)]
        found.append([float(np.sqrt((m**2).mean()) / scale) for m in moves])
    return np.array(found)


@question.experiment(
    "CS.10-02",
    T(
        "Convolution with pooling makes a CNN insensitive to the position.",
        "卷积加池化使 CNN 对位置不敏感。",
    ),
    at_most(0.05),
    correction=T(
        "With two poolings and a global mean a shift by 4 pixels changes nothing "
        "({n[global mean, 4 pixels]:.0e}), one by 1 pixel changes the output by "
        "{n[global mean, 1 pixel]:.0%} of the distance between two digits; with a dense layer over "
        "all places by {n[dense, 1 pixel]:.0%}, and by 4 pixels by {n[dense, 4 pixels]:.0%}.",
        "两次池化加全局平均时，平移 4 个像素毫无影响（{n[global mean, 4 pixels]:.0e}），平移 1 个像"
        "素使输出改变两个数字间距离的 {n[global mean, 1 pixel]:.0%}；后接全连接层时平移 1 个像素改"
        "变 {n[dense, 1 pixel]:.0%}，平移 4 个像素改变 {n[dense, 4 pixels]:.0%}。",
    ),
    weight=3,
)
def insensitive(lab: Lab) -> Evidence:
    """Two convolutions each with 2 x 2 max pooling, untrained, round edges: root mean square change
    of the output when a digit in a frame of 16 x 16 is moved, over the distance between the outputs
    of two digits. Insensitive is 0.05 or less."""
    heads = {"global mean": "global", "dense": "flat"}
    return Settings(T("head and shift", "输出头与平移量"), {
        f"{name}, {shift} pixel{'s' * (shift > 1)}": Sample(
            moved_features(lab, "max", head)[:, shift - 1]
        )
        for name, head in heads.items() for shift in (1, 4)
    })  # fmt: skip


@question.figure(T("What a shift changes", "平移改变了什么"))
def sweep(lab: Lab) -> Figure:
    """Change of an untrained network's output under shifts of 1 to 8 pixels, by subsampling and
    head."""
    shifts, lines = np.arange(1, 9), []
    plans = (
        ("none", "global", T("no pooling, global mean", "无池化，全局平均")),
        ("max", "global", T("max pooling, global mean", "最大池化，全局平均")),
        ("stride", "global", T("stride 2, global mean", "步幅 2，全局平均")),
        ("max", "flat", T("max pooling, dense", "最大池化，全连接")),
    )
    for pool, head, label in plans:
        at = [Sample(column) for column in moved_features(lab, pool, head).T]
        lines.append(Line(label, shifts, *band(at)))
    return Figure(
        Axis(T("shift, pixels", "平移像素数")),
        Axis(T("change / distance between digits", "变化 / 数字间距离")),
        lines,
        T(
            "Without subsampling the global mean is invariant. With it the change is 0 at "
            "multiples of 4, the total stride, and not between. A dense head changes with every "
            "shift.",
            "没有下采样时，全局平均是不变的。有下采样时，只在总步幅 4 的倍数处变化为 0，其间不为 "
            "0。全连接头对任何平移都有变化。",
        ),
    )


@question.figure(T("Trained in the middle, tested elsewhere", "在中央训练，在别处测试"))
def elsewhere(lab: Lab) -> Figure:
    """Accuracy of networks trained on digits in the middle of a 16 x 16 frame, on digits moved
    aside."""
    parts = digits()
    x, test = framed(parts.x), framed(parts.test_x)
    shifts, lines = (0, 1, 2, 3, 4), []
    plans = (
        ("flat", 0.003, lab.pick(5, 2), T("dense head", "全连接头")),
        ("global", 0.01, lab.pick(16, 4), T("global mean", "全局平均")),
    )
    for head, rate, epochs, label in plans:
        spec = {"model": lambda h=head: small_cnn("max", h, 16), "lr": rate, "epochs": epochs}
        fleet = fathom.train_many(spec, x, parts.y, seeds=lab.seeds(8, 3))
        at = [
            Sample(fleet.evaluate(np.roll(test, d, axis=-1), parts.test_y)["accuracy"])
            for d in shifts
        ]
        lines.append(Line(label, shifts, *band(at)))
    return Figure(
        Axis(T("shift, pixels", "平移像素数")),
        Axis(T("test accuracy", "测试准确率")),
        lines,
        T(
            "With a dense head the accuracy falls towards chance within a few pixels; with a "
            "global mean it falls less and comes back at 4 pixels, the total stride.",
            "全连接头在偏移几个像素后准确率就跌向随机水平；全局平均下降较少，在总步幅 4 个像素处又"
            "恢复。",
        ),
    )
