"""3.1.1 What activation functions do, and what a network is without them."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np

import fathom
from fathom import nn
from fathom.book import (
    All, Axis, Bars, Check, Evidence, Figure, Lab, Line, Published, Question, Routes, Sample,
    Settings, Source, T, at_least, at_most, band, equals, once,
)  # fmt: skip
from fathom.book.material.data import digits
from fathom.book.material.planes import found_by_search

question = Question(
    "3.1.1",
    title=T(
        "What do activation functions do, and what happens without them?",
        "激活函数有什么作用？没有它们会怎样？",
    ),
    difficulty=2,
    frequency=5,
    topics=("activation", "linear collapse", "deep linear network", "激活函数", "线性坍缩"),
    answer=T(
        "An activation is the nonlinear step between two linear ones. Without it a stack of layers "
        "multiplies out to one matrix and one bias, so whatever its depth the network computes an "
        "affine map: it cannot fit XOR or even x squared, while one hidden layer with a suitable "
        "nonlinearity approximates any continuous function. Affine does not mean useless: a linear "
        "classifier names most handwritten digits, and fails where the class is no matter of a "
        "weighted sum of pixels. Nor is depth without effect in a linear network: the functions "
        "are the same, but training takes another path, narrow layers limit the rank, and from "
        "small weights descent favours matrices of low rank. In a Transformer the activation "
        "stands once in each feed-forward block; the projections around it are linear.",
        "激活函数是两次线性变换之间的非线性一步。没有它，再多的层也会乘成一个矩阵加一个偏置，所以无"
        "论多深，网络算的都是仿射映射：它拟合不了 XOR，甚至拟合不了 x 的平方；而一个隐藏层配上合适"
        "的非线性就能逼近任意连续函数。仿射并不等于无用：线性分类器能认出大多数手写数字，只有当类别"
        "不能由像素的加权和决定时才失败。线性网络的深度也不是毫无作用：函数集合不变，但训练走的路径"
        "不同，窄层限制了秩，而且从小权重出发的梯度下降偏爱低秩矩阵。在 Transformer 中，激活函数在"
        "每个前馈块里只出现一次，周围的投影都是线性的。",
    ),
    flips=T(
        "If the target is an affine function of the input, the linear network is the better one: "
        "nothing to overfit with, and one layer is enough.",
        "如果目标本身就是输入的仿射函数，线性网络反而更好：没有多余的能力去过拟合，而且一层就够。",
    ),
    analogy=T(
        "Sheets of flat glass laid on each other stay flat glass; one has to bend them to get a "
        "lens.",
        "平板玻璃叠再多层还是平板玻璃；要得到透镜，必须把它弯曲。",
    ),
    generative=T(
        "About two thirds of a Transformer's weights sit around its activations, in the "
        "feed-forward blocks.",
        "Transformer 约三分之二的权重位于激活函数两侧，也就是前馈块里。",
    ),
    classical=T(
        "Kernel machines and trees bring their nonlinearity along; a linear model gets it from "
        "features made by hand.",
        "核方法和树模型自带非线性；线性模型则靠手工特征获得非线性。",
    ),
    driving=T(
        "Whether two lane marks belong together is a matter of both, an AND of features, which no "
        "stack of linear filters can express.",
        "两段车道线是否属于同一条线取决于二者的组合，这种“与”关系任何线性滤波器的叠加都表达不了。",
    ),
    change=T(
        "Put any bend between the layers (ReLU, tanh): the bars for XOR and moons reach the top.",
        "在层间加入任意弯折（ReLU、tanh）：XOR 与双月的柱子就升到顶端。",
    ),
)

CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32)
EITHER = np.array([0, 1, 1, 0])


def collapsed(layers: list[nn.Linear]) -> tuple[Any, Any]:
    """The one matrix and the one bias of a stack of linear layers."""
    w, b = np.eye(layers[0].weight.shape[1]), np.zeros(layers[0].weight.shape[1])
    for layer in layers:
        own = layer.weight.value()
        w, b = own @ w, own @ b + layer.bias.value()
    return w, b


@question.exact(
    "C3.1.1-01",
    T(
        "Three linear layers are one: W' = W3 W2 W1 and b' = W3 W2 b1 + W3 b2 + b3.",
        "三个线性层等于一层：W' = W3 W2 W1，b' = W3 W2 b1 + W3 b2 + b3。",
    ),
    at_most(1e-12),
)
def three_are_one(lab: Lab) -> Evidence:
    """Largest difference of the two in float64, relative to the outputs: random matrices, and a
    network trained for 50 steps."""
    rng = lab.rng("layers")
    shapes = ((7, 5), (6, 7), (3, 6))
    (w1, w2, w3), (b1, b2, b3) = (
        [rng.standard_normal(s) for s in shapes], [rng.standard_normal(s[0]) for s in shapes]
    )  # fmt: skip
    x = rng.standard_normal((200, 5))
    deep = ((x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3
    flat = x @ (w3 @ w2 @ w1).T + w3 @ w2 @ b1 + w3 @ b2 + b3
    with fathom.seed(lab.seeds(1, 1)[0]):
        net = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3)).double()
    rows, wanted = fathom.tensor(x), fathom.tensor(np.sin(x[:, :3]))
    optimizer = fathom.optim.SGD(net.parameters(), lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        ((net(rows) - wanted) ** 2).mean().backward()
        optimizer.step()
    w, b = collapsed([layer for layer in net if isinstance(layer, nn.Linear)])
    said = net(rows).value()
    return All({
        "random layers": float(np.abs(deep - flat).max() / np.abs(deep).max()),
        "a trained net": float(np.abs(said - (x @ w.T + b)).max() / np.abs(said).max()),
    })  # fmt: skip


def descend(x: Any, y: Any, w: list[Any], rate: float, steps: int, mask: Any = 1.0) -> list[float]:
    """Gradient descent on the mean square of mask * (x W1 ... WL - y); w is changed in place."""
    losses = []
    size = np.sum(np.ones_like(y) * mask)
    for _ in range(steps):
        into = [x]
        for part in w:
            into.append(into[-1] @ part)
        gap = mask * (into[-1] - y)
        losses.append(float((gap**2).sum() / size))
        delta = 2.0 * gap / size
        for i in reversed(range(len(w))):
            slope = into[i].T @ delta
            delta = delta @ w[i].T
            w[i] = w[i] - rate * slope
    return losses


def stack(rng: np.random.Generator, depth: int, d: int, scale: float) -> list[Any]:
    """Square matrices, normal numbers of the given deviation times 1 / sqrt(d)."""
    return [scale * rng.standard_normal((d, d)) / np.sqrt(d) for _ in range(depth)]


def regression(seed: int, d: int = 8, rows: int = 200) -> tuple[Any, Any]:
    """Rows and what a random matrix and some noise make of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, d))
    return x, x @ rng.standard_normal((d, d)) / np.sqrt(d) + 0.3 * rng.standard_normal((rows, d))


