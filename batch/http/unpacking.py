"""Unpack bodies that a server has packed although nobody asked for it, within a limit. Pure."""

import zlib

_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15  # the window sizes by which zlib tells its formats apart
_MOST_CODINGS = 3
_MOST_MEMBERS = 100  # of one gzip stream; an empty one costs its sender 20 bytes


class UnpackingError(ValueError):
    """A body cannot be unpacked: it is damaged, or packed in a way that this program does not know."""


def unpacked(body: bytes, codings: str, limit: int, *, is_cut: bool = False) -> bytes:
    """Return the first `limit` bytes of what a body holds.

    Args:
        body: as it came.
        codings: the header `Content-Encoding`, in the order in which the codings were applied.
        limit: bytes to return at most; no more than that is ever unpacked.
        is_cut: whether the end of the body was not read.

    Raises:
        UnpackingError: the body is damaged, or a coding is unknown.

    """
    names = [name for each in codings.split(",") if (name := each.strip().lower()) not in ("", "identity")]
    if len(names) > _MOST_CODINGS:
        raise UnpackingError(f"the answer is packed {len(names)} times")
    for name in reversed(names):
        if not body:
            break
        try:
            if name in ("gzip", "x-gzip"):
                body, is_cut = _members(body, limit, is_cut=is_cut)
            elif name == "deflate":
                body, is_cut = _deflated(body, limit, is_cut=is_cut)
            else:
                raise UnpackingError(f"the answer is packed as {name[:20]!r}, which was not asked for")
        except zlib.error as error:
            raise UnpackingError(f"the answer is damaged: {name}: {error}") from None
    return body[:limit]


def _members(body: bytes, limit: int, *, is_cut: bool) -> tuple[bytes, bool]:
    """Unpack the members of a gzip stream one after the other."""
    text = b""
    for _ in range(_MOST_MEMBERS):
        more, rest, is_whole = _stream(body, _GZIP, limit - len(text), is_cut=is_cut)
        text += more
        if not is_whole:
            return text, True
        body = rest.lstrip(b"\0")  # padding
        if not body:
            return text, is_cut
        if len(text) >= limit:
            return text, True
    raise UnpackingError(f"the answer has more than {_MOST_MEMBERS} gzip members")


def _deflated(body: bytes, limit: int, *, is_cut: bool) -> tuple[bytes, bool]:
    """Unpack a deflate stream. The standard wants it inside a zlib stream, but some servers send it bare."""
    try:
        text, rest, is_whole = _stream(body, _ZLIB, limit, is_cut=is_cut)
    except (zlib.error, UnpackingError):
        text, rest, is_whole = _stream(body, _RAW_DEFLATE, limit, is_cut=is_cut)
    if rest:
        raise UnpackingError("the answer is damaged: deflate: something follows its end")
    return text, is_cut or not is_whole


def _stream(body: bytes, window: int, limit: int, *, is_cut: bool) -> tuple[bytes, bytes, bool]:
    """Return a stream's text up to the limit, what follows the stream, and whether its end was reached."""
    packer = zlib.decompressobj(window)
    text = packer.decompress(body, limit)
    if not packer.eof and len(text) < limit and not is_cut:
        raise UnpackingError("the answer is damaged: it ends too early")
    return text, packer.unused_data, packer.eof
