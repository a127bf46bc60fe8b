"""Shared by rivals that take values in batches: the handwritten loop's model and its way into the database."""

from collections.abc import Iterable
from typing import Any

import psycopg

from bench.rivals.handwritten_loop import STAGING, Booking
from bench.rivals.receipt import Receipt, amounts


def connect(database: str) -> psycopg.Connection[Any]:
    """A connection that `handwritten_loop.store` can work with."""
    connection = psycopg.connect(database, autocommit=True)
    connection.execute(STAGING)
    return connection


def book(value: bytes) -> Booking:
    """The receipt and its amounts. Raises ValueError."""
    receipt = Receipt.model_validate_json(value)
    return receipt, amounts(receipt)


def once(bookings: Iterable[Booking]) -> list[Booking]:
    """Each receipt once."""
    return list({booking[0].event_id: booking for booking in bookings}.values())


def sort_out(values: Iterable[bytes]) -> tuple[list[Booking], list[bytes]]:
    """Return the receipts, each once, and the invalid values."""
    bookings: list[Booking] = []
    bad: list[bytes] = []
    for value in values:
        try:
            bookings.append(book(value))
        except ValueError:
            bad.append(value)
    return once(bookings), bad
