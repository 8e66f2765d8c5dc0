"""What is said to the identity service and to the metadata service, and how their answers read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.errors import BatchError, ConfigurationError, DeniedError
from batch.http.transport import TransportError
from batch.model import Response
from jobs.auth import iam, metadata
from jobs.auth.credentials import Grant, Password, Token
from jobs.auth.signing import Keys

IAM = "https://iam.eu-de.otc.t-systems.com"
USER = Password("u", "", "s3cret", domain_name="OTC1")
KEYS = Keys("AKIDEXAMPLE0000", "s3cret")
DATE = "Tue, 24 Nov 2026 07:00:00 GMT"
TOKEN = {
    "issued_at": "2026-11-24T06:00:00.000000Z",
    "expires_at": "2026-11-25T06:00:00.000000Z",
    "user": {"name": "u", "domain": {"name": "OTC1"}},
    "project": {"id": "p1", "name": "eu-de"},
}


def answer(status: int, content: Any = None, **headers: str) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def end_of(exchange: iam.Exchange, *ends: Response | TransportError) -> tuple[list[iam.Call], Grant]:
    """Play canned ends of calls; return the calls and what they came to."""
    calls = [next(exchange)]
    for end in ends:
        try:
            calls.append(exchange.throw(end) if isinstance(end, TransportError) else exchange.send(end))
        except StopIteration as stop:
            return calls, stop.value
    raise AssertionError("it wants more answers")


def body_of(call: iam.Call) -> dict[str, Any]:
    assert call.body is not None
    content: dict[str, Any] = json.loads(call.body)
    return content["auth"]


# Tokens


def test_a_token_is_asked_for_a_project_by_its_id() -> None:
    (call,), grant = end_of(
        iam.token_for(USER, IAM, "p1", ""), answer(201, {"token": TOKEN}, X_Subject_Token="MII", Date=DATE)
    )
    assert (call.method, call.url) == ("POST", f"{IAM}/v3/auth/tokens?nocatalog=true")
    user = {"name": "u", "domain": {"name": "OTC1"}, "password": "s3cret"}
    assert body_of(call) == {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"id": "p1"}},
    }
    assert grant.credential == Token("MII")
    assert (grant.project_id, grant.project_name, grant.who) == ("p1", "eu-de", "user u of OTC1")
    assert grant.lifetime == 23 * 3600
    assert grant.expires_at == "2026-11-25T06:00:00.000000Z"


@pytest.mark.parametrize(
    ("user", "domain"),
    [
        (USER, {"name": "OTC1"}),
        (Password("", "uid", "s", domain_id="d1"), {"id": "d1"}),
        (Password("u", "", "s", domain_name="D", project_domain_name="E"), {"name": "E"}),
        (Password("u", "", "s", domain_id="D", project_domain_name="E"), {"name": "E"}),
        (Password("u", "", "s", domain_id="D", project_domain_id="e"), {"id": "e"}),
    ],
)
def test_a_project_is_never_named_without_its_domain(user: Password, domain: dict[str, str]) -> None:
    call = next(iam.token_for(user, IAM, "", "eu-de"))
    assert body_of(call)["scope"] == {"project": {"name": "eu-de", "domain": domain}}


def test_a_project_whose_domain_nobody_tells_is_not_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="OS_PROJECT_DOMAIN_NAME is missing"):
        next(iam.token_for(Password("", "uid", "s"), IAM, "", "eu-de"))


@pytest.mark.parametrize("project_id", ["a/b", "a\r\nX: y", "", 7, None])
def test_what_would_bend_a_path_is_no_project_id(project_id: Any) -> None:
    token = {**TOKEN, "project": {"id": project_id, "name": "eu-de"}}
    with pytest.raises(ConfigurationError):
        end_of(iam.token_for(USER, IAM, "p1", ""), answer(201, {"token": token}, X_Subject_Token="MII"))
    projects = answer(200, {"projects": [{"id": project_id, "name": "eu-de"}]})
    with pytest.raises(ConfigurationError):
        end_of(iam.project_named(KEYS, IAM, "eu-de"), projects, projects)


def test_a_user_may_be_given_by_id() -> None:
    call = next(iam.token_for(Password("", "uid", "s"), IAM, "p", ""))
    assert body_of(call)["identity"]["password"]["user"] == {"id": "uid", "password": "s"}


def test_the_life_of_a_token_is_counted_by_the_services_own_clock() -> None:
    without_date = answer(201, {"token": TOKEN}, X_Subject_Token="MII")
    assert end_of(iam.token_for(USER, IAM, "p1", ""), without_date)[1].lifetime == 24 * 3600


def test_no_secret_is_shown_by_a_call() -> None:
    call = next(iam.token_for(USER, IAM, "p1", ""))
    assert "s3cret" not in repr(call)
    assert "s3cret" not in repr(next(iam.about(Token("s3cret"), IAM)))


def test_a_token_tells_whose_it_is() -> None:
    (call,), grant = end_of(iam.about(Token("MII"), IAM), answer(200, {"token": TOKEN}, Date=DATE))
    assert call.headers == {"X-Auth-Token": "MII", "X-Subject-Token": "MII"}
    assert (grant.credential, grant.project_id) == (Token("MII"), "p1")


@pytest.mark.parametrize(
    ("response", "error", "told"),
    [
        (
            answer(401, {"error": {"code": 401, "message": "no"}}),
            DeniedError,
            "otc.t-systems.com refuses.*401 no",
        ),
        (answer(403, {"error": {"code": 403, "message": "no"}}), DeniedError, "refuses"),
        (answer(400, {"error": {"code": 400, "message": "Expecting"}}), ConfigurationError, "400 Expecting"),
        (answer(404, b"<html>nothing</html>"), ConfigurationError, "no identity service at"),
        (answer(429, {}), TransportError, "429"),
        (answer(503, b"down"), TransportError, "503 down"),
        (answer(201, {"token": TOKEN}), ConfigurationError, "no identity service's answer"),
        (answer(201, {}, X_Subject_Token="MII"), ConfigurationError, "no identity service's answer"),
        (
            answer(201, {"token": {**TOKEN, "project": None}}, X_Subject_Token="MII"),
            ConfigurationError,
            "for no project",
        ),
    ],
)
def test_what_is_no_token_is_told(response: Response, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        end_of(iam.token_for(USER, IAM, "p1", ""), response)
    assert "s3cret" not in str(caught.value)


# Projects


def listed(*names: str) -> Response:
    return answer(200, {"projects": [{"id": f"id-{n}", "name": name} for n, name in enumerate(names)]})


def test_a_project_is_looked_up_by_its_name() -> None:
    (call,), grant = end_of(iam.project_named(KEYS, IAM, "eu-de"), listed("eu-de"))
    assert (call.method, call.url, call.keys) == ("GET", f"{IAM}/v3/projects?name=eu-de", KEYS)
    assert (grant.project_id, grant.credential, grant.who) == ("id-0", KEYS, "access key ...0000")


def test_no_project_of_a_name_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no project is named 'eu-de'.*id-0 \(a\), id-1 \(b\)"):
        end_of(iam.project_named(KEYS, IAM, "eu-de"), listed(), listed("a", "b"))


def test_several_projects_of_a_name_are_an_error_that_lists_them() -> None:
    with pytest.raises(ConfigurationError, match=r"2 projects are named 'eu-de'.*id-0.*id-1.*--project-id"):
        end_of(iam.project_named(KEYS, IAM, "eu-de"), listed("eu-de", "eu-de"))


def test_keys_that_may_not_list_projects_are_refused() -> None:
    with pytest.raises(DeniedError, match="--project-id"):
        end_of(iam.project_named(KEYS, IAM, "eu-de"), answer(403, {"error": {"code": 403}}))


def test_a_project_name_is_encoded() -> None:
    assert next(iam.project_named(KEYS, IAM, "a b&c")).url.endswith("/v3/projects?name=a%20b%26c")


# Metadata

BASE = "http://169.254.169.254"
SECURITY_KEY = {
    "credential": {
        "access": "A1",
        "secret": "S1",
        "securitytoken": "T1",
        "expires_at": "2026-11-24T08:00:00.000000Z",
    }
}
NOBODY = TransportError("timeout", "no answer in 3 s", sent=False)


def test_temporary_keys_are_asked_for_within_a_session() -> None:
    calls, grant = end_of(
        metadata.temporary_keys(BASE), answer(200, b"session\n"), answer(200, SECURITY_KEY, Date=DATE)
    )
    assert [call.method for call in calls] == ["PUT", "GET"]
    assert calls[0].headers == {"X-Metadata-Token-Ttl-Seconds": "21600"}
    assert calls[1].headers == {"X-Metadata-Token": "session"}
    assert grant.credential == Keys("A1", "S1", "T1")
    assert grant.lifetime == 3600


@pytest.mark.parametrize("status", [404, 405, 503])
def test_a_metadata_service_of_the_older_form_knows_no_sessions(status: int) -> None:
    calls, grant = end_of(metadata.temporary_keys(BASE), answer(status), answer(200, SECURITY_KEY))
    assert calls[1].headers == {}
    assert grant.lifetime is None


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((NOBODY,), "no metadata service"),
        ((answer(404), NOBODY), "no metadata service"),
        ((answer(404), answer(404)), "no agency"),
        ((answer(404), answer(200, {})), "no agency"),
        ((answer(404), answer(200, b"<html>")), "no agency"),
        ((answer(400),), "answered 400"),
    ],
)
def test_where_there_are_no_credentials_at_all_it_is_said_what_to_set(
    ends: tuple[Response | TransportError, ...], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"no credentials: set .*OS_TOKEN.*{told}"):
        end_of(metadata.temporary_keys(BASE), *ends)


def test_a_metadata_service_that_fails_is_asked_again_later() -> None:
    with pytest.raises(TransportError):
        end_of(metadata.temporary_keys(BASE), answer(404), answer(500))


# Whatever comes back

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["token", "project", "user", "projects", "credential", "id", "name", "expires_at"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(status=st.sampled_from([200, 201, 400, 401, 404, 500]), content=JSON | st.binary(max_size=20))
def test_whatever_answer_comes_is_a_grant_or_a_told_error(status: int, content: Any) -> None:
    response = answer(status, content, X_Subject_Token="MII")
    for exchange in (
        iam.token_for(USER, IAM, "p", ""),
        iam.about(Token("MII"), IAM),
        iam.project_named(KEYS, IAM, "eu-de"),
        metadata.temporary_keys(BASE),
    ):
        try:
            _, grant = end_of(exchange, response, response)
        except (BatchError, TransportError):
            continue
        assert not isinstance(grant.credential, Keys) or grant.credential.secret
