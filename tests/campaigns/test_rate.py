"""A rate that somebody has set too high: the service's limit is used nearly as if it were known."""

import csv
import json
import subprocess
import urllib.request
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import PATIENCE
from support import TOKEN, fpga, image

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]

LIMIT = 50
SETTLING = timedelta(seconds=20)
ROWS = 40 * LIMIT
LONGEST_RUN = 100


class Run(NamedTuple):
    """A run that has been started, with its service."""

    process: "subprocess.Popen[str]"
    service: str
    report: Path


def begun(start: Start, folder: Path, rate: int) -> Run:
    """Start a service with the limit, and a run that is to go faster."""
    limits = ("--rate-limit", f"{LIMIT}/s", "--latency", "20")
    service = start("sandbox", "--port", "0", "--catalogue", "catalogue.json", *limits)
    assert service.stdout
    url = service.stdout.readline().strip()
    name = f"{rate}.csv"
    words = ("associate", "pairs.csv", "--rate", f"{rate}/s", "--report", name)
    return Run(start(*words, service=url), url, folder / name)


def test_a_rate_above_the_services_limit_uses_nine_tenths_of_it_and_is_hardly_ever_refused(
    start: Start, tmp_path: Path
) -> None:
    accounts = {"accounts": {"tokens": [{"token": TOKEN}]}}
    (tmp_path / "catalogue.json").write_text(json.dumps(accounts))
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        pairs = ((fpga(number), image(number // 8)) for number in range(ROWS))
        csv.writer(file).writerows([("fpga_image_id", "image_id"), *pairs])
    for run in [begun(start, tmp_path, rate) for rate in (60, 100)]:
        _, said = run.process.communicate(timeout=LONGEST_RUN)
        assert run.process.returncode == 0, said
        with run.report.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["outcome"] for row in rows} == {"succeeded"}
        times = sorted(datetime.fromisoformat(row["finished_at"]) for row in rows)
        settled = [time for time in times if time > times[0] + SETTLING]
        assert len(settled) / (settled[-1] - settled[0]).total_seconds() >= 0.9 * LIMIT
        with urllib.request.urlopen(f"{run.service}/_sandbox/stats", timeout=PATIENCE) as lines:
            statuses = json.loads(lines.readline())["statuses"]
        assert statuses["429"] < 0.02 * sum(statuses.values())
