"""The backward pass: from the newest node to the leaves, without recursion.

Nodes are taken newest first, so that every node has heard from all its consumers before it
speaks. A chain of 150,000 nodes is as good as one of three.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from fathom.engine.errors import DtypeError, GraphError, GraphFreedError, ShapeError
from fathom.engine.hearing import hearers
from fathom.engine.levels import taped
from fathom.engine.modes import is_grad_enabled, set_grad_enabled
from fathom.engine.tape import (
    Node,
    add_to,
    check_versions,
    key,
    match,
    parent_spec,
    reachable,
    scale,
)
from fathom.engine.tensor import (
    Edge,
    Tensor,
    TensorLike,
    describe_site,
    recorded,
    to_array,
)

# Set by anomaly mode: called with each node, its gradient and what its rule returned.
CHECK: ContextVar[Callable[..., None] | None] = ContextVar("fathom_check", default=None)


class Sweep:
    """One backward pass: pending gradients, the queue of nodes, and what was asked for."""

    def __init__(
        self, level: int, create_graph: bool, retain_graph: bool, wanted: Sequence[Tensor]
    ) -> None:
        self.level = level
        self.create_graph = create_graph
        self.retain_graph = retain_graph
        self.queue: list[tuple[int, Node]] = []
        self.pending: dict[Node, list[Any]] = {}  # a slot; for several outputs, a list of slots
        self.leaves: dict[int, tuple[Tensor, list[Any]]] = {}
        self.wanted = {key(t): i for i, t in enumerate(wanted)}
        self.found: list[Any] = [None] * len(wanted)
        self.needed: set[Node] | None = None
        self.check = CHECK.get()

    def give(self, target: Edge | Tensor, gradient: Any, fresh: bool) -> None:
        """Add a gradient to what is pending for a node's output or for a leaf."""
        if isinstance(target, Tensor):
            if self.wanted and (id(target), -1) not in self.wanted:
                return
            if id(target) in self.leaves:
                add_to(self.leaves[id(target)][1], gradient)
            else:
                self.leaves[id(target)] = (target, [gradient, fresh])
            return
        node, index = target
        if self.needed is not None and node not in self.needed:
            return
        slot = self.pending.get(node)
        if slot is None:
            heapq.heappush(self.queue, (-node.sequence, node))
            if node.dtype.__class__ is not tuple:
                self.pending[node] = [gradient, fresh]
                return
            slot = self.pending[node] = [None] * node.outputs
        if node.dtype.__class__ is not tuple:
            add_to(slot, gradient)
        elif slot[index] is None:
            slot[index] = [gradient, fresh]
        else:
            add_to(slot[index], gradient)

    def run(self) -> None:
        """Take the nodes newest first; each has then heard from all its consumers."""
        plain = not (self.create_graph or self.wanted or self.level or self.check)
        while self.queue:
            node = heapq.heappop(self.queue)[1]
            slot = self.pending.pop(node)
            if plain and node.primitive.unary and node.saved and not node.watched:
                self.step_unary(node, slot[0])
            elif node.dtype.__class__ is tuple:
                self.step(node, tuple(s and s[0] for s in slot))
            else:
                self.step(node, slot[0])

    def step_unary(self, node: Node, gradient: Any) -> None:
        """The commonest step without the questions of the general one: f'(x) times g."""
        x, cells = node.saved[0], node.cells  # type: ignore[index]
        if x is not None or (cells is not None and cells.time > node.sequence):
            check_versions(node)
            x = x.data if isinstance(x, Tensor) else x
        result = scale(gradient, node.primitive.rules[0], node.out, (x,))
        if not self.retain_graph:
            node.free()
        self.give(node.parents[0], result, result is not gradient)  # type: ignore[arg-type]

    def step(self, node: Node, gradient: Any) -> None:
        """Let one node speak: hooks, its rule, and on to its parents."""
        if node.hooks or node.kept:
            gradient = self.run_hooks(node, gradient)
        if self.wanted:
            self.collect(node, gradient)
            if not self.continues(node):
                return
        if node.node_hooks is None:
            results = self.pull(node, gradient)
        else:
            gradient, results = self.pull_hooked(node, gradient)
        if self.check is not None:
            self.check(node, gradient, results)
        owner = node.primitive.fresh
        for parent, result in zip(node.parents, results, strict=True):
            if parent is None or result is None:
                continue
            spec: Any = parent[0] if parent.__class__ is tuple else parent
            if spec.dtype.__class__ is tuple:
                spec = parent_spec(parent)
            if result.shape != spec.shape or result.dtype != spec.dtype:
                result = match(result, spec)
            fresh = owner and result is not gradient and result.__class__ is np.ndarray
            self.give(parent, result, fresh and result.base is None)

    def pull(self, node: Node, gradient: Any) -> Sequence[Any]:
        """The gradients of a node's inputs, by its primitive's rule."""
        if node.saved is None:
            raise GraphFreedError(
                f"backward through {node.primitive.name} ({describe_site(node.site)}) a second "
                "time: the values it saved were freed by the first",
                fix="loss.backward(retain_graph=True) the first time, or compute the loss again",
            )
        check_versions(node)
        if self.create_graph:
            ins: list[Any] = list(node.saved)
            out = None if node.out is None else rewrap(node, self.level)
        else:
            level = self.level
            ins = [a.data if isinstance(a, Tensor) and a.level == level else a for a in node.saved]
            out = node.out
        if node.primitive.form in ("linear", "general"):  # shapes stand in for what was not saved
            for i, parent in enumerate(node.parents):
                if ins[i] is None and parent is not None:
                    ins[i] = parent_spec(parent)
        results = node.primitive.pullback(node, gradient, out, ins)
        if not self.retain_graph:
            node.free()
        return results

    def finish(self) -> None:
        """Let the hooks of leaves speak, once, on their sums."""
        for leaf, total in self.leaves.values():
            for hook in list((leaf.extra or {}).get("hooks", ())):
                total[:] = self.call_hook(hook, total[0]), False
            i = self.wanted.get((id(leaf), -1))
            if i is not None:
                self.found[i] = total[0] if total[1] else own(total[0])

    def collect(self, node: Node, gradient: Any) -> None:
        several = isinstance(gradient, tuple)
        for index in range(node.outputs):
            i = self.wanted.get((id(node), index))
            if i is not None:
                self.found[i] = own(gradient[index] if several else gradient)

    def continues(self, node: Node) -> bool:
        """Whether anything that was asked for lies behind this node."""
        for parent in node.parents:
            if isinstance(parent, Tensor):
                if (id(parent), -1) in self.wanted:
                    return True
            elif parent is not None and self.needed is not None and parent[0] in self.needed:
                return True
        return False

    # -- hooks: they see tensors, whatever the sweep runs on

    def run_hooks(self, node: Node, gradient: Any) -> Any:
        grads = list(gradient) if isinstance(gradient, tuple) else [gradient]
        for index, hooks in (node.hooks or {}).items():
            for hook in list(hooks):
                if grads[index] is not None:
                    grads[index] = self.call_hook(hook, grads[index])
        for index, reference in (node.kept or {}).items():
            tensor = reference()  # after all hooks, and only if it is still this node's output
            if tensor is not None and tensor.edge == (node, index) and grads[index] is not None:
                accumulate(tensor, grads[index], False)
        return tuple(grads) if isinstance(gradient, tuple) else grads[0]

    def call_hook(self, hook: Callable[[Tensor], Any], gradient: Any) -> Any:
        return self.swap(gradient, hook(self.wrap(gradient)))

    def swap(self, gradient: Any, replaced: Any) -> Any:
        """What a hook returned, if anything, in place of a gradient."""
        if replaced is None or gradient is None:
            return gradient
        if not isinstance(replaced, Tensor):
            kind = type(replaced).__name__
            raise DtypeError(f"a hook returned a {kind}: it must be a tensor or None")
        if replaced.shape != gradient.shape:
            raise ShapeError(
                f"a hook returned a gradient of shape {replaced.shape} in place of one of "
                f"shape {gradient.shape}"
            )
        return self.unwrap(match(replaced, gradient))

    def swap_all(self, gradients: Sequence[Any], replaced: Any) -> Sequence[Any]:
        """The same for the gradients of a node hook: a tuple, as long as what it was given."""
        if replaced is None:
            return gradients
        if not isinstance(replaced, tuple) or len(replaced) != len(gradients):
            raise GraphError(f"a node hook must return a tuple of {len(gradients)}, or None")
        return [self.swap(g, r) for g, r in zip(gradients, replaced, strict=True)]

    def pull_hooked(self, node: Node, gradient: Any) -> tuple[Any, Sequence[Any]]:
        """The gradient as the node's hooks leave it, and what the rule made of it, likewise."""
        gradient = self.run_prehooks(node, gradient)
        return gradient, self.run_posthooks(node, self.pull(node, gradient), gradient)

    def run_prehooks(self, node: Node, gradient: Any) -> Any:
        several = isinstance(gradient, tuple)
        grads: Sequence[Any] = gradient if several else (gradient,)
        for hook in list(node._lists()[0]):
            grads = self.swap_all(grads, hook(tuple(map(self.wrap, grads))))
        return tuple(grads) if several else grads[0]

    def run_posthooks(self, node: Node, results: Sequence[Any], gradient: Any) -> Sequence[Any]:
        outer = gradient if isinstance(gradient, tuple) else (gradient,)
        for hook in list(node._lists()[1]):
            replaced = hook(tuple(map(self.wrap, results)), tuple(map(self.wrap, outer)))
            results = self.swap_all(results, replaced)
        return results

    def wrap(self, gradient: Any) -> Any:
        if gradient is None or (isinstance(gradient, Tensor) and not gradient.traced):
            return gradient
        return Tensor(gradient)

    def unwrap(self, gradient: Any) -> Any:
        if isinstance(gradient, Tensor) and not self.create_graph and gradient.level == self.level:
            return gradient.data
        return gradient


