"""The definitions behind `vecmath`, in the arithmetic of `vecmath_ir`.

Methods. exp: reduction by multiples of log 2 in two pieces (W. J. Cody and W. Waite, 1980) and a
minimax polynomial. log: s = f / (2 + f) with the correction f - (f²/2 - s (f²/2 + R)) of FDLIBM
(K. C. Ng, 1993); in float32 a polynomial in f. erfc: exp(-x²) times a ratio of polynomials (W. J.
Cody, 1969). atan: the three intervals of Cephes (S. L. Moshier, 1989). pow: the logarithm in
double length by error-free products (T. J. Dekker, 1971). The polynomials are our own, fitted by
`scripts/fit_polynomials.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fathom.compile.native import vecmath_tables as tables
from fathom.compile.native.vecmath_ir import (
    F32,
    F64,
    Format,
    Num,
    copysign,
    fabs,
    fma,
    horner,
    least,
    most,
    sqrt,
    where,
)

INF, NAN = math.inf, math.nan
LN2 = 0.6931471805599453, 2.3190468138462996e-17  # log 2 in two pieces
LOG10_2 = 0.3010299956639812, -2.8037281277851704e-18
HALF_PI = 1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33
ROUND_LIMIT = 2.0**45  # largest argument of sin and cos

FUNCTIONS: dict[str, Callable[..., Num]] = {}


def function(define: Callable[..., Num]) -> Callable[..., Num]:
    """Register a definition under its name; a trailing underscore goes."""
    FUNCTIONS[define.__name__.rstrip("_")] = define
    return define


def table(x: Num, name: str) -> tuple[float, ...]:
    """Coefficients for the format of x."""
    found: tuple[float, ...] = getattr(tables, f"{name}_{'32' if x.kind == 'float' else '64'}")
    return found


def pieces(x: Num, parts: tuple[float, ...]) -> tuple[float, float]:
    """A constant as a number of x's format and the rest."""
    high = form(x).round(parts[0])
    return high, parts[0] - high + parts[1]


def form(x: Num) -> Format:
    return F32 if x.kind == "float" else F64


# -- exponential functions ----------------------------------------------------------------


def reduced(x: Num) -> tuple[Num, Num]:
    """k, r with x = n log 2 + r, |r| <= log(2) / 2; the low bits of k are those of n."""
    high, low = pieces(x, LN2)
    shifted = fma(x, 1 / LN2[0], form(x).magic)
    n = shifted - form(x).magic
    return shifted.bits(), fma(n, -low, fma(n, -high, x))


def scaled(y: Num, k: Num, small: Num) -> Num:
    """y * 2**n for y near 1 and the low bits of k those of n; `small`: the result may be denormal.

    First comes y * 2**(n - 1), which cannot overflow, or y * 2**(n + 63) if that is small: only
    the second product rounds.
    """
    f = form(y)
    start = where(small, f.bits(2.0**63), f.bits(0.5), k.kind)
    power = ((k << f.digits) + start).real()
    return y * power * where(small, 2.0**-63, 2.0, y.kind)


def small_limit(x: Num) -> float:
    """exp(x) is normal above it."""
    return -86.0 if x.kind == "float" else -707.0


def floor_limit(x: Num) -> float:
    """exp(x) rounds to zero below it."""
    return -104.0 if x.kind == "float" else -746.0


def top_limit(x: Num) -> float:
    """exp(x) is infinite above it."""
    return 88.72283172607422 if x.kind == "float" else 709.782712893384


def exp_reduced(r: Num) -> Num:
    return horner(r, (1.0, 1.0, *table(r, "EXP")))


def exp_negative(x: Num) -> Num:
    """exp(x) for x <= 0 (or NaN)."""
    x = most(x, floor_limit(x))
    k, r = reduced(x)
    return scaled(exp_reduced(r), k, x < small_limit(x))


@function
def exp(x: Num) -> Num:
    return where(x > top_limit(x), INF, exp_negative(x))


@function
def exp2(x: Num) -> Num:
    bounds = form(x).bias
    low = most(x, -bounds - form(x).digits - 2.0)
    shifted = low + form(x).magic
    r = low - (shifted - form(x).magic)
    y = horner(r, (1.0, *table(x, "EXP2")))
    return where(x >= bounds + 1.0, INF, scaled(y, shifted.bits(), low < 2.0 - bounds))


def expm1_negative(x: Num) -> Num:
    """exp(x) - 1 for x <= 0 (or NaN)."""
    f = form(x)
    k, r = reduced(most(x, -(f.digits + 3.0) * LN2[0]))
    power = ((k << f.digits) + f.bits(1.0)).real()
    return fma(fma(r * r, horner(r, table(x, "EXP")), r), power, power - 1.0)


