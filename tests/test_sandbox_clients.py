"""The sandbox as foreign clients see it: the vendor's own over TLS, and whoever copies the printed line."""

import asyncio
import json
import re
import shlex
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import PATIENCE
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.client import Client, ClientBuilder
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkcore.sdk_response import SdkResponse
from support import PROJECT, fpga, image

from jobs.sandbox import Sandbox, issue_certificate, serve

Start = Callable[..., "subprocess.Popen[str]"]
FAMILY = f"/v1/{PROJECT}/cloudservers/fpga_image"
ASSOCIATION = f"{FAMILY}/{fpga(1)}/association"
BODY = {"image": {"id": image(1)}}


class Answer(SdkResponse):  # type: ignore[misc]
    """An answer of which the vendor's client keeps the text."""

    openapi_types: dict[str, str] = {}  # noqa: RUF012 - as the vendor's client wants it
    attribute_map: dict[str, str] = {}  # noqa: RUF012
    sensitive_list: list[str] = []  # noqa: RUF012


class Ecs(Client):  # type: ignore[misc]
    """The vendor's client taught to call the family, which it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.model_package = sys.modules[__name__]

    def call(self, method: str, path: str, body: Any = None, query: Any = ()) -> Answer:
        return self.do_http_request(
            method=method,
            resource_path=path,
            path_params={},
            query_params=list(query),
            header_params={"Content-Type": "application/json;charset=UTF-8"} if body else {},
            body=body,
            post_params={},
            cname=None,
            response_type="Answer",
            response_headers=[],
            collection_formats={},
            async_request=False,
        )


class Served(NamedTuple):
    url: str
    authority: Path


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """Serve a sandbox over TLS; its authority's certificate is in a file."""
    context, certificate = issue_certificate("127.0.0.1")
    authority = tmp_path / "ca.pem"
    authority.write_bytes(certificate)
    async with serve(Sandbox(), ssl_context=context) as url:
        yield Served(url, authority)


def trusting(served: Served) -> HttpConfig:
    config = HttpConfig.get_default_config()
    config.ssl_ca_cert = str(served.authority)
    return config


def client(served: Served, secret: str = "sandbox-secret-key") -> Ecs:
    credentials = BasicCredentials("SANDBOXACCESSKEY0000", secret, PROJECT)
    builder = ClientBuilder(Ecs).with_http_config(trusting(served)).with_credentials(credentials)
    return builder.with_endpoint(served.url).build()


async def test_the_vendors_client_associates_lists_and_disassociates_over_tls(served: Served) -> None:
    def story() -> tuple[Any, ...]:
        ecs = client(served)
        done = ecs.call("POST", ASSOCIATION, BODY)
        query = [("size", 100), ("page", 1), ("image_id", image(1))]
        listed = ecs.call("GET", f"{FAMILY}/associations", query=query)
        taken_back = ecs.call("DELETE", ASSOCIATION, BODY)
        empty = ecs.call("GET", f"{FAMILY}/associations", query=query)
        return done.status_code, listed, taken_back.status_code, empty

    done, listed, taken_back, empty = await asyncio.to_thread(story)
    assert (done, taken_back) == (204, 204)
    (group,) = json.loads(listed.raw_content)["associations"]
    assert (group["image_id"], [each["id"] for each in group["fpgaimages"]]) == (image(1), [fpga(1)])
    assert json.loads(empty.raw_content) == {"associations": []}


async def test_a_refusal_comes_out_of_the_vendors_client_with_status_code_message_and_request_id(
    served: Served,
) -> None:
    def story() -> ServiceResponseException:
        ecs = client(served)
        ecs.call("POST", ASSOCIATION, BODY)
        with pytest.raises(ServiceResponseException) as caught:
            ecs.call("POST", ASSOCIATION, BODY)
        return caught.value

    refusal = await asyncio.to_thread(story)
    assert (refusal.status_code, refusal.error_code) == (400, "Ecs.0005")
    assert "relation already exist" in refusal.error_msg
    assert re.fullmatch("[0-9a-f]{32}", refusal.request_id)


async def test_a_wrong_key_comes_out_of_the_vendors_client_in_the_gateways_words(served: Served) -> None:
    def story() -> ServiceResponseException:
        with pytest.raises(ServiceResponseException) as caught:
            client(served, "wrong").call("POST", ASSOCIATION, BODY)
        return caught.value

    refusal = await asyncio.to_thread(story)
    assert (refusal.status_code, refusal.error_code) == (401, "APIGW.0301")
    assert refusal.error_msg == "Incorrect IAM authentication information: verify aksk signature fail"
    assert re.fullmatch("[0-9a-f]{32}", refusal.request_id)


