"""The certificate of a store's day as a page to read, print on A4 and file."""

import json
from collections.abc import Iterable
from decimal import Decimal
from html import escape
from itertools import chain, repeat
from typing import Any

from ops.reconcile.certificate_wording import PageWording, wording_of

#: The page contains the certificate that it was rendered from, for `verify`.
JSON_START, JSON_END = '<script type="application/json" id="certificate">', "</script>"
_STYLE = """
@page { size: A4; margin: 18mm 16mm }
:root { --ink: #1a1d21; --soft: #5b636d; --line: #d5d9de; --good: #1b6e3c; --bad: #a3231b; --open: #8a5a00 }
* { box-sizing: border-box }
body { font: 14px/1.45 "Helvetica Neue", Arial, sans-serif; color: var(--ink); max-width: 860px; margin: 2.5em auto;
  padding: 0 1.5em }
header { display: flex; justify-content: space-between; align-items: flex-start; gap: 1em;
  border-bottom: 2px solid var(--ink); padding-bottom: .8em }
h1 { font-size: 1.55em; margin: 0 } h2 { font-size: 1.08em; margin: 1.7em 0 .4em }
p { margin: .3em 0 } .soft { color: var(--soft) }
.state { font-weight: 600; border: 2px solid; border-radius: 4px; padding: .2em .7em; white-space: nowrap }
.good { color: var(--good) } .bad { color: var(--bad) } .open { color: var(--open) }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .28em .9em .28em 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; color: var(--soft) } thead th { border-bottom: 1px solid var(--ink) }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding: .28em 0 .28em .9em }
tr.sum td { font-weight: 600; border-bottom: 1px solid var(--ink) }
td.off { color: var(--bad); font-weight: 600 }
code { font-family: Menlo, Consolas, monospace; font-size: .88em; overflow-wrap: anywhere }
h2, tr { break-inside: avoid } h2 { break-after: avoid }
.signed { display: flex; gap: 3em; margin-top: 3em; break-inside: avoid }
.signed div { flex: 1; border-top: 1px solid var(--ink); padding-top: .3em; color: var(--soft) }
footer { margin-top: 2em; border-top: 1px solid var(--line); padding-top: .6em; font-size: .88em; break-inside: avoid }
@media print { body { margin: 0; padding: 0; max-width: none; font-size: 10.5pt } }
"""


