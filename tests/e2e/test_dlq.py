"""Dead letters as SREs and engineers handle them: on a real broker, into a real database, by the program's commands."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from sqlalchemy import create_engine, text

from ops.cli import program
from schemas.dead_letter import Reason
from sinks.registry import open_sink
from streams.kafka.reader import TopicRecord
from tests.support.dead_letters import dead
from tests.support.events import event, value
from tests.support.kafka import Kafka
from tests.support.raw_headers import produce_raw
from tests.support.topics import Record
from tests.support.wait import wait_until
from tests.support.workers import split_password

UNMAPPED = {"reason": Reason.UNMAPPED_ITEM, "detail": "lines.0.sku: unmapped 'B'"}
LINE_B = event()["lines"][0] | {"sku": "B"}


class Office:
    """A dead-letter topic, an ERP, and the program."""

    def __init__(self, folder: Path, kafka: Kafka, topic: str, url: str) -> None:
        self.folder, self.kafka = folder, kafka
        self.dead_letter_topic, self.parked_topic = f"{topic}.dlq", f"{topic}.parked"
        plain, _, self._password = split_password(url)
        self.settings: dict[str, Any] = {
            "broker": kafka.bootstrap,
            "topic": topic,
            "dead_letter_topic": self.dead_letter_topic,
            "parked_topic": self.parked_topic,
            "audit_topic": f"{topic}.dlq.audit",
            "sink_url": plain,
            "apply_migrations": True,
        }
        self.url = url
        self.sink = open_sink(plain, password=self._password)
        self.sink.check(apply=True)
        kafka.create_topic(self.dead_letter_topic)

    def put(self, *letters: TopicRecord, partition: int = 3) -> list[tuple[int, int]]:
        """Letters into the topic, where a worker puts those of the key S1; their places."""
        return self.kafka.produce(
            self.dead_letter_topic,
            [(letter.key, letter.value, list(letter.headers)) for letter in letters],
            partition=partition,
        )

    def config(self) -> Path:
        path = self.folder / "tillstream.yaml"
        path.write_text(yaml.safe_dump(self.settings))
        return path

    def environment(self) -> dict[str, str]:
        return {"TILLSTREAM_SINK_PASSWORD": self._password or "", "TILLSTREAM_OPERATOR": "ada"}

    def dlq(self, command: str, *more: str, code: int = 0) -> str:
        """What a command prints; it must end with this exit code, and never with a traceback."""
        arguments = ["dlq", command, *more, "--config", str(self.config())]
        result = CliRunner().invoke(program, arguments, env=self.environment())
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert result.exit_code == code, result.output
        return result.output

    def told(self, command: str, *more: str, code: int = 0) -> Any:
        """The same as JSON."""
        return json.loads(self.dlq(command, *more, "--json", code=code))

    def process(self, *more: str) -> "subprocess.Popen[bytes]":
        """A command in a process of its own, to be stopped or killed."""
        arguments = [sys.executable, "-m", "ops.cli", "dlq", *more, "--config", str(self.config())]
        return subprocess.Popen(
            arguments, env=os.environ | self.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def letters(self) -> list[Record]:
        return self.kafka.records(self.dead_letter_topic)

    def documents(self) -> int:
        return sum(day.documents for day in self.sink.totals())


@pytest.fixture
def office(tmp_path: Path, kafka: Kafka, topic_name: str) -> Iterator[Office]:
    """An office with SQLite."""
    opened = Office(tmp_path, kafka, topic_name, f"sqlite:///{tmp_path}/erp.sqlite")
    yield opened
    opened.sink.close()


@pytest.fixture
def big_office(tmp_path: Path, kafka: Kafka, topic_name: str, postgres_url: str) -> Iterator[Office]:
    """An office with PostgreSQL."""
    opened = Office(tmp_path, kafka, topic_name, postgres_url)
    yield opened
    opened.sink.close()


def broken(number: int, **changes: Any) -> TopicRecord:
    """A letter that fails whenever it is tried."""
    return dead(number, reason=Reason.TOTALS_MISMATCH, detail="totals.gross", totals={"gross": "9.99"}, **changes)


def ends(office: Office) -> list[dict[str, int]]:
    return [action["counts"] for action in office.told("audit")]


def test_what_is_there_is_summed_up_and_listed(office: Office) -> None:
    assert office.told("stats")["open"] == 0
    office.put(dead(1, **UNMAPPED), dead(2, **UNMAPPED, store="S2"), broken(3))
    found = office.told("stats", code=1)
    assert (found["open"], found["money"]) == (3, {"EUR": "15.99"})
    reasons = [(group["name"], group["letters"], group["money"]) for group in found["by"]["reason"]]
    assert reasons == [("unmapped_item", 2, {"EUR": "6.00"}), ("totals_mismatch", 1, {"EUR": "9.99"})]
    assert [group["name"] for group in found["by"]["store"]] == ["S1", "S2"]
    printed = office.dlq("stats", code=1)
    assert "3 open dead letters" in printed
    assert "unmapped_item: lines.0.sku: unmapped 'B'" in printed
    listed = office.told("list", "--reason", "unmapped*", "--store", "S2")
    assert [one["receipt"] for one in listed["letters"]] == ["pos/S2/R1/2/sale"]


def test_what_a_terminal_would_obey_is_shown_escaped(office: Office) -> None:
    evil = [("\x1b]0;evil\x07\n", b"1"), ("tillstream.reason", b"\x1b]0;evil\x07\n"), ("tillstream.detail", b"\x07")]
    office.kafka.produce(office.dead_letter_topic, [(b"\x07", b"\x1b]0;evil\x07", evil)], partition=0)
    office.settings["reveal_personal"] = True
    for command in (["list"], ["stats"], ["show", "0:0"], ["show", "0:0", "--reveal"]):
        said = office.dlq(*command, code=1 if command == ["stats"] else 0)
        assert r"\x1b]0;evil" in said
        assert not {"\x1b", "\x07"} & set(said)


def test_letters_whose_header_names_are_not_utf8_are_shown_and_closed_as_any_others(office: Office) -> None:
    """Somebody else's: those of a worker have names that can be read."""
    named = [(b"tr\xff\xfece", b"1"), (b"__connect.errors.topic", b"orders"), (b"\xff", b"2")]
    produce_raw(
        office.kafka.bootstrap, office.dead_letter_topic, [(b"S1", value(1), named)] + [(b"S1", b"{", named)] * 20
    )
    assert [one["reason"] for one in office.told("list")["letters"]] == ["unknown"] * 21
    shown = office.dlq("show", "0:0")
    assert "tillstream.unreadable_headers: a name is not UTF-8" in shown
    assert office.dlq("replay", "--apply", "--comment", "?", code=1)
    assert office.documents() == 1
    assert office.dlq("park", "--comment", "whose is it?", "--apply")
    parked = office.kafka.records(office.parked_topic)
    assert [(each.key, each.value) for each in parked] == [(b"S1", b"{")] * 20
    assert all(("tillstream.unreadable_headers", b"a name is not UTF-8") in each.headers for each in parked)


