"""What a registry tells about images: Debian's docker-registry, and one that does not behave."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from raw_server import Answer, Connection, RawServer, http, json_answer
from swarm_fixture import PROBE, PROBE_VARIANT

from die_algorithm.errors import (
    ImageDoubtful,
    ImageNotFound,
    ImageUnusable,
    RegistryLimits,
    RegistryUnavailable,
)
from die_algorithm.image_reference import ImageReference
from die_algorithm.local_swarm import LocalSwarm
from die_algorithm.models import TOKEN_FILE_LABEL
from die_algorithm.registry import Registry, this_platform
from die_algorithm.swarm import Swarm

IMAGE = ImageReference.parse("u/r")
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.oci.image.index.v1+json"


# -- the real one


@pytest.fixture(scope="module")
def real(swarm: LocalSwarm) -> Iterator[Registry]:
    with closing(Registry(swarm.registry_url, this_platform(), 10)) as registry:
        yield registry


def test_a_tag_means_what_it_means_to_the_engine(real: Registry, swarm: LocalSwarm) -> None:
    image = ImageReference.parse(PROBE)
    with closing(Swarm(swarm.docker_host)) as engine:
        assert real.resolve(image).digest == engine.resolve_digest(image)


def test_size_and_labels_are_known(real: Registry) -> None:
    facts = real.resolve(ImageReference.parse(PROBE))
    assert facts.size is not None
    assert 100_000 < facts.size < 10_000_000
    assert not facts.wants_token_file
    assert real.resolve(ImageReference.parse(PROBE_VARIANT)).wants_token_file


def test_a_digest_is_itself(real: Registry) -> None:
    image = ImageReference.parse(PROBE)
    facts = real.resolve(image)
    assert real.resolve(image.pinned(facts.digest)) == facts


@pytest.mark.parametrize("suffix", [":missing", "-missing", "@sha256:" + "0" * 64])
def test_what_is_not_there_is_not_found(real: Registry, suffix: str) -> None:
    image = ImageReference.parse(PROBE + suffix)
    with pytest.raises(ImageNotFound, match="does not exist on Docker Hub") as caught:
        real.resolve(image)
    assert image.familiar in str(caught.value)


def test_an_image_for_another_platform_is_unusable(swarm: LocalSwarm) -> None:
    with (
        closing(Registry(swarm.registry_url, "linux/s390x", 10)) as registry,
        pytest.raises(ImageUnusable, match="no variant for linux/s390x"),
    ):
        registry.resolve(ImageReference.parse(PROBE))


def test_no_container_reaches_the_registry_of_a_private_swarm(swarm: LocalSwarm) -> None:
    with closing(Registry(swarm.registry_url, this_platform(), 10)) as registry:
        registry.resolve(ImageReference.parse(PROBE))  # the host does
    host, _, port = swarm.registry_url.removeprefix("http://").partition(":")
    # The gateway of the engine's own bridge is an address of the same machine.
    tries = "; ".join(
        f"nc -w 2 {address} {port} </dev/null && echo reached" for address in (host, "172.17.0.1")
    )
    output = swarm.engine.docker("run", "--rm", PROBE, "sh", "-c", f"{tries}; echo tried")
    assert output.split() == ["tried"]


# -- one that is played


def document(content: Mapping[str, object]) -> tuple[str, bytes]:
    """A document and the digest it is known by."""
    body = json.dumps(content).encode()
    return "sha256:" + hashlib.sha256(body).hexdigest(), body


def layers(count: int = 1, size: int = 1000) -> list[dict[str, object]]:
    return [{"digest": "sha256:" + "1" * 64, "size": size} for _ in range(count)]


class Played:
    """A registry with documents, and what it answers instead of some of them."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.instead: dict[str, Answer] = {}

    def add(self, content: Mapping[str, object]) -> str:
        digest, body = document(content)
        self.documents[digest] = body
        return digest

    def add_image(self, *, os: str = "linux", count: int = 1, **config: object) -> str:
        configured = self.add({"os": os, "architecture": "amd64", **config})
        described = {"digest": configured, "size": 100}
        return self.add({"schemaVersion": 2, "config": described, "layers": layers(count)})

    def __call__(self, connection: Connection) -> None:
        request = connection.request
        assert request is not None
        what = request.target.rpartition("/")[2]
        instead = self.instead.get(f"{request.method} {what}", self.instead.get(what))
        if callable(instead):
            instead(connection)
        elif instead is not None:
            connection.send(instead)
        else:
            digest = self.tags.get(what, what)
            body = self.documents.get(digest)
            if body is None:
                connection.send(json_answer({"errors": []}, "404 Not Found"))
                return
            answer = http("200 OK", body, f"Docker-Content-Digest: {digest}")
            connection.send(
                answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
                if request.method == "HEAD"
                else answer
            )


