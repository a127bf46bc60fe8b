"""The outage drill, hurried: a real worker under load, its database away and back, watched by a real Prometheus.

While it runs, every query of every dashboard and every rule is asked of that Prometheus: those that have to answer
while all is well before the outage, and the others during it.
"""

import json
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from pathlib import Path

import pytest

from deploy.components import postgres_folder
from deploy.drills import picture
from deploy.drills.outage import Plan, drill
from deploy.drills.timeline import ALERT, Timeline
from deploy.grafana.boards import FOLDER
from deploy.prometheus.server import Prometheus, binary
from ops.schedules.history import ScheduleHistory
from ops.schedules.metrics_server import serve_metrics
from ops.schedules.scheduler import JobScheduler
from ops.simulator.tills import SimulatedRecord, TrafficShares, traffic
from streams.assembly import build_replay_pipeline
from streams.kafka.topics import ensure_topics
from streams.settings import ReconciliationSettings, ScheduleSettings, Settings
from tests.support.events import value
from tests.support.kafka import Kafka
from tests.support.postgres_server import LocalPostgres
from tests.support.promql import STRICT, as_grafana_asks, names_in, rules, selectors_in

MAPPING = """\
mapping: 1
name: drill
reload_seconds: 1
cleaning:
  gross: {at_most: 20, then: flag}
"""
#: What the dashboards' variables are set to.
CHOSEN = {"job": "tillstream", "reconciler": "tillstream-schedules", "store": "S001", "instance": ".+"}
#: A scrape every second, and a few of them for a rate.
EVERY, RATE_INTERVAL = 1, "4s"
#: The metrics that a worker has none of while all is well.
OF_TROUBLE = {"ALERTS", "tillstream_sink_errors_total", "tillstream_mapping_errors_total"}
#: The rules whose conditions are staged here, by when. The others need what this can't stage beside it: a worker that
#: hangs, holds or is slow for minutes, a store that is silent for hours. What they read is there, and that they fire is
#: in deploy/prometheus/tests.
STAGED = {
    "TillstreamManyDeadLetters-ticket": "selling",
    "TillstreamManyDuplicatesInSink-ticket": "selling",
    "TillstreamReceiptsMissing-ticket": "selling",
    "TillstreamStoreSilent-ticket": "selling",
    "TillstreamReconciliationDiffers-ticket": "selling",
    "TillstreamMappingRefused-ticket": "away",
    "TillstreamSinkDown-ticket": "away",
    "TillstreamSinkDown-page": "away",
    "TillstreamNoWorker-page": "over",
}
PANELS: dict[str, list[str]] = {
    f"{path.stem}-{panel['title']}": [
        as_grafana_asks(target["expr"], CHOSEN, RATE_INTERVAL) for target in panel["targets"]
    ]
    for path in sorted(FOLDER.glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
}
RULES: dict[str, str] = {
    f"{rule.get('alert') or rule['record']}-{rule.get('labels', {}).get('severity', 'recorded')}": rule["expr"]
    for rule in rules()
}


@dataclass
class Asked:
    """Which of the queries have given data by now, by when they did."""

    mapping: Path
    answered: dict[str, str] = field(default_factory=dict)
    timeline: Timeline | None = None

    def look(self, when: str, prometheus: Prometheus) -> None:
        """Asks until all have answered that can, or it takes too long: the tests then say which have not."""
        if when == "away":
            self.mapping.write_text("mapping: 1\nname: [\n")
        open_ones = {query for query, due in everything().items() if due == when}
        deadline = time.monotonic() + 20
        while (left := open_ones - self.answered.keys()) and time.monotonic() < deadline:
            self.answered |= {query: when for query in left if prometheus.query(query)}
            time.sleep(EVERY / 2)  # the next answers come with the next scrape


def everything() -> dict[str, str]:
    """All that is asked, with when at the latest it has to give data."""
    read = {selector for expression in RULES.values() for selector in selectors_in(expression)}
    recorded = {expression for name, expression in RULES.items() if name.endswith("-recorded")}
    asked = {query for queries in PANELS.values() for query in queries} | read | recorded
    when = {query: "away" if names_in(query) & OF_TROUBLE else "selling" for query in asked}
    return when | {RULES[name]: due for name, due in STAGED.items()}


def sales() -> Iterator[SimulatedRecord]:
    """Three stores, of which one sold days ago, and two sell now: their registers leave numbers out, many of the
    records are broken, and the others are sent again in other bytes, which the dedupe window does not know."""

    def sold(seed: int, first: int, stores: int, age: timedelta = timedelta()) -> Iterator[SimulatedRecord]:
        shares, clock = TrafficShares(broken=0.05), lambda: datetime.now(UTC) - age
        return traffic(seed, clock, stores=stores, registers=1, first_receipt=first, shares=shares)

    yield from islice(sold(1, 1, 3, timedelta(days=4)), 30)
    for sent in chain(islice(sold(2, 1_000_000, 2), 100), sold(3, 1_000_100, 2)):
        yield sent
        if sent.kind == "fresh":
            yield sent._replace(kind="resent", value=b" " + sent.value)


@pytest.fixture(scope="module")
def asked(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The drill is over; what it has shown."""
    if binary() is None:
        assert not STRICT, "Prometheus is wanted (TILLSTREAM_TEST_STRICT)"
        pytest.skip("needs Prometheus: install Debian's package prometheus, or set TILLSTREAM_PROMETHEUS")
    if postgres_folder() is None:
        pytest.skip("needs a server of its own: install PostgreSQL")
    mapping = tmp_path_factory.mktemp("drill") / "mapping.yaml"
    mapping.write_text(MAPPING)
    settings = {
        "mapping": str(mapping),
        "stores": {"S001": {"opening_hours": "24/7"}},
        "retries": {"payment_mismatch": {"first_seconds": 1}},
        "dead_letter_budget": {"ratio": 1, "in_a_row": None},
    }
    plan = Plan(before=1, away=8, after=1, rate=500, workers=1, every=EVERY, hurry=6, settings=settings)
    made = Asked(mapping)
    with LocalPostgres(fsync=False) as postgres, reconciled(kafka, tmp_path_factory.mktemp("closing")) as port:
        plan = replace(plan, schedules=[port])
        made.timeline = drill(plan, kafka.bootstrap, postgres, sales(), made.look)
    return made


@contextmanager
def reconciled(kafka: Kafka, folder: Path) -> Iterator[int]:
    """Another shop, whose worker has passed over a sale: its schedule has found that. Gives where it says so."""
    topic = f"closing-{folder.parent.name}-{folder.name}"
    settings = Settings(
        broker=kafka.bootstrap,
        topic=topic,
        dead_letter_topic=f"{topic}.dlq",
        group=topic,
        sink_url=f"sqlite:///{folder}/erp.sqlite",
        apply_migrations=True,
        data_folder=folder,
        schedules={"closing": ScheduleSettings(cron="0 5 * * *", reconcile=ReconciliationSettings(days=3660))},
        schedules_port=0,
    )
    build_replay_pipeline(settings).sink.close()
    kafka.create_topic(topic)
    ensure_topics(settings.kafka_access, settings.topic_plan)
    ((partition, offset),) = kafka.produce(topic, [(b"S1", value(1), [])])
    kafka.skip(topic, topic, {partition: offset + 1})
    history = ScheduleHistory(folder)
    assert (
        JobScheduler("closing", settings, history, lambda: datetime.now(UTC), threading.Event()).run_now() == "differs"
    )
    with serve_metrics(settings, history) as port:
        yield port


@pytest.fixture
def timeline(asked: Asked) -> Timeline:
    """What happened in the drill."""
    assert asked.timeline is not None
    return asked.timeline


def test_nothing_is_lost_the_lag_drains_and_the_alert_tells_it(timeline: Timeline) -> None:
    assert timeline.findings == []
    assert timeline.balance["accounted"]
    assert timeline.balance["delivered"] > 0


def test_alert_is_pending_then_fires_then_is_resolved(timeline: Timeline) -> None:
    (told,) = [alert for alert in timeline.alerts if (alert.name, alert.severity) == (ALERT, "ticket")]
    assert told.pending is not None
    assert told.firing is not None
    assert told.ended is not None
    assert 0 < told.pending < told.firing < told.ended
    assert timeline.at("database started") < told.ended


def test_short_outage_calls_nobody(timeline: Timeline) -> None:
    (held_back,) = [alert for alert in timeline.alerts if (alert.name, alert.severity) == (ALERT, "page")]
    assert held_back.pending is not None
    assert held_back.firing is None


def test_picture_of_the_drill_shows_its_lines_and_its_alerts(timeline: Timeline) -> None:
    drawn = ElementTree.fromstring(picture.draw(timeline))
    lines = [element.get("points", "").split() for element in drawn.iter("{http://www.w3.org/2000/svg}polyline")]
    words = " ".join(element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert len(lines) == 3
    assert all(len(line) > 5 for line in lines)
    assert "SinkDown (ticket)" in words
    assert "accounted for, to the cent" in words


@pytest.mark.parametrize("panel", PANELS)
def test_every_query_of_a_panel_gives_data(asked: Asked, panel: str) -> None:
    assert [query for query in PANELS[panel] if query not in asked.answered] == []


@pytest.mark.parametrize("rule", [name for name in RULES if name.endswith("-recorded") or name in STAGED])
def test_every_recorded_and_every_staged_expression_gives_data(asked: Asked, rule: str) -> None:
    assert RULES[rule] in asked.answered


@pytest.mark.parametrize("rule", RULES)
def test_everything_that_a_rule_reads_is_there(asked: Asked, rule: str) -> None:
    assert [selector for selector in sorted(selectors_in(RULES[rule])) if selector not in asked.answered] == []


def test_staged_alerts_are_alerts() -> None:
    assert RULES.keys() >= STAGED.keys()
