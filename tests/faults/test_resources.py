"""What a worker takes of its machine stays within bounds, whatever waits before it and however often it is cut off.

TILLSTREAM_FAULTS_BACKLOG_MB=N  how much waits in the topic (long version: 200)
"""

import os
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from tests.faults.conftest import Tell
from tests.faults.test_postgres_faults import feeding, gate_to
from tests.faults.world import World
from tests.support.events import value
from tests.support.topics import Headers
from tests.support.wait import wait_until
from tests.support.workers import Worker

MEGABYTE = 2**20
BACKLOG = int(os.environ.get("TILLSTREAM_FAULTS_BACKLOG_MB") or 200) * MEGABYTE
#: A worker that is busy takes about 150 MiB; four fetched polls of 4 MiB and their events come on top.
MOST_MEMORY = 500 * MEGABYTE


def memory(worker: Worker, line: str = "VmHWM") -> int:
    """The most bytes of memory that the process ever had (VmHWM), or those it has now (VmRSS)."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (kilobytes,) = re.findall(rf"^{line}:\s+(\d+) kB", status, re.MULTILINE)
    return int(kilobytes) * 1024


def open_files(worker: Worker) -> int:
    """How many file descriptors the process has open."""
    return len(list(Path(f"/proc/{worker.process.pid}/fd").iterdir()))


def backlog(size: int) -> Iterator[tuple[bytes, bytes, Headers]]:
    """Sales of 5 KiB each, `size` bytes in all."""
    padding = "x" * 5000
    for number in range(size // len(value(0, comment=padding))):
        yield str(number).encode(), value(number, comment=padding), []


def produce_backlog(world: World, size: int) -> int:
    """Puts it into the topic, a part at a time, as the producer's own queue is bounded; how many records that were."""
    records = backlog(size)
    sent = 0
    while part := list(islice(records, 10_000)):
        sent += len(world.topics.produce(world.topic, part))
    return sent


@pytest.mark.faults_long
def test_large_backlog_is_consumed_in_bounded_memory(world: World, tell: Tell) -> None:
    sent = produce_backlog(world, BACKLOG)
    worker = world.start(slice_records=2000)
    world.wait_drained(3600)
    assert world.query("SELECT count(*), count(DISTINCT event_id), sum(gross) FROM documents") == [
        (sent, sent, 3 * sent)
    ]
    assert world.dead_letters() == []
    tell(f"{BACKLOG // MEGABYTE} MiB in {sent} records, at most {memory(worker) // MEGABYTE} MiB of memory")
    assert memory(worker) < MOST_MEMORY


@pytest.mark.faults_long
def test_slow_sink_slows_the_worker_and_does_not_fill_its_memory(world: World, tell: Tell) -> None:
    with gate_to(world) as gate:
        worker = world.start(slice_records=2000).wait_ready()
        before = memory(worker, "VmRSS")
        gate.rate = 5_000
        produce_backlog(world, BACKLOG)
        wait_until(lambda: worker.readings().delivered > 0, 120, "a worker at work")
        readings: list[int] = []
        for _ in range(60):
            readings.append(memory(worker, "VmRSS"))
            time.sleep(1)
        assert world.topics.lag(world.group, world.topic) > 0, "this sink was not slow"
        gate.rate = None
        world.wait_drained(600)
        assert worker.process.poll() is None
        tell(f"a minute of a slow sink: {before // MEGABYTE} to {max(readings) // MEGABYTE} MiB of memory")
        # Fetched polls are bounded, so memory grows by a part of the backlog: it comes in steps, at no certain time.
        assert max(readings) < before + BACKLOG * 3 // 4
        assert memory(worker) < MOST_MEMORY


@pytest.mark.faults_long
def test_connections_that_break_leave_no_open_files(world: World, tell: Tell) -> None:
    with gate_to(world) as gate:
        worker = world.start().wait_ready()
        with feeding(world):
            wait_until(lambda: worker.readings().delivered > 100, 30, "a worker at work")
            before = open_files(worker)
            for _ in range(300):
                gate.cut()
                time.sleep(0.1)
        world.finish()
        tell(f"{before} open files before, {open_files(worker)} after")
        assert open_files(worker) <= before + 6  # connections of the pool that were not in use before