FILTERS: list[tuple[tuple[str, ...], list[str]]] = [
    ((), ["1", "2", "3"]),
    (("--event", "e-2"), ["2"]),
    (("--event", "pos:e-2"), ["2"]),
    (("--receipt", "3"), ["3"]),
    (("--receipt", "pos/S1/R1/3/sale", "--receipt", "1"), ["1", "3"]),
    (("--min-amount", "5"), ["3"]),
    (("--text", "SKU-NINE"), ["2"]),
    (("--source", "pos"), ["1", "2", "3"]),
    (("--source", "shop"), []),
    (("--location", "3:1-2"), ["2", "3"]),
    (("--since", "2026-03-10T12:00"), ["1", "2", "3"]),
    (("--until", "2026-03-10T12:00"), []),
    (("--reason", "totals_mismatch", "--min-amount", "100"), []),
]


def test_filter_means_what_it_says(office: Office) -> None:
    office.put(dead(1, **UNMAPPED), dead(2, lines=[LINE_B | {"sku": "sku-nine"}]), broken(3))
    for options, found in FILTERS:
        listed = office.told("list", *options)["letters"]
        assert [one["receipt"].split("/")[3] for one in listed] == found, options


@pytest.mark.parametrize(
    "options",
    [
        ("--location", "x"),
        ("--location", "99999999999:0"),
        ("--since", "soon"),
        ("--since", "²d"),
        ("--min-amount", "nan"),
        ("--patch", "{"),
        ("--patch", '[{"op": "?"}]'),
        ("--rate", "inf"),
        ("--resume", "x"),
    ],
)
def test_option_that_can_not_be_is_wrong_usage(options: Sequence[str]) -> None:
    command = "replay" if options[0] in ("--patch", "--rate", "--resume") else "list"
    result = CliRunner().invoke(program, ["dlq", command, *options])
    assert (result.exit_code, "Usage" in result.output) == (2, True), result.output


