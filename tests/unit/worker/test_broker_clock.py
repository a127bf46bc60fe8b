"""This machine's clock against the broker's: what lies between sending and confirming is no difference."""

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from streams.worker.broker_clock import TOLERANCE, ClockWatch
from streams.worker.state import WorkerState

SENT = 1_750_000_000.0


class Machine:
    """A worker's clock that is `ahead` of the true time, and what is warned of."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.true = SENT
        self.state = WorkerState(lambda: 0.0)
        self.watch = ClockWatch(lambda: self.true + self.ahead, self.state.warn)

    def send(self, seconds_to_broker: float = 0.01, seconds_back: float = 0.01, topic: str = "d") -> None:
        """A record whose time the broker sets."""
        sent_at = self.watch.clock()
        self.true += seconds_to_broker
        stamped_at = self.true
        self.true += seconds_back
        self.watch.note_confirmed(topic, sent_at, stamped_at)

    @property
    def warning(self) -> str | None:
        return self.state.warnings.get("clock")


def test_clock_two_hours_ahead_or_behind_is_a_warning_that_says_so() -> None:
    for ahead, words in ((7200.0, "7200 s ahead of"), (-7200.0, "7200 s behind")):
        machine = Machine(ahead)
        machine.send()
        assert machine.warning is not None
        assert words in machine.warning


def test_clock_that_is_set_right_is_no_warning_any_more_and_both_are_logged_once() -> None:
    machine = Machine(7200.0)
    with capture_logs() as lines:
        for ahead in (7200.0, 7200.0, 0.0, 0.0):
            machine.ahead = ahead
            machine.send()
    assert machine.warning is None
    assert [line["log_level"] for line in lines] == ["error", "info"]


@given(st.floats(0, 3600), st.floats(0, 3600))
def test_slow_confirmation_is_no_difference_of_clocks(to_broker: float, back: float) -> None:
    machine = Machine()
    machine.send(to_broker, back)
    assert machine.warning is None


@given(st.floats(-86_400, 86_400), st.floats(0, 30), st.floats(0, 30))
def test_warning_never_overstates_the_difference(ahead: float, to_broker: float, back: float) -> None:
    machine = Machine(ahead)
    machine.send(to_broker, back)
    assert machine.warning is None or abs(ahead) > TOLERANCE
    assert machine.warning is not None or abs(ahead) < TOLERANCE + 61


def test_refused_time_is_a_warning_until_that_topic_takes_a_record_again() -> None:
    machine = Machine()
    machine.watch.note_refused("changelog")
    assert machine.warning is not None
    assert "clock is wrong" in machine.warning
    assert "changelog" in machine.warning
    machine.watch.note_confirmed("another", SENT, None)
    assert machine.warning is not None
    machine.watch.note_confirmed("changelog", SENT, None)
    assert machine.warning is None
