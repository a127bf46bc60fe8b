"""Run a reconciliation: fetch the facts, compare the days, update their states."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from ops.reconcile.compare import compare, settle_dead_letters, unplaced
from ops.reconcile.day_states import StateHistory, current_state, days_known_to_differ
from ops.reconcile.event_store import EventStore, ScratchEventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.fetch import (
    TopicExtent,
    committed,
    day_ends,
    dead_letters,
    read_dead_letters_without_record,
    read_topic,
    sent_documents,
)
from ops.reconcile.rows import NOWHERE, as_date, milliseconds
from ops.reconcile.scope import ReconciliationScope
from ops.reconcile.store_day import DayReport
from sinks.base import Sink, StoreDay, SupportsContentComparison
from sinks.registry import open_sink
from streams.assembly import find_master_data, find_source
from streams.dead_letters.day_states import DayState, read_day_states, write_day_states
from streams.kafka.reader import Progress, TopicRecord
from streams.kafka.topics import ensure_dead_letter_topics
from streams.settings import Settings

#: The state of each store's day.
StatesByDay = dict[tuple[str, str], DayState]
#: Asking for more days than that one by one takes a sink longer than to sum all of them up.
_FEW = timedelta(days=31)
#: Days: the last close of a register before a weekend and holidays.
_FARTHER = 14
#: From the beginning of a day in UTC: the day itself, a day for time zones and cut-offs, and a day.
_ON_TIME = timedelta(days=3) // timedelta(milliseconds=1)


@dataclass
class ReconciliationResult:
    """The result of a reconciliation.

    `reach`: the topic has lost records of this day and of earlier ones. `late`: the earliest day before the requested
    ones for which events arrived late. `unplaced`: records without a known store or day that arrived within the
    requested days, unless all days were requested. `compared`: the parts of the ERP that its sink compares.
    """

    at: datetime
    days: list[DayReport]
    reach: date | None
    late: date | None = None
    history: StateHistory = field(default_factory=dict)
    unplaced: DayReport | None = None
    compared: str = ""

    @property
    def all(self) -> list[DayReport]:
        """The days, and the records that belong to none."""
        return self.days if self.unplaced is None else [*self.days, self.unplaced]

    @property
    def balanced(self) -> bool:
        """Whether the books of all days agree, all of them are complete, and none is open."""
        return not any(day.is_wrong or day.state == "open" for day in self.all)


def reconcile(
    settings: Settings,
    *,
    store: str | None = None,
    first: date | None = None,
    last: date | None = None,
    deep: bool = False,
    progress: Progress = lambda _: None,
) -> ReconciliationResult:
    """Compare the tills' events with the ERP's documents, for business days from `first` to `last`.

    The order of reading keeps concurrent changes from showing up as differences: the workers' offsets, the ERP's sums,
    the topic, the dead letters. Every document in the sums has its record in the part of the topic that is read, and
    every record before the offsets has been processed.

    Reads only records that can concern these days; if that does not suffice, two more weeks, and then the whole topic.

    Raises ContractError, BrokerUnreachable, TopicsUnusable, SinkUnavailable and SinkMisconfigured.
    """
    with open_sink_and_expected(settings) as (sink, expected):
        now = datetime.now(UTC)
        places = committed(settings)
        held = _held(sink, store, first, last or _tomorrow(now), deep=deep)
        doubtful = days_known_to_differ(read_day_states(settings))

        def found_since(begin: date | None) -> ReconciliationResult | None:
            """None when the topic has to be read from farther back than `begin`."""
            with ScratchEventStore() as event_store:
                extent = asyncio.run(read_all(settings, event_store, expected, now, begin, progress))
                days = first or date.min, last or date.max
                if begin is not None and event_store.has_close_without_predecessor(store, *days):
                    return None
                settle_dead_letters(event_store, (), sink)
                event_store.classify(places)
                scope = ReconciliationScope(
                    now, partial(day_ends, expected), extent.lost, begin is None, store, *days, doubtful, deep
                )
                scope.sent = lambda events: asyncio.run(sent_documents(settings, expected, now, events))
                compared = compare(event_store, sink, held, scope)
                if begin is not None and extent.starts != extent.begins and any(map(_has_unsent, compared)):
                    return None  # a till may have sent it before
                late = _late(event_store, first) if first is not None and last is None else None
                reach = None if extent.lost is None else extent.lost.date()
                made_of = sink.compared if isinstance(sink, SupportsContentComparison) else ""
                return ReconciliationResult(
                    now, compared, reach, late, read_day_states(settings), unplaced(event_store, scope), made_of
                )

        return next(found for begin in _start_dates(first) if (found := found_since(begin)) is not None)


def _has_unsent(day: DayReport) -> bool:
    """Return whether the ERP holds documents of which no record was read."""
    return bool(day.unproved) or any(one.kind == "only_in_erp" for one in day.differences)


def _start_dates(first: date | None) -> Iterator[date | None]:
    """From where to read, one after the other, until it is enough. None: from the topic's beginning."""
    if first is not None:
        yield first
        yield date.fromordinal(max(1, first.toordinal() - _FARTHER))
    yield None