def sweep(
    outputs: Sequence[Tensor],
    cotangents: Sequence[TensorLike | None],
    retain_graph: bool,
    create_graph: bool,
    wanted: Sequence[Tensor] = (),
) -> Sweep:
    """Carry cotangents from the outputs back to the leaves (or to what is wanted)."""
    level = max(output.level for output in outputs)
    state = Sweep(level, create_graph, retain_graph, wanted)
    if wanted:
        state.needed = reachable(outputs, state.wanted)
    grad_mode = create_graph or (level > 0 and is_grad_enabled())
    with set_grad_enabled(grad_mode):
        for output, cotangent in zip(outputs, cotangents, strict=True):
            state.give(output.edge or output, seed(output, cotangent, create_graph), False)
        state.run()
        state.finish()
    return state


def rewrap(node: Node, level: int) -> Any:
    """The saved output as a tensor with its history, without keeping a cycle alive."""
    if isinstance(node.dtype, tuple):
        return tuple(with_history(data, (node, i), level) for i, data in enumerate(node.out))
    return with_history(node.out, (node, 0), level)


def with_history(data: Any, edge: Edge, level: int) -> Tensor:
    """A recorded tensor of any level; whole numbers (indices) are constants."""
    if data.dtype.kind != "f":
        return data if isinstance(data, Tensor) else Tensor(data)
    return taped(data, level, edge) if level else recorded(data, edge)


