"""kill -9 of whoever delivers, of whoever posts, and of Tryton itself: the books are those of a run without faults."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from time import sleep

import pytest

from deploy.tryton.server import PASSWORD, Tryton
from schemas.document import ErpDocument
from sinks.base import Sink
from sinks.registry import open_sink
from sinks.tryton.sink import TrytonSink
from tests.conftest import ON_POSTGRES
from tests.contract.conftest import open_full_url
from tests.faults.conftest import Tell
from tests.faults.tryton_world import post_all, require_books
from tests.support.takings import in_batches, takings
from tests.support.tryton import Books, sink_of, sink_url, start_poster
from tests.support.wait import wait_until

ROOT = Path(__file__).parents[2]
DOCUMENTS, KILLS, SIZE = 2000, 60, 50


class Crew:
    """A process that delivers and one that posts; Tryton; and a way to kill any of them."""

    def __init__(self, server: Tryton, folder: Path, batches: list[list[ErpDocument]]) -> None:
        self.server, self.total = server, len(batches)
        self.url = sink_url(server, folder)
        self.batches, self.done = folder / "batches", folder / "done"
        self.batches.write_bytes(pickle.dumps(batches))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Those who don't run, and have work left."""
        ways = {"deliverer": self._start_deliverer, "poster": partial(start_poster, self.url)}
        for name, start in ways.items():
            if name not in self.processes or self.processes[name].poll() is not None:
                self.processes[name] = start()
        if self.server.pid is None:
            self.server.start()

    def kill(self, name: str) -> None:
        """One of the three, at this moment."""
        if name == "tryton":
            self.server.kill()
        else:
            self.processes[name].kill()
            self.processes[name].wait()

    def delivered(self) -> list[dict[str, str]]:
        """The refused of each batch that is delivered."""
        text = self.done.read_text() if self.done.exists() else ""
        return [json.loads(one) for one in text.splitlines(keepends=True) if one.endswith("\n")]

    def finish(self) -> None:
        """Returns when all is delivered; nobody runs any more."""
        wait_until(lambda: len(self.delivered()) == self.total, 600, "all batches are delivered")
        self.end()

    def _start_deliverer(self) -> subprocess.Popen[bytes]:
        command = ["-m", "tests.support.deliverer", self.url, PASSWORD, str(self.batches), str(self.done)]
        return subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@contextmanager
def crew(*given: object) -> Iterator[Crew]:
    """Ends everybody it has started."""
    started = Crew(*given)  # type: ignore[arg-type]  # as the constructor says
    try:
        started.start()
        yield started
    finally:
        started.end()


@pytest.fixture
def model(tmp_path: Path) -> Iterator[Sink]:
    """What a run without faults is compared with: another system altogether."""
    sink = open_sink(f"sqlite:///{tmp_path}/model.sqlite")
    sink.check(apply=True)
    yield sink
    sink.close()


@pytest.mark.faults_long  # test_tryton_workers.py does so with every change
def test_killed_deliverers_posters_and_trytons_leave_the_books_of_a_run_without_faults(
    own_tryton: Tryton, tmp_path: Path, random: Random, tell: Tell, model: Sink
) -> None:
    kill_and_compare(own_tryton, tmp_path, random, tell, model)


@pytest.mark.parametrize("tryton", [ON_POSTGRES], indirect=True)
def test_killed_deliverers_posters_and_trytons_leave_the_same_books_on_postgresql(
    tryton: Tryton, tmp_path: Path, random: Random, tell: Tell, model: Sink
) -> None:
    kill_and_compare(tryton, tmp_path, random, tell, model)


def kill_and_compare(server: Tryton, folder: Path, random: Random, tell: Tell, model: Sink) -> None:
    """Delivers and posts the same to Tryton, with kills, and to the model, without."""
    sent = takings(random, DOCUMENTS)
    batches = in_batches(sent, SIZE)
    killed = ["deliverer", "poster", "tryton"] * (KILLS // 3)
    random.shuffle(killed)
    with crew(server, folder, batches) as running:
        for name in killed:
            sleep(random.uniform(0.2, 2.0))
            running.kill(name)
            running.start()
        running.finish()
        refused = {event: reason for batch in running.delivered() for event, reason in batch.items()}
    sink = sink_of(server, folder)
    post_all(sink)
    assert refused == refused_by(model, batches)
    require_same(sink, server, model, sent)
    sink.close()
    tell(f"{len(sent)} documents, killed: {', '.join(killed)}")


@pytest.mark.faults_long
def test_the_same_receipts_come_to_the_same_totals_in_every_system(
    own_tryton: Tryton, tmp_path: Path, random: Random, model: Sink, postgres_url: str
) -> None:
    sent = takings(random, 2000)
    batches = in_batches(sent, 50)
    postgres = open_full_url(postgres_url)
    postgres.check(apply=True)
    sink = sink_of(own_tryton, tmp_path)
    assert refused_by(sink, batches) == refused_by(model, batches) == refused_by(postgres, batches)
    assert sink.totals() == model.totals() == postgres.totals()
    post_all(sink)
    require_same(sink, own_tryton, model, sent)
    for one in (sink, postgres):
        one.close()


def refused_by(sink: Sink, batches: list[list[ErpDocument]]) -> dict[str, str]:
    """Writes all of it; the refused events and their reasons."""
    results = [result for batch in batches for result in sink.write(batch)]
    return {one.event_id: one.reason.value for one in results if hasattr(one, "reason")}


def require_same(sink: TrytonSink, server: Tryton, model: Sink, sent: list[ErpDocument]) -> None:
    """Tryton holds what the model holds, document by document, and its ledger says so to the cent."""
    refs = sorted({d.external_ref for d in sent})
    held = model.read(refs)
    assert sink.read(refs) == held
    assert sink.totals() == model.totals()
    assert sink.ledger.counts() == {"posted": len(held)}
    books = Books(server)
    require_books(books, held, replaced=sum(d.revision for d in held))
    books.close()
