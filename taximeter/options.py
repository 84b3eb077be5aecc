"""What the commands' options share: kinds of values, groups of options, and the settings file."""

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from schemas.identity import IDENTIFIER
from schemas.limits import BODIES_BYTES_MAX, BODY_BYTES_MAX
from schemas.times import TimeError, parse_time
from streams.kafka.settings import KafkaSettings
from streams.pace import PAUSE_S

_F = TypeVar("_F", bound=Callable[..., Any])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+)([smhd])\Z")


class DurationType(click.ParamType):
    """`90s`, `15m`, `1h`, `35d`, or `0`: whole seconds, `least` or more."""

    name = "duration"

    def __init__(self, least: int = 0) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.match(str(value))
        if match is None and value != "0":
            self.fail(f"found {value!r}, expected a number and a unit: 90s, 15m, 1h or 35d", param, ctx)
        seconds = int(match[1]) * _UNITS[match[2]] if match else 0
        if seconds < self._least:
            self.fail(f"found {value!r}, expected {self._least}s or more", param, ctx)
        return seconds


class TimeType(click.ParamType):
    """An RFC 3339 time; microseconds since the epoch."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except TimeError as error:
            self.fail(str(error), param, ctx)


class TenantType(click.ParamType):
    """The name of a tenant."""

    name = "tenant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not IDENTIFIER.match(str(value)):
            self.fail(f"found {str(value)[:128]!r}, expected 1 to 128 letters, digits and . _ - : @ /", param, ctx)
        return str(value)


DURATION = DurationType()
SOME_TIME = DurationType(least=1)
TIME = TimeType()
TENANT = TenantType()
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def grouped(*options: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """Several options as one decorator, in the order written."""

    def decorate(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


listening = grouped(
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 finds a free one."),
)
kafka = grouped(
    click.option(
        "--bootstrap", envvar="KAFKA_BOOTSTRAP", required=True, help="Kafka brokers, host:port, several with commas."
    ),
    click.option("--partitions", default=4, show_default=True, type=click.IntRange(1, 10_000), help="Of the events."),
    click.option("--prefix", default="", help="Stands before every topic's name, to share a cluster."),
    click.option("--replication", default=1, show_default=True, help="Copies of each topic. In production: 3."),
    click.option(
        "--security",
        multiple=True,
        metavar="NAME=VALUE",
        help="TLS and SASL, by librdkafka's names; NAME=@FILE reads the value, @FILE all of them.",
    ),
)
registry = click.option(
    "--schema-registry",
    default="",
    metavar="URL",
    help="Where the schemas of outputs in Avro are: http(s)://[user:password@]host:port. Needed where there are such.",
)
written = grouped(
    registry,
    click.option(
        "--format",
        "output_format",
        default="json",
        show_default=True,
        type=click.Choice(["json", "avro"]),
        help="How line items, invoices and alerts are written. All workers have the same.",
    ),
)
periods = grouped(
    click.option(
        "--lateness", default="1h", show_default=True, type=DURATION, help="How long a period stays open after its end."
    ),
    click.option("--window", default="35d", show_default=True, type=DURATION, help="Deduplication window, whole days."),
    click.option(
        "--tick", default="10s", show_default=True, type=DURATION, help="How often the clock is written; 0: never."
    ),
    click.option(
        "--snapshot-every",
        default="60s",
        show_default=True,
        type=SOME_TIME,
        help="How old the newest snapshot may become: a restart replays what came since.",
    ),
    click.option(
        "--pause-ms",
        default=round(PAUSE_S * 1000),
        show_default=True,
        type=click.IntRange(0, 10_000),
        help="The longest pause after a step of the engine; on Kafka also how long the broker may gather what is "
        "fetched while much comes. Longer costs less an event, shorter tells of it earlier.",
    ),
)


watched = grouped(
    click.option(
        "--stall",
        default="2m",
        show_default=True,
        type=DURATION,
        help="What has work and does not move for so long is hung: the process says so and ends with status 70.",
    ),
)
health_fronted = grouped(
    click.option("--tls-cert", type=FILE, help="Certificate chain (PEM): serve HTTPS. Read again when it changes."),
    click.option("--tls-key", type=FILE, help="Its private key (PEM)."),
    click.option("--tls-client-ca", type=FILE, help="Authorities (PEM): only clients with a certificate of theirs."),
    click.option(
        "--insecure-no-keys", is_flag=True, help="Ask nobody for a key, on any address. Only behind a proxy that does."
    ),
    click.option("--public-metrics", is_flag=True, help="/metrics and /v1/status need no key."),
)
fronted = grouped(
    health_fronted,
    click.option(
        "--tenant-rate",
        multiple=True,
        metavar="[TENANT=]RATE",
        help="Events a second that each tenant, or the one named, may send to this process; more: 429.",
    ),
    click.option(
        "--tenant-burst", default="10s", show_default=True, type=SOME_TIME, help="How long a rate may be saved up for."
    ),
    click.option(
        "--body-memory",
        default=BODIES_BYTES_MAX // 1024 // 1024,
        show_default=True,
        metavar="MIB",
        type=click.IntRange(BODY_BYTES_MAX // 1024 // 1024),
        help="For all requests' bodies at once; more: 503.",
    ),
    click.option(
        "--slow-client",
        default="20s",
        show_default=True,
        type=SOME_TIME,
        help="How long headers may take, and a body that comes slower than 16 KiB a second; longer: 408.",
    ),
)
observed = grouped(
    click.option(
        "--otlp",
        metavar="URL",
        help="Send traces to this OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318.",
    ),
)
audited = grouped(
    click.option("--data", type=FOLDER, help="The data folder of `taximeter serve`, running or not."),
    click.option("--archive", help="Folder or object store URL of the archive (default: in --data)."),
    click.option("--bootstrap", help="Kafka brokers, in place of --data."),
    click.option("--partitions", default=4, show_default=True, type=click.IntRange(1, 10_000), help="On Kafka."),
    click.option("--prefix", default="", help="Stands before every topic's name on Kafka."),
    click.option("--security", multiple=True, metavar="NAME=VALUE", help="TLS and SASL, by librdkafka's names."),
    registry,
    click.option("--lateness", default="1h", show_default=True, type=DURATION, help="As the engine was run."),
    click.option("--window", default="35d", show_default=True, type=DURATION, help="As the engine was run."),
)


def kafka_settings(
    bootstrap: str,
    partitions: int,
    prefix: str,
    replication: int,
    security: Sequence[str],
    session_timeout: int = 6,
    *,
    schema_registry: str = "",
    output_format: str = "json",
) -> KafkaSettings:
    """What the options `kafka` and `written` say. Raises: ValueError where a setting is wrong."""
    names = read_security(security)
    return KafkaSettings(
        bootstrap,
        prefix,
        partitions,
        replication,
        min(2, replication),
        session_timeout_s=session_timeout,
        heartbeat_s=session_timeout / 4,
        security=names,
        schema_registry=schema_registry,
        avro=output_format == "avro",
    )


def read_security(pairs: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE`; `NAME=@FILE`, the value being what the file holds; or `@FILE`, a `NAME=VALUE` on each line.

    So no secret has to stand on a command line. Raises: ValueError.
    """
    names: dict[str, str] = {}
    for pair in pairs:
        if pair.startswith("@"):
            lines = (line.strip() for line in _read_file(pair[1:]).splitlines())
            names |= read_security([line for line in lines if line and not line.startswith(("#", "@"))])
            continue
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals:
            found = repr(pair) if len(pair) < 40 else "a text without ="  # a secret, perhaps
            raise ValueError(f"--security: found {found}, expected NAME=VALUE such as security.protocol=SASL_SSL")
        names[name] = _read_file(value[1:]).rstrip("\r\n") if value.startswith("@") else value
    return names


def _read_file(name: str) -> str:
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--security: cannot read {name}: {getattr(error, 'strerror', None) or error}") from None


def read_settings(path: Path) -> dict[str, Any]:
    """The settings file: TOML, a table for each command, keys as the options are called.

    Raises: click.BadParameter.
    """
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--settings") from None
    return {
        command: {key.replace("-", "_"): value for key, value in table.items()} if isinstance(table, dict) else table
        for command, table in found.items()
    }