def test_doubled_letter_of_a_crashed_worker_shows_as_one(office: Office) -> None:
    office.put(dead(1), dead(1), dead(2))
    assert office.told("stats", code=1)["open"] == 2
    office.dlq("replay", "--apply")
    assert (office.documents(), office.told("stats")["open"], ends(office)) == (2, 0, [{"delivered": 2}])


def test_dry_run_tells_what_would_be_and_changes_nothing(office: Office) -> None:
    office.dlq("replay")  # of nothing
    office.put(dead(1), broken(2))
    found = office.told("replay", code=1)
    assert (found["would_pass"], found["would_fail"]) == (1, 1)
    [passing, failing] = found["first"]
    assert passing["documents"][0]["changes"]["gross"] == ["", "3.00"]
    assert (failing["reason"], failing["documents"]) == ("totals_mismatch", [])
    printed = office.dlq("replay", code=1)
    assert "1 of 2 would pass, 1 would not" in printed
    assert "nothing was changed" in printed
    assert (office.documents(), len(office.letters())) == (0, 2)
    assert "audit" not in str(office.kafka.admin.list_topics(timeout=10).topics.keys() & {office.parked_topic})


def test_dry_run_shows_what_changes_in_the_erp(office: Office) -> None:
    office.put(dead(1))
    office.dlq("replay", "--apply")
    newer = dead(2, receipt="1", revision=1, tenders=[], totals={"gross": "4.50"})
    mended = json.loads(newer.value or b"")
    mended["lines"][0]["quantity"] = "3"
    office.put(newer._replace(value=json.dumps(mended).encode()))
    [would] = office.told("replay")["first"]
    assert would["documents"][0]["changes"]["gross"] == ["3.00", "4.50"]


def test_replay_delivers_what_passes_and_what_fails_keeps_its_bytes_and_gains_an_attempt(office: Office) -> None:
    good, bad = dead(1, headers=[("trace", b"1")]), broken(2, headers=[("trace", b"2")])
    office.put(good, bad)
    done = office.told("replay", "--apply", "--comment", "new prices", code=1)
    assert (done["ends"], done["drained"]) == ({"delivered": 1, "failed": 1}, True)
    again = office.letters()[-1]
    stated = dict(again.headers)
    assert (again.value, again.key, stated["trace"]) == (bad.value, bad.key, b"2")
    assert (stated["tillstream.attempts"], stated["tillstream.replay_id"]) == (b"2", done["replay"].encode())
    [action] = office.told("audit")
    assert (action["by"], action["state"], action["reason"]) == ("ada", "done", "new prices")
    shown = office.told("show", "3:2")
    assert [one["place"] for one in shown["attempts_so_far"]] == ["3:1", "3:2"]
    assert [one["end"] for one in shown["outcomes"]] == ["failed"]
    assert [one["place"] for one in office.told("list")["letters"]] == ["3:2"]


