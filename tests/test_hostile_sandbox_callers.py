"""The sandbox listens on a port that every page in a browser and every user of the machine can reach."""

import asyncio
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import PATIENCE, Ended, WatchedSandbox, listening

from jobs.sandbox import Sandbox, serve, server

Command = Callable[..., Ended]
Start = Callable[..., "subprocess.Popen[str]"]


def ask(url: str, host: str | None, path: str = "/_sandbox/stats", address: str = "") -> int:
    """Return the status that is answered to a request with this `Host`."""
    place = urlsplit(url)
    lines = [f"GET {path} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), "Connection: close"]
    with socket.create_connection((address or place.hostname, place.port or 80), PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = connection.makefile("rb").read()
    return int(answer.split()[1])


def address_of_this_machine() -> str:
    """Return an address of this machine other than the loopback one, or skip the test."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no other address")
        return str(asking.getsockname()[0])


@pytest.mark.parametrize("port", ["", ":80", ":{port}"])
@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "127.0.0.1", "127.0.0.2", "[::1]"])
def test_its_own_names_are_answered(sandbox: WatchedSandbox, name: str, port: str) -> None:
    assert ask(sandbox.url, name + port.format(port=urlsplit(sandbox.url).port)) == 200


@pytest.mark.parametrize("path", ["/_sandbox/stats", "/v3", "/v1/p/cloudservers/fpga_image/detail", "/"])
@pytest.mark.parametrize(
    "name",
    [
        *("evil.example", "evil.example:8088", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("192.0.2.7", "user@evil.example", "[::2]", "[", "", None),
    ],
)
def test_a_name_that_is_not_its_own_gets_nothing(
    sandbox: WatchedSandbox, name: str | None, path: str
) -> None:
    assert ask(sandbox.url, name, path) in (400, 421)
    assert sandbox.requests == 0


def test_where_it_listens_on_all_addresses_they_are_its_names_and_others_are_not(start: Start) -> None:
    address = address_of_this_machine()
    process = start("sandbox", "--port", "0", "--host", "0.0.0.0")
    assert process.stdout
    url = process.stdout.readline().strip()
    for name in (address, "127.0.0.1", "localhost", "192.0.2.7"):
        assert ask(url, name, address=address) == 200
    assert ask(url, "evil.example", address=address) == 421
    assert ask(url, "", address=address) in (400, 421)


def test_where_it_listens_by_name_that_is_its_name(start: Start) -> None:
    process = start("sandbox", "--port", "0", "--host", socket.gethostname())
    assert process.stdout
    url = process.stdout.readline().strip()
    if not url:
        pytest.skip("this machine's own name leads nowhere")
    assert ask(url, socket.gethostname()) == 200
    assert ask(url, "evil.example") == 421


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v3/auth/tokens"),
        ("PUT", "/_sandbox/faults"),
        ("POST", "/v1/p/cloudservers/fpga_image/f/association"),
    ],
)
@pytest.mark.parametrize("is_told", [True, False])
def test_a_large_body_of_somebody_unknown_is_not_read(
    sandbox: WatchedSandbox, method: str, path: str, is_told: bool
) -> None:
    place = urlsplit(sandbox.url)
    size = f"Content-Length: {1 << 30}" if is_told else "Transfer-Encoding: chunked"
    piece = b"x" * 65536 if is_told else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with socket.create_connection((place.hostname, place.port), PATIENCE) as connection:
        connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{size}\r\n\r\n".encode())
        connection.sendall(piece * 2)  # more than that is not waited for
        assert connection.recv(12) == b"HTTP/1.1 413"
    assert sandbox.requests == 0


@pytest.mark.parametrize(
    "begun",
    [
        "",
        "GET / HTTP/1.1\r\nHost: localhost\r\n",
        "POST /v3/auth/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
    ],
)
async def test_a_request_that_never_comes_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    monkeypatch.setattr(server, "_PATIENCE", 0.2)
    async with serve(Sandbox()) as url:
        place = urlsplit(url)
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(begun.encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
    assert answer[:12] in (b"", b"HTTP/1.1 408")


def test_a_catalogues_password_is_not_printed(start: Start, tmp_path: Path) -> None:
    accounts = {"users": [{"name": "robot", "password": "a-real-password"}]}
    (tmp_path / "catalogue.json").write_text(json.dumps({"accounts": accounts}))
    process = start("sandbox", "--port", "0", "--catalogue", "catalogue.json")
    assert process.stdout
    assert process.stdout.readline()
    process.terminate()
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert "a-real-password" not in stdout + stderr
    assert "OS_USERNAME=robot" in stderr
    assert "# and OS_PASSWORD, which the catalogue has for robot" in stderr


@pytest.mark.parametrize(
    "accounts",
    [
        {"tokens": [{"token": "a-real-secret x"}]},
        {"tokens": [{"token": "a-real-secret"}, {"token": "a-real-secret"}]},
        {"tokens": [{"token": ["a-real-secret"]}]},
        {"users": [{"name": "robot", "password": {"a": "a-real-secret"}}]},
        {"access_keys": [{"ak": "AK", "sk": ["a-real-secret"]}]},
        {"access_keys": [{"ak": "AK", "sk": "sk", "security_token": 7}]},
    ],
)
def test_an_error_in_a_catalogue_shows_no_secret(
    command: Command, tmp_path: Path, accounts: dict[str, object]
) -> None:
    (tmp_path / "catalogue.json").write_text(json.dumps({"accounts": accounts}))
    ended = command("sandbox", "--port", "0", "--catalogue", "catalogue.json")
    assert ended.exit_code == 65
    assert "catalogue.json: accounts." in ended.stderr
    assert "a-real-secret" not in ended.stderr


def test_the_authority_that_it_writes_is_nobody_elses_to_change(start: Start, tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        process = start("sandbox", "--port", "0", "--tls", "ca.pem")
    finally:
        os.umask(before)
    assert process.stdout
    assert process.stdout.readline()
    assert (tmp_path / "ca.pem").stat().st_mode & 0o777 == 0o644


def test_a_run_by_every_name_of_its_own_goes_through(command: Command, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(
        f"fpga_image_id,image_id\n{7:032x},ec500000-0000-4000-8000-{7:012x}\n"
    )
    with listening(WatchedSandbox()) as url:
        for host in ("127.0.0.1", "localhost"):
            there = url.replace("127.0.0.1", host)
            assert command("associate", "pairs.csv", service=there).exit_code == 0
