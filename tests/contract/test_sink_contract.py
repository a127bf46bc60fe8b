"""What every sink promises about documents, events and revisions: one suite, run on each of them."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from sqlalchemy import column, create_engine, select, table

from schemas.dead_letter import Reason
from schemas.document import DocumentPayment, ErpDocument, TaxTotal
from sinks.base import (
    Accepted,
    DocumentDigest,
    ReferenceSnapshot,
    Refused,
    Result,
    Sink,
    StoreDay,
    SupportsContentComparison,
    SupportsDeliveryHistory,
    SupportsRevoke,
)
from sinks.digests import added, in_digits, personal_print_of, print_of
from sinks.sql.sink import SqlSink
from sinks.sql.tables import ExactDecimal, deliveries
from sinks.storable import AMOUNT_PLACES, FINE_PLACES
from tests.support.documents import document, documents, line, sum_of


def effects(results: list[Result]) -> list[str]:
    """A word for each result: its effect, or the reason of its refusal."""
    return [result.effect if isinstance(result, Accepted) else result.reason.value for result in results]


def test_a_document_is_held_as_it_was_written(sink: Sink) -> None:
    written = document(lines=[line(1), line(2, "-1.00", "-0.07", tax_rate=Decimal(7))], original_ref="pos/S1/R1/0/sale")
    assert sink.write([written]) == [Accepted(written.event_id, "written")]
    assert sink.read([written.external_ref]) == [written]


def test_write_of_nothing(sink: Sink) -> None:
    assert sink.write([]) == []


def test_results_come_in_the_order_of_the_documents(sink: Sink) -> None:
    batch = documents(20)[::-1]
    assert [result.event_id for result in sink.write(batch)] == [d.event_id for d in batch]


def test_same_event_twice_is_written_once(sink: Sink) -> None:
    assert effects(sink.write([document()])) == ["written"]
    assert effects(sink.write([document()])) == ["duplicate"]
    assert [day.documents for day in sink.totals()] == [1]


def test_a_batch_that_overlaps_with_an_earlier_one_adds_only_the_rest(sink: Sink) -> None:
    sink.write(documents(3))
    assert effects(sink.write(documents(5))) == ["duplicate"] * 3 + ["written"] * 2
    assert [day.documents for day in sink.totals()] == [5]


def test_rehearsal_answers_as_the_write_would_and_keeps_nothing(sink: Sink) -> None:
    sink.write([document(1, 0), document(2, 1)])
    others = [document(1, 0), document(1, 0, event_id="e-8"), document(2, 2), document(3, cashier="\0"), document(4)]
    told = [sink.rehearse([d])[0] for d in others]
    assert effects(told) == ["duplicate", "conflicting_receipt", "replaced", "refused_by_sink", "written"]
    assert [sink.rehearse([d])[0] for d in others] == told
    assert [result.event_id for result in sink.rehearse(documents(9)[::-1])] == [d.event_id for d in documents(9)[::-1]]
    assert sink.read([d.external_ref for d in others]) == [document(1, 0), document(2, 1)]
    assert [sink.write([d])[0] for d in others] == told


def test_conflict_is_rehearsed_and_not_remembered(sink: Sink) -> None:
    sink.write([document(1, 0)])
    other = document(1, 0, event_id="e-8", lines=[line(1, "5.00", "0.95")])
    assert effects(sink.rehearse([other])) == ["conflicting_receipt"]
    sink.write([document(1, 1)])
    assert effects(sink.write([other])) == ["superseded"]


def test_what_is_held_is_known(sink: Sink) -> None:
    sink.write(documents(3))
    refs = [d.external_ref for d in documents(5)]
    assert sink.holds(refs) == set(refs[:3])
    assert sink.holds([]) == set()


def test_newer_revision_replaces(sink: Sink) -> None:
    newer = document(1, 1, lines=[line(1, "5.00", "0.95")])
    sink.write([document(1, 0)])
    assert effects(sink.write([newer])) == ["replaced"]
    assert sink.read([newer.external_ref]) == [newer]


def test_replaced_documents_leave_no_old_lines(sink: Sink) -> None:
    longer = document(1, 0, lines=[line(1), line(2), line(3, tax_rate=Decimal(7))])
    shorter = document(1, 1, lines=[line(2)], payments=[])
    sink.write([longer, document(2)])
    sink.write([shorter])
    assert sink.read([shorter.external_ref]) == [shorter]
    assert [day.lines for day in sink.totals()] == [2]


def test_older_revision_is_superseded(sink: Sink) -> None:
    newer = document(1, 2)
    sink.write([newer])
    assert effects(sink.write([document(1, 1)])) == ["superseded"]
    assert effects(sink.write([document(1, 1)])) == ["duplicate"]
    assert sink.read([newer.external_ref]) == [newer]


def test_same_id_other_content_is_refused_as_conflicting_duplicate(sink: Sink) -> None:
    first = document(1)
    sink.write([first])
    (refusal,) = sink.write([document(1, lines=[line(1, "8.40", "1.60")])])
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.CONFLICTING_DUPLICATE
    assert sink.read([first.external_ref]) == [first]


def test_same_revision_other_content_is_refused_as_conflicting_receipt(sink: Sink) -> None:
    first = document(1)
    other = document(1, event_id="pos:another", lines=[line(1, "8.40", "1.60")])
    sink.write([first])
    (refusal,) = sink.write([other])
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.CONFLICTING_RECEIPT
    assert sink.read([first.external_ref]) == [first]


def test_a_refused_event_may_come_again_corrected(sink: Sink) -> None:
    other = document(1, event_id="pos:another", lines=[line(1, "8.40", "1.60")])
    sink.write([document(1)])
    sink.write([other])
    assert effects(sink.write([replace(other, revision=1)])) == ["replaced"]


def test_a_conflict_stays_one_when_a_newer_revision_has_come(sink: Sink) -> None:
    """After a crash records are read again: a conflict that nobody has been told of must not pass for superseded."""
    other = document(1, event_id="pos:another", lines=[line(1, "8.40", "1.60")])
    sink.write([document(1)])
    assert effects(sink.write([other])) == ["conflicting_receipt"]
    sink.write([document(1, 1)])
    assert effects(sink.write([other])) == ["conflicting_receipt"]
    assert effects(sink.write([document(2, event_id="pos:another")])) == ["written"]
    assert effects(sink.write([other])) == ["conflicting_receipt"]
    assert effects(sink.write([document(2, event_id="pos:another", cashier="Bob")])) == ["conflicting_duplicate"]


def test_another_event_with_the_same_receipt_and_content_is_a_duplicate(sink: Sink) -> None:
    first = document(1)
    again = replace(first, event_id="pos:another")
    sink.write([first])
    assert effects(sink.write([again])) == ["duplicate"]
    assert sink.read([first.external_ref]) == [first]


def test_what_an_event_said_is_known_after_its_document_was_replaced(sink: Sink) -> None:
    first, second = document(1, 0), document(1, 1)
    sink.write([first])
    sink.write([second])
    assert effects(sink.write([first])) == ["duplicate"]
    assert effects(sink.write([replace(first, content="other")])) == ["conflicting_duplicate"]
    assert sink.read([first.external_ref]) == [second]


def test_what_a_superseded_event_said_is_known(sink: Sink) -> None:
    sink.write([document(1, 1)])
    sink.write([document(1, 0)])
    assert effects(sink.write([replace(document(1, 0), content="other")])) == ["conflicting_duplicate"]


def test_content_counts_and_not_the_document(sink: Sink) -> None:
    """A setting may have changed what an event becomes, and two events may differ in what no document holds."""
    first = document(1)
    sink.write([first])
    assert effects(sink.write([replace(first, business_date=date(2026, 3, 11))])) == ["duplicate"]
    assert effects(sink.write([replace(first, content="another e-mail address")])) == ["conflicting_duplicate"]
    assert sink.read([first.external_ref]) == [first]


def test_each_document_of_a_batch_gets_its_own_result(sink: Sink) -> None:
    sink.write([document(1), document(2, 0), document(3, 5), document(4)])
    conflict = document(4, event_id="pos:another", cashier="Bob")
    batch = [document(1), document(2, 1), document(3, 4), conflict, document(5)]
    expected = ["duplicate", "replaced", "superseded", "conflicting_receipt", "written"]
    assert effects(sink.write(batch)) == expected


def test_each_delivery_tells_its_effect(sql_sink: Sink, sql_url: str) -> None:
    sql_sink.write([document(1), document(2, 0), document(3, 5)])
    conflict = document(1, event_id="pos:conflict", cashier="Bob")
    sql_sink.write([document(2, 1), document(3, 4), conflict, document(4)])
    sql_sink.write([document(2, 1), replace(document(1), event_id="pos:again")])
    engine = create_engine(sql_url)
    with engine.connect() as connection:
        rows = connection.execute(select(deliveries.c.event_id, deliveries.c.effect).order_by(deliveries.c.event_id))
        assert [tuple(row) for row in rows] == [
            ("pos:again", "duplicate"),
            ("pos:e-1-0", "written"),
            ("pos:e-2-0", "written"),
            ("pos:e-2-1", "replaced"),
            ("pos:e-3-4", "superseded"),
            ("pos:e-3-5", "written"),
            ("pos:e-4-0", "written"),
        ]
    engine.dispose()


def test_tax_totals_can_be_selected(sql_sink: Sink, sql_url: str) -> None:
    lines = [line(1), line(2, "1.00", "0.07", tax_rate=Decimal(7)), line(3), line(4, tax_rate=Decimal("19.00"))]
    written = [document(1, lines=lines), document(2)]
    sql_sink.write(written)
    sums = [column(name, ExactDecimal(AMOUNT_PLACES)) for name in ("net", "tax", "gross")]
    taxes = table("document_taxes", column("external_ref"), column("tax_rate", ExactDecimal(FINE_PLACES)), *sums)
    engine = create_engine(sql_url)
    with engine.connect() as connection:
        rows = connection.execute(select(taxes).order_by(taxes.c.external_ref, taxes.c.tax_rate)).all()
    engine.dispose()
    held = [(ref, TaxTotal(*total)) for ref, *total in rows]
    assert held == [(d.external_ref, total) for d in written for total in d.taxes]


def test_more_documents_than_a_transaction_takes_land_all(sql_sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqlSink, "max_batch", 7)
    assert [result.event_id for result in sql_sink.write(documents(20))] == [d.event_id for d in documents(20)]
    assert [day.documents for day in sql_sink.totals()] == [20]


def test_refused_document_keeps_nobody_back(sink: Sink) -> None:
    batch = documents(20)
    for place in (0, 7, 8, 19):
        batch[place] = replace(batch[place], cashier="secret\0name")
    results = sink.write(batch)
    refused = [place for place, result in enumerate(results) if isinstance(result, Refused)]
    assert refused == [0, 7, 8, 19]
    assert {result.reason for result in results if isinstance(result, Refused)} == {Reason.REFUSED_BY_SINK}
    assert "secret" not in repr(results)
    assert [day.documents for day in sink.totals()] == [16]


def test_two_writers_at_once_give_one_document(sink: Sink) -> None:
    for first in range(1, 101, 10):
        batch = documents(10, first=first)
        together = threading.Barrier(2)

        def write(order: int, batch: list[ErpDocument] = batch, together: threading.Barrier = together) -> list[Result]:
            together.wait()
            return sink.write(batch[::order])[::order]

        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(write, [1, -1])
        pairs = [sorted(pair) for pair in zip(effects(one), effects(other), strict=True)]
        assert pairs == [["duplicate", "written"]] * 10
    assert [day.documents for day in sink.totals()] == [100]


def test_two_writers_at_once_refuse_the_same_conflicts(sink: Sink) -> None:
    sink.write(documents(20))
    others = [document(n, event_id=f"pos:other-{n}", cashier="Bob") for n in range(1, 21)]
    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(sink.write, [others] * 4):
            assert effects(results) == ["conflicting_receipt"] * 20


def test_two_revisions_at_once_leave_the_newer(sink: Sink) -> None:
    for number in range(1, 21):
        older, newer = document(number, 0), document(number, 1, cashier="Bob")
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(sink.write, [[older], [newer]]))
        assert [effects(result)[0] for result in results] in (["written", "replaced"], ["superseded", "written"])
        assert sink.read([newer.external_ref]) == [newer]


def test_totals_equal_an_independent_sum(sink: Sink) -> None:
    days = [date(2026, 3, 9), date(2026, 3, 10)]
    batch = [
        document(number, store=f"S{number % 3}", business_date=days[number % 2], lines=[line(1, "0.10", "0.02")] * 1)
        for number in range(1, 30)
    ]
    sink.write(batch)
    for store in (None, "S0", "S2", "nowhere"):
        for day in (None, days[0], date(2020, 1, 1)):
            wanted = [d for d in batch if store in (None, d.store) and day in (None, d.business_date)]
            keys = sorted({(d.store, d.business_date, d.currency) for d in wanted})
            expected = []
            for key in keys:
                held = [d for d in wanted if (d.store, d.business_date, d.currency) == key]
                sums = [sum_of(held, name) for name in ("net", "tax", "gross")]
                quantity = sum_of([line for d in held for line in d.lines], "quantity")
                tenders = {"card": sum_of([payment for d in held for payment in d.payments], "amount")}
                expected.append(StoreDay(*key, len(held), sum(len(d.lines) for d in held), *sums, quantity, tenders))
            assert sink.totals(store, day) == expected


def test_tenders_of_a_day_are_summed_by_kind(sink: Sink) -> None:
    mixed = [
        DocumentPayment("cash", Decimal("5.00")),
        DocumentPayment("cash", Decimal("-3.00")),
        DocumentPayment("card", Decimal("1.00")),
    ]
    sink.write([document(1, payments=mixed), document(2)])
    assert [day.tenders for day in sink.totals()] == [{"card": Decimal("4.00"), "cash": Decimal("2.00")}]


def test_digest_of_a_day_is_the_sum_of_its_documents_prints(sink: Sink) -> None:
    reduced = line(2, "1.00", "0.07", quantity=Decimal(2), tax_rate=Decimal(7))
    assert_prints(sink, [*documents(3), document(4, lines=[line(), reduced]), document(6, store="S2")])


def test_digest_counts_signs_places_and_what_is_empty(store: Sink) -> None:
    odd = line(2, "-0.0100", "0", quantity=Decimal("-0.125"), sku="Ä|b")
    assert_prints(store, [document(4, lines=[line(), odd]), document(5, lines=[], payments=[])])


def assert_prints(sink: Sink, batch: list[ErpDocument]) -> None:
    """Writes the batch, of one day, and compares what the sink says of it."""
    assert effects(sink.write(batch)) == ["written"] * len(batch)
    for day in sink.totals(deep=True):
        of_day = [d for d in batch if d.store == day.store]
        assert day.digest == in_digits(added(map(print_of, of_day)))
        assert day.personal == in_digits(added(map(personal_print_of, of_day)))
        assert day.unremembered == 0
        expected = [
            DocumentDigest(
                *(d.external_ref, d.event_id, d.revision, d.content, d.currency, d.gross),
                in_digits(print_of(d)),
                in_digits(personal_print_of(d)),
            )
            for d in of_day
        ]
        assert sink.prints(day.store, day.business_date) == expected
    assert sink.prints("S1", date(2020, 1, 1)) == []


def test_digest_follows_the_newest_revision(sink: Sink) -> None:
    newer = document(1, 1, lines=[line(1, "5.00", "0.95")])
    sink.write([document(1)])
    sink.write([newer])
    assert [day.digest for day in sink.totals(deep=True)] == [in_digits(print_of(newer))]


def test_sink_remembers_what_it_did_with_an_event_and_when(remembering: Sink) -> None:
    sink = remembering
    assert isinstance(sink, SupportsDeliveryHistory)
    before = datetime.now(UTC)
    for each in (document(1, 1), document(1), document(2), document(2, 3)):
        sink.write([each])
    found = sink.deliveries(["pos:e-1-1", "pos:e-1-0", "pos:e-2-3", "pos:e-9-0"])
    assert [(each.event_id, each.external_ref, each.revision, each.effect) for each in found] == [
        ("pos:e-1-1", "pos/S1/R1/1/sale", 1, "written"),
        ("pos:e-1-0", "pos/S1/R1/1/sale", 0, "superseded"),
        ("pos:e-2-3", "pos/S1/R1/2/sale", 3, "replaced"),
    ]
    assert all(before <= each.at <= datetime.now(UTC) for each in found)


def test_what_has_left_for_elsewhere_can_not_be_forgotten(sink: Sink, request: pytest.FixtureRequest) -> None:
    tables = ("memory", "sqlite", "postgres")
    assert isinstance(sink, SupportsRevoke) == (request.node.callspec.params["sink"] in tables)


def test_forgotten_document_is_new_when_it_comes_again(forgetful: Sink) -> None:
    sink = forgetful
    assert isinstance(sink, SupportsRevoke)
    first, second = document(1), document(2)
    sink.write([first, second])
    assert sink.forget(sink.keep([first.external_ref, "pos/S1/R1/9/sale"])) == []
    assert sink.read([first.external_ref, second.external_ref]) == [second]
    assert effects(sink.write([first, second])) == ["written", "duplicate"]
    assert sink.read([first.external_ref]) == [first]


def through_json(kept: list[ReferenceSnapshot]) -> list[ReferenceSnapshot]:
    return [ReferenceSnapshot(each.external_ref, json.loads(json.dumps(each.rows))) for each in kept]


def test_forgotten_document_is_put_back_as_it_was_and_once(forgetful: Sink) -> None:
    sink = forgetful
    assert isinstance(sink, SupportsRevoke)
    assert isinstance(sink, SupportsDeliveryHistory)
    personal = {"customer_id": "C-1", "cashier": "Ada", "mapping": "m@1", "review": "late"}
    older, newer = document(1), document(1, 1, lines=[line(sku="a|b"), line(2, cost=Decimal("0.5"))], **personal)
    sink.write([older])
    sink.write([newer])
    before = sink.totals(deep=True), sink.deliveries([older.event_id, newer.event_id])
    kept = through_json(sink.keep([newer.external_ref]))
    assert sink.restore(kept) == {newer.external_ref: "there"}
    assert sink.forget(kept) == []
    assert (sink.keep([newer.external_ref]), sink.forget(kept)) == ([], [])
    assert sink.restore(kept, rehearse=True) == {newer.external_ref: "restored"}
    assert sink.read([newer.external_ref]) == []
    assert sink.restore(kept) == {newer.external_ref: "restored"}
    assert sink.restore(kept) == {newer.external_ref: "there"}
    assert sink.read([newer.external_ref]) == [newer]
    assert (sink.totals(deep=True), sink.deliveries([older.event_id, newer.event_id])) == before
    assert effects(sink.write([newer])) == ["duplicate"]


def test_document_is_not_put_back_where_something_else_is_held_now(forgetful: Sink) -> None:
    sink = forgetful
    assert isinstance(sink, SupportsRevoke)
    first, second = document(1), document(2)
    sink.write([first, second])
    kept = sink.keep([first.external_ref, second.external_ref])
    sink.forget(kept)
    other = replace(first, event_id="pos:other", lines=[line(sku="Z")])
    elsewhere = replace(second, external_ref="pos/S1/R1/9/sale")
    sink.write([other, elsewhere])
    assert set(sink.restore(kept).values()) == {"occupied"}
    assert sink.read([first.external_ref, second.external_ref]) == [other]


def test_document_that_has_changed_since_it_was_kept_is_not_forgotten(forgetful: Sink) -> None:
    sink = forgetful
    assert isinstance(sink, SupportsRevoke)
    sink.write([document(1), document(2)])
    kept = sink.keep([document(1).external_ref, document(2).external_ref])
    sink.write([document(1, 1)])
    assert sink.forget(kept) == [document(1).external_ref]
    assert sink.read([each.external_ref for each in kept]) == [document(1, 1)]


def test_totals_of_the_largest_values_are_exact(sql_sink: Sink) -> None:
    """Twelve of them exceed 64 bits."""
    most, many = Decimal("999999999999.9999"), Decimal("999999999999.999999")
    largest = [
        document(number, gross=most, net=most, tax=Decimal(0), lines=[line(quantity=many)], payments=[])
        for number in range(1000)
    ]
    assert all(isinstance(result, Accepted) for result in sql_sink.write(largest))
    (day,) = sql_sink.totals()
    assert (day.gross, day.quantity) == (most * 1000, many * 1000)


def test_totals_of_currencies_stay_apart_and_have_their_places(store: Sink) -> None:
    yen = document(2, currency="JPY", lines=[line(1, "500", "50")])
    store.write([document(1), yen, document(3, currency="BHD", lines=[line(1, "1.234", "0.001")])])
    assert [(day.currency, str(day.gross)) for day in store.totals("S1")] == [
        ("BHD", "1.235"),
        ("EUR", "3.00"),
        ("JPY", "550"),
    ]


def test_a_document_without_lines_and_payments_counts(store: Sink) -> None:
    empty = document(lines=[], payments=[])
    store.write([empty])
    assert store.read([empty.external_ref]) == [empty]
    assert [(day.documents, day.lines, day.quantity, day.tenders) for day in store.totals()] == [(1, 0, 0, {})]


def test_sink_says_what_its_digests_are_made_of(sink: Sink, request: pytest.FixtureRequest) -> None:
    assert isinstance(sink, SupportsContentComparison) == (request.node.callspec.params["sink"] != "jsonlines")


def test_a_sink_in_order_pings_and_has_no_complaints(sink: Sink) -> None:
    sink.ping()
    assert [finding for finding in sink.check() if not finding.ok] == []