def test_letter_that_failed_too_often_is_parked(office: Office) -> None:
    office.settings["most_attempts"] = 1
    office.put(broken(1))
    assert office.told("replay", "--apply", code=1)["ends"] == {"parked": 1}
    assert office.told("stats")["open"] == 0
    assert [record.value for record in office.kafka.records(office.parked_topic)] == [broken(1).value]
    assert office.told("replay", "--parked", "--apply", code=1)["ends"] == {"parked": 1}
    [place] = [one["place"] for one in office.told("list", "--parked")["letters"]]
    assert office.told("show", place, "--parked")["attempts"] == 3
    mended = office.told("replay", "--parked", "--patch", '{"totals": {"gross": "3.00"}}', "--apply")
    assert (mended["ends"], office.told("list", "--parked")["found"]) == ({"delivered": 1}, 0)


def test_patch_mends_a_record_and_is_kept(office: Office) -> None:
    office.put(broken(1), broken(2))
    patch = '{"totals": {"gross": "3.00"}}'
    assert office.told("replay", "--patch", patch, "--location", "3:0")["would_pass"] == 1
    assert office.told("replay", "--patch", patch, "--location", "3:0", "--apply")["ends"] == {"delivered": 1}
    json_patch = '[{"op": "replace", "path": "/totals/gross", "value": 3.00}]'
    assert office.told("replay", "--patch", json_patch, "--apply")["ends"] == {"delivered": 1}
    assert [action["patch"] for action in office.told("audit")] == [
        json.loads(patch),
        [{"op": "replace", "path": "/totals/gross", "value": "3.00"}],
    ]
    assert [record.value for record in office.letters()] == [broken(1).value, broken(2).value]


def test_patch_can_not_make_another_event_unless_it_is_said(office: Office) -> None:
    office.put(dead(1))
    patch = '{"event_id": "e-9"}'
    refused = office.told("replay", "--patch", patch, "--apply", code=1)
    assert refused["reasons"] == [{"end": "refused", "reason": "changes_identity", "letters": 1}]
    assert office.documents() == 0
    office.dlq("replay", "--patch", patch, "--new-identity", "--apply")
    assert office.documents() == 1


def test_fixed_finds_what_would_pass_now_and_leaves_the_others_as_they_are(office: Office) -> None:
    (office.folder / "items.csv").write_text("sku\nA\n")
    (office.folder / "mapping.yaml").write_text("mapping: 1\nitems: {file: items.csv}\n")
    office.settings["mapping"] = str(office.folder / "mapping.yaml")
    office.put(dead(1, **UNMAPPED, lines=[LINE_B]), broken(2), dead(3, **UNMAPPED, lines=[LINE_B | {"sku": "C"}]))
    assert office.told("replay", "--only-passing", "--apply")["ends"] == {}
    (office.folder / "items.csv").write_text("sku\nA\nB\n")
    assert office.told("replay", "--only-passing", "--apply")["ends"] == {"delivered": 1}
    assert (office.documents(), len(office.letters())) == (1, 3)


