"""A real Keystone on this machine: an identity service that nobody here has written."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

VERSION = "30.0.0"
TOKEN_SECONDS = 5
ADMIN_PASSWORD = "s3cret-of-admin"
JOB_PASSWORD = "s3cret-of-job"

_PATIENCE = 90
_CONFIGURATION = """\
[DEFAULT]
log_file = {folder}/keystone.log
public_endpoint = {url}/
[database]
connection = sqlite:///{folder}/keystone.db
[token]
expiration = {seconds}
[fernet_tokens]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[cache]
enabled = false
"""
# Keystone would read the server's command line for its own.
_APPLICATION = "import sys\nsys.argv = ['keystone']\nfrom keystone.wsgi.api import application\n"


class Keystone:
    """One that runs.

    Attributes:
        url: its base URL.
        projects: ids of its two projects, by name.

    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.projects: dict[str, str] = {}

    def call(self, method: str, path: str, content: Any = None, *, token: str = "", subject: str = "") -> Any:
        """Return headers and decoded body of an answer.

        Raises:
            HTTPError: it is a refusal.

        """
        headers = {"Content-Type": "application/json"}
        headers |= {"X-Auth-Token": token} if token else {}
        headers |= {"X-Subject-Token": subject} if subject else {}
        body = json.dumps(content).encode() if content is not None else None
        request = urllib.request.Request(f"{self.url}/v3/{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            text = answer.read()
            return answer.headers, json.loads(text) if text else None

    def token(self, user: str = "admin", password: str = ADMIN_PASSWORD, project: str = "eu-de") -> str:
        domain = {"domain": {"name": "Default"}}
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user, "password": password, **domain}},
        }
        scope = {"project": {"name": project, **domain}}
        headers, _ = self.call("POST", "auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        return str(headers["X-Subject-Token"])

    def project_of(self, token: str) -> str | None:
        """Return the id of the project that a token is good for, or None if it is good for nothing."""
        try:
            _, body = self.call("GET", "auth/tokens", token=token, subject=token)
        except urllib.error.HTTPError:
            return None
        return str(body["token"]["project"]["id"])

    def application_credential(self) -> tuple[str, str]:
        """Return id and secret of an application credential of the user `job`."""
        token = self.token("job", JOB_PASSWORD)
        _, body = self.call("GET", "auth/tokens", token=token, subject=token)
        user = body["token"]["user"]["id"]
        wanted = {"application_credential": {"name": f"batch-{time.monotonic_ns()}"}}
        _, made = self.call("POST", f"users/{user}/application_credentials", wanted, token=token)
        credential = made["application_credential"]
        return str(credential["id"]), str(credential["secret"])

    def fill(self) -> None:
        """Make a second project, and a user `job` who is a member of the first."""
        token = self.token()
        domain = {"domain_id": "default"}
        _, made = self.call("POST", "projects", {"project": {"name": "cn-north-1", **domain}}, token=token)
        _, projects = self.call("GET", "projects", token=token)
        self.projects = {each["name"]: each["id"] for each in projects["projects"]}
        assert made["project"]["id"] == self.projects["cn-north-1"]
        user = {"user": {"name": "job", "password": JOB_PASSWORD, **domain}}
        _, user = self.call("POST", "users", user, token=token)
        _, roles = self.call("GET", "roles?name=member", token=token)
        grant = (
            f"projects/{self.projects['eu-de']}/users/{user['user']['id']}/roles/{roles['roles'][0]['id']}"
        )
        self.call("PUT", grant, token=token)


def installed(folder: Path) -> Path:
    """Return the folder of Keystone's commands; install it there if need be, or skip the test."""
    commands = folder / "venv" / "bin"
    if not (commands / "ready").exists():
        shutil.rmtree(folder / "venv", ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, capture_output=True)
            wanted = ["-q", "--disable-pip-version-check", f"keystone=={VERSION}", "gunicorn"]
            subprocess.run(
                [commands / "pip", "install", *wanted], check=True, capture_output=True, timeout=300
            )
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"Keystone cannot be installed here: {error}")
        (commands / "ready").touch()
    return commands


@contextlib.contextmanager
def running(commands: Path, folder: Path) -> Iterator[Keystone]:
    """Run a new Keystone, whose tokens live for five seconds, as long as the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    configuration = folder / "keystone.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, url=url, seconds=TOKEN_SECONDS))
    (folder / "keystone_app.py").write_text(_APPLICATION)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
        "OS_KEYSTONE_CONFIG_DIR": str(folder),
        "OS_KEYSTONE_CONFIG_FILES": str(configuration),
        "PYTHONWARNINGS": "ignore",
    }

    def manage(*arguments: str) -> None:
        command = [commands / "keystone-manage", "--config-file", configuration, *arguments]
        subprocess.run(command, check=True, capture_output=True, env=environment, timeout=_PATIENCE)

    owner = ("--keystone-user", str(os.getuid()), "--keystone-group", str(os.getgid()))
    for keys in ("fernet", "credential"):
        (folder / keys).mkdir(mode=0o700)
    manage("db_sync")
    manage("fernet_setup", *owner)
    manage("credential_setup", *owner)
    manage(
        *("bootstrap", "--bootstrap-username", "admin", "--bootstrap-password", ADMIN_PASSWORD),
        *("--bootstrap-project-name", "eu-de", "--bootstrap-region-id", "eu-de"),
        *("--bootstrap-public-url", f"{url}/v3/"),
    )
    server = subprocess.Popen(
        [
            *(commands / "gunicorn", "keystone_app:application", "--chdir", folder),
            *("--bind", f"127.0.0.1:{port}", "--threads", "4", "--no-control-socket"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        keystone = Keystone(url)
        _await_answer(keystone, server)
        keystone.fill()
        yield keystone
    finally:
        server.terminate()
        server.wait(timeout=_PATIENCE)


def _await_answer(keystone: Keystone, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            keystone.token()
        except OSError:
            assert server.poll() is None, "Keystone has ended"
            assert time.monotonic() < deadline, "Keystone does not answer"
            time.sleep(0.2)
        else:
            return
