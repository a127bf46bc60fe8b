"""Suspects: a note survives its bytes, blames one record alone, and blames nobody for an outage."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from aiokafka.errors import KafkaConnectionError
from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letter import Reason
from sinks.base import SinkUnavailable
from sinks.memory import MemorySink
from streams.batch import DIGEST, Arrival
from streams.worker.suspects import MAX_CONSECUTIVE, SuspectMarks, SuspectNote, SuspectPipeline, next_note, unpacked
from tests.support.events import batch, value
from tests.support.line import Line

POISON = "poison"


class Poisoned:
    """A window in which a fault is, for some records. As `pipeline.SeenRecords`."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault
        self.together: list[int] = []

    def split(self, partition: int, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
        self.together.append(len(arrivals))
        if any(arrival.event.cashier == POISON for arrival in arrivals):
            raise self.fault
        return list(arrivals), []

    def add(self, partition: int, arrivals: Sequence[Arrival]) -> None:
        pass


class Lives:
    """A worker's lives on one partition, each of which reads it from its start."""

    def __init__(self, *poisoned: int, of: int = 8) -> None:
        self.values = [value(n, cashier=POISON) if n in poisoned else value(n) for n in range(of)]
        self.notes: dict[int, bytes] = {}
        self.fault: Exception = ZeroDivisionError()
        self.sink = MemorySink()
        self.line = Line(sink=self.sink)
        self.window = Poisoned(self.fault)

    def write(self, notes: Mapping[int, bytes | None]) -> bool:
        for partition, packed in notes.items():
            self.notes.pop(partition, None)
            if packed is not None:
                self.notes[partition] = packed
        return True

    async def live(self) -> list[int]:
        """The offsets that became dead letters, in a life that ended well. Raises the error of one that didn't."""
        suspects = SuspectPipeline(self.write)
        suspects.load(self.notes, {0})
        self.window = Poisoned(self.fault)
        settled = await suspects.process(batch(*self.values), replace(self.line.services, seen=self.window))
        return [letter.record.offset for letter in settled.rejected if letter.reason is Reason.ENDS_WORKER]

    async def deaths(self) -> tuple[int, list[int]]:
        """How many lives ended by the fault before one ended well, and the dead letters of that one."""
        for number in range(50):
            try:
                return number, await self.live()
            except type(self.fault):
                pass
        raise AssertionError("no life ended well")


async def test_record_that_ends_two_lives_is_a_dead_letter_of_the_third() -> None:
    lives = Lives(3)
    assert await lives.deaths() == (2, [3])
    assert len(lives.sink.documents) == 7
    assert lives.notes == {}


async def test_batch_of_a_worker_that_is_well_goes_whole_and_writes_nothing() -> None:
    lives = Lives()
    assert await lives.live() == []
    assert lives.window.together == [8]
    assert lives.notes == {}


async def test_records_go_one_at_a_time_after_a_death() -> None:
    lives = Lives(5)
    with pytest.raises(ZeroDivisionError):
        await lives.live()
    with pytest.raises(ZeroDivisionError):
        await lives.live()
    assert lives.window.together == [1] * 6


@given(st.sets(st.integers(0, 11), max_size=4))
async def test_guilty_records_and_no_others_become_dead_letters(guilty: set[int]) -> None:
    run = max((sum(n + k in guilty for k in range(4)) for n in guilty), default=0)
    if run > MAX_CONSECUTIVE:
        return
    lives = Lives(*guilty, of=13)
    _, dead = await lives.deaths()
    assert set(dead) == guilty
    assert len(lives.sink.documents) == 13 - len(guilty)


async def test_version_that_fails_on_every_record_makes_few_dead_letters() -> None:
    lives = Lives(*range(8))
    for _ in range(20):
        with pytest.raises(ZeroDivisionError):
            await lives.live()
    assert {letter.key for letter in lives.line.letters} == {b"S1"}
    note = unpacked(lives.notes[0])
    assert note.dead == (0, 1, 2)
    lives.values = [value(n) for n in range(8)]  # as a repaired version reads them
    assert await lives.live() == [0, 1, 2]


@pytest.mark.parametrize(
    "fault",
    [SinkUnavailable("connection", "away"), KafkaConnectionError(), OSError(28, "full"), MemoryError()],
    ids=str,
)
async def test_outage_blames_nobody(fault: Exception) -> None:
    lives = Lives(3)
    lives.fault = fault
    for _ in range(3):
        with pytest.raises(type(fault)):
            await lives.live()
    assert lives.notes == {}
    assert lives.line.letters == []


@given(*[st.integers(0, 2**40)] * 5, st.lists(st.integers(0, 2**40), max_size=12))
def test_note_survives_its_bytes(first: int, last: int, until: int, deaths: int, row: int, dead: list[int]) -> None:
    note = SuspectNote(first, last, until, deaths, row, "ZeroDivisionError", tuple(dead))
    assert unpacked(note.packed()) == note
    assert len(note.packed()) % DIGEST == 0


def test_batch_is_marked_while_it_is_at_work() -> None:
    marks = SuspectMarks()
    with marks.at_work(1, next_note(None, 5, 9, "hangs")), marks.at_work(2, next_note(None, 0, 0, "hangs")):
        assert {number: unpacked(packed)[:3] for number, packed in marks.all().items()} == {1: (5, 9, 9), 2: (0, 0, 0)}
    assert marks.all() == {}
