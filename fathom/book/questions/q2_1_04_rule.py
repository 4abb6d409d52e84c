"""2.1.4 Where the perceptron's learning rule comes from."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_most,
    band, equals, once, true,
)  # fmt: skip
from fathom.book.material.planes import learn, planted
from fathom.models import Perceptron, augment, perceptron_criterion, widest_margin

question = Question(
    "2.1.4",
    title=T(
        "Where does the perceptron learning rule come from?",
        "感知机的学习规则从何而来？",
    ),
    difficulty=4,
    frequency=3,
    topics=("perceptron", "sgd", "loss", "subgradient", "感知机", "随机梯度下降", "损失函数"),
    answer=T(
        "The number of mistakes is piecewise constant, so it has no useful gradient. The perceptron "
        "criterion, the sum of -y (w . x + b) over the misclassified samples, is the surrogate: "
        "not a count, but how far wrong they are in units of ||w||. Its gradient is -sum y x for "
        "the weights and -sum y for the bias, so one step of stochastic gradient descent on one "
        "mistake is w += eta y x, b += eta y. That raises y (w . x + b) of this sample by "
        "exactly eta (||x||^2 + 1), whatever becomes of the others. A single update may turn w away "
        "from a good w*; what grows each time is the product w . w*, and as ||w|| grows "
        "only like the square root of the updates, their number is at most (R / gamma)^2, with the "
        "bias counted as a weight on a constant input.",
        "错误个数是分段常数，没有可用的梯度。感知机准则，即误分类样本上 -y(w·x + b) 之和，是它的替代："
        "它不是计数，而是以 ||w|| 为单位度量错得有多远。它对权重的梯度是 -Σyx，对偏置是 -Σy，"
        "因此对一个错分样本做一步随机梯度下降就是 w += ηyx、b += ηy。这使该样本的 y(w·x + b) 恰好增加 "
        "η(||x||² + 1)，对其他样本则没有保证。单次更新可能使 w 偏离理想的 w*；每次必然增长的是内积 w·w*，"
        "而 ||w|| 至多按更新次数的平方根增长，所以更新次数不超过 (R/γ)²，"
        "其中偏置要算作常数输入上的权重。",
    ),
    flips=T(
        "With weights that start away from zero, or labels 0 and 1 in the criterion, the "
        "equivalences below hold only up to a factor or not at all.",
        "如果权重不从零开始，或准则中标签取 0/1，下面的等价只差一个倍数，或根本不成立。",
    ),
    analogy=T(
        "A student who studies only the questions answered wrongly, and each with equal effort.",
        "一个只复习错题、且每道错题花同样力气的学生。",
    ),
    generative=T(
        "Preference losses likewise push up the score of what was judged too low, but weight each "
        "pair by how wrong it is.",
        "偏好损失同样抬高被低估者的得分，只是按错的程度给每一对加权。",
    ),
    classical=T(
        "Put max(0, 1 - y f) in place of max(0, -y f) and it becomes the support vector machine's "
        "hinge.",
        "把 max(0, -yf) 换成 max(0, 1 - yf)，就成了支持向量机的合页损失。",
    ),
    driving=T(
        "Hard-example mining keeps the idea: learn from the frames the detector got wrong.",
        "难例挖掘沿用了这一思想：从检测器判错的帧中学习。",
    ),
    change=T(
        "Start from random weights in place of zeros: the two printed forms take different paths.",
        "把起点从零改成随机权重：两种写法走出不同的轨迹。",
    ),
)


def at_a_mistake(lab: Lab) -> tuple[Any, Any, Any, float]:
    """A row, its label, and weights and bias that misclassify it."""
    rng = lab.rng("mistake")
    x, w, b = rng.normal(size=3), rng.normal(size=3), float(rng.normal())
    return x, -np.sign(x @ w + b), w, b


def criterion_step(x: Any, y: Any, w: Any, b: float) -> Any:
    """Minus the gradient of the criterion in (b, w) at one row, by automatic differentiation."""
    p = fathom.tensor(np.append(b, w), requires_grad=True)
    row = fathom.tensor(augment(x[None]))
    perceptron_criterion(row @ p, fathom.tensor(np.array([float(y)])), "sum").backward()
    return -p.grad.value()


def step_ratio(lab: Lab, levels: tuple[int, int]) -> Routes:
    """Length of the difference form's step over the criterion's, at one mistake."""
    x, y, w, b = at_a_mistake(lab)
    run = learn(x[None], [y], start=np.append(b, w), difference=True, levels=levels, epochs=1)
    step = run.path[1] - run.path[0]
    by_hand = y * np.append(1.0, x)
    return Routes({
        "autodiff": float(step @ criterion_step(x, y, w, b) / (by_hand @ by_hand)),
        "by hand": float(step @ by_hand / (by_hand @ by_hand)),
    })  # fmt: skip


@question.exact(
    "C2.1.4-01",
    T(
        "The rule w += eta (y - prediction) x is the perceptron rule.",
        "规则 w += η(y - 预测值)x 就是感知机规则。",
    ),
    equals(1.0, 1e-3),
    correction=T(
        "With labels 0 and 1 it is the gradient step on the criterion; with labels -1 and 1 it is "
        "{n[labels -1 and 1/autodiff]:.0f} times that step.",
        "标签取 0/1 时它就是准则上的梯度步；标签取 ±1 时它是该步的 "
        "{n[labels -1 and 1/autodiff]:.0f} 倍。",
    ),
)
def headline(lab: Lab) -> Evidence:
    """Its step at a mistake over -eta times the gradient of the criterion."""
    return Settings(
        T("labels", "标签"),
        {
            "labels 0 and 1": step_ratio(lab, (0, 1)),
            "labels -1 and 1": step_ratio(lab, (-1, 1)),
        },
    )


@question.exact(
    "C2.1.4-02",
    T(
        "The criterion, the sum of -y (w . x + b) over misclassified samples, is the number of "
        "misclassified samples.",
        "准则（误分类样本上 -y(w·x + b) 之和）等于误分类样本的个数。",
    ),
    equals(1.0, 1e-3),
    correction=T(
        "It measures how far wrong they are: on random data {n[NumPy/w]:.2f} times the count, "
        "and with w and b ten times as long {n[NumPy/10 w]:.1f} times, though the same samples are "
        "wrong.",
        "它度量错得多远：在随机数据上是个数的 {n[NumPy/w]:.2f} 倍；w 和 b 放大十倍后是 "
        "{n[NumPy/10 w]:.1f} 倍，而错分的样本一个没变。",
    ),
    weight=2,
)
def not_a_count(lab: Lab) -> Evidence:
    """The criterion over the number of mistakes, 50 random points: by NumPy and by the library."""
    rng = lab.rng("points")
    x, y = rng.normal(size=(50, 2)), np.sign(rng.normal(size=50))
    found: dict[str, dict[str, float]] = {"NumPy": {}, "library": {}}
    w, b = rng.normal(size=2), 0.3
    for name, k in (("w", 1.0), ("10 w", 10.0)):
        scores = k * (x @ w + b)
        wrong = y * scores < 0
        loss = perceptron_criterion(fathom.tensor(scores), fathom.tensor(y), "sum").item()
        found["NumPy"][name] = float((-y * scores)[wrong].sum() / wrong.sum())
        found["library"][name] = loss / float((np.sign(scores) != y).sum())
    return Routes({route: All(values) for route, values in found.items()})


@question.exact(
    "C2.1.4-03",
    T(
        "Its gradient is -sum y x for the weights and -sum y for the bias, over the misclassified.",
        "其梯度对权重是 -Σyx，对偏置是 -Σy（对误分类样本求和）。",
    ),
    at_most(1e-6),
)
def gradient(lab: Lab) -> Evidence:
    """Largest difference from central differences and from automatic differentiation."""
    rng = lab.rng("rows")
    rows, y = augment(rng.normal(size=(50, 4))), np.sign(rng.normal(size=50))
    p = rng.normal(size=5)
    wrong = y * (rows @ p) < 0
    formula = -(y[wrong, None] * rows[wrong]).sum(axis=0)

    def loss(at: Any) -> float:
        return float(np.maximum(-y * (rows @ at), 0).sum())

    steps = 1e-7 * np.eye(5)
    differences = np.array([(loss(p + s) - loss(p - s)) / 2e-7 for s in steps])
    q = fathom.tensor(p, requires_grad=True)
    perceptron_criterion(fathom.tensor(rows) @ q, fathom.tensor(y), "sum").backward()
    return All({
        "differences": float(np.abs(differences - formula).max()),
        "autodiff": float(np.abs(q.grad.value() - formula).max()),
    })  # fmt: skip


@once
def both_forms(lab: Lab, levels: tuple[int, int]) -> Any:
    """Length of all the corrections of the difference form over the label form's, from zero."""
    ratios = []
    for seed in lab.seeds(40, 8):
        data = planted(np.random.default_rng(seed), 40, 2, 0.05)
        paths = [learn(data.x, data.y, difference=d, levels=levels).path for d in (False, True)]
        ratios.append(np.linalg.norm(paths[1][1:]) / np.linalg.norm(paths[0][1:]))
    return np.array(ratios)


