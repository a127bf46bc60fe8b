"""Likely personal data by the field's name. Such values are never shown."""

import re

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = {
    "e-mail": {"email", "mail", "e_mail"},
    "phone number": {"phone", "telephone", "tel", "mobile", "fax", "cell"},
    "address": {"address", "address1", "address2", "street", "zip", "postcode", "postal", "latitude", "longitude"},
    "date of birth": {"birth", "birthday", "birthdate", "dob"},
    "bank or card number": {"iban", "bic", "pan", "cardnumber", "bankaccount"},
    "network address": {"ip", "useragent", "browser"},
    "free text": {"note", "notes", "comment", "comments", "remark", "remarks", "message", "memo"},
    "person": {"firstname", "lastname", "surname", "forename", "fullname", "gender", "passport", "ssn"},
}
_PEOPLE = {"customer", "client", "buyer", "member", "loyalty", "recipient", "contact", "cardholder", "shopper",
           "cashier", "operator", "employee", "staff", "user", "guest", "salesperson", "household"}  # fmt: skip
_OF_PEOPLE = {"id", "no", "nr", "number", "name", "code", "key", "card", "ref", ""}
_NAMES = {"first", "last", "full", "family", "given", "middle"}


def by_name(path: str) -> str | None:
    """Which personal data a field of this name holds."""
    parts = [part for part in re.split(r"[./]", path.replace("[]", "").replace("@", "")) if part]
    words = _words(parts[-1]) if parts else []
    last = set(words) | {"".join(words)}
    found = next((what for what, names in _WORDS.items() if names & last), None)
    if found is not None:
        return found
    if "name" in words and _NAMES & set(words):
        return "person"
    above = _words(parts[-2]) if len(parts) > 1 else []
    people = _PEOPLE & {*words, *above}
    rest = "".join(word for word in words if word not in _PEOPLE)
    if people and rest in _OF_PEOPLE:
        return "person"
    return None


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", _CAMEL.sub("_", name).lower()) if word]
