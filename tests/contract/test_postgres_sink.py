"""PostgreSQL's own ways to fail: locks, cut connections, lost answers, outages."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import make_url

from schemas.document import ErpDocument
from sinks.base import Accepted, SinkUnavailable
from sinks.postgres.sink import PostgresSink
from sinks.registry import open_sink
from sinks.url import shown
from tests.contract.conftest import open_full_url
from tests.support.documents import document, documents
from tests.support.gate import Gate
from tests.support.postgres_server import LocalPostgres
from tests.support.wait import wait_until


@pytest.fixture
def url(postgres_url: str) -> str:
    """A database with the schema."""
    with opened(postgres_url) as sink:
        sink.check(apply=True)
    return postgres_url


@contextmanager
def opened(url: str, **options: str) -> Iterator[PostgresSink]:
    """A sink; `options` are parameters of the connection."""
    sink = open_full_url(make_url(url).update_query_dict(options).render_as_string(hide_password=False))
    assert isinstance(sink, PostgresSink)
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def connected(url: str, autocommit: bool = False) -> Iterator[psycopg.Connection]:
    """Somebody else's connection to the same database; what it did not commit is rolled back at the end."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg.connect(plain, autocommit=autocommit)
    try:
        yield connection
    finally:
        connection.close()


def count_everything(url: str) -> int:
    """The rows of all tables together."""
    tables = ("documents", "document_lines", "document_payments", "deliveries")
    with connected(url) as connection:
        return sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)  # type: ignore[index, arg-type]  # one row


def waiting_pids(url: str) -> list[int]:
    """The server processes of sinks that wait for a lock."""
    query = """SELECT pid FROM pg_stat_activity WHERE application_name = 'tillstream'
        AND datname = current_database() AND wait_event_type = 'Lock'"""
    with connected(url) as connection:
        return [pid for (pid,) in connection.execute(query)]


def test_a_lock_that_is_not_given_back_is_sink_unavailable(url: str) -> None:
    with opened(url, options="-c lock_timeout=200ms") as sink, connected(url) as other:
        other.execute("LOCK TABLE deliveries")
        with pytest.raises(SinkUnavailable) as caught:
            sink.write([document()])
        assert caught.value.kind == "lock"
        other.rollback()
        assert sink.write([document()]) == [Accepted("pos:e-1-0", "written")]


def test_a_statement_that_takes_too_long_is_sink_unavailable(url: str) -> None:
    with opened(url, options="-c statement_timeout=200ms") as sink, connected(url) as other:
        other.execute("LOCK TABLE document_lines")
        with pytest.raises(SinkUnavailable) as caught:
            sink.write([document()])
        assert caught.value.kind == "timeout"


