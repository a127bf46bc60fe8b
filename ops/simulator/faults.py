"""The ways in which the simulated tills break a record, each with the reason its dead letter must carry.

Every fault breaks exactly one rule, so that the expected reason does not depend on the order of the checks.
The one fault that needs an earlier receipt, an id used again for other content, is in `ops.simulator.traffic`.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

from ops.simulator.receipts import compact
from schemas.dead_letter import Reason

Event = dict[str, Any]


class TillFault(NamedTuple):
    """`spoil` turns a sound sale into the bytes of a broken one; it may change the dict it is given."""

    reason: Reason
    spoil: Callable[[Event, Random], bytes]


def cut_off(event: Event, rng: Random) -> bytes:
    """Cut the text in the middle, as a power failure or a proxy does."""
    value = compact(event)
    return value[: rng.randrange(len(value) // 4, len(value) - 1)]


def double_key(event: Event, rng: Random) -> bytes:
    """Write the currency twice: parsers disagree on which one counts."""
    return compact(event)[:-1] + b',"currency":"USD"}'


def missing_field(event: Event, rng: Random) -> bytes:
    """Remove a field that every event needs."""
    del event[rng.choice(("type", "store", "receipt", "occurred_at", "currency", "totals"))]
    return compact(event)


def wrong_type(event: Event, rng: Random) -> bytes:
    """Write a value of another type than the schema's."""
    match rng.randrange(4):
        case 0:
            event["lines"][0]["quantity"] = "two"
        case 1:
            event["lines"] = event["lines"][0]
        case 2:
            event["receipt"] = int(event["receipt"])
        case _:
            event["totals"] = event["totals"]["gross"]
    return compact(event)


def naive_time(event: Event, rng: Random) -> bytes:
    """Local time without an offset from UTC."""
    event["occurred_at"] = event["occurred_at"][: len("2026-01-01T12:00:00")]
    return compact(event)


def old_clock(event: Event, rng: Random) -> bytes:
    """Use the time of a till whose clock was reset."""
    event["occurred_at"] = "1999-12-31T23:59:00.000+00:00"
    return compact(event)


def unknown_currency(event: Event, rng: Random) -> bytes:
    """Three letters that are no currency."""
    event["currency"] = "EUX"
    return compact(event)


def too_many_places(event: Event, rng: Random) -> bytes:
    """Write a price with seven decimal places, as binary floating point prints it."""
    event["lines"][0]["unit_price"] += "00001"
    return compact(event)


def no_lines(event: Event, rng: Random) -> bytes:
    """Leave no lines, as when only the drawer was opened."""
    event |= {"lines": [], "tenders": [], "totals": {"gross": "0.00", "net": "0.00", "tax": "0.00"}}
    return compact(event)


def wrong_line(event: Event, rng: Random) -> bytes:
    """Write a line that costs another amount than its quantity × price."""
    _add(event["lines"][0], "amount", rng)
    return compact(event)


def wrong_totals(event: Event, rng: Random) -> bytes:
    """Make totals that differ from the sum of the lines; the payments agree with them."""
    _add(event["totals"], "gross", rng)
    event["tenders"] = [{"kind": "card", "amount": event["totals"]["gross"]}]
    return compact(event)


def wrong_tenders(event: Event, rng: Random) -> bytes:
    """Tenders that are not the sum of the receipt."""
    _add(event["tenders"][0], "amount", rng)
    return compact(event)


def _add(part: Event, field: str, rng: Random) -> None:
    part[field] = str(Decimal(part[field]) + rng.randint(2, 9))  # whole euros: beyond every tolerance


FAULTS: Mapping[str, TillFault] = MappingProxyType(
    {
        "cut_off": TillFault(Reason.INVALID_JSON, cut_off),
        "double_key": TillFault(Reason.AMBIGUOUS_JSON, double_key),
        "missing_field": TillFault(Reason.SCHEMA_MISMATCH, missing_field),
        "wrong_type": TillFault(Reason.SCHEMA_MISMATCH, wrong_type),
        "naive_time": TillFault(Reason.SCHEMA_MISMATCH, naive_time),
        "old_clock": TillFault(Reason.IMPLAUSIBLE_TIME, old_clock),
        "unknown_currency": TillFault(Reason.UNKNOWN_CURRENCY, unknown_currency),
        "too_many_places": TillFault(Reason.INVALID_AMOUNT, too_many_places),
        "no_lines": TillFault(Reason.EMPTY_RECEIPT, no_lines),
        "wrong_line": TillFault(Reason.LINE_MISMATCH, wrong_line),
        "wrong_totals": TillFault(Reason.TOTALS_MISMATCH, wrong_totals),
        "wrong_tenders": TillFault(Reason.PAYMENT_MISMATCH, wrong_tenders),
    }
)
