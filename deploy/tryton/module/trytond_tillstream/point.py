"""The tills' codes of points of sale and means of payment."""

from trytond.model import Unique, fields
from trytond.pool import PoolMeta


class _Coded:
    till_code = fields.Char("Till's Code", help="What the tills call it; without one, its name counts.")

    @classmethod
    def __setup__(cls):
        super().__setup__()
        t = cls.__table__()
        cls._sql_constraints += [
            ("till_code_unique", Unique(t, t.company, t.till_code), "tillstream.msg_code_unique"),
        ]


class Point(_Coded, metaclass=PoolMeta):
    __name__ = "sale.point"


class PaymentMethod(_Coded, metaclass=PoolMeta):
    __name__ = "sale.point.payment.method"
