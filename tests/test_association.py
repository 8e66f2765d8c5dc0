"""The association jobs: rows parsed, and every branch of each conversation with canned answers."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ERROR, FAST, PROJECT, Script, fpga, image, run_virtually

from batch.engine.pool import Engine
from batch.engine.retry import RetryPolicy
from batch.job import RowError
from batch.model import UNREAD, Answer, Kind, Outcome, Request, Response, Result, Row, Status, Verdict
from jobs.association import JOBS, Associate, AssociationJob, Disassociate, Pair, Verify
from jobs.ecs import classify
from jobs.endpoints import Site

SITE = Site(PROJECT, region="cn-north-1")
ADDRESS = f"https://ecs.cn-north-1.myhuaweicloud.com/v1/{PROJECT}/cloudservers/fpga_image"
F, I = fpga(0xABC), image(0xDEF)  # noqa: E741 - as the service's documents write the two ids
PAIR = Pair(F, I, ADDRESS)
WRITE_URL = f"{ADDRESS}/{F}/association"
READ = Request("GET", f"{ADDRESS}/associations?fpga_image_id={F}&image_id={I}", None, ADDRESS)

RELATION = "relation already exist or the related fpga image count of image reach the max limit"


def answered(
    status: int, document: Any = None, *, in_doubt: bool = False, headers: Mapping[str, str] | None = None
) -> Answer:
    body = b"" if document is None else json.dumps(document).encode()
    response = Response(status, headers or {}, body)
    verdict = classify(response)
    return Answer(verdict, response, in_doubt, verdict.maybe_later)


def refused(status: int, code: str, message: str, *, in_doubt: bool = False) -> Answer:
    document = {"error": {"code": code, "message": message}, "request_id": "write-1"}
    return answered(status, document, in_doubt=in_doubt)


def lost(reason: str = "timeout") -> Answer:
    verdict = Verdict(Kind.TRANSIENT, reason, maybe_applied=True, message="no answer")
    return Answer(verdict, in_doubt=True, unanswered=True)


def unsent() -> Answer:
    return Answer(Verdict(Kind.TRANSIENT, "connection", message="refused"))


def listing(*fpga_images: str, of: str = I) -> Answer:
    entries = [{"image_id": of, "fpgaimages": [{"id": each, "status": "active"} for each in fpga_images]}]
    return answered(200, {"associations": entries}, headers={"X-Request-Id": "read-1"})


def nothing() -> Answer:
    return answered(200, {"associations": []}, headers={"X-Request-Id": "read-1"})


MERGED = refused(400, "Ecs.0005", RELATION)
MISSING = refused(404, "Ecs.0031", f"tenant [T] fpga image [{F}] doesn't exist")
BROKEN = refused(500, "Common.0001", "down", in_doubt=True)
ACCEPTED = answered(202, in_doubt=True)
DENIED = answered(401, {"error_code": "APIGW.0301", "error_msg": "token expires"})


def talk(job: AssociationJob, *answers: Answer) -> tuple[Result, list[Request]]:
    """Hold a conversation to its end; as many answers must be asked for as there are."""
    conversation = job.conversation(PAIR)
    requests = [next(conversation)]
    for answer in answers[:-1]:
        requests.append(conversation.send(answer))  # noqa: PERF401 - it must be sent before the next is asked
    with pytest.raises(StopIteration) as end:
        conversation.send(answers[-1])
    assert isinstance(end.value.value, Result)
    return end.value.value, requests


def result(job: AssociationJob, *answers: Answer) -> tuple[str, str]:
    said, requests = talk(job, *answers)
    assert requests[1:] in ([], [READ])
    return said.status.value, said.reason


# Requests


@pytest.mark.parametrize(("job", "method"), [(Associate(SITE), "POST"), (Disassociate(SITE), "DELETE")])
def test_a_write_names_the_fpga_image_in_its_path_and_the_ecs_image_in_its_body(
    job: AssociationJob, method: str
) -> None:
    _, (request,) = talk(job, answered(204))
    assert request == Request(method, WRITE_URL, b'{"image":{"id":"%s"}}' % I.encode(), ADDRESS)
    assert request.writes


def test_a_reading_names_both_ids_and_changes_nothing() -> None:
    _, (request,) = talk(Verify(SITE), listing(F))
    assert request == READ
    assert not request.writes


def test_the_jobs_are_known_by_their_names() -> None:
    assert {name: job.name for name, job in JOBS.items()} == {
        name: name for name in ("associate", "disassociate", "verify")
    }


# Associate


def test_associate_succeeds_with_204_and_asks_no_more() -> None:
    said, requests = talk(Associate(SITE), answered(204, headers={"X-Request-Id": "write-1"}))
    assert said == Result(Status.SUCCEEDED, "", 204, request_id="write-1")
    assert len(requests) == 1


def test_associate_succeeds_with_204_after_an_attempt_in_doubt() -> None:
    assert result(Associate(SITE), answered(204, in_doubt=True)) == ("succeeded", "")


def test_associate_finds_a_pair_that_was_associated_before_unchanged() -> None:
    said, requests = talk(Associate(SITE), MERGED, listing(F))
    assert said == Result(Status.UNCHANGED, "", 200, request_id="read-1")
    assert requests[1] == READ


def test_associate_finds_an_image_full_when_the_pair_is_not_there() -> None:
    said, _ = talk(Associate(SITE), MERGED, nothing())
    assert said == Result(Status.FAILED, "image_full", 400, "Ecs.0005", RELATION, "write-1")


@pytest.mark.parametrize(
    ("reading", "reason"),
    [(lost(), "timeout"), (unsent(), "connection"), (BROKEN, "server_error"), (DENIED, "denied")],
)
@pytest.mark.parametrize("written", [lost("connection"), BROKEN, ACCEPTED])
def test_associate_is_unconfirmed_when_the_read_back_fails(
    written: Answer, reading: Answer, reason: str
) -> None:
    assert result(Associate(SITE), written, reading) == ("unconfirmed", reason)


@pytest.mark.parametrize(
    "written",
    [
        lost(),
        lost("connection"),
        BROKEN,
        answered(200, {}, in_doubt=True),
        answered(201, in_doubt=True),
        ACCEPTED,
        refused(400, "Ecs.0005", RELATION, in_doubt=True),
        refused(400, "Ecs.9999", "no", in_doubt=True),
        refused(404, "Ecs.9999", "no", in_doubt=True),
        refused(400, "Ecs.0005", "image [I] type [shared] is not private", in_doubt=True),
    ],
)
def test_associate_succeeded_when_an_answer_in_doubt_turns_out_to_be_true(written: Answer) -> None:
    said, _ = talk(Associate(SITE), written, listing(F))
    assert said == Result(Status.SUCCEEDED, "read_back", 200, request_id="read-1")


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (BROKEN, "server_error"),
        (refused(501, "", "not implemented", in_doubt=True), "rejected"),
        (refused(400, "Ecs.0005", RELATION, in_doubt=True), "image_full"),
        (refused(400, "Ecs.9999", "no", in_doubt=True), "rejected"),
        (refused(400, "Ecs.0005", "type [shared] is not private", in_doubt=True), "not_private"),
    ],
)
def test_associate_failed_when_an_answer_in_doubt_turns_out_to_be_without_effect(
    written: Answer, reason: str
) -> None:
    assert result(Associate(SITE), written, nothing()) == ("failed", reason)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (refused(400, "Ecs.0005", "tenant [T] image [I] type [market] is not private"), "not_private"),
        (refused(400, "Ecs.0005", "tenant [T] is not the owner of fpga image [F]"), "not_owner"),
        (MISSING, "not_found"),
        (refused(400, "Ecs.0032", "not active"), "not_active"),
        (refused(415, "Ecs.9999", "no"), "rejected"),
        (DENIED, "denied"),
        (unsent(), "connection"),
    ],
)
def test_associate_reports_a_refusal_without_doubt_and_asks_no_more(written: Answer, reason: str) -> None:
    said, requests = talk(Associate(SITE), written)
    assert (said.status, said.reason) == (Status.FAILED, reason)
    assert (said.error_code, said.error_message) == (written.verdict.code, written.verdict.message)
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("reading", "http_status", "message"),
    [
        (lost(), None, "no answer"),
        (unsent(), None, "refused"),
        (BROKEN, 500, "down"),
        (DENIED, 401, "token expires"),
        (answered(200, {}), 400, RELATION),
    ],
)
def test_associate_leaves_a_pair_unread_that_is_there_or_finds_no_place(
    reading: Answer, http_status: int | None, message: str
) -> None:
    said, _ = talk(Associate(SITE), MERGED, reading)
    assert (said.status, said.reason) == (Status.UNCONFIRMED, UNREAD)
    assert (said.http_status, said.error_message) == (http_status, message)


GATEWAY_GAVE_UP = refused(504, "APIG.0203", "backend timeout", in_doubt=True)._replace(unanswered=True)
OPEN = {"timeout": lost(), "connection": lost("connection"), "server_error": GATEWAY_GAVE_UP}


@pytest.mark.parametrize("reason", OPEN)
def test_a_write_whose_end_nobody_has_seen_may_still_come(reason: str) -> None:
    assert result(Associate(SITE), OPEN[reason], nothing()) == ("unconfirmed", reason)
    assert result(Disassociate(SITE), OPEN[reason], listing(F)) == ("unconfirmed", reason)


def test_a_write_whose_end_nobody_has_seen_may_still_come_whatever_fails_afterwards() -> None:
    later = BROKEN._replace(unanswered=True)
    assert result(Associate(SITE), later, nothing()) == ("unconfirmed", "server_error")
    assert result(Disassociate(SITE), later, listing(F)) == ("unconfirmed", "server_error")


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [("type [shared] is not private", "not_private"), (RELATION, "image_full"), ("no", "rejected")],
)
def test_what_is_refused_now_would_have_been_refused_before(refusal: str, reason: str) -> None:
    last = refused(400, "Ecs.9999", refusal, in_doubt=True)._replace(unanswered=True)
    assert result(Associate(SITE), last, nothing()) == ("failed", reason)


@pytest.mark.parametrize("last", [BROKEN, MERGED, lost(), refused(400, "Ecs.9999", "no"), MISSING])
def test_a_write_that_was_taken_for_later_may_still_come_whatever_is_said_afterwards(last: Answer) -> None:
    later = last._replace(in_doubt=True, maybe_later=True)
    assert result(Associate(SITE), later, nothing()) == ("unconfirmed", "accepted")
    assert result(Associate(SITE), later, listing(F)) == ("succeeded", "read_back")
    assert result(Disassociate(SITE), later, listing(F)) == ("unconfirmed", "accepted")
    assert result(Disassociate(SITE), later, nothing()) == ("succeeded", "read_back")


def test_associate_is_unconfirmed_when_a_202_has_not_come_true_yet() -> None:
    said, _ = talk(Associate(SITE), ACCEPTED, nothing())
    assert said == Result(Status.UNCONFIRMED, "accepted", 202)


@pytest.mark.parametrize("written", [MERGED, lost(), BROKEN, ACCEPTED])
def test_associate_reports_an_fpga_image_that_reading_back_says_does_not_exist(written: Answer) -> None:
    said, _ = talk(Associate(SITE), written, MISSING)
    assert (said.status, said.reason, said.http_status) == (Status.FAILED, "not_found", 404)
    assert (said.error_code, said.error_message) == ("Ecs.0031", MISSING.verdict.message)


def test_associate_reports_no_status_where_no_response_came() -> None:
    said, _ = talk(Associate(SITE), lost(), nothing())
    assert said == Result(Status.UNCONFIRMED, "timeout", None, "", "no answer", "")


# Disassociate


@pytest.mark.parametrize("in_doubt", [False, True])
def test_disassociate_succeeds_with_204_and_asks_no_more(in_doubt: bool) -> None:
    assert result(Disassociate(SITE), answered(204, in_doubt=in_doubt)) == ("succeeded", "")


@pytest.mark.parametrize(
    "written", [refused(400, "Ecs.9999", "no such relation"), refused(404, "Ecs.9999", "none"), MISSING]
)
def test_disassociate_finds_a_pair_that_was_not_associated_unchanged(written: Answer) -> None:
    said, _ = talk(Disassociate(SITE), written, nothing())
    assert said == Result(Status.UNCHANGED, "", 200, request_id="read-1")


def test_disassociate_reports_the_services_words_when_the_pair_is_still_there() -> None:
    said, _ = talk(Disassociate(SITE), refused(400, "Ecs.9999", "no"), listing(F))
    assert said == Result(Status.FAILED, "rejected", 400, "Ecs.9999", "no", "write-1")


@pytest.mark.parametrize(
    "written",
    [
        MISSING,
        refused(400, "Ecs.9999", "no"),
        lost(),
        BROKEN,
        ACCEPTED,
        refused(404, "Ecs.0031", "fpga image doesn't exist", in_doubt=True),
    ],
)
def test_disassociate_reports_an_fpga_image_that_reading_back_says_does_not_exist(written: Answer) -> None:
    assert result(Disassociate(SITE), written, MISSING) == ("failed", "not_found")


@pytest.mark.parametrize("reading", [listing(F), lost(), BROKEN, answered(200, {})])
def test_disassociate_calls_an_answer_with_two_causes_a_rejection(reading: Answer) -> None:
    said, _ = talk(Disassociate(SITE), MERGED, reading)
    assert said == Result(Status.FAILED, "rejected", 400, "Ecs.0005", RELATION, "write-1")


def test_disassociate_reads_back_after_an_answer_with_two_causes() -> None:
    assert result(Disassociate(SITE), MERGED, nothing()) == ("unchanged", "")


@pytest.mark.parametrize("reading", [lost(), unsent(), BROKEN, DENIED, answered(200, {"associations": None})])
def test_disassociate_reports_its_refusal_when_reading_back_tells_nothing(reading: Answer) -> None:
    said, _ = talk(Disassociate(SITE), refused(400, "Ecs.9999", "no"), reading)
    assert said == Result(Status.FAILED, "rejected", 400, "Ecs.9999", "no", "write-1")


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (refused(400, "", "image [I] type [shared] is not private"), "not_private"),
        (refused(400, "", "is not the owner of fpga image [F]"), "not_owner"),
        (DENIED, "denied"),
        (unsent(), "connection"),
    ],
)
def test_disassociate_reports_a_clear_refusal_and_asks_no_more(written: Answer, reason: str) -> None:
    assert result(Disassociate(SITE), written) == ("failed", reason)


@pytest.mark.parametrize(
    ("written", "still_there"),
    [
        (lost(), ("unconfirmed", "timeout")),
        (BROKEN, ("failed", "server_error")),
        (ACCEPTED, ("unconfirmed", "accepted")),
    ],
)
def test_disassociate_in_doubt_reports_what_is_read_back(
    written: Answer, still_there: tuple[str, str]
) -> None:
    assert result(Disassociate(SITE), written, nothing()) == ("succeeded", "read_back")
    assert result(Disassociate(SITE), written, listing(F)) == still_there
    assert result(Disassociate(SITE), written, BROKEN) == ("unconfirmed", "server_error")
    assert result(Disassociate(SITE), written, answered(200, []))[0] == "unconfirmed"


# Verify


def test_verify_finds_a_pair_unchanged_and_reports_the_request() -> None:
    said, _ = talk(Verify(SITE), listing(F))
    assert said == Result(Status.UNCHANGED, "", 200, request_id="read-1")


@pytest.mark.parametrize(
    ("reading", "reason"),
    [
        (nothing(), "not_associated"),
        (listing(), "not_associated"),
        (MISSING, "not_found"),
        (refused(404, "Ecs.9999", "no"), "rejected"),
        (refused(400, "Ecs.9999", "no"), "rejected"),
        (lost(), "timeout"),
        (BROKEN, "server_error"),
        (DENIED, "denied"),
        (answered(200, []), "unreadable_answer"),
        (answered(204), "unreadable_answer"),
    ],
)
def test_verify_fails_with_the_cause_where_the_pair_is_not_seen(reading: Answer, reason: str) -> None:
    assert result(Verify(SITE), reading) == ("failed", reason)


# Listings


@pytest.mark.parametrize(
    "reading",
    [
        listing(F),
        listing(fpga(1), F, fpga(2)),
        listing(F.upper(), of=I.upper()),
        answered(
            200,
            {
                "associations": [
                    {"image_id": image(1), "fpgaimages": [{"id": fpga(1)}]},
                    {"image_id": I, "fpgaimages": [{"id": F, "message": None, "status": "saving"}]},
                ]
            },
        ),
    ],
)
def test_a_pair_is_seen_anywhere_in_a_listing(reading: Answer) -> None:
    assert result(Verify(SITE), reading) == ("unchanged", "")


@pytest.mark.parametrize(
    "reading",
    [
        listing(fpga(1)),
        listing(F, of=image(1)),
        listing(F[:-1]),
        listing(f"{F}0"),
        answered(
            200,
            {
                "associations": [
                    {"image_id": I, "fpgaimages": [{"id": fpga(1)}]},
                    {"image_id": image(1), "fpgaimages": [{"id": F}]},
                ]
            },
        ),
    ],
)
def test_only_the_exact_pair_counts(reading: Answer) -> None:
    assert result(Verify(SITE), reading) == ("failed", "not_associated")
    assert result(Associate(SITE), MERGED, reading) == ("failed", "image_full")


MALFORMED: list[Any] = [
    None,
    [],
    {},
    7,
    "text",
    {"associations": None},
    {"associations": 7},
    {"associations": {}},
    {"associations": ""},
    {"associations": [None]},
    {"associations": ["text"]},
    {"associations": [[]]},
    {"associations": [{}]},
    {"associations": [{"image_id": None, "fpgaimages": []}]},
    {"associations": [{"image_id": 7, "fpgaimages": []}]},
    {"associations": [{"image_id": I}]},
    {"associations": [{"image_id": I, "fpgaimages": None}]},
    {"associations": [{"image_id": I, "fpgaimages": {}}]},
    {"associations": [{"image_id": I, "fpgaimages": ""}]},
    {"associations": [{"image_id": I, "fpgaimages": [None]}]},
    {"associations": [{"image_id": I, "fpgaimages": [{}]}]},
    {"associations": [{"image_id": I, "fpgaimages": [{"id": None}]}]},
    {"associations": [{"image_id": I, "fpgaimages": ["text"]}]},
]


@pytest.mark.parametrize("document", MALFORMED)
def test_a_malformed_listing_says_nothing_either_way(document: Any) -> None:
    reading = answered(200, document)
    assert result(Associate(SITE), MERGED, reading) == ("unconfirmed", "unread")
    for written in (lost(), ACCEPTED):
        assert result(Associate(SITE), written, reading) == ("unconfirmed", "unreadable_answer")
    for written in (lost(), ACCEPTED):
        assert result(Disassociate(SITE), written, reading) == ("unconfirmed", "unreadable_answer")
    assert result(Verify(SITE), reading) == ("failed", "unreadable_answer")


def test_an_unreadable_listing_leaves_the_writes_own_words_in_the_report() -> None:
    said, _ = talk(Associate(SITE), MERGED._replace(in_doubt=True), answered(200, {}))
    assert said == Result(Status.UNCONFIRMED, "unreadable_answer", 400, "Ecs.0005", RELATION, "write-1")


@pytest.mark.parametrize("body", [b"<p>ok</p>", b'{"associations":[', b"\xff", b"[" * 60_000])
def test_a_listing_that_is_no_json_says_nothing_either_way(body: bytes) -> None:
    response = Response(200, body=body)
    assert result(Associate(SITE), lost(), Answer(classify(response), response))[0] == "unconfirmed"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([F, I, "", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["associations", "image_id", "fpgaimages", "id", "x"]), inner)
    ),
    max_leaves=20,
)


@given(_JSON, st.sampled_from([MERGED, lost(), BROKEN]))
def test_no_listing_ends_a_conversation_with_an_exception(document: Any, written: Answer) -> None:
    reading = answered(200, document)
    status, _ = result(Associate(SITE), written, reading)
    seen, _ = result(Verify(SITE), reading)
    assert (status in ("succeeded", "unchanged")) == (seen == "unchanged")


# Rows


def parsed(fpga_image_id: str = F, image_id: str = I, project_id: str = "", region: str = "") -> Pair:
    return Associate(SITE).parse((fpga_image_id, image_id, project_id, region))


def test_a_row_of_two_ids_is_a_pair_in_the_runs_own_project() -> None:
    assert parsed() == PAIR


@pytest.mark.parametrize("pad", ["", " ", "\t", "\u00a0", "\r\n"])
def test_ids_are_trimmed_and_lower_cased(pad: str) -> None:
    assert parsed(f"{pad}{F.upper()}{pad}", f"{pad}{I.upper()}{pad}") == PAIR


@pytest.mark.parametrize(
    "wrong",
    [
        F[:-1],
        f"{F}0",
        f"{F[:-1]}g",
        f"{F[:16]} {F[17:]}",
        f"{F[:-1]}/",
        f"{F[:-3]}%2f",
        f"../{F[3:]}",
        f"{F[:-1]}?",
        f"{F[:-1]}#",
        "٣" * 32,
        "\uff10" * 32,
        f"{F[:-1]}\u0430",
        f"{F[:-1]}\x00",
        f"{F}\n{F}",
        I,
        f"0x{F[2:]}",
        "x" * 100_000,
    ],
)
def test_a_malformed_fpga_image_id_is_a_fault_of_its_column(wrong: str) -> None:
    with pytest.raises(RowError, match="32 hexadecimal digits") as caught:
        parsed(fpga_image_id=wrong)
    assert caught.value.column == "fpga_image_id"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "wrong",
    [
        I[:-1],
        f"{I}0",
        I.replace("-", "\u2013"),
        f"{I[:-1]}g",
        f"{I[:-1]}٣",
        I.replace("0", "\uff10"),
        f"{I[:-1]}/",
        f'{I[:-1]}"',
        F[:-1],
        f"{{{I[1:]}}}",
        f"urn:uuid:{I}0",
        "\u202e" + I,
        "x" * 100_000,
    ],
)
def test_a_malformed_image_id_is_a_fault_of_its_column(wrong: str) -> None:
    with pytest.raises(RowError, match="UUID") as caught:
        parsed(image_id=wrong)
    assert caught.value.column == "image_id"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'", ""),
        ("'", "'"),
        ('"', '"'),
        ('="', '"'),
        ("\u200b", "\ufeff"),
        ("\u00a0 ", "\u202f"),
        ("{", "}"),
        ("'{", "}"),
    ],
)
def test_ids_are_taken_out_of_what_other_programs_put_around_them(before: str, after: str) -> None:
    assert parsed(f"{before}{F.upper()}{after}", f"{before}{I.upper()}{after}") == PAIR


@pytest.mark.parametrize(
    "written", [I.replace("-", ""), f"{{{I.replace('-', '')}}}", f"urn:uuid:{I}", f"URN:UUID:{I.upper()}"]
)
def test_an_image_id_is_a_uuid_however_it_is_written(written: str) -> None:
    assert parsed(image_id=written) == PAIR


@pytest.mark.parametrize("number", ["4.01E+31", "1e5", "4,01E+31", "-1.5E-7", "'1.23457E+31", " 4.01E+31 "])
def test_an_id_that_has_become_a_number_is_blamed_on_a_spreadsheet_and_shown_as_it_is(number: str) -> None:
    for column in ("fpga_image_id", "image_id"):
        with pytest.raises(RowError, match="a spreadsheet has most likely changed the id") as caught:
            parsed(**{column: number})
        assert caught.value.column == column
        assert str(caught.value).startswith(f"'{number}' is a number")


@pytest.mark.parametrize(
    "nothing",
    ["NULL", "Null", "None", "NaN", "nan", "N/A", "#N/A", "NA", "\\N", "<NA>", "nil", " NULL ", "'NULL"],
)
def test_what_other_programs_write_for_nothing_is_nothing_in_a_column_that_may_be_empty(nothing: str) -> None:
    assert parsed(project_id=nothing, region=nothing) == PAIR
    with pytest.raises(RowError, match="is not 32"):
        parsed(fpga_image_id=nothing)


@pytest.mark.parametrize("empty", ["", " ", "\t\n", "''", '=""', "\u200b"])
def test_an_empty_id_is_missing(empty: str) -> None:
    with pytest.raises(RowError, match="is missing"):
        parsed(fpga_image_id=empty)
    with pytest.raises(RowError, match=r"^is missing"):
        parsed(image_id=empty)


@pytest.mark.parametrize(
    ("project", "region", "address"),
    [
        ("other", "", ADDRESS.replace(PROJECT, "other")),
        ("", "cn-east-2", ADDRESS.replace("cn-north-1", "cn-east-2").replace(PROJECT, "{cn-east-2}")),
        (" other ", " cn-east-2 ", ADDRESS.replace(PROJECT, "other").replace("cn-north-1", "cn-east-2")),
        (" ", "\t", ADDRESS),
        (PROJECT, "cn-north-1", ADDRESS),
        (PROJECT.upper(), "", ADDRESS),
        ("", "CN-North-1", ADDRESS),
    ],
)
def test_a_row_may_name_its_own_project_and_region(project: str, region: str, address: str) -> None:
    assert parsed(project_id=project, region=region).address == address


@pytest.mark.parametrize("run_region", [None, "cn-north-1"])
def test_a_row_of_another_region_than_a_given_endpoints_is_a_fault_of_its_column(
    run_region: str | None,
) -> None:
    job = Associate(Site(PROJECT, endpoint="https://ecs.example.com", region=run_region))
    with pytest.raises(RowError, match="'cn-east-2' cannot be reached") as caught:
        job.parse((F, I, "", "cn-east-2"))
    assert caught.value.column == "region"


def test_a_row_may_name_the_region_that_is_said_to_be_a_given_endpoints() -> None:
    job = Associate(Site(PROJECT, endpoint="https://ecs.example.com", region="cn-north-1"))
    assert job.parse((F, I, "", "CN-North-1")) == job.parse((F, I, "", ""))


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"])
def test_a_row_of_any_region_is_taken_in_a_rehearsal_on_this_machine(endpoint: str) -> None:
    job = Associate(Site(PROJECT, endpoint=endpoint, region="cn-north-1"))
    assert job.parse((F, I, PROJECT, "cn-east-2")).address.startswith(f"{endpoint}/v1/{PROJECT}/")
    assert job.parse((F, I, "", "cn-east-2")).address.startswith(f"{endpoint}/v1/{{cn-east-2}}/")


def test_a_rows_own_project_is_where_its_requests_go_and_what_its_rate_is_counted_by() -> None:
    pair = parsed(project_id="other")
    request = next(Associate(SITE).conversation(pair))
    assert request.url == WRITE_URL.replace(PROJECT, "other")
    assert request.scope == ADDRESS.replace(PROJECT, "other")


@pytest.mark.parametrize("wrong", ["a/b", "..", "a b", "a?b", "%2e", "é", "x" * 65, "\x1b", "a#b"])
def test_a_project_id_that_would_bend_the_path_is_a_fault_of_its_column(wrong: str) -> None:
    with pytest.raises(RowError) as caught:
        parsed(project_id=wrong)
    assert caught.value.column == "project_id"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("wrong", ["evil.com/", "a.b", "-a", "a b", "a@b", "a:1", "é", "x" * 64, "\u202e"])
def test_a_region_that_would_bend_the_host_is_a_fault_of_its_column(wrong: str) -> None:
    with pytest.raises(RowError) as caught:
        parsed(region=wrong)
    assert caught.value.column == "region"
    assert str(caught.value).isprintable()


@given(st.text(), st.text(), st.text(), st.text())
def test_whatever_a_rows_cells_hold_it_is_a_pair_or_a_row_error(
    fpga_image_id: str, image_id: str, project_id: str, region: str
) -> None:
    with pytest.raises(RowError):
        parsed(fpga_image_id, image_id, project_id, region)
    try:
        pair = parsed(project_id=project_id, region=region)
    except RowError as error:
        assert error.column in ("project_id", "region")  # noqa: PT017 - either end is good
    else:
        assert pair.address.isascii()


# Keys


@given(st.integers(0, 2**128 - 1), st.integers(0, 2**48 - 1))
def test_the_key_of_a_pair_in_the_runs_own_project_is_its_two_ids_in_32_bytes(
    first: int, second: int
) -> None:
    job = Associate(SITE)
    key = job.key(parsed(fpga(first), image(second)))
    assert (len(key), key[:16], key[-6:]) == (32, first.to_bytes(16), second.to_bytes(6))


def test_rows_that_mean_the_same_pair_have_one_key() -> None:
    job = Associate(SITE)
    rows = [
        parsed(),
        parsed(F.upper(), f" {I.upper()} "),
        parsed(project_id=PROJECT, region="cn-north-1"),
        parsed(project_id=f" {PROJECT.upper()}"),
        parsed(region="CN-NORTH-1 "),
    ]
    assert len({job.key(row) for row in rows}) == 1


def test_pairs_that_differ_in_anything_have_different_keys() -> None:
    job = Associate(SITE)
    rows = [
        parsed(),
        parsed(fpga_image_id=fpga(1)),
        parsed(image_id=image(1)),
        parsed(project_id="other"),
        parsed(region="cn-east-2"),
        parsed(project_id="other", region="cn-east-2"),
    ]
    assert len({job.key(row) for row in rows}) == len(rows)


# With the engine


def run_one(*ends: Response, in_doubt: bool = False, attempts: int = 3) -> tuple[str, str]:
    """Take one row to its outcome; return status and reason."""
    outcomes: list[Outcome] = []
    engine = Engine(
        Associate(SITE),
        Script(*ends),
        rate=FAST,
        concurrency=1,
        policy=RetryPolicy(max_attempts=attempts),
        in_doubt=[1] if in_doubt else [],
        record=lambda _row, outcome: outcomes.append(outcome),
        draw=lambda: 0.0,
    )
    run_virtually(engine.run(iter([Row(1, 2, (F, I, "", ""), ())])))
    (outcome,) = outcomes
    return outcome.result.status, outcome.result.reason


NONE_THERE = Response(200, body=b'{"associations": []}')
NOT_PRIVATE = Response(400, body=b'{"error": {"code": "Ecs.0005", "message": "is not private"}}')


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_what_a_gateway_has_given_up_on_stays_open_though_the_service_fails_afterwards(status: int) -> None:
    assert run_one(Response(status), ERROR, ERROR, NONE_THERE) == ("unconfirmed", "server_error")


def test_what_the_service_itself_has_ended_with_an_error_and_is_not_there_has_failed() -> None:
    assert run_one(ERROR, ERROR, ERROR, NONE_THERE) == ("failed", "server_error")


def test_what_a_gateway_has_given_up_on_and_the_service_refuses_then_has_failed() -> None:
    assert run_one(Response(504), NOT_PRIVATE, NONE_THERE) == ("failed", "not_private")


def test_what_an_earlier_run_has_left_in_doubt_stays_open_until_it_is_seen_or_refused() -> None:
    assert run_one(ERROR, NONE_THERE, in_doubt=True, attempts=1) == ("unconfirmed", "server_error")
    assert run_one(NOT_PRIVATE, NONE_THERE, in_doubt=True) == ("failed", "not_private")
