"""A service that has a bad day: nearly all gets through, and what is reported is what is there."""

import csv
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from support import TOKEN, fpga, image

from batch.model import Status

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]
Pair = tuple[str, str]

LONGEST_RUN = 100
LOST_ANSWER = 3
"""Requests that a row takes at least whose answer was lost: it, its repetition, and reading back."""


class Service:
    """A sandbox in a process of its own; `url` is where it listens."""

    def __init__(self, start: Start, folder: Path) -> None:
        accounts = {"accounts": {"tokens": [{"token": TOKEN}]}}
        (folder / "catalogue.json").write_text(json.dumps(accounts))
        process = start("sandbox", "--port", "0", "--catalogue", "catalogue.json")
        assert process.stdout
        self.url = process.stdout.readline().strip()

    def set_faults(self, **chances: float) -> None:
        body = json.dumps(chances).encode()
        request = urllib.request.Request(f"{self.url}/_sandbox/faults", body, method="PUT")
        urllib.request.urlopen(request, timeout=PATIENCE).close()

    def associations(self) -> set[Pair]:
        return {(fpga_image, own_image) for _, fpga_image, own_image in self._told("associations")}

    def stats(self) -> dict[str, Any]:
        (stats,) = self._told("stats")
        return dict(stats)

    def _told(self, what: str) -> list[Any]:
        with urllib.request.urlopen(f"{self.url}/_sandbox/{what}", timeout=PATIENCE) as lines:
            return [json.loads(line) for line in lines]


@pytest.fixture
def service(start: Start, tmp_path: Path) -> Service:
    return Service(start, tmp_path)


@pytest.fixture
def associate(start: Start, service: Service, tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Run the command as fast as it goes: `associate(pairs, *flags)` returns the rows of its report."""

    def run(pairs: Iterable[Pair], *flags: str) -> list[dict[str, str]]:
        with (tmp_path / "pairs.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("fpga_image_id", "image_id"), *pairs])
        fast = ("--rate", "100000", "--concurrency", "64")
        process = start("associate", "pairs.csv", *fast, *flags, service=service.url)
        _, said = process.communicate(timeout=LONGEST_RUN)
        assert process.returncode in (0, 1), said
        with (tmp_path / "pairs.report.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return run


def is_true(row: dict[str, str], *, was_there: bool, is_there: bool) -> bool:
    """Whether the service agrees with what the report says of a row that was sent."""
    match Status(row["outcome"]):
        case Status.SUCCEEDED:
            return is_there and (not was_there or int(row["attempts"]) >= LOST_ANSWER)
        case Status.UNCHANGED:
            return was_there and is_there
        case Status.FAILED:
            return not is_there
        case outcome:
            return outcome is Status.UNCONFIRMED


def check(
    report: Sequence[dict[str, str]], pairs: Sequence[Pair], before: set[Pair], now: set[Pair]
) -> Counter[Status]:
    """Check each row's outcome against what was and is there; return how often each came."""
    assert [(row["fpga_image_id"], row["image_id"]) for row in report] == pairs
    seen: set[Pair] = set()
    for pair, row in zip(pairs, report, strict=True):
        if pair in seen:
            assert row["outcome"] == Status.DUPLICATE
        else:
            assert is_true(row, was_there=pair in before, is_there=pair in now), row
        seen.add(pair)
    assert before <= now <= before | seen
    return Counter(Status(row["outcome"]) for row in report)


def tell(outcomes: Counter[Status], service: Service, seconds: float) -> None:
    stats = service.stats()
    rows = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    faults = ", ".join(f"{count} {name}" for name, count in stats["faults"].items())
    sys.stdout.write(f"{rows} in {seconds:.1f} s; {stats['requests']} requests; {faults}\n")


def make_pairs(draw: random.Random, rows: int) -> list[Pair]:
    """Return pairs in no order, of which one in a hundred comes twice."""
    pairs = [(fpga(number), image(number // 8)) for number in range(rows - rows // 100)]
    pairs += draw.sample(pairs, rows // 100)
    draw.shuffle(pairs)
    return pairs


def test_under_a_quarter_of_mixed_faults_999_rows_of_1000_get_through_and_every_outcome_is_true(
    associate: Callable[..., list[dict[str, str]]], service: Service
) -> None:
    draw = random.Random(1)
    pairs = make_pairs(draw, 20_000)
    associate(draw.sample(pairs, 500))
    before = service.associations()
    kinds = ("error-before", "error-after", "bad-gateway", "drop-before", "drop-after")
    service.set_faults(**dict.fromkeys(kinds, 0.05))
    began = time.monotonic()
    report = associate(pairs)
    seconds = time.monotonic() - began

    outcomes = check(report, pairs, before, service.associations())
    tell(outcomes, service, seconds)
    assert sum(outcomes[each] for each in Status if each.is_through) >= 0.999 * len(pairs)


def test_silence_and_throttling_hold_rows_up_and_lose_none(
    associate: Callable[..., list[dict[str, str]]], service: Service
) -> None:
    draw = random.Random(2)
    pairs = make_pairs(draw, 1000)
    associate(draw.sample(pairs, 50))
    before = service.associations()
    service.set_faults(**{"silence": 0.02, "flow-limit": 0.003, "drop-after": 0.05})
    began = time.monotonic()
    report = associate(pairs, "--timeout", "0.5")
    seconds = time.monotonic() - began

    outcomes = check(report, pairs, before, service.associations())
    tell(outcomes, service, seconds)
    assert sum(outcomes[each] for each in Status if each.is_through) == len(pairs)
