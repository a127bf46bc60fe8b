"""PostgreSQL stops, hangs, fills up, breaks connections and is someone else's too: nothing is lost or doubled.

Nor is it blamed on a record: every test ends with `World.check`, which knows no dead letter for the database's sake.
"""

import os
import shutil
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Literal
from uuid import uuid4

import pytest
from sqlalchemy import URL, Connection, insert, make_url, text

from schemas.dead_letter import Reason
from sinks.sql.tables import documents
from tests.faults.conftest import LONG, OpenWorld
from tests.faults.stream import Held, due
from tests.faults.world import World
from tests.support.gate import Gate
from tests.support.postgres_server import LocalPostgres, Postgres
from tests.support.topics import Record
from tests.support.wait import wait_until


@contextmanager
def feeding(world: World, records: int = 40, pause: float = 0.1) -> Iterator[None]:
    """While this holds, records keep coming."""
    enough = threading.Event()

    def feed() -> None:
        while not enough.wait(pause):
            world.feed(records)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        enough.set()
        feeder.join()


@contextmanager
def gate_to(world: World) -> Iterator[Gate]:
    """The network between the world's workers and its database. For workers that start from now on."""
    url = make_url(world.url)
    with Gate(url.host or "", url.port or 5432) as gate:
        world.reach_sink_by(port=gate.port)
        yield gate


@contextmanager
def someone_else(world: World) -> Iterator[Connection]:
    """A transaction of another program in the ERP's database."""
    with world.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        if transaction.is_active:
            transaction.rollback()


def someone_waits(world: World) -> bool:
    """Whether a transaction waits for a lock that another one holds."""
    found = world.query(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(found)


def test_connections_terminated_in_the_middle_of_transactions_lose_nothing(world: World) -> None:
    for worker in (world.start(), world.start()):
        worker.wait_ready()
    terminated = 0
    deadline = time.monotonic() + (60 if LONG else 2)
    with feeding(world):
        while time.monotonic() < deadline:
            found = world.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name = 'tillstream' AND (xact_start IS NOT NULL OR random() < 0.02)"
            )
            terminated += len(found)
            time.sleep(0.005)
    assert terminated
    world.finish()


def test_lock_held_by_someone_else_is_waited_for(world: World) -> None:
    for options in ("-c lock_timeout=200ms", "-c statement_timeout=200ms"):
        world.reach_sink_by(options=options)
        world.start().wait_ready()
    with someone_else(world) as other:
        other.execute(text("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE"))
        world.feed(200)
        world.wait_sink_errors("lock", "timeout")
        assert world.topics.committed(world.group, world.topic) == {}
    world.finish()


@pytest.mark.faults_long
def test_lock_held_beyond_the_lock_timeout_is_waited_for(world: World) -> None:
    world.start().wait_ready()
    with someone_else(world) as other:
        other.execute(text("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE"))
        world.feed(200)
        world.wait_sink_errors("lock")
    world.finish()


def test_worker_that_loses_a_deadlock_tries_again(open_worlds: OpenWorld) -> None:
    world = open_worlds(partitions=1)
    world.create_tables()
    claim = text(
        "INSERT INTO deliveries (event_id, external_ref, revision, content, delivered_at) "
        "VALUES (:event, 'ref', 0, 'content', now())"
    )
    for _ in range(5 if LONG else 1):
        before = due(world.topics.records(world.topic)).events
        world.feed(25)  # one slice
        held = due(world.topics.records(world.topic)).documents.values()
        events = sorted(one.event_id for one in held if one.revision == 0 and one.event_id not in before)
        with someone_else(world) as other:
            other.execute(text("SET LOCAL deadlock_timeout = '60s'"))  # so that it is the worker who notices
            other.execute(claim, {"event": events[-1]})
            worker = world.start()
            wait_until(lambda: someone_waits(world), 30, "a worker that waits for the last event")
            other.execute(claim, {"event": events[0]})
            world.wait_sink_errors("lock")
        world.wait_drained()
        assert worker.terminate() == 0
    world.check()


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.faults_long), "meanwhile"])
def test_receipt_that_someone_else_writes_is_a_conflict_and_blocks_nothing(world: World, when: str) -> None:
    world.create_tables()
    world.feed(300)
    expected = due(world.topics.records(world.topic))
    ref, place = receipt_of_one_record(world)
    expected.events.discard(expected.documents[ref].event_id)
    expected.documents[ref] = Held("by hand", 0, "invoice", _NOON.date(), Decimal(1), 0, Decimal(0), Decimal(0))
    expected.dead[place] = Reason.CONFLICTING_RECEIPT
    with world.engine.connect() as other:
        other.execute(
            insert(documents),
            {column.name: _BY_HAND.get(column.name, "") for column in documents.columns} | {"external_ref": ref},
        )
        if when == "before":
            other.commit()
        world.start()
        if when == "meanwhile":
            wait_until(lambda: someone_waits(world), 30, "a worker that waits for the other transaction")
            other.commit()
    world.wait_drained()
    world.check(expected)


_NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
_BY_HAND: dict[str, Any] = {
    "event_id": "by hand",
    "kind": "invoice",
    "revision": 0,
    "business_date": _NOON.date(),
    "occurred_at": _NOON,
    "written_at": _NOON,
    **dict.fromkeys(("net", "gross"), Decimal(1)),
    **dict.fromkeys(("tax", "rounding"), Decimal(0)),
}


