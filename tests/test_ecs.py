"""The service's error language: bodies of every known shape, and the classification table row by row."""

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from batch.model import Kind, Response, Verdict
from jobs.ecs import ACCEPTED, RELATION_OR_LIMIT, classify, request_id, shown_limit
from jobs.error_body import ServiceError, parse_error

TENANT = "tenant [T]"
RELATION = (
    f"{TENANT} relate fpga image [F] and image [I] failed: relation already exist or the related fpga image "
    "count of image reach the max limit"
)


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def ecs_body(code: str, message: str = "") -> bytes:
    return encoded({"error": {"code": code, "message": message}})


def gateway_body(code: str, message: str = "") -> bytes:
    return encoded({"error_msg": message, "error_code": code, "request_id": "914a"})


def answer(status: int, code: str = "", message: str = "") -> Verdict:
    body = gateway_body if code.startswith(("APIG", "Pdp")) else ecs_body
    return classify(Response(status, body=body(code, message)))


# Error bodies


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        pytest.param(
            {"error": {"code": "Ecs.0005", "message": "m"}}, ServiceError("Ecs.0005", "m"), id="ecs"
        ),
        pytest.param(
            {"error": {"message": "m", "code": "Ecs.0005", "details": [{"code": "Ecs.0039"}]}},
            ServiceError("Ecs.0005", "m"),
            id="ecs with details",
        ),
        pytest.param(
            {"error": {"code": "request body is illegal.", "message": "Ecs.0005"}},
            ServiceError("Ecs.0005", "request body is illegal."),
            id="code and message swapped",
        ),
        pytest.param(
            {"error": {"code": "Ecs.0005", "message": "Ecs.0039"}},
            ServiceError("Ecs.0005", "Ecs.0039"),
            id="two codes, not swapped",
        ),
        pytest.param({"message": "Ecs.0005"}, ServiceError("Ecs.0005"), id="a code in the message's place"),
        pytest.param(
            {"error_msg": "m", "error_code": "APIGW.0301", "request_id": "914a"},
            ServiceError("APIGW.0301", "m", "914a"),
            id="gateway",
        ),
        pytest.param(
            {"error_msg": "m", "error_code": "APIGW.0301"},
            ServiceError("APIGW.0301", "m"),
            id="gateway without request id",
        ),
        pytest.param(
            {"error": {"code": 401, "message": "m", "title": "Unauthorized"}},
            ServiceError("401", "m"),
            id="keystone",
        ),
        pytest.param({"errorCode": "IAM.1", "errorMsg": "m"}, ServiceError("IAM.1", "m"), id="camel case"),
        pytest.param({"code": "Ecs.0005", "message": "m"}, ServiceError("Ecs.0005", "m"), id="top level"),
        pytest.param(
            {"error_code": "Pdp.0001", "error_msg": "m", "encoded_authorization_message": "x"},
            ServiceError("Pdp.0001", "m"),
            id="authorization message",
        ),
        pytest.param(
            {"badRequest": {"code": 400, "message": "m"}}, ServiceError("400", "m"), id="openstack fault"
        ),
        pytest.param(
            {"a": {"b": {"c": {"error_code": "Ecs.0005", "error_msg": "m"}}}},
            ServiceError("Ecs.0005", "m"),
            id="nested",
        ),
        pytest.param(
            {"request_id": "914a", "error": {"code": "Ecs.0005", "message": "m"}},
            ServiceError("Ecs.0005", "m", "914a"),
            id="request id beside the error",
        ),
        pytest.param(
            {"internalError": [{"id": "1", "error_code": "Ecs.0031", "error_message": "m"}]},
            ServiceError("Ecs.0031", "m"),
            id="batch call",
        ),
        pytest.param(
            {"error": {"code": "Ecs.0005", "message": None}}, ServiceError("Ecs.0005"), id="null message"
        ),
        pytest.param({"error_msg": "m"}, ServiceError("", "m"), id="message alone"),
        pytest.param(
            {"message": "failed", "error": {"code": "Common.0024", "message": "m"}},
            ServiceError("Common.0024", "m"),
            id="a message alone around the error",
        ),
        pytest.param(
            {"internalError": [{"id": "1"}, {"id": "2", "error_code": "Ecs.0031", "error_message": "m"}]},
            ServiceError("Ecs.0031", "m"),
            id="batch call whose first entry tells of no error",
        ),
        pytest.param(
            {"internalError": [None], "error_code": "APIGW.0301", "error_msg": "m"},
            ServiceError("APIGW.0301", "m"),
            id="batch call's entries beside the error",
        ),
        pytest.param(
            {"error_code": "", "code": "Ecs.0023", "error_msg": "", "message": "m"},
            ServiceError("Ecs.0023", "m"),
            id="empty texts before the full ones",
        ),
        pytest.param("gone", ServiceError("", "gone"), id="a text alone"),
    ],
)
def test_an_error_body_of_each_known_shape_gives_its_code_message_and_request_id(
    document: Any, expected: ServiceError
) -> None:
    assert parse_error(encoded(document)) == expected


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        None,
        7,
        True,
        {"associations": []},
        {"associations": [{"image_id": "i", "fpgaimages": [{"id": "f", "message": "note", "status": "ok"}]}]},
        {"fpga_image": {"status": "saving", "id": "4010a32c5c62bad9015c62dc2290002b"}},
        {"internalError": []},
        {"error": {}},
        {"code": None, "message": None},
        {"code": {}, "message": []},
        {"code": True},
        {"code": "", "message": ""},
    ],
)
def test_a_json_body_without_code_or_message_tells_of_no_error(document: Any) -> None:
    assert parse_error(encoded(document)) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", ""),
        (b"<title>502 Bad\nGateway</title><h1>Oops</h1>", "502 Bad Gateway"),
        (b"<HTML><TITLE>Down</TITLE>nginx", "Down"),
        (b"   \n", ""),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (
            b"<html><style>p { x: y }</style><SCRIPT type=a>alert(1)</SCRIPT><p>Down</p>",
            "p { x: y } alert(1) Down",
        ),
        (b"<p\nclass='a'>one<br/>two\n\n three</p>", "one two three"),
        (b"upstream connect error", "upstream connect error"),
        (b"1 < 2", "1 < 2"),
        (b"<p>" + b" " * 4_093 + b"past the first 4 KiB", ""),
        (b"<p>" + b" " * 4_090 + b"cut here", "cut"),
        (b"\xff\xfe broken", "\ufffd\ufffd broken"),
    ],
)
def test_a_body_that_is_not_json_gives_its_title_else_its_text_without_tags(
    body: bytes, message: str
) -> None:
    assert parse_error(body) == ServiceError(message=message, is_json=False)


