"""Is there a plane between two classes? A linear program says so, with a proof either way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fathom.engine.errors import ArgumentError, ShapeError

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Solution:
    """What `linear_program` found: status "optimal", "infeasible" or "unbounded".

    `multipliers` belong to the rows, those of A_ub first: at the optimum they are the prices of
    the constraints; of an infeasible program they are a proof that it is (Farkas, 1902).
    """

    status: str
    x: Any
    value: float
    multipliers: Any
    pivots: int


class _Tableau:
    """Rows [A | b] with b >= 0 in terms of a basis, and the reduced costs below (Dantzig, 1947)."""

    def __init__(self, rows: Any, costs: Any, basis: list[int]) -> None:
        self.original = np.vstack([rows, costs])
        self.basis = basis
        self.pivots = 0
        self.refresh()

    def refresh(self) -> None:
        """The table of the basis from the original rows: rounding errors do not pile up."""
        base = self.original[:-1, self.basis]
        self.table = np.vstack([np.linalg.solve(base, self.original[:-1]), self.original[-1:]])
        self.table[-1] -= self.original[-1, self.basis] @ self.table[:-1]
        self.table[:, self.basis] = 0.0
        self.table[range(len(self.basis)), self.basis] = 1.0
        right = self.table[:-1, -1]
        right[(right < 0) & (right > -1e-7)] = 0.0

    def pivot(self, row: int, column: int) -> None:
        self.table[row] /= self.table[row, column]
        factors = self.table[:, column].copy()
        factors[row] = 0.0
        self.table -= np.outer(factors, self.table[row])
        self.table[:, column] = 0.0
        self.table[row, column] = 1.0
        self.basis[row] = column
        self.pivots += 1

    def solve(self, usable: int) -> bool:
        """Pivot among the first `usable` columns to the optimum; False if there is none.

        The steepest column by default; after a stall the first one (Bland, 1977), which cannot
        go round in circles.
        """
        stalled, fresh = 0, self.pivots
        while True:
            if self.pivots - fresh >= 200:
                self.refresh()
                fresh = self.pivots
            costs = self.table[-1, :usable]
            negative = np.flatnonzero(costs < -TOLERANCE)
            if not len(negative):
                if self.pivots == fresh:
                    return True
                self.refresh()
                fresh = self.pivots
                continue
            stuck = stalled > 20 * len(self.basis)
            column = int(negative[0] if stuck else np.argmin(costs))
            row = self._leaving(column, stuck)
            if row is None:
                return False
            before = self.table[-1, -1]
            self.pivot(row, column)
            stalled = stalled + 1 if self.table[-1, -1] - before <= TOLERANCE else 0

    def _leaving(self, column: int, stuck: bool) -> int | None:
        """The row that limits the column; of ties the largest pivot, or Bland's."""
        entries, right = self.table[:-1, column], self.table[:-1, -1]
        rows = np.flatnonzero(entries > TOLERANCE)
        if not len(rows):
            return None
        ratios = right[rows] / entries[rows]
        tied = rows[ratios <= ratios.min() + 1e-12]
        if stuck:
            return int(min(tied, key=lambda i: self.basis[i]))
        return int(tied[np.argmax(entries[tied])])


def linear_program(
    c: Any, A_ub: Any = None, b_ub: Any = None, A_eq: Any = None, b_eq: Any = None,
    free: bool = False,
) -> Solution:  # fmt: skip
    """Minimize c . x with A_ub x <= b_ub, A_eq x = b_eq and x >= 0 (or x `free`).

    The two-phase simplex method on a dense tableau, for programs of some hundred rows.

    >>> linear_program([-1, -1], [[1, 2], [3, 1]], [4, 6]).x.round(6).tolist()
    [1.6, 1.2]
    """
    costs = np.atleast_1d(np.asarray(c, np.float64))
    n = len(costs)
    upper, equal = _rows("ub", A_ub, b_ub, n), _rows("eq", A_eq, b_eq, n)
    matrix = np.vstack([upper[0], equal[0]])
    right = np.concatenate([upper[1], equal[1]])
    if free:  # x = p - q with p, q >= 0
        matrix, costs = np.hstack([matrix, -matrix]), np.concatenate([costs, -costs])
    slack = np.zeros((len(right), len(upper[1])))
    np.fill_diagonal(slack, 1.0)
    matrix = np.hstack([matrix, slack])
    status, full, price, pivots = _two_phases(matrix, right, costs)
    if status != "optimal":
        return Solution(status, np.full(n, np.nan), np.nan, price, pivots)
    x = full[:n] - full[n : 2 * n] if free else full[:n]
    return Solution(status, x, float(np.asarray(c, np.float64) @ x), price, pivots)


