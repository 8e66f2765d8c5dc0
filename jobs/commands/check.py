"""What can be said offline about a file of pairs before anything is sent, and about a report."""

from array import array
from collections import Counter
from collections.abc import Iterator

from batch.engine.rate import Rate
from batch.input import Format, Input, Source, open_source
from batch.preflight import SEND, Preflight, preflight
from batch.results.report import REPORT_COLUMNS, read_summary
from batch.results.summary import Summary, counted, duration
from batch.text import copyable
from jobs.association import IMAGE_LIMIT, JOBS, Associate
from jobs.endpoints import Site

# Nothing is sent, so it does not matter where to; rows with a project or region of their own still differ.
_NOWHERE = Site(project="", endpoint="")
_USUAL_RATE = Rate(10)
_MOST_SHOWN = 5


def inspect(pairs: str, form: Format | None) -> tuple[list[str], int]:
    """Return the lines that there are to say, and the exit code: 1 where rows are invalid.

    Raises:
        InputMissingError: there is no such file.
        InputUnusableError: it is no list of pairs.

    """
    job = Associate(_NOWHERE)
    with open_source(pairs, format=form, columns=job.columns, reserved=REPORT_COLUMNS) as source:
        checked = preflight(source, job)
        lines = [*described(source, checked), *_crowded(source, job, checked)]
        if source.dropped:
            lines.append(hint_of_resume(pairs))
    if checked.sendable:
        seconds = checked.sendable / _USUAL_RATE.per_second
        lines.append(f"{counted(checked.sendable, 'request')} or more: {duration(seconds)} at {_USUAL_RATE}")
    return lines, 1 if checked.invalid else 0


def described(source: Input, checked: Preflight) -> list[str]:
    """Return what the pass over an input found, in lines."""
    found = f"{checked.sendable:,} to send, {checked.invalid:,} invalid, {checked.duplicate:,} duplicate"
    if checked.kept.rows:
        found += f", {checked.kept.rows:,} left as they are"
    lines = [f"{source.name}: {source.format.upper()}, {counted(checked.total, 'row')}: {found}"]
    if source.dropped:
        lines.append(f"  not carried over, as columns of an earlier report: {', '.join(source.dropped)}")
    lines += [f"  row {each.row}, {each.message} ({each.status})" for each in checked.findings]
    if (more := checked.invalid + checked.duplicate - len(checked.findings)) > 0:
        lines.append(f"  and {more:,} more")
    return lines


def summed(report: str) -> Summary:
    """Sum up the outcome file of a run.

    Raises:
        InputMissingError: there is no such file.
        InputUnusableError: it is no outcome file.

    """
    job = Associate(_NOWHERE)
    return read_summary(report, job.columns, jobs=JOBS, is_sound=job.is_sound)


def hint_of_resume(report: str) -> str:
    """Return what there is to say of an input that is the report of an earlier run, by its path."""
    command = "fpga-batch resume" if report == "-" else f"fpga-batch resume {copyable(report)}"
    return f"this is a report of an earlier run; `{command}` takes it up"


def _crowded(source: Source, job: Associate, checked: Preflight) -> list[str]:
    """Name the ECS images with more pairs than an image takes: some of those are sure to fail."""

    def images() -> Iterator[str]:
        for row in source.rows():
            if checked.marks[row.number - 1] == SEND:
                yield job.parse(row.cells).image_id

    hashes = sorted(array("q", map(hash, images())))
    often = {one for one, later in zip(hashes, hashes[IMAGE_LIMIT:], strict=False) if one == later}
    if not often:
        return []
    counts = Counter(image for image in images() if hash(image) in often)
    crowded = [(image, count) for image, count in counts.most_common() if count > IMAGE_LIMIT]
    surplus = sum(count - IMAGE_LIMIT for _, count in crowded)
    full, rows = counted(len(crowded), "ECS image"), counted(surplus, "row")
    lines = [f"{full} with more than the {IMAGE_LIMIT} FPGA images that one takes: {rows} too many"]
    lines += [f"  {image}: {count:,} pairs" for image, count in crowded[:_MOST_SHOWN]]
    if len(crowded) > _MOST_SHOWN:
        lines.append(f"  and {len(crowded) - _MOST_SHOWN:,} more")
    return lines
