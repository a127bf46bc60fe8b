"""Speed of delivery to Tryton: by the sink, and by plain batches of Tryton's own calls, in turns in one run.

    python -m bench.tryton [--documents 400] [--rounds 3] [--postgres URL]

Documents have three lines and one tender. The plain calls are those of a careful push: `create` with a list, `process`
and `post` with a list of ids, in the same batch sizes, of sales without a reference: no recognition of repeated
events, no conflicts, no revisions, no check of totals. Tryton is one `trytond` on this machine with an SQLite database.
The table also shows Tryton's processor time, which other programs on the machine hardly change.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from deploy.tryton.server import PASSWORD, Tryton
from schemas.document import ErpDocument
from sinks.registry import open_sink
from sinks.tryton import posting
from sinks.tryton.master_data import SALE
from sinks.tryton.sink import BATCH, TrytonSink
from tests.support.documents import document, line

NUMBERS = count(1)


def receipts(number: int) -> list[ErpDocument]:
    """Return N documents that were never sold before."""
    lines = [line(1), line(2), line(3, "5.00", "0.95")]
    return [document(next(NUMBERS), lines=lines) for _ in range(number)]


def parts(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield the rows in chunks."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


class Plain:
    """Tryton's own calls."""

    def __init__(self, sink: TrytonSink) -> None:
        self.sink = sink
        self.ids: list[int] = []

    def deliver(self, documents: Sequence[ErpDocument]) -> None:
        """Creates and processes."""
        for batch in parts(documents, BATCH):
            ids = self.call("create", self.values(batch))
            self.call("process", ids)
            self.ids += ids

    def post(self) -> None:
        """Post the delivered sales."""
        for ids in parts(self.ids, posting.BATCH):
            self.call("post", ids)
        self.ids = []

    def call(self, method: str, *params: Any) -> Any:
        return self.sink.client.call(f"{SALE}{method}", *params, self.sink.master.context())

    def values(self, documents: Sequence[ErpDocument]) -> list[dict[str, Any]]:
        master = self.sink.master
        items = master.items({one.sku for one in documents[0].lines}, documents[0].business_date)
        return [
            {
                "point": master.point(d.store, None),
                "date": d.business_date,
                "lines": [
                    [
                        "create",
                        [
                            {
                                "product": items[one.sku].id,
                                "quantity": float(one.quantity),
                                "unit_list_price": one.net / one.quantity,
                                "unit_gross_price": one.gross / one.quantity,
                            }
                            for one in d.lines
                        ],
                    ]
                ],
                "payments": [["create", [{"method": master.method("card"), "amount": d.gross}]]],
            }
            for d in documents
        ]


def cpu_seconds(pid: int | None) -> float:
    """Return the CPU seconds that a process has used so far."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Prints a table, and the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=400, help="for each round and way (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", help="a PostgreSQL server with an empty database `erp`, instead of SQLite")
    given = parser.parse_args()
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}

    with tempfile.TemporaryDirectory() as folder, Tryton(postgres=given.postgres) as server:
        ledger = f"sqlite:///{Path(folder) / 'ledger.sqlite'}"
        sink = open_sink(f"{server.url}?ledger={ledger}", password=PASSWORD)
        assert isinstance(sink, TrytonSink)
        plain = Plain(sink)

        def timed(name: str, work: Callable[[], object]) -> None:
            started, used = time.perf_counter(), cpu_seconds(server.pid)
            work()
            seconds.setdefault(name, []).append(time.perf_counter() - started)
            cpu.setdefault(name, []).append(cpu_seconds(server.pid) - used)

        warm_up = receipts(10)
        sink.write(warm_up)
        plain.deliver(warm_up)
        for _ in posting.post(sink):
            pass
        plain.post()
        for _ in range(given.rounds):
            sent, others = receipts(given.documents), receipts(given.documents)
            timed("sink: create and process", partial(sink.write, sent))
            timed("plain: create and process", partial(plain.deliver, others))
            timed("sink: recognise as sent again", partial(sink.write, sent))
            timed("sink: post", lambda: list(posting.post(sink)))
            timed("plain: post", plain.post)
        sink.close()
    medians = {name: given.documents / statistics.median(rounds) for name, rounds in seconds.items()}
    each = {name: 1000 * statistics.median(rounds) / given.documents for name, rounds in cpu.items()}
    for name, rate in medians.items():
        print(f"{name:<32}{rate:>9,.1f} documents/s{each[name]:>9,.1f} ms of Tryton's CPU each")
    ratios = {work: medians[f"sink: {work}"] / medians[f"plain: {work}"] for work in ("create and process", "post")}
    for work, ratio in ratios.items():
        print(f"{work}: the sink is {ratio:.2f} times as fast as plain calls")
    told = {"python": platform.python_version(), "documents": given.documents}
    print(json.dumps(told | {"per_second": medians, "cpu_ms_each": each, "ratios": ratios}))


if __name__ == "__main__":
    main()
