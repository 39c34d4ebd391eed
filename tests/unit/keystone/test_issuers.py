"""Providers of two kinds must not be taken for each other."""

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from pilothouse.errors import InvalidSettings
from pilothouse.services.identity.issuers import issuers_of
from pilothouse.settings import KeystoneSettings, OidcSettings, Settings


def settings(folder: Path, *, name: str = "corp", issuer: str = "https://sso.test", password: str = "x") -> Settings:  # noqa: S107 - of a test
    """Return settings with an OpenID Connect provider of that name and issuer, and a Keystone."""
    (folder / "password").write_text(password)
    (folder / "providers.yaml").write_text(
        yaml.safe_dump({"providers": [{"name": name, "issuer": issuer, "audience": "pilothouse"}]})
    )
    return Settings(
        oidc=OidcSettings(file=folder / "providers.yaml"),
        keystone=KeystoneSettings(url="https://keystone.test:5000/v3", password_file=folder / "password"),
    )


def test_both_are_known_by_name(tmp_path: Path):
    assert issuers_of(settings(tmp_path)) == {"corp": "https://sso.test", "keystone": "https://keystone.test:5000"}
    assert issuers_of(Settings()) == {}


def test_neither_may_be_called_as_the_other(tmp_path: Path):
    with pytest.raises(InvalidSettings, match="has 'keystone' already"):
        issuers_of(settings(tmp_path, name="keystone"))
    with pytest.raises(InvalidSettings, match=r"has 'https://keystone.test:5000' already"):
        issuers_of(settings(tmp_path, issuer="https://keystone.test:5000"))


def test_a_password_that_cannot_be_read_is_named_at_the_start(tmp_path: Path):
    for password in ("", "x" * 5000):
        with pytest.raises(InvalidSettings, match=r"PILOTHOUSE_KEYSTONE__PASSWORD_FILE=.* must hold the secret"):
            issuers_of(settings(tmp_path, password=password))
    given = settings(tmp_path)
    (tmp_path / "password").unlink()
    with pytest.raises(InvalidSettings, match=r"PILOTHOUSE_KEYSTONE__PASSWORD_FILE=.* cannot be read"):
        issuers_of(given)


@pytest.mark.parametrize(
    "url", ["https://admin:s3cret@keystone.test/v3", "https://s3cret@keystone.test", "https://a\\@s3cret.test/v3"]
)
def test_an_address_with_a_password_in_it_is_refused_and_not_repeated(tmp_path: Path, url: str):
    with pytest.raises(ValueError, match="no user, no password and no backslash") as refused:
        KeystoneSettings(url=url, password_file=tmp_path / "password")
    shown = refused.value
    assert isinstance(shown, ValidationError)
    assert "s3cret" not in str(shown.errors(include_input=False, include_url=False)[0]["msg"])
