"""`World`: a shop whose topic is fed from a seeded stream, and whose outcome is checked against the topic itself."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

from ops.check import UNREACHABLE
from sinks.base import Sink
from sinks.registry import open_sink
from sinks.storable import AMOUNT_PLACES
from streams.dead_letters.record import CONNECT, OWN
from tests.faults.stream import Due, Held, Sending, Stream, due
from tests.support.faulty_worker import KILLS
from tests.support.topics import Record, Topics
from tests.support.wait import wait_until
from tests.support.workers import Shop, Worker

_HELD = """
SELECT external_ref, event_id, revision, kind, business_date, gross,
    (SELECT count(*) FROM document_lines l WHERE l.external_ref = d.external_ref),
    (SELECT coalesce(sum(gross), 0) FROM document_lines l WHERE l.external_ref = d.external_ref),
    (SELECT coalesce(sum(amount), 0) FROM document_payments p WHERE p.external_ref = d.external_ref)
FROM documents d"""

_SKIPPED = re.compile(r"^tillstream_offsets_skipped_total (\S+)", re.MULTILINE)
_SINK_ERRORS = re.compile(r'^tillstream_sink_errors_total{kind="(\w+)"} (\S+)', re.MULTILINE)


class World(Shop):
    """A shop, its stream and its rules. Workers take small slices, so that there are many steps to die between."""

    #: Whom `strike` can kill.
    mortals: tuple[str, ...] = ("worker",)

    def __init__(self, folder: Path, topics: Topics, topic: str, sink_url: str, random: Random, **settings: Any):
        small: dict[str, Any] = {"slice_records": 25, "session_seconds": 1}
        super().__init__(folder, topics, topic, sink_url, **(small | settings))
        self.stream = Stream(Random(random.random()))
        self.random = random  # for the faults: what they draw must not depend on how many records came between

    def alive(self) -> list[Worker]:
        """The workers that run."""
        return [worker for worker in self.workers if worker.process.poll() is None]

    def muster(self, crew: int = 2) -> None:
        """There are so many workers again. Every other one is to die of itself, at a step of its work."""
        self.forget_turned_away()
        while len(self.alive()) < crew:
            step = f"{self.random.choice(list(KILLS))}:{self.random.randint(1, 20)}"
            self.start(self.random.choice((None, step)))

    def strike(self, who: str) -> None:
        """kill -9 of one of `mortals`; others take over at once."""
        alive = self.alive()
        if who == "worker" and alive:
            self.random.choice(alive).kill()
        self.muster()

    def reach_sink_by(self, *, port: int | None = None, options: str | None = None) -> None:
        """Workers that start from now on reach the database by another port, or with options of their own."""
        url = make_url(self.settings["sink_url"])
        if port is not None:
            url = url.set(port=port)
        if options is not None:
            url = url.update_query_dict({"options": options})
        self.settings["sink_url"] = url.render_as_string()

    def create_tables(self) -> None:
        """As the first worker would."""
        with self.sink() as sink:
            sink.check(apply=True)

    @contextmanager
    def sink(self) -> Iterator[Sink]:
        """What the workers write to."""
        sink = open_sink(self.settings["sink_url"], password=self.settings["sink_password"])
        try:
            yield sink
        finally:
            sink.close()

    def look_at(self, url: str) -> None:
        """The ERP's database is this one now."""
        self.engine.dispose()
        self.engine = create_engine(url, poolclass=NullPool)

    def sink_errors(self) -> Counter[str]:
        """How often writes of the workers that are alive failed, by kind."""
        found: Counter[str] = Counter()
        for worker in self.alive():
            for kind, times in _SINK_ERRORS.findall(worker.get("/metrics")[1]):
                found[kind] += int(float(times))
        return +found  # without those that did not happen

    def skipped(self) -> int:
        """How many offsets the workers that are alive found no record at."""
        pages = [worker.get("/metrics")[1] for worker in self.alive()]
        return sum(int(float(number)) for page in pages for number in _SKIPPED.findall(page))

    def forget_turned_away(self) -> None:
        """Workers that came when the sink was away have ended, with exit code 3, as they should."""
        self.workers = [worker for worker in self.workers if worker.process.poll() != UNREACHABLE]

    def wait_sink_errors(self, *kinds: str) -> None:
        """Returns when writes have failed in all these ways: the fault is felt."""
        wait_until(lambda: self.sink_errors().keys() >= set(kinds), 60, f"sink errors {kinds}")

    def feed(self, count: int) -> Sequence[Sending]:
        """Puts the next `count` records of the stream into the topic."""
        records = self.stream.take(count)
        self.topics.produce(self.topic, records)
        return records

    def held(self) -> dict[str, Held]:
        """The documents in the ERP, by receipt."""
        unit = Decimal(1).scaleb(-AMOUNT_PLACES) if self.engine.dialect.name == "sqlite" else 1
        return {
            ref: Held(event_id, revision, kind, as_date(day), gross * unit, lines, sum_of_lines * unit, paid * unit)
            for ref, event_id, revision, kind, day, gross, lines, sum_of_lines, paid in self.query(_HELD)
        }

    def delivered(self) -> list[str]:
        """The events whose effect the ERP holds."""
        return [event_id for (event_id,) in self.query("SELECT event_id FROM deliveries")]

    def strays(self) -> list[str]:
        """The tables in which something belongs to no document."""
        return [part for part in ("document_lines", "document_payments") if self.query(_STRAYS.format(part))]

    def finish(self, seconds: float = 180) -> None:
        """The topic is drained, and everything in it has come to its right end."""
        self.wait_drained(seconds)
        self.check()

    def check(self, expected: Due | None = None) -> None:
        """Everything in the topic has come to its right end, and nothing else has come of it.

        The topic must be drained. `expected` is for what the topic does not tell: a document that somebody else wrote.
        """
        assert self.topics.lag(self.group, self.topic) == 0
        records = {(record.partition, record.offset): record for record in self.topics.records(self.topic)}
        expected = expected or due(records.values())
        assert_same(self.held(), expected.documents, "documents")
        delivered = self.delivered()
        assert len(delivered) == len(set(delivered)), "an event is delivered twice"
        assert_same(dict.fromkeys(delivered), dict.fromkeys(expected.events), "deliveries")
        strays = self.strays()
        assert not strays, f"{strays} belong to no document"
        dead = self.dead_letters()
        reasons = {place(letter): (dict(letter.headers)[OWN + "reason"] or b"").decode() for letter in dead}
        assert_same(reasons, expected.dead, "dead letters")
        for letter in dead:
            record = records[place(letter)]
            theirs = [header for header in letter.headers if not header[0].startswith((CONNECT, OWN))]
            assert (letter.key, letter.value, theirs) == (record.key, record.value, record.headers)
            assert dict(letter.headers)[CONNECT + "topic"] == self.topic.encode()


