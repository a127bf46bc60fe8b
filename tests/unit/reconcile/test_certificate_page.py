"""A certificate's page: each fact that the certificate has is on it, in words."""

from copy import deepcopy
from html import escape
from typing import Any

import pytest

from ops.reconcile.certificate_page import render_page
from ops.reconcile.certificate_wording import FORMAT

NOTHING: dict[str, Any] = {
    "receipts": 0,
    "amounts": {},
    "records_of_unknown_amount": 0,
    "dead_letters_of_booked_receipts": 0,
}
SIDE: dict[str, Any] = {
    "receipts": 2, "lines": 3, "quantity": "4", "net": "5.04", "tax": "0.96", "gross": "6.00",
    "tenders": {"card": "2.00", "cash": "4.00"}, "digest": "d1",
}  # fmt: skip
ACCOUNT: dict[str, Any] = {
    "currency": "EUR", "events": 4, "by_fate": {"dead": 1, "duplicate": 1, "erp": 2},
    "gross_by_fate": {"dead": "9.99", "duplicate": "3.00", "erp": "6.00"}, "sent": SIDE, "erp": SIDE, "agrees": True,
}  # fmt: skip
DAY: dict[str, Any] = {
    "store": "S1", "day": "2026-03-10", "state": "balanced", "since": "2026-03-11T04:05:06+00:00", "by": "ada",
    "why": "", "reopened": False, "last_arrival": "2026-03-10T20:21:22+00:00", "accounts": [ACCOUNT], "books": "agree",
    "complete": True, "unbooked": NOTHING | {"by_fate": {}}, "resolved": NOTHING, "records_lost": False,
    "unproved": NOTHING, "differences": [], "dead_letters": [], "noted": {}, "gaps": [],
}  # fmt: skip
CERTIFICATE: dict[str, Any] = {
    "certificate": FORMAT,
    "made_at": "2026-03-12T07:08:09.123+00:00", "made_by": "bob", "tills": "topic t", "erp": "sqlite:///e",
    "compared": "rows", "digests": {"version": 2, "of": "all fields"}, "method": "Ed25519", "key": "k1",
    "signature": "s1",
}  # fmt: skip


def paged(**changes: Any) -> str:
    """The page of a day like that."""
    return render_page(CERTIFICATE | {"found": deepcopy(DAY) | changes})


def sums(receipts: int = 0, gross: str = "", unknown: int = 0, booked_otherwise: int = 0) -> dict[str, Any]:
    """Sums in euros."""
    amounts = {"EUR": {"receipts": receipts, "gross": gross}} if receipts else {}
    return {
        "receipts": receipts,
        "amounts": amounts,
        "records_of_unknown_amount": unknown,
        "dead_letters_of_booked_receipts": booked_otherwise,
    }


def row(name: str, *numbers: str, kind: str = "", off: bool = False) -> str:
    """A row of a table of numbers."""
    classes = ["n"] * (len(numbers) - 1) + ["n off" if off else "n"]
    cells = "".join(f'<td class="{one}">{each}</td>' for one, each in zip(classes, numbers, strict=True))
    return f"<tr{kind and f' class={kind}'}><td>{name}</td>{cells}</tr>\n"


def test_page_says_what_it_is_about() -> None:
    text = paged()
    for said in (
        "<title>Store S1, business day 2026-03-10: balanced</title>",
        "<h1>Store S1, business day 2026-03-10</h1>",
        '<div class="state good">balanced</div>',
        "<tr><th>Reconciled</th><td>2026-03-12 07:08:09 UTC by bob</td></tr><tr><th>Tills</th><td>topic t</td></tr>"
        "<tr><th>ERP</th><td>sqlite:///e</td></tr><tr><th>Compared in the ERP</th><td>rows</td></tr>"
        "<tr><th>In this state</th><td>since 2026-03-11 04:05:06 UTC, recorded by ada</td></tr>"
        "<tr><th>Last sale arrived</th><td>2026-03-10 20:21:22 UTC</td></tr></table>",
        '<tr><th>Do the books agree?</th><td class="good">Books agree.</td></tr>'
        '<tr><th>Is everything booked?</th><td class="good">All that was sent is booked.</td></tr></table>',
        "<p>Signed by Ed25519 with the key <code>k1</code>:\n<code>s1</code></p>",
        "<h2>Differences</h2>\n<p>None.</p>",
    ):
        assert said in text
    assert "<h2>Dead letters" not in text
    assert "never came" not in text
    text = paged(store="", last_arrival=None, why="agreed <by phone>")
    assert "<h1>Store (no store), business day" in text
    assert "Last sale arrived" not in text
    assert "<tr><th>Reason</th><td>agreed &lt;by phone&gt;</td></tr>" in text


