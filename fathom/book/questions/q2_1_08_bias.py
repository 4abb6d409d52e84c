"""2.1.8 What the bias does, and what is lost without it."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, equals, once, true,
)  # fmt: skip
from fathom.nn import BatchNorm1d, LayerNorm, Linear, Sequential

question = Question(
    "2.1.8",
    title=T(
        "What does the bias term do, and what is lost without it?",
        "偏置项有什么作用？没有它会失去什么？",
    ),
    difficulty=3,
    frequency=4,
    topics=("bias", "decision boundary", "batch normalization", "偏置", "决策边界"),
    answer=T(
        "The bias is a number added to the weighted sum, so it moves the point at which a unit "
        "starts to respond. Geometrically the weights give a boundary its direction and the bias "
        "its place: the boundary lies at the signed distance -b/||w|| from the origin along w. "
        "Without it every boundary and every fitted line passes through the origin, and a zero "
        "input always gives a zero pre-activation. It costs one parameter a unit and equals a "
        "weight on a constant input of 1. It is worth that only where nothing else centres the "
        "data: right before batch normalization it is redundant, because the mean is taken off "
        "again.",
        "偏置是加在加权和上的一个数，它移动神经元开始响应的位置。几何上，权重决定边界的方向，"
        "偏置决定边界的位置：边界沿 w 方向到原点的有向距离是 -b/||w||。没有偏置，所有边界都必须"
        "过原点，零输入的预激活也恒为零。它每个神经元只多一个参数，等价于一个恒为 1 的输入上的权重。"
        "只有在没有别的机制把数据居中时它才值得：紧接批归一化之前的偏置是多余的，因为均值随后又被减去。",
    ),
    flips=T(
        "If the data are centred, or a batch normalization follows, a model without bias does as "
        "well as one with it.",
        "如果数据已经居中，或后面紧跟批归一化，没有偏置的模型同样好。",
    ),
    analogy=T(
        "The weights tell which way a door swings; the bias tells where in the wall it is.",
        "权重决定门朝哪边开，偏置决定门装在墙的哪个位置。",
    ),
    generative=T(
        "Large language models of the LLaMA kind drop most biases: normalization and scale make "
        "them superfluous.",
        "LLaMA 一类大语言模型去掉了大部分偏置：归一化和规模使其多余。",
    ),
    classical=T(
        "The last layer's bias learns the frequencies of the classes; set to them at the start it "
        "saves the first epochs.",
        "最后一层的偏置学到类别频率；一开始就设成它能省掉最初几轮训练。",
    ),
    driving=T(
        "An obstacle detector's bias is its threshold: it trades missed obstacles for false brakes.",
        "障碍物检测器的偏置就是它的门槛：在漏检与误刹之间取舍。",
    ),
    change=T(
        "Set the shift to 0 (or subtract the mean first): the gap between the curves closes.",
        "把平移量设为 0（或先减去均值）：两条曲线的差距消失。",
    ),
)

SPLITS = 50


def logistic(x: Any, y: Any, bias: bool, ridge: float = 1e-3) -> Any:
    """Weights of a logistic regression by Newton's method; the bias is the last, if there is one."""
    rows = np.column_stack([x, np.ones(len(x))]) if bias else x
    w = np.zeros(rows.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(rows @ w, -35.0, 35.0)))
        slope = rows.T @ (p - y) + ridge * w
        bend = (rows * (p * (1 - p))[:, None]).T @ rows + ridge * np.eye(len(w))
        step = np.linalg.solve(bend, slope)
        w = w - step
        if np.abs(step).max() < 1e-10:
            break
    return w


def correct(x: Any, y: Any, w: Any) -> float:
    """Share of rows on the right side."""
    rows = np.column_stack([x, np.ones(len(x))]) if len(w) > x.shape[1] else x
    return float(((rows @ w > 0) == (y > 0.5)).mean())


@once
def clouds(lab: Lab, shift: float) -> tuple[Any, Any]:
    """Accuracy with and without bias, one a seed: two Gaussian clouds, moved along (1, 1)."""
    found = []
    for seed in lab.seeds(20, 5):
        rng = np.random.default_rng(seed)
        y = np.arange(400) % 2
        x = rng.standard_normal((400, 2)) + np.where(y[:, None] > 0, 1.0, -1.0) * (1.0, 1.0)
        x = x + shift
        train, test = np.arange(400) < 280, np.arange(400) >= 280
        both = [correct(x[test], y[test], logistic(x[train], y[train], b)) for b in (True, False)]
        found.append(both)
    with_bias, without = np.array(found).T
    return with_bias, without


