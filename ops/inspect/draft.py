"""A first contract from a survey: it loads as it is, and says with `# check:` where it guessed."""

import re
from pathlib import Path

from ops.files.layout import FileLayout
from ops.inspect.draft_fields import fields, lines_of
from ops.inspect.draft_kinds import kinds
from ops.inspect.drafting import ContractDraft, yaml_text
from ops.inspect.survey import RecordSurvey


def draft_contract(survey: RecordSurvey, layout: FileLayout | None, path: Path) -> str:
    """The contract's text, in YAML."""
    made = ContractDraft(survey, layout, path)
    return "\n".join([*_head(made), *kinds(made), *fields(made), *lines_of(made), *_personal(made), ""])


def _head(made: ContractDraft) -> list[str]:
    lines = [
        "# yaml-language-server: $schema=contract.schema.json",
        "# (tillstream map schema > contract.schema.json lets an editor complete and check this file)",
        "contract: 1",
        f"source: {yaml_text(_slug(made.file))}",
        'version: "1"',
        f"format: {made.format}",
    ]
    if made.format == "csv":
        if made.groups:
            lines.append(f"group_by: [{yaml_text(made.groups[0])}]  # its rows stand together, and are one receipt")
        else:
            lines.append(
                "group_by: []  # check: each row is a receipt; name the columns that rows of one receipt share"
            )
    if made.layout is not None and made.layout.record is not None:
        lines.append(f"# events: {made.layout.record}  # where a Kafka record holds the whole file")
    return lines


def _personal(made: ContractDraft) -> list[str]:
    personal = [column for column in made.survey.columns.values() if column.personal]
    if not personal:
        return []
    lines = ["", "# Never shown by tools; check: is something missing?", "personal:"]
    return lines + [f"  - {yaml_text(made.everywhere(column))}  # {'; '.join(column.personal)}" for column in personal]


def _slug(path: Path) -> str:
    name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64] or "source"
