"""The options that commands share, and the settings they make."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from streams.settings import Settings, load_settings

as_one_object = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option that names the settings file."""
    return click.option(
        "--config", type=click.Path(path_type=Path), help="Settings file (default: tillstream.yaml if there is one)."
    )(command)


def with_broker(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that talks to Kafka."""
    return with_config(click.option("--broker", metavar="HOST:PORT", help="Kafka brokers, comma separated.")(command))


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options every command that talks to components has."""
    return with_broker(
        click.option("--sink", "sink_url", metavar="URL", help="Where documents go (settings: sink_url).")(command)
    )


def settings_from(config: Path | None, **given: Any) -> Settings:
    """Settings with what was given on the command line on top."""
    return load_settings(config, **{name: value for name, value in given.items() if value is not None})
