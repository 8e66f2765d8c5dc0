"""The way to the service: what requests are authorised with, and how it is renewed by one for all."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self

import pytest
from support import PROJECT, run_virtually

from batch.errors import BatchError, ConfigurationError, DeniedError
from batch.http.transport import BODY_LIMIT, HttpTransport, TransportError
from batch.model import Request, Response
from jobs.auth import iam, metadata
from jobs.auth.access import Access
from jobs.auth.clock import ServiceClock
from jobs.auth.credentials import Agency, Credential, Found, Password, Token
from jobs.auth.issuer import Issuer
from jobs.auth.masking import Secrets
from jobs.auth.signing import Keys, signed

IAM = "https://iam.cn-north-1.myhuaweicloud.com"
BASE = "https://ecs.cn-north-1.myhuaweicloud.com/v1"
SCOPE = f"{BASE}/{PROJECT}/cloudservers/fpga_image"
NAMED = f"{BASE}/{{cn-north-1}}/cloudservers/fpga_image"
KEYS = Keys("AKIDEXAMPLE0000000000", "secret")
USER = Password("u", "", "p", domain_name="d")
NOW = 1_767_323_045.0
EXPIRED = (
    b'{"error_code":"APIGW.0301","error_msg":"Incorrect IAM authentication information: signature expired, '
    b'signature time:20260102T030405Z,server time:20260102T050405Z"}'
)

Answer = Callable[[str, str, Mapping[str, str]], Response]


class Wire:
    """Stands in for the pool of connections: notes what is sent and lets a test answer it."""

    def __init__(self, answer: Answer, takes: float = 0.0) -> None:
        self.answer = answer
        self.takes = takes
        self.sent: list[tuple[str, str, dict[str, str]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave nothing."""

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        _body: bytes | None = None,
        *,
        proxy: str | None = None,
        credential: object = None,
        limit: int = BODY_LIMIT,
    ) -> Response:
        assert proxy is None
        assert limit == (BODY_LIMIT if credential else iam.ANSWER_LIMIT)
        self.sent.append((method, url, dict(headers)))
        response = self.answer(method, url, headers)
        await asyncio.sleep(self.takes)
        return Response(response.status, response.headers, response.body, credential)

    def count(self, host: str) -> int:
        return sum(url.startswith(host) for _, url, _ in self.sent)


def access(credential: Credential, wire: Wire, clock: ServiceClock | None = None) -> Access:
    clock = clock or ServiceClock(lambda: NOW)

    def connect(_timeout: float | None) -> HttpTransport:
        return wire  # type: ignore[return-value]

    secrets = Secrets()
    return Access(Issuer(Found("here", credential), IAM, clock, connect, secrets), clock, connect, secrets)


def post(scope: str = SCOPE) -> Request:
    return Request("POST", f"{scope}/f/association", b"{}", scope)


