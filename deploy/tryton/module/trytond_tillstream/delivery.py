"""Delivered events, and events refused for their receipt: never deleted, or the same event would be booked again."""

from hashlib import sha256

from sql import Literal, Select
from trytond import backend
from trytond.model import ModelSQL, Unique, fields
from trytond.transaction import Transaction


class _Told:
    """An event of a company, with a digest of its content."""

    company = fields.Many2One("company.company", "Company", required=True, ondelete="RESTRICT")
    event_id = fields.Text("Event", required=True)
    content = fields.Char("Content", required=True)

    @classmethod
    def default_company(cls):
        return Transaction().context.get("company")


class Delivery(_Told, ModelSQL):
    """An event whose effect the company holds."""

    __name__ = "tillstream.delivery"

    external_ref = fields.Text("External Reference", required=True)
    revision = fields.Integer("Revision", required=True)
    effect = fields.Char("Effect", required=True)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ("event_unique", Unique(t, t.company, t.event_id), "tillstream.msg_event_unique"),
        ]

    @classmethod
    def take_turn(cls, what="deliver"):
        """Serialize this transaction with the company's others, until it ends.

        Lookups made afterwards stay true until then. When another transaction holds the lock, this one starts again: by
        Tryton's own retries, and then, after a 503 response, by the client's. Waiting would not help: its snapshot
        would be older than the other's commit.
        """
        transaction = Transaction()
        table = cls.__table__()
        cursor = transaction.connection.cursor()
        cursor.execute(*table.delete(where=Literal(1) == Literal(0)))  # with what writes, SQLite begins to lock
        key = int.from_bytes(
            sha256(f"{cls.__name__},{what},{transaction.context.get('company')}".encode()).digest()[:8], signed=True
        )
        cursor.execute(*Select([transaction.database.lock_id(key)]))
        if not cursor.fetchone()[0]:
            raise backend.DatabaseOperationalError(f"another transaction does the same in this company: {what}")


class Conflict(_Told, ModelSQL):
    """An event that was refused, because its receipt is held with other content. It stays refused."""

    __name__ = "tillstream.conflict"

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ("conflict_unique", Unique(t, t.company, t.event_id, t.content), "tillstream.msg_conflict_unique"),
        ]
