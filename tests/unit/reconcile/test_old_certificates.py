"""Certificates that earlier releases signed are verified to the last byte.

Never change a byte of the files in `certificates`: they were signed with keys that nobody has any more. Their names are
`store-day-VERSION-STATE`. Both of version 1 cover the books alone; the digests of `differs` cover fewer fields than
those of version 2.
"""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli import program
from ops.reconcile import certificate

FOLDER = Path(__file__).parent / "certificates"
VERSION_1 = ("store-day-1-balanced", "store-day-1-differs")
VERSION_2 = ("store-day-2-balanced", "store-day-2-differs", "store-day-2-unproved")


def key_file(name: str) -> Path:
    return FOLDER / f"{name}.pub.pem"


@pytest.mark.parametrize("kind", ["json", "html"])
@pytest.mark.parametrize("name", [*VERSION_1, *VERSION_2])
def test_old_certificate_is_verified_and_a_changed_one_is_not(name: str, kind: str) -> None:
    key = certificate.public_key(key_file(name).read_text())
    text = (FOLDER / f"{name}.{kind}").read_text(encoding="utf-8")
    assert certificate.find_fault(text, key) is None
    assert certificate.is_of_books_alone(text) == (name in VERSION_1)
    for changed in (text.replace("2026-03-10", "2026-03-12"), text.replace("2026-03-10", "2026-03-12", 1)):
        assert changed != text
        assert certificate.find_fault(changed, key) is not None


@pytest.mark.parametrize("kind", ["json", "html"])
@pytest.mark.parametrize(("name", "limited"), [*((name, True) for name in VERSION_1), (VERSION_2[0], False)])
def test_verify_says_what_a_certificate_of_version_1_does_not_cover(name: str, kind: str, limited: bool) -> None:
    file, key = FOLDER / f"{name}.{kind}", key_file(name)
    result = CliRunner().invoke(program, ["reconcile", "verify", str(file), "--key", str(key)])
    assert result.exit_code == 0
    assert "as it was signed" in result.output
    assert ("not that everything was booked, and its digests cover fewer fields" in result.output) == limited
