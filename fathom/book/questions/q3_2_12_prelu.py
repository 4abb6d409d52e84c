"""3.2.12 PReLU: the slope on the left as a parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn, optim
from fathom.activations import prelu
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, NotMeasurable, Published, Question,
    Routes, Sample, Settings, Source, T, at_least, at_most, band, equals, once, within,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.race import race
from fathom.book.material.stacks import stack
from fathom.compile.function import Compiled

question = Question(
    "3.2.12",
    title=T(
        "How does PReLU differ from Leaky ReLU, and how is its slope learned?",
        "PReLU 与 Leaky ReLU 有何不同？其斜率如何学习？",
    ),
    difficulty=3,
    frequency=3,
    topics=("PReLU", "leaky ReLU", "learned slope", "broadcasting", "参数化 ReLU", "可学习斜率", "广播"),
    answer=T(
        "PReLU is Leaky ReLU whose slope is a parameter: one a layer or one a channel, started at 0.25. "
        "Its gradient is the sum of upstream times x over all negative inputs that share it, so it "
        "learns with everything else and costs next to nothing. The slopes must lie along the "
        "channel axis: a vector of 64 multiplied to (batch, 64, height, width) as it is meets the "
        "width, and fails or, where the width is 64, gives wrong results in silence. Leave the "
        "slopes out of weight decay, which pulls them towards 0, that is towards ReLU. The slopes need "
        "not fall with depth: that was seen in one ImageNet network and depends on the data and the architecture.",
        "PReLU 是斜率可学习的 Leaky ReLU：每层一个或每个通道一个，初值 0.25。"
        "它的梯度等于共享该斜率的所有负输入上“上游梯度乘 x”之和，因此随网络一起训练，几乎不增加开销。"
        "斜率必须沿通道轴排列：把长度 64 的向量直接乘到 (批, 64, 高, 宽) 上会与宽度对齐，要么报错，"
        "要么在宽恰为 64 时悄悄算错。斜率不宜做权重衰减，否则会被拉向 0，也就是退化为 ReLU。"
        "斜率未必随深度减小：那是某个 ImageNet 网络上的观察，取决于数据和结构。",
    ),
    flips=T(
        "On little data a slope a channel can fit noise; a fixed 0.01 is then as good.",
        "数据很少时，逐通道的斜率可能拟合噪声，此时固定 0.01 同样好。",
    ),
    analogy=T(
        "A door whose gap is set by those who pass through it.",
        "门缝留多宽，由进出的人自己调。",
    ),
    generative=T(
        "Super-resolution networks such as SRGAN's generator use PReLU between convolutions.",
        "超分辨率网络（如 SRGAN 的生成器）在卷积之间使用 PReLU。",
    ),
    classical=T(
        "On small tabular data a learned slope seldom beats a fixed one.",
        "在小型表格数据上，学到的斜率很少胜过固定斜率。",
    ),
    driving=T(
        "Face and landmark detectors on cameras (MTCNN) use it; the slope folds into INT8 as two scales.",
        "车载摄像头里的人脸与关键点检测（MTCNN）使用它；INT8 下相当于左右两个缩放系数。",
    ),
    change=T(
        "Change the initial slope from 0.25 to 0: the networks start as ReLU ones and grow a slope.",
        "把初始斜率从 0.25 改为 0：网络以 ReLU 起步，再自己长出斜率。",
    ),
)  # fmt: skip


@once
def gradients(lab: Lab) -> dict[str, Any]:
    """x, upstream, alpha, and the tape's gradients of alpha and x."""
    rng = lab.rng("gradients")
    x, up, alpha = rng.standard_normal(500), rng.standard_normal(500), 0.25
    a, t = fathom.tensor(np.array(alpha), requires_grad=True), fathom.tensor(x, requires_grad=True)
    of_alpha, of_x = fathom.autograd.grad((prelu(t, a) * fathom.tensor(up)).sum(), [a, t])
    return {"x": x, "up": up, "alpha": alpha, "of alpha": of_alpha.value(), "of x": of_x.value()}


def numpy_prelu(x: Any, alpha: float) -> Any:
    """PReLU in NumPy."""
    return np.where(x > 0, x, alpha * x)


@question.exact(
    "C3.2.12-01",
    T("The gradient of the slope is the sum of upstream times x over the negative inputs.",
      "斜率的梯度等于负输入上“上游梯度乘 x”之和。"),
    at_most(1e-8),
)  # fmt: skip
def of_slope(lab: Lab) -> Evidence:
    """Difference of the formula from the tape and from a central difference, 500 inputs."""
    g = gradients(lab)
    x, up, alpha, h = g["x"], g["up"], g["alpha"], 1e-4
    formula = float((up * x)[x < 0].sum())
    central = (up * (numpy_prelu(x, alpha + h) - numpy_prelu(x, alpha - h))).sum() / (2 * h)
    return Routes({
        "tape": abs(formula - float(g["of alpha"])),
        "central difference": abs(formula - float(central)),
    })  # fmt: skip


