"""What is wrong with a configuration is told field by field, and secrets are not."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_validator, model_validator

from services.mcp.order_execution.config_errors import setting_names, suggestion, translated
from services.mcp.order_execution.errors import ConfigurationError


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int = 1
    word: str = "a"
    url: str = ""
    api_key: SecretStr | None = None

    @field_validator("word")
    @classmethod
    def _short(cls, word: str) -> str:
        if len(word) > 3:
            raise ValueError("a short word: at most three letters")
        return word

    @model_validator(mode="after")
    def _check(self) -> Inner:
        if self.count > 9:
            raise ValueError("count: expected at most 9")
        if self.word == "bad":
            raise ValueError("something that holds together")
        return self


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: Inner = Inner()
    other: bool = False


def refused(**values: object) -> ConfigurationError:
    with pytest.raises(ValidationError) as caught:
        Outer(inner=values)  # type: ignore[arg-type]
    return translated(caught.value, Outer)


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"count": "x"}, "inner.count", "inner.count: expected a valid integer, got 'x'"),
        ({"count": 10}, "inner.count", "inner.count: expected at most 9"),
        ({"word": "long"}, "inner.word", "inner.word: expected a short word: at most three letters, got 'long'"),
        ({"word": "bad"}, "inner", "inner: expected something that holds together"),
        ({"counts": 1}, "inner.counts", "inner.counts: there is no such setting; did you mean inner.count?"),
        ({"other": 1}, "inner.other", "inner.other: there is no such setting; did you mean other?"),
        ({"zzz": 1}, "inner.zzz", "inner.zzz: there is no such setting"),
    ],
)
def test_a_problem_names_its_field_what_was_expected_and_what_was_got(
    values: dict[str, object], field: str, message: str
) -> None:
    """One line that can be acted upon."""
    error = refused(**values)
    assert (error.field, str(error)) == (field, message)


def test_all_problems_are_told_at_once() -> None:
    """Nobody likes to be told of one error at a time; the first one is the error's field."""
    error = refused(count="x", word=5)
    assert error.field == "inner.count"
    assert "inner.count: expected" in str(error)
    assert "inner.word: expected a valid string, got 5" in str(error)


@pytest.mark.parametrize("name", ["api_key", "url"])
def test_what_may_hold_a_secret_is_not_shown(name: str) -> None:
    """Keys, and addresses in which a password may stand."""
    assert "54321" not in str(refused(**{name: 54321}))


def test_a_section_of_the_wrong_kind_is_not_shown() -> None:
    """A broken piece of JSON with a key in it, say."""
    with pytest.raises(ValidationError) as caught:
        Outer(inner='{"api_key": "hunter2"')  # type: ignore[arg-type]
    assert str(translated(caught.value, Outer)) == "inner: expected a table of settings, got str"


def test_a_long_value_is_cut() -> None:
    """The message stays readable."""
    assert len(str(refused(count="9x" * 5000))) < 200


def test_names_can_be_listed_in_any_notation() -> None:
    """Dotted for messages, with the delimiter for variables."""
    assert list(setting_names(Outer)) == [
        "inner",
        "inner.count",
        "inner.word",
        "inner.url",
        "inner.api_key",
        "other",
    ]
    assert "inner__url" in list(setting_names(Outer, "", "__"))


def test_only_a_close_name_is_suggested() -> None:
    """A far-fetched suggestion misleads."""
    assert suggestion("retrys", ["retry", "risk"]) == "; did you mean retry?"
    assert suggestion("elephant", ["retry", "risk"]) == ""
