"""Sales from tills: `till_deliver` takes a list of them in one transaction, each at most once."""

import json
from decimal import Decimal

from trytond.i18n import gettext
from trytond.model import Unique, fields
from trytond.model.exceptions import AccessError
from trytond.modules.sale_point.exceptions import SaleValidationError
from trytond.pool import Pool, PoolMeta
from trytond.pyson import Eval
from trytond.rpc import RPC
from trytond.transaction import Transaction

READONLY = {"readonly": True}
INVISIBLE = {"invisible": ~Eval("external_ref")}


class Sale(metaclass=PoolMeta):
    """A receipt is held by the sale whose `external_ref` it is, at that sale's `revision`.

    A numbered sale stays: a newer revision is a new sale. The older one hands its reference on, gets one with its
    revision behind a `#`, and is taken back by a third sale, which is its negative. Both name the new one.
    """

    __name__ = "sale.point.sale"

    external_ref = fields.Text("External Reference", readonly=True, states=INVISIBLE)
    revision = fields.Integer("Revision", readonly=True, states=INVISIBLE)
    till_content = fields.Char("Content", readonly=True, help="A digest of all that the till's event says.")
    till_store = fields.Text("Till's Store", readonly=True, states=INVISIBLE)
    till_lines = fields.Integer("Lines at the Till", readonly=True)
    till_net = fields.Numeric("Net at the Till", readonly=True)
    till_tax = fields.Numeric("Tax at the Till", readonly=True)
    till_gross = fields.Numeric("Gross at the Till", readonly=True)
    till_document = fields.Text("Document", readonly=True, help="What Tillstream has delivered, as JSON.")
    till_corrected_by = fields.Many2One("sale.point.sale", "Corrected By", readonly=True, states=INVISIBLE)

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ("external_ref_unique", Unique(t, t.company, t.external_ref), "tillstream.msg_external_ref_unique"),
        ]
        cls.__rpc__["till_deliver"] = RPC(readonly=False)

    @classmethod
    def copy(cls, sales, default=None):
        default = {} if default is None else default.copy()
        for name in cls._fields:
            if name.startswith("till_") or name in ("external_ref", "revision"):
                default.setdefault(name)
        return super().copy(sales, default=default)

    @classmethod
    def check_modification(cls, mode, sales, values=None, external=False):
        super().check_modification(mode, sales, values=values, external=external)
        if mode == "delete":
            for sale in sales:
                if sale.external_ref:
                    raise AccessError(gettext("tillstream.msg_delete_delivered", sale=sale.external_ref))

    @classmethod
    def post(cls, sales):
        """As Tryton's, but that two at once don't book the same sale twice, as they do on SQLite."""
        pool = Pool()
        pool.get("tillstream.delivery").take_turn("post")
        super().post(cls.search([("id", "in", [sale.id for sale in sales]), ("state", "=", "done")]))

    @classmethod
    def till_deliver(cls, documents, rehearse=False):
        """Creates and processes the sales of these documents, in this transaction; all of them, or it raises.

        Each is {event_id, external_ref, revision, content, sale}: `sale` the values of a sale, or None where there
        can't be one. Answers for each [effect, number, state, revision]: the effect is that of a sink of Tillstream
        (written, replaced, superseded, duplicate), or conflicting_duplicate, conflicting_receipt, or unwritable for a
        document without a sale that would need one; the rest is of the sale that is held, if one is. With
        `rehearse` nothing is kept.

        A document may have `before`: {external_ref, parts}, the reference that its receipt had once, and its parts.
        The sale that is held under it gets the new reference, if its own document has the same parts.
        """
        _require_access(cls.__name__)
        with Transaction().set_context(_check_access=False):  # or nobody could write what nobody may change
            answers = cls._till_deliver(documents)
        if rehearse:
            Transaction().rollback()
        return answers

    @classmethod
    def _till_deliver(cls, documents):
        pool = Pool()
        Delivery, Conflict = pool.get("tillstream.delivery"), pool.get("tillstream.conflict")
        Delivery.take_turn()
        cls._till_lock_numbers({d["sale"]["point"] for d in documents if d["sale"]})
        cls._till_rename([d for d in documents if d.get("before")])
        known = _Known(cls, Delivery, Conflict, documents)
        effects = [known.effect(document) for document in documents]
        taken = [d for d, effect in zip(documents, effects, strict=True) if effect in ("written", "replaced")]
        replaced = [known.held[d["external_ref"]] for d in taken if d["external_ref"] in known.held]
        cls._till_hand_on(replaced)
        created = cls.create([d["sale"] for d in taken])
        cls._till_confirm(created)
        cls._till_take_back(replaced, {sale.external_ref: sale for sale in created})
        cls._till_confirm(known.left_open(documents, effects))
        Delivery.create(known.deliveries(documents, effects))
        Conflict.create(known.conflicts(documents, effects))
        sales = known.held | {sale.external_ref: sale for sale in created}
        return [[effect, *_told(sales.get(d["external_ref"]))] for d, effect in zip(documents, effects, strict=True)]

    @classmethod
    def _till_lock_numbers(cls, points):
        """Locks the numbers of these points of sale. Later, Tryton would start the whole transaction again for it."""
        pool = Pool()
        Point, Sequence = pool.get("sale.point"), pool.get("ir.sequence.strict")
        Sequence.lock({point.sequence for point in Point.browse(sorted(points))})

    @classmethod
    def _till_rename(cls, documents):
        """Gives the sales of these receipts, held under a reference of before, today's."""
        if not documents:
            return
        refs = [ref for d in documents for ref in (d["external_ref"], d["before"]["external_ref"])]
        domain = [("company", "=", Transaction().context.get("company")), ("external_ref", "in", refs)]
        held = {sale.external_ref: sale for sale in cls.search([*domain, ("till_document", "!=", None)])}
        for d in documents:
            sale = held.get(d["before"]["external_ref"]) if d["external_ref"] not in held else None
            parts = d["before"]["parts"]
            said = json.loads(sale.till_document) if sale is not None else {}
            if sale is not None and {name: said.get(name) for name in parts} == parts:
                sale.external_ref = d["external_ref"]
                sale.save()

    @classmethod
    def _till_confirm(cls, sales):
        """Process the sales, after checking that their totals equal the till's."""
        for sale in sales:
            if not sale._till_comes_to_the_same():
                total, tax = sale._till_amounts()
                raise SaleValidationError(
                    gettext(
                        "tillstream.msg_totals_differ",
                        total=total,
                        tax=tax,
                        gross=sale.till_gross,
                        expected_tax=sale.till_tax,
                    )
                )
        cls.process([sale for sale in sales if sale.lines])  # those that are not paid stay open

    def _till_comes_to_the_same(self):
        """Return whether the sale equals the till's receipt, to the cent."""
        return self._till_amounts() == (self.till_gross, self.till_tax)

    def _till_amounts(self):
        """`total` and `total_tax`, as Tryton computes them; those fields take a quarter of the time of a delivery."""
        rounded = self.company.currency.round
        gross = net = Decimal(0)
        for line in self.lines:
            quantity = Decimal(str(line.quantity))
            gross += rounded(quantity * line.unit_gross_price)
            net += rounded(quantity * line.unit_list_price)
        return gross, gross - net

    @classmethod
    def _till_hand_on(cls, sales):
        """Gives these sales another reference, so that theirs is free."""
        for sale in sales:
            sale.external_ref = f"{sale.external_ref}#{sale.revision}"
        cls.save(sales)

    @classmethod
    def _till_take_back(cls, sales, by_ref):
        """Takes back what these sales have booked, or are going to; `by_ref` are those that take their place."""
        for sale in sales:
            sale.till_corrected_by = by_ref[sale.external_ref.rpartition("#")[0]]
        cls.save(sales)
        cls.cancel([sale for sale in sales if sale.state == "open"])
        cls.process(cls.create([sale._till_negative() for sale in sales if sale.state in ("done", "posted")]))

    def _till_negative(self):
        """The values of the sale that takes this one back."""
        lines = [
            {
                "product": line.product.id,
                "quantity": -line.quantity,
                "unit_list_price": line.unit_list_price,
                "unit_gross_price": line.unit_gross_price,
            }
            for line in self.lines
        ]
        payments = [{"method": payment.method.id, "amount": -payment.amount} for payment in self.payments]
        return {
            "company": self.company.id,
            "point": self.point.id,
            "date": self.date,
            "external_ref": f"{self.external_ref}-reversed",
            "till_store": self.till_store,
            "till_corrected_by": self.till_corrected_by.id,
            "lines": [("create", lines)],
            "payments": [("create", payments)],
        }


