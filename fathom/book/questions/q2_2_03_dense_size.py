"""2.2.3 How many parameters a fully connected layer has, and what that costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings, T,
    at_least, band, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.speed import seconds
from fathom.book.material.stacks import parameters, stack
from fathom.book.statistics import slope
from fathom.nn import Linear
from fathom.nn.cost import conv_cost, linear_cost

question = Question(
    "2.2.3",
    title=T(
        "How many parameters does a fully connected layer have and why is that a problem?",
        "全连接层有多少参数？为什么会成为问题？",
    ),
    difficulty=2,
    frequency=4,
    topics=(
        "parameters",
        "FLOPs",
        "memory",
        "dense layer",
        "参数量",
        "全连接层",
        "计算量",
        "双下降",
    ),
    answer=T(
        "A dense layer has n_in n_out weights and n_out biases. For an image of 800 x 800 x 3 and "
        "1,024 units that is 1.97 billion numbers, 7.9 GB in float32, before gradients and "
        "optimizer state, which make it four times as much under Adam. The work is about two "
        "operations for each parameter and sample: linear in the parameters, quadratic in the "
        "width. A 3 x 3 convolution with 64 filters has 1,792 parameters on the same image, because "
        "it shares weights and looks at neighbourhoods only. Many more parameters than samples do "
        "not by themselves ruin the test accuracy: on clean labels wide nets do better; on noisy "
        "labels a net that memorizes them loses accuracy, most of all near the point where it can "
        "just fit everything.",
        "全连接层有 n_in n_out 个权重和 n_out 个偏置。对 800 x 800 x 3 的图像和 1024 个单元，就是 19.7 亿"
        "个数，float32 下 7.9 GB，还没算梯度和优化器状态；用 Adam 时总量是它的四倍。计算量约为每个参数、"
        "每个样本两次运算：对参数量是线性的，对宽度是平方的。同一幅图上 64 个滤波器的 3 x 3 卷积只有 1792 "
        "个参数，因为它共享权重且只看邻域。参数远多于样本本身并不会毁掉测试准确率：标签干净时宽网络更好；"
        "标签有噪声时，把噪声背下来的网络会损失准确率，尤其在刚好能拟合全部样本的临界点附近。",
    ),
    flips=T(
        "With noisy labels and no regularization, width past the samples can cost accuracy.",
        "若标签有噪声且没有正则化，宽度超过样本所需时会损失准确率。",
    ),
    analogy=T(
        "Everyone in town phoning everyone needs a line for each pair; a mailman serves streets in turn.",
        "全城人人互相拉专线，每一对都要一条线；邮递员则挨条街道送。",
    ),
    generative=T(
        "Nearly all weights of a Transformer are dense layers; they are applied to each token.",
        "Transformer 的权重几乎全在全连接层中，对每个词元重复使用。",
    ),
    classical=T(
        "VGG-16's first dense layer holds 103 of its 138 million parameters.",
        "VGG-16 的第一个全连接层占 1.38 亿参数中的 1.03 亿。",
    ),
    driving=T(
        "Camera networks stay convolutional to the end: a dense layer on full images does not fit.",
        "车载相机网络一路用卷积到底：整幅图像接全连接层根本放不下。",
    ),
    change=T(
        "Set the label noise to 0: the wide network is the better one again.",
        "把标签噪声设为 0：宽网络重新成为更好的那个。",
    ),
    alone=True,
)

IMAGE, UNITS = 800 * 800 * 3, 1024


@question.exact(
    "C2.2.3-01",
    T(
        "A dense layer has n_in n_out + n_out parameters.",
        "全连接层的参数量为 n_in n_out + n_out。",
    ),
    equals(0),
    weight=2,
)
def formula(lab: Lab) -> Evidence:
    """Parameters counted on built layers, less the formula; largest difference over 16 sizes."""
    sizes = [(i, o) for i in (1, 3, 64, 500) for o in (1, 2, 10, 300)]
    return max(abs(parameters(Linear(i, o)) - (i * o + o)) for i, o in sizes)


@question.exact(
    "C2.2.3-02",
    T("800 x 800 x 3 are 1,920,000 inputs.", "800 x 800 x 3 共 1,920,000 个输入。"),
    equals(1_920_000),
)
def inputs(lab: Lab) -> Evidence:
    """Elements of an empty image of that shape (no memory is taken)."""
    return int(np.broadcast_to(np.uint8(0), (800, 800, 3)).size)


@question.exact(
    "C2.2.3-03",
    T(
        "From 1,920,000 inputs to 1,024 units there are about 1.96 billion parameters.",
        "1,920,000 个输入到 1024 个单元约有 19.6 亿参数。",
    ),
    equals(1.96, 0.0196),
)
def billions(lab: Lab) -> Evidence:
    """Billions: by the formula, and by the library's calculator. "About" is taken as 1 %."""
    return Routes({
        "formula": (IMAGE * UNITS + UNITS) / 1e9,
        "calculator": linear_cost(IMAGE, UNITS).parameters / 1e9,
    })  # fmt: skip


