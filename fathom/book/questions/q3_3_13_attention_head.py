"""3.3.13 Softmax in attention and softmax in the classification head."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import Axis, Figure, Lab, Level, Line, Question, T, once
from fathom.book.material.data import digits
from fathom.book.material.softmaxes import entropy, shifted
from fathom.book.material.stacks import stack

question = Question(
    "3.3.13",
    title=T(
        "How does softmax differ between attention and the classification head?",
        "注意力中的 softmax 与分类头中的 softmax 有什么不同？",
    ),
    difficulty=4,
    frequency=4,
    topics=("softmax", "attention", "scaling", "注意力", "分类头", "缩放"),
    answer=T(
        "The function is the same; what goes in and what is done with the result differ. In the "
        "head it runs over a fixed set of classes, once a sample, and its output is the answer: "
        "it meets a logarithm and a label, so the gradient is p - y and does not vanish for a "
        "confident mistake. In attention it runs over the positions of the sequence, once for "
        "each query and head, and its output is an intermediate weight: the gradient passes "
        "through the Jacobian diag(p) - p p^T with nothing to cancel it, so a saturated row "
        "stops learning. That is why its scores are divided by sqrt(d): dot products of d "
        "independent unit-variance terms have variance d, and without the division the rows "
        "turn nearly one-hot as d grows. Attention masks some positions with -inf and its number "
        "of terms changes with the length; the head has neither.",
        "函数相同；不同的是输入与结果的用途。分类头中它在固定的类别集合上进行，每个样本一次，输出就是答案："
        "它后面接对数与标签，梯度是 p - y，自信的错误也不会使梯度消失。注意力中它在序列的各位置上进行，"
        "每个查询、每个头一次，输出是中间权重：梯度要穿过雅可比 diag(p) - p p^T 而没有东西与之相消，"
        "所以饱和的行会停止学习。这就是得分要除以 sqrt(d) 的原因：d 个独立、单位方差的项之点积方差为 d，"
        "不除的话随着 d 增大各行会近乎独热。注意力用 -inf 掩码某些位置，项数随长度变化；分类头两者都没有。",
    ),
    flips=T(
        "Once queries and keys are normalized (QK-norm), the scores no longer grow with d and "
        "the factor 1/sqrt(d) is replaced by a learnt scale.",
        "如果查询与键已归一化（QK-norm），得分不再随 d 增长，1/sqrt(d) 由可学习的尺度取代。",
    ),
    analogy=T(
        "The head announces an election result; attention splits a budget that others go on to "
        "spend.",
        "分类头是公布选举结果；注意力是分配预算，之后还有人去花。",
    ),
    generative=T(
        "Long contexts spread attention over more terms; some models raise the scale with log n "
        "to keep the rows sharp.",
        "长上下文把注意力摊到更多项上；有些模型让尺度随 log n 增大以保持各行的尖锐。",
    ),
    classical=T(
        "Kernel smoothing is attention with fixed scores: its bandwidth is the temperature.",
        "核平滑就是得分固定的注意力：带宽就是温度。",
    ),
    driving=T(
        "In a bird's-eye-view fusion, attention says where to look, the head says what is there; "
        "only the second needs calibration.",
        "鸟瞰融合中，注意力决定看哪里，分类头决定那里是什么；只有后者需要校准。",
    ),
    change=T(
        "Drop the 1/sqrt(d) and go from d = 8 to 1024: the rows turn one-hot and the Jacobian "
        "shrinks.",
        "去掉 1/sqrt(d) 并把 d 从 8 增到 1024：各行变成独热，雅可比缩小。",
    ),
)

DIMENSIONS = (8, 16, 32, 64, 128, 256, 512, 1024)
KEYS = 64


@once
def rows(lab: Lab, d: int, scaled: bool) -> Any:
    """Attention rows (seeds, 64 queries, 64 keys) of normal queries and keys of width d."""
    found = []
    for seed in lab.seeds(10, 3):
        rng = np.random.default_rng(seed)
        q, k = rng.standard_normal((2, KEYS, d))
        found.append(shifted(q @ k.T * (d**-0.5 if scaled else 1.0)))
    return np.array(found)


def jacobian_norm(p: Any) -> Any:
    """Frobenius norm of diag(p) - p p^T along the last axis: sum p^2 - 2 sum p^3 + (sum p^2)^2."""
    squares = (p**2).sum(axis=-1)
    return np.sqrt(np.maximum(squares - 2 * (p**3).sum(axis=-1) + squares**2, 0.0))


def line(name: T, found: Any) -> Line:
    """A line over the dimensions from (dimensions, seeds), the band spans the seeds."""
    return Line(name, DIMENSIONS, found.mean(axis=1), found.min(axis=1), found.max(axis=1))


WAYS = ((True, T("with 1/sqrt(d)", "有 1/sqrt(d)")), (False, T("without", "无缩放")))


@question.figure(T("Entropy of the attention rows", "注意力各行的熵"))
def sharpness(lab: Lab) -> Figure:
    """Entropy over log n of rows over 64 keys, queries and keys normal with variance 1; beside it
    the head of a network trained on digits, on test rows."""
    lines = [
        line(name, np.array([entropy(rows(lab, d, on)).mean(axis=1) for d in DIMENSIONS]) / np.log(KEYS))
        for on, name in WAYS
    ]  # fmt: skip
    head = float(heads(lab)[-1].mean())
    return Figure(
        Axis(T("width d", "宽度 d"), log=True),
        Axis(T("entropy / log n", "熵 / log n")),
        [*lines, Level(T("trained digit classifier", "训练好的数字分类头"), y=head)],
        T(
            "With the scale the rows stay soft at any width; without it they become nearly "
            "one-hot. A trained classifier is meant to be as sure as that.",
            "有缩放时各行在任何宽度下都保持柔和；没有时近乎独热。而训练好的分类头本就应该如此确信。",
        ),
    )


@question.figure(T("How much gradient passes", "能通过多少梯度"))
def passing(lab: Lab) -> Figure:
    """Median over the rows of the Frobenius norm of the softmax's Jacobian, 64 keys."""
    lines = [
        line(name, np.array([np.median(jacobian_norm(rows(lab, d, on)), axis=1) for d in DIMENSIONS]))
        for on, name in WAYS
    ]  # fmt: skip
    return Figure(
        Axis(T("width d", "宽度 d"), log=True),
        Axis(T("norm of the Jacobian (median row)", "雅可比的范数（中位行）"), log=True),
        lines,
        T(
            "With the scale the norm does not depend on d. Without it, it first is larger (fewer "
            "keys share the weight), then falls by orders of magnitude as the rows saturate.",
            "有缩放时范数与 d 无关。没有缩放时先是更大（权重集中于少数键），随后因饱和而下降几个数量级。",
        ),
    )


