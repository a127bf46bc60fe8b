"""A real Tryton for tests, and its books:

1. the one of TILLSTREAM_TEST_TRYTON (tryton+http://user@host/database), which has the company, the users and the
   passwords of `deploy/tryton`; its database is that of TILLSTREAM_TEST_TRYTON_SQL, where tests take sales away,
2. else one of this machine's own, installed from PyPI once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import URL, create_engine, make_url, text

from deploy.processes import ServerError
from deploy.tryton import distribution
from deploy.tryton.server import ADMIN, ADMIN_PASSWORD, PASSWORD, Tryton, template
from sinks.registry import open_sink
from sinks.tryton.rpc import LANGUAGE, TrytonClient
from sinks.tryton.sink import TrytonSink
from sinks.url import shown

_ROOT = Path(__file__).parents[2]
_ADDRESS = "TILLSTREAM_TEST_TRYTON"

#: What sales leave behind, parts before wholes. Sequences go on.
_TABLES = (
    *("account_tax_line", "account_move_line", "account_move", "stock_move"),
    *("sale_point_payment", "sale_point_sale_line", "sale_point_sale", "sale_point_cash_session"),
    *("tillstream_delivery", "tillstream_conflict"),
)


class Running(Protocol):
    """A Tryton that runs."""

    @property
    def url(self) -> str: ...
    @property
    def sql_url(self) -> str: ...


class _Given(NamedTuple):
    url: str
    sql_url: str


def tryton_in_words() -> str:
    """What tests of Tryton run on."""
    if _ADDRESS in os.environ:
        return f"tryton: {shown(os.environ[_ADDRESS])}"
    return f"tryton: a server of our own, {'installed' if distribution.DIST.is_dir() else 'to be installed from PyPI'}"


def why_no_tryton() -> str | None:
    """What keeps a server of our own from being installed, if anything does; installs it first."""
    if _ADDRESS in os.environ:
        return None
    try:
        template()
    except ServerError as error:
        return str(error)
    return None


@contextmanager
def open_tryton() -> Iterator[Running]:
    """The given server, or one of our own with an SQLite database."""
    if _ADDRESS in os.environ:
        yield _Given(os.environ[_ADDRESS], os.environ[f"{_ADDRESS}_SQL"])
    else:
        with Tryton() as server:
            yield server


def sink_of(server: Running, folder: Path, **options: str) -> TrytonSink:
    """A sink with a ledger in `folder`; stores without a point of sale are Main's."""
    sink = open_sink(sink_url(server, folder, **options), password=PASSWORD)
    assert isinstance(sink, TrytonSink)
    return sink


def sink_url(server: Running, folder: Path, **options: str) -> str:
    """The URL of such a sink."""
    query = {"point": "Main", "ledger": f"sqlite:///{folder / 'ledger.sqlite'}"} | options
    return make_url(server.url).update_query_dict(query).render_as_string()


def start_poster(url: str) -> subprocess.Popen[bytes]:
    """`tillstream post`, again and again, in a process of its own. On SQLite deliveries wait for each of its calls."""
    arguments = ["post", "--every", "1", "--batch", "5", "--sink", url]
    environment = os.environ | {"TILLSTREAM_SINK_PASSWORD": PASSWORD, "PYTHONPATH": str(_ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "ops.cli", *arguments], cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL
    )


def empty(server: Running) -> None:
    """Takes away everything that was ever sold."""
    engine = create_engine(server.sql_url)
    with engine.begin() as connection:
        for table in _TABLES:
            connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()


class Books:
    """The ledger of Tryton, as an accountant sees it."""

    def __init__(self, server: Running) -> None:
        self.client = TrytonClient(admin_url(server))
        self.context = {"company": 1, "language": LANGUAGE}

    def call(self, model: str, method: str, *params: Any) -> Any:
        """Any method of any model, as the administrator."""
        return self.client.call(f"model.{model}.{method}", *params, self.context)

    def sales(self) -> dict[str, dict[str, Any]]:
        """All sales, by their reference."""
        fields = ["external_ref", "state", "number", "total", "total_tax", "move", "till_corrected_by", "revision"]
        rows = self.call("sale.point.sale", "search_read", [], 0, None, None, fields)
        return {row["external_ref"]: row for row in rows}

    def balances(self) -> dict[str, Decimal]:
        """Debit less credit of each account, by its name; accounts without any are left out."""
        fields = ["account.name", "debit", "credit"]
        sums: dict[str, Decimal] = {}
        for row in self.call("account.move.line", "search_read", [], 0, None, None, fields):
            name = row["account."]["name"]
            sums[name] = sums.get(name, Decimal(0)) + row["debit"] - row["credit"]
        return {name: amount for name, amount in sums.items() if amount}

    def moves_of(self, external_ref: str) -> list[tuple[str, Decimal, Decimal]]:
        """(account, debit, credit) of each line of a sale's move, sorted."""
        move = self.sales()[external_ref]["move"]
        fields = ["account.name", "debit", "credit"]
        rows = self.call("account.move.line", "search_read", [["move", "=", move]], 0, None, None, fields)
        return sorted((row["account."]["name"], row["debit"], row["credit"]) for row in rows)

    def stock_moves(self) -> list[tuple[str, str, float]]:
        """(from, to, quantity) of each stock move, sorted."""
        fields = ["from_location.code", "to_location.code", "quantity"]
        rows = self.call("stock.move", "search_read", [], 0, None, None, fields)
        return sorted((row["from_location."]["code"], row["to_location."]["code"], row["quantity"]) for row in rows)

    def close(self) -> None:
        """Gives the connection back."""
        self.client.close()


def admin_url(server: Running) -> URL:
    """The server, as its administrator."""
    url = make_url(server.url)
    return url.set(drivername="http", username=ADMIN, password=ADMIN_PASSWORD)
