"""Nothing that the program writes shows a secret, whatever the other side repeats of what it was sent."""

import base64
import html
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import pytest
from conftest import PATIENCE, Ended, answering, at_once
from hypothesis import assume, given
from hypothesis import strategies as st
from sources import METADATA
from support import PROJECT, fpga, image

from batch.errors import ConfigurationError
from batch.http.transport import BODY_LIMIT, TransportError
from batch.model import Response
from jobs.auth.masking import _SERVICE_WORDS, MASK, Secrets
from jobs.ecs import classify, request_id
from jobs.error_body import parse_error

Command = Callable[..., Ended]

AK, SK = "AKIDEXAMPLE000000000", "k3y/of+sixteen-or-more-letters"
STS = "sts+security/token-of-thirty-letters="
TOKEN = "MIIEvwYJKoZIhvcNAQcCoIIEsDCCBKw+own/token=="
ISSUED = "gAAAAABnIssuedByTheIdentityService+/0123456789=="
PASSWORD = 'pass "word" & <ück>/+%'
PROXY_PASSWORD = "proxy-s3cret"
BASIC = base64.b64encode(f"me:{PROXY_PASSWORD}".encode()).decode()
SESSION = "metadata-session-token"

PAIRS = "fpga_image_id,image_id\n" + "".join(f"{fpga(n)},{image(n)}\n" for n in range(3))


class Repeating(BaseHTTPRequestHandler):
    """Refuses every request and repeats all that it was sent, and what it knows, in several forms.

    It issues a token or temporary keys first where it is asked for them, unless it is to refuse that as well.
    """

    protocol_version = "HTTP/1.1"
    known: tuple[str, ...]
    said: list[str]
    issues: bool
    status: int

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        sent = [*self.known, *(value for name, value in self.headers.items() if name != "Host"), body]
        shown = " ".join([*self.known, body])
        if self.path.rstrip("/") == "/v3":
            link = f"http://{self.headers['Host']}/v3/"
            version = {"id": "v3.6", "status": "stable", "links": [{"rel": "self", "href": link}]}
            self.say(200, {"version": version}, {})
        elif self.issues and self.path.startswith("/v3/auth/tokens"):
            # What it says of the token is shown, too.
            issued = self.known[0] if self.command == "GET" else ISSUED
            token = {"project": {"id": PROJECT, "name": "cn-north-1"}, "user": {"name": shown}}
            content = {"token": token | {"issued_at": shown, "expires_at": shown}}
            self.say(201 if self.command == "POST" else 200, content, {"X-Subject-Token": issued})
        elif self.issues and self.path.endswith("/api/token"):
            self.say(200, SESSION, {})
        elif self.issues and self.path.endswith("/securitykey"):
            keys = {"access": AK, "secret": SK, "securitytoken": STS, "expires_at": f"2999 {SESSION}"}
            self.say(200, {"credential": keys}, {})
        else:
            text = " ".join(sent)
            forms = [
                text,
                quote(text),
                " ".join(base64.b64encode(f"in the midst: {each}".encode()).decode() for each in sent),
                html.escape(text),
                json.dumps(text),
                text.lower(),
            ]
            first = self.known[len(self.said) % len(self.known)]
            message = f"Could not find: {first} {forms[len(self.said) % len(forms)]}"
            code = self.status if self.path.startswith("/v3/auth") else f"Ecs.0005 {first}"
            error = {"error": {"code": code, "message": message, "title": "No"}}
            self.say(self.status, error, {"X-Request-Id": first.encode("ascii", "replace").decode()})

    do_GET = do_POST = do_DELETE = do_PUT = answer  # noqa: N815

    def say(self, status: int, content: Any, headers: dict[str, str]) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.said.append(body.decode())
        self.send_response(status)
        for name, value in {
            **headers,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def repeating(
    known: tuple[str, ...], status: int = 400, *, issues: bool = True
) -> Iterator[tuple[str, list[str]]]:
    """Run a service, with its identity and metadata service, that repeats all; give what it says."""
    said: list[str] = []
    members = {"known": known, "said": said, "issues": issues, "status": status}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Repeating,), members))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", said
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def clouds(folder: Path, url: str) -> dict[str, str]:
    path = folder / ".config" / "openstack" / "clouds.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = {
        "auth_url": f"{url}/v3",
        "username": "robot",
        "password": PASSWORD,
        "user_domain_name": "account",
        "project_domain_name": "account",
        "project_name": "cn-north-1",
    }
    path.write_text(json.dumps({"clouds": {"mine": {"auth": auth, "region_name": "cn-north-1"}}}))
    path.chmod(0o600)
    return {"OS_CLOUD": "mine"}


