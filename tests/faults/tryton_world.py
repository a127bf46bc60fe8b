"""`TrytonWorld`: a world whose ERP is a real Tryton, which sells what the tills sell, and somebody posts there too."""

import subprocess
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from deploy.tryton.server import PASSWORD, Tryton
from ops.simulator.receipts import assortment
from schemas.document import ErpDocument, from_json
from sinks.base import SinkUnavailable
from sinks.tryton import posting
from sinks.tryton.sink import TrytonSink
from tests.faults.stream import Due, Held
from tests.faults.world import World
from tests.support.topics import Topics
from tests.support.tryton import Books, sink_of, sink_url, start_poster
from tests.support.wait import wait_until

#: By the cash drawer's, the card's and the voucher's name: the account that Tryton's company clears it by.
_CLEARED_BY = {"cash": "Cash and Cash Equivalents", "card": "Card clearing", "voucher": "Voucher clearing"}


def mapping_of_assortment(folder: Path) -> Path:
    """A mapping by which all that the simulated tills sell is one of the articles of Tryton's company."""
    codes = {(product.unit, product.tax_rate): product for product in assortment()}
    named = {("kg", 7): "K-1", ("each", 7): "B-1", ("each", 19): "A-1"}
    assert named.keys() == codes.keys()
    rows = [f"{product.sku},{named[product.unit, product.tax_rate]}" for product in assortment()]
    (folder / "items.csv").write_text("\n".join(["sku,item_code", *rows]) + "\n")
    mapping = folder / "mapping.yaml"
    mapping.write_text("mapping: 1\nname: assortment\nversion: '1'\nitems: {file: items.csv}\n")
    return mapping


class TrytonWorld(World):
    """Its database is Tryton's own, in which one can look."""

    mortals = ("worker", "poster", "tryton")

    def __init__(self, folder: Path, topics: Topics, topic: str, server: Tryton, random: Random, **settings: Any):
        mapping = str(mapping_of_assortment(folder))
        super().__init__(folder, topics, topic, server.sql_url, random, mapping=mapping, **settings)
        self.server = server
        self.settings |= {"sink_url": sink_url(server, folder), "sink_password": PASSWORD}
        self.books = Books(server)
        (kilogram,) = self.books.call("product.uom", "search", [["symbol", "=", "kg"]], 0, None, None)
        self.books.call("product.uom", "write", [kilogram], {"digits": 3, "rounding": 0.001})
        self._poster: subprocess.Popen[bytes] | None = None

    def strike(self, who: str) -> None:
        if who == "tryton":
            self.server.kill()
            self.server.start()
        elif who == "poster":
            self._end_poster()
        else:
            super().strike(who)
        if self._poster is None:
            self._poster = start_poster(self.settings["sink_url"])

    def held(self) -> dict[str, Held]:
        fields = ["date", "revision", "total", "till_document", "payments"]
        rows = self._of_sales("sale.point.sale", "", fields)
        paid = {row["id"]: row["amount"] for row in self._of_sales("sale.point.payment", "sale.", ["amount"])}
        held = {}
        for row in rows:
            d = from_json(row["till_document"].encode())
            lines = sum((line.gross for line in d.lines), Decimal(0))
            amounts = sum((paid[number] for number in row["payments"]), Decimal(0))
            said = (d.event_id, row["revision"], d.kind, row["date"], row["total"], len(d.lines), lines, amounts)
            held[d.external_ref] = Held(*said)
        return held

    def delivered(self) -> list[str]:
        return [event_id for (event_id,) in self.query("SELECT event_id FROM tillstream_delivery")]

    def strays(self) -> list[str]:
        tables = {"sale_point_sale_line": "sale", "sale_point_payment": "sale", "account_move_line": "move"}
        return [table for table, whole in tables.items() if self.query(f"SELECT 1 FROM {table} WHERE {whole} IS NULL")]

    def check(self, expected: Due | None = None) -> None:
        """As of any world; and all of it is in stock and ledger, once, to the cent."""
        super().check(expected)
        self._end_poster()
        sink = sink_of(self.server, self.folder)
        try:
            post_all(sink)
            held = sink.read(list(self.held()))
            assert sink.ledger.counts() == {"posted": len(held)}
        finally:
            sink.close()
        replaced = self.query("SELECT count(*) FROM tillstream_delivery WHERE effect = 'replaced'")[0][0]
        require_books(self.books, held, replaced)

    def close(self) -> None:
        self._end_poster()
        self.books.close()
        super().close()

    def _of_sales(self, model: str, sale: str, fields: list[str]) -> list[dict[str, Any]]:
        """What counts: of the sales that no newer revision has taken the place of."""
        domain = [[f"{sale}till_corrected_by", "=", None], [f"{sale}state", "!=", "cancelled"]]
        rows: list[dict[str, Any]] = self.books.call(model, "search_read", domain, 0, None, None, fields)
        return rows

    def _end_poster(self) -> None:
        if self._poster is not None:
            self._poster.kill()
            self._poster.wait()
            self._poster = None


def post_all(sink: TrytonSink) -> None:
    """Posts all that is left. The last call of a poster that was killed may still be going on in Tryton."""

    def posted() -> list[posting.PostingProgress] | None:
        try:
            return [*posting.post(sink), posting.PostingProgress(0, 0)]
        except SinkUnavailable:
            return None

    assert sum(one.refused for one in wait_until(posted, 3000, "all of it is posted") or []) == 0


def require_books(books: Books, held: Sequence[ErpDocument], replaced: int) -> None:
    """The ledger is that of these documents, to the cent; older revisions, so many, are in it and taken back."""
    sales, balances = books.sales(), books.balances()
    assert len(sales) == len(held) + 2 * replaced
    assert {sale["state"] for sale in sales.values()} == {"posted"}
    for kind, account in _CLEARED_BY.items():
        due = _sum(payment.amount for d in held for payment in d.payments if payment.kind == kind)
        assert balances.pop(account, Decimal(0)) == due, kind
    assert balances.pop("Goods") == -_sum(d.net + d.rounding for d in held)
    assert _sum(balances.values()) == -_sum(d.tax for d in held)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))
