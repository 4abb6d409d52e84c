import numpy as np
import pytest

import fathom
from fathom import models, nn
from fathom.engine.errors import ArgumentError
from fathom.nn.prepare import NAMES
from fathom.nn.spec import from_spec, to_spec

X = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)


def made(**options):
    with fathom.seed(0):
        return models.mlp(6, 3, (16, 8), **options)


@pytest.mark.parametrize(
    ("activation", "wider"),
    [("relu", 1), ("glu", 2), ("geglu", 2), ("swiglu", 2), ("reglu", 2), ("maxout", 2),
     ("maxout:pieces=3", 3), ("leaky_relu:negative_slope=0.3", 1), ("softmax", 1)],
)  # fmt: skip
def test_gated_layers_have_the_widths_asked_for_behind_them(activation, wider):
    model = made(activation_name=activation)
    layers = [m for m in model if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == [
        (6, 16 * wider), (16, 8 * wider), (8, 3)
    ]  # fmt: skip
    assert model(fathom.tensor(X)).shape == (64, 3)
    assert from_spec(to_spec(model))(fathom.tensor(X)).shape == (64, 3)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("dirac", "fixup", "default")])
def test_initial_weights_by_name(name):
    options = {"constant": {"value": 0.5}, "sparse": {"sparsity": 0.5}}.get(name, {})
    model = made(init={"name": name, **options}, data=X)
    same = made(init={"name": name.replace("_", "-").upper(), **options}, data=X)
    first = model[0].weight.value()
    assert np.array_equal(first, same[0].weight.value())
    assert not np.array_equal(first, made()[0].weight.value())
    assert not model[0].bias.value().any() and not model[-1].bias.value().any()


def test_what_the_names_mean():
    orthogonal = made(init="orthogonal:gain=2")[0].weight.value()
    np.testing.assert_allclose(orthogonal.T @ orthogonal, 4 * np.eye(6), atol=1e-5)
    assert not made(init="zeros")[2].weight.value().any()
    with fathom.seed(0):
        wide = models.mlp(400, 300, (300,), "tanh", init="auto")
    gains = [np.var(wide[i].weight.value()) for i in (0, 2)]
    assert gains == pytest.approx([(5 / 3) ** 2 * 2 / 700, 1 / 300], rel=0.03)
    fitted = made(init="lsuv", data=X)
    assert np.std(fitted[0](fathom.tensor(X)).value()) == pytest.approx(1.0, abs=0.06)
    assert np.array_equal(made(init="default")[0].weight.value(), made()[0].weight.value())


@pytest.mark.parametrize(
    ("init", "text"),
    [
        ("he_nromal", "unknown initial weights 'he_nromal'\n.*did you mean 'he_normal'.*lsuv"),
        (7, "unknown initial weights '7'"),
        ("lsuv", "'lsuv' are fitted to data"),
        ("he_normal:gian=2", "no option 'gian'\n.*did you mean 'gain'"),
        ("zeros:value=2", "'zeros' have no option 'value'\n.*it has none"),
        ("constant", "'constant' need the option 'value'"),
        ("fixup", "no nn.Residual blocks"),
        ("dirac", "dirac_: needs a weight"),
    ],
)
def test_mistakes_of_init(init, text):
    with pytest.raises((ArgumentError, ValueError), match=text):
        made(init=init)


def test_mistakes_of_activations():
    with pytest.raises(ArgumentError, match="did you mean 'swiglu'"):
        made(activation_name="swigul")
    with pytest.raises(ArgumentError, match="maxout"):
        made(activation_name="maxout:peices=3")