IS_CHINESE = '{"error":{"code":"Ecs.0031","message":"\u955c\u50cf doesn\'t exist"}}'.encode("gbk")
UNREADABLE = {
    "another encoding": IS_CHINESE,
    "a lone surrogate": b'{"error":{"code":"Ecs.0031","message":"doesn\'t exist \\ud800"}}',
    "infinity": b'{"error":{"code":"Ecs.0031","message":"doesn\'t exist","limit":1e400}}',
    "not a number": b' {"limit":NaN,"error":{"code":"Ecs.0031","message":"doesn\'t exist"}}',
    "a control character": b'{"error":{"code":"Ecs.0031","message":"doesn\'t exist\n"}}',
    "a number of 9,000 digits": b'{"code":"Ecs.0031","message":"doesn\'t exist","n":%b}' % (b"9" * 9_000),
    "cut short": b'{"error":{"code":"Ecs.0031","message":"doesn\'t exist' + b"A" * 65_000,
    "nested too deeply": b'{"code":"Ecs.0031","message":"doesn\'t exist","a":' + b'{"a":' * 12_000,
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_a_body_that_is_not_quite_json_still_tells_its_code_and_message(body: bytes) -> None:
    error = parse_error(body)
    assert error is not None
    assert (error.code, error.is_json) == ("Ecs.0031", True)
    assert "doesn't exist" in error.message
    assert error.message.isprintable()
    for status in (400, 404):
        verdict = classify(Response(status, body=body))
        assert (verdict.kind, verdict.reason) == (Kind.REFUSED, "not_found")


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, b"Ecs.0023", Kind.DENIED),
        (404, b"APIG.0101", Kind.NO_SERVICE),
        (200, b"APIG.0308", Kind.THROTTLED),
    ],
)
def test_a_code_that_concerns_the_whole_run_is_found_in_it_too(
    status: int, code: bytes, kind: Kind, body: bytes
) -> None:
    body = body.replace(b"Ecs.0031", code).replace(b"doesn't exist", b"m")
    assert classify(Response(status, body=body)).kind is kind


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"code":"Ecs.00',
        b"{",
        b'{"a": nothing}',
        b'{"code": }',
        b'{"error_msg":"The API does not exist',
        b'{"error_msg":"The API does not exist","error_code":"APIG.010',
        b'{"error":{"code":"Ecs.0031',
        b'{"error":{"code":"Ecs.0031","message":"fpga image [F] doesn\'t exist',
        b'{"error":{"message":"fpga image [F] doesn\'t exist"',
        b'{"error":{"code":"Ecs.0005","message":"' + b'\\"' * 400 + b" doesn't exist",
    ],
)
@pytest.mark.parametrize("status", [400, 404, 409])
def test_what_begins_like_an_object_is_no_proxys_page_but_an_answer_cut_off(body: bytes, status: int) -> None:
    error = parse_error(body)
    assert error is not None
    assert error.is_json
    assert not error.is_whole
    verdict = classify(Response(status, body=body))
    assert (verdict.kind, verdict.reason) == (Kind.TRANSIENT, "unreadable_answer")
    assert verdict.maybe_applied
    assert not verdict.foreign


