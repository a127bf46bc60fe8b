"""A sink that is only asked remembers its answers, on disk."""

import gc

from schemas.dead_letter import Reason
from schemas.document import ErpDocument
from sinks.base import Accepted, Refused, Result
from sinks.memory import MemorySink
from streams.dead_letters.reprocess import DryRunSink
from streams.sink_retry import RetryingSink
from tests.support.documents import document, documents
from tests.support.line import Line


def rehearsal(line: Line, *forgotten: str) -> DryRunSink:
    assert isinstance(line.services.sink, RetryingSink)
    return DryRunSink(line.services.sink, forgotten)


def words(results: list[Result]) -> list[str | Reason]:
    return [one.effect if isinstance(one, Accepted) else one.reason for one in results]


async def test_answers_of_before_count() -> None:
    line = Line()
    asked = rehearsal(line)
    assert words(await asked.write([document(1, 1)])) == ["written"]
    other = document(1, 1, store="S1", register_id="2", event_id="pos:another")
    answers = await asked.write([document(1, 1), document(1, 0), document(2), other])
    assert words(answers[:3]) == ["duplicate", "superseded", "written"]
    assert isinstance(answers[3], Refused)
    assert isinstance(line.sink, MemorySink)
    assert line.sink.deliveries([document(1, 1).event_id, document(2).event_id]) == []
    assert await asked.holds([document(1).external_ref, document(3).external_ref]) == {document(1).external_ref}


async def test_what_is_to_be_forgotten_would_be_written_again() -> None:
    line = Line()
    line.sink.write([document(1), document(2)])
    asked = rehearsal(line, document(1).external_ref)
    assert await asked.holds([document(1).external_ref]) == set()
    assert words(await asked.write([document(1), document(2)])) == ["written", "duplicate"]


def documents_in_memory() -> int:
    gc.collect()
    return sum(isinstance(one, ErpDocument) for one in gc.get_objects())


async def test_nothing_of_what_was_asked_stays_in_memory() -> None:
    asked = rehearsal(Line())
    before = documents_in_memory()
    for first in range(1, 401, 50):
        await asked.write(documents(50, first))
        asked.asked.clear()
    assert documents_in_memory() <= before
    known = document(1).external_ref
    assert known not in repr([vars(asked), vars(asked._by_now)])
    assert await asked.holds([known]) == {known}
