"""The rivals do the same job: a comparison with one that skips something would be none."""

from decimal import Decimal
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.contenders import CONTENDERS, TILLSTREAM, Contender
from bench.generate import Job, pos_job
from bench.rivals import batches
from bench.rivals.handwritten_loop import document_row, line_rows, text
from bench.rivals.receipt import Receipt, amounts


def sorted_out(job: Job) -> tuple[dict[str, Receipt], int]:
    good: dict[str, Receipt] = {}
    bad = 0
    for _, _, value in job.records:
        try:
            receipt = Receipt.model_validate_json(value)
            amounts(receipt)
        except ValueError:
            bad += 1
        else:
            good[receipt.event_id] = receipt
    return good, bad


def test_rivals_reject_what_is_bad_and_take_what_is_good() -> None:
    job = pos_job(3000)
    good, bad = sorted_out(job)
    assert bad == job.expected_bad
    assert len(good) == job.expected_delivered
    assert sum(r.totals.gross for r in good.values()) == job.expected_gross


def test_line_amounts_add_up_to_the_receipts_totals() -> None:
    good, _ = sorted_out(pos_job(300))
    for receipt in good.values():
        assert sum(line.net for line in amounts(receipt)) == receipt.totals.net
        assert sum(line.tax for line in amounts(receipt)) == receipt.totals.tax


def test_rows_have_a_column_for_each_of_the_table() -> None:
    good, _ = sorted_out(pos_job(10))
    receipt = next(iter(good.values()))
    assert document_row((receipt, amounts(receipt))).count("\t") == 12
    assert {row.count("\t") for row in line_rows(receipt, amounts(receipt))} == {10}


def test_text_is_escaped_where_copy_needs_it() -> None:
    assert text("Käse, 1 kg") == "Käse, 1 kg"
    assert text("a\tb\\c\nd") == "a\\tb\\\\c\\nd"


def test_tax_is_rounded_half_up() -> None:
    line = {"sku": "1", "quantity": "1", "unit_price": "0.05", "amount": "0.05", "tax_rate": "100"}
    receipt = Receipt.model_validate(
        {
            "event_id": "1",
            "source": "s",
            "type": "sale",
            "store": "1",
            "register": "1",
            "receipt": "1",
            "occurred_at": "2026-03-02T10:00:00Z",
            "currency": "EUR",
            "lines": [line],
            "tenders": [{"kind": "cash", "amount": "0.05"}],
            "totals": {"gross": "0.05", "net": "0.03", "tax": "0.02"},
        }
    )
    assert amounts(receipt)[0].net == Decimal("0.03")


def test_values_are_sorted_out_as_messages_are() -> None:
    job = pos_job(3000)
    bookings, bad = batches.sort_out(value for _, _, value in job.records)
    assert len(bookings) == job.expected_delivered
    assert len(bad) == job.expected_bad


def test_every_rival_has_its_module() -> None:
    folder = Path(batches.__file__).parent
    rivals = [contender.name for contender in CONTENDERS if not contender.name.startswith(TILLSTREAM.name)]
    assert len(rivals) >= 4
    assert all((folder / f"{name}.py").exists() for name in rivals)


def test_rival_that_is_not_installed_is_named_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    absent = Contender("absent", "lines", TILLSTREAM.start, python=tmp_path / "python")
    monkeypatch.setattr(bench, "CONTENDERS", (absent,))
    assert bench.main([]) == 3
    assert "absent is not installed: make .venv-rivals" in capsys.readouterr().out
