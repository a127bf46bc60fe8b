"""What Prometheus is told of schedules: from the history, whoever ran them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.reconcile.metrics import ReconciliationSummary
from ops.schedules.history import ScheduleHistory
from ops.schedules.metrics_server import serve_metrics
from streams.settings import ScheduleSettings, Settings, SettingsError
from tests.support.workers import get

T0 = datetime(2026, 3, 2, 5, 0, tzinfo=UTC)
FOUND = ReconciliationSummary(
    at=T0, differences={"missing": 2}, gross_difference={"EUR": "3.10"}, store_days={"differs": 1}
)


class Served:
    """Two schedules, and the page with their metrics."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            data_folder=folder,
            schedules_port=0,
            schedules={
                "closing": ScheduleSettings(cron="0 5 * * *", reconcile={}),
                "sales": ScheduleSettings(cron="0 4 * * *", files=["sales.csv"]),
            },
        )
        self.history = ScheduleHistory(folder)
        self.runs = 0

    def ended(self, name: str, outcome: str, report: dict[str, Any] | None = None) -> None:
        self.runs += 1
        due = T0 + timedelta(days=self.runs)
        self.history.claim(name, due, due)
        self.history.end(name, due, due, outcome, report or {})

    def lines(self) -> list[str]:
        with serve_metrics(self.settings, self.history) as port:
            _, text = get(port, "/metrics")
        return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Served]:
    return Served(tmp_path)


def test_schedule_that_has_not_run_yet_has_not_failed(page: Served) -> None:
    assert page.lines() == [f'tillstream_schedule_failed{{schedule="{name}"}} 0.0' for name in ("closing", "sales")]


@pytest.mark.parametrize(
    ("outcome", "failed"),
    [
        ("done", 0),
        ("bad lines", 0),
        ("incomplete", 0),
        ("unreadable files", 1),
        ("failed: no broker at kafka:9092", 1),
        ("broken off", 1),
    ],
)
def test_schedule_has_failed_when_its_last_run_did(page: Served, outcome: str, failed: int) -> None:
    page.ended("sales", "done")
    page.ended("sales", outcome)
    page.ended("sales", "missed")  # was no run
    assert f'tillstream_schedule_failed{{schedule="sales"}} {failed}.0' in page.lines()


def test_last_reconciliation_is_told_also_when_a_later_one_failed(page: Served) -> None:
    page.ended("closing", "done", FOUND.model_dump(mode="json") | {"differences": {"missing": 0}})
    page.ended("closing", "differs", FOUND.model_dump(mode="json"))
    page.ended("closing", "failed: no broker at kafka:9092")
    assert page.lines() == [
        'tillstream_schedule_failed{schedule="closing"} 1.0',
        'tillstream_schedule_failed{schedule="sales"} 0.0',
        'tillstream_reconciliation_differences{kind="missing",schedule="closing"} 2.0',
        'tillstream_reconciliation_gross_difference{currency="EUR",schedule="closing"} 3.1',
        'tillstream_reconciliation_store_days{schedule="closing",state="differs"} 1.0',
        'tillstream_reconciliation_timestamp_seconds{schedule="closing"} 1.7724276e+09',
    ]


def test_port_that_is_taken_is_a_wrong_setting(page: Served) -> None:
    with serve_metrics(page.settings, page.history) as port:
        taken = page.settings.model_copy(update={"schedules_port": port})
        with pytest.raises(SettingsError, match="set http_host and schedules_port"), serve_metrics(taken, page.history):
            pass