def test_page_has_the_equation_and_the_totals() -> None:
    text = paged()
    equation = [
        row("sent by the tills", "4", "18.99", kind="sum"),
        row("= due in the ERP", "2", "6.00"),
        row("+ duplicates", "1", "3.00"),
        row("+ dead letters", "1", "9.99"),
    ]
    assert (
        f'<th></th><th class="n">events</th><th class="n">gross</th></tr></thead>\n{"".join(equation)}</table>' in text
    )
    totals = [
        row("receipts", "2", "2", ""),
        row("lines", "3", "3", ""),
        row("quantity", "4", "4", ""),
        row("net", "5.04", "5.04", ""),
        row("tax", "0.96", "0.96", ""),
        row("gross", "6.00", "6.00", "", kind="sum"),
        row("paid by card", "2.00", "2.00", ""),
        row("paid by cash", "4.00", "4.00", ""),
    ]
    assert "".join(totals) in text
    digests = "Digest of the documents (all fields): due <code>d1</code>,\nin the ERP <code>d1</code></p>"
    assert digests in text


def test_page_shows_how_far_the_totals_are_apart() -> None:
    held = SIDE | {"receipts": 1, "gross": "5.50", "tenders": {"cash": "4.00", "voucher": "1.50"}, "digest": None}
    text = paged(accounts=[ACCOUNT | {"currency": "", "erp": held}], state="differs", books="differ")
    assert row("receipts", "2", "1", "-1", off=True) in text
    assert row("gross", "6.00", "5.50", "-0.50", kind="sum", off=True) in text
    assert row("paid by card", "2.00", "0", "-2.00", off=True) in text
    assert row("paid by voucher", "0", "1.50", "1.50", off=True) in text
    assert "Events sent by the tills, and their outcome (no currency)" in text
    assert "in the ERP <code>no document</code></p>" in text


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "; 1 of the documents in the ERP comes from another event"),
        (2, "; 2 of the documents in the ERP come from another event"),
    ],
)
def test_page_says_why_digests_may_differ(count: int, said: str) -> None:
    assert said in paged(accounts=[ACCOUNT | {"accepted": count}])


@pytest.mark.parametrize(
    ("changes", "colour", "said"),
    [
        ({}, "good", "balanced"),
        ({"state": "signed off", "reopened": True}, "good", "signed off (reopened)"),
        ({"state": "open"}, "open", "open"),
        ({"complete": False}, "open", "balanced"),
        ({"books": "not proved"}, "open", "balanced"),
        ({"without_a_day": {"unbooked": NOTHING, "differences": [{}]}}, "open", "balanced"),
    ],
)
def test_page_is_green_when_all_is_proved_and_booked(changes: dict[str, Any], colour: str, said: str) -> None:
    assert f'<div class="state {colour}">{said}</div>' in paged(**changes)


