"""The same requests by other clients, each in its best plain form; prints what it did as JSON.

    python clients.py NAME REQUESTS --rows N [--ca-file FILE]

REQUESTS has one a line: URL, tab, body. Nothing of this project is imported, and of the clients only the one
that is named, so that any interpreter that has it will do.
"""

# ruff: noqa: PLC0415

import argparse
import asyncio
import gc
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

WORKERS = 64
SECONDS = 30.0
ATTEMPTS = 6
TOKEN = "0123456789abcdef" * 4
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json;charset=utf8",
    "User-Agent": "fpga-batch/0.1.0",
    "X-Auth-Token": TOKEN,
}

Requests = list[tuple[Any, bytes]]
Tls = ssl.SSLContext | None


def check(status: int) -> None:
    if status != 204:
        raise RuntimeError(f"answered with {status}")


async def crowd(work: Callable[[], Awaitable[None]]) -> float:
    """Let many workers do it; return seconds from the first request to the last answer."""
    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(WORKERS)))
    return time.perf_counter() - began


def threads(work: Callable[[], None]) -> float:
    """Do the same with threads."""
    with ThreadPoolExecutor(WORKERS) as pool:
        began = time.perf_counter()
        for done in [pool.submit(work) for _ in range(WORKERS)]:
            done.result()
        return time.perf_counter() - began


@asynccontextmanager
async def session(tls: Tls) -> AsyncIterator[Any]:
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=WORKERS, ssl=tls or True),
        headers=HEADERS,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    ) as opened:
        yield opened


async def by_aiohttp(request: Callable[..., Awaitable[Any]], requests: Requests) -> float:
    from yarl import URL

    shared = iter([(URL(url, encoded=True), body) for url, body in requests])
    gc.freeze()
    gc.set_threshold(50_000)

    async def work() -> None:
        for url, body in shared:
            answer = await request("POST", url, data=body, allow_redirects=False)
            check(answer.status)

    return await crowd(work)


async def bare(requests: Requests, tls: Tls) -> float:
    """Send them as one writes it down: the yardstick."""
    import aiohttp

    shared = iter(requests)

    async def work() -> None:
        for url, body in shared:
            async with opened.post(url, data=body) as answer:
                await answer.read()
                check(answer.status)

    connector = aiohttp.TCPConnector(limit=WORKERS, ssl=tls or True)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as opened:
        return await crowd(work)


async def tuned(requests: Requests, tls: Tls) -> float:
    """Send them as fast as aiohttp can: with URLs made before, no time-out of the whole, nothing read."""
    async with session(tls) as opened:
        return await by_aiohttp(opened.request, requests)


async def aiohttp_retry(requests: Requests, tls: Tls) -> float:
    from aiohttp_retry import ExponentialRetry, RetryClient

    async with session(tls) as opened:
        client = RetryClient(client_session=opened, retry_options=ExponentialRetry(attempts=ATTEMPTS))
        return await by_aiohttp(client.request, requests)


async def httpx(requests: Requests, tls: Tls) -> float:
    import httpx

    shared = iter(requests)
    limits = httpx.Limits(max_connections=WORKERS, max_keepalive_connections=WORKERS)

    async def work() -> None:
        for url, body in shared:
            answer = await client.post(url, content=body)
            check(answer.status_code)

    async with httpx.AsyncClient(
        headers=HEADERS, limits=limits, timeout=SECONDS, verify=tls or True, trust_env=False
    ) as client:
        return await crowd(work)


def requests(requests: Requests, _tls: Tls) -> float:
    from requests import Session

    shared = iter(requests)

    def work() -> None:
        with Session() as client:
            client.trust_env = False
            client.headers.update(HEADERS)
            for url, body in shared:
                check(client.post(url, data=body, timeout=SECONDS, allow_redirects=False).status_code)

    return threads(work)


def urllib3(requests: Requests, tls: Tls) -> float:
    from urllib3 import PoolManager

    pool = PoolManager(maxsize=WORKERS, headers=HEADERS, timeout=SECONDS, ssl_context=tls)
    shared = iter(requests)

    def work() -> None:
        for url, body in shared:
            check(pool.request("POST", url, body=body, redirect=False).status)

    return threads(work)


CLIENTS: dict[str, Callable[[Requests, Tls], Any]] = {
    each.__name__: each for each in (bare, tuned, aiohttp_retry, httpx, requests, urllib3)
}


def read(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open() as file:
        for line in file:
            url, body = line.rstrip("\n").split("\t")
            yield url, body.encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--ca-file", type=Path)
    given = parser.parse_args()
    tls = ssl.create_default_context(cafile=given.ca_file) if given.ca_file else None
    wanted = list(itertools.islice(read(given.requests), given.rows))
    ended = CLIENTS[given.client](wanted, tls)
    seconds = asyncio.run(ended) if asyncio.iscoroutine(ended) else ended
    print(json.dumps({"requests": len(wanted), "seconds": seconds}))


if __name__ == "__main__":
    main()
