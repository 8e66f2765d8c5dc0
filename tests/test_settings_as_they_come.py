"""Settings as env files, orchestrators, other tools' habits and large accounts really make them."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from conftest import Ended, WatchedSandbox, answering, at_once, listening
from hypothesis import given
from hypothesis import strategies as st
from sources import AK, METADATA, SK, USER
from support import PROJECT, TOKEN, fpga, image

from batch.durations import seconds_in
from batch.engine.rate import parse_rate
from batch.http.network import proxy_of
from batch.model import Response
from jobs.advice import on_command, on_option, on_variable
from jobs.auth.clock import date_of
from jobs.auth.credentials import find
from jobs.auth.credentials.machine import is_instance
from jobs.dates import http_date, iso_date
from jobs.ecs import classify
from jobs.sandbox import Call, Reply
from jobs.sandbox.messages import json_reply

Command = Callable[..., Ended]

KEYS = {"FPGA_BATCH_AK": AK, "FPGA_BATCH_SK": SK}
PAIRS = f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\n"


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    path.write_text(PAIRS)
    return path


def assert_each(ends: list[Ended], cases: list[Any], code: int) -> None:
    """Hold that each command ended with a code, and said what its case ends with."""
    for ended, case in zip(ends, cases, strict=True):
        assert ended.exit_code == code, (case, ended)
        assert case[-1] in ended.stderr, (case, ended)


# Dates


@pytest.mark.parametrize("zone", ["-0000", "GMT", "UTC", "+0000", ""])
def test_a_date_without_a_zone_is_in_utc_wherever_the_program_runs(
    monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    __import__("time").tzset()
    try:
        date = f"Tue, 24 Nov 2026 07:00:00 {zone}".rstrip()
        assert date_of(Response(204, {"Date": date})) == 1795503600.0
        assert iso_date("2026-11-24T07:00:00") == http_date(date)
        later = {"Date": "Tue, 24 Nov 2026 06:59:00 GMT", "Retry-After": date}
        assert classify(Response(429, later)).pause == 60.0
    finally:
        monkeypatch.undo()
        __import__("time").tzset()


@pytest.mark.parametrize("text", ["", "soon", "Tue, 99 Nov 2026 07:00:00 GMT", "2026", "\x00"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert http_date(text) is None


def test_a_service_that_writes_its_date_without_a_zone_is_not_taken_to_be_hours_off(
    command: Command, pairs: Path
) -> None:
    class Zoneless(WatchedSandbox):
        def reply(self, call: Call) -> Any:
            reply = super().reply(call)
            if isinstance(reply, Reply):
                from email.utils import formatdate  # noqa: PLC0415

                reply.headers["Date"] = formatdate().replace("GMT", "-0000")
            return reply

    sandbox = Zoneless()
    with listening(sandbox) as url:
        variables = {
            **KEYS,
            "FPGA_BATCH_ENDPOINT": url,
            "FPGA_BATCH_PROJECT_ID": PROJECT,
            "TZ": "Asia/Shanghai",
        }
        told = command("login", **variables)
        ended = command("associate", pairs.name, **variables)
    assert told.exit_code == 0
    assert "clock:        as the service's" in told.stdout
    assert ended == Ended(0, "", "")


# Large answers of the identity service


class LargeAccount(WatchedSandbox):
    """A sandbox whose account has many projects, and whose tokens come with a catalogue."""

    def __init__(self, *, pages: bool = False, bare: bool = False) -> None:
        super().__init__()
        self._pages = pages
        self._bare = bare

    def identify(self, call: Call) -> Reply:
        if call.method == "GET" and call.path.endswith("/projects"):
            return self._projects(call)
        reply = super().identify(call)
        if reply.status in (200, 201) and call.path.endswith("/tokens"):
            token = json.loads(reply.body)["token"]
            if self._bare:
                token = {"project": {"id": token["project"]["id"]}, "user": [], "expires_at": None}
            token["catalog"] = [{"type": f"service-{n}", "endpoints": ["x" * 900]} for n in range(400)]
            return reply._replace(body=json.dumps({"token": token}).encode())
        return reply

    def _projects(self, call: Call) -> Reply:
        # It takes no notice of `name`, so that the wanted one is somewhere in the list.
        names = [f"project-{n:03}" for n in range(300)] + ["cn-north-1"]
        listed = [
            {"id": PROJECT if name == "cn-north-1" else f"{n:032x}", "name": name, "description": "x" * 900}
            for n, name in enumerate(names)
        ]
        following = None
        if self._pages:
            page = int(call.parameters.get("page", 0))
            listed = listed[page * 100 : page * 100 + 100]
            # As behind a gateway: the link's own host is not one that can be reached.
            following = f"http://internal.invalid/v3/projects?page={page + 1}" if page < 3 else None
        return json_reply(200, {"projects": listed, "links": {"next": following}})


@pytest.mark.parametrize("pages", [False, True], ids=["in one answer", "page by page"])
def test_a_project_is_found_among_hundreds(command: Command, pairs: Path, pages: bool) -> None:
    with listening(account := LargeAccount(pages=pages)) as url:
        variables = {**KEYS, "FPGA_BATCH_ENDPOINT": url, "FPGA_BATCH_REGION": "cn-north-1"}
        assert command("associate", pairs.name, **variables) == Ended(0, "", "")
        missing = command("login", **KEYS, FPGA_BATCH_ENDPOINT=url, FPGA_BATCH_REGION="project-007x")
    assert len(account.associations) == 1
    assert missing.exit_code == 78
    assert "there are: 00000000000000000000000000000007 (project-007)" in missing.stderr
    assert "and 281 more. Set --project-id" in missing.stderr


@pytest.mark.parametrize("bare", [False, True], ids=["with all its members", "with its project alone"])
def test_a_token_with_a_large_catalogue_is_taken(command: Command, pairs: Path, bare: bool) -> None:
    with listening(account := LargeAccount(bare=bare)) as url:
        variables = {**USER, "OS_PASSWORD": "rehearsal", "OS_AUTH_URL": url, "FPGA_BATCH_ENDPOINT": url}
        assert command("associate", pairs.name, **variables) == Ended(0, "", "")
        told = command("login", **variables)
    assert len(account.associations) == 1
    assert told.exit_code == 0
    assert f"project:      {PROJECT}" in told.stdout
    assert ("valid until:  no end is known" in told.stdout) == bare


# Proxies

FAR = "https://ecs.cn-north-1.example.com"


@pytest.mark.parametrize(
    ("exceptions", "url", "excepted"),
    [
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3/8", "https://10.9.9.9:8443", True),
        ("192.168.0.0/16, 10.0.0.0/8", "https://10.1.2.3", True),
        ("fd00::/8", "https://[fd12::1]", True),
        ("fd00::/8", "https://[fe80::1]", False),
        ("10.0.0.0/8", "https://[fd12::1]", False),
        ("[fd12::1]", "https://[fd12::1]:8443", True),
        ("[fd12::1]:8443", "https://[fd12::1]:8443", True),
        ("[fd12::1]:8443", "https://[fd12::1]", False),
        ("FD12:0::1", "https://[fd12::1]", True),
        ("10.0.0.0/8", "https://10.example.com", False),
        ("10.0.0.0/99", "https://10.1.2.3", False),
        ("example.com", FAR, True),
        (".example.com", FAR, True),
        ("*.example.com", FAR, True),
        ("EXAMPLE.com", FAR, True),
        ("example.com.", f"{FAR}.", True),
        ("ample.com", FAR, False),
        (".example.com", "https://example.com", True),
        ("example.com:443", FAR, True),
        ("example.com:8443", FAR, False),
        ("example.com:8443", f"{FAR}:8443", True),
        ("a.b  ,, example.com", FAR, True),
        ("a.b example.com", FAR, True),
        ("ecs.*.example.com", FAR, True),
        ("*", FAR, True),
        ("a.b, *", FAR, True),
        ("", FAR, False),
        (" , .", FAR, False),
    ],
)
def test_hosts_and_networks_are_excepted_from_the_proxy(exceptions: str, url: str, excepted: bool) -> None:
    proxy = "http://p:3128"
    assert proxy_of(url, {"HTTPS_PROXY": proxy, "NO_PROXY": exceptions}) == (None if excepted else proxy)
    assert proxy_of(url, {"https_proxy": proxy, "no_proxy": exceptions}) == (None if excepted else proxy)


@given(st.text())
def test_whatever_is_excepted_is_no_error(exceptions: str) -> None:
    assert proxy_of("https://10.1.2.3", {"HTTPS_PROXY": "http://p", "NO_PROXY": exceptions}) in (
        "http://p",
        None,
    )


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({"https_proxy": "http://low", "HTTPS_PROXY": "http://high"}, "http://low"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://high"}, None),
        ({"HTTPS_PROXY": " "}, None),
        ({"HTTP_PROXY": "http://other"}, None),
        ({"all_proxy": "http://all", "HTTPS_PROXY": "http://one"}, "http://one"),
        ({"HTTPS_PROXY": "http://p", "REQUEST_METHOD": "GET"}, "http://p"),
    ],
)
def test_the_variable_that_counts_is_the_one_that_other_tools_take(
    variables: dict[str, str], proxy: str | None
) -> None:
    assert proxy_of(FAR, variables) == proxy


SOCKS = [
    ({"ALL_PROXY": "socks5://me:GEHEIM@p:1080"}, "ALL_PROXY: names a SOCKS proxy"),
    ({"all_proxy": "socks5h://p:1080"}, "all_proxy: names a SOCKS proxy"),
    ({"https_proxy": "SOCKS4://p:1080"}, "https_proxy: names a SOCKS proxy"),
    ({"ALL_PROXY": "ftp://p:1080"}, "ALL_PROXY: write it as http://"),
]


def test_a_proxy_that_is_not_spoken_to_is_told_by_the_variable_that_names_it(
    command: Command, pairs: Path
) -> None:
    run = partial(command, FPGA_BATCH_ENDPOINT=FAR, FPGA_BATCH_PROJECT_ID=PROJECT, OS_TOKEN=TOKEN)
    ends = at_once([partial(run, "login", **variables) for variables, _ in SOCKS])
    assert_each(ends, SOCKS, 78)
    assert not any("GEHEIM" in ended.stderr for ended in ends)
    assert (
        command(
            "associate",
            pairs.name,
            **SOCKS[0][0],
            FPGA_BATCH_ENDPOINT=FAR,
            OS_TOKEN=TOKEN,
            FPGA_BATCH_PROJECT_ID=PROJECT,
        ).exit_code
        == 78
    )


# Credentials


@pytest.mark.parametrize("mark", ['"', "'"])
def test_quotation_marks_around_settings_are_taken_off_and_told(
    command: Command, sandbox: WatchedSandbox, pairs: Path, mark: str
) -> None:
    settings = {
        **KEYS,
        "FPGA_BATCH_ENDPOINT": sandbox.url,
        "FPGA_BATCH_REGION": "cn-north-1",
        "FPGA_BATCH_TIMEOUT": "30",
        "FPGA_BATCH_STRICT": "no",
        "FPGA_BATCH_REPORT": "mine.csv",
    }
    quoted = {name: f"{mark}{value}{mark} \n" for name, value in settings.items()}
    ended = command("associate", pairs.name, "-v", **quoted)
    assert ended.exit_code == 0, ended
    assert "FPGA_BATCH_AK is in quotation marks: they are taken off" in ended.stderr
    assert (pairs.parent / "mine.csv").exists()
    assert command("associate", pairs.name, **quoted) == Ended(0, "", ""), "a warning is no reason for mail"


@pytest.mark.parametrize(
    "variables",
    [
        {"OS_TOKEN": f'"{TOKEN}"', "OS_PROJECT_ID": f"'{PROJECT}'"},
        {**{name: f'"{value}"' for name, value in USER.items()}, "OS_PASSWORD": "rehearsal"},
    ],
    ids=["token", "user"],
)
def test_quotation_marks_around_other_tools_variables_are_taken_off(
    command: Command, sandbox: WatchedSandbox, variables: dict[str, str]
) -> None:
    places = {"FPGA_BATCH_ENDPOINT": sandbox.url, "OS_AUTH_URL": f'"{sandbox.url}/v3/"'}
    assert command("login", **places, **variables).exit_code == 0


def test_quotation_marks_around_a_password_are_a_part_of_it_and_told(
    command: Command, sandbox: WatchedSandbox
) -> None:
    variables = {**USER, "OS_PASSWORD": '"rehearsal"', "OS_AUTH_URL": sandbox.url}
    ended = command("login", FPGA_BATCH_ENDPOINT=sandbox.url, **variables)
    assert ended.exit_code == 77
    assert "OS_PASSWORD is in quotation marks: they count as a part of it" in ended.stderr
    assert "rehearsal" not in ended.stderr.replace("user rehearsal", "")


@pytest.mark.parametrize(
    "text", ["", "[global]\nak = a\nsk = b\n", "[basic]\nproject_id = p\n", "[basic]\nAK=\n"]
)
def test_a_named_credentials_file_without_keys_is_named(command: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.ini").write_text(text)
    variables = {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "mine.ini", "FPGA_BATCH_REGION": "cn-north-1"}
    ended = command("login", **variables)
    assert ended.exit_code == 78
    assert "mine.ini, which HUAWEICLOUD_SDK_CREDENTIALS_FILE names, has no keys" in ended.stderr


def test_without_a_home_the_users_own_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".huaweicloud").mkdir()
    (tmp_path / ".huaweicloud" / "credentials").write_text("[basic]\nak = a\nsk = s\n")
    monkeypatch.setattr("os.path.expanduser", lambda _path: str(tmp_path))
    assert find(environment={}).source.endswith("credentials")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user who has no home, as in a container
    assert find(environment={}, firmware=tmp_path).credential is None


def test_no_home_and_no_credentials_are_told_in_one_line(
    command: Command, pairs: Path, tmp_path: Path
) -> None:
    with answering(200, b"{}") as stub:
        for home in ("", str(tmp_path / "nowhere"), str(pairs)):
            variables = {METADATA: "", "HOME": home, "FPGA_BATCH_ENDPOINT": stub.url}
            ends = [
                command("login", **variables, FPGA_BATCH_PROJECT_ID=PROJECT),
                command("associate", pairs.name, **variables, FPGA_BATCH_PROJECT_ID=PROJECT),
            ]
            for ended in ends:
                assert ended.exit_code == 78, ended
                assert "no credentials: set HUAWEICLOUD_SDK_AK" in ended.stderr
                assert "this machine's firmware does not say that it is an ECS" in ended.stderr
    assert not stub.requests


test_no_home_and_no_credentials_are_told_in_one_line = pytest.mark.skipif(
    is_instance(), reason="this machine is an ECS"
)(test_no_home_and_no_credentials_are_told_in_one_line)


def test_a_dry_run_needs_no_credentials(command: Command, pairs: Path) -> None:
    variables = {METADATA: "", "FPGA_BATCH_REGION": "cn-north-1"}
    assert command("associate", pairs.name, "--dry-run", **variables).exit_code == 0


def test_a_folder_of_credentials_that_is_not_there_is_named(command: Command) -> None:
    ended = command("login", CREDENTIALS_DIRECTORY="nowhere", FPGA_BATCH_REGION="cn-north-1")
    assert ended.exit_code == 78
    assert "CREDENTIALS_DIRECTORY nowhere: No such file or directory" in ended.stderr


# Places

PLACES = [
    (["--endpoint", "https://ecs.example.com/v1"], "leave out /v1 and what follows it: the program adds /v1"),
    (["--endpoint", f"https://ecs.example.com/v1/{PROJECT}/"], "leave out /v1 and what follows it"),
    (["--endpoint", "https://gw.example.com/ecs/v1.1"], "leave out /v1.1"),
    (["--endpoint", "https://ecs.example.com/V2/"], "leave out /V2"),
    (
        ["--region", "cn-north-1a"],
        "--region cn-north-1a: this is an availability zone, its region is cn-north-1",
    ),
    (["--region", "EU-DE-01"], "--region eu-de-01: this is an availability zone, its region is eu-de"),
    (["--region", "cn north 1"], "a region is written as cn-north-1"),
]


def test_a_place_that_is_more_than_was_asked_for_is_told(command: Command, pairs: Path) -> None:
    run = partial(command, "associate", pairs.name, "--project-id", PROJECT, OS_TOKEN=TOKEN)
    assert_each(at_once(partial(run, *options) for options, _ in PLACES), PLACES, 78)


def test_names_of_places_are_taken_in_any_letter_case(command: Command, pairs: Path) -> None:
    options = (
        "--region",
        "CN-North-1",
        "--cloud-domain",
        "MyHuaweiCloud.com",
        "--project-id",
        PROJECT.upper(),
    )
    ended = command("associate", pairs.name, "--dry-run", *options, OS_TOKEN=TOKEN)
    assert ended.exit_code == 0
    assert f"https://ecs.cn-north-1.myhuaweicloud.com/v1/{PROJECT}/" in ended.stderr


IDENTITIES = [
    ("iam.example.com/v3", "OS_AUTH_URL: write it as https://iam."),
    ("https://iam.example.com/v2.0", "write /v3 in place of /v2.0"),
    ("https://iam.example.com/identity/v2.0/tokens", "write /v3 in place of /v2.0"),
    ("http://iam.example.com/v3", "plain http would show the credentials"),
]


def test_an_identity_service_that_cannot_be_meant_is_told(command: Command) -> None:
    run = partial(command, "login", **USER, OS_PASSWORD="rehearsal", FPGA_BATCH_REGION="cn-north-1")
    assert_each(at_once(partial(run, OS_AUTH_URL=url) for url, _ in IDENTITIES), IDENTITIES, 78)


@pytest.mark.parametrize("end", ["", "/", "/v3", "/v3/", "/V3//", "/v3/auth/tokens", "/v3/projects/"])
def test_an_identity_service_is_named_with_its_version_or_without(end: str) -> None:
    variables = {**USER, "OS_PASSWORD": "p", "OS_AUTH_URL": f" https://iam.example.com/identity{end} "}
    assert find(environment=variables).iam == "https://iam.example.com/identity"


@contextmanager
def authorities(folder: Path) -> Iterator[dict[str, str]]:
    """Write files that are no list of authorities; give what is said of each."""
    authority = trustme.CA()
    pem = authority.cert_pem.bytes()
    texts = {
        "cut.pem": (pem[:300], "a certificate in it is cut off or damaged"),
        "second-cut.pem": (pem + trustme.CA().cert_pem.bytes()[:300], "a certificate in it is cut off"),
        "damaged.pem": (pem.replace(b"MII", b"XXX", 1), "a certificate in it is cut off or damaged"),
        "key.pem": (authority.private_key_pem.bytes(), "holds a private key and no certificate"),
        "der.crt": (ssl.PEM_cert_to_DER_cert(pem.decode()), "is in DER form: convert it"),
        "empty.pem": (b"\n", "is empty"),
        "text.pem": (b"hello", "holds no certificate in PEM form"),
    }
    for name, (text, _) in texts.items():
        (folder / name).write_bytes(text)
    said = {name: f"{name}: {told}" for name, (_, told) in texts.items()}
    yield {
        **said,
        "nowhere.pem": "nowhere.pem: cannot be read: No such file",
        ".": ".: cannot be read: Is a dir",
    }


def test_a_file_that_is_no_list_of_authorities_is_told(command: Command, tmp_path: Path) -> None:
    run = partial(command, "login", OS_TOKEN=TOKEN, FPGA_BATCH_PROJECT_ID=PROJECT, FPGA_BATCH_ENDPOINT=FAR)
    with authorities(tmp_path) as said:
        cases = list(said.items())
        assert_each(at_once(partial(run, "--ca-file", name) for name, _ in cases), cases, 78)
        assert_each(at_once(partial(run, OS_CACERT=name) for name, _ in cases[-2:]), cases[-2:], 78)


# Options

DURATIONS = {
    "30": 30,
    "0.5": 0.5,
    "90s": 90,
    "5m": 300,
    "2h": 7200,
    "1h30m": 5400,
    "1h 30m": 5400,
    "500ms": 0.5,
    "1.5h": 5400,
    "5 min": 300,
    "1d": 86400,
    "2 hours": 7200,
    "5M": 300,
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items())
def test_a_duration_is_in_seconds_or_with_units(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "inf", "1e3", "1,5", "1,000", "5x", "5m30", "m", "5 m 30", "1:30", "½h", "٣s"]
)
def test_what_is_no_duration_is_none(text: str) -> None:
    assert seconds_in(text) is None


@given(st.text())
def test_a_duration_is_never_negative_nor_endless(text: str) -> None:
    found = seconds_in(text)
    assert found is None or 0 <= found < float("inf")


def test_every_option_that_is_a_duration_takes_units(
    command: Command, sandbox: WatchedSandbox, pairs: Path
) -> None:
    options = ("--timeout", "1m", "--max-outage", "90s", "--max-duration", "1h30m")
    assert command("associate", pairs.name, *options, service=sandbox.url) == Ended(0, "", "")
    variables = {"FPGA_BATCH_TIMEOUT": "5m", "FPGA_BATCH_MAX_OUTAGE": "0", "FPGA_BATCH_MAX_DURATION": "2h"}
    assert command("verify", pairs.name, service=sandbox.url, **variables) == Ended(0, "", "")


MISUSED = [
    (["associate", "x.csv", "--timeout", "5x"], "'5x' is no duration: write seconds, or 90s, 5m, 2h, 1h30m"),
    (["associate", "x.csv", "--timeout", "2h"], "'2h': must be less than or equal to 3600 s"),
    (["associate", "x.csv", "--timeout", "1,5"], "'1,5' is no duration"),
    (["associate", "x.csv", "--max-outage", "-1"], "'-1' is no duration"),
    (["associate", "x.csv", "--max-duration", "10ms"], "'10ms': must be greater than or equal to 0.1 s"),
    (["sandbox", "--token-lifetime", "soon"], "'soon' is no duration"),
    (["associate", "x.csv", "--retries", "3"], "No such option: --retries. Did you mean --max-attempts?"),
    (["associate", "x.csv", "--workers=8"], "Did you mean --concurrency?"),
    (["associate", "x.csv", "--dry"], "Did you mean --dry-run?"),
    (["associate", "x.csv", "--output", "y"], "Did you mean --report?"),
    (["associate", "x.csv", "--regoin", "y"], "Did you mean --region?"),
    (["associate", "x.csv", "-j", "8"], "Did you mean --concurrency?"),
    (["associate", "--input", "x.csv"], "The file is given without an option: fpga-batch COMMAND FILE"),
    (["associate", "x.csv", "--token", "s3cret-token"], "is never an option: set OS_TOKEN"),
    (["associate", "x.csv", "--password=s3cret-token"], "is never an option: set OS_PASSWORD"),
    (["login", "--ak", "s3cret-token"], "is never an option: set FPGA_BATCH_AK and FPGA_BATCH_SK"),
    (["check", "x.csv", "--retries", "3"], "No such option: --retries."),
    (["relate", "x.csv"], "No such command 'relate'. Did you mean associate?"),
    (["asociate", "x.csv"], "Did you mean associate?"),
    (["rollback", "x.csv"], "Did you mean undo?"),
    (["pairs.csv"], "Name a command before the file: fpga-batch associate FILE"),
    (
        ["resume", "x.csv", "--only", "image_ful"],
        "--only 'image_ful': there is no such reason; did you mean image_full?",
    ),
    (
        ["resume", "x.csv", "--only", "timeout,qwertz"],
        "'qwertz': there is no such reason; reasons are accepted, ",
    ),
    (["resume", "x.csv", "--only", ""], "it is empty"),
]


def test_wrong_usage_is_answered_with_what_is_meant(command: Command, sandbox: WatchedSandbox) -> None:
    run = partial(command, service=sandbox.url, FPGA_BATCH_CONCURRENCY="8")
    ends = at_once(partial(run, *line) for line, _ in MISUSED)
    assert_each(ends, MISUSED, 2)
    assert not any("s3cret" in ended.stderr for ended in ends)
    assert not any(
        "Did you mean" in ended.stderr
        for ended, (line, _) in zip(ends, MISUSED, strict=True)
        if line[0] == "check"
    )


def test_reasons_are_taken_in_any_letter_case(command: Command, sandbox: WatchedSandbox, pairs: Path) -> None:
    assert command("associate", pairs.name, service=sandbox.url).exit_code == 0
    ended = command("resume", "pairs.report.csv", "--only", "Timeout, THROTTLED", service=sandbox.url)
    assert ended.exit_code == 0


@pytest.mark.parametrize(
    "text", ["10", "10/s", "10/sec", "10 / s", "10rps", "600rpm", "10 per second", "10 r/s", "600/minutes"]
)
def test_a_rate_is_written_in_several_ways(text: str) -> None:
    assert parse_rate(text).per_second == 10


@pytest.mark.parametrize("value", ["no", "off", "0", "false", "yes", "on", "1", "TRUE"])
def test_a_switch_is_set_by_any_word_for_yes_or_no(
    command: Command, sandbox: WatchedSandbox, pairs: Path, value: str
) -> None:
    pairs.write_text(PAIRS + "x,y\n")
    ended = command("associate", pairs.name, service=sandbox.url, FPGA_BATCH_STRICT=value)
    assert ended.exit_code == (1 if value in ("no", "off", "0", "false") else 65)


# Variables

KUBERNETES = {
    "FPGA_BATCH_SERVICE_HOST": "10.0.0.1",
    "FPGA_BATCH_SERVICE_PORT": "8088",
    "FPGA_BATCH_SERVICE_PORT_HTTP": "8088",
    "FPGA_BATCH_PORT": "tcp://10.0.0.1:8088",
    "FPGA_BATCH_PORT_8088_TCP": "tcp://10.0.0.1:8088",
    "FPGA_BATCH_PORT_8088_TCP_PROTO": "tcp",
    "FPGA_BATCH_PORT_8088_TCP_PORT": "8088",
    "FPGA_BATCH_PORT_8088_TCP_ADDR": "10.0.0.1",
    "FPGA_BATCH_METRICS_PORT": "tcp://10.0.0.2:9100",
    "FPGA_BATCH_METRICS_SERVICE_HOST": "10.0.0.2",
}


def test_what_kubernetes_puts_into_the_environment_is_no_setting(
    command: Command, sandbox: WatchedSandbox, pairs: Path, start: Callable[..., Any]
) -> None:
    ended = command("associate", pairs.name, "-v", service=sandbox.url, **KUBERNETES)
    assert ended.exit_code == 0
    assert "FPGA_BATCH" not in ended.stderr
    running = start(
        "sandbox", "--host", "127.0.0.1", **KUBERNETES, FPGA_BATCH_RATE_LIMIT="5/s", FPGA_BATCH_SEED="1"
    )
    assert running.stdout.readline().startswith("http://127.0.0.1:")
    running.terminate()


def test_an_unknown_variable_is_told_with_the_likely_one_where_somebody_looks_or_something_fails(
    command: Command, sandbox: WatchedSandbox, pairs: Path
) -> None:
    variables = {
        "FPGA_BATCH_MAX_RETRIES": "3",
        "FPGA_BATCH_REGOIN": "eu-de",
        "FPGA_BATCH_SECRET_KEY": "s3cret",
        "FPGA_BATCH_XYZZY": "1",
    }
    assert command("associate", pairs.name, service=sandbox.url, **variables) == Ended(0, "", "")
    told = [
        command("associate", pairs.name, "-v", service=sandbox.url, **variables),
        command("associate", pairs.name, **variables),
        command("report", "nowhere.csv", **variables),
        command("check", "nowhere.csv", **variables),
    ]
    for ended in told:
        for said in (
            "FPGA_BATCH_MAX_RETRIES is not known, and is ignored: did you mean FPGA_BATCH_MAX_ATTEMPTS?",
            "FPGA_BATCH_REGOIN is not known, and is ignored: did you mean FPGA_BATCH_REGION?",
            "FPGA_BATCH_SECRET_KEY is not known, and is ignored: did you mean FPGA_BATCH_AK and",
            "FPGA_BATCH_XYZZY is not known, and is ignored\n",
        ):
            assert ended.stderr.count(said) == 1, ended
        assert "s3cret" not in ended.stderr
    as_json = command("associate", pairs.name, "--log-format", "json", **variables)
    first = json.loads(as_json.stderr.splitlines()[0])
    assert (first["level"], first["message"][:22]) == ("warning", "FPGA_BATCH_MAX_RETRIES")


@pytest.mark.parametrize("value", ["", " ", "\n", '""'])
def test_a_variable_that_holds_nothing_is_not_set(
    command: Command, sandbox: WatchedSandbox, pairs: Path, value: str
) -> None:
    names = ("TIMEOUT", "MAX_DURATION", "REGION", "CA_FILE", "REPORT", "STRICT", "CONCURRENCY", "OS_CLOUD")
    variables = {f"FPGA_BATCH_{name}": value for name in names}
    assert command("associate", pairs.name, service=sandbox.url, **variables) == Ended(0, "", "")
    assert (pairs.parent / "pairs.report.csv").exists()


@given(st.text())
def test_advice_is_one_line_or_none(written: str) -> None:
    for advice in (
        on_option(f"--{written}", ["--region", "--rate"]),
        on_command(written, ["associate", "undo"]),
        on_variable(f"FPGA_BATCH_{written}", "1", ["FPGA_BATCH_REGION"]),
    ):
        assert isinstance(advice, str)