@pytest.fixture
def played() -> Played:
    return Played()


@contextlib.contextmanager
def asked(played: Played, timeout: float = 5) -> Iterator[tuple[Registry, RawServer]]:
    with RawServer(played) as server:
        url = f"http://127.0.0.1:{server.port}"
        with closing(Registry(url, "linux/amd64", timeout)) as registry:
            yield registry, server


def resolved(played: Played, timeout: float = 5) -> str:
    with asked(played, timeout) as (registry, _):
        return registry.resolve(IMAGE).digest


def test_of_an_index_the_variant_for_the_platform_counts(played: Played) -> None:
    variant = played.add_image(count=3)
    other = {"digest": "sha256:" + "2" * 64, "size": 1}
    index = played.add(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                other | {"platform": {"os": "linux", "architecture": "arm64"}},
                {
                    "digest": variant,
                    "size": 9,
                    "platform": {"os": "linux", "architecture": "amd64"},
                },
                other | {"platform": {"os": "unknown", "architecture": "unknown"}},
            ],
        }
    )
    played.tags["latest"] = index
    with asked(played) as (registry, _):
        facts = registry.resolve(IMAGE)
    assert (facts.digest, facts.size) == (index, 3000)


def amd64(digest: str, **more: object) -> dict[str, object]:
    platform = {"os": "linux", "architecture": "amd64"} | more
    return {"digest": digest, "size": 9, "platform": platform}


def test_of_several_variants_for_the_platform_the_largest_counts(played: Played) -> None:
    # Which of them an engine takes depends on its processor, not on their order.
    small, large = played.add_image(count=1), played.add_image(count=60)
    for variants in ([amd64(small, variant="v9"), amd64(large)], [amd64(large), amd64(small)]):
        played.tags["latest"] = index = played.add({"manifests": variants})
        with asked(played) as (registry, _):
            facts = registry.resolve(IMAGE)
        assert (facts.digest, facts.size) == (index, 60_000)


@pytest.mark.parametrize(
    "other",
    [
        {"architecture": "x86_64"},
        {"architecture": "AMD64"},
        {"os": ""},
        {"os": None},
    ],
)
def test_variants_are_known_by_all_names_that_engines_know(
    played: Played, other: dict[str, object]
) -> None:
    small, large = played.add_image(count=1), played.add_image(count=60)
    played.tags["latest"] = played.add({"manifests": [amd64(large, **other), amd64(small)]})
    with asked(played) as (registry, _):
        assert registry.resolve(IMAGE).size == 60_000


@pytest.mark.parametrize("common", [True, False])
def test_an_index_of_which_engines_may_run_another_platforms_variant_is_unusable(
    played: Played, *, common: bool
) -> None:
    small, large = played.add_image(count=1), played.add_image(count=60)
    variants = [amd64(small, variant="v9"), amd64(large, architecture="386")]
    index = played.tags["latest"] = played.add({"manifests": variants + [amd64(small)] * common})
    if common:
        assert resolved(played) == index
    else:
        with pytest.raises(ImageUnusable, match="no variant for linux/amd64"):
            resolved(played)


