"""2.2.6 What regularization is, and how L1 and L2 differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fathom
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Line, Question, Routes, Sample, Settings, T, at_least,
    at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.nn import Embedding, Linear, Module, TransformerEncoderLayer, l2_penalty, proximal_l1
from fathom.nn.parameter import Parameter

question = Question(
    "2.2.6",
    title=T(
        "What is regularization, and how do L1 and L2 differ?",
        "什么是正则化？L1 与 L2 有何不同？",
    ),
    difficulty=3,
    frequency=4,
    topics=("L1", "L2", "weight decay", "sparsity", "AdamW", "正则化", "权重衰减", "稀疏", "岭回归"),
    answer=T(
        "Regularization adds a preference to the data: among models that fit, take the simpler. L2 "
        "adds (λ/2) Σ w², whose gradient λ w shrinks every weight in proportion; weights get small, "
        "hardly ever exactly 0, and equal features share the weight. L1 adds λ Σ |w|, which pulls "
        "with the same force however small the weight is; at the optimum many weights are exactly "
        "0. That is a property of the optimum: proximal steps or coordinate descent reach it, plain "
        "subgradient descent only jitters around 0. L2 and weight decay are one thing under SGD "
        "(with the rate absorbed) but not under Adam, which divides the penalty's gradient by its "
        "own scale; AdamW decays beside the step. Whether AdamW then generalizes better must be "
        "measured at tuned strengths.",
        "正则化在数据之外加入一种偏好：在都能拟合的模型中取更简单的。L2 加上 (λ/2) Σ w²，其梯度 λ w 按"
        "比例缩小每个权重；权重变小但几乎不会恰为 0，相同的特征会平分权重。L1 加上 λ Σ |w|，无论权重多小"
        "都以同样的力拉向 0；最优解处许多权重恰为 0。这是最优解的性质：近端步或坐标下降能到达，普通次梯度"
        "下降只会在 0 附近抖动。在 SGD 下 L2 与权重衰减是一回事（学习率并入系数），在 Adam 下则不是，因为 "
        "Adam 会把惩罚项的梯度除以自身的尺度；AdamW 把衰减放在更新步之外。AdamW 是否泛化更好，要在各自调好"
        "强度后实测。",
    ),
    flips=T(
        "Train L1 by plain SGD on the penalty and no weight is exactly 0.",
        "若直接用普通 SGD 优化 L1 惩罚，没有一个权重恰为 0。",
    ),
    analogy=T(
        "L2 is a tax on large fortunes, L1 a fixed fee on everyone: only the fee drives the small out of business.",
        "L2 像对巨富征税，L1 像人人缴同样的固定费：只有固定费会让小户关门。",
    ),
    generative=T(
        "Language models train with AdamW, decay 0.1, and none on norms and biases.",
        "大语言模型用 AdamW 训练，衰减 0.1，归一化参数与偏置不衰减。",
    ),
    classical=T(
        "Lasso selects features in wide tables; ridge is steadier when they are correlated.",
        "宽表中用 Lasso 选特征；特征相关时岭回归更稳定。",
    ),
    driving=T(
        "Sparse weights by L1 save work on board only where whole channels become 0.",
        "车载部署中，L1 的稀疏只有在整条通道为 0 时才省计算。",
    ),
    change=T(
        "Replace the proximal step by a subgradient step: the count of zeros falls to 0.",
        "把近端步换成次梯度步：零的个数降为 0。",
    ),
)  # fmt: skip

FEATURES, TRUE, ROWS = 50, 5, 200


def regression(seed: int) -> tuple[Any, Any]:
    """50 independent features of which 5 matter, weights 1 to 3 in size, noise 0.5."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((ROWS, FEATURES)), np.zeros(FEATURES)
    w[:TRUE] = rng.uniform(1, 3, TRUE) * rng.choice([-1, 1], TRUE)
    return x, x @ w + 0.5 * rng.standard_normal(ROWS)


def coordinate_descent(x: Any, y: Any, strength: float, sweeps: int = 200) -> Any:
    """The lasso, mean squares / 2 + strength |w|, one weight at a time."""
    w, rest = np.zeros(x.shape[1]), y.copy()
    for _ in range(sweeps):
        for j in range(x.shape[1]):
            column = x[:, j]
            pull = column @ rest / len(y) + (column @ column / len(y)) * w[j]
            new = np.sign(pull) * max(abs(pull) - strength, 0.0) / (column @ column / len(y))
            rest += column * (w[j] - new)
            w[j] = new
    return w


