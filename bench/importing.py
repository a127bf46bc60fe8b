"""Speed of importing a CSV file: `python -m bench.importing`.

`tillstream import`, started as users start it, sends a file of ten-line receipts to a topic of a real Kafka: one file
with the rows of each receipt adjacent, one with them as far apart as possible, and the first one compressed. The clock
runs from the start of the process to its end, so the start of Python, both readings of the file and the last
confirmation count. The records in the topic are counted afterwards. Medians over rounds that alternate between the
files.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.race import ContenderFailed, ending_in_words
from bench.results import LATEST, machine, write
from bench.servers import add_server_options, open_kafka
from bench.topics import leaving_no_topics
from streams.kafka.topics import TopicMonitor
from streams.settings import Settings
from tests.support.topics import PARTITIONS, Topics

RESULTS = LATEST.with_name("importing.json")
LINES_OF_A_RECEIPT = 10
AIM = 50_000
CONTRACT = """
contract: 1
source: bench
format: csv
group_by: [store, bon]
kinds: [{type: sale}]
"""
COLUMNS = ("store", "till", "bon", "at", "sku", "description", "quantity", "unit_price", "tax_rate")


def row(bon: int, place: int) -> str:
    """One line of a receipt, as a till exports it."""
    article = (bon * 7919 + place * 104_729) % 5_000
    head = f"S{bon % 40:03},{bon % 3 + 1},{bon},2026-03-{bon % 28 + 1:02}T10:{bon % 60:02}:00+01:00"
    what = f'40{article:011},"Article {article}, 500 g"'
    return f"{head},{what},{article % 4 + 1},{article % 90}.{article % 100:02},19\n"


def files(folder: Path, lines: int) -> dict[str, Path]:
    """The same rows in three files; in `apart` no two rows of a receipt are neighbours."""
    bons, places = range(lines // LINES_OF_A_RECEIPT), range(LINES_OF_A_RECEIPT)
    paths = {"together": folder / "together.csv", "apart": folder / "apart.csv", "gzip": folder / "together.csv.gz"}
    _write(paths["together"], (row(bon, place) for bon in bons for place in places))
    _write(paths["apart"], (row(bon, place) for place in places for bon in bons))
    with gzip.open(paths["gzip"], "wb", compresslevel=6) as packed, paths["together"].open("rb") as plain:
        shutil.copyfileobj(plain, packed)
    return paths


def _write(path: Path, made: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(f"{','.join(COLUMNS)}\n")
        file.writelines(made)


def measure(kafka: Topics, path: Path, folder: Path, lines: int) -> dict[str, float]:
    """One import. Raises ContenderFailed where not every receipt is in the topic once."""
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, PARTITIONS)
    options = ["--contract", str(folder / "bench.yaml"), "--broker", kafka.bootstrap, "--topic", topic, "--json"]
    with (folder / "said").open("w+") as said:
        begun = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "ops.cli", "import", str(path), *options], stdout=said)
        _, ended, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(ended)
        if process.returncode:
            raise ContenderFailed(f"exit code {process.returncode}")
        said.seek(0)
        (report,) = json.load(said)["files"]
    settings = Settings(broker=kafka.bootstrap, topic=topic)
    held = sum(
        end.stable
        for end in TopicMonitor(settings.kafka_access, settings.topic, PARTITIONS).ends(range(PARTITIONS)).values()
    )
    if (report["rows"], report["receipts"], held) != (lines, lines // LINES_OF_A_RECEIPT, lines // LINES_OF_A_RECEIPT):
        raise ContenderFailed(f"{report['rows']} rows, {report['receipts']} receipts, {held} records in the topic")
    kafka.delete_topic(topic)
    return {
        "lines_per_s": round(lines / seconds),
        "cpu_us_per_line": round((usage.ru_utime + usage.ru_stime) / lines * 1e6, 2),
        "peak_rss_mb": round(usage.ru_maxrss / 1024),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """0: measured, and exact. 1: not exact. 3: a server can't be had or reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.importing", description=__doc__.partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    add_server_options(parser)
    options = parser.parse_args(arguments)
    rounds: dict[str, list[dict[str, float]]] = {}
    with ending_in_words(), open_kafka(options.kafka) as bootstrap, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench.yaml").write_text(CONTRACT)
        paths = files(folder, options.lines)
        kafka = Topics(bootstrap)
        with leaving_no_topics(kafka):
            for _ in range(options.rounds):
                for kind, path in paths.items():
                    rounds.setdefault(kind, []).append(measure(kafka, path, folder, options.lines))
    medians: dict[str, dict[str, Any]] = {
        kind: {what: median(one[what] for one in them) for what in them[0]} for kind, them in rounds.items()
    }
    shown = Table(title=f"Importing {options.lines:,} lines of CSV", box=box.SIMPLE_HEAD)
    for heading in ("rows", "lines/s", "µs of CPU/line", "peak RSS MB"):
        shown.add_column(heading, justify="left" if heading == "rows" else "right")
    for kind, them in medians.items():
        shown.add_row(kind, *(f"{value:,}" for value in them.values()))
    Console().print(shown)
    write({"machine": machine(), "lines": options.lines, "aim_lines_per_s": AIM, **medians, "rounds": rounds}, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
