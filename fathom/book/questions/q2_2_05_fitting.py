"""2.2.5 Over- and underfitting, and how to tell them from the curves."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Level, Line, Question, Sample, T, at_least,
    at_most, band, once,
)  # fmt: skip
from fathom.models import mlp
from fathom.nn.functional import mse_loss
from fathom.train.learning_curve import diagnose

question = Question(
    "2.2.5",
    title=T(
        "What are over- and underfitting and how do you diagnose them?",
        "什么是过拟合与欠拟合？如何诊断？",
    ),
    difficulty=2,
    frequency=5,
    topics=("overfitting", "underfitting", "learning curve", "validation", "过拟合", "欠拟合", "学习曲线", "验证集"),
    answer=T(
        "A model underfits if it does not even describe the data it was trained on: training and "
        "validation loss both stay high and close together. It overfits if it describes the noise, "
        "too: the training loss goes on towards 0 while the validation loss falls, turns, and "
        "rises. So one looks at both curves: the level of the training loss tells of capacity and "
        "optimization, the gap and the turn of the validation loss tell of generalization. Against "
        "underfitting help a larger model, better features, longer training or less regularization; "
        "against overfitting more data, augmentation, regularization, early stopping or a smaller "
        "model. High losses may also come from a bad learning rate, so test first whether the model "
        "can learn a single batch by heart.",
        "如果模型连训练数据都描述不好，就是欠拟合：训练损失与验证损失都居高不下且彼此接近。如果模型连噪声"
        "也学了进去，就是过拟合：训练损失继续趋近 0，而验证损失先降、后拐头上升。因此要同时看两条曲线："
        "训练损失的高低说明容量与优化，差距和验证损失的拐点说明泛化。欠拟合时可用更大的模型、更好的特征、"
        "更久的训练或更弱的正则化；过拟合时可用更多数据、增广、正则化、早停或更小的模型。损失高也可能是"
        "学习率不当，所以先测试模型能否背下一个批次。",
    ),
    flips=T(
        "With enough data, or clean labels, even a very large model need not overfit.",
        "数据足够多或标签干净时，很大的模型也未必过拟合。",
    ),
    analogy=T(
        "One pupil never opened the book; another learned last year's answers by heart, misprints included.",
        "一个学生没翻过书；另一个把去年的答案连同印刷错误一起背了下来。",
    ),
    generative=T(
        "Language models see most tokens once, so they are rarely overfit in pretraining, easily in fine-tuning.",
        "大语言模型预训练时大多数词元只见一次，很少过拟合；微调时却很容易。",
    ),
    classical=T(
        "Small noisy tables: a boosted tree or a ridge with a tuned penalty, judged by cross-validation.",
        "小而有噪声的表格：用调好惩罚的岭回归或提升树，靠交叉验证评判。",
    ),
    driving=T(
        "A detector that is perfect on the training city and poor in the next one has overfit places.",
        "检测器在训练城市近乎完美、换一座城市就变差，是对地点过拟合。",
    ),
    change=T(
        "Give the large net ten times the rows: its validation loss stops rising.",
        "给大网络十倍的数据：验证损失不再上升。",
    ),
)  # fmt: skip

NOISE, ROWS = 0.5, 30
REGIMES = {
    "underfit": {"hidden": (), "rows": ROWS},
    "good": {"hidden": (64, 64), "rows": 300},
    "overfit": {"hidden": (64, 64), "rows": ROWS},
}


def sine(rng: np.random.Generator, rows: int) -> tuple[Any, Any]:
    """A sine with noise of deviation 0.5, x in [-1, 1] for a phase of 1.5 turns."""
    x = rng.uniform(-1, 1, (rows, 1))
    y = np.sin(1.5 * 2 * np.pi * x) + NOISE * rng.standard_normal((rows, 1))
    return x.astype(np.float32), y.astype(np.float32)


def course(seed: int, hidden: tuple[int, ...], rows: int, epochs: int) -> tuple[Any, Any]:
    """Training and validation loss over the variance of the targets, by epoch of ten steps."""
    rng = np.random.default_rng(seed)
    x, y = sine(rng, rows)
    new_x, new_y = sine(rng, 500)
    with fathom.seed(seed):
        model = mlp(1, 1, hidden, "tanh")
    adam = fathom.optim.Adam(model.parameters(), lr=0.01)
    a, b, c, d = (fathom.tensor(v) for v in (x, y, new_x, new_y))

    @fathom.compile
    def step(rows: Any, targets: Any) -> Any:
        loss = mse_loss(model(rows), targets)
        loss.backward()
        adam.step()
        adam.zero_grad()
        return loss.detach()

    @fathom.compile
    def judge(rows: Any, targets: Any) -> Any:
        return mse_loss(model(rows), targets).detach()

    found = []
    for _ in range(epochs):
        found.append((float(judge(a, b)), float(judge(c, d))))
        for _ in range(10):
            step(a, b)
    train, validation = np.array(found).T / float(new_y.var())
    return train, validation


@once
def courses(lab: Lab, regime: str) -> tuple[Any, Any]:
    """Curves of all seeds, (seeds, epochs) each."""
    settings = REGIMES[regime]
    runs = [course(seed, settings["hidden"], settings["rows"], lab.pick(150, 50))  # type: ignore[arg-type]
            for seed in lab.seeds(30, 3)]  # fmt: skip
    return np.array([r[0] for r in runs]), np.array([r[1] for r in runs])


@question.experiment(
    "C2.2.5-01",
    T(
        "Underfitting shows in training and validation loss that both stay high.",
        "欠拟合表现为训练损失与验证损失都居高不下。",
    ),
    at_least(0.5),
    weight=2,
)
def both_high(lab: Lab) -> Evidence:
    """A straight line on a sine of 1.5 turns: last losses over the variance of the targets.

    At least half of the variance left counts as high; a larger net on 300 rows is the contrast.
    """
    train, validation = courses(lab, "underfit")
    good = courses(lab, "good")
    return All({
        "training": Sample(train[:, -1]),
        "validation": Sample(validation[:, -1]),
        "validation of a fitting net": Check(Sample(good[1][:, -1]), at_most(0.5)),
    })  # fmt: skip


@question.experiment(
    "C2.2.5-02",
    T(
        "Overfitting shows in a training loss near 0 and a validation loss that falls and then rises.",
        "过拟合表现为训练损失接近 0，而验证损失先降后升。",
    ),
    at_least(0.1),
    weight=3,
)
def falls_and_rises(lab: Lab) -> Evidence:
    """64-64 tanh units on 30 noisy rows: rise of the validation loss after its lowest point.

    In units of the variance of the targets; the fall before it, and the last training loss, near
    0 if it is below the variance of the noise by half.
    """
    train, validation = courses(lab, "overfit")
    lowest = validation.min(axis=1)
    share = NOISE**2 / (NOISE**2 + 0.5)
    return All({
        "rise": Sample(validation[:, -1] - lowest),
        "fall": Sample(validation[:, 0] - lowest),
        "training": Check(Sample(train[:, -1]), at_most(share / 2)),
    })  # fmt: skip


@question.figure(T("Three regimes", "三种情形的曲线"))
def curves(lab: Lab) -> Figure:
    """Training and validation loss of a line, a net on 300 rows, the same net on 30."""
    lines = []
    words = {"underfit": "欠拟合", "good": "正好", "overfit": "过拟合"}
    for regime, word in words.items():
        for values, en, zh in zip(courses(lab, regime), ("training", "validation"),
                                  ("训练", "验证"), strict=True):  # fmt: skip
            at = [Sample(column) for column in values.T[::4]]
            lines.append(
                Line(T(f"{regime}, {en}", f"{word}，{zh}"), np.arange(len(at)) * 40, *band(at))
            )
    return Figure(
        Axis(T("step", "步数")),
        Axis(T("loss over variance", "损失（占方差比例）")),
        [*lines, Level(T("the noise", "噪声水平"), y=NOISE**2 / (NOISE**2 + 0.5))],
        T(
            "Underfit: both stay high. Good: both settle at the noise. Overfit: training goes below "
            "the noise while validation turns and rises.",
            "欠拟合：两者都高。正好：两者都停在噪声水平。过拟合：训练损失降到噪声以下，验证损失拐头上升。",
        ),
    )


@question.figure(T("What the curves are called", "诊断器对曲线的判断"))
def labels(lab: Lab) -> Figure:
    """Share of runs that `diagnose` calls by each name, for the three planted regimes."""
    kinds = ("underfit", "good", "overfit", "improving", "diverging")
    names = {"underfit": T("underfit", "欠拟合"), "good": T("good", "正好"),
             "overfit": T("overfit", "过拟合")}  # fmt: skip
    ticks = [*names.values(), T("improving", "仍在改进"), T("diverging", "发散")]
    bars, right = [], {}
    for regime, name in names.items():
        said = [
            diagnose(train, validation, baseline=1.0).kind
            for train, validation in zip(*courses(lab, regime), strict=True)
        ]
        bars.append(Bars(name, [said.count(kind) / len(said) for kind in kinds]))
        right[f"{regime}: share called so"] = said.count(regime) / len(said)
    return Figure(
        Axis(T("said by the doctor", "诊断结果"), ticks=ticks),
        Axis(T("share of runs", "占比")),
        bars,
        T(
            "From the two curves alone nearly every run is called what was planted.",
            "仅凭两条曲线，几乎每次运行都被判为预设的情形。",
        ),
        right,
    )
