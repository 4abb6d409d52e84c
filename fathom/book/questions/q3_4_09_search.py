"""3.4.9 Searching for activations: three strategies, one budget, and whether finds transfer."""

from __future__ import annotations

import numpy as np

from fathom import activations
from fathom.activations import grammar
from fathom.book import Axis, Bars, Figure, Lab, Level, Line, Question, Sample, T, band, once
from fathom.train.activation_search import Candidate, Problem, search

question = Question(
    "3.4.9",
    title=T(
        "Can activations be found automatically by NAS?",
        "能否用 NAS 自动搜索激活函数？",
    ),
    difficulty=4,
    frequency=2,
    topics=("nas", "activation search", "swish", "evolution", "reinforce", "架构搜索", "激活函数搜索"),
    answer=T(
        "Yes: Ramachandran, Zoph and Le (2017) searched formulas made of unary and binary functions, "
        "exhaustively for small ones and with a recurrent controller trained by reinforcement for "
        "larger ones, scored by training a small network, and found x sigmoid(beta x). The space is "
        "small: 20 unary and 8 binary functions give 3,200 formulas of one unit, many of them equal. "
        "So random search is a strong baseline: after 32 trials evolution and REINFORCE are ahead of "
        "it by less than the scatter here. The score is noisy, and its maximum "
        "over many trials is biased upwards: retest the best on new seeds and data. What wins on one "
        "task may be made for it: here the ten best on spirals (most with a cosine or sine) stay "
        "ahead of ReLU on other sets in the plane, and most fall behind it on iris and digits. So a "
        "find counts only after it has held on tasks it was not searched on; that test left Swish, "
        "and few others.",
        "可以。Ramachandran、Zoph 与 Le（2017）在由一元和二元函数组成的公式中搜索：小公式穷举，大公式用强"
        "化学习训练的循环控制器，以小网络的训练结果打分，找到了 x sigmoid(beta x)。这个空间不大：20 个一元"
        "和 8 个二元函数只给出 3200 个单层公式，其中不少等价。因此随机搜索是很强的基线：在这里试验 "
        "32 次后，进化和 REINFORCE 的领先小于波动。评分有噪声，多次试验取最大值又会偏高，所以要用新的种子和数据"
        "复测。在一个任务上胜出的公式可能只适合那类数据：在这里，螺旋数据上的前十名（多含余弦或正弦）在"
        "其他平面数据上仍领先 ReLU，在鸢尾花和数字上则大多落后。只有在未参与搜索的任务上仍成立才算数。经过"
        "这种检验留下来的是 Swish，别的寥寥无几。",
    ),
    flips=T(
        "For one fixed task with a large budget of inference, a function made for it is a gain, not "
        "overfitting: sines in coordinate networks.",
        "若任务固定且推理量很大，为它定制的函数就是收益而非过拟合：例如坐标网络中的正弦。",
    ),
    analogy=T(
        "Breeding a rose for one garden: the champion there may not survive in the next.",
        "为某个花园培育玫瑰：那里的冠军在邻家未必能活。",
    ),
    generative=T(
        "Primer's search over whole language-model programs came back with squared ReLU.",
        "Primer 在整个语言模型程序上搜索，找到的是平方 ReLU。",
    ),
    classical=T(
        "Symbolic regression is the same search with data points in the place of trained networks.",
        "符号回归是同样的搜索，只是把训练网络换成了拟合数据点。",
    ),
    driving=T(
        "Searches for vehicle chips put the measured latency into the score, and end with ReLU or "
        "hard-swish.",
        "面向车载芯片的搜索把实测延迟放进评分，结果往往是 ReLU 或 hard-swish。",
    ),
    change=T(
        "Leave sine, cosine and the bell out of the grammar: the lead over ReLU on spirals shrinks.",
        "从语法中去掉正弦、余弦和钟形函数：在螺旋数据上相对 ReLU 的领先会缩小。",
    ),
)  # fmt: skip

STRATEGIES = {
    "random": T("random", "随机"), "evolution": T("evolution", "进化"),
    "reinforce": T("REINFORCE", "REINFORCE"),
}  # fmt: skip
HIDDEN, STEPS, FRESH = (12, 12), 60, 770_077  # FRESH: seed of weights and data no search has used
TASKS = {
    "spirals": T("spirals, new", "螺旋（新数据）"), "moons": T("moons", "双月"),
    "checkerboard": T("checkerboard", "棋盘"), "iris": T("iris", "鸢尾花"),
    "digits": T("digits", "数字"),
}  # fmt: skip


