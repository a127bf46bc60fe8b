"""Tills and ERP compared on a real broker and real databases, with workers between them, and everything sabotaged."""

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from confluent_kafka import OFFSET_END, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ops.cli import program
from ops.schedules.history import ScheduleHistory
from streams.assembly import build_replay_pipeline
from streams.batch import Batch
from streams.dead_letters.record import DeadLetterRecord
from streams.dead_letters.writer import DeadLetterWriter
from streams.kafka.producer import ConfirmingProducer
from streams.kafka.topics import ensure_topics
from streams.pipeline import process
from streams.settings import Settings, load_settings
from tests.support.events import value
from tests.support.kafka import Kafka
from tests.support.topics import Record
from tests.support.wait import wait_until
from tests.support.workers import Shop, get, open_shop, own_port

_KEY = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
#: The columns of a document's parts that a copy has.
PARTS = {
    "document_lines": "position, sku, description, quantity, unit, unit_price, discount, tax_rate, net, tax, gross",
    "document_payments": "position, kind, amount",
}
DAYS = ("2026-03-09", "2026-03-10", "2026-03-11")


class Books:
    """A shop that has sold for three days, and the program."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.config = shop.folder / "tillstream.yaml"
        self.settings: dict[str, Any] = shop.settings | {"certificate_key": _KEY}
        self.told: dict[str, Any] = {}

    def sell(self, *values: bytes | None) -> list[tuple[int, int]]:
        return self.shop.send(*values, partition=1)

    def employ(self, seconds: float = 60) -> None:
        """A worker takes all that is there."""
        worker = self.shop.start()
        self.shop.wait_drained(seconds)
        assert worker.terminate() == 0

    def work(self) -> None:
        """The line takes all that is there, in this process: it is sooner there than a worker."""
        settings = self.loaded()
        ensure_topics(settings.kafka_access, settings.topic_plan)
        done = self.shop.topics.committed(self.shop.group, self.shop.topic)
        waiting: dict[int, list[Record]] = defaultdict(list)
        for record in self.shop.topics.records(self.shop.topic):
            if record.offset >= done.get(record.partition, 0):
                waiting[record.partition].append(record)
        sender = ConfirmingProducer(settings.kafka_access, settings.max_record_bytes)

        async def publish(letters: Sequence[DeadLetterRecord]) -> None:
            for letter in letters:
                sender.send(settings.dead_letter_topic, *letter)
            sender.confirm()

        desk = build_replay_pipeline(settings)
        try:
            services = replace(desk.services, dead_letters=DeadLetterWriter(publish, lambda: datetime.now(UTC)))
            for partition, records in waiting.items():
                asyncio.run(process(Batch(self.shop.topic, partition, records), services))
        finally:
            desk.sink.close()
        ends = {partition: records[-1].offset + 1 for partition, records in waiting.items()}
        self.shop.topics.skip(self.shop.group, self.shop.topic, ends)

    def write(self) -> Path:
        self.config.write_text(yaml.safe_dump(self.settings))
        return self.config

    def loaded(self) -> Settings:
        return load_settings(self.write())

    def run(self, *arguments: str, code: int = 0) -> str:
        """What the program says; it must end with this exit code, and never with a traceback."""
        self.loaded()
        told = CliRunner().invoke(
            program, [*arguments, "--config", str(self.config)], env={"TILLSTREAM_OPERATOR": "ada"}
        )
        assert told.exception is None or isinstance(told.exception, SystemExit), told.exc_info
        assert told.exit_code == code, told.output
        return told.output

    def reconcile(self, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
        """By day what was found."""
        found = json.loads(self.run("reconcile", *arguments, "--json", code=code))
        return {day["day"]: day for day in found["days"]}

    def noted(self, day: str) -> list[tuple[str, bool, str]]:
        """(state, whether reopened, by whom) of what was noted of the day, in order of time."""
        states = json.loads(self.run("reconcile", "history", "--store", "S1", "--day", day, "--json"))
        return [(each["state"], each["reopened"], each["by"]) for each in states]


def differences(days: dict[str, dict[str, Any]]) -> set[tuple[str, str, str]]:
    """(day, kind, receipt) of all."""
    return {(name, each["kind"], each["receipt"]) for name, day in days.items() for each in day["differences"]}


def states(days: dict[str, dict[str, Any]]) -> dict[str, str]:
    """By day its state."""
    return {name: day["state"] for name, day in days.items()}


#: When the ERP holds all that it should: a record that can't be read, and a receipt that is a dead letter, are left.
REPAIRED = {"": "incomplete", DAYS[0]: "balanced", DAYS[1]: "incomplete", DAYS[2]: "balanced"}


def sold(number: int, day: str, **changes: Any) -> bytes:
    return value(number, occurred_at=f"{day}T12:00:00Z", **changes)


def double(shop: Shop, number: int, day: str | None = None) -> None:
    """Books a document again under another reference, on another day if stated."""
    rest = (
        "event_id, kind, revision, content, source, store, register_id, receipt, occurred_at, currency, net, tax, "
        "rounding, gross, written_at, cashier, customer_id, original_ref"
    )
    on = "business_date" if day is None else f"'{day}'"
    shop.execute(
        f"INSERT INTO documents (external_ref, business_date, {rest}) SELECT '{ref(number)}x', {on}, {rest} "
        f"FROM documents WHERE external_ref = '{ref(number)}'",
        *(
            f"INSERT INTO {table} (external_ref, {names}) SELECT '{ref(number)}x', {names} FROM {table} "
            f"WHERE external_ref = '{ref(number)}'"
            for table, names in PARTS.items()
        ),
    )


def receipts() -> list[bytes]:
    """Ten receipts a day; of the second day one is bad, and one is sent again; of the third one is taken back."""
    made = [sold(100 * place + number, day) for place, day in enumerate(DAYS) for number in range(1, 11)]
    made.insert(13, made[12])
    made.append(sold(111, DAYS[1], totals={"gross": "9.99"}, tenders=[]))
    made.append(sold(211, DAYS[2], type="return"))
    return [*made, b"{", None]


def ref(number: int) -> str:
    return f"pos/S1/R1/{number}/sale"


@pytest.fixture
def books(tmp_path: Path, kafka: Kafka, topic_name: str) -> Iterator[Books]:
    """A shop whose sales are all in the ERP, an SQLite file, or dead letters."""
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as shop:
        opened = Books(shop)
        opened.sell(*receipts())
        opened.work()
        yield opened


@pytest.fixture
def big_books(tmp_path: Path, kafka: Kafka, topic_name: str, postgres_url: str) -> Iterator[Books]:
    """The same with PostgreSQL, and a worker between them that began ten records too late."""
    with open_shop(tmp_path, kafka, topic_name, postgres_url) as shop:
        opened = Books(shop)
        opened.sell(*receipts())
        shop.topics.skip(shop.group, shop.topic, {1: 10})
        opened.employ()
        yield opened


def test_every_sabotage_is_found_and_named_and_its_command_repairs_it(big_books: Books) -> None:
    books = big_books
    # A range of a partition is dropped.
    days = books.reconcile("--deep", code=1)
    assert differences(days) == {(DAYS[0], "missing", ref(number)) for number in range(1, 11)}
    assert "10 booked" in books.run("reconcile", "repair", "--apply")
    days = books.reconcile("--deep", "--allow-open")
    assert states(days) == REPAIRED
    assert [sum(account["events"] for account in day["accounts"]) for day in days.values()] == [2, 10, 12, 11]
    (account,) = days[DAYS[1]]["accounts"]
    assert account["by_fate"] == {"dead": 1, "duplicate": 1, "erp": 10}
    assert account["erp"]["gross"] == account["sent"]["gross"] == "30.00"
    assert account["sent"]["digest"] == account["erp"]["digest"]
    found = json.loads(books.run("reconcile", f"--since={DAYS[1]}", "--json", code=1))
    assert ([day["day"] for day in found["days"]], found["late"]) == ([DAYS[1], DAYS[2]], DAYS[0])

    books.shop.execute(
        f"DELETE FROM documents WHERE external_ref = '{ref(1)}'",  # delete a document
        f"UPDATE documents SET gross = gross + 1 WHERE external_ref = '{ref(2)}'",  # change an amount
        f"UPDATE document_lines SET sku = 'B' WHERE external_ref = '{ref(3)}'",  # change goods
        f"UPDATE document_lines SET tax_rate = 7 WHERE external_ref = '{ref(5)}'",  # change a tax rate
        f"DELETE FROM documents WHERE business_date = '{DAYS[2]}'",  # lose a day
    )
    double(books.shop, 4)  # double a document
    metrics = books.config.parent / "tillstream.prom"
    days = books.reconcile("--deep", f"--metrics={metrics}", code=1)
    assert differences(days) == {
        (DAYS[0], "missing", ref(1)),
        (DAYS[0], "altered", ref(2)),
        (DAYS[0], "altered", ref(3)),
        (DAYS[0], "altered", ref(5)),
        (DAYS[0], "doubled", ref(4) + "x"),
        *((DAYS[2], "missing", ref(number)) for number in range(201, 211)),
        (DAYS[2], "missing", "pos/S1/R1/211/return"),
    }
    assert 'tillstream_reconciliation_differences{kind="missing"} 12.0' in metrics.read_text()
    assert 'tillstream_reconciliation_gross_difference{currency="EUR"}' in metrics.read_text()
    printed = books.run("reconcile", code=1)
    assert "altered: what the ERP holds is not what the till sent (3)" in printed
    commands = {each["repair"] for day in days.values() for each in day["differences"]}
    assert all(command in printed for command in commands)
    assert "11 documents delivered before and deleted in the ERP: --revoke books them again" in books.run(
        "reconcile", "repair", f"--day={DAYS[2]}", code=1
    )
    told = books.run("reconcile", "repair", "--revoke")
    assert "15 of 16 differences: 15 would be booked" in told
    assert "1 copy would be taken back" in told
    for command in commands:
        books.run(*command.removeprefix("tillstream ").split(), "--apply")
    assert states(books.reconcile("--deep", code=1)) == REPAIRED


def shown(shop: Shop, ref: str) -> list[list[tuple[Any, ...]]]:
    """All rows that the ERP has of a reference."""
    tables = ("documents", "document_lines", "document_payments", "deliveries")
    return [shop.query(f"SELECT * FROM {table} WHERE external_ref = '{ref}' ORDER BY 1, 2") for table in tables]


def test_document_that_has_the_hash_of_another_is_not_taken_back_as_its_copy(big_books: Books) -> None:
    books = big_books
    assert "10 booked" in books.run("reconcile", "repair", "--apply")
    double(books.shop, 4)
    books.shop.execute(
        f"UPDATE documents SET gross = 7, net = 5.88, tax = 1.12 WHERE external_ref = '{ref(4)}x'",
        f"UPDATE document_lines SET sku = 'other' WHERE external_ref = '{ref(4)}x'",
    )
    held = shown(books.shop, f"{ref(4)}x")
    days = books.reconcile("--deep", code=1)
    assert differences(days) == {(DAYS[0], "only_in_erp", f"{ref(4)}x")}
    books.run("reconcile", "repair", "--revoke", "--apply", code=1)
    assert shown(books.shop, f"{ref(4)}x") == held


def test_repair_that_took_a_copy_back_can_be_undone_once(big_books: Books) -> None:
    books = big_books
    books.sell(sold(301, DAYS[0], cashier="Zoe Zimmer", customer={"id": "C-4711"}))
    books.work()
    books.run("reconcile", "repair", "--apply")
    double(books.shop, 301)
    held = shown(books.shop, f"{ref(301)}x")
    told = json.loads(books.run("reconcile", "repair", "--revoke", "--apply", "--json"))
    assert (told["taken_back"], told["kept"]) == (1, 1)
    assert shown(books.shop, f"{ref(301)}x") == [[], [], [], []]
    undo = ("reconcile", "repair", "--undo", told["action"])
    assert "1 of 1 document would be put back" in books.run(*undo)
    assert shown(books.shop, f"{ref(301)}x") == [[], [], [], []]
    assert "1 of 1 document put back, 0 already in the ERP" in books.run(*undo, "--apply")
    assert shown(books.shop, f"{ref(301)}x") == held
    assert "0 of 1 document put back, 1 already in the ERP" in books.run(*undo, "--apply")
    assert differences(books.reconcile("--deep", code=1)) == {(DAYS[0], "doubled", f"{ref(301)}x")}
    audit = books.run("dlq", "audit", "--json")
    assert [action["what"] for action in json.loads(audit)][-2:] == ["undo", "undo"]
    assert "Zimmer" not in audit
    assert "no repair 20260101-000000-0000 has taken anything back" in books.run(
        *undo[:-1], "20260101-000000-0000", code=2
    )


def test_undo_puts_a_day_back_to_what_it_was_in_both_answers(books: Books) -> None:
    narrowed = ("--store", "S1", "--day", DAYS[1], "--deep")
    double(books.shop, 101)
    before = answers(books, *narrowed, code=1)
    assert (before["state"], before["books"], before["unbooked"]["receipts"]) == ("differs", "differ", 1)
    told = json.loads(books.run("reconcile", "repair", "--revoke", "--apply", "--json"))
    repaired = answers(books, *narrowed, "--allow-open")
    assert (repaired["state"], repaired["books"]) == ("incomplete", "agree")
    assert repaired["unbooked"] == before["unbooked"]
    books.run("reconcile", "repair", "--undo", told["action"], "--apply")
    assert answers(books, *narrowed, code=1) == before


def answers(books: Books, *arguments: str, code: int = 0) -> dict[str, Any]:
    """What is said of one day, but for since when and whether it was reopened."""
    (day,) = books.reconcile(*arguments, code=code).values()
    return {name: said for name, said in day.items() if name not in ("since", "reopened")}


def test_undo_leaves_what_stands_there_now(books: Books) -> None:
    books.shop.execute(f"UPDATE documents SET gross = gross + 1 WHERE external_ref = '{ref(2)}'")
    told = json.loads(books.run("reconcile", "repair", "--revoke", "--apply", "--json"))
    assert (told["delivered"], told["kept"]) == (1, 1)
    held = shown(books.shop, ref(2))
    printed = books.run("reconcile", "repair", "--undo", told["action"], "--apply", code=1)
    assert f"not put back: {ref(2)}" in printed
    assert shown(books.shop, ref(2)) == held


def test_parts_of_no_document_are_named_and_taken_back(books: Books) -> None:
    books.shop.execute(
        f"INSERT INTO document_payments (external_ref, position, kind, amount) VALUES ('{ref(999)}', 1, 'cash', 100)",
        f"DELETE FROM deliveries WHERE external_ref = '{ref(3)}'",
    )
    assert books.reconcile("--allow-open")[DAYS[0]]["state"] == "balanced"  # sums don't show it
    days = books.reconcile("--deep", code=1)
    assert differences(days) == {("", "orphaned", ref(999)), (DAYS[0], "orphaned", ref(3))}
    (one,) = days[""]["differences"]
    assert one["detail"] == "no document, but 1 payment"
    assert "1 leftover without a document would be taken back" in books.run("reconcile", "repair", "--revoke")
    told = json.loads(books.run("reconcile", "repair", "--revoke", "--apply", "--json"))
    assert states(books.reconcile("--deep", "--allow-open")) == REPAIRED
    elsewhere = ("--sink", f"sqlite:///{books.shop.folder}/another.sqlite")
    assert "give --sink" in books.run("reconcile", "repair", "--undo", told["action"], *elsewhere, code=2)
    printed = books.run("reconcile", "repair", "--undo", told["action"], "--apply", code=1)
    assert "1 of 2 documents put back" in printed
    assert f"not put back: {ref(3)}" in printed


def test_what_the_erp_refuses_of_a_repair_is_told_and_left(books: Books) -> None:
    books.shop.execute(  # its lines stay, and are in the way
        f"DELETE FROM documents WHERE external_ref = '{ref(1)}'",
        f"DELETE FROM deliveries WHERE external_ref = '{ref(1)}'",
    )
    told = books.run("reconcile", "repair", code=1)
    assert "1 of 1 difference: 0 would be booked, 0 would be dead letters again, 1 would be refused" in told
    told = books.run("reconcile", "repair", "--apply", code=1)
    assert "1 refused" in told
    assert "a dead letter: refused_by_sink: " in told
    assert "tillstream dlq list" in told
    day = books.reconcile("--allow-open")[DAYS[0]]
    (account,) = day["accounts"]
    assert (account["by_fate"]["dead"], account["by_fate"]["erp"]) == (1, 9)
    assert (day["state"], day["unbooked"]["amounts"]) == ("incomplete", {"EUR": {"receipts": 1, "gross": "3.00"}})


def test_signed_day_is_reopened_by_a_late_event(books: Books) -> None:
    books.reconcile(code=1)
    narrowed = ("--store", "S1", "--day", DAYS[0])
    books.run("reconcile", "sign", *narrowed, "--by", "grace")
    certificate = books.config.parent / "certificate.json"
    page = books.config.parent / "certificate.html"
    books.run("reconcile", "certificate", *narrowed, "--to", str(certificate), "--html", str(page))
    said = json.loads(certificate.read_text())
    assert said["tills"] == f"topic {books.shop.topic} at {books.shop.topics.bootstrap}"
    assert said["erp"] == books.settings["sink_url"]
    found = said["found"]
    assert (found["state"], found["by"]) == ("signed off", "grace")
    for file in (certificate, page):
        assert "as it was signed" in books.run("reconcile", "verify", str(file))
        file.write_text(file.read_text().replace("30.00", "31.00"))
        books.run("reconcile", "verify", str(file), code=1)

    books.sell(sold(11, DAYS[0]))
    waits = books.reconcile(*narrowed, code=1)[DAYS[0]]
    assert (waits["state"], waits["unbooked"]["by_fate"]["waiting"]["receipts"]) == ("incomplete", 1)
    assert "the day still waits for the worker (3.00 EUR in 1 receipt)" in books.run(
        "reconcile", "sign", *narrowed, code=2
    )
    books.work()
    day = books.reconcile(*narrowed)[DAYS[0]]
    assert (day["state"], day["reopened"]) == ("balanced", True)
    assert books.noted(DAYS[0]) == [
        ("balanced", False, "ada"),
        ("signed off", False, "grace"),
        ("incomplete", True, "ada"),
        ("balanced", True, "ada"),
    ]


def test_schedule_reconciles_what_it_has_missed_and_tells_prometheus_of_it(books: Books, tmp_path: Path) -> None:
    port, data_folder = own_port(), tmp_path / "kept"
    daily = {"cron": "0 5 * * *", "reconcile": {"days": 0}}  # and all of which something came late
    books.settings |= {"data_folder": str(data_folder), "schedules": {"closing": daily}, "schedules_port": port}
    due = datetime.now(UTC) - timedelta(days=3)
    ScheduleHistory(data_folder).claim("closing", due, due)
    ScheduleHistory(data_folder).end("closing", due, due, "failed: it was away", {})
    books.shop.execute(f"UPDATE documents SET gross = gross + 1 WHERE external_ref = '{ref(2)}'")
    told = 'tillstream_reconciliation_differences{kind="altered",schedule="closing"}'
    with kept([sys.executable, "-m", "ops.cli", "schedule", "run", "--config", str(books.write())]):
        wait_until(lambda: f"{told} 1.0" in get(port, "/metrics")[1], 60, "a reconciliation")
        books.shop.execute(f"UPDATE documents SET gross = gross - 1 WHERE external_ref = '{ref(2)}'")
        assert "closing: incomplete" in books.run("schedule", "run", "closing", code=1)
        metrics = get(port, "/metrics")[1]
        assert f"{told} 0.0" in metrics
        assert 'tillstream_reconciliation_unbooked_receipts{fate="dead",schedule="closing"} 2.0' in metrics
        assert 'tillstream_reconciliation_unbooked_gross{currency="EUR",schedule="closing"} 9.99' in metrics
    runs = json.loads(books.run("schedule", "history", "--json"))["runs"]
    assert [(run["outcome"], run["differences"], run["not_booked"]) for run in runs[:2]] == [
        ("incomplete", 0, "9.99 EUR"),
        ("differs", 1, "9.99 EUR"),
    ]
    daily["reconcile"] = {"days": 0, "allow_open": True}
    assert "closing: done" in books.run("schedule", "run", "closing")
    by = "tillstream schedule"
    assert books.noted(DAYS[0]) == [("differs", False, by), ("balanced", True, by)]


@contextmanager
def kept(command: list[str]) -> Iterator[None]:
    """A process that runs meanwhile, and ends well when it is told to."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_difference_that_is_signed_off_is_settled(books: Books) -> None:
    books.shop.execute(f"UPDATE documents SET gross = gross + 1 WHERE external_ref = '{ref(2)}'")
    narrowed = ("--store", "S1", "--day", DAYS[0])
    assert "give the reason with --comment" in books.run("reconcile", "sign", *narrowed, code=2)
    books.run("reconcile", "sign", *narrowed, "--comment", "a euro was found")
    day = books.reconcile("--deep", *narrowed)[DAYS[0]]
    assert (day["state"], day["why"], len(day["differences"])) == ("signed off", "a euro was found", 1)


