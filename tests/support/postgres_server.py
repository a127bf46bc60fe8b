"""PostgreSQL servers as tests see them: any at all, and one of this machine's binaries."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from deploy.components import postgres_folder, unpacked_libraries
from deploy.processes import HOST, Process, ServerError, free_port

Kind = Literal["given", "container", "local"]

_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgres:
    """A running PostgreSQL server in which tests may create databases."""

    def __init__(self, url: str | URL, kind: Kind) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self.kind = kind

    @property
    def url(self) -> str:
        """The server's own database, for SQLAlchemy, with the password."""
        return self._url.render_as_string(hide_password=False)

    def create_database(self, name: str) -> str:
        """Creates an empty database and returns its URL, for SQLAlchemy, with the password."""
        self._execute(sql.SQL("CREATE DATABASE {}"), name)
        return self._url.set(database=name).render_as_string(hide_password=False)

    def drop(self, name: str) -> None:
        """Drops a database, and first every connection to it."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)"), name)

    def connect(self, timeout: int = 10) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection to the server's own database, in autocommit mode. Raises psycopg.OperationalError."""
        plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True, connect_timeout=timeout)

    def _execute(self, statement: sql.SQL, name: str) -> None:
        with self.connect() as connection:
            connection.execute(statement.format(sql.Identifier(name)))


class LocalPostgres(Postgres):
    """One server in a temporary folder. `start` after `stop` comes back on the same port with the same data.

    It never outlives this process. `fsync=False` is quicker, and no longer proves that anything survives a crash
    of the machine. `stop("immediate")` ends it as a crash would: the next start recovers from the log.
    """

    def __init__(self, *, fsync: bool = True, password: str | None = None) -> None:
        self.port = free_port()
        self._fsync = fsync
        self.folder = Path(tempfile.mkdtemp(prefix="tillstream-postgres-"))
        self._data = self.folder / "data"
        self._password = password or secrets.token_hex(8)
        self._process: Process | None = None
        super().__init__(URL.create("postgresql", "tillstream", self._password, HOST, self.port, "postgres"), "local")

    @property
    def pid(self) -> int | None:
        """The process id of the server while it runs."""
        return self._process.pid if self._process and self._process.alive else None

    def start(self, timeout: float = 60) -> Self:
        """Returns when the server takes queries. Raises ServerError, with the end of the log."""
        if self.pid is not None:
            raise ServerError(f"this server is running already, on port {self.port}")
        self.stop()  # whoever else ended it: its guard must not take the data of its next life
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        settings = {
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "shared_buffers": "32MB",
            "fsync": "on" if self._fsync else "off",
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        user, group = _unprivileged()
        self._process = Process(
            "PostgreSQL",
            [_program("postgres"), "-D", self._data, "-p", str(self.port), *options],
            log=self.folder / "postgres.log",
            guarded=True,
            guard_signal=signal.SIGQUIT,  # unlike SIGKILL it reaches the server's own children and shared memory
            remove=self.folder,
            user=user,
            group=group,
            environment=unpacked_libraries(),
        )
        self._process.await_start(self._answers, timeout)
        return self

    def stop(self, mode: Literal["fast", "immediate"] = "fast", timeout: float = 30) -> None:
        """Ends every connection and the server, in order or as a crash would, and waits. The data stay."""
        if self._process:
            self._process.end(_SIGNALS[mode], timeout)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """`stop`, then `start`."""
        self.stop(mode)
        self.start()

    def replica(self) -> "LocalPostgres":
        """A streaming standby of this server, not started yet. It takes reads only, until it is promoted.

        From now on a commit here returns when the standby has it too, so that none is lost with this server.
        """
        other = LocalPostgres(fsync=self._fsync, password=self._password)
        user, group = _unprivileged()
        if user is not None:
            shutil.chown(other.folder, user, group)
        source = f"host={HOST} port={self.port} user=tillstream password={self._password}"
        other._run("pg_basebackup", "-D", other._data, "-d", source, "--write-recovery-conf", "--checkpoint=fast")
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        return other

    def promote(self) -> None:
        """Makes a standby the primary; returns when it takes writes."""
        with self.connect() as connection:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf(), pg_promote()")

    def close(self) -> None:
        """Stops and removes the data."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _initialise(self) -> None:
        user, group = _unprivileged()
        secret = self.folder / "password"
        secret.write_text(self._password)
        if user is not None:
            shutil.chown(self.folder, user, group)
            shutil.chown(secret, user, group)
        options = ["--username=tillstream", "--auth=scram-sha-256", f"--pwfile={secret}"]
        self._run("initdb", "-D", self._data, *options, "--encoding=UTF8", "--no-locale", "--no-sync")

    def _run(self, program: str, *arguments: str | Path) -> None:
        user, group = _unprivileged()
        done = subprocess.run(
            [_program(program), *arguments],
            cwd=self.folder,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | unpacked_libraries(),
        )
        if done.returncode != 0:
            raise ServerError(f"{program} failed:\n{done.stdout}{done.stderr}")

    def _answers(self) -> bool:
        try:
            self.connect(timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _program(name: str) -> Path:
    folder = postgres_folder()
    if folder is None:
        raise ServerError("PostgreSQL's initdb and postgres are nowhere to be found. Run `make components`.")
    return folder / name


def _unprivileged() -> tuple[str | None, int | None]:
    """Whom the server runs as: PostgreSQL refuses to run as root. (None, None): as this process."""
    if os.geteuid() != 0:
        return None, None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    found = known.get("postgres") or known["nobody"]
    return found.pw_name, found.pw_gid
