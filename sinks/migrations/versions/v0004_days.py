"""One document per store and day, for ERPs that book days: views, so that they always agree with the receipts.

A migration is self-contained: it does not import the tables of today.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DAY = "d.store, d.business_date, d.currency, d.kind"
_OF = "JOIN documents d ON d.external_ref = p.external_ref"
VIEWS = {
    "day_documents": (
        f"{_DAY}, d.company, d.warehouse, d.cost_centre",
        "count(*) AS receipts, sum(d.net) AS net, sum(d.tax) AS tax, sum(d.rounding) AS rounding, "
        "sum(d.gross) AS gross, max(d.written_at) AS written_at",
        "documents d",
    ),
    "day_lines": (
        f"{_DAY}, p.sku, p.item_code, p.unit, p.item_unit, p.tax_rate, p.tax_code",
        "sum(p.quantity) AS quantity, sum(p.net) AS net, sum(p.tax) AS tax, sum(p.gross) AS gross",
        f"document_lines p {_OF}",
    ),
    "day_payments": (
        f"{_DAY}, p.kind AS tender, p.payment_mode, p.account",
        "sum(p.amount) AS amount",
        f"document_payments p {_OF}",
    ),
}


def upgrade() -> None:
    for name, (by, sums, rows) in VIEWS.items():
        grouped = by.replace(" AS tender", "")
        op.execute(f"CREATE VIEW {name} AS SELECT {by}, {sums} FROM {rows} GROUP BY {grouped}")
