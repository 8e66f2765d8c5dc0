"""The real command with credentials from each place where they are found, over TLS."""

import re
import stat
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import Ended, WatchedSandbox, answering, at_once, listening
from sources import AK, METADATA, SECRETS, SK, SOURCES, TEMPORARY, Source, metadata_service
from support import OWN_TOKEN, PROJECT, TOKEN, fpga, image

from jobs.sandbox import Faults

Command = Callable[..., Ended]

KEYS = {"FPGA_BATCH_AK": AK, "FPGA_BATCH_SK": SK, "FPGA_BATCH_PROJECT_ID": PROJECT}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    rows = [f"{fpga(n)},{image(n)}" for n in range(20)]
    path.write_text("\n".join(["fpga_image_id,image_id", *rows]))
    return path


@pytest.fixture
def cloud(secured: WatchedSandbox) -> WatchedSandbox:
    secured.access_keys[TEMPORARY.access] = TEMPORARY
    return secured


def place(sandbox: WatchedSandbox) -> dict[str, str]:
    """Return what is set in every case: where the service is, and whom to trust."""
    return {
        "FPGA_BATCH_ENDPOINT": sandbox.url,
        "FPGA_BATCH_CA_FILE": "ca.pem",
        "FPGA_BATCH_RATE": "1000",
        "FPGA_BATCH_REGION": "cn-north-1",
    }


def test_a_login_tells_which_credentials_are_used_whose_they_are_and_what_they_are_for(
    command: Command, cloud: WatchedSandbox, tmp_path: Path
) -> None:
    def login(source: Source) -> Callable[[], Ended]:
        home = tmp_path / re.sub(r"\W+", "-", source.name)
        home.mkdir()
        return partial(
            command, "login", **{**place(cloud), **source.fill(home, cloud.url), "HOME": str(home)}
        )

    ends = at_once([login(source) for source in SOURCES])
    for source, ended in zip(SOURCES, ends, strict=True):
        assert ended.exit_code == 0, (source.name, ended)
        assert ended.stderr == ""
        told = dict(re.findall(r"^([a-z ]+): +(.*)$", ended.stdout, re.MULTILINE))
        assert told["credentials"].endswith(source.name)
        assert told["project"].startswith(PROJECT)
        assert told["region"] == "cn-north-1"
        assert told["endpoint"] == cloud.url
        assert told["associations"] == "may be listed"
        assert told["clock"] == "as the service's"
        assert told["who"]
        assert not any(secret in ended.stdout for secret in SECRETS)


@pytest.mark.parametrize("sessions", [True, False], ids=["with sessions", "of the older form"])
def test_on_an_ecs_its_agency_is_what_counts(
    command: Command, cloud: WatchedSandbox, pairs: Path, sessions: bool
) -> None:
    with metadata_service(cloud, sessions=sessions) as url:
        ended = command("login", **place(cloud), **{METADATA: url})
        assert "credentials:  the agency of this ECS" in ended.stdout
        assert "temporary access key ...KEY1" in ended.stdout
        assert command("associate", pairs.name, **place(cloud), **{METADATA: url}).exit_code == 0
    assert len(cloud.associations) == 20


@pytest.mark.parametrize(
    "variables", [KEYS, {"OS_TOKEN": TOKEN, "OS_PROJECT_ID": PROJECT}], ids=["keys", "token"]
)
def test_a_run_over_tls_associates_every_pair(
    command: Command, cloud: WatchedSandbox, pairs: Path, variables: dict[str, str]
) -> None:
    assert command("associate", pairs.name, **place(cloud), **variables) == Ended(0, "", "")
    assert len(cloud.associations) == 20


# What is wrong with credentials


def test_wrong_keys_stop_a_run_after_one_request_and_nothing_is_sent(
    command: Command, cloud: WatchedSandbox, pairs: Path
) -> None:
    ended = command("associate", pairs.name, **place(cloud), **KEYS | {"FPGA_BATCH_SK": "wrong"})
    assert ended.exit_code == 77
    assert "verify aksk signature fail" in ended.stderr
    assert cloud.stats()["denied"] == 1
    assert not cloud.associations


def test_a_wrong_password_is_told_before_anything_is_written(
    command: Command, cloud: WatchedSandbox, pairs: Path, tmp_path: Path
) -> None:
    user = SOURCES[9].fill(tmp_path, cloud.url) | {"OS_PASSWORD": "hidden-password"}
    ended = command("associate", pairs.name, **place(cloud), **user)
    assert ended.exit_code == 77
    assert re.search("127.0.0.1:.* refuses the credentials .*401", ended.stderr)
    assert not list(tmp_path.glob("pairs.report*"))


