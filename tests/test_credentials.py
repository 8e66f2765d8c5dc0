"""Where credentials are found: in which order, what is half a set, and that no secret is shown."""

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.errors import ConfigurationError
from jobs.auth.credentials import Agency, Found, Password, Token, find
from jobs.auth.credentials.environment import unquoted
from jobs.auth.signing import Keys

USER = {
    "OS_USERNAME": "u",
    "OS_PASSWORD": "p",
    "OS_USER_DOMAIN_NAME": "d",
    "OS_AUTH_URL": "https://iam.a.b.com/v3",
}
# In the order in which they are looked at.
FAMILIES: list[tuple[dict[str, str], str, Any]] = [
    ({"FPGA_BATCH_AK": "a1", "FPGA_BATCH_SK": "s1"}, "FPGA_BATCH_AK and FPGA_BATCH_SK", Keys("a1", "s1")),
    ({"FPGA_BATCH_TOKEN": "t1"}, "FPGA_BATCH_TOKEN", Token("t1")),
    (
        {"HUAWEICLOUD_SDK_AK": "a2", "HUAWEICLOUD_SDK_SK": "s2", "HUAWEICLOUD_SDK_SECURITY_TOKEN": "k2"},
        "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK",
        Keys("a2", "s2", "k2"),
    ),
    ({"HW_ACCESS_KEY": "a3", "HW_SECRET_KEY": "s3"}, "HW_ACCESS_KEY and HW_SECRET_KEY", Keys("a3", "s3")),
    ({"OS_ACCESS_KEY": "a4", "OS_SECRET_KEY": "s4"}, "OS_ACCESS_KEY and OS_SECRET_KEY", Keys("a4", "s4")),
    ({"OS_TOKEN": "t5"}, "OS_TOKEN", Token("t5")),
    ({"OS_AUTH_TOKEN": "t6"}, "OS_AUTH_TOKEN", Token("t6")),
    (USER, "OS_USERNAME and OS_PASSWORD", Password("u", "", "p", domain_name="d")),
]


def found(environment: dict[str, str], **more: str) -> Found:
    nowhere = {"HOME": "/nowhere"}
    return find(environment={**nowhere, **environment, **more}, firmware=Path("/nowhere"))


@pytest.mark.parametrize("first", range(len(FAMILIES)))
def test_the_first_complete_set_wins(first: int) -> None:
    environment: dict[str, str] = {}
    for variables, _, _ in FAMILIES[first:]:
        environment |= variables
    _, source, credential = FAMILIES[first]
    assert (found(environment).source, found(environment).credential) == (source, credential)


@pytest.mark.parametrize(
    ("table", "text", "is_ecs"),
    [
        ("chassis_asset_tag", "HUAWEICLOUD\n", True),
        ("chassis_asset_tag", "OpenTelekomCloud\n", True),
        ("product_name", "OpenStack Nova\n", True),
        ("product_name", "KVM\n", False),
        ("chassis_asset_tag", "Not Specified\n", False),
        ("sys_vendor", "HUAWEICLOUD\n", False),
        ("chassis_asset_tag", "", False),
    ],
)
def test_without_any_the_agency_is_asked_on_a_machine_that_says_it_is_an_ecs(
    tmp_path: Path, table: str, text: str, is_ecs: bool
) -> None:
    (tmp_path / table).write_text(text)
    credential = find(environment={"HOME": "/nowhere"}, firmware=tmp_path).credential
    assert credential == (Agency("http://169.254.169.254") if is_ecs else None)