def proximal(x: Any, y: Any, strength: float, steps: int = 500, lr: float = 0.1) -> Any:
    """The same by gradient steps on the data and the library's proximal steps on the penalty."""
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        w = w - lr * x.T @ (x @ w - y) / len(y)
        w = proximal_l1(w, lr * strength).value()
    return w


def descent(x: Any, y: Any, power: int, strength: float, steps: int = 500, lr: float = 0.1) -> Any:
    """Plain (sub)gradient descent on data and penalty together: 1 for L1, 2 for L2."""
    w = np.random.default_rng(0).standard_normal(x.shape[1]) * 0.1
    for _ in range(steps):
        slope = np.sign(w) if power == 1 else w
        w = w - lr * (x.T @ (x @ w - y) / len(y) + strength * slope)
    return w


def ridge(x: Any, y: Any, strength: float) -> Any:
    """The closed form of mean squares / 2 + (strength / 2) w²."""
    return np.linalg.solve(x.T @ x / len(y) + strength * np.eye(x.shape[1]), x.T @ y / len(y))


@once
def zeros(lab: Lab, method: str) -> Sample:
    """Weights that are exactly 0 at strength 0.1, of 50, one count a seed."""
    methods: dict[str, Callable[[Any, Any], Any]] = {
        "coordinate descent": lambda x, y: coordinate_descent(x, y, 0.1, lab.pick(200, 60)),
        "proximal steps": lambda x, y: proximal(x, y, 0.1),
        "subgradient steps": lambda x, y: descent(x, y, 1, 0.1),
        "ridge": lambda x, y: ridge(x, y, 0.1),
        "L2 by steps": lambda x, y: descent(x, y, 2, 0.1),
    }
    solve = methods[method]
    return Sample([(solve(*regression(s)) == 0).sum() for s in lab.seeds(20, 3)])


@question.experiment(
    "C2.2.6-01",
    T("L1 drives many weights exactly to zero.", "L1 使许多权重恰好为零。"),
    at_least(20),
    correction=T(
        "Its optimum does: {n[coordinate descent]:.0f} and {n[proximal steps]:.0f} of 50 by coordinate "
        "descent and proximal steps; plain subgradient steps give {n[subgradient steps]:.0f}.",
        "其最优解如此：坐标下降与近端步分别得到 50 个中的 {n[coordinate descent]:.0f} 与 "
        "{n[proximal steps]:.0f} 个零；普通次梯度步得到 {n[subgradient steps]:.0f} 个。",
    ),
    weight=3,
)
def exact_zeros(lab: Lab) -> Evidence:
    """Weights exactly 0 of 50, of which 5 are in the targets; L1 of strength 0.1, three methods.

    Many is taken to mean 20 or more of the 45 that should be 0.
    """
    methods = ("coordinate descent", "proximal steps", "subgradient steps")
    return Settings(T("method", "求解方法"), {m: zeros(lab, m) for m in methods})


STEPS = 5


def apart(name: str) -> float:
    """Largest difference after 5 steps: the library's L2 (in the gradient) against decoupled decay."""
    found = []
    for how in ("in the gradient", "decoupled"):
        rng = np.random.default_rng(0)
        w = Parameter(rng.standard_normal(20))
        lr, decay = 0.1, 0.05
        inside = decay if how == "in the gradient" else 0.0
        options = {"sgd": fathom.optim.SGD, "adam": fathom.optim.Adam, "adamw": fathom.optim.AdamW}
        given = "adamw" if name == "adam" and how == "decoupled" else name
        optimizer = options[given]([w], lr=lr, weight_decay=decay if given == "adamw" else inside)
        for _ in range(STEPS):
            slope = rng.standard_normal(20)
            if given == "sgd" and how == "decoupled":
                w.data[...] = w.value() * (1 - lr * decay)
            w.grad = fathom.tensor(slope)
            optimizer.step()
        found.append(w.value().copy())
    return float(np.abs(found[0] - found[1]).max())


