"""2.3.15 What the loss surface looks like: minima, saddles, and the end of training."""

from __future__ import annotations

from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Check, Evidence, Figure, Lab, Level, Line, Question, Routes, Sample, Settings, T,
    at_most, equals, once,
)  # fmt: skip
from fathom.book.material.tasks import task
from fathom.nn import functional as F
from fathom.train.collapse import neural_collapse, unconstrained_features
from fathom.train.curvature import dense_hessian

question = Question(
    "2.3.15",
    title=T(
        "What does the loss landscape look like and what do saddles do?",
        "损失曲面是什么样的？鞍点起什么作用？",
    ),
    difficulty=4,
    frequency=3,
    topics=(
        "loss landscape",
        "saddle point",
        "hessian",
        "neural collapse",
        "损失曲面",
        "鞍点",
        "神经坍缩",
    ),
    answer=T(
        "If the Hessian at a critical point were a random matrix, the chance that all its "
        "eigenvalues are positive "
        "would fall faster than exponentially with the dimension, so almost all critical points "
        "would be saddles. "
        "That is a statement about random points: training is not random and does end where "
        "(nearly) all are positive or zero. "
        "Poor local minima are an affair of small nets; in wide ones different seeds end at "
        "nearly the same loss. "
        "At a strict saddle the Hessian has eigenvalues of both signs; at a degenerate one it "
        "may vanish. Near a strict saddle "
        "gradient descent needs about log(1/d) / (lr |lambda|) steps to leave from a distance d; "
        "momentum shortens "
        "that and gradient noise starts it from farther away. Trained on past zero error the "
        "features of each "
        "class collapse to their mean, and the means to a simplex with cosines -1/(K-1).",
        "如果临界点处的黑塞矩阵是随机矩阵，全部特征值为正的概率会随维数比指数更快地下降，"
        "因而几乎所有临界点都是鞍点。"
        "但这说的是随机点：训练不是随机的，确实会停在（几乎）全部特征值为正或零的地方。"
        "糟糕的局部极小是小网络的问题；宽网络用不同种子会停在几乎相同的损失。"
        "严格鞍点处黑塞矩阵的特征值有正有负；"
        "退化鞍点处它可以为零。在严格鞍点附近，梯度下降从距离 d 离开约需 log(1/d)/(lr·|λ|) 步；"
        "动量缩短这个过程，"
        "梯度噪声使起点更远。训练到零误差之后继续训练，每类特征坍缩到类均值，类均值形成余弦为 "
        "-1/(K-1) 的单纯形。",
    ),
    flips=T(
        "In a convex model there are no saddles; in a tiny net there are poor minima.",
        "凸模型没有鞍点；极小的网络则有糟糕的局部极小。",
    ),
    analogy=T(
        "A mountain pass: level underfoot, up on two sides and down on the other two; one "
        "lingers until one drifts to the edge.",
        "如同山口：脚下平坦，两边向上、两边向下；人会停留很久，直到慢慢漂到边上。",
    ),
    generative=T(
        "Large models are trained to a loss that hardly depends on the seed; spikes, not minima, "
        "are their trouble.",
        "大模型训练到的损失几乎与种子无关；它们的麻烦是损失尖峰，而不是局部极小。",
    ),
    classical=T(
        "Logistic regression and SVMs have one minimum; k-means has many and is run from many "
        "starts.",
        "逻辑回归与 SVM 只有一个极小；k-means 有很多，所以要多次随机启动。",
    ),
    driving=T(
        "Fine-tuning from good weights starts in a basin, and pruning and averaging rely on its "
        "being wide.",
        "从好的权重微调，起点已在盆地里；剪枝和权重平均都依赖盆地足够宽。",
    ),
    change=T(
        "Add a little noise to the gradient: the plateau at the saddle gets shorter.",
        "给梯度加一点噪声：鞍点处的平台变短。",
    ),
)


def positive_share(n: int, rng: np.random.Generator, draws: int) -> float:
    """Share of symmetric Gaussian matrices with positive eigenvalues only."""
    a = rng.standard_normal((draws, n, n))
    return float((np.linalg.eigvalsh(a + a.transpose(0, 2, 1)).min(axis=1) > 0).mean())


