"""A day's state over time, and what a certificate proves."""

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from ops.reconcile import certificate
from ops.reconcile.certificate_page import render_page
from ops.reconcile.completeness import CurrencySums
from ops.reconcile.day_states import current_state, figures_digest, sign
from ops.reconcile.metrics import ReconciliationSummary, metrics_of, summary_of, write_metrics
from ops.reconcile.render import day_as_json
from ops.reconcile.rows import ReceiptFigures
from ops.reconcile.run import ReconciliationResult
from ops.reconcile.store_day import CurrencyTotals, DayReport
from streams.dead_letters.audit import parse_entries
from streams.dead_letters.day_states import DayStates
from streams.kafka.reader import TopicRecord
from tests.support.events import NOON

LATER = NOON + timedelta(hours=1)
KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key()
BETWEEN = {"tills": "topic pos.sales at kafka:9092", "erp": "sqlite:///erp.db"}


def day(receipts: int = 1, **changes: Any) -> DayReport:
    figures = ReceiptFigures(
        receipts, receipts, Decimal(receipts), Decimal(3), Decimal(0), Decimal(3), {"cash": Decimal(3)}
    )
    account = CurrencyTotals("EUR", {"erp": (receipts, Decimal(3))}, figures, replace(figures))
    return replace(DayReport("S1", "2026-03-10", [account], "balanced"), **changes)


def test_state_stays_since_it_was_found_first() -> None:
    first = current_state(day(), [], NOON, "ada")
    assert current_state(day(), [first], LATER, "bob") is first


def test_states_in_the_audit_topic_are_no_entries_about_letters() -> None:
    states = DayStates(days=[current_state(day(), [], NOON, "ada")])
    assert parse_entries(TopicRecord(0, 0, 0, b"days", states.model_dump_json().encode(), [])) == ()


def test_digest_of_the_erp_that_was_not_asked_for_changes_nothing() -> None:
    deep = day()
    deep.accounts[0].held.digest = "f" * 16
    assert figures_digest(deep) == figures_digest(day())


def test_same_figures_in_other_places_are_the_same() -> None:
    padded = day()
    padded.accounts[0].held.gross = Decimal("3.0000")
    assert figures_digest(padded) == figures_digest(day())


def test_signed_day_stays_signed_until_its_figures_change() -> None:
    signed = sign(day(), NOON, "grace", "")
    assert current_state(day(), [signed], LATER, "ada") is signed
    changed = current_state(day(2), [signed], LATER, "ada")
    assert (changed.state, changed.reopened) == ("balanced", True)
    assert current_state(day(2, state="differs"), [signed, changed], LATER, "ada").reopened
    again = sign(day(2), LATER, "grace", "")
    assert not current_state(day(2), [signed, changed, again], LATER, "ada").reopened


def test_open_day_that_ends_is_not_reopened() -> None:
    opened = current_state(day(state="open"), [], NOON, "ada")
    closed = current_state(day(2, state="balanced"), [opened], LATER, "ada")
    assert (closed.state, closed.reopened) == ("balanced", False)


def certified() -> dict[str, Any]:
    return certificate.issue(
        day_as_json(day(store="<S1>"), current_state(day(), [], NOON, "ada")), NOON, "ada", KEY, **BETWEEN
    )


def test_certificate_and_its_page_are_verified_with_the_key() -> None:
    made = certified()
    for text in (certificate.to_text(made), render_page(made)):
        assert certificate.find_fault(text, PUBLIC) is None
        another = Ed25519PrivateKey.generate().public_key()
        assert "this is " + certificate.key_id(another) in str(certificate.find_fault(text, another))


def test_certificate_that_does_not_say_between_what_is_still_verified() -> None:
    """They did not from the beginning."""
    signed = {name: said for name, said in certified().items() if name not in ("tills", "erp", "signature")}
    found = {name: said for name, said in signed.items() if name not in ("method", "key")}
    signed["signature"] = b64encode(KEY.sign(certificate._signed_bytes(found))).decode()
    for text in (certificate.to_text(signed), render_page(signed)):
        assert certificate.find_fault(text, PUBLIC) is None


@pytest.mark.parametrize("told", ["3.00", "balanced", "pos.sales", "erp.db", "2026-03-10", "ada"])
def test_changed_certificate_is_found(told: str) -> None:
    made = certified()
    for text in (certificate.to_text(made), render_page(made)):
        changed = text.replace(told, "x")
        assert changed != text
        assert certificate.find_fault(changed, PUBLIC) is not None
        first = text.replace(told, "x", 1)  # on a page, what people read
        assert certificate.find_fault(first, PUBLIC) is not None


@pytest.mark.parametrize("made", [certificate.to_text, render_page])
def test_every_character_of_a_certificate_counts(made: Callable[[dict[str, Any]], str]) -> None:
    text = made(certified())
    for place, character in enumerate(text):
        for other in (chr(ord(character) ^ 1), ""):
            assert certificate.find_fault(text[:place] + other + text[place + 1 :], PUBLIC) is not None, text[
                place - 20 :
            ]


def test_field_that_stands_twice_is_found() -> None:
    text = certificate.to_text(certified())
    twice = text.replace('"found": {', '"found": {"state": "differs"}, "found": {', 1)
    assert json.loads(twice) == json.loads(text)
    assert certificate.find_fault(twice, PUBLIC) == "the file contains more or other text than was signed"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "null", '{"signature": 1, "method": "Ed25519", "key": ""}', pytest.param("[" * 99_999, id="deep")],
)
def test_what_is_no_certificate_is_told(text: str) -> None:
    assert certificate.find_fault(text, PUBLIC) is not None


