"""Log records of this package, written to stderr as plain lines or as JSON lines.

Modules log through `logging.getLogger(__name__)` and never print. The `vlm4rec` command and the SQLMesh project call
`configure_logging`; a program that imports the package configures the logger `vlm4rec_search` itself.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["text", "json"]

PACKAGE = "vlm4rec_search"
_USERINFO = re.compile(r"(?<=://)[^/\s]+@")  # credentials in a URL; a password may hold an @
_DETAILED = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(verbosity: int = 0, log_format: LogFormat = "text") -> None:
    """Write the records of this package to stderr; a second call replaces the first configuration.

    Args:
        verbosity: -1 shows warnings and errors, 0 also notices, 1 also details, 2 adds time, level and logger to
            every line.
        log_format: "text" writes the bare message, "json" one object per line with time, level, logger and message, and
            with the values that a record has as `extra={"fields": {...}}`.
    """
    logger = logging.getLogger(PACKAGE)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _StderrHandler)]:
        logger.removeHandler(handler)
    handler = _StderrHandler()
    handler.setFormatter(
        _JsonFormatter() if log_format == "json" else _TextFormatter(_DETAILED if verbosity > 1 else None)
    )
    logger.addHandler(handler)
    logger.setLevel({-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))


def is_quiet() -> bool:
    """Whether `configure_logging` was asked for warnings and errors only."""
    return logging.getLogger(PACKAGE).level > logging.INFO


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which progress bars and tests replace."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        """Ignore the stream that the base class stores."""


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _without_userinfo(super().format(record))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _without_userinfo(record.getMessage()),
        }
        for name, value in getattr(record, "fields", {}).items():
            line[name] = _without_userinfo(value) if isinstance(value, str) else value
        if record.exc_info:
            line["exception"] = _without_userinfo(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _without_userinfo(text: str) -> str:
    return _USERINFO.sub("", text)
