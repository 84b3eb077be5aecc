"""The commands `taximeter keys`: their options and help. What they do stands in `command.py`."""

import sys
from typing import Any

import click

from schemas.access import SCOPES
from taximeter.options import DURATION, FOLDER, grouped
from taximeter.process import run


@click.group()
def keys() -> None:
    """API keys: who may send usage, ask, and change the catalogue, for which tenant.

    A server takes changes within a second, without a restart. Only a hash of a key is kept. With `--data` they are in
    the folder of `serve`; with `--bootstrap` in the topic `taximeter.keys`, for `ingest`, `rate` and `spend`.
    """


_KEYS = grouped(
    click.option("--data", type=FOLDER, help="The data folder of `serve`, running or not."),
    click.option("--bootstrap", envvar="KAFKA_BOOTSTRAP", help="Kafka brokers, in place of --data."),
    click.option("--prefix", default="", help="Of --bootstrap: as `ingest` has it."),
    click.option("--replication", default=1, show_default=True, help="Of --bootstrap: as `ingest` has it."),
    click.option("--security", multiple=True, metavar="NAME=VALUE", help="Of --bootstrap: as `ingest` has it."),
    click.option("--json", is_flag=True, help="One JSON value in place of text."),
)
_KEY_ID = click.argument("id")


@keys.command("create")
@click.option("--tenant", default="default", show_default=True, help="Whose key. `default` is the operator's own.")
@click.option("--name", required=True, help="What it is for, for people.")
@click.option(
    "--scope", multiple=True, required=True, type=click.Choice(SCOPES), help="What it may do; may be repeated."
)
@click.option("--expires-in", default="0", type=DURATION, help="How long it is valid, such as 90d; 0: for good.")
@_KEYS
def create_key(**options: Any) -> None:
    """Makes a key and prints it, once. `ingest` sends events, `query` asks, `admin` changes the catalogue and keys.

    An `admin` key of the tenant default is the operator's: only with it can the clock be set (/v1/ticks) and all
    tenants' figures be seen (/metrics, /v1/status).
    """
    from taximeter.access.command import create as start

    sys.exit(run(start(**options)))


@keys.command("list")
@click.option("--tenant", help="Of this tenant only.")
@_KEYS
def list_keys(**options: Any) -> None:
    """Lists keys, revoked and expired ones too."""
    from taximeter.access.command import list_keys as start

    sys.exit(run(start(**options)))


@keys.command("show")
@_KEY_ID
@_KEYS
def show_key(**options: Any) -> None:
    """Shows one key: its scopes, its times, and since when its secrets are valid. Never a secret."""
    from taximeter.access.command import show_key as start

    sys.exit(run(start(**options)))


@keys.command("rotate")
@_KEY_ID
@click.option("--grace", default="1d", show_default=True, type=DURATION, help="How long the secret before stays valid.")
@_KEYS
def rotate_key(**options: Any) -> None:
    """Gives a key a new secret and prints it, once. The old one goes on for the grace time: change it meanwhile."""
    from taximeter.access.command import rotate_key as start

    sys.exit(run(start(**options)))


@keys.command("revoke")
@_KEY_ID
@_KEYS
def revoke_key(**options: Any) -> None:
    """Ends a key for good, within a second on every running server. It stays in the list."""
    from taximeter.access.command import revoke_key as start

    sys.exit(run(start(**options)))
