"""Options in groups, help with examples, and the types of arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType


class Option(click.Option):
    """An option that stands under a heading of the help page."""

    def __init__(self, *args: Any, group: str = "Other options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command whose help has grouped options and examples."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(getattr(param, "group", "Other options"), []).append(record)
        groups["Other options"] = groups.pop("Other options", [])
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{' ' * formatter.current_indent}{example}\n")


def option(*names: str, group: str = "Other options", **settings: Any) -> Callable[[F], F]:
    """`click.option` with a heading."""
    return click.option(*names, cls=Option, group=group, **settings)


def json_option(function: F) -> F:
    """The flag --json."""
    help = "Print the result as JSON on stdout, and nothing else there."
    return option("--json", "as_json", is_flag=True, help=help)(function)


class Widths(ParamType):
    """Hidden widths: "64,32"; "" or "none" for a linear model.

    >>> Widths().convert("64, 32", None, None), Widths().convert("none", None, None)
    ((64, 32), ())
    """

    name = "widths"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        text = str(value).strip().lower()
        if text in ("", "none"):
            return ()
        try:
            widths = tuple(int(part) for part in text.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 64,32", param, ctx)
        if min(widths) < 1:
            self.fail(f"a layer has at least one unit; received {min(widths)}", param, ctx)
        return widths


class Shape(ParamType):
    """The shape of one input: "1x28x28", "784".

    >>> Shape().convert("1x28x28", None, None)
    (1, 28, 28)
    """

    name = "shape"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(part) for part in str(value).lower().replace(",", "x").split("x"))
        except ValueError:
            self.fail(f"{value!r} is not a shape such as 1x28x28", param, ctx)
        if min(sizes) < 1:
            self.fail(f"sizes must be at least 1; received {value!r}", param, ctx)
        return sizes


class Rows(ParamType):
    """Row numbers from 0, the end left out: "0:5", ":10", "7".

    >>> Rows().convert("0:5", None, None), Rows().convert("7", None, None)
    (slice(0, 5, None), slice(7, 8, None))
    """

    name = "rows"

    def convert(self, value: Any, param: Any, ctx: Any) -> slice:
        if isinstance(value, slice):
            return value
        parts = str(value).split(":")
        try:
            if len(parts) == 1:
                first = int(parts[0])
                return slice(first, first + 1 or None)
            if len(parts) == 2:
                low, high = (int(part) if part.strip() else None for part in parts)
                return slice(low, high)
        except ValueError:
            pass
        self.fail(f"{value!r} is not a range of rows such as 0:5", param, ctx)


class Pair(ParamType):
    """NAME=VALUE, divided at the last equals sign.

    >>> Pair().convert("a=b=numeric", None, None)
    ('a=b', 'numeric')
    """

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, kind = str(value).rpartition("=")
        if not equals or not name:
            self.fail(f"{value!r} should be COLUMN=categorical or COLUMN=numeric", param, ctx)
        return name, kind.strip()
