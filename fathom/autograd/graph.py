"""The graph of a computation, drawn: as text, and as SVG with values and gradients on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from fathom.autograd.memory import nodes_of
from fathom.engine.errors import ArgumentError
from fathom.engine.tape import Node
from fathom.engine.tensor import Tensor, describe_site

WIDTH, HEIGHT, GAP_X, GAP_Y = 240, 58, 24, 46
LIMIT = 400


@dataclass
class Box:
    """A leaf or an operation in the drawing."""

    title: str
    lines: list[str]
    leaf: bool
    inputs: list[Any] = field(default_factory=list)  # keys of the boxes it is fed by
    operands: list[Any] = field(default_factory=list)  # the same with constants as text between
    layer: int = 0
    x: float = 0.0
    y: float = 0.0


def short(array: Any) -> str:
    """A value in a few characters: the number itself, or shape and range."""
    a = np.asarray(array)
    if a.size == 1:
        return f"{float(a.reshape(())):.4g}"
    if a.size <= 4:
        return np.array2string(a, precision=3, separator=", ")
    return f"{a.shape} in [{float(a.min()):.3g}, {float(a.max()):.3g}]"


def boxes_of(outputs: Sequence[Tensor]) -> dict[Any, Box]:
    """Every node and leaf behind the outputs, in the order of the computation."""
    boxes: dict[Any, Box] = {}
    nodes = list(nodes_of(*outputs))[::-1]
    if len(nodes) > LIMIT:
        raise ArgumentError(
            f"the graph has {len(nodes)} operations; a drawing of more than {LIMIT} is no help",
            fix="draw the graph of a smaller batch or a part of the model",
        )
    values = {t.edge[0]: t for t in outputs if t.edge is not None}
    for node in nodes:
        box = Box(node.primitive.name, [], False)
        for place, parent in enumerate(node.parents):
            if isinstance(parent, Tensor):
                boxes.setdefault(id(parent), _leaf(parent))
                box.inputs.append(id(parent))
            elif parent is not None:
                box.inputs.append(parent[0])
            box.operands.append(box.inputs[-1] if parent is not None else _constant(node, place))
        box.lines = _node_lines(node, values.get(node))
        box.layer = 1 + max((boxes[k].layer for k in box.inputs), default=0)
        boxes[node] = box
    return boxes


def _constant(node: Node, place: int) -> str:
    """An operand that wants no gradient: its value where it was kept, else three dots."""
    kept = node.saved[place] if node.saved else None
    value = kept.value() if isinstance(kept, Tensor) else kept
    return "..." if value is None else short(value)


def _leaf(tensor: Tensor) -> Box:
    lines = [f"value {short(tensor.value())}"]
    if tensor.grad is not None:
        lines.append(f"grad {short(tensor.grad.value())}")
    return Box(tensor.name or "leaf", lines, True)


def _node_lines(node: Node, tensor: Tensor | None) -> list[str]:
    known = tensor.value() if tensor is not None else node.out
    shape = node.shape if not isinstance(node.dtype, tuple) else " ".join(map(str, node.shape))
    lines = [f"value {short(known)}" if isinstance(known, np.ndarray) else f"shape {shape}"]
    if tensor is not None and not tensor.is_leaf and tensor.grad is not None:
        lines.append(f"grad {short(tensor.grad.value())}")
    return lines


def graph_text(*outputs: Tensor) -> str:
    """The operations in order, each with its inputs, its value where kept, and its line.

    >>> import fathom
    >>> x = fathom.tensor(2.0, requires_grad=True)
    >>> x.name = "x"
    >>> print(graph_text((x * x).exp()).split("  [")[0])
    x              value 2
    %1 = mul(x, x)
    """
    boxes = boxes_of(outputs)
    names: dict[Any, str] = {}
    taken: set[str] = set()
    lines = []
    number = 0
    for key, box in boxes.items():
        if box.leaf:
            name = box.title if box.title not in taken else f"{box.title}{len(names)}"
            names[key] = name
            taken.add(name)
            lines.append(f"{name:<14} {'  '.join(box.lines)}")
        else:
            number += 1
            names[key] = f"%{number}"
            operands = ", ".join(names.get(k, str(k)) for k in box.operands)
            call = f"{box.title}({operands})"
            site = describe_site(key.site) if isinstance(key, Node) else ""
            lines.append(f"{names[key]} = {call}  [{'  '.join(box.lines)}]  {site}")
    return "\n".join(lines)


# -- SVG ---------------------------------------------------------------------------------------


def _place(boxes: dict[Any, Box]) -> tuple[float, float]:
    """Layers from left to right; within a layer, boxes near what feeds them."""
    for key, box in boxes.items():  # leaves stand just before their first use
        if box.leaf:
            uses = [b.layer for b in boxes.values() if key in b.inputs]
            box.layer = min(uses, default=1) - 1
    layers: dict[int, list[Box]] = {}
    for box in boxes.values():
        layers.setdefault(box.layer, []).append(box)
    for number in sorted(layers):
        row = layers[number]
        for box in row:
            fed = [boxes[k].y for k in box.inputs]
            box.y = sum(fed) / len(fed) if fed else 0.0
        row.sort(key=lambda b: b.y)
        top = sum(b.y for b in row) / len(row) - (len(row) - 1) * (HEIGHT + GAP_X) / 2
        for i, box in enumerate(row):
            box.x = number * (WIDTH + GAP_Y)
            box.y = top + i * (HEIGHT + GAP_X)
    low = min(b.y for b in boxes.values())
    for box in boxes.values():
        box.y -= low
    return (
        max(b.x for b in boxes.values()) + WIDTH,
        max(b.y for b in boxes.values()) + HEIGHT,
    )


def graph_svg(*outputs: Tensor) -> str:
    """The graph as an SVG picture: leaves and operations, with values and gradients.

    Values of operations are shown where they are kept (outputs, and what the gradient rule
    saved); gradients after `backward`, of leaves and of tensors with `retain_grad()`.
    """
    boxes = boxes_of(outputs)
    if not boxes:
        raise ArgumentError("graph_svg: nothing was recorded behind this tensor")
    width, height = _place(boxes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 -10 {width + 20:g} {height + 20:g}"'
        f' width="{width + 20:g}" role="img" font-family="system-ui, sans-serif" font-size="12">',
        f"<title>Computation graph of {len(boxes)} values</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#777"/></marker></defs>',
    ]
    for box in boxes.values():
        for place, key in enumerate(box.inputs):
            source = boxes[key]
            y = box.y + HEIGHT * (place + 1) / (len(box.inputs) + 1)
            x0, y0, middle = source.x + WIDTH, source.y + HEIGHT / 2, (source.x + WIDTH + box.x) / 2
            parts.append(
                f'<path d="M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y:g} {box.x:g} {y:g}" '
                'fill="none" stroke="#777" marker-end="url(#tip)"/>'
            )
    parts.extend(_svg_box(box) for box in boxes.values())
    return "\n".join([*parts, "</svg>"])


def _svg_box(box: Box) -> str:
    fill = "#fff3d6" if box.leaf else "#e3eefc"
    text = [
        f'<text x="{box.x + 8:g}" y="{box.y + 17:g}" font-weight="600" fill="#111">'
        f"{escape(box.title)}</text>"
    ]
    text += [
        f'<text x="{box.x + 8:g}" y="{box.y + 33 + 16 * i:g}" fill="#333">{escape(line)}</text>'
        for i, line in enumerate(box.lines)
    ]
    frame = (
        f'<rect x="{box.x:g}" y="{box.y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="#999"/>'
    )
    return frame + "".join(text)
