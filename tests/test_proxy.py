"""The real command through a proxy: which one, what it is told, and what its refusal means."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Ended, WatchedSandbox, listening
from support import PROJECT, TOKEN, fpga, image

from batch.errors import ConfigurationError
from batch.http.network import proxy_of
from jobs.sandbox import issue_certificate

Command = Callable[..., Ended]

HOST = "ecs.cn-north-1.example.invalid"
"""No name server knows it, so that whoever reaches it comes by the proxy."""


class Proxy:
    """A proxy that leads every tunnel to one place.

    Attributes:
        asked: the requests for a tunnel, each with its headers.
        url: where it listens.

    """

    def __init__(self, port: int, refusal: bytes) -> None:
        self.asked: list[str] = []
        self.url = ""
        self._port = port
        self._refusal = refusal

    async def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self._refusal:
            writer.write(self._refusal)
            writer.close()
            return
        there, here = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, here), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
    except ConnectionError:
        pass
    finally:
        sink.close()


@contextmanager
def proxying(port: int = 0, refusal: bytes = b"") -> Iterator[Proxy]:
    proxy = Proxy(port, refusal)
    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serving() -> None:
        stopped = asyncio.Event()
        async with await asyncio.start_server(proxy.tunnel, "127.0.0.1", 0) as server:
            proxy.url = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            loops.append((asyncio.get_running_loop(), stopped))
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=asyncio.run, args=(serving(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield proxy
    finally:
        loop, stopped = loops[0]
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


@pytest.fixture
def far(tmp_path: Path) -> Iterator[WatchedSandbox]:
    """Return a sandbox that has a certificate for a host that only the proxy reaches."""
    context, authority = issue_certificate(HOST)
    (tmp_path / "ca.pem").write_bytes(authority)
    (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\n")
    sandbox = WatchedSandbox()
    with listening(sandbox, context) as sandbox.url:
        yield sandbox


VARIABLES = {
    "FPGA_BATCH_ENDPOINT": f"https://{HOST}",
    "FPGA_BATCH_CA_FILE": "ca.pem",
    "FPGA_BATCH_PROJECT_ID": PROJECT,
    "FPGA_BATCH_MAX_OUTAGE": "1",
    "OS_TOKEN": TOKEN,
}


def test_a_run_goes_through_the_proxy_that_the_environment_names(
    command: Command, far: WatchedSandbox
) -> None:
    with proxying(int(far.url.rpartition(":")[2])) as proxy:
        ended = command("associate", "pairs.csv", **VARIABLES, HTTPS_PROXY=f"http://me:hidden@{proxy.url}")
    assert ended == Ended(0, "", "")
    assert len(far.associations) == 1
    (asked,) = proxy.asked
    assert asked.startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'me:hidden').decode()}\r\n" in asked
    assert TOKEN not in asked


def test_a_host_that_the_environment_excepts_is_reached_without_the_proxy(
    command: Command, far: WatchedSandbox
) -> None:
    with proxying(int(far.url.rpartition(":")[2])) as proxy:
        variables = VARIABLES | {"HTTPS_PROXY": f"http://{proxy.url}", "NO_PROXY": "example.invalid"}
        ended = command("login", **variables)
    assert ended.exit_code == 78, "which no name server knows"
    assert HOST in ended.stderr
    assert not proxy.asked


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [("407 Proxy Authentication Required", 78), ("403 Forbidden", 78), ("502 Bad", 69)],
)
def test_a_proxy_that_refuses_is_told_without_its_password(
    command: Command, far: WatchedSandbox, status: str, exit_code: int
) -> None:
    refusal = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    with proxying(refusal=refusal) as proxy:
        url = f"http://me:hidden@{proxy.url}"
        ended = command("associate", "pairs.csv", "-vv", **VARIABLES, HTTPS_PROXY=url)
    assert ended.exit_code == exit_code, ended
    assert f"the proxy answered {status}" in ended.stderr
    assert "hidden" not in ended.stderr
    assert far.requests == 0


def test_a_proxy_that_is_not_there_is_told_without_its_password(
    command: Command, far: WatchedSandbox
) -> None:
    ended = command("login", "-vv", **VARIABLES, HTTPS_PROXY="http://me:hidden@127.0.0.1:9")
    assert ended.exit_code == 69
    assert "127.0.0.1:9" in ended.stderr
    assert "hidden" not in ended.stderr
    assert far.requests == 0


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "https://a.example", None),
        ({"HTTPS_PROXY": "http://p:3128"}, "https://a.example/v1", "http://p:3128"),
        ({"https_proxy": "p:3128"}, "https://a.example", "http://p:3128"),
        ({"HTTPS_PROXY": "http://p"}, "http://a.example", None),
        ({"ALL_PROXY": "http://p"}, "https://a.example", "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a.example"}, "https://a.example:8443", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ".example"}, "https://a.example", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "*"}, "https://a.example", None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "b.example"}, "https://a.example", "http://p"),
        ({"HTTPS_PROXY": "http://p", "HTTP_PROXY": "http://p"}, "http://127.0.0.1:8088", None),
        ({"HTTPS_PROXY": "http://p"}, "https://localhost", None),
        ({"HTTPS_PROXY": "http://p"}, "https://[::1]:8443", None),
    ],
)
def test_the_proxy_is_the_environments_and_never_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == proxy


@pytest.mark.parametrize(
    "proxy",
    ["http://me:GE#HEIM@p:3128", "http://me:GEHEIM@p:port", "ftp://p", "http://"],
)
def test_what_is_no_http_proxy_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("https_proxy", proxy)
    with pytest.raises(ConfigurationError, match="https_proxy: write it as") as caught:
        proxy_of("https://a.example")
    assert "HEIM" not in str(caught.value)