@pytest.mark.parametrize(
    ("changes", "cells"),
    [
        ({"books": "differ"}, [("Do the books agree?", "bad", "Books do not agree.")]),
        ({"books": "not proved"}, [("Do the books agree?", "open", "Not proved.")]),
        (
            {"records_lost": True, "unproved": sums(2, "6.00")},
            [("What can't be proved?", "open", "6.00 EUR in 2 receipts, whose records have left the topic.")],
        ),
        (
            {"records_lost": True},
            [("What can't be proved?", "open", "An unknown number of receipts, whose records have left the topic.")],
        ),
        (
            {"unbooked": sums(1, "9.99", 1, 1) | {"by_fate": {"held": sums(1, "9.99"), "waiting": sums(0, "", 2, 3)}}},
            [
                (
                    *("Is everything booked?", "bad"),
                    "NOT BOOKED: 9.99 EUR in 1 receipt, 1 record of unknown amount, 1 dead letter of a receipt that is "
                    "booked in another version.",
                ),
                ("", "soft", "held by a cleaning rule: 9.99 EUR in 1 receipt"),
                (
                    *("", "soft"),
                    "waiting for the worker: 2 records of unknown amount, 3 dead letters of receipts that are booked "
                    "in another version",
                ),
            ],
        ),
        (
            {"resolved": sums(2, "5.00")},
            [("Not to be booked", "soft", "5.00 EUR in 2 receipts, resolved by hand.")],
        ),
        (
            {"without_a_day": {"unbooked": sums(unknown=1), "differences": []}},
            [
                (
                    *("Without a known store or day", "open"),
                    "1 record of unknown amount that arrived on this day and may belong to this store.",
                )
            ],
        ),
        (
            {"without_a_day": {"unbooked": NOTHING, "differences": [{}, {}]}},
            [
                (
                    *("Without a known store or day", "open"),
                    "2 records in neither the ERP nor the dead letters that arrived on this day and may belong to this "
                    "store.",
                )
            ],
        ),
    ],
)
def test_page_answers_both_questions(changes: dict[str, Any], cells: list[tuple[str, str, str]]) -> None:
    text = paged(**changes)
    rows = [f'<tr><th>{name}</th><td class="{kind}">{escape(said)}</td></tr>' for name, kind, said in cells]
    assert "".join(rows) in text
    assert ("Is everything booked?" in text) == ("records_lost" not in changes)


def test_page_lists_differences_dead_letters_and_gaps() -> None:
    difference = {
        "kind": "altered", "meaning": "is another", "receipt": "r<1>", "detail": "line 1", "sent": "3.00", "erp": None
    }  # fmt: skip
    letters = [
        {"receipt": "r2", "letter": "0:1 totals_mismatch", "fate": "dead", "gross": "9.99"},
        {"receipt": "", "letter": "0:2 not_json", "fate": "parked", "gross": None, "closed_by": "ada",
         "closed_why": "later"},
        {"receipt": "r3", "letter": "0:3 resolved", "fate": "resolved", "gross": "1.00", "closed_by": "",
         "closed_why": ""},
    ]  # fmt: skip
    text = paged(differences=[difference], dead_letters=letters, gaps=["register R1: 4", "register R2: 5 to 6"])
    assert (
        '<h2>Differences: 1</h2>\n<table><thead><tr><th>what</th><th>receipt</th><th class="n">sent</th>'
        '<th class="n">in the ERP</th></tr></thead>\n<tr><td>altered</td><td><code>r&lt;1&gt;</code><br>'
        '<span class="soft">is another; line 1</span></td><td class="n">3.00</td><td class="n"></td></tr></table>'
    ) in text
    assert '<div class="state bad">' in text
    assert (
        '<tr><td><code>r2</code></td><td>totals_mismatch</td><td class="n">9.99</td></tr>'
        '<tr><td><code>(no receipt)</code></td><td>not_json<br><span class="soft">parked by ada: later</span></td>'
        '<td class="n"></td></tr>'
        '<tr><td><code>r3</code></td><td>resolved<br><span class="soft">resolved</span></td>'
        '<td class="n">1.00</td></tr>'
    ) in text
    assert text.count("<h2>Dead letters: sent, but not in the ERP</h2>") == 1
    gaps = (
        "<h2>Missing receipt numbers: skipped by the till, or in a record that can't be read</h2>\n"
        "<p>register R1: 4</p><p>register R2: 5 to 6</p>"
    )
    assert gaps in text


def test_page_claims_that_all_was_booked_only_when_it_was() -> None:
    resolved = paged(resolved=sums(1, "6.00"))
    assert '<td class="good">Everything else that was sent is booked.</td>' in resolved
    unreadable = paged(without_a_day={"unbooked": sums(unknown=1) | {"by_fate": {}}, "differences": []})
    assert '<td class="open">Everything else that was sent is booked.</td>' in unreadable
    assert "All that was sent is booked." not in resolved + unreadable