def render_page(certificate: dict[str, Any]) -> str:
    """Render the certificate as HTML for people, with the JSON inside.

    The same certificate always gives the same page: `verify` compares every byte. Certificates of earlier versions keep
    their sections and their words.
    """
    wording = wording_of(certificate)
    day = certificate["found"]
    inside = json.dumps(certificate, ensure_ascii=True).replace("<", "\\u003c")
    store = day["store"] or "(no store)"
    title = f"Store {store}, business day {day['day']}"
    fields = certificate.get("digests", {}).get("of", "")  # version 1 did not say
    accounts = "".join(_account(account, fields, wording) for account in day["accounts"])
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{escape(title)}: {escape(day["state"])}</title>
<style>{_STYLE}</style>
<header>
<div><p class="soft">Tillstream store-day certificate: do tills and ERP agree?</p><h1>{escape(title)}</h1></div>
<div class="state {_colour(day)}">{escape(_state(day))}</div>
</header>
{_about(certificate, wording)}
{_verdict(certificate, wording)}{accounts}
{_differences(day, wording)}
{_dead_letters(day, wording)}
<div class="signed"><div>Place, date</div><div>Name</div><div>Signature</div></div>
<footer>
<p>Signed by {escape(certificate["method"])} with the key <code>{escape(certificate["key"])}</code>:
<code>{escape(certificate["signature"])}</code></p>
<p class="soft"><code>tillstream reconcile verify FILE</code> {wording.proof}</p>
</footer>
{JSON_START}{inside}{JSON_END}
</html>
"""


def _state(day: dict[str, Any]) -> str:
    return str(day["state"]) + (" (reopened)" if day["reopened"] else "")


def _colour(day: dict[str, Any]) -> str:
    if day["differences"]:
        return "bad"
    proved = "books" not in day or (day["books"] == "agree" and day["complete"] and not day.get("without_a_day"))
    return "good" if proved and day["state"] in ("balanced", "signed off") else "open"


def _verdict(certificate: dict[str, Any], wording: PageWording) -> str:
    """Return the answers to both questions: do the books agree, and is everything booked?"""
    day = certificate["found"]
    if "books" not in day:
        return ""
    books = {"agree": "Books agree.", "differ": "Books do not agree.", "not proved": "Not proved."}[day["books"]]
    kind = {"agree": "good", "differ": "bad", "not proved": "open"}[day["books"]]
    rows = [("Do the books agree?", kind, books)]
    if day["records_lost"]:
        unproved = wording.unproved.format(sums=_sums(day["unproved"]) or wording.unproved_count)
        rows.append((wording.unproved_heading, "open", unproved))
    unbooked, resolved, unplaced = _sums(day["unbooked"]), _sums(day["resolved"]), day.get("without_a_day")
    if unbooked:
        rows.append(("Is everything booked?", "bad", f"NOT BOOKED: {unbooked}."))
    elif not day["records_lost"]:
        booked = "Everything else that was sent is booked." if resolved or unplaced else "All that was sent is booked."
        rows.append(("Is everything booked?", "open" if unplaced else "good", booked))
    for status, sums in day["unbooked"]["by_fate"].items():
        rows.append(("", "soft", f"{wording.statuses[status]}: {_sums(sums)}"))
    if resolved:
        rows.append((wording.resolved_heading, "soft", wording.resolved.format(sums=resolved)))
    if unplaced:
        count = len(unplaced["differences"])
        vanished = wording.unplaced_vanished if count == 1 else wording.unplaced_all_vanished
        sums = _sums(unplaced["unbooked"]) or vanished.format(count=count)
        rows.append((wording.unplaced_heading, "open", wording.unplaced.format(sums=sums)))
    cells = "".join(f'<tr><th>{name}</th><td class="{kind}">{escape(text)}</td></tr>' for name, kind, text in rows)
    return f"<h2>Verdict</h2>\n<table>{cells}</table>\n"


def _sums(sums: dict[str, Any]) -> str:
    """Return receipts by currency, and records whose amount is unknown, as text."""
    counts = [(f"{each['gross']} {name} in", each["receipts"], "receipt") for name, each in sums["amounts"].items()]
    counts.append(("", sums["records_of_unknown_amount"], "record of unknown amount|records of unknown amount"))
    counts.append(
        (
            "",
            sums["dead_letters_of_booked_receipts"],
            "dead letter of a receipt that is booked in another "
            "version|dead letters of receipts that are booked in another version",
        )
    )
    parts = []
    for amount, count, noun in counts:
        one, _, many = noun.partition("|")
        if count:
            parts.append(f"{amount} {count} {one if count == 1 else many or one + 's'}".strip())
    return ", ".join(parts)


def _about(certificate: dict[str, Any], wording: PageWording) -> str:
    day = certificate["found"]
    rows = [
        ("Reconciled", f"{_moment(certificate['made_at'])} by {certificate['made_by']}"),
        ("Tills", certificate.get("tills", "")),
        ("ERP", certificate.get("erp", "")),
        (wording.compared, certificate.get("compared", "")),
        ("In this state", wording.state_since.format(since=_moment(day["since"]), by=day["by"])),
        ("Last sale arrived", _moment(day["last_arrival"]) if day["last_arrival"] else ""),
        ("Reason", day["why"]),
    ]
    cells = (f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows if text)
    return f"<h2>{wording.about}</h2>\n<table>{''.join(cells)}</table>"


def _account(account: dict[str, Any], fields: str, wording: PageWording) -> str:
    digest = wording.digest.format(fields=escape(fields)) if fields else wording.digest_of_all
    currency = escape(account["currency"]) or "no currency"
    return f"""<h2>{wording.outcome_heading.format(currency=currency)}</h2>
