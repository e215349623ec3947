"""The refusals that WPS 2.0 has codes of its own for (14-065, tables 41-50).

::

    RequestError
    ├── NoSuchProcess      404
    ├── NoSuchMode         400
    ├── NoSuchInput        400
    ├── NoSuchOutput       400
    ├── NoSuchFormat       400
    ├── DataNotAccessible  400
    ├── SizeExceeded       400
    ├── TooManyInputs      400
    ├── TooManyOutputs     400
    ├── WrongInputData     400
    ├── NoSuchJob          404
    └── ResultNotReady     404

The locator is the identifier at fault. The HTTP status of what is not there is that of other services
of WPS 2.0 and of OGC API - Processes (reference: safety 4.0).
"""

from __future__ import annotations

from die_algorithm.errors import RequestError


class NoSuchProcess(RequestError):
    """The process is not offered."""

    code = "NoSuchProcess"
    http_status = 404


class NoSuchMode(RequestError):
    """The process cannot be executed in this mode."""

    code = "NoSuchMode"


class NoSuchInput(RequestError):
    """The process has no input of this name."""

    code = "NoSuchInput"


class NoSuchOutput(RequestError):
    """The process has no output of this name."""

    code = "NoSuchOutput"


class NoSuchFormat(RequestError):
    """An input or output is not offered in this format."""

    code = "NoSuchFormat"


class DataNotAccessible(RequestError):
    """What an input refers to cannot be read."""

    code = "DataNotAccessible"


class SizeExceeded(RequestError):
    """An input is too large."""

    code = "SizeExceeded"


class TooManyInputs(RequestError):
    """An input is given too often."""

    code = "TooManyInputs"


class TooManyOutputs(RequestError):
    """More outputs are asked for than can be given together."""

    code = "TooManyOutputs"


class WrongInputData(RequestError):
    """An input is not what it should be."""

    code = "WrongInputData"


class NoSuchJob(RequestError):
    """There is no such job, or it is another user's."""

    code = "NoSuchJob"
    http_status = 404


class ResultNotReady(RequestError):
    """The job has not ended yet."""

    code = "ResultNotReady"
    http_status = 404
