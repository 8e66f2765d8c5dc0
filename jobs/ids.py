"""The cells of a row as the service knows them, whatever other programs have made of them. Pure."""

import re

from batch.job import RowError
from batch.text import bare, quoted

_NOTHING = frozenset(
    ["", "null", "none", "nan", "na", "n/a", "#n/a", "<na>", "nil", r"\n", "(null)", "<null>"]
)
"""What databases, data frames and spreadsheets write where there is nothing, in lower case."""

is_fpga_image_id = re.compile("[0-9a-f]{32}").fullmatch
is_image_id = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_is_number = re.compile(r"[+-]?[0-9]+([.,][0-9]+)?[Ee][+-]?[0-9]+").fullmatch


def fpga_image_id(cell: str) -> str:
    """Return the id of an FPGA image that a cell holds.

    Raises:
        RowError: it holds none.

    """
    text = _without_braces(cell)
    if not is_fpga_image_id(text):
        raise _malformed_id("fpga_image_id", cell, "32 hexadecimal digits")
    return text


def image_id(cell: str) -> str:
    """Return the id of an ECS image that a cell holds.

    Raises:
        RowError: it holds none.

    """
    text = _without_braces(cell)
    if is_fpga_image_id(text):  # a UUID without its dashes looks alike
        text = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    if not is_image_id(text):
        raise _malformed_id("image_id", cell, "a UUID (hexadecimal, 8-4-4-4-12)")
    return text


def optional(cell: str) -> str:
    """Return the text of a cell that may be left empty, in lower case."""
    text = bare(cell).lower()
    return "" if text in _NOTHING else text


def malformed(column: str, cell: str, wanted: str) -> RowError:
    """Return the error for a cell that is not what it should be; the cell is shown as it stands there."""
    return RowError(column, f"{quoted(cell)} is not {wanted}")


def _without_braces(cell: str) -> str:
    text = bare(cell).lower()
    return text.removeprefix("urn:uuid:").removeprefix("{").removesuffix("}").strip()


def _malformed_id(column: str, cell: str, wanted: str) -> RowError:
    if not bare(cell):
        return RowError(column, "is missing")
    if _is_number(bare(cell)):
        return RowError(
            column,
            f"{quoted(cell)} is a number: a spreadsheet has most likely changed the id; format the column "
            "as text there and paste the ids anew",
        )
    return malformed(column, cell, wanted)
