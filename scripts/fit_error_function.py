"""The minimax ratios of polynomials with which fathom/ops/special.py computes erf and erfc.

python scripts/fit_error_function.py        (needs mpmath; about 10 seconds)

exp(a^2) erfc(a) = P(a) / Q(a) with the least largest relative error: least squares on the
linearized equation P - f Q = 0, weighted anew by the last Q (Sanathanan and Koerner, 1963) and by
the last errors (Lawson, 1961), in 60 digits.
"""

from __future__ import annotations

from typing import Any

import mpmath as mp

RANGES = {"_SINGLE": (4, "10"), "_DOUBLE": (9, "27.3")}  # degree of P (Q has one more), a up to
PASSES = 40


def scaled_erfc(a: Any) -> Any:
    return mp.exp(a * a) * mp.erfc(a)


def points(most: Any, count: int) -> list[Any]:
    """Chebyshev points of s = (a - 2) / (a + 2), spread over 0 <= a <= most."""
    right = (most - 2) / (most + 2)
    nodes = [mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    s = [-1 + (right + 1) * (t + 1) / 2 for t in nodes]
    return [2 * (1 + v) / (1 - v) for v in s]


def fit(degree: int, most: Any) -> tuple[Any, list[Any], list[Any]]:
    """(largest relative error, P, Q), highest powers first."""
    unknown = 2 * degree + 2  # P and Q, but for the 1 at the end of Q
    at = points(most, 8 * unknown)
    values = [scaled_erfc(a) for a in at]
    weights, last = [mp.mpf(1)] * len(at), [mp.mpf(1)] * len(at)
    best: Any = (mp.inf, [], [])
    for turn in range(PASSES):
        matrix, right = mp.matrix(len(at), unknown), mp.matrix(len(at), 1)
        for i, (a, f) in enumerate(zip(at, values, strict=True)):
            w = mp.sqrt(weights[i]) / (abs(last[i]) * f)
            row = [w * a**j for j in range(degree + 1)]
            row += [-w * f * a**j for j in range(1, degree + 2)]
            for j, entry in enumerate(row):
                matrix[i, j] = entry
            right[i] = w * f
        found = list(mp.lu_solve(matrix.T * matrix, matrix.T * right))
        above = found[degree::-1]
        below = [*found[:degree:-1], mp.mpf(1)]
        last = [mp.polyval(below, a) for a in at]
        errors = [
            abs(mp.polyval(above, a) / q / f - 1) for a, q, f in zip(at, last, values, strict=True)
        ]
        if max(errors) < best[0]:
            best = (max(errors), above, below)
        if turn > 3:
            weights = [w * (e / max(errors) + 0.02) for w, e in zip(weights, errors, strict=True)]
            total = sum(weights)
            weights = [w * len(at) / total for w in weights]
    return best


def main() -> None:
    mp.mp.dps = 60
    for name, (degree, most) in RANGES.items():
        error, above, below = fit(degree, mp.mpf(most))
        print(f"{name}  # relative error {mp.nstr(error, 3)} for a <= {most}")
        print("  P", [float(c) for c in above])
        print("  Q", [float(c) for c in below])


if __name__ == "__main__":
    main()
