"""Bad input: the right status, code and locator, a clear sentence, and nothing is created."""

from __future__ import annotations

import subprocess
from urllib.parse import quote

import pytest
import requests
from lxml import etree
from service_fixture import Service, elements, text_of, unfinished_jobs
from storagehub_fixture import ALICE, BOB, HubClient
from swarm_fixture import SORTAPP

from die_algorithm.description import IDENTIFIER
from die_algorithm.local_storagehub.server import LocalStorageHub
from die_algorithm.local_swarm import LocalSwarm

BASE = f"service=WPS&version=1.0.0&request=Execute&Identifier={IDENTIFIER}"
GOOD = f"Image={quote(SORTAPP, safe='')};CommandName=sortapp"


@pytest.fixture
def untouched(service: Service, alice: HubClient, swarm: LocalSwarm) -> object:
    """What exists before and must be the same after."""

    def inventory() -> object:
        jobs = len(unfinished_jobs(service.settings))
        services = subprocess.run(
            ["docker", "-H", swarm.docker_host, "service", "ls", "-q"],
            check=True,
            capture_output=True,
        ).stdout
        return jobs, services, sorted(map(str, alice.names(alice.root(), showHidden=True)))

    before = inventory()
    yield
    assert inventory() == before


Refusal = tuple[int, str | None, str | None, str]


def refusal(response: requests.Response) -> Refusal:
    """Status, code, locator and sentence of an exception report."""
    document = etree.fromstring(response.content)
    (exception,) = elements(document, "//ows:Exception")
    text = text_of(document, "//ows:Exception")
    return response.status_code, exception.get("exceptionCode"), exception.get("locator"), text


def kvp(service: Service, query: str, token: str = ALICE.token) -> Refusal:
    return refusal(service.get(f"{service.wps}?{query}", headers={"gcube-token": token}))