async def test_the_vendors_client_finds_its_project_by_the_regions_name(served: Served) -> None:
    keys = BasicCredentials("SANDBOXACCESSKEY0000", "sandbox-secret-key").with_iam_endpoint(served.url)

    def story() -> Answer:
        builder = ClientBuilder(Ecs).with_http_config(trusting(served)).with_credentials(keys)
        ecs = builder.with_region(Region("eu-de", served.url)).build()
        return ecs.call("GET", f"/v1/{keys.project_id}/cloudservers/fpga_image/detail")

    answer = await asyncio.to_thread(story)
    assert (answer.status_code, keys.project_id) == (200, "fedcba9876543210fedcba9876543210")


def fetch(url: str, authority: Path | None = None, **headers: str) -> int:
    context = ssl.create_default_context(cafile=authority) if url.startswith("https") else None
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, headers=sent)
    with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
        return int(answer.status)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_only_who_trusts_the_authority_gets_through_and_nothing_older_than_tls_1_2(
    served: Served, host: str
) -> None:
    url = served.url.replace("127.0.0.1", host) + "/_sandbox/stats"
    assert await asyncio.to_thread(fetch, url, served.authority) == 200
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        await asyncio.to_thread(fetch, url)
    context, _ = issue_certificate(host)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def settings_printed(process: "subprocess.Popen[str]") -> dict[str, str]:
    """Return the settings in the line that is there to be copied."""
    assert process.stderr
    word, *settings = shlex.split(process.stderr.readline())
    assert word == "export"
    return dict(each.split("=", 1) for each in settings)


@pytest.mark.parametrize("tls", [False, True])
def test_the_command_prints_what_a_run_needs(start: Start, tmp_path: Path, tls: bool) -> None:
    user = {"name": "it's me", "password": "$HOME `x`"}
    accounts = {"domain": {"name": "OTC 1"}, "users": [user], "projects": [{"id": PROJECT, "name": "eu-de"}]}
    (tmp_path / "catalogue.json").write_text(json.dumps({"accounts": accounts}))
    more = ("--tls", "ca.pem") if tls else ()
    process = start("sandbox", "--port", "0", "--catalogue", "catalogue.json", *more)
    assert process.stdout
    url = process.stdout.readline().strip()
    settings = settings_printed(process)
    assert process.stderr
    assert process.stderr.readline() == "# and OS_PASSWORD, which the catalogue has for it's me\n"
    assert settings == {
        "FPGA_BATCH_ENDPOINT": url,
        "OS_AUTH_URL": f"{url}/v3",
        "OS_USERNAME": "it's me",
        "OS_USER_DOMAIN_NAME": "OTC 1",
        "OS_PROJECT_NAME": "eu-de",
    } | ({"FPGA_BATCH_CA_FILE": str(tmp_path / "ca.pem")} if tls else {})
    assert re.fullmatch(rf"{'https' if tls else 'http'}://127\.0\.0\.1:\d+", url)
    assert fetch(f"{url}/_sandbox/stats", tmp_path / "ca.pem" if tls else None) == 200


def test_the_command_issues_tokens_that_end_as_told(start: Start) -> None:
    process = start("sandbox", "--port", "0", "--token-lifetime", "3600", "--token-uses", "1")
    assert process.stdout
    url = process.stdout.readline().strip()
    user = {"name": "rehearsal", "password": "rehearsal", "domain": {"name": "sandbox"}}
    identity = {"methods": ["password"], "password": {"user": user}}
    content = {"auth": {"identity": identity, "scope": {"project": {"id": PROJECT}}}}
    request = urllib.request.Request(f"{url}/v3/auth/tokens", json.dumps(content).encode())
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        token, told = answer.headers["X-Subject-Token"], json.load(answer)["token"]
    minutes = [int(told[each][14:16]) for each in ("issued_at", "expires_at")]
    assert minutes[0] == minutes[1]
    assert told["issued_at"] != told["expires_at"]
    assert fetch(f"{url}{FAMILY}/detail", X_Auth_Token=token) == 200
    with pytest.raises(urllib.error.HTTPError, match="401") as caught:
        fetch(f"{url}{FAMILY}/detail", X_Auth_Token=token)
    caught.value.close()


def test_why_there_is_no_tls_is_told(command: Callable[..., Any], tmp_path: Path) -> None:
    ended = command("sandbox", "--port", "0", "--tls", "missing/ca.pem")
    assert (ended.exit_code, ended.stdout) == (74, "")
    assert "missing/ca.pem: cannot be written: No such file" in ended.stderr
    ended = command("sandbox", "--port", "0", "--tls", "ca.pem", "--host", "a_b")
    assert (ended.exit_code, ended.stdout) == (78, "")
    assert "no certificate can name the host 'a_b'" in ended.stderr
    (tmp_path / "trustme.py").write_text("raise ModuleNotFoundError")
    ended = command("sandbox", "--port", "0", "--tls", "ca.pem", PYTHONPATH=str(tmp_path))
    assert (ended.exit_code, ended.stdout) == (78, "")
    assert "pip install 'fpga-batch[tls]'" in ended.stderr
    assert not (tmp_path / "ca.pem").exists()