def _rows(name: str, a: Any, b: Any, n: int) -> tuple[Any, Any]:
    if a is None:
        return np.zeros((0, n)), np.zeros(0)
    matrix, right = np.asarray(a, np.float64), np.atleast_1d(np.asarray(b, np.float64))
    if matrix.ndim != 2 or matrix.shape != (len(right), n):
        raise ShapeError(
            f"linear_program: A_{name} must have shape ({len(right)}, {n}), one row for each of "
            f"b_{name} and one column for each of c; received {matrix.shape}"
        )
    return matrix, right


def _two_phases(matrix: Any, right: Any, costs: Any) -> tuple[str, Any, Any, int]:
    """First drive artificial variables, one a row, out; then minimize the costs."""
    rows, columns = matrix.shape
    flip = np.where(right < 0, -1.0, 1.0)
    body = np.hstack([matrix * flip[:, None], np.eye(rows), (right * flip)[:, None]])
    first = np.concatenate([np.zeros(columns), np.ones(rows), [0.0]])
    tableau = _Tableau(body, first, list(range(columns, columns + rows)))
    tableau.solve(columns)
    scale = max(1.0, float(np.abs(right).max(initial=0.0)))
    if -tableau.table[-1, -1] > 1e-8 * scale:
        proof = (1.0 - tableau.table[-1, columns:-1]) * flip
        return "infeasible", None, proof, tableau.pivots
    for i, column in enumerate(tableau.basis):  # artificial ones that stayed, at 0
        if column >= columns:
            usable = np.flatnonzero(np.abs(tableau.table[i, :columns]) > TOLERANCE)
            if len(usable):
                tableau.pivot(i, int(usable[0]))
    second = np.concatenate([costs, np.zeros(columns - len(costs) + rows), [0.0]])
    final = _Tableau(tableau.table[:-1], second, tableau.basis)
    bounded = final.solve(columns)
    pivots = tableau.pivots + final.pivots
    price = -final.table[-1, columns:-1] * flip
    if not bounded:
        return "unbounded", None, price, pivots
    full = np.zeros(columns + rows)
    full[final.basis] = final.table[:-1, -1]
    return "optimal", full, price, pivots


# -- separability ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Separability:
    """Whether a plane separates two classes, and the proof.

    Separable: `weights` and `bias` of a plane, and the `margin` it leaves (not the largest one).
    Not separable: `overlap`, weights of the samples that make a mix of one class equal a mix of
    the other (a point that lies in both convex hulls).
    """

    separable: bool
    weights: Any
    bias: float
    margin: float
    overlap: Any

    def __bool__(self) -> bool:
        return self.separable


def signs(y: Any, owner: str) -> Any:
    """Labels of two classes as -1 and 1; the larger label becomes 1."""
    labels = np.asarray(y).reshape(-1)
    kinds = np.unique(labels)
    if len(kinds) > 2:
        raise ArgumentError(f"{owner}: needs labels of two classes; received {len(kinds)}")
    if len(kinds) == 1 and kinds[0] not in (-1, 0, 1):
        raise ArgumentError(f"{owner}: labels of one class are -1, 0 or 1; received {kinds[0]}")
    if len(kinds) == 1:
        return np.full(len(labels), 1.0 if kinds[0] == 1 else -1.0)
    return np.where(labels == kinds[1], 1.0, -1.0)


def samples(x: Any, y: Any, owner: str) -> tuple[Any, Any]:
    """Samples (n, d) and labels (n,) as float64, labels -1 and 1."""
    a = np.asarray(x, np.float64)
    if a.ndim != 2 or len(a) != np.size(y) or not len(a):
        raise ShapeError(
            f"{owner}: needs samples (n, d) and labels (n,); received {a.shape} and {np.shape(y)}"
        )
    return a, signs(y, owner)


