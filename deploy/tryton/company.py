"""Runs inside Tryton's environment: a company with a chart of accounts, points of sale, articles and a user.

usage: company.py CONFIGURATION DATABASE USER PASSWORD

Articles A-1 to A-9 are taxed at 19 %, B-1 to B-9 at 7 %, N-1 to N-9 not at all; K-1 is sold by weight, at 7 %; ROUNDING
is what cash rounding is booked on. Points of sale: Main, and Store 1, which the tills call S1. Means of payment: cash,
card, voucher.
"""

import datetime
import sys
from decimal import Decimal

from proteus import Model, config
from trytond.modules.account.tests.tools import create_chart, create_fiscalyear, create_tax, get_accounts
from trytond.modules.account_invoice.tests.tools import set_fiscalyear_invoice_sequences
from trytond.modules.company.tests.tools import create_company, get_company

CURRENCY = "EUR"


def main(configuration, database, login, password):
    """Fills an activated database."""
    config.set_trytond(database=database, user="admin", config_file=configuration)
    create_company(currency=CURRENCY)
    company = get_company()
    create_chart(company)
    for year in range(2026, datetime.datetime.now(datetime.UTC).year + 2):
        make_fiscal_year(company, year)
    accounts = get_accounts(company)
    categories = {rate: make_category(accounts, rate) for rate in ("0.19", "0.07", "0")}
    for letter, rate in (("A", "0.19"), ("B", "0.07"), ("N", "0")):
        for number in range(1, 10):
            make_item(f"{letter}-{number}", categories[rate])
    make_item("K-1", categories["0.07"], unit="Kilogram")
    make_item("ROUNDING", categories["0"], type="service")
    for name, code in (("Main", None), ("Store 1", "S1")):
        make_point(company, name, code)
    make_methods(accounts)
    make_user(company, login, password)


def find(model, **values):
    """The one record with these values."""
    (found,) = Model.get(model).find([(name, "=", value) for name, value in values.items()], limit=1)
    return found


def make_fiscal_year(company, year):
    span = (datetime.date(year, 1, 1), datetime.date(year, 12, 31))
    fiscal_year = set_fiscalyear_invoice_sequences(create_fiscalyear(company, span))
    fiscal_year.click("create_period")


def make_category(accounts, rate):
    category = Model.get("product.category")(name=f"Taxed at {rate}", accounting=True)
    category.account_revenue = accounts["revenue"]
    if rate != "0":
        tax = create_tax(Decimal(rate))
        tax.save()
        category.customer_taxes.append(tax)
    category.save()
    return category


def make_item(code, category, unit="Unit", type="goods"):
    item = Model.get("product.template")(name=f"Article {code}", code=code, type=type, salable=True)
    item.default_uom = find("product.uom", name=unit)
    item.account_category = category
    item.list_price = Decimal(1)
    item.save()


def make_point(company, name, code):
    point = Model.get("sale.point")(name=name, tax_included=True, till_code=code)
    point.journal = find("account.journal", type="revenue")
    sequence = Model.get("ir.sequence.strict")(name=name, prefix=f"{name[0]}{name[-1]}-", company=company)
    sequence.sequence_type = find("ir.sequence.type", name="POS")
    sequence.save()
    point.sequence = sequence
    point.storage_location = find("stock.location", code="STO")
    point.customer_location = find("stock.location", code="CUS")
    point.return_location = find("stock.location", code="IN")
    point.save()


def make_methods(accounts):
    method = Model.get("sale.point.payment.method")
    method(name="Cash", till_code="cash", account=accounts["cash"], cash=True).save()
    for place, name in enumerate(("Card", "Voucher"), 8):
        (account,) = accounts["cash"].duplicate(default={"name": f"{name} clearing", "code": f"1.1.{place}"})
        method(name=name, till_code=name.lower(), account=account).save()


def make_user(company, login, password):
    user = Model.get("res.user")(name="Tillstream", login=login, password=password)
    user.companies.append(Model.get("company.company")(company.id))
    user.company = company
    for name in ("POS", "POS Posting"):
        user.groups.append(find("res.group", name=name))
    user.save()


if __name__ == "__main__":
    main(*sys.argv[1:])