def test_an_index_in_an_index_is_followed(played: Played) -> None:
    image = played.add_image(count=3)
    inner = played.add({"manifests": [amd64(image), amd64("x", architecture="arm64")]})
    for entry in ({"digest": inner, "size": 9}, amd64(inner)):
        index = played.tags["latest"] = played.add({"manifests": [entry]})
        with asked(played) as (registry, _):
            facts = registry.resolve(IMAGE)
        assert (facts.digest, facts.size) == (index, 3000)
    for _ in range(2):
        inner = played.tags["latest"] = played.add({"manifests": [amd64(inner)]})
    with pytest.raises(ImageUnusable, match="no image that an engine can run"):
        resolved(played)


def test_of_variants_without_a_platform_their_configurations_tell(played: Played) -> None:
    arm64 = played.add({"os": "linux", "architecture": "arm64"})
    other = played.add({"config": {"digest": arm64, "size": 9}, "layers": layers()})
    mine = played.add_image(config={"Labels": {TOKEN_FILE_LABEL: "true"}})
    entries = [{"digest": digest, "size": 9} for digest in (other, mine)]
    played.tags["latest"] = played.add({"manifests": entries})
    with asked(played) as (registry, _):
        assert registry.resolve(IMAGE).wants_token_file
    played.tags["latest"] = played.add({"manifests": entries[:1]})
    with pytest.raises(ImageUnusable, match="no variant for linux/amd64"):
        resolved(played)


def test_an_index_of_very_many_variants_is_not_followed(played: Played) -> None:
    one = amd64(played.add_image())
    played.tags["latest"] = played.add({"manifests": [one] * 9})
    with pytest.raises(ImageUnusable):
        resolved(played)


def test_what_an_index_says_of_other_platforms_does_not_matter(played: Played) -> None:
    digest = played.add_image()
    others = [{"digest": "sha512:" + "1" * 128, "size": 1}, {"digest": "x", "platform": None}]
    for mine in (amd64(digest), {"digest": digest, "size": 9, "platform": None}):
        rest = others if "amd64" in str(mine) else []
        played.tags["latest"] = index = played.add({"manifests": [*rest, mine]})
        assert resolved(played) == index
    played.tags["latest"] = played.add({"manifests": [amd64("sha512:" + "1" * 128)]})
    with pytest.raises(ImageUnusable):
        resolved(played)


@pytest.mark.parametrize(
    "more",
    [
        '"Layers": [{"digest": "sha256:%s", "size": 60000000000}]' % ("2" * 64),
        '"layer\u017f": []',
        '"layers": []',
        '"manifests": []',
        '"CONFIG": {}',
    ],
)
def test_a_document_that_engines_read_otherwise_is_no_image(played: Played, more: str) -> None:
    digest = played.add_image()
    body = played.documents[digest][:-1] + f", {more}}}".encode()
    evil = "sha256:" + hashlib.sha256(body).hexdigest()
    played.documents[evil] = body
    played.tags["latest"] = evil
    with pytest.raises(ImageUnusable, match="no image that an engine can run"):
        resolved(played)


@pytest.mark.parametrize("place", ["config", "layers", "manifests"])
def test_an_image_that_would_lead_engines_to_other_addresses_is_unusable(
    played: Played, place: str
) -> None:
    digest = played.tags["latest"] = played.add_image(count=2)
    content = json.loads(played.documents[digest])
    if place == "manifests":
        content = {"manifests": [amd64("x", architecture="arm64"), amd64(digest)]}
    nothing: tuple[object, ...] = (None, [])
    for urls in nothing:
        last(content[place])["urls"] = urls
        played.tags["latest"] = played.add(content)
        resolved(played)
    last(content[place])["urls"] = ["http://169.254.169.254/latest/meta-data"]
    played.tags["latest"] = played.add(content)
    with pytest.raises(ImageUnusable, match="lie elsewhere than in its registry"):
        resolved(played)