@question.exact(
    "C2.1.8-01",
    T(
        "Without a bias the decision boundary contains the origin.",
        "没有偏置时，决策边界必过原点。",
    ),
    equals(0.0),
)
def origin_on_the_boundary(lab: Lab) -> Evidence:
    """The pre-activation at the origin, largest over 1,000 random weight vectors."""
    layer = Linear(5, 1000, bias=False)
    by_hand = lab.rng("weights").standard_normal((1000, 5)) @ np.zeros(5)
    return Routes({
        "NumPy": float(np.abs(by_hand).max()),
        "a layer without bias": float(layer(fathom.zeros(1, 5)).abs().max().item()),
    })  # fmt: skip


@question.exact(
    "C2.1.8-02",
    T(
        "A positive bias moves the boundary against w, a negative one along w.",
        "正偏置使边界逆着 w 移动，负偏置使边界沿 w 移动。",
    ),
    at_most(1e-12),
)
def boundary_moves(lab: Lab) -> Evidence:
    """Where the boundary meets the line along w, against -b / ||w||; largest difference."""
    rng = lab.rng("planes")
    w, b = rng.standard_normal((200, 4)), rng.uniform(-2, 2, 200)
    length = np.linalg.norm(w, axis=1)
    low, high = np.full(200, -100.0), np.full(200, 100.0)  # bisection along w / ||w||
    for _ in range(120):
        middle = (low + high) / 2
        above = ((w / length[:, None]) * middle[:, None] * w).sum(axis=1) + b > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    place = (low + high) / 2
    signs = float(np.mean(np.sign(place) != -np.sign(b)))
    return All({"distance": float(np.abs(place + b / length).max()), "wrong side": signs})


@question.exact(
    "C2.1.8-03",
    T(
        "With zero input and no bias the output must be 0.",
        "零输入且没有偏置时，输出必为 0。",
    ),
    equals(0.0),
    correction=T(
        "The pre-activation is; the output is f(0): 0 for ReLU and tanh, but {n[sigmoid/tensor]:.1f} for "
        "the sigmoid and {n[softplus/tensor]:.2f} for softplus.",
        "为 0 的是预激活；输出是 f(0)：ReLU 与 tanh 为 0，sigmoid 为 {n[sigmoid/tensor]:.1f}，softplus 为 "
        "{n[softplus/tensor]:.2f}。",
    ),
    weight=2,
)
def output_of_nothing(lab: Lab) -> Evidence:
    """f(0) of common activations: as tensors, and by the formula in NumPy."""
    zero = fathom.tensor(0.0)
    ours = {
        "relu": fathom.relu(zero).item(),
        "tanh": fathom.tanh(zero).item(),
        "sigmoid": fathom.sigmoid(zero).item(),
        "softplus": fathom.nn.functional.softplus(zero).item(),
    }
    formulas = {
        "relu": max(0.0, 0.0), "tanh": float(np.tanh(0.0)),
        "sigmoid": 1 / (1 + np.exp(0.0)), "softplus": float(np.log(2.0)),
    }  # fmt: skip
    return Settings(T("activation", "激活函数"), {
        name: Routes({"tensor": ours[name], "formula": formulas[name]}) for name in ours
    })  # fmt: skip


@question.exact(
    "C2.1.8-04",
    T("A neuron of n inputs has n parameters without and n + 1 with bias.",
      "n 个输入的神经元没有偏置有 n 个参数，有偏置有 n + 1 个。"),
    true(),
)  # fmt: skip
def parameters(lab: Lab) -> Evidence:
    """Counted on layers of 1 to 64 inputs."""
    counts = [
        (sum(p.size for p in Linear(n, 1, bias=b).parameters()), n + b)
        for n in (1, 2, 7, 64)
        for b in (False, True)
    ]
    return all(counted == expected for counted, expected in counts)