def small_net(seed: int) -> tuple[list[Any], Any]:
    """Weights of a tanh net on moons (42 of them), and its loss with decay."""
    with fathom.seed(seed):
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    x, y = task("moons").learn
    rows, labels = fathom.tensor(x[:100].astype(np.float64)), fathom.tensor(y[:100])
    parameters = list(model.parameters())

    def loss() -> Any:
        size = sum(((p**2).sum() for p in parameters), fathom.tensor(0.0, dtype=fathom.float64))
        return F.cross_entropy(model(rows), labels) + 1e-3 * size

    return parameters, loss


@once
def spectra(lab: Lab) -> tuple[Any, Any]:
    """Eigenvalues of the Hessian of small nets at the start and at the end of L-BFGS; by seed."""
    first, last = [], []
    for seed in lab.seeds(8, 2):
        parameters, loss = small_net(seed)
        first.append(np.linalg.eigvalsh(dense_hessian(loss, parameters)))
        method = fathom.optim.LBFGS(
            parameters, max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-15,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure(method: Any = method, loss: Any = loss) -> Any:
            method.zero_grad()
            value = loss()
            value.backward()
            return value

        method.step(closure)
        last.append(np.linalg.eigvalsh(dense_hessian(loss, parameters)))
    return np.array(first), np.array(last)


@question.experiment(
    "C2.3.15-01",
    T(
        "In high dimension the chance that all eigenvalues of the Hessian are positive is "
        "negligible.",
        "高维时，黑塞矩阵全部特征值为正的概率可以忽略。",
    ),
    at_most(1e-3),
    correction=T(
        "It is for random matrices ({n[random 8 x 8 matrices]:.1%} at 8 x 8) and at the start of "
        "training "
        "({n[42 weights, at the start]:.0%}), not where training with decay ends: there all 42 "
        "are positive in "
        "{n[42 weights, after training]:.0%} of the runs.",
        "对随机矩阵成立（8 x 8 时为 {n[random 8 x 8 matrices]:.1%}），训练开始处也成立"
        "（{n[42 weights, at the start]:.0%}）；但带衰减的训练终点不是这样："
        "{n[42 weights, after training]:.0%} "
        "的训练里 42 个特征值全为正。",
    ),
    weight=2,
)
def all_positive(lab: Lab) -> Evidence:
    """Share of matrices with positive eigenvalues only, for three kinds of matrix.

    200,000 symmetric Gaussian matrices, and the Hessian of a tanh net on moons with weight decay
    before and after training by L-BFGS.
    """
    draws = lab.pick(200_000, 20_000)
    first, last = (np.asarray(s) for s in spectra(lab))
    return Settings(
        T("what matrix", "哪种矩阵"),
        {
            "random 8 x 8 matrices": positive_share(8, lab.rng("goe"), draws),
            "42 weights, at the start": Sample((first.min(axis=1) > 0).astype(float)),
            "42 weights, after training": Sample((last.min(axis=1) > 0).astype(float)),
        },
    )


@once
def final_losses(lab: Lab, hidden: int) -> Any:
    """Last losses on moons with little noise over seeds, one hidden layer, after long training."""
    data = fathom.data.load("moons", n=200, noise=0.1, seed=0)
    spec = {
        "model": lambda: nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2)),
        "optimizer": "adam", "lr": 0.02, "epochs": lab.pick(300, 60), "batch_size": 200,
    }  # fmt: skip
    x = data.x.astype(np.float32)
    made = fathom.train_many(spec, x, data.y, seeds=lab.seeds(30, 8), threads=1)
    return made.evaluate(x, data.y)["loss"]


@question.experiment(
    "C2.3.15-02",
    T(
        "Local minima have a loss close to that of the global minimum.",
        "局部极小的损失与全局极小接近。",
    ),
    at_most(0.05),
    correction=T(
        "In wide nets: the mean gap to the best seed is {n[3 units]:.3f} of the starting loss "
        "with 3 hidden units and "
        "{n[32 units]:.4f} with 32.",
        "宽网络如此：与最佳种子的平均差距，3 个隐藏单元时为初始损失的 {n[3 units]:.3f}，32 "
        "个时为 {n[32 units]:.4f}。",
    ),
    weight=2,
)
def close_to_the_best(lab: Lab) -> Evidence:
    """Final loss less the lowest of all seeds, over log 2 (the loss of a guess); mean over seeds.

    Two moons, one tanh layer, 300 full-batch steps of Adam. Close is taken to mean 0.05.
    """
    return Settings(
        T("hidden units", "隐藏单元数"),
        {
            f"{h} units": Sample((final_losses(lab, h) - final_losses(lab, h).min()) / np.log(2))
            for h in (2, 3, 8, 32)
        },
    )


