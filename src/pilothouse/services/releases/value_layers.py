"""Values in layers: merged by Helm's own parsers, in an engine child, before anything is queued."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, Final

import yaml

from pilothouse.engine.protocol import MergeValuesRequest, ValuesLayer
from pilothouse.errors import EngineCrashed, EngineTimeout, HelmError, InvalidArgument, InvalidRequest
from pilothouse.services.releases.dependencies import ReleaseDependencies

_Loader: Final[Any] = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
#: No values are nested so deep, and libyaml takes the square of the depth, during which no other thread runs.
DEEPEST: Final = 100
#: The line that Helm's reader names is often the one before.
_HELMS_LINE: Final = re.compile(r"\byaml: line \d+: ")

#: What has an end of its own, in which everything up to there is read.
_OPENED: Final = re.compile(r"while (?:parsing a flow |scanning a quoted )")


async def merge_layers(
    shared: ReleaseDependencies, layers: Sequence[ValuesLayer], *, project_id: str
) -> dict[str, Any]:
    """Return the values; raise InvalidRequest with the layer's name and Helm's words if it cannot be read.

    For YAML also with line and column, which Helm does not tell. Raises Busy if no engine is free.
    """
    if not layers:
        return {}
    limits = shared.settings.engine
    try:
        merged = await shared.engine.run(
            MergeValuesRequest(layers=tuple(layers)),
            deadline_seconds=limits.answer_seconds,
            queue_seconds=limits.queue_seconds,
            share=project_id,
        )
    except HelmError as error:
        raise InvalidArgument(await asyncio.to_thread(_located, str(error), layers)) from error
    except EngineTimeout as error:
        raise InvalidRequest(f"values: stopped after {limits.answer_seconds:g} s, the limit") from error
    except EngineCrashed as error:
        raise InvalidRequest(f"values: {error}") from error
    return merged.values


def _located(text: str, layers: Sequence[ValuesLayer]) -> str:
    """Add to the error of a YAML layer where in it the error is."""
    layer = next((layer for layer in layers if layer.kind == "yaml" and text.startswith(f"{layer.name}: ")), None)
    if layer is None:
        return text
    line, column, begun = _find_error(layer.text)
    said = _HELMS_LINE.sub("yaml: ", text.removeprefix(f"{layer.name}: "), count=1)
    unclosed = f"; what is opened in line {begun} is not closed" if begun else ""
    return f"{layer.name}, line {line}, column {column}: {said}{unclosed}"


def _find_error(text: str) -> tuple[int, int, int]:
    """Return line and column of the first error of syntax or depth, else of the first value that is no mapping.

    And the line of a bracket or quote that the error is in, if that is another one; 0 for none.
    """
    first, depth, begun = None, 0, 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                first = event.start_mark
                break
            if first is None and isinstance(event, yaml.NodeEvent) and not isinstance(event, yaml.MappingStartEvent):
                first = event.start_mark
            elif isinstance(event, yaml.MappingStartEvent):
                first = first or event.start_mark
    except yaml.MarkedYAMLError as error:
        first = error.problem_mark or error.context_mark
        if first is not None and error.context_mark is not None and _OPENED.match(error.context or ""):
            begun = error.context_mark.line + 1 if error.context_mark.line < first.line else 0
    except yaml.YAMLError:
        first = None
    return (first.line + 1, first.column + 1, begun) if first is not None else (1, 1, 0)