@pytest.mark.parametrize("place", ["config", "layers"])
@pytest.mark.parametrize("kind", [MANIFEST, INDEX])
def test_an_image_with_another_one_for_a_part_is_unusable(
    played: Played, place: str, kind: str
) -> None:
    # Engines would fetch what that one names, of which nothing was looked at here.
    content = json.loads(played.documents[played.add_image(count=2)])
    last(content[place])["mediaType"] = kind
    played.tags["latest"] = played.add(content)
    with pytest.raises(ImageUnusable, match="no image that an engine can run"):
        resolved(played)


def last(part: Any) -> dict[str, object]:
    """A descriptor, or the last of several."""
    found: dict[str, object] = part[-1] if isinstance(part, list) else part
    return found


def test_annotations_may_be_named_as_one_likes(played: Played) -> None:
    annotations = {"size": "1", "Size": "2", "LAYERS": "3"}
    configured = played.add({"os": "linux", "architecture": "amd64", "config": annotations})
    described = {"digest": configured, "size": 100, "annotations": annotations}
    content = {"config": described, "layers": layers(), "annotations": annotations}
    digest = played.tags["latest"] = played.add(content)
    assert resolved(played) == digest


def test_an_index_without_the_platform_is_unusable(played: Played) -> None:
    one = {
        "digest": "sha256:" + "2" * 64,
        "size": 1,
        "platform": {"os": "windows", "architecture": "amd64"},
    }
    played.tags["latest"] = played.add({"manifests": [one]})
    with pytest.raises(ImageUnusable, match="no variant for linux/amd64"):
        resolved(played)


def test_a_second_question_about_a_digest_fetches_nothing(played: Played) -> None:
    played.tags["latest"] = played.add_image()
    with asked(played) as (registry, server):
        registry.resolve(IMAGE)
        before = len(server.requests)
        registry.resolve(IMAGE)
        assert [request.method for request in server.requests[before:]] == ["HEAD"]


def test_a_registry_that_names_no_digest_is_asked_for_the_document(played: Played) -> None:
    digest = played.tags["latest"] = played.add_image()
    played.instead["HEAD latest"] = http("200 OK")
    assert resolved(played) == digest


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("404 Not Found", ImageNotFound),
        ("403 Forbidden", ImageNotFound),
        ("401 Unauthorized", ImageNotFound),
        ("429 Too Many Requests", RegistryLimits),
        ("500 Internal Server Error", RegistryUnavailable),
        ("503 Service Unavailable", RegistryUnavailable),
        ("408 Request Timeout", RegistryUnavailable),
        ("400 Bad Request", ImageDoubtful),
        ("451 Unavailable For Legal Reasons", ImageDoubtful),
    ],
)
def test_refusals_are_told_apart(played: Played, status: str, error: type[Exception]) -> None:
    played.instead["latest"] = http(status)
    with pytest.raises(error) as caught:
        resolved(played)
    assert type(caught.value) is error


def test_nobody_learns_whether_an_image_is_private_or_is_not_there(played: Played) -> None:
    told = set()
    for status in ("404 Not Found", "410 Gone", "403 Forbidden", "401 Unauthorized"):
        played.instead["latest"] = http(status)
        with pytest.raises(ImageNotFound) as caught:
            resolved(played)
        told.add(str(caught.value))
    assert len(told) == 1


def test_an_image_of_which_a_part_is_missing_is_neither_gone_nor_keeps_the_others_waiting(
    played: Played,
) -> None:
    digest = played.tags["latest"] = played.add_image()
    config = json.loads(played.documents[digest])["config"]["digest"]
    for status in ("404 Not Found", "403 Forbidden"):
        played.instead[config] = http(status)
        with pytest.raises(ImageDoubtful):
            resolved(played)


