"""Guess which source field fills which field of an event, by its name and the kind of its values."""

import re
from collections.abc import Sequence

from ops.inspect.column import ValueColumn
from ops.inspect.survey import RecordSurvey
from streams.privacy.field_names import by_name

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: Words in the names of fields of each role, the likeliest first, without separators, as in `normalized_name`. English
#: and German, then Spanish, French, Chinese and Arabic.
RECEIPT_WORDS = (
    "receipt",
    "invoice",
    "ticket",
    "bon",
    "beleg",
    "transaction",
    "basket",
    "order",
    "sequencenumber",
    "recibo",
    "factura",
    "facture",
    "小票",
    "单号",
    "فاتورة",
    "number",
)
WORDS: dict[str, Sequence[str]] = {
    "occurred_at": (
        "occurred",
        "datetime",
        "invoicedate",
        "timestamp",
        "closed",
        "created",
        "date",
        "time",
        "datum",
        "zeit",
        "fecha",
        "日期",
        "时间",
        "تاريخ",
    ),
    "store": ("store", "shop", "branch", "location", "outlet", "filiale", "site", "tienda", "magasin", "门店", "فرع"),
    "register": ("register", "workstation", "terminal", "till", "pos", "device", "kasse", "caja", "caisse", "收银机"),
    "currency": ("currency", "waehrung", "währung", "moneda", "devise", "币种", "عملة"),
    "cashier": ("cashier", "operator", "employee", "clerk", "kassierer", "cajero", "caissier", "收银员"),
    "customer.id": ("customer", "member", "loyalty", "client", "household", "kunde", "会员"),
    "totals.gross": (
        "totalprice",
        "grandtotal",
        "totalamount",
        "totalgross",
        "grosstotal",
        "total",
        "gross",
        "summe",
        "总额",
        "合计",
        "إجمالي",
    ),
}
LINE_WORDS: dict[str, Sequence[str]] = {
    "sku": ("sku", "barcode", "ean", "gtin", "upc", "stockcode", "itemid", "articleid", "productid", "itemcode",
            "artikelnummer", "artikelnr", "article", "product", "item", "stock", "plu", "artikel", "artículo",
            "商品编号", "货号", "条码", "رمز", "商品", "صنف"),
    "description": ("description", "itemname", "productname", "title", "name", "text", "bezeichnung", "descripción",
                    "désignation", "品名", "名称", "وصف"),
    "quantity": ("quantity", "qty", "menge", "units", "count", "anzahl", "cantidad", "quantité", "数量", "كمية"),
    "unit_price": ("unitprice", "price", "preis", "precio", "prix", "单价", "سعر"),
    "amount": ("lineamount", "linetotal", "extendedamount", "amount", "salesvalue", "betrag", "total", "importe",
               "montant", "金额", "مبلغ"),
    "tax_rate": ("taxrate", "vatrate", "taxpercent", "vatpercent", "mwst", "steuersatz", "税率"),
}  # fmt: skip
_KINDS = {"occurred_at": ("time",), "quantity": ("integer", "decimal"), "unit_price": ("integer", "decimal"),
          "amount": ("integer", "decimal"), "tax_rate": ("integer", "decimal"),
          "totals.gross": ("integer", "decimal")}  # fmt: skip
_MEASURES = ("quantity", "qty", "price", "amount", "total", "cost", "tax", "discount", "weight", "units", "net",
             "gross", "value", "menge", "preis", "betrag", "anzahl", "cantidad", "precio", "importe", "quantité",
             "prix", "montant", "数量", "单价", "金额", "كمية", "سعر", "مبلغ")  # fmt: skip


def is_measure(path: str) -> bool:
    """Return whether the name suggests a measure or a count, so that zeros and extreme values are worth reporting."""
    name = normalized_name(path)
    return any(word in name for word in _MEASURES)


def normalized_name(path: str) -> str:
    """Return a path's last name in lower case without separators: `unit_price` and `UnitPrice` are the same."""
    parts = [part for part in re.split(r"[.\[\]@/]+", path) if part and part != "text()"]
    name = "".join(re.findall(r"[^\W_]+", parts[-1].lower())) if parts else ""
    if name in ("id", "name", "amount", "number", "value", "code") and len(parts) > 1:
        return "".join(re.findall(r"[^\W_]+", parts[-2].lower())) + name
    return name


def guess(columns: Sequence[ValueColumn], words: dict[str, Sequence[str]], taken: set[str]) -> dict[str, ValueColumn]:
    """Return the best column for each role that has one; add it to `taken`, so that it is used only once."""
    roles: dict[str, ValueColumn] = {}
    for role, names in words.items():
        fitting = [
            (word_index, len(normalized_name(column.path)), column_index, column)
            for column_index, column in enumerate(columns)
            for word_index, word in enumerate(names)
            if column.path not in taken and word in normalized_name(column.path) and _fits_role(role, column)
        ]
        if fitting:
            roles[role] = min(fitting, key=lambda fit: fit[:3])[3]
            taken.add(roles[role].path)
    return roles


def _fits_role(role: str, column: ValueColumn) -> bool:
    if role in _KINDS:
        return column.kind in _KINDS[role]
    if role in ("customer.id", "cashier"):
        return not any(word in normalized_name(column.path) for word in ("mail", "phone", "name", "address"))
    if role in ("sku", "description") and column.kind == "time":
        return False
    return by_name(column.path) is None and column.kind not in ("time", "boolean")


def lines_list(survey: RecordSurvey) -> str | None:
    """Return the path of the list that looks like the receipt's lines: its items have quantities, prices or codes."""
    best: tuple[int, str] | None = None
    for path in survey.lists:
        item_columns = [
            column
            for column in survey.columns.values()
            if column.path.startswith(f"{path}[]") and "[]" not in column.path[len(path) + 2 :]
        ]
        matches = guess(item_columns, {role: LINE_WORDS[role] for role in ("quantity", "unit_price", "sku")}, set())
        if len(matches) >= 2 and (best is None or len(matches) > best[0]):
            best = len(matches), path
    return best[1] if best else None
