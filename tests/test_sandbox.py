"""The stand-in of the service, over real sockets; time, where it matters, is a number that the test sets."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson
import pytest
from support import ACCOUNTS, TOKEN

from jobs.sandbox import (
    Associations,
    Call,
    Catalogue,
    Faults,
    FpgaImage,
    RateLimit,
    Reply,
    Sandbox,
    Withheld,
    create_app,
    parse_rate_limit,
    serve,
)
from jobs.sandbox.faults import Fault, FixedWindow

PROJECT = "a" * 32
OTHER_PROJECT = "b" * 32
FPGA = "4010a32b5f231f04015f24259efd0429"
IMAGE = "89e38a0a-0000-4000-8000-00000000000a"
SHARED = "89e38a0a-0000-4000-8000-00000000000b"
MARKET = "89e38a0a-0000-4000-8000-00000000000c"
PATIENCE = 10
FULL = (
    f"tenant [{PROJECT}] relate fpga image [{FPGA}] and image [{IMAGE}] failed: relation already exist"
    " or the related fpga image count of image reach the max limit"
)


def a_sandbox(catalogue: Catalogue | None = None, **options: Any) -> Sandbox:
    """Return a sandbox that lets the token in for whichever project asks."""
    return Sandbox(replace(catalogue or Catalogue(), accounts=ACCOUNTS), **options)


def fpga(number: int) -> str:
    return f"{number:032x}"


def image(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


class Heard(NamedTuple):
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def message(self) -> str:
        return str(self.json["error"]["message"])

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


class Client:
    def __init__(self, sandbox: Sandbox, url: str, session: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self.url = url
        self.session = session

    async def call(self, method: str, path: str, **options: Any) -> Heard:
        async with self.session.request(method, self.url + path, **options) as response:
            return Heard(response.status, response.headers, await response.read())

    async def fpga_image(self, method: str, rest: str, project: str = PROJECT, **options: Any) -> Heard:
        return await self.call(method, f"/v1/{project}/cloudservers/fpga_image/{rest}", **options)

    async def associate(self, fpga_id: str = FPGA, image_id: str = IMAGE, project: str = PROJECT) -> Heard:
        body = {"image": {"id": image_id}}
        return await self.fpga_image("POST", f"{fpga_id}/association", project, json=body)

    async def disassociate(self, fpga_id: str = FPGA, image_id: str = IMAGE, project: str = PROJECT) -> Heard:
        body = {"image": {"id": image_id}}
        return await self.fpga_image("DELETE", f"{fpga_id}/association", project, json=body)

    async def delete(self, fpga_id: str = FPGA, project: str = PROJECT) -> Heard:
        return await self.fpga_image("DELETE", fpga_id, project)

    async def associations(self, project: str = PROJECT, **query: str) -> Heard:
        return await self.fpga_image("GET", "associations", project, params=query)

    async def pairs(self, **query: str) -> list[tuple[str, str]]:
        heard = await self.associations(**query)
        assert heard.status == 200
        groups = heard.json["associations"]
        return [(each["id"], group["image_id"]) for group in groups for each in group["fpgaimages"]]

    async def detail(self, project: str = PROJECT, **query: str) -> Heard:
        return await self.fpga_image("GET", "detail", project, params=query)

    async def stats(self) -> Any:
        return (await self.call("GET", "/_sandbox/stats")).json


@asynccontextmanager
async def running(sandbox: Sandbox | None = None, token: str = TOKEN) -> AsyncIterator[Client]:
    sandbox = sandbox or a_sandbox()
    async with (
        serve(sandbox, "127.0.0.1", 0) as url,
        aiohttp.ClientSession(headers={"X-Auth-Token": token} if token else {}) as session,
    ):
        yield Client(sandbox, url, session)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running() as client:
        yield client


@pytest.fixture
async def strict_client() -> AsyncIterator[Client]:
    catalogue = Catalogue(
        images={IMAGE: "private", SHARED: "shared", MARKET: "market"},
        fpga_images={
            FPGA: FpgaImage(FPGA),
            fpga(1): FpgaImage(fpga(1), owner=OTHER_PROJECT),
            fpga(2): FpgaImage(fpga(2), owner=PROJECT, status="saving"),
        },
    )
    async with running(a_sandbox(catalogue, strict=True)) as client:
        yield client


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the sandbox has no event for it; this gives way, it does not wait
        await asyncio.sleep(0)


def a_call(number: int = 0) -> Call:
    body = orjson.dumps({"image": {"id": image(number)}})
    path = f"/v1/{PROJECT}/cloudservers/fpga_image/{FPGA}/association"
    return Call("POST", path, "", {"X-Auth-Token": TOKEN}, body)


def answered(reply: Reply | Withheld) -> Reply:
    assert isinstance(reply, Reply)
    return reply


# --- associate and disassociate ---


async def test_an_association_is_answered_204_without_a_body_and_is_kept_under_its_project(
    client: Client,
) -> None:
    heard = await client.associate()
    assert (heard.status, heard.body) == (204, b"")
    assert list(client.sandbox.associations) == [(PROJECT, FPGA, IMAGE)]


async def test_a_repeated_pair_gets_the_same_400_as_a_full_image(client: Client) -> None:
    await client.associate()
    repeated = await client.associate()
    await client.disassociate()
    for number in range(10):
        assert (await client.associate(fpga(number))).status == 204
    full = await client.associate()
    assert (repeated.status, repeated.message) == (400, FULL)
    assert (full.status, full.json) == (400, repeated.json)


async def test_projects_do_not_see_one_another(client: Client) -> None:
    assert (await client.associate()).status == 204
    assert (await client.associate(project=OTHER_PROJECT)).status == 204
    assert (await client.disassociate()).status == 204
    assert list(client.sandbox.associations) == [(OTHER_PROJECT, FPGA, IMAGE)]


@pytest.mark.parametrize(("image_id", "image_type"), [(SHARED, "shared"), (MARKET, "market")])
async def test_an_image_that_is_not_private_is_refused_both_ways(
    strict_client: Client, image_id: str, image_type: str
) -> None:
    for heard in (
        await strict_client.associate(image_id=image_id),
        await strict_client.disassociate(image_id=image_id),
    ):
        message = f"tenant [{PROJECT}] image [{image_id}] type [{image_type}] is not private"
        assert (heard.status, heard.message) == (400, message)


async def test_only_the_owner_may_do_anything_with_an_fpga_image(strict_client: Client) -> None:
    for heard in (
        await strict_client.associate(fpga(1)),
        await strict_client.disassociate(fpga(1)),
        await strict_client.delete(fpga(1)),
        await strict_client.detail(fpga_image_id=fpga(1)),
    ):
        message = f"tenant [{PROJECT}] is not the owner of fpga image [{fpga(1)}]"
        assert (heard.status, heard.message) == (400, message)
    assert (await strict_client.associate(fpga(1), project=OTHER_PROJECT)).status == 204


async def test_an_fpga_image_that_is_not_active_cannot_be_associated(strict_client: Client) -> None:
    heard = await strict_client.associate(fpga(2))
    assert (heard.status, heard.code) == (400, "Ecs.0032")
    assert heard.message == f"Image [{fpga(2)}] must be active."


async def test_an_fpga_image_that_is_not_active_any_more_can_still_be_disassociated() -> None:
    catalogue = Catalogue(fpga_images={FPGA: FpgaImage(FPGA, status="error")})
    async with running(a_sandbox(catalogue)) as client:
        client.sandbox.associations.add(PROJECT, FPGA, IMAGE)
        assert (await client.disassociate()).status == 204


async def test_a_strict_sandbox_misses_unknown_fpga_images(strict_client: Client) -> None:
    for heard in (
        await strict_client.associate(fpga(9)),
        await strict_client.disassociate(fpga(9)),
        await strict_client.delete(fpga(9)),
        await strict_client.associations(fpga_image_id=fpga(9)),
        await strict_client.detail(fpga_image_id=fpga(9)),
    ):
        assert heard.status == 404
        assert heard.message == f"tenant [{PROJECT}] fpga image [{fpga(9)}] doesn't exist"


async def test_a_strict_sandbox_misses_unknown_ecs_images(strict_client: Client) -> None:
    heard = await strict_client.associate(image_id=image(9))
    assert (heard.status, heard.code) == (400, "Ecs.0031")
    assert heard.message == f"Image [{image(9)}] does not exist."


async def test_taking_back_what_is_not_associated_is_a_400(client: Client) -> None:
    heard = await client.disassociate()
    assert heard.status == 400
    assert heard.message == (
        f"tenant [{PROJECT}] unrelate fpga image [{FPGA}] and image [{IMAGE}] failed: relation does not exist"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"image"',
        b'{"image":{}}',
        b'{"image":{"id":null}}',
        b'{"image":{"id":"89E38A0A-0000-4000-8000-00000000000A"}}',
        b'{"image":{"id":"89e38a0a000040008000000000000000"}}',
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_a_malformed_body_is_illegal(client: Client, method: str, body: bytes) -> None:
    heard = await client.fpga_image(method, f"{FPGA}/association", data=body)
    assert (heard.status, heard.code, heard.message) == (400, "Ecs.0005", "request body is illegal.")
    assert len(client.sandbox.associations) == 0


@pytest.mark.parametrize("fpga_id", [FPGA.upper(), FPGA[1:], FPGA + "0", "%20" + FPGA[1:]])
async def test_a_malformed_fpga_image_id_in_the_path_is_illegal(client: Client, fpga_id: str) -> None:
    for heard in (await client.associate(fpga_id), await client.delete(fpga_id)):
        assert (heard.status, heard.code) == (400, "Ecs.0005")
        assert heard.message == "parameter [fpga_image_id] is illegal."


async def test_a_malformed_project_id_is_illegal(client: Client) -> None:
    for heard in (
        await client.associate(project="mine"),
        await client.associations(project="mine"),
        await client.detail(project="mine"),
    ):
        assert (heard.status, heard.message) == (400, "parameter [project_id] is illegal.")


# --- protection and deletion ---


async def test_an_fpga_image_is_protected_from_its_first_association_to_the_end_of_its_last(
    client: Client,
) -> None:
    seen = []
    for step in (
        client.associate(),
        client.associate(image_id=SHARED),
        client.disassociate(),
        client.disassociate(image_id=SHARED),
    ):
        assert (await step).status == 204
        (described,) = (await client.detail(fpga_image_id=FPGA)).json["fpgaimages"]
        seen.append(described["protected"])
    assert seen == [True, True, True, False]


async def test_a_protected_fpga_image_cannot_be_deleted(client: Client) -> None:
    await client.associate()
    heard = await client.delete()
    assert (heard.status, heard.message) == (400, f"tenant [{PROJECT}] fpga image [{FPGA}] is protected")


async def test_a_deleted_fpga_image_is_gone(strict_client: Client) -> None:
    heard = await strict_client.delete()
    assert (heard.status, heard.body) == (204, b"")
    assert (await strict_client.delete()).status == 404
    assert (await strict_client.associate()).status == 404
    listed = (await strict_client.detail()).json
    assert [each["id"] for each in listed["fpgaimages"]] == [fpga(2)]


# --- lists ---


async def test_associations_are_listed_by_ecs_image_in_the_documented_shape() -> None:
    details = {
        "name": "relate-test",
        "description": "for the test",
        "size": 43,
        "createdAt": "2026-01-02 03:04:05",
        "message": "ready",
        "metadata": {"shell_type": "OCL", "shell_version": "1.0"},
        "log_directory": "obs-fpga:vu9p/log",
    }
    catalogue = Catalogue(fpga_images={FPGA: FpgaImage(FPGA, details=details)})
    async with running(a_sandbox(catalogue)) as client:
        await client.associate()
        await client.associate(fpga(1))
        heard = await client.associations(image_id=IMAGE)
    assert heard.headers["Content-Type"] == "application/json;charset=UTF-8"
    (group,) = heard.json["associations"]
    assert group["image_id"] == IMAGE
    told, assumed = group["fpgaimages"]
    assert told == {"id": FPGA, "status": "active", "protected": True, **details}
    assert assumed == {
        "id": fpga(1),
        "name": "fpga-00000000",
        "description": "",
        "status": "active",
        "size": 40,
        "createdAt": "2017-10-16 07:46:06",
        "protected": True,
        "message": None,
        "metadata": {},
        "log_directory": None,
    }


async def test_associations_of_an_fpga_image_are_grouped_by_ecs_image(client: Client) -> None:
    for number in range(3):
        await client.associate(image_id=image(number))
    heard = await client.associations(fpga_image_id=FPGA)
    assert [each["image_id"] for each in heard.json["associations"]] == [image(0), image(1), image(2)]
    assert {len(each["fpgaimages"]) for each in heard.json["associations"]} == {1}


async def test_both_ids_tell_whether_one_pair_is_associated(client: Client) -> None:
    await client.associate()
    await client.associate(fpga(1))
    assert await client.pairs(fpga_image_id=FPGA, image_id=IMAGE) == [(FPGA, IMAGE)]
    assert await client.pairs(fpga_image_id=FPGA, image_id=image(1)) == []


async def test_without_any_id_the_list_of_associations_is_empty(client: Client) -> None:
    await client.associate()
    heard = await client.associations(page="1", size="10")
    assert (heard.status, heard.json) == (200, {"associations": []})


async def test_a_page_of_associations_counts_pairs(client: Client) -> None:
    for number in range(5):
        await client.associate(fpga(number))
    pages = [await client.pairs(image_id=IMAGE, page=str(page), size="2") for page in range(1, 5)]
    assert pages == [
        [(fpga(0), IMAGE), (fpga(1), IMAGE)],
        [(fpga(2), IMAGE), (fpga(3), IMAGE)],
        [(fpga(4), IMAGE)],
        [],
    ]


async def test_associations_of_an_fpga_image_are_paged_too(client: Client) -> None:
    for number in range(3):
        await client.associate(image_id=image(number))
    assert await client.pairs(fpga_image_id=FPGA, page="2", size="2") == [(FPGA, image(2))]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("page=1", "size"),
        ("size=1", "page"),
        ("page=0&size=1", "page"),
        ("page=65535&size=1", "page"),
        ("page=%2B1&size=1", "page"),
        ("page=+1&size=1", "page"),
        ("page=1.0&size=1", "page"),
        ("page=1&size=0", "size"),
        ("page=1&size=101", "size"),
        ("page=1&size=-1", "size"),
        ("page=1&size=", "size"),
        ("page=1&size=9999999999", "size"),
    ],
)
@pytest.mark.parametrize("path", [f"associations?image_id={IMAGE}&", "detail?"])
async def test_pages_outside_the_documented_form_are_illegal(
    client: Client, path: str, query: str, parameter: str
) -> None:
    heard = await client.fpga_image("GET", path + query)
    assert (heard.status, heard.code) == (400, "Ecs.0005")
    assert heard.message == f"parameter [{parameter}] is illegal."


async def test_the_ends_of_the_page_ranges_are_taken(client: Client) -> None:
    await client.associate()
    assert await client.pairs(image_id=IMAGE, page="1", size="100") == [(FPGA, IMAGE)]
    assert await client.pairs(image_id=IMAGE, page="65534", size="1") == []


async def test_paging_is_ignored_where_the_ids_name_one_thing(client: Client) -> None:
    await client.associate()
    assert await client.pairs(fpga_image_id=FPGA, image_id=IMAGE, page="0") == [(FPGA, IMAGE)]
    heard = await client.detail(fpga_image_id=FPGA, page="7", size="1000")
    assert heard.json["count"] == 1


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("associations?image_id=x", "image_id"),
        ("associations?image_id=", "image_id"),
        ("associations?fpga_image_id=x", "fpga_image_id"),
        ("detail?fpga_image_id=x", "fpga_image_id"),
    ],
)
async def test_a_malformed_id_in_a_query_is_illegal(client: Client, path: str, parameter: str) -> None:
    heard = await client.fpga_image("GET", path)
    assert (heard.status, heard.message) == (400, f"parameter [{parameter}] is illegal.")


async def test_own_fpga_images_are_those_of_the_catalogue_and_those_associated() -> None:
    catalogue = Catalogue(
        fpga_images={
            FPGA: FpgaImage(FPGA, owner=PROJECT),
            fpga(1): FpgaImage(fpga(1), owner=OTHER_PROJECT),
            fpga(2): FpgaImage(fpga(2)),
        }
    )
    async with running(a_sandbox(catalogue)) as client:
        await client.associate()
        await client.associate(fpga(3))
        everything = (await client.detail()).json
        second = (await client.detail(page="2", size="2")).json
    assert everything["count"] == 3
    shown = [(each["id"], each["protected"]) for each in everything["fpgaimages"]]
    assert shown == [(FPGA, True), (fpga(2), False), (fpga(3), True)]
    assert (second["count"], [each["id"] for each in second["fpgaimages"]]) == (3, [fpga(3)])


# --- the store ---


def test_the_store_forgets_partners_in_any_order() -> None:
    store = Associations()
    for number in range(3):
        store.add(PROJECT, FPGA, image(number))
    store.remove(PROJECT, FPGA, image(1))
    assert list(store.of_fpga_image(PROJECT, FPGA)) == [image(0), image(2)]
    assert (PROJECT, FPGA, image(1)) not in store
    assert (PROJECT, FPGA, image(2)) in store
    store.remove(PROJECT, FPGA, image(2))
    store.remove(PROJECT, FPGA, image(0))
    assert (len(store), list(store), list(store.fpga_images(PROJECT))) == (0, [], [])


def test_the_store_may_be_changed_while_it_is_gone_through() -> None:
    store = Associations()
    for number in range(4):
        store.add(PROJECT, FPGA, image(number))
    walk = iter(store)
    next(walk)
    store.remove(PROJECT, FPGA, image(3))
    store.add(OTHER_PROJECT, FPGA, image(3))
    assert [each[2] for each in walk] == [image(1), image(2)]


# --- the gateway ---


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"/v1/{PROJECT}/cloudservers/fpga_image"),
        ("POST", f"/v2/{PROJECT}/cloudservers/fpga_image"),
        ("PUT", f"/v1/{PROJECT}/cloudservers/fpga_image/{FPGA}/association"),
        ("POST", f"/v1/{PROJECT}/cloudservers/fpga_image/detail"),
        ("GET", "/"),
    ],
)
async def test_unknown_paths_and_methods_get_the_gateways_404(client: Client, method: str, path: str) -> None:
    heard = await client.call(method, path)
    assert (heard.status, heard.headers["Server"]) == (404, "api-gateway")
    assert heard.json == {
        "error_msg": "The API does not exist or has not been published in the environment.",
        "error_code": "APIGW.0101",
        "request_id": heard.headers["X-Request-Id"],
    }


async def test_a_call_without_credentials_gets_the_gateways_401() -> None:
    async with running(token="") as client:
        heard = await client.associate()
        assert (heard.status, heard.headers["Server"]) == (401, "api-gateway")
        assert heard.json["error_code"] == "APIGW.0301"
        assert heard.json["error_msg"] == ("Incorrect IAM authentication information: x-auth-token not found")
        assert len(client.sandbox.associations) == 0


async def test_every_answer_has_a_request_id_of_its_own(client: Client) -> None:
    answers = [await client.associate(), await client.associate(), await client.detail()]
    ids = [heard.headers["X-Request-Id"] for heard in answers]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert len(set(ids)) == 3


# --- the rate limit ---


@pytest.mark.parametrize(
    ("text", "limit", "words"),
    [
        ("50/s", RateLimit(50, 1), "limit:50,time:1 second"),
        (" 600/Min ", RateLimit(600, 60), "limit:600,time:1 minute"),
        ("5/hour", RateLimit(5, 3600), "limit:5,time:1 hour"),
        ("1/d", RateLimit(1, 86400), "limit:1,time:1 day"),
    ],
)
def test_a_rate_limit_is_read_and_told_in_its_unit(text: str, limit: RateLimit, words: str) -> None:
    assert parse_rate_limit(text) == limit
    assert str(limit) == words


def test_a_window_of_several_units_is_told_as_such() -> None:
    assert str(RateLimit(5, 90)) == "limit:5,time:90 second"
    assert str(RateLimit(5, 120)) == "limit:5,time:2 minute"


@pytest.mark.parametrize("text", ["", "5", "5/", "/s", "0/s", "-5/s", "5/week", "5.5/s", "5/s/s"])
def test_a_rate_limit_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^rate limit .*: expected a number of calls per"):
        parse_rate_limit(text)


def test_a_window_starts_with_its_first_call_and_afresh_when_it_has_ended() -> None:
    clock = Clock()
    window = FixedWindow(RateLimit(2, 60), clock)
    assert [window.wait(), window.wait(), window.wait()] == [0, 0, 60]
    clock.now += 59.5
    assert window.wait() == 0.5
    clock.now += 0.5
    assert [window.wait(), window.wait(), window.wait()] == [0, 0, 60]


async def test_calls_over_the_limit_get_the_gateways_429_until_the_window_ends() -> None:
    clock = Clock()
    sandbox = a_sandbox(faults=Faults(rate_limit=RateLimit(5, 60)), clock=clock)
    async with running(sandbox) as client:
        statuses = [(await client.associate(fpga(number))).status for number in range(7)]
        heard = await client.associate()
        clock.now += 60
        statuses.append((await client.associate(fpga(7))).status)
        stats = await client.stats()
    assert statuses == [204] * 5 + [429] * 2 + [204]
    assert heard.headers["Server"] == "api-gateway"
    assert "Retry-After" not in heard.headers
    assert heard.json == {
        "error_msg": "The throttling threshold has been reached: policy user over ratelimit,"
        "limit:5,time:1 minute",
        "error_code": "APIGW.0308",
        "request_id": heard.headers["X-Request-Id"],
    }
    assert (stats["requests"], stats["statuses"]) == (9, {"204": 6, "429": 3})


def test_retry_after_is_the_rest_of_the_window_in_whole_seconds_rounded_up() -> None:
    clock = Clock()
    sandbox = a_sandbox(faults=Faults(rate_limit=RateLimit(1, 60), retry_after=True), clock=clock)
    assert "Retry-After" not in answered(sandbox.reply(a_call())).headers
    clock.now += 10.25
    assert answered(sandbox.reply(a_call())).headers["Retry-After"] == "50"


# --- faults ---


@pytest.mark.parametrize(
    ("fault", "status", "code", "applied"),
    [
        ("error-before", 500, "Common.0001", False),
        ("error-after", 500, "Common.0001", True),
        ("flow-limit", 202, "Common.0024", False),
    ],
)
async def test_a_spoiled_answer_carries_an_error_and_is_applied_or_not(
    fault: str, status: int, code: str, *, applied: bool
) -> None:
    async with running(a_sandbox(faults=Faults.parse([f"{fault}=1"]))) as client:
        heard = await client.associate()
        stats = await client.stats()
    assert (heard.status, heard.code) == (status, code)
    assert "X-Request-Id" in heard.headers
    assert stats["associations"] == applied
    assert stats["faults"] == {fault.replace("-", "_"): 1}


async def test_a_bad_gateway_is_a_page_of_html_whether_applied_or_not() -> None:
    async with running(a_sandbox(faults=Faults(bad_gateway=1))) as client:
        for number in range(40):
            heard = await client.associate(image_id=image(number))
            assert (heard.status, heard.headers["Content-Type"]) == (502, "text/html")
            assert heard.body.startswith(b"<html>")
        assert 0 < len(client.sandbox.associations) < 40


@pytest.mark.parametrize(("fault", "applied"), [("drop-before", 0), ("drop-after", 1)])
async def test_a_dropped_connection_is_closed_without_an_answer(fault: str, applied: int) -> None:
    async with running(a_sandbox(faults=Faults.parse([f"{fault}=1"]))) as client:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.associate()
        stats = await client.stats()
    assert (stats["associations"], stats["statuses"]) == (applied, {})
    assert stats["faults"] == {fault.replace("-", "_"): 1}


async def test_a_silent_connection_is_held_open_and_stopping_is_clean_and_does_not_wait_for_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.sandbox.server._GRACE", 3600)
    sandbox = a_sandbox(faults=Faults(silence=1))
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession(headers={"X-Auth-Token": TOKEN}) as session:
        async with serve(sandbox, "127.0.0.1", 0) as url:
            client = Client(sandbox, url, session)
            held = [asyncio.create_task(client.associate(image_id=image(number))) for number in range(40)]
            await until(lambda: sandbox.stats()["requests"] == 40)
            assert not any(task.done() for task in held)
        for task in held:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await task
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.stats()
    assert sandbox.stats()["statuses"] == {}
    assert 0 < len(sandbox.associations) < 40
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_a_client_that_gives_up_on_a_silent_connection_leaves_nothing_behind(client: Client) -> None:
    client.sandbox.faults = Faults(silence=1)
    before = asyncio.all_tasks()
    async with asyncio.timeout(PATIENCE):
        given_up = asyncio.create_task(client.associate())
        await until(lambda: client.sandbox.stats()["requests"] == 1)
        given_up.cancel()
        await asyncio.wait([given_up])
        await until(lambda: not asyncio.all_tasks() - before)


async def test_every_answer_takes_the_latency(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    client.sandbox.faults = Faults(latency=30)
    monkeypatch.setattr("jobs.sandbox.server.asyncio.sleep", sleep)
    assert (await client.associate()).status == 204
    assert (await client.associate()).status == 400
    assert slept == [30, 30]


def test_faults_come_before_credentials_and_rules() -> None:
    sandbox = a_sandbox(faults=Faults(error_before=1))
    assert answered(sandbox.reply(a_call()._replace(headers={}))).status == 500
    sandbox.faults = Faults(error_after=1)
    assert answered(sandbox.reply(a_call()._replace(headers={}))).status == 500
    assert len(sandbox.associations) == 0


def test_the_rate_limit_comes_before_faults_and_a_throttled_call_still_uses_its_draw() -> None:
    faults = Faults(error_before=0.5)
    free, limited = a_sandbox(faults=faults), a_sandbox(faults=faults)
    limited.faults = Faults(error_before=0.5, rate_limit=RateLimit(1, 3600))
    first = [answered(free.reply(a_call(number))).status for number in range(60)]
    throttled = [answered(limited.reply(a_call(number))).status for number in range(30)]
    limited.faults = faults
    rest = [answered(limited.reply(a_call(number))).status for number in range(30, 60)]
    assert throttled[1:] == [429] * 29
    assert rest == first[30:]
    assert limited.stats()["faults"]["error_before"] == [throttled[0], *rest].count(500)


def test_one_seed_gives_one_sequence_of_faults() -> None:
    def replies(seed: int) -> list[int]:
        sandbox = a_sandbox(faults=Faults(error_before=0.3, error_after=0.3), seed=seed)
        return [answered(sandbox.reply(a_call(number))).status for number in range(50)]

    assert replies(1) == replies(1)
    assert replies(1) != replies(2)


def test_one_draw_decides_fault_and_coin() -> None:
    faults = Faults(error_before=0.25, bad_gateway=0.25, silence=0.25)
    assert [faults.draw(chance) for chance in (0.0, 0.3, 0.4, 0.55, 0.7, 0.75, 0.99)] == [
        Fault("error_before", applied=False),
        Fault("bad_gateway", applied=False),
        Fault("bad_gateway", applied=True),
        Fault("silence", applied=False),
        Fault("silence", applied=True),
        None,
        None,
    ]


def test_faults_are_read_from_options() -> None:
    faults = Faults.parse(
        ["error-before=0.05", "drop_after = 1e-3"], latency=0.02, rate_limit=RateLimit(5, 1), retry_after=True
    )
    assert faults == Faults(
        error_before=0.05, drop_after=0.001, latency=0.02, rate_limit=RateLimit(5, 1), retry_after=True
    )
    assert Faults.parse([]) == Faults()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["error=0.1"], "fault 'error' is unknown; known are error-before, error-after, bad-gateway"),
        (["latency=1"], "fault 'latency' is unknown"),
        (["silence"], "fault 'silence': expected NAME=PROBABILITY, as silence=0.05"),
        (["silence=often"], "fault 'silence=often': expected NAME=PROBABILITY"),
        (["silence=0.1", "silence=0.2"], "fault 'silence=0.2': silence is given twice"),
        (["error-before=1.5"], "error-before 1.5: expected a probability from 0 to 1"),
        (["silence=nan"], "silence nan: expected a probability from 0 to 1"),
        (["silence=0.6", "drop-before=0.6"], "the probabilities of all faults add up to 1.2, more than 1"),
    ],
)
def test_options_that_are_no_faults_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Faults.parse(options)


@pytest.mark.parametrize("latency", [-1.0, float("inf"), float("nan")])
def test_a_latency_that_cannot_be_waited_is_refused(latency: float) -> None:
    with pytest.raises(ValueError, match=r"^latency .*: expected a number of seconds, 0 or more"):
        Faults(latency=latency)


# --- control ---


async def test_control_calls_are_neither_counted_nor_throttled_nor_spoiled_and_need_no_token() -> None:
    faults = Faults(silence=1, latency=3600, rate_limit=RateLimit(1, 86400))
    async with asyncio.timeout(PATIENCE), running(a_sandbox(faults=faults), token="") as client:
        for _ in range(3):
            assert await client.stats() == {
                "requests": 0,
                "statuses": {},
                "faults": {},
                "worst_second": 0,
                "associations": 0,
                "tokens_issued": 0,
                "denied": 0,
            }
        assert (await client.call("GET", "/_sandbox/associations")).body == b""
        assert (await client.call("PUT", "/_sandbox/faults", data=b"{}")).status == 204


async def test_stats_tell_what_was_answered(client: Client) -> None:
    await client.associate()
    await client.associate()
    await client.detail()
    stats = await client.stats()
    assert stats["worst_second"] in (1, 2, 3)
    assert {**stats, "worst_second": 3} == {
        "requests": 3,
        "statuses": {"200": 1, "204": 1, "400": 1},
        "faults": {},
        "worst_second": 3,
        "associations": 1,
        "tokens_issued": 0,
        "denied": 0,
    }


def test_the_worst_second_slides() -> None:
    clock = Clock()
    sandbox = a_sandbox(clock=clock)
    for arrival in (0.0, 0.5, 0.75, 1.0, 1.25, 1.375, 1.5, 3.0, 3.25):
        clock.now = 1000 + arrival
        sandbox.reply(a_call())
    assert sandbox.stats()["worst_second"] == 5


async def test_all_associations_are_given_as_json_lines(client: Client) -> None:
    for number in range(2500):
        client.sandbox.associations.add(PROJECT, FPGA, image(number))
    heard = await client.call("GET", "/_sandbox/associations")
    assert heard.headers["Content-Type"] == "application/jsonl"
    lines = [orjson.loads(line) for line in heard.body.splitlines()]
    assert lines == [[PROJECT, FPGA, image(number)] for number in range(2500)]


async def test_faults_are_replaced_while_running(client: Client) -> None:
    outage = {
        "error-before": 1,
        "latency": 0.0,
        "rate_limit": "2/min",
        "retry-after": True,
    }
    assert (await client.call("PUT", "/_sandbox/faults", json=outage)).status == 204
    assert client.sandbox.faults == Faults(error_before=1, rate_limit=RateLimit(2, 60), retry_after=True)
    assert [(await client.associate()).status for _ in range(3)] == [500, 500, 429]
    assert (await client.call("PUT", "/_sandbox/faults", json={"rate_limit": None})).status == 204
    assert (await client.associate()).status == 204


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "unexpected end of data"),
        (b"[]", "faults: expected an object"),
        (
            b'{"outage":1}',
            "fault 'outage' is unknown; known are latency, rate-limit, retry-after, error-before",
        ),
        (b'{"silence":"1"}', "silence: expected a number"),
        (b'{"silence":true}', "silence: expected a number"),
        (b'{"error-before":2}', "error-before 2: expected a probability from 0 to 1"),
        (b'{"rate-limit":5}', "rate-limit: expected a limit such as 50/s, or null"),
        (b'{"rate-limit":"5"}', "rate limit '5': expected a number of calls per"),
        (b'{"rate-limit":""}', "rate limit '': expected a number of calls per"),
        (b'{"retry-after":1}', "retry-after: expected true or false"),
    ],
)
async def test_faults_that_cannot_be_used_are_refused_and_change_nothing(
    client: Client, body: bytes, message: str
) -> None:
    client.sandbox.faults = Faults(flow_limit=1)
    heard = await client.call("PUT", "/_sandbox/faults", data=body)
    assert heard.status == 400
    assert heard.json["error"].startswith(message)
    assert client.sandbox.faults == Faults(flow_limit=1)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/_sandbox/"), ("GET", "/_sandbox"), ("POST", "/_sandbox/stats")]
)
async def test_unknown_control_calls_are_told_apart_from_the_service(
    client: Client, method: str, path: str
) -> None:
    heard = await client.call(method, path)
    assert (heard.status, heard.json) == (404, {"error": f"the sandbox has no {method} {path}"})
    assert (await client.stats())["requests"] == 0


# --- starting ---


async def test_a_port_in_use_is_an_oserror_and_leaves_nothing_running() -> None:
    async with running() as client:
        port = int(client.url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"):
            async with serve(a_sandbox(), "127.0.0.1", port):
                pass
        assert (await client.associate()).status == 204


def test_the_app_can_be_made_without_a_running_loop() -> None:
    assert len(create_app(a_sandbox()).router.resources()) == 6


# --- the catalogue ---


def catalogue_file(folder: Path, content: Any) -> Path:
    path = folder / "catalogue.json"
    path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return path


def test_a_catalogue_is_read_from_a_file(tmp_path: Path) -> None:
    details = {"name": "n", "size": 1, "message": None, "metadata": {"a": 1}}
    content = {
        "images": [{"id": IMAGE, "type": "private"}, {"id": SHARED, "type": "shared"}],
        "fpga_images": [
            {"id": FPGA, "owner": PROJECT, "status": "saving", **details},
            {"id": fpga(1), "owner": None},
        ],
    }
    assert Catalogue.load(catalogue_file(tmp_path, content)) == Catalogue(
        images={IMAGE: "private", SHARED: "shared"},
        fpga_images={FPGA: FpgaImage(FPGA, PROJECT, "saving", details), fpga(1): FpgaImage(fpga(1))},
    )
    assert Catalogue.load(str(catalogue_file(tmp_path, {}))) == Catalogue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON: unexpected end of data"),
        ([], "the catalogue: must be an object"),
        ({"image": []}, "the catalogue: unknown key 'image'; known are images, fpga_images"),
        ({"images": {}}, "images: must be a list"),
        ({"fpga_images": None}, "fpga_images: must be a list"),
        ({"images": [1]}, "images[0]: must be an object"),
        ({"images": [{"id": IMAGE, "typ": 1}]}, "images[0]: unknown key 'typ'; known are id, type"),
        ({"images": [{"type": "private"}]}, "images[0].id: None is not a lower-case UUID"),
        ({"images": [{"id": FPGA, "type": "private"}]}, f"images[0].id: '{FPGA}' is not a lower-case UUID"),
        ({"images": [{"id": IMAGE}]}, "images[0].type: None is none of private, shared, market"),
        (
            {"images": [{"id": IMAGE, "type": "private"}] * 2},
            f"images[1].id: '{IMAGE}' stands there twice",
        ),
        (
            {"images": [{"id": IMAGE, "type": "public"}]},
            "images[0].type: 'public' is none of private, shared, market",
        ),
        (
            {"fpga_images": [{"id": FPGA}, {"id": "F"}]},
            "fpga_images[1].id: 'F' is not 32 lower-case hex digits",
        ),
        (
            {"fpga_images": [{"id": FPGA, "owner": "me"}]},
            "fpga_images[0].owner: 'me' is neither a project id (32 lower-case hex digits) nor null",
        ),
        (
            {"fpga_images": [{"id": FPGA, "status": "done"}]},
            "fpga_images[0].status: 'done' is none of active,",
        ),
        ({"fpga_images": [{"id": FPGA, "size": "40"}]}, "fpga_images[0].size: '40' has the wrong type"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_refused_by_file_key_and_cause(
    tmp_path: Path, content: Any, message: str
) -> None:
    path = catalogue_file(tmp_path, content)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}"):
        Catalogue.load(path)


def test_a_catalogue_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "missing.json"
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: cannot be read: No such file"):
        Catalogue.load(path)
