"""The tape: nodes that remember operations.

A node holds its primitive, edges to the nodes its inputs came from, and what the primitive's
rule declared it needs. The pass over them is in `backward`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ReferenceType

import numpy as np

from fathom.engine.errors import InplaceError
from fathom.engine.tensor import (
    Array,
    Cell,
    Edge,
    Removable,
    Site,
    Tensor,
    describe_site,
)

if TYPE_CHECKING:
    from fathom.engine.primitive import Primitive


class Spec(NamedTuple):
    """Shape and dtype of a value that a rule needs to know but not to see."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Node:
    """One recorded operation."""

    primitive: Primitive
    parents: tuple[Edge | Tensor | None, ...]  # a leaf stands for itself
    saved: tuple[Any, ...] | None  # inputs (or Nones); None once freed
    out: Any = None  # saved output data
    extra: Any = None  # what else the forward pass left for the rule
    params: dict[str, Any]
    shape: Any  # of the output; a tuple of shapes for several
    dtype: Any
    sequence: int
    cells: Cell | None = None  # of the saved output
    site: Site | None = None
    hooks: dict[int, list[Any]] | None = None
    kept: dict[int, ReferenceType[Tensor]] | None = None  # outputs whose gradient is retained
    node_hooks: tuple[list[Any], list[Any]] | None = None
    watched: bool = False  # whether anyone waits for this node's gradient
    layer: str = ""  # path of the module, known in anomaly mode

    @property
    def outputs(self) -> int:
        """Number of outputs; most operations have one."""
        return len(self.shape) if isinstance(self.dtype, tuple) else 1

    def name(self) -> str:
        return self.primitive.name

    @property
    def next_functions(self) -> tuple[tuple[Node | Tensor, int], ...]:
        """Where the gradients go: (node, output index), or (leaf, 0)."""
        return tuple((p, 0) if isinstance(p, Tensor) else p for p in self.parents if p is not None)

    def register_prehook(self, hook: Callable[..., Any]) -> Removable:
        """`hook(grad_outputs)` before the rule runs; a returned tuple replaces them."""
        return Removable(self._lists()[0], hook)

    def register_hook(self, hook: Callable[..., Any]) -> Removable:
        """`hook(grad_inputs, grad_outputs)` after the rule ran; a returned tuple replaces."""
        return Removable(self._lists()[1], hook)

    def _lists(self) -> tuple[list[Any], list[Any]]:
        if self.node_hooks is None:
            self.node_hooks, self.watched = ([], []), True
        return self.node_hooks

    def free(self) -> None:
        self.saved = self.out = self.extra = self.cells = None

    def saved_arrays(self) -> list[Array]:
        """The arrays held for the backward pass."""
        held = [*(self.saved or ()), self.out, *(self.extra or ())]
        values = [h.value() if isinstance(h, Tensor) else h for h in held]
        return [v for v in values if isinstance(v, np.ndarray)]

    def __repr__(self) -> str:
        return f"<{self.primitive.name} at {describe_site(self.site)}>"


def parent_spec(parent: Edge | Tensor) -> Spec:
    """Shape and dtype of the value an edge leads to."""
    if isinstance(parent, Tensor):
        return Spec(parent.shape, parent.dtype)
    node, index = parent
    if isinstance(node.dtype, tuple):
        return Spec(node.shape[index], node.dtype[index])
    return Spec(node.shape, node.dtype)


# -- accumulation ----------------------------------------------------------------------------


# A gradient under way is a list [value, owned]: the first contribution is kept by reference,
# the second makes a sum of our own, later ones are added to that in place.


def add_to(slot: list[Any], gradient: Any) -> None:
    """Add a further contribution to a gradient under way."""
    if slot[1] and slot[0].__class__ is np.ndarray and gradient.__class__ is np.ndarray:
        np.add(slot[0], gradient, out=slot[0])
    else:
        slot[0] = slot[0] + gradient
        slot[1] = slot[0].__class__ is np.ndarray


def sum_to(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Undo broadcasting: add up what was spread. Works on arrays and tensors alike."""
    lead = len(gradient.shape) - len(shape)
    axes = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and gradient.shape[i + lead] != 1
    )
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


def match(gradient: Any, spec: Spec) -> Any:
    """A gradient in the shape and dtype of the value it belongs to."""
    if gradient.shape != spec.shape:
        gradient = sum_to(gradient, spec.shape)
    if gradient.dtype != spec.dtype:
        gradient = gradient.astype(spec.dtype)
    return gradient


def scale(g: Any, slope: Any, out: Any, ins: Sequence[Any]) -> Any:
    """g times a partial derivative: one line for all elementwise rules in both modes."""
    if callable(slope):
        return g * slope(out, *ins)
    if slope == 1:
        return g
    return -g if slope == -1 else g * slope


# -- what the backward pass asks of a node ----------------------------------------------------


def key(tensor: Tensor) -> tuple[int, int]:
    """What identifies a tensor in a sweep: its node and output, or the leaf itself."""
    return (id(tensor), -1) if tensor.edge is None else (id(tensor.edge[0]), tensor.edge[1])


def check_versions(node: Node) -> None:
    """Refuse to differentiate with values that were overwritten since they were saved."""
    now = node.sequence
    if node.cells is not None and node.cells.time > now:
        raise overwritten(node, node.cells)
    for a in node.saved or ():
        if isinstance(a, Tensor) and a.cell is not None and a.cell.time > now:
            raise overwritten(node, a.cell)


def overwritten(node: Node, cell: Cell) -> InplaceError:
    return InplaceError(
        f"{node.primitive.name} ({describe_site(node.site)}) needs a value for its gradient that "
        f"was edited in place at {describe_site(cell.site)}",
        fix="write the edit out of place (y = x + 1, not x += 1), or edit a copy",
    )


def reachable(roots: Iterable[Tensor], wanted: dict[tuple[int, int], int]) -> set[Node]:
    """The nodes on a way from the roots to what is wanted."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [t.edge[0] for t in roots if t.edge is not None]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        order.append(node)
        stack.extend(p[0] for p in node.parents if p is not None and not isinstance(p, Tensor))
    useful: set[Node] = set()
    for node in sorted(order, key=lambda n: n.sequence):
        if any((id(node), i) in wanted for i in range(node.outputs)) or any(
            (id(p), -1) in wanted if isinstance(p, Tensor) else p is not None and p[0] in useful
            for p in node.parents
        ):
            useful.add(node)
    return useful
