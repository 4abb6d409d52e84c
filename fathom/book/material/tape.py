"""The recorded graphs of Fathom and PyTorch, walked from an output: nodes, order, what is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any


def recorded(*outputs: Any) -> list[Any]:
    """Every object of the graph behind the outputs that gradients pass through, once each.

    An object's `next_functions` are (object, index) in both libraries. Fathom's leaves are tensors
    themselves; PyTorch puts an `AccumulateGrad` there, which is an object of the graph too.

    >>> import fathom
    >>> x = fathom.tensor(2.0, requires_grad=True)
    >>> [n.name() for n in recorded((x * x).exp()) if hasattr(n, "next_functions")]
    ['exp', 'mul']
    """
    found: dict[int, Any] = {}
    waiting = deque(_root(o) for o in outputs)
    while waiting:
        node = waiting.popleft()
        if id(node) not in found:
            found[id(node)] = node
            waiting.extend(successors(node))
    return list(found.values())


def _root(output: Any) -> Any:
    return output.node if hasattr(output, "node") else output.grad_fn


def successors(node: Any) -> list[Any]:
    """The objects that a node hands gradients to."""
    return [n for n, _ in getattr(node, "next_functions", ()) if n is not None]


def operations(nodes: Iterable[Any]) -> list[Any]:
    """The nodes which stand for an operation: not a leaf, and not PyTorch's `AccumulateGrad`."""
    return [
        n for n in nodes if hasattr(n, "next_functions") and type(n).__name__ != "AccumulateGrad"
    ]


def in_order(nodes: Sequence[Any]) -> bool:
    """Whether the graph has a topological order: Kahn's algorithm (1962) uses every node up.

    >>> import fathom
    >>> x = fathom.tensor(2.0, requires_grad=True)
    >>> in_order(recorded((x * x).exp()))
    True
    """
    into = {id(n): 0 for n in nodes}
    for node in nodes:
        for after in successors(node):
            into[id(after)] += 1
    free = [n for n in nodes if into[id(n)] == 0]
    used = 0
    while free:
        used += 1
        for after in successors(free.pop()):
            into[id(after)] -= 1
            if into[id(after)] == 0:
                free.append(after)
    return used == len(nodes)


def searches(root: Any) -> dict[str, list[Any]]:
    """Orders in which a graph search from the root visits the nodes, children from either side.

    Breadth first, depth first (when met), and the reverse postorder of a depth-first search, which
    is the usual topological sort.

    >>> import fathom
    >>> x = fathom.tensor(2.0, requires_grad=True)
    >>> sorted(searches((x * x).exp().node))[:2]
    ['breadth first', 'breadth first, mirrored']
    """
    found = {}
    for mirrored in (False, True):
        end = ", mirrored" if mirrored else ""
        found["breadth first" + end] = _breadth_first(root, mirrored)
        found["depth first" + end], found["postorder" + end] = _depth_first(root, mirrored)
    return found


def _children(node: Any, mirrored: bool) -> list[Any]:
    return successors(node)[::-1] if mirrored else successors(node)


def _breadth_first(root: Any, mirrored: bool) -> list[Any]:
    seen, order, waiting = {id(root)}, [root], deque([root])
    while waiting:
        for after in _children(waiting.popleft(), mirrored):
            if id(after) not in seen:
                seen.add(id(after))
                order.append(after)
                waiting.append(after)
    return order


def _depth_first(root: Any, mirrored: bool) -> tuple[list[Any], list[Any]]:
    """(nodes as they are met, reverse postorder)."""
    met: list[Any] = []
    left: list[Any] = []
    seen: set[int] = set()

    def visit(node: Any) -> None:
        seen.add(id(node))
        met.append(node)
        for after in _children(node, mirrored):
            if id(after) not in seen:
                visit(after)
        left.append(node)

    visit(root)
    return met, left[::-1]
