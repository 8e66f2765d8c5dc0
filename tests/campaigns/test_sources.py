"""A run of 2,000 rows over TLS with credentials from each place where they are found."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ended, WatchedSandbox
from sources import METADATA, SOURCES, TEMPORARY, Source, metadata_service
from support import fpga, image

pytestmark = pytest.mark.slow

ROWS = 2000


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_each_source_of_credentials_carries_a_run(
    command: Callable[..., Ended], secured: WatchedSandbox, tmp_path: Path, source: Source
) -> None:
    secured.access_keys[TEMPORARY.access] = TEMPORARY
    assert run(command, secured, tmp_path, source.fill(tmp_path, secured.url)) == Ended(0, "", "")
    assert len(secured.associations) == ROWS


@pytest.mark.parametrize("sessions", [True, False], ids=["with sessions", "of the older form"])
def test_the_agency_of_an_ecs_carries_a_run(
    command: Callable[..., Ended], secured: WatchedSandbox, tmp_path: Path, sessions: bool
) -> None:
    with metadata_service(secured, sessions=sessions) as url:
        assert run(command, secured, tmp_path, {METADATA: url}) == Ended(0, "", "")
    assert len(secured.associations) == ROWS


def run(
    command: Callable[..., Ended], service: WatchedSandbox, folder: Path, variables: dict[str, str]
) -> Ended:
    lines = [f"{fpga(n)},{image(n // 8)}" for n in range(ROWS)]
    (folder / "pairs.csv").write_text("\n".join(["fpga_image_id,image_id", *lines]))
    place = {
        "FPGA_BATCH_ENDPOINT": service.url,
        "FPGA_BATCH_CA_FILE": "ca.pem",
        "FPGA_BATCH_REGION": "cn-north-1",
        "FPGA_BATCH_RATE": "100000",
    }
    return command("associate", "pairs.csv", **place | variables)
