"""IAM in the sandbox: tokens are issued, used, used up and run out, at times that the test sets."""

from typing import Any

import aiohttp
import orjson
import pytest
from multidict import CIMultiDict
from support import PROJECT, Clock, fpga, image

from jobs.auth.signing import Keys, signed
from jobs.sandbox import Accounts, Call, Catalogue, Faults, Named, RateLimit, Reply, Sandbox, User, serve

NOW = 1_767_323_045.0  # 2026-01-02 03:04:05
DOMAIN = Named("d0" * 16, "OTC00000000001000000001")
USER = User("0a" * 16, "robot", "secret")
REGION = Named(PROJECT, "cn-north-1")
OTHER_REGION = Named("fedcba9876543210fedcba9876543210", "eu-de")
KEYS = Keys("AK", "sk")
ACCOUNTS = Accounts(
    domain=DOMAIN,
    users=(User("0b" * 16, "another", "secret"), USER),
    projects=(REGION, OTHER_REGION),
    access_keys=(KEYS,),
    tokens={"standing": None},
)
UNAUTHORIZED = "The request you have made requires authentication."


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return Sandbox(Catalogue(accounts=ACCOUNTS), now=clock)


BY_NAME = {"name": USER.name, "password": USER.password, "domain": {"name": DOMAIN.name}}
BY_ID = {"id": USER.id, "password": USER.password}
IN_REGION = {"project": {"name": REGION.name, "domain": {"name": DOMAIN.name}}}


def with_password(user: Any = BY_NAME, scope: Any = IN_REGION) -> Any:
    auth = {"identity": {"methods": ["password"], "password": {"user": user}}}
    return {"auth": auth | ({"scope": scope} if scope else {})}


def with_token(token: str, scope: Any = IN_REGION) -> Any:
    return {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}, "scope": scope}}


def ask(sandbox: Sandbox, content: Any) -> Reply:
    """Ask for a token."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return sandbox.identify(Call("POST", "/v3/auth/tokens", "nocatalog=true", CIMultiDict(), body))


def get(sandbox: Sandbox, path: str, query: str = "", **headers: str) -> Reply:
    sent = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return sandbox.identify(Call("GET", path, query, sent, b""))


def token_in(reply: Reply) -> str:
    assert reply.status == 201, reply.body
    return reply.headers["X-Subject-Token"]


def use(sandbox: Sandbox, token: str, project: str = PROJECT) -> tuple[int, str]:
    """Call the service with a token; return its status and what the gateway says."""
    path = f"/v1/{project}/cloudservers/fpga_image/detail"
    reply = sandbox.reply(Call("GET", path, "", CIMultiDict({"X-Auth-Token": token}), b""))
    assert isinstance(reply, Reply)
    said = orjson.loads(reply.body).get("error_msg", "")
    return reply.status, said.removeprefix("Incorrect IAM authentication information: ")


def error(reply: Reply) -> tuple[int, str, str]:
    """Return what an error in Keystone's shape says."""
    told = orjson.loads(reply.body)["error"]
    assert told.keys() == {"code", "message", "title"}
    assert told["code"] == reply.status
    return reply.status, told["title"], told["message"]


# --- asking for a token ---


def test_a_token_tells_whose_it_is_where_it_is_good_and_until_when(sandbox: Sandbox) -> None:
    reply = ask(sandbox, with_password())
    domain = {"id": DOMAIN.id, "name": DOMAIN.name}
    assert reply.status == 201
    assert orjson.loads(reply.body) == {
        "token": {
            "methods": ["password"],
            "issued_at": "2026-01-02T03:04:05.000000Z",
            "expires_at": "2026-01-03T03:04:05.000000Z",
            "user": {"id": USER.id, "name": USER.name, "domain": domain},
            "project": {"id": REGION.id, "name": REGION.name, "domain": domain},
            "roles": [{"id": "0", "name": "te_admin"}],
        }
    }
    assert use(sandbox, token_in(reply)) == (200, "")


@pytest.mark.parametrize(
    "user",
    [
        BY_NAME,
        BY_ID,
        {**BY_NAME, "domain": {"id": DOMAIN.id}},
        {**BY_ID, "domain": {"name": "ignored beside an id"}},
    ],
)
@pytest.mark.parametrize(
    "project",
    [
        {"id": OTHER_REGION.id},
        {"name": OTHER_REGION.name, "domain": {"name": DOMAIN.name}},
        {"name": OTHER_REGION.name, "domain": {"id": DOMAIN.id}},
    ],
)
def test_user_and_project_are_named_by_id_or_by_name_and_domain(
    sandbox: Sandbox, user: Any, project: Any
) -> None:
    reply = ask(sandbox, with_password(user, {"project": project}))
    token = orjson.loads(reply.body)["token"]
    assert (token["user"]["name"], token["project"]["name"]) == (USER.name, OTHER_REGION.name)
    assert use(sandbox, token_in(reply), OTHER_REGION.id) == (200, "")