@once
def library_forms(lab: Lab, levels: tuple[int, int]) -> Any:
    """The same by the library's perceptron."""
    ratios = []
    for seed in lab.seeds(40, 8):
        data = planted(np.random.default_rng(seed), 40, 2, 0.05)
        runs = [Perceptron(rule=r, levels=levels).fit(data.x, data.y)
                for r in ("label", "difference")]  # fmt: skip
        paths = [np.array(run.trajectory[1:]) for run in runs]
        ratios.append(np.linalg.norm(paths[1]) / np.linalg.norm(paths[0]))
    return np.array(ratios)


@question.experiment(
    "C2.1.4-04",
    T(
        "The form with (y - prediction) is equivalent to the form with y.",
        "含 (y - 预测值) 的形式与含 y 的形式等价。",
    ),
    equals(1.0, 1e-3),
    correction=T(
        "For labels 0 and 1 the weights agree at every update; for labels -1 and 1 they are "
        "{n[labels -1 and 1/by hand]:.2f} times as long (the same plane from zero weights, and a "
        "rate that means something else).",
        "标签取 0/1 时每次更新后权重都一致；取 ±1 时权重长度是 {n[labels -1 and 1/by hand]:.2f} 倍"
        "（从零出发是同一个平面，但学习率的含义变了）。",
    ),
)
def equivalent(lab: Lab) -> Evidence:
    """Length of the weights over the whole run, one form over the other, from zero; 40 sets."""
    return Settings(
        T("labels", "标签"),
        {
            name: Routes({
                "by hand": Sample(both_forms(lab, levels)),
                "library": Sample(library_forms(lab, levels)),
            })
            for name, levels in (("labels 0 and 1", (0, 1)), ("labels -1 and 1", (-1, 1)))
        },
    )  # fmt: skip


