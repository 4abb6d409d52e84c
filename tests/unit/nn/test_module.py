import copy
import pickle

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.engine.errors import ArgumentError, DtypeError, FathomError, ShapeError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)
        self.gain = nn.Parameter([2.0])
        self.register_buffer("count", fathom.tensor([0.0]))
        self.register_buffer("cache", fathom.tensor([9.0]), persistent=False)

    def forward(self, x):
        return self.inner(x) * self.gain


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(3, 2, bias=False))

    def forward(self, x):
        return self.head(self.first(x))


@pytest.fixture
def model():
    with fathom.seed(0):
        return Model()


def values(module):
    return {name: t.value().copy() for name, t in module.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class TestRegistration:
    def test_nested_names_in_order(self, model):
        assert [name for name, _ in model.named_parameters()] == [
            "first.gain", "first.inner.weight", "first.inner.bias", "head.1.weight",
        ]  # fmt: skip
        assert [name for name, _ in model.named_modules()] == [
            "", "first", "first.inner", "head", "head.0", "head.1",
        ]  # fmt: skip
        assert [name for name, _ in model.named_buffers()] == ["first.count", "first.cache"]
        assert [name for name, _ in model.named_children()] == ["first", "head"]
        assert model.get_submodule("head.1").out_features == 2

    def test_unknown_submodule_gets_a_suggestion(self, model):
        with pytest.raises(ArgumentError, match=r"did you mean 'first\.inner'"):
            model.get_submodule("first.iner")

    def test_shared_parameters_are_listed_once_and_saved_under_both_names(self):
        a, b = nn.Linear(2, 2), nn.Linear(2, 2)
        b.weight = a.weight
        both = nn.Sequential(a, b)
        assert [n for n, _ in both.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
        assert "1.weight" in both.state_dict()

    def test_a_layer_assigned_anew_keeps_its_place(self):
        model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
        setattr(model, "0", nn.Linear(2, 3, bias=False))
        assert [type(layer) for layer in model] == [nn.Linear, nn.Tanh, nn.Linear]
        assert model[0].bias is None

    def test_an_attribute_changes_its_kind(self, model):
        model.head = None
        assert model.head is None
        assert list(dict(model.named_modules())) == ["", "first", "first.inner"]
        model.head = nn.Linear(3, 1)
        assert "head.weight" in model.state_dict()
        del model.head
        assert not hasattr(model, "head")

    def test_a_tensor_assigned_to_a_buffer_stays_a_buffer(self, model):
        model.first.count = model.first.count + 1
        assert float(model.state_dict()["first.count"]) == 1.0

    def test_a_plain_tensor_does_not_replace_a_parameter(self, model):
        with pytest.raises(ArgumentError, match=r"nn\.Parameter"):
            model.first.gain = fathom.tensor([1.0])
        model.first.gain = nn.Parameter([5.0])
        assert float(model.state_dict()["first.gain"]) == 5.0

    @pytest.mark.parametrize(
        "register",
        [
            lambda m: m.register_parameter("a.b", nn.Parameter([1.0])),
            lambda m: m.register_parameter("a", fathom.tensor([1.0])),
            lambda m: m.register_buffer("", fathom.tensor([1.0])),
            lambda m: m.register_buffer("a", np.ones(2)),
            lambda m: m.add_module("a.b", nn.ReLU()),
            lambda m: m.add_module("a", None),
        ],
    )
    def test_bad_registrations(self, register):
        module = nn.Module()
        with pytest.raises(ArgumentError):
            register(module)
        assert not module.state_dict()

    def test_setting_before_init(self):
        class Forgetful(nn.Module):
            def __init__(self):
                self.layer = nn.ReLU()

        with pytest.raises(FathomError, match=r"super\(\).__init__\(\)"):
            Forgetful()

    def test_missing_attribute_gets_a_suggestion(self, model):
        with pytest.raises(AttributeError, match="did you mean 'head'"):
            _ = model.haed
        with pytest.raises(AttributeError, match="count"):
            _ = model.first.counts

    def test_no_forward(self):
        with pytest.raises(NotImplementedError, match="Module has no forward"):
            nn.Module()(1)


class TestState:
    def test_buffers_are_saved_unless_transient(self, model):
        assert set(model.state_dict()) == {
            "first.gain", "first.inner.weight", "first.inner.bias", "first.count", "head.1.weight",
        }  # fmt: skip

    def test_round_trip_copies(self, model):
        with fathom.seed(1):
            other = Model()
        assert other.load_state_dict(model.state_dict()) == ([], [])
        assert_same(values(other), values(model))
        other.first.gain.data += 1
        assert float(model.first.gain) == 2.0

    def test_strict_names_what_is_missing_and_unexpected(self, model):
        state = values(model)
        state["extra"] = state.pop("first.gain")
        before = values(model)
        with pytest.raises(ArgumentError, match=r"missing: first\.gain; unexpected: extra"):
            model.load_state_dict(state)
        assert_same(values(model), before)
        assert model.load_state_dict(state, strict=False) == (["first.gain"], ["extra"])

    @pytest.mark.parametrize(
        ("bad", "error", "text"),
        [
            (np.zeros((2, 9)), ShapeError, r"head\.1\.weight.*\(2, 9\).*\(2, 3\)"),
            (np.full((2, 3), "a"), DtypeError, r"head\.1\.weight.*no numbers"),
        ],
    )
    def test_a_misfit_changes_nothing(self, model, bad, error, text):
        before = values(model)
        state = {name: value + 1 for name, value in before.items()}
        state["head.1.weight"] = bad  # the last one: the others would be written already
        with pytest.raises(error, match=text):
            model.load_state_dict(state, strict=False)
        assert_same(values(model), before)

    def test_loading_is_an_in_place_write_the_tape_notices(self, model):
        out = model(fathom.ones(2, 3)).sum()
        model.load_state_dict(model.state_dict())
        with pytest.raises(FathomError, match="edited in place"):
            out.backward()

    def test_to_double_and_back(self, model):
        model.double()
        assert {t.dtype for t in model.state_dict().values()} == {np.dtype(np.float64)}
        assert model(np.ones((1, 3))).dtype == np.float64
        assert model.float()(np.ones((1, 3), np.float32)).dtype == np.float32


class TestModes:
    def test_train_and_eval_reach_every_layer(self, model):
        assert model.eval() is model
        assert not any(m.training for m in model.modules())
        model.head.train()
        assert [m.training for m in model.modules()] == [False, False, False, True, True, True]

    def test_zero_grad(self, model):
        model(fathom.ones(1, 3)).sum().backward()
        model.zero_grad(set_to_none=False)
        assert all((p.grad.value() == 0).all() for p in model.parameters())
        model.zero_grad()
        assert all(p.grad is None for p in model.parameters())

    def test_freezing(self, model):
        model.first.requires_grad_(False)
        model(fathom.ones(1, 3)).sum().backward()
        assert [p.grad is None for p in model.parameters()] == [True, True, True, False]

    def test_apply_visits_children_first(self, model):
        seen = []
        model.apply(lambda m: seen.append(type(m).__name__))
        assert seen[-1] == "Model"
        assert len(seen) == 6


class TestHooks:
    def test_forward_hooks_see_and_replace(self):
        layer = nn.Linear(2, 2)
        seen = []
        pre = layer.register_forward_pre_hook(lambda m, inputs: (inputs[0] * 0,))
        post = layer.register_forward_hook(
            lambda m, inputs, out: seen.append((m, inputs[0].tolist(), out.tolist()))
        )
        out = layer(fathom.ones(1, 2))
        assert seen == [(layer, [[0.0, 0.0]], [layer.bias.tolist()])]
        assert out.tolist() == [layer.bias.tolist()]
        swap = layer.register_forward_hook(lambda m, inputs, out: out + 1)
        assert layer(fathom.ones(1, 2)).tolist() != out.tolist()
        for handle in (pre, post, swap):
            handle.remove()
        seen.clear()
        assert layer(fathom.zeros(1, 2)).tolist() == [layer.bias.tolist()]
        assert not seen

    def test_pre_hook_may_return_one_value(self):
        layer = nn.Identity()
        layer.register_forward_pre_hook(lambda m, inputs: "replaced")
        assert layer(1) == "replaced"

    def test_backward_hook_sees_and_replaces(self):
        layer = nn.Linear(2, 1, bias=False)
        layer.load_state_dict({"weight": [[3.0, 4.0]]})
        seen = []

        def hook(module, grad_input, grad_output):
            seen.append((grad_input[0].tolist(), grad_output[0].tolist()))
            return (grad_input[0] * 10,)

        handle = layer.register_full_backward_hook(hook)
        x = fathom.tensor([[1.0, 1.0]], requires_grad=True)
        layer(x * 1).sum().backward()
        assert seen == [([[3.0, 4.0]], [[1.0]])]
        assert x.grad.tolist() == [[30.0, 40.0]]
        handle.remove()
        x.grad = None
        layer(x).sum().backward()
        assert x.grad.tolist() == [[3.0, 4.0]]
        assert len(seen) == 1

    def test_backward_hooks_chain(self):
        layer = nn.Identity()
        for factor in (2.0, 3.0):
            layer.register_full_backward_hook(lambda m, gi, go, f=factor: (gi[0] * f,))
        x = fathom.tensor([1.0], requires_grad=True)
        layer(x).sum().backward()
        assert x.grad.tolist() == [6.0]

    def test_backward_hook_with_several_inputs_and_outputs(self):
        class Pair(nn.Module):
            def forward(self, x, flag, y):
                return x * y, y + 1

        module, seen = Pair(), []
        module.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
        x = fathom.tensor([2.0], requires_grad=True)
        y = fathom.tensor([5.0], requires_grad=True)
        product, _ = module(x, "flag", y)
        product.sum().backward()
        (grad_input, grad_output) = seen[0]
        assert len(seen) == 1
        assert [g if g is None else g.tolist() for g in grad_input] == [[5.0], None, [2.0]]
        assert [g if g is None else g.tolist() for g in grad_output] == [[1.0], None]

    @pytest.mark.parametrize("wrong", [lambda g: (g, g), lambda g: fathom.ones(7)])
    def test_backward_hook_that_returns_the_wrong_shapes(self, wrong):
        layer = nn.Tanh()
        layer.register_full_backward_hook(lambda m, gi, go: wrong(gi[0]))
        x = fathom.tensor([1.0], requires_grad=True)
        with pytest.raises(ShapeError, match="backward hook"):
            layer(x).sum().backward()

    def test_backward_hook_does_not_change_values_or_gradients(self, model):
        x = fathom.tensor(np.arange(6.0, dtype=np.float32).reshape(2, 3))
        model(x).sum().backward()
        plain = [p.grad.value().copy() for p in model.parameters()]
        model.zero_grad()
        for module in model.modules():
            module.register_full_backward_hook(lambda m, gi, go: None)
        model(x).sum().backward()
        for p, before in zip(model.parameters(), plain, strict=True):
            np.testing.assert_array_equal(p.grad.value(), before)

    def test_backward_hook_under_no_grad(self):
        layer = nn.Linear(2, 1)
        layer.register_full_backward_hook(lambda m, gi, go: None)
        with fathom.no_grad():
            assert not layer(fathom.ones(1, 2)).requires_grad

    def test_a_hook_may_remove_itself(self):
        layer, calls = nn.Identity(), []

        def once(module, inputs, output):
            calls.append(1)
            handle.remove()

        handle = layer.register_forward_hook(once)
        layer(1)
        layer(1)
        assert calls == [1]


class TestCopies:
    @pytest.mark.parametrize(
        "duplicate",
        [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
        ids=["copy", "pickle"],
    )
    def test_equal_and_independent(self, model, duplicate):
        model.eval()
        model.head[1].requires_grad_(False)
        twin = duplicate(model)
        assert_same(values(twin), values(model))
        x = np.ones((2, 3), np.float32)
        assert twin(x).tolist() == model(x).tolist()
        assert not twin.training
        assert [p.requires_grad for p in twin.parameters()] == [True, True, True, False]
        for parameter in twin.parameters():
            parameter.data += 1
        twin.first.count.data += 1
        assert not np.array_equal(twin.first.gain.value(), model.first.gain.value())
        assert float(model.first.count) == 0.0

    def test_a_deep_copy_keeps_sharing(self):
        a, b = nn.Linear(2, 2), nn.Linear(2, 2)
        b.weight = a.weight
        twin = copy.deepcopy(nn.Sequential(a, b))
        assert twin[0].weight is twin[1].weight
        assert twin[0].weight is not a.weight

    def test_hooks_added_to_the_copy_stay_there(self, model):
        twin = copy.deepcopy(model)
        twin.register_forward_hook(lambda m, i, o: o * 0)
        x = np.ones((1, 3), np.float32)
        assert (twin(x).value() == 0).all()
        assert not (model(x).value() == 0).all()


class TestText:
    def test_repr(self, model):
        assert repr(model) == (
            "Model(\n"
            "  (first): Block(\n"
            "    (inner): Linear(in_features=3, out_features=3, bias=True)\n"
            "  )\n"
            "  (head): Sequential(\n"
            "    (0): ReLU()\n"
            "    (1): Linear(in_features=3, out_features=2, bias=False)\n"
            "  )\n"
            ")"
        )

    def test_shape_errors_name_the_layer_two_deep(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(7, 2)))
        with pytest.raises(ShapeError) as caught:
            model(fathom.ones(3, 4))
        text = str(caught.value)
        assert "in layer: 1.1 (Linear)" in text
        assert "expected 7 features, received 8" in text

    def test_the_path_works_through_containers_without_forward(self):
        class Holder(nn.Module):
            def __init__(self):
                super().__init__()
                self.parts = nn.Sequential(nn.Linear(2, 2), nn.Linear(5, 1))

            def forward(self, x):
                return self.parts[1](self.parts[0](x))

        with pytest.raises(ShapeError, match=r"in layer: parts\.1 \(Linear\)"):
            Holder()(fathom.ones(1, 2))
