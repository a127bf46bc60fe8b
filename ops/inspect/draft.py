"""Draft a first contract from a survey: it loads as it is, and marks its guesses with `# check:`."""

import re
from pathlib import Path

from ops.files.layout import FileLayout
from ops.inspect.draft_fields import line_block_rules, receipt_rules
from ops.inspect.draft_kinds import kind_rules
from ops.inspect.drafting import ContractDraft, yaml_text
from ops.inspect.survey import RecordSurvey


def draft_contract(survey: RecordSurvey, layout: FileLayout | None, path: Path) -> str:
    """Return the draft contract as YAML text."""
    draft = ContractDraft(survey, layout, path)
    return "\n".join(
        [*_head(draft), *kind_rules(draft), *receipt_rules(draft), *line_block_rules(draft), *_personal(draft), ""]
    )


def _head(draft: ContractDraft) -> list[str]:
    lines = [
        "# yaml-language-server: $schema=contract.schema.json",
        "# (tillstream map schema > contract.schema.json lets an editor complete and check this file)",
        "contract: 1",
        f"source: {yaml_text(_slug(draft.path))}",
        'version: "1"',
        f"format: {draft.format}",
    ]
    if draft.format == "csv":
        if draft.group_by_candidates:
            lines.append(
                f"group_by: [{yaml_text(draft.group_by_candidates[0])}]  # adjacent rows with one value are a receipt"
            )
        else:
            lines.append(
                "group_by: []  # check: every row is a receipt; otherwise list the columns that its rows have in common"
            )
    if draft.layout is not None and draft.layout.record is not None:
        lines.append(f"# events: {draft.layout.record}  # if one Kafka record holds the whole file")
    return lines


def _personal(draft: ContractDraft) -> list[str]:
    personal = [column for column in draft.survey.columns.values() if column.personal]
    if not personal:
        return []
    lines = ["", "# Values that tools never show; check: is the list complete?", "personal:"]
    return lines + [
        f"  - {yaml_text(draft.all_values_path(column))}  # {'; '.join(column.personal)}" for column in personal
    ]


def _slug(path: Path) -> str:
    name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "source"
