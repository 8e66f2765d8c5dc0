"""Errors that end a command: one base, and for each exit code a documented subclass."""


class BatchError(Exception):
    """Base of every error that is told to the user in one clear text, without a traceback."""

    exit_code = 70


class InternalError(BatchError):
    """The program met what it should not be able to meet."""


class UsageError(BatchError):
    """The command line asks for something that cannot be meant."""

    exit_code = 2


class InputUnusableError(BatchError):
    """The input as a whole cannot be read as a list of rows."""

    exit_code = 65


class InputMissingError(BatchError):
    """The input is not there, or may not be read."""

    exit_code = 66


class ServiceUnavailableError(BatchError):
    """There is no such API at this endpoint, or it is down for too long."""

    exit_code = 69


class OutputError(BatchError):
    """The report, its journal or the failures file cannot be written."""

    exit_code = 74


class ReportChangedError(OutputError):
    """Somebody else has changed the report during the run; the run's own stands beside it."""


class BusyError(BatchError):
    """Another run is at work on the same report."""

    exit_code = 75


class StoppedEarlyError(BatchError):
    """A limit that was set has stopped the run: it wants to be run again later."""

    exit_code = 75


class TooManyFailuresError(BatchError):
    """As many rows have failed as `--max-failures` allows: the same command again would fail as well."""

    exit_code = 3


class DeniedError(BatchError):
    """The service refuses the credentials, or what they ask for."""

    exit_code = 77


class ConfigurationError(BatchError):
    """A setting is missing or wrong."""

    exit_code = 78


class InterruptedRunError(BatchError):
    """A signal stopped the run.

    Attributes:
        number: of the signal.
        exit_code: 128 plus that.
        at_once: whether a second signal asked not even to write the report.

    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.at_once = False
        self.number = number
        self.exit_code = 128 + number

    def __str__(self) -> str:
        text = super().__str__()
        if self.at_once:
            text += "; no report is written, the same command goes on where the journal ends"
        return text
