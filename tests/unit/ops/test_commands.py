"""Every command has help with examples, and every command in the documentation or in a help text exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ops.cli import program

ROOT = Path(__file__).parents[3]
#: The changelog names commands of earlier releases.
PAGES = [
    *sorted(set(ROOT.glob("*.md")) - {ROOT / "CHANGELOG.md"}),
    *sorted(set(ROOT.glob("docs/**/*.md")) - {ROOT / "docs/reference/cli.md"}),
]
#: `tillstream …` at the beginning of a line of a block, or in backquotes; "…" is a placeholder.
SHOWN = re.compile(r"(?:^(?:\$ |\.venv/bin/)?(?:TILLSTREAM_\S+ )*|`|\| )tillstream ([^`\n]*)", re.MULTILINE)
ENDS = {"|", ">", "<", "&", ";", "&&", "2>&1", "#", "*"}


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = dict(commands(program))
LEAVES = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}


def shown(text: str) -> list[str]:
    """Return the commands in a text, with continued lines joined."""
    return [match.strip() for match in SHOWN.findall(text.replace("\\\n", " "))]


def words_of(line: str) -> list[str]:
    """Return the arguments, up to the first operator of the shell."""
    words = shlex.split(line, comments=True)
    end = next((index for index, word in enumerate(words) if word in ENDS or word.startswith((">", "2>"))), len(words))
    return words[:end]


def parse(line: str) -> None:
    """Raise click.UsageError if the line is not a valid command. Nothing is run."""
    command: click.Command = program
    words = words_of(line)
    context = click.Context(program, info_name="tillstream")
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
        context = click.Context(command, parent=context, info_name=command.name)
    if isinstance(command, click.Group):
        if words and words[0][0].isalpha():
            raise click.UsageError(f"there is no command {words[0]}")
        return
    if not words:  # the command is only named
        return
    stated = [word for word in words if "…" not in word and not re.fullmatch("[A-Z_]+", word)]
    context.resilient_parsing = len(stated) < len(words)  # some of it is left to the reader
    try:
        command.parse_args(context, stated)
    except click.BadParameter as error:
        if "No such file" not in error.message:
            raise


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_help_with_examples(path: tuple[str, ...]) -> None:
    command = LEAVES[path]
    assert command.help
    examples = command.epilog or ""
    lines = [line for line in shown(examples.replace("\n  ", "\n")) if line]
    assert lines, f"{' '.join(path)} has no example"
    for line in lines:
        parse(line)
        assert tuple(words_of(line)[: len(path)]) == path or "|" in examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_a_page_exists(page: Path) -> None:
    for line in shown(page.read_text()):
        try:
            parse(line)
        except (click.UsageError, ValueError) as error:
            pytest.fail(f"{page.name}: tillstream {line}: {error}")


@pytest.mark.parametrize("line", ["dlq replya", "dlq replay --gone", "inspect --sample 3", "run --workers many"])
def test_unknown_command_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line)
