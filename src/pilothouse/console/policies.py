"""Policies of the account: what each says, and whom it is attached to, for administrators of the account."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.auth.policy import role_documents
from pilothouse.console.faults import NO_FAULTS, tell
from pilothouse.console.forms import Fields, require_typed_name, writes
from pilothouse.console.rendering import page
from pilothouse.console.requests import caller_of, here, wrong
from pilothouse.console.texts import gettext
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.groups import Groups
from pilothouse.services.identity.policies import Policies, digest_of
from pilothouse.services.identity.projects import Projects
from pilothouse.services.identity.users import Users
from pilothouse.store.groups import GroupRow
from pilothouse.store.policies import AttachmentRow
from pilothouse.store.users import UserRow

_POLICIES: Final = "/access/policies"
_POLICY: Final = f"{_POLICIES}/{{policy_id}}"
#: The fields of the forms of a policy's page.
_SHOWN: Final = {"document": ("document",), "attachments": ("whom", "project"), "delete": ("confirm",)}
#: A beginning for who has never written one.
_SAMPLE: Final = """\
{
  "Version": "5.0",
  "Statement": [
    {"Effect": "Allow", "Action": ["cce:release:get", "cce:release:list"], "Resource": ["*"]}
  ]
}"""


async def list_policies(
    request: Request, *, refused: Refusal | None = None, part: str = "", typed: Fields | None = None
) -> Response:
    """List the account's policies, and the roles of this server."""
    caller = caller_of(request)
    return await page(
        request,
        "policies.html",
        refused=refused,
        part=part,
        faults=tell(refused, "name", "document", otherwise="document"),
        typed=typed or {"document": _SAMPLE},
        policies=await service_of(request, Policies).list_policies(caller),
        roles=role_documents(),
        may_create=caller.may_in_account("iam:policies:create"),
    )


async def show_policy(
    request: Request, *, refused: Refusal | None = None, part: str = "", typed: Fields | None = None
) -> Response:
    """Show one policy, and whom it is attached to."""
    caller = caller_of(request)
    row = await service_of(request, Policies).show(caller, request.path_params["policy_id"])
    projects = await service_of(request, Projects).list_all(caller)
    users, groups = await _holders(request, caller)
    names = {user.id: user.name for user in users} | {group.id: group.name for group in groups}
    return await page(
        request,
        "policy.html",
        refused=refused,
        part=part,
        faults=tell(refused, *_SHOWN[part], otherwise="document" if part == "document" else "") if part else NO_FAULTS,
        typed=typed or {},
        row=row,
        document=_lay_out(row.document),
        shown=digest_of(row.document),
        at=_path(request),
        users=users,
        groups=groups,
        names=names,
        projects=projects,
        project_names={project.id: project.name for project in projects},
    )


def _lay_out(document: str) -> str:
    """Return a document that came in one line as people read it, and every other as it was written."""
    return document if "\n" in document else orjson.dumps(orjson.loads(document), option=orjson.OPT_INDENT_2).decode()


async def _holders(request: Request, caller: Caller) -> tuple[Sequence[UserRow], Sequence[GroupRow]]:
    """Return whom a policy can be attached to, as far as the person may see them."""
    sees_users, sees_groups = (
        caller.may_in_account(f"iam:{action}") for action in ("users:listUsers", "groups:listGroups")
    )
    users = await service_of(request, Users).list_users(caller) if sees_users else []
    groups = await service_of(request, Groups).list_groups(caller) if sees_groups else []
    return users, groups


def _path(request: Request, policy_id: str = "") -> str:
    return f"{here(caller_of(request))}{_POLICIES}/{quote(policy_id or request.path_params['policy_id'], safe='')}"


def _document(fields: Fields) -> str:
    return fields.get("document", "").replace("\r\n", "\n")


async def _create(request: Request, fields: Fields) -> str:
    made = await service_of(request, Policies).create(
        caller_of(request),
        name=fields.get("name", "").strip(),
        document=_document(fields),
        request_id=request_id_of(request),
    )
    return _path(request, made.id)


async def _replace(request: Request, fields: Fields) -> str:
    await service_of(request, Policies).replace_document(
        caller_of(request),
        request.path_params["policy_id"],
        document=_document(fields),
        request_id=request_id_of(request),
        shown=fields.get("shown", ""),
    )
    return _path(request)


def _where(fields: Fields) -> AttachmentRow:
    kind, _, holder = fields.get("whom", "").partition(":")
    if kind not in {"user", "group"} or not holder:
        raise wrong("whom", gettext("choose a user or a group"))
    user_id, group_id = (holder if kind == holder_kind else None for holder_kind in ("user", "group"))
    return AttachmentRow(user_id, group_id, fields.get("project", "") or None)


async def _attach(request: Request, fields: Fields) -> str:
    await service_of(request, Policies).attach(
        caller_of(request),
        request.path_params["policy_id"],
        _where(fields),
        request_id=request_id_of(request),
        shown=fields.get("shown", ""),
    )
    return f"{_path(request)}#attachments"


async def _detach(request: Request, fields: Fields) -> str:
    await service_of(request, Policies).detach(
        caller_of(request), request.path_params["policy_id"], _where(fields), request_id=request_id_of(request)
    )
    return f"{_path(request)}#attachments"


async def _delete(request: Request, fields: Fields) -> str:
    caller, policies, policy_id = caller_of(request), service_of(request, Policies), request.path_params["policy_id"]
    name = (await policies.show(caller, policy_id)).name
    require_typed_name(fields, name, ask=gettext("type the policy's name, %(name)s, to delete it", name=name))
    await policies.remove(caller, policy_id, request_id=request_id_of(request), shown=fields.get("shown", ""))
    return f"{here(caller)}{_POLICIES}"


ROUTES: Final = [
    Route(_POLICIES, list_policies, methods=["GET"]),
    Route(_POLICIES, writes(list_policies, "add", _create), methods=["POST"]),
    Route(_POLICY, show_policy, methods=["GET"]),
    Route(f"{_POLICY}/document", writes(show_policy, "document", _replace), methods=["POST"]),
    Route(f"{_POLICY}/attachments", writes(show_policy, "attachments", _attach), methods=["POST"]),
    Route(f"{_POLICY}/attachments/remove", writes(show_policy, "attachments", _detach), methods=["POST"]),
    Route(f"{_POLICY}/delete", writes(show_policy, "delete", _delete), methods=["POST"]),
]
