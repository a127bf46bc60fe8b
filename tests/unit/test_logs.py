"""Libraries that say the same thing over and over are damped; what was suppressed is counted."""

import json
import logging
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from streams.logs import FIRST_SILENCE, LONGEST_SILENCE, MOST_KINDS, LogDamper


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def record(text: str, name: str = "aiokafka.conn", level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord(name, level, "conn.py", 1, text, (), None)


def test_ours_and_what_is_no_warning_always_pass() -> None:
    damper = LogDamper(Clock())
    for each in (record("x", "tillstream.line"), record("x", level=logging.INFO), record("x", "sqlalchemy.pool")):
        assert all(damper.filter(each) for _ in range(100))


def test_flood_of_an_outage_is_a_few_lines_that_say_how_many_were_suppressed() -> None:
    clock = Clock()
    damper = LogDamper(clock)
    passed = []
    for number in range(30_400):
        clock.now = number * 0.05  # 25 minutes
        said = record(f"Unable connect to node with id {number}: refused")
        if damper.filter(said):
            passed.append(getattr(said, "suppressed", 0))
    assert len(passed) < 12
    assert sum(passed) + len(passed) + damper.take_suppressed()["aiokafka.conn"] == 30_400


def test_other_messages_are_not_held_back() -> None:
    damper = LogDamper(Clock())
    assert damper.filter(record("Unable connect to node with id 1"))
    assert damper.filter(record("Heartbeat failed"))
    assert damper.filter(record("Unable connect to node with id 1", "faust.transport"))
    assert not damper.filter(record("Unable connect to node with id 2"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2 * LONGEST_SILENCE)), max_size=100))
def test_every_message_is_passed_or_counted_once(messages: list[tuple[str, float]]) -> None:
    clock = Clock()
    damper = LogDamper(clock)
    told = 0
    for text, pause in messages:
        clock.now += pause
        said = record(text)
        if damper.filter(said):
            told += 1 + getattr(said, "suppressed", 0)
        told += sum(damper.take_suppressed(also_ongoing=False).values())
    assert told + sum(damper.take_suppressed().values()) == len(messages)


def test_message_after_a_long_silence_passes_without_a_count() -> None:
    clock = Clock()
    damper = LogDamper(clock)
    for _ in range(3):
        said = record("once an hour")
        assert damper.filter(said)
        assert not hasattr(said, "suppressed")
        clock.now += FIRST_SILENCE + 1


def test_endless_kinds_of_messages_take_bounded_memory() -> None:
    damper = LogDamper(Clock())
    for number in range(20_000):
        damper.filter(record("x" * (number % 90) + chr(0x4E00 + number)))
    assert len(damper._kinds) <= MOST_KINDS + 1


def test_count_is_in_the_line_that_is_written() -> None:
    program = """
import logging
from streams.logs import damper, set_up_logs
set_up_logs("json")
now = [0.0]
damper._clock = lambda: now[0]
for seconds in (0.0, 1.0, 2.0, 60.0):
    now[0] = seconds
    logging.getLogger("aiokafka.conn").error("Unable connect to node with id %s", seconds)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line.get("suppressed") for line in lines] == [None, 2]
