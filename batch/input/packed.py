"""Bytes unpacked: gzip, bzip2 and xz are read, and what other programs pack is named. Told by content."""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, cast

from batch.errors import InputUnusableError
from batch.text import printable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SUFFIXES = (".gz", ".bz2", ".xz")
"""Endings of the names of what is unpacked."""

_BUFFER = 256 * 1024
_MOST_LAYERS = 3
_MOST_FOR_XZ = 128 * 1024 * 1024  # `xz -9` needs half of it
_DAMAGED = (gzip.BadGzipFile, zlib.error, lzma.LZMAError, OSError)
_LONGEST_START = 512

Unusable = Callable[[str], InputUnusableError]


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Packer(NamedTuple):
    """A form of packing that is read.

    Attributes:
        name: what messages call it.
        begins: matches the bytes it begins with.
        unpacked: gives the unpacked bytes of a stream.

    """

    name: str
    begins: re.Pattern[bytes]
    unpacked: Callable[[BinaryIO], BinaryIO]


class _Streams(io.RawIOBase):
    """Unpacks compressed streams that stand one after the other."""

    def __init__(self, packed: BinaryIO, new: Callable[[], _Decompressor]) -> None:
        self._packed = packed
        self._new = new
        self._stream = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer)
        fed = b""
        while True:
            if self._stream.eof:
                fed = self._stream.unused_data.lstrip(b"\0") or self._packed.read(_BUFFER).lstrip(b"\0")
                if not fed:
                    return 0
                self._stream = self._new()
            elif self._stream.needs_input and not fed:
                fed = self._packed.read(_BUFFER)
                if not fed:
                    raise EOFError
            data = self._stream.decompress(fed, len(view))
            fed = b""
            if data:
                view[: len(data)] = data
                return len(data)


def _xz() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_FOR_XZ)


_PACKERS = (
    _Packer("gzip", re.compile(rb"\x1f\x8b"), lambda packed: cast("BinaryIO", gzip.GzipFile(fileobj=packed))),
    _Packer(
        "bzip2",
        re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
        lambda packed: cast("BinaryIO", _Streams(packed, bz2.BZ2Decompressor)),
    ),
    _Packer("xz", re.compile(rb"\xfd7zXZ\x00"), lambda packed: cast("BinaryIO", _Streams(packed, _xz))),
)
_PACK_ANEW = ": unpack it, or pack it with gzip, bzip2 or xz"
_NOT_READ = {
    rb"PK(\x03\x04|\x05\x06|\x07\x08)": "is a zip archive or a workbook: save it as CSV, as UTF-8",
    rb"\xd0\xcf\x11\xe0": "is an old workbook: save it as CSV, as UTF-8",
    rb"PAR1[\x00-\x1f]": "is a Parquet file: save it as CSV",
    rb"\x28\xb5\x2f\xfd": "is packed with zstd" + _PACK_ANEW,
    rb"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it",
    rb"Rar!\x1a": "is a RAR archive: unpack it",
    rb"[\x02\x04]\x22\x4d\x18": "is packed with lz4" + _PACK_ANEW,
    rb"LZIP\x01": "is packed with lzip" + _PACK_ANEW,
    rb"\]\x00\x00": "is packed with lzma" + _PACK_ANEW,
    rb"\x89LZO": "is packed with lzop" + _PACK_ANEW,
    rb"\x1f\x9d": "is packed with compress" + _PACK_ANEW,
    rb"\xff\x06\x00\x00sNaPpY": "is packed with snappy" + _PACK_ANEW,
    rb"(?s:.{257})ustar": "is a tar archive: unpack it",
}


def unpacked(stream: io.BufferedReader, unusable: Unusable) -> io.BufferedReader:
    """Return the stream of the text in a stream of bytes, taken out of as many packings as it is in.

    Args:
        stream: the bytes as they are stored.
        unusable: makes the error that says what is wrong with them.

    Raises:
        InputUnusableError: they are packed in a way that is not read, or too often.

    """
    for _ in range(_MOST_LAYERS):
        packer = _packer(stream)
        if packer is None:
            break
        stream = io.BufferedReader(_Unpacked(packer, stream, unusable), _BUFFER)
    if _packer(stream):
        raise unusable(f"is packed more than {_MOST_LAYERS} times: unpack it")
    head = stream.peek(_LONGEST_START)
    for begins, text in _NOT_READ.items():
        if re.match(begins, head):
            raise unusable(text)
    return stream


def _packer(stream: io.BufferedReader) -> _Packer | None:
    head = stream.peek(_LONGEST_START)
    return next((packer for packer in _PACKERS if packer.begins.match(head)), None)


class _Unpacked(io.RawIOBase):
    """Unpacks, and says in the project's own words what is wrong with the packed bytes."""

    def __init__(self, packer: _Packer, packed: BinaryIO, unusable: Unusable) -> None:
        self._name = packer.name
        self._unusable = unusable
        self._unpacked = packer.unpacked(packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        try:
            return self._unpacked.readinto(buffer)  # type: ignore[attr-defined,no-any-return]
        except EOFError:
            raise self._unusable(f"is cut off: its {self._name} data end too early") from None
        except _DAMAGED as error:
            raise self._unusable(f"is damaged: {printable(str(error))}") from None