@question.exact(
    "C2.2.3-04",
    T("In float32 that layer takes about 8 GB.", "该层用 FP32 存储约需 8 GB。"),
    equals(8, 0.8),
)
def gigabytes(lab: Lab) -> Evidence:
    """Four bytes for each, in units of 10^9 and of 2^30 bytes. "About" is taken as 10 %."""
    size = linear_cost(IMAGE, UNITS).parameter_bytes
    return All({"GB": size / 1e9, "GiB": size / 2**30})


# -- more parameters than samples ----------------------------------------------------------------

ROWS, WIDTH, NARROWER = 300, 512, (8, 32, 128)
NOISE = {"clean labels": 0.0, "half random": 0.5, "a quarter random": 0.25}


class Task(NamedTuple):
    """300 rows to learn from, labels partly random; clean rows to be judged by."""

    x: Any
    y: Any
    test_x: Any
    test_y: Any
    classes: int


@once
def task(lab: Lab, name: str, noise: float) -> Task:
    """Digits, or two moons; a share of the labels replaced by random ones."""
    if name == "digits":
        data, classes = digits(), 10
        x, y, test_x, test_y = data.x[:ROWS], data.y[:ROWS].copy(), data.test_x, data.test_y
    else:
        moons, classes = fathom.data.load("moons", n=1300, noise=0.2), 2
        order = lab.rng("order").permutation(1300)
        rows, labels = moons.x[order].astype(np.float32), np.asarray(moons.y, np.int64)[order]
        x, y, test_x, test_y = rows[:ROWS], labels[:ROWS], rows[ROWS:], labels[ROWS:]
    rng = lab.rng("labels")
    changed = rng.permutation(ROWS)[: int(noise * ROWS)]
    y[changed] = rng.integers(0, classes, len(changed))
    return Task(x, y, test_x, test_y, classes)


@once
def networks(lab: Lab, name: str, noise: float, width: int) -> Any:
    """Test accuracy of one hidden layer, trained by Adam until wide ones fit; one a seed."""
    t = task(lab, name, noise)
    spec = {
        "model": lambda: stack(t.x.shape[1], t.classes, width, 1), "lr": 5e-3, "batch_size": 50,
        "epochs": lab.pick(100 if name == "digits" else 300, 15),
    }  # fmt: skip
    fleet = fathom.train_many(spec, t.x, t.y, seeds=lab.seeds(6, 3), threads=1)
    return fleet.evaluate(t.test_x, t.test_y)["accuracy"]


@once
def random_features(lab: Lab, noise: float, width: int) -> Any:
    """Test accuracy of random ReLU features with the shortest least-squares solution, digits."""
    t = task(lab, "digits", noise)
    found = []
    for seed in lab.seeds(8, 3):
        w = np.random.default_rng(seed).standard_normal((64, width)) / 4
        rows, new = (np.maximum((v - 0.3) @ w, 0) for v in (t.x, t.test_x))
        goal = np.eye(10)[t.y] - 0.1
        if width > ROWS:
            solution = rows.T @ np.linalg.solve(rows @ rows.T, goal)
        else:
            solution = np.linalg.lstsq(rows, goal, rcond=1e-10)[0]
        found.append(((new @ solution).argmax(axis=1) == t.test_y).mean())
    return np.array(found)


