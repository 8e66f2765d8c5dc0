"""A token from the environment: found, checked, and never shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.errors import ConfigurationError
from batch.model import Request
from jobs.credentials import from_environment

GET = Request("GET", "https://ecs.example.com/x")
POST = Request("POST", "https://ecs.example.com/y", b"{}")


@pytest.mark.parametrize("variable", ["OS_TOKEN", "OS_AUTH_TOKEN"])
def test_a_token_of_either_variable_goes_with_every_request(variable: str) -> None:
    authorize = from_environment({variable: "MIIabc+/="})
    assert [authorize(request) for request in (GET, POST, GET)] == [{"X-Auth-Token": "MIIabc+/="}] * 3


def test_the_first_variable_outranks_the_second() -> None:
    assert from_environment({"OS_AUTH_TOKEN": "b", "OS_TOKEN": "a"})(GET) == {"X-Auth-Token": "a"}


@pytest.mark.parametrize("empty", ["", " ", "\n", "\t \r\n"])
def test_an_empty_variable_counts_as_none(empty: str) -> None:
    assert from_environment({"OS_TOKEN": empty, "OS_AUTH_TOKEN": "b"})(GET) == {"X-Auth-Token": "b"}
    with pytest.raises(ConfigurationError, match="no credentials"):
        from_environment({"OS_TOKEN": empty})


def test_white_space_around_a_token_is_dropped() -> None:
    assert from_environment({"OS_TOKEN": " abc\r\n"})(GET) == {"X-Auth-Token": "abc"}


def test_without_a_token_both_variables_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"OS_TOKEN.*OS_AUTH_TOKEN") as caught:
        from_environment({})
    assert caught.value.exit_code == 78


def test_the_processs_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OS_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("OS_TOKEN", "mine")
    assert from_environment()(GET) == {"X-Auth-Token": "mine"}


@pytest.mark.parametrize("variable", ["OS_TOKEN", "OS_AUTH_TOKEN"])
@pytest.mark.parametrize(
    "inside", ["\r\nX-Evil: 1", "\n", " ", "\x00", "\t", "\x7f", "é", "\u202e", "\udc80", "\u00a0", "😀"]
)
def test_a_token_that_would_bend_the_header_is_refused_without_being_shown(
    variable: str, inside: str
) -> None:
    with pytest.raises(ConfigurationError, match=variable) as caught:
        from_environment({variable: f"s3cret{inside}s3cret"})
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_token_of_the_greatest_known_length_is_taken() -> None:
    token = "M" * 16_384
    assert from_environment({"OS_TOKEN": token})(GET)["X-Auth-Token"] == token


def test_a_token_longer_than_any_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match="OS_TOKEN is longer than any token") as caught:
        from_environment({"OS_TOKEN": "M" * 32_769})
    assert "MMM" not in str(caught.value)


def test_a_token_is_not_in_the_repr() -> None:
    assert "s3cret" not in repr(from_environment({"OS_TOKEN": "s3cret"}))


@given(st.text(min_size=1))
def test_whatever_token_is_taken_makes_a_plain_header(token: str) -> None:
    try:
        value = from_environment({"OS_TOKEN": token})(GET)["X-Auth-Token"]
    except ConfigurationError:
        assert not token.strip() or any(not "!" <= character <= "~" for character in token.strip())
    else:
        assert value == token.strip()
        assert all("!" <= character <= "~" for character in value)