@question.exact(
    "C2.1.4-05",
    T(
        "A correction raises the score of a misjudged positive sample and lowers a negative one's.",
        "修正之后，错判的正样本得分上升，错判的负样本得分下降。",
    ),
    at_most(1e-12),
)
def score_moves(lab: Lab) -> Evidence:
    """Largest relative error of eta y (||x||^2 + 1) as the change of the score, over all updates
    of 20 runs with eta = 0.3; and the share of changes with the wrong sign.
    """
    errors, wrong = [], []
    for seed in lab.seeds(20, 5):
        data = planted(np.random.default_rng(seed), 40, 3, 0.05)
        run = learn(data.x, data.y, rate=0.3)
        rows, y = augment(data.x[list(run.wrong)]), data.y[list(run.wrong)]
        moved = (rows * np.diff(run.path, axis=0)).sum(axis=1)
        expected = 0.3 * y * np.square(rows).sum(axis=1)
        errors.append(np.abs(moved / expected - 1).max())
        wrong.append((np.sign(moved) != y).mean())
    return All({"change of the score": float(max(errors)), "wrong sign": float(max(wrong))})


def angles(path: Any, ideal: Any) -> Any:
    """Angles in degrees between the weights after each update and the ideal ones."""
    cosines = path @ ideal / np.linalg.norm(path, axis=1) / np.linalg.norm(ideal)
    return np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))