@question.exact(
    "C3.2.12-02",
    T("The gradient of the input is upstream where x > 0 and alpha times upstream elsewhere.",
      "输入的梯度在 x > 0 处等于上游梯度，其余处为 alpha 乘上游梯度。"),
    at_most(1e-8),
)  # fmt: skip
def of_input(lab: Lab) -> Evidence:
    """Largest difference of the formula from the tape and from central differences."""
    g = gradients(lab)
    x, h = g["x"], 1e-6
    formula = np.where(x > 0, g["up"], g["alpha"] * g["up"])
    apart = numpy_prelu(x + h, g["alpha"]) - numpy_prelu(x - h, g["alpha"])
    far = np.abs(x) > h
    return Routes({
        "tape": float(np.abs(formula - g["of x"]).max()),
        "central difference": float(np.abs(formula - g["up"] * apart / (2 * h))[far].max()),
    })  # fmt: skip


def in_numpy(x: Any, slopes: Any) -> Any:
    """The printed form: slopes multiplied as they come."""
    return np.where(x > 0, x, slopes * x)


def in_fathom(x: Any, slopes: Any) -> Any:
    """The same as tensors, put together from two ReLUs."""
    t = fathom.tensor(x)
    return (fathom.relu(t) - fathom.tensor(slopes) * fathom.relu(-t)).value()


def right_share(form: Any, shape: tuple[int, ...], held: tuple[int, ...], lab: Lab) -> float:
    """Share of entries that equal those with one slope a channel; 0 where the form fails.

    held : the shape of the parameter."""
    x = lab.rng(f"{shape}").standard_normal(shape)
    slopes = np.linspace(0.05, 0.5, 64)
    try:
        found = form(x, slopes.reshape(held))
    except Exception:
        return 0.0
    correct = np.where(x > 0, x, slopes[:, None, None] * x)
    return float(np.isclose(found, correct, rtol=1e-9, atol=0).mean())


@question.exact(
    "C3.2.12-03",
    T("A module with 64 slopes that multiplies them to its input as they are gives each channel of "
      "(B, 64, H, W) its own slope.",
      "把 64 个斜率直接乘到输入上的模块，能让 (B, 64, H, W) 的每个通道各有斜率。"),
    equals(1.0),
    correction=T(
        "They meet the last axis, the width. On (2, 64, 8, 8) the product fails; on (2, 64, 8, 64) "
        "it runs and {n[(64,)/(2, 64, 8, 64)/NumPy]:.0%} of the entries are right, hardly more than the "
        "positive ones. Reshape the slopes to (64, 1, 1).",
        "它们会与最后一轴（宽）对齐。在 (2, 64, 8, 8) 上乘法报错；在 (2, 64, 8, 64) 上能运行，但只有 "
        "{n[(64,)/(2, 64, 8, 64)/NumPy]:.0%} 的元素正确，几乎只剩正的那些。应把斜率变形为 (64, 1, 1)。",
    ),
    weight=4,
)  # fmt: skip
def per_channel(lab: Lab) -> Evidence:
    """Share of right entries of that module on two shapes; 0 where it raises. The listing is known by
    its description (64 slopes, multiplied as they come; said to fail on four axes), so it is written
    with a choice in NumPy and with two ReLUs in Fathom, and the slopes held as a vector and as a row."""
    return Settings(
        T("shape of the parameter", "参数的形状"),
        {
            str(held): All({
                str(shape): Routes({
                    "NumPy": right_share(in_numpy, shape, held, lab),
                    "Fathom": right_share(in_fathom, shape, held, lab),
                })
                for shape in ((2, 64, 8, 8), (2, 64, 8, 64))
            })
            for held in ((64,), (1, 64))
        },
    )  # fmt: skip


