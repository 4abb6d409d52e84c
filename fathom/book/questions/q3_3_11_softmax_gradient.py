"""3.3.11 Softmax and cross-entropy together: why the gradient is p - y."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import Axis, Figure, Lab, Level, Line, Question, T, once
from fathom.book.material.calculus import derivative
from fathom.book.material.data import digits
from fathom.book.material.softmaxes import shifted
from fathom.nn import functional as F

question = Question(
    "3.3.11",
    title=T(
        "Why does the gradient of softmax with cross-entropy come out so simple?",
        "softmax 与交叉熵合在一起，梯度为什么这么简单？",
    ),
    difficulty=3,
    frequency=5,
    topics=("softmax", "cross-entropy", "gradient", "交叉熵", "梯度", "指数族"),
    answer=T(
        "The loss of the logits is L = logsumexp(z) - sum y_i z_i for targets y that sum to 1; "
        "the gradient of logsumexp is softmax, so dL/dz = p - y. Seen as a chain: the Jacobian "
        "of softmax carries a factor p_i that cancels exactly against the 1/p_i of the "
        "logarithm. This is no accident: softmax is the inverse of the canonical link of the "
        "categorical distribution, and for every exponential family with its canonical link the "
        "gradient of the negative log-likelihood is prediction minus target. Hence a confident "
        "mistake gets a gradient of size about 1 instead of a vanishing one, the sum of the "
        "gradient over the classes is 0, and the loss is convex in the logits. The cancellation "
        "has to be done on paper: composed numerically, 1/p is inf and p is 0 once p "
        "underflows, and the product is nan, so libraries fuse the two and take logits. It holds "
        "for soft targets and label smoothing too; with squared error behind softmax it does not.",
        "以 logits 表示，对和为 1 的目标 y，损失是 L = logsumexp(z) - sum y_i z_i；logsumexp 的梯度就是 softmax，"
        "所以 dL/dz = p - y。按链式法则看：softmax 的雅可比带有因子 p_i，恰好与对数的 1/p_i 相消。这并非巧合："
        "softmax 是多项分布典范联系函数的反函数，凡指数族配典范联系，负对数似然的梯度都是“预测减目标”。"
        "因此自信的错误得到大小约为 1 的梯度而不会消失，各类梯度之和为 0，损失对 logits 是凸的。"
        "相消必须在纸面上完成：数值上分两步算时，p 一旦下溢，1/p 是 inf 而 p 是 0，乘积为 nan，"
        "所以各库把两步融合并接收 logits。软标签与标签平滑时同样成立；softmax 后接平方误差则不成立。",
    ),
    flips=T(
        "Behind softmax, squared error (or any loss that is not the logarithm) leaves the "
        "Jacobian uncancelled: the gradient vanishes for confident mistakes.",
        "softmax 后若接平方误差（或其他非对数损失），雅可比不会被消去：自信的错误梯度消失。",
    ),
    analogy=T(
        "A thermostat that acts on the plain difference of wanted and measured temperature, "
        "neither damped nor amplified on the way.",
        "像恒温器直接按“期望减实测”的温差动作，途中既不衰减也不放大。",
    ),
    generative=T(
        "Every token of a language model sends p - y back: a vector as long as the vocabulary, "
        "which memory-saving losses compute in pieces.",
        "语言模型的每个词元都回传 p - y：长度等于词表的向量，省显存的损失实现会分块计算它。",
    ),
    classical=T(
        "Logistic and softmax regression share the gradient X^T (p - y) with linear regression.",
        "逻辑回归与 softmax 回归的梯度 X^T (p - y) 与线性回归形式相同。",
    ),
    driving=T(
        "Label noise shows at once: a wrong label keeps pushing with a force near 1, however "
        "good the model.",
        "标签噪声立刻显现：无论模型多好，错误标签始终以接近 1 的力推动参数。",
    ),
    change=T(
        "Replace cross-entropy by squared error on the probabilities: the network started from "
        "confidently wrong outputs hardly moves.",
        "把交叉熵换成概率上的平方误差：从自信且错误的输出出发的网络几乎不动。",
    ),
)


def fused(z: Any, y: Any) -> Any:
    """dL/dz of cross_entropy, by automatic differentiation; probabilities y as targets."""
    return derivative(lambda t: F.cross_entropy(t, fathom.tensor(y), reduction="sum"), z)


def composed(z: Any, y: Any) -> Any:
    """The chain in NumPy: the softmax's Jacobian times the gradient -y/p of -sum y log p."""
    with np.errstate(all="ignore"):
        p = shifted(z)
        outer = p * np.where(y > 0, -y / p, 0.0)
        return outer - p * outer.sum(axis=-1, keepdims=True)


def separate(z: Any, y: Any) -> Any:
    """The same loss from the library's softmax, logarithm and sum, by automatic differentiation."""
    with np.errstate(all="ignore"):
        return derivative(lambda t: -(fathom.tensor(y) * F.softmax(t, -1).log()).sum(), z)


def problems(lab: Lab, scale: float) -> tuple[Any, Any]:
    """Random logits of a deviation, and the labels as one-hot rows."""
    rng = lab.rng("logits")
    z = rng.standard_normal((200, 10)) * scale
    return z, np.eye(10)[rng.integers(0, 10, 200)]


SCALES = np.logspace(-1, 4, 41)