def lost(narrower: list[Any], wide: Any) -> Sample:
    """Accuracy of the narrower net that is best on average, less that of the wide one."""
    return Sample(max(narrower, key=np.mean) - wide)


@question.experiment(
    "C2.2.3-05",
    T(
        "With far more parameters than samples the net memorizes noise and test accuracy collapses.",
        "参数远多于样本时，网络会记住噪声，测试准确率崩溃。",
    ),
    at_least(0.05),
    correction=T(
        "It depends on noise in the labels and on how the net is fitted. Accuracy lost by the widest "
        "against the best narrower one, clean labels and half of them random: digits "
        "{n[digits, clean labels]:.3f} and {n[digits, half random]:.3f}, moons "
        "{n[moons, clean labels]:.3f} and {n[moons, half random]:.3f}, random features "
        "{n[features, clean labels]:.3f} and {n[features, half random]:.3f} (negative: gained).",
        "取决于标签噪声和拟合方式。最宽者相对最佳较窄者损失的准确率（标签干净 / 一半随机）：手写数字 "
        "{n[digits, clean labels]:.3f} / {n[digits, half random]:.3f}，双月 "
        "{n[moons, clean labels]:.3f} / {n[moons, half random]:.3f}，随机特征 "
        "{n[features, clean labels]:.3f} / {n[features, half random]:.3f}（负值表示提高）。",
    ),
    weight=4,
)
def far_more(lab: Lab) -> Evidence:
    """Test accuracy of the best of 8 to 128 hidden units less that of 512; 300 rows, Adam.

    512 units have 38,410 parameters on digits. The narrower net is the best on average, which
    favours the claim; a loss of 0.05 counts. Random features (30 to 150 against 2,048) are solved
    by least squares.
    """
    found: dict[str, Evidence] = {}
    for labels, noise in list(NOISE.items())[: lab.pick(3, 2)]:
        for name in ("digits", "moons"):
            narrower = [networks(lab, name, noise, w) for w in NARROWER[: lab.pick(3, 1)]]
            found[f"{name}, {labels}"] = lost(narrower, networks(lab, name, noise, WIDTH))
        few = [random_features(lab, noise, w) for w in (30, 100, 150)]
        found[f"features, {labels}"] = lost(few, random_features(lab, noise, 2048))
    return Settings(T("data and labels", "数据与标签"), found)


# -- cost ----------------------------------------------------------------------------------------

WIDTHS = (64, 128, 256, 512, 1024, 2048)


@question.exact(
    "C2.2.3-06",
    T(
        "The operations of a dense layer grow with the square of its number of parameters.",
        "全连接层的计算量随参数量平方增长。",
    ),
    equals(2.0, 0.1),
    correction=T(
        "They grow in proportion: exponent {n[calculator]:.3f}, two operations for each parameter and "
        "sample. The square is that of the width.",
        "是成正比：指数 {n[calculator]:.3f}，每个参数、每个样本两次运算。平方是对宽度而言。",
    ),
    weight=3,
)
def operations(lab: Lab) -> Evidence:
    """Exponent of operations against parameters, widths 64 to 2,048.

    By the calculator from sizes, and by counting multiplications of layers while they run.
    """
    costs = [linear_cost(w, w) for w in WIDTHS]
    counted, held = [], []
    for w in WIDTHS[:4]:
        layer = Linear(w, w)
        counted.append(layer.summary((w,)).multiply_adds)
        held.append(parameters(layer))
    return Routes({
        "calculator": slope(np.log([c.parameters for c in costs]), np.log([c.flops for c in costs])),
        "counted while running": slope(np.log(held), np.log(counted)),
    })  # fmt: skip


@question.exact(
    "C2.2.3-07",
    T("1,000 units fully linked to 100 make 100,000 links.", "1000 个单元与 100 个单元全连接共有 100,000 条连接。"),
    equals(100_000),
)  # fmt: skip
def links(lab: Lab) -> Evidence:
    """Weights of that layer."""
    return int(Linear(1000, 100, bias=False).weight.size)


