"""What the doctor finds at a real provider, and what it says to do."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.cli.checks import examine
from pilothouse.cli.findings import Finding, State
from pilothouse.cli.provider_checks import check_providers
from pilothouse.errors import InvalidSettings
from pilothouse.settings import OidcSettings, Settings, TlsSettings
from tests.oidc.conftest import PUBLIC_URL
from tests.support.oidc_provider import OidcProvider
from tests.support.servers import free_port


def oidc(folder: Path, *described: dict[str, Any], **changed: Any) -> OidcSettings:
    file = folder / "providers.yaml"
    file.write_text(yaml.safe_dump({"providers": list(described)}))
    return OidcSettings(file=file, public_url=PUBLIC_URL, **{"allow_loopback": True, **changed})


async def look(settings: OidcSettings) -> list[Finding]:
    return await check_providers(Settings(oidc=settings))


async def test_each_provider_is_asked_and_one_that_is_down_fails(provider: OidcProvider, tmp_path: Path):
    down = provider.describe(name="down", issuer=f"http://127.0.0.1:{free_port()}/o")
    found, missing = await look(oidc(tmp_path, provider.describe(), down))
    assert found == Finding("provider corp", State.OK, f"{provider.issuer}: describes itself and its keys")
    assert (missing.check, missing.state) == ("provider down", State.FAILED)
    assert ("the connection failed" in missing.found, "reaches it" in missing.advice) == (True, True), missing


@pytest.mark.parametrize(
    ("issuer", "changed", "why"),
    [
        ("/", {}, "it calls itself another issuer"),
        ("/elsewhere", {}, "answered 404"),
        ("", {"allow_loopback": False}, "is this machine; to allow that, list it in PILOTHOUSE_OIDC__ALLOWED"),
    ],
)
async def test_what_is_wrong_is_named(
    provider: OidcProvider, tmp_path: Path, issuer: str, changed: dict[str, Any], why: str
):
    (found,) = await look(oidc(tmp_path, provider.describe(issuer=provider.issuer + issuer), **changed))
    assert (found.state, why in found.found) == (State.FAILED, True), found


async def test_the_doctor_shows_it_and_a_file_that_is_wrong(provider: OidcProvider, tmp_path: Path):
    settings = Settings(
        data_dir=tmp_path / "data",
        port=free_port(),
        tls=TlsSettings(port=0),
        oidc=oidc(tmp_path, provider.describe()),
    )
    found = {one.check: one for one in await examine(settings)}
    assert found["provider corp"].state is State.OK
    wrong = settings.model_copy(update={"oidc": oidc(tmp_path, {"name": "corp"})})
    found = {one.check: one for one in await examine(wrong)}
    assert (found["providers"].state, "issuer" in found["providers"].found) == (State.FAILED, True)
    with pytest.raises(InvalidSettings):
        await look(wrong.oidc)
