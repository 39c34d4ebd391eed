"""Masks what a call of the engine was given in the texts of its errors."""

from typing import Any

from pilothouse.engine.request import Request
from pilothouse.errors import EngineCrashed, EngineError, EngineUnavailable
from pilothouse.masking_thread import mask, prepare
from pilothouse.redaction import Masks, masks_of


async def mask_error(error: EngineError, request: Request[Any], masks: Masks | None) -> None:
    """Remove the request's values and credentials, for which the caller may have ``masks``, from the error's texts."""
    if masks is None:
        masks = await prepare(lambda: _masks_of(request), getattr(request, "values", None))
    error.args = tuple([await mask(masks, part) if isinstance(part, str) else part for part in error.args])
    if isinstance(error, EngineCrashed | EngineUnavailable):
        error.stderr_tail = await mask(masks, error.stderr_tail)


def _masks_of(request: Request[Any]) -> Masks:
    public = (getattr(request, "release_name", ""), getattr(request, "namespace", ""))
    values, kubeconfig = getattr(request, "values", None), getattr(request, "kubeconfig", "")
    return masks_of(values=values, kubeconfig=kubeconfig, public=public)