def turned_away(path: Any, ideal: Any) -> float:
    """Share of updates (from the second on: zero has no angle) after which the angle is larger."""
    return float((np.diff(angles(path[1:], ideal)) > 1e-9).mean())


@once
def turns(lab: Lab) -> dict[str, Sample]:
    """Shares of updates that turn away, one a set with 5 updates or more, two ways."""
    by_hand, library = [], []
    for seed in lab.seeds(80, 16):
        data = planted(np.random.default_rng(seed), 60, 2, 0.02, b=0.2)
        run = learn(data.x, data.y)
        if len(run.wrong) < 5:
            continue
        by_hand.append(turned_away(run.path, np.append(data.b, data.w)))
        unit = Perceptron().fit(data.x, data.y)
        widest = widest_margin(augment(data.x), data.y)[0]
        library.append(turned_away(np.array(unit.trajectory), widest))
    return {"by hand, planted w*": Sample(by_hand), "library, widest w*": Sample(library)}


@question.experiment(
    "C2.1.4-06",
    T(
        "Every update decreases the angle between w and the ideal w*.",
        "每次更新都减小 w 与理想 w* 的夹角。",
    ),
    equals(0.0),
    correction=T(
        "{n[library, widest w*]:.0%} of the updates turn w away from w*; the angle falls only on the "
        "whole. What does grow with each update is w . w*.",
        "有 {n[library, widest w*]:.0%} 的更新反而使 w 偏离 w*；夹角只是总体下降。"
        "每次更新必然增长的是 w·w*。",
    ),
    weight=2,
)
def angle(lab: Lab) -> Evidence:
    """Share of updates after which the angle is larger, in augmented space on random separable
    sets: a perceptron by hand against the planted plane, the library's against the widest one.
    """
    return Routes(turns(lab))


@once
def against_bound(lab: Lab) -> dict[str, float]:
    """Largest mistakes / bound over separable sets: through the origin, and with augmented rows."""
    plain, augmented = [], []
    for seed in lab.seeds(150, 30):
        rng = np.random.default_rng(seed)
        data = planted(rng, 40, 3, float(rng.uniform(0.01, 0.2)))
        ideal = 2.5 * data.w  # any length will do: gamma is the least y w* . x
        gamma = float((data.y * (data.x @ ideal)).min())
        limit = np.square(data.x).sum(axis=1).max() * (ideal @ ideal) / gamma**2
        plain.append(len(learn(data.x, data.y, bias=False, epochs=10**6).wrong) / limit)
        unit = Perceptron(max_epochs=10**6).fit(data.x, data.y)
        augmented.append(unit.mistakes / unit.bound(data.x, data.y).value)
    return {"no bias": max(plain), "bias as a weight": max(augmented)}


@question.exact(
    "C2.1.4-07",
    T(
        "The number of mistakes is at most R^2 ||w*||^2 / gamma^2.",
        "错误次数不超过 R²||w*||²/γ²。",
    ),
    at_most(1.0),
)
def bounded(lab: Lab) -> Evidence:
    """Largest ratio of mistakes to the bound over 300 runs: 150 sets through the origin without a
    bias (w* of length 2.5), and 150 with the bias as one of the weights.
    """
    return All(against_bound(lab))