def test_a_token_is_good_for_its_project_only(sandbox: Sandbox) -> None:
    token = token_in(ask(sandbox, with_password()))
    assert use(sandbox, token, OTHER_REGION.id) == (400, "")


def test_a_token_without_a_scope_is_good_for_no_project(sandbox: Sandbox) -> None:
    reply = ask(sandbox, with_password(scope=None))
    assert "project" not in orjson.loads(reply.body)["token"]
    assert use(sandbox, token_in(reply)) == (400, "")
    assert get(sandbox, "/v3/auth/projects", X_Auth_Token=token_in(reply)).status == 200


@pytest.mark.parametrize(
    "content",
    [
        with_password({**BY_NAME, "password": "wrong"}),
        with_password({**BY_NAME, "name": "nobody"}),
        with_password({**BY_NAME, "domain": {"name": "elsewhere"}}),
        with_password({**BY_NAME, "domain": {"id": DOMAIN.name}}),
        with_password({**BY_ID, "id": USER.name}),
        with_password(scope={"project": {"id": "f" * 32}}),
        with_password(scope={"project": {"name": "nowhere", "domain": {"name": DOMAIN.name}}}),
        with_password(scope={"project": {"name": REGION.name, "domain": {"name": "elsewhere"}}}),
        with_token("MIInobodys"),
    ],
)
def test_whatever_is_wrong_the_answer_is_the_same(sandbox: Sandbox, content: Any) -> None:
    assert error(ask(sandbox, content)) == (401, "Unauthorized", UNAUTHORIZED)
    assert sandbox.stats()["denied"] == 1
    assert sandbox.stats()["tokens_issued"] == 0


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"", "auth in request body"),
        (b"{", "auth in request body"),
        ([], "auth in request body"),
        ({"auth": None}, "auth in request body"),
        ({"auth": {}}, "identity in auth"),
        ({"auth": {"identity": {}}}, "methods in identity"),
        ({"auth": {"identity": {"methods": []}}}, "methods in identity"),
        ({"auth": {"identity": {"methods": ["password"]}}}, "password in identity"),
        ({"auth": {"identity": {"methods": ["token"]}}}, "token in identity"),
        ({"auth": {"identity": {"methods": ["token"], "token": {}}}}, "id in token"),
        (with_password("robot"), "user in password"),
        (with_password({"name": "robot"}), "password in user"),
        (with_password({"password": "p"}), "name in user"),
        (with_password({"name": "robot", "password": "p"}), "domain in user"),
        (with_password({**BY_NAME, "domain": {}}), "name in domain"),
        (with_password(scope={"domain": {"name": DOMAIN.name}}), "project in scope"),
        (with_password(scope="cn-north-1"), "scope in auth"),
        (with_password(scope={"project": {"name": "cn-north-1"}}), "domain in project"),
        (with_password(scope={"project": {"id": 1}}), "id in project"),
    ],
)
def test_a_malformed_request_is_told_what_is_missing(sandbox: Sandbox, content: Any, missing: str) -> None:
    status, title, message = error(ask(sandbox, content))
    assert (status, title) == (400, "Bad Request")
    assert message.startswith(f"Expecting to find {missing}. The server could not comply")
    assert sandbox.stats()["denied"] == 0


def test_another_method_is_not_supported(sandbox: Sandbox) -> None:
    content = {"auth": {"identity": {"methods": ["totp"]}}}
    assert error(ask(sandbox, content)) == (
        401,
        "Unauthorized",
        "Attempted to authenticate with an unsupported method.",
    )


def test_a_token_got_with_a_token_is_for_another_project_and_ends_with_the_first(
    sandbox: Sandbox, clock: Clock
) -> None:
    first = token_in(ask(sandbox, with_password()))
    clock.now += 3600
    reply = ask(sandbox, with_token(first, {"project": {"id": OTHER_REGION.id}}))
    told = orjson.loads(reply.body)["token"]
    assert told["methods"] == ["token", "password"]
    assert told["issued_at"] == "2026-01-02T04:04:05.000000Z"
    assert told["expires_at"] == "2026-01-03T03:04:05.000000Z"
    assert told["user"]["name"] == USER.name
    assert use(sandbox, token_in(reply), OTHER_REGION.id) == (200, "")


