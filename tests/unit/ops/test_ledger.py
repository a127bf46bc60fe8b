"""`tillstream ledger` where no ERP has to answer."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli import program


def test_receipt_that_the_ledger_does_not_know_is_told_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TILLSTREAM_SINK_PASSWORD", "x")
    url = f"tryton+https://user@host/erp?ledger=sqlite:///{tmp_path}/ledger.sqlite"
    known_of_all = CliRunner().invoke(program, ["ledger", "--sink", url])
    known_of_one = CliRunner().invoke(program, ["ledger", "--sink", url, "48121"])
    assert (known_of_all.exit_code, known_of_all.output) == (0, "")
    assert known_of_one.exit_code == 1
    assert "48121 is unknown; name a receipt as source/store/register/number/type" in known_of_one.stderr
