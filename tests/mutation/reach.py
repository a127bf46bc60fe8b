"""Which unit tests reach a line, and how long each takes: measured once by a run of all of them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from coverage import CoverageData


@dataclass(frozen=True)
class Reach:
    """The tests that reach each line of each module, by node id, and the seconds each one takes."""

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def tests(self, module: str, first: int, last: int) -> list[str]:
        """Return the tests that reach one of these lines, the quickest first.

        What runs at import alone (constants, signatures) is reached by whoever reaches any line of the module.
        """
        lines = self.lines.get(module, {})
        found = {test for line in range(first, last + 1) for test in lines.get(line, ()) if test}
        if not found and any("" in lines.get(line, ()) for line in range(first, last + 1)):
            found = {test for tests in lines.values() for test in tests if test}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))


def measure(root: Path, work: Path) -> Reach:
    """Run all unit tests under coverage. Takes minutes. Raises RuntimeError when one fails."""
    data, report = work / "coverage", work / "junit.xml"
    packages = [f"--cov={package}" for package in ("schemas", "streams", "ops")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/unit", "-q", "-p", "no:cacheprovider", "--numprocesses=2",
         *packages, "--cov-context=test", "--cov-report=", f"--junitxml={report}", "-o", "junit_family=xunit1"],
        cwd=root, env=environment(root) | {"COVERAGE_FILE": str(data)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"The unit tests fail without any mutant:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    return Reach(_lines(root, data), _seconds(report))


def environment(root: Path) -> dict[str, str]:
    """Return the environment in which `root`'s own code is imported, and no byte code is kept."""
    return os.environ | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}


def _lines(root: Path, file: Path) -> dict[str, dict[int, list[str]]]:
    data = CoverageData(str(file))
    data.read()
    return {
        str(Path(name).relative_to(root)): {
            line: [context.partition("|")[0] for context in contexts]
            for line, contexts in data.contexts_by_lineno(name).items()
        }
        for name in data.measured_files()
    }


def _seconds(report: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        found[f"{case.get('file')}::{case.get('name')}"] = float(case.get("time", 0))
    return found