def test_what_digests_have_found_is_not_forgotten_by_sums(books: Books) -> None:
    changed = f"UPDATE document_lines SET sku = '{{}}' WHERE external_ref = '{ref(2)}'"
    books.shop.execute(changed.format("B"))
    assert books.reconcile("--deep", code=1)[DAYS[0]]["state"] == "differs"
    assert books.reconcile(code=1)[DAYS[0]]["state"] == "differs"
    books.run("reconcile", "sign", "--store", "S1", "--day", DAYS[0], "--comment", "the same article under two names")
    assert books.reconcile("--allow-open")[DAYS[0]]["state"] == "signed off"
    books.shop.execute(changed.format("A"))
    day = books.reconcile("--allow-open")[DAYS[0]]
    assert (day["state"], day["reopened"]) == ("balanced", True)


@pytest.mark.parametrize("before", ["2026-03-02", "2026-01-02"])
def test_one_day_is_judged_by_what_was_sent_long_before(
    before: str, tmp_path: Path, kafka: Kafka, topic_name: str
) -> None:
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as shop:
        books = Books(shop)
        closed: dict[str, Any] = {"type": "day_close", "lines": [], "tenders": []}
        for day, values in (
            (before, [sold(1, before), sold(98, before, **closed)]),
            ("2026-03-10", [sold(2, "2026-03-10"), sold(99, "2026-03-10", **closed, totals={"gross": "9.00"})]),
        ):
            at = int(datetime.fromisoformat(f"{day}T12:00:00Z").timestamp() * 1000)
            shop.topics.produce(shop.topic, [(b"S1", each, []) for each in values], partition=1, timestamp=at)
        books.work()
        narrowed = ("--store", "S1", "--day", "2026-03-10")
        assert {kind for _, kind, _ in differences(books.reconcile(*narrowed, code=1))} == {"register"}
        double(shop, 1, "2026-03-10")
        kinds = {kind for _, kind, _ in differences(books.reconcile(*narrowed, code=1))}
        assert kinds == {"register", "doubled"}  # and not `only_in_erp`: a till sent it


