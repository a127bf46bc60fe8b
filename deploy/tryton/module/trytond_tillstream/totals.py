"""What the company holds of stores and days, as the tills count."""

from decimal import Decimal

from sql import Cast, Null
from sql.aggregate import Count, Sum
from sql.operators import NotEqual
from trytond.pool import Pool, PoolMeta
from trytond.rpc import RPC
from trytond.transaction import Transaction


class Sale(metaclass=PoolMeta):
    __name__ = "sale.point.sale"

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__rpc__["till_totals"] = RPC()

    @classmethod
    def till_totals(cls, store=None, date=None):
        """[store, date, sales, lines, net, tax, gross] of each store and day, without what was corrected or cancelled.

        Of one store or one day, if given. That a processed sale comes to these amounts was checked when it was.
        """
        company = Pool().get("company.company")(Transaction().context["company"])
        t = cls.__table__()
        where = (t.company == company.id) & (t.till_document != Null) & (t.till_corrected_by == Null)
        where &= NotEqual(t.state, "cancelled")
        if store is not None:
            where &= t.till_store == store
        if date is not None:
            where &= t.date == date
        amounts = [Sum(Cast(getattr(t, name), "NUMERIC")) for name in ("till_net", "till_tax", "till_gross")]
        cursor = Transaction().connection.cursor()
        days = (t.till_store, t.date)
        cursor.execute(
            *t.select(*days, Count(t.id), Sum(t.till_lines), *amounts, where=where, group_by=days, order_by=days)
        )
        places = Decimal(1).scaleb(-company.currency.digits)
        return [
            [store, day, sales, lines, *(Decimal(str(a)).quantize(places) for a in amounts)]
            for store, day, sales, lines, *amounts in cursor
        ]
