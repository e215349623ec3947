"""The clients that people use: OWSLib, birdy, curl."""

from __future__ import annotations

import base64
import io
import subprocess
import zipfile
from pathlib import Path

import birdy
import pytest
from lxml import etree
from ogc import assert_valid, texts
from owslib.wps import (
    ASYNC,
    SYNC,
    ComplexDataInput,
    WebProcessingService,
    WPSExecution,
    monitorExecution,
)
from service_fixture import Service, elements
from sortapp_sample import sorted_sample
from storagehub_fixture import ALICE
from swarm_fixture import PROBE, SORTAPP

from die_algorithm.description import IDENTIFIER

HEADERS = {"gcube-token": ALICE.token}


def assert_sorted(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = [name for name in archive.namelist() if not name.endswith("/")]
        assert archive.read(name).decode().split() == sorted_sample()


def owslib_client(service: Service) -> WebProcessingService:
    return WebProcessingService(service.wps, headers=HEADERS)


def inputs(item: str) -> list[tuple[str, object]]:
    return [("Image", SORTAPP), ("CommandName", "sortapp"), ("ItemParam", item)]


def test_owslib_reads_the_capabilities(service: Service) -> None:
    wps = owslib_client(service)
    assert wps.identification.type == "WPS"
    assert [process.identifier for process in wps.processes] == [IDENTIFIER]


def test_owslib_reads_the_description(service: Service) -> None:
    process = owslib_client(service).describeprocess(IDENTIFIER)
    assert [(put.identifier, put.minOccurs) for put in process.dataInputs] == [
        ("Image", 1),
        ("CommandName", 1),
        ("FileParam", 0),
        ("ItemParam", 0),
    ]
    outputs = [put.identifier for put in process.processOutputs]
    assert outputs == ["non_deterministic_output", "Result"]
    assert process.statusSupported
    assert process.storeSupported


@pytest.mark.parametrize("mode", [SYNC, ASYNC])
@pytest.mark.parametrize("output", [[("Result", True)], None])
def test_owslib_executes_and_fetches_the_zip(
    service: Service, item: str, tmp_path: Path, mode: str, output: list[tuple[str, bool]] | None
) -> None:
    execution = owslib_client(service).execute(IDENTIFIER, inputs(item), output=output, mode=mode)
    monitorExecution(execution, sleepSecs=0.2)
    assert execution.isSucceded(), execution.errors
    target = tmp_path / "result.zip"
    execution.getOutput(str(target), "Result")
    subprocess.run(["unzip", "-tq", target], check=True, stdout=subprocess.DEVNULL)
    assert_sorted(target.read_bytes())


@pytest.mark.parametrize("mode", [SYNC, ASYNC])
def test_owslib_gets_the_zip_inline(service: Service, item: str, mode: str) -> None:
    execution = owslib_client(service).execute(
        IDENTIFIER, inputs(item), output=[("Result", False)], mode=mode
    )
    monitorExecution(execution, sleepSecs=0.2)
    assert execution.isSucceded(), execution.errors
    # OWSLib hands on the text as it is, whatever the encoding attribute says.
    assert_sorted(base64.b64decode(execution.processOutputs[0].data[0]))


def test_owslib_can_give_the_file_as_complex_data(service: Service, item: str) -> None:
    given = [*inputs(item)[:2], ("FileParam", ComplexDataInput(item))]
    execution = owslib_client(service).execute(
        IDENTIFIER, given, output=[("Result", True)], mode=SYNC
    )
    assert execution.isSucceded(), execution.errors


def test_owslib_learns_why_a_job_failed(service: Service, item: str) -> None:
    given = [("Image", PROBE), ("CommandName", "probe exit 3"), ("ItemParam", item)]
    execution = owslib_client(service).execute(
        IDENTIFIER, given, output=[("Result", True)], mode=ASYNC
    )
    monitorExecution(execution, sleepSecs=0.2)
    assert not execution.isSucceded()
    assert "Exit code: 3." in execution.errors[0].text


def test_owslib_sends_what_the_schema_allows(item: str) -> None:
    request = WPSExecution().buildRequest(IDENTIFIER, inputs(item), output=[("Result", True)])
    assert_valid(etree.tostring(request))


@pytest.mark.parametrize("progress", [False, True])
def test_birdy_executes_and_fetches_the_zip(service: Service, item: str, progress: bool) -> None:
    client = birdy.WPSClient(service.wps, headers=HEADERS, progress=progress)
    execution = getattr(client, birdy.utils.sanitize(IDENTIFIER))(
        image=SORTAPP, commandname="sortapp", itemparam=item
    )
    if progress:
        monitorExecution(execution, sleepSecs=0.2)
    result = execution.get()
    with_zip = result[1]
    assert with_zip.endswith(".zip")
    assert_sorted(service.get(with_zip).content)


def test_curl_gets_by_key_value_pairs_and_posts_xml(
    service: Service, item: str, tmp_path: Path
) -> None:
    url = service.execute_url(ALICE.token, Image=SORTAPP, CommandName="sortapp", FileParam=item)
    got = curl(f"{url}&RawDataOutput=Result")
    assert_sorted(got)
    body = tmp_path / "execute.xml"
    request = WPSExecution().buildRequest(IDENTIFIER, inputs(item), mode=SYNC)
    body.write_bytes(etree.tostring(request))
    answer = etree.fromstring(
        curl(
            *("-H", "Content-Type: text/xml", "-H", f"gcube-token: {ALICE.token}"),
            *("--data-binary", f"@{body}", service.wps),
        )
    )
    assert elements(answer, "//wps:ProcessSucceeded")


def test_curl_can_fetch_a_part_of_the_zip(service: Service, item: str) -> None:
    url = service.execute_url(ALICE.token, Image=SORTAPP, CommandName="sortapp", FileParam=item)
    document = etree.fromstring(curl(url))
    (href,) = texts(document, "//wps:Output/wps:Reference/@href")
    assert curl("-r", "0-3", href) == b"PK\x03\x04"


def curl(*arguments: str | Path) -> bytes:
    return subprocess.run(
        ["curl", "-sS", "--fail-with-body", *arguments], check=True, capture_output=True
    ).stdout
