"""What is taken for granted of Python's values, and what a trace has changed."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fathom
from fathom import nn
from fathom.compile.guards import Captured, names_of, same_text
from fathom.compile.scalar import ScalarBook


def guards_of(function, arguments=()):
    book = ScalarBook()
    captured = Captured(function, arguments, book)
    return captured, book.guard(list(book.guards)), list(book.guards)


@pytest.mark.parametrize(
    ("value", "others"),
    [
        (2, [3, 2.0, "2", None]),
        (1, [True, 1.0]),
        (True, [1, False]),
        (0.5, [0.25]),
        (math.nan, [0.0]),
        ("same", ["padded"]),
        (None, [0]),
        (np.float32(2), [np.float32(3)]),
    ],
)
def test_plain_values_stay_equal_and_of_their_kind(value, others):
    book, holder = ScalarBook(), {"x": value}
    name = f"{book.source(holder, 'd')}['x']"
    holds = book.guard([same_text(name, value, book)])
    assert holds()
    for other in others:
        holder["x"] = other
        assert not holds(), other


def test_closures_and_the_functions_they_name():
    scale, shift = 2.0, fathom.tensor([1.0])

    def inner(x):
        return x * scale

    def outer(x):
        return inner(x) + shift

    _, holds, texts = guards_of(outer)
    assert any("scale_" in text for text in texts)
    assert holds()
    scale = 3.0
    assert not holds()
    scale = 2.0
    assert holds()
    shift = fathom.tensor([1.0])
    assert not holds()


def test_modules_with_all_that_is_in_them():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    _, holds, texts = guards_of(lambda x: model(x))
    assert any("Dropout" in text and "['p'] == 0.5" in text for text in texts)
    assert holds()
    model.eval()
    assert not holds()
    model.train()
    assert holds()
    weight = model[0].weight
    model[0].weight = nn.Parameter(weight.value().copy())
    assert not holds()
    model[0].weight = weight
    assert holds()
    model.append(nn.ReLU())
    assert not holds()


def test_of_other_objects_what_is_named():
    class Settings:
        def __init__(self):
            self.rate, self.label = 0.1, "a"

    settings = Settings()
    _, holds, _ = guards_of(lambda x: x * settings.rate)
    settings.label = "b"
    assert holds()
    settings.rate = 0.2
    assert not holds()


def test_arguments_that_are_modules():
    layer = nn.Dropout(0.5)
    _, holds, _ = guards_of(lambda m, x: m(x), (layer,))
    layer.p = 0.1
    assert not holds()


def test_names_inside_of_inner_functions():
    def outer():
        def inner(x):
            return x.attribute + NAME  # noqa: F821

        return inner

    assert {"attribute", "NAME"} <= names_of(outer.__code__)


def test_changes_are_found_and_taken_back():
    model = nn.BatchNorm1d(2)
    box = {"last": 1}
    total = 0

    def run(x):
        nonlocal total
        total += 1
        model.mark = x
        box["last"] = x

    captured, _, _ = guards_of(run)
    before = model.running_mean
    run(5)
    model.running_mean = fathom.zeros(2)
    found = {key: now for _, key, _, now in captured.changes()}
    assert found == {"mark": 5, "last": 5, None: 1, "running_mean": model.running_mean}
    captured.restore()
    assert not hasattr(model, "mark")
    assert (box, total, model.running_mean is before) == ({"last": 1}, 0, True)


def test_things_that_refer_to_each_other():
    class Node:
        pass

    first, second = Node(), Node()
    first.other, second.other = second, first
    first.value = 1

    _, holds, _ = guards_of(lambda x: x * first.value + first.other.other.value)
    assert holds()
    first.value = 2
    assert not holds()


def test_attributes_of_a_class_that_an_object_or_the_class_puts_another_value_to(backend):
    class Scale:
        factor = 2.0

    class Scaled(nn.Module):
        power = 1

        def forward(self, x):
            return x**self.power

    scale, module = Scale(), Scaled()
    compiled = fathom.compile(lambda x: module(x) * scale.factor, backend=backend)
    x = fathom.tensor([3.0])
    assert [float(compiled(x)) for _ in range(3)] == [6.0] * 3
    scale.factor = 5.0
    assert [float(compiled(x)) for _ in range(3)] == [15.0] * 3
    Scaled.power = 2
    assert [float(compiled(x)) for _ in range(3)] == [45.0] * 3
    del scale.factor
    assert [float(compiled(x)) for _ in range(3)] == [18.0] * 3
