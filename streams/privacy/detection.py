"""Detect values that look like personal data, whatever the field is called: e-mail addresses, card numbers, phone
numbers."""

import re

_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]+\.[\w.-]+")
_PHONE = re.compile(r"(?=.*[+ ()/-])\+?[\d ()/.-]{7,20}", re.ASCII)
_CARD = re.compile(r"\d(?:[ -]?\d){11,18}", re.ASCII)


def by_value(text: str) -> str | None:
    """Which personal data a value looks like."""
    if "@" in text and _EMAIL.search(text):
        return "e-mail"
    if len(text) < 7 or not any(character.isdigit() for character in text):
        return None
    if _CARD.fullmatch(text) and luhn(text):
        return "bank or card number"
    if _PHONE.fullmatch(text) and 7 <= sum(map(str.isdigit, text)) <= 15:
        return "phone number"
    return None


def luhn(text: str) -> bool:
    """Whether the digits end in the check digit of a card number."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit if place % 2 == 0 else (2 * digit - 9 * (digit > 4)) for place, digit in enumerate(digits[::-1])]
    return len(digits) >= 12 and sum(doubled) % 10 == 0