@once
def found(lab: Lab, strategy: str) -> list[tuple[Candidate, ...]]:
    """What each search on spirals tried, best first, one search a seed."""
    return [
        search(
            strategy, "spirals", trials=lab.pick(32, 6), hidden=HIDDEN, steps=lab.pick(STEPS, 15),
            seeds=2, top=1, repeats=2, seed=seed,
        ).candidates
        for seed in lab.seeds(4, 2)
    ]  # fmt: skip


@question.figure(T("Best score against the number of trials", "最佳得分随试验次数的变化"))
def budget(lab: Lab) -> Figure:
    """Four searches each on spirals; a score is the geometric mean probability of the right class,
    two networks of 12-12 units and 60 steps; bands over searches."""
    lines = []
    for strategy, name in STRATEGIES.items():
        order = [sorted(c, key=lambda one: one.trial) for c in found(lab, strategy)]
        best = np.array([np.maximum.accumulate([one.score for one in run]) for run in order])
        at = [Sample(column) for column in best.T]
        lines.append(Line(name, np.arange(1, len(at) + 1), *band(at)))
    relu = float(Problem("spirals", HIDDEN, STEPS).scores(activations.relu, 8, FRESH).mean())
    return Figure(
        Axis(T("formulas tried", "已试公式数")),
        Axis(T("best score so far", "目前最佳得分")),
        [*lines, Level(T("ReLU", "ReLU"), y=relu)],
        T(
            "Every strategy passes ReLU within a few formulas. Evolution, which draws its first twelve "
            "at random, is a little ahead afterwards; the bands overlap, so random search is hard to "
            "beat at this budget.",
            "各种策略试几个公式就超过 ReLU。进化的前十二个公式也是随机抽取，之后略微领先；误差带重叠，可见在"
            "这一预算下随机搜索很难被超越。",
        ),
    )


@once
def winners(lab: Lab) -> list[Candidate]:
    """The ten best different formulas of all searches."""
    best: dict[grammar.Genome, Candidate] = {}
    for strategy in STRATEGIES:
        for candidates in found(lab, strategy):
            for one in candidates:
                known = best.get(one.genome)
                if known is None or one.score < known.score:  # the less lucky of two scores
                    best[one.genome] = one
    return sorted(best.values(), key=lambda one: -one.score)[: lab.pick(10, 3)]


@question.figure(T("Do the winners hold elsewhere?", "胜者换个任务还成立吗？"))
def transfer(lab: Lab) -> Figure:
    """The ten best formulas of all searches on spirals, with SiLU beside them: score less that of
    ReLU from the same first weights, new data, four networks each; bands over formulas (SiLU: over
    networks)."""
    tasks = lab.pick(tuple(TASKS), ("spirals", "moons"))
    best: list[Sample] = []
    silu: list[Sample] = []
    ahead: dict[str, float] = {}
    for task in tasks:
        problem = Problem(task, HIDDEN, lab.pick(STEPS, 15))
        base = problem.scores(activations.relu, 4, FRESH, FRESH)
        gains = np.array([
            (problem.scores(one.formula, 4, FRESH, FRESH) - base).mean() for one in winners(lab)
        ])  # fmt: skip
        best.append(Sample(gains))
        silu.append(Sample(problem.scores(activations.silu, 4, FRESH, FRESH) - base))
        ahead[f"share of the winners ahead of ReLU, {task}"] = float((gains > 0.0).mean())
    marks = [
        Bars(name, *band(at))
        for name, at in ((T("ten winners", "十个胜者"), best), (T("SiLU", "SiLU"), silu))
    ]
    return Figure(
        Axis(T("task", "任务"), ticks=[TASKS[task] for task in tasks]),
        Axis(T("score less ReLU's", "得分减 ReLU 的得分")),
        [*marks, Level(T("ReLU", "ReLU"), y=0.0)],
        T(
            "The winners stay ahead of ReLU on other tasks in the plane; on iris and digits most fall "
            "behind it: they suit the kind of data they were chosen on. SiLU stays near ReLU "
            "throughout.",
            "胜者在其他平面任务上仍领先 ReLU，在鸢尾花和数字上则大多落后：它们适合的是选出它们的那类数据。"
            "SiLU 始终与 ReLU 相近。",
        ),
        ahead,
    )
