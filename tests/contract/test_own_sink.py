"""The sink of docs/how-to/write-a-sink.md: what it promises beyond the contract, and how its URL is found."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from sqlalchemy import URL

from sinks.base import SinkMisconfigured, SinkUnavailable
from sinks.registry import open_sink
from tests.contract.jsonlines import JsonLinesSink
from tests.contract.test_sink_contract import effects
from tests.support.documents import document, documents

ROOT = Path(__file__).parents[2]


def opened(path: Path) -> JsonLinesSink:
    return JsonLinesSink(URL.create("jsonl", database=str(path)))


def test_what_was_written_is_known_after_a_restart(tmp_path: Path) -> None:
    sink = opened(tmp_path / "d.jsonl")
    sink.write([document(1, 0), document(2, 0)])
    sink.write([document(1, 1), document(2, 0, event_id="pos:other", cashier="Bob")])
    sink.close()
    again = opened(tmp_path / "d.jsonl")
    assert effects(again.write([document(1, 0), document(2, 0)])) == ["duplicate"] * 2
    assert effects(again.write([document(2, 1)])) == ["replaced"]
    assert effects(again.write([document(2, 0, event_id="pos:other", cashier="Bob")])) == ["conflicting_receipt"]
    again.close()


def test_line_that_a_crash_has_torn_is_taken_back(tmp_path: Path) -> None:
    sink = opened(tmp_path / "d.jsonl")
    sink.write(documents(2))
    sink.close()
    whole = (tmp_path / "d.jsonl").read_bytes()
    (tmp_path / "d.jsonl").write_bytes(whole[:-10])
    again = opened(tmp_path / "d.jsonl")
    assert effects(again.write(documents(2))) == ["duplicate", "written"]
    again.close()
    assert (tmp_path / "d.jsonl").read_bytes() == whole


def test_second_process_waits(tmp_path: Path) -> None:
    sink = opened(tmp_path / "d.jsonl")
    sink.ping()
    other = opened(tmp_path / "d.jsonl")
    with pytest.raises(SinkUnavailable):
        other.write([document()])
    sink.close()
    assert effects(other.write([document()])) == ["written"]
    other.close()


def test_example_has_under_100_lines() -> None:
    assert len((ROOT / "tests/contract/jsonlines.py").read_text().splitlines()) < 100


def test_page_shows_the_example_as_it_is() -> None:
    page = (ROOT / "docs/how-to/write-a-sink.md").read_text()
    assert (ROOT / "tests/contract/jsonlines.py").read_text() in page


def test_sink_of_an_installed_package_is_opened_by_its_scheme(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point = EntryPoint("jsonl", "tests.contract.jsonlines:JsonLinesSink", "tillstream.sinks")
    monkeypatch.setattr("sinks.registry.entry_points", lambda group: [point] if group == "tillstream.sinks" else [])
    sink = open_sink(f"jsonl:///{tmp_path}/d.jsonl")
    assert isinstance(sink, JsonLinesSink)
    sink.close()
    with pytest.raises(SinkMisconfigured, match="jsonl://…"):
        open_sink("nothing://")


def test_built_in_schemes_can_not_be_taken_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    point = EntryPoint("sqlite", "tests.contract.jsonlines:JsonLinesSink", "tillstream.sinks")
    monkeypatch.setattr("sinks.registry.entry_points", lambda group: [point])
    sink = open_sink(f"sqlite:///{tmp_path}/d.sqlite")
    assert not isinstance(sink, JsonLinesSink)
    sink.close()


def test_sinks_that_nobody_opens_are_not_imported() -> None:
    program = "import sys, sinks.registry; print([n for n in sys.modules if n.startswith('sinks.') or n == 'urllib3'])"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['sinks.base', 'sinks.url', 'sinks.registry']"
