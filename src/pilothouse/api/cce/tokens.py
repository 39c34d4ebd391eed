"""The part of IAM about tokens: issue one for a password or another token, show, revoke; the service catalog.

Source: IAM API reference, "Obtaining a User Token Through Password Authentication", "Verifying a Token", "Querying the
Service Catalog"; the Keystone identity API v3, whose clients use the same routes and also HEAD and DELETE.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictStr

from pilothouse.api.cce.iam_errors import IamRoute
from pilothouse.api.cce.models import OptionalText
from pilothouse.errors import InvalidRequest
from pilothouse.http.json_bodies import LOGIN, read_json
from pilothouse.http.requests import caller_of, json_response, request_id_of, service_of, source_of
from pilothouse.services.identity.passwords import Login
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.tokens import Scope, Tokens
from pilothouse.store.tokens import TokenRow

router = APIRouter(route_class=IamRoute)
PATH = "/v3/auth/tokens"
CATALOG_PATH = "/v3/auth/catalog"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class DomainRef(_Part):
    """A domain by id or name."""

    id: OptionalText = None
    name: OptionalText = None


class ProjectRef(_Part):
    """A project by id, or by name in the user's domain."""

    id: OptionalText = None
    name: OptionalText = None
    domain: DomainRef | None = None


class UserClaim(_Part):
    """A user by id, or by name and domain, with the password."""

    id: OptionalText = None
    name: OptionalText = None
    domain: DomainRef | None = None
    password: StrictStr


class PasswordMethod(_Part):
    """The part of the identity for the method ``password``."""

    user: UserClaim


class TokenMethod(_Part):
    """The part of the identity for the method ``token``."""

    id: StrictStr


class AuthIdentity(_Part):
    """The authentication methods and their credentials."""

    methods: Annotated[list[StrictStr], Field(min_length=1, max_length=10)]
    password: PasswordMethod | None = None
    token: TokenMethod | None = None


class AuthScope(_Part):
    """The requested scope of the token."""

    project: ProjectRef | None = None
    domain: DomainRef | None = None


class Auth(_Part):
    """The content of the body."""

    identity: AuthIdentity
    scope: AuthScope | None = None


class CreateToken(_Part):
    """The body of a token's creation."""

    auth: Auth


@router.post(PATH)
async def create_token(request: Request) -> Response:
    """Issue a token; needs no credentials."""
    auth = (await read_json(request, CreateToken, limits=LOGIN)).auth
    scope, request_id, tokens = _scope(auth), request_id_of(request), service_of(request, Tokens)
    if auth.identity.methods == ["token"] and auth.identity.token is not None:
        issued = await tokens.exchange(auth.identity.token.id, scope, request_id=request_id, source=source_of(request))
    else:
        login = replace(_login(auth), source=source_of(request))
        issued = await tokens.issue(login, scope, request_id=request_id)
    content = _token(issued.row, request)
    return json_response(content, status_code=201, headers={"X-Subject-Token": issued.text})


@router.get(PATH)
async def show_token(request: Request) -> Response:
    """Return what a token is for."""
    subject = _subject(request)
    row = await service_of(request, Tokens).show(caller_of(request), subject)
    return json_response(_token(row, request), headers={"X-Subject-Token": subject})


@router.head(PATH)
async def check_token(request: Request) -> Response:
    """Answer 200 if the token is valid."""
    await service_of(request, Tokens).show(caller_of(request), _subject(request))
    return Response(status_code=200, media_type="application/json")


@router.delete(PATH)
async def revoke_token(request: Request) -> Response:
    """End a token."""
    await service_of(request, Tokens).revoke(caller_of(request), _subject(request), request_id=request_id_of(request))
    return Response(status_code=204)


@router.get(CATALOG_PATH)
async def show_catalog(request: Request) -> Response:
    """Return the service catalog."""
    links = {"self": str(request.url), "next": None, "previous": None}
    return json_response({"catalog": _catalog(request), "links": links})


def _login(auth: Auth) -> Login:
    if auth.identity.methods != ["password"] or auth.identity.password is None:
        raise InvalidRequest(
            'auth.identity: methods must be ["password"], with the part "password", or ["token"], with the part "token"'
        )
    user = auth.identity.password.user
    where = "auth.identity.password.user"
    if user.id is not None:
        return Login(password=user.password, user_id=user.id)
    if user.name is None:
        raise InvalidRequest(f"{where}: give name and domain.name, or id")
    if user.domain is None or (user.domain.id is None and user.domain.name is None):
        raise InvalidRequest(f"{where}.domain: give the name of the user's account")
    return Login(password=user.password, name=user.name, domain_id=user.domain.id, domain_name=user.domain.name)


def _scope(auth: Auth) -> Scope:
    """Return the project if one is named; else the domain; else no scope."""
    scope = auth.scope or AuthScope()
    if scope.project is not None:
        project = scope.project
        if project.id is None and project.name is None:
            raise InvalidRequest("auth.scope.project: give id or name")
        domain = project.domain or DomainRef()
        return Scope(project_id=project.id, project_name=project.name, domain_id=domain.id, domain_name=domain.name)
    if scope.domain is not None:
        if scope.domain.id is None and scope.domain.name is None:
            raise InvalidRequest("auth.scope.domain: give id or name")
        return Scope(domain_id=scope.domain.id, domain_name=scope.domain.name, domain=True)
    return Scope()


def _subject(request: Request) -> str:
    headers = request.headers.getlist("x-subject-token")
    if len(headers) != 1:
        raise InvalidRequest("X-Subject-Token: send the token once")
    return headers[0].strip()


def _token(row: TokenRow, request: Request) -> dict[str, object]:
    domain = {"id": row.domain_id, "name": row.domain_name}
    roles = {"project": row.roles, "domain": row.account_roles}.get(row.scope, [])
    token: dict[str, object] = {
        "expires_at": _time(row.expires_at),
        "issued_at": _time(row.issued_at),
        "methods": ["password"],
        "user": {"id": row.user_id, "name": row.user_name, "domain": domain, "password_expires_at": ""},
        "roles": [{"id": "0", "name": name} for name in sorted(set(roles))],
        "catalog": [] if request.query_params.get("nocatalog") else _catalog(request),
    }
    if row.scope == "project":
        token["project"] = {"id": row.project_id, "name": row.project_name, "domain": domain}
    elif row.scope == "domain":
        token["domain"] = domain
    return {"token": token}


def _catalog(request: Request) -> list[dict[str, object]]:
    """Return the service catalog: every service is here, at the address that the client used.

    The vendor's clients look for the type ``cce``, those of Open Telekom Cloud for ``ccev2.0``.
    """
    base, region = str(request.base_url).rstrip("/"), service_of(request, Projects).region
    return [
        {
            "id": name,
            "name": name,
            "type": kind,
            "endpoints": [
                {"id": f"{name}-{region}", "interface": "public", "region": region, "region_id": region, "url": url}
            ],
        }
        for name, kind, url in (
            ("iam", "identity", f"{base}/v3"),
            ("cce", "cce", base),
            ("ccev2.0", "ccev2.0", base),
        )
    ]


def _time(moment: datetime) -> str:
    """Format a time like the vendor: UTC, microseconds, Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
