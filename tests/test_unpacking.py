"""Bodies that come packed."""

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.http.unpacking import UnpackingError, unpacked

LIMIT = 1000


def raw_deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "the old name of gzip": ("X-GZIP", gzip.compress),
    "deflate as the standard has it": ("deflate", zlib.compress),
    "bare deflate": ("deflate", raw_deflate),
    "gzip twice": ("gzip, identity, gzip", lambda text: gzip.compress(gzip.compress(text))),
    "gzip around deflate": ("deflate, gzip", lambda text: gzip.compress(zlib.compress(text))),
    "not at all": ("identity", bytes),
    "gzip in members with padding": (
        "gzip",
        lambda text: gzip.compress(text[:5]) + gzip.compress(b"") + gzip.compress(text[5:]) + bytes(7),
    ),
}
packed = pytest.mark.parametrize(("coding", "pack"), PACKERS.values(), ids=PACKERS)


@packed
@given(text=st.binary(max_size=2 * LIMIT))
def test_a_packed_body_is_what_was_packed_up_to_the_limit(
    coding: str, pack: Callable[[bytes], bytes], text: bytes
) -> None:
    # What is packed twice is cut twice, so that only its beginning is sure.
    found = unpacked(pack(text), coding, LIMIT)
    if "," in coding and len(text) > LIMIT // 2:
        assert text.startswith(found)
    else:
        assert found == text[:LIMIT]


@packed
def test_what_unfolds_is_never_more_than_the_limit(coding: str, pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(pack(bytes(10_000_000)), coding, LIMIT) == bytes(LIMIT)


@packed
def test_an_empty_body_is_empty_however_it_is_said_to_be_packed(
    coding: str, pack: Callable[[bytes], bytes]
) -> None:
    assert unpacked(b"", coding, LIMIT) == unpacked(pack(b""), coding, LIMIT) == b""


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_was_cut_off_on_the_way_cannot_be_unpacked(coding: str) -> None:
    whole = gzip.compress(b"text" * 20) if coding == "gzip" else zlib.compress(b"text" * 20)
    for end in range(1, len(whole) - 1):
        with pytest.raises(UnpackingError):
            unpacked(whole[:end], coding, LIMIT)


def test_a_body_that_was_cut_by_the_reader_is_unpacked_as_far_as_it_goes() -> None:
    whole = gzip.compress(bytes(range(256)))
    assert bytes(range(256)).startswith(unpacked(whole[:-20], "gzip", LIMIT, is_cut=True))


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"{}", "gzip"),
        (b"{}", "deflate"),
        (gzip.compress(b"text")[:-8] + bytes(8), "gzip"),
        (gzip.compress(b"text") + b"more", "gzip"),
        (zlib.compress(b"text") + b"more", "deflate"),
        (gzip.compress(b"") * 10_000, "gzip"),
        (b"text", "br"),
        (b"text", "zstd"),
        (b"text", "compress"),
        (gzip.compress(b"text"), "gzip, br"),
        (b"text", ", ".join(["gzip"] * 1000)),
        (b"text", "\x1b[31m"),
    ],
    ids=range(12),
)
def test_what_is_damaged_or_unknown_is_said_to_be(body: bytes, coding: str) -> None:
    with pytest.raises(UnpackingError, match=r"^the answer (is|has) "):
        unpacked(body, coding, LIMIT)
