"""The ERP's own codes, from a mapping, and remarks for review.

New columns without a value take no time on a full table; the check on `cost` is read through once.
A migration is self-contained: it does not import the tables of today.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CODES = {
    "documents": "mapping company warehouse cost_centre customer_code review",
    "document_lines": "item_code item_unit tax_code",
    "document_payments": "payment_mode account",
}


def upgrade() -> None:
    for table, names in CODES.items():
        for name in names.split():
            op.add_column(table, sa.Column(name, sa.Text, nullable=True))
    exact = sa.BigInteger().with_variant(sa.Numeric(), "postgresql")
    op.add_column("document_lines", sa.Column("cost", exact, nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        check = "min_scale(cost) <= 6 AND abs(cost) < 1000000000000"
        op.create_check_constraint(op.f("document_lines_cost_exact"), "document_lines", check)
