"""Log lines: for people (`text`), or one JSON object a line (`json`). Neither says what an event or a customer says."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from streams.redact import ExcInfo, stack_of

LogFormat = Literal["text", "json"]
NOISY: Final = ("aiokafka", "faust", "mode", "kafka", "httpx", "httpcore", "urllib3")
"""Libraries that say only what is wrong: below that they show messages, keys and addresses."""


def set_up_logging(level: str, form: LogFormat = "text") -> None:
    """Logs to standard error; what a command answers goes to standard output."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))


def says_json() -> bool:
    """Whether standard error is for programs."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


class TextFormatter(logging.Formatter):
    """A line for people; below it the frames of an exception."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        record.message = message_of(record)
        return super().formatMessage(record)

    def formatException(self, ei: ExcInfo) -> str:
        """Without what exceptions of others say."""
        return "" if ei[1] is None else stack_of(ei[1])


class JsonFormatter(logging.Formatter):
    """One JSON object: `time`, `level`, `logger`, `message`; `trace_id` and `span_id` in a traced request; `error`."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
            **_trace(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            line["error"] = {"type": type(error).__qualname__, "stack": stack_of(error)}
        return msgspec.json.encode(line).decode()


def message_of(record: logging.LogRecord) -> str:
    """The message. asyncio's own go on with what a task has raised: of them the first line."""
    message = record.getMessage()
    return message.partition("\n")[0] if record.name == "asyncio" else message


def _trace() -> dict[str, str]:
    """Of the request at hand, where traces are kept."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    found = trace.get_current_span().get_span_context()
    return {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"} if found.is_valid else {}
