"""A virtual environment with Tryton, and Tillstream's module, made once each and kept in `.dist/` next to this file."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.processes import ServerError

HERE = Path(__file__).parent
MODULE = HERE / "module"
DIST = HERE / ".dist"
_REQUIREMENTS = HERE / "requirements.txt"


def environment() -> Path:
    """The virtual environment's folder; makes it first if need be, once, however many processes ask."""
    name = f"venv-{sys.version_info.major}.{sys.version_info.minor}-{digest([_REQUIREMENTS])}"
    return made_once(DIST / name, _make_environment)


def module() -> Path:
    """The folder that Tillstream's module is installed in, likewise."""
    return made_once(DIST / f"module-{digest(module_files())}", _install_module)


def command(program: str, *arguments: str | Path) -> list[str | Path]:
    """How to run one of the environment's programs, with the module."""
    return ["env", f"PYTHONPATH={module()}", environment() / "bin" / program, *arguments]


def module_files() -> list[Path]:
    """The module's own files, in a stable order."""
    return sorted(path for suffix in ("py", "xml", "cfg", "toml") for path in MODULE.rglob(f"*.{suffix}"))


def digest(files: Sequence[Path], *more: str) -> str:
    """Eight digits that change with the contents of the files, and with `more`."""
    said = b"".join(path.read_bytes() for path in files) + "".join(more).encode()
    return hashlib.sha256(said).hexdigest()[:8]


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, by `make` if it is not there whole: a file in it says so, as others look while it is being made."""
    whole = folder / ".whole"
    if not whole.exists():
        with _locked(folder.name):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                whole.touch()
    return folder


def run(command: Sequence[str | Path], doing: str, env: Mapping[str, str] | None = None) -> None:
    """Runs a program to its end. Raises ServerError, with the end of its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise ServerError(f"{doing} failed:\n{(done.stdout + done.stderr)[-3000:]}")


@contextmanager
def _locked(name: str) -> Iterator[None]:
    DIST.mkdir(exist_ok=True)
    with (DIST / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, by a crash too
        yield


def _make_environment(folder: Path) -> None:
    run([sys.executable, "-m", "venv", folder], "making a virtual environment for Tryton")
    run([*_pip(folder), "--requirement", _REQUIREMENTS], "installing Tryton")


def _install_module(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        source = shutil.copytree(MODULE, Path(work) / "module")  # the build leaves files next to the sources
        run([*_pip(environment()), "--no-deps", "--target", folder, source], "installing Tillstream's module")


def _pip(folder: Path) -> list[str | Path]:
    return [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
