"""One reconciliation from its beginning to its end: the facts fetched, the days compared."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

from ops.reconcile.compare import compare, settle_letters, unplaced
from ops.reconcile.day_states import Noted, known_to_differ, now_is
from ops.reconcile.event_store import EventStore, ScratchEventStore
from ops.reconcile.expected_documents import ExpectedDocuments
from ops.reconcile.fetch import (
    TopicExtent,
    committed,
    day_ends,
    dead_letters,
    read_letters_alone,
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
from streams.kafka.topics import ensure_desk_topics
from streams.settings import Settings

#: The state of each store's day.
Now = dict[tuple[str, str], DayState]
#: Asking for more days than that one by one takes a sink longer than to sum all of them up.
_FEW = timedelta(days=31)
#: Days: the last close of a register before a weekend and holidays.
_FARTHER = 14
#: From the beginning of a day in UTC: the day itself, a day for time zones and cut-offs, and a day.
_ON_TIME = timedelta(days=3) // timedelta(milliseconds=1)


@dataclass
class ReconciliationResult:
    """What a reconciliation found.

    `reach`: of this day and those before the topic does not have all any more. `late`: the earliest day before those
    that were asked for of which something came late. `unplaced`: records of which no store or day is known, and that
    arrived within the days that were asked for, where these are not all. `compared`: what the ERP's figures are made
    of, as its sink says.
    """

    at: datetime
    days: list[DayReport]
    reach: date | None
    late: date | None = None
    noted: Noted = field(default_factory=dict)
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
    """Compares what the tills sent with what the ERP holds, of business days from `first` to `last`.

    In this order, so that nothing that happens meanwhile is a difference: how far the workers are, the ERP's sums, the
    topic, the dead letters. All that the ERP holds then is in what is read of the topic, and all that the workers had
    come to then is in the ERP.

    Of the topic is read what can concern these days; where that can't tell, two weeks more, and then all of it.

    Raises ContractError, BrokerUnreachable, TopicsUnusable, SinkUnavailable and SinkMisconfigured.
    """
    with opened(settings) as (sink, judge):
        now = datetime.now(UTC)
        places = committed(settings)
        held = _held(sink, store, first, last or _tomorrow(now), deep=deep)
        doubtful = known_to_differ(read_day_states(settings))

        def found_since(begin: date | None) -> ReconciliationResult | None:
            """None when the topic has to be read from farther back than `begin`."""
            with ScratchEventStore() as book:
                extent = asyncio.run(read_all(settings, book, judge, now, begin, progress))
                days = first or date.min, last or date.max
                if begin is not None and book.closes_without_the_one_before(store, *days):
                    return None
                settle_letters(book, (), sink)
                book.judge(places)
                terms = ReconciliationScope(
                    now, partial(day_ends, judge), extent.lost, begin is None, store, *days, doubtful, deep
                )
                terms.sent = lambda facts: asyncio.run(sent_documents(settings, judge, now, facts))
                compared = compare(book, sink, held, terms)
                if begin is not None and extent.starts != extent.begins and any(map(_has_unsent, compared)):
                    return None  # a till may have sent it before
                late = _late(book, first) if first is not None and last is None else None
                reach = None if extent.lost is None else extent.lost.date()
                made_of = sink.compared if isinstance(sink, SupportsContentComparison) else ""
                return ReconciliationResult(
                    now, compared, reach, late, read_day_states(settings), unplaced(book, terms), made_of
                )

        return next(found for begin in _begins(first) if (found := found_since(begin)) is not None)


def _has_unsent(day: DayReport) -> bool:
    """Return whether the ERP holds documents of which no record was read."""
    return bool(day.unproved) or any(one.kind == "only_in_erp" for one in day.differences)


def _begins(first: date | None) -> Iterator[date | None]:
    """From where to read, one after the other, until it is enough. None: from the topic's beginning."""
    if first is not None:
        yield first
        yield date.fromordinal(max(1, first.toordinal() - _FARTHER))
    yield None


