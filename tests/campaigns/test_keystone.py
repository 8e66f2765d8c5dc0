"""Users, projects, clouds.yaml and application credentials against a real Keystone, whose tokens live 5 s."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Ended, WatchedSandbox, listening
from keystone import JOB_PASSWORD, TOKEN_SECONDS, Keystone, installed, running
from support import TOKEN, fpga, image

from jobs.sandbox import Call, Reply, Withheld
from jobs.sandbox.messages import gateway_error

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Command = Callable[..., Ended]

_LOOK_AGAIN = 0.2


class KeystoneSandbox(WatchedSandbox):
    """A sandbox that asks Keystone whose a token is.

    Attributes:
        tokens: those that were good at some time, in the order in which they came.

    """

    def __init__(self, keystone: Keystone) -> None:
        super().__init__()
        self.tokens: list[str] = []
        self._keystone = keystone
        self._known: dict[str, tuple[float, str | None]] = {}

    def reply(self, call: Call) -> Reply | Withheld:
        token = call.headers.get("X-Auth-Token", "")
        if self._project_of(token) != call.path.split("/")[2]:
            return gateway_error(401, "APIGW.0301", "Incorrect IAM authentication information: token expires")
        if token not in self.tokens:
            self.tokens.append(token)
        return super().reply(call._replace(headers={**call.headers, "X-Auth-Token": TOKEN}))

    def _project_of(self, token: str) -> str | None:
        at, project = self._known.get(token, (0.0, None))
        if time.monotonic() - at > _LOOK_AGAIN:
            project = self._keystone.project_of(token)
            self._known[token] = (time.monotonic(), project)
        return project


@pytest.fixture(scope="session")
def keystone(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    assert pytestconfig.cache is not None
    commands = installed(pytestconfig.cache.mkdir("keystone"))
    with running(commands, tmp_path_factory.mktemp("keystone")) as one:
        yield one


@pytest.fixture
def service(keystone: Keystone) -> Iterator[KeystoneSandbox]:
    sandbox = KeystoneSandbox(keystone)
    with listening(sandbox) as sandbox.url:
        yield sandbox


def user(keystone: Keystone, service: KeystoneSandbox, **more: str) -> dict[str, str]:
    return {
        "FPGA_BATCH_ENDPOINT": service.url,
        "OS_AUTH_URL": f"{keystone.url}/v3",
        "OS_USERNAME": "job",
        "OS_PASSWORD": JOB_PASSWORD,
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_NAME": "eu-de",
        **more,
    }


def write_pairs(folder: Path, rows: int) -> None:
    lines = [f"{fpga(n)},{image(n)}" for n in range(rows)]
    (folder / "pairs.csv").write_text("\n".join(["fpga_image_id,image_id", *lines]))


def test_a_project_is_found_by_its_name_and_by_its_id(
    command: Command, keystone: Keystone, service: KeystoneSandbox
) -> None:
    by_name = command("login", **user(keystone, service))
    by_id = command("login", **user(keystone, service, OS_PROJECT_ID=keystone.projects["eu-de"]))
    for ended in (by_name, by_id):
        assert ended.exit_code == 0, ended
        assert "who:          user job of Default" in ended.stdout
        assert f"project:      {keystone.projects['eu-de']} (eu-de)" in ended.stdout
        assert "associations: may be listed" in ended.stdout


@pytest.mark.parametrize(
    ("wrong", "exit_code"),
    [
        ({"OS_PASSWORD": "another"}, 77),
        ({"OS_USERNAME": "nobody"}, 77),
        ({"OS_PROJECT_NAME": "cn-north-1"}, 77),
        ({"OS_PROJECT_NAME": "nowhere"}, 77),
        ({"OS_USER_DOMAIN_NAME": "nowhere"}, 77),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else str(value),
)
def test_what_is_wrong_is_refused_before_anything_is_sent(
    command: Command,
    keystone: Keystone,
    service: KeystoneSandbox,
    tmp_path: Path,
    wrong: dict[str, str],
    exit_code: int,
) -> None:
    write_pairs(tmp_path, 3)
    for arguments in (["login"], ["associate", "pairs.csv"]):
        ended = command(*arguments, **user(keystone, service, **wrong))
        assert ended.exit_code == exit_code, ended
        assert "refuses the credentials" in ended.stderr
        assert JOB_PASSWORD not in ended.stderr
    assert service.requests == 0
    assert not list(tmp_path.glob("pairs.report*"))


def test_tokens_that_live_five_seconds_are_renewed_while_a_run_goes_on(
    command: Command, keystone: Keystone, service: KeystoneSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path, 260)
    began = time.monotonic()
    ended = command("associate", "pairs.csv", "--rate", "20", **user(keystone, service))
    assert ended == Ended(0, "", "")
    assert time.monotonic() - began > 2 * TOKEN_SECONDS
    assert len(service.associations) == 260
    assert len(service.tokens) >= 3
    # They were renewed before their end: nothing was refused.
    assert service.stats()["statuses"] == {"204": 260}


def test_a_token_that_ends_cannot_be_renewed_and_stops_the_run(
    command: Command, keystone: Keystone, service: KeystoneSandbox, tmp_path: Path
) -> None:
    write_pairs(tmp_path, 300)
    token = keystone.token("job", JOB_PASSWORD)
    variables = {
        "FPGA_BATCH_ENDPOINT": service.url,
        "OS_TOKEN": token,
        "OS_AUTH_URL": f"{keystone.url}/v3",
        "OS_PROJECT_NAME": "eu-de",
    }
    ended = command("associate", "pairs.csv", "--rate", "20", **variables)
    assert ended.exit_code == 77
    assert "token expires" in ended.stderr
    assert 0 < len(service.associations) < 300
    # With another one the same command goes on.
    again = command("associate", "pairs.csv", "--rate", "1000", **user(keystone, service))
    assert again.exit_code == 0, again
    assert len(service.associations) == 300


def clouds(folder: Path, **entries: dict[str, object]) -> None:
    path = folder / ".config" / "openstack" / "clouds.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"clouds": entries}))
    path.chmod(0o600)


def test_an_entry_of_clouds_yaml_and_an_application_credential_open_the_door(
    command: Command, keystone: Keystone, service: KeystoneSandbox, tmp_path: Path
) -> None:
    credential_id, secret = keystone.application_credential()
    by_password = {
        "username": "job",
        "password": JOB_PASSWORD,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "project_name": "eu-de",
    }
    applied = {"application_credential_id": credential_id, "application_credential_secret": secret}
    auth_url = {"auth_url": f"{keystone.url}/v3"}
    clouds(
        tmp_path,
        mine={"auth": {**by_password, **auth_url}},
        applied={"auth": {**applied, **auth_url}, "auth_type": "v3applicationcredential"},
        wrong={"auth": {**by_password, **auth_url, "password": "another"}},
        careless={"auth": {**by_password, **auth_url}, "verify": False},
    )
    place = {"FPGA_BATCH_ENDPOINT": service.url, "FPGA_BATCH_PROJECT_ID": keystone.projects["eu-de"]}
    write_pairs(tmp_path, 160)
    for name in ("mine", "applied"):
        ended = command("login", "--os-cloud", name, **place)
        assert ended.exit_code == 0, ended
        assert f"credentials:  clouds.yaml, {name}" in ended.stdout
        assert "user job of Default" in ended.stdout
    ended = command("associate", "pairs.csv", "--rate", "20", **place, OS_CLOUD="applied")
    assert ended == Ended(0, "", "")
    assert len(service.associations) == 160
    assert len(service.tokens) >= 3  # two logins, and renewals during the run
    assert command("login", "--os-cloud", "wrong", **place).exit_code == 77
    assert command("login", "--os-cloud", "missing", **place).exit_code == 78
    careless = command("login", "--os-cloud", "careless", **place)
    assert careless.exit_code == 78
    assert "switches the check of certificates off" in careless.stderr
