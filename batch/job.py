"""What the runner asks of others: of a job, so that it can run it, and of the way to the service.

A job does no I/O. For each row it is a generator that yields a `Request`, is sent the `Answer`, and returns
a `Result`; permits, credentials, retries and time-outs are the engine's.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from batch.model import Answer, Request, Response, Result, Verdict, Window

Conversation = Generator[Request, Answer, Result]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a job reads.

    Attributes:
        name: its name in a header or an object; letter case does not matter.
        required: whether an input without it is unusable.
        aliases: other names taken for it.
        path: where it is found inside an object in JSON input, as keys from the outside in.
        lenient: whether JSON input may hold any value there: a number or a truth value counts as its text,
            anything else that is no string as nothing.

    """

    name: str
    required: bool = True
    aliases: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    lenient: bool = False


class RowError(ValueError):
    """A row's cells are not what the job needs.

    Attributes:
        column: name of the column at fault.

    """

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


class Job(Protocol[Item]):
    """A kind of work: what its rows hold, what is sent for one, and how the service's answers read."""

    @property
    def name(self) -> str:
        """The word in the report's column `job`."""
        ...

    @property
    def columns(self) -> Sequence[Column]:
        """The columns it reads; `parse` gets their cells in this order."""
        ...

    def parse(self, cells: Sequence[str]) -> Item:
        """Check and normalise a row's cells.

        Raises:
            RowError: a cell is missing or malformed.

        """
        ...

    def key(self, item: Item) -> bytes:
        """Return the identity of the work: two rows of one key would do the same thing twice."""
        ...

    def conversation(self, item: Item) -> Conversation:
        """Return the generator that carries the row to its result."""
        ...

    def classify(self, request: Request, response: Response) -> Verdict:
        """Say what a response to a request means. Pure."""
        ...

    def shown_limit(self, response: Response) -> Window | None:
        """Return the service's rate limit where an answer that is no refusal shows it. Pure."""
        ...


class Transport(Protocol):
    """Sends requests with the credentials that they need."""

    def is_ready(self, request: Request) -> bool:
        """Whether the credentials for a request are at hand."""
        ...

    async def prepare(self, request: Request) -> None:
        """Wait until they are.

        Raises:
            TransportError: they cannot be had just now.
            ScopeRefusedError: they cannot be had for the request's scope.
            BatchError: they cannot be had.

        """
        ...

    def is_own(self, request: Request) -> bool:
        """Whether a request goes where the run itself does: a refusal concerns all its rows then."""
        ...

    async def send(self, request: Request) -> Response:
        """Send a request once and return the response.

        Raises:
            TransportError: there was no whole answer, or the credentials cannot be had just now.
            ScopeRefusedError: there are no credentials for the request's scope.
            BatchError: there are no credentials for it.

        """
        ...

    async def renew(self, request: Request, response: Response) -> bool:
        """Say whether there are newer credentials than those that the response refuses.

        Raises:
            TransportError: they cannot be had just now.
            BatchError: they are refused.

        """
        ...
