"""no_grad, enable_grad, set_grad_enabled: block, decorator, statement, generator, thread."""

import threading

import pytest

import fathom
from fathom import enable_grad, is_grad_enabled, no_grad, set_grad_enabled


def records() -> bool:
    return bool((fathom.ones(1, requires_grad=True) * 2).requires_grad)


def test_blocks_nest() -> None:
    assert records()
    with no_grad():
        assert not records()
        with enable_grad():
            assert records()
            with no_grad():
                assert not is_grad_enabled()
        assert not records()
    assert records()


def test_block_ends_with_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert records()


def test_one_object_in_nested_blocks() -> None:
    mode = no_grad()
    with mode:
        with enable_grad():
            with mode:
                assert not records()
            assert records()
        assert not records()
    assert records()


def test_decorators() -> None:
    @no_grad()
    def without(a, *, b):
        """Doc."""
        return records(), a, b

    @enable_grad()
    def with_grad():
        return records()

    @set_grad_enabled(False)
    def switched():
        return records()

    assert without(1, b=2) == (False, 1, 2) and without.__doc__ == "Doc."
    assert records()  # the decorators themselves changed nothing
    assert not switched()
    with no_grad():
        assert with_grad()
    assert records()


def test_recursive_decorated_function() -> None:
    @no_grad()
    def depth(n):
        return [records(), *(depth(n - 1) if n else [])]

    assert depth(3) == [False] * 4
    assert records()


def test_set_grad_enabled_as_a_block() -> None:
    for train in (True, False):
        with set_grad_enabled(train):
            assert records() is train
        assert records()
    mode = set_grad_enabled(False)
    with mode, enable_grad(), mode:
        assert not records()
    assert records()


def test_set_grad_enabled_as_a_statement() -> None:
    with enable_grad():
        set_grad_enabled(False)
        assert not records()
        set_grad_enabled(True)
        assert records()
        set_grad_enabled(False)
    assert records()  # the block put back what was before


def test_generator_holds_the_mode_only_while_it_runs() -> None:
    @no_grad()
    def numbers():
        for i in range(3):
            yield i, records()

    seen = []
    for i, inside in numbers():
        seen.append((i, inside, records()))
    assert seen == [(i, False, True) for i in range(3)]


def test_generator_send_throw_return_and_close() -> None:
    closed = []

    @no_grad()
    def echo():
        received = yield records()
        try:
            received = yield received, records()
        except ValueError:
            received = yield "caught", records()
        try:
            yield "last"
        finally:
            closed.append(records())

    g = echo()
    assert next(g) is False
    assert g.send("sent") == ("sent", False) and records()
    assert g.throw(ValueError()) == ("caught", False) and records()
    assert next(g) == "last"
    g.close()
    assert closed == [False] and records()


def test_generator_returns_its_value() -> None:
    @enable_grad()
    def returning():
        yield 1
        return records()

    def outer():
        result = yield from returning()
        yield "result", result

    with no_grad():
        assert list(outer()) == [1, ("result", True)]


def test_a_mode_belongs_to_its_thread() -> None:
    seen, inside, done = [], threading.Event(), threading.Event()

    def other() -> None:
        with no_grad():
            inside.set()
            done.wait(5)
            seen.append(records())

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(5)
    assert records()
    with no_grad():
        fresh = []
        second = threading.Thread(target=lambda: fresh.append(records()))
        second.start()
        second.join()
    assert fresh == [True]
    done.set()
    thread.join()
    assert seen == [False] and records()


def test_backward_runs_under_no_grad() -> None:
    x = fathom.tensor(2.0, requires_grad=True)
    y = x * x
    with no_grad():
        y.backward()
    assert x.grad.item() == 4.0 and not x.grad.requires_grad


def test_create_graph_under_no_grad() -> None:
    x = fathom.tensor(2.0, requires_grad=True)
    y = x**3
    with no_grad():
        (g,) = fathom.autograd.grad(y, x, create_graph=True)
        assert is_grad_enabled() is False
    assert fathom.autograd.grad(g, x)[0].item() == 12.0


def test_threads_train_side_by_side() -> None:
    results = {}

    def work(k: int) -> None:
        w = fathom.tensor([float(k)], requires_grad=True)
        for _ in range(50):
            w.zero_grad()
            ((w * w * w).sum() + (w * k).sum()).backward()
        results[k] = w.grad.item()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {k: 3.0 * k * k + k for k in range(1, 5)}
