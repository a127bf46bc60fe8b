"""Compares this machine's clock with the Kafka broker's. Independent of Faust.

A broker refuses records with timestamps more than an hour in its future (`message.timestamp.after.max.ms`), so a wrong
clock stops dead letters and the window's changelog. Topics that Tillstream creates take their timestamps from the
broker (`message.timestamp.type=LogAppendTime`): nothing is refused there, and each confirmation carries the broker's
time, which is compared here.
"""

from collections.abc import Callable

import structlog

from streams.kafka.errors import CLOCK_ADVICE

#: Seconds that the clocks may differ. NTP keeps them within a fraction of a second.
TOLERANCE = 60.0
TASK = "clock"
#: The trouble of a topic that refuses the timestamps of records.
REFUSES_TIME = (
    "this machine's clock is wrong: Kafka refuses the time of its records (InvalidTimestampError); "
    f"{CLOCK_ADVICE}, the worker goes on by itself"
)


class ClockWatch:
    """Warns while this machine's clock is wrong, and logs when that begins and ends.

    `clock` returns seconds since 1970. `warn` takes the name of the task and its trouble, or None.
    """

    def __init__(self, clock: Callable[[], float], warn: Callable[[str, str | None], None]) -> None:
        self.clock = clock
        self._warn = warn
        self._log = structlog.get_logger("tillstream.clock")
        self._refusing: set[str] = set()
        self._ahead: float | None = None
        self._in_trouble = False

    def note_refused(self, topic: str) -> None:
        """Note that the broker refused a record of `topic` because of its timestamp."""
        self._refusing.add(topic)
        self._compare()

    def note_confirmed(self, topic: str, sent_at: float, stamped_at: float | None) -> None:
        """Note that the broker confirmed a record sent at `sent_at`; `stamped_at` is the broker's time, if it sent it.

        The broker read its clock between sending and now, so a time between the two is no difference of the clocks.
        """
        if not self._refusing and stamped_at is None:
            return
        self._refusing.discard(topic)
        if stamped_at is not None:
            ahead = max(0.0, sent_at - stamped_at) or min(0.0, self.clock() - stamped_at)
            self._ahead = ahead if abs(ahead) > TOLERANCE else None
        self._compare()

    def _compare(self) -> None:
        trouble = self._trouble()
        if trouble is not None and not self._in_trouble:
            self._log.error(trouble)
        elif trouble is None and self._in_trouble:
            self._log.info("this machine's clock agrees with the Kafka broker's again")
        self._in_trouble = trouble is not None
        self._warn(TASK, trouble)

    def _trouble(self) -> str | None:
        if self._ahead is not None:
            where = "ahead of" if self._ahead > 0 else "behind"
            return f"this machine's clock is {abs(self._ahead):.0f} s {where} the Kafka broker's; {CLOCK_ADVICE}"
        if self._refusing:
            topics = ", ".join(sorted(self._refusing))
            return f"this machine's clock is wrong: Kafka refuses the time of its records for {topics}; {CLOCK_ADVICE}"
        return None