@question.exact(
    "C2.1.8-05",
    T(
        "An explicit bias equals a weight on a constant input of 1.",
        "显式偏置等价于恒为 1 的输入上的权重。",
    ),
    at_most(1e-12),
)
def augmented(lab: Lab) -> Evidence:
    """Largest difference of the two forms over random rows, and of their gradients."""
    rng = lab.rng("augmented")
    x, w, b = rng.standard_normal((64, 6)), rng.standard_normal(6), rng.standard_normal()
    wide, long = np.column_stack([x, np.ones(64)]), np.append(w, b)
    p, q = fathom.tensor(w, requires_grad=True), fathom.tensor(long, requires_grad=True)
    c = fathom.tensor(np.array(b), requires_grad=True)
    fathom.tanh(fathom.tensor(x) @ p + c).sum().backward()
    fathom.tanh(fathom.tensor(wide) @ q).sum().backward()
    apart = np.append(p.grad.value(), c.grad.value()) - q.grad.value()
    return All({
        "values": float(np.abs(x @ w + b - wide @ long).max()),
        "gradients": float(np.abs(apart).max()),
    })  # fmt: skip


@question.experiment(
    "C2.1.8-06",
    T(
        "A model without bias cannot handle data whose centre is off the origin.",
        "没有偏置的模型无法处理中心偏离原点的数据。",
    ),
    at_least(0.05),
    weight=3,
)
def off_the_origin(lab: Lab) -> Evidence:
    """Accuracy with bias less that without, on test rows, clouds shifted by 3 along (1, 1)."""
    with_bias, without = clouds(lab, 3.0)
    return Sample(with_bias - without)


@once
def classified(lab: Lab) -> dict[str, Any]:
    """The book's data: test accuracies over random 80/20 splits, by two programs."""
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression

    x, y = make_classification(n_samples=1000, n_features=2, n_redundant=0, random_state=42)
    found: dict[str, Any] = {
        name: float(np.linalg.norm(middle(x, axis=0) / x.std(axis=0)))
        for name, middle in (("mean", np.mean), ("median", np.median))
    }
    centred = []
    for seed in lab.seeds(SPLITS, 10):
        order = np.random.default_rng(seed).permutation(1000)
        train, test = order[:800], order[800:]
        moved = x - x[train].mean(axis=0)
        centred.append(correct(moved[test], y[test], logistic(moved[train], y[train], False)))
    found["centred"] = np.array(centred)
    for bias in (True, False):
        ours, theirs = [], []
        for seed in lab.seeds(SPLITS, 10):
            order = np.random.default_rng(seed).permutation(1000)
            train, test = order[:800], order[800:]
            ours.append(correct(x[test], y[test], logistic(x[train], y[train], bias)))
            model = LogisticRegression(fit_intercept=bias).fit(x[train], y[train])
            theirs.append(model.score(x[test], y[test]))
        found[f"bias {bias}"] = Routes(
            {"Newton's method": Sample(ours), "scikit-learn": Sample(theirs)}
        )
    return found


@question.experiment(
    "C2.1.8-07",
    T(
        "On make_classification(1000, 2 features, none redundant, seed 42) a linear model with bias "
        "gets about 95 %.",
        "在 make_classification(1000, 2 个特征、无冗余, 种子 42) 上，有偏置的线性模型约 95 %。",
    ),
    equals(0.95, 0.025),
    correction=T("It gets {value:.1%}.", "实测为 {value:.1%}。"),
    needs=("sklearn",),
)
def with_bias(lab: Lab) -> Evidence:
    """Mean test accuracy over random 80/20 splits, by Newton's method and by scikit-learn."""
    return classified(lab)["bias True"]


@question.experiment(
    "C2.1.8-08",
    T("Without bias it gets about 80 %.", "没有偏置时约 80 %。"),
    equals(0.80, 0.025),
    correction=T(
        "It gets {value:.1%}: on these data the bias hardly matters.",
        "实测为 {value:.1%}：在这组数据上偏置几乎无关紧要。",
    ),
    weight=3,
    needs=("sklearn",),
)
def without_bias(lab: Lab) -> Evidence:
    """As before, without intercept."""
    return classified(lab)["bias False"]


