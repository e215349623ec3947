"""The process in somebody else's PyWPS service, with one line and that developer's own server."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from lxml import etree
from ogc import assert_valid
from owslib.wps import ASYNC, SYNC, WebProcessingService, monitorExecution
from service_fixture import free_port
from storagehub_fixture import ALICE
from swarm_fixture import SORTAPP

from die_algorithm.description import IDENTIFIER
from die_algorithm.settings import Settings

# What the developer writes: his service, and the folder of outputs served as it is.
APPLICATION = """
import sys
from pywps import Service
from werkzeug.middleware.shared_data import SharedDataMiddleware
from werkzeug.serving import make_server
from die_algorithm.process import DockerImageExecutor

service = Service([DockerImageExecutor()], [sys.argv[1]])
application = SharedDataMiddleware(service, {"/outputs": sys.argv[2]})
make_server("127.0.0.1", int(sys.argv[3]), application, threaded=True).serve_forever()
"""


@pytest.fixture(scope="module")
def guest(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("guest")
    outputs = folder / "outputs"
    outputs.mkdir()
    port = free_port()
    configuration = folder / "pywps.cfg"
    configuration.write_text(
        f"[server]\nurl=http://127.0.0.1:{port}/wps\noutputurl=http://127.0.0.1:{port}/outputs\n"
        f"outputpath={outputs}\nworkdir={folder}\n[logging]\ndatabase=sqlite:///{folder}/log.db\n"
        f"[die]\ndata_dir={folder}/die\nstoragehub_url={settings.storagehub_url}\n"
        f"docker_host={settings.docker_host}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", APPLICATION, configuration, outputs, str(port)],
            env={**os.environ, "PYWPS_CFG": str(configuration)},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/wps?service=WPS&request=GetCapabilities")
        yield f"http://127.0.0.1:{port}/wps"
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the guest's service did not start")


@pytest.mark.parametrize("mode", [SYNC, ASYNC])
def test_owslib_runs_the_main_job_in_a_foreign_service(
    guest: str, item: str, tmp_path: Path, mode: str
) -> None:
    wps = WebProcessingService(guest, headers={"gcube-token": ALICE.token})
    inputs = [("Image", SORTAPP), ("CommandName", "sortapp"), ("FileParam", item)]
    execution = wps.execute(IDENTIFIER, inputs, output=[("Result", True)], mode=mode)
    monitorExecution(execution, sleepSecs=0.2)
    assert execution.isSucceded(), execution.errors
    target = tmp_path / "result.zip"
    execution.getOutput(str(target))
    with zipfile.ZipFile(io.BytesIO(target.read_bytes())) as archive:
        assert archive.testzip() is None
        assert any(name.endswith("/elements.txt") for name in archive.namelist())


def test_the_documents_of_a_foreign_service_are_valid(guest: str, item: str) -> None:
    query = {
        "service": "WPS",
        "version": "1.0.0",
        "request": "Execute",
        "Identifier": IDENTIFIER,
        "DataInputs": f"Image=d4science%2Fsortapp;CommandName=sortapp;FileParam={item}",
        "storeExecuteResponse": "true",
        "status": "true",
        "gcube-token": ALICE.token,
    }
    answer = requests.get(guest, params=query, timeout=60)
    assert_valid(answer.content)
    location = etree.fromstring(answer.content).attrib["statusLocation"]
    while True:
        document = requests.get(location, timeout=60).content
        assert_valid(document)
        if b"ProcessSucceeded" in document:
            break
        assert b"ProcessFailed" not in document, document
        time.sleep(0.1)
    assert ALICE.token.encode() not in document


def test_a_foreign_service_refuses_bad_input_before_anything_is_created(guest: str) -> None:
    query = {
        "service": "WPS",
        "version": "1.0.0",
        "request": "Execute",
        "Identifier": IDENTIFIER,
        "DataInputs": "Image=evil.com/x;CommandName=x;FileParam=12345678",
    }
    answer = requests.get(guest, params=query, headers={"gcube-token": ALICE.token}, timeout=60)
    assert answer.status_code == 400
    assert 'locator="Image"' in answer.text
