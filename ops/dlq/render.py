"""Dead letters on the screen: tables, and one letter whole. Personal data are stars unless they may be shown."""

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ops.dlq.stats import common_details, stats
from schemas.dead_letter import Reason
from schemas.sale import OriginalReceipt, ReceiptTotals
from streams.dead_letters.audit import AuditAction, AuditOutcome, ResolutionIndex
from streams.dead_letters.header import DeadLetterHeader, printable
from streams.dead_letters.record import CONNECT, OWN
from streams.kafka.reader import TopicRecord
from streams.privacy.detection import by_value
from streams.privacy.masking import STARS, TextMask, texts
from streams.sources.canonical import RecordSource
from streams.sources.formats import UnreadableRecord
from streams.sources.source import part_as_text

_HIDDEN = "(not shown: it may hold personal data; see --reveal)"


def advice(reason: str) -> tuple[str, str]:
    """Return the meaning of a reason and its remedy."""
    if reason in list(Reason):
        known = Reason(reason)
        return known.meaning, known.advice
    return "Another program put this record here.", "Look at its headers; then park or resolve it."


def table_console() -> Console:
    """Where tables go: as wide as the terminal; into a pipe or a file without folding."""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}  # what tills say is no markup
    console = Console(**plain)
    return console if console.is_terminal else Console(width=_WIDE, **plain)


_WIDE = 240


