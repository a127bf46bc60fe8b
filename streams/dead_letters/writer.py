"""Write rejected records to the dead-letter topic. They are safe there before their batch is acknowledged."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from streams.batch import Rejection
from streams.dead_letters.record import DeadLetterRecord, dead_letter_record

#: Sends dead letters in order, and returns when the broker has confirmed them all.
Publish = Callable[[Sequence[DeadLetterRecord]], Awaitable[None]]
Clock = Callable[[], datetime]


class DeadLetterWriter:
    """Writes rejections to the dead-letter topic."""

    def __init__(self, publish: Publish, now: Clock) -> None:
        self._publish = publish
        self._now = now

    async def put(self, topic: str, partition: int, rejections: Sequence[Rejection], versions: str = "") -> None:
        """Send one dead letter for each rejected record, by offset, and return when the broker has confirmed them all.

        A record may hold thousands of rejected events; its dead letter has the reason of the first.
        """
        if rejections:
            now = self._now()
            ordered = first_per_record(rejections)
            await self._publish(
                [dead_letter_record(rejection, topic, partition, now, versions) for rejection in ordered]
            )


def first_per_record(rejections: Sequence[Rejection]) -> list[Rejection]:
    """Return the first rejection of each record of a batch, ordered by offset.

    Records are distinguished by identity: those of a topic that was created again may share an offset.
    """
    firsts: dict[int, Rejection] = {}
    for rejection in rejections:
        firsts.setdefault(id(rejection.record), rejection)
    return sorted(firsts.values(), key=lambda rejection: rejection.record.offset)
