"""The outcome of a repair in words: numbers agree with their nouns, and `--apply` is offered only if it helps."""

from typing import Any

import pytest

from ops.reconcile.repair import RepairResult
from ops.reconcile.repair_report import repair_lines
from ops.reconcile.store_day import DayDifference, Kind

DRY = "this was a dry run: nothing was changed"


def lines(result: RepairResult, *kinds: Kind, **options: Any) -> list[str]:
    differences = [
        DayDifference(kind, "S1", "2026-03-10", "EUR", f"r{n}", "", f"0:{n}") for n, kind in enumerate(kinds)
    ]
    return repair_lines(result, differences, **({"applied": False, "revoke": True, "action": ""} | options))


@pytest.mark.parametrize("applied", [False, True])
def test_nothing_to_repair_is_said_in_one_line(applied: bool) -> None:
    assert lines(RepairResult(), applied=applied) == ["no differences: there is nothing to repair"]


def test_dry_run_offers_apply_only_if_something_would_be_repaired() -> None:
    assert lines(RepairResult(1, delivered=1), "missing")[-1] == f"{DRY}; --apply repairs 1 difference"
    assert lines(RepairResult(2, rejected=2), "vanished", "vanished")[-1] == f"{DRY}; --apply repairs 2 differences"
    assert lines(RepairResult(), "moved")[-1] == f"{DRY}, and --apply would repair nothing"
    refused = lines(RepairResult(1, refused=1), "missing")
    assert refused[-1] == f"{DRY}; --apply would only write the refused record to the dead letters"
    assert not any("dry run" in line for line in lines(RepairResult(1, delivered=1), "missing", applied=True))


@pytest.mark.parametrize(
    ("rejected", "applied", "text"),
    [
        (0, False, "0 would be dead letters again"),
        (1, False, "1 would be a dead letter again"),
        (2, False, "2 would be dead letters again"),
        (1, True, "1 dead letter again"),
        (2, True, "2 dead letters again"),
    ],
)
def test_dead_letters_agree_with_their_number(rejected: int, applied: bool, text: str) -> None:
    assert f", {text}, " in lines(RepairResult(rejected=rejected), "vanished", applied=applied)[0]


def test_documents_agree_with_their_number() -> None:
    one = lines(RepairResult(remembered=1, changed=1, kept=1), "missing", applied=True, action="a1")
    assert one[1:] == [
        "1 document changed in the ERP during the repair and left: reconcile again",
        "1 document saved in the audit trail first: tillstream reconcile repair --undo a1",
        "1 document delivered before and deleted in the ERP: --revoke books it again",
    ]
    two = lines(RepairResult(taken_back=3, leftovers=1, remembered=2), "doubled", "doubled", "orphaned")
    assert two[1:4] == [
        "2 copies would be taken back",
        "1 leftover without a document would be taken back",
        "2 documents delivered before and deleted in the ERP: --revoke books them again",
    ]
