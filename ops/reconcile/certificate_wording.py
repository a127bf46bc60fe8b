"""The words on a certificate's page, by version of the certificate.

`verify` renders the page again from its signed part and compares every byte, so the words that an older version printed
must never change. New words need a new `FORMAT`.
"""

from dataclasses import dataclass, replace
from typing import Any

#: The format that certificates are issued in.
FORMAT = "tillstream store-day 3"


@dataclass(frozen=True)
class PageWording:
    """Sentences and headings of a page. Names in braces are filled in."""

    #: Statuses of events, in the order of the equation.
    statuses: dict[str, str]
    proof: str
    unproved_heading: str
    unproved: str
    unproved_count: str
    resolved_heading: str
    resolved: str
    unplaced_heading: str
    unplaced: str
    unplaced_vanished: str
    unplaced_all_vanished: str
    about: str
    compared: str
    state_since: str
    outcome_heading: str
    digest: str
    digest_of_all: str
    accepted: str
    no_differences_yet: str
    no_differences_unjudged: str
    dead_letters: str
    gaps: str


#: Versions 1 and 2.
_OLD = PageWording(
    statuses={
        "erp": "due in the ERP",
        "duplicate": "sent twice",
        "superseded": "replaced by a higher revision",
        "dead": "dead letters",
        "held": "held by a cleaning rule",
        "parked": "dead letters, parked",
        "resolved": "dead letters that a person has decided not to book",
        "waiting": "waiting for the worker",
        "noted": "noted, no document",
        "refused": "in the ERP, refused by today's rules",
        "vanished": "vanished",
    },
    proof="tells whether this page is as it was signed. It proves\n"
    "that nobody without the private key has made or changed it.",
    unproved_heading="What can't be proved?",
    unproved="{sums}: their records have left the topic.",
    unproved_count="How many receipts",
    resolved_heading="What shall not be booked?",
    resolved="{sums}, as a person has decided.",
    unplaced_heading="Of no known store or day",
    unplaced="{sums}, arrived on that day; they may be of this store.",
    unplaced_vanished="{count} records that have vanished",
    unplaced_all_vanished="{count} records that have vanished",
    about="What this is about",
    compared="Compared of the ERP",
    state_since="since {since}, noted by {by}",
    outcome_heading="What became of what the tills sent ({currency})",
    digest="Digest of what the documents say ({fields})",
    digest_of_all="Digest of all that the documents say",
    accepted="; {count} of the documents there {are} of another event that said the same, or with descriptions that a "
    "mapping filled in",
    no_differences_yet="None was found, but the day is {state}.",
    no_differences_unjudged="None is told: the day is {state}, and not judged.",
    dead_letters="Dead letters: sent, and not in the ERP",
    gaps="Receipt numbers that never came: missing at the till",
)
_CURRENT = replace(
    _OLD,
    statuses=_OLD.statuses
    | {
        "duplicate": "duplicates",
        "resolved": "dead letters resolved by hand, not to be booked",
        "noted": "skipped, no document is due",
        "vanished": "neither in the ERP nor in dead letters",
    },
    proof="verifies that this page is as it was signed:\nnobody without the private key can have issued or changed it.",
    unproved_heading="What can't be proved?",
    unproved="{sums}, whose records have left the topic.",
    unproved_count="An unknown number of receipts",
    resolved_heading="Not to be booked",
    resolved="{sums}, resolved by hand.",
    unplaced_heading="Without a known store or day",
    unplaced="{sums} that arrived on this day and may belong to this store.",
    unplaced_vanished="{count} record in neither the ERP nor the dead letters",
    unplaced_all_vanished="{count} records in neither the ERP nor the dead letters",
    about="Scope",
    compared="Compared in the ERP",
    state_since="since {since}, recorded by {by}",
    outcome_heading="Events sent by the tills, and their outcome ({currency})",
    digest="Digest of the documents ({fields})",
    accepted="; {count} of the documents in the ERP {come} from another event with the same content, or {have} "
    "descriptions that a mapping filled in",
    no_differences_yet="None found so far: the day is {state}.",
    dead_letters="Dead letters: sent, but not in the ERP",
    gaps="Missing receipt numbers: skipped by the till, or in a record that can't be read",
)


def wording_of(certificate: dict[str, Any]) -> PageWording:
    """Return the words of the certificate's version."""
    return _CURRENT if certificate.get("certificate") == FORMAT else _OLD
