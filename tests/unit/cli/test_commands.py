"""The command line itself: help with an example everywhere, mistakes in one line, an exit status that tells."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from services.cli.__main__ import main
from services.cli.commands import COMMANDS, parser
from services.cli.late_parser import LateParser

PROMISED = {
    "up": set(),
    "send": set(),
    "status": set(),
    "trace": set(),
    "dead-letters": {"list", "show", "requeue"},
    "users": {"add", "list", "remove", "role", "password"},
    "models": {"list", "show", "train", "verify"},
    "policy": {"check", "backtest", "shadow", "publish", "rollback", "retire", "list", "show"},
    "drift": {"status", "report"},
    "features": {"get", "names"},
    "parity": set(),
    "schemas": {"register", "list"},
}


def subcommands(of: LateParser) -> dict[str, LateParser]:
    of.fill()
    found = [action.choices for action in of._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def leaves() -> Iterator[LateParser]:
    for command in subcommands(parser()).values():
        for leaf in subcommands(command).values() or [command]:
            leaf.fill()
            yield leaf


def test_the_help_names_every_command_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert [name for name, text in COMMANDS.items() if f"{name} {text}" not in shown] == []


def test_every_promised_command_is_there() -> None:
    found = {name: set(subcommands(command)) for name, command in subcommands(parser()).items()}
    assert {name: actions & found[name] for name, actions in PROMISED.items()} == PROMISED


@pytest.mark.parametrize("command", list(leaves()), ids=lambda command: command.prog)
def test_every_help_ends_with_an_example_of_that_command(command: LateParser) -> None:
    assert (command.epilog or "").startswith(f"example: {command.prog}"), command.prog
    example = shlex.split((command.epilog or "").removeprefix("example: weir "))
    assert parser().parse_args(example).run is command.get_default("run")


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["trace"], ["dead-letters"], ["features", "get", "device", "d1"]]
)
def test_wrong_usage_is_no_success(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: weir" in capsys.readouterr().err
