"""The real components that tests start: find them, and fetch from Debian what this machine lacks.

As root with apt-get, packages are installed. Without root, what can run unpacked (PostgreSQL, Prometheus) is unpacked
into `.tools` in the project's folder, where the tests look as well. Kafka and Tryton are fetched by `deploy.kafka` and
`deploy.tryton` when they are first started.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Unpacked packages.
TOOLS = ROOT / ".tools"


@dataclass(frozen=True)
class Component:
    """Programs that tests need, the Debian packages that have them, and whether these run unpacked, without root."""

    name: str
    packages: tuple[str, ...]
    is_here: Callable[[], bool]
    runs_unpacked: bool = False
    #: Prometheus' package starts a service and wants a dozen fonts; its two programs need libc alone.
    never_installed: bool = False


def tool(name: str) -> Path | None:
    """Return the program on PATH or in `.tools`, or None."""
    found = shutil.which(name) or shutil.which(name, path=TOOLS / "usr/bin")
    return Path(found) if found else None


def postgres_folder() -> Path | None:
    """Return the folder of initdb and postgres: on PATH, where pg_config says, or where Debian puts the newest."""
    folders = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    if config := shutil.which("pg_config"):
        done = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(done.stdout.strip()))
    for root in (Path("/"), TOOLS):
        installed = (root / "usr/lib/postgresql").glob("[0-9]*/bin")
        folders += sorted(installed, key=lambda folder: int(folder.parent.name), reverse=True)
    complete = (folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists())
    return next(complete, None)


def unpacked_libraries() -> dict[str, str]:
    """Return the environment variable with which programs in `.tools` find the libraries next to them."""
    folders = [str(folder) for folder in sorted(TOOLS.glob("usr/lib/*-linux-gnu*"))]
    already = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": ":".join([*folders, *([already] if already else [])])} if folders else {}


COMPONENTS = (
    Component(
        "Kafka",
        ("openjdk-17-jre-headless", "maven"),
        lambda: (shutil.which("java") is not None or "JAVA_HOME" in os.environ) and shutil.which("mvn") is not None,
    ),
    Component("PostgreSQL", ("postgresql",), lambda: postgres_folder() is not None, runs_unpacked=True),
    Component(
        "Prometheus",
        ("prometheus",),
        lambda: "TILLSTREAM_PROMETHEUS" in os.environ or (tool("prometheus") and tool("promtool")) is not None,
        runs_unpacked=True,
        never_installed=True,
    ),
    Component("openssl", ("openssl",), lambda: shutil.which("openssl") is not None),
    Component("systemd-analyze", ("systemd",), lambda: shutil.which("systemd-analyze") is not None),
)


def main() -> None:
    """Fetch what is missing; print one line, and one more for components that can't be fetched."""
    wanted = [component for component in COMPONENTS if not component.is_here()]
    faults = dict(_fetch(wanted))
    fetched = [component.name for component in wanted if component.is_here()]
    here = [component.name for component in COMPONENTS if component not in wanted]
    print(f"components: found {', '.join(here) or 'nothing'}; fetched {', '.join(fetched) or 'nothing'}", flush=True)
    for component in wanted:
        if not component.is_here():
            packages, why = " ".join(component.packages), faults.get(component.name, "")
            print(f"components: no {component.name}: its tests are skipped. Install {packages}. {why}")


def _fetch(wanted: Sequence[Component]) -> Iterator[tuple[str, str]]:
    """Install or unpack each one. Yields the names of those that failed, and why."""
    if not wanted:
        return
    if shutil.which("apt-get") is None:
        yield from ((component.name, "There is no apt-get here.") for component in wanted)
        return
    root = os.geteuid() == 0
    options = [] if root else _own_state()
    _apt([*options, "update"])
    for component in wanted:
        if root and not component.never_installed:
            done = _apt([*options, "install", "--yes", "--no-install-recommends", *component.packages])
        elif component.runs_unpacked:
            done = _unpack(options, component)
        else:
            yield component.name, "Installing it needs root."
            continue
        if done.returncode:
            yield component.name, ((done.stdout + done.stderr).strip().splitlines() or ["apt-get failed."])[-1]


def _own_state() -> list[str]:
    """Return the options with which apt-get keeps its lists in `.tools`, for people who are not root."""
    folder = TOOLS / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]


def _unpack(options: Sequence[str], component: Component) -> "subprocess.CompletedProcess[str]":
    """Unpack the component's packages, and those that installing them would bring, into `.tools`."""
    packages: Sequence[str] = component.packages
    if not component.never_installed:
        plan = _apt([*options, "install", "--simulate", "--no-install-recommends", *packages])
        packages = re.findall(r"^Inst (\S+)", plan.stdout, re.MULTILINE)
    folder = TOOLS / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    done = _apt([*options, "download", *packages], folder)
    for package in sorted(folder.glob("*.deb")):
        done = done if done.returncode else _run(["dpkg", "-x", package, TOOLS], TOOLS)
        package.unlink()
    return done


def _apt(arguments: Sequence[str], folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return _run(["apt-get", "-qq", *arguments], folder)


def _run(command: Sequence[str | Path], folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())
