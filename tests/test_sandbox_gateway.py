"""Who is let in: tokens and signatures as the gateway judges them, at times that the test sets."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
import pytest
from multidict import CIMultiDict
from support import PROJECT, Clock, fpga, image

from jobs.auth.signing import Keys, signed
from jobs.sandbox import Accounts, Call, Catalogue, Faults, RateLimit, Reply, Sandbox
from jobs.sandbox.gateway import Denied, Gateway
from jobs.sandbox.tokens import Tokens

DATA = Path(__file__).parent / "data"
VECTORS = [
    case
    for name in ("signing_vectors", "signing_vectors_scoped")
    for case in json.loads((DATA / f"{name}.json").read_text())["cases"]
]
OTHER_PROJECT = "fedcba9876543210fedcba9876543210"
FOREIGN_PROJECT = "f" * 32
NOW = 1_767_323_045.0  # 2026-01-02 03:04:05
KEYS = Keys("SANDBOXACCESSKEY0000", "sandbox-secret-key")
TEMPORARY = Keys("TEMPORARYKEY00000000", "another-secret", "gQpjbi1ub3J0aC0x")
WRONG = Keys(KEYS.access, "not-the-secret")
PREFIX = "Incorrect IAM authentication information: "
LOCKED = "AK access failed to reach the limit,forbidden"
UNVERIFIED = "verify aksk signature fail"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    tokens = {"anywhere": None, "here": PROJECT}
    accounts = Accounts(access_keys=(KEYS, TEMPORARY), tokens=tokens)
    return Sandbox(Catalogue(accounts=accounts), now=clock)


class Told(NamedTuple):
    status: int
    code: str
    message: str


def told(reply: Any) -> Told:
    """Return what an answer says, in whichever of the two shapes."""
    assert isinstance(reply, Reply)
    content = orjson.loads(reply.body) if reply.body else {}
    if "error" in content:
        return Told(reply.status, content["error"]["code"], content["error"]["message"])
    if "error_code" in content:
        assert reply.headers["Server"] == "api-gateway"
        assert content["request_id"] == reply.headers["X-Request-Id"]
        return Told(reply.status, content["error_code"], content["error_msg"])
    return Told(reply.status, "", "")


def refused(reason: str) -> Told:
    return Told(401, "APIGW.0301", PREFIX + reason)


DONE = Told(204, "", "")
WRONG_PROJECT = Told(400, "Common.0018", "The project ID in the URL is not that of the credentials.")

_numbers = iter(range(10**9))


def an_association(project: str = PROJECT) -> tuple[str, bytes]:
    """Return path and body of a call that is done if it is let in: each is another pair."""
    number = next(_numbers)
    path = f"/v1/{project}/cloudservers/fpga_image/{fpga(number)}/association"
    return path, orjson.dumps({"image": {"id": image(number)}})


def with_token(token: str, project: str = PROJECT, **headers: str) -> Call:
    path, body = an_association(project)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Call("POST", path, "", CIMultiDict({"X-Auth-Token": token, **sent}), body)


def with_keys(keys: Keys = KEYS, project: str = PROJECT, now: float = NOW, **headers: str) -> Call:
    path, body = an_association(project)
    sent = {"Content-Type": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()}
    return Call(
        "POST", path, "", CIMultiDict(signed("POST", f"https://sandbox{path}", sent, body, keys, now)), body
    )


def changed(call: Call, **headers: str | None) -> Call:
    """Return the call with some headers replaced, or with None taken away."""
    changed = CIMultiDict(call.headers)
    for name, value in headers.items():
        changed.pop(name.replace("_", "-"), None)
        if value is not None:
            changed[name.replace("_", "-")] = value
    return call._replace(headers=changed)


# --- signatures made by the vendor's own clients ---


def call_of(case: dict[str, Any]) -> Call:
    request, expected = case["request"], case["expect"]
    if "target" in expected:
        path, _, query = expected["target"].partition("?")
        headers = expected["sent_headers"]
    else:
        path, headers = request["path"], request["headers"]
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in request["query"])
    sent = CIMultiDict({**headers, "Authorization": expected["authorization"]})
    return Call(request["method"], path, query, sent, request["body"].encode())


def is_let_in(case: dict[str, Any], call: Call) -> bool:
    """Whether a gateway lets a call in that has seen none before and knows the keys of the case."""
    request = case["request"]
    keys = Keys(request["ak"], request["sk"], request.get("security_token") or "")
    accounts = Accounts(access_keys=(keys,))
    tokens = Tokens(accounts, lifetime=1, uses=None, length=100, now=lambda: NOW)
    try:
        Gateway(accounts, tokens, lambda: NOW).check_signature(call)
    except Denied:
        return False
    return True


def alterations(call: Call) -> Iterator[tuple[str, Call]]:
    """Return a call in many ways altered, in each of them in one part that is signed."""
    authorization = call.headers["Authorization"]
    names = re.findall("SignedHeaders=([^,]*)", authorization)[0].split(";")
    yield "method", call._replace(method="PUT")
    yield "path", call._replace(path=f"{call.path.rstrip('/')}/x")
    yield "query", call._replace(query=f"{call.query}&x=".lstrip("&"))
    if call.query:
        yield "query cut", call._replace(query=call.query.rpartition("&")[0])
    if call.headers.get("X-Sdk-Content-Sha256") != "UNSIGNED-PAYLOAD":
        yield "body", call._replace(body=call.body + b" ")
    for name in names:
        value = call.headers[name]
        yield name, changed(call, **{name: "20260102T030406Z" if name == "x-sdk-date" else f"{value}x"})
        yield f"{name} taken away", changed(call, **{name: None})
        fewer = ";".join(each for each in names if each != name)
        yield (
            f"{name} not listed",
            changed(call, Authorization=authorization.replace(";".join(names), fewer)),
        )
    other = "0" if authorization[-1] != "0" else "1"
    yield "signature", changed(call, Authorization=authorization[:-1] + other)
    yield "key", changed(call, Authorization=re.sub("(Access|Credential)=", r"\1=X", authorization))
    for part in ("/20260102", "/cn-north-1", "/ecs", "/iam", "/sdk_request"):
        if part in authorization:
            yield part, changed(call, Authorization=authorization.replace(part, f"{part[:-1]}3"))


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_what_the_vendors_clients_sign_is_let_in_and_with_any_signed_part_altered_refused(
    case: dict[str, Any],
) -> None:
    assert is_let_in(case, call_of(case))
    altered = list(alterations(call_of(case)))
    assert len(altered) > 8
    assert [part for part, call in altered if is_let_in(case, call)] == []


# --- signatures ---


def test_a_signed_call_is_let_in_and_one_that_is_signed_wrong_is_not_applied(sandbox: Sandbox) -> None:
    assert told(sandbox.reply(with_keys())) == DONE
    assert told(sandbox.reply(with_keys(WRONG))) == refused(UNVERIFIED)
    assert len(sandbox.associations) == 1
    assert sandbox.stats()["denied"] == 1


def test_only_the_headers_named_as_signed_are_checked(sandbox: Sandbox) -> None:
    later = changed(with_keys(), X_Project_Id=PROJECT, User_Agent="anything", X_Domain_Id="a")
    assert told(sandbox.reply(later)) == DONE
    named = changed(with_keys(X_Trace="a"), X_Trace="b")
    assert told(sandbox.reply(named)) == refused(UNVERIFIED)


def test_the_body_of_an_unsigned_payload_may_be_any(sandbox: Sandbox) -> None:
    call = with_keys(Content_Type="text/plain")
    assert told(sandbox.reply(call._replace(body=an_association()[1]))) == DONE


def test_a_body_is_hashed_whatever_digest_the_header_claims(sandbox: Sandbox) -> None:
    call = with_keys(X_Sdk_Content_Sha256="0" * 64)
    assert told(sandbox.reply(call)) == refused(UNVERIFIED)


@pytest.mark.parametrize("off", [-900.0, -1.0, 900.0])
def test_a_date_up_to_fifteen_minutes_off_is_taken(sandbox: Sandbox, off: float) -> None:
    assert told(sandbox.reply(with_keys(now=NOW + off))) == DONE


@pytest.mark.parametrize(
    ("off", "date"), [(-901.0, "20260102T024904Z"), (901.0, "20260102T031906Z"), (-1e9, "19940426T011725Z")]
)
def test_a_date_more_than_fifteen_minutes_off_is_told_with_both_times(
    sandbox: Sandbox, off: float, date: str
) -> None:
    reason = f"signature expired, signature time:{date},server time:20260102T030405Z"
    for _ in range(9):
        assert told(sandbox.reply(with_keys(now=NOW + off))) == refused(reason)
    assert told(sandbox.reply(with_keys())) == DONE, "a wrong clock does not lock the key"


def test_every_answer_tells_the_time_of_the_sandbox(clock: Clock) -> None:
    sandbox = Sandbox(now=clock)
    clock.now += 3600
    date = "Fri, 02 Jan 2026 04:04:05 GMT"
    refusal = sandbox.reply(with_keys())
    assert isinstance(refusal, Reply)
    assert "signature expired" in told(refusal).message
    done = sandbox.reply(with_keys(now=clock.now))
    nowhere = sandbox.reply(with_keys()._replace(path="/"))
    iam = sandbox.identify(Call("GET", "/v3/projects", "", {}, b""))
    sandbox.faults = Faults(rate_limit=RateLimit(1, 60), bad_gateway=1)
    spoiled, throttled = sandbox.reply(with_keys()), sandbox.reply(with_keys())
    for reply in (refusal, done, nowhere, iam, spoiled, throttled):
        assert isinstance(reply, Reply)
        assert reply.headers["Date"] == date


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "SDK-HMAC-SHA256",
        "Bearer anything",
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=x-sdk-date",
        "SDK-HMAC-SHA256 Access=A, Signature=0",
        "SDK-HMAC-SHA256 Access=, SignedHeaders=x-sdk-date, Signature=0",
        "SDK-HMAC-SHA256 Access=\udcff, SignedHeaders=x-sdk-date, Signature=0",
        "SDK-HMAC-SHA256 Credential=A, SignedHeaders=x-sdk-date, Signature=0",
        "SDK-HMAC-SHA256 Credential=A/20260102/r/ecs/other, SignedHeaders=x-sdk-date, Signature=0",
        "SDK-HMAC-SHA256 Credential=A/20260102/r/sdk_request, SignedHeaders=x-sdk-date, Signature=0",
        "V11-HMAC-SHA256 Access=A, SignedHeaders=x-sdk-date, Signature=0",
    ],
)
def test_an_authorization_of_another_form_is_refused(sandbox: Sandbox, authorization: str) -> None:
    call = changed(with_keys(), Authorization=authorization)
    assert told(sandbox.reply(call)) == refused("authorization format is incorrect")


@pytest.mark.parametrize("date", [None, "", "2026-01-02T03:04:05Z", "20260102T030405", "20261302T030405Z"])
def test_a_date_of_another_form_is_refused(sandbox: Sandbox, date: str | None) -> None:
    call = changed(with_keys(), X_Sdk_Date=date)
    assert told(sandbox.reply(call)) == refused("authorization format is incorrect")


def test_the_date_has_to_be_among_the_signed_headers(sandbox: Sandbox) -> None:
    call = with_keys()
    listed = call.headers["Authorization"].replace(";x-sdk-date", "")
    reply = sandbox.reply(changed(call, Authorization=listed))
    assert told(reply) == refused("authorization format is incorrect")


@pytest.mark.parametrize("part", ["host", "credential"])
def test_bytes_that_are_no_text_make_a_wrong_signature(sandbox: Sandbox, part: str) -> None:
    call = changed(with_keys(), Host="\udcff")
    if part == "credential":
        scope = "20260102/\udcff/ecs/sdk_request"
        listed = f"Credential={KEYS.access}/{scope}, SignedHeaders=x-sdk-date, Signature=0"
        call = changed(call, Authorization=f"SDK-HMAC-SHA256 {listed}")
    assert told(sandbox.reply(call)) == refused(UNVERIFIED)


# --- keys ---


def test_a_key_that_nobody_has_is_told_by_its_id(sandbox: Sandbox) -> None:
    assert told(sandbox.reply(with_keys(Keys("NOBODY", "a")))) == refused(
        "Get secretKey failed,ak:NOBODY,err:ak not exist"
    )


def test_a_temporary_key_needs_its_security_token(sandbox: Sandbox) -> None:
    assert told(sandbox.reply(with_keys(TEMPORARY))) == DONE
    access, secret = TEMPORARY.access, TEMPORARY.secret
    assert told(sandbox.reply(with_keys(Keys(access, secret)))) == refused(
        f"Get secretKey failed,ak:{access},err:ak not exist"
    )
    for keys in (Keys(access, secret, "another"), Keys(KEYS.access, KEYS.secret, "another")):
        assert told(sandbox.reply(with_keys(keys))) == refused(f"ak {keys.access} not exist")


def test_the_security_token_may_be_added_after_signing(sandbox: Sandbox) -> None:
    call = with_keys(Keys(TEMPORARY.access, TEMPORARY.secret))
    assert told(sandbox.reply(changed(call, X_Security_Token=TEMPORARY.security_token))) == DONE


def test_keys_come_and_go_while_it_runs(sandbox: Sandbox) -> None:
    fresh = Keys("FRESH", "s", "t")
    sandbox.access_keys[fresh.access] = fresh
    assert told(sandbox.reply(with_keys(fresh))) == DONE
    del sandbox.access_keys[fresh.access]
    assert told(sandbox.reply(with_keys(fresh))) == refused("Get secretKey failed,ak:FRESH,err:ak not exist")


def test_five_wrong_signatures_in_a_row_lock_a_key_for_five_minutes(sandbox: Sandbox, clock: Clock) -> None:
    answers = [told(sandbox.reply(with_keys(WRONG))) for _ in range(7)]
    assert answers == [refused(UNVERIFIED)] * 5 + [refused(LOCKED)] * 2
    assert told(sandbox.reply(with_keys(TEMPORARY))) == DONE, "another key is not locked"
    clock.now += 299
    assert told(sandbox.reply(with_keys(now=clock.now))) == refused(LOCKED)
    clock.now += 1
    assert told(sandbox.reply(with_keys(WRONG, now=clock.now))) == refused(UNVERIFIED)
    assert told(sandbox.reply(with_keys(now=clock.now))) == DONE


def test_a_right_signature_makes_the_wrong_ones_before_it_forgotten(sandbox: Sandbox) -> None:
    for _ in range(3):
        for _ in range(4):
            assert told(sandbox.reply(with_keys(WRONG))) == refused(UNVERIFIED)
        assert told(sandbox.reply(with_keys())) == DONE


# --- projects ---


def test_a_signed_call_must_concern_a_project_of_the_account(sandbox: Sandbox) -> None:
    assert told(sandbox.reply(with_keys(project=OTHER_PROJECT))) == DONE
    assert told(sandbox.reply(with_keys(project=FOREIGN_PROJECT))) == WRONG_PROJECT
    assert sandbox.stats()["denied"] == 1


@pytest.mark.parametrize("call", [with_keys(), with_token("here"), with_token("anywhere")])
def test_a_project_named_in_a_header_must_be_that_of_the_path(sandbox: Sandbox, call: Call) -> None:
    assert told(sandbox.reply(changed(call, X_Project_Id=OTHER_PROJECT))) == WRONG_PROJECT
    assert told(sandbox.reply(changed(call, X_Project_Id=PROJECT))) == DONE


# --- tokens ---


@pytest.mark.parametrize("project", [PROJECT, OTHER_PROJECT, FOREIGN_PROJECT])
def test_a_standing_token_may_be_good_for_whichever_project_asks(sandbox: Sandbox, project: str) -> None:
    assert told(sandbox.reply(with_token("anywhere", project))) == DONE


def test_a_token_for_one_project_is_good_for_no_other(sandbox: Sandbox) -> None:
    assert told(sandbox.reply(with_token("here"))) == DONE
    assert told(sandbox.reply(with_token("here", OTHER_PROJECT))) == WRONG_PROJECT


def test_a_standing_token_never_ends(sandbox: Sandbox, clock: Clock) -> None:
    clock.now += 1e9
    assert told(sandbox.reply(with_token("here"))) == DONE


@pytest.mark.parametrize(
    ("token", "reason"), [("", "x-auth-token not found"), ("MIInobodys", "decrypt token fail")]
)
def test_a_token_that_was_not_issued_is_refused(sandbox: Sandbox, token: str, reason: str) -> None:
    assert told(sandbox.reply(with_token(token))) == refused(reason)
    assert len(sandbox.associations) == 0


def test_a_call_without_credentials_is_told_what_is_missing(sandbox: Sandbox) -> None:
    call = changed(with_token("here"), X_Auth_Token=None)
    assert told(sandbox.reply(call)) == refused("x-auth-token not found")


def test_a_token_outranks_a_signature(sandbox: Sandbox) -> None:
    assert told(sandbox.reply(changed(with_keys(WRONG), X_Auth_Token="here"))) == DONE
    assert told(sandbox.reply(changed(with_keys(), X_Auth_Token="a"))) == refused("decrypt token fail")


# --- accounts ---


def test_the_default_account_has_one_key_and_two_projects() -> None:
    sandbox = Sandbox(now=Clock(NOW))
    assert told(sandbox.reply(with_keys())) == DONE
    assert told(sandbox.reply(with_keys(project=OTHER_PROJECT))) == DONE
    assert sandbox.access_keys == {KEYS.access: KEYS}


def test_a_catalogue_declares_who_may_come_in() -> None:
    content = {
        "accounts": {
            "domain": {"name": "OTC00000000001000000001"},
            "users": [{"name": "robot", "password": "p"}],
            "projects": [{"id": OTHER_PROJECT, "name": "eu-de"}],
            "access_keys": [{"ak": "A", "sk": "s"}, {"ak": "B", "sk": "s", "security_token": "t"}],
            "tokens": [{"token": "everywhere"}, {"token": "there", "project": OTHER_PROJECT}],
        }
    }
    accounts = Catalogue.from_json(content).accounts
    assert accounts.domain.name == "OTC00000000001000000001"
    assert [(each.name, each.password) for each in accounts.users] == [("robot", "p")]
    assert [(each.id, each.name) for each in accounts.projects] == [(OTHER_PROJECT, "eu-de")]
    assert accounts.access_keys == (Keys("A", "s"), Keys("B", "s", "t"))
    assert accounts.tokens == {"everywhere": None, "there": OTHER_PROJECT}
    assert re.fullmatch("[0-9a-f]{32}", accounts.users[0].id)


def test_what_a_catalogue_does_not_say_of_accounts_is_as_in_the_default_one() -> None:
    assert Catalogue.from_json({"accounts": {}}) == Catalogue.from_json({}) == Catalogue()
    accounts = Catalogue.from_json({"accounts": {"tokens": [{"token": "a", "project": None}]}}).accounts
    assert accounts == Accounts(tokens={"a": None})
    assert Catalogue.from_json({"accounts": {"access_keys": []}}).accounts.access_keys == ()


USER = {"name": "u", "password": "p"}
REGION = {"id": PROJECT, "name": "r"}


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        (None, "accounts: must be an object"),
        (
            {"user": []},
            "accounts: unknown key 'user'; known are domain, users, projects, access_keys, tokens",
        ),
        ({"domain": "d"}, "accounts.domain: must be an object"),
        ({"domain": {}}, "accounts.domain.name: must be a text, and not empty"),
        ({"domain": {"name": "d", "id": 1}}, "accounts.domain.id: must be a text, and not empty"),
        ({"users": []}, "accounts.users: must not be empty"),
        ({"users": [{"name": ""}]}, "accounts.users[0].name: '' is not a text"),
        ({"users": [{"name": "u"}]}, "accounts.users[0].password: must be a text, and not empty"),
        ({"users": [USER, USER]}, "accounts.users[1].name: 'u' stands there twice"),
        (
            {"users": [{**USER, "id": "1"}, {"name": "v", "password": "p", "id": "1"}]},
            "accounts.users[1].id: '1' stands there twice",
        ),
        ({"projects": []}, "accounts.projects: must not be empty"),
        ({"projects": [{"id": "p"}]}, "accounts.projects[0].id: 'p' is not 32 lower-case hex digits"),
        ({"projects": [{"id": PROJECT}]}, "accounts.projects[0].name: None is not a text"),
        (
            {"projects": [REGION, {"id": OTHER_PROJECT, "name": "r"}]},
            "accounts.projects[1].name: 'r' stands there twice",
        ),
        ({"access_keys": {}}, "accounts.access_keys: must be a list"),
        ({"access_keys": [{"ak": "a b"}]}, "accounts.access_keys[0].ak: 'a b' is not an access key"),
        ({"access_keys": [{"ak": "a"}]}, "accounts.access_keys[0].sk: must be a text, and not empty"),
        (
            {"access_keys": [{"ak": "a", "sk": "s", "security_token": ""}]},
            "accounts.access_keys[0].security_token: must be a text, and not empty",
        ),
        ({"tokens": [{"token": "a b"}]}, "accounts.tokens[0].token: what is there is not a token"),
        (
            {"tokens": [{"token": "a", "project": FOREIGN_PROJECT}]},
            f"accounts.tokens[0].project: '{FOREIGN_PROJECT}' is neither one of the projects' ids nor null",
        ),
    ],
)
def test_accounts_that_cannot_be_used_are_refused_by_key_and_cause(accounts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Catalogue.from_json({"accounts": accounts})


def test_no_secret_is_shown() -> None:
    shown = repr(Accounts(access_keys=(TEMPORARY,), tokens={"hidden": None}))
    for secret in ("hidden", "another-secret", TEMPORARY.security_token, "password='"):
        assert secret not in shown
