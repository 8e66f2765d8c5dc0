"""The sandbox on a socket: the part that knows aiohttp."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

import orjson
from aiohttp import web
from yarl import URL

from jobs.sandbox.faults import Faults
from jobs.sandbox.messages import Call, Reply, Withheld
from jobs.sandbox.service import Sandbox

_BODY_LIMIT = 12 * 1024 * 1024
_FIELD_LIMIT = 65536  # a token has up to 16,384 characters; aiohttp's own limit is 8,190
_GRACE = 0.5  # seconds that answers under way have when the server stops
_BACKLOG = 1024
_LINES_AT_ONCE = 1000


def create_app(sandbox: Sandbox) -> web.Application:
    """Return the service, IAM under `/v3`, and under `/_sandbox/` the means to watch it and to disturb it."""
    app = web.Application(client_max_size=_BODY_LIMIT)
    front = _Front(sandbox)
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
        create_app(sandbox),
        access_log=None,
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
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._stopping = asyncio.Event()

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
            self._sandbox.faults = Faults.from_json(orjson.loads(await request.read()))
        except ValueError as error:
            return _json(400, {"error": str(error)})
        return web.Response(status=204)

    async def unknown(self, request: web.Request) -> web.Response:
        return _json(404, {"error": f"the sandbox has no {request.method} {request.path}"})

    async def stop(self, _app: web.Application) -> None:
        """Let go of the connections that were left without an answer."""
        self._stopping.set()


async def _call(request: web.Request) -> Call:
    url = request.rel_url
    return Call(request.method, url.raw_path, url.raw_query_string, request.headers, await request.read())


def _response(reply: Reply) -> web.Response:
    return web.Response(status=reply.status, headers=reply.headers, body=reply.body or None)


def _json(status: int, content: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")