EPOCHS = (1, 2, 4, 8, 16, 32)


@once
def heads(lab: Lab) -> Any:
    """Entropy over log 10 of a digit classifier's outputs on test rows, (epochs, seeds)."""
    data, found = digits(), []
    for epochs in EPOCHS:
        spec = {
            "model": lambda: stack(64, 10, 32, 1),
            "epochs": epochs,
            "batch_size": 64,
            "lr": 3e-3,
        }
        fleet = fathom.train_many(spec, data.x, data.y, seeds=lab.seeds(6, 3))
        with fathom.no_grad():
            scores = [r.model(fathom.tensor(data.test_x)).value() for r in fleet.runs]
        found.append([entropy(shifted(s)).mean() / np.log(10.0) for s in scores])
    return np.array(found)


@question.figure(T("The head grows sure by itself", "分类头自己变得确信"))
def training(lab: Lab) -> Figure:
    """Entropy of the outputs on test rows after 1 to 32 epochs, digits, a hidden layer of 32."""
    found = heads(lab)
    soft = entropy(rows(lab, 64, True)).mean() / np.log(KEYS)
    return Figure(
        Axis(T("epochs", "训练轮数"), log=True),
        Axis(T("entropy / log n", "熵 / log n")),
        [
            Line(T("classification head", "分类头"), EPOCHS, found.mean(axis=1), found.min(axis=1),
                 found.max(axis=1)),
            Level(T("scaled attention at the start", "初始时带缩放的注意力"), y=float(soft)),
        ],
        T(
            "Cross-entropy rewards certainty, so the head's entropy falls with every epoch. Bands "
            "span the seeds.",
            "交叉熵奖励确信，所以分类头的熵逐轮下降。色带为各种子的范围。",
        ),
    )  # fmt: skip
