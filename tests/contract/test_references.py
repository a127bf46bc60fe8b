"""Receipts whose parts have separators: each is booked, and what was booked under an old reference is recognised."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Engine, create_engine, make_url, text

from schemas.dead_letter import Reason
from schemas.document import from_json, to_json
from sinks import migrations
from sinks.base import Refused, Sink
from sinks.erp.sink import ErpSink, bookings_of
from sinks.registry import open_sink
from sinks.sql.sink import SqlSink
from sinks.sql.tables import metadata
from sinks.tryton.sink import TrytonSink
from tests.contract.conftest import SQL, TRYTON, erpnext_url, odoo_url, open_full_url, with_transactions
from tests.contract.test_sink_contract import effects
from tests.support import erpnext as erpnext_site
from tests.support import odoo as odoo_server
from tests.support.kafka import Kafka
from tests.support.references import before, today
from tests.support.tryton import empty, sink_of

SLASHES = {"register": "1", "receipt": "2/3"}
#: What Tryton and the ERPs know.
ARTICLE = {
    "lines": [{"sku": "A-1", "description": "Apple", "quantity": "2", "unit_price": "1.50", "tax_rate": "19"}],
    "tenders": [{"kind": "card", "amount": "3.00"}],
}


@pytest.fixture(params=SQL)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without tables."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'sink.db'}"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """The database, past the sink."""
    parsed = make_url(url)
    engine = create_engine(parsed.set(drivername="postgresql+psycopg") if parsed.host else parsed)
    yield engine
    engine.dispose()


@pytest.fixture
def old(url: str, engine: Engine) -> Iterator[SqlSink]:
    """A sink on the schema of before."""
    with engine.begin() as connection:
        command.upgrade(migrations.alembic_config(connection, metadata), "0004")
    sink = open_full_url(url)
    assert isinstance(sink, SqlSink)
    yield sink
    sink.close()


def upgraded(sink: Sink) -> Sink:
    assert all(finding.ok for finding in sink.check(apply=True))
    return sink


def column(engine: Engine, table: str, name: str) -> list[str | None]:
    with engine.connect() as connection:
        return sorted(connection.execute(text(f"SELECT {name} FROM {table}")).scalars(), key=str)


def test_receipts_that_differ_by_where_the_slash_is_are_both_booked(sink: Sink) -> None:
    one = today(1, **ARTICLE, register="R1", receipt="2/3")
    other = today(2, **ARTICLE, revision=1, register="R1/2", receipt="3")
    assert effects(sink.write([one])) == ["written"]
    assert effects(sink.write([other])) == ["written"]
    assert [d.receipt for d in sink.read([one.external_ref, other.external_ref])] == ["3", "2/3"]
    assert sum(day.gross for day in sink.totals()) == one.gross + other.gross


def test_same_events_are_duplicates_after_the_upgrade(old: SqlSink) -> None:
    sent: list[dict[str, Any]] = [
        {"number": 1},
        {"number": 2} | SLASHES,
        {"number": 3, "event_id": None, "register": "1", "receipt": "2026/00123"},
        {"number": 4, "source": "a:b"},
        {"number": 5, "receipt": "5%2F"},
        {"number": 6, "type": "return", "original": {"receipt": "2026/00123"}},
        {"number": 7, "source": "a:b/c", "event_id": None, "store": "S/1"},
    ]
    assert set(effects(old.write([before(**each) for each in sent]))) == {"written"}
    new = [today(**each) for each in sent]
    sink = upgraded(old)
    assert set(effects(sink.write(new))) == {"duplicate"}
    assert sink.holds([d.external_ref for d in new]) == {d.external_ref for d in new}
    assert sink.read([d.external_ref for d in new]) == sorted(new, key=lambda d: d.external_ref)
    assert {d.external_ref for d in old.deliveries([d.event_id for d in new])} == {d.external_ref for d in new}


def test_revision_replaces_what_was_booked_under_the_old_reference(old: SqlSink, engine: Engine) -> None:
    old.write([before(1, **SLASHES)])
    newer = today(2, revision=1, cashier="B", **SLASHES)
    sink = upgraded(old)
    assert effects(sink.write([newer])) == ["replaced"]
    assert sink.read([newer.external_ref]) == [newer]
    for table in ("documents", "document_lines", "document_payments"):
        assert column(engine, table, "external_ref") == ["pos/S1/1/2%2F3/sale"]


def test_receipt_that_shared_the_old_reference_is_booked_after_the_upgrade(old: SqlSink) -> None:
    old.write([before(1, **SLASHES)])
    other = today(2, register="1/2", receipt="3")
    assert effects(upgraded(old).write([other])) == ["written"]


def test_event_that_another_receipt_replaced_is_booked_when_it_was_forgotten(old: SqlSink) -> None:
    old.write([before(1, **SLASHES)])
    assert effects(old.write([before(2, revision=1, register="1/2", receipt="3")])) == ["replaced"]
    sink, lost = upgraded(old), today(1, **SLASHES)
    assert effects(sink.write([lost])) == ["duplicate"]
    assert old.forget(old.keep([lost.external_ref])) == []
    assert effects(sink.write([lost])) == ["written"]
    assert {d.receipt for d in sink.read(["pos/S1/1%2F2/3/sale", "pos/S1/1/2%2F3/sale"])} == {"3", "2/3"}


def test_refund_refers_to_its_sale_after_the_upgrade(old: SqlSink, engine: Engine) -> None:
    held = {"register": "7/8", "receipt": "9/10"}
    refunds: list[dict[str, Any]] = [
        {"number": 2, "original": {"receipt": "2026/00123"}},
        {"number": 3, "original": held},
        {"number": 4, "original": {"receipt": "1", "register": "R7"}},
    ]
    old.write([before(1, **held), *(before(type="return", **each) for each in refunds)])
    upgraded(old)
    assert column(engine, "documents", "original_ref") == [
        None, "pos/S1/7%2F8/9%2F10/sale", "pos/S1/R1/2026%2F00123/sale", "pos/S1/R7/1/sale",
    ]  # fmt: skip


def test_conflict_stays_refused_after_the_upgrade(old: SqlSink) -> None:
    sent: list[dict[str, Any]] = [
        {"number": 1, "source": "a:b", "register": "1", "receipt": "2/3"},
        {"number": 2, "source": "a:b", "register": "1", "receipt": "2/3", "cashier": "B"},
    ]
    old.write([before(**sent[0])])
    (refused,) = old.write([before(**sent[1])])
    assert isinstance(refused, Refused)
    sink = upgraded(old)
    sink.write([today(3, revision=1, **{k: v for k, v in sent[0].items() if k != "number"})])
    (again,) = sink.write([today(**sent[1])])
    assert isinstance(again, Refused)
    assert again.reason is Reason.CONFLICTING_RECEIPT


def test_references_that_others_have_as_old_ones_are_moved_in_turn(old: SqlSink) -> None:
    sent = [{"number": 1, "receipt": "2/3"}, {"number": 2, "receipt": "2%2F3"}, {"number": 3, "receipt": "2%252F3"}]
    sent += [{"number": 4, "receipt": "2%25"}, {"number": 5, "receipt": "2%2525"}]
    old.write([before(**each) for each in sent])
    new = [today(**each) for each in sent]
    assert upgraded(old).read([d.external_ref for d in new]) == sorted(new, key=lambda d: d.external_ref)
    assert set(effects(old.write(new))) == {"duplicate"}


def test_document_of_before_is_read_with_the_references_of_today() -> None:
    sent: list[dict[str, Any]] = [
        SLASHES,
        SLASHES | {"event_id": None},
        {"source": "a:b"},
        {"type": "return", "original": {"receipt": "2026/00123"}},
        {"receipt": "50% off"},
    ]
    assert [from_json(to_json(before(**each))) for each in sent] == [today(**each) for each in sent]
    assert [from_json(to_json(today(**each))) for each in sent] == [today(**each) for each in sent]


@pytest.fixture(params=["erpnext", "odoo19"])
def erp(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ErpSink]:
    """An ERP's sink, its fields applied."""
    website = request.getfixturevalue(request.param)
    there = erpnext_url(website) if request.param == "erpnext" else odoo_url(website)
    secret = erpnext_site.SECRET if request.param == "erpnext" else odoo_server.KEY
    sink = open_sink(f"{there}&ledger=sqlite:///{tmp_path / 'ledger.db'}", password=secret)
    assert isinstance(sink, ErpSink)
    sink.check(apply=True)
    yield sink
    sink.close()