_STRAYS = "SELECT 1 FROM {0} LEFT JOIN documents USING (external_ref) WHERE documents.external_ref IS NULL"


def as_date(value: date | str) -> date:
    """A date as it comes out of a database; of SQLite's, as text."""
    return value if isinstance(value, date) else date.fromisoformat(value)


def place(letter: Record) -> tuple[int, int]:
    """Partition and offset of the record that is a dead letter now: its identity."""
    stated = dict(letter.headers)
    return int(stated[CONNECT + "partition"] or b""), int(stated[CONNECT + "offset"] or b"")


def assert_same(found: dict[Any, Any], wanted: dict[Any, Any], what: str) -> None:
    """Both are equal; or an AssertionError that shows a few differences, not thousands of equals."""
    missing = {key: wanted[key] for key in wanted.keys() - found.keys()}
    surplus = {key: found[key] for key in found.keys() - wanted.keys()}
    other = {key: (found[key], wanted[key]) for key in wanted.keys() & found.keys() if found[key] != wanted[key]}
    differs = bool(missing or surplus or other)
    assert not differs, (
        f"{what}: {len(missing)} missing, {len(surplus)} too many, {len(other)} otherwise than due, such as "
        f"{[*missing.items()][:3]}, {[*surplus.items()][:3]}, {[*other.items()][:3]}"
    )


@contextmanager
def open_world(
    folder: Path, topics: Topics, topic: str, sink_url: str, random: Random, partitions: int = 4, **settings: Any
) -> Iterator[World]:
    """A world whose topic exists and is empty."""
    topics.create_topic(topic, partitions, {"max.message.bytes": str(16 * 2**20)})
    world = World(folder, topics, topic, sink_url, random, **settings)
    try:
        yield world
    finally:
        world.close()