def test_a_new_token_leaves_the_old_ones_good(sandbox: Sandbox) -> None:
    tokens = [token_in(ask(sandbox, with_password())) for _ in range(3)]
    assert len(set(tokens)) == 3
    assert [use(sandbox, each) for each in tokens] == [(200, "")] * 3
    assert sandbox.stats()["tokens_issued"] == 3


# --- the end of a token ---


def test_a_token_runs_out_after_its_lifetime(clock: Clock) -> None:
    sandbox = Sandbox(Catalogue(accounts=ACCOUNTS), token_lifetime=60, now=clock)
    token = token_in(ask(sandbox, with_password()))
    clock.now += 59
    assert use(sandbox, token) == (200, "")
    clock.now += 1
    assert use(sandbox, token) == (401, "token expires")
    assert error(ask(sandbox, with_token(token)))[0] == 401
    assert get(sandbox, "/v3/projects", X_Auth_Token=token).status == 401


def test_a_token_is_used_up_after_so_many_calls_of_the_service(clock: Clock) -> None:
    sandbox = Sandbox(Catalogue(accounts=ACCOUNTS), token_uses=2, now=clock)
    token = token_in(ask(sandbox, with_password()))
    assert get(sandbox, "/v3/auth/tokens", X_Auth_Token=token, X_Subject_Token=token).status == 200
    assert [use(sandbox, token)[0] for _ in range(3)] == [200, 200, 401]
    assert use(sandbox, token) == (401, "token expires")
    assert use(sandbox, token_in(ask(sandbox, with_password()))) == (200, "")
    assert [use(sandbox, "standing")[0] for _ in range(5)] == [200] * 5


@pytest.mark.parametrize("length", [180, 16_384])
async def test_a_token_has_the_length_that_was_asked_for_and_is_carried_both_ways(length: int) -> None:
    sandbox = Sandbox(Catalogue(accounts=ACCOUNTS), token_length=length)
    async with (
        serve(sandbox) as url,
        aiohttp.ClientSession(max_field_size=65536) as session,
    ):
        async with session.post(f"{url}/v3/auth/tokens?nocatalog=true", json=with_password()) as answer:
            token = answer.headers["X-Subject-Token"]
        detail = f"{url}/v1/{PROJECT}/cloudservers/fpga_image/detail"
        async with session.get(detail, headers={"X-Auth-Token": token}) as answer:
            assert answer.status == 200
    assert len(token) == length
    assert token.startswith("MII")


# --- what a token is ---


def test_a_token_is_described_to_whom_has_it(sandbox: Sandbox) -> None:
    issued = ask(sandbox, with_password())
    token = token_in(issued)
    reply = get(sandbox, "/v3/auth/tokens", X_Auth_Token="standing", X_Subject_Token=token)
    assert (reply.status, reply.body) == (200, issued.body)
    assert reply.headers["X-Subject-Token"] == token


def test_a_standing_token_is_described_too(sandbox: Sandbox) -> None:
    reply = get(sandbox, "/v3/auth/tokens", X_Auth_Token="standing", X_Subject_Token="standing")
    told = orjson.loads(reply.body)["token"]
    assert told["expires_at"] == "9999-12-31T23:59:59.000000Z"
    assert told["user"]["name"] == "another"
    assert "project" not in told


def test_a_token_that_is_not_good_is_not_found(sandbox: Sandbox) -> None:
    for headers in ({"X_Subject_Token": "MIInobodys"}, {}):
        reply = get(sandbox, "/v3/auth/tokens", X_Auth_Token="standing", **headers)
        assert error(reply) == (404, "Not Found", "Could not find token.")
    reply = get(sandbox, "/v3/auth/tokens", X_Subject_Token="standing")
    assert error(reply) == (401, "Unauthorized", UNAUTHORIZED)


# --- projects ---


def signed_get(keys: Keys, target: str) -> Call:
    path, _, query = target.partition("?")
    headers = signed("GET", f"https://iam{target}", {"X-Domain-Id": DOMAIN.id}, None, keys, NOW)
    return Call("GET", path, query, CIMultiDict(headers), b"")


