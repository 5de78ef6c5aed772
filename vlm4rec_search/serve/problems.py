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
from vlm4rec_search.serve.schemas import Problem

logger = logging.getLogger(__name__)
RETRY_AFTER = 1  # seconds


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> JSONResponse:
    """Return a problem as a response."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=one_line(detail), **more)
    return JSONResponse(body.model_dump(), status, dict(headers or {}), media_type="application/problem+json")


def add_problems(app: FastAPI) -> None:
    """Answer every error of the service with a problem."""

    @app.exception_handler(UsageError)
    def refuse(request: Request, error: UsageError) -> JSONResponse:
        return problem(400, str(error))

    @app.exception_handler(RunError)
    def postpone(request: Request, error: RunError) -> JSONResponse:
        logger.warning("the index does not answer: %s", error)
        return problem(503, str(error), {"Retry-After": str(RETRY_AFTER)})

    @app.exception_handler(RequestValidationError)
    def describe(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [
            {"field": ".".join(str(part) for part in each["loc"][1:]), "message": _message(each)}
            for each in error.errors()
        ]
        first = errors[0]
        return problem(422, ": ".join(filter(None, first.values())), errors=errors)

    @app.exception_handler(HTTPException)
    def pass_on(request: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers)


def _message(error: Mapping[str, Any]) -> str:
    return str(error["msg"]).removeprefix("Value error, ")
