"""3.2.4 Where the sigmoid is still used, and where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings, T,
    at_least, at_most, band, once, true,
)  # fmt: skip
from fathom.book.material.cells import lstm_step, lstm_weights
from fathom.book.material.data import digits
from fathom.book.material.gain import sigmoid
from fathom.book.material.stacks import stack
from fathom.nn import functional as F
from fathom.train import train_many

question = Question(
    "3.2.4",
    title=T(
        "Is the sigmoid obsolete, and where is it still used?",
        "Sigmoid 过时了吗？现在还用在哪里？",
    ),
    difficulty=3,
    frequency=3,
    topics=("sigmoid", "gating", "lstm", "bce", "门控", "二分类", "交叉熵"),
    answer=T(
        "As a hidden activation of deep nets it is obsolete: its slope of at most 0.25 makes "
        "gradients vanish. Where a number between 0 and 1 is meant it is the right function. At "
        "the "
        "output it gives the probability of a yes or no, one for each label in multi-label tasks, "
        "and with binary cross-entropy the gradient at the logit is simply p - y, so saturation "
        "does "
        "no harm. For two classes it is the softmax of the logit difference, with half of the "
        "output weights. As a gate it mixes: g a + (1 - g) b lies between a and b, which is what "
        "LSTM, GRU, highway and attention gates are made of. In code, compute the loss from the "
        "logit and apply the sigmoid only for reporting.",
        "作为深层网络的隐藏层激活，它确实过时了：导数至多 0.25，会让梯度消失。"
        "但凡需要 0 到 1 之间的数，它仍是恰当的函数。在输出层，它给出是/否的概率，"
        "多标签任务中每个标签一个；"
        "配合二元交叉熵，logit 处的梯度就是 p - y，饱和也无害。"
        "对两个类别，它就是 logit 之差的 softmax，而输出层权重只要一半。"
        "作为门控，它做混合：g a + (1 - g) b 介于 a 与 b 之间，"
        "LSTM、GRU、highway 和注意力门都由此构成。"
        "写代码时，应从 logit 直接计算损失，只在汇报概率时才用 sigmoid。",
    ),
    flips=T(
        "With squared error in place of cross-entropy the output sigmoid does saturate: a "
        "confident "
        "wrong answer gets next to no gradient.",
        "若用平方误差代替交叉熵，输出端的 sigmoid 就会饱和：自信的错误答案几乎得不到梯度。",
    ),
    analogy=T(
        "A bad pipe but a good tap: one does not build the mains from taps, but wherever something "
        "must be let through in part, one needs one.",
        "当水管不行，当水龙头正好：没人用龙头铺干管，但凡要部分放行的地方都少不了它。",
    ),
    generative=T(
        "SwiGLU gates with x sigma(x); reward models and preference losses (DPO) are a log-sigmoid "
        "of a difference of scores.",
        "SwiGLU 用 x·sigma(x) 做门；奖励模型和偏好损失（DPO）是分数之差的 log-sigmoid。",
    ),
    classical=T(
        "Logistic regression, calibration by Platt's method, and every click-through model end in "
        "a sigmoid.",
        "逻辑回归、Platt 校准以及各种点击率模型，最后都是 sigmoid。",
    ),
    driving=T(
        "Detection heads score each class with its own sigmoid, since a box may be none of them.",
        "检测头对每个类别各用一个 sigmoid 打分，因为一个框可能不属于任何类别。",
    ),
    change=T(
        "Move the sigmoid from the output to six hidden layers: after eight epochs a third of "
        "the digits are right, not 94 %.",
        "把 sigmoid 从输出层搬到六个隐藏层里：八轮之后只有约三分之一的数字识别正确，而不是 94 %。",
    ),
)


def classifier(layers: Any, defined: bool, parent: bool) -> bool:
    """Whether the listing's module can be made: a linear layer and a sigmoid, by `layers`.

    defined : whether the name hidden_dim exists. parent : whether Module.__init__ is called.
    """
    names = {"hidden_dim": 16} if defined else {}
    call = "super().__init__()" if parent else "pass"
    lines = [
        "class BinaryClassifier(layers.Module):",
        "    def __init__(self):",
        f"        {call}",
        "        self.fc = layers.Linear(hidden_dim, 1)",
        "        self.sigmoid = layers.Sigmoid()",
        "    def forward(self, x):",
        "        return self.sigmoid(self.fc(x))",
        "model = BinaryClassifier()",
    ]
    scope: dict[str, Any] = {"layers": layers, **names}
    try:
        exec("\n".join(lines), scope)
    except (NameError, AttributeError, fathom.FathomError):
        return False
    return scope["model"] is not None


@question.exact(
    "C3.2.4-01",
    T(
        "The printed module BinaryClassifier can be instantiated.",
        "书中打印的 BinaryClassifier 模块可以实例化。",
    ),
    true(),
    correction=T(
        "Only after hidden_dim has been given a value; and Module.__init__ must be called first.",
        "必须先给 hidden_dim 赋值；并且要先调用 Module.__init__。",
    ),
    needs=("torch",),
)
def listing(lab: Lab) -> Evidence:
    """Executed with Fathom's layers and with PyTorch's, with the name hidden_dim defined and not,
    and without the call of the parent's __init__. The listing (a linear layer of hidden_dim inputs
    and a sigmoid) is known by its description only, so each thing such a module may lack is a
    setting.
    """
    import torch

    def both(defined: bool, parent: bool) -> Evidence:
        libraries = {"Fathom": nn, "PyTorch": torch.nn}
        return Routes({n: classifier(m, defined, parent) for n, m in libraries.items()})

    return Settings(
        T("listing", "代码"),
        {
            "hidden_dim defined": both(True, True),
            "hidden_dim not defined": both(False, True),
            "without super().__init__()": both(True, False),
        },
    )


@question.exact(
    "C3.2.4-02",
    T(
        "Binary cross-entropy behind a sigmoid has the gradient p - y at the logit.",
        "sigmoid 加二元交叉熵，在 logit 处的梯度为 p - y。",
    ),
    at_most(1e-12),
    weight=2,
)
def logit_gradient(lab: Lab) -> Evidence:
    """Largest difference over 1,000 logits of [-30, 30] with labels in [0, 1]: the fused loss, and
    for |z| < 10 the loss written out from the sigmoid.
    """
    rng = lab.rng("logits")
    z, y = rng.uniform(-30, 30, 1000), rng.uniform(0, 1, 1000)
    fused = fathom.tensor(z, requires_grad=True)
    F.binary_cross_entropy_with_logits(fused, fathom.tensor(y), reduction="sum").backward()
    near = np.abs(z) < 10
    spelled = fathom.tensor(z[near], requires_grad=True)
    p, t = fathom.sigmoid(spelled), fathom.tensor(y[near])
    (-(t * fathom.log(p) + (1 - t) * fathom.log(1 - p))).sum().backward()
    expected = sigmoid(z) - y
    return Routes({
        "from the logit": float(np.abs(fused.grad.value() - expected).max()),
        "from the probability": float(np.abs(spelled.grad.value() - expected[near]).max()),
    })  # fmt: skip


@question.exact(
    "C3.2.4-03",
    T("gate a + (1 - gate) b lies between a and b.", "gate·a + (1 - gate)·b 介于 a 与 b 之间。"),
    at_most(1e-12),
)
def mixing(lab: Lab) -> Evidence:
    """How far any output of a learned gate lies outside the interval of its two inputs; 500 rows of
    16, gates from shut to open.
    """
    rng = lab.rng("rows")
    a, b = rng.normal(size=(2, 500, 16)) * 3
    with fathom.seed(lab.seeds(1, 1)[0]):
        gate = nn.Gate(16).double()
    gate.linear.weight.data[...] *= 10.0
    with fathom.no_grad():
        out = gate(fathom.tensor(a), fathom.tensor(b)).value()
    g = sigmoid(rng.normal(size=a.shape) * 5)
    by_hand = g * a + (1 - g) * b
    low, high = np.minimum(a, b), np.maximum(a, b)
    return Routes({
        name: float(np.maximum(low - y, y - high).max())
        for name, y in (("layer", out), ("NumPy", by_hand))
    })  # fmt: skip


@question.exact(
    "C3.2.4-04",
    T(
        "The three gates of an LSTM are sigmoids of affine maps of [h, x].",
        "LSTM 的三个门是对 [h, x] 的仿射变换取 sigmoid。",
    ),
    at_most(1e-6),
    needs=("torch",),
)
def gates(lab: Lab) -> Evidence:
    """Largest difference over 12 steps of h and c between a cell written from these formulas and
    the LSTM layers of PyTorch and of Fathom, float64, same weights.
    """
    import torch

    rng = lab.rng("lstm")
    weights = lstm_weights(rng, 5, 7)
    x = rng.normal(size=(12, 3, 5))
    h, c, rows = np.zeros((3, 7)), np.zeros((3, 7)), []
    for row in x:
        h, c = lstm_step(row, h, c, weights)
        rows.append(h)
    mine = np.array(rows)
    theirs = torch.nn.LSTM(5, 7).double()
    ours = nn.LSTM(5, 7).double()
    for name, array in weights._asdict().items():
        getattr(theirs, f"{name}_l0").data = torch.from_numpy(array)
        getattr(ours, f"{name}_l0").data[...] = array
    out, (_, last) = theirs(torch.from_numpy(x))
    own, (_, own_last) = ours(fathom.tensor(x))
    return Routes({
        "PyTorch": max(float(np.abs(out.detach().numpy() - mine).max()),
                       float(np.abs(last[0].detach().numpy() - c).max())),
        "Fathom": max(float(np.abs(own.value() - mine).max()),
                      float(np.abs(own_last.value()[0] - c).max())),
    })  # fmt: skip


@question.exact(
    "C3.2.4-05",
    T(
        "For two classes the softmax with temperature is a sigmoid.",
        "两个类别时，带温度的 softmax 就是 sigmoid。",
    ),
    at_most(1e-12),
)
def two_classes(lab: Lab) -> Evidence:
    """Largest difference of softmax([a, b] / T)_1 and sigma((a - b) / T): 1,000 pairs, T from 0.1
    to 20; by NumPy and by the library.
    """
    rng = lab.rng("pairs")
    pairs, t = rng.normal(size=(1000, 2)) * 5, rng.uniform(0.1, 20.0, 1000)
    e = np.exp((pairs - pairs.max(axis=1, keepdims=True)) / t[:, None])
    expected = sigmoid((pairs[:, 0] - pairs[:, 1]) / t)
    ours = fathom.softmax(fathom.tensor(pairs / t[:, None]), 1).value()[:, 0]
    return Routes({
        "NumPy": float(np.abs(e[:, 0] / e.sum(axis=1) - expected).max()),
        "Fathom": float(np.abs(ours - expected).max()),
    })  # fmt: skip


def descend(x: Any, y: Any, columns: int, rate: float, steps: int = 200) -> Any:
    """Probabilities of class 1 on the way of gradient descent from 0: one logit, or two."""
    w, seen = np.zeros((x.shape[1], columns)), []
    for _ in range(steps):
        z = x @ w
        p = sigmoid(z[:, 0] if columns == 1 else z[:, 0] - z[:, 1])
        seen.append(p)
        slope = x.T @ (p - y) / len(x)
        w = w - rate * np.column_stack([slope, -slope][:columns])
    return np.array(seen)


@question.exact(
    "C3.2.4-06",
    T(
        "A softmax for a binary output is needlessly complex.",
        "二分类输出用 softmax 是不必要的复杂。",
    ),
    at_most(1e-12),
    weight=2,
)
def redundant(lab: Lab) -> Evidence:
    """What the second logit buys, which is nothing if it is needless: the largest difference of the
    probabilities of a two-logit and a one-logit model during 200 steps of gradient descent, the
    latter at twice the rate; and the weights it costs beyond one logit's.
    """
    rng = lab.rng("rows")
    x = rng.normal(size=(200, 6))
    y = (x @ rng.normal(size=6) + rng.normal(size=200) > 0).astype(float)
    apart = np.abs(descend(x, y, 2, 0.5) - descend(x, y, 1, 1.0)).max()
    sizes = [sum(p.size for p in nn.Linear(6, k).parameters()) for k in (1, 2)]
    return All({
        "difference of the probabilities": float(apart),
        "extra weights": Check(sizes[1] - sizes[0], at_least(1)),
    })  # fmt: skip


def depths(lab: Lab) -> tuple[int, ...]:
    """The numbers of hidden layers; the ends when time is short."""
    return lab.pick((1, 2, 4, 6), (1, 4))


@once
def by_depth(lab: Lab, activation: str) -> list[Any]:
    """Test accuracy on digits, (seeds,) for each depth: 32 units a layer, Xavier, Adam."""
    data, found = digits(), []
    for depth in depths(lab):
        spec = {
            "model": lambda depth=depth: stack(
                64, 10, 32, depth, activation=activation, init="xavier_normal"
            ),
            "optimizer": "adam", "lr": 0.003, "epochs": lab.pick(8, 2), "batch_size": 32,
        }  # fmt: skip
        fleet = train_many(spec, data.x, data.y, seeds=lab.seeds(8, 3))
        found.append(fleet.evaluate(data.test_x, data.test_y)["accuracy"])
    return found


@question.figure(T("A sigmoid in hidden layers", "隐藏层中的 sigmoid"))
def hidden(lab: Lab) -> Figure:
    """Test accuracy on digits after 8 epochs against the hidden layers; the output is the same."""
    lines: list[Any] = []
    for name in ("sigmoid", "tanh", "relu"):
        at = [Sample(v) for v in by_depth(lab, name)]
        lines.append(Line(T(name, name), depths(lab), *band(at)))
    return Figure(
        Axis(T("hidden layers", "隐藏层数")),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("chance", "随机水平"), y=0.1)],
        T(
            "With one hidden layer the sigmoid does about as well as the others; with every "
            "further "
            "layer it learns more slowly, while tanh and ReLU hardly notice.",
            "只有一个隐藏层时，sigmoid 与其他激活相差不大；每加一层它都学得更慢，而 tanh 和 ReLU "
            "几乎不受影响。",
        ),
    )


@question.figure(T("The gradient of a confident mistake", "自信的错误得到的梯度"))
def at_the_output(lab: Lab) -> Figure:
    """|dL/dz| for label 1 against the logit, by automatic differentiation."""
    z = np.linspace(-10.0, 10.0, 161)

    ones = fathom.ones(len(z)).double()

    def slope(loss: Any) -> Any:
        at = fathom.tensor(z, requires_grad=True)
        loss(at).sum().backward()
        return np.abs(at.grad.value())

    entropy = slope(lambda t: F.binary_cross_entropy_with_logits(t, ones, reduction="none"))
    squares = slope(lambda t: (fathom.sigmoid(t) - 1.0) ** 2)
    return Figure(
        Axis(T("logit z", "logit z")),
        Axis(T("|dL/dz|, label 1", "|dL/dz|，标签为 1")),
        [
            Line(T("cross-entropy", "交叉熵"), z, entropy),
            Line(T("squared error", "平方误差"), z, squares),
        ],
        T(
            "On the left, where the model is sure and wrong, cross-entropy keeps a gradient of 1; "
            "squared error loses it.",
            "左侧是模型自信却答错的区域：交叉熵保持梯度为 1，平方误差的梯度趋于零。",
        ),
    )  # fmt: skip
