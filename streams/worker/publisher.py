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

#: Seconds without an answer after which the worker says that it waits; the producer itself tries for longer.
SLOW = 5.0
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class DeadLetterPublisher:
    """`Publish` to `topic`. A broker that does not confirm is waited out, whatever its reason; `trouble` says so.

    A letter that the topic refuses for its size is put there truncated, with a reference to where the whole lies.
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
        """What the dead-letter topic's trouble is, while there is some."""
        return next(iter(list(self._troubles.values())), None)

    @property
    def waiting(self) -> Collection[object]:
        """The tasks whose dead letters are not confirmed."""
        return list(self._task_of.values())

    async def __call__(self, letters: Sequence[DeadLetterRecord]) -> None:
        """Returns when the broker has confirmed all: in order, but those that it refused at first come later.

        What it does not confirm is sent again, so a letter may stand twice (readers know records by identity).
        """
        for letter in await self._deliver(letters):
            await self._deliver_alone(letter)

    async def _deliver(self, letters: Sequence[DeadLetterRecord]) -> list[DeadLetterRecord]:
        """Returns those that are refused for their size, when all others are confirmed."""
        refused: list[DeadLetterRecord] = []
        attempt = 0
        with self._noting_trouble() as note:
            while letters:
                slow = asyncio.get_running_loop().call_later(SLOW, note, f"does not confirm for {SLOW:.0f} s")
                try:
                    too_large, letters, error = await self._send(letters)
                finally:
                    slow.cancel()
                refused += too_large
                if error is not None:
                    attempt += 1
                    reason = _in_words(error)
                    note(reason)
                    self._log.warning("dead letters not confirmed, sending again", error=reason, attempt=attempt)
                    await asyncio.sleep(self._back_off.wait(attempt))
        return refused

    async def _deliver_alone(self, letter: DeadLetterRecord) -> None:
        """Halves what is too large until it fits. Not truncated is what was too large only together with others."""
        part, room, attempt = letter, record_size(letter), 0
        with self._noting_trouble() as note:
            while await self._deliver([part]):
                if room == 0:  # not even the reference fits: nothing that this worker could do about
                    attempt += 1
                    note("refuses even an empty record for its size; raise its max.message.bytes")
                    await asyncio.sleep(self._back_off.wait(attempt))
                room //= 2
                part = truncate(letter, room)
        if part is not letter:
            self._metrics.truncated.inc()
            place = {name.removeprefix(CONNECT): value.decode() for name, value in part.headers if name in _PLACE}
            self._log.warning(
                "dead letter truncated: the dead-letter topic refuses it for its size, raise its max.message.bytes",
                **place,
                bytes=len(letter.value or b""),
                kept=len(part.value or b""),
            )

    async def _send(
        self, letters: Sequence[DeadLetterRecord]
    ) -> tuple[list[DeadLetterRecord], list[DeadLetterRecord], Exception | None]:
        """(refused for their size, not confirmed for another reason, that reason)"""
        answers: list[Awaitable[object]] = []
        for letter in letters:
            try:
                producer = await self._app.maybe_start_producer()
                answers.append(await producer.send(self._topic, letter.key, letter.value, None, None, letter.headers))
            except (KafkaError, ProducerSendError) as error:
                cause = cast(Exception, error.__cause__ or error)  # Faust wraps what fails before it is sent
                answers.append(_failed(cause))
                if not isinstance(cause, TOO_LARGE):
                    break
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        bugs = [outcome for outcome in outcomes if isinstance(outcome, Exception) and not _expected(outcome)]
        if bugs:
            raise bugs[0]
        failed = [(letter, outcome) for letter, outcome in zip(letters, outcomes, strict=False) if _expected(outcome)]
        too_large = [letter for letter, outcome in failed if isinstance(outcome, TOO_LARGE)]
        unconfirmed = [letter for letter, outcome in failed if not isinstance(outcome, TOO_LARGE)]
        reason = next((outcome for _, outcome in failed if not isinstance(outcome, TOO_LARGE)), None)
        return too_large, [*unconfirmed, *letters[len(answers) :]], cast(Exception | None, reason)

    @contextmanager
    def _noting_trouble(self) -> Iterator[Callable[[str], None]]:
        """What is noted is this call's trouble until the call ends, or is cancelled."""
        call, task = object(), current_task()

        def note(reason: str) -> None:
            self._troubles[call] = f"dead-letter topic {self._topic}: {reason}"
            self._task_of[call] = task

        try:
            yield note
        finally:
            self._troubles.pop(call, None)
            self._task_of.pop(call, None)


_PLACE = (CONNECT + "topic", CONNECT + "partition", CONNECT + "offset")


def _in_words(error: Exception) -> str:
    if isinstance(error, InvalidTimestampError):
        return REFUSES_TIME
    return f"{type(error).__name__}: {getattr(error, 'description', error)}"


def _expected(outcome: object) -> bool:
    return isinstance(outcome, KafkaError | ProducerSendError)


def _failed(error: Exception) -> "asyncio.Future[object]":
    future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future
