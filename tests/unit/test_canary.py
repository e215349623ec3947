from __future__ import annotations

import base64
import gzip
import logging
import sqlite3
import zipfile
from pathlib import Path

import pytest
from canary import LogWatch, Search, assert_none, search_of
from storagehub_fixture import ALICE, BOB, HubUser, write_users

TOKEN = ALICE.token


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that is left out when all tests have ended."""
    (tmp_path / "canaries").mkdir()
    return tmp_path / "canaries"


@pytest.mark.parametrize(
    "form",
    [
        TOKEN, TOKEN[:12], TOKEN.encode("utf-16-le").decode("latin-1"),
        *(base64.b64encode(b"alice"[:n] + TOKEN.encode()).decode() for n in range(5)),
        *(base64.urlsafe_b64encode(b"?>"[:n] + TOKEN.encode()).decode() for n in range(3)),
    ],
)  # fmt: skip
def test_every_form_of_a_token_is_found_where_it_is(place: Path, form: str) -> None:
    (place / "below").mkdir()
    (place / "below" / "log").write_bytes(b"x" * 7 + form.encode("latin-1") + b"y")
    (found,) = Search().folder(place)
    assert found.where == "below/log"
    assert 7 <= found.offset <= 16


def test_a_token_is_found_across_the_cuts_of_reading(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("canary._CHUNK", 64)
    for before in range(130):
        (place / "log").write_bytes(b"x" * before + TOKEN.encode())
        assert {found.offset for found in Search().folder(place)} == {before}


def test_names_zips_and_databases_are_searched(place: Path) -> None:
    (place / TOKEN).touch()
    with zipfile.ZipFile(place / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", f"{TOKEN} " * 9)
    database = sqlite3.connect(place / "jobs.sqlite")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (c)")
    database.execute("INSERT INTO t VALUES (?)", (BOB.token,))
    database.commit()
    places = {found.where.partition(",")[0] for found in Search().folder(place)}
    database.close()
    assert places == {f"the name {TOKEN}", "a.zip", "jobs.sqlite-wal"}


def test_the_users_of_any_storagehub_are_searched_for(place: Path) -> None:
    carol = HubUser("carol.test", "ca201000-0000-4000-8000-000000000003-98187548")
    write_users(place / "users.toml", [carol])
    (place / "hub").mkdir()
    (place / "hub" / "hers").write_text(carol.token)
    (place / "log").write_text(carol.token)
    assert [found.where for found in search_of(place).folder(place)] == ["log"]


def test_nothing_is_found_where_nothing_is(place: Path) -> None:
    (place / "log").write_bytes(gzip.compress(b"x") + b"alice.test a11ce000")
    assert list(Search().folder(place)) == []
    assert_none(b"die-a11ce000-1", "a document")


def test_documents_and_records_are_looked_at() -> None:
    with pytest.raises(AssertionError, match="a document"):
        assert_none(f"<a>{TOKEN}</a>".encode(), "a document")
    watch = LogWatch()
    logger = logging.Logger("any")  # noqa: LOG001 - one that nobody else hears
    logger.addHandler(watch)
    logger.warning("%s", TOKEN)
    (found,) = watch.found
    assert "test_documents_and_records" in found.where


def test_a_record_of_what_is_usual_is_looked_at(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = logging.getLogger("die_algorithm")
    # The watch over all tests would find it, too: it is masked by nobody here.
    monkeypatch.setattr(own, "handlers", [])
    caplog.set_level(logging.WARNING, own.name)
    watch = LogWatch()
    watch.install()
    # No module's logger: a service in this process may guard those.
    logging.getLogger("die_algorithm.unguarded").info("%s", TOKEN)
    watch.remove()
    assert own.level == logging.WARNING
    assert [found.shown for found in watch.found] == [TOKEN[:12]]


@pytest.mark.parametrize("before", [0, 50, 200])
def test_a_large_member_of_a_zip_is_searched(
    place: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr("canary._CHUNK", 64)
    with zipfile.ZipFile(place / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", "x" * before + TOKEN)
    assert {found.offset for found in Search().folder(place)} == {before}
