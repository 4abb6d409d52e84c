"""`vecmath`: at most 4 ulp, special values exact, vector code out of plain loops."""

import ctypes
import importlib.util
import math
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathom.compile.native import vecmath, vecmath_tables
from fathom.engine.errors import ArgumentError, DtypeError

pytest.importorskip("llvmlite", reason="llvmlite is not installed")

from fathom.compile.native.engine import Compiler, Machine

ULPS = 4.0
DTYPES = ["float32", "float64"]
ONE = [name for name in vecmath.functions() if vecmath.arity(name) == 1]
INF, NAN = math.inf, math.nan
LIMITED = {"sin", "cos", "tan"}
Run = Callable[..., np.ndarray[Any, Any]]


# -- running a function over an array ------------------------------------------------------


def loop(name: str, dtype: str, lanes: int = 1) -> str:
    """A function that applies a vector function to n (a multiple of lanes) numbers."""
    scalar = "float" if dtype == "float32" else "double"
    kind = scalar if lanes == 1 else f"<{lanes} x {scalar}>"
    count = vecmath.arity(name)
    pointers = "".join(f", ptr noalias %p{i}" for i in range(count))
    size = 4 if dtype == "float32" else 8
    loads = "".join(
        f"  %q{i} = getelementptr {scalar}, ptr %p{i}, i64 %i\n"
        f"  %a{i} = load {kind}, ptr %q{i}, align {size}\n"
        for i in range(count)
    )
    values = ", ".join(f"{kind} %a{i}" for i in range(count))
    return f"""
define void @run_{name}(i64 %n{pointers}, ptr noalias %out) {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
{loads}  %y = call {kind} {vecmath.symbol(name, dtype, lanes)}({values})
  %q = getelementptr {scalar}, ptr %out, i64 %i
  store {kind} %y, ptr %q, align {size}
  %next = add nuw nsw i64 %i, {lanes}
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""


def module(names: list[str], dtype: str, lanes: int = 1) -> str:
    loops = [loop(name, dtype, lanes) for name in names]
    return "\n".join([vecmath.text(names, dtype, lanes), *loops])


def runners(dtype: str, lanes: int = 1) -> dict[str, Run]:
    names = list(vecmath.functions())
    library = Compiler(cache=False).compile(module(names, dtype, lanes))

    def make(name: str) -> Run:
        pointers = [ctypes.c_void_p] * (vecmath.arity(name) + 1)
        function = library.function(f"run_{name}", ctypes.c_int64, *pointers)

        def run(*inputs: Any) -> np.ndarray[Any, Any]:
            arrays = [np.ascontiguousarray(x, dtype) for x in inputs]
            out = np.empty_like(arrays[0])
            function(out.size, *(a.ctypes.data for a in arrays), out.ctypes.data)
            return out

        return run

    return {name: make(name) for name in names}


@pytest.fixture(scope="module")
def run() -> dict[str, dict[str, Run]]:
    return {dtype: runners(dtype) for dtype in DTYPES}


# -- references ----------------------------------------------------------------------------


def _each(function: Callable[[float], float]) -> Run:
    return lambda x: np.array([function(v) for v in x.tolist()], x.dtype)


def _softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


REFERENCES: dict[str, Run] = {
    "acos": np.arccos,
    "acosh": np.arccosh,
    "asin": np.arcsin,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "erf": _each(math.erf),
    "erfc": _each(math.erfc),
    "gauss": lambda x: np.exp(-x * x),
    "logsigmoid": lambda x: -_softplus(-x),
    "ndtr": _each(lambda v: 0.5 * math.erfc(-v * math.sqrt(0.5))),
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: np.where(x < 0, np.exp(-np.abs(x)), 1) / (1 + np.exp(-np.abs(x))),
    "softplus": _softplus,
    "tanh_softplus": lambda x: np.tanh(_softplus(x)),
}


def reference(name: str) -> Run:
    return REFERENCES.get(name) or getattr(np, name)


def ulps(got: Any, exact: Any) -> Any:
    """The distance in units of the last place of the exact value, in a wider format.

    Infinite where one is NaN and the other not. A result that overflowed is held against the
    largest number: within half a unit of that it is right.
    """
    kind = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        right = (got == exact.astype(got.dtype)) | (np.isnan(got) & np.isnan(exact))
        exponent = np.maximum(np.frexp(exact)[1] - 1, kind.minexp)
        clipped = np.clip(got.astype(exact.dtype), -kind.max, kind.max)
        error = np.abs(clipped - exact) * np.ldexp(np.ones_like(exact), kind.nmant - exponent)
    return np.where(right, 0, np.where(np.isnan(error), np.inf, error))


def check(name: str, got: Any, exact: Any, *inputs: Any) -> None:
    error = ulps(got, exact)
    i = int(error.argmax())
    at = [float(x[i]) for x in inputs]
    assert error[i] <= ULPS, f"{name}{at}: {error[i]} ulp, got {got[i]!r}, exact {exact[i]!r}"


# -- accuracy ------------------------------------------------------------------------------


def all_float32(step: int, first: int = 0) -> Any:
    """Every step-th number of the format, by bit pattern."""
    return np.arange(first, 1 << 32, step, dtype=np.uint64).astype(np.uint32).view(np.float32)


def inside(name: str, x: Any) -> Any:
    """The part where accuracy is promised."""
    return x[np.abs(x) <= 2.0**45] if name in LIMITED else x


@pytest.mark.parametrize("name", ONE)
def test_float32_over_the_whole_range(name: str, run: dict[str, dict[str, Run]]) -> None:
    x = inside(name, all_float32(60_013))
    near = np.random.default_rng(0).uniform(-12, 12, 30_000).astype(np.float32)
    x = np.concatenate([x, near])
    with np.errstate(all="ignore"):
        check(name, run["float32"][name](x), reference(name)(x.astype(np.float64)), x)


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE)
def test_sixteen_million_float32(name: str, run: dict[str, dict[str, Run]]) -> None:
    if name in ("erf", "erfc", "ndtr"):
        special: Any = pytest.importorskip("scipy.special")
        compute = getattr(special, name)
    else:
        compute = reference(name)
    for first in range(8):
        x = inside(name, all_float32(8 * 251, first * 251))
        with np.errstate(all="ignore"):
            check(name, run["float32"][name](x), compute(x.astype(np.float64)), x)


def doubles(count: int) -> Any:
    """Numbers of every size, ordinary ones, and ones near 1, where logarithms are delicate."""
    rng = np.random.default_rng(1)
    sign = rng.choice([-1.0, 1.0], count)
    return np.concatenate(
        [
            rng.integers(0, 1 << 64, count, dtype=np.uint64).view(np.float64),
            sign * np.exp(rng.uniform(-40, 6.5, count)),
            rng.uniform(-750, 750, count),
            rng.uniform(-30, 30, count),
            rng.uniform(-1.2, 1.2, count),
            1 + sign * 2.0 ** rng.uniform(-51, -1, count),
        ]
    )


WIDE = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="no wider format to compare with"
)


@WIDE
@pytest.mark.parametrize("name", [n for n in ONE if n not in ("erf", "erfc", "ndtr")])
def test_float64_against_long_double(name: str, run: dict[str, dict[str, Run]]) -> None:
    x = inside(name, doubles(10_000))
    with np.errstate(all="ignore"):
        check(name, run["float64"][name](x), reference(name)(x.astype(np.longdouble)), x)


@WIDE
@pytest.mark.parametrize("name", ["erf", "erfc", "ndtr"])
def test_float64_error_functions(name: str, run: dict[str, dict[str, Run]]) -> None:
    mp: Any = pytest.importorskip("mpmath").mp.clone()
    mp.prec = 150
    exact = {"erf": mp.erf, "erfc": mp.erfc, "ndtr": lambda v: mp.erfc(-mp.mpf(v) / mp.sqrt(2)) / 2}
    rng = np.random.default_rng(2)
    x = np.concatenate(
        [rng.uniform(-39, 39, 700), rng.uniform(-3, 3, 500), rng.uniform(0, 1e-8, 50)]
    )

    def long(v: float) -> Any:
        value = exact[name](v)
        high = float(value)
        return np.longdouble(high) + np.longdouble(float(value - high))

    check(name, run["float64"][name](x), np.array([long(v) for v in x.tolist()]), x)


@pytest.mark.parametrize("name", sorted(LIMITED))
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_angles(name: str, dtype: str, run: dict[str, dict[str, Run]]) -> None:
    """Near multiples of pi/2 almost all digits of the angle cancel."""
    rng = np.random.default_rng(3)
    turns = np.round(2.0 ** rng.uniform(0, 44, 20_000))
    x = (turns * (np.pi / 2)).astype(dtype)
    wide = np.float64 if dtype == "float32" else np.longdouble
    if wide is np.longdouble and np.finfo(wide).nmant < 63:
        pytest.skip("no wider format to compare with")
    check(name, run[dtype][name](x), reference(name)(x.astype(wide)), x)
    far = np.array([2.0**46, -1e30, INF, -INF], dtype)
    assert np.isnan(run[dtype][name](far)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow(dtype: str, run: dict[str, dict[str, Run]]) -> None:
    wide = np.float64 if dtype == "float32" else np.longdouble
    if wide is np.longdouble and np.finfo(wide).nmant < 63:
        pytest.skip("no wider format to compare with")
    rng = np.random.default_rng(4)
    span, count = (104, 30_000) if dtype == "float32" else (745, 30_000)
    sign = rng.choice([-1.0, 1.0], count)
    bases = [
        np.exp(rng.uniform(-20, 20, count)),
        1 + sign * 2.0 ** -rng.uniform(1, 22 if dtype == "float32" else 50, count),
        np.exp(rng.uniform(-span, 0.85 * span, count)),  # denormal ones among them
    ]
    for base in bases:
        x = base.astype(dtype)
        x = x[(x > 0) & (x != 1)]
        y = (rng.uniform(-1, 1, x.size) * span / np.abs(np.log(x.astype(float)))).astype(dtype)
        with np.errstate(all="ignore"):
            exact = np.power(x.astype(wide), y.astype(wide))
        check("pow", run[dtype]["pow"](x, y), exact, x, y)
    x, y = np.meshgrid(np.arange(-9.0, 10), np.arange(-6.0, 7))
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(wide), y.astype(wide)).ravel()
    check("pow", run[dtype]["pow"](x.ravel(), y.ravel()), exact, x.ravel(), y.ravel())


# -- special values ------------------------------------------------------------------------

ODD = ("asin", "asinh", "atan", "atanh", "erf", "sin", "sinh", "tan", "tanh")
THROUGH_ZERO = (*ODD, "expm1", "log1p")
SPECIAL: dict[str, list[tuple[float, float]]] = {
    "acos": [(1, 0), (1.5, NAN), (-INF, NAN)],
    "acosh": [(1, 0), (0.5, NAN), (INF, INF), (-INF, NAN)],
    "asin": [(1.5, NAN), (INF, NAN)],
    "asinh": [(INF, INF), (-INF, -INF)],
    "atan": [(INF, math.pi / 2), (-INF, -math.pi / 2)],
    "atanh": [(1, INF), (-1, -INF), (1.5, NAN), (-INF, NAN)],
    "cos": [(0.0, 1), (-0.0, 1)],
    "cosh": [(0.0, 1), (INF, INF), (-INF, INF), (800, INF)],
    "erf": [(INF, 1), (-INF, -1), (30, 1)],
    "erfc": [(INF, 0), (-INF, 2), (0, 1), (-0.0, 1), (30, 0)],
    "exp": [(INF, INF), (-INF, 0), (0, 1), (-0.0, 1), (800, INF), (-800, 0)],
    "exp2": [(INF, INF), (-INF, 0), (3, 8), (-1, 0.5), (1100, INF), (-1100, 0)],
    "expm1": [(INF, INF), (-INF, -1), (800, INF), (-800, -1)],
    "gauss": [(0.0, 1), (-0.0, 1), (INF, 0), (-INF, 0), (1e30, 0)],
    "log": [(0.0, -INF), (-0.0, -INF), (1, 0), (INF, INF), (-1, NAN), (-INF, NAN)],
    "log10": [(0.0, -INF), (-0.0, -INF), (1, 0), (INF, INF), (-1, NAN)],
    "log1p": [(-1, -INF), (INF, INF), (-1.5, NAN), (-INF, NAN)],
    "log2": [(0.0, -INF), (-0.0, -INF), (1, 0), (INF, INF), (-1, NAN), (2.0**-140, -140)],
    "logsigmoid": [(INF, 0), (-INF, -INF), (-1000, -1000)],
    "ndtr": [(INF, 1), (-INF, 0)],
    "rsqrt": [(0.0, INF), (-0.0, -INF), (INF, 0), (-1, NAN), (4, 0.5)],
    "sigmoid": [(INF, 1), (-INF, 0), (0, 0.5), (-0.0, 0.5), (1000, 1), (-1000, 0)],
    "sinh": [(INF, INF), (-INF, -INF), (-800, -INF)],
    "softplus": [(INF, INF), (-INF, 0), (1000, 1000), (-1000, 0)],
    "tanh": [(INF, 1), (-INF, -1), (50, 1), (-50, -1)],
    "tanh_softplus": [(INF, 1), (-INF, 0), (0, 0.6), (-0.0, 0.6), (1000, 1), (-1000, 0)],
}


@pytest.mark.parametrize("name", ONE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_special_values(name: str, dtype: str, run: dict[str, dict[str, Run]]) -> None:
    rows = SPECIAL.get(name, [])
    tiny = float(np.finfo(dtype).smallest_subnormal)
    if name in THROUGH_ZERO:
        rows = [*rows, (0.0, 0.0), (-0.0, -0.0)]
        if name != "erf":
            rows += [(tiny, tiny), (-tiny, -tiny)]
    x, expected = (np.array(column, dtype) for column in zip(*rows, strict=True))
    got = run[dtype][name](x)
    np.testing.assert_array_equal(got, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_of_any_kind_stays(dtype: str, run: dict[str, dict[str, Run]]) -> None:
    width, digits = (32, 23) if dtype == "float32" else (64, 52)
    quiet = (1 << width - 1) - (1 << digits - 1)
    patterns = [quiet | p for p in (0, 1, 255, 511, (1 << digits - 1) - 1)]
    patterns += [p | 1 << width - 1 for p in patterns]
    nans = np.array(patterns, f"uint{width}").view(dtype)
    for name in vecmath.functions():
        rest = [np.full_like(nans, 2.0)] * (vecmath.arity(name) - 1)
        assert np.isnan(run[dtype][name](nans, *rest)).all(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_follows_c(dtype: str, run: dict[str, dict[str, Run]]) -> None:
    values = [0.0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 1.5, -1.5, INF, -INF, NAN, 2.0**24 + 2]
    rows = []
    for x in values:
        for y in values:
            try:
                z = math.pow(x, y)
            except ValueError:  # a power of a negative number, or 0 to a negative one
                odd = float(y).is_integer() and y % 2 == 1
                z = NAN if x else math.copysign(INF, x) if odd else INF
            except OverflowError:
                odd = y % 2 == 1
                z = -INF if x < 0 and odd else INF
            rows.append((x, y, z))
    left, right, power = (np.array(column, dtype) for column in zip(*rows, strict=True))
    got = run[dtype]["pow"](left, right)
    np.testing.assert_allclose(got, power, rtol=2 * float(np.finfo(dtype).eps))
    numbers = ~np.isnan(power)
    np.testing.assert_array_equal(np.signbit(got[numbers]), np.signbit(power[numbers]))
    exact = (power == 0) | np.isinf(power) | (np.abs(power) == 1)
    np.testing.assert_array_equal(got[exact], power[exact])


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_stay_inside_their_range(dtype: str, run: dict[str, dict[str, Run]]) -> None:
    x = all_float32(60_013)
    x = x[np.isfinite(x)].astype(dtype)
    ranges: dict[str, tuple[float, float]]
    ranges = {"tanh": (-1, 1), "sigmoid": (0, 1), "erf": (-1, 1), "erfc": (0, 2), "ndtr": (0, 1)}
    ranges |= {"softplus": (0, INF), "logsigmoid": (-INF, 0)}
    for name, (low, high) in ranges.items():
        y = run[dtype][name](x)
        assert ((y >= low) & (y <= high)).all(), name
    y = inside("sin", x)
    assert (np.abs(run[dtype]["sin"](y)) <= 1).all()
    assert (np.abs(run[dtype]["cos"](y)) <= 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_two_and_even_functions_are_exact(
    dtype: str, run: dict[str, dict[str, Run]]
) -> None:
    low, high = (-149, 128) if dtype == "float32" else (-1074, 1024)
    n = np.arange(low, high).astype(dtype)
    powers = np.ldexp(np.ones_like(n), n.astype(np.int32))
    np.testing.assert_array_equal(run[dtype]["exp2"](n), powers)
    np.testing.assert_array_equal(run[dtype]["log2"](powers), n)
    x = np.linspace(-20, 20, 1001).astype(dtype)
    for name in ("cos", "cosh"):
        np.testing.assert_array_equal(run[dtype][name](x), run[dtype][name](-x))
    for name in ODD:
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(run[dtype][name](-x), -run[dtype][name](x))


# -- the text ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_vector_form_equals_scalar_form(dtype: str, run: dict[str, dict[str, Run]]) -> None:
    x = np.random.default_rng(5).normal(0, 3, 1024).astype(dtype)
    x[:4] = [INF, -INF, NAN, 0]
    y = np.random.default_rng(6).normal(0, 3, 1024).astype(dtype)
    for name, vector in runners(dtype, lanes=8).items():
        inputs = (x, y)[: vecmath.arity(name)]
        np.testing.assert_array_equal(vector(*inputs), run[dtype][name](*inputs), err_msg=name)


X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 instructions")


@X86
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cpu", ["haswell", "znver4"])
def test_loops_become_vector_code_without_calls(cpu: str, dtype: str) -> None:
    host = Compiler(cache=False).machine
    compiler = Compiler(cache=False, machine=Machine(host.triple, cpu, ""))
    register = r"zmm\d" if cpu == "znver4" else r"ymm\d"
    suffix = "ps" if dtype == "float32" else "pd"
    packed = re.compile(rf"\tv(?:fn?m\w+|div|sqrt|mul){suffix}\t.*{register}")
    for name in vecmath.functions():
        text = compiler.assembly(module([name], dtype))
        assert not re.search(r"\t(?:call|jmp)q?\t\*?[a-z]\w*@", text), name
        assert "\tcall" not in text, name
        wide = "pd" if (name, suffix) == ("pow", "ps") else suffix
        pattern = re.compile(packed.pattern.replace(f"){suffix}", f"){wide}"))
        assert pattern.search(text), name


def test_text_has_each_definition_once_in_order() -> None:
    found = re.findall(r"define internal \w+ (\S+)\(", vecmath.text(["tanh", "exp", "tanh"]))
    assert found == ["@fathom.exp.f32", "@fathom.tanh.f32"]
    both = vecmath.text(["exp"], "float32") + vecmath.text(["exp"], "float64")
    assert vecmath.symbol("exp", np.float64) in both


def test_functions_and_arity() -> None:
    needed = "exp exp2 expm1 log log2 log10 log1p tanh sigmoid softplus logsigmoid erf erfc sin cos"
    assert {*needed.split(), "rsqrt", "pow", "atan"} <= set(vecmath.functions())
    assert vecmath.arity("pow") == 2 and vecmath.arity("exp") == 1


def test_unknown_names_and_dtypes() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'tanh'"):
        vecmath.text(["tanhh"])
    with pytest.raises(ArgumentError, match="no vector function"):
        vecmath.arity("gamma")
    for dtype in ("float16", "int32"):
        with pytest.raises(DtypeError, match=dtype):
            vecmath.text(["exp"], dtype)


@pytest.mark.parametrize("name", ["SIN_32", "EXP_32", "EXP_64", "COS_64"])
def test_the_tables_are_what_the_script_fits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mpmath")
    path = Path(__file__).parents[3] / "scripts" / "fit_polynomials.py"
    spec = importlib.util.spec_from_file_location("fit_polynomials", path)
    if spec is None or spec.loader is None:
        pytest.skip("the script is not here")
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)
    spec.loader.exec_module(script)
    base, width = name.split("_")
    fit = script.FITS[base]
    bits, dtype = (fit.bits[0], np.float32) if width == "32" else (fit.bits[1], np.float64)
    coefficients, _ = script.least(fit, bits)
    assert tuple(script.rounded(fit, coefficients, dtype)) == getattr(vecmath_tables, name)
