"""Dead letters are sent in the order of the records."""

from datetime import UTC, datetime

from schemas.dead_letter import Reason
from streams.batch import Rejection
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.writer import DeadLetterWriter
from tests.support.events import FakeRecord


def rejection(record: FakeRecord) -> Rejection:
    return Rejection(record, Reason.INVALID_JSON, "json_invalid", "decode")


async def test_letters_go_out_in_the_order_of_their_offsets() -> None:
    sent: list[bytes | None] = []

    async def publish(letters: list[DeadLetterRecord]) -> None:
        sent.extend(made.value for made in letters)

    queue = DeadLetterWriter(publish, lambda: datetime.now(UTC))  # type: ignore[arg-type]  # a list is a sequence
    await queue.put("pos.sales", 0, [rejection(FakeRecord(offset, str(offset).encode())) for offset in (9, 2, 5)])
    assert sent == [b"2", b"5", b"9"]
