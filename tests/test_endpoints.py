"""Where the service is: what is built from a region, and which settings are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import PROJECT

from batch.errors import ConfigurationError
from jobs.endpoints import (
    Site,
    checked_endpoint,
    iam_endpoint,
    is_project_id,
    is_region,
    place_of_iam,
    project_of,
    site,
)

ENDPOINT = "https://ecs.example.com"


def made(
    *,
    endpoint: str | None = None,
    region: str | None = "cn-north-1",
    cloud_domain: str | None = None,
    project_id: str | None = PROJECT,
) -> Site:
    return site(endpoint=endpoint, region=region, cloud_domain=cloud_domain, project_id=project_id)


@pytest.mark.parametrize(
    ("region", "domain", "host"),
    [
        ("cn-north-1", None, "ecs.cn-north-1.myhuaweicloud.com"),
        ("cn-east-2", "", "ecs.cn-east-2.myhuaweicloud.com"),
        ("eu-de", "otc.t-systems.com", "ecs.eu-de.otc.t-systems.com"),
        ("eu-de", ".OTC.T-Systems.com.", "ecs.eu-de.otc.t-systems.com"),
    ],
)
def test_region_and_cloud_make_the_address(region: str, domain: str | None, host: str) -> None:
    address = made(region=region, cloud_domain=domain).address()
    assert address == f"https://{host}/v1/{PROJECT}/cloudservers/fpga_image"


def test_a_given_endpoint_outranks_the_region() -> None:
    address = made(endpoint="https://ecs.example.com:8443/base/").address()
    assert address == f"https://ecs.example.com:8443/base/v1/{PROJECT}/cloudservers/fpga_image"


def test_an_endpoint_needs_no_region() -> None:
    assert made(endpoint=ENDPOINT, region=None).address().startswith(f"{ENDPOINT}/v1/{PROJECT}/")


def test_a_row_may_name_another_project_or_region() -> None:
    where = made()
    assert where.address("other") == (
        "https://ecs.cn-north-1.myhuaweicloud.com/v1/other/cloudservers/fpga_image"
    )


def test_a_row_of_another_region_is_in_the_project_that_has_the_regions_name() -> None:
    address = made().address("", "cn-east-2")
    assert address == "https://ecs.cn-east-2.myhuaweicloud.com/v1/{cn-east-2}/cloudservers/fpga_image"
    assert project_of(address) == ("", "cn-east-2")
    assert (
        made()
        .address("other", "cn-east-2")
        .endswith("cn-east-2.myhuaweicloud.com/v1/other/cloudservers/fpga_image")
    )


def test_without_a_project_the_regions_own_is_meant() -> None:
    assert project_of(made(project_id=None).address()) == ("", "cn-north-1")


def test_a_project_may_be_given_by_its_name() -> None:
    where = site(
        endpoint=ENDPOINT, region=None, cloud_domain=None, project_id=None, project_name="eu-de_mine"
    )
    assert project_of(where.address()) == ("", "eu-de_mine")
    assert project_of(where.address("abc")) == ("abc", "")


@pytest.mark.parametrize("name", ["a/b", "{a}", "a?b", " a", "a\n", "x" * 65])
def test_a_project_name_that_would_bend_the_path_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no name of a project"):
        site(endpoint=ENDPOINT, region=None, cloud_domain=None, project_id=None, project_name=name)


@pytest.mark.parametrize(
    ("region", "domain", "said"),
    [
        ("cn-north-1", None, ""),
        ("cn-south-1", "myhuaweicloud.com", ""),
        ("eu-de", "otc.t-systems.com", ""),
        ("eu-west-0", "prod-cloud-ocb.orange-business.com", ""),
        ("cn-north-4", None, "region cn-north-4 of myhuaweicloud.com is not known to have"),
        ("ae-ad-1", "g42cloud.com", "region ae-ad-1 of g42cloud.com is not known to have"),
    ],
)
def test_a_region_that_is_not_known_to_have_the_api_earns_a_warning(
    region: str, domain: str | None, said: str
) -> None:
    warning = made(region=region, cloud_domain=domain).warning
    assert warning.startswith(said)
    assert bool(warning) == bool(said)


def test_a_given_endpoint_earns_no_warning() -> None:
    assert made(endpoint=ENDPOINT, region="cn-north-4").warning == ""


@pytest.mark.parametrize(
    ("endpoint", "region", "domain", "iam"),
    [
        (None, "cn-north-1", None, "https://iam.cn-north-1.myhuaweicloud.com"),
        (None, "eu-de", "otc.t-systems.com", "https://iam.eu-de.otc.t-systems.com"),
        ("https://ecs.eu-nl.otc.t-systems.com", None, None, "https://iam.eu-nl.otc.t-systems.com"),
        ("http://127.0.0.1:8088", "cn-north-1", None, "http://127.0.0.1:8088"),
        ("https://ecs.example.com", "cn-north-1", None, ""),
        ("https://gateway.internal", "eu-de", "otc.t-systems.com", ""),
    ],
)
def test_no_secret_goes_to_an_identity_service_that_the_place_does_not_name(
    endpoint: str | None, region: str | None, domain: str | None, iam: str
) -> None:
    assert iam_endpoint(made(endpoint=endpoint, region=region, cloud_domain=domain)) == iam


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://iam.eu-de.otc.t-systems.com/v3", ("eu-de", "otc.t-systems.com")),
        ("https://iam-pub.eu-ch2.sc.otc.t-systems.com", ("eu-ch2", "sc.otc.t-systems.com")),
        ("https://iam.myhuaweicloud.com/v3", ("", "myhuaweicloud.com")),
        ("http://127.0.0.1:5000/v3", ("", "")),
    ],
)
def test_an_identity_services_address_may_tell_region_and_cloud(url: str, place: tuple[str, str]) -> None:
    assert place_of_iam(url) == place


def test_naming_the_runs_own_project_and_region_changes_nothing() -> None:
    assert made().address(PROJECT, "cn-north-1") == made().address()


@pytest.mark.parametrize("empty", [None, ""])
def test_neither_region_nor_endpoint_is_an_error_that_names_both(empty: str | None) -> None:
    with pytest.raises(ConfigurationError, match=r"--region.*--endpoint") as caught:
        made(endpoint=empty, region=empty)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("project", [None, ""])
def test_a_missing_project_is_an_error_that_names_the_option(project: str | None) -> None:
    with pytest.raises(ConfigurationError, match="--project-id"):
        made(endpoint=ENDPOINT, region=None, project_id=project)


@pytest.mark.parametrize(
    "project", ["a/b", "..", "a b", " ", "a?b", "a%2f", "é", "٣", "a\n", "x" * 65, "a\x00", "#"]
)
def test_a_project_id_that_would_bend_the_path_is_refused(project: str) -> None:
    assert not is_project_id(project)
    with pytest.raises(ConfigurationError, match="--project-id"):
        made(project_id=project)


@pytest.mark.parametrize("project", [PROJECT, PROJECT.upper(), "a", "x" * 64, "eu-de_project"])
def test_a_project_id_of_letters_digits_hyphens_and_underscores_is_taken(project: str) -> None:
    assert is_project_id(project)


@pytest.mark.parametrize(
    "region",
    ["a.b", "evil.com/", "-a", "a-", "", "a b", "é", "٣", "a\n", "x" * 64, "a@b", "a:1", "a_b", "a/.."],
)
def test_a_region_that_is_no_host_name_label_is_refused(region: str) -> None:
    assert not is_region(region)
    if region:
        with pytest.raises(ConfigurationError, match="--region"):
            made(region=region)


@pytest.mark.parametrize(
    "region",
    [
        *("cn-north-1", "cn-north-219", "cn-southwest-2", "ap-southeast-1", "eu-de", "eu-nl", "eu-ch2"),
        *("eu-west-0", "eu-west-101", "la-north-2", "na-mexico-1", "my-kualalumpur-1", "ru-northwest-2"),
    ],
)
def test_what_is_written_as_a_region_is_one(region: str) -> None:
    assert is_region(region)


@pytest.mark.parametrize(
    "name", ["obs", "iam", "ecs", "7", "console-intl", "x" * 63, "eu-" + "x" * 60, "eu-de-"]
)
def test_what_may_be_another_services_name_makes_no_host(name: str) -> None:
    assert not is_region(name)
    with pytest.raises(ConfigurationError, match="--region"):
        made(region=name)


def test_a_private_clouds_own_region_needs_an_endpoint() -> None:
    assert made(region="RegionOne", endpoint="https://ecs.example.com").region == "regionone"
    with pytest.raises(ConfigurationError, match="--region"):
        made(region="RegionOne")


@given(st.text())
def test_whatever_is_a_region_or_project_needs_no_encoding(text: str) -> None:
    if is_region(text) or is_project_id(text):
        assert text
        assert text.isascii()
        assert not set(text) & set("/?#@:%.\\ \r\n")


@pytest.mark.parametrize("domain", [".", "a..b", "evil.com/x", "a b", "a:1", "user@evil.com", "é.com", "a#"])
def test_a_cloud_domain_that_is_no_domain_is_refused(domain: str) -> None:
    with pytest.raises(ConfigurationError, match="--cloud-domain"):
        made(cloud_domain=domain)


@pytest.mark.parametrize("endpoint", [ENDPOINT, None])
def test_a_malformed_region_is_refused_even_beside_an_endpoint(endpoint: str | None) -> None:
    with pytest.raises(ConfigurationError, match="--region"):
        made(endpoint=endpoint, region="a/b")


@pytest.mark.parametrize(
    ("url", "base"),
    [
        (ENDPOINT, ENDPOINT),
        (f"{ENDPOINT}/", ENDPOINT),
        (f"{ENDPOINT}///", ENDPOINT),
        (f"{ENDPOINT}:8443/a/b/", f"{ENDPOINT}:8443/a/b"),
        ("https://[2001:db8::1]:443", "https://[2001:db8::1]:443"),
        ("https://10.0.0.1", "https://10.0.0.1"),
    ],
)
def test_an_endpoint_loses_only_its_slashes_at_the_end(url: str, base: str) -> None:
    assert checked_endpoint(url) == base


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "http://127.8.9.1:8080",
        "http://localhost:1",
        "http://LOCALHOST",
        "http://[::1]:80",
    ],
)
def test_plain_http_is_taken_to_this_machine(url: str) -> None:
    assert checked_endpoint(url) == url


@pytest.mark.parametrize(
    "host",
    [
        "ecs.example.com",
        "10.0.0.1",
        "0.0.0.0",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "evil.com:127",
        "127.0.0.1.",
        "[::2]",
        "localhost.",
    ],
)
def test_plain_http_to_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="plain http"):
        checked_endpoint(f"http://{host}")


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "ecs.example.com",
        "//ecs.example.com",
        "ftp://ecs.example.com",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://:443",
        "https://[::1",
        "https://h:99999",
        "https://h:x",
        "https://h:-1",
        "https://user@h",
        "https://user:word@h",
        "https://:word@h",
        "https://@h",
        "http://localhost@evil.com",
        "https://h?a=b",
        "https://h/p#f",
        "https://h/a b",
        " https://h",
        "https://h\n",
        "https://h/\r\nX: y",
        "https://h/\u00a0",
        "https://a\uff0fb",
        "https://h?",
        "https://h#",
        "https://h/?",
        "https://h/p#",
        "\x01https://h",
        "https://h/\x00a",
        "https://h/\x7f",
        "https://h/ü",
        "https://h\u200b",
        "https://h\\x",
        'https://h"x',
        "https://%00",
        "https://h:",
        "http://localhost\x00.evil.com",
        "https://h:0",
        "https://..",
        "https://-",
        "https://a..b",
        "https://-a.com",
        f"https://{'x' * 64}.com",
    ],
)
def test_an_endpoint_that_is_more_or_less_than_a_base_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--endpoint"):
        checked_endpoint(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:s3cret@h",
        "https://s3cret@h",
        "http://user:s3cret@127.0.0.1",
        "https://h?token=s3cret",
        "https://h/#s3cret",
        "https://user:s3cret@h\x00",
    ],
)
def test_what_may_be_a_secret_in_a_refused_endpoint_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="with only scheme, host, port and path") as caught:
        checked_endpoint(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "fixed"),
    [
        (None, False),
        ("http://127.0.0.1:8080", False),
        ("http://localhost", False),
        ("https://[::1]:443/base", False),
        ("https://ecs.example.com", True),
        ("https://10.0.0.1:8443", True),
    ],
)
def test_an_endpoint_on_another_machine_serves_one_region_only(endpoint: str | None, fixed: bool) -> None:
    assert made(endpoint=endpoint).is_fixed is fixed


@given(st.text())
def test_an_endpoint_is_taken_or_refused_in_printable_words(text: str) -> None:
    for url in (text, f"https://{text}", f"{ENDPOINT}/{text}"):
        try:
            base = checked_endpoint(url)
        except ConfigurationError as error:
            assert str(error).isprintable()  # noqa: PT017 - either end is good
        else:
            assert base == url.rstrip("/")
            assert not any(character.isspace() for character in base)
