"""The command itself: welcome, help, version, unknown words, what is imported, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import click
import pytest

from fathom.cli import cli, console
from fathom.cli.app import COMMANDS
from fathom.version import __version__


def python(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**os.environ, **env},
        timeout=60, check=False,
    )  # fmt: skip


def test_alone_it_prints_six_things_to_try(run):
    lines = [line for line in run().stdout.splitlines() if line.startswith("  fathom ")]
    assert len(lines) == 6
    for line in lines:
        assert line.split()[1] in COMMANDS


def test_version(run):
    assert run("--version").stdout == f"fathom, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples(run, name):
    text = run(name, "--help").stdout
    assert "Examples:" in text and text.count(f"  fathom {name}") >= 2
    assert "--json" in text
    context = click.Context(cli)
    assert cli.get_command(context, name).get_short_help_str() in run("--help").stdout


def test_options_of_train_are_grouped(run):
    text = run("train", "--help").stdout
    places = [text.index(f"\n{title}:\n") for title in ("Data", "Network", "Training", "Output")]
    assert places == sorted(places)
    assert text.index("--layers") > places[1] and text.index("--lr") > places[2]


def test_unknown_command_names_the_nearest(run):
    result = run("trian", code=2)
    assert "Did you mean 'train'?" in result.stderr and result.stdout == ""


def test_unknown_option_names_the_nearest(run):
    assert "--epochs" in run("train", "iris", "--epocs", 3, code=2).stderr


def test_module_runs_and_imports_nothing_heavy():
    code = (
        "import sys; from fathom.cli import cli\n"
        "try: cli(['train', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'matplotlib', 'jinja2', 'rich', 'pooch', 'safetensors', 'threadpoolctl'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = python("-c", code)
    assert result.stderr == "[]\n", result.stderr
    assert "Usage: fathom train" in result.stdout
    assert python("-m", "fathom", "--version").returncode == 0


@pytest.fixture
def broken(monkeypatch):
    from fathom.cli.commands import info

    def fail():
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(info, "_facts", fail)


def test_a_bug_is_one_message_and_exit_1(run, broken, monkeypatch):
    monkeypatch.delenv("FATHOM_TRACEBACK", raising=False)
    result = run("info", code=1)
    assert "ZeroDivisionError: by nothing" in result.stderr
    assert "bug in Fathom" in result.stderr and "FATHOM_TRACEBACK=1" in result.stderr
    assert "Traceback" not in result.stderr and result.stdout == ""


def test_the_traceback_of_a_bug_on_request(run, broken, monkeypatch):
    monkeypatch.setenv("FATHOM_TRACEBACK", "1")
    assert "Traceback" in run("info", code=1).stderr


def test_a_bug_as_json(run, broken):
    assert json.loads(run("info", "--json", code=1).stdout)["error"]["type"] == "ZeroDivisionError"


def test_errors_as_json(run):
    result = run("train", "digitz", "--json", code=2)
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "ArgumentError" and "digitz" in error["message"]
    assert "'digits'" in error["fix"]
    assert result.stderr.startswith("error: unknown data set 'digitz'\n  try: ")


def test_usage_errors_as_json(run):
    error = json.loads(run("train", "--json", code=2).stdout)["error"]
    assert error["type"] == "MissingParameter" and "DATA" in error["message"]


def test_ctrl_c_outside_of_training_is_130(run, monkeypatch):
    from fathom.cli.commands import info

    def press():
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "_facts", press)
    assert "interrupted" in run("info", code=130).stderr


def test_errors_have_no_colour_when_piped():
    result = python("-m", "fathom", "evaluate", "nowhere", FORCE_COLOR="", NO_COLOR="1")
    assert result.returncode == 2 and "\x1b" not in result.stderr


def test_sparkline_of_constant_and_of_no_values():
    assert console.sparkline([2.0, 2.0]) == "▁▁" and console.sparkline([float("nan")]) == ""
    assert len(console.sparkline(list(range(1000)), width=40)) <= 40