def user(_folder: Path, url: str) -> dict[str, str]:
    return {
        "OS_AUTH_URL": url,
        "OS_USERNAME": "robot",
        "OS_USER_DOMAIN_NAME": "account",
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": "cn-north-1",
    }


def keys(_folder: Path, _url: str) -> dict[str, str]:
    return {
        "HUAWEICLOUD_SDK_AK": AK,
        "HUAWEICLOUD_SDK_SK": SK,
        "HUAWEICLOUD_SDK_SECURITY_TOKEN": STS,
        "FPGA_BATCH_PROJECT_ID": PROJECT,
    }


def keys_by_name(folder: Path, url: str) -> dict[str, str]:
    return keys(folder, url) | {"FPGA_BATCH_PROJECT_ID": "", "FPGA_BATCH_REGION": "cn-north-1"}


def token(_folder: Path, _url: str) -> dict[str, str]:
    return {"OS_TOKEN": TOKEN, "FPGA_BATCH_PROJECT_ID": PROJECT}


def token_by_name(_folder: Path, url: str) -> dict[str, str]:
    return {"OS_TOKEN": TOKEN, "OS_AUTH_URL": url, "FPGA_BATCH_REGION": "cn-north-1"}


def agency(_folder: Path, url: str) -> dict[str, str]:
    return {METADATA: url, "FPGA_BATCH_PROJECT_ID": PROJECT}


class Case(NamedTuple):
    """A source of credentials, and what nobody may see of it."""

    fill: Callable[[Path, str], dict[str, str]]
    known: tuple[str, ...]
    issued: tuple[str, ...] = ()


CASES = [
    Case(keys, (SK, STS)),
    Case(keys_by_name, (SK, STS)),
    Case(token, (TOKEN,)),
    Case(token_by_name, (TOKEN,)),
    Case(user, (PASSWORD,), (ISSUED,)),
    Case(clouds, (PASSWORD,), (ISSUED,)),
    Case(agency, (SK, STS), (SESSION,)),
]

FORMS = {
    "as it is": str,
    "in Base64": lambda each: base64.b64encode(each.encode()).decode(),
    "in Base64 for URLs": lambda each: base64.urlsafe_b64encode(each.encode()).decode().rstrip("="),
    "in the midst of Base64": lambda each: base64.b64encode(f"user:{each} and more".encode()).decode(),
    "in a URL": lambda each: quote(each, safe=""),
    "in a form": quote_plus,
    "in HTML": html.escape,
    "in JSON": lambda each: json.dumps(each)[1:-1],
    "in upper case": str.upper,
    "in lower case": str.lower,
}


def assert_hidden(known: Iterable[str], text: str, where: str) -> None:
    for secret in known:
        for name, form in FORMS.items():
            assert form(secret) not in text, (where, secret, name)
        assert secret[: len(secret) // 2 + 1] not in text, (where, secret, "its first half")


def written(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.iterdir():
        if path.is_file():
            yield path.name, path.read_bytes().decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("case", "status"),
    [*((case, 400) for case in CASES), (CASES[0], 401), (CASES[4], 403), (CASES[2], 500)],
    ids=lambda each: each.fill.__name__ if isinstance(each, Case) else each,
)
def test_what_a_service_repeats_of_any_credentials_is_masked_in_all_that_is_written(
    command: Command, tmp_path: Path, case: Case, status: int
) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS)
    known = case.known + case.issued
    with repeating(known, status) as (url, said):
        variables = case.fill(tmp_path, url) | {"FPGA_BATCH_ENDPOINT": url, "FPGA_BATCH_MAX_OUTAGE": "1"}
        runs = [partial(command, "login", "-vv", **variables)]
        for form, log in (("csv", "text"), ("json", "json"), ("jsonl", "text")):
            line = ["associate", "pairs.csv", "--report", f"r.{form}", "--failures", f"failed.{form}"]
            runs.append(partial(command, *line, "-vv", "--log-format", log, **variables))
        ends = at_once(runs)
    for secret in known:
        assert any(json.dumps(secret)[1:-1] in each for each in said), "the service does not repeat it"
    for ended in ends:
        assert ended.exit_code in (1, 69, 77, 78), ended
        assert MASK in ended.stderr
        assert_hidden(known, ended.stdout + ended.stderr, "output")
    files = dict(written(tmp_path))
    for name, text in files.items():
        assert_hidden(known, text, name)
    if status == 400 and case.fill is not keys_by_name:
        for name in ("r.csv", "r.json", "r.jsonl", "failed.csv", "failed.json", "failed.jsonl"):
            assert MASK in files[name], name