def test_letter_that_was_resolved_and_purged_is_still_known(books: Books) -> None:
    books.run("dlq", "resolve", "--comment", "agreed", "--apply")
    books.run("dlq", "purge", "--older-than", "0m", "--apply")
    days = books.reconcile("--deep")
    assert {day["state"] for day in days.values()} == {"balanced"}
    assert [letter["letter"].split()[1] for letter in days[DAYS[1]]["dead_letters"]] == ["resolved"]


def test_money_in_dead_letters_is_not_balanced_until_a_person_has_decided_on_it(books: Books, tmp_path: Path) -> None:
    printed = books.run("reconcile", code=1)
    left = "9.99 EUR in 1 receipt, and 1 record of unknown amount"
    assert printed.rstrip().endswith(f"4 store-days: 2 balanced, 2 incomplete. Books agree. NOT BOOKED: {left}.")
    assert f"NOT BOOKED: {left}." in books.run("reconcile", "--allow-open")
    narrowed = ("--store", "S1", "--day", DAYS[1])
    assert "NOT BOOKED: 9.99 EUR in 1 receipt." in books.run("reconcile", *narrowed, code=1)
    page = tmp_path / "S1.html"
    certificate = ("reconcile", "certificate", *narrowed, "--to", str(tmp_path / "S1.json"), "--html", str(page))
    books.run(*certificate, code=1)
    books.run(*certificate, "--allow-open")
    assert '<div class="state open">incomplete</div>' in page.read_text()
    assert "NOT BOOKED: 9.99 EUR in 1 receipt." in page.read_text()
    assert "as it was signed" in books.run("reconcile", "verify", str(page))
    refused = books.run("reconcile", "sign", *narrowed, code=2)
    assert "the day is not balanced (not booked: 9.99 EUR in 1 receipt): give the reason with --comment" in refused

    books.run("dlq", "park", "--comment", "later", "--apply")
    assert "parked: 9.99 EUR in 1 receipt" in books.run("reconcile", code=1)
    books.run("reconcile", "sign", *narrowed, "--comment", "on paper")
    assert "1 signed off. Books agree. NOT BOOKED: 9.99 EUR in 1 receipt, all signed off." in books.run(
        "reconcile", *narrowed
    )


