"""DataMiner's portal as a client: what its library does with our answers, mistakes and all.

Played after the facts about ``dataminer-manager-cl`` (reference: dataminer-wps, 2.3). It reads XML by
namespace where the library has generated classes, and by literal node names where it walks the DOM.
"""

from __future__ import annotations

import dataclasses
import enum
from urllib.parse import quote_plus
from xml.dom import minidom

import requests
from lxml import etree
from ogc import NAMESPACES, assert_valid

WPS, OWS = (f"{{{NAMESPACES[prefix]}}}" for prefix in ("wps", "ows"))
XLINK = f"{{{NAMESPACES['xlink']}}}"
SERVICE = "WebProcessingService"
CANCEL = "CancelComputationServlet"


class PortalError(Exception):
    """The library would have thrown an exception."""


class Phase(enum.Enum):
    """What the portal shows of a computation."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclasses.dataclass(frozen=True)
class Operator:
    """A process in the portal's tree."""

    identifier: str
    category: str


@dataclasses.dataclass(frozen=True)
class Parameter:
    """An input in the portal's form."""

    name: str
    widget: str
    mime_type: str | None
    data_type: str | None


@dataclasses.dataclass(frozen=True)
class Description:
    """What the form is made of."""

    title: str
    abstract: str
    parameters: tuple[Parameter, ...]
    outputs: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Shown:
    """One look at a computation: what is shown, a text, and how far it is."""

    phase: Phase
    text: str = ""
    percent: float = 0.0


@dataclasses.dataclass(frozen=True)
class Resource:
    """A result in the portal's list."""

    fid: str
    data: str
    description: str
    mime_type: str