def test_replay_twice_or_by_two_at_once_changes_nothing_more(office: Office) -> None:
    office.put(*(dead(number) for number in range(300)))
    both = [office.process("replay", "--apply", "--json") for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert office.documents() == 300
    assert office.told("replay", "--apply")["letters"] == 0


def test_killed_replay_is_resumed_without_loss_or_doubling(big_office: Office) -> None:
    office = big_office
    office.put(*(broken(n) if n % 10 == 0 else dead(n) for n in range(400)))
    process = office.process("replay", "--apply", "--rate", "50")
    wait_until(lambda: office.documents() >= 50, 60, "some letters to be delivered")
    process.kill()
    process.communicate()
    before = office.documents()
    assert before < 360
    [action] = office.told("audit")
    assert action["state"] == "begun"
    done = office.told("replay", "--resume", action["id"], "--apply", code=1)
    assert done["letters"] < 400
    assert (done["drained"], office.documents()) == (True, 360)
    attempts = [dict(record.headers)["tillstream.attempts"] for record in office.letters()[400:]]
    assert attempts == [b"2"] * 40
    assert office.told("stats", code=1)["open"] == 40


def test_stopped_replay_says_how_to_go_on(office: Office) -> None:
    office.put(*(dead(number) for number in range(200)))
    process = office.process("replay", "--apply", "--rate", "20", "--limit", "150")
    wait_until(lambda: office.documents() > 0, 60, "the first letters to be delivered")
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 1
    assert "stopped before the end; go on with: tillstream dlq replay --resume" in printed
    [action] = office.told("audit")
    assert (action["state"], action["counts"]) == ("stopped", {"delivered": office.documents()})
    office.dlq("replay", "--resume", action["id"], "--apply")
    assert office.documents() == 150
    assert "there is no replay x" in office.dlq("replay", "--resume", "x", "--apply", code=2)


def test_order_of_a_key_is_kept(office: Office) -> None:
    office.put(dead(1, receipt="7", cashier="A"), dead(2, receipt="7", cashier="B", revision=1))
    office.dlq("replay", "--apply")
    [held] = office.sink.read(["pos/S1/R1/7/sale"])
    assert held.revision == 1


def test_letter_that_was_truncated_is_replayed_from_where_it_came(office: Office) -> None:
    from streams.dead_letters.record import DeadLetterRecord, truncate

    office.kafka.create_topic(office.settings["topic"])
    office.kafka.produce(office.settings["topic"], [(b"S1", value(0), [])], partition=0)
    whole = dead(0)
    letter = DeadLetterRecord(
        whole.key, whole.value, [(n, v) for n, v in whole.headers if n != "__connect.errors.topic"]
    )
    letter.headers.append(("__connect.errors.topic", office.settings["topic"].encode()))
    part = truncate(letter, 40)
    gone = truncate(letter._replace(headers=[(n, b"77" if n.endswith("offset") else v) for n, v in letter.headers]), 9)
    for one in (part, gone):
        office.kafka.produce(office.dead_letter_topic, [(one.key, one.value, list(one.headers))], partition=0)
    done = office.told("replay", "--apply", code=1)
    assert done["ends"] == {"delivered": 1, "refused": 1}
    assert done["reasons"] == [{"end": "refused", "reason": "truncated_and_gone", "letters": 1}]


def test_letters_of_others_are_shown_and_not_fatal(office: Office) -> None:
    connect = [
        ("__connect.errors.topic", b"orders"),
        ("__connect.errors.partition", b"0"),
        ("__connect.errors.offset", b"5"),
        ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
        ("__connect.errors.exception.message", b"bad: Ada Lovelace"),
    ]
    office.put(
        TopicRecord(0, 0, 0, b"k", value(5), connect),
        TopicRecord(0, 0, 0, None, b"\xff\x00", [("x", None)]),  # type: ignore[list-item]  # headers may have no value
        TopicRecord(0, 0, 0, None, None, []),
    )
    reasons = [one["reason"] for one in office.told("list")["letters"]]
    assert reasons == ["DataException", "unknown", "unknown"]
    for place in ("3:0", "3:1", "3:2"):
        assert "Ada" not in office.dlq("show", place)
    done = office.told("replay", "--apply", code=1)
    assert done["ends"] == {"delivered": 1, "failed": 1, "noted": 1}


def test_personal_data_are_stars_unless_they_may_be_shown(office: Office) -> None:
    office.put(dead(1, customer={"id": "c-1", "email": "ada@example.org"}), TopicRecord(0, 0, 0, None, b"Ada", []))
    shown = office.dlq("show", "3:0")
    assert "ada@example.org" not in shown
    assert '"sku": "A"' in shown
    assert "not shown" in office.dlq("show", "3:1")
    assert "reveal_personal" in office.dlq("show", "3:0", "--reveal", code=2)
    office.settings["reveal_personal"] = True
    assert "ada@example.org" in office.dlq("show", "3:0", "--reveal")
    assert (
        office.dlq("show", "3:0", "--reveal", "--raw").encode()
        == dead(1, customer={"id": "c-1", "email": "ada@example.org"}).value
    )
    assert [action["what"] for action in office.told("audit")] == ["reveal", "reveal"]


HIDDEN: list[dict[str, Any]] = [
    {"customer": "Ada Lovelace"},
    {"customer": {"full_name": "Ada Lovelace", "contact": {"name": "Ada Lovelace"}}},
    {"customer_name": "Ada Lovelace"},
    {"lines": [{"sku": "A", "note": "for Ada Lovelace"}]},
    {"receipt": ["Ada Lovelace"]},
]


def test_what_the_schema_does_not_know_is_not_shown(office: Office) -> None:
    plain = json.loads(dead(1).value or b"")
    values: list[Any] = [*(plain | hidden for hidden in HIDDEN), [{"name": "Ada Lovelace"}]]
    places = office.put(*(dead(1)._replace(value=json.dumps(value).encode()) for value in values))
    for partition, offset in places:
        assert "Lovelace" not in office.dlq("show", f"{partition}:{offset}")


def test_another_record_at_a_known_offset_is_open(office: Office) -> None:
    office.put(dead(1))
    office.dlq("replay", "--apply")
    office.put(dead(1, event_id="e-500", receipt="500"))  # of a source topic that was made anew
    assert [one["receipt"] for one in office.told("list")["letters"]] == ["pos/S1/R1/500/sale"]


def test_failure_of_another_replay_opens_nothing_that_is_done(office: Office) -> None:
    office.put(dead(1))
    office.dlq("replay", "--patch", '{"store": "S9"}', "--apply", code=1)
    office.dlq("replay", "--apply")
    office.dlq("park", "--comment", "x", "--apply")
    assert office.told("list")["found"] == 0
    assert ends(office) == [{"refused": 1}, {"delivered": 1}, {"parked": 0}]


def test_letter_of_an_older_revision_would_change_nothing(office: Office) -> None:
    office.put(dead(2, receipt="1", revision=1))
    office.dlq("replay", "--apply")
    office.put(dead(1))
    [would] = office.told("replay")["first"]
    assert (would["end"], would["documents"]) == ("superseded", [])
    assert office.told("replay", "--apply")["ends"] == {"superseded": 1}


def test_words_of_tills_and_people_are_no_markup(office: Office) -> None:
    office.put(dead(1, reason=Reason.UNMAPPED_ITEM, detail="lines.0.sku: unmapped '[/b]'"))
    assert "[/b]" in office.dlq("stats", code=1)
    assert "[/b]" in office.dlq("list")
    office.dlq("resolve", "--comment", "see [/ticket]", "--apply")
    assert "[/ticket]" in office.dlq("audit")


def test_text_that_was_looked_for_is_not_kept(office: Office) -> None:
    office.put(dead(1, customer={"email": "ada@example.org"}), dead(2))
    office.dlq("resolve", "--text", "ada@example.org", "--comment", "x", "--apply")
    assert "ada@" not in json.dumps(office.told("audit"))
    assert office.told("list")["found"] == 1


def test_replay_that_waits_for_the_erp_can_be_stopped(big_office: Office) -> None:
    office = big_office
    office.put(*(dead(number) for number in range(3)))
    engine = create_engine(str(office.url))
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE"))
        process = office.process("replay", "--apply", "--json")
        assert process.stderr is not None
        while b"sink unavailable" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        printed = json.loads(process.communicate(timeout=60)[0])
    engine.dispose()
    assert (printed["drained"], office.documents()) == (False, 0)


def test_parked_and_resolved_letters_are_closed_with_their_reasons(office: Office) -> None:
    office.put(dead(1), broken(2), broken(3))
    assert "1 letter would be parked" in office.dlq("park", "--location", "3:1", "--comment", "old till")
    office.dlq("park", "--location", "3:1", "--comment", "old till", "--apply")
    office.dlq("resolve", "--location", "3:2", "--comment", "booked by hand", "--apply")
    assert [one["place"] for one in office.told("list")["letters"]] == ["3:0"]
    assert [one["done"] for one in office.told("list", "--all")["letters"]] == [None, "parked", "resolved"]
    [parked] = office.kafka.records(office.parked_topic)
    assert (parked.value, parked.key, parked.headers) == (broken(2).value, broken(2).key, broken(2).headers)
    assert [(a["what"], a["reason"]) for a in office.told("audit")] == [
        ("park", "old till"),
        ("resolve", "booked by hand"),
    ]
    assert "booked by hand" in office.dlq("audit")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_letters_are_exported_without_personal_data(office: Office, ending: str) -> None:
    office.put(dead(1, customer={"name": "Ada Lovelace"}), broken(2))
    to = office.folder / f"letters.{ending}"
    assert "2 letters" in office.dlq("export", str(to))
    content = to.read_bytes()
    assert b"Ada Lovelace" not in content
    if ending == "jsonl":
        assert [json.loads(line)["receipt"] for line in content.splitlines()] == [
            "pos/S1/R1/1/sale",
            "pos/S1/R1/2/sale",
        ]
    assert "must end in" in office.dlq("export", "letters.xlsx", code=2)


def test_purge_takes_old_letters_up_to_the_first_that_is_open(office: Office) -> None:
    office.put(*(dead(number) for number in range(5)), broken(5), dead(6))
    office.dlq("replay", "--apply", code=1)
    office.dlq("resolve", "--location", "3:7", "--comment", "x", "--apply")
    office.put(dead(9))
    assert "8 offsets would be purged" in office.dlq("purge", "--older-than", "2027-01-01")
    office.dlq("purge", "--older-than", "2027-01-01", "--apply")
    wait_until(lambda: [record.offset for record in office.letters()] == [8], 30, "the letters to be gone")


def test_topic_that_is_not_there_is_told(office: Office) -> None:
    office.settings["dead_letter_topic"] = "nowhere"
    assert "the topic nowhere does not exist" in office.dlq("stats", code=2)


def test_audit_survives_and_says_who_did_what(office: Office) -> None:
    assert "nothing was done" in office.dlq("audit")
    office.put(dead(1))
    office.dlq("replay", "--reason", "unmapped_item", "--by", "grace", "--apply")
    printed = office.dlq("audit")
    assert "grace" in printed
    assert "unmapped_item" in printed


def test_held_letters_are_released_with_a_remark(office: Office) -> None:
    rules = "mapping: 1\ncleaning:\n  gross: {at_most: 1, then: hold}\n  refunds: {then: hold}\n"
    (office.folder / "mapping.yaml").write_text(rules)
    office.settings["mapping"] = str(office.folder / "mapping.yaml")
    office.put(dead(1, reason=Reason.HELD_OUTLIER), dead(2, type="return", original={"receipt": "77"}))
    assert office.told("replay", code=1)["would_pass"] == 0
    assert office.told("replay", "--release", "--apply")["ends"] == {"delivered": 2}
    reviews = [held.review for held in office.sink.read(["pos/S1/R1/1/sale", "pos/S1/R1/2/return"])]
    assert reviews == ["totals.gross: above_limit", "totals.gross: above_limit; original: not_there"]
