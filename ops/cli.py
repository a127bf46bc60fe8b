"""The command line program `tillstream`.

Exit codes: 0 done, 1 something is wrong in the data, 2 wrong usage or settings, 3 a component can't be reached,
70 a bug in Tillstream itself, 75 restart the worker: it hung, or the number of its topic's partitions has changed.
"""

import sys

from ops.worker.signals import leave_on_signals

if sys.argv[1:2] == ["run"]:
    leave_on_signals()  # before the imports, which take a second: a worker may be stopped in that time

import asyncio
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import click

from ops.check import UNREACHABLE, WRONG_USAGE, report_findings, run_checks
from ops.demo.commands import DemoOptions, run_demo
from ops.dlq.commands import FAULTS as DLQ_FAULTS
from ops.dlq.commands import dlq_group
from ops.files.layout import NotReadable
from ops.importing.commands import import_command
from ops.maps.commands import COMMANDS
from ops.post import ledger, post
from ops.reconcile.commands import reconcile_group
from ops.reconcile.explain_command import explain_command
from ops.schedules.commands import schedule_group
from ops.simulator.commands import sell_until_stopped
from ops.simulator.data_sets import DataSetMissing
from ops.terminal.command_groups import CommandGroups
from ops.terminal.options import settings_from, with_settings
from ops.top.commands import top
from ops.worker.lifeline import drain_at_end_of
from ops.worker.process import WorkerDied
from ops.worker.supervise import supervise
from ops.worker.watchdog import EXIT_RESTART
from sinks.base import SinkMisconfigured, SinkUnavailable
from streams.kafka.errors import BrokerUnreachable, TopicChanged, TopicsUnusable
from streams.logs import set_up_logs
from streams.settings import SettingsError
from streams.sources.contracts import ContractError
from streams.sources.rows import RowsUnreadable

EXIT_BUG = 70


