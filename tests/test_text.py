"""Foreign text made fit for a terminal, a log and a spreadsheet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.text import defused, printable, quoted

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SPACES = "\u00a0\u1680\u2000\u2003\u2009\u202f\u205f\u3000"
INVISIBLE = "\u00ad\u180e\u200b\u200c\u200d\u2060\u2061\u2062\u2063\u2064\u206a\u206f\ufeff\ufff9\ufffa\ufffb"
INVISIBLE_BEYOND_16_BITS = "\U0001bca0\U0001d173\U000e0001\U000e0041"
UNASSIGNED_OR_PRIVATE = "\u0378\ue000\ufdd0\uffff\U0010ffff"
HOSTILE = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *BIDIRECTIONAL,
    *SPACES,
    *INVISIBLE,
    *INVISIBLE_BEYOND_16_BITS,
    *UNASSIGNED_OR_PRIVATE,
    "\u2028",
    "\u2029",
]
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four full-width
# Any text, thick with what must not get through.
TEXT = st.text(st.characters(codec=None) | st.sampled_from(HOSTILE) | st.characters(categories=["Cs"]))


@given(TEXT, st.integers(0, 50))
def test_printable_text_is_printable_by_the_languages_own_measure(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert not set(shown) & set(HOSTILE)
    assert shown.isprintable()


@given(TEXT)
def test_printable_text_can_be_encoded_and_does_not_change_a_second_time(text: str) -> None:
    shown = printable(text, 1_000)
    assert shown.encode().decode() == shown
    assert printable(shown, 100_000) == shown


@given(TEXT)
def test_printable_text_is_on_one_line(text: str) -> None:
    assert len(printable(text, 1_000).splitlines()) <= 1


@pytest.mark.parametrize(
    "text", ["", "plain", "a b", "naïve café", "日本語", "שלום", "مرحبا", "😀", "'\"\\", "a\u0301"]
)
def test_harmless_text_of_any_script_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    "character",
    ["\u034f", "\u115f", "\u1160", "\u17b4", "\u17b5", "\u2800", "\u3164", "\ufe0f", "\uffa0", "\U000e0100"],
)
def test_combining_characters_and_blank_letters_are_left_alone(character: str) -> None:
    assert printable(f"a{character}b") == f"a{character}b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b", r"a\u2028b"),
        ("\ufeffa", r"\ufeffa"),
        ("\udc80", r"\udc80"),
        ("a\u00adb", r"a\xadb"),
        ("a\u3000b", r"a\u3000b"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_escaped_says_which_character_it_was(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("character", HOSTILE)
def test_each_hostile_character_is_escaped_where_it_stands(character: str) -> None:
    shown = printable(f"a{character}b")
    assert shown.startswith("a\\")
    assert shown.endswith("b")


@pytest.mark.parametrize(("length", "cut"), [(4, False), (5, False), (6, True)])
def test_text_is_cut_only_past_the_limit_and_says_how_long_it_was(length: int, cut: bool) -> None:
    assert printable("x" * length, 5) == ("xxxxx... (6 characters)" if cut else "x" * length)


def test_the_limit_counts_the_texts_own_characters_not_the_escapes() -> None:
    assert printable("\x1b" * 5, 5) == r"\x1b" * 5


@given(TEXT, st.integers(0, 100))
def test_no_text_grows_past_what_its_limit_allows(text: str, limit: int) -> None:
    assert len(printable(text, limit)) <= 10 * limit + len("... (99999 characters)")


@given(TEXT)
def test_quoted_text_is_short_printable_and_in_quotation_marks(text: str) -> None:
    shown = quoted(text, 10)
    assert shown == f"'{printable(text, 10)}'"
    assert len(shown) <= 2 + 100 + len("... (99999 characters)")


@pytest.mark.parametrize(
    "cell",
    [
        *("=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("x")', "=", "-", "==", "+-@="),
        *("\t=1", "\r=1", "\n=1"),
        *("\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20A"),
    ],
)
def test_a_formula_gets_an_apostrophe_and_keeps_its_text(cell: str) -> None:
    assert defused(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", "a", "a=1", "1+1", "'=1", " ", "ecs.0005", "100 %", '"'])
def test_a_cell_that_starts_no_formula_stays_as_it_is(cell: str) -> None:
    assert defused(cell) == cell


@given(st.text() | st.builds(str.__add__, st.sampled_from(FORMULA_STARTS), st.text()))
def test_a_defused_cell_starts_no_formula_and_can_be_defused_again_unchanged(cell: str) -> None:
    safe = defused(cell)
    assert not safe.startswith(FORMULA_STARTS)
    assert safe in (cell, f"'{cell}")
    assert defused(safe) == safe
