"""The rivals' tables: the shape of Tillstream's, without its tax totals, checks and revisions."""

import psycopg

TABLES = """
CREATE TABLE documents (
    event_id text NOT NULL, external_ref text COLLATE "C" PRIMARY KEY, kind text NOT NULL, store text NOT NULL,
    register_id text NOT NULL, receipt text NOT NULL, business_date date NOT NULL, occurred_at timestamptz NOT NULL,
    currency text NOT NULL, cashier text, net numeric NOT NULL, tax numeric NOT NULL, gross numeric NOT NULL
);
CREATE INDEX ON documents (store, business_date);
CREATE TABLE lines (
    event_id text COLLATE "C", position integer, sku text NOT NULL, description text NOT NULL,
    quantity numeric NOT NULL, unit text NOT NULL, unit_price numeric NOT NULL, tax_rate numeric NOT NULL,
    net numeric NOT NULL, tax numeric NOT NULL, gross numeric NOT NULL, PRIMARY KEY (event_id, position)
);
CREATE TABLE payments (
    event_id text COLLATE "C", position integer, kind text NOT NULL, amount numeric NOT NULL,
    PRIMARY KEY (event_id, position)
);
CREATE TABLE deliveries (event_id text COLLATE "C" PRIMARY KEY, delivered_at timestamptz NOT NULL)
"""


def create(database: str) -> None:
    """Creates them in an empty database."""
    with psycopg.connect(database) as connection:
        connection.execute(TABLES)
