"""
Structured logs, through structlog and the standard library's logging.

Nothing is configured for the process, and nothing is printed: without a handler of the embedder's
own the records end nowhere. The fields of a log line are attributes of its `LogRecord`, and its message
shows them too.
"""

import logging
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger


def get_logger(name: str) -> Any:
    """Give a structlog logger that writes to the standard library's logger of this name."""
    logging.getLogger(name.partition(".")[0]).addHandler(_SILENT)
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, _render],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


_SILENT = logging.NullHandler()


def _render(logger: WrappedLogger, method: str, event_dict: EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """Turn an event into the arguments of a method of `logging.Logger`."""
    fields = {key: value for key, value in event_dict.items() if key not in ("event", "exc_info")}
    text = " ".join([str(event_dict["event"]), *(f"{key}={value}" for key, value in fields.items())])
    return (text,), {"extra": fields, "exc_info": event_dict.get("exc_info")}
