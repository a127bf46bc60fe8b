"""`tillstream import` on a real topic: killed and gone on with, rehearsed, repaired, refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ops.cli import program
from tests.support.kafka import Kafka
from tests.support.wait import wait_until
from tests.support.workers import Shop, open_shop

CONTRACT = """
contract: 1
source: till
format: csv
group_by: [bon]
kinds: [{type: sale}]
fields:
  receipt: rows[0].bon
  occurred_at: {value: "2026-03-02T10:00:00Z"}
  store: {value: S1}
  register: {value: "1"}
  currency: {value: EUR}
  totals.gross: {derive: total}
lines:
  - each: rows
    fields: {sku: sku, quantity: {value: "1"}, unit_price: {path: price, as: decimal}, tax_rate: {value: "0"}}
"""

#: Runs the program, and kills it as kill -9 does when so many records have been handed to the producer.
KILLED = """
import os, signal, sys
from ops.importing import sending
from ops.cli import main
at = int(sys.argv.pop(1))
sending._PAUSE, sending._LOOK = 0, 50
send = sending.ReceiptSender.send
def counting(self, key, value):
    global at
    at -= 1
    if at < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    send(self, key, value)
sending.ReceiptSender.send = counting
main()
"""


@pytest.fixture
def shop(tmp_path: Path, kafka: Kafka, topic_name: str) -> Iterator[Shop]:
    """A shop whose settings stand in tillstream.yaml."""
    (tmp_path / "till.yaml").write_text(CONTRACT)
    with open_shop(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite") as opened:
        opened.settings |= {"contract": str(tmp_path / "till.yaml"), "data_folder": str(tmp_path / "kept")}
        (tmp_path / "tillstream.yaml").write_text(json.dumps(opened.settings))
        yield opened


def run(shop: Shop, *arguments: str | Path, stdin: bytes | None = None) -> Result:
    config = str(shop.folder / "tillstream.yaml")
    return CliRunner().invoke(program, ["import", *map(str, arguments), "--config", config], input=stdin)


def told(shop: Shop, *arguments: str | Path, code: int = 0) -> Any:
    result = run(shop, *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def kill(shop: Shop, path: Path, at: int) -> None:
    """Imports, and dies in the middle."""
    command = [sys.executable, "-c", KILLED, str(at), "import", str(path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(shop.folder)}
    killed = subprocess.run(command, cwd=shop.folder, check=False, capture_output=True, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def came_in(shop: Shop, name: str, text: str) -> None:
    """A file that another program wrote elsewhere and renamed in."""
    path = shop.folder / "written.part"
    path.write_text(text)
    os.utime(path, (1, 1))
    path.rename(shop.folder / name)


def program_of(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "ops.cli", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def sales(shop: Shop, bons: int, name: str = "sales.csv") -> Path:
    path = shop.folder / name
    path.write_text("bon,sku,price\n" + "".join(f"{bon},A,1.50\n{bon},B,0.50\n" for bon in range(bons)))
    return path


@pytest.mark.parametrize(("at", "apart"), [(20, False), (60, True), (333, False)])
def test_killed_import_goes_on_behind_what_the_broker_has_confirmed(shop: Shop, at: int, apart: bool) -> None:
    path = sales(shop, 400)
    if apart:
        header, *lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([header, *lines[::2], *lines[1::2]]))
    kill(shop, path, at)
    (report,) = told(shop, path)["files"]
    assert report["sent_before"] == at // 50 * 50
    assert (report["receipts"], report["sent"]) == (400, 400 - at // 50 * 50)
    values = [record.value for record in shop.topics.records(shop.topic)]
    assert (len(set(values)), len(values) <= 400 + at % 50) == (400, True)
    assert told(shop, path)["files"][0]["sent_before"] == 0  # it was done, so this is another import


def test_import_begins_anew_when_the_topic_was_made_anew_or_it_is_told_to(shop: Shop) -> None:
    path = sales(shop, 120)
    kill(shop, path, 100)
    shop.topics.delete_topic(shop.topic)
    shop.topics.create_topic(shop.topic)
    assert told(shop, path)["files"][0]["sent_before"] == 0
    assert len({record.value for record in shop.topics.records(shop.topic)}) == 120
    kill(shop, path, 100)
    assert told(shop, path, "--from-start")["files"][0]["sent"] == 120


def test_bad_line_is_named_kept_and_imported_after_repair_and_nothing_is_booked_twice(shop: Shop) -> None:
    path = shop.folder / "sales.csv"
    path.write_text("bon;sku;price\n1;A;1.50\n2;A;0.50\n3;A\n3;B;1.00\n4;A;2.00\n2;B;0.25\n")
    result = run(shop, path)
    assert result.exit_code == 1
    assert "  line 4: 2 values for 3 columns" in result.stderr
    assert "2 records in" in result.stdout
    side = shop.folder / "sales.csv.bad.csv"
    assert side.read_text() == "bon;sku;price\n2;A;0.50\n3;A\n3;B;1.00\n2;B;0.25\n"
    side.write_text(side.read_text().replace("3;A\n", "3;A;9.00\n"))
    assert run(shop, side).exit_code == 0
    assert run(shop, side).exit_code == 0
    shop.start()
    shop.wait_drained()
    held = shop.query("SELECT external_ref, gross FROM documents ORDER BY external_ref")
    assert [(ref.split("/")[3], gross) for ref, gross in held] == [
        ("1", 15_000),
        ("2", 7_500),
        ("3", 100_000),
        ("4", 20_000),
    ]
    assert shop.dead_letters() == []
    assert run(shop, path).exit_code == 1
    assert side.read_text().count("9.00") == 1  # what was repaired is not written over
    assert (shop.folder / "sales.csv.bad-2.csv").exists()


def test_dry_run_says_the_verdict_on_each_receipt_and_sends_nothing(shop: Shop) -> None:
    path = shop.folder / "sales.csv"
    path.write_text("bon,sku,price\n1,A,1.50\n1,B,1.50\n2,A,cheap\n")
    result = run(shop, path, "--dry-run")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "line 2  1  document",
        "line 4  2  dead letter (unconvertible_value): lines.0.unit_price: not_a_decimal",
        "        1  document",
        "        1  dead letter (unconvertible_value)",
        "nothing was sent",
    ]
    assert shop.topics.records(shop.topic) == []
    assert shop.query("SELECT count(*) FROM documents") == [(0,)]


def test_record_that_the_broker_refuses_is_counted_with_the_reason(shop: Shop) -> None:
    shop.topics.set_config(shop.topic, **{"max.message.bytes": "2000"})
    path = sales(shop, 3)
    path.write_text(path.read_text() + f"9,{os.urandom(5_000).hex()},1\n")
    report = told(shop, path, code=1)
    assert report["failed"] > 0
    assert report["confirmed"] + report["failed"] == 4
    assert "too large" in report["reason"].lower()


def test_several_inputs_are_imported_and_one_that_is_unreadable_is_told(shop: Shop) -> None:
    folder = shop.folder / "exports"
    folder.mkdir()
    sales(shop, 2, "exports/a.csv")
    (folder / "b.csv").write_text("")
    sales(shop, 3, "exports/c.csv")
    result = run(shop, folder, "-", stdin=b"bon,sku,price\n7,A,1\n")
    assert result.exit_code == 2
    assert f"tillstream: {folder}/b.csv: the file is empty" in result.stderr
    assert f"4 records in {shop.topic}" in result.stdout  # two receipts of c.csv are in a.csv, too
    assert "2 of the receipts go with another file" in result.stderr


@pytest.mark.parametrize("apart", [False, True])
def test_receipts_in_several_files_are_booked_whole_also_after_a_kill(shop: Shop, apart: bool) -> None:
    folder = shop.folder / "exports"
    folder.mkdir()
    lines = [
        f"{bon},{sku},{price}\n" for bon in range(200) for sku, price in (("A", "1.50"), ("B", "0.50"), ("C", "0.25"))
    ]
    ordered = [*lines[::3], *lines[1::3], *lines[2::3]] if apart else lines
    for file in range(4):  # 150 rows, so that receipts reach over the ends of files
        (folder / f"{file}.csv").write_text(
            "bon,sku,price\n" + "".join(ordered[file * 149 : (file + 1) * 149 + 4 * (file == 3)])
        )
    kill(shop, folder, 120)
    result = run(shop, folder)
    assert result.exit_code == 0, result.output
    shop.start()
    shop.wait_drained()
    assert shop.query("SELECT count(*), sum(gross) FROM documents") == [(200, 200 * 22_500)]
    assert shop.dead_letters() == []
    values = {record.value for record in shop.topics.records(shop.topic)}
    assert len(values) == 200
    assert all(len(json.loads(value or b"")["rows"]) == 3 for value in values)


def test_files_that_come_into_a_folder_together_are_one_import(shop: Shop) -> None:
    folder = shop.folder / "in"
    (folder / "working").mkdir(parents=True)
    (folder / "working" / "1.csv").write_text("bon,sku,price\n1,A,1\n2,A,1\n")
    (folder / "working" / "2.csv").write_text("bon,sku,price\n2,B,1\n3,A,1\n")
    watcher = program_of("import", "--watch", "in", folder=shop.folder)
    try:
        wait_until(lambda: (folder / "done" / "2.csv").exists(), 40)
    finally:
        watcher.send_signal(signal.SIGTERM)
        _, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, err
    sent = [json.loads(record.value or b"")["rows"] for record in shop.topics.records(shop.topic)]
    assert sorted(len(rows) for rows in sent) == [1, 1, 2]


def test_dry_run_says_what_an_import_of_several_files_would_do(shop: Shop) -> None:
    (shop.folder / "1.csv").write_text("bon,sku,price\n1,A,1\n2,A,1\n,B,1\n3,A,1\n4,A,1\n")
    (shop.folder / "2.csv").write_text("bon,sku,price\n4,B,1\n5,A,1\n2,C,1\n")
    result = run(shop, shop.folder / "1.csv", shop.folder / "2.csv", "--dry-run")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:3] == ["line 2  1  document", "line 6  4  document", "line 3  5  document"]
    assert "line 4: no value in bon" in result.stderr
    report = told(shop, shop.folder / "1.csv", shop.folder / "2.csv", code=1)
    assert [(each["sent"], each["given_by_other_files"], each["put_aside"]) for each in report["files"]] == [
        (2, 0, 3),
        (1, 1, 1),
    ]


def test_contract_that_no_worker_could_use_is_refused_before_anything_is_sent(shop: Shop) -> None:
    wrong = shop.folder / "wrong.yaml"
    wrong.write_text(
        CONTRACT.replace(
            '{value: "2026-03-02T10:00:00Z"}', '{path: "rows[0].at", as: {time: {formats: "%m/%d/%y %H:%M %p"}}}'
        )
    )
    result = run(shop, sales(shop, 1), "--contract", wrong)
    assert (result.exit_code, "%p counts with %I alone" in result.stderr) == (2, True), result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name files, folders or -"),
        (["none.csv"], "none.csv: no such file"),
        (["--sql", "sqlite:///x"], "--sql and --query belong together"),
        (["till.yaml", "--encoding", "utf-9"], "there is no encoding 'utf-9'"),
        (["till.yaml", "--contract", "none"], "none"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(shop: Shop, arguments: list[str], message: str) -> None:
    result = run(shop, *(str(shop.folder / each) if each == "till.yaml" else each for each in arguments))
    assert (result.exit_code, message in result.stderr) == (2, True), result.output
    assert isinstance(result.exception, SystemExit)


def test_folder_is_watched_until_told_to_stop_and_a_file_that_cannot_be_read_is_put_away(shop: Shop) -> None:
    folder = shop.folder / "in"
    (folder / "working").mkdir(parents=True)
    sales(shop, 5, "in/working/left.csv")  # of a watcher that was killed
    came_in(shop, "in/bad.csv", "bon,sku,price\n1,A,1\n2,A\n")
    came_in(shop, "in/empty.csv", "")
    watcher = program_of("import", "--watch", "in", folder=shop.folder)
    try:
        wait_until(lambda: (folder / "done" / "bad.csv").exists() and (folder / "failed" / "empty.csv").exists(), 40)
        came_in(shop, "in/late.csv", "bon,sku,price\n7,A,1\n")
        wait_until(lambda: (folder / "done" / "late.csv").exists(), 40)
    finally:
        watcher.send_signal(signal.SIGTERM)
        _, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, err
    assert sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")) == [
        "bad.csv",
        "bad.csv.bad.csv",
        "bad.csv.report.json",
        "empty.csv",
        "empty.csv.report.json",
        "late.csv",
        "late.csv.report.json",
        "left.csv",
        "left.csv.report.json",
    ]
    assert (folder / "failed" / "bad.csv.bad.csv").read_text() == "bon,sku,price\n1,A,1\n2,A\n"
    assert json.loads((folder / "done" / "left.csv.report.json").read_text())["files"][0]["sent"] == 5
    assert "the file is empty" in err
    assert len(shop.topics.records(shop.topic)) == 6


def test_schedule_is_run_by_hand_listed_and_remembered(shop: Shop) -> None:
    sales(shop, 4)
    shop.settings["schedules"] = {
        "nightly": {"cron": "15 2 * * *", "timezone": "Europe/Berlin", "files": [str(shop.folder / "sales.csv")]}
    }
    config = shop.folder / "tillstream.yaml"
    config.write_text(json.dumps(shop.settings))

    def schedule(*arguments: str) -> Result:
        return CliRunner().invoke(program, ["schedule", *arguments, "--config", str(config)])

    result = schedule("run", "nightly")
    assert (result.exit_code, result.stdout) == (0, "nightly: done\n")
    assert len(shop.topics.records(shop.topic)) == 4
    (listed,) = json.loads(schedule("list", "--json").stdout)["schedules"]
    assert (listed["outcome"], listed["next"][10:19]) == ("done", "T02:15:00")
    (kept,) = json.loads(schedule("history", "--json").stdout)["runs"]
    assert (kept["name"], kept["sent"], kept["report"]["files"][0]["rows"]) == ("nightly", 4, 8)
    assert "nightly" in schedule("history").stdout
    result = schedule("run", "weekly")
    assert (result.exit_code, "there is no schedule 'weekly'" in result.stderr) == (2, True)
