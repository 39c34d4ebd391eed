"""Common base of bodies, parameters and answers of the native API."""

from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, Final

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError, PydanticUseDefault

from pilothouse.http.json_bodies import FORM, UNKNOWN_FIELD, JsonLimits
from pilothouse.http.release_queries import MARKER

_LONGEST_ECHO: Final = 100
_TEXT: Final = {"type": "string"}
_MOMENT: Final = WithJsonSchema({"type": "string", "format": "date-time"})


class Body(BaseModel):
    """Base of every JSON body: only declared fields, within ``limits``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    limits: ClassVar[JsonLimits] = FORM

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, data: Any) -> Any:
        """Refuse the first unknown field: pydantic would build an error for each, and a body can have thousands."""
        names = cls.model_fields
        unknown = next((name for name in data if name not in names), None) if isinstance(data, dict) else None
        if unknown is None:
            return data
        near = get_close_matches(unknown, names, n=1) if len(unknown) <= _LONGEST_ECHO else []
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
        text = f"{unknown[:_LONGEST_ECHO]}: unknown field; {hint}"
        raise PydanticCustomError(UNKNOWN_FIELD, "{text}", {"text": text})


class View(BaseModel):
    """Base of every answer: read from the attributes of a service's result, and complete."""

    model_config = ConfigDict(from_attributes=True, json_schema_serialization_defaults_required=True)


class Error(BaseModel):
    """An error: the status is its class, the code its kind, the message says what to do. Both in two spellings."""

    error_code: str
    error_msg: str
    code: Annotated[str, Field(alias="errorCode")]
    message: Annotated[str, Field(alias="errorMessage")]
    reason: Annotated[
        str,
        Field(
            description="What the code does not tell: `argument`, the request itself is wrong, whatever there is on "
            "the server; `release_moved`, another revision of the release is the newest; `cluster_not_found`, "
            "`release_not_found` and `release_not_installed`, what is not there. Empty or absent: none of these; more "
            "words may come."
        ),
    ] = ""


def _read_time(value: Any) -> Any:
    """Return the time in a text with a zone; anything else, such as pydantic's numbers, is refused."""
    if not value:
        raise PydanticUseDefault
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PydanticCustomError("time", "must be a time with a zone, such as 2026-01-31T12:00:00Z")
    return moment


def _blank_is_absent(value: Any) -> Any:
    if value == "":
        raise PydanticUseDefault
    return value


def _written(timespec: str) -> PlainSerializer:
    return PlainSerializer(lambda moment: moment.isoformat(timespec=timespec), return_type=str)


#: A time in a body or a query (RFC 3339, with a zone).
Time = Annotated[datetime, BeforeValidator(_read_time)]
#: Behind the declaration of a query parameter: an empty one is one that is not there.
OptionalBlank: Final = BeforeValidator(_blank_is_absent)
#: How lists come in parts: as many as ``limit``, then the header names the ``marker`` of the next part.
GOES_ON: Final = f"goes on where {MARKER} of the part before says"
PAGED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": {MARKER: {"description": "the marker of the next part, if there is one", "schema": _TEXT}}}
}
Limit = Annotated[int, Query(ge=1, le=500, description="the most that one answer holds"), OptionalBlank]
#: Times of answers.
Seconds = Annotated[datetime, _written("seconds"), _MOMENT]
Milliseconds = Annotated[datetime, _written("milliseconds"), _MOMENT]