class Program(CommandGroups):
    """The program: turns errors that users can cause into one message and an exit code, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # a record may have half a character, which no encoding can write
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except (SettingsError, ContractError, NotReadable, TopicsUnusable, SinkMisconfigured) as error:
            _end(str(error), WRONG_USAGE)
        except (DataSetMissing, RowsUnreadable, *DLQ_FAULTS) as error:
            _end(str(error), WRONG_USAGE)
        except WorkerDied as error:
            _end(str(error), error.code if error.code in (WRONG_USAGE, UNREACHABLE) else EXIT_BUG)
        except (BrokerUnreachable, SinkUnavailable) as error:
            _end(str(error), UNREACHABLE)
        except OSError as error:
            if error.filename is None:
                raise
            _end(f"{error.filename}: {error.strerror}", WRONG_USAGE)


def _end(message: str, code: int) -> None:
    click.echo(f"tillstream: {message}", err=True)
    sys.exit(code)


def main() -> None:
    """Run the program."""
    program(prog_name="tillstream")


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="tillstream", message="%(prog)s %(version)s")
def program() -> None:
    """Carry sales from the tills into the ERP in real time.

    Every receipt arrives once, to the cent. Settings come from tillstream.yaml, from TILLSTREAM_… in the environment
    and from options; options win over the environment, and the environment over the file.
    """


@program.command(
    epilog="\b\nExamples:\n  tillstream run\n  tillstream run --broker kafka:9092 --sink postgresql://erp@db/erp\n"
    "  TILLSTREAM_SINK_PASSWORD=… tillstream run --config shop.yaml\n  tillstream run --workers 2"
)
@with_settings
@click.option(
    "--apply", "apply_migrations", is_flag=True, default=None, help="Bring the sink's schema up to date first."
)
@click.option(
    "--restart",
    is_flag=True,
    help="Restart the worker, with growing pauses, when it crashes. Under systemd, Kubernetes or compose, leave that "
    "to them.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the partitions, restarted as with --restart. The first one listens at http_port, "
    "the next at http_port + 1, …",
)
@click.option(
    "--accept-budget",
    is_flag=True,
    help="Accept any number of dead letters until the worker has caught up with the topic; then the budget counts "
    "again.",
)
@click.option(
    "--until-stdin-ends",
    is_flag=True,
    hidden=True,
    help="Drain at the end of standard input: for programs that pipe it.",
)
def run(
    config: Path | None,
    broker: str | None,
    sink_url: str | None,
    apply_migrations: bool | None,
    restart: bool,
    workers: int,
    accept_budget: bool,
    until_stdin_ends: bool,
) -> None:
    """Run a worker until it is stopped.

    SIGTERM and SIGINT drain the worker: it finishes and commits the batches it has begun.

    \b
    When too many records are rejected (settings: dead_letter_budget), the worker pauses:
    it acknowledges nothing more, and /readyz says why. Fix the cause and restart it; or,
    if the records should become dead letters, resume it with kill -USR1 PID. The records
    it holds, at most one batch of each partition, pass, and counting starts over. If the
    mapping changes in the meantime, the records are checked again.

    A worker that hangs (settings: watchdog) is unready, then ends itself with exit code 75 and the reason on the last
    line. So does a worker whose topic has got more partitions.
    """
    leave_on_signals()
    from ops.worker.run import (  # imports Faust, which no other command should wait for
        new_loop,
        run_worker,
        watch_this_process,
    )

    settings = settings_from(config, broker=broker, sink_url=sink_url, apply_migrations=apply_migrations)
    if restart or workers > 1:
        number = supervise(workers)
        if settings.http_port:  # 0 is any free one
            settings = settings.model_copy(update={"http_port": settings.http_port + number})
    watched = watch_this_process(settings)
    if until_stdin_ends:
        drain_at_end_of(sys.stdin.fileno())
    set_up_logs(settings.log_format, settings.log_level)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(run_worker(settings, accept_budget=accept_budget, watched=watched))
    except (SettingsError, ContractError, TopicsUnusable, SinkMisconfigured, BrokerUnreachable, SinkUnavailable):
        raise
    except TopicChanged as change:
        _end(f"{change}: start the worker again", EXIT_RESTART)
    except Exception as error:
        _end(f"the worker failed: {type(error).__name__}: {error}", EXIT_BUG)


@program.command(
    epilog="\b\nExamples:\n  tillstream check\n  tillstream check --apply\n  tillstream check --json | jq '.findings[]'"
)
@with_settings
@click.option("--apply", is_flag=True, help="Create missing topics and bring the sink's schema up to date.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def check(config: Path | None, broker: str | None, sink_url: str | None, apply: bool, as_json: bool) -> None:
    """Check settings, broker, topics and sink before a start.

    Reports each problem of the settings, the broker, the topics, the sink and its schema, with its fix.
    """
    settings = settings_from(config, broker=broker, sink_url=sink_url)
    findings, code = run_checks(settings, apply=apply)
    report_findings(findings, as_json=as_json)
    sys.exit(code)


@program.command(
    epilog="\b\nExamples:\n  tillstream demo\n  tillstream demo --seconds 20 --rate 500 --stores 12\n"
    "  tillstream demo --broker 127.0.0.1:9092 --sink postgresql://erp@127.0.0.1/erp\n"
    "  tillstream demo --data completejourney --day 2017-12-24 --speed-up 3600\n  tillstream demo --json"
)
@click.option("--seconds", type=click.FloatRange(1), help="Seconds to sell (default: 12; at a terminal until Ctrl-C).")
@click.option("--rate", type=click.FloatRange(1, 20_000), default=100.0, show_default=True, help="Events per second.")
@click.option("--stores", type=click.IntRange(1, 500), default=6, show_default=True, help="Number of stores.")
@click.option("--broker", metavar="HOST:PORT", help="A real Kafka instead of the embedded broker.")
@click.option("--sink", "sink_url", metavar="URL", help="Where documents go (default: a temporary SQLite file).")
@click.option("--data", type=click.Choice(["completejourney"]), help="Replay real baskets instead (pip extra `data`).")
@click.option(
    "--day", metavar="DATE|all", default="2017-12-24", show_default=True, help="With --data: the day to replay."
)
@click.option(
    "--speed-up", type=click.FloatRange(1), default=3600.0, show_default=True, help="With --data: the speed-up factor."
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same sales.")
@click.option("--json", "as_json", is_flag=True, help="No screen; one JSON object at the end.")
def demo(**options: Any) -> None:
    """Show sales flowing from simulated tills into an ERP.

    Tills, a broker, a worker and an ERP database on one screen. Ends with a reconciliation; exit code 0 only if tills
    and ERP agree to the cent.
    """
    sys.exit(run_demo(DemoOptions(**options)))


@program.command(epilog="\b\nExample:\n  tillstream tills --broker 127.0.0.1:9092 --rate 50 --stores 3")
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default: tillstream.yaml if there).")
@click.option("--broker", metavar="HOST:PORT", help="Kafka brokers, comma separated.")
@click.option("--rate", type=click.FloatRange(0.1, 20_000), default=50.0, show_default=True, help="Events per second.")
@click.option("--stores", type=click.IntRange(1, 500), default=6, show_default=True, help="Number of stores.")
@click.option("--seconds", type=click.FloatRange(0.1), help="Stop after this time.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same sales.")
def tills(config: Path | None, broker: str | None, rate: float, stores: int, seconds: float | None, seed: int) -> None:
    """Sell into the topic with simulated tills.

    For trials only: never point them at a topic in use.
    """
    settings = settings_from(config, broker=broker)
    sell_until_stopped(settings, rate=rate, stores=stores, seconds=seconds, seed=seed)


for command in (
    *COMMANDS,
    import_command,
    schedule_group,
    dlq_group,
    reconcile_group,
    explain_command,
    top,
    post,
    ledger,
):
    program.add_command(command)


if __name__ == "__main__":
    main()
