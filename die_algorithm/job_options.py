"""What a client may ask for beside the process's inputs, in headers of its Execute."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from die_algorithm.errors import InvalidParameterValue
from die_algorithm.models import Deadlines
from die_algorithm.settings_values import AnyDuration, as_written

#: A retry with the same key is the same job (draft-ietf-httpapi-idempotency-key-header).
IDEMPOTENCY_KEY = "Idempotency-Key"
#: Shorter deadlines than the operator's, written as in the settings: ``30m``, ``2h``.
_DEADLINES = {"start": "Start-Deadline", "run": "Run-Deadline", "total": "Total-Deadline"}
HEADERS = (IDEMPOTENCY_KEY, *_DEADLINES.values())

# A structured string, which stands in quotes; clients commonly leave them out.
_KEY = re.compile(r'(?P<quote>")?(?P<key>[!#-\[\]-~]{1,255})(?(quote)")', re.ASCII)
#: What may stand around a header's value (RFC 9110, 5.6.3).
_BLANKS = " \t"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobOptions:
    """The options of one Execute."""

    idempotency_key: str | None = None
    #: None: the operator's.
    deadlines: Deadlines | None = None


def parse_job_options(headers: Mapping[str, str], longest: Deadlines) -> JobOptions:
    """Read the headers.

    Args:
        headers: the request's, names in lower case.
        longest: the operator's deadlines, which are also the defaults.

    Raises:
        InvalidParameterValue: a header's value is wrong; its name is the locator.
    """
    wanted = {
        field: _deadline(headers[header.lower()], header, getattr(longest, field))
        for field, header in _DEADLINES.items()
        if header.lower() in headers
    }
    key = headers.get(IDEMPOTENCY_KEY.lower())
    return JobOptions(
        idempotency_key=None if key is None else _key(key),
        deadlines=dataclasses.replace(longest, **wanted),
    )


def _key(text: str) -> str:
    match = _KEY.fullmatch(text.strip(_BLANKS))
    if match is None:
        raise InvalidParameterValue(
            f"{IDEMPOTENCY_KEY} must be 1 to 255 printable ASCII characters without blanks, such as a "
            "UUID.",
            IDEMPOTENCY_KEY,
        )
    return match["key"]


def _deadline(text: str, header: str, longest: timedelta) -> timedelta:
    try:
        duration: timedelta = TypeAdapter(AnyDuration).validate_python(text)
    except ValidationError:
        raise InvalidParameterValue(
            f"{header} must be a number and a unit: 30s, 10m, 24h or 7d.", header
        ) from None
    if duration > longest:
        raise InvalidParameterValue(f"{header} may be at most {as_written(longest)} here.", header)
    return duration