class Portal:
    """A user before the portal.

    Args:
        wps: the service's address.
        user: the user's name.
        token: the user's token; it goes as the password of HTTP Basic, never into an address.
    """

    def __init__(self, wps: str, user: str, token: str) -> None:
        if SERVICE not in wps:
            raise PortalError("Invalid WPS service address")
        self._wps = wps
        self._token = token
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = (user, token)
        self._describe_href = ""

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _get(self, url: str) -> bytes:
        answer = self._session.get(url, timeout=60)
        if answer.status_code != 200:
            raise PortalError(f"HTTP {answer.status_code}")
        return answer.content

    # -- the tree of operators

    def operators(self) -> list[Operator]:
        """Read the capabilities; every operation gets a Post address, so each must have one."""
        url = f"{self._wps}?Request=GetCapabilities&Service=WPS"
        root = assert_valid(self._get(url))
        for operation in root.iter(f"{OWS}Operation"):
            posts = operation.findall(f"{OWS}DCP/{OWS}HTTP/{OWS}Post")
            if not posts:
                raise PortalError(f"no Post of {operation.get('name')}")
            if operation.get("name") == "DescribeProcess":
                get = operation.find(f"{OWS}DCP/{OWS}HTTP/{OWS}Get")
                if get is None:
                    raise PortalError("no Get of DescribeProcess")
                self._describe_href = str(get.attrib[f"{XLINK}href"])
        return [
            Operator(_text(process, "Identifier"), _category(_text(process, "Title")))
            for process in root.iter(f"{WPS}Process")
        ]

    def describe(self, identifier: str) -> Description:
        """Read one description, cut out by lines and put into a root of three prefixes."""
        url = f"{self._describe_href}Request=DescribeProcess&Service=WPS&Version=1.0.0"
        kept = _kept_lines(self._get(f"{url}&Identifier={identifier}").decode())
        wrapped = (
            f'<wps:ProcessDescriptions xmlns:wps="{NAMESPACES["wps"]}" '
            'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            f'xmlns:ows="{NAMESPACES["ows"]}" xml:lang="en-US" service="WPS" version="1.0.0">'
            f"{kept}</wps:ProcessDescriptions>"
        )
        (process,) = etree.fromstring(wrapped).findall("ProcessDescription")
        return Description(
            title=_text(process, "Title"),
            abstract=_text(process, "Abstract"),
            parameters=tuple(_parameter(each) for each in process.findall("DataInputs/Input")),
            outputs=tuple(
                _text(each, "Identifier")
                for each in process.findall("ProcessOutputs/Output")
                if each.find("ComplexOutput") is not None
            ),
        )

    # -- a computation

    def start(self, identifier: str, values: dict[str, str]) -> tuple[str, str]:
        """Post an Execute.

        Args:
            identifier: of the process.
            values: of the inputs; those of files are addresses.

        Returns:
            The computation's id and the address of its status.
        """
        body = self._execute(identifier, self.describe(identifier), values)
        headers = {"Content-Type": "text/xml", "Accept-Encoding": "gzip"}
        answer = self._session.post(f"{self._wps}?", data=body, headers=headers, timeout=60)
        if answer.status_code != 200:
            raise PortalError(f"HTTP {answer.status_code}")
        root = assert_valid(answer.content)
        if root.tag != f"{WPS}ExecuteResponse":
            raise PortalError("no ExecuteResponse")
        location = root.get("statusLocation", "")
        if "?id=" not in location:
            raise PortalError("Invalid processLocation")
        return location[location.rindex("?id=") + len("?id=") :], location

    def _execute(self, identifier: str, described: Description, values: dict[str, str]) -> bytes:
        inputs = "".join(
            f"<wps:Input><ows:Identifier>{each.name}</ows:Identifier>"
            f"{_value(each, values[each.name])}</wps:Input>"
            for each in described.parameters
            if each.name in values
        )
        outputs = "".join(
            f'<wps:Output mimeType="text/xml"><ows:Identifier>{name}</ows:Identifier></wps:Output>'
            for name in described.outputs
        )
        document = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<wps:Execute service="WPS" version="1.0.0" xmlns:wps="{NAMESPACES["wps"]}" '
            f'xmlns:ows="{NAMESPACES["ows"]}" xmlns:xlink="{NAMESPACES["xlink"]}">'
            f"<ows:Identifier>{identifier}</ows:Identifier><wps:DataInputs>{inputs}</wps:DataInputs>"
            '<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse="true" status="true" '
            f'lineage="false">{outputs}</wps:ResponseDocument></wps:ResponseForm></wps:Execute>'
        )
        assert_valid(document.encode())
        return document.encode()

    def look(self, location: str) -> Shown:
        """Look at a computation, the elements in the library's own order."""
        try:
            root = assert_valid(self._get(location))
        except PortalError as error:
            return Shown(Phase.FAILED, str(error))
        if root.tag != f"{WPS}ExecuteResponse":
            return Shown(Phase.FAILED, "no ExecuteResponse")
        status = root.find(f"{WPS}Status")
        if status is None:
            return Shown(Phase.CANCELLED)
        return _shown(status)

    def results(self, location: str) -> dict[str, list[Resource]]:
        """The resources of each output; an output without data breaks the library."""
        document = minidom.parseString(self._get(location))  # noqa: S318 - the service's own
        found: dict[str, list[Resource]] = {}
        for output in document.getElementsByTagName("wps:Output"):
            parent = output.parentNode
            if parent is None or parent.nodeName != "wps:ProcessOutputs":
                continue  # of the lineage
            (name,) = output.getElementsByTagName("ows:Identifier")
            data = output.getElementsByTagName("wps:Data")
            if not data:
                raise PortalError("getData() is null")
            complex_data = data[0].getElementsByTagName("wps:ComplexData")
            found[_inner(name)] = [
                _resource(result)
                for each in complex_data
                for result in each.getElementsByTagName("ogr:Result")
            ]
        return found

    def cancel(self, job_id: str) -> int:
        """Cancel a computation; only the HTTP status is looked at."""
        address = self._wps[: self._wps.index(SERVICE)] + CANCEL
        return self._session.get(f"{address}?id={job_id}", timeout=60).status_code

    def request_to_show(self, identifier: str, values: dict[str, str]) -> str:
        """What the link "WPS Request: Show" yields (W2)."""
        pairs = "".join(
            f"{quote_plus(name)}={quote_plus(value)};" for name, value in values.items()
        )
        return (
            f"{self._wps}?request=Execute&service=WPS&Version=1.0.0&gcube-token={self._token}"
            f"&lang=en-US&Identifier={identifier}&DataInputs={pairs}"
        )