def test_a_metadata_service_that_is_named_is_asked_on_any_machine(tmp_path: Path) -> None:
    variables = {"HOME": "/nowhere", "FPGA_BATCH_METADATA_ENDPOINT": "http://127.0.0.1:1"}
    assert find(environment=variables, firmware=tmp_path).credential == Agency("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("half", "missing"),
    [
        ({"HUAWEICLOUD_SDK_AK": "s3cret"}, "HUAWEICLOUD_SDK_SK"),
        ({"HUAWEICLOUD_SDK_SK": "s3cret"}, "HUAWEICLOUD_SDK_AK"),
        ({"HW_ACCESS_KEY": "s3cret"}, "HW_SECRET_KEY"),
        ({"OS_SECRET_KEY": "s3cret"}, "OS_ACCESS_KEY"),
        ({"FPGA_BATCH_AK": "s3cret"}, "FPGA_BATCH_SK"),
        ({"HUAWEICLOUD_SDK_SECURITY_TOKEN": "s3cret"}, "HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK are"),
        ({"OS_USERNAME": "s3cret"}, "OS_PASSWORD"),
        ({"OS_PASSWORD": "s3cret"}, "OS_USERNAME"),
        ({"OS_USERNAME": "u", "OS_PASSWORD": "s3cret"}, "OS_USER_DOMAIN_NAME"),
    ],
)
def test_half_a_set_is_an_error_that_names_what_is_missing(half: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{missing} .*missing") as caught:
        found(half)
    assert "s3cret" not in str(caught.value)


def test_half_a_set_that_comes_after_a_whole_one_is_not_looked_at() -> None:
    assert found({"OS_TOKEN": "t", "OS_USERNAME": "u"}).credential == Token("t")


def test_half_a_set_that_comes_before_a_whole_one_is_not_passed_over() -> None:
    with pytest.raises(ConfigurationError, match="HW_SECRET_KEY"):
        found({"HW_ACCESS_KEY": "a", "OS_TOKEN": "t"})


def test_each_family_brings_project_and_place() -> None:
    terraform = found(
        {"HW_ACCESS_KEY": "a", "HW_SECRET_KEY": "s"},
        HW_REGION_NAME="eu-de",
        HW_PROJECT_NAME="eu-de_mine",
        HW_CLOUD="otc.t-systems.com",
        OS_PROJECT_ID="not-mine",
        HW_AUTH_URL="https://iam.eu-de.otc.t-systems.com/v3",
    )
    assert (terraform.project_id, terraform.project_name) == ("", "eu-de_mine")
    assert (terraform.region, terraform.cloud_domain) == ("eu-de", "otc.t-systems.com")
    assert terraform.iam == "https://iam.eu-de.otc.t-systems.com"
    sdk = found({"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "s"}, HUAWEICLOUD_SDK_PROJECT_ID="p1")
    assert sdk.project_id == "p1"
    user = found(USER, OS_TENANT_NAME="eu-de", OS_REGION_NAME="eu-nl")
    assert (user.project_name, user.region) == ("eu-de", "eu-nl")


def test_region_and_cloud_may_come_from_the_identity_services_address() -> None:
    user = found(USER | {"OS_AUTH_URL": "https://iam.eu-de.otc.t-systems.com/v3"})
    assert (user.region, user.cloud_domain) == ("eu-de", "otc.t-systems.com")


def test_a_password_never_goes_over_plain_http_to_another_machine() -> None:
    with pytest.raises(ConfigurationError, match=r"OS_AUTH_URL .*plain http"):
        found(USER | {"OS_AUTH_URL": "http://iam.example.com/v3"})


def test_a_users_domains_may_be_given_by_id_and_the_projects_may_be_another() -> None:
    credential = found(
        {"OS_USER_ID": "uid", "OS_PASSWORD": "p"}, OS_PROJECT_DOMAIN_ID="pd", OS_USER_DOMAIN_ID="ud"
    ).credential
    assert credential == Password("", "uid", "p", domain_id="ud", project_domain_id="pd")


@pytest.mark.parametrize("name", ["OS_INSECURE", "HW_INSECURE"])
def test_a_wish_not_to_verify_certificates_is_told_to_be_ignored(name: str) -> None:
    assert any(name in warning for warning in found({"OS_TOKEN": "t", name: "True"}).warnings)
    assert not found({"OS_TOKEN": "t", name: "false"}).warnings


# The profile file


def profile(home: Path, text: str, mode: int = 0o600) -> Found:
    path = home / ".huaweicloud" / "credentials"
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(mode)
    return found({"HOME": str(home)})


def test_the_vendors_profile_is_read(tmp_path: Path) -> None:
    read = profile(
        tmp_path,
        "[basic]\nak = a\nsk = s%1\nproject_id = p\nsecurity_token = k\niam_endpoint = https://iam.x.y.com/v3\n",
    )
    assert read.credential == Keys("a", "s%1", "k")
    assert (read.project_id, read.iam, read.warnings) == ("p", "https://iam.x.y.com", ())


def test_half_a_profile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sk is missing"):
        profile(tmp_path, "[basic]\nak = a\n")


@pytest.mark.parametrize(
    "text", ["s3cret\n", "[basic\nak=s3cret", "[basic]\nak = s3cret\nak = s3cret\n", "[basic]\ns3cret"]
)
def test_a_profile_that_is_no_ini_file_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="credentials: is not of the form") as caught:
        profile(tmp_path, text)
    assert "s3cret" not in str(caught.value)


def test_a_profile_of_other_sections_holds_no_credentials(tmp_path: Path) -> None:
    assert profile(tmp_path, "[global]\nak = a\nsk = s\n").credential is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_earns_a_warning(tmp_path: Path, mode: int) -> None:
    (warning,) = profile(tmp_path, "[basic]\nak = a\nsk = s\n", mode).warnings
    assert re.search("others may read it: chmod 600 .*credentials", warning)


def test_a_named_profile_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere: cannot be read"):
        found({"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(tmp_path / "nowhere")})


# What systemd hands over


def handed_over(folder: Path, **files: str) -> dict[str, str]:
    for name, text in files.items():
        (folder / name).write_text(text)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def test_keys_handed_over_by_systemd_are_taken_before_the_environments(tmp_path: Path) -> None:
    environment = handed_over(tmp_path, ak="a\n", sk="s\n", security_token="k\n")
    read = found(environment, OS_TOKEN="t", OS_PROJECT_ID="p")
    assert (read.credential, read.project_id) == (Keys("a", "s", "k"), "p")
    assert read.source == "ak and sk in CREDENTIALS_DIRECTORY"


def test_a_token_handed_over_is_taken(tmp_path: Path) -> None:
    assert found(handed_over(tmp_path, token="t\n")).credential == Token("t")


def test_a_password_handed_over_goes_with_the_user_in_the_environment(tmp_path: Path) -> None:
    environment = handed_over(tmp_path, password="p w\n")
    read = found(environment, OS_USERNAME="u", OS_DOMAIN_NAME="d")
    assert read.credential == Password("u", "", "p w", domain_name="d")


def test_half_of_what_is_handed_over_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sk is missing"):
        found(handed_over(tmp_path, ak="a"))


# Secrets


@pytest.mark.parametrize(
    "inside", ["\r\nX-Evil: 1", "\n", " ", "\x00", "\t", "\x7f", "é", "\u202e", "\udc80", "\u00a0", "😀"]
)
@pytest.mark.parametrize("name", ["OS_TOKEN", "OS_AUTH_TOKEN", "FPGA_BATCH_TOKEN", "HUAWEICLOUD_SDK_AK"])
def test_what_would_bend_a_header_is_refused_without_being_shown(name: str, inside: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        found({name: f"s3cret{inside}s3cret"})
    assert "s3cret" not in str(caught.value)


def test_a_token_of_the_greatest_known_length_is_taken() -> None:
    assert found({"OS_TOKEN": "M" * 16_384}).credential == Token("M" * 16_384)


def test_a_token_longer_than_any_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match="OS_TOKEN is longer than any") as caught:
        found({"OS_TOKEN": "M" * 32_769})
    assert "MMM" not in str(caught.value)


@pytest.mark.parametrize(
    "credential", [Token("s3cret"), Password("u", "", "s3cret"), Keys("a", "s3cret", "s3cret")]
)
def test_no_repr_shows_a_secret(credential: Any) -> None:
    assert "s3cret" not in repr(credential)
    assert "s3cret" not in repr(Found("here", credential))
    assert any(getattr(credential, field.name) == "s3cret" for field in fields(credential))


@given(st.text(min_size=1))
def test_whatever_token_is_taken_makes_a_plain_header(token: str) -> None:
    try:
        credential = found({"OS_TOKEN": token}).credential
    except ConfigurationError:
        assert any(not "!" <= character <= "~" for character in unquoted(token))
    else:
        if isinstance(credential, Token):
            assert credential.secret == unquoted(token)
            assert all("!" <= character <= "~" for character in credential.secret)
        else:
            assert not unquoted(token)


@pytest.mark.parametrize("url", ["https://[::1", "https://[zz]/v3", "ftp://a.b", "https://u:p@a.b"])
def test_an_identity_service_at_no_url_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="OS_AUTH_URL"):
        found(USER | {"OS_AUTH_URL": url})


def test_a_password_that_is_not_utf_8_is_named() -> None:
    with pytest.raises(ConfigurationError, match="OS_PASSWORD is not UTF-8"):
        found(USER | {"OS_PASSWORD": "a\udcffb"})


def test_a_profile_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    assert profile(tmp_path, "\ufeff[basic]\nak = a\nsk = s\n").credential == Keys("a", "s")


def test_an_empty_variable_is_none() -> None:
    assert found({"OS_TOKEN": "  ", "OS_AUTH_TOKEN": "b"}).credential == Token("b")


def test_the_processs_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("FPGA_BATCH_", "HUAWEICLOUD_", "HW_", "OS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OS_TOKEN", "mine")
    assert find().credential == Token("mine")