@pytest.mark.parametrize(
    ("case", "status"),
    [*((case, 401) for case in (CASES[1], *CASES[3:6])), (CASES[4], 400), (CASES[4], 503), (CASES[5], 404)],
    ids=lambda each: each.fill.__name__ if isinstance(each, Case) else each,
)
def test_what_an_identity_service_repeats_of_any_credentials_is_masked(
    command: Command, tmp_path: Path, case: Case, status: int
) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS)
    with repeating(case.known, status, issues=False) as (url, said):
        variables = case.fill(tmp_path, url) | {"FPGA_BATCH_ENDPOINT": url, "FPGA_BATCH_MAX_OUTAGE": "1"}
        ends = at_once(
            [
                partial(command, "login", "-vv", **variables),
                partial(command, "associate", "pairs.csv", "-v", "--log-format", "json", **variables),
            ]
        )
    assert said
    for ended in ends:
        assert ended.exit_code in (69, 77, 78), ended
        assert MASK in ended.stderr
        assert_hidden(case.known, ended.stdout + ended.stderr, "output")
    for name, text in written(tmp_path):
        assert_hidden(case.known, text, name)


def test_a_request_id_that_repeats_the_token_is_masked_in_the_report_of_a_success(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS)
    with answering(204, b"", X_Request_Id=f"for {TOKEN}") as stub:
        variables = token(tmp_path, "") | {"FPGA_BATCH_ENDPOINT": stub.url}
        assert command("associate", "pairs.csv", **variables).exit_code == 0
    report = (tmp_path / "pairs.report.csv").read_text()
    assert report.count(f"for {MASK}") == 3
    assert TOKEN not in report