def test_a_refusal_that_is_cut_off_behind_its_reason_is_final() -> None:
    body = b'{"error":{"code":"Ecs.0005","message":"tenant [T] is not the owner of fpga image [F]'
    verdict = classify(Response(400, body=body + b'", "det'))
    assert (verdict.kind, verdict.reason) == (Kind.REFUSED, "not_owner")


@pytest.mark.parametrize(
    "piece",
    [b'"code"', b'"code":', b'"code" ', b'"message":"', b'"message":"\\', b'"message" : ', b'{"message":'],
)
def test_no_body_takes_long_to_read(piece: bytes) -> None:
    body = b"{" + piece * (65_535 // len(piece))
    began = time.perf_counter()
    parse_error(body)
    parse_error(b"{" + piece + b" " * 65_000)
    assert time.perf_counter() - began < 1


@pytest.mark.timeout(5)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<" * 65_536, "<" * 500 + "... (4096 characters)"),
        (b"<script " * 8_192, ("<script " * 63)[:500] + "... (4095 characters)"),
        (b"<style>" * 9_362, "<"),
        (b"<title>" * 9_362, "<"),
    ],
)
def test_a_page_of_nothing_but_opened_tags_is_read(body: bytes, message: str) -> None:
    assert parse_error(body) == ServiceError(message=message, is_json=False)


def test_a_byte_order_mark_before_the_json_is_passed_over() -> None:
    assert parse_error(b"\xef\xbb\xbf" + ecs_body("Ecs.0023", "m")) == ServiceError("Ecs.0023", "m")


def test_markup_hides_a_code_that_only_a_page_mentions() -> None:
    verdict = classify(Response(502, body=b"<p>APIGW.0301 Ecs.0023</p>"))
    assert (verdict.kind, verdict.code) == (Kind.TRANSIENT, "")


@pytest.mark.parametrize("depth", [500, 5_000])
@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_a_deeply_nested_body_is_read_without_an_exception(
    depth: int, opening: bytes, closing: bytes
) -> None:
    verdict = classify(Response(500, body=opening * depth + b'{"code":"Ecs.0005"}' + closing * depth))
    assert verdict.kind is Kind.TRANSIENT


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\r\nrow", "\u202egnp", "\x00", "\u200b", "\x9b31m", "\u2028"]
)
def test_hostile_text_leaves_neither_code_nor_message_nor_request_id_raw(hostile: str) -> None:
    document = {"error_code": f"C{hostile}", "error_msg": f"M{hostile}", "request_id": f"R{hostile}"}
    error = parse_error(encoded(document))
    assert error is not None
    for text in (error.code, error.message, error.request_id):
        assert hostile not in text
        assert text.isprintable()


