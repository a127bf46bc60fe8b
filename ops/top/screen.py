"""The screen of `tillstream top`: a table of workers, why they are not ready, and the stalest stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.top.reading import WorkerReading, rate
from streams.dead_letters.header import printable
from streams.metrics import OTHER_STORES


@dataclass(frozen=True, slots=True)
class TopView:
    """The newest readings, the previous ones by URL, and the wall-clock time in seconds."""

    readings: Sequence[WorkerReading]
    before: dict[str, WorkerReading]
    now: float

    def rate_of(self, reading: WorkerReading) -> float | None:
        """Return events a second of one worker, if known."""
        return rate(reading, self.before.get(reading.url))

    @property
    def answering(self) -> list[WorkerReading]:
        """The readings of workers that answer."""
        return [reading for reading in self.readings if reading.silent is None]

    def total_rate(self) -> float | None:
        """Return events a second of all workers whose rate is known."""
        rates = [known for known in map(self.rate_of, self.readings) if known is not None]
        return sum(rates) if rates else None

    def stalest(self, limit: int) -> list[tuple[str, float]]:
        """Return (store, time of its newest event in the ERP), the stalest first, closed stores last.

        A store that has moved to another worker counts once, with its newest time.
        """
        newest: dict[str, float] = {}
        for reading in self.readings:
            for store, moment in reading.newest_by_store.items():
                if store == OTHER_STORES:  # the newest of many stores: it hides the stalest of them
                    continue
                newest[store] = max(moment, newest.get(store, moment))
        return sorted(newest.items(), key=lambda pair: (self.is_open(pair[0]) is False, pair[1], pair[0]))[:limit]

    def is_open(self, store: str) -> bool | None:
        """Return whether the store is open; None if its opening hours are unknown."""
        states = [reading.open_by_store[store] for reading in self.readings if store in reading.open_by_store]
        return any(states) if states else None


def screen(view: TopView, stores: int) -> RenderableType:
    """Return the whole screen, with this many of the stalest stores."""
    parts: list[RenderableType] = [workers(view)]
    troubles = [
        Text.assemble((f"{reading.url}  ", "bold"), (reason, "red"))
        for reading in view.readings
        for reason in ((reading.silent,) if reading.silent is not None else reading.reasons)
    ]
    troubles += [
        Text.assemble((f"{reading.url}  ", "bold"), (warning, "yellow"))
        for reading in view.readings
        for warning in reading.warnings
    ]
    if troubles:
        parts += [Text(), *troubles]
    stalest = view.stalest(stores)
    if stalest:
        table = Table("stalest store", "newest event in the ERP", "ago", box=None, header_style="bold", pad_edge=False)
        table.columns[2].justify = "right"
        for store, moment in stalest:
            closed = Text(" closed", "dim") if view.is_open(store) is False else ""
            table.add_row(Text.assemble(printable(store), closed), _moment(moment), _ago(view.now - moment))
        parts += [Text(), table]
    return Group(*parts)


def workers(view: TopView) -> Table:
    """Return a table with one row per worker, and one for all."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("worker", "ready", "sink"):
        table.add_column(name, no_wrap=True)
    for name in ("parts", "lag", "behind", "ev/s", "dups"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("dead letters", "last progress"):  # in two lines where the terminal is narrow
        table.add_column(name, justify="right", min_width=len(name.split()[1]))
    for reading in view.readings:
        table.add_row(Text(reading.url.removeprefix("http://")), *_cells(view, reading))
    if len(view.readings) > 1:
        ready = sum(reading.ready for reading in view.readings)
        answering = view.answering
        numbers = _numbers(view, answering, view.total_rate()) if answering else ["–"] * 7
        table.add_row("all", f"{ready} of {len(view.readings)}", "", *numbers, style="bold")
    return table


def _cells(view: TopView, reading: WorkerReading) -> list[RenderableType]:
    if reading.silent is not None:
        return [Text("silent", "red"), *(["–"] * 8)]
    not_ready = "held" if reading.held else "no"
    ready = Text("yes", "green") if reading.ready else Text(not_ready, "red")
    sink = Text("up", "green") if reading.sink_up else Text("down", "red")
    return [ready, sink, *_numbers(view, [reading], view.rate_of(reading))]


def _numbers(view: TopView, readings: Sequence[WorkerReading], per_second: float | None) -> list[str]:
    progress = max((r.last_progress for r in readings if r.last_progress is not None), default=None)
    return [
        f"{sum(r.partitions for r in readings)}",
        f"{sum(r.lag_records for r in readings):,}",
        _ago(max(r.lag_seconds for r in readings)),
        "–" if per_second is None else f"{per_second:,.0f}",
        f"{sum(sum(r.duplicates.values()) for r in readings):,}",
        f"{sum(sum(r.dead_letters.values()) for r in readings):,}",
        "none yet" if progress is None else f"{_ago(view.now - progress)} ago",
    ]


def _ago(seconds: float) -> str:
    """Format a duration with at most two units, so that people can compare at a glance."""
    whole = max(0, round(seconds))
    for unit, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{max(0.0, seconds):.1f} s" if seconds < 10 else f"{whole} s"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def as_json(view: TopView, stores: int) -> dict[str, Any]:
    """Return the view for machines; unknown values are null."""
    answering = view.answering
    return {
        "ready": all(reading.ready for reading in view.readings),
        "workers": [_worker(view, reading) for reading in view.readings],
        "total": {
            "workers": len(view.readings),
            "answering": len(answering),
            "ready": sum(reading.ready for reading in view.readings),
            "partitions": sum(reading.partitions for reading in answering),
            "lag_records": sum(reading.lag_records for reading in answering),
            "lag_seconds": max((reading.lag_seconds for reading in answering), default=None),
            "events": sum(reading.events for reading in answering),
            "events_per_second": view.total_rate(),
            "duplicates": sum(sum(reading.duplicates.values()) for reading in answering),
            "dead_letters": sum(sum(reading.dead_letters.values()) for reading in answering),
        },
        "stalest_stores": [
            {
                "store": store,
                "newest_event": _iso(moment),
                "age_seconds": view.now - moment,
                "open": view.is_open(store),
            }
            for store, moment in view.stalest(stores)
        ],
    }


def _worker(view: TopView, reading: WorkerReading) -> dict[str, Any]:
    if reading.silent is not None:
        return {"url": reading.url, "answers": False, "ready": False, "reasons": [reading.silent]}
    return {
        "url": reading.url,
        "answers": True,
        "ready": reading.ready,
        "reasons": list(reading.reasons),
        "warnings": list(reading.warnings),
        "sink_up": reading.sink_up,
        "held": reading.held,
        "partitions": reading.partitions,
        "lag_records": reading.lag_records,
        "lag_seconds": reading.lag_seconds,
        "events": reading.events,
        "events_per_second": view.rate_of(reading),
        "duplicates": reading.duplicates,
        "dead_letters": reading.dead_letters,
        "last_progress": None if reading.last_progress is None else _iso(reading.last_progress),
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
