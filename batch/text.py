"""Foreign text made fit for a terminal, a log and a spreadsheet."""

import re

# C0 and C1 controls, line and paragraph separators, bidirectional controls and lone surrogates.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str, limit: int = 500) -> str:
    r"""Return `text` with invisible characters escaped (`\x1b`, `\u202e`), cut to `limit` characters."""
    cut = text[:limit]
    if not cut.isprintable():
        cut = _UNPRINTABLE.sub(_escape, cut)
    return cut if len(text) <= limit else f"{cut}... ({len(text)} characters)"


def quoted(text: str, limit: int = 60) -> str:
    """Return foreign text in quotation marks, short and printable, for use inside a message."""
    return f"'{printable(text, limit)}'"


def defused(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: an apostrophe goes before a formula's start."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def _escape(match: re.Match[str]) -> str:
    if match.group() in _SHORT:
        return _SHORT[match.group()]
    code = ord(match.group())
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"
