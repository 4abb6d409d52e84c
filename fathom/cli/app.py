"""The group of commands, what happens when they fail, and the exit codes.

0: done. 2: the user can mend it (every `FathomError`, a wrong option). 1: a bug in Fathom.
130: stopped with Ctrl-C outside of training. 4: `fathom doctor --strict` has found a fault; and the
exit code of a script that it ran is its own.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from fathom.cli import console
from fathom.cli.options import Command
from fathom.engine.errors import FathomError
from fathom.version import __version__

COMMANDS = (
    "demo", "train", "doctor", "lr-find", "evaluate", "predict", "summary", "datasets",
    "activations", "book", "info",
)  # fmt: skip
OK, BUG, MISTAKE, INTERRUPTED = 0, 1, 2, 130

WELCOME = (
    ("fathom demo", "train on handwritten digits, see a report"),
    ("fathom datasets", "what is here to learn from, without a download"),
    ("fathom train iris", "a network, its accuracy and its report in seconds"),
    ("fathom train my.csv --target price", "the same for a table of yours"),
    ("fathom summary --layers 64,32 --in 8", "count the parameters of a network"),
    ('fathom book ask "why do gradients vanish"', "an answer, and the experiment behind it"),
)


class Group(click.Group):
    """Commands imported when used; errors told in words, with an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"fathom.cli.commands.{cmd_name.replace('-', '_')}")
        found: click.Command = module.command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = console.nearest(name, COMMANDS)
            hint = f" Did you mean {near!r}?" if near else ""
            ctx.fail(f"there is no command {name!r}.{hint} Known: {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        name = prog_name or "fathom"
        if not standalone_mode:
            return super().main(given, name, complete_var, standalone_mode=False, **extra)
        sys.exit(self._run(given, name, complete_var, extra))

    def _run(
        self, args: list[str], name: str, complete_var: str | None, extra: dict[str, Any]
    ) -> int:
        as_json = "--json" in args
        try:
            code = super().main(args, name, complete_var, standalone_mode=False, **extra)
            return code if isinstance(code, int) else OK
        except click.Abort:
            console.say_error("interrupted", "", as_json, "Interrupted")
            return INTERRUPTED
        except click.ClickException as error:
            console.say_error(*_told(error), as_json, type(error).__name__)
            return MISTAKE
        except FathomError as error:
            console.say_error(*console.told(error), as_json, type(error).__name__)
            return MISTAKE
        except Exception as error:
            return _bug(error, as_json)


def _told(error: click.ClickException) -> tuple[str, str]:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "fathom"
    return error.format_message(), f"{path} --help"


def _bug(error: Exception, as_json: bool) -> int:
    if os.environ.get("FATHOM_TRACEBACK"):
        traceback.print_exc()
    what = " ".join(f"{type(error).__name__}: {error}".split())
    console.say_error(
        f"{what} (this is a bug in Fathom, please report it with the output of `fathom info`)",
        "set FATHOM_TRACEBACK=1 and run it again to see where it happened",
        as_json,
        type(error).__name__,
    )
    return BUG


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", prog_name="fathom")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Fathom: deep learning you can see to the bottom of.

    Errors go to stderr. Exit code 0: done; 2: a mistake you can mend; 1: a bug in Fathom.
    """
    if ctx.invoked_subcommand is None:
        click.echo(f"Fathom {__version__}: deep learning you can see to the bottom of.\n")
        click.echo("Six things to try:\n")
        width = max(len(line) for line, _ in WELCOME)
        for line, why in WELCOME:
            click.echo(f"  {line.ljust(width)}   {why}")
        click.echo("\nfathom --help lists all commands, fathom COMMAND --help the options of one.")


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    cli.main(args)
    raise SystemExit(OK)


__all__ = ["Command", "cli", "main"]