def test_long_texts_are_cut() -> None:
    document = {"error_code": "c" * 9_999, "error_msg": "m" * 9_999, "request_id": "r" * 9_999}
    error = parse_error(encoded(document))
    assert error is not None
    assert [len(text) < 600 for text in (error.code, error.message, error.request_id)] == [True] * 3
    assert len(error.code) < 120


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "error_code", "error_msg", "internalError", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(status=st.integers(200, 599), document=_JSON)
@example(status=400, document={"internalError": [None]})
@example(status=400, document={"error": {"code": 2**64 - 1}})
def test_any_json_body_gets_a_verdict(status: int, document: Any) -> None:
    verdict = classify(Response(status, body=encoded(document)))
    assert bool(verdict.reason) == (verdict.kind is not Kind.DONE)
    assert (verdict.message + verdict.code).isprintable()


@given(status=st.integers(200, 599), body=st.binary(max_size=200))
def test_any_bytes_get_a_verdict(status: int, body: bytes) -> None:
    response = Response(status, body=body)
    assert isinstance(classify(response), Verdict)
    assert isinstance(request_id(response), str)


# Classification


def test_204_is_done_without_doubt_whatever_its_body() -> None:
    assert classify(Response(204, body=ecs_body("Ecs.0005"))) == Verdict(Kind.DONE)


@pytest.mark.parametrize("status", [200, 201, 206])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"associations":[]}'])
def test_another_success_without_an_error_is_done_but_in_doubt(status: int, body: bytes) -> None:
    assert classify(Response(status, body=body)) == Verdict(Kind.DONE, maybe_applied=True)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"associations":[]}', b"<html></html>", ecs_body("Ecs.9999", "no")]
)
def test_202_is_tried_again_and_in_doubt(body: bytes) -> None:
    verdict = classify(Response(202, body=body))
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.TRANSIENT, ACCEPTED, True)
    assert verdict.max_attempts is None


def test_a_success_with_an_unknown_error_code_is_no_success() -> None:
    verdict = answer(200, "Ecs.9999", "no")
    assert (verdict.kind, verdict.reason, verdict.code, verdict.message) == (
        *(Kind.REFUSED, "rejected"),
        *("Ecs.9999", "no"),
    )
    assert verdict.maybe_applied


@pytest.mark.parametrize(
    ("status", "code", "maybe_applied"),
    [
        (202, "Common.0024", False),
        (200, "Common.0024", False),
        (400, "Common.0024", False),
        (503, "Common.0024", False),
        (202, "", True),
        (429, "", False),
        (429, "Whatever.0001", False),
        (429, "APIGW.0308", False),
        (429, "APIG.0308", False),
        (503, "APIG.0308", False),
        (403, "APIG.0308", False),
        (503, "Common.1503", False),
        (429, "Common.1503", False),
    ],
)
def test_too_many_requests_are_throttled_whatever_the_status(
    status: int, code: str, maybe_applied: bool
) -> None:
    verdict = answer(status, code, "Flow limit exceeded")
    assert (verdict.kind, verdict.reason) == (Kind.THROTTLED, "throttled")
    assert verdict.maybe_applied is maybe_applied


@pytest.mark.parametrize(
    ("status", "maybe_applied"), [(200, True), (202, True), (400, False), (500, True), (504, True)]
)
@pytest.mark.parametrize(
    "message",
    ["exceeds flow over limit", "Flow limit exceeded", "The throttling threshold has been reached"],
)
def test_too_many_requests_are_known_by_their_message_without_a_code(
    status: int, maybe_applied: bool, message: str
) -> None:
    verdict = classify(Response(status, body=encoded({"error": {"message": message}})))
    assert (verdict.kind, verdict.maybe_applied) == (Kind.THROTTLED, maybe_applied)


