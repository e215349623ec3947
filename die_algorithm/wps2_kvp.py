"""WPS 2.0 operations in key-value pairs: the query of a GET request (14-065, KVP binding).

All but Execute, which the standard has in XML only.
"""

from __future__ import annotations

from die_algorithm.errors import MissingParameterValue, OperationNotSupported
from die_algorithm.wps2_operations import (
    OPERATIONS,
    VERSION,
    Dismiss,
    GetResult,
    GetStatus,
    Operation,
)
from die_algorithm.wps_kvp import Query, listed, optional, required
from die_algorithm.wps_operations import (
    SPOKEN,
    DescribeProcess,
    GetCapabilities,
    check_service,
    negotiate_version,
)

_JOB_ID = "JobID"


def is_wps2_query(query: Query) -> bool:
    """Whether a query speaks WPS 2.0: by its version, or what it negotiates.

    Raises:
        InvalidParameterValue: it gives several of either.
    """
    accepted = listed(optional(query, "AcceptVersions"))
    if accepted and optional(query, "request").lower() == "getcapabilities":
        return next((version for version in accepted if version in SPOKEN), "") == VERSION
    return optional(query, "version") == VERSION


def parse_wps2_kvp(query: Query) -> Operation:
    """Read the operation that a query of WPS 2.0 asks for.

    Raises:
        RequestError: it asks for none, or not as the standard wants it; the locator names where.
    """
    check_service(required(query, "service"))
    request = required(query, "request")
    match request.lower():
        case "getcapabilities":
            accepted = listed(optional(query, "AcceptVersions"))
            return GetCapabilities(version=negotiate_version(accepted, VERSION))
        case "describeprocess":
            return _describe_process(query)
        case "getstatus":
            return GetStatus(job_id=required(query, _JOB_ID))
        case "getresult":
            return GetResult(job_id=required(query, _JOB_ID))
        case "dismiss":
            return Dismiss(job_id=required(query, _JOB_ID))
        case "execute":
            raise OperationNotSupported(
                f"WPS {VERSION} has Execute as the XML of a POST only; in a query, ask with "
                "version=1.0.0.",
                request,
            )
    raise OperationNotSupported(f"This service offers {', '.join(OPERATIONS)}.", request[:80])


def _describe_process(query: Query) -> DescribeProcess:
    identifiers = listed(optional(query, "Identifier"))
    if not identifiers:
        raise MissingParameterValue("The parameter Identifier is missing.", "Identifier")
    return DescribeProcess(identifiers=identifiers)
