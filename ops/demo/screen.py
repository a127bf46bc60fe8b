"""The demo's screen: a live view at a terminal, a line now and then elsewhere, and the reconciliation at the end."""

import time
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ops.demo.balance import Balance
from ops.simulator.tills import ConfirmedTally
from ops.worker.process import WorkerReadings
from sinks.base import StoreDay

LINE_EVERY = 5.0
MOST_STORES_SHOWN = 12


@dataclass(frozen=True)
class DemoMoment:
    """The demo's figures, `seconds` after the start."""

    phase: str
    seconds: float
    tally: ConfirmedTally
    readings: WorkerReadings
    held: list[StoreDay]


class DemoScreen:
    """Shows moments. `live` redraws in place; otherwise a line every few seconds; `silent` shows nothing."""

    def __init__(self, *, live: bool, silent: bool) -> None:
        self._console = Console(quiet=silent, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False) if live else None
        self._last_line = 0.0
        self._last_phase = ""

    def __enter__(self) -> "DemoScreen":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """One remark."""
        self._console.print(text, style="dim", soft_wrap=not self._console.is_terminal)

    def show(self, moment: DemoMoment) -> None:
        """Brings the view up to date."""
        if self._live:
            self._live.update(view(moment), refresh=True)
        elif moment.phase != self._last_phase or time.monotonic() - self._last_line >= LINE_EVERY:
            self._console.print(line(moment), soft_wrap=not self._console.is_terminal)
            self._last_line, self._last_phase = time.monotonic(), moment.phase


def line(moment: DemoMoment) -> str:
    """Return the moment in one line."""
    now = moment.readings
    return (
        f"{moment.seconds:5.0f} s  {moment.phase:8}  sent {moment.tally.sent}  in the ERP {now.delivered}  "
        f"duplicates {sum(now.duplicates.values())}  dead letters {sum(now.rejected.values())}  {latency(now)}"
    )


def view(moment: DemoMoment) -> Panel:
    """Return the moment as a whole screen."""
    rate = moment.tally.sent / moment.seconds if moment.seconds else 0.0
    head = Text.assemble(
        (f"{moment.phase} ", "bold"),
        f"{moment.seconds:.0f} s   {rate:.0f} events/s   {latency(moment.readings)}",
    )
    return Panel(
        Group(head, "", counts(moment), "", stores(moment)),
        title="Tillstream: tills → Kafka → ERP",
        subtitle="Ctrl-C closes the tills and reconciles",
        width=100,
    )


def counts(moment: DemoMoment) -> Table:
    """Return the records' outcomes so far."""
    now = moment.readings
    table = Table.grid(padding=(0, 3))
    on_the_way = max(0, moment.tally.sent - now.settled)
    table.add_row("sent by the tills", str(moment.tally.sent), "on the way", str(on_the_way))
    by_layer = ", ".join(f"{layer} {count}" for layer, count in sorted(now.duplicates.items()) if count)
    table.add_row("in the ERP", str(now.delivered), "duplicates", by_layer or "none yet")
    reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(now.rejected.items()) if count)
    table.add_row("dead letters", str(sum(now.rejected.values())), "by reason", reasons or "none yet")
    return table


def stores(moment: DemoMoment) -> Table:
    """Money at the tills and in the ERP, by store; the largest first."""
    held: dict[str, Decimal] = {}
    for day in moment.held:
        held[day.store] = held.get(day.store, Decimal(0)) + day.gross
    table = Table("store", "tills", "ERP", "behind", box=None, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    sold = dict(moment.tally.gross)
    for store in sorted(sold, key=lambda name: -sold[name])[:MOST_STORES_SHOWN]:
        behind = sold[store] - held.get(store, Decimal(0))
        colour = "green" if not behind else "yellow"
        table.add_row(store, f"{sold[store]:,.2f}", f"{held.get(store, 0):,.2f}", f"[{colour}]{behind:,.2f}[/]")
    if len(sold) > MOST_STORES_SHOWN:
        table.add_row(f"and {len(sold) - MOST_STORES_SHOWN} more", "", "", "")
    return table


def latency(readings: WorkerReadings) -> str:
    """How long it takes from the topic into the ERP."""
    middle, slow = readings.latency_at(0.5), readings.latency_at(0.99)
    return f"latency p50 ≤ {middle:g} s, p99 ≤ {slow:g} s" if middle is not None else "latency not known yet"


def print_balance(result: Balance, *, simulated: bool = True) -> None:
    """Print the reconciliation. Simulated tills sell faulty records on purpose."""
    console = Console(highlight=False)
    table = Table("Reconciliation", "records", box=None, header_style="bold", title_justify="left")
    table.columns[1].justify = "right"
    table.add_row("sent by the tills", str(result.sent))
    table.add_row("= documents in the ERP", str(result.delivered))
    table.add_row("+ duplicates recognised", str(result.duplicates))
    table.add_row("+ dead letters", str(result.dead_letters))
    for reason, count in result.by_reason.items():
        table.add_row(f"    {reason}", f"[dim]{count}[/]")
    table.add_row("+ skipped, without a document", str(result.skipped))
    table.add_row("")
    table.add_row("gross due from the tills", f"{result.money_tills:,.2f}")
    table.add_row("gross in the ERP", f"{result.money_erp:,.2f}")
    table.add_row("gross not booked", f"{result.money_unbooked:,.2f}")
    console.print(table)
    if result.balanced:
        console.print(result.in_words(), style="bold green")
    elif result.accounted:
        parts = f"{result.sent} sent = {result.delivered} documents + {result.duplicates} duplicates"
        console.print(f"{parts} + {result.dead_letters} dead letters + {result.skipped} skipped", soft_wrap=True)
        purpose = ", which sell some faulty records on purpose" if simulated else ""
        worth = f"worth {result.money_unbooked:,.2f} at the tills{purpose}"
        console.print(f"{result.in_words()}, {worth}.", style="bold yellow", soft_wrap=True)
    for difference in result.differences:
        console.print(f"DIFFERS: {difference}", style="bold red", soft_wrap=True)