def test_the_journal_of_a_killed_run_has_no_secret(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(PAIRS)
    with repeating((TOKEN,)) as (url, said):
        running = start(
            *("associate", "pairs.csv", "--rate", "20/min"),
            **token(tmp_path, url),
            FPGA_BATCH_ENDPOINT=url,
        )
        journal = tmp_path / "pairs.report.csv.journal"
        wait_for(lambda: journal.exists() and "Ecs.0005" in journal.read_text())
        running.kill()
        running.communicate()
    assert said
    text = journal.read_text()
    assert MASK in text
    assert_hidden((TOKEN,), text, "journal")


def wait_for(happened: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(PATIENCE * 50):
        if happened():
            return
        done.wait(0.02)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize(
    "answer",
    [
        f"HTTP/1.1 407 no {PROXY_PASSWORD} {BASIC}\r\n\r\n",
        f"HTTP/1.1 502 no {PROXY_PASSWORD}\r\n\r\n",
        f"nonsense {PROXY_PASSWORD} {BASIC}\r\n\r\n",
    ],
    ids=["refused", "broken", "not HTTP"],
)
def test_a_proxy_that_repeats_its_password_is_masked(command: Command, tmp_path: Path, answer: str) -> None:
    from test_proxy import VARIABLES, proxying  # noqa: PLC0415 - its variables are of that test

    (tmp_path / "pairs.csv").write_text(PAIRS)
    variables = {**VARIABLES, "OS_TOKEN": TOKEN, "FPGA_BATCH_CA_FILE": ""}
    with proxying(refusal=answer.encode()) as proxy:
        variables["HTTPS_PROXY"] = f"http://me:{PROXY_PASSWORD}@{proxy.url}"
        ends = [command("login", "-vv", **variables), command("associate", "pairs.csv", "-vv", **variables)]
    for ended in ends:
        assert ended.exit_code in (69, 78)
        assert_hidden((PROXY_PASSWORD, BASIC), ended.stdout + ended.stderr, "output")
    assert any(MASK in ended.stderr for ended in ends)


# The masking itself


def holding(*known: str) -> Secrets:
    held = Secrets()
    held.learn(*known)
    return held


def shown(secrets: Secrets, body: bytes) -> str:
    error = parse_error(secrets.response(Response(400, {}, body)).body)
    assert error
    return error.message


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("secret", [SK, STS, TOKEN, PASSWORD])
def test_a_secret_is_masked_in_every_form_that_services_use(secret: str, form: Callable[[str], str]) -> None:
    held = holding(secret)
    text = f"it was {form(secret)}, as sent"
    assert form(secret) not in held.masked(text)
    assert MASK in held.masked(text)
    for body in (
        json.dumps({"message": text}).encode(),
        f"<p>{text}</p>".encode(),
        f'{{"message": "{text}'.encode(),
    ):
        assert form(secret) not in shown(held, body)


@given(st.text(min_size=8), st.text(), st.text())
def test_whatever_the_secret_no_text_with_it_shows_it(secret: str, before: str, after: str) -> None:
    assume(f" {secret.lower()} " not in _SERVICE_WORDS)
    held = holding(secret)
    assert secret not in held.masked(before + secret + after).replace(MASK, "")


@given(st.text(alphabet="abcdefghijklmnop .,", max_size=60))
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert holding(SK, TOKEN).masked(text) == text


@pytest.mark.parametrize("kept", [8, 20, len(TOKEN) - 1])
@pytest.mark.parametrize("end", ["", "...", "\u2026", "... (612 characters)", '"', "')"])
def test_a_secret_that_is_cut_off_at_the_end_is_masked(kept: int, end: str) -> None:
    assert holding(TOKEN).masked(f"no token {TOKEN[:kept]}{end}") == f"no token {MASK}{end}"


def test_a_secret_that_is_cut_off_where_the_reading_of_an_answer_ends_is_masked() -> None:
    body = (b'{"message": "' + b"x" * BODY_LIMIT)[: BODY_LIMIT - 30] + TOKEN.encode()
    masked = holding(TOKEN).response(Response(400, {}, body[:BODY_LIMIT])).body
    assert masked.endswith(MASK.encode())
    assert TOKEN[:20].encode() not in masked


@pytest.mark.parametrize(
    ("secret", "text", "masked"),
    [
        ("a", "a pair is a pair", "a pair is a pair"),
        ("123", "123 of 1234", "123 of 1234"),
        ("test", "the test of testing: test", f"the {MASK} of testing: {MASK}"),
        ("letmein", "letmein, letmeinside", f"{MASK}, letmeinside"),
        ("password", "apasswordb", f"a{MASK}b"),
    ],
)
def test_a_short_secret_is_masked_as_a_word_and_a_very_short_one_not_at_all(
    secret: str, text: str, masked: str
) -> None:
    assert holding(secret).masked(text) == masked


@pytest.mark.parametrize("secret", ["message", "error", "relation", "code", "does not exist", "throttling"])
def test_a_secret_that_is_a_word_of_the_services_language_changes_no_verdict(secret: str) -> None:
    text = "relation already exist or the related fpga image count of image reach the max limit"
    response = Response(400, {}, json.dumps({"error": {"code": "Ecs.1", "message": text}}).encode())
    assert classify(holding(secret).response(response)) == classify(response)


def test_what_has_no_secret_is_left_as_it_came() -> None:
    body = b'{"b" :1.0, "a":"\\u0041", "n": 123456789012345678901234567890}'
    assert holding(TOKEN).response(Response(200, {}, body)).body is body
    page = b"<p>\xff\xfe</p>"
    assert holding(TOKEN).response(Response(200, {}, page)).body is page


@pytest.mark.parametrize("body", [b"[" * 2000 + b"]" * 2000, b'{"a":' * 900 + b"1" + b"}" * 900])
def test_an_answer_nested_deeply_is_masked_as_text(body: bytes) -> None:
    held = holding(TOKEN).response(Response(400, {}, body + TOKEN.encode()))
    assert TOKEN.encode() not in held.body


def test_headers_are_masked_when_they_are_looked_up() -> None:
    response = holding(TOKEN).response(Response(400, {"X-Request-Id": f"a {TOKEN}", "Date": "now"}))
    assert request_id(response) == f"a {MASK}"
    assert response.headers["X-Request-Id"] == f"a {MASK}"
    assert dict(response.headers) == {"X-Request-Id": f"a {MASK}", "Date": "now"}
    assert response.headers.get("Missing") is None


def test_errors_are_masked_in_what_they_say() -> None:
    lost = TransportError("connection", f"lost {TOKEN}", sent=True)
    holding(TOKEN).error(lost)
    assert (str(lost), lost.reason, lost.sent) == (f"lost {MASK}", "connection", True)
    wrong = ConfigurationError(f"wrong {TOKEN}")
    holding(TOKEN).error(wrong)
    assert str(wrong) == f"wrong {MASK}"


def test_a_renewed_token_is_masked_as_well_as_the_first() -> None:
    held = holding(TOKEN)
    held.learn(ISSUED)
    assert held.masked(f"{TOKEN} {ISSUED}") == f"{MASK} {MASK}"