@once
def paths(lab: Lab, depth: int) -> Any:
    """(seeds, steps) losses of linear nets of that depth on the same problems."""
    found = []
    for seed in lab.seeds(12, 4):
        x, y = regression(seed)
        w = stack(np.random.default_rng(seed + 1), depth, x.shape[1], 1.0)
        found.append(descend(x, y, w, 0.2, lab.pick(4000, 1500)))
    return np.array(found)


def best_loss(x: Any, y: Any, rank: int | None = None) -> float:
    """Mean square left by least squares, or by the best matrix of that rank (Izenman, 1975)."""
    fitted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    if rank is not None:
        axes = np.linalg.svd(fitted, full_matrices=False)[2][:rank]
        fitted = fitted @ axes.T @ axes
    return float(((fitted - y) ** 2).mean())


@once
def completed(lab: Lab, depth: int) -> Any:
    """Error on hidden entries of a 16 x 16 matrix of rank 1, half of which was seen; one a seed."""
    errors = []
    for seed in lab.seeds(12, 4):
        rng = np.random.default_rng(seed)
        truth = np.outer(rng.standard_normal(16), rng.standard_normal(16))
        seen = rng.random((16, 16)) < 0.5
        w = stack(rng, depth, 16, 0.3 if depth > 1 else 0.01)
        descend(np.eye(16), truth, w, 1.0, lab.pick(6000, 2500), seen)
        made = np.linalg.multi_dot(w) if depth > 1 else w[0]
        errors.append(((made - truth)[~seen] ** 2).mean() / (truth[~seen] ** 2).mean())
    return np.array(errors)


