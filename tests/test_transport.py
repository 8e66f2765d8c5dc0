"""The wire, against real servers on the loopback: polite ones and nasty ones."""

import asyncio
import contextlib
import errno
import gzip
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from batch.errors import ConfigurationError
from batch.http.transport import BODY_LIMIT, HttpTransport, StarvedError, TransportError, UnknownHostError

SOON = 0.2
PATIENT = 20.0
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
METHODS = ["GET", "DELETE", "POST"]

Turn = Callable[[asyncio.StreamWriter], Awaitable[bool]]
"""Answers one request; says whether the connection stays open."""


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire."""

    line: str
    headers: dict[str, str]
    body: bytes


class Peer:
    """A server that plays one turn for each request, and the last one again and again."""

    def __init__(self, *turns: Turn, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.most_open = 0
        self.received = asyncio.Event()
        self.left = asyncio.Event()
        self._turns = turns
        self._tls = tls
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def url(self, path: str = "/", scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.most_open = max(self.most_open, len(self._tasks))
        try:
            while await self._turn(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            self.left.set()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Received(line, headers, body))
        self.received.set()
        return await self._turns[min(len(self.requests), len(self._turns)) - 1](writer)


def says(*pieces: bytes, stays: bool = True) -> Turn:
    async def turn(writer: asyncio.StreamWriter) -> bool:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return stays

    return turn


async def hangs_up(_writer: asyncio.StreamWriter) -> bool:
    return False


async def resets(writer: asyncio.StreamWriter) -> bool:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def keeps_silent(_writer: asyncio.StreamWriter) -> bool:
    await asyncio.Event().wait()
    return False


def repeats(start: bytes, piece: bytes, every: float) -> Turn:
    async def turn(writer: asyncio.StreamWriter) -> bool:
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(every)

    return turn


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def call(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[Any, ...]:
    return method, url, headers, body


def transport(
    *,
    timeout: float = PATIENT,
    connections: int = 4,
) -> HttpTransport:
    return HttpTransport(connections=connections, timeout=timeout, user_agent="tester/1")


async def failure(url: str, *, method: str = "GET", within: float = PATIENT) -> TransportError:
    async with transport(timeout=within) as wire:
        with pytest.raises(TransportError) as caught:
            await wire.send(*call(method, url, b"{}" if method == "POST" else None))
    return caught.value


@contextlib.asynccontextmanager
async def polite_server(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


@contextlib.asynccontextmanager
async def lasting(least: float, most: float) -> AsyncIterator[None]:
    clock = asyncio.get_running_loop().time
    began = clock()
    yield
    assert least <= clock() - began <= most


async def test_a_204_is_a_response_without_a_body() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"X-Request-Id": "r1"})

    async with polite_server(handler) as url, transport() as wire:
        response = await wire.send(*call("POST", url, b"{}"))
    assert (response.status, response.body) == (204, b"")
    assert response.headers["x-request-id"] == response.headers["X-REQUEST-ID"] == "r1"


async def test_a_400_is_a_response_with_its_body() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({"badRequest": {"message": "no"}}, status=400)

    async with polite_server(handler) as url, transport() as wire:
        response = await wire.send(*call("POST", url, b"{}"))
    assert (response.status, response.body) == (400, b'{"badRequest": {"message": "no"}}')


async def test_method_body_and_headers_arrive_as_they_were_given() -> None:
    async with Peer(says(NO_CONTENT)) as peer:
        async with transport() as wire:
            headers = {"X-Auth-Token": "secret"}
            await wire.send("POST", peer.url("/v1/x"), headers, b'{"a": "\xc3\xa9"}')
        (request,) = peer.requests
        assert request.headers["host"] == f"127.0.0.1:{peer.port}"
    assert request.line == "POST /v1/x HTTP/1.1"
    assert request.body == b'{"a": "\xc3\xa9"}'
    assert request.headers["content-type"].startswith("application/json")
    assert request.headers["user-agent"] == "tester/1"
    assert request.headers["x-auth-token"] == "secret"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "target",
    ["/p?a=%2F%20%2b&b=+&&c", "/a%2fb/%C3%A9?q=%e4%bd%a0", "/p?limit=%31&a=b%26c%3Dd", "/p?a=1&a=2&z=~'()*"],
)
async def test_path_and_query_are_sent_exactly_as_given(target: str) -> None:
    async with Peer(says(NO_CONTENT)) as peer:
        async with transport() as wire:
            await wire.send(*call("GET", peer.url(target)))
        assert peer.requests[0].line == f"GET {target} HTTP/1.1"


async def test_cookies_are_not_kept() -> None:
    async with Peer(says(answer(200, b"", "Set-Cookie: session=stolen; Path=/"))) as peer:
        async with transport() as wire:
            for _ in range(3):
                await wire.send(*call("GET", peer.url()))
        assert all("cookie" not in request.headers for request in peer.requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", METHODS)
async def test_a_redirect_is_an_answer_and_is_not_followed(method: str, status: int) -> None:
    async with Peer(says(NO_CONTENT)) as elsewhere:
        location = f"Location: {elsewhere.url('/elsewhere')}"
        async with Peer(says(answer(status, b"moved", location))) as peer, transport() as wire:
            response = await wire.send(*call(method, peer.url()))
        assert (response.status, response.body) == (status, b"moved")
        assert (len(peer.requests), len(elsewhere.requests)) == (1, 0)


@pytest.mark.parametrize("reply", [NO_CONTENT, answer(400, b"no"), answer(200, b"x" * 60_000)])
async def test_a_connection_serves_again_after_a_whole_answer(reply: bytes) -> None:
    async with Peer(says(reply)) as peer, transport() as wire:
        for _ in range(5):
            await wire.send(*call("POST", peer.url(), b"{}"))
        assert (len(peer.requests), peer.connections) == (5, 1)


async def test_a_connection_that_the_server_gives_up_is_not_used_again() -> None:
    reply = says(answer(200, b"bye", "Connection: close"), stays=False)
    async with Peer(reply) as peer, transport() as wire:
        for _ in range(3):
            assert (await wire.send(*call("POST", peer.url(), b"{}"))).body == b"bye"
        assert (len(peer.requests), peer.connections) == (3, 3)


async def test_no_more_connections_are_open_than_allowed() -> None:
    async with Peer(says(answer(200, b"x"))) as peer, transport(connections=3) as wire:
        await asyncio.gather(*[wire.send(*call("GET", peer.url())) for _ in range(30)])
        assert len(peer.requests) == 30
        assert peer.most_open == 3


async def test_a_large_body_is_cut_and_its_connection_not_used_again() -> None:
    body = bytes(range(256)) * 4096
    async with Peer(says(answer(500, body)), says(NO_CONTENT)) as peer, transport() as wire:
        response = await wire.send(*call("GET", peer.url()))
        assert response.status == 500
        assert response.body == body[:BODY_LIMIT]
        assert (await wire.send(*call("GET", peer.url()))).status == 204
        assert peer.connections == 2


@pytest.mark.parametrize("size", [0, 1, BODY_LIMIT - 1, BODY_LIMIT, BODY_LIMIT + 1])
async def test_a_body_around_the_limit_is_read_up_to_it(size: int) -> None:
    async with Peer(says(answer(200, b"x" * size)), says(NO_CONTENT)) as peer, transport() as wire:
        response = await wire.send(*call("GET", peer.url()))
        assert len(response.body) == min(size, BODY_LIMIT)
        assert (await wire.send(*call("GET", peer.url()))).status == 204


async def test_a_compressed_body_is_not_unfolded_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < BODY_LIMIT
    reply = answer(200, bomb, "Content-Encoding: gzip")
    async with Peer(says(reply)) as peer, transport() as wire:
        assert (await wire.send(*call("GET", peer.url()))).body == bytes(BODY_LIMIT)
        assert (await wire.send(*call("GET", peer.url()), limit=1 << 20)).body == bytes(1 << 20)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("fields", "length"), [(65, 10), (1, 21_000), (64, 21_000)])
async def test_headers_without_measure_are_no_answer(method: str, fields: int, length: int) -> None:
    reply = answer(200, b"", *(f"X-{number}: {'x' * length}" for number in range(fields)))
    async with Peer(says(reply)) as peer:
        error = await failure(peer.url(), method=method)
        assert (error.reason, error.sent) == ("connection", True)
        assert len(peer.requests) == 1


async def test_headers_with_a_token_of_16_384_characters_pass_both_ways() -> None:
    token = "t" * 16_384
    reply = answer(201, b"", f"X-Subject-Token: {token}")
    async with Peer(says(reply)) as peer, transport() as wire:
        response = await wire.send("POST", peer.url(), {"X-Auth-Token": token}, b"{}")
        assert peer.requests[0].headers["x-auth-token"] == token
    assert response.headers["X-Subject-Token"] == token


async def test_a_provisional_answer_is_passed_over() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with Peer(says(hints, hints, answer(400, b"no"))) as peer, transport() as wire:
        assert (await wire.send(*call("GET", peer.url()))).status == 400


async def test_an_answer_in_many_pieces_is_put_together() -> None:
    reply = answer(400, b'{"error": "in pieces"}')
    pieces = [reply[at : at + 1] for at in range(len(reply))]
    async with Peer(says(*pieces)) as peer, transport() as wire:
        assert (await wire.send(*call("GET", peer.url()))).body == b'{"error": "in pieces"}'


async def test_a_chunked_answer_is_put_together() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = [b"5\r\nhello\r\n", b"6\r\n world\r\n", b"0\r\n\r\n"]
    async with Peer(says(head, *chunks)) as peer, transport() as wire:
        assert (await wire.send(*call("GET", peer.url()))).body == b"hello world"


@pytest.mark.parametrize("method", METHODS)
async def test_no_answer_is_a_time_out_of_a_request_that_was_sent(method: str) -> None:
    async with Peer(keeps_silent) as peer, lasting(SOON * 0.9, 5 * SOON):
        error = await failure(peer.url(), method=method, within=SOON)
        assert (error.reason, error.sent) == ("timeout", True)
        assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: x\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x"),
    ],
    ids=["headers", "provisional answers", "body", "chunks", "body without an end"],
)
async def test_an_answer_dribbled_for_ever_costs_no_more_than_the_time_out(
    start: bytes, piece: bytes
) -> None:
    async with Peer(repeats(start, piece, every=SOON / 20)) as peer, lasting(SOON * 0.9, 5 * SOON):
        error = await failure(peer.url(), within=SOON)
        assert (error.reason, error.sent) == ("timeout", True)


async def test_an_answer_dribbled_byte_by_byte_costs_no_more_than_the_time_out() -> None:
    async def dribbles(writer: asyncio.StreamWriter) -> bool:
        for byte in answer(200, b"x" * 1000):
            writer.write(bytes([byte]))
            await asyncio.sleep(SOON / 20)
        return True

    async with Peer(dribbles) as peer, lasting(SOON * 0.9, 5 * SOON):
        error = await failure(peer.url(), within=SOON)
        assert (error.reason, error.sent) == ("timeout", True)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2000\r\n" + b"x" * 0x2000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * 0x2000),
    ],
    ids=["chunks", "body without an end"],
)
async def test_an_endless_answer_at_full_speed_is_cut_at_the_limit(start: bytes, piece: bytes) -> None:
    async with Peer(repeats(start, piece, every=0), says(NO_CONTENT)) as peer, transport() as wire:
        assert len((await wire.send(*call("GET", peer.url()))).body) == BODY_LIMIT
        assert (await wire.send(*call("GET", peer.url()))).status == 204


async def test_a_time_out_does_not_spoil_the_next_request() -> None:
    async with Peer(keeps_silent, says(NO_CONTENT)) as peer, transport(timeout=SOON) as wire:
        with pytest.raises(TransportError):
            await wire.send(*call("GET", peer.url()))
        assert (await wire.send(*call("GET", peer.url()))).status == 204
        assert peer.connections == 2


@pytest.mark.parametrize("ends", [resets, hangs_up])
@pytest.mark.parametrize("method", METHODS)
async def test_a_connection_lost_after_the_request_is_not_repeated(method: str, ends: Turn) -> None:
    async with Peer(ends, says(NO_CONTENT)) as peer:
        error = await failure(peer.url(), method=method)
        assert (error.reason, error.sent) == ("connection", True)
        assert [request.line.split()[0] for request in peer.requests] == [method]


@pytest.mark.parametrize("ends", [resets, hangs_up])
@pytest.mark.parametrize("method", METHODS)
async def test_a_used_connection_lost_after_the_request_is_not_repeated(method: str, ends: Turn) -> None:
    async with Peer(says(NO_CONTENT), ends, says(NO_CONTENT)) as peer, transport() as wire:
        request = call(method, peer.url(), b"{}" if method == "POST" else None)
        await wire.send(*request)
        with pytest.raises(TransportError) as caught:
            await wire.send(*request)
        assert (caught.value.reason, caught.value.sent) == ("connection", True)
        assert (len(peer.requests), peer.connections) == (2, 1)


@pytest.mark.parametrize("method", METHODS)
async def test_a_connection_lost_within_the_headers_is_not_repeated(method: str) -> None:
    async with Peer(says(b"HTTP/1.1 204 No Con", stays=False), says(NO_CONTENT)) as peer:
        error = await failure(peer.url(), method=method)
        assert (error.reason, error.sent) == ("connection", True)
        assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 No\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nhel",
    ],
)
@pytest.mark.parametrize("method", METHODS)
async def test_a_truncated_body_is_no_answer_and_the_request_is_not_repeated(
    method: str, reply: bytes
) -> None:
    async with Peer(says(reply, stays=False), says(NO_CONTENT)) as peer:
        error = await failure(peer.url(), method=method)
        assert (error.reason, error.sent) == ("connection", True)
        assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x00\x00",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 204\x00 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nX\xe9\x00: bad\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n",
    ],
    ids=lambda reply: repr(reply[:40]),
)
@pytest.mark.parametrize("method", METHODS)
async def test_what_is_not_http_is_no_answer_and_the_request_is_not_repeated(
    method: str, reply: bytes
) -> None:
    async with Peer(says(reply), says(NO_CONTENT)) as peer:
        error = await failure(peer.url(), method=method)
        assert (error.reason, error.sent) == ("connection", True)
        assert len(peer.requests) == 1


async def test_answers_that_nobody_asked_for_in_one_packet_answer_no_later_request() -> None:
    doubled = answer(400, b"no") + answer(200, b"surplus")
    async with Peer(says(doubled), says(answer(500, b"own"))) as peer, transport() as wire:
        assert (await wire.send(*call("POST", peer.url(), b"{}"))).body == b"no"
        assert (await wire.send(*call("POST", peer.url(), b"{}"))).body == b"own"


@pytest.mark.parametrize("method", METHODS)
async def test_a_refused_connection_means_that_nothing_was_sent(method: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: every connection is refused
        error = await failure(f"http://127.0.0.1:{taken.getsockname()[1]}/", method=method)
    assert (error.reason, error.sent) == ("connection", False)


async def test_a_name_that_is_not_found_means_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    async with transport() as wire:
        with pytest.raises(UnknownHostError, match=r"nowhere\.invalid"):
            await wire.send("POST", "http://nowhere.invalid/", {}, b"{}")


async def test_a_name_is_no_wrong_setting_when_its_host_has_answered_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def known(_host: str, *args: Any, **options: Any) -> Any:
        return await resolve("127.0.0.1", *args, **options)

    async with Peer(says(NO_CONTENT, stays=False)) as peer, transport() as wire:
        url = f"http://nowhere.invalid:{peer.port}/"
        monkeypatch.setattr(loop, "getaddrinfo", known)
        assert (await wire.send("POST", url, {}, b"{}")).status == 204
        monkeypatch.setattr(loop, "getaddrinfo", unknown)
        assert wire._session is not None
        wire._session.connector.clear_dns_cache()  # type: ignore[union-attr]
        with pytest.raises(TransportError) as caught:
            await wire.send("POST", url, {}, b"{}")
        assert (caught.value.reason, caught.value.sent) == ("connection", False)


async def test_a_resolver_that_fails_for_a_while_is_no_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
    error = await failure("http://nowhere.invalid/", method="POST")
    assert (error.reason, error.sent) == ("connection", False)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS])
async def test_what_this_machine_lacks_is_not_the_services_fault(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(number, "no more of it")

    async with Peer(says(NO_CONTENT)) as peer, transport() as wire:
        monkeypatch.setattr(socket, "socket", refuses)
        with pytest.raises(StarvedError) as caught:
            await wire.send("POST", peer.url(), {}, b"{}")
        monkeypatch.undo()
        assert not caught.value.sent
        assert (await wire.send("POST", peer.url(), {}, b"{}")).status == 204


async def test_a_message_is_never_empty() -> None:
    async with Peer(resets) as peer:
        assert str(await failure(peer.url()))
    async with Peer(hangs_up) as peer:
        assert str(await failure(peer.url()))


async def test_cancelling_a_request_closes_its_connection() -> None:
    async with Peer(keeps_silent) as peer, transport(connections=1) as wire:
        sending = asyncio.create_task(wire.send(*call("POST", peer.url(), b"{}")))
        await peer.received.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        peer._turns = (says(NO_CONTENT),)
        assert (await wire.send(*call("GET", peer.url()))).status == 204
        assert peer.connections == 2


async def test_cancelling_while_the_body_arrives_closes_the_connection() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"
    async with Peer(says(half), says(NO_CONTENT)) as peer, transport(connections=1) as wire:
        sending = asyncio.create_task(wire.send(*call("GET", peer.url())))
        await peer.received.wait()
        for _ in range(20):  # turns of the loop in which the first half is read
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(peer.left.wait(), PATIENT)
        assert (await wire.send(*call("GET", peer.url()))).status == 204


@pytest.fixture(scope="module")
def own_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(file), "-out", str(file.with_suffix(".crt"))),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    with file.open("ab") as both:
        both.write(file.with_suffix(".crt").read_bytes())
    return file


@pytest.mark.parametrize("method", METHODS)
async def test_a_certificate_that_nobody_vouches_for_is_a_matter_of_configuration(
    own_certificate: Path, method: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own_certificate)
    async with Peer(says(NO_CONTENT), tls=context) as peer, transport() as wire:
        with pytest.raises(ConfigurationError, match=f"127.0.0.1:{peer.port}.*certificate"):
            await wire.send(*call(method, peer.url(scheme="https")))
        assert peer.requests == []


async def test_a_server_that_speaks_no_tls_is_a_matter_of_configuration() -> None:
    async def speaks_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer(400, b"plain HTTP, please"))
        writer.close()

    async with await asyncio.start_server(speaks_plainly, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with transport() as wire:
            with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}: no TLS connection can be made"):
                await wire.send(*call("POST", f"https://127.0.0.1:{port}/"))


async def test_a_handshake_that_never_ends_is_a_time_out_of_a_request_that_was_not_sent() -> None:
    release = asyncio.Event()

    async def stalls(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    async with await asyncio.start_server(stalls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with lasting(0, 5 * SOON):
            error = await failure(f"https://127.0.0.1:{port}/", method="POST", within=SOON)
        release.set()
    assert (error.reason, error.sent) == ("timeout", False)