@function
def expm1(x: Num) -> Num:
    f = form(x)
    k, r = reduced(least(most(x, -(f.digits + 3.0) * LN2[0]), top_limit(x)))
    half = ((k << f.digits) + f.bits(0.5)).real()  # 2**(n - 1): 2**n may overflow
    rest = fma(r * r, horner(r, table(x, "EXP")), r)
    y = where(fabs(x) < 0.3, rest, fma(rest, half, half - 0.5) * 2.0)
    return copysign(where(x > top_limit(x), INF, y), x)


@function
def tanh(x: Num) -> Num:
    """-expm1(-2|x|) / (2 + expm1(-2|x|)), with the sign of x."""
    t = expm1_negative(fabs(x) * -2.0)
    return copysign(t / (t + 2.0), x)


@function
def sigmoid(x: Num) -> Num:
    """1 / (1 + exp(-x)), by exp(-|x|): accurate in both tails."""
    e = exp_negative(-fabs(x))
    return where(x < 0.0, e, 1.0) / (e + 1.0)


@function
def sinh(x: Num) -> Num:
    """A polynomial below 1, h - 1 / (4 h) with h = exp(|x|) / 2 above."""
    a = fabs(x)
    h = half_exp(a)
    z = least(a * a, 1.0)
    small = fma(z * a, horner(z, table(x, "SINH")), a)
    return copysign(where(a < 1.0, small, h - 0.25 / h), x)


@function
def cosh(x: Num) -> Num:
    h = half_exp(fabs(x))
    return h + 0.25 / h


def half_exp(x: Num) -> Num:
    """exp(x) / 2 for x >= 0, finite as long as that is."""
    k, r = reduced(least(x, top_limit(x) + 1.0))
    power = ((k << form(x).digits) + form(x).bits(0.25)).real()
    return exp_reduced(r) * power * 2.0


# -- logarithms ---------------------------------------------------------------------------


def split(x: Num) -> tuple[Num, Num, Num]:
    """e (a number), m, t with x = 2**e m, m in [sqrt(1/2), sqrt(2)), for normal x > 0.

    t is e + bias as a whole number.
    """
    f = form(x)
    root = f.bits(math.sqrt(0.5))
    shifted = x.bits() + (f.bits(1.0) - root)
    t = shifted >> f.digits
    e = (t | f.bits(2.0**f.digits)).real() - (2.0**f.digits + f.bias)
    return e, ((shifted & f.mask) + root).real(), t


def log_series(f: Num) -> Num:
    """log(1 + f) for 1 + f in [sqrt(1/2), sqrt(2))."""
    if f.kind == "float":  # a longer polynomial costs less than a division
        return fma(f * f, horner(f, (-0.5, *tables.LOG_PLAIN)), f)
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return f - (half - s * fma(z, horner(z, tables.LOG), half))


def with_exponent(e: Num, y: Num, parts: tuple[float, float] = LN2) -> Num:
    """e log(2) + y."""
    high, low = pieces(e, parts)
    return fma(e, high, fma(e, low, y))


def log_parts(x: Num) -> tuple[Num, Num]:
    """e, log(m) with x = 2**e m, for finite x > 0."""
    f = form(x)
    denormal = x < f.tiny
    e, m, _ = split(where(denormal, x * 2.0 ** (f.digits + 1), x))
    return e - where(denormal, f.digits + 1.0, 0.0), log_series(m - 1.0)


def log_edges(x: Num, y: Num) -> Num:
    """y, but for x that is zero, negative, infinite or NaN."""
    edge = where(x < 0.0, NAN, where(x == 0.0, -INF, x))
    return where((x > 0.0) & (x < INF), y, edge)


@function
def log(x: Num) -> Num:
    return log_edges(x, with_exponent(*log_parts(x)))


@function
def log2(x: Num) -> Num:
    e, y = log_parts(x)
    return log_edges(x, fma(y, 1 / LN2[0], e))


@function
def log10(x: Num) -> Num:
    e, y = log_parts(x)
    return log_edges(x, with_exponent(e, y * (1 / math.log(10)), LOG10_2))


def log1p_finite(x: Num) -> Num:
    """log(1 + x) for finite x > -1."""
    f = form(x)
    u = x + 1.0
    v = u - 1.0
    lost = (1.0 - (u - v)) + (x - v)  # 1 + x = u + lost exactly
    e, m, t = split(u)
    inverse = ((f.bits(1.0) + (f.bias << f.digits)) - (t << f.digits)).real()  # 2**-e
    rest = where(x < 2.0 ** (f.digits + 2), lost * inverse, 0.0)
    return with_exponent(e, log_series((m - 1.0) + rest))


