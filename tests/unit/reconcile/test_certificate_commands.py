"""`tillstream reconcile certificate` and `verify`: what is signed, and that nothing of it can be changed unnoticed."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ops.reconcile.certificate import key_id, private_key
from ops.reconcile.certificate_page import render_page
from tests.support.reconciliation import DAYS, TOPIC, Desk, ref


def certify(desk: Desk, day: str, *arguments: str, code: int = 0) -> tuple[Path, Path]:
    """The certificate of a day of store S1, and its page."""
    file, html = desk.folder / "day.json", desk.folder / "day.html"
    where = ("--store", "S1", "--day", day, "--to", str(file), "--html", str(html))
    assert desk.raw("reconcile", "certificate", *where, *arguments, code=code) == ""
    return file, html


def public(key: Ed25519PrivateKey, file: Path) -> str:
    """The public key's file."""
    file.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(file)


def test_certificate_says_what_was_compared_and_stands_as_it_was_signed(desk: Desk) -> None:
    files = certify(desk, DAYS[0])
    said = json.loads(files[0].read_text())
    key = private_key(desk.said["certificate_key"])
    assert (said["tills"], said["erp"]) == (f"topic {TOPIC} at {desk.said['broker']}", desk.said["sink_url"])
    assert (said["made_by"], said["key"]) == ("ada", key_id(key.public_key()))
    assert (said["found"]["store"], said["found"]["day"], said["found"]["state"]) == ("S1", DAYS[0], "balanced")
    assert said["found"]["accounts"][0]["erp"]["digest"] == said["found"]["accounts"][0]["sent"]["digest"]
    assert said["found"]["since"] == said["made_at"]
    assert said["compared"].startswith("the rows of its tables, ")
    assert files[1].read_text() == render_page(said)
    key_file = public(key, desk.folder / "public.pem")
    for file in files:
        right = f"{file}: as it was signed, with key {said['key']}"
        assert desk.run("reconcile", "verify", str(file)) == right
        assert desk.run("reconcile", "verify", str(file), "--key", key_file) == right
        whole = file.read_text()
        assert "9.00" in whole
        file.write_text(whole.replace("9.00", "8.00"))
        assert desk.run("reconcile", "verify", str(file), code=1) == f"{file}: not as it was signed"
        file.write_text(f"{whole} ")
        kind = "page" if file.suffix == ".html" else "file"
        fault = f"{file}: the {kind} contains more or other text than was signed"
        assert desk.run("reconcile", "verify", str(file), code=1) == fault
        file.write_text(whole)
    other = public(Ed25519PrivateKey.generate(), desk.folder / "other.pem")
    wrong = desk.run("reconcile", "verify", str(files[0]), "--key", other, code=1)
    assert f"not as it was signed (it names key {said['key']}, and this is " in wrong


def test_certificate_of_a_day_with_money_in_dead_letters_says_so(desk: Desk) -> None:
    file, html = certify(desk, DAYS[1], code=1)
    said = json.loads(file.read_text())["found"]
    assert (said["books"], said["complete"], said["unbooked"]["receipts"]) == ("agree", False, 1)
    assert '<div class="state open">incomplete</div>' in html.read_text()
    assert '<td class="bad">NOT BOOKED: 9.99 EUR in 1 receipt.</td>' in html.read_text()
    assert '<tr><th></th><td class="soft">dead letters: 9.99 EUR in 1 receipt</td></tr>' in html.read_text()
    where = ("--store", "S1", "--day", DAYS[1], "--allow-open")
    assert json.loads(desk.raw("reconcile", "certificate", *where))["found"]["state"] == "incomplete"


def test_certificate_of_a_day_that_differs_is_none_of_success(desk: Desk) -> None:
    desk.execute(f"UPDATE documents SET gross = gross + 10000 WHERE external_ref = '{ref(2)}'")
    _, html = certify(desk, DAYS[0], "--allow-open", code=1)
    assert '<div class="state bad">differs</div>' in html.read_text()
    assert "<h2>Differences: 1</h2>" in html.read_text()
    assert '<td class="n">3.00</td><td class="n">4.00</td>' in html.read_text()
    assert '<td class="n">9.00</td><td class="n">10.00</td><td class="n off">1.00</td>' in html.read_text()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"signature": "AA=="}', '{"signature": 1, "method": "", "key": ""}'])
def test_other_files_are_no_certificates(desk: Desk, text: str) -> None:
    file = desk.folder / "day.json"
    file.write_text(text)
    told = desk.both("reconcile", "verify", str(file), code=1)
    assert (told.stdout, told.stderr) == ("", f"{file}: not a certificate\n")


def test_missing_keys_and_files_are_named(desk: Desk) -> None:
    absent = str(desk.folder / "absent.json")
    assert f"{absent}: No such file or directory" in desk.run("reconcile", "verify", absent, code=2)
    key_file = desk.folder / "key.pem"
    key_file.write_text("no key")
    wrong = desk.run("reconcile", "verify", absent, "--key", str(key_file), code=2)
    assert f"{key_file}: no public key in PEM" in wrong
    desk.config.write_text(json.dumps(desk.said | {"certificate_key": "no key"}))
    where = ("--store", "S1", "--day", DAYS[0])
    wrong = desk.run("reconcile", "certificate", *where, code=2)
    assert "certificate_key: no private key in PEM without a passphrase" in wrong
    desk.config.write_text(json.dumps(desk.said | {"certificate_key": None}))
    assert "a certificate needs a key: set certificate_key_file" in desk.run("reconcile", "certificate", *where, code=2)
