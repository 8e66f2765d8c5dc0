"""Settings that somebody else has planted, and answers that are made to harm: no secret follows them."""

import json
import os
import re
import resource
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, Ended, WatchedSandbox, arguments, environment, listening
from sources import AK, SK
from support import PROJECT, TOKEN, fpga, image
from test_proxy import proxying

from jobs.sandbox import issue_certificate

Command = Callable[..., Ended]

PASSWORD = "the-password-itself"
NETRC_PASSWORD = "of-the-netrc"
SOMEBODY = 65534
AS_SOMEBODY = ("setpriv", "--reuid", str(SOMEBODY), "--regid", str(SOMEBODY), "--clear-groups")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")


class Listener:
    """A server that keeps all that it is sent, and answers what it is told to.

    Attributes:
        heard: requests with headers and bodies.
        url: where it listens.

    """

    def __init__(self, url: str) -> None:
        self.heard: list[str] = []
        self.url = url


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def hearing(answer: Callable[[str, str], Answer]) -> Iterator[Listener]:
    """Run a server whose answers depend on method and path."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            listener.heard.append(f"{self.command} {self.path}\n{self.headers}\n{body.decode()}")
            status, headers, content = answer(self.command, self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_CONNECT = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener = Listener(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def attacker() -> Iterator[Listener]:
    """Return a server to which no secret may go."""
    with hearing(lambda _method, _path: (404, {}, b"")) as listener:
        yield listener
        assert PASSWORD not in "".join(listener.heard)


def entry(url: str, *, password: str | None = PASSWORD, **more: Any) -> dict[str, Any]:
    auth = {
        "auth_url": f"{url}/v3",
        "username": "rehearsal",
        "user_domain_name": "sandbox",
        "project_domain_name": "sandbox",
        "project_name": "cn-north-1",
    } | ({"password": password} if password else {})
    return {"clouds": {"mine": {"auth": auth, "region_name": "cn-north-1", **more}}}


def write(path: Path, content: Any, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return path


def own(folder: Path) -> Path:
    return folder / ".config" / "openstack"


CURRENT = ["clouds.yaml", "clouds.yml", "clouds.json", "secure.yaml", "clouds-public.yaml"]


@needs_root
@pytest.mark.parametrize("name", CURRENT)
def test_what_another_user_has_put_into_the_current_folder_says_nothing(
    command: Command, tmp_path: Path, attacker: Listener, name: str
) -> None:
    write(own(tmp_path) / "clouds.yaml", entry("http://127.0.0.1:9", profile="planted"))
    write(own(tmp_path) / "secure.yaml", {"clouds": {"mine": {"auth": {"password": PASSWORD}}}})
    profile = {"public-clouds": {"planted": {"auth": {"auth_url": attacker.url}}}}
    content = profile if "public" in name else entry(attacker.url, password=None)
    os.chown(write(tmp_path / name, content, 0o644), SOMEBODY, SOMEBODY)
    ended = command("login", OS_CLOUD="mine", FPGA_BATCH_ENDPOINT="http://127.0.0.1:9")
    assert ended.exit_code == 78
    assert f"{name}: belongs to another user ({SOMEBODY})" in ended.stderr
    assert "or run this in another folder" in ended.stderr
    assert attacker.heard == []


@needs_root
def test_a_pipe_in_the_current_folder_is_not_waited_for(command: Command, tmp_path: Path) -> None:
    write(own(tmp_path) / "clouds.yaml", entry("http://127.0.0.1:9"))
    os.mkfifo(tmp_path / "clouds.yaml")
    os.chown(tmp_path / "clouds.yaml", SOMEBODY, SOMEBODY)
    assert command("login", OS_CLOUD="mine").exit_code == 78


@needs_root
def test_another_users_link_to_ones_own_file_is_not_followed(
    command: Command, tmp_path: Path, attacker: Listener
) -> None:
    older = write(tmp_path / "older.yaml", entry(attacker.url))
    (tmp_path / "clouds.yaml").symlink_to(older)
    os.lchown(tmp_path / "clouds.yaml", SOMEBODY, SOMEBODY)
    ended = command("login", OS_CLOUD="mine", FPGA_BATCH_ENDPOINT="http://127.0.0.1:9")
    assert ended.exit_code == 78
    assert "belongs to another user" in ended.stderr
    assert attacker.heard == []


def profile(folder: Path, _url: str) -> tuple[Path, dict[str, str]]:
    return write(folder / ".huaweicloud" / "credentials", f"[basic]\nak = {AK}\nsk = {SK}\n"), {}


def named_profile(folder: Path, _url: str) -> tuple[Path, dict[str, str]]:
    path = write(folder / "keys", f"[basic]\nak = {AK}\nsk = {SK}\n")
    return path, {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": "keys"}


def handed_over(folder: Path, _url: str) -> tuple[Path, dict[str, str]]:
    write(folder / "given" / "ak", AK)
    return write(folder / "given" / "sk", SK), {"CREDENTIALS_DIRECTORY": str(folder / "given")}


def clouds(folder: Path, url: str) -> tuple[Path, dict[str, str]]:
    return write(own(folder) / "clouds.yaml", entry(url)), {"OS_CLOUD": "mine"}


def named_clouds(folder: Path, url: str) -> tuple[Path, dict[str, str]]:
    path = write(folder / "other.yaml", entry(url))
    return path, {"OS_CLOUD": "mine", "OS_CLIENT_CONFIG_FILE": str(path)}


def secure(folder: Path, url: str) -> tuple[Path, dict[str, str]]:
    write(own(folder) / "clouds.yaml", entry(url, password=None))
    path = own(folder) / "secure.yaml"
    return write(path, {"clouds": {"mine": {"auth": {"password": PASSWORD}}}}), {"OS_CLOUD": "mine"}


def here(folder: Path, url: str) -> tuple[Path, dict[str, str]]:
    return write(folder / "clouds.yaml", entry(url)), {"OS_CLOUD": "mine"}


def authorities(folder: Path, _url: str) -> tuple[Path, dict[str, str]]:
    _, authority = issue_certificate("127.0.0.1")
    path = write(folder / "ca.pem", authority.decode())
    return path, {"OS_TOKEN": TOKEN, "OS_CACERT": "ca.pem"}


def authorities_of_an_entry(folder: Path, url: str) -> tuple[Path, dict[str, str]]:
    _, authority = issue_certificate("127.0.0.1")
    path = write(folder / "ca.pem", authority.decode())
    write(own(folder) / "clouds.yaml", entry(url, cacert=str(path)))
    return path, {"OS_CLOUD": "mine"}


FILES = [
    *(profile, named_profile, handed_over, clouds, named_clouds, secure, here),
    *(authorities, authorities_of_an_entry),
]


@pytest.mark.parametrize("mode", [0o620, 0o602])
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_others_may_write_to_is_refused_with_what_to_do(
    command: Command,
    tmp_path: Path,
    attacker: Listener,
    file: Callable[[Path, str], tuple[Path, dict[str, str]]],
    mode: int,
) -> None:
    path, variables = file(tmp_path, attacker.url)
    path.chmod(mode)
    ended = command("login", FPGA_BATCH_ENDPOINT=attacker.url, FPGA_BATCH_PROJECT_ID=PROJECT, **variables)
    assert ended.exit_code == 78
    assert f"{path.name}: others may write to it" in ended.stderr
    assert re.search(rf"then chmod go-w \S*{path.name}", ended.stderr)
    assert attacker.heard == []


@needs_root
@pytest.mark.parametrize("file", FILES)
def test_a_file_of_another_user_is_refused(
    command: Command,
    tmp_path: Path,
    attacker: Listener,
    file: Callable[[Path, str], tuple[Path, dict[str, str]]],
) -> None:
    path, variables = file(tmp_path, attacker.url)
    path.chmod(0o444)
    os.chown(path, SOMEBODY, SOMEBODY)
    ended = command("login", FPGA_BATCH_ENDPOINT=attacker.url, FPGA_BATCH_PROJECT_ID=PROJECT, **variables)
    assert ended.exit_code == 78
    assert f"{path.name}: belongs to another user ({SOMEBODY})" in ended.stderr
    assert "put a file of your own in its place" in ended.stderr
    assert attacker.heard == []


@pytest.mark.parametrize("file", FILES[:-2])
def test_a_file_that_others_may_only_read_is_used(
    command: Command,
    tmp_path: Path,
    sandbox: WatchedSandbox,
    file: Callable[[Path, str], tuple[Path, dict[str, str]]],
) -> None:
    path, variables = file(tmp_path, sandbox.url)
    for each in tmp_path.rglob("*"):
        if each.is_file():
            each.write_text(each.read_text().replace(PASSWORD, "rehearsal"))
    path.chmod(0o644)
    ended = command("login", FPGA_BATCH_ENDPOINT=sandbox.url, FPGA_BATCH_PROJECT_ID=PROJECT, **variables)
    assert ended.exit_code == 0, ended.stderr


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="there is no setpriv")
def test_roots_file_is_used_by_another_user(
    tmp_path_factory: pytest.TempPathFactory, sandbox: WatchedSandbox
) -> None:
    folder = tmp_path_factory.mktemp("somebody", numbered=True)
    for each in (folder, *folder.parents):
        if each.is_relative_to("/tmp/") and each.stat().st_uid == 0:
            each.chmod(each.stat().st_mode | 0o011)
    write(folder / "credentials", f"[basic]\nak = {AK}\nsk = {SK}\n", 0o644)
    folder.chmod(0o755)
    variables = {
        "HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(folder / "credentials"),
        "FPGA_BATCH_ENDPOINT": sandbox.url,
        "FPGA_BATCH_PROJECT_ID": PROJECT,
    }
    ended = subprocess.run(
        [*AS_SOMEBODY, *arguments("login")],
        cwd=folder,
        env=environment(folder, None, variables),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        text=True,
    )
    if "Permission denied" in ended.stderr and not ended.stdout:
        pytest.skip("another user cannot read this installation")
    assert ended.returncode == 0, ended.stderr


def test_a_password_does_not_go_where_netrc_and_proxies_for_this_machine_point(
    command: Command, tmp_path: Path, sandbox: WatchedSandbox, attacker: Listener
) -> None:
    write(tmp_path / ".netrc", f"machine 127.0.0.1 login x password {NETRC_PASSWORD}\n")
    seen: list[str] = []
    identify = sandbox.identify

    def noting(call: Any) -> Any:
        seen.append(f"{call.method} {dict(call.headers)}")
        return identify(call)

    sandbox.identify = noting  # type: ignore[method-assign]
    write(own(tmp_path) / "clouds.yaml", entry(sandbox.url, password="rehearsal"))
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), attacker.url)
    ended = command("login", OS_CLOUD="mine", FPGA_BATCH_ENDPOINT=sandbox.url, **proxies)
    assert ended.exit_code == 0, ended.stderr
    assert attacker.heard == []
    assert any("POST" in each for each in seen)
    assert "Authorization" not in "".join(seen)


def test_an_identity_service_far_away_is_reached_by_the_programs_own_proxy(
    command: Command, tmp_path: Path
) -> None:
    write(own(tmp_path) / "clouds.yaml", entry("https://iam.example.invalid"))
    with proxying(refusal=b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
        variables = {"OS_CLOUD": "mine", "FPGA_BATCH_ENDPOINT": "http://127.0.0.1:9"}
        ended = command("login", **variables, HTTPS_PROXY=f"http://{proxy.url}")
        assert ended.exit_code == 69
        assert proxy.asked
        assert {each.split()[1] for each in proxy.asked} == {"iam.example.invalid:443"}
        asked = len(proxy.asked)
        command("login", **variables, HTTPS_PROXY=f"http://{proxy.url}", NO_PROXY="example.invalid")
        assert len(proxy.asked) == asked


def test_no_secret_of_an_entry_goes_to_another_machine_over_plain_http(
    command: Command, tmp_path: Path, attacker: Listener
) -> None:
    content = entry("http://127.0.0.1:9", auth_type="v3oidcpassword")
    del content["clouds"]["mine"]["auth"]["user_domain_name"]
    content["clouds"]["mine"]["auth"] |= {
        "identity_provider": "idp",
        "protocol": "openid",
        "client_id": "me",
        "client_secret": PASSWORD,
        "access_token_endpoint": "http://idp.example.com/token",
    }
    write(own(tmp_path) / "clouds.yaml", content)
    # Before, a proxy of the environment would have carried it there.
    ended = command(
        "login", OS_CLOUD="mine", FPGA_BATCH_ENDPOINT="http://127.0.0.1:9", HTTP_PROXY=attacker.url
    )
    assert ended.exit_code == 78
    assert "'idp.example.com': plain http would show the credentials" in ended.stderr
    assert attacker.heard == []


def test_settings_are_not_fetched_from_elsewhere(
    command: Command, tmp_path: Path, attacker: Listener
) -> None:
    write(own(tmp_path) / "clouds.yaml", entry("http://127.0.0.1:9", profile=attacker.url))
    ended = command("login", OS_CLOUD="mine", FPGA_BATCH_ENDPOINT="http://127.0.0.1:9")
    assert ended.exit_code == 78
    assert "is fetched from elsewhere: write what it says into the entry" in ended.stderr
    assert attacker.heard == []


@contextmanager
def metadata(session: bytes = b"session", **credential: Any) -> Iterator[Listener]:
    """Run a metadata service with these keys beside the usual ones."""
    usual = {"access": AK, "secret": SK, "securitytoken": "", "expires_at": "2099-01-01T00:00:00.000000Z"}
    usual["securitytoken"] = "sts"
    body = json.dumps({"credential": usual | credential}).encode()
    with hearing(lambda method, _path: (200, {}, session if method == "PUT" else body)) as listener:
        yield listener


@pytest.mark.parametrize("odd", ["a\r\nX-Evil: 1", "a b", "\u00e9", "x" * 40_000])
@pytest.mark.parametrize("part", ["access", "secret", "securitytoken", "session"])
def test_what_would_bend_a_request_is_no_key_of_the_metadata_service(
    command: Command, sandbox: WatchedSandbox, part: str, odd: str
) -> None:
    given = {part: odd.encode() if part == "session" else odd}
    with metadata(**given) as service:
        ended = command(
            "login",
            FPGA_BATCH_ENDPOINT=sandbox.url,
            FPGA_BATCH_PROJECT_ID=PROJECT,
            FPGA_BATCH_METADATA_ENDPOINT=service.url,
        )
    assert ended.exit_code == 78
    assert "the metadata service" in ended.stderr
    assert odd not in ended.stderr
    assert sandbox.requests == 0


def test_a_key_with_a_comma_is_no_key_of_the_metadata_service(
    command: Command, sandbox: WatchedSandbox
) -> None:
    with metadata(access="AK,SignedHeaders=") as service:
        ended = command(
            "login",
            FPGA_BATCH_ENDPOINT=sandbox.url,
            FPGA_BATCH_PROJECT_ID=PROJECT,
            FPGA_BATCH_METADATA_ENDPOINT=service.url,
        )
    assert ended.exit_code == 78


@pytest.mark.parametrize("end", ["\x1b[2J", "2099\nassociations: may be listed", "soon", "\u202e2099"])
def test_an_end_that_is_no_time_is_not_shown(command: Command, sandbox: WatchedSandbox, end: str) -> None:
    sandbox.access_keys[AK] = type(sandbox.access_keys["SANDBOXACCESSKEY0000"])(AK, SK, "sts")
    with metadata(expires_at=end) as service:
        ended = command(
            "login",
            FPGA_BATCH_ENDPOINT=sandbox.url,
            FPGA_BATCH_PROJECT_ID=PROJECT,
            FPGA_BATCH_METADATA_ENDPOINT=service.url,
        )
    assert ended.exit_code == 0, ended.stderr
    assert "valid until:  no end is known" in ended.stdout


@pytest.mark.parametrize("token", ["to ken", "t\u00e9", "t" * 40_000])
def test_what_would_bend_a_request_is_no_token(command: Command, token: str) -> None:
    body = json.dumps({"token": {"project": {"id": PROJECT}}}).encode()
    with hearing(lambda _method, _path: (201, {"X-Subject-Token": token}, body)) as service:
        ended = command(
            "login",
            FPGA_BATCH_ENDPOINT=service.url,
            OS_AUTH_URL=service.url,
            OS_USERNAME="robot",
            OS_PASSWORD=PASSWORD,
            OS_USER_DOMAIN_NAME="account",
            OS_PROJECT_NAME="cn-north-1",
        )
    assert ended.exit_code in (69, 78)
    assert token not in ended.stderr
    assert len(service.heard) == 1


@pytest.mark.parametrize("year", [2060, 1999])
def test_a_service_that_is_years_off_does_not_set_the_clock(
    command: Command, tmp_path: Path, year: int
) -> None:
    there = datetime(year, 6, 1, tzinfo=UTC).timestamp()
    (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\n")
    sandbox = WatchedSandbox(now=lambda: there)
    with listening(sandbox) as url:
        ended = command(
            *("associate", "pairs.csv"),
            FPGA_BATCH_ENDPOINT=url,
            FPGA_BATCH_PROJECT_ID=PROJECT,
            FPGA_BATCH_AK=AK,
            FPGA_BATCH_SK=SK,
        )
    assert ended.exit_code == 77
    assert f"Jun {year} 00:00:00 GMT, more than a day from this machine's clock" in ended.stderr
    assert "set this machine's clock" in ended.stderr
    assert sandbox.requests == 1


def test_a_region_that_is_another_services_name_makes_no_host(command: Command, tmp_path: Path) -> None:
    ended = command("login", "--region", "obs", OS_TOKEN=TOKEN, OS_PROJECT_ID=PROJECT)
    assert ended.exit_code == 78
    assert "--region 'obs': a region is written as cn-north-1 or eu-de" in ended.stderr
    pairs = f"fpga_image_id,image_id,region\n{fpga(1)},{image(1)},obs\n"
    (tmp_path / "pairs.csv").write_text(pairs)
    ended = command("check", "pairs.csv")
    assert ended.exit_code == 1
    assert "region: 'obs' is not a region" in ended.stdout


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="there is no /proc")
@pytest.mark.parametrize("words", [("sandbox", "--port", "0"), ("associate", "pairs.csv")])
def test_a_process_that_holds_secrets_leaves_no_core_dump(
    start: Callable[..., "subprocess.Popen[str]"],
    tmp_path: Path,
    sandbox: WatchedSandbox,
    words: tuple[str, ...],
) -> None:
    (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\n")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    most = resource.RLIM_INFINITY if os.geteuid() == 0 else before[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    try:
        sandbox.faults = type(sandbox.faults)(latency=PATIENCE)
        process = start(*words, service=sandbox.url)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    if words[0] == "sandbox":
        assert process.stdout
        process.stdout.readline()
    else:
        sandbox.await_request()
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    (told,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert told.split()[4] == "0"
