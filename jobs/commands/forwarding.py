"""The report that goes to standard output, as that of `verify -`: written whole first, then copied."""

import shutil
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from batch.errors import InterruptedRunError, OutputError
from jobs.commands.signals import Interrupt
from jobs.commands.streams import check_output


class Forwarded:
    """A report in a temporary folder; a context manager.

    Attributes:
        place: where the run is to write it.

    Raises:
        OutputError: standard output takes nothing, or there is no folder for temporary files.

    """

    def __init__(self) -> None:
        try:
            check_output()
            folder = tempfile.mkdtemp(prefix="fpga-batch-")
        except OutputError as error:
            raise OutputError(f"{error}; nothing was sent") from None
        except OSError as error:
            raise OutputError(
                f"the report cannot be kept until it goes to standard output: {error.strerror}; nothing was "
                "sent: set TMPDIR to a folder that can be written, or use --report"
            ) from None
        self.place = Path(folder, "report.csv")
        self._is_wanted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_wanted:
            shutil.rmtree(self.place.parent, ignore_errors=True)
        interruption = error.error if isinstance(error, Interrupt) else error
        if isinstance(interruption, InterruptedRunError):
            interruption.at_once = False  # its journal has gone with the folder: nothing goes on

    def pass_on(self) -> None:
        """Copy the report to standard output. If that fails, the report stays where it is.

        Raises:
            OutputError: standard output does not take it.

        """
        try:
            with self.place.open("rb") as report:
                shutil.copyfileobj(report, sys.stdout.buffer)
        except OutputError as error:
            self._is_wanted = True
            raise OutputError(f"{error}; the report is {self.place}") from None
