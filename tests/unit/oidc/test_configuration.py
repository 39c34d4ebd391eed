"""The file of providers: what it means, and what is said of one that is wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.errors import InvalidSettings
from pilothouse.oidc.configuration import read_providers
from pilothouse.settings import OidcSettings

GOOD = {"name": "corp", "issuer": "https://sso.example.com", "client_id": "pilothouse"}


def read(folder: Path, *providers: Any, text: str | None = None, **settings: Any) -> Any:
    file = folder / "oidc.yaml"
    file.write_text(text if text is not None else yaml.safe_dump({"providers": list(providers)}))
    return read_providers(OidcSettings(file=file, **{"public_url": "https://pilothouse.example.com", **settings}))


def test_without_a_file_there_are_none():
    assert read_providers(OidcSettings()) == {}


def test_a_provider_has_defaults_for_what_most_do(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    found = read(tmp_path, {**GOOD, "client_secret_file": str(secret)})["corp"]
    assert found.client_secret() == "s3cret"
    assert (found.user_claim, found.groups_claim, found.audience) == ("preferred_username", "groups", "")
    assert "RS256" in found.algorithms
    secret.write_text("anew")
    assert found.client_secret() == "anew", "a secret that is replaced needs no restart"
    assert read(tmp_path, {**GOOD, "issuer": "http://127.0.0.1:8000/o"})["corp"].issuer == "http://127.0.0.1:8000/o"


def test_a_provider_for_terminals_alone_needs_no_address_of_ours(tmp_path: Path):
    only = {"name": "corp", "issuer": "https://sso.example.com", "device_client_id": "cli"}
    assert read(tmp_path, only, public_url="")["corp"].device_client_id == "cli"
    both = {**GOOD, "device_client_id": "pilothouse"}
    assert read(tmp_path, both)["corp"].device_client_id == "pilothouse", "one without a secret may be both"


def test_what_is_wrong_is_named_with_its_place_and_without_its_value(tmp_path: Path):
    a_secret = tmp_path / "secret"
    a_secret.write_text("hunter2")
    without_client = {key: value for key, value in GOOD.items() if key != "client_id"}
    for providers, why in (
        ([{**GOOD, "issuer": "http://sso.example.com"}], "providers.0.issuer: .* must begin with https://"),
        ([{**GOOD, "issuer": "sso.example.com"}], "providers.0.issuer: .* is not an address"),
        ([{**GOOD, "issuer": "https://sso.example.com?a=b"}], "is not an address"),
        ([{**GOOD, "issuer": "https://a:hunter2@sso.example.com"}], "providers.0.issuer: .* no user, no password"),
        ([{**GOOD, "issuer": "https://a\\@sso.example.com"}], "no backslash"),
        ([GOOD, {**GOOD, "name": "Corp"}], "providers.1.name: String should match"),
        ([{**GOOD, "client_secret": "hunter2"}], "providers.0.client_secret: Extra inputs"),
        ([{**GOOD, "algorithms": ["HS256"]}], "'HS256' is not one of RS256"),
        ([{**GOOD, "algorithms": ["none"]}], "'none' is not one of RS256"),
        ([{**GOOD, "algorithms": []}], "name at least one of"),
        ([{**GOOD, "scopes": ["profile"]}], "scopes must include openid"),
        ([without_client], "give client_id, for log-in to the console, or device_client_id, .* or audience"),
        ([{**GOOD, "client_secret_file": str(a_secret), "device_client_id": "pilothouse"}], "must name another client"),
        ([{**GOOD, "audience": "cli", "device_client_id": "cli"}], "device_client_id must not be the audience"),
        ([GOOD, {**GOOD, "issuer": "https://b.example"}], "two providers have the name 'corp'"),
        ([GOOD, {**GOOD, "name": "b"}], "two providers have the issuer"),
        ([{**GOOD, "client_secret_file": str(tmp_path / "missing")}], "client_secret_file .*missing cannot be read"),
    ):
        with pytest.raises(InvalidSettings, match=why) as refused:
            read(tmp_path, *providers)
        assert str(refused.value).startswith("PILOTHOUSE_OIDC__FILE")
        assert "hunter2" not in str(refused.value)
    for text, why in (("providers: [", "is not YAML"), ("[]", "valid dictionary"), ("{}", "providers: Field required")):
        with pytest.raises(InvalidSettings, match=why):
            read(tmp_path, text=text)
    with pytest.raises(InvalidSettings, match="cannot be read"):
        read_providers(OidcSettings(file=tmp_path / "nowhere.yaml"))
    with pytest.raises(InvalidSettings, match="PILOTHOUSE_OIDC__PUBLIC_URL is not set"):
        read(tmp_path, GOOD, public_url="")
    assert read(tmp_path, {**without_client, "audience": "api"}, public_url=""), "tokens of programs need no address"


def test_addresses_of_this_server_are_without_a_path():
    assert OidcSettings(public_url="https://a.example/").public_url == "https://a.example"
    for url in ("a.example", "ftp://a.example", "https://a.example/console", "https://", "https://u:p@a.example"):
        with pytest.raises(ValueError, match="is not an address such as"):
            OidcSettings(public_url=url)
    with pytest.raises(ValueError, match="KEPT_SECONDS"):
        OidcSettings(fresh_seconds=100, kept_seconds=50)
