"""Everything at once: workers die, leave, stand still and come, while network and database break around them."""

import signal
import time
from collections.abc import Callable
from contextlib import ExitStack

from sqlalchemy import text

from tests.faults.conftest import LONG, Tell
from tests.faults.test_postgres_faults import feeding, gate_to, someone_else
from tests.faults.world import World
from tests.support.faulty_worker import KILLS
from tests.support.gate import Gate
from tests.support.workers import Worker

SECONDS = 300 if LONG else 10
CREW = 3


def test_everything_at_once_neither_loses_nor_doubles(world: World, tell: Tell) -> None:
    with ExitStack() as stack:
        gate = stack.enter_context(gate_to(world))
        world.create_tables()
        storm = Storm(world, gate)
        for _ in range(CREW):
            world.start()
        with feeding(world, pause=0.3):
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                storm.strike()
        storm.end()
        world.finish()
        tell(f"{storm.strikes} strikes, {len(world.workers)} workers")


class Storm:
    """Strikes a world with one fault after the other, as its chance will have it."""

    def __init__(self, world: World, gate: Gate) -> None:
        self._world = world
        self._gate = gate
        self.strikes = 0
        self._ways: list[Callable[[], None]] = [
            self.kill_one,
            self.kill_one_at_a_step,
            self.dismiss_one,
            self.stop_one_until_it_is_a_zombie,
            self.break_connections,
            self.freeze_the_network,
            self.slow_down_the_network,
            self.lose_the_answer_to_a_commit,
            self.lock_a_table,
        ]

    def strike(self) -> None:
        """One fault, from its beginning to its end; then a moment of calm."""
        self._world.random.choice(self._ways)()
        self.strikes += 1
        time.sleep(self._world.random.uniform(0, 1))

    def end(self) -> None:
        """Others take over."""
        self._world.forget_turned_away()
        self._world.start()

    def kill_one(self) -> None:
        self._any().kill()
        self._world.start()

    def kill_one_at_a_step(self) -> None:
        self._any().kill()
        self._world.start(f"{self._world.random.choice(list(KILLS))}:{self._world.random.randint(1, 20)}")

    def dismiss_one(self) -> None:
        self._any().process.send_signal(signal.SIGTERM)
        self._world.start()

    def stop_one_until_it_is_a_zombie(self) -> None:
        worker = self._any()
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(self._world.random.uniform(0, 3))
        worker.process.send_signal(signal.SIGCONT)

    def break_connections(self) -> None:
        self._gate.cut()

    def freeze_the_network(self) -> None:
        self._gate.freeze()
        time.sleep(self._world.random.uniform(0, 2))
        self._gate.thaw()

    def slow_down_the_network(self) -> None:
        self._gate.rate = 20_000
        time.sleep(self._world.random.uniform(0, 2))
        self._gate.rate = None

    def lose_the_answer_to_a_commit(self) -> None:
        self._gate.lose_answer_to(b"COMMIT")

    def lock_a_table(self) -> None:
        with someone_else(self._world) as other:
            other.execute(text("LOCK TABLE documents IN ACCESS EXCLUSIVE MODE"))
            time.sleep(self._world.random.uniform(0, 2))

    def _any(self) -> Worker:
        """One that is alive; those that died at a step are replaced first."""
        alive = self._world.alive()
        while len(alive) < CREW:
            alive.append(self._world.start())
        return self._world.random.choice(alive)
