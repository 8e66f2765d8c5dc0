"""What concerns one row fails that row, and what concerns the run stops it; through the real command."""

import csv
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from conftest import Ended, WatchedSandbox, answering, listening
from support import OWN_TOKEN, PROJECT, fpga, image

from jobs.sandbox import Call, Reply, Withheld, issue_certificate

Command = Callable[..., Ended]

OTHER = "f" * 32
OWN = PROJECT
USER = {
    "OS_USERNAME": "rehearsal",
    "OS_PASSWORD": "rehearsal",
    "OS_USER_DOMAIN_NAME": "sandbox",
    "OS_TOKEN": "",
}
BY_NAME = USER | {"FPGA_BATCH_PROJECT_ID": "", "OS_PROJECT_NAME": "cn-north-1"}


class Watching(WatchedSandbox):
    """A sandbox that notes what the identity service was asked, and may answer calls of the API otherwise."""

    def __init__(self, spoil: Callable[[Call, Reply], Reply | Withheld] = lambda _call, reply: reply) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.calls: list[str] = []
        self._spoil = spoil

    def identify(self, call: Call) -> Reply:
        scope = orjson.loads(call.body)["auth"]["scope"]["project"] if call.body else {}
        self.asked[scope.get("id") or scope.get("name", "")] += 1
        return super().identify(call)

    def reply(self, call: Call) -> Reply | Withheld:
        self.calls.append(f"{call.method} {call.path}?{call.query}")
        reply = super().reply(call)
        return self._spoil(call, reply) if isinstance(reply, Reply) else reply


def page(status: int, **headers: str) -> Reply:
    return Reply(
        status, {"Content-Type": "text/html", **headers}, b"<html><title>Blocked here</title></html>"
    )


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Callable[..., tuple[Ended, list[dict[str, str]]]]:
    """Run a job over rows, each with the project of its own or none; return how it ended and the report."""

    def running(
        url: str, projects: list[str], *args: str, job: str = "associate", **variables: str
    ) -> tuple[Ended, list[dict[str, str]]]:
        lines = [f"{fpga(n)},{image(n)},{project}" for n, project in enumerate(projects, 1)]
        (tmp_path / "pairs.csv").write_text("\n".join(["fpga_image_id,image_id,project_id", *lines, ""]))
        ended = command(job, "pairs.csv", *args, service=url, **({"OS_AUTH_URL": f"{url}/v3"} | variables))
        word = "report" if job == "associate" else job
        with (tmp_path / f"pairs.{word}.csv").open(newline="") as file:
            return ended, list(csv.DictReader(file))

    return running


Run = Callable[..., tuple[Ended, list[dict[str, str]]]]


def said(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["outcome"], row["reason"]) for row in rows]


DONE = ("succeeded", "")
REST = ("pending", "not_sent")


# A project of the row's own


@pytest.mark.parametrize("projects", [["null", OWN, "", "typo", "null"], ["typo", "", "null", OWN, "typo"]])
@pytest.mark.parametrize("concurrency", ["1", "8"])
def test_a_project_that_cannot_be_had_fails_its_rows_alone(
    run: Run, projects: list[str], concurrency: str
) -> None:
    projects = [f"{project}-x" if project == "null" else project for project in projects]
    with listening(Watching()) as url:
        ended, rows = run(url, projects, "--concurrency", concurrency, **USER)
    assert ended.exit_code == 1
    expected = [DONE if project in (OWN, "") else ("failed", "no_such_project") for project in projects]
    assert said(rows) == expected
    assert all(
        f"project {project}: " in row["error_message"] and row["attempts"] == "0"
        for row, project in zip(rows, projects, strict=True)
        if project not in (OWN, "")
    )


def test_a_project_that_cannot_be_had_is_asked_for_once(run: Run) -> None:
    with listening(sandbox := Watching()) as url:
        _, rows = run(url, ["typo", ""] * 50, "--concurrency", "8", **USER)
    assert said(rows) == [("failed", "no_such_project"), DONE] * 50
    assert sandbox.asked == {"typo": 1, OWN: 1}
    assert len(sandbox.calls) == 50


