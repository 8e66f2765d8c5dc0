"""A scope: what the service counts a rate limit by, and what its answers have said of it."""

from dataclasses import dataclass

from batch.halt import Throttling
from batch.pace import Pace


@dataclass(slots=True, eq=False)
class Scope:
    """One project at one endpoint, or whatever else a job calls a scope.

    Attributes:
        name: of the scope.
        pace: its permits.
        throttling: how long all of its requests have been throttled, without another answer since.
        serves: whether something has been done there: the API is there.

    """

    name: str
    pace: Pace
    throttling: Throttling | None = None
    serves: bool = False