PAGE = b"<html>Please log in to the network.</html>"


@pytest.mark.parametrize(
    "answer",
    [
        http("200 OK", PAGE, "Content-Type: text/html"),
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}",
    ],
)
def test_a_page_of_something_in_between_and_half_an_answer_are_outages(
    played: Played, answer: bytes
) -> None:
    played.tags["latest"] = played.add_image()
    played.instead["latest"] = answer
    with pytest.raises(RegistryUnavailable) as caught:
        resolved(played)
    assert not isinstance(caught.value, ImageDoubtful)


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_a_registry_says_how_long_it_wants_to_be_left_alone(played: Played, status: str) -> None:
    played.instead["latest"] = http(status, b"", "Retry-After: 600")
    with pytest.raises(RegistryUnavailable) as caught:
        resolved(played)
    assert caught.value.retry_after == 600


def test_what_was_found_is_known_without_a_question_and_confirmed_by_one(played: Played) -> None:
    digest = played.tags["latest"] = played.add_image()
    with asked(played) as (registry, server):
        pinned = IMAGE.pinned(digest)
        assert registry.known(pinned) is None
        facts = registry.resolve(IMAGE)
        before = len(server.requests)
        assert registry.known(pinned) == facts
        assert server.requests[before:] == []
        registry.confirm(pinned)
        # As an engine does: only this is counted, and only this is limited.
        assert [request.method for request in server.requests[before:]] == ["GET"]
        played.instead[digest] = http("429 Too Many Requests")
        with pytest.raises(RegistryLimits):
            registry.confirm(pinned)
        del played.documents[digest], played.instead[digest]
        with pytest.raises(ImageNotFound):
            registry.confirm(pinned)


@pytest.mark.parametrize(
    "content",
    [
        {"schemaVersion": 1, "fsLayers": []},
        {"schemaVersion": 2, "layers": layers()},
        {"config": {"digest": "sha256:" + "0" * 64, "size": 1}, "layers": []},
        {"config": {"digest": "../../etc/passwd", "size": 1}, "layers": layers()},
        {"config": {"digest": "sha256:" + "0" * 64, "size": -1}, "layers": layers()},
        {"manifests": "all"},
    ],
)
def test_what_no_engine_could_run_is_unusable(
    played: Played, content: Mapping[str, object]
) -> None:
    played.tags["latest"] = played.add(content)
    with pytest.raises(ImageUnusable):
        resolved(played)


def test_an_artifact_that_is_no_image_is_unusable(played: Played) -> None:
    played.tags["latest"] = played.add_image(os="")
    with pytest.raises(ImageUnusable, match="no image that an engine can run"):
        resolved(played)


def test_a_thousand_layers_are_too_many(played: Played) -> None:
    played.tags["latest"] = played.add_image(count=1000)
    with pytest.raises(ImageUnusable, match="1000 layers"):
        resolved(played)


def test_as_many_layers_are_taken_as_the_engine_takes(played: Played) -> None:
    digest = played.tags["latest"] = played.add_image(count=125)
    assert resolved(played) == digest
    played.tags["latest"] = played.add_image(count=126)
    with pytest.raises(ImageUnusable, match="126 layers"):
        resolved(played)


def test_a_signed_image_of_the_first_schema_is_the_images_fault(played: Played) -> None:
    digest = played.tags["latest"] = played.add_image()
    signed = {"schemaVersion": 1, "fsLayers": [], "signatures": []}
    played.instead[digest] = json_answer(signed)
    with pytest.raises(ImageUnusable, match="too old"):
        resolved(played)


def test_a_huge_description_is_not_read_to_its_end(played: Played) -> None:
    digest = played.tags["latest"] = played.add_image()

    def endless(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1600):
            connection.send(b" " * 65536)

    played.instead[digest] = endless
    with pytest.raises(ImageUnusable, match="description is larger"):
        resolved(played)


