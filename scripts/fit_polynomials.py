"""Fit the polynomials of `fathom/compile/native/vecmath_tables.py` and write that file.

Each is the minimax polynomial of its function, by Remez' exchange (E. Remez, 1934) in
50-digit arithmetic (mpmath), of the least degree that reaches the wanted number of bits of
*relative* accuracy in the final result. Run: `python scripts/fit_polynomials.py`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mpmath import mp, mpf

mp.dps = 50
TABLES = Path(__file__).parents[1] / "fathom" / "compile" / "native" / "vecmath_tables.py"
Real = Callable[[Any], Any]


@dataclass(frozen=True)
class Fit:
    """A polynomial p(x) to `target` on [low, high].

    `weight`: relative error of the final result for an error of one in p.
    `bits`: the accuracy wanted in float32 and float64.
    """

    text: str
    target: Real
    weight: Real
    low: Any
    high: Any
    bits: tuple[float, float] = (27.5, 57)


def remez(fit: Fit, degree: int) -> tuple[list[Any], Any]:
    """Coefficients, constant first, and the largest weighted error."""
    low, high, count = mpf(fit.low), mpf(fit.high), 40 * (degree + 2)
    middle, half = (low + high) / 2, (high - low) / 2
    grid = [middle - half * mp.cos(mp.pi * i / count) for i in range(count + 1)]
    targets = [fit.target(x) for x in grid]
    weights = [fit.weight(x) for x in grid]
    picks = [round(i * count / (degree + 1)) for i in range(degree + 2)]
    for _ in range(30):
        rows = [[*(grid[i] ** k for k in range(degree + 1)), (-1) ** j / weights[i]]
                for j, i in enumerate(picks)]  # fmt: skip
        *coefficients, level = mp.lu_solve(mp.matrix(rows), mp.matrix([targets[i] for i in picks]))
        errors = [w * (mp.polyval(coefficients[::-1], x) - t)
                  for x, t, w in zip(grid, targets, weights, strict=True)]  # fmt: skip
        worst = max(abs(e) for e in errors)
        picks = exchange(errors, degree + 2)
        if worst <= abs(level) * 1.001:
            break
    return coefficients, worst


def exchange(errors: list[Any], count: int) -> list[int]:
    """The points of largest error, one for each run of equal sign; the ends drop out first."""
    peaks: list[int] = []
    for i, error in enumerate(errors):
        if peaks and (error > 0) == (errors[peaks[-1]] > 0):
            if abs(error) > abs(errors[peaks[-1]]):
                peaks[-1] = i
        else:
            peaks.append(i)
    while len(peaks) > count:
        peaks.pop(0 if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]) else -1)
    if len(peaks) < count:
        raise ArithmeticError("the error does not alternate often enough: use more digits")
    return peaks


def least(fit: Fit, bits: float) -> tuple[list[Any], Any]:
    """The polynomial of least degree whose error is at most 2**-bits."""
    for degree in range(1, 40):
        coefficients, worst = remez(fit, degree)
        if worst <= mpf(2) ** -bits:
            return coefficients, worst
    raise ArithmeticError(f"{fit.text}: no polynomial reaches {bits} bits")


def rounded(fit: Fit, coefficients: list[Any], dtype: type) -> list[float]:
    """The coefficients in `dtype`: each is rounded in turn, and those after it make up for that.

    They do so by least squares at Chebyshev points, starting from the minimax polynomial.
    """
    middle, half = (mpf(fit.high) + fit.low) / 2, (mpf(fit.high) - fit.low) / 2
    count = 4 * len(coefficients)
    points = [middle + half * mp.cos(mp.pi * (i + 0.5) / count) for i in range(count)]
    weights = [fit.weight(x) for x in points]
    done: list[float] = []
    rest = list(coefficients)
    while rest:
        done.append(float(dtype(mp.nstr(rest[0], 25))))
        slip, start = rest[0] - done[-1], len(done)
        rest = rest[1:]
        if rest:
            rows = [[w * x ** (start + j) for j in range(len(rest))]
                    for x, w in zip(points, weights, strict=True)]  # fmt: skip
            wanted = [w * slip * x ** (start - 1) for x, w in zip(points, weights, strict=True)]
            change, _ = mp.qr_solve(mp.matrix(rows), mp.matrix(wanted))
            rest = [c + d for c, d in zip(rest, change, strict=True)]
    return done


def series(function: Real, limit: Any, near: Any = 1e-8) -> Real:
    """`function` with its limit at 0, where it is 0/0."""
    return lambda x: function(x) if abs(x) > near else mpf(limit)


def atanh_rest(z: Any) -> Any:
    """W in log((1 + s) / (1 - s)) = 2s + s z W(z), z = s²."""
    s = mp.sqrt(z)
    return (mp.log((1 + s) / (1 - s)) / s - 2) / z


def atanh_rest2(z: Any) -> Any:
    """Q in log((1 + s) / (1 - s)) = 2s + 2/3 s³ + s z² Q(z)."""
    return (atanh_rest(z) - mpf(2) / 3) / z


def erfcx_ratio(degrees: tuple[int, int], cut: str, dtype: type) -> tuple[list[float], list[float]]:
    """N, R of exp(x²) erfc(x) = N(x) / (sqrt(pi) x N(x) + R(x)) up to `cut`, where erfc is 0.

    The equation N - f (sqrt(pi) x N + R) = 0 is linear; it is weighted anew by the last
    denominator (C. Sanathanan and J. Koerner, 1963) and the last errors (C. Lawson, 1961). Then
    one coefficient after the other is rounded, and the rest make up for that. N(0) = R(0) = 0.9
    keeps both below 1 where x is small: the result loses least there.
    """
    n, m = degrees
    root, edge = mpf(float(dtype(mp.nstr(mp.sqrt(mp.pi), 25)))), (mpf(cut) - 2) / (mpf(cut) + 2)
    count = 8 * (n + m + 2)
    nodes = [mp.cos(mp.pi * (i + 0.5) / count) for i in range(count)]
    middles = [(edge + 1) * (t + 1) / 2 - 1 for t in nodes]
    points = [2 * (1 + s) / (1 - s) for s in middles]
    values = [mp.exp(x * x) * mp.erfc(x) for x in points]
    rows = [[*((1 - f * root * x) * x**i for i in range(n + 1)), *(-f * x**j for j in range(m + 1))]
            for x, f in zip(points, values, strict=True)]  # fmt: skip
    fixed = {0: mpf(float(dtype(0.9))), n + 1: mpf(float(dtype(0.9)))}

    def solve(weights: list[Any]) -> list[Any]:
        free = [i for i in range(n + m + 2) if i not in fixed]
        left = mp.matrix([[w * row[i] for i in free] for row, w in zip(rows, weights, strict=True)])
        right = mp.matrix([-w * sum(row[i] * c for i, c in fixed.items())
                           for row, w in zip(rows, weights, strict=True)])  # fmt: skip
        found = dict(zip(free, mp.lu_solve(left.T * left, left.T * right), strict=True)) | fixed
        return [found[i] for i in range(n + m + 2)]

    def bottoms(c: list[Any]) -> list[Any]:
        return [root * x * mp.polyval(c[n::-1], x) + mp.polyval(c[:n:-1], x) for x in points]

    best, lawson, last = mp.inf, [mpf(1)] * count, [mpf(1)] * count
    for turn in range(30):
        weights = [mp.sqrt(w) / (q * f) for w, q, f in zip(lawson, last, values, strict=True)]
        c = solve(weights)
        last = bottoms(c)
        errors = [abs(mp.polyval(c[n::-1], x) / q / f - 1)
                  for x, q, f in zip(points, last, values, strict=True)]  # fmt: skip
        worst = max(errors)
        if worst < best:
            best, chosen, kept = worst, c, weights
        if turn > 3:
            lawson = [w * (e / worst + 0.02) for w, e in zip(lawson, errors, strict=True)]
            lawson = [w * count / sum(lawson) for w in lawson]
    print(f"ERFCX      degrees {n}, {m} error 2**{float(mp.log(best, 2)):.1f}")
    while len(fixed) < n + m + 2:
        i = min(set(range(n + m + 2)) - set(fixed))
        fixed[i] = mpf(float(dtype(mp.nstr(chosen[i], 25))))
        if len(fixed) < n + m + 2:
            chosen = solve(kept)
    found = [float(fixed[i]) for i in range(n + m + 2)]
    return found[: n + 1], found[n + 1 :]


def of_root(function: Real) -> Real:
    """A function of z = x² from one of x."""
    return lambda z: function(mp.sqrt(z))


def erf_tail_fit(middle: int, cut: int) -> Fit:
    """log(erfc) for 0.9 <= x <= cut, from where on erf rounds to 1."""
    text = f"log(erfc(u + {middle}))"
    return Fit(text, lambda u: mp.log(mp.erfc(u + middle)),
               lambda u: mp.erfc(u + middle) / mp.erf(u + middle),
               mpf("0.899") - middle, cut - middle)  # fmt: skip


HALF_LN2 = mp.log(2) / 2 * mpf("1.0002")
SMALL = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mpf("1.0002")
QUARTER = (mp.pi / 4 * mpf("1.01")) ** 2
EIGHTH = mp.tan(mp.pi / 8) ** 2 * mpf("1.0002")

FITS: dict[str, Fit] = {
    "EXP": Fit("(exp(r) - 1 - r) / r²", series(lambda r: (mp.expm1(r) - r) / r**2, 0.5, 1e-12),
               lambda r: r**2 / mp.exp(r) + mpf(10) ** -30, -HALF_LN2, HALF_LN2),
    "EXP2": Fit("(2**r - 1) / r", series(lambda r: mp.expm1(r * mp.log(2)) / r, mp.log(2), 1e-30),
                lambda r: abs(r) / 2**r + mpf(10) ** -30, -mpf("0.5001"), mpf("0.5001")),
    "LOG_WIDE": Fit("W(z) in log((1+s) / (1-s)) = 2s + s z W(z), z = s² <= 1/9",
                    atanh_rest, lambda z: z / 2, 1e-12, mpf("0.11112")),
    "SIN": Fit("(sin(x) - x) / x³ in z = x²", of_root(lambda x: (mp.sin(x) - x) / x**3),
               of_root(lambda x: x**3 / mp.sin(x)), 1e-10, QUARTER),
    "COS": Fit("(cos(x) - 1 + x²/2) / x⁴ in z = x²",
               of_root(lambda x: (mp.cos(x) - 1 + x * x / 2) / x**4),
               of_root(lambda x: x**4 / mp.cos(x)), 1e-6, QUARTER),
    "ATAN": Fit("(atan(x) - x) / x³ in z = x²", of_root(lambda x: (mp.atan(x) - x) / x**3),
                of_root(lambda x: x**3 / mp.atan(x)), 1e-10, EIGHTH),
    "ASIN": Fit("(asin(x) - x) / x³ in z = x²", of_root(lambda x: (mp.asin(x) - x) / x**3),
                of_root(lambda x: x**3 / mp.asin(x)), 1e-10, mpf("0.25001")),
    "SINH": Fit("(sinh(x) - x) / x³ in z = x², x <= 1",
                of_root(lambda x: (mp.sinh(x) - x) / x**3),
                of_root(lambda x: x**3 / mp.sinh(x)), 1e-10, mpf("1.0001")),
    "ERF": Fit("erf(x) / x - 1 in z = x², x <= 1", of_root(lambda x: mp.erf(x) / x - 1),
               of_root(lambda x: x / mp.erf(x)), 1e-10, mpf("1.0001")),
}  # fmt: skip
SINGLE = {
    "ERF_TAIL_32": (erf_tail_fit(2, 4), 26.5),
    "LOG_PLAIN": (
        Fit(
            "(log(1 + f) - f + f²/2) / f³",
            series(lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, mpf(1) / 3, 1e-10),
            series(lambda f: abs(f**3 / mp.log1p(f)), 0, 1e-15),
            mp.sqrt(0.5) * mpf("0.9999") - 1,
            mp.sqrt(2) * mpf("1.0001") - 1,
        ),
        27,
    ),
}
DOUBLE = {
    "ERF_TAIL_64": (erf_tail_fit(3, 6), 56),
    "LOG": (Fit("the same W for z <= 0.0295", atanh_rest, lambda z: z / 2, 1e-12, SMALL), 57),
    "POW32_LOG": (Fit("log2((1+s) / (1-s)) / s in z = s²",
                      of_root(lambda s: mp.log((1 + s) / (1 - s), 2) / s),
                      of_root(lambda s: s / mp.log((1 + s) / (1 - s), 2)), 1e-12, SMALL), 36),
    "POW32_EXP": (Fit("2**r", lambda r: mpf(2) ** r, lambda r: mpf(2) ** -r, -0.501, 0.501), 29),
    "POW64_LOG": (Fit("Q(z) in log((1+s) / (1-s)) = 2s + 2/3 s³ + s z² Q(z)",
                      atanh_rest2, lambda z: z * z / 2, 1e-10, SMALL), 68),
}  # fmt: skip


def line(name: str, fit: Fit, bits: float, dtype: type) -> str:
    coefficients, worst = least(fit, bits)
    final = rounded(fit, coefficients, dtype)
    print(f"{name:10} degree {len(final) - 1} error 2**{float(mp.log(worst, 2)):.1f}")
    numbers = "".join(f"{c!r}, " for c in final)
    return f"# {fit.text}\n{name} = ({numbers})\n"


def main() -> None:
    parts = ['"""Minimax coefficients, constant first: written by scripts/fit_polynomials.py."""\n']
    for name, fit in FITS.items():
        parts.append(line(f"{name}_32", fit, fit.bits[0], np.float32))
        parts.append(line(f"{name}_64", fit, fit.bits[1], np.float64))
    for name, (fit, bits) in SINGLE.items():
        parts.append(line(name, fit, bits, np.float32))
    for name, (fit, bits) in DOUBLE.items():
        parts.append(line(name, fit, bits, np.float64))
    for bits, degrees, cut, dtype in ((32, (4, 4), "10.25", np.float32),
                                      (64, (10, 9), "27.4", np.float64)):  # fmt: skip
        for name, numbers in zip("NR", erfcx_ratio(degrees, cut, dtype), strict=True):
            text = "exp(x²) erfc(x) = N(x) / (sqrt(pi) x N(x) + R(x))"
            listing = "".join(f"{c!r}, " for c in numbers)
            parts.append(f"# {text}\nERFCX_{name}_{bits} = ({listing})\n")
    TABLES.write_text("\n".join(parts), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(TABLES)], check=False)


if __name__ == "__main__":
    main()
