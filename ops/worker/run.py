"""Runs one worker until it is stopped or fails."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import structlog

from ops.worker.guard import ProcessGuard
from ops.worker.watchdog import HangWatchdog
from streams.assembly import tune_interpreter
from streams.settings import Settings, SettingsError
from streams.worker.app import COMMIT_PATIENCE, drain, translate_error
from streams.worker.bootstrap import PreparedWorker, build
from streams.worker.health import HealthServer
from streams.worker.state import WorkerState
from streams.worker.suspects import SuspectMarks, SuspectNotebook

STOP_PATIENCE = 15.0
LEAVE_PATIENCE = 5.0


class GuardedWorker(NamedTuple):
    """A worker's guard, the marks of its batches at work, and `note`, which writes them to Kafka."""

    guard: ProcessGuard
    marks: SuspectMarks
    note: Callable[[], object]


def watch_this_process(settings: Settings) -> GuardedWorker:
    """Start the guard. Call it before the worker starts: a process must be forked before it has threads."""
    marks = SuspectMarks()
    changelog = settings.topic_plan.names.changelog
    notebook = SuspectNotebook(settings.kafka_access, changelog, settings.window_hours)
    limits = settings.watchdog

    def note() -> bool:
        at_work = marks.all()
        return not at_work or notebook.write(at_work)

    guard = ProcessGuard(limits.loop_seconds + limits.grace_seconds, note)
    guard.start()
    return GuardedWorker(guard, marks, note)


async def run_worker(settings: Settings, *, accept_budget: bool = False, watched: GuardedWorker | None = None) -> None:
    """Run a worker until SIGTERM or SIGINT, and drain it. Raises the error that ended the worker, and as `build`.

    A worker that hangs ends the process. One that its dead-letter budget has paused resumes after SIGUSR1. Until the
    worker is built the caller handles the signals (`leave_on_signals`), since a blocking call would hide them from the
    event loop.
    """
    log = structlog.get_logger("tillstream.worker")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    worker = build(settings, accept_budget=accept_budget, marks=watched.marks if watched is not None else None)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    state = worker.state
    loop.add_signal_handler(signal.SIGUSR1, resume_held, state)
    try:
        server = HealthServer(settings.http_host, settings.http_port, worker.metrics.registry, state)
    except OSError as error:
        worker.sink.close()
        where = f"{settings.http_host}:{settings.http_port}"
        raise SettingsError(f"http {where}: {error.strerror}; set http_host and http_port") from None
    log.info(
        "worker starting",
        topic=settings.topic,
        group=settings.group,
        http=f"{settings.http_host}:{server.port}",
    )
    tune_interpreter()
    watchdog = HangWatchdog(state, settings.watchdog.grace_seconds)
    if watched is not None:
        watchdog = HangWatchdog(
            state, settings.watchdog.grace_seconds, on_tick=watched.guard.beat, on_hang=watched.note
        )
    watchdog.start()
    heartbeat = loop.create_task(beat(state))
    try:
        if not await start_worker(worker, stop):
            watchdog.expect_end(LEAVE_PATIENCE)
            log.info("worker stopping before it has started")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)  # no batch has begun, and Faust can't stop while it starts
        await first_of(stop.wait(), state.ended.wait(), worker.app.wait_until_stopped())
        watchdog.expect_end(settings.drain_seconds + COMMIT_PATIENCE + STOP_PATIENCE + settings.watchdog.grace_seconds)
        idle = await drain(worker.app, state, settings.drain_seconds)
        log.info("worker stopping", drained=idle)
    except Exception as error:
        raise translate_error(error, settings.broker) from error
    finally:
        watchdog.expect_end(STOP_PATIENCE + settings.watchdog.grace_seconds)
        await stop_worker(worker)
        heartbeat.cancel()
        server.close()
    failure = state.failed or worker.app.crash_reason
    if failure is not None:
        raise translate_error(failure, settings.broker)


async def start_worker(worker: PreparedWorker, stop: asyncio.Event) -> bool:
    """Start the worker. Return False as soon as it should stop, even if its start fails in the meantime."""
    starting = asyncio.ensure_future(worker.app.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set() and (not starting.done() or starting.exception() is not None):
        return False
    stopping.cancel()
    await starting
    return True


def resume_held(state: WorkerState) -> None:
    """Handle SIGUSR1: the operator lets the held records become dead letters."""
    log = structlog.get_logger("tillstream.worker")
    reason = state.held
    if state.resume():
        log.warning("resumed by SIGUSR1: the held records become dead letters, and counting starts over", held=reason)
    else:
        log.warning("SIGUSR1 received, but no records are held")


async def beat(state: WorkerState) -> None:
    """Show that the event loop runs."""
    while True:
        state.heartbeat = state.clock()
        await asyncio.sleep(1.0)


async def stop_worker(worker: PreparedWorker) -> None:
    """Stop Faust, close the sink and send the last traces. Waits for Faust, but not forever if the broker is gone."""
    try:
        await asyncio.wait_for(worker.app.stop(), STOP_PATIENCE)
    except TimeoutError:
        structlog.get_logger("tillstream.worker").warning("Faust does not stop (no broker?), ending without it")
    finally:
        worker.sink.close()
        await asyncio.to_thread(worker.tracing.close)


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Return when the first of `waits` is done, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop: uvloop's if it is installed (extra `fast`)."""
    if sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()
