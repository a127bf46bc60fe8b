"""The sinks that the contract holds for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url

from sinks.base import Sink
from sinks.registry import open_sink
from sinks.url import shown
from tests.conftest import ON_POSTGRES
from tests.contract.jsonlines import JsonLinesSink
from tests.support import erpnext as erpnext_site
from tests.support import odoo as odoo_server
from tests.support.kafka import Kafka
from tests.support.receiver import SECRET, Receiver
from tests.support.tryton import empty, sink_of
from tests.support.web import Website, served


def open_full_url(url: str) -> Sink:
    """The sink at a URL that has its password in it, as the tests' servers give them."""
    password = make_url(url).password
    return open_sink(shown(url), password=None if password is None else str(password))


SQL = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
#: Those that hold any document whatever, as an ERP would not.
STORES = ["memory", *SQL, "webhook", "jsonlines"]
KAFKA = pytest.param("kafka", marks=pytest.mark.kafka)  # holds any as well, and takes longer
ERPS = ["erpnext", "odoo19"]


#: By the name of its server.
TRYTON = [pytest.param("tryton_server", marks=pytest.mark.tryton), ON_POSTGRES]


@pytest.fixture(params=[*STORES, KAFKA, *ERPS, *TRYTON])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """An empty sink."""
    sink = _prepared(request, tmp_path)
    yield sink
    sink.close()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """An empty sink that books nothing: it holds any document whatever, as an ERP would not."""
    sink = _prepared(request, tmp_path)
    yield sink
    sink.close()


@pytest.fixture(params=["memory", *SQL, "webhook", KAFKA])
def remembering(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """An empty sink that knows when it took an event."""
    sink = _prepared(request, tmp_path)
    yield sink
    sink.close()


@pytest.fixture(params=["memory", *SQL])
def forgetful(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    """An empty sink whose documents can be taken back."""
    sink = _prepared(request, tmp_path)
    yield sink
    sink.close()


@pytest.fixture(params=SQL)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty SQL sink, its schema applied."""
    url = _url(request, tmp_path)
    sink = open_full_url(url)
    assert all(finding.ok for finding in sink.check(apply=True))
    sink.close()
    return url


@pytest.fixture
def sql_sink(sql_url: str) -> Iterator[Sink]:
    """An empty SQL sink."""
    sink = open_full_url(sql_url)
    yield sink
    sink.close()


@pytest.fixture
def receiver() -> Iterator[Website]:
    """A webhook's receiver."""
    with served(Receiver()) as website:
        yield website


@pytest.fixture
def erpnext() -> Iterator[Website]:
    """A simulated ERPNext."""
    with served(erpnext_site.ErpNextSite()) as website:
        yield website


@pytest.fixture
def odoo19() -> Iterator[Website]:
    """A simulated Odoo 19, by JSON-2."""
    with served(odoo_server.OdooServer("19.0")) as website:
        yield website


@pytest.fixture
def odoo17() -> Iterator[Website]:
    """A simulated Odoo 17, by JSON-RPC."""
    with served(odoo_server.OdooServer("17.0")) as website:
        yield website


def _prepared(request: pytest.FixtureRequest, tmp_path: Path) -> Sink:
    """An empty sink, in order."""
    if request.param == "webhook":
        website: Website = request.getfixturevalue("receiver")
        sink: Sink = open_sink(f"http://{website.host}/hook?{_ledger(tmp_path)}", password=SECRET)
    elif request.param == "erpnext":
        website = request.getfixturevalue("erpnext")
        sink = open_sink(f"{erpnext_url(website)}&{_ledger(tmp_path)}", password=erpnext_site.SECRET)
    elif request.param in ("odoo19", "odoo17"):
        website = request.getfixturevalue(request.param)
        sink = open_sink(f"{odoo_url(website)}&{_ledger(tmp_path)}", password=odoo_server.KEY)
    elif request.param.startswith("tryton"):
        server = request.getfixturevalue(request.param)
        empty(server)
        sink = sink_of(server, tmp_path)
    elif request.param == "jsonlines":
        sink = JsonLinesSink(URL.create("jsonl", database=str(tmp_path / "documents.jsonl")))
    else:
        sink = open_full_url(_url(request, tmp_path))
    assert [finding for finding in sink.check(apply=True) if not finding.ok] == []
    return sink


def _url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "postgres":
            return str(request.getfixturevalue("postgres_url"))
        case "kafka":
            kafka = with_transactions(request.getfixturevalue("kafka"))
            return f"kafka://{kafka.bootstrap}/{request.getfixturevalue('topic_name')}?index={tmp_path / 'index.db'}"
        case "memory":
            return "memory://"
    return f"sqlite:///{tmp_path / 'sink.db'}"


def with_transactions(kafka: Kafka) -> Kafka:
    """Skips the test on the mock."""
    if kafka.kind == "embedded":
        pytest.skip("needs a real broker: the mock knows no transactions")
    return kafka


def erpnext_url(website: Website) -> str:
    """The simulated ERPNext's URL, but for the ledger."""
    accounts = "tax_account=VAT%20-%20S&rounding_account=Round%20Off%20-%20S"
    return f"erpnext+http://{erpnext_site.KEY}@{website.host}?company=Shop&customer=Walk-in&{accounts}"


def odoo_url(website: Website) -> str:
    """A simulated Odoo's URL, but for the ledger."""
    return f"odoo+http://{odoo_server.LOGIN}@{website.host}/shop?company=Shop&journal=POS&customer=7"


def _ledger(tmp_path: Path) -> str:
    return f"ledger=sqlite:///{tmp_path / 'ledger.db'}"