@question.figure(T("Three ways to the same gradient", "同一梯度的三种算法"))
def three_ways(lab: Lab) -> Figure:
    """Largest distance from p - y on random logits, by their deviation: the fused loss and the
    library's separate steps by automatic differentiation, and the chain of Jacobians in NumPy."""
    gaps: dict[str, list[float]] = {"fused": [], "chain": [], "separate": []}
    for scale in SCALES:
        z, y = problems(lab, float(scale))
        wanted = shifted(z) - y
        ways = {"fused": fused(z, y), "chain": composed(z, y), "separate": separate(z, y)}
        for name, found in ways.items():
            gaps[name].append(float(np.abs(found - wanted).max()) + 1e-17)
    names = {
        "fused": T("fused cross-entropy", "融合的交叉熵"),
        "chain": T("Jacobian times -y/p", "雅可比乘 -y/p"),
        "separate": T("softmax, log, sum (autodiff)", "softmax、log、求和（自动微分）"),
    }
    return Figure(
        Axis(T("deviation of the logits", "logits 的标准差"), log=True),
        Axis(T("distance from p - y", "与 p - y 的距离"), log=True),
        [Line(names[k], SCALES, v) for k, v in gaps.items()],
        T(
            "All three agree to 1e-15 while the probabilities are ordinary numbers; once some "
            "underflow, the composed ways give nan and their curves end, the fused one goes on "
            "to any scale.",
            "概率是普通数值时三者一致到 1e-15；一旦有概率下溢，分步算法给出 nan，曲线中断，融合算法在任何尺度下都继续有效。",
        ),
    )


def pushes(margins: Any, classes: int) -> dict[str, Any]:
    """Size of dL/dz of the true class's logit, which lies below all others by each margin."""
    z = np.zeros((len(margins), classes))
    z[:, 0] = -np.asarray(margins)
    y = np.tile(np.eye(classes)[0], (len(margins), 1))

    def squared(t: Any) -> Any:
        return ((F.softmax(t, -1) - fathom.tensor(y)) ** 2).sum()

    return {"cross": np.abs(fused(z, y)[:, 0]), "squared": np.abs(derivative(squared, z)[:, 0])}


@question.figure(T("What a confident mistake is told", "自信的错误得到多大的梯度"))
def mistakes(lab: Lab) -> Figure:
    """|dL/dz| of the true class with ten classes, by how far its logit lies below the others."""
    margins = np.linspace(-10.0, 20.0, 121)
    found = pushes(margins, 10)
    return Figure(
        Axis(T("logit below the others by", "真实类 logit 低于其他类")),
        Axis(T("gradient at the true class", "真实类的梯度大小")),
        [
            Line(T("cross-entropy", "交叉熵"), margins, found["cross"]),
            Line(T("squared error", "平方误差"), margins, found["squared"]),
            Level(T("equal logits", "logits 相等"), x=0.0),
        ],
        T(
            "The worse the mistake, the nearer cross-entropy's push is to 1; squared error's "
            "goes back to 0.",
            "错得越严重，交叉熵的推力越接近 1；平方误差的推力反而回到 0。",
        ),
    )


def one_hot_squares(scores: Any, targets: Any) -> Any:
    """Squared error of the probabilities, (n, 10) scores and (n, 10) one-hot targets."""
    return ((F.softmax(scores, -1) - targets) ** 2).sum(-1).mean()


def soft_cross(scores: Any, targets: Any) -> Any:
    """Cross-entropy with one-hot rows as targets."""
    return F.cross_entropy(scores, targets)


def sure(offset: float) -> Any:
    """Two linear layers, the output bias of class 0 raised: sure of it, whatever the picture."""
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    net[2].bias.data = net[2].bias.value() + np.float32(offset) * np.eye(10, dtype=np.float32)[0]
    return net


LOSSES = {"cross": soft_cross, "squared": one_hot_squares}


@once
def accuracies(lab: Lab, loss: str, offset: float) -> Any:
    """Share of the test rows that are right after training by SGD, one a seed."""
    data = digits()
    size = lab.pick(600, 300)
    x, y = data.x[:size], np.eye(10, dtype=np.float32)[data.y[:size]]
    spec = {
        "model": lambda: sure(offset), "optimizer": "sgd", "lr": 0.5, "batch_size": 50,
        "epochs": lab.pick(15, 4), "loss": LOSSES[loss],
    }  # fmt: skip
    fleet = fathom.train_many(spec, x, y, seeds=lab.seeds(8, 3))
    with fathom.no_grad():
        said = [r.model(fathom.tensor(data.test_x)).value().argmax(axis=1) for r in fleet.runs]
    return np.array([(s == data.test_y).mean() for s in said])


STARTS = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0)


@question.figure(T("Learning away from confident mistakes", "从自信的错误中学回来"))
def relearning(lab: Lab) -> Figure:
    """Test accuracy on digits after the same training, by how sure of class 0 the net starts."""
    lines = []
    for loss, name in (
        ("cross", T("cross-entropy", "交叉熵")),
        ("squared", T("squared error", "平方误差")),
    ):
        found = np.array([accuracies(lab, loss, b) for b in STARTS])
        lines.append(Line(name, STARTS, found.mean(axis=1), found.min(axis=1), found.max(axis=1)))
    return Figure(
        Axis(T("bias of class 0 at the start", "初始时第 0 类的偏置")),
        Axis(T("test accuracy", "测试准确率")),
        [*lines, Level(T("chance", "随机水平"), y=0.1)],
        T(
            "From a modest start both learn; from sure and wrong outputs squared error gets "
            "stuck, cross-entropy does not. Bands span the seeds.",
            "从温和的初值出发两者都能学会；从自信而错误的输出出发，平方误差停滞不前，交叉熵则不会。色带为各种子的范围。",
        ),
    )