def test_429_with_a_page_or_without_a_body_is_throttled() -> None:
    assert classify(Response(429)).kind is Kind.THROTTLED
    assert classify(Response(429, body=b"<p>slow down</p>")).kind is Kind.THROTTLED


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (400, RELATION, RELATION_OR_LIMIT),
        (400, RELATION.upper(), RELATION_OR_LIMIT),
        (400, "Relation already exists", RELATION_OR_LIMIT),
        (400, "reach the max limit", RELATION_OR_LIMIT),
        (400, f"{TENANT} image [I] type [shared] is not private", "not_private"),
        (400, f"{TENANT} image [I] type [market] is not private", "not_private"),
        (400, f"{TENANT} is not the owner of fpga image [F]", "not_owner"),
        (400, f"{TENANT} fpga image [F] is protected", "protected"),
        (404, f"{TENANT} fpga image [F] doesn't exist", "not_found"),
        (400, f"{TENANT} fpga image [F] doesn't exist", "not_found"),
    ],
)
@pytest.mark.parametrize(
    "code", ["", "Ecs.0000", "Ecs.0005", "Ecs.0031", "Ecs.0032", "Ecs.1000", "Ecs.1002", "Ecs.9999"]
)
def test_a_business_rule_is_known_by_its_message_whatever_its_code(
    status: int, message: str, reason: str, code: str
) -> None:
    verdict = answer(status, code, message)
    assert (verdict.kind, verdict.reason) == (Kind.REFUSED, reason)
    assert not verdict.maybe_applied
    assert (verdict.code, verdict.message) == (code, message)


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        *((400, code, "rejected") for code in ("Ecs.0005", "Common.0002")),
        *((400, code, "rejected") for code in ("APIGW.0106", "APIGW.0602", "APIGW.0607", "APIG.0602")),
        (400, "Ecs.0031", "not_found"),
        (400, "Ecs.0032", "not_active"),
        *((status, "", "rejected") for status in (400, 405, 406, 409, 413, 414, 415, 494)),
        (400, "Ecs.9999", "rejected"),
        (404, "", "rejected"),
        (404, "Ecs.9999", "rejected"),
    ],
)
def test_a_permanent_refusal_concerns_the_row_alone_and_leaves_no_doubt(
    status: int, code: str, reason: str
) -> None:
    verdict = answer(status, code, "m")
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.REFUSED, reason, False)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "Ecs.0023", ""),
        (400, "Common.0018", ""),
        *((403, f"APIGW.{number}", "") for number in ("0302", "0306", "0310", "0402", "0801", "0802")),
        (403, "Pdp.0001", ""),
        *((403, code, "") for code in ("Ecs.0110", "Ecs.0003")),
        *((403, f"Ecs.{number:04}", "") for number in range(66, 72)),
        *((400, code, "") for code in ("APIG.0302", "Pdp.0001", "Ecs.0071")),
        (405, "APIGW.0501", ""),
        (405, "APIGW.0502", ""),
        (403, "", ""),
    ],
)
def test_refused_credentials_stop_the_run(status: int, code: str, message: str) -> None:
    verdict = answer(status, code, message)
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.DENIED, "denied", False)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "APIGW.0301", "token expires"),
        (401, "APIGW.0301", "decrypt token fail"),
        (401, "APIGW.0301", "x-auth-token not found"),
        (401, "APIGW.0301", "verify aksk signature fail"),
        (401, "APIGW.0301", "Get secretKey failed,ak:A,err:ak not exist"),
        (401, "APIGW.0301", "AK access failed to reach the limit,forbidden"),
        (401, "APIGW.0303", "signature expired, signature time:1,server time:2"),
        (401, "APIG.0301", ""),
        (401, "APIGW.0307", ""),
        (401, "Common.0013", ""),
        (400, "APIGW.0301", ""),
        (401, "", ""),
        (401, "APIGW.0302", ""),
        (401, "Unknown.0001", "doesn't exist"),
    ],
)
def test_credentials_that_are_not_accepted_may_be_renewed(status: int, code: str, message: str) -> None:
    verdict = answer(status, code, message)
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.UNAUTHENTICATED, "denied", False)


@pytest.mark.parametrize(("status", "kind"), [(401, Kind.UNAUTHENTICATED), (403, Kind.DENIED)])
@pytest.mark.parametrize("body", [b"", b"<p>no</p>", b"[]"])
def test_a_refusal_of_the_credentials_needs_no_readable_body(status: int, kind: Kind, body: bytes) -> None:
    assert classify(Response(status, body=body)).kind is kind