def _held(sink: Sink, store: str | None, first: date | None, last: date, *, deep: bool) -> list[StoreDay]:
    """Return the ERP's sums. Ask for a few days one by one, so that no sink sums up the others."""
    if first is None or last - first > _FEW:
        return sink.totals(store, deep=deep)
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [found for day in days for found in sink.totals(store, day, deep=deep)]


def _late(event_store: EventStore, first: date) -> date | None:
    """Return the earliest day before `first` with an event that recently arrived over a day after its end."""
    recent = milliseconds(_at(first)) - _ON_TIME
    late = [
        as_date(day)
        for (_, day), arrived in event_store.last_arrivals().items()
        if day != NOWHERE and as_date(day) < first and arrived > max(recent, milliseconds(_at(as_date(day))) + _ON_TIME)
    ]
    return min(late, default=None)


def _at(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _tomorrow(now: datetime) -> date:
    return now.date() + timedelta(days=1)  # where it is a day later already


async def read_all(
    settings: Settings,
    event_store: EventStore,
    expected: ExpectedDocuments,
    now: datetime,
    first: date | None = None,
    progress: Progress = lambda _: None,
    only: Callable[[TopicRecord], bool] = lambda _: True,
) -> TopicExtent:
    """Add the topic and the dead letters to the event store; records that have left the topic from their dead letters.

    Arguments and errors are those of `read_topic`.
    """
    extent = await read_topic(settings, event_store, expected, now, first, progress, only)
    event_store.add_dead_letters(dead_letters(settings))
    await read_dead_letters_without_record(settings, event_store, expected, now, extent, only)
    return extent


def update_states(settings: Settings, result: ReconciliationResult, by: str, *, save: bool) -> StatesByDay:
    """Return the days' current states. With `save`, write changed ones to the audit topic, in the name of `by`."""
    states: StatesByDay = {}
    changed: list[DayState] = []
    for day in result.days:
        past = result.history.get((day.store, day.day), [])
        state = current_state(day, past, result.at, by)
        states[day.store, day.day] = state
        # If the topic has lost the whole day, its recorded state still counts.
        if (not past or past[-1] is not state) and not (day.lost and not day.count()):
            changed.append(state)
    if save and changed:
        ensure_dead_letter_topics(settings.kafka_access, settings.topic_plan)
        write_day_states(settings, changed)
    return states


def unsettled(result: ReconciliationResult, states: StatesByDay) -> list[DayReport]:
    """Return the days whose books differ and that nobody has signed off as they are."""
    return [day for day in unbalanced(result, states) if day.differences]


def unbalanced(result: ReconciliationResult, states: StatesByDay) -> list[DayReport]:
    """Return the days that differ or are incomplete, and that nobody has signed off as they are."""
    return [day for day in result.all if day.is_wrong and not is_signed(day, states)]


def is_signed(day: DayReport, states: StatesByDay) -> bool:
    """Return whether somebody has signed the day off as it is."""
    state = states.get((day.store, day.day))
    return state is not None and state.state == "signed off"


def first_unsettled_day(settings: Settings, first: date) -> date:
    """`first`, or the earliest day before that which is noted as neither balanced nor signed off: it stays in view."""
    last = [states[-1] for states in read_day_states(settings).values()]
    left = [one.day for one in last if one.day and one.state not in ("balanced", "signed off")]
    return min([first, *map(date.fromisoformat, left)])


@contextmanager
def open_sink_and_expected(settings: Settings) -> Iterator[tuple[Sink, ExpectedDocuments]]:
    """Open the sink and today's rules. Raises ContractError, SinkUnavailable and SinkMisconfigured."""
    master_data = find_master_data(settings)
    source = find_source(settings, master_data)
    sink = open_sink(settings.sink_url, password=settings.password())
    try:
        yield sink, ExpectedDocuments(source, master_data.load())
    finally:
        sink.close()
