"""Recommendations over HTTP in a few lines: GET /USER returns the shopper's hits as JSON.

Run it with `python examples/service.py index 8080`; the first argument is the folder or URL of the index. For business
rules give `open_index` their file: `rules=Path("rules.yaml")`.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from vlm4rec_search import Query, UsageError, Vlm4recError, open_index


def serve(url: str, port: int) -> ThreadingHTTPServer:
    """Return a server on loopback that answers from the index; port 0 takes a free one."""
    index = open_index(url)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                user = unquote(self.path[1:].partition("?")[0])
                body, status = index.search(Query(user=user, k=10)).to_json(), 200
            except Vlm4recError as error:
                body, status = {"error": str(error)}, 400 if isinstance(error, UsageError) else 503
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2])).serve_forever()