@question.exact(
    "C2.1.8-09",
    T(
        "The gap comes from the data's centre lying away from the origin.",
        "差距来自数据中心偏离原点。",
    ),
    at_least(0.5),
    correction=T(
        "There is hardly a gap, and the centre lies {n[distance of the centre/mean]:.2f} standard "
        "deviations from the origin: close to it. Taking the mean off first changes the accuracy "
        "without bias by {n[gained by centring]:+.1%}.",
        "差距几乎不存在，而且中心距原点仅 {n[distance of the centre/mean]:.2f} 个标准差，几乎就在原点。"
        "先减去均值，无偏置模型的准确率变化 {n[gained by centring]:+.1%}。",
    ),
    needs=("sklearn",),
)
def centre(lab: Lab) -> Evidence:
    """Distance of the mean and of the median from the origin, in standard deviations (half of one
    is taken as away); and the accuracy that the model without bias gains by centring the data, at
    least 0.02 if that were the cause of a gap."""
    found = classified(lab)
    without = found["bias False"]["Newton's method"].values
    return All({
        "distance of the centre": Routes({"mean": found["mean"], "median": found["median"]}),
        "gained by centring": Check(Sample(found["centred"] - without), at_least(0.02)),
    })  # fmt: skip


@question.reference(
    "C2.1.8-10",
    T("Every neuron of a large language model has a bias.", "大语言模型的每个神经元都有偏置。"),
    correction=T(
        "The linear layers of LLaMA and PaLM have none.", "LLaMA 与 PaLM 的线性层没有偏置。"
    ),
    weight=2,
)
def language_models(lab: Lab) -> Evidence:
    """Published architectures: which of their dense layers have a bias."""
    return Published(
        "no dense layer",
        (
            Source("Chowdhery et al., PaLM: Scaling Language Modeling with Pathways, section 2 (no biases)", 2022, 0.97),
            Source("Touvron et al., LLaMA, released code (bias=False in attention and FFN)", 2023, 0.97),
        ),
        expected="every dense layer",
    )  # fmt: skip


def gradient_of_bias(norm: Any, lab: Lab) -> float:
    """Norm of the gradient of a bias before `norm`, over that of the layer's weights."""
    net = Sequential(Linear(6, 8), norm, Linear(8, 3)).double()
    x = fathom.tensor(lab.rng("rows").standard_normal((64, 6)))
    target = fathom.tensor(lab.rng("targets").standard_normal((64, 3)))
    ((net(x) - target) ** 2).mean().backward()
    weight, bias = net[0].weight.grad.value(), net[0].bias.grad.value()
    return float(np.linalg.norm(bias) / np.linalg.norm(weight))


@question.exact(
    "C2.1.8-11",
    T(
        "A bias right before batch normalization is redundant.",
        "紧接批归一化之前的偏置是多余的。",
    ),
    at_most(1e-9),
    weight=2,
)
def before_batch_norm(lab: Lab) -> Evidence:
    """Its gradient relative to the weights', and what adding 3 to it changes in the output."""
    norm = BatchNorm1d(8).double()
    x = fathom.tensor(lab.rng("x").standard_normal((64, 8)))
    moved = float((norm(x + 3.0) - norm(x)).abs().max().item())
    return All({"gradient": gradient_of_bias(BatchNorm1d(8), lab), "output": moved})


@question.exact(
    "C2.1.8-12",
    T("Before layer normalization the bias still matters.", "在层归一化之前偏置仍有作用。"),
    at_least(1e-3),
)
def before_layer_norm(lab: Lab) -> Evidence:
    """Its gradient relative to the weights'; a shift common to all units alone is taken off."""
    return All({
        "gradient": gradient_of_bias(LayerNorm(8), lab),
        "batch norm's, for comparison": Check(gradient_of_bias(BatchNorm1d(8), lab), at_most(1e-9)),
    })  # fmt: skip


@question.figure(T("Accuracy against the shift of the data", "准确率随数据平移的变化"))
def shifted(lab: Lab) -> Figure:
    """Two clouds, moved away from the origin: logistic regression with and without bias."""
    shifts = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0]
    lines = []
    for i, name in enumerate((T("with bias", "有偏置"), T("without bias", "无偏置"))):
        at = [Sample(clouds(lab, s)[i]) for s in shifts]
        lines.append(Line(name, shifts, *band(at)))
    return Figure(
        Axis(T("shift of both clouds", "两个点云的平移量")),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("chance", "随机水平"), y=0.5)],
        T(
            "With a bias the accuracy does not depend on where the data lie; without one it falls "
            "as they leave the origin.",
            "有偏置时准确率与数据位置无关；无偏置时随数据远离原点而下降。",
        ),
    )
