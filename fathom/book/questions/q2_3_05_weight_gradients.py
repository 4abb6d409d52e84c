"""2.3.5 The gradients of weights and biases: an outer product and the error itself."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Sample, Settings, T, at_most,
    band, equals,
)  # fmt: skip
from fathom.book.material.layers import Passed, by_tape, weights

question = Question(
    "2.3.5",
    title=T(
        "What are the gradient formulas for weights and biases?",
        "权重与偏置的梯度公式是什么？",
    ),
    difficulty=5,
    frequency=5,
    topics=("outer product", "weight gradient", "input scale", "外积", "权重梯度", "输入尺度"),
    answer=T(
        "For one sample dC/dW_l is the outer product delta_l a_{l-1}^T, so entry (i, j) is the error "
        "of unit i times the activation j that fed it; dC/db_l is delta_l itself, as if fed by a "
        "constant 1. Over a batch the products are summed (with a mean loss the mean is in delta "
        "already), which makes one matrix product, and the bias gradient is the sum over the batch. "
        "The outer product has rank one: a batch of B samples gives rank at most B. For a given "
        "delta the weight gradient is proportional to the input, but in a network delta changes with "
        "the input too, through saturation and through the error itself, so scaling the features "
        "does not simply scale the gradient. Badly scaled features still mean badly conditioned "
        "steps, which is why they are standardized.",
        "对单个样本，dC/dW_l 是外积 delta_l a_{l-1}^T，即第 (i, j) 个元素等于神经元 i 的误差乘以供给它的激活 "
        "j；dC/db_l 就是 delta_l 本身，相当于由常数 1 供给。对一个批次则把各样本的外积相加（损失取均值时均值已含在 "
        "delta 里），成为一次矩阵乘法，偏置梯度是沿批次求和。外积的秩为 1：B 个样本的批次秩至多为 B。delta 固定时"
        "权重梯度与输入成正比；但在网络中 delta 也随输入改变，既通过饱和，也通过误差本身，所以放大特征并不只是放大"
        "梯度。特征尺度悬殊仍会造成病态的更新，因此要做标准化。",
    ),
    flips=T(
        "For tiny inputs, where the outputs hardly depend on them, the gradient is proportional to "
        "the input after all.",
        "输入极小、输出几乎不随之变化时，梯度才真正与输入成正比。",
    ),
    analogy=T(
        "A mistake is charged to each helper by how much was in his hands.",
        "一个差错按每个帮手经手的多少来记账。",
    ),
    generative=T(
        "Low-rank adaptation works partly because gradients of few tokens have low rank.",
        "低秩适配之所以有效，部分原因是少量词元的梯度本就低秩。",
    ),
    classical=T(
        "For linear regression it is X^T (Xw - y), the same outer products summed.",
        "线性回归中就是 Xᵀ(Xw - y)，即同样外积之和。",
    ),
    driving=T(
        "Lidar ranges in metres beside reflectances in [0, 1] give gradients a hundred times apart: "
        "normalize both.",
        "激光雷达以米计的距离与 [0, 1] 的反射率并列，梯度相差上百倍：两者都要归一化。",
    ),
    change=T(
        "Hold delta fixed while scaling the input: the line becomes exactly straight with slope 1.",
        "缩放输入时固定 delta：曲线变成斜率恰为 1 的直线。",
    ),
)

WIDTHS = [6, 9, 7, 3]


def passed(lab: Lab, rows: int, scale: float = 1.0, seed: int | None = None) -> Passed:
    """A tanh network's squared error on random rows times `scale`, all gradients by the tape."""
    draw = lab.rng("draw") if seed is None else np.random.default_rng(seed)
    net, x = weights(draw, WIDTHS), scale * draw.standard_normal((rows, WIDTHS[0]))
    y = fathom.tensor(draw.standard_normal((rows, WIDTHS[-1])))
    return by_tape(net, x, lambda a: ((a - y) ** 2).sum() / rows, fathom.tanh, lambda z: z)


def worst(apart: list[Any]) -> float:
    """Largest entry of the arrays."""
    return float(max(np.abs(a).max() for a in apart))


@question.exact(
    "C2.3.5-01",
    T(
        "The gradient of a layer's weights is its error term times its input, transposed.",
        "某层权重的梯度等于其误差项乘以其输入的转置。",
    ),
    at_most(1e-12),
)
def outer_product(lab: Lab) -> Evidence:
    """Largest difference from the automatic gradient over three layers: one sample (outer product),
    a batch of 32 (their sum); and the second singular value over the first for one sample."""
    one, many = passed(lab, 1), passed(lab, 32)
    singular = [np.linalg.svd(g, compute_uv=False) for g in one.matrix]
    return All({
        "one sample": worst([
            np.outer(d[0], a[0]) - g for d, a, g in zip(one.delta, one.a, one.matrix, strict=False)
        ]),
        "batch": worst([
            sum(np.outer(d[i], a[i]) for i in range(32)) - g
            for d, a, g in zip(many.delta, many.a, many.matrix, strict=False)
        ]),
        "second singular value": float(max(s[1] / s[0] for s in singular)),
    })  # fmt: skip