def _held(sink: Sink, store: str | None, first: date | None, last: date, *, deep: bool) -> list[StoreDay]:
    """The ERP's sums: of all days at once, or of a few one by one, so that no sink has to sum up what is not asked."""
    if first is None or last - first > _FEW:
        return sink.totals(store, deep=deep)
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [found for day in days for found in sink.totals(store, day, deep=deep)]


def _late(book: EventStore, first: date) -> date | None:
    """The earliest day before `first` of which something came more than a day after it was over, and not long ago."""
    recent = milliseconds(_at(first)) - _ON_TIME
    late = [
        as_date(day)
        for (_, day), arrived in book.arrived_last().items()
        if day != NOWHERE and as_date(day) < first and arrived > max(recent, milliseconds(_at(as_date(day))) + _ON_TIME)
    ]
    return min(late, default=None)


def _at(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _tomorrow(now: datetime) -> date:
    return now.date() + timedelta(days=1)  # where it is a day later already


async def read_all(
    settings: Settings,
    book: EventStore,
    judge: ExpectedDocuments,
    now: datetime,
    first: date | None = None,
    progress: Progress = lambda _: None,
    only: Callable[[TopicRecord], bool] = lambda _: True,
) -> TopicExtent:
    """Put the topic into the book, the dead letters, and of those whose record has left the topic what they have of it.

    Arguments and errors are those of `read_topic`.
    """
    extent = await read_topic(settings, book, judge, now, first, progress, only)
    book.add_letters(dead_letters(settings))
    await read_letters_alone(settings, book, judge, now, extent, only)
    return extent


def states_now(settings: Settings, found: ReconciliationResult, by: str, *, keep: bool) -> Now:
    """The days' states now; with `keep` what has changed is noted in the audit topic, as found by `by`."""
    now: Now = {}
    changed: list[DayState] = []
    for day in found.days:
        past = found.noted.get((day.store, day.day), [])
        state = now_is(day, past, found.at, by)
        now[day.store, day.day] = state
        # Of a day of which the topic has nothing any more there is nothing to note: what was noted before counts.
        if (not past or past[-1] is not state) and not (day.lost and not day.count()):
            changed.append(state)
    if keep and changed:
        ensure_desk_topics(settings)
        write_day_states(settings, changed)
    return now


def unsettled(found: ReconciliationResult, now: Now) -> list[DayReport]:
    """The days whose books differ, and that nobody has signed off like that."""
    return [day for day in unbalanced(found, now) if day.differences]


def unbalanced(found: ReconciliationResult, now: Now) -> list[DayReport]:
    """The days whose books don't agree, or that are not complete, and that nobody has signed off like that."""
    return [day for day in found.all if day.is_wrong and not is_signed(day, now)]


def is_signed(day: DayReport, now: Now) -> bool:
    """Whether somebody has signed the day off, as it is."""
    state = now.get((day.store, day.day))
    return state is not None and state.state == "signed off"


def since_unsettled(settings: Settings, first: date) -> date:
    """`first`, or the earliest day before that which is noted as neither balanced nor signed off: it stays in view."""
    last = [states[-1] for states in read_day_states(settings).values()]
    left = [one.day for one in last if one.day and one.state not in ("balanced", "signed off")]
    return min([first, *map(date.fromisoformat, left)])


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Sink, ExpectedDocuments]]:
    """The sink, and the line of today. Raises ContractError, SinkUnavailable and SinkMisconfigured."""
    master_data = find_master_data(settings)
    source = find_source(settings, master_data)
    sink = open_sink(settings.sink_url, password=settings.password())
    try:
        if master_data is not None:
            master_data.load()
        yield (
            sink,
            ExpectedDocuments(
                settings.find_stores(), source, master_data.current() if master_data is not None else None
            ),
        )
    finally:
        sink.close()
