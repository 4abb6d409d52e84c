import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import FathomError
from fathom.nn import functional as F
from fathom.nn.objectives import distillation_loss
from fathom.train.distill import distill, soft_labels

RNG = np.random.default_rng(0)


def test_soft_labels_of_two_classes_are_the_sigmoid():
    z = RNG.standard_normal((6, 2))
    wanted = 1 / (1 + np.exp(-(z[:, 1] - z[:, 0]) / 3.0))
    np.testing.assert_allclose(soft_labels(z, 3.0)[:, 1], wanted)


def test_the_loss_against_torch():
    torch = pytest.importorskip("torch")
    student, teacher, y = RNG.standard_normal((8, 5)), RNG.standard_normal((8, 5)), np.arange(8) % 5
    a = fathom.tensor(student, requires_grad=True)
    b = torch.tensor(student, requires_grad=True)
    found = distillation_loss(a, teacher, y, temperature=3.0, alpha=0.7)
    wanted = 0.7 * 9.0 * torch.nn.functional.kl_div(
        torch.log_softmax(b / 3.0, 1), torch.softmax(torch.tensor(teacher) / 3.0, 1),
        reduction="batchmean",
    ) + 0.3 * torch.nn.functional.cross_entropy(b, torch.tensor(y))  # fmt: skip
    found.backward()
    wanted.backward()
    assert found.item() == pytest.approx(wanted.item())
    np.testing.assert_allclose(a.grad.value(), b.grad.numpy(), atol=1e-12)


def test_ends_of_alpha():
    student, teacher = fathom.tensor(RNG.standard_normal((4, 3))), RNG.standard_normal((4, 3))
    y = np.array([0, 1, 2, 0])
    hard = distillation_loss(student, teacher, y, alpha=0.0)
    assert hard.item() == pytest.approx(F.cross_entropy(student, y).item())
    assert distillation_loss(student, student.value(), y, alpha=1.0).item() == pytest.approx(0)
    rows = distillation_loss(student, teacher, y, reduction="none")
    assert rows.shape == (4,)


def test_a_student_of_few_labels_gains_by_a_teacher():
    data = fathom.data.load("moons", n=600, noise=0.2)
    x, y, xt, yt = data.x[:400], data.y[:400], data.x[400:], data.y[400:]

    def net(width, seed):
        with fathom.seed(seed):
            return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 2))

    teacher = net(32, 0)
    teacher.fit(x, y, epochs=60, lr=0.02, verbose=False)
    options = {"epochs": 60, "lr": 0.02, "verbose": False}
    gains = []
    for seed in range(3):
        hard, soft = net(8, seed + 1), net(8, seed + 1)
        few = slice(0, 12)
        hard.fit(x[few], y[few], **options)
        distill(soft, teacher, x, temperature=2.0, **options)  # rows without labels
        gains.append(soft.evaluate(xt, yt)["accuracy"] - hard.evaluate(xt, yt)["accuracy"])
    assert np.mean(gains) > 0.02


def test_bad_arguments():
    z = fathom.tensor(RNG.standard_normal((4, 3)))
    with pytest.raises(FathomError, match="temperature"):
        distillation_loss(z, z.value(), temperature=0)
    with pytest.raises(FathomError, match="alpha"):
        distillation_loss(z, z.value(), alpha=2)
    with pytest.raises(FathomError, match="shape"):
        distillation_loss(z, RNG.standard_normal((4, 2)))
    with pytest.raises(FathomError, match="teacher's logits"):
        distill(nn.Linear(2, 2), np.ones((3, 2)), np.ones((4, 2)))