def test_key_is_read_from_pem_and_a_public_one_can_be_had_of_it() -> None:
    private = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert certificate.private_key(private).private_bytes_raw() == KEY.private_bytes_raw()
    assert certificate.public_key(private) == certificate.public_key(public) == PUBLIC


def other_keys() -> list[str]:
    rsa = generate_private_key(65537, 1024)
    return [
        "",
        "a secret of finance",
        "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----",
        KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")).decode(),
        rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    ]


@pytest.mark.parametrize("read", [certificate.private_key, certificate.public_key])
def test_what_is_no_such_key_is_told_and_never_shown(read: Callable[[str], object]) -> None:
    for pem in other_keys():
        with pytest.raises(certificate.InvalidKey) as told:
            read(pem)
        assert not pem or pem not in str(told.value)


def test_metrics_have_a_series_for_every_kind_and_state(tmp_path: Path) -> None:
    path = tmp_path / "tillstream.prom"
    one = day()
    now = {("S1", "2026-03-10"): current_state(one, [], NOON, "ada")}
    write_metrics(summary_of(ReconciliationResult(NOON, [one], None), now), path)
    lines = path.read_text().splitlines()
    assert 'tillstream_reconciliation_differences{kind="missing"} 0.0' in lines
    assert 'tillstream_reconciliation_store_days{state="balanced"} 1.0' in lines
    assert 'tillstream_reconciliation_gross_difference{currency="EUR"} 0.0' in lines
    assert 'tillstream_reconciliation_unbooked_receipts{fate="dead"} 0.0' in lines
    assert 'tillstream_reconciliation_unbooked_gross{currency="EUR"} 0.0' in lines
    assert f"tillstream_reconciliation_timestamp_seconds {NOON.timestamp():.9e}".partition("e")[0] in path.read_text()


def test_metrics_have_what_is_not_booked_of_days_that_are_over_until_they_are_signed_off() -> None:
    left = CurrencySums()
    left.add("EUR", 2, Decimal("4.00"), Decimal("-3.00"))
    left.unknown = 1
    one = day(state="incomplete", unbooked={"dead": left})
    found, signed = ReconciliationResult(NOON, [one], None), sign(one, NOON, "grace", "agreed")
    summary = summary_of(found, {("S1", "2026-03-10"): current_state(one, [], NOON, "ada")})
    assert (summary.unbooked["dead"], summary.unbooked_gross, summary.incomplete) == (3, {"EUR": Decimal(10)}, 1)
    assert not summary.differs
    assert summary_of(found, {("S1", "2026-03-10"): signed}).unbooked_gross == {"EUR": 0}
    still_open = day(state="open", unbooked={"dead": left})
    found, now = ReconciliationResult(NOON, [still_open], None), current_state(still_open, [], NOON, "ada")
    assert summary_of(found, {("S1", "2026-03-10"): now}).unbooked["dead"] == 0


def test_summary_of_before_is_read_and_says_nothing_of_what_is_not_booked() -> None:
    before = {"at": NOON, "differences": {"missing": 0}, "gross_difference": {}, "store_days": {"closed": 1}}
    metrics = metrics_of(ReconciliationSummary.model_validate(before))
    names = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    assert not [name for name in names if "unbooked" in name or "unproved" in name]


def test_unreadable_records_of_the_range_count_as_a_store_day_that_is_incomplete() -> None:
    """The alert asks for those."""
    unplaced = DayReport("", "", [], "incomplete", unbooked={"dead": CurrencySums(unknown=1)})
    summary = summary_of(ReconciliationResult(NOON, [], None, unplaced=unplaced), {})
    assert (summary.store_days["incomplete"], summary.incomplete, summary.unbooked["dead"]) == (1, 1, 1)


def test_summary_differs_if_any_day_has_a_difference() -> None:
    assert not ReconciliationSummary(at=NOON, differences={"missing": 0}, gross_difference={}, store_days={}).differs
    assert ReconciliationSummary(
        at=NOON, differences={"missing": 0, "moved": 1}, gross_difference={}, store_days={}
    ).differs


def test_every_number_of_a_summary_has_its_series() -> None:
    numbers = {name: {"EUR": Decimal(place)} for place, name in enumerate(("gross_difference", "unbooked_gross"), 1)}
    summary = ReconciliationSummary(
        at=NOON, differences={"missing": 1}, store_days={"differs": 2}, unbooked={"dead": 3}, unproved={"EUR": 4},
        unproved_gross={"EUR": Decimal(5)}, **numbers,
    )  # fmt: skip
    metrics = metrics_of(summary)
    assert {
        sample.name.removeprefix("tillstream_reconciliation_"): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.value and "timestamp" not in sample.name
    } == {
        "differences": 1, "store_days": 2, "gross_difference": 1, "unbooked_receipts": 3, "unbooked_gross": 2,
        "unproved_receipts": 4, "unproved_gross": 5,
    }  # fmt: skip


def test_signature_with_other_characters_than_base64_has_is_no_signature() -> None:
    made = certified()
    text = certificate.to_text(made)
    assert (
        certificate.find_fault(text.replace(made["signature"], f"!{made['signature']}"), PUBLIC) == "not a certificate"
    )
