"""Pictures and tables of a result, listed between log and zip if the operator wants that."""

from __future__ import annotations

import io
import zipfile
from urllib.parse import quote

from lxml import etree
from ogc import texts
from quick_fixture import Quick, soon, status, submit
from service_fixture import Service
from storagehub_fixture import ALICE, hub_client

from die_algorithm.models import Job

PICTURE = b"\x89PNG" + bytes(100)
#: Ranges as clients write them, and what of the content they name.
RANGES = {"0-0": slice(1), "10-20": slice(10, 21), "10-": slice(10, None), "-5": slice(-5, None)}
NAME = "a b 图%2F?#.png"


def run(quick: Quick, service: Service) -> Job:
    """A job whose folder holds a table of the program's, and a picture and a text beside it."""
    job_id = submit(service, "probe write-slowly table.csv 60", quick.item)
    soon(lambda: "The program is running." in status(service, job_id))
    with hub_client(quick.hub, ALICE) as alice:
        (folder,) = (
            child["id"]
            for child in alice.children(alice.root())
            if child["name"] == f"die-{job_id}"
        )
        alice.upload(NAME, PICTURE, str(folder))
        alice.upload("note.txt", b"text", str(folder))
    quick.engine.let_end(job_id)
    job = service.runtime.engine.wait(job_id, 20)
    assert job.result, job.failure
    return job


def entries(service: Service, job: Job, what: str) -> list[str]:
    document = etree.fromstring(status(service, job.id).encode())
    return texts(document, f"//ogr:Result/d4science:{what}/text()")


def test_they_are_listed_and_given_alone(quick: Quick) -> None:
    with quick.service(single_file_limit="1KiB") as service:
        job = run(quick, service)
        described = entries(service, job, "Description")
        assert described[1:-1] == [NAME, "table.csv"]
        assert entries(service, job, "MimeType") == [
            "text/plain", "image/png", "text/csv", "application/zip",
        ]  # fmt: skip
        log, picture, table, whole = entries(service, job, "Data")
        assert log.endswith(".log")
        answer = service.get(picture)
        assert answer.content == PICTURE
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Length"] == str(len(PICTURE))
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Disposition"].endswith(f"filename*=UTF-8''{quote(NAME)}")
        assert service.get(table).text == "table.csv"
        for address in (picture, whole):
            content = service.get(address).content
            for asked, part in RANGES.items():
                answer = service.get(address, headers={"Range": f"bytes={asked}"})
                assert (answer.status_code, answer.content) == (206, content[part])
        with zipfile.ZipFile(io.BytesIO(service.get(whole).content)) as archive:
            assert archive.read(f"{job.folder_name}/table.csv") == b"table.csv"
        refused = [
            table.replace("table.csv", "note.txt"),
            table.replace("table.csv", "..%2Ftable.csv"),
            table.replace(job.result_key, "0" * 32),
            table.replace(job.id, job.id[::-1]),
        ]
        for address in refused:
            assert service.get(address).status_code == 404


def test_without_the_setting_there_are_log_and_zip(quick: Quick) -> None:
    with quick.service() as service:
        job = run(quick, service)
        addresses = entries(service, job, "Data")
        assert [address.rpartition(".")[2] for address in addresses] == ["log", "zip"]
        alone = addresses[1].removesuffix(".zip") + "/table.csv"
        assert service.get(alone).status_code == 404
