"""Kafka's jars, as `pom.xml` names them, fetched by Maven once and kept in `.dist/` next to this file."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from deploy.processes import ServerError

POM = Path(__file__).with_name("pom.xml")
DIST = Path(__file__).with_name(".dist")


def kafka_version() -> str:
    """The Kafka version that `pom.xml` names."""
    version = ElementTree.parse(POM).findtext(".//{*}kafka.version")
    if not version:
        raise ServerError(f"{POM} names no kafka.version")
    return version


def java() -> str:
    """The Java program: of JAVA_HOME, else on PATH. Raises ServerError."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if not found:
        where = f"no bin/java in JAVA_HOME={home}" if home else "no java on PATH, and JAVA_HOME is not set"
        raise ServerError(f"Kafka needs Java 17 or newer: {where}. Install a JDK or JRE.")
    return found


def jars() -> list[Path]:
    """All jars, in a stable order; fetches them first if need be, once, however many processes ask."""
    folder = _folder()
    if not folder.is_dir():
        with _locked():
            if not folder.is_dir():
                _fetch(folder)
    return sorted(folder.glob("*.jar"))


def is_available() -> bool:
    """Whether a broker can be started here: there is Java, and the jars or Maven to fetch them."""
    try:
        java()
    except ServerError:
        return False
    return _folder().is_dir() or shutil.which("mvn") is not None


def _folder() -> Path:
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:8]
    return DIST / f"{kafka_version()}-{digest}"


@contextmanager
def _locked() -> Iterator[None]:
    DIST.mkdir(exist_ok=True)
    with (DIST / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, by a crash too
        yield


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if not maven:
        raise ServerError(f"Kafka {kafka_version()} has to be fetched by Maven once: there is no mvn on PATH.")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(
        [maven, "--quiet", "--batch-mode", "--file", POM, *goal], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-3000:]
        raise ServerError(f"fetching Kafka {kafka_version()} with Maven failed:\n{output}")
    partial.rename(folder)  # a folder of this name is complete