def names(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    return [each["name"] for each in orjson.loads(reply.body)["projects"]]


def test_a_project_is_found_by_its_name(sandbox: Sandbox) -> None:
    reply = get(sandbox, "/v3/projects", "name=eu-de", X_Auth_Token="standing")
    (found,) = orjson.loads(reply.body)["projects"]
    assert found == {
        "id": OTHER_REGION.id,
        "name": "eu-de",
        "domain_id": DOMAIN.id,
        "parent_id": DOMAIN.id,
        "is_domain": False,
        "enabled": True,
        "description": "",
        "links": {"self": f"/v3/projects/{OTHER_REGION.id}"},
    }
    assert names(get(sandbox, "/v3/projects", "name=", X_Auth_Token="standing")) == []


@pytest.mark.parametrize("path", ["/v3/projects", "/v3/auth/projects"])
def test_all_projects_are_listed_for_a_token(sandbox: Sandbox, path: str) -> None:
    assert names(get(sandbox, path, X_Auth_Token="standing")) == ["cn-north-1", "eu-de"]
    for headers in ({"X_Auth_Token": "MIInobodys"}, {}):
        assert error(get(sandbox, path, **headers)) == (401, "Unauthorized", UNAUTHORIZED)


def test_projects_are_listed_for_a_signature_and_a_wrong_one_is_refused_by_the_gateway(
    sandbox: Sandbox,
) -> None:
    assert names(sandbox.identify(signed_get(KEYS, "/v3/projects"))) == ["cn-north-1", "eu-de"]
    assert names(sandbox.identify(signed_get(KEYS, "/v3/projects?name=eu-de"))) == ["eu-de"]
    reply = sandbox.identify(signed_get(Keys("AK", "wrong"), "/v3/projects"))
    assert (reply.status, orjson.loads(reply.body)["error_code"]) == (401, "APIGW.0301")
    assert sandbox.stats()["denied"] == 1


def test_projects_of_a_token_take_no_signature(sandbox: Sandbox) -> None:
    assert error(sandbox.identify(signed_get(KEYS, "/v3/auth/projects")))[0] == 401


# --- the rest ---


@pytest.mark.parametrize("path", ["/v3", "/v3/"])
def test_it_tells_which_version_it_is_wherever_it_listens(sandbox: Sandbox, path: str) -> None:
    version = orjson.loads(get(sandbox, path).body)["version"]
    assert version["id"] == "v3.6"
    assert version["links"] == [{"rel": "self", "href": "/v3/"}]


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/v3"), ("DELETE", "/v3/auth/tokens"), ("GET", "/v3/users")]
)
async def test_what_it_does_not_know_is_not_found_in_its_own_words(method: str, path: str) -> None:
    async with (
        serve(Sandbox()) as url,
        aiohttp.ClientSession() as session,
        session.request(method, url + path) as answer,
    ):
        told = (await answer.json())["error"]
    assert told == {"code": 404, "message": "The resource could not be found.", "title": "Not Found"}


def test_every_answer_has_ids_of_its_own(sandbox: Sandbox) -> None:
    replies = [ask(sandbox, with_password()), ask(sandbox, b""), get(sandbox, "/v3/projects")]
    for header in ("X-IAM-Trace-Id", "X-Request-Id"):
        assert len({each.headers[header] for each in replies}) == 3


async def test_faults_limits_and_latency_are_those_of_the_service_alone() -> None:
    faults = Faults(silence=1, latency=3600, rate_limit=RateLimit(1, 86400))
    sandbox = Sandbox(Catalogue(accounts=ACCOUNTS), faults=faults)
    async with serve(sandbox) as url, aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.post(f"{url}/v3/auth/tokens", json=with_password()) as answer:
                assert answer.status == 201
    stats = sandbox.stats()
    assert (stats["requests"], stats["statuses"], stats["tokens_issued"]) == (0, {}, 3)


def test_the_default_account_is_let_in() -> None:
    user = {"name": "rehearsal", "password": "rehearsal", "domain": {"name": "sandbox"}}
    sandbox = Sandbox()
    scope = {"project": {"name": "cn-north-1", "domain": {"name": "sandbox"}}}
    token = token_in(ask(sandbox, with_password(user, scope)))
    path = f"/v1/{PROJECT}/cloudservers/fpga_image/{fpga(1)}/association"
    body = orjson.dumps({"image": {"id": image(1)}})
    reply = sandbox.reply(Call("POST", path, "", CIMultiDict({"X-Auth-Token": token}), body))
    assert isinstance(reply, Reply)
    assert reply.status == 204
