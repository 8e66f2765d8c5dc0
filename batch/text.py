"""Foreign text made fit for a terminal, a log and a spreadsheet."""

_QUOTES = "\"'`"
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four full-width


def printable(text: str, limit: int = 500) -> str:
    r"""Return `text` with invisible characters escaped (`\x1b`, `\u202e`), cut to `limit` characters."""
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(letter if letter.isprintable() else _escaped(letter) for letter in cut)
    return cut if len(text) <= limit else f"{cut}... ({len(text)} characters)"


def quoted(text: str, limit: int = 60) -> str:
    """Return foreign text in quotation marks, short and printable, for use inside a message."""
    return f"'{printable(text, limit)}'"


def defused(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: an apostrophe goes before a formula's start."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def bare(cell: str) -> str:
    """Return a cell's text without what other programs put around it or into it unseen.

    That is blanks, zero-width characters, and the quotation marks, the apostrophe or the `="..."` that keep a
    spreadsheet from taking it for a number.
    """
    text = cell.translate(_UNSEEN).strip()
    text = text.removeprefix("=") if text.startswith('="') else text
    while len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        text = text[1:-1].strip()
    return text.removeprefix("'").strip()


def _escaped(letter: str) -> str:
    code = ord(letter)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _SHORT.get(letter) or (f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}")