@question.experiment(
    "C3.1.1-02",
    T(
        "Without activations depth has no effect whatever.",
        "没有激活函数，深度毫无意义。",
    ),
    at_most(0.05),
    correction=T(
        "The best fit is the same (apart by {n[best fit]:.1e}), but after 20 steps the losses of "
        "depth 3 and depth 1 differ by {n[loss after 20 steps]:.0%}, a hidden layer of 2 units "
        "changes the best loss by {n[narrow hidden layer]:.0%}, and from small weights the deeper "
        "net fills in a matrix of low rank with {n[missing entries]:.0%} less error.",
        "最优拟合相同（相差 {n[best fit]:.1e}），但训练 20 步后 3 层与 1 层的损失相差 "
        "{n[loss after 20 steps]:.0%}，2 个单元的隐藏层使最优损失改变 "
        "{n[narrow hidden layer]:.0%}，而从小权重出发，更深的网络补全低秩矩阵的误差低 "
        "{n[missing entries]:.0%}。",
    ),
    weight=3,
)
def depth_without_bend(lab: Lab) -> Evidence:
    """Relative difference between linear nets of depth 3 and depth 1, in four respects; 0.05 or
    less counts as no effect. The loss after training to the end; the loss after 20 steps; the best
    loss where the hidden layer has 2 of 8 units; the error on entries not seen of a matrix of rank
    1."""
    problems = [regression(seed) for seed in lab.seeds(12, 4)]
    best = np.array([best_loss(x, y) for x, y in problems])
    one, three = paths(lab, 1), paths(lab, 3)
    narrow = np.array([best_loss(x, y, 2) for x, y in problems])
    flat, deep = completed(lab, 1), completed(lab, 3)
    return Settings(T("what is compared", "比较内容"), {
        "best fit": Sample(np.abs(three[:, -1] - best) / best),
        "loss after 20 steps": Sample(np.abs(three[:, 20] - one[:, 20]) / one[:, 20]),
        "narrow hidden layer": Sample(np.abs(narrow - best) / best),
        "missing entries": Sample((flat - deep) / flat),
    })  # fmt: skip


@question.exact(
    "C3.1.1-03",
    T("No linear model solves XOR.", "线性模型解决不了 XOR。"),
    equals(0.75),
)
def xor(lab: Lab) -> Evidence:
    """The most points any plane gets right, over all 16 labellings of the four points which a
    search over weights finds separable; and how far least squares strays from 0.5 everywhere."""
    x, y = CORNERS, EITHER
    rows = np.column_stack([x, np.ones(4)])
    possible = [np.array(k) for k in product((0, 1), repeat=4) if found_by_search(rows, k)]
    fitted = rows @ np.linalg.lstsq(rows, y.astype(np.float64), rcond=None)[0]
    return All({
        "best accuracy": max(float((k == y).mean()) for k in possible),
        "least squares' distance from 0.5": Check(
            float(np.abs(fitted - 0.5).max()), at_most(1e-12)
        ),
    })  # fmt: skip


def negatives(x: Any, seed: int) -> Any:
    """The images, a random half of them light for dark."""
    turned = np.random.default_rng(seed).random(len(x)) < 0.5
    return np.where(turned[:, None], 1.0 - x, x).astype(np.float32)