def test_the_codes_beside_the_account_codes_are_no_denial() -> None:
    assert [answer(400, code).kind for code in ("Ecs.0065", "Ecs.0072")] == [Kind.REFUSED] * 2


@pytest.mark.parametrize("code", ["APIGW.0101", "APIG.0101", "APIGW.0103", "APIG.0103"])
def test_an_api_that_is_not_there_stops_the_run(code: str) -> None:
    verdict = answer(404, code, "The API does not exist or has not been published")
    assert (verdict.kind, verdict.reason) == (Kind.NO_SERVICE, "no_such_api")


@pytest.mark.parametrize("body", [b"", b"<h1>404 Not Found</h1>nginx", b"doesn't exist"])
def test_a_404_that_is_no_json_stops_the_run(body: bytes) -> None:
    assert classify(Response(404, body=body)).kind is Kind.NO_SERVICE


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'"gone"'])
def test_a_404_in_json_that_tells_of_no_error_concerns_the_row_alone(body: bytes) -> None:
    verdict = classify(Response(404, body=body))
    assert (verdict.kind, verdict.reason) == (Kind.REFUSED, "rejected")


@pytest.mark.parametrize(
    "code", ["Ecs.0002", "Ecs.0004", "Ecs.0304", "Ecs.1000", "Ecs.1001", "Ecs.1002", "Ecs.1100"]
)
@pytest.mark.parametrize("message", ["A system exception occurred. Try again later", "Failed to query", ""])
def test_a_system_exception_behind_a_400_is_tried_again_and_in_doubt(code: str, message: str) -> None:
    verdict = answer(400, code, message)
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.TRANSIENT, "server_error", True)
    assert verdict.max_attempts is None


@pytest.mark.parametrize(
    "code",
    ["Common.0001", *(f"APIGW.{n}" for n in ("0202", "0203", "0601", "0610", "0613", "0705")), "APIG.0601"],
)
def test_the_code_of_a_failing_service_outranks_a_400(code: str) -> None:
    verdict = answer(400, code, "m")
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.TRANSIENT, "server_error", True)


@pytest.mark.parametrize(
    "message", ["A system exception occurred. Try again later", "Failed to query the image"]
)
@pytest.mark.parametrize("code", ["", "Ecs.9999"])
def test_a_system_exception_is_known_by_its_message_too(code: str, message: str) -> None:
    verdict = answer(400, code, message)
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.TRANSIENT, "server_error", True)


def test_the_ambiguous_request_error_is_tried_once_more() -> None:
    verdict = answer(400, "Ecs.0000", "Request error. Try again later")
    assert (verdict.kind, verdict.maybe_applied, verdict.max_attempts) == (Kind.TRANSIENT, True, 2)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, "") for status in (408, 500, 502, 503, 504, 505, 507, 520, 599)),
        (500, "Common.0001"),
        *(
            (500, f"APIGW.{number}")
            for number in ("0601", "0605", "0606", "0608", "0609", "0611", "0612", "0705")
        ),
        *((500, code) for code in ("APIG.0103", "APIGW.0103", "APIG.0104", "APIG.0105")),
        (500, "Ecs.0031"),
        (500, "Ecs.0032"),
        (502, "Ecs.0005"),
        *((502, f"APIGW.{number}") for number in ("0201", "0202", "0610")),
        (503, "APIGW.0613"),
        *((504, f"APIGW.{number}") for number in ("0201", "0203")),
        (500, "Unknown.0001"),
    ],
)
def test_a_failing_service_leaves_the_outcome_unknown(status: int, code: str) -> None:
    verdict = answer(status, code, "m")
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.TRANSIENT, "server_error", True)
    assert verdict.code == code


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<h1>Bad gateway</h1>", b"{}", b"[]", b'{"error":'])
def test_a_failing_service_without_a_readable_body_leaves_the_outcome_unknown(
    status: int, body: bytes
) -> None:
    verdict = classify(Response(status, body=body))
    assert (verdict.kind, verdict.maybe_applied) == (Kind.TRANSIENT, True)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "body",
    [
        b"<html>the backend does not exist</html>",
        b"reach the max limit",
        gateway_body("APIGW.0201", "backend doesn't exist"),
        gateway_body("x", "fpga image [F] is protected"),
        ecs_body("Ecs.0005", RELATION),
        ecs_body("Ecs.0031", "image [I] type [shared] is not private"),
    ],
)
def test_no_text_or_code_makes_a_failing_service_a_refusal(status: int, body: bytes) -> None:
    verdict = classify(Response(status, body=body))
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (Kind.TRANSIENT, "server_error", True)


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "reason"),
    [
        (500, "APIG.0303", "x", Kind.UNAUTHENTICATED, "denied"),
        (504, "", "upstream flow over limit, backend timeout", Kind.THROTTLED, "throttled"),
        (202, "z", "relation already exist", Kind.REFUSED, RELATION_OR_LIMIT),
        (202, "Ecs.0031", "image not there", Kind.REFUSED, "not_found"),
        (200, "Ecs.0023", "m", Kind.DENIED, "denied"),
        (200, "APIG.0101", "m", Kind.NO_SERVICE, "no_such_api"),
        (501, "", "m", Kind.REFUSED, "rejected"),
    ],
)
def test_a_success_or_a_failure_of_the_service_may_have_been_applied_whatever_it_says(
    status: int, code: str, message: str, kind: Kind, reason: str
) -> None:
    verdict = answer(status, code, message)
    assert (verdict.kind, verdict.reason, verdict.maybe_applied) == (kind, reason, True)
    assert verdict.maybe_later is (status == 202)


