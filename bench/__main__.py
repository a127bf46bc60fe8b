"""The POS job, done by Tillstream and by its rivals: `python -m bench`, or `make bench`.

200,000 events wait in a topic of a real Kafka; each contender, in a process of its own and one after the other, brings
them into a fresh database of a real PostgreSQL with fsync on. That is repeated in rounds (a, b, c, a, b, c, …); the
medians are shown and, unless one ran alone, kept in `bench/results/latest.json`. `bench.race` documents the
measurement. The naive rival is so slow that it gets a smaller job of the same make.
"""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from bench.contenders import CONTENDERS, Contender
from bench.generate import pos_job
from bench.race import Run, ending_in_words, run
from bench.results import as_json, table, write
from bench.servers import add_server_options, open_kafka, open_postgres
from bench.topics import Preloaded, leaving_no_topics
from tests.support.topics import Topics

Runs = dict[str, list[Run]]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all were exact. 1: one was not, or failed. 3: a server can't be had or reached."""
    options = _parser().parse_args(arguments)
    console = Console()
    wanted = [contender for contender in CONTENDERS if options.only in (None, contender.name)]
    chosen = [contender for contender in wanted if contender.installed]
    for contender in wanted:
        if not contender.installed:
            console.print(f"{contender.name} is not installed: make .venv-rivals")
    if not chosen:
        return 3
    with ending_in_words(), open_kafka(options.kafka) as bootstrap, open_postgres(options.postgres) as postgres:
        kafka = Topics(bootstrap)
        with leaving_no_topics(kafka):
            jobs = _preload(kafka, chosen, options.events)
            runs: Runs = {contender.name: [] for contender in chosen}
            for number in range(options.rounds):
                for contender in chosen:
                    console.print(f"round {number + 1}: {contender.name} …", end=" ")
                    runs[contender.name].append(run(contender, jobs[contender.name], postgres))
                    console.print(f"{runs[contender.name][-1].events_per_s:,.0f} events/s")
    return _report(console, runs, options)


def _preload(kafka: Topics, chosen: Sequence[Contender], events: int) -> dict[str, Preloaded]:
    """The job of each, in a topic; contenders with jobs of the same size share it."""
    sizes = {contender.name: min(events, contender.most or events) for contender in chosen}
    jobs = {size: Preloaded(kafka, pos_job(size)) for size in set(sizes.values())}
    return {name: jobs[size] for name, size in sizes.items()}


def _report(console: Console, runs: Runs, options: argparse.Namespace) -> int:
    console.print(table(runs))
    for name, them in runs.items():
        for wrong in (one for one in them if not one.exact):
            console.print(f"{name} is NOT exact: {wrong.outcome}")
    if options.only is None:
        write(as_json(runs, options.events))
    return 0 if all(one.exact for them in runs.values() for one in them) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="The POS job, Tillstream beside its rivals.")
    parser.add_argument("--events", type=int, default=200_000, help="size of the job (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--only", choices=[contender.name for contender in CONTENDERS], help="one contender alone")
    add_server_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
