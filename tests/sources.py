"""Each place where credentials are found, filled for the sandbox's account."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from conftest import WatchedSandbox
from support import OWN_TOKEN, PROJECT

from jobs.auth.signing import Keys

AK, SK = "SANDBOXACCESSKEY0000", "sandbox-secret-key"
TEMPORARY = Keys("TEMPORARYKEY", "temporary-secret-key", "goes-with-the-temporary-key")
USER = {"OS_USERNAME": "rehearsal", "OS_USER_DOMAIN_NAME": "sandbox", "OS_PROJECT_NAME": "cn-north-1"}
SECRETS = (SK, OWN_TOKEN, "hidden-password", TEMPORARY.secret, TEMPORARY.security_token)
METADATA = "FPGA_BATCH_METADATA_ENDPOINT"


class Source(NamedTuple):
    """A place for credentials.

    Attributes:
        name: how a login calls it.
        fill: puts the credentials there: given the folder and the service's URL it returns variables.

    """

    name: str
    fill: Callable[[Path, str], dict[str, str]]


def _variables(**variables: str) -> Callable[[Path, str], dict[str, str]]:
    return lambda _folder, _url: variables


def _systemd(variables: dict[str, str], **files: str) -> Callable[[Path, str], dict[str, str]]:
    def fill(folder: Path, url: str) -> dict[str, str]:
        handed_over = folder / "handed-over"
        handed_over.mkdir(exist_ok=True)
        for name, text in files.items():
            (handed_over / name).write_text(f"{text}\n")
        return {"CREDENTIALS_DIRECTORY": str(handed_over), "OS_AUTH_URL": url, **variables}

    return fill


def _user(_folder: Path, url: str) -> dict[str, str]:
    return {**USER, "OS_PASSWORD": "rehearsal", "OS_AUTH_URL": f"{url}/v3"}


def _profile(folder: Path, url: str) -> dict[str, str]:
    path = folder / ".huaweicloud" / "credentials"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[basic]\nak = {AK}\nsk = {SK}\niam_endpoint = {url}\n")
    path.chmod(0o600)
    return {"OS_REGION_NAME": "cn-north-1"}


def _clouds(folder: Path, url: str) -> dict[str, str]:
    path = folder / ".config" / "openstack" / "clouds.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    auth = {
        "auth_url": f"{url}/v3",
        "username": "rehearsal",
        "password": "rehearsal",
        "user_domain_name": "sandbox",
        "project_domain_name": "sandbox",
        "project_name": "cn-north-1",
    }
    path.write_text(json.dumps({"clouds": {"mine": {"auth": auth, "region_name": "cn-north-1"}}}))
    path.chmod(0o600)
    return {"OS_CLOUD": "mine"}


KEYS_BY_REGION = {"FPGA_BATCH_PROJECT_ID": "", "FPGA_BATCH_REGION": "cn-north-1"}
SOURCES = [
    Source("FPGA_BATCH_AK and FPGA_BATCH_SK", _variables(FPGA_BATCH_AK=AK, FPGA_BATCH_SK=SK)),
    Source("FPGA_BATCH_TOKEN", _variables(FPGA_BATCH_TOKEN=OWN_TOKEN, FPGA_BATCH_PROJECT_ID=PROJECT)),
    Source("ak and sk in CREDENTIALS_DIRECTORY", _systemd({}, ak=AK, sk=SK)),
    Source("token in CREDENTIALS_DIRECTORY", _systemd({"FPGA_BATCH_PROJECT_ID": PROJECT}, token=OWN_TOKEN)),
    Source("OS_USERNAME and password in CREDENTIALS_DIRECTORY", _systemd(USER, password="rehearsal")),
    Source(
        "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
        lambda _folder, url: {
            "HUAWEICLOUD_SDK_AK": AK,
            "HUAWEICLOUD_SDK_SK": SK,
            "HUAWEICLOUD_SDK_IAM_ENDPOINT": url,
            "FPGA_BATCH_REGION": "cn-north-1",
        },
    ),
    Source(
        "HW_ACCESS_KEY and HW_SECRET_KEY",
        lambda _folder, url: {
            "HW_ACCESS_KEY": TEMPORARY.access,
            "HW_SECRET_KEY": TEMPORARY.secret,
            "HW_SECURITY_TOKEN": TEMPORARY.security_token,
            "HW_REGION_NAME": "cn-north-1",
            "HW_AUTH_URL": f"{url}/v3",
        },
    ),
    Source(
        "OS_ACCESS_KEY and OS_SECRET_KEY",
        _variables(OS_ACCESS_KEY=AK, OS_SECRET_KEY=SK, OS_PROJECT_ID=PROJECT),
    ),
    Source("OS_TOKEN", _variables(OS_TOKEN=OWN_TOKEN, OS_PROJECT_ID=PROJECT)),
    Source("OS_USERNAME and OS_PASSWORD", _user),
    Source(".huaweicloud/credentials", _profile),
    Source("clouds.yaml, mine", _clouds),
]


@contextmanager
def metadata_service(sandbox: WatchedSandbox, *, sessions: bool, seconds: float = 3600) -> Iterator[str]:
    """Run an ECS's metadata service, which hands out new temporary keys each time; give its URL."""
    made = 0

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            assert self.path == "/meta-data/latest/api/token"
            self.say(200 if sessions else 405, b"session" if sessions else b"")

        def do_GET(self) -> None:
            nonlocal made
            if self.path != "/openstack/latest/securitykey" or (
                sessions and self.headers["X-Metadata-Token"] != "session"
            ):
                self.say(401, b"")
                return
            made += 1
            keys = Keys(f"{TEMPORARY.access}{made}", TEMPORARY.secret, TEMPORARY.security_token)
            sandbox.access_keys[keys.access] = keys
            ends = datetime.now(UTC) + timedelta(seconds=seconds)
            credential = {
                "access": keys.access,
                "secret": keys.secret,
                "securitytoken": keys.security_token,
                "expires_at": f"{ends:%Y-%m-%dT%H:%M:%S}.000000Z",
            }
            self.say(200, json.dumps({"credential": credential}).encode())

        def say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
