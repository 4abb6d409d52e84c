"""3.4.1 The task decides the last activation, and hardly the hidden ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import fathom
from fathom import nn
from fathom.activations import choose
from fathom.book import Axis, Bars, Figure, Heat, Lab, Question, Sample, T, once
from fathom.nn import functional as F

question = Question(
    "3.4.1",
    title=T("How to choose activations by task type?", "如何按任务类型选择激活函数？"),
    difficulty=2,
    frequency=5,
    topics=("output layer", "activation choice", "loss", "输出层", "任务类型", "激活函数选型"),
    answer=T(
        "The task fixes the activation of the last layer; the architecture fixes the hidden ones. "
        "Ask which values the target can take and which distribution it has: one yes or no takes a "
        "sigmoid, one of several classes a softmax, several independent labels a sigmoid each, a "
        "share between two bounds a scaled sigmoid, a count an exponential (or softplus), any real "
        "number the identity. The loss is the negative log-likelihood of the same distribution, "
        "computed from the logits. A range that is too wide gives impossible answers, such as negative "
        "probabilities; one that is too narrow cannot reach the target at all, as tanh for "
        "counts. A wrong coupling between outputs is as bad: softmax on a single output is the constant "
        "1, and on independent labels it forces a sum of 1. A range that is merely too wide costs more "
        "sense than accuracy: in the experiment the error about doubles at worst, and for counts it does "
        "not change.",
        "任务决定最后一层的激活函数，架构决定隐藏层的激活函数。先问目标能取哪些值、服从什么分布："
        "单个是非判断用 sigmoid，多类互斥用 softmax，多个独立标签各用一个 sigmoid，有上下界的比例用"
        "缩放后的 sigmoid，计数用指数（或 softplus），任意实数用恒等。损失取同一分布的负对数似然，"
        "直接由 logits 计算。值域过宽会给出不可能的答案，例如负的概率；值域过窄则根本够不到目标，"
        "例如用 tanh 预测计数。输出之间的耦合错了同样糟糕：单个输出上的 softmax 恒为 1，"
        "用在独立标签上则强迫它们之和为 1。值域仅仅过宽，损失的与其说是精度，不如说是合理性："
        "实验中误差最多约翻一倍，计数任务上则没有差别。",
    ),
    flips=T(
        "With answers far from the bounds a linear output with squared error gives nothing impossible "
        "either, and comes closer: the mean is the mean under either loss.",
        "答案远离边界时，线性输出加平方误差也不会给出不可能的值，差距随之缩小：两种损失求的都是均值。",
    ),
    analogy=T(
        "A measuring instrument: first make sure that its scale covers what is to be measured, and "
        "ends where that ends.",
        "像选量具：先看刻度能否覆盖被测的量，并且止于该止之处。",
    ),
    generative=T(
        "A language model's next token is one of many classes: softmax. A decoder of pixels in "
        "[-1, 1] takes tanh, a variance takes exp.",
        "语言模型的下一个词元是多类之一：softmax。输出 [-1, 1] 像素的解码器用 tanh，方差用 exp。",
    ),
    classical=T(
        "Generalized linear models: logistic, multinomial and Poisson regression are exactly these "
        "last layers.",
        "广义线性模型：逻辑回归、多项回归、泊松回归正是这些输出层。",
    ),
    driving=T(
        "One detector holds several heads: sigmoid for objectness, softmax for the class, exp for "
        "width and height, identity for offsets.",
        "一个检测器有多个头：目标性用 sigmoid，类别用 softmax，宽高用 exp，偏移用恒等。",
    ),
    change=T(
        "Multiply `score` in `drawn` by 0.2: the answers leave the bounds, and identity with squared "
        "error has no impossible ones any more.",
        "把 `drawn` 中的 `score` 乘以 0.2：答案都远离边界，恒等加平方误差不再给出不可能的值。",
    ),
)

Array = NDArray[Any]
ROWS, SEEN = 2000, 800
WAYS = ("identity", "tanh", "relu", "sigmoid", "softmax", "exponential")
TASKS = ("binary", "multiclass", "multilabel", "bounded", "counts")
TASK_WORDS = {
    "binary": T("binary", "二分类"), "multiclass": T("classes", "多分类"),
    "multilabel": T("labels", "多标签"), "bounded": T("share", "有界回归"),
    "counts": T("counts", "计数"),
}  # fmt: skip


class Drawn(NamedTuple):
    """Inputs (rows, 2), targets and their true means, (rows, outputs)."""

    x: Array
    y: Array
    mean: Array


def drawn(task: str, rng: np.random.Generator) -> Drawn:
    """Targets whose distribution given x is known, so that the best answer is known too."""
    x = rng.uniform(-2.0, 2.0, (ROWS, 2))
    a, b = x.T
    score = 2.5 * np.sin(1.5 * a) + 1.5 * b
    if task == "multiclass":
        scores = np.column_stack([score, 2.0 * np.cos(2 * b), -score])
        mean = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        chosen = (rng.random((ROWS, 1)) > mean.cumsum(axis=1)).sum(axis=1).clip(0, 2)
        return Drawn(x, np.eye(3)[chosen], mean)
    if task == "multilabel":
        scores = np.column_stack([score, 2.5 * np.cos(1.5 * b) + 1.0, 2.0 * a])
        mean = 1 / (1 + np.exp(-scores))
        return Drawn(x, (rng.random(mean.shape) < mean).astype(float), mean)
    if task == "counts":
        mean = np.exp(0.5 * score + 0.5)[:, None]
        return Drawn(x, rng.poisson(mean).astype(float), mean)
    mean = 1 / (1 + np.exp(-score))[:, None]
    if task == "bounded":
        return Drawn(x, rng.beta(8 * mean, 8 * (1 - mean)), mean)
    return Drawn(x, (rng.random(mean.shape) < mean).astype(float), mean)


def activated(way: str, z: Any) -> Any:
    """What the output layer makes of its logits."""
    if way == "softmax":
        return F.softmax(z, -1)
    return getattr(fathom.activations, way)(z)


def loss_of(way: str) -> Callable[[Any, Any], Any]:
    """The likelihood that goes with the activation; half the squared error where none does."""
    if way == "sigmoid":
        return F.binary_cross_entropy_with_logits
    if way == "softmax":
        return lambda z, y: -(y * F.log_softmax(z, -1)).sum(-1).mean()
    if way == "exponential":
        return F.poisson_nll_loss
    return lambda z, y: ((activated(way, z) - y) ** 2).mean()


def impossible(task: str, said: Array) -> float:
    """Share of rows whose answer no target could have as a mean, by more than 0.02."""
    slack = 0.02
    bad = (said < -slack).any(axis=1)
    if task != "counts":
        bad |= (said > 1 + slack).any(axis=1)
    if task == "multiclass":
        bad |= abs(said.sum(axis=1) - 1) > slack
    return float(bad.mean())


@once
def tried(lab: Lab, task: str, way: str) -> tuple[Sample, Sample]:
    """Unexplained share of the true mean's variance, and share of impossible answers, on new rows."""
    data = drawn(task, lab.rng(task))
    outputs = data.y.shape[1]
    spec = {
        "model": lambda: nn.Sequential(
            nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, outputs)
        ),
        "loss": loss_of(way), "lr": 0.005, "batch_size": 50, "epochs": lab.pick(30, 3),
    }  # fmt: skip
    seeds = lab.seeds(5, 2)
    fleet = fathom.train_many(spec, data.x[:SEEN], data.y[:SEEN], seeds=seeds)
    new, truth = fathom.tensor(data.x[SEEN:].astype(np.float32)), data.mean[SEEN:]
    missed, wrong = [], []
    for run in fleet.runs:
        with fathom.no_grad():
            said = activated(way, run.model(new)).value().astype(np.float64)
        missed.append(((said - truth) ** 2).mean() / truth.var(axis=0).mean())
        wrong.append(impossible(task, said))
    return Sample(missed), Sample(wrong)


