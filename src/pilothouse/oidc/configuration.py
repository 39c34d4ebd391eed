"""The file that describes the providers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pilothouse.errors import InvalidSettings
from pilothouse.providers.secret_files import read_secret
from pilothouse.settings import OidcSettings
from pilothouse.settings.providers import check_provider_address

_FILE: Final = "PILOTHOUSE_OIDC__FILE"
_LARGEST_FILE: Final = 1024 * 1024
#: Signatures by a key that only the provider has: with HS256 whoever can verify could sign, and with none anybody.
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "Ed448"),
)


class ProviderConfiguration(BaseModel):
    """One provider: who it is, who we are to it, and what its claims mean here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")
    title: str = Field("", max_length=60)
    issuer: str
    account: str = ""
    client_id: str = ""
    client_secret_file: Path | None = None
    device_client_id: str = ""
    scopes: tuple[str, ...] = ("openid", "profile")
    audience: str = ""
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256", "Ed25519")
    user_claim: str = "preferred_username"
    groups_claim: str = "groups"
    required_claims: dict[str, str] = {}

    @field_validator("issuer")
    @classmethod
    def _check_issuer(cls, issuer: str) -> str:
        return check_provider_address(issuer)

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        for algorithm in algorithms:
            if algorithm not in ALGORITHMS:
                raise ValueError(f"{algorithm!r} is not one of {', '.join(ALGORITHMS)}")
        if not algorithms:
            raise ValueError(f"name at least one of {', '.join(ALGORITHMS)}")
        return algorithms

    @model_validator(mode="after")
    def _is_for_something(self) -> Self:
        if not self.client_id and not self.audience and not self.device_client_id:
            raise ValueError(
                "give client_id, for log-in to the console, or device_client_id, for log-in from a terminal, or "
                "audience, for tokens of programs, or several of them"
            )
        if self.device_client_id and self.device_client_id == self.client_id and self.client_secret_file:
            raise ValueError(
                "device_client_id must name another client than client_id: that one has a secret, and what runs on "
                "people's machines can keep none"
            )
        if self.device_client_id and self.device_client_id == self.audience:
            raise ValueError(
                "device_client_id must not be the audience: tokens of programs, which that is for, would be exchanged "
                "for ones of ours, which live longer"
            )
        if "openid" not in self.scopes:
            raise ValueError("scopes must include openid")
        return self

    @property
    def shown(self) -> str:
        """Return the name for people."""
        return self.title or self.name

    def client_secret(self) -> str:
        """Return the secret as the file has it now, empty for a public client; raise InvalidSettings."""
        if self.client_secret_file is None:
            return ""
        named = f"{_FILE}: provider {self.name}: client_secret_file {self.client_secret_file}"
        return read_secret(self.client_secret_file, named)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    providers: tuple[ProviderConfiguration, ...]


def read_providers(settings: OidcSettings) -> Mapping[str, ProviderConfiguration]:
    """Return the providers of the file by name; raise InvalidSettings, which says where the file is wrong."""
    if settings.file is None:
        return {}
    try:
        text = settings.file.read_bytes()[:_LARGEST_FILE]
        found = _File.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise InvalidSettings(f"{_FILE}={settings.file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InvalidSettings(f"{_FILE}={settings.file} is not YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        raise InvalidSettings(f"{_FILE}={settings.file}: {_explain(error)}") from error
    for what in ("name", "issuer"):
        values = [getattr(provider, what) for provider in found.providers]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise InvalidSettings(f"{_FILE}={settings.file}: two providers have the {what} {twice!r}")
    for provider in found.providers:
        provider.client_secret()
        if provider.client_id and not settings.public_url:
            raise InvalidSettings(
                f"{_FILE}={settings.file}: provider {provider.name} has a client_id, and PILOTHOUSE_OIDC__PUBLIC_URL "
                "is not set, so it could not send people back here"
            )
    return {provider.name: provider for provider in found.providers}


def _explain(error: ValidationError) -> str:
    """Return the first problem with its place; no value, which may be a secret in the wrong field."""
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"
