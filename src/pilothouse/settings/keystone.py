"""An OpenStack Keystone whose tokens are accepted."""

from pathlib import Path
from typing import Final, Self

from pydantic import Field, field_validator, model_validator

from pilothouse.settings.providers import ProviderSettings, check_provider_address

_LONGEST_CACHE: Final = 60.0


class KeystoneSettings(ProviderSettings):
    """Tokens of OpenStack Keystone, and the user of ours there that validates them."""

    url: str = Field(
        "",
        description="address of Keystone as its catalog has it, such as https://keystone.example.com:5000/v3; unset: "
        "its tokens are not accepted. It is a part of who its users are here: with another one they are others",
    )
    name: str = Field(
        "keystone",
        pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$",
        description="name of this provider, for groups and the audit log",
    )
    title: str = Field("", max_length=60, description="what people read instead of the name")
    account: str = Field("", description="name of the account that its users belong to; unset: IDENTITY__FIRST_DOMAIN")
    user: str = Field("pilothouse", min_length=1, description="service user that validates tokens")
    user_domain: str = Field("Default", min_length=1, description="name of its domain")
    project: str = Field("service", min_length=1, description="project in which it may validate tokens")
    project_domain: str = Field("Default", min_length=1, description="name of the project's domain")
    password_file: Path | None = Field(
        None, description="file with the service user's password; it is read at every log-in"
    )
    cache_seconds: float = Field(
        30.0,
        ge=0,
        le=_LONGEST_CACHE,
        description="how long a token that Keystone accepted is not asked about again: what is revoked there counts so "
        "much later here; 0: each request asks. What Keystone refuses is not remembered",
    )
    cached_tokens: int = Field(10_000, ge=1, description="number of such tokens; some KiB each")
    requests: int = Field(16, ge=2, description="tokens accepted before that an API process asks about at a time")
    requests_of_strangers: int = Field(
        4, ge=2, description="the same for tokens not seen before; addresses take turns, and none has all of them"
    )
    refused_per_second: float = Field(
        0.5,
        ge=0,
        description="tokens that Keystone refused from one address, by each API process, those of twenty seconds at "
        "once; after that its new tokens are answered 429 without asking; 0: no limit",
    )
    token_bytes: int = Field(4096, ge=256, le=32 * 1024, description="largest token")

    @field_validator("url")
    @classmethod
    def _check_url(cls, text: str) -> str:
        return check_provider_address(text).rstrip("/").removesuffix("/v3") if text else ""

    @model_validator(mode="after")
    def _can_ask(self) -> Self:
        if self.url and self.password_file is None:
            raise ValueError("PASSWORD_FILE is missing: Keystone validates tokens for its own users only")
        return self
