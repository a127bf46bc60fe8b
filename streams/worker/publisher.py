"""Sends dead letters through Faust's producer, until the broker has confirmed every one of them."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import faust
import structlog
from aiokafka.errors import InvalidTimestampError, KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
from faust.exceptions import ProducerSendError

from streams.dead_letters.record import CONNECT, DeadLetterRecord, record_size, truncate
from streams.metrics import WorkerMetrics
from streams.sink_retry import BackOff
from streams.worker.broker_clock import REFUSES_TIME
from streams.worker.state import current_task

#: Seconds without an answer after which the worker reports that it waits; the producer itself keeps trying longer.
SLOW = 5.0
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class DeadLetterPublisher:
    """Publishes dead letters to `topic`, retrying until the broker confirms them; `trouble` is set in the meantime.

    A dead letter that the topic refuses for its size is truncated, with a reference to the original record.
    """

    def __init__(self, app: faust.App, topic: str, metrics: WorkerMetrics, back_off: BackOff | None = None) -> None:
        self._app = app
        self._topic = topic
        self._metrics = metrics
        self._back_off = back_off or BackOff()
        self._log = structlog.get_logger("tillstream.deadletters")
        self._troubles: dict[object, str] = {}
        self._task_of: dict[object, object] = {}

    @property
    def trouble(self) -> str | None:
        """The current trouble of the dead-letter topic, if there is any."""
        return next(iter(list(self._troubles.values())), None)

    @property
    def waiting(self) -> Collection[object]:
        """The tasks whose dead letters are not confirmed yet."""
        return list(self._task_of.values())

    async def __call__(self, letters: Sequence[DeadLetterRecord]) -> None:
        """Return when the broker has confirmed all: in order, except that those it first refused come later.

        Unconfirmed dead letters are sent again, so one may appear twice (readers recognise a record by its identity).
        """
        for letter in await self._deliver(letters):
            await self._deliver_alone(letter)

    async def _deliver(self, letters: Sequence[DeadLetterRecord]) -> list[DeadLetterRecord]:
        """Return the dead letters refused for their size, once all others are confirmed."""
        refused: list[DeadLetterRecord] = []
        attempt = 0
        with self._reporting_trouble() as note:
            while letters:
                slow = asyncio.get_running_loop().call_later(SLOW, note, f"does not confirm for {SLOW:.0f} s")
                try:
                    too_large, letters, error = await self._send(letters)
                finally:
                    slow.cancel()
                refused += too_large
                if error is not None:
                    attempt += 1
                    reason = _describe(error)
                    note(reason)
                    self._log.warning("dead letters not confirmed, sending again", error=reason, attempt=attempt)
                    await asyncio.sleep(self._back_off.wait(attempt))
        return refused

    async def _deliver_alone(self, letter: DeadLetterRecord) -> None:
        """Send one dead letter, halving it until it fits. One that was too large only in a batch stays whole."""
        part, room, attempt = letter, record_size(letter), 0
        with self._reporting_trouble() as note:
            while await self._deliver([part]):
                if room == 0:  # not even the reference fits, and this worker can't change that
                    attempt += 1
                    note("refuses even an empty record for its size; raise its max.message.bytes")
                    await asyncio.sleep(self._back_off.wait(attempt))
                room //= 2
                part = truncate(letter, room)
        if part is not letter:
            self._metrics.truncated.inc()
            origin = {name.removeprefix(CONNECT): value.decode() for name, value in part.headers if name in _ORIGIN}
            self._log.warning(
                "dead letter truncated: the dead-letter topic refuses it for its size, raise its max.message.bytes",
                **origin,
                bytes=len(letter.value or b""),
                kept=len(part.value or b""),
            )

    async def _send(
        self, letters: Sequence[DeadLetterRecord]
    ) -> tuple[list[DeadLetterRecord], list[DeadLetterRecord], Exception | None]:
        """Return (refused for their size, not confirmed for another reason, that reason)."""
        deliveries: list[Awaitable[object]] = []
        for letter in letters:
            try:
                producer = await self._app.maybe_start_producer()
                sent = await producer.send(self._topic, letter.key, letter.value, None, None, letter.headers)
                deliveries.append(sent)
            except (KafkaError, ProducerSendError) as error:
                cause = cast(Exception, error.__cause__ or error)  # Faust wraps errors before sending
                deliveries.append(_failed_future(cause))
                if not isinstance(cause, TOO_LARGE):
                    break
        outcomes = await asyncio.gather(*deliveries, return_exceptions=True)
        bugs = [outcome for outcome in outcomes if isinstance(outcome, Exception) and not _is_kafka_error(outcome)]
        if bugs:
            raise bugs[0]
        failed = [
            (letter, outcome) for letter, outcome in zip(letters, outcomes, strict=False) if _is_kafka_error(outcome)
        ]
        too_large = [letter for letter, outcome in failed if isinstance(outcome, TOO_LARGE)]
        unconfirmed = [letter for letter, outcome in failed if not isinstance(outcome, TOO_LARGE)]
        reason = next((outcome for _, outcome in failed if not isinstance(outcome, TOO_LARGE)), None)
        return too_large, [*unconfirmed, *letters[len(deliveries) :]], cast(Exception | None, reason)

    @contextmanager
    def _reporting_trouble(self) -> Iterator[Callable[[str], None]]:
        """Yield a function that sets this call's trouble, and clear it when the call ends or is cancelled."""
        call, task = object(), current_task()

        def note(reason: str) -> None:
            self._troubles[call] = f"dead-letter topic {self._topic}: {reason}"
            self._task_of[call] = task

        try:
            yield note
        finally:
            self._troubles.pop(call, None)
            self._task_of.pop(call, None)


_ORIGIN = (CONNECT + "topic", CONNECT + "partition", CONNECT + "offset")


def _describe(error: Exception) -> str:
    if isinstance(error, InvalidTimestampError):
        return REFUSES_TIME
    return f"{type(error).__name__}: {getattr(error, 'description', error)}"


def _is_kafka_error(outcome: object) -> bool:
    return isinstance(outcome, KafkaError | ProducerSendError)


def _failed_future(error: Exception) -> "asyncio.Future[object]":
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future
