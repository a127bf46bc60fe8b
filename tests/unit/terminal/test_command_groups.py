"""The help of the command line: commands in groups, one whole line for each."""

import re
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from ops.cli import program
from ops.terminal.command_groups import GROUPS, MAX_HELP_LINE, first_line


def all_commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    if path:
        yield path
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from all_commands(child, *path, name)


def command_at(path: tuple[str, ...]) -> click.Command:
    command: click.Command = program
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


COMMANDS = list(all_commands(program))


def help_of(*path: str) -> str:
    result = CliRunner().invoke(program, [*path, "--help"], terminal_width=80, prog_name="tillstream")
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_first_help_line_is_short_and_a_whole_sentence(path: tuple[str, ...]) -> None:
    line = first_line(command_at(path))
    assert 0 < len(line) <= MAX_HELP_LINE
    assert line.endswith(".")


@pytest.mark.parametrize("path", [(), *(path for path in COMMANDS if isinstance(command_at(path), click.Group))])
def test_list_of_commands_shows_whole_lines(path: tuple[str, ...]) -> None:
    shown = help_of(*path)
    group = command_at(path)
    assert isinstance(group, click.Group)
    for name, command in group.commands.items():
        assert re.search(rf"^  {name} +{re.escape(first_line(command))}$", shown, re.MULTILINE), name


def test_every_command_is_in_one_group() -> None:
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(program.commands)


def test_groups_come_in_order_with_their_commands() -> None:
    shown = help_of()
    titles = re.findall(r"^(\w.*):$", shown, re.MULTILINE)
    assert titles == ["Options", *GROUPS]
    for title, names in GROUPS.items():
        section = shown.partition(f"{title}:\n")[2].partition("\n\n")[0]
        assert [line.split()[0] for line in section.splitlines()] == list(names)


def test_command_without_a_group_is_listed_under_other(monkeypatch: pytest.MonkeyPatch) -> None:
    added = click.Command("new", help="Do something new.")
    monkeypatch.setitem(program.commands, "new", added)
    assert "Other:\n  new        Do something new.\n" in help_of()