def test_letter_that_is_resolved_makes_a_day_complete_and_is_shown_with_who_and_why(books: Books) -> None:
    books.run("dlq", "resolve", "--comment", "a test sale", "--apply")
    found = json.loads(books.run("reconcile", "--json"))
    assert (found["balanced"], found["books"], found["complete"]) == (True, "agree", True)
    assert found["resolved"]["amounts"] == {"EUR": {"receipts": 1, "gross": "9.99"}}
    printed = books.run("reconcile")
    assert "resolved by ada (a test sale): totals_mismatch (1; 9.99 EUR)" in " ".join(printed.split())
    assert printed.rstrip().endswith("Balanced.")


def test_unreadable_record_leaves_the_days_incomplete_in_which_it_arrived(books: Books) -> None:
    today = datetime.now(UTC).date().isoformat()
    books.sell(sold(301, today))
    books.work()
    found = json.loads(books.run("reconcile", "--store", "S1", "--day", today, "--json", code=1))
    assert found["without_a_day"]["unbooked"]["records_of_unknown_amount"] == 1
    assert (found["books"], found["balanced"]) == ("agree", False)
    books.run("reconcile", "--store", "S1", "--day", DAYS[0])  # it arrived months later


def lose(books: Books, until: int) -> None:
    """Deletes the beginning of the topic's records, as its retention does."""
    for answer in books.shop.topics.admin.delete_records([TopicPartition(books.shop.topic, 1, until)]).values():
        answer.result(30)


