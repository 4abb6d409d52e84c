"""Who holds the memory: the arrays that a graph keeps for its backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fathom.engine.tape import Node
from fathom.engine.tensor import Array, Tensor, describe_site


@dataclass(frozen=True)
class Holder:
    """The operations of one kind and line, and the bytes they keep."""

    operation: str
    site: str
    count: int
    bytes: int


@dataclass(frozen=True)
class MemoryReport:
    """Saved arrays of a graph, largest holder first; an array shared by nodes counts once."""

    holders: tuple[Holder, ...]
    nodes: int

    @property
    def bytes(self) -> int:
        return sum(h.bytes for h in self.holders)

    def __str__(self) -> str:
        lines = [f"{self.bytes:,} bytes kept by {self.nodes} operations"]
        lines += [
            f"{h.bytes:>14,}  {h.operation} x{h.count}  {h.site}" for h in self.holders if h.bytes
        ]
        return "\n".join(lines)


def nodes_of(*tensors: Tensor) -> Iterator[Node]:
    """Every node of the graph behind the tensors, newest first."""
    seen: set[Node] = set()
    stack = [t.edge[0] for t in tensors if t.edge is not None]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(p[0] for p in node.parents if p is not None and not isinstance(p, Tensor))
    yield from sorted(seen, key=lambda n: -n.sequence)


def base_of(array: Array) -> Array:
    """The array that owns the memory of a view."""
    while array.base is not None and hasattr(array.base, "nbytes"):
        array = array.base
    return array


def memory_report(*tensors: Tensor) -> MemoryReport:
    """What the graph behind the tensors keeps: a table of operation, line, count and bytes.

    Parameters of the model (leaves) are not counted: they are there anyway.

    >>> import fathom
    >>> x = fathom.ones(1000, requires_grad=True)
    >>> memory_report((x * 2).exp().sum()).bytes
    4000
    """
    leaves = _leaf_arrays(tensors)
    counted: set[int] = set(leaves)
    table: dict[tuple[str, str], list[int]] = {}
    count = 0
    for node in nodes_of(*tensors):
        count += 1
        row = table.setdefault((node.primitive.name, describe_site(node.site)), [0, 0])
        row[0] += 1
        for array in map(base_of, node.saved_arrays()):
            if id(array) not in counted:
                counted.add(id(array))
                row[1] += array.nbytes
    holders = [Holder(op, site, n, size) for (op, site), (n, size) in table.items()]
    return MemoryReport(tuple(sorted(holders, key=lambda h: -h.bytes)), count)


def _leaf_arrays(tensors: tuple[Tensor, ...]) -> dict[int, Any]:
    return {
        id(base_of(p.value())): p
        for node in nodes_of(*tensors)
        for p in node.parents
        if isinstance(p, Tensor)
    }
