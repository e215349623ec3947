"""One job of each kind of DataMiner's clients on the real Swarm, with the example image, unchanged.

The file comes as each of them sends it: by a public link, as content, by its id. What they read from the
answers is in ``test_dataminer_clients``; here each gets what the program has made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from portal import Phase, Portal
from script_clients import RClient, TemplateClient, plain_open, portlet_result
from service_fixture import Service
from sortapp_sample import SAMPLE, assert_sorted_zip
from storagehub_fixture import ALICE, HubClient

from die_algorithm.description import IDENTIFIER

PROGRAM = {"Image": "d4science/sortapp", "CommandName": "sortapp"}


@pytest.fixture
def link(alice: HubClient, item: str) -> str:
    """The public link of the sample file, as the portal gets it from StorageHub."""
    return str(alice.get(f"/items/{item}/publiclink").json())


@pytest.fixture
def portal(service: Service) -> Iterator[Portal]:
    with closing(Portal(service.wps, ALICE.name, ALICE.token)) as portal:
        portal.operators()
        yield portal


def test_the_portal_gets_the_zip_of_a_file_by_its_public_link(
    portal: Portal, link: str, tmp_path: Path
) -> None:
    _, location = portal.start(IDENTIFIER, {**PROGRAM, "FileParam": link})
    while (shown := portal.look(location)).phase in (Phase.ACCEPTED, Phase.RUNNING):
        time.sleep(0.1)
    assert shown.phase is Phase.COMPLETE, shown
    resources = [each for found in portal.results(location).values() for each in found]
    assert_sorted_zip(plain_open(resources[-1].data), tmp_path)


def test_the_portals_request_pasted_gives_the_same(
    portal: Portal, link: str, tmp_path: Path
) -> None:
    """W2, as the stored requests have it: the link percent-encoded once, with its ``=``."""
    assert link.endswith("=")
    url = portal.request_to_show(IDENTIFIER, {**PROGRAM, "FileParam": link})
    # W5 reads it as well: one GET that waits, and the second Result.
    assert_sorted_zip(plain_open(portlet_result(url)), tmp_path)


def test_a_template_client_sends_the_content_itself(service: Service, tmp_path: Path) -> None:
    """W3."""
    client = TemplateClient(service.wps, ALICE.token)
    found = client.run(IDENTIFIER, PROGRAM, contents={"FileParam": SAMPLE.read_text()})
    assert_sorted_zip(plain_open(found.result), tmp_path)
    assert ALICE.token.encode() not in plain_open(found.log)


def test_the_wikis_request_takes_the_link_as_it_is(
    service: Service, link: str, tmp_path: Path
) -> None:
    """W1: nothing is encoded, and there is a semicolon at the end."""
    inputs = ";".join(f"{name}={value}" for name, value in (PROGRAM | {"FileParam": link}).items())
    url = (
        f"{service.wps}?request=Execute&service=WPS&Version=1.0.0&gcube-token={ALICE.token}"
        f"&lang=en-US&Identifier={IDENTIFIER}&DataInputs={inputs};"
    )
    assert_sorted_zip(plain_open(portlet_result(url)), tmp_path)


def test_r_gets_the_zip(service: Service, item: str, tmp_path: Path) -> None:
    client = RClient(service.wps, RClient.basic(ALICE.name, ALICE.token))
    document = client.execute(IDENTIFIER, {**PROGRAM, "FileParam": item})
    addresses = document.xpath("//*[local-name()='Result']/*[local-name()='Data']/text()")
    assert isinstance(addresses, list)
    assert_sorted_zip(plain_open(str(addresses[-1])), tmp_path)