def tasks(lab: Lab) -> tuple[str, ...]:
    """All of them, or two when time is short."""
    return lab.pick(TASKS, ("binary", "counts"))


def right(task: str) -> str:
    """The output activation that the library's rules name."""
    return choose("output", task=task).name


@question.figure(T("Five tasks, six output layers", "五种任务与六种输出层"))
def reached(lab: Lab) -> Figure:
    """Targets drawn from known distributions, 800 rows, five seeds, Adam; each activation trains with its own
    likelihood, or with squared error. Unexplained is the squared distance from the true mean over its
    variance on 1,200 new rows: 0 is the best possible, 1 a constant; the picture stops at 1."""
    shown = tasks(lab)
    found = {(t, w): tried(lab, t, w)[0].mean for t in shown for w in WAYS}
    values = [[np.log10(min(found[t, w], 1.0)) for t in shown] for w in WAYS]
    named = {f"{t}: {right(t)}": found[t, right(t)] for t in shown}
    lowest = {
        f"{t}: best of the others": min(found[t, w] for w in WAYS if w != right(t)) for t in shown
    }
    return Figure(
        Axis(T("task", "任务"), ticks=[TASK_WORDS[t] for t in shown]),
        Axis(T("output activation", "输出激活"), ticks=[T(w, w) for w in WAYS]),
        [
            Heat(
                T("log10 of unexplained", "未解释比例的 log10"),
                values,
                (-0.5, len(shown) - 0.5),
                (-0.5, 5.5),
            )
        ],
        T(
            "Softmax fails on single outputs and on independent labels, sigmoid and tanh on counts, and "
            "a ReLU at the end is often dead; the fitting activation is the best one, or level with it.",
            "softmax 在单个输出和独立标签上失败，sigmoid 与 tanh 在计数上失败，末层的 ReLU 常常死亡；"
            "匹配的激活最好，或与最好者持平。",
        ),
        named | lowest,
    )


def bars(name: T, at: list[Sample]) -> Bars:
    """Means with intervals; a share is not below 0."""
    return Bars(name, [s.mean for s in at], [max(s.low, 0.0) for s in at], [s.high for s in at])


@question.figure(T("Impossible answers", "不可能的答案"))
def outside(lab: Lab) -> Figure:
    """Share of new rows whose prediction lies outside the target's range by more than 0.02 (for
    exclusive classes also: whose probabilities do not sum to 1 within 0.02); five seeds."""
    shown = tasks(lab)
    marks = []
    for way in ("identity", "tanh", "relu"):
        at = [tried(lab, t, way)[1] for t in shown]
        marks.append(bars(T(f"{way}, squared error", f"{way}，平方误差"), at))
    at = [tried(lab, t, right(t))[1] for t in shown]
    marks.append(bars(T("the fitting one, likelihood", "匹配的激活，似然损失"), at))
    return Figure(
        Axis(T("task", "任务"), ticks=[TASK_WORDS[t] for t in shown]),
        Axis(T("share of impossible answers", "不可能答案的比例")),
        marks,
        T(
            "Outputs whose range is not the target's promise what cannot be; the fitting "
            "activation never does.",
            "值域与目标不符的输出会给出不可能的值；匹配的激活从不如此。",
        ),
    )