def by_hand(name: str) -> float:
    """The same comparison in NumPy, Adam written out."""
    found = []
    for decoupled in (False, True):
        rng = np.random.default_rng(0)
        w, m, v = rng.standard_normal(20), np.zeros(20), np.zeros(20)
        lr, decay = 0.1, 0.05
        for t in range(1, STEPS + 1):
            g = rng.standard_normal(20) + (0.0 if decoupled else decay * w)
            if decoupled:
                w = w - lr * decay * w
            if name == "sgd":
                w = w - lr * g
                continue
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            w = w - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        found.append(w)
    return float(np.abs(found[0] - found[1]).max())


@question.exact(
    "C2.2.6-02",
    T("L2 regularization and weight decay are the same thing.", "L2 正则化与权重衰减是同一回事。"),
    at_most(1e-12),
    correction=T(
        "Under plain SGD they are; under Adam five steps already differ by {n[Adam/library]:.2f}, because "
        "Adam rescales the penalty's gradient with the rest.",
        "在普通 SGD 下是；在 Adam 下五步之后就相差 {n[Adam/library]:.2f}，因为 Adam 会把惩罚项梯度一并重新缩放。",
    ),
    weight=4,
)
def same_thing(lab: Lab) -> Evidence:
    """Largest difference of 20 weights after 5 steps: λ w in the gradient, or w (1 - lr λ) beside it.

    By the library's optimizers, and written out in NumPy; the same gradients.
    """
    return Settings(T("optimizer", "优化器"), {
        label: Routes({"library": apart(name), "NumPy": by_hand(name)})
        for label, name in (("SGD", "sgd"), ("Adam", "adam"))
    })  # fmt: skip


@question.exact(
    "C2.2.6-03",
    T("The penalty (λ/2) Σ w² adds λ w to the gradient.", "惩罚项 (λ/2) Σ w² 给梯度加上 λ w。"),
    at_most(1e-8),
)
def gradient(lab: Lab) -> Evidence:
    """Largest difference from λ w: automatic derivative of the library's penalty, and differences."""
    w, strength, step = lab.rng("w").standard_normal(30), 0.3, 1e-5
    tensor = fathom.tensor(w, requires_grad=True)
    l2_penalty([tensor], strength / 2).backward()
    shifted = w + step * np.eye(30), w - step * np.eye(30)
    high, low = ((strength / 2) * (s**2).sum(axis=1) for s in shifted)
    return Routes({
        "automatic": float(np.abs(tensor.grad.value() - strength * w).max()),
        "differences": float(np.abs((high - low) / (2 * step) - strength * w).max()),
    })  # fmt: skip


@question.experiment(
    "C2.2.6-04",
    T("L2 shrinks weights without making any exactly zero.", "L2 使权重变小，但不会恰为零。"),
    equals(0),
)
def no_zeros(lab: Lab) -> Evidence:
    """Weights exactly 0 of 50 under L2, in closed form and by steps; and that they shrink.

    Shrinking: the length of the ridge weights at strength 1 less that at 0.01 must be below -0.1.
    """
    shrunk = []
    for seed in lab.seeds(20, 3):
        x, y = regression(seed)
        shrunk.append(float(np.linalg.norm(ridge(x, y, 1.0)) - np.linalg.norm(ridge(x, y, 0.01))))
    return All({
        "closed form": zeros(lab, "ridge"),
        "steps": zeros(lab, "L2 by steps"),
        "change of length": Check(Sample(shrunk), at_most(-0.1)),
    })  # fmt: skip


@question.experiment(
    "C2.2.6-05",
    T("L2 spreads weight evenly over features that say the same.", "L2 倾向于把权重均匀分摊到信息相同的特征上。"),
    at_most(0.01),
)  # fmt: skip
def spread(lab: Lab) -> Evidence:
    """Two equal features: |w1 - w2| / |w1 + w2| of ridge, by closed form and by steps.

    For contrast the lasso, by coordinate descent, gives all to one.
    """
    rows: dict[str, list[float]] = {"closed form": [], "steps": [], "lasso": []}
    for seed in lab.seeds(12, 3):
        rng = np.random.default_rng(seed)
        one = rng.standard_normal(100)
        x, y = np.stack([one, one], axis=1), 2 * one + 0.3 * rng.standard_normal(100)
        found = {
            "closed form": ridge(x, y, 0.1),
            "steps": descent(x, y, 2, 0.1, 2000),
            "lasso": coordinate_descent(x, y, 0.1, 30),
        }
        for name, w in found.items():
            rows[name].append(float(abs(w[0] - w[1]) / abs(w[0] + w[1])))
    return All({
        "closed form": Sample(rows["closed form"]),
        "steps": Sample(rows["steps"]),
        "lasso": Check(Sample(rows["lasso"]), at_least(0.9)),
    })  # fmt: skip


