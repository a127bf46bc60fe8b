"""`tillstream top`: shows the health of workers in a terminal."""

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
from ops.top.reading import WorkerReading, read_workers
from ops.top.screen import TopView, as_json, screen
from streams.settings import Settings, SettingsError

NOT_READY = 1
#: Addresses that mean all of this machine's. The command asks the loopback address instead.
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
@click.option("--every", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds between updates.")
@click.option("--stores", type=click.IntRange(0), default=10, show_default=True, help="Number of stalest stores.")
@click.option("--once", is_flag=True, help="Poll twice, to get events a second, print once and exit.")
@click.option("--json", "wants_json", is_flag=True, help="As --once, but print one JSON object.")
def top(
    urls: tuple[str, ...],
    config: Path | None,
    workers: int | None,
    every: float,
    stores: int,
    once: bool,
    wants_json: bool,
) -> None:
    """Show the health of workers until Ctrl-C.

    Name workers by their URLs (http://host:port, or host:port). Without URLs: the worker of the settings (http_host,
    http_port). If the output isn't a terminal, --once is implied.

    Exit code 1 when a worker is not ready, 3 when none answers.
    """
    if urls and workers is not None:
        raise click.UsageError("name either URLs or --workers")
    targets = list(dict.fromkeys(map(address_of, urls))) or addresses(settings_from(config), workers or 1)
    if wants_json or once or not sys.stdout.isatty():
        view = poll_twice(targets, every)
        if wants_json:
            click.echo(json.dumps(as_json(view, stores)))
        else:
            Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(screen(view, stores))
    else:
        view = watch(targets, every, stores)
    sys.exit(exit_code(view.readings))


def address_of(url: str) -> str:
    """Return `http://host:port` for a URL as a user types it. Raises click.BadParameter."""
    match = re.fullmatch(r"(?:(https?)://)?([^/\s:@]+|\[[0-9a-fA-F:]+\])(:\d+)?(?:/|/metrics|/readyz|/healthz)?", url)
    if match is None:
        raise click.BadParameter(f"{url!r} isn't the address of a worker, such as http://127.0.0.1:9464")
    scheme, host, port = match.groups(default="")
    return f"{scheme or 'http'}://{host}{port}"


def addresses(settings: Settings, workers: int) -> list[str]:
    """Return the URLs of the settings' workers. Raises SettingsError."""
    if settings.http_port == 0:
        raise SettingsError("http_port is 0 (any free port): name the worker's URL, which is in its first log line")
    host = "127.0.0.1" if settings.http_host in ANY_ADDRESS else settings.http_host
    host = f"[{host}]" if ":" in host else host
    return [f"http://{host}:{settings.http_port + number}" for number in range(workers)]


def poll_twice(urls: list[str], every: float) -> TopView:
    """Return a view with the events a second. If no worker answers, there is no pause and no second poll."""
    before = read_workers(urls)
    if all(reading.silent is not None for reading in before):
        return TopView(before, {}, time.time())
    time.sleep(every)
    return TopView(read_workers(urls), by_url(before), time.time())


def watch(urls: list[str], every: float, stores: int) -> TopView:
    """Update the screen until Ctrl-C. Return the last view."""
    view = TopView(read_workers(urls), {}, time.time())
    with Live(screen(view, stores), console=Console(highlight=False), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(every)
                view = TopView(read_workers(urls), by_url(view.readings), time.time())
                live.update(screen(view, stores), refresh=True)
        except KeyboardInterrupt:
            return view


def by_url(readings: Sequence[WorkerReading]) -> dict[str, WorkerReading]:
    """Return the readings by their worker's URL."""
    return {reading.url: reading for reading in readings}


def exit_code(readings: Sequence[WorkerReading]) -> int:
    """Return 0 if all workers are ready, 1 if one isn't, 3 if none answers."""
    if all(reading.silent is not None for reading in readings):
        return UNREACHABLE
    return 0 if all(reading.ready for reading in readings) else NOT_READY
