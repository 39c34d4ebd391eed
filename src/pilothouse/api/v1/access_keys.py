"""Access keys: list, make, show, enable, delete. One's own; administrators of the account also those of others."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from pilothouse.http.json_bodies import read_field, read_json
from pilothouse.http.openapi import takes
from pilothouse.http.requests import caller_of, json_response, parse_time, request_id_of
from pilothouse.services.identity.access_keys import AccessKeys, WantedKey
from pilothouse.store.access_keys import AccessKeyRow


class CreateAccessKey(BaseModel):
    """Whose key, and the project that it acts in; both the caller's if they are left out.

    ``expires_at`` (RFC 3339, with a zone) is when the key ends. ``password`` is the caller's own: it is needed unless
    the request carries a token that a password gave a few minutes ago.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: str | None = None
    project_id: str | None = None
    expires_at: str | None = None
    password: str | None = None


class ChangeAccessKey(BaseModel):
    """Whether the key may be used."""

    model_config = ConfigDict(extra="forbid", strict=True)

    enabled: bool


class AccessKeyView(BaseModel):
    """An access key; ``last_used_at`` is known to the minute, ``locked_until`` is set only where keys are locked."""

    access_key: str
    user_id: str
    project_id: str
    enabled: bool
    locked_until: str | None
    created_at: str
    expires_at: str | None
    expired: bool
    last_used_at: str | None


class NewAccessKeyView(AccessKeyView):
    """A key just made; the secret is shown only now."""

    secret_key: str


def routes(access_keys: AccessKeys) -> APIRouter:
    """The access key routes."""
    router = APIRouter(prefix="/api/v1/accesskeys", tags=["access keys"])

    @router.get("", response_model=list[AccessKeyView])
    async def list_access_keys(request: Request, user_id: str | None = None) -> Response:
        """The caller's keys, or those of ``user_id``, oldest first."""
        rows = await access_keys.list_keys(caller_of(request), user_id=user_id)
        return json_response([_view(row) for row in rows])

    @router.post("", status_code=201, response_model=NewAccessKeyView, openapi_extra=takes(CreateAccessKey))
    async def create_access_key(request: Request) -> Response:
        """Makes a key."""
        whose = await read_field(request, "user_id")  # it decides about the right, before the rest is judged
        if whose and whose != caller_of(request).user_id:
            caller_of(request).require_in_account("iam:credentials:createCredential")
        body = await read_json(request, CreateAccessKey)
        wanted = WantedKey(
            user_id=body.user_id,
            project_id=body.project_id,
            expires_at=parse_time("expires_at", body.expires_at),
            password=body.password,
        )
        made = await access_keys.create(caller_of(request), wanted, request_id=request_id_of(request))
        return json_response({**_view(made.row), "secret_key": made.secret_key}, status_code=201)

    @router.get("/{access_key}", response_model=AccessKeyView)
    async def show_access_key(request: Request, access_key: str) -> Response:
        """One key, without its secret."""
        return json_response(_view(await access_keys.show(caller_of(request), access_key)))

    @router.patch("/{access_key}", response_model=AccessKeyView, openapi_extra=takes(ChangeAccessKey))
    async def change_access_key(request: Request, access_key: str) -> Response:
        """Enables or disables a key, and lifts a lock; disabling ends the tokens of its user."""
        await access_keys.check_change(caller_of(request), access_key)
        body = await read_json(request, ChangeAccessKey)
        row = await access_keys.set_enabled(
            caller_of(request), access_key, enabled=body.enabled, request_id=request_id_of(request)
        )
        return json_response(_view(row))

    @router.delete("/{access_key}", status_code=204)
    async def delete_access_key(request: Request, access_key: str) -> Response:
        """Deletes a key, which ends the tokens of its user."""
        await access_keys.remove(caller_of(request), access_key, request_id=request_id_of(request))
        return Response(status_code=204)

    return router


def _view(row: AccessKeyRow) -> dict[str, object]:
    return AccessKeyView(
        access_key=row.id,
        user_id=row.user_id,
        project_id=row.project_id,
        enabled=row.enabled,
        locked_until=row.locked_until.isoformat(timespec="seconds") if row.locked_until else None,
        created_at=row.created_at.isoformat(timespec="seconds"),
        expires_at=row.expires_at.isoformat(timespec="seconds") if row.expires_at else None,
        expired=row.expired,
        last_used_at=row.last_used_at.isoformat(timespec="seconds") if row.last_used_at else None,
    ).model_dump()
