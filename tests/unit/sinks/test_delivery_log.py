"""The delivery ledger says what became of documents, and can be rebuilt."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from sinks.base import SinkMisconfigured, SinkUnavailable
from sinks.erp.delivery_log import DEFAULT_URL, DeliveryEntry, DeliveryLog, split_ledger


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the ledger is."""
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(file: Path) -> Iterator[DeliveryLog]:
    """An empty ledger."""
    ledger = DeliveryLog(make_url(f"sqlite:///{file}"), "erp")
    yield ledger
    ledger.close()


def test_attempt_makes_a_document_new_and_counts(ledger: DeliveryLog) -> None:
    ledger.attempt([("a", 0), ("b", 1)])
    ledger.attempt([("a", 0)])
    assert ledger.find(["b", "a", "z"]) == [
        DeliveryEntry("a", 0, "new", attempts=2),
        DeliveryEntry("b", 1, "new", attempts=1),
    ]


def test_attempt_takes_no_state_back(ledger: DeliveryLog) -> None:
    ledger.note([DeliveryEntry("a", 0, "posted", "N-1")])
    ledger.attempt([("a", 0)])
    assert ledger.find(["a"]) == [DeliveryEntry("a", 0, "posted", "N-1", attempts=1)]


def test_note_overwrites_all_but_the_attempts(ledger: DeliveryLog) -> None:
    ledger.attempt([("a", 0)])
    ledger.fail(["a"], "connection")
    assert ledger.with_errors("new") == [DeliveryEntry("a", 0, "new", attempts=1, last_error="connection")]
    ledger.note([DeliveryEntry("a", 1, "confirmed", "N-1")])
    assert ledger.find(["a"]) == [DeliveryEntry("a", 1, "confirmed", "N-1", attempts=1)]
    assert ledger.with_errors("confirmed") == []


def test_rebuilt_ledger_says_what_the_erp_holds_and_keeps_the_refused(ledger: DeliveryLog) -> None:
    ledger.attempt([("lost", 0), ("a", 0), ("healed", 0), ("bad", 0)])
    ledger.note(
        [DeliveryEntry("bad", 0, "refused", last_error="no"), DeliveryEntry("healed", 0, "refused", last_error="no")]
    )
    ledger.rebuild(
        [DeliveryEntry(f"e-{n}", 0, "posted", str(n)) for n in range(1200)]
        + [DeliveryEntry("healed", 1, "confirmed", "7")]
    )
    assert ledger.counts() == {"posted": 1200, "confirmed": 1, "refused": 1}
    assert ledger.find(["lost", "healed"]) == [DeliveryEntry("healed", 1, "confirmed", "7", attempts=1)]


def test_two_erps_share_a_database(ledger: DeliveryLog, file: Path) -> None:
    other = DeliveryLog(make_url(f"sqlite:///{file}"), "other")
    other.note([DeliveryEntry("a", 0, "posted")])
    ledger.note([DeliveryEntry("a", 0, "refused")])
    other.rebuild([])
    assert (ledger.counts(), other.counts()) == ({"refused": 1}, {})
    other.close()


def test_ledger_that_cannot_be_opened_is_sink_unavailable(tmp_path: Path) -> None:
    ledger = DeliveryLog(make_url(f"sqlite:///{tmp_path}/nowhere/ledger.sqlite"), "erp")
    with pytest.raises(SinkUnavailable) as caught:
        ledger.counts()
    assert caught.value.kind == "ledger"
    ledger.close()


def test_url_names_the_ledger() -> None:
    sink, ledger = split_ledger(make_url("tryton+http://u@h/db?ledger=sqlite:////var/l.sqlite&point=Main"))
    assert (str(sink), str(ledger)) == ("tryton+http://u@h/db?point=Main", "sqlite:////var/l.sqlite")
    assert str(split_ledger(make_url("tryton+http://h/db"))[1]) == DEFAULT_URL


@pytest.mark.parametrize("ledger", ["nonsense", "mysql://h/db", "postgresql://u:secret@h/db"])
def test_url_of_no_ledger_is_told(ledger: str) -> None:
    with pytest.raises(SinkMisconfigured):
        split_ledger(make_url("tryton+http://h/db").update_query_dict({"ledger": ledger}))
