"""How a store's time zone and cut-off are written, in settings and in mappings."""

import re
from datetime import time
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"{name!r} is no time zone; use a name like Europe/Berlin") from None
    return name


def _hours_and_minutes(cutoff: Any) -> time:
    if isinstance(cutoff, time) and cutoff.tzinfo is None:
        return cutoff
    # YAML reads 4:00 without quotes as the number 240.
    if not isinstance(cutoff, str) or not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", cutoff):
        raise ValueError('a cut-off is hours and minutes of store time, in quotes: "04:00"')
    return time.fromisoformat(cutoff)


TimeZone = Annotated[str, AfterValidator(_known_zone)]
CutOff = Annotated[time, BeforeValidator(_hours_and_minutes, json_schema_input_type=str)]
