"""Policies in the vendor's form: list, store, show, replace, attach, delete. For administrators of the account."""

import json
from typing import Annotated, Any

from fastapi import Query

from pilothouse import errors
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed_in_account, service
from pilothouse.api.v1.models import Body, Seconds, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.auth.policy import role_documents
from pilothouse.services.identity.policies import Policies
from pilothouse.store.policies import AttachmentRow, PolicyRow

router = native_router("/api/v1/policies", tag="policies")
PoliciesService = Annotated[Policies, service(Policies)]
OfProject = Annotated[str | None, Query(description="the project; else in the whole account")]


class CreatePolicy(Body):
    """A name, and a document of version 1.1 or 5.0."""

    name: str
    document: dict[str, Any]


class ReplacePolicy(Body):
    """What the policy says from now on."""

    document: dict[str, Any]


class AttachPolicy(Body):
    """A user or a group, in a project or (null) in the whole account."""

    user_id: str | None = None
    group_id: str | None = None
    project_id: str | None = None


class AttachmentView(View):
    """Whom a policy is attached to, in a project or (null) in the whole account."""

    user_id: str | None
    group_id: str | None
    project_id: str | None


class PolicyView(View):
    """A policy; a role of this server has its name as id, and is not attached but granted."""

    id: str
    name: str
    document: dict[str, Any]
    built_in: bool
    created_at: Seconds | None
    attachments: list[AttachmentView]


@router.get("", response_model=list[PolicyView])
async def list_policies(caller: CurrentCaller, policies: PoliciesService) -> list[dict[str, object]]:
    """List the account's policies by name, after the roles of this server."""
    found = [_view(policy) for policy in await policies.list_policies(caller)]
    return [*_roles(), *found]


@router.post(
    "",
    status_code=201,
    response_model=PolicyView,
    dependencies=[allowed_in_account("iam:policies:create")],
    responses=error_responses(errors.AlreadyExists),
)
async def create_policy(
    body: CreatePolicy, caller: CurrentCaller, policies: PoliciesService, request_id: RequestId
) -> dict[str, object]:
    """Store a policy; what is not understood in it is refused by name."""
    return _view(await policies.create(caller, name=body.name, document=body.document, request_id=request_id))


@router.get("/{policy_id}", response_model=PolicyView)
async def show_policy(policy_id: str, caller: CurrentCaller, policies: PoliciesService) -> dict[str, object]:
    """Show one policy, and whom it is attached to."""
    return _view(await policies.show(caller, policy_id))


@router.put("/{policy_id}", response_model=PolicyView, dependencies=[allowed_in_account("iam:policies:update")])
async def replace_policy(
    policy_id: str, body: ReplacePolicy, caller: CurrentCaller, policies: PoliciesService, request_id: RequestId
) -> dict[str, object]:
    """Replace what a policy says, which counts at once."""
    return _view(await policies.replace_document(caller, policy_id, document=body.document, request_id=request_id))


@router.delete("/{policy_id}", status_code=204)
async def delete_policy(
    policy_id: str, caller: CurrentCaller, policies: PoliciesService, request_id: RequestId
) -> None:
    """Delete a policy, and take it from whoever has it."""
    await policies.remove(caller, policy_id, request_id=request_id)


@router.post(
    "/{policy_id}/attachments",
    response_model=PolicyView,
    dependencies=[allowed_in_account("iam:policies:attach")],
)
async def attach_policy(
    policy_id: str, body: AttachPolicy, caller: CurrentCaller, policies: PoliciesService, request_id: RequestId
) -> dict[str, object]:
    """Attach a policy to a user or a group, which counts at once."""
    where = AttachmentRow(body.user_id, body.group_id, body.project_id)
    return _view(await policies.attach(caller, policy_id, where, request_id=request_id))


@router.delete("/{policy_id}/attachments", response_model=PolicyView)
async def detach_policy(
    *,
    policy_id: str,
    caller: CurrentCaller,
    policies: PoliciesService,
    request_id: RequestId,
    user_id: Annotated[str | None, Query(description="the user that has it")] = None,
    group_id: Annotated[str | None, Query(description="or the group that has it")] = None,
    project_id: OfProject = None,
) -> dict[str, object]:
    """Take a policy from a user or a group."""
    where = AttachmentRow(user_id, group_id, project_id)
    return _view(await policies.detach(caller, policy_id, where, request_id=request_id))


def _view(row: PolicyRow) -> dict[str, object]:
    return {**vars(row), "document": json.loads(row.document), "built_in": False}


def _roles() -> list[dict[str, object]]:
    return [
        {"id": name, "name": name, "document": document, "built_in": True, "created_at": None, "attachments": []}
        for name, document in role_documents().items()
    ]
