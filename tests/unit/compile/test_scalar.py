"""Numbers that Python works out again before each call."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fathom.compile.scalar import Scalar, ScalarBook
from fathom.engine.errors import GraphError


@pytest.fixture
def options():
    return {
        "lr": 0.1,
        "betas": (0.9, 0.99),
        "step": 3,
        "name": "adam",
        "fused": False,
        "most": None,
    }


@pytest.fixture
def book():
    return ScalarBook()


def read(book, options, key):
    return book.read(options, "group", f"[{key!r}]", options[key])


def test_an_expression_follows_its_sources(book, options):
    lr, step = read(book, options, "lr"), read(book, options, "step")
    rate = 2.0 * lr / (1.0 - 0.5**step) - step + (-lr) * 1 % 7
    work = book.function([rate.text])

    def wanted():
        a, n = options["lr"], options["step"]
        return 2.0 * a / (1.0 - 0.5**n) - n + (-a) * 1 % 7

    assert rate.value == work()[0] == wanted()
    options.update(lr=0.7, step=9)
    assert work()[0] == rate.now() == wanted()


def test_pairs_are_read_one_by_one(book, options):
    first, second = read(book, options, "betas")
    assert (first.value, second.value) == (0.9, 0.99)
    options["betas"] = (0.5, 0.6)
    assert book.function([first.text, second.text])() == (0.5, 0.6)


@pytest.mark.parametrize("key", ["name", "fused", "most"])
def test_what_is_no_number_becomes_a_guard(book, options, key):
    assert read(book, options, key) is options[key]
    holds = book.guard(list(book.guards))
    assert holds()
    options[key] = "another"
    assert not holds()


def test_a_decision_becomes_a_guard(book, options):
    step = read(book, options, "step")
    assert step > 2
    assert not step == 1
    assert step
    holds = book.guard(list(book.guards))
    assert holds()
    options["step"] = 2
    assert not holds()


def test_functions_are_called_before_each_call(book, options):
    step = read(book, options, "step")
    root = (step + 1).sqrt()
    power = step.call(math.pow, step, 2)
    assert (root.value, power.value) == (2.0, 9.0)
    options["step"] = 8
    assert book.function([root.text, power.text])() == (3.0, 64.0)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, np.float64(2.5)])
def test_numbers_of_all_kinds_can_stand_in_an_expression(book, options, number):
    total = read(book, options, "lr") + number
    np.testing.assert_equal(book.function([total.text])()[0], 0.1 + number)


def test_the_value_itself_is_not_given_away(book, options):
    with pytest.raises(GraphError, match=r"\['lr'\].* may change"):
        float(read(book, options, "lr"))


def test_an_object_stays_the_same_one(book):
    holder = {"flat": [1]}
    book.same(holder, "optimizer", "['flat']", holder["flat"], "flat")
    holds = book.guard(list(book.guards))
    assert holds()
    holder["flat"] = [1]  # equal, but another
    assert not holds()


def test_the_text_says_where_a_number_comes_from(book, options):
    lr = read(book, options, "lr")
    assert repr(1.0 - lr) == "Scalar((1.0 - group0['lr']) = 0.9)"
    assert isinstance(lr * 2, Scalar)