@function
def log1p(x: Num) -> Num:
    edge = where(x < -1.0, NAN, where(x == -1.0, -INF, x))
    return where((x > -1.0) & (x < INF), copysign(log1p_finite(x), x), edge)


def log1p_unit(e: Num) -> Num:
    """log(1 + e) for e in [0, 1]."""
    s = e / (e + 2.0)
    z = s * s
    return fma(s * z, horner(z, table(e, "LOG_WIDE")), s + s)


@function
def softplus(x: Num) -> Num:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))."""
    return most(x, 0.0) + log1p_unit(exp_negative(-fabs(x)))


@function
def logsigmoid(x: Num) -> Num:
    """-softplus(-x)."""
    return least(x, 0.0) - log1p_unit(exp_negative(-fabs(x)))


@function
def tanh_softplus(x: Num) -> Num:
    """tanh(softplus(x)) = (e² + 2 e) / (e² + 2 e + 2) with e = exp(x); with exp(-x) if x > 0."""
    e = exp_negative(-fabs(x))
    twice = e + e
    below = x < 0.0
    top = fma(e, where(below, e, 0.0), where(below, twice, twice + 1.0))
    return top / fma(e, where(below, 0.0, twice), top + where(below, 2.0, 0.0))


@function
def asinh(x: Num) -> Num:
    """log1p(|x| + x² / (1 + sqrt(1 + x²))), log(2|x|) for large ones."""
    a = fabs(x)
    big = a > 2.0 ** (form(x).digits + 2)
    t = where(big, 0.0, a)
    z = t * t
    y = log1p_finite(where(big, a, t + z / (sqrt(z + 1.0) + 1.0)))
    return copysign(where(a < INF, where(big, y + LN2[0], y), a), x)


@function
def acosh(x: Num) -> Num:
    big = x > 2.0 ** (form(x).digits + 2)
    t = where(big, 1.0, x) - 1.0
    y = log1p_finite(where(big, x, t + sqrt(fma(t, t, t + t))))
    return where(x < 1.0, NAN, where(x < INF, where(big, y + LN2[0], y), x))


@function
def atanh(x: Num) -> Num:
    a = fabs(x)
    y = log1p_finite(where(a < 1.0, (a + a) / (1.0 - a), 0.0)) * 0.5
    return copysign(where(a < 1.0, y, where(a == 1.0, INF, NAN)), x)


# -- the error function -------------------------------------------------------------------


@function
def gauss(x: Num) -> Num:
    """exp(-x²), the square taken in double length."""
    return gauss_positive(bounded(x))


def bounded(x: Num) -> Num:
    """|x|, cut off where exp(-x²) has long been 0."""
    return least(fabs(x), 11.0 if x.kind == "float" else 27.4)


def gauss_positive(a: Num) -> Num:
    square = -(a * a)
    k, r = reduced(square)
    return scaled(exp_reduced(r - fma(a, a, square)), k, square < small_limit(a))


def erfcx(a: Num) -> Num:
    """exp(a²) erfc(a) for a >= 0 as N(a) / (sqrt(pi) a N(a) + R(a)).

    No coefficient is negative, and where a is large the rounding of N cancels.
    """
    n = horner(a, table(a, "ERFCX_N"))
    return n / fma(a * math.sqrt(math.pi), n, horner(a, table(a, "ERFCX_R")))


@function
def erfc(x: Num) -> Num:
    """Accurate in the tail, down to denormal results. What it shares with gauss is done once."""
    a = bounded(x)
    y = gauss_positive(a) * erfcx(a)
    return where(x < 0.0, 2.0 - y, y)


@function
def erf(x: Num) -> Num:
    """A polynomial below 0.9, above it 1 - exp(p(x)) with p for log(erfc)."""
    a = fabs(x)
    middle, cut = (2.0, 4.0) if x.kind == "float" else (3.0, 6.0)
    k, r = reduced(horner(least(a, cut) - middle, table(x, "ERF_TAIL")))
    power = ((k << form(x).digits) + form(x).bits(1.0)).real()
    large = fma(exp_reduced(r), -power, 1.0)  # 1 - exp(log(erfc(a)))
    z = least(x * x, 1.0)
    return copysign(where(a < 0.9, fma(a, horner(z, table(x, "ERF")), a), large), x)


@function
def ndtr(x: Num) -> Num:
    """The normal distribution function erfc(-x / sqrt(2)) / 2; GELU is x * ndtr(x)."""
    a = least(fabs(x), 15.5 if x.kind == "float" else 38.7)
    square = -(a * a)
    k, r = reduced(square * 0.5)
    r = fma(fma(a, a, square), -0.5, r)
    half = scaled(exp_reduced(r), k, square < 2 * small_limit(a)) * 0.5
    y = half * erfcx(a * math.sqrt(0.5))
    return where(x > 0.0, 1.0 - y, y)


# -- circular functions -------------------------------------------------------------------


def quarter_turns(x: Num) -> tuple[Num, Num, Num]:
    """n (its low two bits count), r, rest: x = n pi/2 + r + rest; for |x| <= 2**45.

    x is a float64. x - n HALF_PI[0] is exact: both are multiples of 2**-52, and it is below 1.
    """
    shifted = fma(x, 2 / math.pi, F64.magic)
    n = shifted - F64.magic
    first = fma(n, -HALF_PI[0], x)
    product = n * HALF_PI[1]
    r = first - product
    back = r - first
    rest = (first - (r - back)) - (product + back)
    rest = rest - fma(n, HALF_PI[1], -product)
    return shifted.bits(), r, fma(n, -HALF_PI[2], rest)


def reduce_angle(x: Num) -> tuple[Num, Num, Num]:
    """As `quarter_turns`, for either format; n, r and rest have the width of x."""
    if x.kind == "double":
        return quarter_turns(x)
    wide = x.cast("fpext", "double")
    shifted = fma(wide, 2 / math.pi, F64.magic)
    n = shifted - F64.magic
    exact = fma(n, -HALF_PI[1], fma(n, -HALF_PI[0], wide))
    r = exact.cast("fptrunc", "float")
    return shifted.bits().cast("trunc", "i32"), r, x.body.constant(0.0, "float")


def sine(r: Num, rest: Num, z: Num) -> Num:
    if r.kind == "float":
        return fma(r * z, horner(z, table(r, "SIN")), r)
    tail = fma(z * -0.5, rest, rest)
    return r + fma(r * z, horner(z, table(r, "SIN")), tail)


def cosine(r: Num, rest: Num, z: Num) -> Num:
    if r.kind == "float":
        return horner(z, (1.0, -0.5, *table(r, "COS")))
    half = z * 0.5
    w = 1.0 - half
    error = (1.0 - w) - half
    return w + fma(z * z, horner(z, table(r, "COS")), error - r * rest)


def circular(x: Num, turns: int) -> Num:
    """sin(x + turns pi/2)."""
    bound = where(fabs(x) > ROUND_LIMIT, NAN, x)
    n, r, rest = reduce_angle(bound)
    n = n + turns if turns else n
    z = r * r
    y = where((n & 1) == 0, sine(r, rest, z), cosine(r, rest, z))
    width = 31 if x.kind == "float" else 63
    return (y.bits() ^ ((n & 2) << (width - 1))).real()


@function
def sin(x: Num) -> Num:
    return where(x == 0.0, x, circular(x, 0))


@function
def cos(x: Num) -> Num:
    return circular(x, 1)


@function
def tan(x: Num) -> Num:
    bound = where(fabs(x) > ROUND_LIMIT, NAN, x)
    n, r, rest = reduce_angle(bound)
    z = r * r
    s, c = sine(r, rest, z), cosine(r, rest, z)
    even = (n & 1) == 0
    y = where(even, s, -c) / where(even, c, s)
    return where(x == 0.0, x, y)


def arctangent(top: Num, bottom: Num) -> Num:
    """atan(top / bottom) for both >= 0."""
    low = top <= bottom * (math.sqrt(2) - 1)
    high = top > bottom * (math.sqrt(2) + 1)
    upper = where(low, top, where(high, -bottom, top - bottom))
    lower = where(low, bottom, where(high, top, top + bottom))
    t = upper / lower
    z = t * t
    main, rest = pieces(top, HALF_PI)
    base = where(low, 0.0, where(high, main, main / 2))
    small = where(low, 0.0, where(high, rest, rest / 2))
    return base + (fma(t * z, horner(z, table(top, "ATAN")), t) + small)


@function
def atan(x: Num) -> Num:
    return copysign(arctangent(fabs(x), x.body.number(1.0)), x)


def arcsine_small(x: Num, z: Num) -> Num:
    """asin(x) for |x| <= 1/2, z = x²."""
    return fma(x * z, horner(z, table(x, "ASIN")), x)


@function
def asin(x: Num) -> Num:
    a = fabs(x)
    large = a > 0.5
    z = where(large, (1.0 - a) * 0.5, a * a)
    y = arcsine_small(where(large, sqrt(z), a), z)
    high, low = pieces(x, HALF_PI)
    return copysign(where(large, high - (y * 2.0 - low), y), x)


@function
def acos(x: Num) -> Num:
    a = fabs(x)
    large = a > 0.5
    z = where(large, (1.0 - a) * 0.5, a * a)
    y = arcsine_small(where(large, sqrt(z), a), z)
    high, low = pieces(x, HALF_PI)
    near = where(x < 0.0, (high - (y - low)) * 2.0, y * 2.0)
    return where(large, near, high - (copysign(y, x) - low))


# -- powers -------------------------------------------------------------------------------


@function
def rsqrt(x: Num) -> Num:
    """1 / sqrt(x)."""
    return 1.0 / sqrt(x)


def log2_wide(x: Num) -> tuple[Num, Num]:
    """log2(x) in two pieces (relative error 2**-64) for normal x > 0, of float64."""
    e, m, _ = split(x)
    f = m - 1.0
    d = f + 2.0
    inverse = 1.0 / d
    s = f * inverse
    s_low = (fma(-s, d, f) - s * (f - (d - 2.0))) * inverse
    z = s * s
    z_low = fma(s, s, -z) + (s + s) * s_low
    third = 2.0 / 3.0
    third_low = 3.700743415417188e-17  # 2/3 = third + third_low
    c = z * third
    c_low = fma(z, third, -c) + fma(z_low, third, z * third_low)
    c_low = fma(z * z, horner(z, tables.POW64_LOG), c_low)
    g = c + 2.0
    g_low = (c - (g - 2.0)) + c_low
    y = s * g
    y_low = fma(s, g, -y) + fma(s, g_low, s_low * g)
    inv, inv_low = 1.4426950408889634, 2.0355273740931033e-17  # 1 / log 2
    p = y * inv
    p_low = fma(y, inv, -p) + fma(y_low, inv, y * inv_low)
    total = e + p
    back = total - e
    low = ((e - (total - back)) + (p - back)) + p_low
    high = total + low
    return high, low - (high - total)


def pow_wide(a: Num, y: Num) -> Num:
    """a**y for finite a > 0, of float64."""
    denormal = a < F64.tiny
    high, low = log2_wide(where(denormal, a * 2.0**54, a))
    shift = where(denormal, 54.0, 0.0)
    total = high - shift
    low = low + ((high - total) - shift)
    p = y * total
    inside = fabs(p) < 1100.0
    p_low = where(inside, fma(y, total, -p) + y * low, 0.0)
    p = least(most(p, -1100.0), 1100.0)
    shifted = p + F64.magic
    r = (p - (shifted - F64.magic)) + p_low
    result = scaled(horner(r, (1.0, *tables.EXP2_64)), shifted.bits(), p < -1021.0)
    return where(p < -1080.0, 0.0, where(p > 1024.0, INF, result))


def pow_narrow(a: Num, y: Num) -> Num:
    """a**y for finite a > 0, of float32, worked out in float64."""
    e, m, _ = split(a.cast("fpext", "double"))
    f, d = m - 1.0, m + 1.0
    inverse = (1.0 / d.cast("fptrunc", "float")).cast("fpext", "double")
    s = f * (inverse * fma(-d, inverse, 2.0))  # good to 47 bits
    p = y.cast("fpext", "double") * fma(s, horner(s * s, tables.POW32_LOG), e)
    p = least(most(p, -200.0), 200.0)
    shifted = p + F64.magic
    q = horner(p - (shifted - F64.magic), tables.POW32_EXP)
    return (q.bits() + (shifted.bits() << F64.digits)).real().cast("fptrunc", "float")


def is_whole(x: Num) -> Num:
    """Whether x >= 0 is a whole number."""
    limit = 2.0 ** form(x).digits  # from here on all are
    return (x >= limit) | (((x + limit) - limit) == x)


@function
def pow_(x: Num, y: Num) -> Num:
    """x**y with the special cases of C99, annex F."""
    a = fabs(x)
    result = pow_narrow(a, y) if x.kind == "float" else pow_wide(a, y)
    b = fabs(y)
    integer = is_whole(b)
    odd = integer & ~is_whole(b * 0.5)
    edge = (a == 0.0) | (a == INF)
    result = where(edge, where((a == 0.0) ^ (y < 0.0), 0.0, INF), result)
    result = where(x < 0.0, where(integer | (a == INF), result, NAN), result)
    result = where(odd, copysign(result, x), result)
    result = where(x.isnan() | y.isnan(), NAN, result)
    one = (x == 1.0) | (y == 0.0) | ((a == 1.0) & (b == INF))
    return where(one, 1.0, result)
