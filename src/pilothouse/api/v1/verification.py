"""Which charts a project takes, and who signed one."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import Body, Seconds, View
from pilothouse.api.v1.routing import native_router
from pilothouse.http.json_bodies import KUBECONFIG, JsonLimits
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.services.charts.trust import ChangeTrust, ShownTrust, Trust

router = native_router("/api/v1/verification", tag="verification")
TrustService = Annotated[Trust, service(Trust)]


class VerificationView(View):
    """Who signed a chart, as verified when it came.

    `signed_by`: the name in the key; empty if it has none. `signing_key`: the fingerprint of the key, or of a subkey of
    it that signed. `signed_at`: null if the signature does not say.
    `signed_digest`: of what was signed, which is the archive, or its manifest in a registry. `source`: from where it
    came; empty if it was uploaded. `of_revision`: the chart was taken from a revision of the release and not verified
    itself: who may write to the cluster may have changed it. What is told is of the archive that was installed there.
    `key_trusted`: the key is still one that the project trusts; `trusted`: that, and it was verified itself.
    """

    kind: Literal["pgp", "cosign"]
    signed_by: str
    fingerprint: str
    signing_key: str
    signed_at: Seconds | None
    signed_digest: str
    source: str
    verified_at: Seconds
    of_revision: bool
    key_trusted: bool
    trusted: bool


class SourceTrustView(View):
    """A source with keys of its own, which count for what was pulled from it and for all other charts."""

    name: str
    verification: Literal["pgp", "cosign"]
    trusted: list[str]
    unusable: list[str]


class TrustView(View):
    """Which keys the project trusts for uploads, with their fingerprints; `sources` have their own.

    `trusted`: those that can sign now, subkeys included. `unusable`: the others, each with the reason: no signature of
    theirs counts any more, whenever it was made.
    `verified_only`: only charts that one of all these keys has signed are stored by an upload, installed and planned.
    """

    verified_only: bool
    keys: Annotated[str, Field(validation_alias="verification_keys")]
    trusted: list[str]
    unusable: list[str]
    sources: list[SourceTrustView]


class SetTrust(Body):
    """What the project is to trust; null leaves it as it is. `keys`: armored PGP public keys."""

    limits: ClassVar[JsonLimits] = KUBECONFIG

    verified_only: bool | None = None
    keys: Annotated[str | None, Field(max_length=MOST_BYTES)] = None


@router.get("", response_model=TrustView)
async def show_verification(caller: CurrentCaller, trust: TrustService) -> ShownTrust:
    """Show whether the project takes verified charts only, and whose signatures count."""
    return await trust.show(caller)


@router.put("", response_model=TrustView, dependencies=[allowed("cce:verification:update")])
async def set_verification(
    body: SetTrust, caller: CurrentCaller, trust: TrustService, request_id: RequestId
) -> ShownTrust:
    """Set which charts the project takes. Releases that exist are not affected, and can be rolled back."""
    return await trust.change(caller, ChangeTrust(body.verified_only, body.keys), request_id=request_id)