def own(gradient: Any) -> Any:
    """A gradient that may be edited without changing another: arrays are shared on the way."""
    return gradient.copy() if gradient.__class__ is np.ndarray else gradient


def seed(output: Tensor, cotangent: TensorLike | None, create_graph: bool) -> Any:
    """The cotangent to start from; ones if the output is a single number."""
    if not output.requires_grad:
        raise GraphError(
            "backward from a tensor that does not require grad: nothing was recorded",
            fix="make a leaf with requires_grad=True, and do not compute under no_grad()",
        )
    if cotangent is None:
        if output.size != 1:
            raise ShapeError(
                f"backward of a tensor of shape {output.shape} needs a gradient of that shape; "
                "only a single number may go without",
                fix="reduce first (loss.mean().backward()), or pass gradient=",
            )
        value: Any = np.ones(output.shape, output.dtype)
    else:
        value = cotangent if isinstance(cotangent, Tensor) else Tensor(to_array(cotangent))
        if value.shape != output.shape:
            raise ShapeError(
                f"the gradient has shape {value.shape}, the tensor {output.shape}: must be equal"
            )
        if value.dtype != output.dtype:
            if value.dtype.kind != "f":
                raise DtypeError(f"a gradient must hold floats; received {value.dtype}")
            value = value.astype(output.dtype)
        if not create_graph and value.level == output.level:
            value = value.data
    if create_graph and not isinstance(value, Tensor):
        value = Tensor(value)
    return value


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: TensorLike | Sequence[TensorLike | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate gradients into the `grad` of leaves (of `inputs` only, if given).

    Several outputs are differentiated in one pass, as their sum weighted by `grad_tensors`
    would be; a single number may go without.

    >>> import fathom
    >>> x = fathom.tensor([1.0, 2.0], requires_grad=True)
    >>> backward([x.sum(), (x * x).sum()])
    >>> x.grad
    tensor([3., 5.])
    """
    retain = create_graph if retain_graph is None else retain_graph
    outputs, cotangents = _roots(tensors, grad_tensors)
    for hearer in hearers():
        hearer.on_backward(outputs)
    if inputs is None:
        state = sweep(outputs, cotangents, retain, create_graph)
        for leaf, total in state.leaves.values():
            accumulate(leaf, *total)
        for hearer in hearers():
            hearer.on_backward_end(state.leaves)
        return
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if not wanted:
        raise GraphError("inputs= is empty: no gradient would be computed")
    state = sweep(outputs, cotangents, retain, create_graph, wanted)
    for tensor, gradient in zip(wanted, state.found, strict=True):
        if gradient is not None:
            accumulate(tensor, gradient, gradient.__class__ is np.ndarray)
    for hearer in hearers():
        hearer.on_backward_end({id(tensor): tensor for tensor in wanted})


def _roots(outputs: Any, cotangents: Any) -> tuple[list[Tensor], list[Any]]:
    """Outputs and cotangents as lists; one tensor may stand for a list of one."""
    if isinstance(outputs, Tensor):
        alone = not isinstance(cotangents, (list, tuple))
        return [outputs], [cotangents] if alone else list(cotangents)
    roots = list(outputs)
    found = [None] * len(roots) if cotangents is None else list(cotangents)
    if not roots or len(found) != len(roots):
        raise GraphError(f"{len(roots)} outputs and {len(found)} gradients: one for each is needed")
    return roots, found


def accumulate(leaf: Tensor, gradient: Any, owned: bool) -> None:
    """`leaf.grad += gradient`; a fresh array is taken over, a shared one copied."""
    if leaf.grad is not None:
        if isinstance(gradient, Tensor) or leaf.grad.requires_grad:
            leaf.grad = leaf.grad + gradient
        else:
            leaf.grad.data += gradient
    elif isinstance(gradient, Tensor):
        leaf.grad = gradient if owned else gradient.clone()
    else:
        leaf.grad = Tensor(gradient if owned else gradient.copy())
    if leaf.extra is not None:
        for hook in list(leaf.extra.get("accumulated", ())):
            hook(leaf)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: TensorLike | Sequence[TensorLike | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of `outputs` with respect to `inputs`, without touching any `.grad`.

    Returns one tensor for each input, of its shape. Inputs the outputs do not depend on
    raise `GraphError`, or give None with `allow_unused=True`.

    >>> import fathom
    >>> x = fathom.tensor(3.0, requires_grad=True)
    >>> fathom.autograd.grad(x * x, x)
    (tensor(6.),)
    """
    roots, cotangents = _roots(outputs, grad_outputs)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    for i, tensor in enumerate(wanted):
        if not tensor.requires_grad:
            raise GraphError(f"input {i} does not require grad", fix="x.requires_grad_()")
    retain = create_graph if retain_graph is None else retain_graph
    state = sweep(roots, cotangents, retain, create_graph, wanted)
    found = [state.found[state.wanted[key(t)]] for t in wanted]
    for i, gradient in enumerate(found):
        if gradient is None and not allow_unused:
            raise GraphError(
                f"input {i} (shape {wanted[i].shape}) was not used to compute the outputs",
                fix="pass allow_unused=True to get None for it",
            )
    return tuple(state.wrap(g) for g in found)
