"""Runs one worker until it is told to stop, or must."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import structlog

from streams.app import drain
from streams.bootstrap import Worker, build, tune_interpreter
from streams.health import HealthServer
from streams.settings import Settings, SettingsError

STOP_PATIENCE = 15.0


async def run_worker(settings: Settings) -> None:
    """Returns after SIGTERM or SIGINT, drained. Raises what made the worker fail, and what `build` raises."""
    log = structlog.get_logger("tillstream.worker")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    worker = build(settings)
    try:
        server = HealthServer(settings.http_host, settings.http_port, worker.metrics.registry, worker.state)
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
    try:
        await worker.app.start()
        await first_of(stop.wait(), worker.state.ended.wait(), worker.app.wait_until_stopped())
        idle = await drain(worker.app, worker.state, settings.drain_seconds)
        log.info("worker stopping", drained=idle)
    finally:
        await stop_worker(worker)
        server.close()
    failure = worker.state.failed or worker.app.crash_reason
    if failure is not None:
        raise failure


async def stop_worker(worker: Worker) -> None:
    """Stops Faust and gives the sink's connections back. Faust may wait for a broker that is gone; not for ever."""
    try:
        await asyncio.wait_for(worker.app.stop(), STOP_PATIENCE)
    except TimeoutError:
        structlog.get_logger("tillstream.worker").warning("Faust does not stop, is the broker gone? Ending without it")
    finally:
        worker.sink.close()


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Returns when the first of `waits` is done, and cancels the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed (extra `fast`)."""
    if sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.new_event_loop()
    return asyncio.new_event_loop()
