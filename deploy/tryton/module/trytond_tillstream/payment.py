"""Money that goes back the way the till says it went."""

from trytond.pool import PoolMeta
from trytond.pyson import Bool, Eval, If


class Payment(metaclass=PoolMeta):
    __name__ = "sale.point.payment"

    @classmethod
    def __setup__(cls):
        super().__setup__()
        # At Tryton's own till only cash goes back. A till that has given money back to a card has done so already, and
        # a void takes back whatever was paid.
        from_till = Bool(Eval("_parent_sale", {}).get("external_ref", ""))
        cls.method.domain = [
            ("company", "=", Eval("company", -1)),
            If((Eval("amount", 0) < 0) & ~from_till, ("cash", "=", True), ()),
        ]