# -- a small Transformer -------------------------------------------------------------------------

LENGTH, TOKENS = 10, 12
SAME = 0.01  # AdamW's default in PyTorch
DECAYS = {"adam": (0.0, SAME, 1e-3, 3e-3), "adamw": (0.0, SAME, 0.1, 0.3, 1.0)}
TASKS = {
    "tokens": T("most frequent group", "最频繁的组"),
    "digits": T("rows of digits", "手写数字逐行"),
}


class Classifier(Module):
    """Tokens (or rows of pixels) and places, one block of attention, the mean, a class."""

    def __init__(self, task: str) -> None:
        super().__init__()
        words = task == "tokens"
        self.inner = Embedding(TOKENS, 16) if words else Linear(8, 16)
        self.places = Parameter(np.zeros((LENGTH if words else 8, 16), np.float32))
        self.block = TransformerEncoderLayer(
            16, 2, dim_feedforward=32, dropout=0.0, batch_first=True
        )
        self.out = Linear(16, 3 if words else 10)

    def forward(self, x: Any) -> Any:
        return self.out(self.block(self.inner(x) + self.places).mean(axis=1))


def sequences(lab: Lab, task: str) -> tuple[Any, Any, Any, Any]:
    """300 rows with three tenths of the labels random, and clean rows to be judged by.

    Random tokens and which of three groups is most frequent; digits as eight rows of eight pixels.
    """
    rng = lab.rng(task)
    if task == "tokens":
        x = rng.integers(0, TOKENS, (1300, LENGTH))
        y = np.stack([(x % 3 == k).sum(axis=1) for k in range(3)], axis=1).argmax(axis=1)
        test_x, test_y = x[300:], y[300:]
    else:
        data = digits()
        x, y, test_x, test_y = data.x.reshape(-1, 8, 8), data.y, data.test_x, data.test_y
        test_x = test_x.reshape(-1, 8, 8)
    y = np.where(rng.random(300) < 0.3, rng.integers(0, y.max() + 1, 300), y[:300])
    return x[:300], y, test_x, test_y


@once
def transformers(lab: Lab, task: str, optimizer: str) -> Any:
    """Test loss by strength of decay and seed, (strengths, seeds)."""
    x, y, test_x, test_y = sequences(lab, task)
    spec = {"model": lambda: Classifier(task), "optimizer": optimizer, "lr": 3e-3,
            "epochs": lab.pick(25 if task == "tokens" else 40, 3), "batch_size": 50}  # fmt: skip
    grid = {"weight_decay": list(DECAYS[optimizer])[: lab.pick(5, 2)]}
    fleet = fathom.train_many(spec, x, y, seeds=lab.seeds(12, 2), grid=grid, threads=1)
    return fleet.evaluate(test_x, test_y)["loss"].reshape(len(grid["weight_decay"]), -1)


