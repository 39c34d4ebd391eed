"""Errors in the form of the vendor's IAM: the nested ``error`` that Keystone clients read.

Code and message are at the top level as well, in both spellings: the vendor's Python SDK reads only those, with its CCE
handler, when it looks up the project; Java and Node read only the second pair.

Source: IAM API reference, "Obtaining a User Token", and the status codes of its newer pages.
"""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from pilothouse import errors
from pilothouse.http.audit import note_denial
from pilothouse.http.errors import error_response

#: By status; what is missing keeps the code that the rest of the wire has.
_CODES = {401: "IAM.0001", 403: "IAM.0003", 404: "IAM.0004", 409: "IAM.0005", 500: "IAM.0006"}


class IamRoute(APIRoute):
    """A route whose domain errors are answered in IAM's form."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler of the route, with IAM's errors."""
        handler = super().get_route_handler()

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except errors.PilothouseError as error:
                note_denial(request, error)
                return iam_error(error, body_read=request.method == "POST")

        return answered


def iam_error(error: errors.PilothouseError, *, body_read: bool) -> Response:
    """Return the answer for a domain error; status and headers are those of the common table."""
    plain = error_response(error)
    status = plain.status_code
    message = str(error)
    code = _CODES.get(status) or orjson.loads(plain.body)["error_code"]
    if isinstance(error, errors.InvalidRequest):
        code, what = ("IAM.0011", "The request body") if body_read else ("IAM.0007", "A request parameter")
        message = f"{what} is invalid: {message}"
    body = {"errorCode": code, "errorMessage": message, "error_code": code, "error_msg": message}
    nested = {"code": status, "message": message, "title": HTTPStatus(status).phrase}
    headers = {name: value for name, value in plain.headers.items() if name == "retry-after"}
    return Response(
        orjson.dumps({"error": nested, **body}), status_code=status, media_type="application/json", headers=headers
    )
