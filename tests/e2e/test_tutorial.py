"""The tutorial, followed as by a reader: every command in a shell, every file saved under the name that it is given."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.kafka import Kafka
from tests.support.workers import own_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tutorial/first-feed.md").read_text()
#: A fenced block, after the name under which the text has the reader save it, if any.
BLOCK = re.compile(r"(?:[Ss]ave\s+this\s+as\s+`([^`]+)`:)?\s*^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: The programs that the tutorial's commands use.
NEEDED = ("bash", "curl", "grep", "gzip", "sed", "zcat")
#: The reader's wait for the worker, and the test's: until four partitions have no lag.
WAIT = "sleep 30"
DRAINED = (
    "for _ in $(seq 300); do sleep 0.2; curl -s {address}/metrics | awk "
    """'/^tillstream_lag_records/ {{ n += 1; lag += $2 }} /^tillstream_events_delivered_total/ {{ done = $2 }} """
    """END {{ exit !(n == 4 && lag == 0 && done > 0) }}' && break; done"""
)
#: A record that becomes a dead letter is a finding.
FINDS_SOMETHING = "map try online-retail.yaml comma.csv"


class TutorialStep(NamedTuple):
    """A command with its documented output, or the contents of a file to save."""

    text: str
    output: str = ""
    file: str | None = None


def steps_of(page: str) -> Iterator[TutorialStep]:
    """The steps after the set-up, in order."""
    for name, language, body in BLOCK.findall(page):
        if name:
            yield TutorialStep(body, file=name)
        elif language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                yield TutorialStep(command, output)


STEPS = list(steps_of(PAGE))
COMMANDS = [step for step in STEPS if step.file is None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder in a checkout; `tillstream` and `python` are in ../bin.

    `tillstream` writes its exit codes and arguments to ../calls, except for `run`, which is ended by a signal.
    """
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    (tmp_path / "bin").mkdir()
    program = f"{sys.executable} -m ops.cli"
    record = f'echo "$code $*" >> "{tmp_path}/calls"; cat "{tmp_path}/out.$$"; exit $code'
    scripts = {
        "python": f'exec {sys.executable} "$@"',
        "tillstream": f'[ "$1" = run ] && exec {program} "$@"\n{program} "$@" > "{tmp_path}/out.$$"; code=$?; {record}',
    }
    for name, text in scripts.items():
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)
    (tmp_path / "afternoon").mkdir()
    return tmp_path / "afternoon"


def follow(folder: Path, kafka: Kafka, topic: str) -> dict[str, str]:
    """Run all steps in one shell, with a topic and ports of this test; return each command's output."""
    address = f"127.0.0.1:{own_port()}"
    replaced = {
        WAIT: DRAINED.format(address=address),
        "127.0.0.1:19092": kafka.bootstrap,
        "127.0.0.1:9464": address,
        "retail.sales": topic,
        "group: retail": f"group: {topic}",
    }
    script = ["trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for number, step in enumerate(STEPS):
        text = step.text
        for documented, actual in replaced.items():
            text = text.replace(documented, actual)
        if step.file is None:
            script += [f"echo '=== {number}'", text]
        else:
            (folder.parent / f"step{number}").write_text(text)
            script.append(f"cp ../step{number} {step.file}")
    result = subprocess.run(
        ["bash", "-m", "-c", "\n".join(script)],
        cwd=folder,
        env=environment(folder, address.rpartition(":")[2]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    parts = re.split(r"^=== (\d+)\n", result.stdout, flags=re.MULTILINE)[1:]
    return {STEPS[int(number)].text: output for number, output in zip(parts[::2], parts[1::2], strict=True)}


def environment(folder: Path, port: str) -> dict[str, str]:
    """The reader's environment, without settings of whoever runs the tests."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TILLSTREAM_")}
    path = f"{folder.parent}/bin:{os.environ['PATH']}"
    return outside | {"PATH": path, "PYTHONPATH": str(ROOT), "TILLSTREAM_HTTP_PORT": port}


def metrics_in(text: str) -> set[str]:
    """The metrics in a text, each with its labels."""
    return set(re.findall(r"^(tillstream_\S+) ", text, re.MULTILINE))


@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")
def test_every_command_of_the_tutorial_works_for_a_reader(folder: Path, kafka: Kafka, topic_name: str) -> None:
    outputs = follow(folder, kafka, topic_name)
    assert list(outputs) == [step.text for step in COMMANDS]

    codes = [line.partition(" ") for line in (folder.parent / "calls").read_text().splitlines()]
    called = [text for text in outputs if re.match("tillstream (?!run)", text)]
    assert len(codes) == len(called)
    wrong = [words for code, _, words in codes if code != ("1" if words == FINDS_SOMETHING else "0")]
    assert wrong == [], outputs

    for command, documented, _ in COMMANDS:
        assert "command not found" not in outputs[command], command
        assert outputs[command] or not documented, command
        if command.startswith("curl"):
            assert metrics_in(outputs[command]) == metrics_in(documented)
    assert outputs["tillstream map test online-retail.yaml"].endswith("4 passed, 0 failed\n")
    assert (folder / "before.yaml").read_text() != (folder / "online-retail.yaml").read_text()
    assert "lines        9\n" in outputs["python erp.py"]
    assert outputs["python count.py"].startswith(outputs["python erp.py"])


def test_every_file_of_the_tutorial_is_saved_under_a_name() -> None:
    assert [step.file for step in STEPS if step.file] == ["tillstream.yaml", "online-retail.yaml", "erp.py", "count.py"]