def test_days_of_which_the_topic_has_lost_records_are_compared_as_far_as_they_can_be(books: Books) -> None:
    lose(books, 5)
    found = json.loads(books.run("reconcile", "--deep", "--json", code=1))
    assert found["lost_until"] == f"{datetime.now(UTC):%Y-%m-%d}"
    assert found["unjudged"] == len(DAYS)
    days = {day["day"]: (day["state"], day["differences"]) for day in found["days"] if day["day"]}
    assert days == dict.fromkeys(DAYS, ("unproved", []))
    assert found["unproved"]["amounts"] == {"EUR": {"receipts": 5, "gross": "15.00"}}
    printed = " ".join(books.run("reconcile", "--allow-open").split())
    assert "15.00 EUR in 5 receipts can't be proved: their records have left the topic" in printed

    books.shop.execute(
        f"UPDATE documents SET gross = gross + 1 WHERE external_ref = '{ref(2)}'",  # whose record is lost
        f"UPDATE documents SET gross = gross + 1 WHERE external_ref = '{ref(7)}'",
        f"DELETE FROM documents WHERE external_ref = '{ref(8)}'",
    )
    double(books.shop, 9)
    days = books.reconcile("--deep", "--allow-open", code=1)
    assert differences(days) == {
        (DAYS[0], "altered", ref(7)),
        (DAYS[0], "missing", ref(8)),
        (DAYS[0], "doubled", ref(9) + "x"),
    }
    assert days[DAYS[0]]["unproved"]["amounts"] == {"EUR": {"receipts": 5, "gross": "15.0001"}}
    narrowed = ("--store", "S1", "--day", DAYS[0])
    books.run("reconcile", "sign", *narrowed, "--comment", "seen on paper")
    assert books.reconcile(*narrowed, "--deep")[DAYS[0]]["state"] == "signed off"


