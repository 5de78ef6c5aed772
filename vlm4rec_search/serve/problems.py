"""Errors as problem details (RFC 9457), each with one line that says what to do."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from vlm4rec_search.common.errors import RunError, UsageError, one_line
from vlm4rec_search.search.backend import AccessError
from vlm4rec_search.serve.schemas import Problem

logger = logging.getLogger(__name__)
RETRY_AFTER = 1  # seconds
REFUSED = "the server of the index refuses access; the log of the service has the reason"
_API = "GET /openapi.json describes the API"
_UNREADABLE = "There was an error parsing the body"  # of FastAPI


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a problem as a response."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=one_line(detail), **more)
    return JSONResponse(body.model_dump(), status, dict(headers or {}), media_type="application/problem+json")


def add_problems(app: FastAPI) -> None:
    """Answer every error of the service with a problem."""

    @app.exception_handler(UsageError)
    def refuse(request: Request, error: UsageError) -> JSONResponse:
        return problem(400, str(error))

    @app.exception_handler(AccessError)
    def hide(request: Request, error: AccessError) -> JSONResponse:
        logger.error("%s", error)
        return problem(503, REFUSED, {"Retry-After": str(RETRY_AFTER)})

    @app.exception_handler(RunError)
    def postpone(request: Request, error: RunError) -> JSONResponse:
        logger.warning("cannot answer: %s", error)
        return problem(503, str(error), {"Retry-After": str(RETRY_AFTER)})

    @app.exception_handler(RequestValidationError)
    def describe(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"field": _field(each), "message": _message(each)} for each in error.errors()]
        first = errors[0]
        return problem(422, ": ".join(filter(None, first.values())), errors=errors)

    @app.exception_handler(HTTPException)
    def pass_on(request: Request, error: HTTPException) -> JSONResponse:
        cures = {
            404: f"there is no such address: {_API}",
            405: f"the address takes no {request.method}: {_API}",
            400: "the body is not JSON in UTF-8, or it is nested too deeply",  # whose cause the framework hides
        }
        is_ours = str(error.detail) not in (HTTPStatus(error.status_code).phrase, _UNREADABLE)
        detail = str(error.detail) if is_ours else cures.get(error.status_code, str(error.detail))
        return problem(error.status_code, detail, error.headers)


def _field(error: Mapping[str, Any]) -> str:
    return "" if error["type"] == "json_invalid" else ".".join(str(part) for part in error["loc"][1:])


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return f"the body is not JSON: {error['ctx']['error']} at character {error['loc'][-1]}"
    if error["type"] == "extra_forbidden":
        return f"there is no such field: {_API}"
    if tuple(error["loc"]) == ("body",) and error["type"] in ("missing", "model_attributes_type"):
        return "send a JSON object with the header `content-type: application/json`"
    return str(error["msg"]).removeprefix("Value error, ")
