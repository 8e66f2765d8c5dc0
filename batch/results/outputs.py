"""Report and failures file of a run: written together, and put into their places when they are whole."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batch.errors import OutputError, ReportChangedError
from batch.input import Input
from batch.input.names import completed
from batch.job import Job
from batch.model import Record
from batch.results.report import Place, ReportWriter, remove_report, set_aside, unused

_BESIDE = "result"


class Outputs:
    """The outcome files of one run. A context manager; leaving it early leaves nothing behind.

    Args:
        job: what is done with the rows.
        source: the input, after a whole pass over it.
        report: place of the report.
        failures: place of the file of rows that did not get through, or None.
        can_be_undone: whether an outcome file says of any row that there is something to undo.

    Attributes:
        failures: where the file of rows that did not get through is at the end, or None.
        problem: why that file is not in its place, or empty.

    """

    def __init__(
        self,
        job: Job[Any],
        source: Input,
        report: Place,
        failures: Place | None,
        can_be_undone: Callable[[Path], bool],
    ) -> None:
        self._report_place = report
        self._failures_place = failures
        self._can_be_undone = can_be_undone
        self.failures: Path | None = None
        self.problem = ""
        self._files = ExitStack()
        # A JSON input need not name all columns, but the report must, to be input again.
        columns = completed(source.columns, job.columns)
        written_as: dict[str, Any] = {"dialect": source.dialect, "mode": source.mode}
        name = job.name
        with ExitStack() as files:
            self._report = files.enter_context(
                ReportWriter(report.path, name, columns, folder=report.folder, **written_as)
            )
            self._failures = None
            if failures:
                # Runs of other reports may have a file of failures of the same name.
                written_as["mark"] = report.path.name
                try:
                    writer = ReportWriter(failures.path, name, columns, folder=failures.folder, **written_as)
                    self._failures = files.enter_context(writer)
                except OutputError as error:
                    self._give_up_failures(error)
            self._files = files.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def write(self, values: Sequence[Any], record: Record) -> None:
        """Add a row.

        Raises:
            OutputError: the disk takes no more.

        """
        self._report.write(values, record)
        if self._failures and not record.status.is_through:
            try:
                self._failures.write(values, record)
            except OutputError as error:
                self._give_up_failures(error)

    def finish(self) -> str:
        """Bring both files onto the disk, and the failures file into its place; return the report's SHA-256.

        The failures file goes if there are no failures. One that cannot be put into its place is put beside
        it, and costs nobody the report.

        Raises:
            OutputError: the report cannot be brought onto the disk.

        """
        sha256 = self._report.finish()
        if self._failures and self._failures_place:
            self._put_failures(self._failures, self._failures_place)
        return sha256

    def commit(self, *, keeps_previous: bool, own_sha256: str = "") -> None:
        """Bring the report into its place.

        Args:
            keeps_previous: whether a report that is replaced is kept.
            own_sha256: digest of a report of this very run, which need not be kept.

        Raises:
            OutputError: it cannot be put there.
            ReportChangedError: somebody else has changed the file there, so the report is beside it.

        """
        path, folder = self._report_place.path, self._report_place.folder
        if not self._report_place.is_unchanged:
            self._report.path = unused(path, folder, _BESIDE)
            self._report.commit()
            raise ReportChangedError(
                f"{path} was changed by somebody else during the run, so it is not replaced; the result of "
                f"the run is in {self._report.path}"
            )
        if keeps_previous and not (own_sha256 and folder.sha256_of(path.name) == own_sha256):
            set_aside(path, folder, self._can_be_undone)
        self._report.commit()
        if not folder.is_in_place:
            raise ReportChangedError(
                f"{path.parent} was exchanged for another folder during the run; the report {path.name} is "
                "in the one that was there before"
            )

    def _put_failures(self, writer: ReportWriter, place: Place) -> None:
        path, folder = place.path, place.folder
        try:
            writer.finish()
        except OutputError as error:
            self._give_up_failures(error)
            return
        try:
            if place.is_unchanged:
                if self._can_be_undone(path):
                    set_aside(path, folder, self._can_be_undone)
                if writer.rows:
                    writer.commit()
                    self.failures = path
                else:
                    remove_report(path, folder)
                return
            self.problem = f"{path} was changed by somebody else during the run, so it is not replaced"
        except OutputError as error:
            self.problem = str(error)
        if not writer.rows:
            return
        writer.path = unused(path, folder, _BESIDE)
        try:
            writer.commit()
            self.failures = writer.path
        except OutputError:
            self._give_up_failures(self.problem)

    def _give_up_failures(self, problem: object) -> None:
        """Go on without a failures file."""
        self._failures = None
        self.problem = f"{problem}; the report has the rows that did not get through"