def test_a_user_who_is_refused_altogether_stops_the_run(tmp_path: Path, command: Command) -> None:
    (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id,project_id\n{fpga(1)},{image(1)},{OTHER}\n")
    with listening(sandbox := Watching()) as url:
        ended = command(
            "associate",
            "pairs.csv",
            service=url,
            **USER | {"OS_AUTH_URL": f"{url}/v3", "OS_PASSWORD": "wrong"},
        )
    assert ended.exit_code == 77
    assert sandbox.asked == {OWN: 1}
    assert not sandbox.calls


@pytest.mark.parametrize("first", ["", OTHER])
def test_a_project_that_a_token_is_not_for_fails_its_rows_alone(run: Run, first: str) -> None:
    with listening(sandbox := Watching()) as url:
        ended, rows = run(url, [first, "", OTHER, OTHER, "", OTHER], "--concurrency", "1", OS_TOKEN=OWN_TOKEN)
    assert ended.exit_code == 1
    assert said(rows) == [
        ("failed", "denied") if each else DONE for each in (first, "", OTHER, OTHER, "", OTHER)
    ]
    assert sum(OTHER in call for call in sandbox.calls) == 1, "the others hear it without being sent"


def test_the_runs_own_project_that_the_token_is_not_for_stops_the_run(run: Run) -> None:
    with listening(Watching()) as url:
        ended, rows = run(
            url, ["", ""], "--concurrency", "1", FPGA_BATCH_PROJECT_ID=OTHER, OS_TOKEN=OWN_TOKEN
        )
    assert ended.exit_code == 77
    assert rows[1]["outcome"] == "pending"


def test_the_same_project_by_name_and_by_id_is_one(run: Run) -> None:
    with listening(sandbox := Watching()) as url:
        _, rows = run(url, [OWN, "", OWN.upper(), ""], "--concurrency", "1", "--rate", "5", **BY_NAME)
        assert said(rows) == [DONE] * 4
        assert sandbox.asked == {"cn-north-1": 1}
        assert sandbox.stats()["worst_second"] <= 6


def test_duplicates_are_found_between_a_projects_name_and_its_id(command: Command, tmp_path: Path) -> None:
    lines = [f"{fpga(1)},{image(1)},{project}" for project in (OWN, "", OTHER)]
    (tmp_path / "pairs.csv").write_text("\n".join(["fpga_image_id,image_id,project_id", *lines, ""]))
    with listening(Watching()) as url:
        ended = command("associate", "pairs.csv", service=url, **BY_NAME | {"OS_AUTH_URL": f"{url}/v3"})
    assert ended.exit_code == 1
    with (tmp_path / "pairs.report.csv").open(newline="") as file:
        assert said(list(csv.DictReader(file))) == [
            DONE,
            ("duplicate", "duplicate_row"),
            ("failed", "no_such_project"),
        ]


RESOLVER = """
import socket
real = socket.getaddrinfo
def found(host, port, *args, **options):
    if "nowhere" in str(host):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return real("127.0.0.1", {port}, *args, **options)
socket.getaddrinfo = found
"""
"""A resolver to which every host is one port of this machine, but for those that are nowhere."""


def test_a_region_of_a_rows_own_without_a_host_or_a_trusted_one_fails_its_rows_alone(
    command: Command, tmp_path: Path
) -> None:
    nowhere, untrusted = f"cn-nowhere-1,{PROJECT}", f"cn-south-1,{PROJECT}"
    places = [untrusted, "cn-north-1,", "cn-nowhere-1,", ",", nowhere, nowhere, untrusted]
    lines = [f"{fpga(n)},{image(n)},{place}" for n, place in enumerate(places, 1)]
    (tmp_path / "pairs.csv").write_text("\n".join(["fpga_image_id,image_id,region,project_id", *lines, ""]))
    context, authority = issue_certificate("ecs.cn-north-1.example.invalid")
    (tmp_path / "ca.pem").write_bytes(authority)
    with listening(Watching(), context) as url:
        (tmp_path / "sitecustomize.py").write_text(RESOLVER.format(port=url.rpartition(":")[2]))
        ended = command(
            *("associate", "pairs.csv", "--region", "cn-north-1", "--cloud-domain", "example.invalid"),
            PYTHONPATH=str(tmp_path),
            FPGA_BATCH_PROJECT_ID=PROJECT,
            HUAWEICLOUD_SDK_AK="SANDBOXACCESSKEY0000",
            HUAWEICLOUD_SDK_SK="sandbox-secret-key",
            HUAWEICLOUD_SDK_IAM_ENDPOINT="https://iam.cn-north-1.example.invalid",
            FPGA_BATCH_CA_FILE="ca.pem",
            FPGA_BATCH_CONCURRENCY="1",
        )
    assert ended.exit_code == 1, ended
    with (tmp_path / "pairs.report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert said(rows[1:6]) == [DONE, ("failed", "no_such_project"), DONE, *[("failed", "no_such_host")] * 2]
    assert "nowhere" in rows[2]["error_message"]
    assert "ecs.cn-nowhere-1.example.invalid" in rows[4]["error_message"]
    assert said([rows[0], rows[6]]) == [("failed", "connection")] * 2
    assert "certificate is not trusted" in rows[0]["error_message"]


# A wall before the service


@pytest.mark.parametrize("job", ["associate", "disassociate", "verify"])
def test_a_firewalls_page_for_one_row_fails_that_row(run: Run, job: str) -> None:
    def spoil(call: Call, reply: Reply) -> Reply:
        return page(403) if fpga(3) in f"{call.path}?{call.query}" else reply

    with listening(Watching(spoil)) as url:
        ended, rows = run(url, [""] * 6, "--concurrency", "1", job=job)
    assert ended.exit_code == 1
    assert [row["outcome"] for row in rows].count("pending") == 0
    assert said(rows)[2] == ("failed", "denied")
    assert rows[2]["http_status"] == "403"
    assert "Blocked here" in rows[2]["error_message"]


def test_a_page_that_always_takes_the_place_of_the_answer_hides_no_success(run: Run) -> None:
    def spoil(call: Call, reply: Reply) -> Reply:
        return page(404) if fpga(3) in call.path else reply

    with listening(Watching(spoil)) as url:
        _, rows = run(url, [""] * 5, "--max-attempts", "2")
    assert said(rows) == [("succeeded", "read_back" if n == 3 else "") for n in range(1, 6)]


@pytest.mark.parametrize("own", [True, False])
def test_a_403_before_anything_has_served_or_of_the_services_own_stops_the_run(
    run: Run, *, own: bool
) -> None:
    denial = Reply(403, {}, b'{"error_code": "APIGW.0302", "error_msg": "black list"}') if own else page(403)

    def spoil(call: Call, reply: Reply) -> Reply:
        return denial if fpga(2 if own else 1) in call.path else reply

    with listening(Watching(spoil)) as url:
        ended, rows = run(url, [""] * 4, "--concurrency", "1")
    assert ended.exit_code == 77
    assert [row["outcome"] for row in rows].count("pending") == 4 - (1 + own)


# No such service


ELSEWHERE = {
    "a redirect": (302, b"", {"Location": "https://login.example.com/sso"}, "login.example.com"),
    "a moved place": (
        301,
        b"<title>Moved</title>",
        {"Location": "https://new.example.com/"},
        "new.example.com",
    ),
    "a portal": (200, b"<html><title>Sign in please</title></html>", {}, "Sign in please"),
    "no such page": (404, b"<html><title>Nothing to see</title></html>", {}, "Nothing to see"),
    "no such method": (405, b"<html><title>Not for you</title></html>", {}, "Not for you"),
    "another API": (404, b'{"detail": "Not Found"}', {}, "404 rejected"),
}


@pytest.mark.parametrize("place", ELSEWHERE)
@pytest.mark.parametrize(("rows", "concurrency"), [(1, 1), (7, 3), (200, 32)])
def test_an_endpoint_with_nothing_of_the_api_in_any_answer_stops_the_run(
    run: Run, place: str, rows: int, concurrency: int
) -> None:
    status, body, headers, shown = ELSEWHERE[place]
    with answering(status, body, **headers) as service:
        ended, report = run(service.url, [""] * rows, "--concurrency", str(concurrency))
        assert min(rows, 20) <= service.requests <= min(rows, 20 + concurrency)
    assert ended.exit_code == 69
    assert shown in ended.stderr
    assert {row["outcome"] for row in report} == {"pending"}


def test_verify_at_such_an_endpoint_stops_too(run: Run) -> None:
    with answering(200, b"<html><title>Sign in please</title></html>") as service:
        ended, report = run(service.url, [""] * 30, job="verify")
    assert ended.exit_code == 69
    assert {row["outcome"] for row in report} == {"pending"}


@pytest.mark.parametrize("status", [200, 302, 404, 405])
def test_pages_before_the_first_answer_of_the_service_cost_no_row_its_outcome(run: Run, status: int) -> None:
    with listening(
        sandbox := Watching(lambda _, reply: page(status) if len(sandbox.calls) <= 10 else reply)
    ) as url:
        ended, rows = run(url, [""] * 30, "--concurrency", "4")
    assert ended.exit_code == 0
    assert {row["outcome"] for row in rows} == {"succeeded"}
    assert sum(row["reason"] == "read_back" for row in rows) == 10, "the pages hide what the service has done"


# Asked to wait


def test_one_row_that_is_asked_to_wait_for_an_hour_holds_up_nothing(run: Run) -> None:
    def spoil(call: Call, reply: Reply) -> Reply:
        if call.method == "POST" and fpga(2) in call.path:
            return Reply(503, {"Retry-After": "3600"}, b'{"error_code": "APIGW.0613"}')
        return reply

    with listening(Watching(spoil)) as url:
        began = time.monotonic()
        ended, rows = run(url, [""] * 5, "--max-outage", "1", "-v")
    assert time.monotonic() - began < 20
    assert ended.exit_code == 0, "the sandbox has done it all the same"
    assert said(rows)[1] == ("succeeded", "read_back")
    assert rows[1]["attempts"] == "3", "two writes and a read-back"
    assert "row 2: the service asks to wait 1 h 0 min" in ended.stderr


def test_a_service_that_asks_all_to_wait_for_an_hour_is_asked_once_more(run: Run) -> None:
    body = b'{"error_code": "APIGW.0308", "error_msg": "too many"}'
    with answering(429, body, Retry_After="3600") as service:
        ended, rows = run(service.url, [""] * 5, "--max-outage", "1", "--concurrency", "1")
        assert service.requests == 2
    assert ended.exit_code == 69
    assert "asks to wait 1 h 0 min" in ended.stderr
    assert {row["outcome"] for row in rows} == {"pending"}


THROTTLED = Reply(
    429, {}, b'{"error_code": "APIGW.0308", "error_msg": "The throttling threshold is reached"}'
)


@pytest.mark.parametrize(
    ("bad", "concurrency"), [({1}, "8"), ({40}, "1"), ({7, 8}, "1"), ({1, 20, 40}, "8")], ids=str
)
def test_rows_that_alone_are_always_throttled_fail_and_hold_up_no_other(
    run: Run, bad: set[int], concurrency: str
) -> None:
    names = {fpga(n) for n in bad}

    def spoil(call: Call, reply: Reply) -> Reply:
        return THROTTLED if call.method == "POST" and any(name in call.path for name in names) else reply

    options = ("--max-outage", "2", "--max-attempts", "2", "--rate", "100", "--concurrency", concurrency)
    with listening(Watching(spoil)) as url:
        ended, rows = run(url, [""] * 40, *options)
    assert ended.exit_code == 1, ended.stderr
    assert said(rows) == [("failed", "throttled") if n in bad else DONE for n in range(1, 41)]


# A place of some rows' own


def elsewhere(call: Call) -> bool:
    return f"/{OTHER}/" in call.path


@pytest.mark.parametrize(
    ("answer", "reason", "shown"),
    [
        (THROTTLED, "throttled", "has throttled every request for"),
        (Reply(503, {}, b""), "server_error", "has been down for"),
    ],
    ids=["throttled", "down"],
)
@pytest.mark.parametrize("order", ["first", "mixed"])
def test_a_place_of_some_rows_that_cannot_be_used_fails_these_rows_alone(
    run: Run, answer: Reply, reason: str, shown: str, order: str
) -> None:
    there, here = [OTHER] * 20, [""] * 20
    projects = {"first": there + here, "mixed": [OTHER, ""] * 20}[order]
    with listening(Watching(lambda call, reply: answer if elsewhere(call) else reply)) as url:
        ended, rows = run(url, projects, "--max-outage", "1", "--max-attempts", "2", "--rate", "200")
    assert ended.exit_code == 1, ended.stderr
    for project, row in zip(projects, rows, strict=True):
        if not project:
            assert row["outcome"] == "succeeded", row
        elif row["reason"] != reason or row["outcome"] != "failed":
            assert row["outcome"] == "unconfirmed", row
    assert any(shown in row["error_message"] for row in rows)
    assert OTHER in ended.stderr


def test_the_runs_own_place_that_cannot_be_used_stops_it_though_rows_elsewhere_go_on(run: Run) -> None:
    with listening(Watching(lambda call, reply: reply if elsewhere(call) else THROTTLED)) as url:
        ended, rows = run(url, [OTHER, ""] * 10, "--max-outage", "1", "--rate", "200")
    assert ended.exit_code == 69
    assert [row["outcome"] for row in rows] == ["succeeded", "pending"] * 10


# Hosts that do not exist


@pytest.mark.parametrize(
    "variables",
    [
        {"FPGA_BATCH_ENDPOINT": "https://ecs.nowhere.invalid"},
        USER | {"OS_AUTH_URL": "https://iam.nowhere.invalid/v3"},
        {"FPGA_BATCH_ENDPOINT": "https://ecs.example.com", "HTTPS_PROXY": "http://nowhere.invalid:3128"},
    ],
    ids=["service", "identity service", "proxy"],
)
def test_a_host_that_does_not_exist_is_a_wrong_setting(
    command: Command, tmp_path: Path, variables: dict[str, str]
) -> None:
    with listening(Watching()) as url:
        began = time.monotonic()
        (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\n")
        ended = command("associate", "pairs.csv", service=url, **variables)
    assert time.monotonic() - began < 20
    assert ended.exit_code == 78
    assert "nowhere.invalid" in ended.stderr


def test_a_portals_page_is_no_leave_to_list_associations(command: Command) -> None:
    with answering(200, b"<html><title>Sign in please</title></html>") as service:
        ended = command("login", service=service.url)
    assert ended.exit_code == 69
    assert "200 Sign in please" in ended.stderr