def forget_events(tmp_path: Path) -> None:
    """What the ledger knows of events, lost."""
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM deliveries"))
    engine.dispose()


@pytest.mark.parametrize("event_id", ["e-1", None])
def test_invoice_of_before_is_the_receipts(erp: ErpSink, tmp_path: Path, event_id: str | None) -> None:
    receipt: dict[str, Any] = SLASHES | {"event_id": event_id}
    erp.write([before(1, **receipt)])
    forget_events(tmp_path)
    new = today(1, **receipt)
    assert erp.holds([new.external_ref]) == {new.external_ref}
    assert erp.read([new.external_ref]) == [new]
    assert [each.external_ref for each in erp.prints("S1", new.business_date)] == [new.external_ref]
    assert effects(erp.rehearse([new])) == ["duplicate"]
    assert effects(erp.write([new])) == ["duplicate"]
    newer = today(2, **receipt | {"event_id": "e-2"}, revision=1, cashier="B")
    assert effects(erp.write([newer])) == ["replaced"]
    assert erp.read([new.external_ref]) == [newer]
    assert sum(day.gross for day in erp.totals()) == newer.gross


def test_invoice_of_another_receipt_with_the_same_old_reference_is_left_alone(erp: ErpSink) -> None:
    erp.write([before(1, **SLASHES)])
    other = today(2, revision=1, register="1/2", receipt="3")
    assert erp.holds([other.external_ref]) == set()
    assert erp.read([other.external_ref]) == []
    assert effects(erp.write([other])) == ["written"]
    assert sum(day.gross for day in erp.totals()) == 2 * other.gross


