"""Webhooks: create, list, show, enable, try out, remove, and what became of messages to them."""

from typing import Annotated, Any

from fastapi import Query, Response
from pydantic import FailFast, Field

from pilothouse import errors
from pilothouse.api.v1.dependencies import CurrentCaller, RequestId, allowed, service
from pilothouse.api.v1.models import GOES_ON, PAGED, Body, Limit, Milliseconds, OptionalBlank, Seconds, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.http.release_queries import MARKER
from pilothouse.services.webhooks import TOLD, Webhooks
from pilothouse.states import DeliveryState, WebhookEvent, WebhookFormat
from pilothouse.store.webhooks import DeliveryRow, WebhookRow

router = native_router("/api/v1/webhooks", tag="webhooks")
_Event = Annotated[WebhookEvent, Field(strict=False)]
WebhooksService = Annotated[Webhooks, service(Webhooks)]


class CreateWebhook(Body):
    """A name, where messages go, what is told (by default all), and how: `json` or `slack`."""

    name: str
    url: Annotated[str, Field(description="https://…; its path is a secret, and is never shown again")]
    events: Annotated[list[_Event], FailFast(), Field(max_length=10, default_factory=lambda: list(TOLD))]
    format: Annotated[WebhookFormat, Field(strict=False)] = WebhookFormat.JSON


class ChangeWebhook(Body):
    """Whether the webhook is enabled."""

    enabled: bool


class WebhookView(View):
    """A webhook. `origin`: scheme, host and port of its URL. `pending`: messages that it did not take yet.

    `failures`: attempts that failed since the last one that did not; `last_error` says why the last one did.
    """

    id: str
    name: str
    origin: str
    format: WebhookFormat
    events: list[WebhookEvent]
    enabled: bool
    created_at: Seconds
    pending: int
    failures: int
    last_error: str
    delivered_at: Seconds | None


class CreatedWebhookView(WebhookView):
    """A new webhook with its secret, which is shown only now."""

    secret: str


class DeliveryView(View):
    """A message: pending, delivered or given_up; `status` and `error` of its last attempt."""

    id: int
    event: WebhookEvent
    facts: Annotated[dict[str, Any], Field(description="what it is about")]
    state: DeliveryState
    attempts: int
    status: int | None
    error: str
    created_at: Milliseconds
    due_at: Annotated[Milliseconds, Field(description="when it is tried (again)")]
    ended_at: Milliseconds | None


class PingView(View):
    """The message that was queued."""

    id: int


@router.post(
    "",
    status_code=201,
    response_model=CreatedWebhookView,
    dependencies=[allowed("cce:webhook:create")],
    responses=error_responses(errors.AlreadyExists),
)
async def create_webhook(
    body: CreateWebhook, caller: CurrentCaller, webhooks: WebhooksService, request_id: RequestId
) -> dict[str, Any]:
    """Create a webhook of the project; the answer has the secret that signs its messages."""
    made = await webhooks.create(
        caller, name=body.name, url=body.url, events=body.events, format_=body.format, request_id=request_id
    )
    return {**vars(made.webhook), "secret": made.secret}


@router.get("", response_model=list[WebhookView])
async def list_webhooks(caller: CurrentCaller, webhooks: WebhooksService) -> list[WebhookRow]:
    """List the project's webhooks by name, each with whether it takes its messages."""
    return await webhooks.list_all(caller)


@router.get("/{webhook_id}", response_model=WebhookView)
async def show_webhook(webhook_id: str, caller: CurrentCaller, webhooks: WebhooksService) -> WebhookRow:
    """Show one webhook."""
    return await webhooks.show(caller, webhook_id)


@router.get("/{webhook_id}/deliveries", response_model=list[DeliveryView], responses=PAGED)
async def list_deliveries(
    *,
    response: Response,
    webhook_id: str,
    caller: CurrentCaller,
    webhooks: WebhooksService,
    state: Annotated[DeliveryState | None, Query(description="only in this state"), OptionalBlank] = None,
    limit: Limit = 100,
    marker: Annotated[int | None, Query(ge=1, le=2**63 - 1, description=GOES_ON), OptionalBlank] = None,
) -> list[DeliveryRow]:
    """List messages to the webhook, newest first."""
    page = await webhooks.list_deliveries(caller, webhook_id, state=state, before=marker, limit=limit)
    if page.next is not None:
        response.headers[MARKER] = str(page.next)
    return page.rows


@router.patch("/{webhook_id}", response_model=WebhookView, dependencies=[allowed("cce:webhook:update")])
async def change_webhook(
    webhook_id: str, body: ChangeWebhook, caller: CurrentCaller, webhooks: WebhooksService, request_id: RequestId
) -> WebhookRow:
    """Enable or disable a webhook: what happens while it is disabled is never told to it."""
    return await webhooks.set_enabled(caller, webhook_id, enabled=body.enabled, request_id=request_id)


@router.post(
    "/{webhook_id}/ping", status_code=202, response_model=PingView, dependencies=[allowed("cce:webhook:update")]
)
async def ping_webhook(
    webhook_id: str, caller: CurrentCaller, webhooks: WebhooksService, request_id: RequestId
) -> PingView:
    """Send the webhook a message, to see whether it takes one."""
    return PingView(id=await webhooks.ping(caller, webhook_id, request_id=request_id))


@router.delete("/{webhook_id}", status_code=204)
async def remove_webhook(
    webhook_id: str, caller: CurrentCaller, webhooks: WebhooksService, request_id: RequestId
) -> None:
    """Remove a webhook; what it was not told yet is not told."""
    await webhooks.remove(caller, webhook_id, request_id=request_id)
