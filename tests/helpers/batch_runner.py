"""Runs a batch file against a server, and writes the answers as `vllm run-batch` or a hosted batch does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

Line = dict[str, Any]


def vllm_line(custom_id: str, response: httpx.Response) -> Line:
    """Return a line in the shape of `vllm run-batch`: an error stands beside a response without a body."""
    is_good = response.status_code == 200
    return {
        "id": f"vllm-{uuid4().hex}",
        "custom_id": custom_id,
        "response": {
            "status_code": response.status_code,
            "request_id": f"vllm-batch-{uuid4().hex}",
            "body": response.json() if is_good else None,
        },
        "error": None if is_good else response.json(),
    }


def hosted_line(custom_id: str, response: httpx.Response) -> Line:
    """Return a line in the shape of a hosted batch: the body of the response has the error."""
    answered = {"status_code": response.status_code, "request_id": uuid4().hex, "body": response.json()}
    return {"id": f"batch_req_{uuid4().hex}", "custom_id": custom_id, "response": answered, "error": None}


def run_batch(
    requests: Path, url: str, output: Path, shape: Callable[[str, httpx.Response], Line] = vllm_line
) -> list[Line]:
    """Send each request of a file to the server with this URL, ending in /v1, and write one line for each to `output`.

    Returns:
        The lines.
    """
    server = url.removesuffix("/v1")
    lines = []
    with httpx.Client(trust_env=False) as client:
        for text in requests.read_text("utf-8").splitlines():
            request = json.loads(text)
            assert request["method"] == "POST"
            lines.append(shape(request["custom_id"], client.post(server + request["url"], json=request["body"])))
    output.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return lines