<table>{_head("", numbers=("events", "gross"))}
{_statuses(account, wording)}</table>
<h2>Totals of the documents ({currency})</h2>
<table>{_head("", numbers=("due by the tills", "in the ERP", "difference"))}
{_totals(account)}</table>
<p class="soft">{digest}: due <code>{escape(str(account["sent"]["digest"]))}</code>,
in the ERP <code>{escape(str(account["erp"]["digest"] or "no document"))}</code>{_accepted(account, wording)}</p>
"""


def _accepted(account: dict[str, Any], wording: PageWording) -> str:
    """Return why the digests may differ although nothing else does."""
    count = account.get("accepted", 0)
    verbs = (
        {"are": "are", "come": "come", "have": "have"} if count > 1 else {"are": "is", "come": "comes", "have": "has"}
    )
    return wording.accepted.format(count=count, **verbs) if count else ""


def _statuses(account: dict[str, Any], wording: PageWording) -> str:
    counts, money = account["by_fate"], account["gross_by_fate"]
    total = sum(map(Decimal, money.values()), Decimal(0))
    html = _row(("sent by the tills", account["events"], total), "sum")
    signs = chain("=", repeat("+"))
    for status, label in wording.statuses.items():
        if status in counts:
            html += _row((f"{next(signs)} {label}", counts[status], money[status]))
    return html


def _totals(account: dict[str, Any]) -> str:
    sides = account["sent"], account["erp"]
    rows = [(name, *(side[name] for side in sides)) for name in ("receipts", "lines", "quantity", "net", "tax")]
    kinds = sorted({*sides[0]["tenders"], *sides[1]["tenders"]})
    rows += [("gross", sides[0]["gross"], sides[1]["gross"])]
    rows += [(f"paid by {kind}", *(side["tenders"].get(kind, "0") for side in sides)) for kind in kinds]
    html = ""
    for name, due, held in rows:
        off = Decimal(held) - Decimal(due)
        text = format(off, "f") if off else ""
        html += _row((name, due, held, text), "sum" if name == "gross" else "", off=bool(off))
    return html


def _differences(day: dict[str, Any], wording: PageWording) -> str:
    differences = day["differences"]
    if not differences:
        if "books" in day:
            unjudged = day["state"] == "open" or day["books"] == "not proved"
            text = wording.no_differences_yet.format(state=day["state"]) if unjudged else "None."
        else:
            unjudged = day["state"] in ("open", "closed")
            text = wording.no_differences_unjudged.format(state=day["state"]) if unjudged else "None."
        return f"<h2>Differences</h2>\n<p>{text}</p>"
    rows = (
        f"<tr><td>{escape(each['kind'])}</td><td><code>{escape(str(each['receipt']))}</code><br>"
        f'<span class="soft">{escape(each["meaning"])}; {escape(each["detail"])}</span></td>'
        f'<td class="n">{_amount(each["sent"])}</td><td class="n">{_amount(each["erp"])}</td></tr>'
        for each in differences
    )
    head = _head("what", "receipt", numbers=("sent", "in the ERP"))
    return f"<h2>Differences: {len(differences)}</h2>\n<table>{head}\n{''.join(rows)}</table>"


def _dead_letters(day: dict[str, Any], wording: PageWording) -> str:
    """Return the dead letters with their reasons, and the missing receipt numbers."""
    html = ""
    if day["dead_letters"]:
        rows = (
            f"<tr><td><code>{escape(each['receipt'] or '(no receipt)')}</code></td>"
            f"<td>{escape(each['letter'].partition(' ')[2])}{_closed(each)}</td>"
            f'<td class="n">{_amount(each["gross"])}</td></tr>'
            for each in day["dead_letters"]
        )
        head = _head("receipt", "reason", numbers=("gross",))
        html += f"<h2>{wording.dead_letters}</h2>\n<table>{head}\n{''.join(rows)}</table>"
    if day["gaps"]:
        gaps = "".join(f"<p>{escape(gap)}</p>" for gap in day["gaps"])
        html += f"\n<h2>{wording.gaps}</h2>\n{gaps}"
    return html


def _closed(letter: dict[str, Any]) -> str:
    """Return who closed the dead letter by hand, and why."""
    if letter.get("fate") not in ("parked", "resolved"):
        return ""
    by = f" by {escape(letter['closed_by'])}" if letter["closed_by"] else ""
    why = f": {escape(letter['closed_why'])}" if letter["closed_why"] else ""
    return f'<br><span class="soft">{letter["fate"]}{by}{why}</span>'


def _head(*texts: str, numbers: Iterable[str]) -> str:
    cells = [f"<th>{name}</th>" for name in texts] + [f'<th class="n">{name}</th>' for name in numbers]
    return f"<thead><tr>{''.join(cells)}</tr></thead>"


def _row(cells: Iterable[Any], kind: str = "", *, off: bool = False) -> str:
    name, *numbers = map(str, cells)
    classes = ["n"] * (len(numbers) - 1) + ["n off" if off else "n"]
    columns = "".join(f'<td class="{one}">{escape(cell)}</td>' for one, cell in zip(classes, numbers, strict=True))
    return f"<tr{f' class={kind}' if kind else ''}><td>{escape(name)}</td>{columns}</tr>\n"


def _amount(amount: str | None) -> str:
    return "" if amount is None else escape(amount)


def _moment(iso: str) -> str:
    return f"{iso[:10]} {iso[11:19]} UTC"
