"""Looking at a graph: saved memory, drawings, and the backward pass step by step."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.autograd import backward_steps, graph_svg, graph_text, memory_report
from fathom.engine.errors import ArgumentError, ShapeError


def leaf(values, name=None, **keywords):
    x = fathom.tensor(values, requires_grad=True, **keywords)
    if name:
        x.name = name
    return x


# -- memory ----------------------------------------------------------------------------------------


def test_bytes_by_operation_and_line() -> None:
    x = leaf(np.ones(1000, np.float32))
    y = (x * 2).exp()
    report = memory_report((y * y).sum())
    assert report.bytes == 4000  # y once, though exp and mul both keep it
    assert report.nodes == 4
    kept = [h for h in report.holders if h.bytes]
    assert len(kept) == 1 and kept[0].site.startswith(__file__)
    assert "4,000 bytes kept by 4 operations" in str(report)


def test_parameters_are_not_counted_and_freed_graphs_are_empty() -> None:
    x, w = fathom.ones(10, 100), leaf(np.ones((100, 50), np.float32))
    loss = (x @ w).tanh().sum()
    report = memory_report(loss)
    assert report.bytes == 10 * 100 * 4 + 10 * 50 * 4  # x and the tanh, not w
    loss.backward()
    assert memory_report(loss).bytes == 0
    assert memory_report(w).nodes == 0


def test_views_count_as_what_they_view() -> None:
    x = leaf(np.ones(1000, np.float32))
    y = x * 2
    report = memory_report((y[:10] * y[:10]).sum() + (y * y).sum())
    assert report.bytes == 4000


def test_same_line_is_one_row() -> None:
    x = leaf([1.0])
    h = x
    for _ in range(5):
        h = h.exp()
    (row,) = memory_report(h).holders
    assert (row.operation, row.count, row.bytes) == ("exp", 5, 20)


# -- drawings --------------------------------------------------------------------------------------


def test_text() -> None:
    a, b = leaf(2.0, "a"), leaf(3.0, "b")
    lines = graph_text((a * b + a).tanh()).splitlines()
    assert [line.split("  ")[0].strip() for line in lines] == [
        "a", "b", "%1 = mul(a, b)", "%2 = add(%1, a)", "%3 = tanh(%2)",
    ]  # fmt: skip
    assert "value 2" in lines[0] and "value 1" in lines[-1] and __file__ in lines[-1]


def test_gradients_appear_after_backward() -> None:
    a = leaf(2.0, "a")
    h = a * a
    h.retain_grad()
    y = h * 3
    y.backward(retain_graph=True)
    assert "grad 12" in graph_text(y)
    assert "grad 3" in graph_text(h) and "grad 3" in graph_svg(h)


def test_leaves_of_the_same_name_stay_apart() -> None:
    text = graph_text(leaf(1.0) + leaf(2.0))
    assert "add(leaf, leaf1)" in text


def test_svg_is_well_formed() -> None:
    a, b = leaf(2.0, "a<b"), leaf([1.0, 2.0], "b & c")
    root = ElementTree.fromstring(graph_svg((a * b).exp(), b.sum()))
    text = "".join(root.itertext())
    assert "a<b" in text and "b & c" in text and "exp" in text
    boxes = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(boxes) == 5
    places = {(r.get("x"), r.get("y")) for r in boxes}
    assert len(places) == 5  # none on top of another
    arrows = [p for p in root.findall("{http://www.w3.org/2000/svg}path")]
    assert len(arrows) == 4


def test_drawing_of_a_model() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    loss = model(fathom.ones(2, 3)).mean()
    loss.backward(retain_graph=True)
    svg = graph_svg(loss)
    ElementTree.fromstring(svg)
    assert "relu" in svg and "in [" in svg


def test_several_outputs_and_limits() -> None:
    x = leaf(np.arange(4.0))
    a, b = fathom.split(x, 2)
    assert "(a" not in graph_text(a * b)
    h = leaf(1.0)
    for _ in range(500):
        h = h * 1.01
    with pytest.raises(ArgumentError, match="500 operations"):
        graph_text(h)
    with pytest.raises(ArgumentError, match="nothing was recorded"):
        graph_svg(fathom.ones(1))


# -- step by step ----------------------------------------------------------------------------------


def test_steps_leave_the_same_gradients_as_backward() -> None:
    rng = np.random.default_rng(0)
    found = []
    for run in (lambda y: y.backward(), lambda y: list(backward_steps(y))):
        x, w = leaf(rng.standard_normal((3, 2))), leaf(np.ones((2, 2)))
        x.data[...] = np.arange(6).reshape(3, 2) / 6
        a, b = fathom.split((x @ w).tanh(), [1, 2])
        run((a.sum() * 2 + (b * b).mean()) + x.sum())
        found.append((x.grad.numpy(), w.grad.numpy()))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_step_shows_upstream_local_product_and_total() -> None:
    a, b = leaf(2.0, "a"), leaf(3.0, "b")
    steps = list(backward_steps(a * b + a))
    assert [s.node.name() for s in steps] == ["add", "mul"]
    last = steps[-1]
    assert last.number == 2 and float(last.upstream) == 1.0
    (to_a, to_b) = last.contributions
    assert to_a.target is a and float(to_a.local) == 3.0 and float(to_a.total) == 4.0
    assert to_b.target is b and float(to_b.product) == 2.0
    assert "-> a: local 3., product 3., total 4." in str(last)


def test_chain_rule_holds_in_every_step() -> None:
    x = leaf([0.5, 1.5])
    for step in backward_steps(((x * 3).exp() * x).sum()):
        for c in step.contributions:
            if c.local is not None:
                np.testing.assert_allclose(c.product, step.upstream * c.local, rtol=1e-6)


def test_steps_are_taken_only_when_asked_for() -> None:
    x = leaf(2.0)
    steps = backward_steps(x * x * x)
    next(steps)
    assert x.grad is None
    list(steps)
    assert x.grad.item() == 12.0


def test_steps_heed_hooks_and_retained_gradients() -> None:
    x = leaf(2.0)
    h = x * 3
    h.register_hook(lambda g: g * 10)
    h.retain_grad()
    x.register_hook(lambda g: g + 1)
    list(backward_steps(h * h))
    assert h.grad.item() == 120.0 and x.grad.item() == 361.0


def test_steps_with_a_gradient_and_without_one() -> None:
    x = leaf([1.0, 2.0])
    list(backward_steps(x * x, [1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 40.0]
    with pytest.raises(ShapeError):
        list(backward_steps(x * x))