def _category(title: str) -> str:
    """What precedes the first colon; nothing: the others; no colon: the whole title."""
    category = title.partition(":")[0]
    return category or "OTHERS"


def _kept_lines(document: str) -> str:
    """The lines between the two tags of the ProcessDescriptions, each tag on lines of its own."""
    lines = iter(document.split("\n"))
    for line in lines:
        if "<wps:ProcessDescriptions" in line:
            rest = line[line.index("<wps:ProcessDescriptions") :]
            while ">" not in rest:
                rest = next(lines)
            break
    kept: list[str] = []
    for line in lines:
        if "</wps:ProcessDescriptions>" in line:
            return "\n".join(kept)
        kept.append(line)
    raise PortalError("the descriptions have no end")


def _parameter(described: etree._Element) -> Parameter:
    name, title = _text(described, "Identifier"), _text(described, "Title")
    int(described.attrib["minOccurs"])
    int(described.attrib["maxOccurs"])
    literal = described.find("LiteralData")
    if literal is not None:
        data_type = literal.find(f"{OWS}DataType")
        if data_type is None:
            raise PortalError("no DataType")
        return Parameter(name, "text", None, str(data_type.attrib[f"{OWS}reference"]))
    default = described.findtext("ComplexData/Default/Format/MimeType")
    if default is None or described.find("ComplexData/Supported/Format") is None:
        raise PortalError("no format")
    widget = "table" if "[a http link to a table" in title else "file"
    return Parameter(name, widget, default, None)


def _value(parameter: Parameter, value: str) -> str:
    if parameter.mime_type is None:
        return (
            f'<wps:Data><wps:LiteralData dataType="{parameter.data_type}">{value}</wps:LiteralData>'
            "</wps:Data>"
        )
    return f'<wps:Reference xlink:href="{value}" mimeType="{parameter.mime_type}"/>'


def _shown(status: etree._Element) -> Shown:
    failed = status.find(f"{WPS}ProcessFailed")
    if failed is not None:
        report = failed.find(f"{OWS}ExceptionReport")
        if report is None:
            raise PortalError("a failure without reason")
        return Shown(Phase.FAILED, "".join(map(str, report.itertext())))
    texts = {name: status.findtext(f"{WPS}Process{name}") for name in _WORDS}
    if texts["Paused"]:
        return Shown(Phase.FAILED, texts["Paused"])
    for word, phase in (("Succeeded", Phase.COMPLETE), ("Accepted", Phase.ACCEPTED)):
        if texts[word]:
            return Shown(phase, texts[word] or "")
    started = status.find(f"{WPS}ProcessStarted")
    if started is None:
        return Shown(Phase.CANCELLED)
    text = texts["Started"] or ""
    percent = _number(text, float(started.get("percentCompleted", "0")))
    return Shown(Phase.CANCELLED if percent < 0 else Phase.RUNNING, text, percent)


_WORDS = ("Paused", "Succeeded", "Accepted", "Started")


def _number(text: str, otherwise: float) -> float:
    """A text that is a number counts for more than the attribute."""
    try:
        return float(text)
    except ValueError:
        return otherwise


def _text(element: etree._Element, name: str) -> str:
    """The text of an ows child, which the library never finds absent."""
    found = element.findtext(f"{OWS}{name}")
    if found is None:
        raise PortalError(f"{name} is null")
    return found


def _inner(node: minidom.Element) -> str:
    return "".join(child.data for child in node.childNodes if isinstance(child, minidom.Text))


def _resource(result: minidom.Element) -> Resource:
    texts = {child.nodeName: _inner(child) for child in result.childNodes if child.childNodes}
    return Resource(
        result.getAttribute("fid"),
        *(texts[f"d4science:{name}"] for name in ("Data", "Description", "MimeType")),
    )