def test_a_configuration_of_very_many_labels_is_not_read_to_its_end(played: Played) -> None:
    for size in (10, 2 * 10**6):
        digest = played.tags["latest"] = played.add_image(config={"Labels": {"x": "x" * size}})
        assert resolved(played) == digest
    played.tags["latest"] = played.add_image(config={"Labels": {"x": "x" * 2**21}})
    with pytest.raises(ImageUnusable, match="description is larger than 2097152"):
        resolved(played)


@pytest.mark.parametrize("config", [None, {}, {"Labels": None}, {"Labels": {}}])
def test_an_image_may_have_no_labels(played: Played, config: object) -> None:
    digest = played.tags["latest"] = played.add_image(config=config)
    assert resolved(played) == digest


def test_a_document_that_is_not_the_one_asked_for_is_not_believed(played: Played) -> None:
    digest = played.tags["latest"] = played.add_image()
    played.instead[f"GET {digest}"] = http("200 OK", b'{"layers": []}')
    with pytest.raises(RegistryUnavailable, match="another document"):
        resolved(played)


@pytest.mark.parametrize("way", ["hang", "reset", "drip"])
def test_a_registry_that_does_not_answer_is_given_up_in_time(played: Played, way: str) -> None:
    def drip(connection: Connection) -> None:
        connection.drip((b"x" for _ in range(10**6)), 0.05)

    played.instead["latest"] = {
        "hang": Connection.hang,
        "reset": Connection.reset,
        "drip": drip,
    }[way]
    with pytest.raises(RegistryUnavailable):
        resolved(played, timeout=0.5)


def test_a_slow_document_does_not_outlast_the_time(played: Played) -> None:
    digest = played.tags["latest"] = played.add_image()

    def drip(connection: Connection) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n")
        connection.drip((b" " * 20_000 for _ in range(250)), 0.1)

    played.instead[digest] = drip
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="in time"):
        resolved(played, timeout=0.5)
    assert time.monotonic() - began < 10  # of 25 that it would have taken


# -- tokens and other hosts


@pytest.mark.parametrize("nothing", [{}, {"access_token": None, "expires_in": None}])
def test_the_token_that_everybody_gets_is_fetched_and_used(
    played: Played, nothing: Mapping[str, object]
) -> None:
    digest = played.tags["latest"] = played.add_image()

    def guarded(connection: Connection) -> None:
        request = connection.request
        assert request is not None
        if request.target.startswith("/token?"):
            connection.send(json_answer({"token": "for-everybody", "expires_in": 300, **nothing}))
        elif request.headers.get("authorization") == "Bearer for-everybody":
            played(connection)
        else:
            realm = f'Bearer realm="http://{request.headers["host"]}/token",service="hub"'
            connection.send(http("401 Unauthorized", b"", f"WWW-Authenticate: {realm}"))

    with RawServer(guarded) as server:
        url = f"http://127.0.0.1:{server.port}"
        with closing(Registry(url, "linux/amd64", 5)) as registry:
            assert registry.resolve(IMAGE).digest == digest
            registry.resolve(IMAGE)
        targets = [request.target for request in server.requests]
    tokens = [target for target in targets if target.startswith("/token?")]
    assert tokens == ["/token?service=hub&scope=repository%3Au%2Fr%3Apull"]


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="{realm}",service="hub",scope="x"',
        'Basic realm="x", Bearer realm="{realm}", service="hub"',
        'Bearer realm="{realm}",service="hub", Basic realm="http://elsewhere.example/"',
        'BEARER Realm="{realm}" , SERVICE=hub',
    ],
)
def test_the_challenge_for_a_token_is_found_among_others(played: Played, challenge: str) -> None:
    played.tags["latest"] = played.add_image()

    def guarded(connection: Connection) -> None:
        request = connection.request
        assert request is not None
        if request.target.startswith("/token?service=hub&"):
            connection.send(json_answer({"token": "for-everybody"}))
        elif request.headers.get("authorization") == "Bearer for-everybody":
            played(connection)
        else:
            wanted = challenge.format(realm=f"http://{request.headers['host']}/token")
            connection.send(http("401 Unauthorized", b"", f"WWW-Authenticate: {wanted}"))

    with RawServer(guarded) as server:
        url = f"http://127.0.0.1:{server.port}"
        with closing(Registry(url, "linux/amd64", 5)) as registry:
            registry.resolve(IMAGE)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        # There is no such service, or it does not take this name; whose it is does not matter then.
        ("404 Not Found", RegistryUnavailable),
        ("400 Bad Request", ImageDoubtful),
        ("405 Method Not Allowed", ImageDoubtful),
    ],
)
def test_what_refuses_a_token_for_one_name_may_give_it_for_others(
    refusal: str, error: type[Exception]
) -> None:
    def guarded(connection: Connection) -> None:
        request = connection.request
        assert request is not None
        realm = f'Bearer realm="http://{request.headers["host"]}/token"'
        status = refusal if "/token" in request.target else "401 Unauthorized"
        connection.send(http(status, b"", f"WWW-Authenticate: {realm}"))

    with RawServer(guarded) as server:
        url = f"http://127.0.0.1:{server.port}"
        with (
            closing(Registry(url, "linux/amd64", 5)) as registry,
            pytest.raises(error, match=f"HTTP {refusal[:3]}"),
        ):
            registry.resolve(IMAGE)


