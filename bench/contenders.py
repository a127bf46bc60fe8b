"""Who runs: how each is started on the job, and where it puts what."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url

from bench.rivals.receipt import Task
from deploy.processes import free_port

OURS = Path(sys.executable)
#: Of the virtual environment for `bench/rivals/requirements.txt`; `make bench` makes it.
RIVALS = Path(__file__).parents[1] / ".venv-rivals" / "bin" / "python"


@dataclass(frozen=True)
class Contender:
    """`start(task, folder)` starts its process, whose output goes to `folder/log`. `lines` is its table of lines.

    `most` bounds the events it is given; None: the whole job. `python` is the interpreter that it needs.
    """

    name: str
    lines: str
    start: Callable[[Task, Path], "subprocess.Popen[bytes]"]
    most: int | None = None
    python: Path = OURS

    @property
    def installed(self) -> bool:
        """Whether it can be started."""
        return self.python.exists()


def start_tillstream(task: Task, folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    """`tillstream run` as in production: dedupe, dead letters, checks, metrics, migrations."""
    url = make_url(task.database)
    password = folder / "password"
    password.write_text(url.password or "")
    settings = {
        "broker": task.broker,
        "topic": task.topic,
        "dead_letter_topic": task.dead_letter_topic,
        "group": task.group,
        "sink_url": URL.create("postgresql", url.username, None, url.host, url.port, url.database).render_as_string(),
        "sink_password_file": str(password),
        "apply_migrations": True,
        "http_port": free_port(),
        "log_format": "json",
    }
    config = folder / "tillstream.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    return _start([sys.executable, "-m", "ops.cli", "run", "--config", str(config), *options], folder)


def start_two_workers(task: Task, folder: Path) -> "subprocess.Popen[bytes]":
    """The same with two processes."""
    return start_tillstream(task, folder, "--workers", "2")


def _rival(name: str, most: int | None = None, python: Path = OURS) -> Contender:
    """The one in `bench/rivals/{name}.py`."""
    return Contender(name, "lines", _start_rival(name, python), most, python)


def _start_rival(module: str, python: Path) -> Callable[[Task, Path], "subprocess.Popen[bytes]"]:
    def start(task: Task, folder: Path) -> "subprocess.Popen[bytes]":
        libpq = make_url(task.database).set(drivername="postgresql").render_as_string(hide_password=False)
        told = json.dumps(asdict(task) | {"database": libpq})
        return _start([str(python), "-m", f"bench.rivals.{module}"], folder, told.encode())

    return start


def _start(command: list[str], folder: Path, told: bytes = b"") -> "subprocess.Popen[bytes]":
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
    assert process.stdin is not None
    process.stdin.write(told)
    process.stdin.close()
    return process


TILLSTREAM = Contender("tillstream", "document_lines", start_tillstream)

CONTENDERS = (
    TILLSTREAM,
    Contender("tillstream_2_workers", "document_lines", start_two_workers),
    _rival("handwritten_loop"),
    _rival("faust_take"),
    _rival("naive_faust", most=20_000),
    _rival("quix_streams", python=RIVALS),
    _rival("fast_stream", python=RIVALS),
    _rival("copy_alone"),
)
