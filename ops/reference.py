"""The pages of docs/reference that are generated from the code: commands, settings and reasons."""

from collections.abc import Iterator
from typing import Any

import click

from ops.cli import program
from schemas.dead_letter import Reason
from streams.settings import Settings

_WIDTH = 100


def cli_page() -> str:
    """Return every command with its help, as `--help` prints it on 100 columns."""
    blocks = [
        "# Commands",
        "",
        "Every command takes `--help`. Exit codes are in [operate](../how-to/operate.md).",
        "",
    ]
    for path, command in _commands(program, ("tillstream",)):
        context = click.Context(command, info_name=" ".join(path), terminal_width=_WIDTH, max_content_width=_WIDTH)
        blocks += [f"## {' '.join(path)}", "", "```", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(blocks)


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _commands(command.commands[name], (*path, name))


def settings_page() -> str:
    """Return every setting with its type, default, environment variable and meaning."""
    schema = Settings.model_json_schema()
    models = schema["$defs"]
    lines = [
        "# Settings",
        "",
        "Settings are read from `tillstream.yaml` (or the file of `--config`). The environment takes precedence, and",
        "options of the command line take precedence over it. Secrets belong in the environment or in files.",
        "",
        *_table(schema["properties"], "TILLSTREAM_{}"),
    ]
    for name in sorted(models):
        if "properties" in models[name]:
            summary = models[name].get("description", "").partition("\n\n")[0].replace("\n", " ")
            lines += ["", f"## {name}", "", summary, "", *_table(models[name]["properties"], None)]
    return "\n".join([*lines, ""])


def _table(properties: dict[str, Any], variable: str | None) -> list[str]:
    heads = ("setting", "type", "default", *(("environment",) if variable else ()), "meaning")
    rows = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for name, field in properties.items():
        names = (f"`{variable.format(name.upper())}`",) if variable else ()
        cells = (f"`{name}`", _type(field), _default(field), *names, field.get("description", ""))
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return rows


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name != "Reason" else "[reason](reasons.md)"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return ", ".join(_type(kind) for kind in field["anyOf"] if kind.get("type") != "null")
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}"
    if field.get("type") == "object":
        values: dict[str, Any] = field.get("additionalProperties") or next(
            iter(field.get("patternProperties", {}).values()), {}
        )
        return f"by name: {_type(values)}"
    return str(field.get("format") or field.get("type", ""))


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "required"
    value = field["default"]
    if value is None or value in ("", [], {}):
        return ""
    if isinstance(value, dict):
        return "see there"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def reasons_page() -> str:
    """Return the table of reason codes with their meaning and remedy."""
    rows = [f"| `{reason.value}` | {reason.meaning} | {reason.advice} |" for reason in Reason]
    return "\n".join(
        ["# Dead-letter reasons", "", "| reason | what was found | what to do |", "| --- | --- | --- |", *rows, ""]
    )