def test_money_in_dead_letters_whose_records_have_left_the_topic_is_still_told(books: Books) -> None:
    lose(books, OFFSET_END)
    found = json.loads(books.run("reconcile", "--json", code=1))
    assert found["unbooked"]["amounts"] == {"EUR": {"receipts": 1, "gross": "9.99"}}
    assert found["unbooked"]["records_of_unknown_amount"] == 1
    assert found["unproved"]["receipts"] == 31
    (way,) = json.loads(books.run("explain", "111", "--json"))
    assert way["steps"][-1]["what"] == "now: NOT BOOKED"
    books.run("dlq", "resolve", "--comment", "agreed", "--apply")
    found = json.loads(books.run("reconcile", "--json", code=1))
    assert (found["unbooked"]["receipts"], found["resolved"]["receipts"]) == (0, 1)


def test_whole_way_of_a_receipt_is_told_with_times(books: Books) -> None:
    books.sell(sold(1, DAYS[0], event_id="e-1b", revision=1, cashier="Somebody"), sold(1, DAYS[0]))
    books.work()
    (way,) = json.loads(books.run("explain", "e-1b", "--json"))
    assert way["receipt"] == ref(1)
    told = [step["what"] for step in way["steps"]]
    assert sorted(told) == sorted(
        [
            *["sold at the till", "arrived"] * 3,
            "in the ERP: written",
            "in the ERP: replaced",
            "now: the ERP holds the invoice",
        ]
    )
    details = [step["detail"] for step in way["steps"] if step["what"] == "arrived"]
    assert [detail.partition(":")[0] for detail in details] == [
        "replaced by a higher revision",
        "delivered",
        "a duplicate",
    ]
    times = [step["at"] for step in way["steps"][:-1]]
    assert times == sorted(times)
    assert way["document"]["revision"] == 1
    assert "Somebody" not in json.dumps(way)

    (dead,) = json.loads(books.run("explain", "111", "--json"))
    assert [step["what"] for step in dead["steps"]] == [
        "sold at the till",
        "arrived",
        "dead letter, attempt 1",
        "now: NOT BOOKED",
    ]
    assert dead["steps"][-1]["detail"] == "9.99 EUR, in dead letters"
    assert any("totals_mismatch" in step["detail"] for step in dead["steps"])
    books.run("explain", "no-such-receipt", code=1)