def bent(f: Any) -> tuple[float, float]:
    """Smallest and largest eigenvalue at the origin, by double backward."""
    w = nn.Parameter(np.zeros(2))
    values = np.linalg.eigvalsh(dense_hessian(lambda: f(w[0], w[1]), [w]))
    return float(values.min()), float(values.max())


def bent_by_differences(f: Any, step: float = 1e-4) -> tuple[float, float]:
    """The same by second differences of values."""
    e = step * np.eye(2)
    h = np.array([
        [sum(s * t * f(*(s * e[i] + t * e[j])) for s in (1, -1) for t in (1, -1)) / (4 * step**2)
         for j in range(2)] for i in range(2)
    ])  # fmt: skip
    values = np.round(np.linalg.eigvalsh(h), 6)
    return float(values.min()), float(values.max())


@question.exact(
    "C2.3.15-03",
    T(
        "At a saddle the Hessian has eigenvalues of both signs.",
        "鞍点处黑塞矩阵的特征值有正有负。",
    ),
    equals(1.0),
    correction=T(
        "At a strict one, as x^2 - y^2 has. The monkey saddle x^3 - 3 x y^2 is a saddle with a "
        "Hessian of 0.",
        "严格鞍点如此，例如 x² - y²。猴鞍点 x³ - 3xy² 也是鞍点，但黑塞矩阵为 0。",
    ),
)
def both_signs(lab: Lab) -> Evidence:
    """1 where the smallest eigenvalue at the origin is below 0 and the largest above.

    By double backward and by second differences; both functions have gradient 0 at the origin and
    rise and fall around it.
    """
    saddles = {
        "x^2 - y^2": lambda x, y: x * x - y * y,
        "monkey saddle": lambda x, y: x * x * x - 3 * x * y * y,
    }
    ways = {"double backward": bent, "differences": bent_by_differences}
    return Settings(
        T("saddle", "鞍点"),
        {
            name: Routes(
                {way: float(look(f)[0] < -1e-5 and look(f)[1] > 1e-5) for way, look in ways.items()}
            )
            for name, f in saddles.items()
        },
    )


def escape(momentum: float, noise: float = 0.0, seed: int = 0, most: int = 2000) -> Any:
    """|y| at each step on (x^2 - y^2) / 2 from y = 1e-6, rate 0.05, until it passes 1."""
    rng = np.random.default_rng(seed)
    y, v, path = 1e-6, 0.0, [1e-6]
    while abs(y) < 1 and len(path) < most:
        v = momentum * v - y + noise * rng.standard_normal()
        y -= 0.05 * v
        path.append(abs(y))
    return np.array(path)


def escape_by_library(momentum: float) -> int:
    """Steps of the library's SGD from (1, 1e-6) until |y| passes 1."""
    w = nn.Parameter(np.array([1.0, 1e-6]))
    sgd = fathom.optim.SGD([w], lr=0.05, momentum=momentum)
    for step in range(1, 2000):
        sgd.zero_grad()
        (0.5 * (w[0] ** 2 - w[1] ** 2)).backward()
        sgd.step()
        if abs(float(w.value()[1])) >= 1:
            return step
    return 2000


@question.exact(
    "C2.3.15-04",
    T(
        "Plain gradient descent lingers near saddles; momentum helps.",
        "普通梯度下降在鞍点附近停留很久；动量有帮助。",
    ),
    equals(float(np.log(1e6) / np.log(1.05)), 1.0),
)
def lingers(lab: Lab) -> Evidence:
    """Steps from 1e-6 beside a strict saddle (curvature -1, rate 0.05) until 1 away.

    Theory: log(1e6) / log(1 + 0.05) = 283.2. With momentum 0.9 it must take half of that or less.
    """
    plain = {"recurrence": len(escape(0.0)) - 1, "library": escape_by_library(0.0)}
    heavy = {"recurrence": len(escape(0.9)) - 1, "library": escape_by_library(0.9)}
    saved = {way: heavy[way] / plain[way] for way in plain}
    return All({
        "steps": Routes(dict(plain)),
        "with momentum, share of them": Check(Routes(dict(saved)), at_most(0.5)),
    })  # fmt: skip