def test_invoice_of_before_that_somebody_cancelled_stays_cancelled(erp: ErpSink) -> None:
    erp.write([before(1, **SLASHES)])
    new = today(1, **SLASHES)
    (booking,) = bookings_of(erp.system, [new.external_ref])
    erp.system.withdraw(booking)
    assert effects(erp.write([new])) == ["duplicate"]
    assert erp.holds([new.external_ref]) == set()


@pytest.fixture(params=TRYTON)
def books(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrytonSink]:
    """A sink on an empty Tryton."""
    server = request.getfixturevalue(request.param)
    empty(server)
    sink = sink_of(server, tmp_path)
    yield sink
    sink.close()


@pytest.mark.parametrize("event_id", ["e-1", None])
def test_sale_of_before_is_the_receipts(books: TrytonSink, event_id: str | None) -> None:
    receipt: dict[str, Any] = ARTICLE | SLASHES | {"event_id": event_id}
    books.write([before(1, **receipt)])
    new = today(1, **receipt)
    assert books.holds([new.external_ref]) == {new.external_ref}
    assert books.read([new.external_ref]) == [new]
    assert effects(books.rehearse([new])) == ["duplicate"]
    assert effects(books.write([new])) == ["duplicate"]
    newer = today(2, **receipt | {"event_id": "e-2"}, revision=1, cashier="B")
    assert effects(books.write([newer])) == ["replaced"]
    assert books.read([new.external_ref]) == [newer]
    assert sum(day.gross for day in books.totals()) == newer.gross


def test_sale_of_another_receipt_with_the_same_old_reference_is_left_alone(books: TrytonSink) -> None:
    books.write([before(1, **ARTICLE, **SLASHES)])
    other = today(2, **ARTICLE, revision=1, register="1/2", receipt="3")
    assert books.holds([other.external_ref]) == set()
    assert effects(books.write([other])) == ["written"]
    assert sum(day.gross for day in books.totals()) == 2 * other.gross


@pytest.mark.kafka
def test_topic_of_before_is_read_with_the_references_of_today(kafka: Kafka, topic_name: str, tmp_path: Path) -> None:
    url = f"kafka://{with_transactions(kafka).bootstrap}/{topic_name}?index={tmp_path}"
    first = open_sink(f"{url}/first.db")
    first.check(apply=True)
    first.write([before(1, **SLASHES)])
    first.close()
    second, new = open_sink(f"{url}/second.db"), today(1, **SLASHES)
    assert effects(second.write([new])) == ["duplicate"]
    assert second.read([new.external_ref]) == [new]
    assert effects(second.write([today(2, revision=1, **SLASHES)])) == ["replaced"]
    assert effects(second.write([today(3, register="1/2", receipt="3")])) == ["written"]
    second.close()
