"""`tillstream reconcile repair`: what a dry run says, what is booked again or taken back, and that it can be undone."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ops.reconcile.repair import RepairResult, _forget, repair
from ops.reconcile.store_day import DayDifference, Kind
from sinks.base import ReferenceSnapshot, SinkMisconfigured
from sinks.sql.sink import SqlSink
from tests.support.reconciliation import DAYS, Desk, Office, ref

ERP_HAS_CHANGED = (
    f"DELETE FROM documents WHERE external_ref = '{ref(2)}'",  # the delivery stays, and so it is remembered
    f"UPDATE documents SET gross = gross + 10000 WHERE external_ref = '{ref(11)}'",
    "INSERT INTO document_payments (external_ref, position, kind, amount) "
    f"VALUES ('{ref(999)}', 1, 'cash', 1000000)",
    *(
        f"DELETE FROM {table} WHERE external_ref = '{ref(2, 'S2')}'"
        for table in ("documents", "deliveries", "document_lines", "document_payments")
    ),
)  # fmt: skip
COLUMNS = {
    "documents": "business_date, event_id, kind, revision, content, source, store, register_id, receipt, occurred_at, "
    "currency, net, tax, rounding, gross, written_at, cashier, customer_id, original_ref",
    "document_lines": "position, sku, description, quantity, unit, unit_price, discount, tax_rate, net, tax, gross",
    "document_payments": "position, kind, amount",
}
COPY = [
    f"INSERT INTO {table} (external_ref, {names}) SELECT '{ref(3)}x', {names} FROM {table} "
    f"WHERE external_ref = '{ref(3)}'"
    for table, names in COLUMNS.items()
]


def kinds(desk: Desk, code: int = 1) -> list[tuple[str, str, str]]:
    """What differs: kind, receipt, and the command that repairs it."""
    days = desk.reconcile("--deep", "--no-save", "--allow-open", code=code)["days"]
    return [(each["kind"], each["receipt"], each["repair"]) for day in days for each in day["differences"]]


def test_every_difference_is_named_and_its_command_repairs_it(desk: Desk) -> None:
    desk.execute(*ERP_HAS_CHANGED, *COPY)
    command = "tillstream reconcile repair"
    s1, s2 = (f"{command} --store {store} --day" for store in ("S1", "S2"))
    assert sorted(kinds(desk)) == [
        ("altered", ref(11), f"{s1} {DAYS[1]} --revoke"),
        ("doubled", f"{ref(3)}x", f"{s1} {DAYS[0]} --revoke"),
        ("missing", ref(2), f"{s1} {DAYS[0]} --revoke"),  # remembered as delivered
        ("missing", ref(2, "S2"), f"{s2} {DAYS[1]}"),
        ("orphaned", ref(999), f"{command} --revoke"),
    ]
    assert desk.run("reconcile", "repair", code=1) == (
        "2 of 5 differences: 1 would be booked, 0 would be dead letters again, 0 would be refused, "
        "0 no longer in the topic "
        "1 document delivered before and deleted in the ERP: --revoke books it again "
        "repaired only with --revoke: 1 altered, 1 doubled, 1 orphaned "
        "this was a dry run: nothing was changed; --apply repairs 1 difference"
    )
    assert desk.run("reconcile", "repair", "--revoke") == (
        "3 of 5 differences: 3 would be booked, 0 would be dead letters again, 0 would be refused, "
        "0 no longer in the topic "
        "1 copy would be taken back 1 leftover without a document would be taken back "
        "this was a dry run: nothing was changed; --apply repairs 5 differences"
    )
    done = desk.run("reconcile", "repair", "--revoke", "--apply")
    said, _, action = done.rpartition(" ")
    assert said == (
        "3 of 5 differences: 3 booked, 0 dead letters again, 0 refused, 0 no longer in the topic "
        "1 copy taken back 1 leftover without a document taken back "
        "4 documents saved in the audit trail first: tillstream reconcile repair --undo"
    )
    assert kinds(desk, code=0) == []
    (entry,) = json.loads(desk.raw("dlq", "audit", "--json"))
    assert (entry["id"], entry["what"], entry["state"], entry["by"]) == (action, "repair", "done", "ada")
    assert entry["options"] == {"store": None, "day": None, "forget": True}


def test_repair_that_is_undone_leaves_what_stands_there_now(desk: Desk) -> None:
    desk.execute(*ERP_HAS_CHANGED, *COPY)
    done = json.loads(desk.raw("reconcile", "repair", "--revoke", "--apply", "--json"))
    action = done.pop("action")
    assert done == {
        "records": 3, "taken_back": 2, "delivered": 3, "remembered": 0, "rejected": 0, "refused": 0, "gone": 0,
        "kept": 4, "changed": 0, "done": True, "reasons": [],
    }  # fmt: skip
    undo = ("reconcile", "repair", "--undo", action)
    would = desk.run(*undo, code=1)
    assert would.startswith("2 of 4 documents would be put back, 0 already in the ERP not put back: ")
    assert would.endswith("this was a dry run: nothing was changed; --apply puts them back")
    left = json.loads(desk.raw(*undo, "--apply", "--json", code=1))
    held = {ref(999): "restored", f"{ref(3)}x": "restored", ref(2): "occupied", ref(11): "occupied"}
    assert left == {"restored": 2, "there": 0, "occupied": 2, "done": True, "lost": [], "receipts": held}
    again = desk.run(*undo, "--apply", code=1)
    assert again.startswith("0 of 4 documents put back, 2 already in the ERP not put back: ")
    assert (
        f"not put back: {ref(11)}: the ERP now holds another document under this reference, or its event under another"
        in again
    )
    assert [kind for kind, *_ in kinds(desk)] == ["orphaned", "doubled"]
    assert "--undo takes back a whole repair" in desk.run(*undo, "--revoke", code=2)
    assert "--undo takes back a whole repair" in desk.run(*undo, "--day", DAYS[0], code=2)
    assert "--undo takes back a whole repair" in desk.run(*undo, "--store", "S1", code=2)
    other = desk.run(*undo, "--sink", f"sqlite:///{desk.folder}/other.sqlite", code=2)
    assert f"repair {action} changed sqlite:" in other
    assert "no repair 20260101-000000-0000 has taken anything back" in desk.run(
        *undo[:-1], "20260101-000000-0000", code=2
    )
    actions = [(each["what"], each["options"]) for each in json.loads(desk.raw("dlq", "audit", "--json"))]
    assert actions[-1] == ("undo", {"repair": action})


def test_what_the_erp_refuses_becomes_a_dead_letter_and_is_left(desk: Desk) -> None:
    desk.execute(  # its lines stay, and are in the way
        f"DELETE FROM documents WHERE external_ref = '{ref(2)}'",
        f"DELETE FROM deliveries WHERE external_ref = '{ref(2)}'",
    )
    would = desk.run("reconcile", "repair", "--store", "S1", "--day", DAYS[0], code=1)
    assert would.startswith("1 of 1 difference: 0 would be booked, 0 would be dead letters again, 1 would be refused, ")
    assert "would be a dead letter: refused_by_sink: " in would
    assert "tillstream dlq list" not in would


def own_letters(desk: Desk, office: Office) -> None:
    """Give the program a dead-letter topic of its own, which is empty."""
    name = f"letters.{desk.said['audit_topic']}"
    office.broker.create_topics([name])
    desk.said["dead_letter_topic"] = name
    desk.config.write_text(json.dumps(desk.said))


def test_record_that_vanished_becomes_a_dead_letter_again(desk: Desk, office: Office) -> None:
    own_letters(desk, office)
    narrowed = ("--store", "S1", "--day", DAYS[1])
    would = desk.run("reconcile", "repair", *narrowed)
    assert would == (
        "1 of 1 difference: 0 would be booked, 1 would be a dead letter again, 0 would be refused, "
        "0 no longer in the topic "
        "would be a dead letter: totals_mismatch: totals.gross: differs_from_lines (1) "
        "this was a dry run: nothing was changed; --apply repairs 1 difference"
    )
    assert desk.run("reconcile", "repair", *narrowed, "--apply") == (
        "1 of 1 difference: 0 booked, 1 dead letter again, 0 refused, 0 no longer in the topic "
        "a dead letter: totals_mismatch: totals.gross: differs_from_lines (1)"
    )
    assert "NOT BOOKED: 9.99 EUR in 1 receipt." in desk.run("reconcile", *narrowed, "--allow-open")


def test_what_is_refused_is_a_dead_letter_afterwards(desk: Desk, office: Office) -> None:
    own_letters(desk, office)
    desk.execute(  # its lines stay, and are in the way
        f"DELETE FROM documents WHERE external_ref = '{ref(2)}'",
        f"DELETE FROM deliveries WHERE external_ref = '{ref(2)}'",
    )
    done = desk.run("reconcile", "repair", "--store", "S1", "--day", DAYS[0], "--apply", code=1)
    assert done.startswith("1 of 1 difference: 0 booked, 0 dead letters again, 1 refused, 0 no longer in the topic ")
    assert done.endswith("the refused records are dead letters now: tillstream dlq list")
    assert "NOT BOOKED: 3.00 EUR in 1 receipt." in desk.run(
        "reconcile", "--store", "S1", "--day", DAYS[0], "--allow-open"
    )


def missing(number: int, place: str, kind: Kind = "missing") -> DayDifference:
    return DayDifference(kind, "S1", DAYS[0], "EUR", ref(number), "", place)


def test_records_that_left_the_topic_are_counted(desk: Desk) -> None:
    found = [missing(1, "1:99"), missing(2, "1:1"), missing(3, ""), missing(4, "1:2", "moved")]
    done = repair(desk.settings, found, save=None)
    assert (done.records, done.gone, done.remembered, done.delivered) == (2, 1, 1, 0)


def test_document_without_its_delivery_is_booked_again_and_is_no_leftover(desk: Desk) -> None:
    desk.execute(f"DELETE FROM deliveries WHERE external_ref = '{ref(3)}'")
    assert [(kind, name) for kind, name, _ in kinds(desk)] == [("orphaned", ref(3))]
    done = json.loads(desk.raw("reconcile", "repair", "--revoke", "--apply", "--json"))
    assert {name: count for name, count in done.items() if count and name != "action"} == {
        "records": 1,
        "delivered": 1,
        "kept": 1,
        "done": True,
    }
    assert kinds(desk, code=0) == []


def test_only_copies_and_parts_of_no_document_are_taken_back_for_good(desk: Desk) -> None:
    found = [missing(1, "1:4", "orphaned"), missing(2, "", "only_in_erp"), missing(3, "", "register")]
    done = repair(desk.settings, found, save=None, forget=True)
    assert (done.records, done.taken_back, done.leftovers, done.kept, done.delivered) == (1, 0, 0, 1, 1)


def test_repair_begins_with_nothing_done() -> None:
    assert RepairResult() == RepairResult(*[0] * 10, reasons=[])


def test_document_that_changes_meanwhile_is_left(desk: Desk) -> None:
    kept: list[str] = []

    def keep(held: Sequence[ReferenceSnapshot]) -> None:
        kept.extend(each.external_ref for each in held)
        desk.execute(f"UPDATE documents SET cashier = 'Bob' WHERE external_ref = '{ref(2)}'")

    differences = [missing(2, "1:1", "altered"), missing(3, "1:2", "altered")]
    done = repair(desk.settings, differences, save=keep, forget=True)
    assert sorted(kept) == [ref(2), ref(3)]
    assert (done.records, done.kept, done.changed, done.delivered) == (2, 2, 1, 1)


def test_sink_that_can_not_forget_says_so() -> None:
    other: Any = object()
    with pytest.raises(SinkMisconfigured, match="can't forget"):
        _forget(other, [ref(1)], None, RepairResult())


def test_sink_is_closed_after_a_repair(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    close = SqlSink.close
    monkeypatch.setattr(SqlSink, "close", lambda sink: (close(sink), closed.append(True)))
    repair(desk.settings, [], save=None, forget=False)
    assert closed == [True]