def cnn() -> nn.Sequential:
    """Three convolutions with one slope a layer, for 8 x 8 images given as rows of 64."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for a, b in ((1, 8), (8, 8), (8, 8)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.PReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


@once
def slopes(lab: Lab, kind: str) -> Any:
    """(seeds, layers) learned slopes on digits: "mlp", five layers of 32; "cnn"."""
    data = digits()
    spec = {
        "model": (lambda: stack(64, 10, 32, 5, activation="prelu")) if kind == "mlp" else cnn,
        "lr": 0.003, "batch_size": 64, "epochs": lab.pick({"mlp": 30, "cnn": 8}[kind], 1),
    }  # fmt: skip
    seeds = lab.seeds({"mlp": 40, "cnn": 6}[kind], 2)
    runs = fathom.train_many(spec, data.x, data.y, seeds=seeds).runs
    found = [
        [float(m.weight.value()[0]) for m in r.model.modules() if isinstance(m, nn.PReLU)]
        for r in runs
    ]
    return np.array(found)


@question.unmeasurable(
    "C3.2.12-04",
    T("A ResNet on ImageNet learns slopes of 0.25, 0.15 and 0.10 from shallow to deep.",
      "ResNet 在 ImageNet 上由浅到深学到的斜率为 0.25、0.15、0.10。"),
)  # fmt: skip
def on_imagenet(lab: Lab) -> Evidence:
    """Only small networks can be trained here; the slopes of a CNN on digits are shown."""
    found = slopes(lab, "cnn").mean(axis=0)
    return NotMeasurable(
        T(
            "needs ImageNet and days on GPUs; the table in He et al. (2015) is of another network, whose "
            "first layer learned about 0.6",
            "需要 ImageNet 和数天 GPU 训练；He 等（2015）的表格针对另一种网络，其第一层学到的斜率约为 0.6",
        ),
        nearest={f"digits CNN, layer {k + 1}": float(v) for k, v in enumerate(found)},
    )


@question.experiment(
    "C3.2.12-05",
    T("Deeper layers learn smaller slopes.", "越深的层学到的斜率越小。"),
    at_least(0.02),
    correction=T(
        "That depends on the network: seen in the paper's ImageNet network, but on digits the slope falls "
        "from the first to the last layer by {n[MLP]:.2f} in an MLP and by {n[CNN]:.2f} in a small CNN "
        "(negative: it rises).",
        "取决于网络：论文的 ImageNet 网络上如此；但在 digits 上从第一层到最后一层，MLP 的斜率下降 "
        "{n[MLP]:.2f}，小型 CNN 下降 {n[CNN]:.2f}（负值表示上升）。",
    ),
)
def falling(lab: Lab) -> Evidence:
    """Slope of the first layer less that of the last: an MLP of five layers of 32 and a CNN of three
    convolutions on digits; and the paper's network on ImageNet (a slope a channel, averaged: 0.596 in
    conv1, 0.075 in fc2)."""
    ends = {name: slopes(lab, name.lower()) for name in ("MLP", "CNN")}
    paper = Source("He, Zhang, Ren & Sun, Delving Deep into Rectifiers, table 1", 2015, 0.85)
    return Settings(
        T("network", "网络"),
        {
            "CNN of 14 layers on ImageNet (published)": Published(0.596 - 0.075, (paper,)),
            **{name: Sample(v[:, 0] - v[:, -1]) for name, v in ends.items()},
        },
    )


@once
def decayed(lab: Lab, strength: float) -> Any:
    """(seeds,) training loss on digits in the last five passes, of four PReLU layers whose slopes alone decay."""
    data = digits()
    x, y = data.x, data.y
    loss, found = nn.CrossEntropyLoss(), []
    for seed in lab.seeds(24, 2):
        with fathom.seed(seed):
            net = stack(x.shape[1], 10, 32, 4, activation="prelu")
        slope = [p for m in net.modules() if isinstance(m, nn.PReLU) for p in m.parameters()]
        own = {id(p) for p in slope}
        rest = [p for p in net.parameters() if id(p) not in own]
        groups = [{"params": rest}, {"params": slope, "weight_decay": strength}]
        optimizer = optim.SGD(groups, lr=0.1)

        def step(rows: Any, targets: Any) -> Any:
            out = loss(net(rows), targets)  # noqa: B023
            out.backward()
            optimizer.step()  # noqa: B023
            optimizer.zero_grad()  # noqa: B023
            return out.detach()

        compiled, rng = Compiled(step), np.random.default_rng(seed)
        losses = []
        for _ in range(lab.pick(15, 1)):
            seen = compiled.epoch(x, y, batch_size=64, order=rng.permutation(len(x)))
            losses.append(float(seen.value().mean()))
        found.append(float(np.mean(losses[-5:])))
    return np.array(found)


def unexplained(seed: int, strength: float) -> float:
    """Share of the variance of |x| that one PReLU unit (scale and shift before and behind it) leaves
    on other rows, after 3,000 steps of gradient descent whose decay acts on the slope alone. The unit
    starts with positive scales; it needs a slope of -1."""
    rng = np.random.default_rng(seed)
    x, test = rng.standard_normal((2, 500))
    at = np.array([*rng.uniform(0.5, 1.5, 2), 0.25, 0.0, 0.0])  # before, behind, slope, shifts
    for _ in range(3000):
        before, behind, slope, first, last = at
        z = before * x + first
        bent = numpy_prelu(z, slope)
        error = behind * bent + last - np.abs(x)
        back = error * behind * np.where(z > 0, 1.0, slope)
        of_slope = (error * behind * np.minimum(z, 0.0)).mean() + strength * slope
        at = at - 0.05 * np.array([
            (back * x).mean(), (error * bent).mean(), of_slope, back.mean(), error.mean(),
        ])  # fmt: skip
    before, behind, slope, first, last = at
    out = behind * numpy_prelu(before * test + first, slope) + last
    return float(np.mean((out - np.abs(test)) ** 2) / np.abs(test).var())


@question.experiment(
    "C3.2.12-06",
    T("Weight decay on the slopes can hurt.", "对斜率做权重衰减可能有害。"),
    at_least(0.005),
)
def decay(lab: Lab) -> Evidence:
    """ "Can" asks for cases: what a decay of 0.1 on the slopes alone adds to the share of variance
    that one unit leaves of |x| on other rows (half a point or more), and to the loss of a network on
    digits in the last five passes of training (5 % or more), same seeds."""
    one = [unexplained(s, 0.1) - unexplained(s, 0.0) for s in lab.seeds(8, 3)]
    plain, pulled = (decayed(lab, s) for s in (0.0, 0.1))
    return All({
        "|x|, variance left": Sample(one),
        "training loss, digits": Check(Sample(pulled / plain - 1), at_least(0.05)),
    })  # fmt: skip


@question.reference(
    "C3.2.12-07",
    T("0.25 is the slope PReLU started from in the paper that proposed it.",
      "0.25 是提出 PReLU 的论文采用的初始斜率。"),
    equals(0.25),
)  # fmt: skip
def start(lab: Lab) -> Evidence:
    """The paper's section on initialization, and the library's default."""
    return Published(
        0.25,
        (
            Source("He, Zhang, Ren & Sun, Delving Deep into Rectifiers, section 2.1", 2015, 0.98),
            Source("PyTorch documentation, torch.nn.PReLU: init=0.25", 2024, 0.99),
        ),
    )


@question.reference(
    "C3.2.12-08",
    T("PReLU gains 1 to 2 % over ReLU.", "PReLU 比 ReLU 提高 1%–2%。"),
    within(1.0, 2.0),
    correction=T(
        "In the paper's network of 14 layers on ImageNet the top-1 error fell by 1.18 points, the top-5 "
        "error by 0.59. It is one network; on small data expect nothing.",
        "论文中 14 层网络在 ImageNet 上 top-1 错误率下降 1.18 个百分点，top-5 下降 0.59。"
        "这只是一个网络；小数据上不要指望有提升。",
    ),
)
def gain(lab: Lab) -> Evidence:
    """Errors of a network of 14 layers with ReLU less those with slopes a channel (He et al., 2015,
    table 2: 33.82 and 32.64 top-1, 13.34 and 12.75 top-5)."""
    source = Source("He, Zhang, Ren & Sun, Delving Deep into Rectifiers, table 2", 2015, 0.9)
    return Settings(
        T("measure of error", "错误率指标"),
        {
            "top-1": Published(33.82 - 32.64, (source,)),
            "top-5": Published(13.34 - 12.75, (source,)),
        },
    )


@question.figure(T("Learned slopes by layer", "各层学到的斜率"))
def by_layer(lab: Lab) -> Figure:
    """Digits; all slopes start at 0.25; bands over seeds."""
    lines = []
    for kind, name in (("mlp", T("MLP", "全连接网络")), ("cnn", T("CNN", "卷积网络"))):
        seen = [Sample(column) for column in slopes(lab, kind).T]
        lines.append(Line(name, range(1, len(seen) + 1), *band(seen)))
    return Figure(
        Axis(T("layer", "层")),
        Axis(T("slope", "斜率")),
        [*lines, Level(T("start", "初值"), y=0.25)],
        T(
            "Where the slopes end depends on the network; they do not simply fall with depth.",
            "斜率最终落在哪里取决于网络；并不是简单地随深度减小。",
        ),
    )


@question.figure(T("PReLU, Leaky ReLU and ReLU on digits", "digits 上的 PReLU、Leaky ReLU 与 ReLU"))
def learning(lab: Lab) -> Figure:
    """Mean training loss by epoch, three layers of 32, SGD at 0.1; bands over seeds."""
    lines = []
    for key, name in (("relu", "ReLU"), ("leaky_relu", "Leaky ReLU 0.01"), ("prelu", "PReLU")):
        losses = race(lab.seeds(8, 2), key, epochs=lab.pick(20, 2)).losses
        seen = [Sample(column) for column in losses.T]
        lines.append(Line(T(name, name), range(1, len(seen) + 1), *band(seen)))
    return Figure(
        Axis(T("epoch", "轮次")),
        Axis(T("training loss", "训练损失"), log=True),
        lines,
        T(
            "PReLU, whose slope starts at 0.25, is ahead of both from the first epochs on.",
            "斜率从 0.25 起步的 PReLU 从最初几轮起就领先于另外两者。",
        ),
    )