@pytest.mark.parametrize(
    ("variables", "exit_code", "told"),
    [
        (KEYS | {"FPGA_BATCH_SK": "wrong"}, 77, "verify aksk signature fail"),
        (KEYS | {"FPGA_BATCH_PROJECT_ID": "f" * 32}, 77, "Common.0018"),
        ({"OS_TOKEN": "no-token", "OS_PROJECT_ID": PROJECT}, 77, "decrypt token fail"),
        (
            {"OS_TOKEN": OWN_TOKEN, "FPGA_BATCH_REGION": "mars"},
            78,
            "OS_TOKEN holds a token for",
        ),
        (
            KEYS | {"FPGA_BATCH_PROJECT_ID": "", "FPGA_BATCH_REGION": "mars"},
            78,
            r"no project is named 'mars'; there are: .*cn-north-1",
        ),
        (KEYS | {"FPGA_BATCH_CA_FILE": ""}, 78, "the server's certificate is not trusted: .*--ca-file"),
        (KEYS | {"FPGA_BATCH_CA_FILE": "nowhere.pem"}, 78, "nowhere.pem: cannot be read"),
        (KEYS | {"FPGA_BATCH_CA_FILE": "pairs.csv"}, 78, "pairs.csv: holds no certificate"),
        ({"FPGA_BATCH_AK": AK}, 78, "FPGA_BATCH_AK is set, FPGA_BATCH_SK is missing"),
        (KEYS | {"FPGA_BATCH_ENDPOINT": "https://127.0.0.1:9"}, 69, "127.0.0.1:9"),
    ],
)
def test_a_login_that_fails_says_why(
    command: Command,
    cloud: WatchedSandbox,
    pairs: Path,
    variables: dict[str, str],
    exit_code: int,
    told: str,
) -> None:
    assert pairs.exists()
    ended = command("login", **place(cloud) | variables)
    assert ended.exit_code == exit_code, ended
    assert re.search(told, ended.stderr), ended
    assert ended.stdout == ""


def test_a_login_tells_by_how_much_the_clock_is_off_and_signs_by_the_services(
    command: Command, tmp_path: Path
) -> None:
    ahead = WatchedSandbox(now=lambda: time.time() + 3 * 3600)
    with listening(ahead) as url:
        ended = command("login", **KEYS, FPGA_BATCH_ENDPOINT=url)
        (tmp_path / "pairs.csv").write_text(f"fpga_image_id,image_id\n{fpga(1)},{image(1)}\n")
        run = command("associate", "pairs.csv", **KEYS, FPGA_BATCH_ENDPOINT=url)
        told = command("associate", "pairs.csv", "-v", **KEYS, FPGA_BATCH_ENDPOINT=url)
    assert ended.exit_code == 0
    assert re.search(r"^clock: +(3 h 0 min|2 h 59 min|2 h 60 min) slow$", ended.stdout, re.MULTILINE)
    assert run == Ended(0, "", ""), "a warning is no reason for mail when all went well"
    assert "this machine's clock is" in told.stderr


# Places


def test_rows_of_another_region_are_sent_to_the_project_of_its_name(
    command: Command, cloud: WatchedSandbox, tmp_path: Path
) -> None:
    (tmp_path / "pairs.csv").write_text(
        "fpga_image_id,image_id,region,project_id\n"
        f"{fpga(1)},{image(1)},,\n{fpga(2)},{image(2)},eu-de,\n"
        f"{fpga(3)},{image(3)},,fedcba9876543210fedcba9876543210\n"
    )
    user = SOURCES[9].fill(tmp_path, cloud.url)
    assert command("associate", "pairs.csv", **place(cloud), **user) == Ended(0, "", "")
    eu_de = "fedcba9876543210fedcba9876543210"
    assert {(project, fpga_id) for project, fpga_id, _ in cloud.associations} == {
        (PROJECT, fpga(1)),
        (eu_de, fpga(2)),
        (eu_de, fpga(3)),
    }
    # The first and the two others; one for each of the two ways in which eu-de is written.
    assert cloud.stats()["tokens_issued"] <= 4


def test_what_is_found_at_an_ecs_renewed_in_the_midst_of_a_run(
    command: Command, cloud: WatchedSandbox, pairs: Path
) -> None:
    with metadata_service(cloud, sessions=True, seconds=2) as url:
        variables = place(cloud) | {METADATA: url, "FPGA_BATCH_RATE": "5"}
        assert command("associate", pairs.name, **variables).exit_code == 0
    used = [name for name in cloud.access_keys if name.startswith(TEMPORARY.access)]
    assert len(used) >= 2
    assert len(cloud.associations) == 20


# Secrets


