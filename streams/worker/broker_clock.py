"""Whether this machine's clock agrees with the Kafka broker's. Knows no framework.

A broker refuses records that claim to be from more than an hour in its future (`message.timestamp.after.max.ms`), so a
clock that is wrong stops dead letters and the window's changelog. Topics that Tillstream creates have their times from
the broker (`message.timestamp.type=LogAppendTime`): nothing is refused there, and each confirmation tells the broker's
time, which is compared here.
"""

from collections.abc import Callable

import structlog

#: Seconds that the clocks may be apart. NTP keeps them within a fraction of one.
TOLERANCE = 60.0
TASK = "clock"
ADVICE = "set the clock of this machine (NTP)"
#: What a topic's trouble is that refuses the time of records.
REFUSES_TIME = (
    f"this machine's clock is wrong: Kafka refuses the time of its records (InvalidTimestampError); {ADVICE}, the "
    "worker goes on by itself"
)


class ClockWatch:
    """Warns as long as this machine's clock is wrong, and logs when that begins and ends.

    `clock` gives seconds since 1970; `warn` takes the task and why it is in trouble, or None.
    """

    def __init__(self, clock: Callable[[], float], warn: Callable[[str, str | None], None]) -> None:
        self.clock = clock
        self._warn = warn
        self._log = structlog.get_logger("tillstream.clock")
        self._refusing: set[str] = set()
        self._ahead: float | None = None
        self._in_trouble = False

    def refused(self, topic: str) -> None:
        """Note that the broker refused a record of `topic` for its time."""
        self._refusing.add(topic)
        self._judge()

    def confirmed(self, topic: str, sent_at: float, stamped_at: float | None) -> None:
        """Note that the broker confirmed a record sent at `sent_at`; `stamped_at` is the broker's time, if it gave it.

        The broker gave it between sending and now, so what lies between the two is no difference of the clocks.
        """
        if not self._refusing and stamped_at is None:
            return
        self._refusing.discard(topic)
        if stamped_at is not None:
            ahead = max(0.0, sent_at - stamped_at) or min(0.0, self.clock() - stamped_at)
            self._ahead = ahead if abs(ahead) > TOLERANCE else None
        self._judge()

    def _judge(self) -> None:
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
            return f"this machine's clock is {abs(self._ahead):.0f} s {where} the Kafka broker's; {ADVICE}"
        if self._refusing:
            topics = ", ".join(sorted(self._refusing))
            return f"this machine's clock is wrong: Kafka refuses the time of its records for {topics}; {ADVICE}"
        return None
