"""The systemd units: what they start, when they start it again, and how little it may do."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ops.check import UNREACHABLE, WRONG_USAGE
from ops.cli import EXIT_BUG, program
from ops.schedules.commands import run as schedule_run
from ops.worker.watchdog import EXIT_RESTART
from streams.settings import KafkaSecurity, Settings
from tests.support.deploy import LONGEST_END

FOLDER = Path(__file__).parents[2] / "deploy/systemd"
ONE, SEVERAL = FOLDER / "tillstream.service", FOLDER / "tillstream@.service"

units = pytest.mark.parametrize("unit", [ONE, SEVERAL], ids=lambda path: path.name)
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: systemd)")


def values(unit: Path, name: str) -> list[str]:
    """What the unit says of `name`, one line each."""
    return re.findall(rf"^{re.escape(name)}=(.*)$", unit.read_text(), re.MULTILINE)


def value(unit: Path, name: str) -> str:
    (only,) = values(unit, name)
    return only


@units
def test_unit_starts_a_worker(unit: Path) -> None:
    path, command, *arguments = value(unit, "ExecStart").split()
    assert path.endswith("/bin/tillstream")
    context = program.commands[command].make_context(command, arguments)
    assert command == "run"
    assert context.params["config"] == Path("/etc/tillstream/tillstream.yaml")
    assert not context.params["restart"]  # systemd does that


@units
def test_every_exit_code_but_wrong_settings_is_started_again(unit: Path) -> None:
    assert value(unit, "Restart") == "on-failure"
    assert value(unit, "StartLimitIntervalSec") == "0"
    never = set(map(int, value(unit, "RestartPreventExitStatus").split()))
    assert never == {WRONG_USAGE}
    assert not never & {UNREACHABLE, EXIT_BUG, EXIT_RESTART}
    assert not values(unit, "SuccessExitStatus")  # 75 is no success: it would not be started again


@units
def test_worker_has_the_time_to_drain(unit: Path) -> None:
    assert float(value(unit, "TimeoutStopSec")) >= LONGEST_END


@units
def test_every_setting_is_one_and_secrets_are_files(unit: Path) -> None:
    given = dict(
        pair.split("=", 1)
        for line in re.findall(r"^#?Environment=(.*)$", unit.read_text(), re.MULTILINE)
        for pair in line.split()
    )
    ours = {name.removeprefix("TILLSTREAM_").lower(): text for name, text in given.items() if "TILLSTREAM_" in name}
    for name in ours:
        first, _, nested = name.partition("__")
        assert first in Settings.model_fields
        assert not nested or nested in KafkaSecurity.model_fields
    credentials = re.findall(r"^#?LoadCredential=([\w-]+):/etc/", unit.read_text(), re.MULTILINE)
    files = {text.removeprefix("%d/") for name, text in ours.items() if name.endswith("password_file")}
    assert files == set(credentials)
    assert not [name for name in ours if name.endswith("password")]


def test_template_is_the_unit_with_a_port_and_a_folder_of_its_own() -> None:
    expected = (
        ONE.read_text()
        .replace("StateDirectory=tillstream", "StateDirectory=tillstream/%i")
        .replace("WorkingDirectory=%S/tillstream", "WorkingDirectory=%S/tillstream/%i")
        .replace("TILLSTREAM_LOG_FORMAT=json", "TILLSTREAM_LOG_FORMAT=json TILLSTREAM_HTTP_PORT=%i")
        .replace("into the ERP\n", "into the ERP (worker at port %i)\n")
    )
    assert SEVERAL.read_text().splitlines()[1:] == expected.splitlines()[1:]


def test_schedules_are_kept_as_a_worker_is_in_a_folder_of_their_own() -> None:
    unit = FOLDER / "tillstream-schedules.service"
    path, *arguments = value(unit, "ExecStart").split()
    assert (path, arguments[:2]) == (value(ONE, "ExecStart").split()[0], ["schedule", "run"])
    context = schedule_run.make_context("run", arguments[2:])
    assert context.params["config"] == Path("/etc/tillstream/tillstream.yaml")
    own = {"Description", "ExecStart", "StateDirectory", "WorkingDirectory"}

    def others(of: Path) -> list[str]:
        lines = of.read_text().splitlines()
        return [line for line in lines if not line.startswith("#") and line.partition("=")[0] not in own]

    assert others(unit) == others(ONE)
    assert value(unit, "StateDirectory") != value(ONE, "StateDirectory")  # of two dynamic users


def startable(unit: Path, folder: Path) -> Path:
    """The unit with a program that is there; of a template an instance."""
    made = folder / unit.name.replace("@", "@9464")
    made.write_text(re.sub("^ExecStart=.*$", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE))
    return made


@analyze
@units
def test_systemd_has_no_complaint(unit: Path, tmp_path: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", startable(unit, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    about = [
        line for line in done.stderr.splitlines() if "tillstream" in line
    ]  # others are of this machine's own units
    assert (done.returncode, about) == (0, [])


@analyze
@units
def test_exposure_is_low(unit: Path, tmp_path: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", startable(unit, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("needs systemd-analyze of systemd 250 or newer")
    assert done.returncode == 0, done.stdout[-300:]
