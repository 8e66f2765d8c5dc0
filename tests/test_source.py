"""Rows out of files: what is read, what is refused, and in which words."""

import csv
import gzip
import hashlib
import io
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch import input as source
from batch.errors import BatchError, InputMissingError, InputUnusableError, OutputError
from batch.input import Format, Source, json_rows, json_text, lines, objects, open_source
from batch.input.limits import INPUT
from batch.job import Column
from batch.model import Row

A = Column("fpga_image_id")
B = Column("image_id", aliases=("ecs_image_id",), path=("image", "id"))
PLACE = Column("project_id", required=False)
PAIR = (A, B)
REPORT = ("row", "job", "outcome")

# One folder and one file serve all examples of a property.
PROPERTY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Reading:
    """Writes a file and reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(
        self,
        content: str | bytes,
        name: str = "pairs.csv",
        *,
        form: Format | None = None,
        columns: Sequence[Column] = PAIR,
        reserved: Sequence[str] = (),
    ) -> Source:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return open_source(str(path), format=form, columns=columns, reserved=reserved)

    def rows(self, content: str | bytes, name: str = "pairs.csv", **options: Any) -> list[Row]:
        with self.open(content, name, **options) as source:
            return list(source.rows())

    def values(self, content: str | bytes, name: str = "pairs.csv", **options: Any) -> list[dict[str, Any]]:
        with self.open(content, name, **options) as source:
            rows = list(source.rows())
            return [dict(zip(source.columns, row.values, strict=False)) for row in rows]

    def refusal(self, content: str | bytes, name: str = "pairs.csv", **options: Any) -> str:
        with pytest.raises(InputUnusableError) as caught:
            self.rows(content, name, **options)
        return str(caught.value).replace(f"{self.folder}{os.sep}", "")


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return Reading(tmp_path)


def test_a_csv_row_gives_its_wanted_cells_and_all_its_values(reading: Reading) -> None:
    assert reading.rows("note,IMAGE_ID,fpga_image_id\nhello,i,f\n", columns=(A, B, PLACE)) == [
        Row(1, 2, ("f", "i", ""), ["hello", "i", "f"])
    ]


def test_an_absent_optional_column_before_a_present_one_gives_an_empty_cell(reading: Reading) -> None:
    assert reading.rows("image_id,fpga_image_id\ni,f\n", columns=(PLACE, A, B))[0].cells == ("", "f", "i")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_delimiter_line_end_and_byte_order_mark_reads_the_same(
    reading: Reading, end: str, delimiter: str, mark: str
) -> None:
    lines = ["fpga_image_id,image_id,note", "f1,i1,x", "", "  ", "f2,i2,", ""]
    assert reading.rows(mark + end.join(lines).replace(",", delimiter)) == [
        Row(1, 2, ("f1", "i1"), ["f1", "i1", "x"]),
        Row(2, 5, ("f2", "i2"), ["f2", "i2", ""]),
    ]


def test_the_delimiter_is_the_one_under_which_most_wanted_columns_are_found(reading: Reading) -> None:
    assert reading.values("fpga_image_id;image_id;a,b,c,d,e\nf;i;x\n")[0]["a,b,c,d,e"] == "x"


def test_without_a_wanted_column_the_delimiter_is_the_one_that_gives_most_names(reading: Reading) -> None:
    assert "(the header names 'a', 'b')" in reading.refusal("a;b\n1;2\n")


def test_blank_lines_may_stand_before_the_header(reading: Reading) -> None:
    assert reading.rows("\n \nfpga_image_id,image_id\nf,i\n") == [Row(1, 4, ("f", "i"), ["f", "i"])]


@pytest.mark.parametrize("empty", [",,", ",", '"","",""', ",,,,,"])
def test_a_row_of_empty_cells_is_none(reading: Reading, empty: str) -> None:
    rows = reading.rows(f"fpga_image_id,image_id,note\n{empty}\nf,i,x\n{empty}\n{empty}\ng,i,x\n{empty}\n")
    assert [(row.number, row.line, row.cells) for row in rows] == [(1, 3, ("f", "i")), (2, 6, ("g", "i"))]


def test_a_row_with_a_blank_in_a_cell_is_one(reading: Reading) -> None:
    assert len(reading.rows("fpga_image_id,image_id,note\n, ,\nf,i,x\n")) == 2


def test_a_table_of_one_column_skips_blank_lines_and_quoted_nothing(reading: Reading) -> None:
    rows = reading.rows('fpga_image_id\nf1\n\n  \n""\nf2\n', columns=(A,))
    assert [(row.line, row.cells, row.problem) for row in rows] == [(2, ("f1",), ""), (6, ("f2",), "")]


def test_a_row_is_said_to_stand_where_it_starts(reading: Reading) -> None:
    rows = reading.rows('fpga_image_id,image_id,note\nf,i,"one\r\ntwo\n\n"\nf,i,x\n')
    assert [(row.number, row.line, row.values[2]) for row in rows] == [(1, 2, "one\r\ntwo\n\n"), (2, 6, "x")]


def test_a_header_may_stretch_over_lines(reading: Reading) -> None:
    with reading.open('fpga_image_id,image_id,"two\nlines"\nf,i,x\n') as source:
        assert source.columns == ["fpga_image_id", "image_id", "two\nlines"]
        assert [row.line for row in source.rows()] == [3]


@pytest.mark.parametrize(
    ("line", "values", "problem"),
    [
        ("f", ["f", ""], "has 1 field, the header names 2"),
        ("f,i,x,y", ["f", "i"], "has 4 fields, the header names 2; the surplus begins with 'x'"),
        ("f,i,,,x", ["f", "i"], "has 5 fields, the header names 2; the surplus begins with 'x'"),
    ],
)
def test_a_row_of_another_width_is_a_problem_row(
    reading: Reading, line: str, values: list[str], problem: str
) -> None:
    rows = reading.rows(f"fpga_image_id,image_id\n{line}\nf,i\n")
    assert rows == [Row(1, 2, (values[0], values[1]), values, problem), Row(2, 3, ("f", "i"), ["f", "i"])]


@pytest.mark.parametrize("line", ["f,i,n,p", "f,i,n", "f,i", "f,i,n,p,", "f,i,,,,,", "f,i,n,p, "])
def test_empty_cells_may_be_missing_or_too_many_at_the_end(reading: Reading, line: str) -> None:
    row = reading.rows(f"fpga_image_id,image_id,note,project_id\n{line}\n", columns=(A, B, PLACE))[0]
    given = [*line.split(","), "", ""][:4]
    assert row == Row(1, 2, ("f", "i", given[3]), given)


def test_a_long_surplus_is_named_shortly_and_printably(reading: Reading) -> None:
    problem = reading.rows("fpga_image_id,image_id\nf,i,\x1b" + "x" * 5000 + "\n")[0].problem
    assert "'\\x1bxxx" in problem
    assert len(problem) < 200


def test_text_after_a_closing_quote_spoils_its_row_only(reading: Reading) -> None:
    rows = reading.rows('fpga_image_id,image_id\n"f"x,i\nf2,i2\n')
    assert rows == [
        Row(1, 2, ("fx", "i"), ["fx", "i"], "has text after a closing quote"),
        Row(2, 3, ("f2", "i2"), ["f2", "i2"]),
    ]


def test_a_row_of_several_lines_broken_on_its_last_is_a_problem_row(reading: Reading) -> None:
    rows = reading.rows('fpga_image_id,image_id\n"f\ng"x,i\nf2,i2')
    assert [(row.line, row.cells, row.problem) for row in rows] == [
        (2, ("", ""), "has text after a closing quote"),
        (4, ("f2", "i2"), ""),
    ]


def test_a_broken_row_on_the_last_line_is_a_problem_row(reading: Reading) -> None:
    assert reading.rows('fpga_image_id,image_id\nf,"i"x')[0].problem == "has text after a closing quote"


def test_a_broken_row_with_a_long_field_is_a_problem_row(reading: Reading) -> None:
    rows = reading.rows('fpga_image_id,image_id\n"f"x' + "y" * 200_000 + ",i\nf2,i2\n")
    assert [row.cells for row in rows] == [("fx" + "y" * 200_000, "i"), ("f2", "i2")]
    assert [row.problem for row in rows] == ["has text after a closing quote", ""]


def test_a_long_cell_is_read(reading: Reading) -> None:
    for cell in ("i" * 200_000, '"' + "i\n" * 100_000 + '"'):
        assert reading.rows(f"fpga_image_id,image_id\nf,{cell}\n")[0].cells == ("f", cell.strip('"'))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('f1,i1\n"f2,i2\nf3,i3\n', "line 3: a quote opened there is never closed"),
        (
            'f1,i1\n"f2,i2\nf3,i3\n"f4",i4\n',
            "line 3: a quote opened there is never closed, or closed too early",
        ),
        ('f1,i1\n"f2"x,"i2\nf3,i3\n', "line 3: a quote opened there is never closed, or closed too early"),
        ('f1,i1\n"f2,i2\n' + "f,i\n" * 50_000, "line 3: a quote opened there is never closed"),
    ],
)
def test_a_quote_that_may_swallow_rows_makes_the_file_unusable(
    reading: Reading, text: str, reason: str
) -> None:
    assert reading.refusal("fpga_image_id,image_id\n" + text).startswith(f"pairs.csv, {reason}")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ('"fpga_image_id', "line 1: a quote opened there is never closed"),
        ('\n"fpga_image_id"x,image_id\nf,i\n', "line 2: there is text after a closing quote"),
    ],
)
def test_a_broken_header_makes_the_file_unusable(reading: Reading, header: str, reason: str) -> None:
    assert reading.refusal(header) == f"pairs.csv, {reason}"


def test_a_delimiter_under_which_the_header_is_broken_is_passed_over(reading: Reading) -> None:
    assert reading.rows('"fpga_image_id";"image_id"\nf;i\n')[0].cells == ("f", "i")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            "fpga_image_id,imgae_id",
            (
                "column 'image_id' is missing; 'imgae_id' was probably meant: rename it "
                "(the header names 'fpga_image_id', 'imgae_id')"
            ),
        ),
        (
            "fpga_image_id,ecs image id",
            (
                "column 'image_id' is missing; 'ecs image id' was probably meant: rename it "
                "(the header names 'fpga_image_id', 'ecs image id')"
            ),
        ),
        ("name,size", "columns 'fpga_image_id', 'image_id' are missing (the header names 'name', 'size')"),
        (
            "fpga_image_id|image_id",
            (
                "columns 'fpga_image_id', 'image_id' are missing; columns are separated by comma, "
                "semicolon or tab (the header names 'fpga_image_id|image_id')"
            ),
        ),
        (
            "0123456789abcdef0123456789abcdef,ec5",
            "there is no header: the first line must name the columns 'fpga_image_id', 'image_id'",
        ),
        ('[{"a": 1}]', "this is JSON, not CSV: use --format json or --format jsonl"),
        ("fpga_image_id,image_id,Image_ID ", "column 'image_id' is named twice"),
    ],
)
def test_a_header_that_does_not_do_is_explained(reading: Reading, header: str, reason: str) -> None:
    assert reading.refusal(f"{header}\nf,i\n") == f"pairs.csv, line 1: {reason}"


def test_a_refusal_names_a_score_of_columns_at_most(reading: Reading) -> None:
    refusal = reading.refusal(",".join(f"c{number}" for number in range(30)) + "\n")
    assert refusal.endswith("'c19' and 10 more)")


def test_a_column_of_its_own_name_beats_its_alias_which_is_carried(reading: Reading) -> None:
    with reading.open("ecs_image_id,fpga_image_id,image_id\ne,f,i\n") as source:
        assert source.columns == ["ecs_image_id", "fpga_image_id", "image_id"]
        assert next(source.rows()).cells == ("f", "i")


def test_an_alias_is_taken_for_its_column(reading: Reading) -> None:
    assert reading.rows("ECS_Image_Id,fpga_image_id\ni,f\n")[0].cells == ("f", "i")


def test_columns_without_a_name_are_numbered_apart_from_named_ones(reading: Reading) -> None:
    with reading.open("fpga_image_id, image_id ,,column_3,\nf,i,,,\n") as source:
        assert source.columns == ["fpga_image_id", "image_id", "column_3_", "column_3", "column_5"]


def test_columns_of_one_name_are_all_carried(reading: Reading) -> None:
    with reading.open("fpga_image_id,image_id,note, note,note_,note,NOTE\nf,i,1,2,3,4,5\n") as source:
        assert source.columns == ["fpga_image_id", "image_id", "note", "note_4", "note_", "note_6", "NOTE"]
        assert next(source.rows()).values == ["f", "i", "1", "2", "3", "4", "5"]


def test_names_that_differ_in_letter_case_alone_are_two_columns(reading: Reading) -> None:
    with reading.open("fpga_image_id,image_id,Note,note\nf,i,1,2\n") as source:
        assert source.columns[2:] == ["Note", "note"]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("Row,job,fpga_image_id,image_id,note,outcome\n1,j,f,i,n,failed\n", "pairs.csv"),
        (
            (
                '[{"Row": 1, "job": "j", "fpga_image_id": "f", "image_id": "i", "note": "n", "outcome": {}},'
                ' {"fpga_image_id": "f", "row": 2, "job": "j", "outcome": "x"}]'
            ),
            "pairs.json",
        ),
    ],
)
def test_the_columns_of_a_report_are_dropped_in_every_format(
    reading: Reading, content: str, name: str
) -> None:
    with reading.open(content, name, reserved=REPORT) as source:
        rows = list(source.rows())
        assert source.columns == ["fpga_image_id", "image_id", "note"]
        assert source.dropped == ["Row", "job", "outcome"]
        assert list(rows[0].values) == ["f", "i", "n"]


def test_a_reserved_column_that_the_job_wants_is_kept(reading: Reading) -> None:
    rows = reading.rows("row,job,outcome\n1,x,failed\n", columns=(Column("outcome"),), reserved=REPORT)
    assert rows == [Row(1, 2, ("failed",), ("failed",))]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("Row,job,fpga_image_id,image_id,row_,note\n1,j,f,i,r,n\n", "pairs.csv"),
        ('{"Row":"1","job":"j","fpga_image_id":"f","image_id":"i","row_":"r","note":"n"}\n', "pairs.jsonl"),
    ],
)
def test_own_columns_with_the_names_of_some_of_a_reports_are_carried_under_others(
    reading: Reading, content: str, name: str
) -> None:
    with reading.open(content, name, reserved=REPORT) as source:
        rows = list(source.rows())
        assert source.columns == ["Row_", "job_", "fpga_image_id", "image_id", "row_", "note"]
        assert source.dropped == []
        assert rows[0].values == ["1", "j", "f", "i", "r", "n"]


@pytest.mark.parametrize(
    ("content", "name", "reason"),
    [
        ("", "pairs.csv", "pairs.csv is empty"),
        (" \n\n", "pairs.csv", "pairs.csv is empty"),
        ("\ufeff", "pairs.csv", "pairs.csv is empty"),
        ("\n", "pairs.json", "pairs.json is empty"),
        ("", "pairs.jsonl", "pairs.jsonl is empty"),
        ("# a comment\n\n", "pairs.csv", "pairs.csv is empty"),
        ("\x0b\x0c", "pairs.csv", "pairs.csv is empty"),
    ],
)
def test_an_input_without_text_is_unusable(reading: Reading, content: str, name: str, reason: str) -> None:
    assert reading.refusal(content, name) == reason


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("fpga_image_id,image_id\n\n", "pairs.csv"),
        ("fpga_image_id,image_id\n,\n", "pairs.csv"),
        ("[ ]", "pairs.json"),
        ("[]", "pairs.jsonl"),
        ('{"pairs": []}', "pairs.json"),
    ],
)
def test_an_input_may_have_no_rows(reading: Reading, content: str, name: str) -> None:
    with reading.open(content, name) as source:
        assert list(source.rows()) == []


def test_a_csv_of_blanks_that_only_unicode_knows_is_empty(reading: Reading) -> None:
    assert reading.refusal("\u00a0\n") == "pairs.csv is empty"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.csv", Format.CSV),
        ("a.TSV", Format.CSV),
        ("a.txt.gz", Format.CSV),
        ("a.json", Format.JSON),
        ("a.json.gz", Format.JSON),
        ("a.jsonl", Format.JSONL),
        ("a.ndjson.GZ", Format.JSONL),
    ],
)
def test_the_format_is_told_by_the_name(reading: Reading, name: str, form: Format) -> None:
    content = {
        Format.CSV: "fpga_image_id,image_id\nf,i\n",
        Format.JSON: '[{"fpga_image_id": "f", "image_id": "i"}]',
        Format.JSONL: '{"fpga_image_id": "f", "image_id": "i"}\n',
    }[form]
    with reading.open(content, name) as source:
        assert source.format is form
        assert [row.cells for row in source.rows()] == [("f", "i")]


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ("fpga_image_id,image_id\nf,i\n", Format.CSV),
        (' \n [{"fpga_image_id": "f"}]', Format.JSON),
        ('\n{"fpga_image_id": "f"}', Format.JSONL),
    ],
)
def test_a_name_that_tells_nothing_leaves_it_to_the_first_byte(
    reading: Reading, content: str, form: Format
) -> None:
    with reading.open(content, "pairs.data") as source:
        assert source.format is form


def test_a_format_that_is_asked_for_beats_the_name(reading: Reading) -> None:
    assert reading.rows('{"fpga_image_id": "f"}', "pairs.csv", form=Format.JSONL)[0].cells == ("f", "")


def test_gzip_is_known_by_its_bytes_and_hashed_as_stored(reading: Reading) -> None:
    packed = gzip.compress(b"\xef\xbb\xbffpga_image_id,image_id\nf,i\n")
    with reading.open(packed, "pairs.csv") as source:
        assert [row.cells for row in source.rows()] == [("f", "i")]
        assert source.sha256 == hashlib.sha256(packed).hexdigest()


def test_gzip_may_come_in_several_members(reading: Reading) -> None:
    packed = gzip.compress(b"fpga_image_id,image_id\n") + gzip.compress(b"f,i\n")
    assert len(reading.rows(packed)) == 1


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.json", "pairs.jsonl"])
def test_cut_off_or_damaged_gzip_is_unusable(reading: Reading, name: str) -> None:
    content = {
        "pairs.csv": "fpga_image_id,image_id\n" + "f,i\n" * 9,
        "pairs.json": '[{"fpga_image_id": "f"}]',
        "pairs.jsonl": '{"fpga_image_id": "f"}\n',
    }[name]
    packed = gzip.compress(content.encode())
    assert reading.refusal(packed[:-6], name) == f"{name} is cut off: its gzip data end too early"
    assert reading.refusal(packed[:12], name) == f"{name} is cut off: its gzip data end too early"
    assert reading.refusal(packed + b"junk", name).startswith(f"{name} is damaged: Not a gzipped file")
    flipped = packed[:12] + bytes([packed[12] ^ 0xFF]) + packed[13:]
    assert reading.refusal(flipped, name).startswith(f"{name} is ")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_csv_that_is_not_utf8_is_refused_with_its_place(reading: Reading, end: str) -> None:
    text = end.join(["fpga_image_id,image_id", *["f,i"] * 5000, "\u00e9,\u00fc"]).encode() + b"\xe9\n"
    assert (
        reading.refusal(text) == "pairs.csv, line 5002, column 4: this is not UTF-8: save the file as UTF-8"
    )


def test_json_lines_that_are_not_utf8_are_refused_with_their_place(reading: Reading) -> None:
    text = b'{"fpga_image_id": "f"}\n{"note": "\xc3\xa9\xff"}\n'
    assert reading.refusal(text, "p.jsonl") == "p.jsonl, line 2, column 12: this is not UTF-8"


@pytest.mark.parametrize("bad", [b'"\xff"', b"\xff", b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"'])
def test_json_that_is_not_utf8_is_refused_with_its_place(reading: Reading, bad: bytes) -> None:
    text = b'[{"note": "\xc3\xa9"},\n\xc3\xa9'[:-2] + b'{"note": ' + bad + b"}]"
    column = 11 if bad.startswith(b'"') else 10
    assert reading.refusal(text, "p.json") == f"p.json, line 2, column {column}: this is not UTF-8"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.json", "pairs.jsonl"])
def test_wide_characters_are_recognised(reading: Reading, name: str, encoding: str) -> None:
    refusal = reading.refusal("[fpga".encode(encoding), name)
    assert refusal == f"{name} is UTF-16 or UTF-32, or no text at all: save it as UTF-8"


def test_a_workbook_is_recognised(reading: Reading) -> None:
    assert (
        reading.refusal(b"PK\x03\x04...")
        == "pairs.csv is a zip archive or a workbook: save it as CSV, as UTF-8"
    )


def test_a_json_array_gives_rows_at_the_lines_on_which_they_end(reading: Reading) -> None:
    text = (
        '[{"fpga_image_id": "f", "image_id": "i"}, {"fpga_image_id":\n"g",\n"image_id": "j", "n": 1.5}\n]\n'
    )
    assert reading.rows(text, "pairs.json") == [
        Row(1, 1, ("f", "i"), ["f", "i"]),
        Row(2, 3, ("g", "j"), ["g", "j", 1.5]),
    ]


def test_json_values_of_every_kind_are_carried_as_they_are(reading: Reading) -> None:
    item = {
        "fpga_image_id": "f",
        "a": [1, {"b": None}],
        "c": 0.1,
        "d": True,
        "e": None,
        "f": "\u20ac",
        "g": 7,
    }
    for name, text in (("p.json", json.dumps([item])), ("p.jsonl", json.dumps(item))):
        assert reading.values(text, name) == [item]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_columns_grow_as_objects_with_new_keys_appear(reading: Reading, name: str) -> None:
    items = [{"fpga_image_id": "1"}, {"b": "x", "fpga_image_id": "2"}, {"c": "y"}, {"fpga_image_id": "3"}]
    text = json.dumps(items) if name == "p.json" else "\n".join(map(json.dumps, items))
    with reading.open(text, name) as source:
        assert source.columns == []
        first = list(source.rows())
        assert source.columns == ["fpga_image_id", "b", "c"]
        assert [row.values for row in first] == [["1"], ["2", "x"], [None, None, "y"], ["3"]]
        assert [row.cells[0] for row in first] == ["1", "2", "", "3"]
        assert [row.values for row in source.rows()] == [row.values for row in first]


def test_keys_are_matched_without_letter_case_and_keep_their_first_spelling(reading: Reading) -> None:
    text = '{"FPGA_Image_ID": "1", "ecs_image_id": "2"}\n{" fpga_image_id ": "3", "image_id": "4"}\n'
    with reading.open(text, "p.jsonl") as source:
        rows = list(source.rows())
        assert source.columns == ["FPGA_Image_ID", "ecs_image_id"]
        assert [row.cells for row in rows] == [("1", "2"), ("3", "4")]
        assert [row.values for row in rows] == [["1", "2"], ["3", "4"]]


def test_an_alias_beside_its_column_is_carried_under_a_name_of_its_own(reading: Reading) -> None:
    text = '{"ecs_image_id": "1"}\n{"image_id": "2", "ecs_image_id": "3"}\n'
    assert reading.values(text, "p.jsonl") == [
        {"ecs_image_id": "1"},
        {"ecs_image_id": "2", "ecs_image_id_": "3"},
    ]


def test_a_column_that_an_object_names_twice_is_a_problem(reading: Reading) -> None:
    row = reading.rows('{"image_id": "1", "Image_ID": "2"}', "p.jsonl")[0]
    assert row == Row(1, 1, ("", "1"), ["1"], "names 'Image_ID' twice")


def test_an_empty_key_gets_a_numbered_name(reading: Reading) -> None:
    assert reading.values('{"image_id": "1", "": "2"}', "p.jsonl") == [{"image_id": "1", "column_2": "2"}]


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
@pytest.mark.parametrize(
    ("item", "cell", "values"),
    [
        ({"fpga_image_id": "f", "image": {"id": "i"}}, "i", {"fpga_image_id": "f", "image_id": "i"}),
        ({"Image": {"ID": "i"}, "n": "x"}, "i", {"image_id": "i", "n": "x"}),
        (
            {"image": {"id": "i", "size": 3}},
            "i",
            {"image_id": "i", "image": {"id": "i", "size": 3}},
        ),
        ({"image": {"id": None}}, "", {"image_id": None}),
        ({"image": {"name": "x"}}, "", {"image": {"name": "x"}}),
        ({"image": "x", "image_id": "i"}, "i", {"image": "x", "image_id": "i"}),
        ({"image": {"id": "x"}, "ecs_image_id": "i"}, "i", {"image": {"id": "x"}, "ecs_image_id": "i"}),
        ({"image": None}, "", {"image": None}),
    ],
)
def test_a_column_may_be_found_inside_another_object(
    reading: Reading, name: str, item: dict[str, Any], cell: str, values: dict[str, Any]
) -> None:
    text = json.dumps([item] if name == "p.json" else item)
    assert reading.rows(text, name)[0].cells[1] == cell
    assert reading.values(text, name) == [values]


def test_a_path_of_one_step_is_another_name(reading: Reading) -> None:
    columns = (Column("a", path=("x",)), Column("b", path=("X",)))
    assert reading.rows('{"x": "1"}', "p.jsonl", columns=columns)[0].cells == ("1", "")


def test_both_forms_of_a_pair_may_stand_in_one_input(reading: Reading) -> None:
    text = '{"fpga_image_id": "1", "image": {"id": "2"}}\n{"fpga_image_id": "3", "image_id": "4"}\n'
    with reading.open(text, "p.jsonl") as source:
        assert [row.values for row in source.rows()] == [["1", "2"], ["3", "4"]]
        assert source.columns == ["fpga_image_id", "image_id"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("5", "image_id is a number, not a string"),
        ("5.5", "image_id is a number, not a string"),
        ("true", "image_id is true or false, not a string"),
        ("[1]", "image_id is a list, not a string"),
        ("{}", "image_id is an object, not a string"),
        ("null", ""),
    ],
)
@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_a_wanted_value_that_is_no_string_is_a_problem_unless_null(
    reading: Reading, name: str, value: str, problem: str
) -> None:
    text = f'{{"fpga_image_id": "f", "image_id": {value}}}'
    row = reading.rows(f"[{text}]" if name == "p.json" else text, name)[0]
    assert row == Row(1, 1, ("f", ""), ["f", json.loads(value)], problem)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("12", "12"),
        ("204.0", "204.0"),
        ("true", "True"),
        ("null", ""),
        ("[1]", ""),
        ('{"a": 1}', ""),
        ("9223372036854775807", "9223372036854775807"),
        ("18446744073709551615", "18446744073709551615"),
        ("1e300", "1e+300"),
    ],
)
def test_a_lenient_column_takes_any_value(reading: Reading, value: str, cell: str) -> None:
    columns = (Column("row", lenient=True), Column("outcome"))
    row = reading.rows(f'{{"row": {value}, "outcome": "failed"}}', "p.jsonl", columns=columns)[0]
    assert (row.cells, row.problem) == ((cell, "failed"), "")


@pytest.mark.parametrize(
    ("element", "kind"),
    [
        ("5", "a number"),
        ("1e3", "a number"),
        ('"x"', "a string"),
        ("[]", "a list"),
        ("null", "null"),
        ("false", "true or false"),
    ],
)
@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_an_element_that_is_no_object_is_a_problem_row(
    reading: Reading, name: str, element: str, kind: str
) -> None:
    last = '{"fpga_image_id": "f"}'
    text = f"[\n{element},\n{last}]" if name == "p.json" else f"{last}\n{element}\n"
    row = next(row for row in reading.rows(text, name) if row.line == 2)
    assert row == Row(row.number, 2, ("", ""), [], f"is {kind}, not an object")


def test_an_object_with_a_misspelt_key_says_what_was_probably_meant(reading: Reading) -> None:
    row = reading.rows('{"fpga_image_id": "f", "imgae_id": "i"}', "p.jsonl")[0]
    assert row == Row(1, 1, ("f", ""), ["f", "i"], "image_id is missing; 'imgae_id' was probably meant")


def test_several_problems_of_an_object_are_all_told(reading: Reading) -> None:
    row = reading.rows('{"fpga_image_id": 1, "imgae_id": "i"}', "p.jsonl")[0]
    assert row.problem == (
        "image_id is missing; 'imgae_id' was probably meant; fpga_image_id is a number, not a string"
    )


@pytest.mark.parametrize("name", ["p.json", "p.jsonl"])
def test_a_value_nested_too_deep_to_write_again_is_not_carried(reading: Reading, name: str) -> None:
    text = '{"fpga_image_id": "f", "image_id": "i", "n": ' + "[" * 500 + "]" * 500 + "}"
    row = reading.rows(f"[{text}]" if name == "p.json" else text, name)[0]
    assert row == Row(1, 1, ("f", "i"), ["f", "i", None], "'n' is nested too deep to be carried")


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775808", "1" * 30, "1e30"])
@pytest.mark.parametrize("form", ["%s", '[{"x": %s}]'])
def test_a_number_whose_digits_would_be_lost_in_an_own_column_makes_the_row_invalid(
    reading: Reading, number: str, form: str
) -> None:
    text = f'{{"fpga_image_id": "f", "image_id": "i", "n": {form % number}}}'
    problem = "'n' is a number too large to be carried (write it as a string)"
    assert reading.rows(text, "p.jsonl")[0] == Row(1, 1, ("f", "i"), ["f", "i", None], problem)


def test_a_json_array_of_endless_depth_is_refused(reading: Reading) -> None:
    told = "nested deeper than 1000 levels"
    assert reading.refusal("\n" + "[" * 200_000, "p.json") == f"p.json, line 2, column 1001: {told}"
    wrapped = '[{"a":\n' + '{"b":[\n' * 600
    assert reading.refusal(wrapped, "p.json") == f"p.json, line 501, column 1: {told}"


def test_a_json_array_with_many_shallow_lists_is_read(reading: Reading) -> None:
    item = {"fpga_image_id": "[" * 3000, "n": [[]] * 3000}
    assert reading.values(json.dumps([item, item]), "p.json") == [item, item]


def test_broken_json_with_many_brackets_is_told_as_broken(reading: Reading) -> None:
    text = '[{"n": "' + "[" * 3000 + '"} {'
    assert reading.refusal(text, "p.json").startswith(f"p.json, line 1, column {len(text)}: broken JSON: ")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ('[{"a": 1},\n\n  {"\u00e9": tru}]', "line 3, column 9", "invalid literal, expected 'true'"),
        ("[1,", "line 1, column 4", "it ends too early"),
        ('[{"a": "b"}\n', "line 2, column 1", "it ends too early"),
        ('[{"a": 1}, ]', "line 1, column 12", "expected a value, found ']'"),
        ('[{"a": 1} {"a": 1}]', "line 1, column 11", "expected ',', found '{'"),
        ("[1] x", "line 1, column 5", "expected the end, found 'x'"),
        ('[1]\n"x"\n', "line 2, column 1", "expected the end, found '\"'"),
        ('"a" b', "line 1, column 5", "expected the end, found 'b'"),
        ("hello", "line 1, column 1", "unexpected character, expected a JSON value"),
        ("[1e999]", "line 1, column 2", "number is infinity when parsed as double"),
        ("[" + "1, " * 10_000 + "}", "line 1, column 30002", "expected a value, found '}'"),
        ("[" + '"\u00e9", ' * 10_000 + "}", "line 1, column 50002", "expected a value, found '}'"),
        ('{"a": 1\n "b": 2}', "line 2, column 2", "unexpected character, expected ',' or '}'"),
        ('[{"a": "b}]', "line 1, column 12", "it ends too early"),
        ('[{"a": "b\n"}]', "line 1, column 10", "unexpected control character in string"),
    ],
)
def test_broken_json_is_refused_with_its_place(reading: Reading, text: str, place: str, reason: str) -> None:
    assert reading.refusal(text, "p.json") == f"p.json, {place}: broken JSON: {reason}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5", "a number"),
        ("-1.5", "a number"),
        ('"x"', "a string"),
        ("true", "true"),
        ("false", "false"),
        ("null", "null"),
    ],
)
def test_json_that_is_no_list_is_refused(reading: Reading, text: str, found: str) -> None:
    assert reading.refusal(text, "p.json") == f"p.json is {found}, wanted is a list of objects"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1}\n\n{"\u00e9": tru}\n', "line 3, column 7: broken JSON: invalid literal, expected 'true'"),
        ('{"a": 1}\n{"a": 1', "line 2, column 8: broken JSON: it ends too early"),
        ('{"a": 1},\n{"a": 1}', "line 1, column 9: broken JSON: expected a value, found ','"),
    ],
)
def test_a_broken_line_of_json_lines_is_refused_with_its_place(
    reading: Reading, text: str, reason: str
) -> None:
    assert reading.refusal(text, "p.jsonl") == f"p.jsonl, {reason}"


def test_a_row_too_long_to_keep_is_refused(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "INPUT", INPUT._replace(size=200_000))
    for module in (json_text, json_rows):
        monkeypatch.setattr(module, "LARGE", 100_000)
    told = "a row takes 0 MiB at most"
    text = "fpga_image_id,image_id\n" + "f,i\n" * 3000
    for end in ("\n", "\r"):
        fits, too_long = (f"{text}f,{'i' * size}\n".replace("\n", end) for size in (199_000, 200_001))
        assert len(reading.rows(fits)) == 3001
        assert reading.refusal(too_long) == f"pairs.csv, line 3002, column 1: {told}"
    for end in ("\n", "\r", "\u00e9\n"):
        fits, too_long = (f'{text}f,"{f"i{end}" * size}"\n' for size in (49_000, 140_000))
        assert len(reading.rows(fits)) == 3001
        assert reading.refusal(too_long) == (
            f"pairs.csv, line 3002, column 1: {told}, or a quote opened there is never closed"
        )
    item = '{"fpga_image_id": "f", "n": "%s"}'
    fits, too_long = item % ("x" * 199_000), item % ("x" * 200_000)
    for name, form, column in (("p.jsonl", "%s\n%s\n", 1), ("p.json", "[%s,\n  %s]", 3)):
        assert len(reading.rows(form % (fits, fits), name)) == 2
        assert reading.refusal(form % (fits, too_long), name) == f"{name}, line 2, column {column}: {told}"
    assert reading.refusal(too_long, "p.json") == f"p.json, line 1, column 29: {told}"
    assert len(reading.rows("\n" + " " * 400_000 + "{}\n", "p.jsonl")) == 1


def test_an_input_of_endless_variety_takes_bounded_memory(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "_MOST_PLANS", 3)
    monkeypatch.setattr(source, "INPUT", INPUT._replace(columns=9))
    lines = [json.dumps({"fpga_image_id": "f", f"k{number}": number}) for number in range(9)]
    assert reading.values("\n".join(lines[:8] * 2), "p.jsonl")[-1]["k7"] == 7
    assert reading.refusal("\n".join(lines), "p.jsonl") == (
        "p.jsonl, line 9, column 1: a row has 9 columns at most"
    )


@pytest.mark.parametrize(("name", "reason"), [("none.csv", "No such file"), ("", "Is a directory")])
def test_what_is_not_there_is_missing(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputMissingError, match=reason):
        open_source(str(tmp_path / name), format=None, columns=PAIR)


def test_a_name_that_no_file_can_have_is_missing() -> None:
    with pytest.raises(InputMissingError, match="null byte"):
        open_source("a\0b", format=None, columns=PAIR)


def test_a_file_that_may_not_be_read_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputMissingError, match=r"secret\.csv: Permission denied"):
        open_source(str(tmp_path / "secret.csv"), format=None, columns=PAIR)


def test_a_disk_that_fails_to_read_is_told(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with reading.open("fpga_image_id,image_id\nf,i\n") as source:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(InputMissingError, match="Input/output error"):
            list(source.rows())


def test_a_pipe_is_read_as_often_as_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pairs.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=["fpga_image_id,image_id\nf,i\n"])
    writer.start()
    with open_source(str(pipe), format=None, columns=PAIR) as source:
        writer.join()
        assert list(source.rows()) == list(source.rows()) == [Row(1, 2, ("f", "i"), ["f", "i"])]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input_is_read_as_often_as_a_file(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    content = pack(b'[{"fpga_image_id": "f", "image_id": "i"}]')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    with open_source("-", format=None, columns=PAIR) as source:
        assert (source.name, source.format) == ("standard input", Format.JSON)
        assert source.sha256 == hashlib.sha256(content).hexdigest()
        assert list(source.rows()) == list(source.rows()) == [Row(1, 1, ("f", "i"), ["f", "i"])]


def test_a_closed_standard_input_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputMissingError, match="closed"):
        open_source("-", format=None, columns=PAIR)


@pytest.mark.parametrize(
    ("raised", "told"), [(OSError(28, "No space left on device"), OutputError), (KeyboardInterrupt, None)]
)
def test_a_copy_of_standard_input_that_fails_is_closed(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, told: type[BaseException] | None
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x")))
    monkeypatch.setattr("shutil.copyfileobj", fail)
    with pytest.raises(told or KeyboardInterrupt):
        open_source("-", format=None, columns=PAIR)


def test_a_file_replaced_by_a_rename_does_no_harm(reading: Reading, tmp_path: Path) -> None:
    with reading.open("fpga_image_id,image_id\nf,i\n") as source:
        before = list(source.rows())
        (tmp_path / "new").write_text("something else")
        (tmp_path / "new").rename(tmp_path / "pairs.csv")
        assert list(source.rows()) == before


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("fpga_image_id,image_id\nf,i\n", "p.csv"),
        ('[{"fpga_image_id": "f"}]', "p.json"),
        ('{"fpga_image_id": "f"}\n', "p.jsonl"),
    ],
)
def test_a_file_written_to_between_or_during_passes_is_refused(
    reading: Reading, tmp_path: Path, content: str, name: str
) -> None:
    path = tmp_path / name
    with reading.open(content, name) as source:
        rows = source.rows()
        next(rows)
        os.utime(path, ns=(0, 0))
        with pytest.raises(InputUnusableError, match=f"{name} was changed while in use"):
            next(rows)
        with pytest.raises(InputUnusableError, match="was changed while in use"):
            list(source.rows())
        with pytest.raises(InputUnusableError, match="was changed while in use"):
            _ = source.sha256


def test_an_error_in_a_file_that_was_changed_is_told_as_the_change(reading: Reading, tmp_path: Path) -> None:
    with reading.open("fpga_image_id,image_id\n" + "f,i\n" * 100_000) as source:
        rows = source.rows()
        next(rows)
        (tmp_path / "pairs.csv").write_bytes(b'"' * 300_000)
        with pytest.raises(InputUnusableError, match="was changed while in use"):
            list(rows)


def test_passes_do_not_disturb_one_another(reading: Reading) -> None:
    lines = "".join(f"f{number},i\n" for number in range(100_000))
    with reading.open("fpga_image_id,image_id\n" + lines) as source:
        for one, other in zip(source.rows(), source.rows(), strict=True):
            assert one == other


def test_rows_may_cross_the_borders_of_what_is_read_at_once(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "_BATCH", 1)
    monkeypatch.setattr(json_text, "_PIECE", 7)
    rows = reading.rows('fpga_image_id,image_id\nf,"i\nj"\n"f\ng"x,i\nf,i\n')
    assert [row.line for row in rows] == [2, 4, 6]
    items = [{"fpga_image_id": "f\u00e9" * 9, "image_id": str(number)} for number in range(9)]
    text = json.dumps(items, ensure_ascii=False)
    assert reading.values(text, "p.json") == items
    assert (
        reading.refusal(text[:30] + " }", "p.json")
        == "p.json, line 1, column 33: broken JSON: it ends too early"
    )


@PROPERTY
@given(content=st.binary(max_size=300), form=st.sampled_from(Format), packed=st.booleans())
def test_no_bytes_whatever_end_in_anything_but_rows_or_a_clear_error(
    reading: Reading, content: bytes, form: Format, packed: bool
) -> None:
    try:
        reading.rows(gzip.compress(content) if packed else content, "any", form=form)
    except BatchError as error:
        assert "any" in str(error)  # noqa: PT017


@PROPERTY
@given(
    pieces=st.lists(
        st.sampled_from(
            ['"', ",", ";", "\n", "\r", "f", "\u00e9", " ", "{", "}", "[", "]", ":", "1", "null", "\\"]
        )
    ),
    form=st.sampled_from(Format),
)
def test_no_text_whatever_ends_in_anything_but_rows_or_a_clear_error(
    reading: Reading, pieces: list[str], form: Format
) -> None:
    start = {
        Format.CSV: "fpga_image_id,image_id\n",
        Format.JSON: '[{"image_id": "x"}, ',
        Format.JSONL: '{"image_id": "x"}\n',
    }[form]
    try:
        rows = reading.rows(start + "".join(pieces), "any", form=form)
    except BatchError as error:
        assert "any" in str(error)  # noqa: PT017
    else:
        assert [row.number for row in rows] == list(range(1, len(rows) + 1))
        assert all(len(row.cells) == 2 for row in rows)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)


@PROPERTY
@given(
    table=st.lists(st.tuples(TEXTS, TEXTS, TEXTS).filter(any), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_whatever_a_csv_writer_writes_is_read_back(
    reading: Reading, table: list[tuple[str, str, str]], delimiter: str, end: str
) -> None:
    text = io.StringIO(newline="")
    # Left to itself the writer puts no quotes around a carriage return unless its lines end in one.
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["fpga_image_id", "image_id", "note"])
    writer.writerows(table)
    rows = reading.rows(text.getvalue())
    assert [tuple(row.values) for row in rows] == table
    assert [row.cells for row in rows] == [row[:2] for row in table]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(-(2.0**62), 2.0**62) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
KEYS = st.sampled_from(["note", "Size", "\u20ac", "a b"])


@PROPERTY
@given(
    items=st.lists(
        st.dictionaries(KEYS, JSON_VALUES).map(lambda extra: {"fpga_image_id": "f", **extra}),
        min_size=1,
        max_size=8,
    ),
    form=st.sampled_from([Format.JSON, Format.JSONL]),
    indent=st.sampled_from([None, 1]),
)
def test_whatever_json_objects_hold_is_read_back(
    reading: Reading, items: list[dict[str, Any]], form: Format, indent: int | None
) -> None:
    if form is Format.JSON:
        text = json.dumps(items, indent=indent)
    else:
        text = "\n".join(json.dumps(item, ensure_ascii=False) for item in items)
    read = reading.values(text, "any", form=form)
    for item, values in zip(items, read, strict=True):
        assert item == {key: value for key, value in values.items() if key in item}
        assert all(value is None for key, value in values.items() if key not in item)
