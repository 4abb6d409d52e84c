"""Layers against PyTorch: the same weights give the same outputs and gradients."""

import copy

import numpy as np
import pytest

import fathom
from fathom import nn

torch = pytest.importorskip("torch")

ACTIVATIONS = {"ReLU": torch.nn.ReLU, "Tanh": torch.nn.Tanh, "Sigmoid": torch.nn.Sigmoid}


def twin_of(model):
    """The PyTorch model of the same layers and (double) weights."""

    def build(layer):
        if isinstance(layer, nn.Sequential):
            return torch.nn.Sequential(*map(build, layer))
        if isinstance(layer, nn.Linear):
            return torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        if isinstance(layer, nn.Dropout):
            return torch.nn.Dropout(layer.p)
        return getattr(torch.nn, type(layer).__name__)()

    twin = build(model).double()
    state = {name: torch.tensor(np.array(value)) for name, value in model.state_dict().items()}
    twin.load_state_dict(state)  # strict: the names are PyTorch's, too
    return twin


def compare(model, x):
    model = model.double()
    twin = twin_of(model)
    twin.train(model.training)
    a, b = fathom.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    out_a, out_b = model(a), twin(b)
    np.testing.assert_allclose(out_a.detach(), out_b.detach().numpy(), rtol=1e-12, atol=1e-14)
    cotangent = np.random.default_rng(3).standard_normal(out_a.shape)
    out_a.backward(fathom.tensor(cotangent))
    out_b.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(a.grad, b.grad, rtol=1e-11, atol=1e-14)
    theirs = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(
            parameter.grad, theirs[name].grad, rtol=1e-11, atol=1e-13, err_msg=name
        )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 4), (2, 3, 4)], ids=str)
def test_linear(lead, bias):
    with fathom.seed(0):
        layer = nn.Linear(3, 2, bias=bias)
    compare(layer, np.random.default_rng(0).standard_normal((*lead, 3)))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    x = np.array([[-50.0, -1.5, -0.0, 0.0, 1e-3, 2.0, 60.0]])
    compare(getattr(nn, name)(), x)


def test_flatten_and_identity():
    compare(nn.Sequential(nn.Flatten(), nn.Identity()), np.arange(24.0).reshape(2, 3, 4))


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
def test_dropout_in_eval(p):
    compare(nn.Dropout(p).eval(), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nested_sequential_forward_and_backward(activation):
    layer = getattr(nn, activation)
    with fathom.seed(1):
        model = nn.Sequential(
            nn.Linear(4, 8),
            layer(),
            nn.Sequential(nn.Linear(8, 8), layer(), nn.Dropout(0.5)),
            nn.Linear(8, 3, bias=False),
        ).eval()
    compare(model, np.random.default_rng(2).standard_normal((6, 4)))


def test_a_shared_layer_gets_the_sum_of_its_gradients():
    with fathom.seed(1):
        inner = nn.Linear(3, 3).double()
    twin = twin_of(nn.Sequential(inner))[0]
    x = np.random.default_rng(0).standard_normal((4, 3))
    nn.Sequential(inner, nn.Tanh(), inner)(fathom.tensor(x)).sum().backward()
    torch.nn.Sequential(twin, torch.nn.Tanh(), twin)(torch.tensor(x)).sum().backward()
    np.testing.assert_allclose(inner.weight.grad, twin.weight.grad, rtol=1e-12)
    np.testing.assert_allclose(inner.bias.grad, twin.bias.grad, rtol=1e-12)


def test_full_backward_hooks_see_what_torch_shows():
    """Two inputs, one hook: called once, with both gradients, and it may replace them."""

    def calls_of(product, tensor):
        seen = []

        def hook(module, grad_input, grad_output):
            seen.append([g.tolist() for g in (*grad_input, *grad_output)])
            return tuple(2 * g for g in grad_input)

        module = product()
        module.register_full_backward_hook(hook)
        x = tensor([1.0, 2.0])
        y = tensor([3.0, 5.0])
        module(x, y).sum().backward()
        return seen, x.grad.tolist(), y.grad.tolist()

    class Ours(nn.Module):
        def forward(self, x, y):
            return x * y * y

    class Theirs(torch.nn.Module):
        def forward(self, x, y):
            return x * y * y

    ours = calls_of(Ours, lambda v: fathom.tensor(v, requires_grad=True))
    theirs = calls_of(Theirs, lambda v: torch.tensor(v, requires_grad=True))
    assert len(ours[0]) == 1
    assert ours == theirs


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_backward_hook_without_a_differentiable_input():
    def calls_of(linear, x):
        seen = []
        linear.register_full_backward_hook(lambda m, gi, go: seen.append((gi, tuple(go[0].shape))))
        linear(x).sum().backward()
        return seen

    assert calls_of(nn.Linear(3, 2), fathom.ones(4, 3)) == calls_of(
        torch.nn.Linear(3, 2), torch.ones(4, 3)
    )


def test_initial_weights_have_the_spread_of_torch():
    with fathom.seed(0):
        ours = nn.Linear(200, 300)
    torch.manual_seed(0)
    theirs = torch.nn.Linear(200, 300)
    for name in ("weight", "bias"):
        a = np.array(getattr(ours, name).detach())
        b = getattr(theirs, name).detach().numpy()
        assert abs(a.max() - b.max()) < 0.002
        assert a.std() == pytest.approx(b.std(), rel=0.1)


def test_the_twin_is_independent():
    """Guards the tests above: a twin that shared memory would agree by accident."""
    layer = nn.Linear(2, 2).double()
    before = copy.deepcopy(layer.state_dict())
    twin = twin_of(layer)
    with torch.no_grad():
        twin.weight.zero_()
    assert (layer.weight.value() == before["weight"].value()).all()