def written(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what a command has left in its folder, but for what was put there to be read."""
    for path in folder.rglob("*"):
        if path.is_file() and not any(
            part.startswith((".", "handed")) for part in path.relative_to(folder).parts
        ):
            yield path.name, path.read_bytes().decode("utf-8", "replace")


def test_no_secret_is_in_anything_that_a_run_writes(
    command: Command, cloud: WatchedSandbox, pairs: Path, tmp_path: Path
) -> None:
    secrets = {
        "OS_PASSWORD": "hidden-password",
        "FPGA_BATCH_SK": SK,
        "HW_SECRET_KEY": TEMPORARY.secret,
        "HW_SECURITY_TOKEN": TEMPORARY.security_token,
        "OS_TOKEN": TOKEN,
    }
    user = SOURCES[9].fill(tmp_path, cloud.url)
    with answering(200, b"[]") as nonsense, answering(401, b"{}") as refusing, answering(500, b"") as broken:
        base = place(cloud)
        cases: list[dict[str, str]] = [
            base | KEYS,
            base | KEYS | {"FPGA_BATCH_SK": SK[:-1]},
            base | user,
            base | user | {"OS_PASSWORD": "hidden-password"},
            base | user | {"OS_AUTH_URL": nonsense.url},
            base | user | {"OS_AUTH_URL": refusing.url},
            base | user | {"OS_AUTH_URL": broken.url, "FPGA_BATCH_MAX_OUTAGE": "1"},
            base | user | {"OS_AUTH_URL": "http://127.0.0.1:9", "FPGA_BATCH_MAX_OUTAGE": "1"},
            base | {"OS_TOKEN": TOKEN, "OS_PROJECT_ID": PROJECT},
            base | {"OS_TOKEN": f"{TOKEN}-wrong", "OS_PROJECT_ID": PROJECT},
            base | SOURCES[6].fill(tmp_path, cloud.url),
            base
            | SOURCES[6].fill(tmp_path, cloud.url)
            | {"HW_SECURITY_TOKEN": f"{TEMPORARY.security_token}x"},
            base | KEYS | {"FPGA_BATCH_CA_FILE": ""},
            base
            | KEYS
            | {
                "HTTPS_PROXY": "http://u:hidden-password@127.0.0.1:9",
                "FPGA_BATCH_ENDPOINT": "https://ecs.example.invalid",
                "FPGA_BATCH_MAX_OUTAGE": "1",
            },
            base | {"OS_TOKEN": f"{TOKEN} {TOKEN}"},
        ]
        said = (["-vv", "--log-format", "json", "--progress"], ["-vv"])
        runs = [
            partial(command, "associate", pairs.name, "--report", f"r{n}.json", *said[n % 2], **case)
            for n, case in enumerate(cases)
        ]
        runs += [partial(command, "login", "-vv", **case) for case in cases]
        ends = at_once(runs)
    assert {ended.exit_code for ended in ends} == {0, 69, 77, 78}
    texts = [("output", ended.stdout + ended.stderr) for ended in ends]
    texts += [each for each in written(tmp_path) if each[0] != "ca.pem"]
    for secret in {*secrets.values(), SK[:-1]}:
        for name, text in texts:
            assert secret not in text, (name, secret)


def test_a_profile_that_others_may_read_earns_a_warning_where_somebody_looks(
    command: Command, cloud: WatchedSandbox, tmp_path: Path
) -> None:
    variables = SOURCES[10].fill(tmp_path, cloud.url)
    profile = tmp_path / ".huaweicloud" / "credentials"
    profile.chmod(0o644)
    ended = command("login", "-v", **place(cloud), **variables)
    assert ended.exit_code == 0
    assert "others may read it: chmod 600" in ended.stderr
    assert stat.S_IMODE(profile.stat().st_mode) == 0o644


def test_tokens_that_die_early_are_renewed_once_each_and_no_row_is_lost(
    command: Command, tmp_path: Path
) -> None:
    dying = WatchedSandbox(token_uses=300, faults=Faults(latency=0.002))
    rows = [f"{fpga(n)},{image(n // 8)}" for n in range(5000)]
    (tmp_path / "pairs.csv").write_text("\n".join(["fpga_image_id,image_id", *rows]))
    with listening(dying) as url:
        user = SOURCES[9].fill(tmp_path, url)
        settings = {"FPGA_BATCH_ENDPOINT": url, "FPGA_BATCH_RATE": "100000", "FPGA_BATCH_CONCURRENCY": "64"}
        assert command("associate", "pairs.csv", **user, **settings) == Ended(0, "", "")
    stats = dying.stats()
    assert len(dying.associations) == 5000
    # Each token was used up but for the last, and none was asked for twice.
    assert stats["tokens_issued"] == -(-5000 // 300)