@pytest.mark.parametrize("status", [200, 202, 400, 429, 500, 503, 504])
@pytest.mark.parametrize("code", ["Common.0024", "Common.1503", "APIG.0308", "APIGW.0308"])
def test_a_documented_code_of_throttling_says_that_nothing_was_done(status: int, code: str) -> None:
    verdict = answer(status, code, "m")
    assert (verdict.kind, verdict.maybe_applied, verdict.maybe_later) == (Kind.THROTTLED, False, False)


@pytest.mark.parametrize("body", [b"", b"{}", ecs_body("Ecs.9999", "no")])
def test_only_a_202_may_come_true_later(body: bytes) -> None:
    later = {status for status in range(200, 600) if classify(Response(status, body=body)).maybe_later}
    assert later == {202}


# Waits that the service asks for


def throttled(message: str = "", **headers: str) -> Verdict:
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return classify(Response(429, named, gateway_body("APIG.0308", message)))


@pytest.mark.parametrize(
    ("message", "pause"),
    [
        (
            "The throttling threshold has been reached: policy ip over ratelimit,limit:5,time:1 minute",
            60.0,
        ),
        ("policy user over ratelimit,limit:200,time:1 second", 1.0),
        ("limit:5, time:2 hours", 7200.0),
        ("limit:5,time:1 day", 86400.0),
        ("Limit:5,Time:30 Seconds", 30.0),
        ("limit:XX,time:1 second", None),
        ("limit:5,time:1 fortnight", None),
        (f"limit:5,time:{'9' * 400} day", None),
        (f"limit:{'9' * 400},time:1 day", None),
        ("limit:5,time:-1 minute", None),
        ("Flow limit exceeded", None),
        ("", None),
    ],
)
def test_the_window_named_in_the_message_is_the_pause(message: str, pause: float | None) -> None:
    assert throttled(message).pause == pause


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("policy ip over ratelimit,limit:5,time:1 minute", (5, 60.0)),
        ("policy user over ratelimit,limit:200,time:10 second", (200, 10.0)),
        ("limit:0,time:1 minute", None),
        ("limit:5,time:0 minute", None),
        ("limit:XX,time:1 second", None),
        ("Flow limit exceeded", None),
    ],
)
def test_the_window_named_in_the_message_is_the_limit(
    message: str, limit: tuple[float, float] | None
) -> None:
    assert throttled(message).limit == limit


