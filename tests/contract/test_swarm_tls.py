"""An engine at ``tcp://`` that demands TLS: a TLS server in front of the stand-in engine's socket."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from doctor_fixture import ask_doctor
from stand_in_engine import StandInEngine

from die_algorithm.errors import SettingsError, SwarmUnavailable
from die_algorithm.swarm import Swarm

_DAY = datetime.timedelta(days=1)


class Authority:
    """One who vouches for others."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self.certificate = self._signed(self._name, self._key, None)

    def _signed(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, host: str | None
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        is_authority = x509.BasicConstraints(ca=host is None, path_length=None)
        builder = (
            x509.CertificateBuilder(self._name, name, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(is_authority, critical=True)
        )
        if host:
            names = [x509.IPAddress(ipaddress.ip_address(host))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def vouch(self, folder: Path, host: str = "127.0.0.1", password: str = "") -> Path:
        """Write ``cert.pem`` and ``key.pem`` of somebody, and ``ca.pem`` of whom he trusts."""
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            lock = serialization.BestAvailableEncryption(password.encode())
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock)
        certificate = self._signed(_name(folder.name), key, host)
        (folder / "ca.pem").write_bytes(self.certificate.public_bytes(pem))
        (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
        (folder / "key.pem").write_bytes(private)
        return folder


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@contextlib.contextmanager
def tls_in_front(socket_path: Path, files: Path) -> Iterator[str]:
    """Take connections of clients whose certificate is right, and hand what they say to a socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    threads: list[threading.Thread] = []

    def relay(client: socket.socket) -> None:
        with client.dup() as connection:
            talk(client)
            # Closed at once, it would be reset under the client who is still to read of the refusal.
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    pass

    def talk(client: socket.socket) -> None:
        with (
            client,
            contextlib.suppress(OSError),
            context.wrap_socket(client, server_side=True) as secure,
            socket.socket(socket.AF_UNIX) as engine,
        ):
            engine.connect(str(socket_path))
            # One thread for both ways: OpenSSL takes no two at one connection.
            while True:
                for source in select.select([secure, engine], [], [])[0]:
                    target = engine if source is secure else secure
                    if not (data := source.recv(65536)):
                        return
                    target.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.settimeout(10)
                threads.append(threading.Thread(target=relay, args=(client,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Whom the engine trusts, and who vouches for it."""
    return Authority("ours")


@pytest.fixture(scope="module")
def address(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine at ``tcp://`` that talks to those only whom the authority vouches for."""
    folder = tmp_path_factory.mktemp("engine")
    with (
        StandInEngine(folder / "engine.sock"),
        tls_in_front(folder / "engine.sock", authority.vouch(folder / "engine")) as address,
    ):
        yield address


def complaint(address: str, tls_dir: Path | None) -> SwarmUnavailable:
    """Why an engine cannot be asked."""
    with (
        contextlib.closing(Swarm(address, timeout=5, tls_dir=tls_dir)) as swarm,
        pytest.raises(SwarmUnavailable) as caught,
    ):
        swarm.facts()
    assert caught.value.__cause__ is None
    assert str(tls_dir) not in str(caught.value)
    return caught.value


def test_with_the_right_files_the_engine_is_asked(
    address: str, authority: Authority, tmp_path: Path
) -> None:
    with contextlib.closing(Swarm(address, tls_dir=authority.vouch(tmp_path / "tls"))) as swarm:
        assert swarm.facts().is_manager
        assert swarm.nodes()


def test_an_engine_whom_somebody_else_vouches_for_is_not_talked_to(
    address: str, authority: Authority, tmp_path: Path
) -> None:
    files = authority.vouch(tmp_path / "tls")
    stranger = Authority("stranger").vouch(tmp_path / "stranger")
    (files / "ca.pem").write_bytes((stranger / "ca.pem").read_bytes())
    error = complaint(address, files)
    assert str(error) == "The Docker engine's TLS certificate is not accepted."
    assert error.reason.startswith(f"{str(error)[:-1]}: ")


def test_an_engine_of_another_name_is_not_talked_to(authority: Authority, tmp_path: Path) -> None:
    other = authority.vouch(tmp_path / "engine", host="192.0.2.1")
    with (
        StandInEngine(tmp_path / "engine.sock"),
        tls_in_front(tmp_path / "engine.sock", other) as address,
    ):
        error = complaint(address, authority.vouch(tmp_path / "tls"))
    assert str(error) == "The Docker engine's TLS certificate is not accepted."
    assert "certificate is not valid for '127.0.0.1'" in error.reason


def test_an_engine_that_does_not_accept_the_certificate_is_told_as_such(
    address: str, authority: Authority, tmp_path: Path
) -> None:
    files = Authority("stranger").vouch(tmp_path / "tls")
    trusted = authority.vouch(tmp_path / "trusted") / "ca.pem"
    (files / "ca.pem").write_bytes(trusted.read_bytes())
    error = complaint(address, files)
    assert str(error) == "There is no TLS connection to the Docker engine."
    assert "unknown ca" in error.reason
    assert "'docker_tls_dir'" in error.reason


def test_an_engine_without_tls_is_told_as_such(authority: Authority, tmp_path: Path) -> None:
    def answer_in_plain() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_in_plain)
        thread.start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        error = complaint(address, authority.vouch(tmp_path / "tls"))
        thread.join()
    assert str(error) == "There is no TLS connection to the Docker engine."
    assert "wrong version number" in error.reason


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_file_that_is_missing_is_told_by_its_name(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    files = authority.vouch(tmp_path / "tls")
    (files / name).unlink()
    with pytest.raises(SettingsError) as caught:
        Swarm("tcp://127.0.0.1:9", tls_dir=files)
    assert str(caught.value) == (
        f"The file {files / name} of the setting 'docker_tls_dir' cannot be read: No such file or "
        "directory."
    )


def test_files_that_do_not_fit_together_are_refused(authority: Authority, tmp_path: Path) -> None:
    files, other = authority.vouch(tmp_path / "tls"), authority.vouch(tmp_path / "other")
    wrong = {
        "no certificate": ("ca.pem", b"nothing"),
        "another's key": ("key.pem", (other / "key.pem").read_bytes()),
        "a key with a password": (
            "key.pem",
            (authority.vouch(tmp_path / "locked", password="x") / "key.pem").read_bytes(),
        ),
    }
    for name, content in wrong.values():
        right = (files / name).read_bytes()
        (files / name).write_bytes(content)
        with pytest.raises(SettingsError, match="'docker_tls_dir', are not an authority's"):
            Swarm("tcp://127.0.0.1:9", tls_dir=files)
        (files / name).write_bytes(right)


def test_the_doctor_asks_by_tls_and_says_what_is_wrong_with_it(
    address: str, authority: Authority, tmp_path: Path
) -> None:
    files = authority.vouch(tmp_path / "tls")
    place = {"data_dir": tmp_path / "data", "docker_host": address}
    _, output = ask_doctor(**place, docker_tls_dir=files)
    assert "manages a Swarm of 1 node" in output
    stranger = Authority("stranger").vouch(tmp_path / "stranger")
    _, output = ask_doctor(**place, docker_tls_dir=stranger)
    assert "The Docker engine's TLS certificate is not accepted: " in output
    (files / "key.pem").unlink()
    _, output = ask_doctor(**place, docker_tls_dir=files)
    assert f"The file {files / 'key.pem'} of the setting 'docker_tls_dir' cannot be read" in output


@pytest.mark.parametrize(
    ("host", "warns"),
    [("127.0.0.1", False), ("[::1]", False), ("localhost", False), ("127.0.0.1.nip.invalid", True)],
)
def test_the_doctor_warns_of_plain_tcp_to_another_machine(
    tmp_path: Path, host: str, warns: bool
) -> None:
    _, output = ask_doctor(data_dir=tmp_path / "data", docker_host=f"tcp://{host}:9")
    assert ("warn  docker_host: The engine is asked without TLS" in output) is warns
