"""`tillstream check`, `post` and `ledger` on a real Tryton."""

import json
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.tryton.server import PASSWORD
from ops.check import check_sink
from ops.cli import program
from streams.settings import load_settings
from tests.support.documents import document, documents
from tests.support.tryton import Running, sink_of, sink_url


@pytest.fixture
def url(tryton: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A sink's URL; the password is in the environment."""
    monkeypatch.setenv("TILLSTREAM_SINK_PASSWORD", PASSWORD)
    return sink_url(tryton, tmp_path)


def invoke(*arguments: str) -> Result:
    """One command, to its end."""
    return CliRunner().invoke(program, arguments)


def test_what_was_delivered_is_posted_and_told(tryton: Running, tmp_path: Path, url: str) -> None:
    sink = sink_of(tryton, tmp_path)
    sink.write(documents(3))
    done = invoke("post", "--sink", url, "--json")
    assert (done.exit_code, json.loads(done.output)) == (0, {"posted": 3, "refused": 0, "left": 0, "details": []})
    assert invoke("ledger", "--sink", url).output == "posted  3\n"
    (row,) = [json.loads(invoke("ledger", "--sink", url, "--json", document(1).external_ref).output)]
    assert (row["state"], row["attempts"], row["number"][:3]) == ("posted", 1, "S1-")
    sink.close()


def test_what_is_refused_is_told_with_its_reason_and_exit_code(tryton: Running, tmp_path: Path, url: str) -> None:
    sink = sink_of(tryton, tmp_path)
    sink.write([document(1), document(2, business_date=date(2019, 1, 1))])
    done = invoke("post", "--sink", url)
    assert done.exit_code == 1
    assert done.output.startswith("1 posted, 1 refused, 1 left\n  refused: ")
    sink.close()


def test_lost_ledger_is_rebuilt(tryton: Running, tmp_path: Path, url: str) -> None:
    sink = sink_of(tryton, tmp_path)
    sink.write(documents(3))
    sink.close()
    for file in tmp_path.glob("ledger.sqlite*"):
        file.unlink()
    assert invoke("ledger", "--sink", url).output == ""
    assert invoke("ledger", "--sink", url, "--rebuild").output == "confirmed  3\n"


def test_wrong_password_is_told_by_the_check(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILLSTREAM_SINK_PASSWORD", "wrong")
    (found,), code = check_sink(load_settings(sink_url=url), apply=False)
    assert (code, found.detail) == (3, "unreachable")
    assert "user or password is wrong" in found.advice


def test_check_of_a_company_that_is_set_up_finds_nothing_wrong(url: str) -> None:
    findings, code = check_sink(load_settings(sink_url=url), apply=False)
    assert (code, [finding.subject for finding in findings if not finding.ok]) == (0, [])


def test_other_sinks_have_no_second_stage(tmp_path: Path) -> None:
    done = invoke("post", "--sink", f"sqlite:///{tmp_path}/erp.sqlite")
    assert done.exit_code == 2
    assert "no second stage" in done.output
