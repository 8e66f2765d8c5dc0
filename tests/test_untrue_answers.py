"""Answers that are not what they seem: strays, cut ones, packed ones. On raw sockets and by the command."""

import asyncio
import csv
import gzip
import os
import socket
import ssl
import threading
import zlib
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
from conftest import Ended, WatchedSandbox, listening
from support import PROJECT, fpga, image

from batch.errors import ConfigurationError
from batch.http.transport import HttpTransport, TransportError
from jobs.sandbox import Call, Reply, Withheld, issue_certificate

Command = Callable[..., Ended]

PATIENCE = 20.0
DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
UNSEEN = 0.01
"""Seconds after which a stray answer comes; the next request leaves later than that."""
RATE = "4"


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


REFUSAL = answer(
    400, orjson.dumps({"error": {"code": "Ecs.0005", "message": "image [I] type [shared] is not private"}})
)
GATEWAY_TIMEOUT = answer(504, b"<html>504 Gateway Time-out</html>")
IDLE = answer(408, b"", "Connection: close")


class Line:
    """One connection of a server, as one that answers sees it."""

    def __init__(self, connection: socket.socket, server: "Server") -> None:
        self.connection = connection
        self.server = server

    def says(self, data: bytes) -> None:
        with suppress(OSError):
            self.connection.sendall(data)

    def says_later(self, data: bytes) -> None:
        """Say something after a moment."""
        threading.Event().wait(UNSEEN)
        self.says(data)

    def hangs_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


Answering = Callable[[Line, str, int], None]
"""Answers one request, by its line and its number on its connection, on a raw connection."""