@pytest.mark.parametrize(
    ("inputs", "code", "locator"),
    [
        ("CommandName=sortapp;FileParam=ITEM", "MissingParameterValue", "Image"),
        (f"Image={SORTAPP};FileParam=ITEM", "MissingParameterValue", "CommandName"),
        (GOOD, "MissingParameterValue", "FileParam"),
        ("", "MissingParameterValue", "Image"),
        ("Image=;CommandName=sortapp;FileParam=ITEM", "InvalidParameterValue", "Image"),
        (f"Image={SORTAPP};CommandName=;FileParam=ITEM", "InvalidParameterValue", "CommandName"),
        (f"{GOOD};FileParam=", "InvalidParameterValue", "FileParam"),
        (f"{GOOD};FileParam=ITEM;Image=alpine", "InvalidParameterValue", "Image"),
        (f"{GOOD};FileParam=ITEM;ItemParam=ITEM", "InvalidParameterValue", "ItemParam"),
        (f"{GOOD};FileParam=ITEM;Bogus=1", "InvalidParameterValue", "Bogus"),
        (f"{GOOD};FileParam=ITEM;image=x", "InvalidParameterValue", "image"),
        (f"{GOOD};FileParam=ITEM;loose", "InvalidParameterValue", "DataInputs"),
        ("Image=evil.com%2Fx;CommandName=x;FileParam=ITEM", "InvalidParameterValue", "Image"),
        ("Image=alpine%0a;CommandName=x;FileParam=ITEM", "InvalidParameterValue", "Image"),
        ("Image=alpine@foo=bar;CommandName=x;FileParam=ITEM", "InvalidParameterValue", "Image"),
        (f"Image={SORTAPP};CommandName=$(id);FileParam=ITEM", "InvalidParameterValue", "CommandName"),
        (f"{GOOD};FileParam=../../x", "InvalidParameterValue", "FileParam"),
        (f"{GOOD};FileParam=http://169.254.169.254/items/12345678", "InvalidParameterValue", "FileParam"),
        (f"{GOOD};FileParam=00000000-0000-4000-8000-000000000000", "InvalidParameterValue", "FileParam"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("untouched")
def test_bad_inputs_are_refused_by_name(
    service: Service, item: str, inputs: str, code: str, locator: str
) -> None:
    query = f"{BASE}&DataInputs={inputs.replace('ITEM', item)}"
    status, found_code, found_locator, text = kvp(service, query)
    assert (status, found_code, found_locator) == (400, code, locator)
    assert text.endswith((".", "'."))


@pytest.mark.parametrize(
    ("query", "status", "code", "locator"),
    [
        ("", 400, "MissingParameterValue", "service"),
        ("service=WMS&request=GetCapabilities", 400, "InvalidParameterValue", "service"),
        ("service=WPS", 400, "MissingParameterValue", "request"),
        ("service=WPS&request=Explode", 501, "OperationNotSupported", "Explode"),
        ("service=WPS&request=GetStatus", 501, "OperationNotSupported", "GetStatus"),
        (
            "service=WPS&request=GetCapabilities&AcceptVersions=9.0.0",
            400,
            "VersionNegotiationFailed",
            None,
        ),
        (
            "service=WPS&request=DescribeProcess&version=1.0&Identifier=x",
            400,
            "InvalidParameterValue",
            "version",
        ),
        (
            "service=WPS&request=DescribeProcess&version=1.0.0",
            400,
            "MissingParameterValue",
            "Identifier",
        ),
        (
            "service=WPS&request=DescribeProcess&version=1.0.0&Identifier=nix",
            400,
            "InvalidParameterValue",
            "Identifier",
        ),
        (
            "service=WPS&request=Execute&version=1.0.0",
            400,
            "MissingParameterValue",
            "Identifier",
        ),
        (f"{BASE}&language=xx", 400, "InvalidParameterValue", "language"),
        (f"{BASE}&storeExecuteResponse=maybe", 400, "InvalidParameterValue", "storeExecuteResponse"),
        (f"{BASE}&status=true", 400, "InvalidParameterValue", "status"),
        (f"{BASE}&RawDataOutput=nix", 400, "InvalidParameterValue", "nix"),
        (f"{BASE}&ResponseDocument=nix", 400, "InvalidParameterValue", "nix"),
        (f"{BASE}&DataInputs=a=1&DataInputs=b=2", 400, "InvalidParameterValue", "DataInputs"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("untouched")
def test_bad_operations_are_refused_with_code_and_locator(
    service: Service, query: str, status: int, code: str, locator: str | None
) -> None:
    assert kvp(service, query)[:3] == (status, code, locator)


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), ("wrong-token-0000-4000", 401), ("tiny", 401), ("--privileged-0000", 401)],
)
@pytest.mark.usefixtures("untouched")
def test_without_a_good_token_nothing_is_done(
    service: Service, item: str, token: str | None, status: int
) -> None:
    query = f"{BASE}&DataInputs={GOOD};FileParam={item}"
    answer = service.get(f"{service.wps}?{query}", headers={"gcube-token": token} if token else {})
    assert refusal(answer)[:3] == (status, "NoApplicableCode", None)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert token is None or token not in answer.text


@pytest.mark.usefixtures("untouched")
def test_a_token_among_the_inputs_is_refused_and_not_repeated(service: Service, item: str) -> None:
    inputs = f"Image={SORTAPP};CommandName=sortapp {ALICE.token};FileParam={item}"
    answer = service.get(
        f"{service.wps}?{BASE}&DataInputs={inputs}", headers={"gcube-token": ALICE.token}
    )
    assert refusal(answer)[:3] == (400, "InvalidParameterValue", "CommandName")
    assert ALICE.token not in answer.text


@pytest.mark.usefixtures("untouched")
def test_another_users_item_answers_like_one_that_does_not_exist(
    service: Service, storagehub: LocalStorageHub
) -> None:
    bobs = storagehub.seed(BOB.name, "bobs.txt", b"private")
    missing = "00000000-0000-4000-8000-000000000000"
    answers = [
        kvp(service, f"{BASE}&DataInputs={GOOD};FileParam={item}") for item in (bobs, missing)
    ]
    assert answers[0] == answers[1]
    assert answers[0][:3] == (400, "InvalidParameterValue", "FileParam")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "NoApplicableCode"),
        (b"hello", 400, "NoApplicableCode"),
        (b"<a/>", 400, "NoApplicableCode"),
        (b'<!DOCTYPE a><a/>', 400, "NoApplicableCode"),
        ("<a/>".encode("utf-16"), 400, "NoApplicableCode"),
        (b'<w:Foo xmlns:w="http://www.opengis.net/wps/1.0.0" service="WPS"/>', 501, "OperationNotSupported"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("untouched")
def test_bad_xml_is_refused(service: Service, body: bytes, status: int, code: str) -> None:
    assert refusal(service.post(body, headers={"gcube-token": ALICE.token}))[:2] == (status, code)


@pytest.mark.usefixtures("untouched")
def test_a_body_over_the_limit_is_refused(service: Service) -> None:
    body = b"<a>" + b"x" * service.settings.max_request_size
    assert refusal(service.post(body))[:2] == (413, "FileSizeExceeded")


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data", "application/json"])
def test_other_bodies_than_xml_are_refused(service: Service, content_type: str) -> None:
    answer = service.post(b"<a/>", headers={"Content-Type": content_type})
    assert refusal(answer)[:2] == (415, "NoApplicableCode")


@pytest.mark.parametrize(
    "path",
    [
        "/wps/RetrieveResultServlet?id=00000000-0000-4000-8000-000000000000",
        "/wps/RetrieveResultServlet?id=../../etc/passwd",
        "/wps/RetrieveResultServlet?id=",
        "/results/0123456789abcdef0123456789abcdef/die-00000000-0000-4000-8000-000000000000.zip",
        "/results/../../etc/passwd",
        "/api",
        "/wps",
    ],
)
def test_what_does_not_exist_is_not_found(service: Service, path: str) -> None:
    answer = service.get(path, headers={"gcube-token": ALICE.token})
    assert refusal(answer)[:2] == (404, "NoApplicableCode")


@pytest.mark.parametrize("token", [None, BOB.token])
def test_only_the_owner_can_cancel(service: Service, item: str, token: str | None) -> None:
    job_id = service.submit(ALICE.token, SORTAPP, "sortapp", item)
    answer = service.get(
        f"/wps/CancelComputationServlet?id={job_id}",
        headers={"gcube-token": token} if token else {},
    )
    assert answer.status_code == (404 if token else 401)
    assert service.runtime.engine.wait(job_id, 60).state.value == "succeeded"