@once
def free_features(lab: Lab) -> Any:
    """The unconstrained-features model by 20,000 steps of gradient descent in NumPy; K = 4."""
    k, each, decay, rate = 4, 5, 5e-3, 0.5
    rng, labels = lab.rng("features"), np.repeat(np.arange(4), 5)
    h, w = 0.1 * rng.standard_normal((k * each, 6)), 0.1 * rng.standard_normal((k, 6))
    course = []
    for step in range(lab.pick(20_000, 4_000)):
        z = h @ w.T
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(h)), labels] -= 1
        p /= len(h)
        h, w = h - rate * (p @ w + decay / each * h), w - rate * (p.T @ h + decay * w)
        if step in (100, 300, 1000, 3000) or step % 4000 == 3999:
            course.append((step + 1, neural_collapse(h, labels, w)))
    return course


@question.exact(
    "C2.3.15-05",
    T(
        "Late in training features collapse to their class means, and these form a simplex frame.",
        "训练末期特征坍缩到类均值，类均值构成单纯形等角框架。",
    ),
    equals(-1 / 3, 1e-3),
)
def collapses(lab: Lab) -> Evidence:
    """Cosines between class means, K = 4 (theory -1/3), and variation within classes (0).

    The model with free features and weight decay, by 20,000 steps of gradient descent in NumPy
    and by the library's L-BFGS.
    """
    ended = {"gradient descent": free_features(lab)[-1][1], "L-BFGS": unconstrained_features(4)}
    return All({
        "lowest cosine": Routes({n: float(c.cosines.min()) for n, c in ended.items()}),
        "highest cosine": Routes({n: float(c.cosines.max()) for n, c in ended.items()}),
        "within over between": Check(Routes({n: c.nc1 for n, c in ended.items()}), at_most(1e-3)),
    })  # fmt: skip


@question.figure(T("Leaving a saddle", "离开鞍点"))
def leaving(lab: Lab) -> Figure:
    """Distance along the falling direction, from 1e-6, rate 0.05."""
    plain, heavy = escape(0.0), escape(0.9)
    noisy = [escape(0.0, 0.01, s) for s in lab.seeds(20, 5)]
    shown = min(len(p) for p in noisy)
    stack = np.array([p[:shown] for p in noisy])
    return Figure(
        Axis(T("step", "步")),
        Axis(T("distance from the saddle", "到鞍点的距离"), log=True),
        [
            Line(T("gradient descent", "梯度下降"), np.arange(len(plain)), plain),
            Line(T("momentum 0.9", "动量 0.9"), np.arange(len(heavy)), heavy),
            Line(T("with noise 0.01", "带噪声 0.01"), np.arange(shown), np.median(stack, axis=0),
                 stack.min(axis=0), stack.max(axis=0)),
            Level(T("gone", "已离开"), y=1.0),
        ],
        T(
            "Plain descent takes 284 steps, momentum 78; noise in the gradient leaves at once "
            "from a "
            "larger distance.",
            "普通梯度下降需 284 步，动量只需 78 步；梯度噪声使它一开始就到了更远处。",
        ),
        {"steps, plain": float(len(plain) - 1), "steps, momentum": float(len(heavy) - 1)},
    )  # fmt: skip


@question.figure(T("Negative eigenvalues along training", "训练过程中负特征值的比例"))
def along_training(lab: Lab) -> Figure:
    """The full Hessian of 42 weights every few steps of Adam: share below 0 against the loss."""
    shares, losses = [], []
    for seed in lab.seeds(6, 2):
        parameters, loss = small_net(seed)
        adam = fathom.optim.Adam(parameters, lr=0.03)
        row, values = [], []
        for step in range(241):
            if step % 30 == 0:
                spectrum = np.linalg.eigvalsh(dense_hessian(loss, parameters))
                row.append(float((spectrum < -1e-6).mean()))
                values.append(float(loss().item()))
            adam.zero_grad()
            loss().backward()
            adam.step()
        shares.append(row)
        losses.append(values)
    at, middle = np.array(shares), np.array(losses).mean(axis=0)
    steps = np.arange(0, 241, 30)
    return Figure(
        Axis(T("step", "步")),
        Axis(T("share below 0, and loss", "负特征值比例与损失")),
        [
            Line(T("share of negative eigenvalues", "负特征值的比例"), steps, at.mean(axis=0),
                 at.min(axis=0), at.max(axis=0)),
            Line(T("loss", "损失"), steps, middle),
        ],
        T(
            "About a third of the directions curve downwards at the start; as the loss falls they "
            "become fewer.",
            "开始时约三分之一的方向向下弯；随着损失下降，这样的方向越来越少。",
        ),
    )  # fmt: skip
