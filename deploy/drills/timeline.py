"""A drill's timeline, from Prometheus and from the facts: as text, as JSON, and checked."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import yaml

from deploy.prometheus.server import RULES, Prometheus, hurried, seconds_of
from ops.demo.balance import Balance

ALERT = "TillstreamSinkDown"
#: Behind by less than this is current: the objective allows a minute.
CURRENT = 5.0
Point = tuple[float, float]


class Happened:
    """The moments of a drill, in wall-clock time."""

    def __init__(self) -> None:
        self.moments: list[tuple[float, str]] = []

    def note(self, what: str) -> None:
        """Record that this happens now."""
        self.moments.append((time.time(), what))

    def at(self, what: str) -> float:
        """When it did."""
        return next(moment for moment, happened in self.moments if happened == what)

    def spend(self, seconds: float, doing: Callable[[], None] = lambda: None) -> None:
        """Return after `seconds`, and not before `doing` does."""
        end = time.monotonic() + seconds
        doing()
        time.sleep(max(0.0, end - time.monotonic()))


@dataclass(frozen=True)
class Facts:
    """The drill's final findings, without Prometheus: Kafka timestamps (ms) of all records, the group's uncommitted
    records, and the workers' exit codes. `recognised` counts the records that workers took for repetitions."""

    sent_at: list[int]
    books: Balance
    recognised: int
    lag: int
    codes: list[int]


@dataclass(frozen=True)
class Alert:
    """One alert's life: when it became pending, fired, and ended. Seconds; None: it did not."""

    name: str
    severity: str
    pending: float | None
    firing: float | None
    ended: float | None


