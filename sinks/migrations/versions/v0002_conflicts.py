"""Events that were refused for their receipt.

A migration is self-contained: it does not import the tables of today.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "conflicts",
        sa.Column("event_id", KEY, nullable=False),
        sa.Column("content", KEY, nullable=False),
        sa.PrimaryKeyConstraint("event_id", "content", name="conflicts_pkey"),
    )
