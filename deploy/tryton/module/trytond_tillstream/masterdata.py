"""The company's master data as Tillstream needs it, and whether its user may deliver."""

import importlib.metadata
from decimal import Decimal

from trytond.modules.account.exceptions import PeriodNotFoundError
from trytond.modules.product import price_digits
from trytond.pool import Pool, PoolMeta
from trytond.rpc import RPC
from trytond.transaction import Transaction

WHOLE = Decimal(100)


class Sale(metaclass=PoolMeta):
    __name__ = "sale.point.sale"

    @classmethod
    def __setup__(cls):
        super().__setup__()
        cls.__rpc__["till_facts"] = RPC()
        cls.__rpc__["till_items"] = RPC()

    @classmethod
    def till_facts(cls, date):
        """The company, its points of sale and means of payment, the user's rights, and whether `date` can be posted.

        No date can be posted if none is given.
        """
        pool = Pool()
        ModelData, User = pool.get("ir.model.data"), pool.get("res.user")
        Point, Method = pool.get("sale.point"), pool.get("sale.point.payment.method")
        groups_held = User.get_groups()
        company = _company()
        with Transaction().set_context(_check_access=False):
            groups = {
                "POS": ModelData.get_id("sale_point", "group_sale_point"),
                "POS Posting": ModelData.get_id("sale_point", "group_sale_point_posting"),
            }
            own = [("company", "=", company.id)]
            return {
                "version": importlib.metadata.version("trytond-tillstream"),
                "company": {
                    "id": company.id,
                    "name": company.party.name,
                    "currency": company.currency.code,
                    "digits": company.currency.digits,
                },
                "missing_groups": sorted(name for name, group in groups.items() if group not in groups_held),
                "period": date is not None and _has_period(company, date),
                "price_digits": price_digits[1],
                "points": [
                    {
                        "id": point.id,
                        "name": point.name,
                        "code": point.till_code,
                        "returns": bool(point.return_location),
                    }
                    for point in Point.search(own)
                ],
                "methods": [
                    {"id": method.id, "name": method.name, "code": method.till_code, "cash": method.cash}
                    for method in Method.search(own)
                ],
            }

    @classmethod
    def till_items(cls, codes, date):
        """The products that these codes name, by code or else by an identifier (a bar code); what none or several
        products have is left out.

        {code: {id, digits of quantities, tax rate in percent on `date`, whether it is salable}}
        """
        Product = Pool().get("product.product")
        found = {}
        with Transaction().set_context(_check_access=False):
            for field in ("code", "identifiers.code"):
                asked = [code for code in codes if code not in found]
                for product in Product.search([(field, "in", asked)]):
                    names = [product.code] if field == "code" else [one.code for one in product.identifiers]
                    for code in names:
                        if code in asked:
                            found.setdefault(code, []).append(product)
            return {code: _item(*products, date) for code, products in found.items() if len(products) == 1}


def _company():
    return Pool().get("company.company")(Transaction().context["company"])


def _has_period(company, date):
    try:
        return bool(Pool().get("account.period").find(company, date=date))
    except PeriodNotFoundError:
        return False


def _item(product, date):
    Tax = Pool().get("account.tax")
    taxes = Tax.compute(product.customer_taxes_used, WHOLE, 1, date)
    return {
        "id": product.id,
        "digits": product.sale_uom.digits,
        "rate": sum((tax["amount"] for tax in taxes), Decimal(0)),
        "salable": product.salable,
    }
