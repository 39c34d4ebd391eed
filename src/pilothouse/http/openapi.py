"""What our own API says about itself: OpenAPI, with the parts that FastAPI cannot see.

Bodies are read by ``read_json`` and errors written by ``http.errors``, not by FastAPI; here both are described.
"""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

_WHAT = """\
The API of Pilothouse's own things: clusters, operations, users, access keys, projects, the audit. Charts and releases
are handled by the compatible API, which `/api/v1/compatible-openapi.json` describes.

A request is authenticated like one of the compatible API: by a token in `X-Auth-Token` (which `POST /v3/auth/tokens`
gives for a password), or by a signature with an access key (`Authorization: SDK-HMAC-SHA256 …`, which the vendor's SDKs
and `pilothouse` make). `X-Project-Id` chooses another project of the caller.

Every answer carries `X-Request-Id`, which the server's log names too. Every error is a JSON object with code and
message, both in two spellings. Fields that are not known are refused.\
"""

_ERROR = {
    "description": "An error; the status tells the class, the code the kind, the message what to do.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["errorCode", "errorMessage", "error_code", "error_msg"],
                "properties": {
                    name: {"type": "string"} for name in ("errorCode", "errorMessage", "error_code", "error_msg")
                },
            }
        }
    },
}
_CREDENTIALS = {
    "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    "signature": {"type": "apiKey", "in": "header", "name": "Authorization"},
}


def takes(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads this model as its JSON body, which may be missing unless ``required``."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def asks(**parameters: str) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads these from its query, each with what it means; all are optional."""
    return {
        "parameters": [
            {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in parameters.items()
        ]
    }


def describe(app: FastAPI, *, public: Callable[[str, str], bool]) -> None:
    """``app.openapi()`` describes errors and credentials too; ``public`` tells which routes need none."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=_WHAT, routes=app.routes)
            components = schema.setdefault("components", {})
            components["securitySchemes"] = _CREDENTIALS
            for name in ("HTTPValidationError", "ValidationError"):
                components.get("schemas", {}).pop(name, None)
            for path, methods in schema["paths"].items():
                for method, operation in methods.items():
                    operation["responses"].pop("422", None)  # FastAPI's own, which no route of ours answers
                    operation["responses"]["default"] = _ERROR
                    operation["security"] = (
                        [] if public(method.upper(), path) else [{name: []} for name in _CREDENTIALS]
                    )
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]  # the way that FastAPI documents for this