# -- figures -------------------------------------------------------------------------------------


@question.figure(T("Parameters for an image of 800 x 800 x 3", "800 x 800 x 3 图像所需参数"))
def sizes(lab: Lab) -> Figure:
    """The dense layer against a convolution, and a dense layer behind global pooling."""
    dense = linear_cost(IMAGE, UNITS)
    conv = conv_cost(3, 64, (3, 3), (800, 800))
    pooled = linear_cost(64, UNITS)
    ticks = [
        T("dense 1024", "全连接 1024"),
        T("conv 3x3, 64", "卷积 3x3，64"),
        T("pooled, dense", "池化后全连接"),
    ]
    rows = [dense, conv, pooled]
    return Figure(
        Axis(T("layer", "层"), ticks=ticks),
        Axis(T("count", "数量"), log=True),
        [
            Bars(T("parameters", "参数量"), [c.parameters for c in rows]),
            Bars(T("operations for an image", "每幅图运算量"), [c.flops for c in rows]),
            Bars(T("bytes of parameters", "参数字节数"), [c.parameter_bytes for c in rows]),
        ],
        T(
            "The convolution has a million times fewer parameters and about as many operations.",
            "卷积的参数少一百万倍，而运算量大致相当。",
        ),
    )  # fmt: skip


@question.figure(T("Accuracy by width", "不同宽度的准确率"))
def by_width(lab: Lab) -> Figure:
    """300 digits, clean labels and half of them random: networks and random features."""
    widths = [*NARROWER[: lab.pick(3, 1)], WIDTH]
    features = lab.pick([30, 100, 150, 250, 300, 350, 500, 2048], [30, 300, 2048])
    lines = []
    for noise, en, zh in ((0.0, "clean", "干净"), (0.5, "half random", "一半随机")):
        for name, x, accuracies in (
            (T(f"network, {en}", f"网络，标签{zh}"), widths,
             [networks(lab, "digits", noise, w) for w in widths]),
            (T(f"features, {en}", f"随机特征，标签{zh}"), features,
             [random_features(lab, noise, w) for w in features]),
        ):  # fmt: skip
            lines.append(Line(name, x, *band(Sample(a) for a in accuracies)))
    return Figure(
        Axis(T("hidden units", "隐单元数"), log=True),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("as many as samples", "与样本数相等"), x=float(ROWS))],
        T(
            "Random features collapse where they are as many as the samples, and recover beyond "
            "(double descent), with noisy labels only in part; trained networks lose little.",
            "随机特征在数量等于样本数处崩溃，之后又恢复（双下降），标签有噪声时只恢复一部分；训练出的网络损失很小。",
        ),
    )


@question.figure(T("Time by width", "耗时与宽度"))
def time_by_width(lab: Lab) -> Figure:
    """Milliseconds of a dense layer on 64 rows; a line of slope 2 through the first point."""
    widths = lab.pick(WIDTHS, WIDTHS[:4])
    taken = []
    for w in widths:
        rng = lab.rng(f"time {w}")
        a, b = (rng.standard_normal(s, dtype=np.float32) for s in ((64, w), (w, w)))
        taken.append(1000 * seconds(lambda a=a, b=b: a @ b, 8))  # type: ignore[misc]
    square = [taken[0] * (w / widths[0]) ** 2 for w in widths]
    return Figure(
        Axis(T("width", "宽度"), log=True),
        Axis(T("milliseconds for 64 rows", "64 行耗时（毫秒）"), log=True),
        [
            Line(T("measured", "实测"), widths, taken),
            Line(T("square of the width = parameters", "宽度的平方，即参数量"), widths, square),
        ],
        T(
            "Time grows with the square of the width, that is in proportion to the parameters, and "
            "faster only where the weights no longer fit into the cache.",
            "耗时按宽度的平方增长，也就是与参数量成正比；只有权重放不进缓存时才增长得更快。",
        ),
        {"exponent of width": slope(np.log(widths), np.log(taken))},
    )
