"""The options that commands share, and the settings that result from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from streams.settings import Settings, load_settings

as_one_object = click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option for the settings file."""
    return click.option(
        "--config", type=click.Path(path_type=Path), help="Settings file (default: tillstream.yaml, if it exists)."
    )(command)


def with_broker(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that uses Kafka."""
    return with_config(click.option("--broker", metavar="HOST:PORT", help="Kafka brokers, comma separated.")(command))


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that uses Kafka and the sink."""
    return with_broker(
        click.option("--sink", "sink_url", metavar="URL", help="Where documents go (settings: sink_url).")(command)
    )


def settings_from(config: Path | None, **options: Any) -> Settings:
    """Return the settings, overridden by the options that the user gave (those that aren't None)."""
    return load_settings(config, **{name: value for name, value in options.items() if value is not None})