def receipt_of_one_record(world: World) -> tuple[str, tuple[int, int]]:
    """A sound sale with nothing else about it in the topic: its receipt, and its record's place."""
    by_key: dict[bytes | None, list[Record]] = defaultdict(list)
    for record in world.topics.records(world.topic):
        by_key[record.key].append(record)
    for records in by_key.values():
        expected = due(records)
        if len(records) == 1 and expected.documents:
            return next(iter(expected.documents)), (records[0].partition, records[0].offset)
    raise AssertionError("no such receipt")


def test_commit_whose_answer_is_lost_is_found_to_be_done(world: World) -> None:
    with gate_to(world) as gate:
        world.start().wait_ready()
        for lost in range(1, 20 if LONG else 4):
            gate.lose_answer_to(b"COMMIT")
            world.feed(50)
            wait_until(partial(_lost, gate, lost), 30, "a lost answer")
        world.finish()


def _lost(gate: Gate, count: int) -> bool:
    return gate.answers_lost >= count


@pytest.mark.faults_long
def test_network_that_breaks_freezes_and_crawls_loses_nothing(world: World) -> None:
    with gate_to(world) as gate:
        world.start().wait_ready()
        with feeding(world):
            for _ in range(20):
                gate.cut()
                time.sleep(world.random.uniform(0, 0.5))
                gate.freeze()
                time.sleep(world.random.uniform(0, 45 if world.random.random() < 0.1 else 1))
                gate.thaw()
                gate.rate = 20_000
                time.sleep(world.random.uniform(0, 1))
                gate.rate = None
        world.finish()


def test_server_that_is_gone_for_a_while_is_waited_for(
    open_worlds: OpenWorld, own_postgres: LocalPostgres, random: Random
) -> None:
    world = open_worlds(own_postgres.create_database("erp"))
    workers = [world.start().wait_ready(), world.start().wait_ready()]
    modes: list[Literal["fast", "immediate"]] = ["fast", "immediate"]
    random.shuffle(modes)
    for mode in modes if LONG else modes[:1]:
        world.feed(300)
        own_postgres.stop(mode)
        world.feed(300)
        world.wait_sink_errors("connection")
        wait_until(lambda: all(worker.get("/readyz")[0] == 503 for worker in workers), 30, "unready workers")
        assert all(worker.get("/healthz")[0] == 200 for worker in workers)
        time.sleep(60 if LONG else random.uniform(0, 1))
        own_postgres.start()
        world.finish()
    wait_until(lambda: all(worker.get("/readyz")[0] == 200 for worker in workers), 30, "ready workers")


@pytest.mark.faults_long
@pytest.mark.parametrize("way", ["address that moves", "URL of both hosts"])
def test_failover_to_a_synchronous_standby_loses_nothing(
    open_worlds: OpenWorld, own_postgres: LocalPostgres, way: str
) -> None:
    url = make_url(own_postgres.create_database("erp"))
    world = open_worlds(url.render_as_string(hide_password=False))
    with ExitStack() as stack:
        standby = own_postgres.replica()
        stack.callback(standby.close)
        standby.start()
        gate = stack.enter_context(gate_to(world))
        if way == "URL of both hosts":
            hosts = [f"{url.host}:{url.port}", f"{url.host}:{standby.port}"]
            both = URL.create("postgresql", url.username, database=url.database).update_query_dict(
                {"host": hosts, "target_session_attrs": "read-write"}
            )
            world.settings["sink_url"] = both.render_as_string()
        world.start().wait_ready()
        with feeding(world):
            wait_until(lambda: len(world.held()) > 200, 30, "documents on the first server")
            own_postgres.stop("immediate")
            world.wait_sink_errors("connection")
            standby.promote()
            gate.point_to(standby.port)
            world.look_at(url.set(port=standby.port).render_as_string(hide_password=False))
            before = len(world.held())
            wait_until(lambda: len(world.held()) > before, 60, "documents on the second server")
        world.finish()


def test_full_disk_is_waited_for(open_worlds: OpenWorld, postgres: Postgres) -> None:
    with small_tablespace(postgres, 24 * 2**20) as (tablespace, folder):
        with postgres.connect() as connection:
            connection.execute(f"CREATE DATABASE {tablespace} TABLESPACE {tablespace}")
        try:
            url = make_url(postgres.url).set(database=tablespace)
            world = open_worlds(url.render_as_string(hide_password=False))
            world.start().wait_ready()
            world.feed(100)
            world.finish()
            ballast = folder / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            with feeding(world):
                world.wait_sink_errors("disk")
            ballast.unlink()
            world.finish()
            world.close()
        finally:
            postgres.drop(tablespace)


@contextmanager
def small_tablespace(postgres: Postgres, size: int) -> Iterator[tuple[str, Path]]:
    """A tablespace on a file system of `size` bytes: its name and folder. Skips where none can be had."""
    if not isinstance(postgres, LocalPostgres) or os.geteuid() != 0:
        pytest.skip("mounting a small file system for PostgreSQL needs root and a server of this machine")
    name = f"small_{uuid4().hex[:8]}"
    folder = postgres.folder / name
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", name, folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"a small file system can't be mounted: {mounted.stderr.strip()}")
    try:
        data = folder / "data"
        data.mkdir()
        shutil.chown(data, *owner_of(postgres.folder))
        with postgres.connect() as connection:
            connection.execute(f"CREATE TABLESPACE {name} LOCATION '{data}'")
            yield name, folder
            connection.execute(f"DROP TABLESPACE {name}")
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def owner_of(folder: Path) -> tuple[int, int]:
    """Whom a folder belongs to."""
    found = folder.stat()
    return found.st_uid, found.st_gid