class _Known:
    """The state of some documents and their events before delivery."""

    def __init__(self, Sale, Delivery, Conflict, documents):
        events = [("event_id", "in", [d["event_id"] for d in documents])]
        company = Transaction().context.get("company")
        own = [("company", "=", company)]
        self.held = {
            sale.external_ref: sale
            for sale in Sale.search([*own, ("external_ref", "in", [d["external_ref"] for d in documents])])
        }
        self.delivered = {told.event_id: told.content for told in Delivery.search(own + events)}
        self.refused = {(told.event_id, told.content) for told in Conflict.search(own + events)}

    def effect(self, document):
        """Return the effect of delivering the document."""
        content, revision = document["content"], document["revision"]
        refused = (document["event_id"], content) in self.refused
        before = self.delivered.get(document["event_id"])
        if before is not None:
            if before == content:
                return "duplicate"
            return "conflicting_receipt" if refused else "conflicting_duplicate"
        held = self.held.get(document["external_ref"])
        if held is not None and held.revision == revision:
            return "duplicate" if held.till_content == content else "conflicting_receipt"
        if held is not None and held.revision > revision:
            return "conflicting_receipt" if refused else "superseded"
        if document["sale"] is None:
            return "unwritable"
        return "written" if held is None else "replaced"

    def left_open(self, documents, effects):
        """The held sales of duplicates that are open still, or again, unless somebody has changed their totals."""
        sales = [
            self.held.get(d["external_ref"])
            for d, effect in zip(documents, effects, strict=True)
            if effect == "duplicate"
        ]
        found = [sale for sale in sales if sale is not None and sale.state == "open"]
        return [sale for sale in found if sale._till_comes_to_the_same()]

    def deliveries(self, documents, effects):
        """The rows of events that were not delivered before."""
        names = ("event_id", "external_ref", "revision", "content")
        return [
            {"effect": effect} | {name: d[name] for name in names}
            for d, effect in zip(documents, effects, strict=True)
            if effect in ("written", "replaced", "superseded", "duplicate") and d["event_id"] not in self.delivered
        ]

    def conflicts(self, documents, effects):
        """The rows of conflicts that were not noted before."""
        return [
            {"event_id": d["event_id"], "content": d["content"]}
            for d, effect in zip(documents, effects, strict=True)
            if effect == "conflicting_receipt" and (d["event_id"], d["content"]) not in self.refused
        ]


def _require_access(model):
    """Returns if the user may create sales, in the company that the call is for."""
    pool = Pool()
    pool.get("ir.model.access").check(model, "create")
    if Transaction().context.get("company") not in pool.get("res.user").get_companies():
        raise AccessError(gettext("tillstream.msg_not_your_company"))


def _told(sale):
    return (sale.number, sale.state, sale.revision) if sale is not None else (None, None, None)