@pytest.mark.parametrize(
    "where", ["http://127.0.0.1:{port}/token", "file:///etc/passwd", "gopher://x/"]
)
def test_a_token_is_fetched_over_tls_or_from_the_registry_itself(
    played: Played, where: str
) -> None:
    with RawServer(json_answer({"token": "x" * 20})) as other:
        realm = f'Bearer realm="{where.format(port=other.port)}"'
        played.instead["latest"] = http("401 Unauthorized", b"", f"WWW-Authenticate: {realm}")
        with pytest.raises(RegistryUnavailable, match="not safe"):
            resolved(played)
        assert other.requests == []


def test_a_private_image_that_gets_no_token_is_not_found(played: Played) -> None:
    played.instead["latest"] = http("401 Unauthorized", b"", 'WWW-Authenticate: Basic realm="x"')
    with pytest.raises(ImageNotFound, match="or is not public"):
        resolved(played)


def test_a_redirect_to_an_unsafe_host_is_not_followed(played: Played) -> None:
    with RawServer(http("200 OK", b"{}")) as other:
        location = f"Location: http://127.0.0.1:{other.port}/x"
        played.instead["latest"] = http("307 Temporary Redirect", b"", location)
        with pytest.raises(RegistryUnavailable, match="not safe"):
            resolved(played)
        assert other.requests == []


@pytest.mark.parametrize("location", ["http://[", "//[x", "https://[::1"])
def test_a_redirect_to_a_broken_address_is_an_outage(played: Played, location: str) -> None:
    played.instead["latest"] = http("307 Temporary Redirect", b"", f"Location: {location}")
    with asked(played) as (registry, _), pytest.raises(RegistryUnavailable):
        registry.resolve(IMAGE)


def test_redirects_in_a_circle_end(played: Played) -> None:
    played.instead["latest"] = http("307 Temporary Redirect", b"", "Location: latest")
    with pytest.raises(RegistryUnavailable, match="for ever"):
        resolved(played)


@pytest.mark.usefixtures("password_file")
def test_nothing_of_the_machine_joins_a_question(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    played.tags["latest"] = played.add_image()
    with RawServer(http()) as proxy, asked(played) as (registry, server):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        registry.resolve(IMAGE)
        assert not proxy.requests
        assert server.requests
        for request in server.requests:
            assert not {"authorization", "cookie", "gcube-token"} & set(request.headers)