def report_stats(letters: Sequence[DeadLetterHeader], now: datetime) -> None:
    """Print the sums."""
    console = table_console()
    if not letters:
        console.print("no open dead letters")
        return
    found = stats(letters, now)
    console.print(
        f"{letters_of(found['open'], 'open dead letter')}, the oldest of {found['oldest']}, {_money(found['money'])}"
    )
    for name in ("reason", "store", "source", "day"):
        groups = found["by"][name]
        if len(groups) == 1 and name != "reason":
            continue
        table = Table(name, *_COLUMNS, title_justify="left", box=None, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        for group in groups[:15]:
            table.add_row(
                group["name"],
                f"{group['letters']:,}",
                _amounts(group["money"]),
                f"{group['last_day']:,}",
                f"{group['day_before']:,}",
                str(group["oldest"])[:16].replace("T", " "),
            )
        if len(groups) > 15:
            table.add_row(f"… and {len(groups) - 15:,} more", *[""] * 5)
        console.print()
        console.print(table)
    console.print()
    table = Table("said most often", "letters", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for reason, detail, count in common_details(letters):
        table.add_row(f"{reason}: {detail}", f"{count:,}")
    console.print(table)


_COLUMNS = ("letters", "money at stake", "last 24 h", "24 h before", "oldest")


def report_list(letters: Sequence[DeadLetterHeader], ledger: ResolutionIndex, most: int) -> None:
    """Print a line for each letter."""
    console = table_console()
    if not letters:
        console.print("no such dead letters")
        return
    table = Table("place", "last failed", "tries", "reason", "detail", "store", "receipt", "amount", "", box=None)
    for head in letters[:most]:
        done = ledger.last_outcome(head)
        table.add_row(
            head.location,
            f"{head.last_failed:%Y-%m-%d %H:%M:%S}",
            str(head.attempts),
            head.reason,
            head.detail,
            head.store,
            "/".join(head.receipt.split("/")[2:-1]),
            f"{head.amount:f} {head.currency}" if head.amount is not None else "",
            done.end if done is not None else "",
        )
    console.print(table)
    if len(letters) > most:
        console.print(f"… and {len(letters) - most:,} more; narrow the filter, or --limit")


def report_audit(actions: Sequence[AuditAction]) -> None:
    """Print a line for each action."""
    console = table_console()
    if not actions:
        console.print("nothing was done about dead letters yet")
        return
    table = Table("id", "by", "what", "state", "which", "came of it", "why", box=None)
    for action in actions:
        which = "; ".join(f"{name} {_listed(value)}" for name, value in _meant(action).items()) or "all"
        counts = ", ".join(f"{count:,} {end}" for end, count in action.counts.items())
        patch = " (patched)" if action.patch is not None else ""
        table.add_row(action.id, action.by, action.what + patch, action.state, which, counts, action.reason)
    console.print(table)


def _meant(action: AuditAction) -> dict[str, Any]:
    """Return the scope of the action: a filter of dead letters, or the store and day of a repair."""
    if action.what not in ("repair", "undo"):
        return action.filter
    return {name: value for name, value in action.options.items() if name in ("store", "day", "repair") and value}


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def row(head: DeadLetterHeader, ledger: ResolutionIndex) -> dict[str, Any]:
    """Return a letter as JSON, without what its record says."""
    done = ledger.last_outcome(head)
    return {
        "place": head.location,
        "origin": str(head.origin),
        "reason": head.reason,
        "detail": head.detail,
        "stage": head.stage,
        "attempts": head.attempts,
        "first_failed_at": head.first_failed.isoformat(),
        "last_failed_at": head.last_failed.isoformat(),
        "event_id": head.event_id,
        "source": head.source,
        "store": head.store,
        "receipt": head.receipt,
        "amount": None if head.amount is None else f"{head.amount:f}",
        "currency": head.currency,
        "versions": head.versions,
        "truncated": head.truncated,
        "done": done.end if done is not None else None,
    }


def value_of(record: TopicRecord, source: RecordSource, *, reveal: bool) -> str:
    """Return the record's value for display; personal data are masked, unreadable values are left out.

    The schemas of `source` must have been fetched.
    """
    raw = record.value or b""
    try:
        tree = source.read(record)
    except (UnreadableRecord, RecursionError):
        if reveal:
            return raw.decode("utf-8", "backslashreplace")
        return f"{_HIDDEN} {len(raw):,} bytes, SHA-256 {sha256(raw).hexdigest()}"
    if reveal:
        return part_as_text(tree)
    stars = TextMask()
    if source.is_canonical:
        return part_as_text(stars.show(known(tree, _EVENT)))
    stars.hide(list(source.personal_values(tree)))
    stars.hide([text for text in texts(tree) if by_value(text) == _EMAIL])
    return part_as_text(stars.show(tree))


_EMAIL = "e-mail"
#: The fields of a canonical event that may be shown; any other field may hold a name.
_EVENT: dict[str, Any] = {
    **dict.fromkeys(
        ("event_id", "source", "type", "store", "register", "receipt", "revision", "occurred_at", "currency")
    ),
    "lines": {
        **dict.fromkeys(
            ("sku", "description", "quantity", "unit", "unit_price", "amount", "tax_rate", "tax", "tax_included")
        ),
        "discounts": dict.fromkeys(("amount", "reason")),
    },
    "tenders": dict.fromkeys(("kind", "amount")),
    "totals": dict.fromkeys(ReceiptTotals.__annotations__),
    "original": dict.fromkeys(OriginalReceipt.__annotations__),
}


def known(tree: Any, schema: dict[str, Any] | None) -> Any:
    """Return the tree with stars for every field that is not in the schema."""
    if schema is None:
        return STARS if isinstance(tree, dict | list) or by_value(str(tree)) == _EMAIL else tree
    if isinstance(tree, list):
        return [known(inner, schema) for inner in tree]
    if not isinstance(tree, dict):
        return STARS
    return {name: known(inner, schema[name]) if name in schema else STARS for name, inner in tree.items()}


def headers_of(record: TopicRecord, *, ours_alone: bool, reveal: bool) -> dict[str, str]:
    """Return the headers as text: ours, and Kafka Connect's facts; others, and others' messages, only if they may be
    shown."""
    texts = {}
    for name, value in record.headers:
        told = ours_alone or not name.endswith(("message", "stacktrace"))
        ours = name.startswith(OWN) or (name.startswith(CONNECT) and told)
        text = (value or b"").decode("utf-8", "backslashreplace")
        texts[printable(name)] = printable(text) if ours or reveal else f"({len(value or b'')} bytes)"
    return texts


def letter(
    head: DeadLetterHeader,
    record: TopicRecord,
    past: Sequence[DeadLetterHeader],
    done: Sequence[AuditOutcome],
    value: str,
    *,
    reveal: bool,
) -> dict[str, Any]:
    """All about one letter, as one JSON object."""
    meaning, what_to_do = advice(head.reason)
    return {
        **row(head, _ledger(done)),
        "meaning": meaning,
        "advice": what_to_do,
        "key": printable((record.key or b"").decode("utf-8", "backslashreplace")) if reveal else None,
        "headers": headers_of(record, ours_alone=head.ours, reveal=reveal),
        "attempts_so_far": [
            {"at": one.last_failed.isoformat(), "place": one.location, "reason": one.reason, "detail": one.detail}
            for one in past
        ],
        "outcomes": [
            {"at": one.at.isoformat(), "action": one.action, "end": one.end, "reason": one.reason, "detail": one.detail}
            for one in done
        ],
        "value": value,
    }


def report_letter(found: dict[str, Any]) -> None:
    """Print all about one letter."""
    click.echo(f"{found['place']}  from {found['origin']}")
    click.echo(f"reason   {found['reason']}: {found['detail']}")
    click.echo(f"         {found['meaning']}")
    click.echo(f"         {found['advice']}")
    if found["receipt"]:
        click.echo(f"receipt  {found['receipt']}  {found['amount']} {found['currency']}  event {found['event_id']}")
    if found["versions"]:
        click.echo(f"read by  {found['versions']}")
    for one in found["attempts_so_far"]:
        click.echo(f"failed   {one['at']}  {one['place']}  {one['reason']}: {one['detail']}")
    for one in found["outcomes"]:
        more = f"  {one['reason']}: {one['detail']}" if one["reason"] else ""
        click.echo(f"done     {one['at']}  {one['end']} by {one['action']}{more}")
    click.echo("headers")
    for name, text in found["headers"].items():
        click.echo(f"  {name}: {text}")
    click.echo("value")
    click.echo("\n".join(map(printable, found["value"].split("\n"))))


def _ledger(done: Sequence[AuditOutcome]) -> ResolutionIndex:
    ledger = ResolutionIndex()
    for outcome in done:
        ledger.note(outcome)
    return ledger


def letters_of(count: int, noun: str = "letter") -> str:
    """Return the number of dead letters as text."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def _money(sums: dict[str, str]) -> str:
    return f"{_amounts(sums)} at stake" if sums else "no amount known"


def _amounts(sums: dict[str, str]) -> str:
    return ", ".join(f"{amount} {currency}" for currency, amount in sums.items())


def now_utc() -> datetime:
    """Return the clock of the tools."""
    return datetime.now(UTC)
