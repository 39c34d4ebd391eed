"""Reference documentation from an OpenAPI description: sections of operations, with fields instead of schemas."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """One parameter or one key of a body; nested keys have dotted names."""

    name: str
    type: str
    required: bool
    text: str = ""


@dataclass(frozen=True)
class Operation:
    """One call: its parameters, body and success answer."""

    method: str
    path: str
    text: str
    public: bool
    parameters: list[Field]
    takes: list[Field]
    takes_text: str
    status: str
    answers: list[Field]
    answers_text: str
    answers_list: bool


@dataclass(frozen=True)
class Section:
    """The operations of one noun."""

    name: str
    operations: list[Operation]


def sections(openapi: dict[str, Any]) -> list[Section]:
    """Return every operation under its first tag, in the description's order."""
    found: dict[str, list[Operation]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            found.setdefault(tag, []).append(_operation(openapi, method.upper(), path, operation))
    return [Section(name, operations) for name, operations in found.items()]


def _operation(openapi: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Operation:
    body = _schema_of(openapi, operation.get("requestBody") or {})
    status = next(code for code in operation["responses"] if code != "default")
    answer = _schema_of(openapi, operation["responses"][status])
    many = answer.get("type") == "array"
    item = _resolved(openapi, answer["items"]) if many else answer
    return Operation(
        method=method,
        path=path,
        text=_plain(operation.get("description", "")),
        public=not operation.get("security"),
        parameters=[
            Field(
                parameter["name"],
                _type(openapi, parameter["schema"]),
                bool(parameter.get("required")),
                parameter.get("description", parameter["in"]),
            )
            for parameter in operation.get("parameters") or ()
        ],
        takes=list(_fields(openapi, body)),
        takes_text=_plain(body.get("description", "")),
        status=status,
        answers=list(_fields(openapi, item)),
        answers_text=_plain(item.get("description", "")),
        answers_list=many,
    )


def _plain(docstring: str) -> str:
    """Convert code markup to Markdown."""
    return docstring.replace("``", "`")


def _schema_of(openapi: dict[str, Any], holder: dict[str, Any]) -> dict[str, Any]:
    content = holder.get("content") or {}
    described = content.get("application/json") or content.get("multipart/form-data") or {}
    return _resolved(openapi, described.get("schema") or {})


def _resolved(openapi: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in schema:
        return schema
    found: dict[str, Any] = openapi["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    return found


def _fields(
    openapi: dict[str, Any], schema: dict[str, Any], prefix: str = "", *, above: tuple[str, ...] = ()
) -> Iterator[Field]:
    """Yield the fields, and those below each; of a schema that holds itself once."""
    above = (*above, schema.get("title", ""))
    required = set(schema.get("required") or ())
    for name, property_schema in (schema.get("properties") or {}).items():
        resolved = _resolved(openapi, property_schema)
        inner = _resolved(openapi, resolved["items"]) if resolved.get("type") == "array" else resolved
        whole = f"{prefix}{name}"
        nested = bool(inner.get("properties")) and inner.get("title") not in above
        yield Field(
            whole,
            _type(openapi, property_schema),
            name in required,
            _plain(inner.get("description", "")) if nested else "",
        )
        if nested:
            yield from _fields(openapi, inner, f"{whole}.", above=above)


def _type(openapi: dict[str, Any], schema: dict[str, Any]) -> str:
    resolved = _resolved(openapi, schema)
    if "anyOf" in resolved:
        return " or ".join(_type(openapi, alternative) for alternative in resolved["anyOf"])
    if resolved.get("type") == "array":
        return f"list of {_type(openapi, resolved['items'])}"
    return str(resolved.get("type", "any"))
