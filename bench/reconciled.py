"""A year of real baskets, streamed and reconciled per store and day: `python -m bench.reconciled`.

All of The Complete Journey 2017 (pip extra `data`): through a real Kafka and a worker into a real PostgreSQL with fsync
on, then `tillstream reconcile --deep`. Then four things are done to the ERP, and a second reconciliation has to name
just these. Takes some minutes. Exit code 0: no difference at first, and then just those.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import yaml
from confluent_kafka import Producer

from bench.servers import add_server_options, fresh_database, open_kafka, open_postgres
from bench.topics import leaving_no_topics
from ops.simulator.data_sets import as_record, completejourney
from tests.support.topics import Topics
from tests.support.workers import Shop, open_shop

TOPIC = "bench-reconciled"
PATIENCE = 1_800


def main(arguments: Sequence[str] | None = None) -> int:
    """As the module says."""
    parser = argparse.ArgumentParser(prog="python -m bench.reconciled", description=__doc__)
    parser.add_argument("--period", metavar="YYYY-MM[-DD]", help="only that month or day (default: the whole year)")
    add_server_options(parser)
    options = parser.parse_args(arguments)
    with (
        open_kafka(options.kafka) as bootstrap,
        open_postgres(options.postgres) as postgres,
        fresh_database(postgres) as url,
        tempfile.TemporaryDirectory() as folder,
    ):
        kafka = Topics(bootstrap)
        with leaving_no_topics(kafka), open_shop(Path(folder), kafka, TOPIC, url) as shop:
            return carried_and_reconciled(shop, options.period)


def carried_and_reconciled(shop: Shop, period: str | None) -> int:
    """0: all is as it should be."""
    started = monotonic()
    sent, lines = send(shop, period)
    told(f"sent {sent:,} baskets of {lines:,} lines", started)
    started = monotonic()
    worker = shop.start(sink_password=shop.settings["sink_password"])
    shop.wait_drained(PATIENCE)
    worker.terminate(60)
    told("in the ERP", started)
    first = reconcile(shop)
    due = expected(shop)
    second = reconcile(shop)
    return 0 if not first and second == due else 1


def send(shop: Shop, period: str | None) -> tuple[int, int]:
    """How many baskets, and lines."""
    producer = Producer({"bootstrap.servers": shop.topics.bootstrap, "linger.ms": 20, "compression.type": "lz4"})
    sent = lines = 0
    for event in completejourney(period):
        key, value = as_record(event)
        while True:
            try:
                producer.produce(shop.topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
        sent, lines = sent + 1, lines + len(event["lines"])
    assert producer.flush(60) == 0
    return sent, lines


def reconcile(shop: Shop) -> Counter[tuple[str, str]]:
    """Return the differences by kind and receipt."""
    started = monotonic()
    config = shop.folder / "tillstream.yaml"
    config.write_text(yaml.safe_dump(shop.settings))
    out = shop.folder / "found.json"
    command = [sys.executable, "-m", "ops.cli", "reconcile", "--deep", "--json", "--config", str(config)]
    with out.open("wb") as file:
        process = subprocess.Popen(command, stdout=file)
        cpu, most = watched(process.pid)
    days: list[dict[str, Any]] = json.loads(out.read_bytes())["days"]
    accounts = [account for day in days for account in day["accounts"]]
    fates: Counter[str] = Counter()
    for account in accounts:
        fates.update(account["by_fate"])
    stores, states = len({day["store"] for day in days}), Counter(day["state"] for day in days)
    sums = sum(account["erp"]["receipts"] for account in accounts), sum(account["erp"]["lines"] for account in accounts)
    told(f"reconciled {len(days):,} store-days of {stores} stores: {dict(states)}, events {dict(fates)}", started)
    print(f"  {cpu:,.1f} s of processor time, {1e6 * cpu / fates.total():,.0f} µs an event, {most:,.0f} MB")
    print(f"  in the ERP: {sums[0]:,} documents, {sums[1]:,} lines")
    for day in days:
        for each in day["dead_letters"]:
            print(f"  dead letter: store {day['store']}, {day['day']}, {each['receipt']}: {each['letter']}")
        for each in day["differences"][:20]:
            print(f"  differs: store {day['store']}, {day['day']}, {each['kind']} {each['receipt']}: {each['detail']}")
    return Counter((each["kind"], each["receipt"]) for day in days for each in day["differences"])


def watched(pid: int) -> tuple[float, float]:
    """Waits for the process; seconds of processor time, and the most memory in MB (what `wait4` says of that is the
    parent's where that is larger)."""
    most = 0.0
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # no Linux
            status = ""
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)  # none of one that has ended
        most = max(most, int(peak[1]) / 1024 if peak else 0)
        ended, _, used = os.wait4(pid, os.WNOHANG)
        if ended:
            return used.ru_utime + used.ru_stime, most
        sleep(0.1)


def expected(shop: Shop) -> Counter[tuple[str, str]]:
    """Deletes a document, changes an amount, doubles a document and loses a store's day; what must be found then."""
    rows = shop.query("SELECT external_ref, store, business_date FROM documents ORDER BY receipt")
    deleted, altered, doubled, lost = (rows[len(rows) * place // 5] for place in (1, 2, 3, 4))
    names = (
        "event_id, kind, revision, content, source, store, register_id, receipt, business_date, occurred_at, currency, "
        "net, tax, rounding, gross, written_at, cashier, customer_id, original_ref"
    )
    parts = {
        "document_lines": "position, sku, description, quantity, unit, unit_price, discount, tax_rate, net, tax, gross",
        "document_payments": "position, kind, amount",
    }
    day = [ref for ref, store, date in rows if (store, date) == lost[1:] and ref != altered[0]]
    shop.execute(
        f"DELETE FROM documents WHERE external_ref = '{deleted[0]}'",
        f"UPDATE documents SET gross = gross + 0.01 WHERE external_ref = '{altered[0]}'",
        *(
            f"INSERT INTO {table} (external_ref, {columns}) SELECT external_ref || '/copy', {columns} FROM {table} "
            f"WHERE external_ref = '{doubled[0]}'"
            for table, columns in {"documents": names, **parts}.items()
        ),
        f"DELETE FROM documents WHERE store = '{lost[1]}' AND business_date = '{lost[2]}' "
        f"AND external_ref NOT IN ('{altered[0]}', '{doubled[0]}/copy')",
    )
    due = Counter({("missing", ref): 1 for ref in {*day, deleted[0]}})
    due.update([("altered", altered[0]), ("doubled", f"{doubled[0]}/copy")])
    return due


def told(what: str, started: float) -> None:
    """A line with its seconds."""
    print(f"{what} ({monotonic() - started:,.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
