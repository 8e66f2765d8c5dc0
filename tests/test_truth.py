"""Whatever comes in and whatever goes wrong: one outcome a row, and none that the service contradicts."""

import asyncio
import csv
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ACCOUNTS, PROJECT, SandboxTransport, fpga, image, run_virtually

from batch.engine.halt import Limits
from batch.engine.rate import Rate
from batch.engine.retry import RetryPolicy
from batch.input import open_source
from batch.model import Status
from batch.results.report import REPORT_COLUMNS
from batch.run import Run, RunEnd, RunSettings
from jobs.association import JOBS
from jobs.endpoints import Site
from jobs.sandbox import Catalogue, Faults, FpgaImage, Sandbox

SITE = Site(PROJECT, endpoint="http://sandbox")
POLICY = RetryPolicy(max_attempts=3, first_wait=0.0002, longest_wait=0.001, longest_hint=0.02, patience=0.02)

PATIENT = Limits(max_outage=1e6)  # with all faults at once next to nothing comes through

SHARED_IMAGE, FULL_IMAGE = 7, 8
FOREIGN_FPGA, MISSING_FPGA = 14, 15

fpga_numbers = st.integers(0, 15)
image_numbers = st.sampled_from([0, 1, 2, SHARED_IMAGE, FULL_IMAGE])
pairs = st.tuples(fpga_numbers, image_numbers)
sound_rows = pairs.map(lambda pair: (fpga(pair[0]), image(pair[1])))
UNSOUND = [(" ", ""), ("xyz", image(0)), (fpga(0), "no uuid"), ("../..", "%2F")]
unsound_rows = st.sampled_from(UNSOUND)
rows = st.lists(st.one_of(sound_rows, sound_rows, sound_rows, unsound_rows), min_size=1, max_size=30)
kinds_of_fault = (
    "error_before",
    "error_after",
    "bad_gateway",
    "flow_limit",
    "drop_before",
    "drop_after",
    "silence",
)
faults = st.fixed_dictionaries({kind: st.sampled_from([0.0, 0.05, 0.14]) for kind in kinds_of_fault})


