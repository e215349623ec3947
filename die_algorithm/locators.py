"""The names that this service itself has for what may be at fault in a request."""

from __future__ import annotations

from die_algorithm import description
from die_algorithm.credentials import PARAMETER
from die_algorithm.job_options import HEADERS
from die_algorithm.wps2_operations import OPERATIONS

#: Parameters, attributes and elements of WPS 1.0.0 and 2.0.0, and of our own addresses.
_PARAMETERS = (
    "service", "request", "version", "AcceptVersions", "language", "Identifier", "DataInputs",
    "ResponseDocument", "RawDataOutput", "storeExecuteResponse", "status", "lineage", "asReference",
    "Input", "Output", "mode", "response", "transmission", "JobID", "id", "limit",
)  # fmt: skip
_NAMES = (
    *_PARAMETERS,
    *OPERATIONS,
    *HEADERS,
    PARAMETER,
    *(each.identifier for each in (*description.INPUTS, *description.OUTPUTS)),
)
_OURS = {name.lower(): name for name in _NAMES}


def known_locator(locator: str | None) -> str | None:
    """A locator as we write it; None if it is no name of ours, but a word of the client's, or there is none.

    Clients put anything anywhere, tokens too, and what nobody has asked for yet is not known for one.
    """
    return _OURS.get((locator or "").lower())
