"""Foreign text made fit for a terminal, a log, a shell and a spreadsheet."""

import os
import shlex

_QUOTES = "\"'`"
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four full-width


def printable(text: str, limit: int = 500) -> str:
    r"""Return `text` with invisible characters escaped (`\x1b`, `\u202e`), cut to `limit` characters."""
    cut = visible(text[:limit])
    return cut if len(text) <= limit else f"{cut}... ({len(text)} characters)"


def visible(text: str) -> str:
    """Return `text` with invisible characters escaped, line ends and bytes that are not UTF-8 among them."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def quoted(text: str, limit: int = 60) -> str:
    """Return foreign text in quotation marks, short and printable, for use inside a message."""
    return f"'{printable(text, limit)}'"


def copyable(word: str | os.PathLike[str]) -> str:
    """Return a word of a command line as a shell takes it; bash does even if it is not printable."""
    text = os.fspath(word)
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_in_shell, text))}'"


def defused(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: an apostrophe goes before a formula's start."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell


def defused_name(name: str) -> str:
    """Return a column's name as `defused` does a cell; `original_name` takes this back, whatever the name."""
    return f"'{name}" if name.lstrip("'").startswith(_FORMULA_STARTS) else name


def original_name(name: str) -> str:
    """Return a column's name without the apostrophe that keeps a spreadsheet from running it."""
    return name.removeprefix("'") if name.lstrip("'").startswith(_FORMULA_STARTS) else name


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


def _in_shell(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if letter.isprintable():
        return letter
    return _SHORT.get(letter) or "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