def run(way: Access, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with way:
            await work()

    run_virtually(within())


class TokenService:
    """Makes tokens t1, t2, ... that the service takes for so many uses; the others are refused."""

    def __init__(self, *, uses: float = float("inf"), seconds: int = 86400) -> None:
        self.made = 0
        self.uses: dict[str, float] = {}
        self._uses = uses
        self._seconds = seconds

    def __call__(self, _method: str, url: str, headers: Mapping[str, str]) -> Response:
        if url.startswith(IAM):
            self.made += 1
            self.uses[f"t{self.made}"] = self._uses
            return token_answer(f"t{self.made}", self._seconds)
        token = headers["X-Auth-Token"]
        if self.uses.get(token, 0) < 1:
            return Response(401)
        self.uses[token] -= 1
        return Response(204)


def token_answer(secret: str, seconds: int = 86400) -> Response:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    body = (
        b'{"token": {"issued_at": "2026-11-01T00:00:00Z", "expires_at": "2026-11-%02dT%02d:%02d:%02dZ",'
        b'"user": {"name": "u", "domain": {"name": "d"}}, "project": {"id": "%s", "name": "cn-north-1"}}}'
    ) % (1 + days, hours, minutes, rest, PROJECT.encode())
    return Response(201, {"X-Subject-Token": secret}, body)


def test_a_token_goes_with_every_request() -> None:
    wire = Wire(lambda *_: Response(204))
    way = access(Token("t"), wire)

    async def work() -> None:
        assert (await way.send(post())).status == 204
        assert not await way.renew(post(), Response(401, credential=await way.grant(SCOPE)))

    run(way, work)
    assert wire.sent == [("POST", f"{SCOPE}/f/association", {"X-Auth-Token": "t"})]


def test_each_attempt_is_signed_anew() -> None:
    wire = Wire(lambda *_: Response(204))
    now = iter([NOW, NOW + 1])
    way = access(KEYS, wire, ServiceClock(lambda: next(now)))

    async def work() -> None:
        await way.send(post())
        await way.send(post())

    run(way, work)
    kind = {"Content-Type": "application/json;charset=utf8", "X-Project-Id": PROJECT}
    for sent, at in zip(wire.sent, (NOW, NOW + 1), strict=True):
        assert sent[2] == signed("POST", f"{SCOPE}/f/association", kind, b"{}", KEYS, at)


def test_a_project_known_by_name_is_looked_up_once_and_its_id_takes_the_names_place() -> None:
    def answer(_method: str, url: str, _headers: Mapping[str, str]) -> Response:
        if url.startswith(IAM):
            return Response(200, {}, b'{"projects": [{"id": "p7", "name": "cn-north-1"}]}')
        return Response(204)

    wire = Wire(answer, takes=0.1)
    way = access(KEYS, wire)

    async def work() -> None:
        await asyncio.gather(*(way.send(post(NAMED)) for _ in range(5)))

    run(way, work)
    assert wire.count(IAM) == 1
    assert wire.sent[-1][1] == f"{BASE}/p7/cloudservers/fpga_image/f/association"
    assert wire.sent[-1][2]["X-Project-Id"] == "p7"


def test_one_renews_a_refused_token_for_all() -> None:
    service = TokenService(uses=300)
    wire = Wire(service, takes=0.02)
    way = access(USER, wire)
    done = 0

    async def worker() -> None:
        nonlocal done
        for _ in range(25):
            while (response := await way.send(post())).status == 401:
                assert await way.renew(post(), response)
            done += 1

    async def work() -> None:
        await asyncio.gather(*(worker() for _ in range(64)))

    run(way, work)
    assert done == 1600
    assert service.made == 6  # 1,600 requests at 300 a token


def test_a_new_token_that_is_refused_at_once_is_the_last() -> None:
    service = TokenService(uses=0)
    wire = Wire(service)
    way = access(USER, wire)

    async def work() -> None:
        response = await way.send(post())
        assert await way.renew(post(), response)
        response = await way.send(post())
        assert not await way.renew(post(), response)

    run(way, work)
    assert service.made == 2


def test_nobody_renews_what_another_has_renewed_already() -> None:
    service = TokenService(uses=1)
    way = access(USER, Wire(service))

    async def work() -> None:
        await way.send(post())
        late = [await way.send(post()), await way.send(post())]
        assert [await way.renew(post(), response) for response in late] == [True, True]

    run(way, work)
    assert service.made == 2


def test_a_token_is_renewed_beside_the_work_before_its_end() -> None:
    service = TokenService(seconds=100)
    wire = Wire(service, takes=1.0)
    way = access(USER, wire)

    async def work() -> None:
        await way.send(post())
        for _ in range(120):
            await way.send(post())

    run(way, work)
    tokens = [headers["X-Auth-Token"] for _, url, headers in wire.sent if url.startswith(BASE)]
    # A fifth of its life is left when the next one is fetched, and no request waits for that.
    assert tokens.index("t2") == pytest.approx(81, abs=2)
    assert set(tokens) == {"t1", "t2"}


def test_a_token_that_has_ended_is_renewed_before_anything_is_sent() -> None:
    service = TokenService(seconds=5)
    wire = Wire(service)
    way = access(USER, wire)

    async def work() -> None:
        await way.send(post())
        await asyncio.sleep(60)
        await way.send(post())

    run(way, work)
    assert [headers.get("X-Auth-Token") for _, _, headers in wire.sent] == [None, "t1", None, "t2"]


def test_an_early_renewal_that_fails_is_tried_again_and_harms_nobody() -> None:
    service = TokenService(seconds=1000)
    down = False

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Response:
        return Response(503) if down and url.startswith(IAM) else service(method, url, headers)

    wire = Wire(answer)
    way = access(USER, wire)

    async def work() -> None:
        nonlocal down
        await way.send(post())
        down = True
        await asyncio.sleep(850)
        for _ in range(10):
            assert (await way.send(post())).status == 204
            await asyncio.sleep(1)
        down = False
        await asyncio.sleep(40)
        await way.send(post())
        await asyncio.sleep(1)
        await way.send(post())

    run(way, work)
    assert wire.count(IAM) == 3  # the first, one that failed, one that did not
    assert wire.sent[-1][2] == {"X-Auth-Token": "t2"}


def test_an_identity_service_that_is_down_is_no_lost_request() -> None:
    way = access(USER, Wire(lambda *_: Response(503)))

    async def work() -> None:
        with pytest.raises(TransportError) as caught:
            await way.send(post())
        assert not caught.value.sent

    run(way, work)


def test_refused_users_and_wrong_settings_are_errors_of_the_command() -> None:
    async def work() -> None:
        with pytest.raises(DeniedError):
            await way.send(post())

    way = access(USER, Wire(lambda *_: Response(401)))
    run(way, work)


def test_one_who_is_cancelled_leaves_the_renewal_to_the_others() -> None:
    service = TokenService()
    wire = Wire(service, takes=1.0)
    way = access(USER, wire)

    async def work() -> None:
        one, other = (asyncio.create_task(way.send(post())) for _ in range(2))
        await asyncio.sleep(0.5)
        one.cancel()
        assert (await other).status == 204
        assert one.cancelled()

    run(way, work)
    assert service.made == 1


def test_nothing_is_left_of_a_renewal_under_way_when_the_run_ends() -> None:
    wire = Wire(TokenService(seconds=100), takes=50.0)
    way = access(USER, wire)

    async def work() -> None:
        await way.send(post())
        await way.send(post())

    async def within() -> int:
        async with way:
            await work()
        return len(asyncio.all_tasks())

    assert run_virtually(within()) == 1


# Keys


def test_the_first_signature_goes_alone_and_one_refusal_is_enough() -> None:
    wire = Wire(
        lambda *_: Response(401, {}, b'{"error_code":"APIGW.0301","error_msg":"verify aksk fail"}'), 0.1
    )
    way = access(KEYS, wire)
    ends: list[Any] = []

    async def worker() -> None:
        try:
            response = await way.send(post())
            ends.append(await way.renew(post(), response))
        except BatchError as error:
            ends.append(error)

    async def work() -> None:
        await asyncio.gather(*(worker() for _ in range(32)))

    run(way, work)
    assert len(wire.sent) == 1
    assert ends[0] is False
    assert {type(end) for end in ends[1:]} == {DeniedError}


def test_once_a_signature_is_accepted_requests_go_side_by_side() -> None:
    way = access(KEYS, wire := Wire(lambda *_: Response(400), takes=1.0))

    async def work() -> None:
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(way.send(post()) for _ in range(32)))
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0, abs=0.1)

    run(way, work)
    assert len(wire.sent) == 32


