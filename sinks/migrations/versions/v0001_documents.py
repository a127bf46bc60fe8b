"""Documents with their parts, tax totals as a view of the lines, and deliveries.

A migration is self-contained: it does not import the tables of today.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
EXACT = sa.BigInteger().with_variant(sa.Numeric(), "postgresql")
TAXES = """
CREATE VIEW document_taxes AS
SELECT external_ref, tax_rate, sum(net) AS net, sum(tax) AS tax, sum(gross) AS gross
FROM document_lines GROUP BY external_ref, tax_rate"""


def key(name: str) -> sa.Column[str]:
    return sa.Column(name, KEY, nullable=False)


def text(name: str, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def exact(table: str, names: str, places: int) -> list[sa.schema.SchemaItem]:
    columns: list[sa.schema.SchemaItem] = [sa.Column(name, EXACT, nullable=False) for name in names.split()]
    if op.get_bind().dialect.name != "postgresql":
        return columns
    return columns + [
        sa.CheckConstraint(
            f"min_scale({name}) <= {places} AND abs({name}) < 1000000000000", name=op.f(f"{table}_{name}_exact")
        )
        for name in names.split()
    ]


def upgrade() -> None:
    op.create_table(
        "documents",
        *(key("external_ref"), key("event_id"), text("kind"), sa.Column("revision", sa.Integer, nullable=False)),
        *(text("content"), text("source"), key("store"), text("register_id"), text("receipt")),
        text("original_ref", nullable=True),
        sa.Column("business_date", sa.Date, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        *(text("currency"), text("cashier", nullable=True), text("customer_id", nullable=True)),
        *exact("documents", "net tax rounding gross", 4),
        sa.Column("written_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("external_ref", name="documents_pkey"),
    )
    op.create_index("documents_store_day", "documents", ["store", "business_date"])
    op.create_table(
        "document_lines",
        *(key("external_ref"), sa.Column("position", sa.Integer, nullable=False), text("sku"), text("description")),
        *(*exact("document_lines", "quantity", 6), text("unit")),
        *exact("document_lines", "unit_price discount tax_rate", 6),
        *exact("document_lines", "net tax gross", 4),
        sa.PrimaryKeyConstraint("external_ref", "position", name="document_lines_pkey"),
    )
    op.create_table(
        "document_payments",
        *(key("external_ref"), sa.Column("position", sa.Integer, nullable=False), text("kind")),
        *exact("document_payments", "amount", 4),
        sa.PrimaryKeyConstraint("external_ref", "position", name="document_payments_pkey"),
    )
    op.execute(TAXES)
    op.create_table(
        "deliveries",
        *(key("event_id"), key("external_ref"), sa.Column("revision", sa.Integer, nullable=False), text("content")),
        sa.Column("effect", sa.Text, nullable=False, server_default="written"),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("event_id", name="deliveries_pkey"),
    )