@dataclass(frozen=True)
class Timeline:
    """All times are seconds since the database was stopped. `findings` lists broken promises."""

    started_at: str
    every: float
    hurry: float
    moments: list[tuple[float, str]]
    alerts: list[Alert]
    tills: list[Point]
    documents: list[Point]
    behind: list[Point]
    balance: dict[str, Any]
    recognised: int
    findings: list[str] = field(default_factory=list)

    def at(self, what: str) -> float:
        """When it happened."""
        return next(moment for moment, happened in self.moments if happened == what)

    def as_json(self) -> str:
        """For machines."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def of_json(cls, text: str) -> Self:
        """The opposite of `as_json`."""
        given = json.loads(text)
        points = {name: [tuple(point) for point in given[name]] for name in ("moments", "tills", "documents", "behind")}
        return cls(**given | points | {"alerts": [Alert(**alert) for alert in given["alerts"]]})

    def in_words(self) -> str:
        """Line by line, in order."""
        lines = [(moment, what) for moment, what in self.moments]
        for alert in self.alerts:
            told = f"{alert.name} ({alert.severity})"
            ends = "resolved" if alert.firing is not None else "over without having fired"
            for moment, what in ((alert.pending, "pending"), (alert.firing, "FIRING"), (alert.ended, ends)):
                if moment is not None:
                    lines.append((moment, f"{told} {what}"))
        sent = f"{self.balance['sent']} records sent, {self.balance['delivered']} documents: {ending(self.balance)}"
        return "\n".join([*(f"{moment:7.1f} s  {what}" for moment, what in sorted(lines)), sent, *self.findings])


def ending(books: dict[str, Any]) -> str:
    """Return how the books ended: every record is accounted for, and dead letters are reported as not booked."""
    if not books["accounted"]:
        return "NOT ACCOUNTED FOR"
    letters = books["dead_letters"]
    return "accounted for, to the cent" + (f"; {letters} dead letters are not booked" if letters else "")


def timeline_of(prometheus: Prometheus, every: float, hurry: float, happened: Happened, facts: Facts) -> Timeline:
    """Puts it together."""
    zero, begin, end = happened.at("database stopped"), happened.at("tills open"), happened.at("workers stopped")

    def series(query: str) -> list[Point]:
        found = prometheus.query_range(query, begin, end, every)
        return [(round(at - zero, 1), float(value)) for at, value in found[0]["values"]] if found else []

    behind = series("max(tillstream_lag_seconds)")
    up = series("min(tillstream_sink_up)")
    moments = [(round(at - zero, 1), what) for at, what in happened.moments]
    started = happened.at("database started") - zero
    seen = [(at, value) for at, value in up if at > 0]
    moments += [(at, "Prometheus sees that the sink is down") for at, value in seen if value == 0][:1]
    moments += [(at, "Prometheus sees that the sink is up") for at, value in seen if at > started and value == 1][:1]
    moments += [(at, "the ERP is current") for at, value in behind if at > started and value < CURRENT][:1]
    made = Timeline(
        started_at=datetime.fromtimestamp(begin, UTC).isoformat(timespec="seconds"),
        every=every,
        hurry=hurry,
        moments=sorted(moments),
        alerts=alerts_of(prometheus, begin, end, every, zero),
        tills=rate_of(facts.sent_at, zero, every),
        documents=series(f"sum(rate(tillstream_events_delivered_total[{max(2, round(4 * every))}s]))"),
        behind=behind,
        balance=facts.books.as_json(),
        recognised=facts.recognised,
    )
    made.findings.extend(findings(made, facts))
    return made


def alerts_of(prometheus: Prometheus, begin: float, end: float, every: float, zero: float) -> list[Alert]:
    """The life of every alert that was at least pending before the workers were stopped."""
    seen: dict[tuple[str, str], dict[str, list[float]]] = {}
    for series in prometheus.query_range("ALERTS", begin, end, every / 5):
        labels = series["metric"]
        states = seen.setdefault((labels["alertname"], labels["severity"]), {})
        states.setdefault(labels["alertstate"], []).extend(at - zero for at, _ in series["values"])
    lives = []
    for (name, severity), states in sorted(seen.items()):
        first = {state: round(min(at), 1) for state, at in states.items()}
        last = max(max(at) for at in states.values())
        ended = None if last > end - zero - every else round(last + every / 5, 1)
        lives.append(Alert(name, severity, first.get("pending"), first.get("firing"), ended))
    return lives


def rate_of(sent_at: Iterable[int], zero: float, every: float) -> list[Point]:
    """Records per second, in steps of `every` seconds."""
    steps = Counter(int((at / 1000 - zero) // every) for at in sent_at)
    # The first step and the last are not whole.
    return [(round((step + 0.5) * every, 1), steps[step] / every) for step in range(min(steps) + 1, max(steps))]


def findings(made: Timeline, facts: Facts) -> list[str]:
    """Return a sentence for each deviation from delivery.md and the runbook."""
    found = [f"not accounted for: {difference}" for difference in facts.books.differences]
    if facts.recognised < facts.books.duplicates:
        found.append(f"{facts.books.duplicates} records were sent again, and {facts.recognised} recognised")
    if facts.lag:
        found.append(f"{facts.lag} records are not acknowledged in the end")
    if any(facts.codes):
        found.append(f"workers ended with exit codes {facts.codes}")
    if not any(what == "the ERP is current" for _, what in made.moments):
        found.append("the lag did not drain")
    return found + told_wrongly(made)


def told_wrongly(made: Timeline) -> list[str]:
    """Return the alert's deviations from its runbook."""
    found = []
    away = made.at("database started")
    lives = {alert.severity: alert for alert in made.alerts if alert.name == ALERT}
    slack = 2 + 3 * made.every  # until a write fails, a scrape, an evaluation, and the one before
    for severity, seconds in patience(made.hurry).items():
        life = lives.get(severity)
        if life is None or life.pending is None or life.pending > slack:
            found.append(f"{ALERT} ({severity}) was not pending within {slack:g} s: {life}")
        elif seconds + slack < away and life.firing is None:
            found.append(f"{ALERT} ({severity}) did not fire, though the database was away for {away:g} s")
        elif life.firing is not None and life.firing < life.pending + seconds:
            found.append(f"{ALERT} ({severity}) fired after less than {seconds:g} s: {life}")
        elif life.firing is None and life.ended is None:
            found.append(f"{ALERT} ({severity}) did not end")
        elif life.firing is not None and life.ended is None:
            found.append(f"{ALERT} ({severity}) was not resolved")
    return found


def patience(hurry: float) -> dict[str, float]:
    """How long the sink has to be down before the alert fires, by severity."""
    groups = hurried(yaml.safe_load(RULES.read_text()), hurry)["groups"]
    rules = [rule for group in groups for rule in group["rules"] if rule.get("alert") == ALERT]
    return {rule["labels"]["severity"]: seconds_of(rule["for"]) for rule in rules}