@once
def linear_digits(lab: Lab, turned: bool) -> Routes:
    """Test accuracy of linear classifiers of the digits by two methods, one a seed."""
    hits: dict[str, list[float]] = {"softmax regression": [], "least squares": []}
    for seed in lab.seeds(6, 3):
        parts = digits(seed=seed % 1000)
        x, test = parts.x, parts.test_x
        if turned:
            x, test = negatives(x, seed), negatives(test, seed + 1)
        spec = {"model": lambda: nn.Linear(64, 10), "lr": 0.01, "epochs": 30}
        fleet = fathom.train_many(spec, x, parts.y, seeds=[seed])
        hits["softmax regression"].append(fleet.evaluate(test, parts.test_y)["accuracy"][0])
        rows, asked = (np.column_stack([a, np.ones(len(a))]) for a in (x, test))
        w = np.linalg.solve(rows.T @ rows + np.eye(65), rows.T @ np.eye(10)[parts.y])
        hits["least squares"].append(float(((asked @ w).argmax(axis=1) == parts.test_y).mean()))
    return Routes({name: Sample(found) for name, found in hits.items()})


@question.experiment(
    "C3.1.1-04",
    T("A linear model cannot classify images.", "线性模型做不了图像分类。"),
    at_most(0.5),
    correction=T(
        "On 8 x 8 digits a linear classifier is right on {n[digits/softmax regression]:.1%} of the "
        "test images; with half of the images turned into negatives, on "
        "{n[half of them negatives/softmax regression]:.1%}.",
        "在 8 x 8 手写数字上，线性分类器的测试准确率是 {n[digits/softmax regression]:.1%}；把一半图"
        "像反相后只有 {n[half of them negatives/softmax regression]:.1%}。",
    ),
    weight=3,
)
def images(lab: Lab) -> Evidence:
    """Test accuracy of softmax regression and of least squares on the ten digits, as they are and
    with a random half of the images as negatives. "Cannot" is taken as: half of them at most."""
    return Settings(T("images", "图像"), {
        "digits": linear_digits(lab, False), "half of them negatives": linear_digits(lab, True),
    })  # fmt: skip


def explained(y: Any, fitted: Any) -> float:
    """R squared."""
    return float(1.0 - ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum())


@question.exact(
    "C3.1.1-05",
    T(
        "Universal approximation takes a nonlinear activation.",
        "万能逼近需要非线性激活函数。",
    ),
    at_most(1e-9),
)
def universal(lab: Lab) -> Evidence:
    """x squared on [-1, 1]: R squared of the best affine function, which is the best any linear net
    can be; how far linear nets of depth 2 to 8 are from affine; and R squared of 20 ReLU units."""
    x = np.linspace(-1.0, 1.0, 401)
    y = x**2
    line = np.polyval(np.polyfit(x, y, 1), x)
    hinges = np.maximum(x[:, None] - np.linspace(-1.1, 1.0, 20), 0.0)
    rows = np.column_stack([hinges, np.ones(len(x))])
    bent = rows @ np.linalg.lstsq(rows, y, rcond=None)[0]
    crooked = 0.0
    for depth in (2, 4, 8):
        with fathom.seed(depth):
            sizes = [1] + [8] * (depth - 1) + [1]
            net = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
        said = net.double()(fathom.tensor(x[:, None])).value()[:, 0]
        crooked = max(crooked, float(np.abs(np.diff(said, 2)).max()))
    return All({
        "R squared of the best line": explained(y, line),
        "bend of linear nets": crooked,
        "R squared of 20 ReLU units": Check(explained(y, bent), at_least(0.999)),
    })  # fmt: skip


@question.reference(
    "C3.1.1-06",
    T("All layers of GPT and of Claude use GELU.", "GPT 与 Claude 的每一层都用 GELU。"),
    equals(1.0),
    correction=T(
        "Every Transformer block of GPT-1 and GPT-2 has a GELU, but only behind one of its four "
        "linear layers, the first of the feed-forward part; attention and its projections have "
        "softmax or nothing. What Claude is built of has not been published.",
        "GPT-1 与 GPT-2 的每个 Transformer 块都有 GELU，但只在四个线性层之一（前馈部分的第一个）之后；"
        "注意力及其投影只有 softmax 或没有激活。Claude 的结构没有公开。",
    ),
    weight=2,
)
def who_uses_gelu(lab: Lab) -> Evidence:
    """Share of layers with a GELU in the released code of GPT: of the Transformer blocks, and of
    the four linear layers of a block (attention: c_attn, c_proj; feed-forward: c_fc, c_proj).
    Nothing is public about Claude, so that it cannot be judged."""
    works = (
        Source("Radford et al., GPT-2, released code (model.py: gelu behind mlp/c_fc)", 2019, 0.98),
        Source("Radford et al., GPT-1, released code (train.py: act behind mlp/c_fc)", 2018, 0.95),
    )
    return Settings(T("what counts as a layer of GPT", "GPT 的“层”指什么"), {
        "Transformer block": Published(1.0, works), "linear layer": Published(1 / 4, works),
    })  # fmt: skip