@question.experiment(
    "C2.2.6-06",
    T(
        "For Transformers AdamW does better than L2 regularization inside Adam.",
        "训练 Transformer 时，AdamW 优于在 Adam 中加 L2。",
    ),
    at_least(0.02),
    correction=T(
        "It depends on how the strength is chosen. With the same number, 0.01, L2's test loss is higher "
        "by {n[the same, 0.01/tokens]:.2f} and {n[the same, 0.01/digits]:.2f} nats on two small tasks: "
        "inside Adam that number is far stronger. With the strength tuned for each no advantage is left "
        "on tokens ({n[each its best/tokens]:+.3f}); on digits no decay is best for both "
        "({n[each its best/digits]:+.3f}). Large models are another matter.",
        "取决于强度如何选取。取同一个数 0.01 时，在两个小任务上 L2 的测试损失高 "
        "{n[the same, 0.01/tokens]:.2f} 与 {n[the same, 0.01/digits]:.2f} 奈特：同一个数放进 Adam 里要强得"
        "多。各自调好强度后，词元任务上没有优势（{n[each its best/tokens]:+.3f}），手写数字上两者都以不衰减为"
        "最佳（{n[each its best/digits]:+.3f}）。大模型另当别论。",
    ),
    weight=3,
)
def adamw(lab: Lab) -> Evidence:
    """Test loss of L2 in Adam less that of AdamW, a one-block Transformer on two tasks.

    Once with the same number for both, 0.01 (AdamW's default in PyTorch), once each with the
    strength that is best for it on average; paired by seed. 0.02 nats count.
    """
    same: dict[str, Evidence] = {}
    tuned: dict[str, Evidence] = {}
    for task in TASKS:
        l2, decoupled = (transformers(lab, task, o) for o in ("adam", "adamw"))
        same[task] = Sample(l2[1] - decoupled[1])
        tuned[task] = Sample(
            l2[l2.mean(axis=1).argmin()] - decoupled[decoupled.mean(axis=1).argmin()]
        )
    return Settings(T("strength of decay", "衰减强度"), {
        "the same, 0.01": Routes(same), "each its best": Routes(tuned)
    })  # fmt: skip


# -- figures -------------------------------------------------------------------------------------


@question.figure(T("Weights along the strength", "权重随正则强度的变化"))
def paths(lab: Lab) -> Figure:
    """Share of weights exactly 0 under L1 by three methods and under L2, by strength."""
    strengths = lab.pick([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0], [0.01, 0.1, 1.0])
    methods: dict[str, tuple[T, Any]] = {
        "cd": (
            T("L1, coordinate descent", "L1，坐标下降"),
            lambda x, y, s: coordinate_descent(x, y, s, 60),
        ),
        "prox": (T("L1, proximal steps", "L1，近端步"), lambda x, y, s: proximal(x, y, s, 200)),
        "sub": (
            T("L1, subgradient steps", "L1，次梯度步"),
            lambda x, y, s: descent(x, y, 1, s, 200),
        ),
        "ridge": (T("L2", "L2 正则"), ridge),
    }
    lines = []
    for name, solve in methods.values():
        at = [
            Sample([float((solve(*regression(seed), s) == 0).sum()) for seed in lab.seeds(6, 2)])
            for s in strengths
        ]
        lines.append(Line(name, strengths, *band(at)))
    return Figure(
        Axis(T("strength", "正则强度"), log=True),
        Axis(T("weights exactly 0, of 50", "恰为 0 的权重数（共 50）")),
        lines,
        T(
            "L1 solved exactly sets one weight after the other to 0; by plain steps, and under L2, "
            "none is.",
            "精确求解的 L1 把权重一个接一个置零；用普通次梯度步或 L2 时一个也没有。",
        ),
    )  # fmt: skip


@question.figure(T("AdamW and L2 in Adam by strength", "AdamW 与 Adam 中的 L2：强度的影响"))
def strengths(lab: Lab) -> Figure:
    """Test loss of a one-block Transformer by strength, 0 left out, two tasks."""
    lines = []
    for task, word in TASKS.items():
        for optimizer, name in (("adam", "L2"), ("adamw", "AdamW")):
            losses = transformers(lab, task, optimizer)
            order = np.argsort(DECAYS[optimizer][: len(losses)])[1:]
            strength = [DECAYS[optimizer][i] for i in order]
            at = [Sample(losses[i]) for i in order]
            lines.append(Line(T(f"{name}, {word.en}", f"{name}，{word.zh}"), strength, *band(at)))
    return Figure(
        Axis(T("strength", "强度"), log=True),
        Axis(T("test loss (nats)", "测试损失（奈特）")),
        lines,
        T(
            "Inside Adam the same number is far stronger than beside it: the lines of L2 rise where "
            "AdamW's are still flat. At their best the two kinds lie close together.",
            "同一个数放进 Adam 里比放在更新步之外强得多：L2 的曲线已上升时，AdamW 的仍平坦。在各自最佳处两者"
            "相近。",
        ),
    )
