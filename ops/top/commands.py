"""`tillstream top`: how well the workers are, in a terminal."""

import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from ops.check import UNREACHABLE, WIDTH
from ops.terminal.options import settings_from, with_config
from ops.top.reading import WorkerReading, look
from ops.top.screen import TopView, as_json, screen
from streams.settings import Settings, SettingsError

NOT_READY = 1
#: Listening there means every address of the machine; the nearest of them is asked.
ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 (nothing is bound)


@click.command(
    epilog="\b\nExamples:\n  tillstream top\n  tillstream top --workers 2\n"
    "  tillstream top till-1:9464 till-2:9464 --every 5\n"
    "  tillstream top --json | jq '.workers[] | select(.ready | not) | .reasons'"
)
@click.argument("urls", nargs=-1, metavar="[URL]…")
@with_config
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Without URLs: the workers of `tillstream run --workers`, at http_port, http_port + 1, …",
)
@click.option("--every", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds between two looks.")
@click.option("--stores", type=click.IntRange(0), default=10, show_default=True, help="So many of the stalest stores.")
@click.option("--once", is_flag=True, help="Two looks, for the events a second between them, and the end.")
@click.option("--json", "wants_json", is_flag=True, help="As --once, as one JSON object.")
def top(
    urls: tuple[str, ...],
    config: Path | None,
    workers: int | None,
    every: float,
    stores: int,
    once: bool,
    wants_json: bool,
) -> None:
    """Show how well the workers are that answer at URLs (http://host:port, or host:port), until Ctrl-C.

    Without URLs: the worker of the settings (http_host, http_port). Where the output is no terminal: as with --once.

    Exit code 1 when a worker is not ready, 3 when none answers.
    """
    if urls and workers is not None:
        raise click.UsageError("name either URLs or --workers")
    asked = list(dict.fromkeys(map(address_of, urls))) or addresses(settings_from(config), workers or 1)
    if wants_json or once or not sys.stdout.isatty():
        view = look_twice(asked, every)
        if wants_json:
            click.echo(json.dumps(as_json(view, stores)))
        else:
            Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(screen(view, stores))
    else:
        view = watch(asked, every, stores)
    sys.exit(exit_code(view.readings))


def address_of(url: str) -> str:
    """`http://host:port` of what a user wrote. Raises click.BadParameter."""
    found = re.fullmatch(r"(?:(https?)://)?([^/\s:@]+|\[[0-9a-fA-F:]+\])(:\d+)?(?:/|/metrics|/readyz|/healthz)?", url)
    if found is None:
        raise click.BadParameter(f"{url!r} is no address of a worker, such as http://127.0.0.1:9464")
    scheme, host, port = found.groups(default="")
    return f"{scheme or 'http'}://{host}{port}"


def addresses(settings: Settings, workers: int) -> list[str]:
    """Where the settings' workers answer. Raises SettingsError."""
    if settings.http_port == 0:
        raise SettingsError("http_port is 0, any free one: name the worker's URL, which its first log line has")
    host = "127.0.0.1" if settings.http_host in ANY_ADDRESS else settings.http_host
    host = f"[{host}]" if ":" in host else host
    return [f"http://{host}:{settings.http_port + number}" for number in range(workers)]


def look_twice(urls: list[str], every: float) -> TopView:
    """A view with the events a second; the pause is left out where no worker answers."""
    before = look(urls)
    if all(reading.silent is not None for reading in before):
        return TopView(before, {}, time.time())
    time.sleep(every)
    return TopView(look(urls), by_url(before), time.time())


def watch(urls: list[str], every: float, stores: int) -> TopView:
    """Looks and shows until Ctrl-C; the last view."""
    view = TopView(look(urls), {}, time.time())
    with Live(screen(view, stores), console=Console(highlight=False), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                view = TopView(look(urls), by_url(view.readings), time.time())
                live.update(screen(view, stores), refresh=True)
        except KeyboardInterrupt:
            return view


def by_url(readings: Sequence[WorkerReading]) -> dict[str, WorkerReading]:
    """Readings by whose they are."""
    return {reading.url: reading for reading in readings}


def exit_code(readings: Sequence[WorkerReading]) -> int:
    """0 all are ready, 1 one is not, 3 none answers."""
    if all(reading.silent is not None for reading in readings):
        return UNREACHABLE
    return 0 if all(reading.ready for reading in readings) else NOT_READY
