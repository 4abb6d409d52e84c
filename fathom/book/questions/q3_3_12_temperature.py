"""3.3.12 Temperature: how sharp a softmax is, and what that does to sampling."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import Axis, Figure, Lab, Level, Line, Question, T, once
from fathom.book.material.softmaxes import entropy, library
from fathom.book.material.tiny_language import sentences, transformers

question = Question(
    "3.3.12",
    title=T(
        "What does the temperature do in softmax, and how is it used at inference?",
        "softmax 的温度系数起什么作用？推理时如何使用？",
    ),
    difficulty=3,
    frequency=5,
    topics=("softmax", "temperature", "sampling", "distillation", "温度", "采样", "蒸馏"),
    answer=T(
        "softmax(z/T) divides all differences of scores by T, so every ratio of probabilities is "
        "raised to the power 1/T. For T to 0 it tends to the one-hot argmax (greedy decoding), "
        "for T to infinity to the uniform distribution, and the entropy never falls as T rises. "
        "The order of the tokens stays, so temperature changes nothing under argmax; it matters "
        "where one samples, averages or takes logarithms. At inference low T gives repetitive "
        "but correct text, high T diverse text with errors; top-k or top-p cut the tail that "
        "high T would lift. Fitted on held-out data a single T calibrates a classifier without "
        "touching its accuracy. In distillation T above 1 shows the student how the teacher ranks "
        "the wrong classes; the gradient shrinks by 1/T^2, which the factor T^2 makes good.",
        "softmax(z/T) 把所有得分之差除以 T，即把每对概率之比取 1/T 次幂。T 趋于 0 时趋于独热的 argmax（贪心解码），"
        "T 趋于无穷时趋于均匀分布，熵随 T 升高从不下降。词元的顺序不变，所以用 argmax 时温度毫无影响；"
        "只有在采样、求平均或取对数时才起作用。推理时低 T 的文本重复但正确，高 T 的文本多样但有错；"
        "top-k 或 top-p 切掉高 T 会抬起的尾部。在留出数据上拟合一个 T 即可校准分类器而不影响准确率。"
        "蒸馏时 T 大于 1 让学生看到教师如何给错误类别排序；梯度缩小为 1/T^2，用因子 T^2 补偿。",
    ),
    flips=T(
        "Under argmax, or when scores are compared within one row only, temperature has no "
        "effect at all.",
        "如果只取 argmax，或只在同一行内比较得分，温度完全没有作用。",
    ),
    analogy=T(
        "A cold judge names the winner only; a hot one hands out prizes nearly alike.",
        "冷静的评委只宣布冠军；热心的评委几乎人人有奖。",
    ),
    generative=T(
        "Chat models expose T directly: near 0 for code and facts, around 0.7 to 1 for prose.",
        "对话模型直接开放 T：代码与事实用接近 0，写作用 0.7 到 1 左右。",
    ),
    classical=T(
        "Temperature scaling on a validation set is the simplest calibration of a classifier.",
        "在验证集上做温度缩放是分类器最简单的校准方法。",
    ),
    driving=T(
        "A behaviour predictor's T sets how often rare manoeuvres are sampled in simulation.",
        "行为预测器的 T 决定仿真中罕见动作被采样的频率。",
    ),
    change=T(
        "Sample at T = 0.1 and at T = 2: the share of distinct phrases rises, the share of real "
        "words falls.",
        "分别用 T = 0.1 与 T = 2 采样：不同短语的比例上升，真实单词的比例下降。",
    ),
)

SCORES = np.array([3.0, 2.0, 1.0, 0.5, 0.0])
HEATS = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0)


@question.figure(T("From argmax to uniform", "从 argmax 到均匀"))
def limits(lab: Lab) -> Figure:
    """Entropy and largest probability of five fixed scores, T from 0.01 to 100."""
    heats = np.logspace(-2, 2, 121)
    rows = np.array([library(SCORES, float(t)) for t in heats])
    found = entropy(rows)
    return Figure(
        Axis(T("temperature T", "温度 T"), log=True),
        Axis(T("entropy / log 5, probability", "熵 / log 5，概率")),
        [
            Line(T("entropy / log 5", "熵 / log 5"), heats, found / np.log(5.0)),
            Line(T("largest probability", "最大概率"), heats, rows.max(axis=1)),
            Level(T("uniform", "均匀"), y=0.2),
            Level(T("T = 1", "T = 1"), x=1.0),
        ],
        T(
            "On the left one score takes everything and the entropy is 0; on the right all five "
            "get a fifth. The entropy rises all the way.",
            "左端一个得分独占全部，熵为 0；右端五者各得五分之一。熵一路上升。",
        ),
        {
            "T = 0.01: distance from one-hot": float(np.abs(rows[0] - np.eye(5)[0]).max()),
            "T = 100: distance from uniform": float(np.abs(rows[-1] - 0.2).max()),
            "largest fall of the entropy": float(max(0.0, -np.diff(found).min())),
        },
    )


def sampled(model: Any, start: Any, heat: float, rng: np.random.Generator) -> Any:
    """Token numbers (rows, context) that continue the first 4 of each row, drawn at that T."""
    tokens = start[:, :4].copy()
    for _ in range(start.shape[1] - 4):
        with fathom.no_grad():
            scores = model(fathom.tensor(tokens)).value()[:, -1].astype(np.float64)
        noise = rng.gumbel(size=scores.shape)  # the largest of score / T + noise is a draw
        tokens = np.column_stack([tokens, (scores / heat + noise).argmax(axis=1)])
    return tokens


def judged(tokens: Any) -> tuple[float, float]:
    """Share of whole words that the training text has, and of distinct runs of 6 characters."""
    alphabet = sentences().alphabet
    known = set("".join(alphabet[i] for i in sentences().x.ravel()).replace("\n", " ").split())
    texts = ["".join(alphabet[i] for i in row) for row in tokens]
    words = [w for text in texts for w in text.replace("\n", " ").split(" ")[1:-1] if w]
    runs = [text[i : i + 6] for text in texts for i in range(len(text) - 5)]
    return float(np.mean([w in known for w in words])), len(set(runs)) / len(runs)


@once
def writing(lab: Lab) -> Any:
    """(seeds, heats, 2): known words and distinct runs of what trained networks write."""
    fleet = transformers(
        lab.seeds(5, 2), "gelu", rate=8e-3, epochs=lab.pick(24, 2), rows=lab.pick(None, 128)
    )
    start = sentences().test_x[: lab.pick(64, 16)]
    found = []
    for i, run in enumerate(fleet.runs):
        rng = lab.rng(f"draws {i}")
        found.append([judged(sampled(run.model, start, heat, rng)) for heat in HEATS])
    return np.array(found)


@question.figure(T("What a character model writes", "字符模型写出的文本"))
def text(lab: Lab) -> Figure:
    """Two-layer Transformers on characters, sampled at ten temperatures from 64 beginnings."""
    found = writing(lab)
    names = (T("real words", "真实单词"), T("distinct runs of 6", "不同的 6 字符片段"))
    return Figure(
        Axis(T("temperature T", "温度 T")),
        Axis(T("share", "比例")),
        [
            Line(name, HEATS, found[:, :, i].mean(axis=0), found[:, :, i].min(axis=0),
                 found[:, :, i].max(axis=0))
            for i, name in enumerate(names)
        ],
        T(
            "Cold text repeats itself and is mostly well spelt; hot text is ever new and ever less made "
            "of words. Bands span the trained networks.",
            "低温文本重复但大多拼写正确；高温文本总是新的，却越来越不成词。色带为各训练网络的范围。",
        ),
    )  # fmt: skip