class Server:
    """A server on raw sockets, a thread for each connection.

    Attributes:
        requests: the lines of the requests, each with the number of its connection.

    """

    def __init__(
        self, answering: Answering, tls: ssl.SSLContext | None = None, greeting: bytes = b""
    ) -> None:
        self.requests: list[tuple[str, int]] = []
        self.connections = 0
        self._answering = answering
        self._tls = tls
        self._greeting = greeting
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for ending in self._threads:
            ending.join(PATIENCE)

    def _begin(self, work: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open.append(connection)
                self.connections += 1
                self._begin(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with suppress(OSError, ValueError), ExitStack() as stack:
            stack.enter_context(connection)
            if self._tls:
                connection = stack.enter_context(self._tls.wrap_socket(connection, server_side=True))
                self._open.append(connection)
            line = Line(connection, self)
            if self._greeting:
                line.says(self._greeting)
            asked = 0
            while head := self._head(connection):
                asked += 1
                self.requests.append((head, number))
                self._answering(line, head, asked)

    @staticmethod
    def _head(connection: socket.socket) -> str:
        """Read a request; return its first line, or nothing at the end."""
        data = b""
        while b"\r\n\r\n" not in data:
            if not (more := connection.recv(65536)):
                return ""
            data += more
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(
            (int(each[15:]) for each in head.lower().split(b"\r\n") if each[:15] == b"content-length:"), 0
        )
        while len(body) < length:
            body += connection.recv(65536)
        return head.split(b"\r\n")[0].decode()


@pytest.fixture(params=["plain", "TLS"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> ssl.SSLContext | None:
    """Return what a server needs for TLS, or nothing for plain HTTP; clients trust `ca.pem`."""
    if request.param == "plain":
        return None
    context, authority = issue_certificate("127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(authority)
    return context


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Run a job over pairs against a service, one request after the other; return the report's rows."""

    def running(
        url: str, rows: int, *args: str, job: str = "associate", exits: tuple[int, ...] = (0, 1)
    ) -> list[dict[str, str]]:
        lines = [f"{fpga(number)},{image(number)}" for number in range(1, rows + 1)]
        (tmp_path / "pairs.csv").write_text("\n".join(["fpga_image_id,image_id", *lines, ""]))
        authority = ["--ca-file", "ca.pem"] if url.startswith("https") else []
        ended = command(
            job, "pairs.csv", "--concurrency", "1", *authority, *args, service=url, FPGA_BATCH_RATE=RATE
        )
        assert ended.exit_code in exits, ended
        word = "report" if job == "associate" else job
        with (tmp_path / f"pairs.{word}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return running


Run = Callable[..., list[dict[str, str]]]


def said(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["outcome"], row["reason"]) for row in rows]


# Through the real command


def test_the_late_answer_of_a_service_behind_a_gateway_is_no_other_rows(
    run: Run, tls: ssl.SSLContext | None
) -> None:
    def answers(line: Line, head: str, _number: int) -> None:
        if len(line.server.requests) == 1:
            line.says(GATEWAY_TIMEOUT)
            line.says_later(DONE)
        elif head.startswith("GET"):
            line.says(answer(200, b'{"associations": []}'))
        else:
            line.says(REFUSAL)

    with Server(answers, tls) as server:
        rows = run(server.url, 3)
    assert said(rows) == [("failed", "not_private")] * 3


def test_an_answer_that_nobody_asked_for_makes_no_row_succeed(run: Run, tls: ssl.SSLContext | None) -> None:
    done: list[str] = []

    def answers(line: Line, head: str, number: int) -> None:
        if number > 1:  # on a connection on which a stray answer has gone out
            line.hangs_up()
            return
        done.append(head.split("/")[5])
        line.says(DONE)
        line.says_later(DONE)

    with Server(answers, tls) as server:
        rows = run(server.url, 10)
    assert said(rows) == [("succeeded", "")] * 10
    assert done == [fpga(number) for number in range(1, 11)]
    assert {row["attempts"] for row in rows} == {"1"}


def test_a_time_out_of_an_idle_connection_costs_no_row_anything(run: Run, tls: ssl.SSLContext | None) -> None:
    def answers(line: Line, _head: str, number: int) -> None:
        if number == 1:
            line.says(DONE)
            line.says_later(IDLE)

    with Server(answers, tls) as server:
        rows = run(server.url, 5, "--timeout", "15")
    assert said(rows) == [("succeeded", "")] * 5
    assert {row["attempts"] for row in rows} == {"1"}


class Spoiling(WatchedSandbox):
    """A sandbox of which some replies are spoiled on their way."""

    def __init__(self, spoil: Callable[[Call, Reply, int], Reply | Withheld]) -> None:
        super().__init__()
        self._spoil = spoil
        self.calls: list[str] = []

    def reply(self, call: Call) -> Reply | Withheld:
        self.calls.append(call.method)
        reply = super().reply(call)
        assert isinstance(reply, Reply)
        return self._spoil(call, reply, self.calls.count(call.method))


def page(status: int) -> Reply:
    return Reply(status, {"Content-Type": "text/html"}, b"<html><title>Blocked</title></html>")


LOST = page(502)


@pytest.mark.parametrize(
    "body", [b'{"associations":[{"image_id":"ec5', b"<html>maintenance</html>", b"", b"[]"]
)
def test_a_read_back_that_cannot_be_read_once_is_read_again(run: Run, body: bytes) -> None:
    def spoil(call: Call, reply: Reply, number: int) -> Reply:
        if call.method == "POST":
            return LOST if number == 1 else reply
        return reply._replace(body=body) if number == 1 else reply

    with listening(sandbox := Spoiling(spoil)) as url:
        rows = run(url, 1)
    assert said(rows) == [("succeeded", "read_back")]
    assert sandbox.calls == ["POST", "POST", "GET", "GET"]


def test_a_read_back_that_can_never_be_read_leaves_a_row_unconfirmed(run: Run) -> None:
    def spoil(call: Call, reply: Reply, number: int) -> Reply:
        if call.method == "POST":
            return LOST if number == 1 else reply
        return reply._replace(body=b'{"associations":')

    with listening(sandbox := Spoiling(spoil)) as url:
        rows = run(url, 1, "--max-attempts", "3")
    assert said(rows) == [("unconfirmed", "unreadable_answer")]
    assert sandbox.calls == ["POST", "POST", "GET", "GET", "GET"]


def test_a_reading_that_cannot_be_read_once_is_read_again_by_verify_too(run: Run) -> None:
    def spoil(_call: Call, reply: Reply, number: int) -> Reply:
        return reply._replace(body=b'{"associations":') if number == 1 else reply

    with listening(sandbox := Spoiling(spoil)) as url:
        rows = run(url, 1, job="verify")
    assert said(rows) == [("failed", "not_associated")]
    assert sandbox.calls == ["GET", "GET"]


@pytest.mark.parametrize("kept", [1, 20, 44])
@pytest.mark.parametrize("always", [True, False])
def test_a_refusal_that_is_cut_off_before_its_reason_is_no_refusal(
    run: Run, kept: int, *, always: bool
) -> None:
    """The pair is there already, and the answer that would say so has lost its end."""

    def answers(line: Line, head: str, _number: int) -> None:
        asked = [each for each, _ in line.server.requests if each.startswith("POST")]
        if head.startswith("GET"):
            listed = {"associations": [{"image_id": image(1), "fpgaimages": [{"id": fpga(1)}]}]}
            line.says(answer(200, orjson.dumps(listed)))
        elif always or len(asked) == 1:
            body = b'{"error":{"code":"Ecs.0005","message":"tenant [T] relate fpga image'[:kept]
            line.says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n" + body)
            line.hangs_up()
        else:
            line.says(DONE)

    with Server(answers) as server:
        rows = run(server.url, 1, "--max-attempts", "2")
    assert said(rows) == [("succeeded", "read_back" if always else "")]


@pytest.mark.parametrize("status", [200, 302, 403, 404, 405])
def test_a_page_of_somebodys_in_the_midst_of_a_run_is_worth_another_attempt(run: Run, status: int) -> None:
    def spoil(_call: Call, reply: Reply, number: int) -> Reply:
        return page(status) if number == 3 else reply

    with listening(sandbox := Spoiling(spoil)) as url:
        rows = run(url, 5)
    assert said(rows) == [("succeeded", "read_back" if row == 3 else "") for row in range(1, 6)], (
        "the page hides that the service has done it"
    )
    assert len(sandbox.associations) == 5


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("job", ["associate", "verify"])
def test_answers_that_come_packed_are_read(run: Run, coding: str, job: str) -> None:
    def spoil(_call: Call, reply: Reply, _number: int) -> Reply:
        if not reply.body:
            return reply
        return reply._replace(
            headers=reply.headers | {"Content-Encoding": coding}, body=PACKERS[coding](reply.body)
        )

    with listening(sandbox := Spoiling(spoil)) as url:
        for number in range(1, 3):
            sandbox.associations.add(PROJECT, fpga(number), image(number))
        rows = run(url, 3, job=job)
    missing = ("succeeded", "") if job == "associate" else ("failed", "not_associated")
    assert said(rows) == [("unchanged", "")] * 2 + [missing]


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
def test_an_answer_in_a_packing_that_cannot_be_read_is_worth_another_attempt(run: Run, coding: str) -> None:
    def spoil(_call: Call, reply: Reply, number: int) -> Reply:
        if not reply.body or number > 1:
            return reply
        return reply._replace(headers=reply.headers | {"Content-Encoding": coding}, body=b"\x8b\x02\x80")

    with listening(sandbox := Spoiling(spoil)) as url:
        sandbox.associations.add(PROJECT, fpga(1), image(1))
        rows = run(url, 1)
    assert said(rows) == [("succeeded", "read_back")], "the first answer may have been that of a success"
    assert rows[0]["attempts"] == "4"


# On the wire


def trusting(tls: ssl.SSLContext | None, tmp_path: Path) -> HttpTransport:
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem") if tls else None
    return HttpTransport(connections=2, timeout=PATIENCE, user_agent="tester/1", tls=context)


@pytest.mark.parametrize("is_read", [False, True], ids=["unread by the loop", "read by the loop"])
@pytest.mark.parametrize(
    "stray",
    [DONE, DONE[:1], DONE[:20], REFUSAL, b"\r\nHTTP/1.1 204 X\r\n\r\n", IDLE, b"HTTP/1.1 100 X\r\n\r\n"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_bytes_on_an_idle_connection_end_it(
    tls: ssl.SSLContext | None, tmp_path: Path, stray: bytes, method: str, *, is_read: bool
) -> None:
    wanted, done = threading.Event(), threading.Event()

    def answers(line: Line, _head: str, _number: int) -> None:
        if len(line.server.requests) > 1:
            line.says(answer(409, b"own"))
            return
        line.says(answer(400, b"first"))
        assert wanted.wait(PATIENCE)
        line.says(stray)
        done.set()

    body = b"{}" if method == "POST" else None
    with Server(answers, tls) as server:
        async with trusting(tls, tmp_path) as wire:
            assert (await wire.send(method, f"{server.url}/", {}, body)).body == b"first"
            wanted.set()
            assert done.wait(PATIENCE)  # the loop stands still meanwhile
            for _ in range(8 * is_read):
                await asyncio.sleep(0)
            assert (await wire.send(method, f"{server.url}/", {}, body)).body == b"own"
        assert [number for _, number in server.requests] == [1, 2]


@pytest.mark.parametrize("status", [408, 502, 503, 504])
async def test_a_connection_is_not_used_again_after_a_gateways_own_answer(
    tls: ssl.SSLContext | None, tmp_path: Path, status: int
) -> None:
    with Server(lambda line, _head, _number: line.says(answer(status, b"x")), tls) as server:
        async with trusting(tls, tmp_path) as wire:
            for _ in range(3):
                assert (await wire.send("POST", f"{server.url}/", {}, b"{}")).status == status
        assert [number for _, number in server.requests] == [1, 2, 3]


@pytest.mark.parametrize("status", [200, 400, 404, 429, 500])
async def test_a_connection_serves_again_after_an_answer_of_the_services(
    tls: ssl.SSLContext | None, tmp_path: Path, status: int
) -> None:
    with Server(lambda line, _head, _number: line.says(answer(status, b"x")), tls) as server:
        async with trusting(tls, tmp_path) as wire:
            for _ in range(5):
                assert (await wire.send("POST", f"{server.url}/", {}, b"{}")).status == status
        assert [number for _, number in server.requests] == [1] * 5


CHUNKED = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "surplus",
    [DONE, DONE[:1], DONE[:10], DONE[:-1], b"\x00", answer(200, b"x")[:-1], b"HTTP/1.1 100 X\r\n\r\n"],
)
@pytest.mark.parametrize(
    "first", [DONE, answer(400, b"no"), answer(400), CHUNKED], ids=["204", "body", "0", "chunks"]
)
async def test_what_follows_an_answer_in_its_packet_is_no_answer_and_ends_the_connection(
    first: bytes, surplus: bytes
) -> None:
    def answers(line: Line, _head: str, _number: int) -> None:
        line.says(first + surplus if len(line.server.requests) == 1 else answer(409, b"own"))

    with Server(answers) as server:
        async with HttpTransport(connections=2, timeout=PATIENCE, user_agent="tester/1") as wire:
            with suppress(TransportError):  # what breaks the form of an answer may spoil it
                assert (await wire.send("POST", f"{server.url}/", {}, b"{}")).status in (200, 204, 400)
            assert (await wire.send("POST", f"{server.url}/", {}, b"{}")).body == b"own"
        assert [number for _, number in server.requests] == [1, 2]


@pytest.mark.parametrize(
    "malformed",
    [
        b"HTTP/1.1 204 X\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        b"HTTP/1.1 400 X\r\nContent-Length: 1\r\n\r\nno",
    ],
)
async def test_an_answer_longer_than_it_says_ends_its_connection(malformed: bytes) -> None:
    def answers(line: Line, _head: str, _number: int) -> None:
        line.says(malformed if len(line.server.requests) == 1 else answer(409, b"own"))

    with Server(answers) as server:
        async with HttpTransport(connections=2, timeout=PATIENCE, user_agent="tester/1") as wire:
            with suppress(TransportError):
                await wire.send("POST", f"{server.url}/", {}, b"{}")
            assert (await wire.send("POST", f"{server.url}/", {}, b"{}")).body == b"own"
        assert server.connections == 2


async def test_a_server_that_speaks_first_gives_no_answer(tls: ssl.SSLContext | None, tmp_path: Path) -> None:
    with Server(lambda *_: None, tls, greeting=DONE) as server:
        async with trusting(tls, tmp_path) as wire:
            # The greeting may come after the request has left: then it cannot be told from its answer.
            sent = [asyncio.create_task(_fate(wire, f"{server.url}/")) for _ in range(2)]
            assert set(await asyncio.gather(*sent)) <= {"not sent", "204"}


async def _fate(wire: HttpTransport, url: str) -> str:
    try:
        return str((await wire.send("GET", url, {})).status)
    except TransportError as error:
        return "sent" if error.sent else "not sent"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_a_demand_for_a_client_certificate_is_a_matter_of_configuration(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    context, authority = issue_certificate("127.0.0.1")
    (tmp_path / "ca.pem").write_bytes(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = version
    for method in "GET", "DELETE", "POST":
        with socket.create_server(("127.0.0.1", 0)) as listening_socket:
            serving = threading.Thread(target=_refuses_handshakes, args=(listening_socket, context))
            serving.start()
            url = f"https://127.0.0.1:{listening_socket.getsockname()[1]}/"
            async with trusting(context, tmp_path) as wire:
                with pytest.raises(ConfigurationError, match=r"certificate|handshake"):
                    await _send_until_told(wire, method, url)
            listening_socket.shutdown(socket.SHUT_RDWR)
            serving.join(PATIENCE)


async def _send_until_told(wire: HttpTransport, method: str, url: str) -> None:
    """Send as a run does: an alert that comes before the body leaves is a lost connection at first."""
    for _ in range(100):
        with suppress(TransportError):
            await wire.send(method, url, {}, None if method == "GET" else b"{}")


def _refuses_handshakes(listening_socket: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listening_socket.accept()
            secured = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with secured, suppress(OSError):
                try:
                    secured.do_handshake()
                except ssl.SSLError:
                    # A reset, for what was sent and not read, would overtake the alert.
                    with socket.socket(fileno=os.dup(secured.fileno())) as bare:
                        while bare.recv(65536):
                            pass
