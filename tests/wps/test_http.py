"""The HTTP server itself: methods, limits, idle and slow connections."""

from __future__ import annotations

import contextlib

import pytest
import requests
from service_fixture import Service, connect

from die_algorithm.web import WPS_PATH


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    with connect(service) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


def test_a_body_declared_too_large_is_refused_before_it_is_sent(service: Service) -> None:
    answer = raw(
        service,
        f"POST {WPS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\n"
        "Content-Length: 1000000000\r\n\r\n<a/>".encode(),
    )
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'exceptionCode="FileSizeExceeded"' in answer


@pytest.mark.parametrize(
    "request_line",
    [b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", b"\x00\x01\r\n\r\n"],
)
def test_what_is_no_http_is_refused_in_our_own_words(service: Service, request_line: bytes) -> None:
    answer = raw(service, request_line)
    assert b"ExceptionReport" in answer
    assert b"waitress" not in answer


def test_a_chunked_body_is_read_like_any_other(service: Service) -> None:
    body = b'<w:GetCapabilities xmlns:w="http://www.opengis.net/wps/1.0.0" service="WPS"/>'
    answer = raw(
        service,
        f"POST {WPS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nConnection: close\r\n"
        f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
        + body
        + b"\r\n0\r\n\r\n",
    )
    assert b"200 OK" in answer
    assert b"<wps:Capabilities" in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused_with_those_allowed(service: Service, method: str) -> None:
    answer = requests.request(method, service.wps, timeout=30)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD, POST"


def test_head_is_like_get_without_the_body(service: Service) -> None:
    query = {"service": "WPS", "request": "GetCapabilities"}
    head = requests.head(service.wps, params=query, timeout=30)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) > 0


def test_head_never_starts_a_job(service: Service, item: str) -> None:
    url = service.execute_url("t" * 36, Image="a/b", CommandName="c", FileParam=item)
    assert requests.head(url, timeout=30).status_code == 405


def test_five_hundred_idle_connections_keep_nobody_from_being_served(service: Service) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(connect(service)).sendall(b"GET / HT")
        assert service.get("/health").status_code == 200


def test_a_doubled_slash_finds_the_same_place(service: Service) -> None:
    url = f"{service.settings.url}/{WPS_PATH}?service=WPS&request=GetCapabilities"
    assert requests.get(url, timeout=30).status_code == 200
