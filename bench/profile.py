"""Where a worker's time goes: `python -m bench.profile`, which needs py-spy (pip install py-spy).

A worker in a process of its own brings the POS job from a real Kafka into a real PostgreSQL, as in `python -m bench`.
Meanwhile py-spy samples 200 times a second which function holds the interpreter. The
table shows, for the functions of the project and of its libraries, the share of samples in which the function itself
was running, and the share in which it or a callee was; it is also written to `bench/results/profile.txt`.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.contenders import TILLSTREAM
from bench.generate import pos_job
from bench.race import ending_in_words, has_begun, new_task, started
from bench.results import LATEST
from bench.servers import fresh_database, open_kafka, open_postgres
from bench.topics import Preloaded, leaving_no_topics
from tests.support.topics import Topics

RESULTS = LATEST.with_name("profile.txt")
LOOKS_PER_S = 200
OURS = re.compile(r"\((schemas|sinks|streams)/")
WORTH_TELLING = 0.005


def looks(kafka: Topics, url: str, preloaded: Preloaded) -> str:
    """Return py-spy's samples until the job is done: one line per stack, with its count. Raises ContenderFailed."""
    task = new_task(TILLSTREAM, kafka, preloaded.topic, url)
    with started(TILLSTREAM, task) as worker, tempfile.TemporaryDirectory(prefix="tillstream-bench-") as folder:
        worker.wait_until(lambda: has_begun(task))
        raw = Path(folder) / "raw"
        options = ["--format", "raw", "--rate", str(LOOKS_PER_S), "--gil", "--function", "--output", str(raw)]
        spy = subprocess.Popen(
            ["py-spy", "record", "--pid", str(worker.pid), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        worker.wait_until(lambda: preloaded.done(task.group))
        spy.send_signal(signal.SIGINT)  # py-spy writes its samples
        spy.wait(60)
        return raw.read_text()


def shares(stacks: str) -> tuple[Counter[str], Counter[str]]:
    """Return samples per function: (the function itself, the function or a callee)."""
    own, whole = Counter[str](), Counter[str]()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    return own, whole


def show(own: Counter[str], whole: Counter[str], most: int) -> Table:
    """The project's functions with the largest shares, and the others that do something themselves."""
    total = own.total()
    told = [(name, n) for name, n in whole.most_common() if OURS.search(name) or own[name] > total * WORTH_TELLING]
    table = Table(title=f"Who holds the interpreter, in % of {total:,} looks", box=box.SIMPLE_HEAD)
    for heading in ("itself", "with what it calls", "function"):
        table.add_column(heading, justify="left" if heading == "function" else "right")
    for function, count in told[:most]:
        table.add_row(f"{own[function] / total:.1%}", f"{count / total:.1%}", function)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """0: done. 1: the worker failed. 3: a server or py-spy can't be had."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Where a worker's time goes.")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--most", type=int, default=50, help="functions to show (%(default)s)")
    options = parser.parse_args(arguments)
    if shutil.which("py-spy") is None:
        print("py-spy is not there: pip install py-spy", file=sys.stderr)
        return 3
    with ending_in_words(), open_kafka(None) as bootstrap, open_postgres(None) as postgres:
        kafka = Topics(bootstrap)
        with leaving_no_topics(kafka), fresh_database(postgres) as url:
            stacks = looks(kafka, url, Preloaded(kafka, pos_job(options.events)))
    shown = show(*shares(stacks), options.most)
    Console().print(shown)
    with RESULTS.open("w") as file:
        Console(file=file, width=110).print(shown)
    return 0


if __name__ == "__main__":
    sys.exit(main())
