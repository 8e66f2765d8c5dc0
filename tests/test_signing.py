"""Signatures: as the vendor's own signer makes them, to the byte."""

import calendar
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given
from hypothesis import strategies as st

from jobs.auth.signing import DATE_FORM, Keys, canonical_query, signed

VECTORS = json.loads((Path(__file__).parent / "data" / "signing_vectors.json").read_text())["cases"]
NOW = 1_767_323_045.0
DATE = "20260102T030405Z"
PROJECT = "0123456789abcdef0123456789abcdef"


def epoch(date: str) -> float:
    return calendar.timegm(time.strptime(date, DATE_FORM))


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_a_request_is_signed_as_the_vendors_signer_signs_it(case: dict[str, Any]) -> None:
    request, expected = case["request"], case["expect"]
    headers = dict(request["headers"])
    now = epoch(headers.pop("X-Sdk-Date"))
    if request["project_id"]:
        headers["X-Project-Id"] = request["project_id"]
    if request["domain_id"]:
        headers["X-Domain-Id"] = request["domain_id"]
    sent = signed(
        request["method"],
        f"https://{request['host']}{expected['target']}",
        headers,
        request["body"].encode() or None,
        Keys(request["ak"], request["sk"], request["security_token"] or ""),
        now,
    )
    assert sent.pop("Authorization") == expected["authorization"]
    assert sent == expected["sent_headers"]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


@given(
    method=st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
    segments=st.lists(TEXT.filter(lambda text: text not in (".", "..")), max_size=4),
    query=st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=4),
    body=st.one_of(st.none(), st.binary(min_size=1, max_size=60)),
    secret=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60),
    security_token=st.one_of(st.just(""), st.just("gQpjbi1ub3J0aC0xTOKEN==")),
    port=st.sampled_from(["", ":8443"]),
)
def test_whatever_is_signed_is_signed_as_by_the_vendors_signer(
    method: str,
    segments: list[str],
    query: list[tuple[str, str]],
    body: bytes | None,
    secret: str,
    security_token: str,
    port: str,
) -> None:
    host = f"ecs.cn-north-1.myhuaweicloud.com{port}"
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query)
    headers = {"Content-Type": "application/json;charset=utf8", "X-Project-Id": PROJECT}
    keys = Keys("AKIDEXAMPLE0000000000", secret, security_token)
    sent = signed(method, f"https://{host}{path}?{text}", headers, body, keys, NOW)
    theirs = SdkRequest(
        method=method,
        schema="https",
        host=host,
        resource_path=path,
        query_params=query,
        header_params={
            **headers,
            "X-Sdk-Date": DATE,
            **({"X-Security-Token": security_token} if security_token else {}),
        },
        body=body or "",
    )
    Signer(_Credentials(keys)).sign(theirs)
    assert sent["Authorization"] == theirs.header_params["Authorization"]
    assert f"{path}?{canonical_query(text)}".removesuffix("?") == theirs.uri


class _Credentials:
    """What the vendor's signer wants to know."""

    def __init__(self, keys: Keys) -> None:
        self.ak = keys.access
        self.sk = keys.secret


def test_secret_and_security_token_are_not_shown() -> None:
    assert repr(Keys("ak", "hidden", "hidden")) == "Keys(access='ak')"


def test_the_signature_moves_with_the_clock() -> None:
    dates = [signed("GET", "https://a/", {}, None, Keys("a", "s"), NOW + each) for each in (0, 1)]
    assert dates[0]["X-Sdk-Date"] == DATE
    assert dates[0]["Authorization"] != dates[1]["Authorization"]
