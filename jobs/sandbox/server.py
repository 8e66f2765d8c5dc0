"""The sandbox on a socket: the part that knows aiohttp."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from itertools import islice
from urllib.parse import urlsplit

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from yarl import URL

from batch.http.loopback import is_loopback
from jobs.sandbox.faults import Faults
from jobs.sandbox.messages import Call, Reply, Withheld
from jobs.sandbox.service import Sandbox

_BODY_LIMIT = 64 * 1024  # anybody can send one; what a client of the service sends has a tenth of a kilobyte
_FIELD_LIMIT = 65536  # a token has up to 16,384 characters; aiohttp's own limit is 8,190
_GRACE = 0.5  # seconds that answers under way have when the server stops
_PATIENCE = 30.0
"""Seconds for a request's headers, from the connection or the last answer on, and for its body."""
_BACKLOG = 1024
_LINES_AT_ONCE = 1000


def create_app(sandbox: Sandbox, host: str = "127.0.0.1") -> web.Application:
    """Return the service, IAM under `/v3`, and under `/_sandbox/` the means to watch it and to disturb it.

    Args:
        sandbox: what answers.
        host: where it listens; requests to other names are refused.

    """
    front = _Front(sandbox, host)
    app = web.Application(client_max_size=_BODY_LIMIT, middlewares=[front.guarded])
    app.router.add_get("/_sandbox/stats", front.stats)
    app.router.add_get("/_sandbox/associations", front.associations)
    app.router.add_put("/_sandbox/faults", front.replace_faults)
    app.router.add_route("*", "/_sandbox{tail:(/.*)?}", front.unknown)
    app.router.add_route("*", "/v3{tail:(/.*)?}", front.identity)
    app.router.add_route("*", "/{tail:.*}", front.service)
    app.on_shutdown.append(front.stop)
    return app


@asynccontextmanager
async def serve(
    sandbox: Sandbox, host: str = "127.0.0.1", port: int = 0, *, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Run the sandbox for as long as the context lasts, and give its base URL; port 0 takes a free one.

    With an SSL context it is served over TLS only.

    Raises:
        OSError: it cannot listen there.

    """
    runner = web.AppRunner(
        create_app(sandbox, host),
        access_log=None,
        keepalive_timeout=_PATIENCE,
        handler_cancellation=True,
        max_field_size=_FIELD_LIMIT,
        shutdown_timeout=_GRACE,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG, ssl_context=ssl_context).start()
        address = runner.addresses[0]
        scheme = "https" if ssl_context else "http"
        yield str(URL.build(scheme=scheme, host=host or address[0], port=address[1]))
    finally:
        connections = [each.transport for each in runner.server.connections] if runner.server else []
        await runner.cleanup()
        for each in filter(None, connections):
            each.abort()  # TLS would wait for the other side to say goodbye as well


class _Front:
    def __init__(self, sandbox: Sandbox, host: str) -> None:
        self._sandbox = sandbox
        self._host = host
        self._stopping = asyncio.Event()

    @web.middleware
    async def guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what was sent to another name: a page in a browser may have its own name lead here.

        Over TLS the certificate has told the name.
        """
        local = request.transport.get_extra_info("sockname") if request.transport else None
        if not request.secure and not _names(
            request.headers.get("Host", ""), self._host, local[0] if local else ""
        ):
            told = "this sandbox is reached by localhost or the address it listens on, see --host"
            return _json(421, {"error": told})
        return await handler(request)

    async def service(self, request: web.Request) -> web.Response:
        reply = self._sandbox.reply(await _call(request))
        if latency := self._sandbox.faults.latency:
            await asyncio.sleep(latency)
        if isinstance(reply, Withheld):
            if reply is Withheld.SILENCE:
                await self._stopping.wait()
            request.protocol.force_close()
            return web.Response()
        return _response(reply)

    async def identity(self, request: web.Request) -> web.Response:
        return _response(self._sandbox.identify(await _call(request)))

    async def stats(self, _request: web.Request) -> web.Response:
        return _json(200, self._sandbox.stats())

    async def associations(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        lines = (orjson.dumps(each, option=orjson.OPT_APPEND_NEWLINE) for each in self._sandbox.associations)
        while chunk := b"".join(islice(lines, _LINES_AT_ONCE)):
            await response.write(chunk)
        return response

    async def replace_faults(self, request: web.Request) -> web.Response:
        try:
            self._sandbox.faults = Faults.from_json(orjson.loads((await _call(request)).body))
        except ValueError as error:
            return _json(400, {"error": str(error)})
        return web.Response(status=204)

    async def unknown(self, request: web.Request) -> web.Response:
        return _json(404, {"error": f"the sandbox has no {request.method} {request.path}"})

    async def stop(self, _app: web.Application) -> None:
        """Let go of the connections that were left without an answer."""
        self._stopping.set()


def _names(named: str, listens_on: str, local: str) -> bool:
    """Whether the header `Host` names this server.

    Args:
        named: the header.
        listens_on: as it was asked to; a name of this machine, an address, or all addresses.
        local: the address that a connection came to.

    """
    try:
        host = (urlsplit(f"//{named}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if is_loopback(host) or (host and host == listens_on.lower()):
        return True
    try:
        return ip_address(host) == ip_address(local) or _is_any(listens_on)
    except ValueError:  # a name
        return False


def _is_any(address: str) -> bool:
    return not address or ip_address(address).is_unspecified


async def _call(request: web.Request) -> Call:
    url = request.rel_url
    try:
        async with asyncio.timeout(_PATIENCE):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    return Call(request.method, url.raw_path, url.raw_query_string, request.headers, body)


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body or None)


def _json(status: int, content: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")