def test_a_first_request_that_is_lost_does_not_hold_up_the_others() -> None:
    def answer(*_: Any) -> Response:
        raise TransportError("connection", "refused", sent=False)

    way = access(KEYS, wire := Wire(answer))

    async def work() -> None:
        ends = await asyncio.gather(*(way.send(post()) for _ in range(5)), return_exceptions=True)
        assert {type(end) for end in ends} == {TransportError}

    run(way, work)
    assert len(wire.sent) == 5


def test_a_clock_that_is_off_is_answered_once_by_signing_with_the_services(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(_method: str, _url: str, headers: Mapping[str, str]) -> Response:
        in_time = headers["X-Sdk-Date"] == "20260102T050405Z"
        return Response(204) if in_time else Response(401, {"Date": "Fri, 02 Jan 2026 05:04:05 GMT"}, EXPIRED)

    way = access(KEYS, wire := Wire(answer))

    async def work() -> None:
        response = await way.send(post())
        assert await way.renew(post(), response)
        assert (await way.send(post())).status == 204

    run(way, work)
    assert len(wire.sent) == 2
    assert "clock is 2 h 0 min slow" in caplog.text


def test_a_signature_that_is_out_of_time_by_the_services_own_clock_is_refused() -> None:
    refusal = Response(401, {"Date": "Fri, 02 Jan 2026 05:04:05 GMT"}, EXPIRED)
    way = access(KEYS, wire := Wire(lambda *_: refusal))

    async def work() -> None:
        assert await way.renew(post(), await way.send(post()))
        assert not await way.renew(post(), await way.send(post()))

    run(way, work)
    assert len(wire.sent) == 2


def test_a_look_up_with_a_clock_that_is_off_is_signed_anew() -> None:
    def answer(_method: str, url: str, headers: Mapping[str, str]) -> Response:
        if headers["X-Sdk-Date"] != "20260102T050405Z":
            return Response(401, {"Date": "Fri, 02 Jan 2026 05:04:05 GMT"}, EXPIRED)
        if url.startswith(IAM):
            return Response(200, {}, b'{"projects": [{"id": "p7", "name": "cn-north-1"}]}')
        return Response(204)

    way = access(KEYS, wire := Wire(answer))

    async def work() -> None:
        assert (await way.send(post(NAMED))).status == 204

    run(way, work)
    assert len(wire.sent) == 3


def test_temporary_keys_of_the_ecs_are_renewed_in_time() -> None:
    made = 0

    def answer(method: str, url: str, _headers: Mapping[str, str]) -> Response:
        nonlocal made
        if not url.startswith(METADATA):
            return Response(204)
        if method == "PUT":
            return Response(404)
        made += 1
        content = (
            b'{"credential": {"access": "A%d", "secret": "S", "securitytoken": "T%d",'
            b'"expires_at": "2026-01-02T05:04:05.000000Z"}}'
        ) % (made, made)
        return Response(200, {"Date": "Fri, 02 Jan 2026 03:04:05 GMT"}, content)

    wire = Wire(answer)
    way = access(Agency(METADATA), wire)

    async def work() -> None:
        await way.send(post())
        await asyncio.sleep(2 * 3600 - 1400)  # 23 minutes before their end: a fifth of their life is left
        await way.send(post())
        await asyncio.sleep(1)
        await way.send(post())

    run(way, work)
    tokens = [headers["X-Security-Token"] for _, url, headers in wire.sent if url.startswith(BASE)]
    assert tokens == ["T1", "T1", "T2"]


METADATA = "http://169.254.169.254"


def test_a_machine_without_a_metadata_service_is_told_what_to_set() -> None:
    def answer(*_: Any) -> Response:
        raise TransportError("timeout", "no answer", sent=False)

    way = access(Agency(METADATA), Wire(answer))

    async def work() -> None:
        with pytest.raises(ConfigurationError, match="no credentials: set HUAWEICLOUD_SDK_AK"):
            await way.send(post())

    run(way, work)


# A token that was given


def test_a_token_without_a_project_is_asked_for_its_own() -> None:
    def answer(_method: str, url: str, _headers: Mapping[str, str]) -> Response:
        found = token_answer("")
        return Response(200, {}, found.body) if url.startswith(IAM) else Response(204)

    way = access(Token("t"), wire := Wire(answer))

    async def work() -> None:
        await way.send(post(NAMED))
        with pytest.raises(ConfigurationError, match="a token for project cn-north-1, not for cn-east-2"):
            await way.send(post(NAMED.replace("cn-north-1}", "cn-east-2}")))

    run(way, work)
    assert wire.sent[1][1] == f"{SCOPE}/f/association"


def test_where_the_identity_service_is_not_known_it_is_asked_for() -> None:
    clock = ServiceClock(lambda: NOW)

    def connect(_timeout: float | None) -> HttpTransport:
        return Wire(lambda *_: Response(204))  # type: ignore[return-value]

    secrets = Secrets()
    way = Access(Issuer(Found("here", USER), "", clock, connect, secrets), clock, connect, secrets)

    async def work() -> None:
        with pytest.raises(ConfigurationError, match=r"where is the identity service.*OS_AUTH_URL"):
            await way.send(post())

    run(way, work)


def test_the_metadata_service_has_three_seconds() -> None:
    assert metadata.TIMEOUT == 3


# One refusal is enough, whatever comes first


REFUSAL = Response(401, {}, b'{"error_code":"APIGW.0301","error_msg":"verify aksk signature fail"}')


async def attempt(way: Access, scope: str = SCOPE) -> Any:
    """Do as the runner does: wait until it may be sent, send it, and ask for newer credentials if refused."""
    try:
        if not way.is_ready(post(scope)):
            await way.prepare(post(scope))
        response = await way.send(post(scope))
        return await way.renew(post(scope), response) if response.status == 401 else response.status
    except (BatchError, TransportError) as error:
        return type(error)


@pytest.mark.parametrize("first", [Response(500), Response(429), None], ids=["error", "throttled", "lost"])
def test_an_answer_that_proves_no_signature_lets_nobody_else_go(first: Response | None) -> None:
    answers = iter([first])

    def answer(*_: Any) -> Response:
        response = next(answers, REFUSAL)
        if response is None:
            raise TransportError("connection", "reset", sent=True)
        return response

    way = access(KEYS, wire := Wire(answer, takes=0.1))

    async def work() -> None:
        await asyncio.gather(*(attempt(way) for _ in range(64)))

    run(way, work)
    assert len(wire.sent) == 2


def test_look_ups_of_many_projects_with_a_wrong_key_are_one_request() -> None:
    way = access(KEYS, wire := Wire(lambda *_: REFUSAL, takes=0.1))
    ends: list[Any] = []

    async def work() -> None:
        scopes = [NAMED.replace("cn-north-1}", f"r-{n}}}") for n in range(64)]
        ends.extend(await asyncio.gather(*(attempt(way, scope) for scope in scopes)))

    run(way, work)
    assert len(wire.sent) == 1
    assert set(ends) == {DeniedError}


def test_keys_of_an_agency_that_are_refused_are_not_sent_again_while_newer_ones_are_fetched() -> None:
    made = 0

    def answer(method: str, url: str, _headers: Mapping[str, str]) -> Response:
        nonlocal made
        if not url.startswith(METADATA):
            return REFUSAL
        if method == "PUT":
            return Response(404)
        made += 1
        content = b'{"credential": {"access": "A%d", "secret": "S", "securitytoken": "T", "expires_at": "x"}}'
        return Response(200, {}, content % made)

    way = access(Agency(METADATA), wire := Wire(answer, takes=1.0))

    async def work() -> None:
        await asyncio.gather(*(attempt(way) for _ in range(64)))
        await asyncio.gather(*(attempt(way) for _ in range(64)))

    run(way, work)
    refused = [
        headers["Authorization"].split("Access=")[1][:2] for _, url, headers in wire.sent if BASE in url
    ]
    assert refused == ["A1", "A2"]


@pytest.mark.parametrize("answer", [Response(201, {}, b"garbage"), Response(404, {}, b"<html>")])
def test_what_has_worked_before_is_not_misconfigured_but_out_of_order(answer: Response) -> None:
    service = TokenService(uses=1)
    strange = False

    def wire_answer(method: str, url: str, headers: Mapping[str, str]) -> Response:
        return answer if strange and url.startswith(IAM) else service(method, url, headers)

    way = access(USER, Wire(wire_answer))

    async def work() -> None:
        nonlocal strange
        assert await attempt(way) == 204
        strange = True
        assert await attempt(way) is TransportError
        strange = False
        assert await attempt(way) is True
        assert await attempt(way) == 204

    run(way, work)


def test_whoever_waits_for_a_token_waits_before_it_may_leave() -> None:
    way = access(USER, Wire(TokenService(), takes=1.0))

    async def work() -> None:
        assert not way.is_ready(post())
        await way.prepare(post())
        assert way.is_ready(post())

    run(way, work)