def rerun(lab: Lab, scale: float) -> Sample:
    """Growth of the first layer's weight gradient over that of the input, the net run again."""
    found = []
    for seed in lab.seeds(20, 5):
        before, after = passed(lab, 32, 1.0, seed).matrix[0], passed(lab, 32, scale, seed).matrix[0]
        found.append(float(np.linalg.norm(after) / np.linalg.norm(before) / scale))
    return Sample(found)


@question.experiment(
    "C2.3.5-02",
    T(
        "The scale of the input features scales the weight gradient directly.",
        "输入特征的尺度直接缩放权重的梯度。",
    ),
    equals(1.0, 0.05),
    correction=T(
        "Only for a fixed error term. With inputs 10 times as large the first layer's gradient grows "
        "to {n[net run again]:.0%} of what proportion would give: the error term changes as well.",
        "仅当误差项固定时成立。输入放大 10 倍，第一层梯度只增长到成正比时的 "
        "{n[net run again]:.0%}：误差项也随之改变。",
    ),
    weight=2,
)
def input_scale(lab: Lab) -> Evidence:
    """Growth of the first layer's weight gradient over that of the input, made 10 times as large:
    with the error term of before, and with the network run again."""
    found = passed(lab, 32)
    fixed = np.linalg.norm(found.delta[0].T @ (10 * found.a[0])) / np.linalg.norm(found.matrix[0])
    return Settings(T("the error term", "误差项"), {
        "held fixed": float(fixed / 10),
        "net run again": rerun(lab, 10.0),
    })  # fmt: skip


@question.exact(
    "C2.3.5-03",
    T(
        "The gradient of a layer's biases is its error term (summed over a batch).",
        "某层偏置的梯度就是其误差项（对批次求和）。",
    ),
    at_most(1e-12),
)
def biases(lab: Lab) -> Evidence:
    """Largest difference from the automatic gradient: one sample, and the sum over a batch of 32;
    and the rank-one weight gradient by a constant input 1."""
    one, many = passed(lab, 1), passed(lab, 32)
    by_one = [
        d.T @ np.ones((32, 1)) - b[:, None] for d, b in zip(many.delta, many.bias, strict=True)
    ]
    return All({
        "one sample": worst([d[0] - b for d, b in zip(one.delta, one.bias, strict=True)]),
        "batch": worst([d.sum(axis=0) - b for d, b in zip(many.delta, many.bias, strict=True)]),
        "weight of a constant 1": Check(worst(by_one), at_most(1e-12)),
    })  # fmt: skip


@question.figure(T("Weight gradient against the scale of the input", "权重梯度随输入尺度的变化"))
def scaled(lab: Lab) -> Figure:
    """Norm of the first layer's weight gradient over that at scale 1, tanh network."""
    scales = np.geomspace(0.01, 100, 17)
    rows = []
    for seed in lab.seeds(10, 4):
        base = np.linalg.norm(passed(lab, 32, 1.0, seed).matrix[0])
        rows.append([
            np.log10(np.linalg.norm(passed(lab, 32, float(s), seed).matrix[0]) / base)
            for s in scales
        ])  # fmt: skip
    at = [Sample(column) for column in np.array(rows).T]
    return Figure(
        Axis(T("scale of the input", "输入尺度"), log=True),
        Axis(T("log10 of the gradient's growth", "梯度增长的 log10")),
        [
            Line(T("error term held fixed", "误差项固定"), scales, np.log10(scales)),
            Line(T("net run again", "重新运行网络"), scales, *band(at)),
            Level(T("as at scale 1", "与尺度 1 相同"), y=0.0),
        ],
        T(
            "With the error term held fixed the gradient is proportional to the input; run anew, it "
            "follows for small inputs only and falls behind when units saturate.",
            "误差项固定时梯度与输入成正比；重新运行网络时只在输入很小时如此，神经元饱和后便落后。",
        ),
    )  # fmt: skip


@question.figure(T("Rank of the weight gradient by batch size", "权重梯度的秩随批量的变化"))
def rank(lab: Lab) -> Figure:
    """Numerical rank of the first layer's weight gradient (9 x 6), by number of samples."""
    batches = [1, 2, 3, 4, 5, 6, 8, 12]
    ranks = [np.linalg.matrix_rank(passed(lab, b).matrix[0]) for b in batches]
    return Figure(
        Axis(T("samples in the batch", "批次样本数")),
        Axis(T("rank", "秩")),
        [Line(T("first layer", "第一层"), batches, ranks)],
        T(
            "Each sample adds one rank, up to the smaller side of the matrix.",
            "每个样本贡献一个秩，直到矩阵较短的一边为止。",
        ),
    )
