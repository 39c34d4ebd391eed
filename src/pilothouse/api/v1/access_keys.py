"""Access keys: list, create, show, enable, delete. One's own; administrators of the account also those of others."""

from typing import Annotated

from fastapi import Query, Request
from pydantic import Field

from pilothouse.api.v1.dependencies import Check, CurrentCaller, RequestId, service
from pilothouse.api.v1.models import Body, Seconds, Time, View
from pilothouse.api.v1.routing import native_router
from pilothouse.http.json_bodies import read_field
from pilothouse.http.requests import caller_of, service_of
from pilothouse.services.identity.access_keys import AccessKeyRequest, AccessKeys
from pilothouse.store.access_keys import AccessKeyRow

router = native_router("/api/v1/accesskeys", tag="access keys")
AccessKeysService = Annotated[AccessKeys, service(AccessKeys)]


class CreateAccessKey(Body):
    """The key's user and project; by default the caller's.

    ``description`` says what the key is for: at most 255 printable characters. ``expires_at`` (RFC 3339, with a zone)
    is when the key expires. ``password`` is the caller's own: it is required unless the request has a token that was
    issued for the password a few minutes ago, or a provider's whose claim ``auth_time`` is as young.
    """

    user_id: str | None = None
    project_id: str | None = None
    description: str = ""
    expires_at: Time | None = None
    password: str | None = None


class ChangeAccessKey(Body):
    """What to change of the key: whether it is enabled, what it is for; what is missing stays as it is."""

    enabled: bool | None = None
    description: str | None = None


class AccessKeyView(View):
    """An access key; ``last_used_at`` is known to the minute, ``locked_until`` is set only where keys are locked."""

    access_key: Annotated[str, Field(validation_alias="id")]
    user_id: str
    project_id: str
    description: str
    enabled: bool
    locked_until: Seconds | None
    created_at: Seconds
    expires_at: Seconds | None
    expired: bool
    last_used_at: Seconds | None


class NewAccessKeyView(AccessKeyView):
    """A new key; the secret is shown only now."""

    secret_key: str


async def _may_create(request: Request) -> None:
    user_id = await read_field(request, "user_id")  # it decides about the right, before the rest is judged
    if user_id and user_id != caller_of(request).user_id:
        caller_of(request).require_in_account("iam:credentials:createCredential")


async def _may_change(request: Request) -> None:
    await service_of(request, AccessKeys).check_change(caller_of(request), request.path_params["access_key"])


@router.get("", response_model=list[AccessKeyView])
async def list_access_keys(
    caller: CurrentCaller,
    access_keys: AccessKeysService,
    user_id: Annotated[str | None, Query(description="whose keys; else the caller's")] = None,
) -> list[AccessKeyRow]:
    """List the caller's keys, or those of ``user_id``, oldest first."""
    return await access_keys.list_keys(caller, user_id=user_id)


@router.post("", status_code=201, response_model=NewAccessKeyView, dependencies=[Check(_may_create)])
async def create_access_key(
    body: CreateAccessKey, caller: CurrentCaller, access_keys: AccessKeysService, request_id: RequestId
) -> dict[str, object]:
    """Create a key."""
    made = await access_keys.create(caller, AccessKeyRequest(**dict(body)), request_id=request_id)
    return {**vars(made.row), "secret_key": made.secret_key}


@router.get("/{access_key}", response_model=AccessKeyView)
async def show_access_key(access_key: str, caller: CurrentCaller, access_keys: AccessKeysService) -> AccessKeyRow:
    """Show one key, without its secret."""
    return await access_keys.show(caller, access_key)


@router.patch("/{access_key}", response_model=AccessKeyView, dependencies=[Check(_may_change)])
async def change_access_key(
    access_key: str,
    body: ChangeAccessKey,
    caller: CurrentCaller,
    access_keys: AccessKeysService,
    request_id: RequestId,
) -> AccessKeyRow:
    """Enable or disable a key, or describe it; enabling lifts a lock, disabling revokes the tokens of its user."""
    return await access_keys.change(caller, access_key, **dict(body), request_id=request_id)


@router.delete("/{access_key}", status_code=204)
async def delete_access_key(
    access_key: str, caller: CurrentCaller, access_keys: AccessKeysService, request_id: RequestId
) -> None:
    """Delete a key, which revokes the tokens of its user."""
    await access_keys.remove(caller, access_key, request_id=request_id)