def network(inputs: int, outputs: int, bend: bool) -> nn.Sequential:
    """Three layers with or without ReLU between them."""
    middle = [nn.Linear(inputs, 16), nn.Linear(16, 16), nn.Linear(16, outputs)]
    if not bend:
        return nn.Sequential(*middle)
    return nn.Sequential(middle[0], nn.ReLU(), middle[1], nn.ReLU(), middle[2])


@question.figure(
    T("The same three layers with ReLU and without", "同样的三层网络，有 ReLU 与没有 ReLU")
)
def with_and_without(lab: Lab) -> Figure:
    """Accuracy of three layers with and without ReLU: XOR, moons, digits; the same seeds."""
    moons, parts = fathom.data.load("moons", n=400, seed=1), digits()
    moved = fathom.data.load("moons", n=400, seed=2)
    sets = (
        (CORNERS, EITHER, CORNERS, EITHER, 400), (moons.x, moons.y, moved.x, moved.y, 60),
        (parts.x, parts.y, parts.test_x, parts.test_y, lab.pick(20, 8)),
    )  # fmt: skip
    bars = []
    for name, bend in ((T("linear", "线性"), False), (T("with ReLU", "有 ReLU"), True)):
        found = []
        for a, b, test_a, test_b, epochs in sets:
            wide, ways = a.shape[1], int(b.max()) + 1
            spec = {
                "model": lambda w=wide, k=ways, f=bend: network(w, k, f),
                "lr": 0.01, "epochs": epochs,
            }  # fmt: skip
            fleet = fathom.train_many(spec, a, b, seeds=lab.seeds(8, 3))
            found.append(Sample(fleet.evaluate(test_a.astype(np.float32), test_b)["accuracy"]))
        bars.append(Bars(name, *band(found)))
    return Figure(
        Axis(
            T("data", "数据"),
            ticks=[T("XOR", "异或"), T("moons", "双月"), T("digits", "手写数字")],
        ),
        Axis(T("accuracy", "准确率")),
        bars,
        T(
            "Without ReLU the three layers are one plane: never more than three points of XOR, and "
            "worse on the moons; on the digits a plane a class is enough for almost all.",
            "没有 ReLU 时，三层只相当于一个平面：XOR 最多对三个点，双月上也更差；而在手写数字上，每"
            "类一个平面就几乎够用。",
        ),
    )  # fmt: skip


@question.figure(
    T("Linear nets of different depth learn differently", "不同深度的线性网络学习过程不同")
)
def linear_depth(lab: Lab) -> Figure:
    """Loss above the least-squares optimum while linear nets of depth 1, 2 and 3 train."""
    best = np.array([best_loss(*regression(seed)) for seed in lab.seeds(12, 4)])
    at = np.unique(np.geomspace(1, lab.pick(4000, 1500) - 1, 40).astype(int))
    lines = []
    for depth in (1, 2, 3):
        above = np.log10(np.maximum(paths(lab, depth)[:, at] / best[:, None] - 1.0, 1e-8))
        middle, spread = above.mean(axis=0), above.std(axis=0)
        lines.append(Line(
            T(f"depth {depth}", f"深度 {depth}"), at, 10**middle, 10 ** (middle - spread),
            10 ** (middle + spread),
        ))  # fmt: skip
    return Figure(
        Axis(T("step", "步数"), log=True),
        Axis(T("loss above the best, relative", "超出最优损失的比例"), log=True),
        lines,
        T(
            "All depths can reach the same best fit, but they get there on different paths: one "
            "layer at an even pace, deeper ones in stages.",
            "各深度都能达到同一个最优拟合，但路径不同：单层匀速下降，更深的网络分阶段下降。",
        ),
    )
