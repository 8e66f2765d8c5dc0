"""What one row may take, the same in every form of input: it bounds what reading takes of memory."""

from typing import NamedTuple


class Limits(NamedTuple):
    """What a file's rows may take.

    Attributes:
        size: bytes of a row's text.
        columns: of the file.
        values: in one row of JSON; each takes some fifty bytes of memory, however short it is written.

    """

    size: int
    columns: int
    values: int

    @property
    def too_long(self) -> str:
        """What is said of a row of more bytes."""
        return f"a row takes {self.size // 2**20} MiB at most"

    @property
    def too_wide(self) -> str:
        """What is said of a row that brings one column more."""
        return f"a row has {self.columns:,} columns at most"

    @property
    def too_many_values(self) -> str:
        """What is said of a row of more values."""
        return f"a row holds {self.values:,} values at most"


INPUT = Limits(16 * 1024 * 1024, 10_000, 1_000_000)

REPORT = Limits(8 * INPUT.size, INPUT.columns + 100, INPUT.values + 100)
"""A report holds what its input did, and the outcomes; escapes can make a text six times as long."""
