"""The oldest versions that the project says it takes are enough for it."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import WatchedSandbox, environment, listening
from sources import SOURCES, TEMPORARY, Source

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60
NO_NETWORK = re.compile("NewConnectionError|NameResolutionError|Temporary failure|Network is unreachable")


def lowest_bounds() -> list[str]:
    """Return what is needed at run time, extras included, each in the oldest version that is declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["openstack"], *extras["tls"]]
    bounds = [re.fullmatch(r"([A-Za-z0-9._-]+)>=([0-9.]+)", each) for each in wanted]
    assert all(bounds), f"each has a lower bound and no other: {wanted}"
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the project and the oldest of what it needs; return the folder of its commands."""
    folder = tmp_path_factory.mktemp("lowest")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, capture_output=True)
    commands = folder / "venv" / "bin"
    ended = subprocess.run(
        [commands / "pip", "install", "-q", "--disable-pip-version-check", ROOT, *lowest_bounds()],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode and NO_NETWORK.search(ended.stderr):
        pytest.skip("nothing can be installed here")
    assert ended.returncode == 0, ended.stderr
    return commands


def run(commands: Path, folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing of this installation in its environment."""
    clean = environment(folder, None, variables)
    return subprocess.run(
        [commands / "fpga-batch", *words],
        cwd=folder,
        env={name: clean[name] for name in ("HOME", "PATH", *variables)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_help_and_the_demo_work(installed: Path, tmp_path: Path) -> None:
    told = run(installed, tmp_path, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert "associate" in told.stdout
    told = run(installed, tmp_path, "associate", "--help")
    assert (told.returncode, told.stderr) == (0, "")
    told = run(installed, tmp_path, "associate", "--retries")
    assert told.returncode == 2
    assert "--max-attempts" in told.stderr
    told = run(installed, tmp_path, "demo")
    assert told.returncode == 0, told.stderr
    assert "succeeded" in told.stderr


@pytest.mark.skipif(shutil.which("script") is None, reason="there is no script")
def test_progress_is_shown_on_a_terminal(installed: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        ["script", "-qec", f"{installed / 'fpga-batch'} demo", "/dev/null"],
        cwd=tmp_path,
        env={**environment(tmp_path, None, {}), "TERM": "xterm"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert told.returncode == 0, told.stdout
    assert "sending" in told.stdout


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_kind_of_credentials_works(installed: Path, tmp_path: Path, source: Source) -> None:
    sandbox = WatchedSandbox()
    sandbox.access_keys[TEMPORARY.access] = TEMPORARY
    with listening(sandbox) as url:
        variables = {"FPGA_BATCH_ENDPOINT": url, "FPGA_BATCH_REGION": "cn-north-1"}
        told = run(installed, tmp_path, "login", **variables | source.fill(tmp_path, url))
    assert told.returncode == 0, told.stderr


def test_the_sandbox_serves_over_tls(installed: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [installed / "fpga-batch", "sandbox", "--port", "0", "--tls", "ca.pem"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        variables = {"OS_CACERT": "ca.pem", "OS_AUTH_URL": url, "FPGA_BATCH_ENDPOINT": url}
        user = {"OS_USERNAME": "rehearsal", "OS_PASSWORD": "rehearsal", "OS_USER_DOMAIN_NAME": "sandbox"}
        told = run(installed, tmp_path, "login", OS_PROJECT_NAME="cn-north-1", **variables, **user)
        process.terminate()
    assert told.returncode == 0, told.stderr