@pytest.fixture(autouse=True, scope="module")
def _virtual_time() -> Iterator[None]:
    """Let every run's time pass at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "run", run_virtually)
        yield


def make_sandbox(before: Iterable[tuple[int, int]], chances: dict[str, float], seed: int) -> Sandbox:
    fpga_images = {fpga(n): FpgaImage(fpga(n)) for n in range(40) if n != MISSING_FPGA}
    fpga_images[fpga(FOREIGN_FPGA)] = FpgaImage(fpga(FOREIGN_FPGA), owner="f" * 32)
    images = {image(n): "private" for n in (0, 1, 2, FULL_IMAGE)} | {image(SHARED_IMAGE): "shared"}
    sandbox = Sandbox(
        Catalogue(images, fpga_images, ACCOUNTS), strict=True, faults=Faults(**chances), seed=seed
    )
    for fpga_number, image_number in before:
        sandbox.associations.add(PROJECT, fpga(fpga_number), image(image_number))
    for fpga_number in range(20, 29):
        sandbox.associations.add(PROJECT, fpga(fpga_number), image(FULL_IMAGE))
    return sandbox


def run_job(
    name: str, folder: Path, sandbox: Sandbox, concurrency: int
) -> tuple[RunEnd, list[dict[str, str]]]:
    @asynccontextmanager
    async def connect() -> AsyncIterator[SandboxTransport]:
        yield SandboxTransport(sandbox)

    job = JOBS[name](SITE)
    run_settings = RunSettings(
        command=name,
        program="fpga-batch",
        report=folder / f"{name}.csv",
        failures=None,
        target=SITE.address(),
        rate=Rate(1e6),
        concurrency=concurrency,
        policy=POLICY,
        limits=PATIENT,
    )
    path = str(folder / "pairs.csv")
    with open_source(path, format=None, columns=job.columns, reserved=REPORT_COLUMNS) as source:
        run = Run.prepare(source, job, run_settings)
        end = run.execute(connect, lambda _engine, _rows: nullcontext())
    with (folder / f"{name}.csv").open(newline="") as file:
        return end, list(csv.DictReader(file))


def write_pairs(folder: Path, given_rows: Iterable[tuple[str, str]]) -> None:
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("fpga_image_id", "image_id"), *given_rows])


def check_outcome(job: str, row: dict[str, str], *, there_before: bool, there_now: bool) -> None:
    match Status(row["outcome"]):
        case Status.SUCCEEDED:
            assert there_now is (job == "associate")
            assert job != "verify"
        case Status.UNCHANGED:
            assert there_before is there_now is (job != "disassociate")
        case Status.FAILED:
            assert there_now is there_before
            assert row["reason"]
            assert not (there_now and row["reason"] in ("image_full", "not_associated"))
        case Status.UNCONFIRMED:
            assert row["reason"]
            assert job != "verify"
        case Status.DUPLICATE | Status.INVALID:
            assert row["attempts"] == "0"
        case Status.PENDING:
            pytest.fail("nothing stopped the run")


@pytest.mark.parametrize("job", ["associate", "disassociate", "verify"])
@settings(max_examples=120, deadline=None)
@given(
    given_rows=rows,
    before=st.sets(st.tuples(st.integers(0, 13), st.sampled_from([0, 1])), max_size=12),
    chances=faults,
    seed=st.integers(0, 2**16),
    concurrency=st.integers(1, 8),
)
def test_the_report_has_one_outcome_a_row_in_order_and_none_that_the_service_contradicts(
    job: str,
    given_rows: list[tuple[str, str]],
    before: set[tuple[int, int]],
    chances: dict[str, float],
    seed: int,
    concurrency: int,
) -> None:
    sandbox = make_sandbox(before, chances, seed)
    was = set(sandbox.associations)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, given_rows)
        end, report = run_job(job, folder, sandbox, concurrency)
        assert sorted(path.name for path in folder.iterdir()) == sorted(["pairs.csv", f"{job}.csv"])
    now = set(sandbox.associations)

    assert end.stopped is None
    assert [int(row["row"]) for row in report] == list(range(1, len(given_rows) + 1))
    assert [(row["fpga_image_id"], row["image_id"]) for row in report] == given_rows
    seen: set[tuple[str, str]] = set()
    for row in report:
        pair = row["fpga_image_id"], row["image_id"]
        check_outcome(job, row, there_before=(PROJECT, *pair) in was, there_now=(PROJECT, *pair) in now)
        assert (Status(row["outcome"]) is Status.DUPLICATE) == (pair in seen and pair not in UNSOUND)
        assert (Status(row["outcome"]) is Status.INVALID) == (pair in UNSOUND)
        seen.add(pair)
    if job == "verify":
        assert now == was


def test_without_faults_every_outcome_is_the_one_and_only_truth(tmp_path: Path) -> None:
    sandbox = make_sandbox([(0, 0)], {}, 0)
    given_rows = [
        (fpga(0), image(0)),
        (fpga(1), image(0)),
        (fpga(1), image(0)),
        (fpga(1), image(SHARED_IMAGE)),
        (fpga(FOREIGN_FPGA), image(0)),
        (fpga(MISSING_FPGA), image(0)),
        (fpga(1), image(FULL_IMAGE)),
        (fpga(2), image(FULL_IMAGE)),
        ("xyz", image(0)),
    ]
    write_pairs(tmp_path, given_rows)
    end, report = run_job("associate", tmp_path, sandbox, 1)
    assert [(row["outcome"], row["reason"]) for row in report] == [
        ("unchanged", ""),
        ("succeeded", ""),
        ("duplicate", "duplicate_row"),
        ("failed", "not_private"),
        ("failed", "not_owner"),
        ("failed", "not_found"),
        ("succeeded", ""),
        ("failed", "image_full"),
        ("invalid", "invalid_row"),
    ]
    assert end.exit_code == 1


def test_associate_then_associate_then_disassociate_then_verify_tell_one_story(tmp_path: Path) -> None:
    sandbox = Sandbox(Catalogue(accounts=ACCOUNTS))
    write_pairs(tmp_path, [(fpga(n), image(n // 10)) for n in range(200)])
    stories = []
    for job in ("associate", "associate", "verify", "disassociate", "disassociate", "verify"):
        _, report = run_job(job, tmp_path, sandbox, 8)
        stories.append({(row["outcome"], row["reason"]) for row in report})
    assert stories == [
        {("succeeded", "")},
        {("unchanged", "")},
        {("unchanged", "")},
        {("succeeded", "")},
        {("unchanged", "")},
        {("failed", "not_associated")},
    ]
    assert len(sandbox.associations) == 0
