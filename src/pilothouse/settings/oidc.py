"""Identity providers: where they are described, and how they are asked."""

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pilothouse.settings.providers import ProviderSettings


class OidcSettings(ProviderSettings):
    """Log-in and tokens of OpenID Connect providers."""

    file: Path | None = Field(
        None, description="YAML file that describes the providers (docs/single-sign-on.md); unset: there are none"
    )
    public_url: str = Field(
        "",
        description="address of this server as browsers see it, such as https://pilothouse.example.com: providers send "
        "people back there; needed for log-in to the console",
    )
    fresh_seconds: float = Field(
        600.0, gt=0, description="age from which on a provider's description and keys are fetched again"
    )
    kept_seconds: float = Field(
        24 * 3600.0, gt=0, description="how long they are used while the provider cannot be reached"
    )
    retry_seconds: float = Field(
        30.0,
        gt=0,
        description="shortest interval between two fetches of the same, whatever unknown keys tokens name",
    )
    token_bytes: int = Field(16 * 1024, ge=512, le=32 * 1024, description="largest JSON Web Token")
    token_seconds: float = Field(
        24 * 3600.0, gt=0, description="a token that a provider made valid for longer than this is refused"
    )
    leeway_seconds: int = Field(30, ge=0, le=600, description="how far the clocks of a provider may differ from ours")
    groups_seconds: float = Field(
        24 * 3600.0,
        gt=0,
        description="how long the groups that a provider named count for a user's access keys, tokens and sessions, "
        "or as long as the provider's token, if that is longer",
    )
    login_seconds: float = Field(
        600.0,
        gt=0,
        description="time for a log-in at the provider; age of an ID token that is brought from a terminal",
    )

    @field_validator("public_url")
    @classmethod
    def _check_url(cls, text: str) -> str:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
        if text and (not usable or parts.path.strip("/")):
            raise ValueError(f"{text!r} is not an address such as https://pilothouse.example.com, without a path")
        return text.rstrip("/")

    @model_validator(mode="after")
    def _old_is_kept(self) -> Self:
        if self.kept_seconds < self.fresh_seconds:
            raise ValueError(
                f"KEPT_SECONDS ({self.kept_seconds:g}) must not be below FRESH_SECONDS ({self.fresh_seconds:g}): what "
                "is fresh is kept"
            )
        return self
