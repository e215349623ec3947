"""The main job over real HTTP on a real Swarm, in every form that a client may ask for."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path

import pytest
from lxml import etree
from ogc import texts
from service_fixture import (
    Service,
    elements,
    job_id_of,
    running_service,
    status_location,
    text_of,
)
from sortapp_sample import assert_sorted_zip
from storagehub_fixture import ALICE, HubClient
from swarm_fixture import ORIGINAL_SORTAPP, PROBE, SORTAPP

from die_algorithm.description import IDENTIFIER
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.results import Results
from die_algorithm.settings import Settings

HEADERS = {"gcube-token": ALICE.token}


def execute_xml(item: str, response_form: str = "", image: str = SORTAPP) -> str:
    inputs = "".join(
        f"<wps:Input><ows:Identifier>{name}</ows:Identifier><wps:Data><wps:LiteralData>{value}"
        "</wps:LiteralData></wps:Data></wps:Input>"
        for name, value in (("Image", image), ("CommandName", "sortapp"), ("ItemParam", item))
    )
    return (
        '<wps:Execute service="WPS" version="1.0.0" xmlns:wps="http://www.opengis.net/wps/1.0.0" '
        f'xmlns:ows="http://www.opengis.net/ows/1.1"><ows:Identifier>{IDENTIFIER}</ows:Identifier>'
        f"<wps:DataInputs>{inputs}</wps:DataInputs>{response_form}</wps:Execute>"
    )


def test_a_synchronous_execute_by_get_gives_the_document_with_log_and_zip(
    service: Service, item: str, tmp_path: Path
) -> None:
    document = service.run(ALICE.token, SORTAPP, "sortapp", item)
    assert "succeeded" in text_of(document, "//wps:ProcessSucceeded")
    hrefs = texts(document, "//ogr:Result/d4science:Data/text()")
    assert [href.rpartition(".")[2] for href in hrefs] == ["log", "zip"]
    assert_sorted_zip(service.get(hrefs[1]).content, tmp_path)
    assert texts(document, "//wps:Output/wps:Reference/@href") == [hrefs[1]]


def test_what_the_portal_sends_runs_with_the_public_link_of_a_file(
    service: Service, item: str, alice: HubClient, tmp_path: Path
) -> None:
    link = alice.get(f"/items/{item}/publiclink").json()
    document = service.run(ALICE.token, SORTAPP, "sortapp", link)
    hrefs = texts(document, "//ogr:Result/d4science:Data/text()")
    assert_sorted_zip(service.get(hrefs[1]).content, tmp_path)
    assert not [name for name in alice.names(alice.root(), showHidden=True) if "die-" in str(name)]


def test_an_asynchronous_execute_answers_at_once_and_its_document_follows_the_job(
    service: Service, item: str, tmp_path: Path
) -> None:
    form = (
        '<wps:ResponseForm><wps:ResponseDocument storeExecuteResponse="true" status="true">'
        "<wps:Output><ows:Identifier>non_deterministic_output</ows:Identifier></wps:Output>"
        "</wps:ResponseDocument></wps:ResponseForm>"
    )
    answer = service.post(execute_xml(item, form), headers={"gcube-token": ALICE.token})
    accepted = etree.fromstring(answer.content)
    assert elements(accepted, "//wps:ProcessAccepted")
    location = status_location(accepted)
    seen = [0]
    while True:
        # Clients append the token to the location as it is.
        document = etree.fromstring(service.get(f"{location}&gcube-token={ALICE.token}").content)
        if elements(document, "//wps:ProcessSucceeded"):
            break
        seen += map(int, texts(document, "//wps:ProcessStarted/@percentCompleted"))
        time.sleep(0.05)
    assert seen == sorted(seen)
    assert seen[-1] > 0
    hrefs = texts(document, "//ogr:Result/d4science:Data/text()")
    assert_sorted_zip(service.get(hrefs[-1]).content, tmp_path)


def test_the_bare_zip_can_be_asked_for(service: Service, item: str, tmp_path: Path) -> None:
    form = (
        "<wps:ResponseForm><wps:RawDataOutput><ows:Identifier>Result</ows:Identifier>"
        "</wps:RawDataOutput></wps:ResponseForm>"
    )
    answer = service.post(execute_xml(item, form), headers={"gcube-token": ALICE.token})
    assert answer.headers["Content-Type"] == "application/zip"
    assert_sorted_zip(answer.content, tmp_path)


def test_the_zip_can_be_asked_for_inline(service: Service, item: str, tmp_path: Path) -> None:
    url = service.execute_url(ALICE.token, Image=SORTAPP, CommandName="sortapp", FileParam=item)
    answer = service.get(f"{url}&ResponseDocument=Result")
    document = etree.fromstring(answer.content)
    (data,) = texts(document, "//wps:ComplexData[@encoding='base64']/text()")
    assert_sorted_zip(base64.b64decode(data), tmp_path)


def test_the_original_example_image_runs_unchanged(
    service: Service, item: str, tmp_path: Path
) -> None:
    document = service.run(ALICE.token, ORIGINAL_SORTAPP, "sortapp", item)
    hrefs = texts(document, "//ogr:Result/d4science:Data/text()")
    assert_sorted_zip(service.get(hrefs[-1]).content, tmp_path)
    log = service.get(hrefs[0]).text
    # It prints its token; what we publish of that must not show it.
    assert "***" in log
    assert ALICE.token not in log


def test_the_container_gets_the_four_words_of_the_contract(
    service: Service, item: str, alice: HubClient
) -> None:
    document = service.run(ALICE.token, PROBE, "probe args", item)
    log = service.get(text_of(document, "//ogr:Result[1]/d4science:Data")).text.split()
    behaviour, token, item_id, folder = log
    assert (behaviour, token, item_id) == ("args", "***", item)
    # The folder is gone with the job, so its id is no item's any more.
    assert alice.get(f"/items/{folder}").status_code != 200


def test_a_job_that_has_ended_leaves_nothing_on_the_swarm_and_in_the_workspace(
    service: Service, item: str, alice: HubClient, swarm: LocalSwarm
) -> None:
    service.run(ALICE.token, SORTAPP, "sortapp", item)
    services = subprocess.run(
        ["docker", "-H", swarm.docker_host, "service", "ls", "-q"],
        check=True,
        capture_output=True,
    )
    assert services.stdout == b""
    assert not [name for name in alice.names(alice.root(), showHidden=True) if "die-" in str(name)]


def test_lineage_repeats_the_inputs_and_never_the_token(service: Service, item: str) -> None:
    url = service.execute_url(ALICE.token, Image=SORTAPP, CommandName="sortapp", FileParam=item)
    answer = service.get(f"{url}&lineage=true")
    document = etree.fromstring(answer.content)
    inputs = texts(document, "//wps:DataInputs//wps:LiteralData/text()")
    assert inputs == [SORTAPP, "sortapp", item]
    assert ALICE.token not in answer.text


@pytest.mark.parametrize("place", ["query", "header", "basic", "bearer"])
def test_the_token_is_taken_from_all_four_places(service: Service, item: str, place: str) -> None:
    url = service.execute_url(
        ALICE.token if place == "query" else None,
        asynchronous=True,
        Image=PROBE,
        CommandName="probe noop",
        FileParam=item,
    )
    headers = {
        "query": {},
        "header": {"gcube-token": ALICE.token},
        "basic": {
            "Authorization": "Basic "
            + base64.b64encode(f"{ALICE.name}:{ALICE.token}".encode()).decode()
        },
        "bearer": {"Authorization": f"Bearer {ALICE.token}"},
    }[place]
    answer = service.get(url, headers=headers)
    assert answer.status_code == 200, answer.text
    job_id = job_id_of(etree.fromstring(answer.content))
    assert service.runtime.engine.wait(job_id, 60).state.value == "succeeded"


def test_a_zip_that_is_gone_is_referred_to_and_not_found(service: Service, item: str) -> None:
    url = service.execute_url(
        ALICE.token, asynchronous=True, Image=PROBE, CommandName="probe noop", FileParam=item
    )
    answer = service.get(f"{url}&ResponseDocument=Result")
    location = status_location(etree.fromstring(answer.content))
    engine = service.runtime.engine
    job = engine.wait(location.rpartition("?id=")[2], 60)
    inline = etree.fromstring(service.get(location, headers=HEADERS).content)
    assert elements(inline, "//wps:ComplexData[@encoding='base64']")
    Results(service.settings.results_path).zip_path(job).unlink()
    (href,) = texts(
        etree.fromstring(service.get(location, headers=HEADERS).content), "//wps:Reference/@href"
    )
    assert service.get(href).status_code == 404


def test_a_token_across_the_cut_of_the_log_is_masked_too(
    settings: Settings, item: str, tmp_path: Path
) -> None:
    # The line is "gcubeToken: <token>": the kept part begins in the middle of the token.
    short = settings.model_copy(
        update={"data_dir": tmp_path / "short", "log_tail": len(ALICE.token) // 2}
    )
    with running_service(short) as service:
        document = service.run(ALICE.token, PROBE, "probe print-token", item)
        log = service.get(text_of(document, "//ogr:Result[1]/d4science:Data")).text
    assert log.strip().endswith("***")
    assert ALICE.token[-6:] not in log