@question.exact(
    "C2.1.4-08",
    T(
        "A perceptron class of this kind converges on AND and on OR.",
        "这样的感知机类在 AND 和 OR 上都收敛。",
    ),
    true(),
)
def and_or(lab: Lab) -> Evidence:
    """Learning rate 0.1, zero start: whether it stops with all four rows right, two programs."""
    inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    found = {}
    for name, labels in (("AND", [-1, -1, -1, 1]), ("OR", [-1, 1, 1, 1])):
        run = learn(inputs, labels, rate=0.1)
        unit = Perceptron(0.1).fit(inputs, labels)
        right = np.where(inputs @ run.w + run.b > 0, 1, -1) == labels
        found[f"{name}, by hand"] = run.converged and bool(right.all())
        found[f"{name}, library"] = unit.converged and unit.score(inputs, labels) == 1.0
        found[f"{name}, epochs agree"] = run.epochs == unit.epochs
    return All({key: Check(value, true()) for key, value in found.items()})


@question.figure(T("The weights of three procedures", "三种算法的权重轨迹"))
def trajectories(lab: Lab) -> Figure:
    """Weights after each update, from one random start: both printed forms, the difference form
    at half the rate, and gradient descent on the criterion, one row at a time.
    """
    data = planted(lab.rng("forty"), 40, 2, 0.03)
    start = np.array([0.4, -0.8, 1.1]) * np.array([1.0, *np.sign(data.w)]) * (1, -1, 1)
    label = learn(data.x, data.y, start=start, rate=0.5).path
    twice = learn(data.x, data.y, start=start, rate=0.5, difference=True).path
    halved = learn(data.x, data.y, start=start, rate=0.25, difference=True).path
    descent = [start]
    for _ in range(len(label)):
        for row, y in zip(data.x, data.y, strict=True):
            step = 0.5 * criterion_step(row, y, descent[-1][1:], descent[-1][0])
            if step.any():
                descent.append(descent[-1] + step)
        if len(descent) >= len(label):
            break
    sgd = np.array(descent[: len(label)])
    names = {
        T("eta y x", "η y x"): label,
        T("eta (y - prediction) x", "η (y - 预测值) x"): twice,
        T("the same, eta halved", "同上，η 减半"): halved,
    }
    return Figure(
        Axis(T("w1", "w1")),
        Axis(T("w2", "w2")),
        [
            *(Line(name, path[:, 1], path[:, 2]) for name, path in names.items()),
            Line(T("SGD on the criterion", "准则上的 SGD"), sgd[:, 1], sgd[:, 2], points=True),
        ],
        T(
            "Gradient descent on the criterion visits the weights of the first form; the second, for "
            "labels -1 and 1, goes another way unless its rate is halved.",
            "准则上的梯度下降与第一种形式的轨迹重合；标签取 ±1 时第二种形式走另一条路，除非学习率减半。",
        ),
        {
            "first form and SGD, largest gap": float(np.abs(sgd - label[: len(sgd)]).max()),
            "first form and halved, largest gap": float(np.abs(halved - label).max()),
        },
    )


@question.figure(T("The angle to the ideal weights", "与理想权重的夹角"))
def angle_by_update(lab: Lab) -> Figure:
    """Angle between w and the widest plane's w* after each update, for one run and on average."""
    updates, paths = 20, []
    for seed in lab.seeds(80, 16):
        data = planted(np.random.default_rng(seed), 60, 2, 0.02, b=0.2)
        unit = Perceptron().fit(data.x, data.y)
        if unit.mistakes < updates:
            continue
        widest = widest_margin(augment(data.x), data.y)[0]
        paths.append(angles(np.array(unit.trajectory[1 : updates + 1]), widest))
    at = np.arange(1, updates + 1)
    means = [Sample(column) for column in np.array(paths).T]
    return Figure(
        Axis(T("update", "更新次数")),
        Axis(T("angle (degrees)", "夹角（度）")),
        [
            Line(T("mean", "平均"), at, *band(means)),
            *(Line(T(f"run {i + 1}", f"第 {i + 1} 次"), at, path)
              for i, path in enumerate(paths[:2])),
        ],
        T(
            "On average the angle falls; in a single run it goes up and down.",
            "平均来看夹角在下降；单次运行中则忽升忽降。",
        ),
        {"runs": float(len(paths))},
    )  # fmt: skip