def test_a_connection_cut_in_mid_transaction_leaves_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with opened(url) as sink, connected(url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("LOCK TABLE document_payments")  # the batch has written documents and lines by then
        writing = pool.submit(sink.write, documents(10))
        wait_until(lambda: waiting_pids(url), what="the write to wait for the lock")
        with connected(url, autocommit=True) as operator:
            operator.execute("SELECT pg_terminate_backend(%s)", (waiting_pids(url)[0],))
        with pytest.raises(SinkUnavailable) as caught:
            writing.result(30)
        assert caught.value.kind == "connection"
        assert "57P01" in str(caught.value)  # the cause, not a later "connection is closed"
        assert caplog.records == []
        other.rollback()
        assert count_everything(url) == 0
        assert {result.effect for result in sink.write(documents(10)) if isinstance(result, Accepted)} == {"written"}


def test_a_commit_whose_answer_is_lost_gives_duplicates_the_next_time(url: str) -> None:
    parsed = make_url(url)
    with Gate(parsed.host or "", parsed.port or 5432) as gate:
        through = parsed.set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
        with opened(through, sslmode="disable", gssencmode="disable") as sink:
            sink.ping()
            gate.lose_answer_to(b"COMMIT\0")
            with pytest.raises(SinkUnavailable) as caught:
                sink.write(documents(3))
            assert (caught.value.kind, gate.answers_lost) == ("connection", 1)
            assert sink.write(documents(3)) == [Accepted(d.event_id, "duplicate") for d in documents(3)]
            assert [day.documents for day in sink.totals()] == [3]


def test_pooled_connections_that_broke_in_silence_are_replaced(url: str) -> None:
    parsed = make_url(url)
    with Gate(parsed.host or "", parsed.port or 5432) as gate:
        through = parsed.set(host="127.0.0.1", port=gate.port).render_as_string(hide_password=False)
        with opened(through, sslmode="disable") as sink:
            sink.write([document(1)])
            gate.cut()
            assert sink.write([document(2)]) == [Accepted("pos:e-2-0", "written")]


def test_a_server_that_is_down_is_sink_unavailable_until_it_is_back(own_postgres: LocalPostgres) -> None:
    with opened(own_postgres.create_database("shop")) as sink:
        sink.check(apply=True)
        sink.write([document(1)])
        own_postgres.stop("immediate")
        for call in (lambda: sink.write([document(2)]), sink.ping, sink.totals, sink.check):
            with pytest.raises(SinkUnavailable) as caught:
                call()
            assert caught.value.kind == "connection"
        own_postgres.start()
        assert sink.write([document(1), document(2)]) == [
            Accepted("pos:e-1-0", "duplicate"),
            Accepted("pos:e-2-0", "written"),
        ]


def test_a_read_only_server_is_sink_unavailable(url: str) -> None:
    with opened(url, options="-c default_transaction_read_only=on") as sink:
        for call in (lambda: sink.write([document()]), sink.ping):
            with pytest.raises(SinkUnavailable) as caught:
                call()
            assert caught.value.kind == "readonly"
        assert [finding.subject for finding in sink.check() if not finding.ok] == ["writable"]


def test_eight_writes_go_on_at_once(url: str) -> None:
    with opened(url) as sink, connected(url) as other, ThreadPoolExecutor(8) as pool:
        other.execute("LOCK TABLE deliveries")
        writes = [pool.submit(sink.write, [document(number)]) for number in range(8)]
        wait_until(lambda: len(waiting_pids(url)) == 8, what="eight writes at once")
        other.rollback()
        assert all(isinstance(write.result(30)[0], Accepted) for write in writes)


@pytest.mark.parametrize("held", [0, 2, 4], ids=["the first event", "one between", "the last receipt"])
def test_a_batch_with_one_event_that_is_held_leaves_no_trace_of_the_first_try(url: str, held: int) -> None:
    batch = documents(5)
    with opened(url) as sink:
        sink.write([replace(batch[held], event_id="pos:before") if held == 4 else batch[held]])
        results = sink.write(batch)
        assert [r.effect for r in results if isinstance(r, Accepted)].count("written") == 4
        assert results[held] == Accepted(batch[held].event_id, "duplicate")
    with connected(url) as connection:
        (counts,) = connection.execute("""SELECT ARRAY[(SELECT count(*) FROM documents),
            (SELECT count(*) FROM document_lines), (SELECT count(*) FROM document_payments)]""")
        assert counts == ([5, 5, 5],)


def test_events_of_an_unsorted_batch_keep_their_own_documents(url: str) -> None:
    batch = [document(number, event_id=f"pos:e-{-number % 7}", cashier=f"C{number}") for number in range(1, 7)]
    with opened(url) as sink:
        assert sink.write(batch) == [Accepted(d.event_id, "written") for d in batch]
        assert sink.read([d.external_ref for d in batch]) == batch


@pytest.mark.parametrize("prefix", ["", "another-"], ids=["the same events", "other events of the same receipts"])
def test_batches_in_opposite_order_do_not_deadlock(url: str, prefix: str) -> None:
    batches = [documents(1000, revision=revision) for revision in range(4)]
    others = [[replace(d, event_id=prefix + d.event_id) for d in reversed(batch)] for batch in batches]
    start = threading.Barrier(2)

    def write(mine: list[list[ErpDocument]]) -> None:
        for batch in mine:
            start.wait(30)
            assert len(sink.write(batch)) == 1000

    with opened(url) as sink, ThreadPoolExecutor(2) as pool:
        list(pool.map(write, [batches, others]))
        assert [day.documents for day in sink.totals()] == [1000]


def test_missing_tables_are_sink_unavailable_with_the_way_out(postgres_url: str) -> None:
    with opened(postgres_url) as sink:
        with pytest.raises(SinkUnavailable, match="tillstream check --apply") as caught:
            sink.write([document()])
        assert caught.value.kind == "schema"


def test_no_password_is_ever_shown(postgres_url: str) -> None:
    sink = open_sink(shown(make_url(postgres_url).set(port=1).render_as_string()), password="hunter2")
    with pytest.raises(SinkUnavailable) as caught:
        sink.check()
    sink.close()
    assert "hunter2" not in f"{caught.value!r} {sink!r}"


def test_commits_that_do_not_wait_for_the_disk_are_found(url: str) -> None:
    with opened(url, options="-c synchronous_commit=off") as sink:
        assert [finding.subject for finding in sink.check() if not finding.ok] == ["durability"]
