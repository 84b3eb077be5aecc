"""`taximeter rejections`: what was rejected, why, and how it is made good."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from schemas.rejection import CODES
from taximeter.options import FILE, FOLDER, grouped
from taximeter.process import run

_CODE = click.option("--code", type=click.Choice(CODES), help="Only with this code.")
_METER = click.option("--meter", help="Only of this meter.")
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON in place of text.")
_ASKED = grouped(
    click.option("--url", help="Who lists rejections: `serve`, or `spend` on Kafka. Such as http://127.0.0.1:8080."),
    click.option("--key", envvar="TAXIMETER_KEY", help="API key, where the server asks for one."),
)
_READ = grouped(_ASKED, click.option("--data", type=FOLDER, help="In place of --url: the folder of a stopped `serve`."))
_SENT = grouped(
    _ASKED,
    click.option("--door", help="Who takes events, where it is not --url: `ingest` on Kafka."),
    click.option("--reason", default="", help="Kept in the void that takes the old event back."),
    click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing."),
)


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.exit(status)


@click.group()
def rejections() -> None:
    """What was rejected: lists it, explains it, and sends it again, mended where it must be.

    Sending goes through the door as a new request. Where the rejected event is in the log and counted by other meters,
    a void takes it back and the mended one comes under the id `<old>+mend.1`.
    """


@rejections.command("list")
@_READ
@_CODE
@_METER
@click.option("--all", "everything", is_flag=True, help="Also those that an event stands for already.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@_JSON
def list_(**options: Any) -> None:
    """Lists rejections, the newest first. With --json one on each line, whole."""
    _start("list_rejections", options)


@rejections.command()
@click.argument("id")
@_READ
@_JSON
def show(**options: Any) -> None:
    """Shows one rejection: the event, what is wrong, what to do, and who made it good."""
    _start("show_rejection", options)


@rejections.command()
@click.argument("code", type=click.Choice(CODES), required=False)
def explain(code: str | None) -> None:
    """Explains a code, or all: what it means, what to do, and whether the event's id is used up."""
    from taximeter.rejections_command import explain_codes

    explain_codes([code] if code else CODES)


@rejections.command()
@click.argument("id")
@click.option("--set", "changes", multiple=True, metavar="PATH=JSON", help="Such as data.tokens=5; may be repeated.")
@click.option("--event", type=FILE, help="The whole mended event as JSON, in place of --set.")
@click.option("--replace", is_flag=True, help="Of a conflict: this event takes the place of the first one.")
@_SENT
@_JSON
def mend(changes: tuple[str, ...], event: Path | None, **options: Any) -> None:
    """Changes a rejected event and sends it.

    PATH is a place in the event, with points between; what stands behind = is JSON, or else taken as a text. null takes
    a name out. Exit status 3: the door did not take it.
    """
    _start("mend_rejection", options | {"changes": changes, "event": event})


@rejections.command()
@click.argument("ids", nargs=-1)
@_CODE
@_METER
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@_SENT
@_JSON
def resend(**options: Any) -> None:
    """Sends rejected events again as they came: after the catalogue was corrected, for example.

    Names IDS, or takes all of a --code and --meter that no event stands for yet. Exit status 3: some were not taken.
    """
    _start("resend_rejections", options)


def _start(name: str, options: dict[str, Any]) -> None:
    from taximeter import rejections_command

    command: Callable[..., Any] = getattr(rejections_command, name)
    _exit(run(rejections_command.reporting(command(**options))))