def augment(x: Any) -> Any:
    """A column of ones in front of (n, d): the bias becomes a weight like the others.

    >>> augment([[2.0, 3.0]]).tolist()
    [[1.0, 2.0, 3.0]]
    """
    a = np.asarray(x, np.float64)
    return np.concatenate([np.ones((*a.shape[:-1], 1)), a], axis=-1)


def linearly_separable(x: Any, y: Any) -> Separability:
    """Decide by a linear program whether a plane separates two classes, (n, d) and (n,).

    Asks for weights lambda >= 0 of the samples, of sum 1, with sum lambda_i y_i (1, x_i) = 0.
    They exist if and only if there is no plane (Gordan, 1873), and if not, the multipliers of
    the program are one. d + 2 rows, so many samples are no matter.

    >>> points = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> [bool(linearly_separable(points, y)) for y in ([0, 0, 0, 1], [0, 1, 1, 0])]
    [True, False]
    """
    a, labels = samples(x, y, "linearly_separable")
    middle = a.mean(axis=0)
    spread = np.abs(a - middle).max(axis=0)
    spread[spread == 0] = 1.0
    scaled = (a - middle) / spread
    matrix = np.vstack([(augment(scaled) * labels[:, None]).T, np.ones(len(a))])
    right = np.zeros(len(matrix))
    right[-1] = 1.0
    found = linear_program(np.zeros(len(a)), A_eq=matrix, b_eq=right)
    if found.status == "optimal":
        return Separability(False, None, np.nan, 0.0, found.x)
    plane = -found.multipliers[:-1]  # multipliers . columns <= 0 < multipliers . right
    weights = plane[1:] / spread
    bias = float(plane[0] - weights @ middle)
    heights = a @ weights
    upper, lower = heights[labels > 0], heights[labels < 0]
    if len(upper) and len(lower):  # in the middle between the two classes
        bias = -0.5 * float(upper.min() + lower.max())
    length = float(np.linalg.norm(weights)) or 1.0
    gap = float((labels * (heights + bias)).min()) / length
    return Separability(True, weights, bias, gap, None)


def widest_margin(x: Any, y: Any) -> tuple[Any, float]:
    """The unit vector w with the largest margin min_i y_i w . x_i, and that margin; no bias.

    With `augment(x)` it is the widest plane of the augmented space. The margin is the distance
    of the origin from the convex hull of the points y_i x_i, found by Wolfe's (1976) algorithm;
    0 if no plane through the origin separates.

    >>> w, margin = widest_margin([[3.0, 0.0], [-1.0, 0.0]], [1, -1])
    >>> w.tolist(), margin
    ([1.0, 0.0], 1.0)
    """
    a, labels = samples(x, y, "widest_margin")
    nearest = _nearest_point(a * labels[:, None])
    length = float(np.linalg.norm(nearest))
    if length < 1e-10 * max(1.0, float(np.abs(a).max())):
        return np.zeros(a.shape[1]), 0.0
    unit = nearest / length
    return unit, max(float((a @ unit * labels).min()), 0.0)


def _nearest_point(points: Any) -> Any:
    """The point of the convex hull of the rows that is nearest to the origin."""
    scale = float(np.square(points).sum(axis=1).max())
    corral = [int(np.argmin(np.square(points).sum(axis=1)))]
    shares = np.ones(1)
    while True:
        x = shares @ points[corral]
        heights = points @ x
        new = int(np.argmin(heights))
        if heights[new] > x @ x - 1e-12 * scale or new in corral:
            return x
        corral, shares = [*corral, new], np.append(shares, 0.0)
        while True:
            affine = _affine_shares(points[corral])
            if (affine > 1e-12).all():
                shares = affine
                break
            falling = affine < shares
            falling &= affine <= 1e-12
            step = float((shares[falling] / (shares[falling] - affine[falling])).min())
            shares = shares + min(step, 1.0) * (affine - shares)
            keep = shares > 1e-12
            corral, shares = [c for c, k in zip(corral, keep, strict=True) if k], shares[keep]


def _affine_shares(points: Any) -> Any:
    """Shares of sum 1 of the point nearest to the origin in the plane through the rows."""
    size = len(points)
    system = np.ones((size + 1, size + 1))
    system[0, 0] = 0.0
    system[1:, 1:] = points @ points.T
    right = np.zeros(size + 1)
    right[0] = 1.0
    return np.linalg.lstsq(system, right, rcond=None)[0][1:]
