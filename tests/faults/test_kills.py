"""kill -9, at named steps of the line and at any time: the outcome is that of a line that nobody killed."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

from tests.faults.conftest import LONG, OpenWorld, Tell
from tests.faults.world import World
from tests.support.faulty_worker import KILLS

ANY_TIME = "any-time"
COUNT = int(os.environ.get("TILLSTREAM_FAULTS_KILLS") or (1000 if LONG else 30))
#: So many kills of one stream, and so many streams at a time: most of a life is waiting for the last one's session.
PER_WORLD = 20 if LONG else 6
AT_A_TIME = 5


def test_killed_workers_neither_lose_nor_double(open_worlds: OpenWorld, random: Random, tell: Tell) -> None:
    struck: Counter[str] = Counter()
    plans = plan(random, COUNT)
    worlds = [open_worlds("sqlite" if number % 3 == 2 else "postgres") for number in range(len(plans))]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        for counted in pool.map(kill_again_and_again, worlds, plans):
            struck += counted
    tell(f"{struck.total()} kills, of them {struck[ANY_TIME]} at any time, on {len(worlds)} streams")
    assert struck.total() >= COUNT
    assert set(struck) == {*KILLS, ANY_TIME}


def plan(random: Random, count: int) -> list[list[str]]:
    """What to die of, life by life, world by world: every named point in turn, and as often at any time."""
    points = [*KILLS] * (count // len(KILLS) // 2 + 1)
    random.shuffle(points)
    points = [*KILLS, *points][: max(len(KILLS), count // 2)]
    causes = points + [ANY_TIME] * (count - len(points))
    random.shuffle(causes)
    return [causes[start : start + PER_WORLD] for start in range(0, count, PER_WORLD)]


def kill_again_and_again(world: World, causes: list[str]) -> Counter[str]:
    """Lives, in turn or two at a time, that end as they should; then one that finishes the work. What they died of."""
    crew = world.random.choice((1, 1, 2))
    struck: Counter[str] = Counter()
    left = list(causes)
    while left:
        world.feed(world.random.randint(150, 400))
        struck += Counter(live(world, [left.pop() for _ in range(min(crew, len(left)))]))
    assert struck == Counter(causes)
    world.start()
    world.finish()
    world.close()  # or 50 workers run beside one another in the end
    return struck


def live(world: World, causes: list[str]) -> list[str]:
    """One life for each cause, side by side; returns the causes when all have died of them."""
    started = [(cause, world.start(None if cause == ANY_TIME else at(cause, world.random))) for cause in causes]
    for cause, worker in started:
        if cause == ANY_TIME:
            time.sleep(world.random.uniform(0, 3))
            worker.kill()
            continue
        for _ in range(20):
            try:
                worker.process.wait(5)
                break
            except TimeoutError:
                world.feed(100)  # what there was to do was done without passing the point often enough
        assert worker.process.poll() == -9, f"did not die of {cause}: {worker.words()}"
    return causes


def at(point: str, random: Random) -> str:
    """The fault `point`, the first time or a later one."""
    rare = point in ("before-commit", "after-commit", "dead-letters-there-but-unconfirmed")
    return f"{point}:{random.choice((1, 2) if rare else (1, 2, 3, 5, 8, 20))}"