@pytest.mark.parametrize("status", [200, 204])
@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        ({"X-Apig-RateLimit-api": "remain:9,limit:10,time:10 second"}, (10, 10.0)),
        ({"X-Apig-Ratelimit-Api-Allenv": "remain:199,limit:200,time:1 second"}, (200, 1.0)),
        (
            {
                "X-APIG-Ratelimit-Api": "remain:92,limit:100,time:1 minute",
                "X-APIG-Ratelimit-Api-Allenv": "remain:9,limit:10,time:1 second",
            },
            (100, 60.0),
        ),
        ({"X-Apig-RateLimit-User": "remain:0,limit:0,time:1 second"}, None),
        ({"X-Apig-RateLimit-App": "remain:9"}, None),
        ({"X-Apig-RateLimit-Ip": ""}, None),
        ({}, None),
    ],
)
def test_the_narrowest_limit_that_the_gateways_headers_show_is_the_limit(
    status: int, headers: dict[str, str], limit: tuple[float, float] | None
) -> None:
    response = Response(status, CIMultiDict(headers))
    assert (classify(response).kind, shown_limit(response)) == (Kind.DONE, limit)


def test_retry_after_outranks_the_window() -> None:
    assert throttled("limit:5,time:1 minute", Retry_After="7").pause == 7.0


def test_retry_after_is_found_in_any_letter_case() -> None:
    assert throttled(retry_after="7").pause == 7.0


@pytest.mark.parametrize(
    "value", ["", "-5", "soon", "nan", "inf", "1e9", "1234567890", "9" * 5_000, "٣", "²", "0x10", "5, 6"]
)
def test_a_senseless_retry_after_is_not_heeded(value: str) -> None:
    assert throttled(Retry_After=value).pause is None


@pytest.mark.parametrize("value", ["soon", "0", "9" * 5_000])
def test_a_senseless_or_zero_retry_after_leaves_the_window(value: str) -> None:
    assert throttled("limit:5,time:1 minute", Retry_After=value).pause == 60.0


@pytest.mark.parametrize(
    ("value", "pause"), [("1", 1.0), (" 7 ", 7.0), ("1.5", 1.5), ("999999999", 999_999_999.0)]
)
def test_retry_after_in_seconds_is_the_pause(value: str, pause: float) -> None:
    assert throttled(Retry_After=value).pause == pause


def test_retry_after_as_a_date_counts_from_the_answers_own_date() -> None:
    until, now = "Wed, 21 Oct 2099 07:28:00 GMT", "Wed, 21 Oct 2099 07:27:00 GMT"
    assert throttled(Retry_After=until, Date=now).pause == 60.0


@pytest.mark.parametrize("now", ["", "yesterday", "Wed, 21 Oct 2099"])
def test_retry_after_as_a_date_says_nothing_without_the_answers_own_date(now: str) -> None:
    assert throttled(Retry_After="Wed, 21 Oct 2099 07:28:00 GMT", Date=now).pause is None


@pytest.mark.parametrize("status", [500, 503, 504])
def test_a_failing_service_may_ask_for_a_pause(status: int) -> None:
    assert classify(Response(status, {"Retry-After": "120"})).pause == 120.0


def test_a_refusal_asks_for_no_pause() -> None:
    assert classify(Response(400, {"Retry-After": "120"}, ecs_body("Ecs.0005"))).pause is None


# Request ids


@pytest.mark.parametrize(
    "name",
    ["X-Request-Id", "x-request-id", "X-REQUEST-ID", "X-IAM-Trace-Id", "x-openstack-request-id"],
)
def test_the_request_id_is_read_from_any_of_its_headers(name: str) -> None:
    assert request_id(Response(400, CIMultiDict({name: "914a"}))) == "914a"


def test_the_header_outranks_the_body() -> None:
    assert request_id(Response(400, {"X-Request-Id": "header"}, gateway_body("APIG.0101"))) == "header"


def test_an_empty_header_leaves_the_body() -> None:
    assert request_id(Response(400, {"X-Request-Id": ""}, gateway_body("APIG.0101"))) == "914a"


@pytest.mark.parametrize("body", [b"", b"{}", b"<p>x</p>", b"null", ecs_body("Ecs.0005", "m")])
def test_without_a_request_id_there_is_an_empty_text(body: bytes) -> None:
    assert request_id(Response(500, body=body)) == ""


def test_a_hostile_request_id_is_escaped_and_cut() -> None:
    shown = request_id(Response(400, {"X-Request-Id": "\x1b[2J" + "x" * 1_000}))
    assert shown.startswith(r"\x1b[2J")
    assert len(shown) < 130
