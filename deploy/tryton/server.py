"""A real Tryton on this machine, on 127.0.0.1 only, with a company to sell for.

    python deploy/tryton/server.py [--port 8000] [--data DIR]

runs one until Ctrl-C and says how to reach it. Needs PyPI the first time. For development, tests and benchmarks; the
data are in a temporary folder unless a folder is named.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a script's path is its own folder only

from deploy.processes import HOST, Process, ServerError, accepts, free_port, is_free
from deploy.tryton import distribution

DATABASE = "erp"
USER, PASSWORD = "tillstream", "only-for-127.0.0.1"
ADMIN, ADMIN_PASSWORD = "admin", "only-for-127.0.0.1"
_COMPANY = Path(__file__).with_name("company.py")

_CONFIGURATION = """
[database]
uri = {uri}
path = {folder}
[web]
listen = {host}:{port}
root =
[email]
uri = smtp://{host}:9
"""


class Tryton:
    """One Tryton. `start` after `stop` or `kill` comes back on the same port with the same data.

    Without `data` it works in a temporary folder that `close` (or the end of a `with`) removes. It never outlives this
    process. Its database is the SQLite file `file`, unless `postgres` is the URL of a PostgreSQL server, without a
    database, in which an empty database `erp` is.
    """

    def __init__(self, *, port: int | None = None, data: Path | None = None, postgres: str | None = None) -> None:
        self.port = port or free_port()
        self._temporary = data is None
        self.data = data or Path(tempfile.mkdtemp(prefix="tillstream-tryton-"))
        self.log = self.data / "trytond.log"
        self.file = self.data / f"{DATABASE}.sqlite"
        self._postgres = postgres
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """The sink's URL; the password is PASSWORD."""
        return f"tryton+http://{USER}@{HOST}:{self.port}/{DATABASE}"

    @property
    def sql_url(self) -> str:
        """Its database's own URL, for SQLAlchemy."""
        if self._postgres is None:
            return f"sqlite:///{self.file}"
        return f"{self._postgres.rstrip('/')}/{DATABASE}".replace("postgresql:", "postgresql+psycopg:", 1)

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.alive else None

    def start(self, timeout: float = 60) -> Self:
        """Returns when it takes connections. Raises ServerError, with the end of the log."""
        if self.pid is not None:
            raise ServerError(f"this Tryton is running already, at {self.url}")
        self.stop()
        if not is_free(self.port):
            raise ServerError(f"port {self.port} of {HOST} is in use; name another, or none for any free one")
        self.data.mkdir(parents=True, exist_ok=True)
        configuration = configure(self.data, self.port, self._postgres)
        if self._postgres is not None:
            if not (self.data / "filled").exists():
                fill(self.data, configuration)
                (self.data / "filled").touch()
        elif not self.file.exists():
            shutil.copyfile(template(), self.file)
        command = distribution.command("trytond", "-c", configuration, "-d", DATABASE)
        self._process = Process(
            "Tryton", command, log=self.log, guarded=True, remove=self.data if self._temporary else None
        )
        self._process.await_start(lambda: accepts(self.port), timeout)
        return self

    def stop(self, timeout: float = 30) -> None:
        """Ends it (SIGTERM) and waits for the end. The data stay."""
        if self._process:
            self._process.end(signal.SIGTERM, timeout)

    def kill(self) -> None:
        """Ends it as a power cut would (SIGKILL). The data stay."""
        if self._process:
            self._process.kill()

    def close(self) -> None:
        """Stops, and removes the data if their folder was temporary."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def template() -> Path:
    """An SQLite database with a company; makes it first if need be, which takes half a minute."""
    made_of = [_COMPANY, Path(__file__), *distribution.module_files()]
    name = f"template-{distribution.digest(made_of, distribution.environment().name)}"
    return distribution.made_once(distribution.DIST / name, _make_template) / f"{DATABASE}.sqlite"


def _make_template(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        partial = Path(work) / "data"
        partial.mkdir()
        (partial / f"{DATABASE}.sqlite").touch()  # Tryton takes it for a database only if it is there
        fill(partial, configure(partial, port=1))
        partial.rename(folder)


def configure(folder: Path, port: int, postgres: str | None = None) -> Path:
    """Writes a configuration."""
    path = folder / "trytond.conf"
    path.write_text(_CONFIGURATION.format(uri=postgres or "sqlite://", folder=folder, host=HOST, port=port))
    path.chmod(0o600)
    return path


def fill(folder: Path, configuration: Path) -> None:
    """Makes Tryton's tables in an empty database, and a company."""
    password = folder / "admin-password"
    password.write_text(ADMIN_PASSWORD)
    # Tryton chooses its kind of database when it is imported, by the second of these.
    environment = os.environ | {"TRYTONPASSFILE": str(password), "TRYTOND_CONFIG": str(configuration)}
    admin = distribution.command("trytond-admin", "-c", configuration, "-d", DATABASE)
    activate = ["-u", "tillstream", "--activate-dependencies", "--email", "admin@example.com"]
    distribution.run([*admin, *activate], "making Tryton's tables", env=environment)
    command = distribution.command("python", _COMPANY, configuration, DATABASE, USER, PASSWORD)
    distribution.run(command, "making a company in Tryton", env=environment)


def main() -> int:
    """Run one until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000, help="its port (%(default)s)")
    parser.add_argument("--data", type=Path, help="a folder for its data, kept (default: a temporary folder)")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Tryton(port=given.port, data=given.data) as tryton:
            print(f"Tryton is at http://{HOST}:{tryton.port}, database {DATABASE}, user {ADMIN}, {ADMIN_PASSWORD}")
            print(f"sink_url: {tryton.url}?point=Main\nTILLSTREAM_SINK_PASSWORD: {PASSWORD}", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
