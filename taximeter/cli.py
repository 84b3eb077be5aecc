"""The command line: `taximeter COMMAND`, each with `--help`.

Exit status: 0 done, 1 something failed on the way, 2 bad arguments or a catalogue that is refused, 3 (`rate-file`,
`simulate`) some events were rejected.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from schemas.catalogue import CatalogueError
from taximeter.access.cli import keys
from taximeter.logs import LogFormat, set_up_logging
from taximeter.options import (
    DURATION,
    FILE,
    FOLDER,
    SOME_TIME,
    TENANT,
    TIME,
    audited,
    fronted,
    health_fronted,
    kafka,
    listening,
    observed,
    periods,
    read_settings,
    registry,
    watched,
    written,
)
from taximeter.process import complain, leave_pandas_out, run, spare_the_collector
from taximeter.rejections_cli import rejections
from taximeter.text import WIDTH_MAX

_LEVELS = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="taximeter")
@click.option("--settings", type=FILE, help="A TOML file with a table of options for each command.")
@click.option("--log-level", default="warning", show_default=True, type=_LEVELS, help="What is said on standard error.")
@click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="json: an object a line, for programs.",
)
@click.pass_context
def main(context: click.Context, settings: Path | None, log_level: str, log_format: LogFormat) -> None:
    """Meters usage and rates it as it arrives, exact to the cent.

    Start with `taximeter demo`. Then `taximeter check BOOK.yaml` explains a price book, `taximeter serve --catalogue
    BOOK.yaml` takes events over HTTP in one process, and `ingest`, `rate` and `spend` are the same parts on Kafka.

    Every option can also be set by the environment (TAXIMETER_SERVE_PORT=9000) or in the settings file.
    """
    if settings is not None:
        context.default_map = read_settings(settings)
    set_up_logging(log_level, log_format)


@main.command()
@listening
@click.option(
    "--data", type=FOLDER, default=Path("taximeter-data"), show_default=True, help="Where everything is kept."
)
@click.option("--catalogue", type=FILE, help="YAML whose documents are brought into force first.")
@click.option(
    "--partitions",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1024),
    help="Engine threads; fixed when the folder is made.",
)
@click.option("--snapshots", help="Folder or object store URL for snapshots (default: in --data).")
@click.option("--archive", help="Folder or object store URL for raw events as Parquet (default: in --data), or none.")
@click.option(
    "--max-ahead", default="1d", show_default=True, type=DURATION, help="How far ahead an event's time may be."
)
@click.option("--webhooks", type=FILE, help="YAML of endpoints that invoices and alerts are posted to.")
@periods
@watched
@fronted
@observed
def serve(**options: Any) -> None:
    """Everything in one process: door, engine, spend queries. No broker needed.

    Prints the URL when it is ready. SIGTERM and Ctrl-C stop it cleanly; kill -9 loses nothing that was acknowledged.
    """
    from taximeter.serve import serve as start

    _exit(run(start(**options)))


@main.command()
@listening
@kafka
@click.option("--catalogue", type=FILE, help="YAML whose documents are brought into force first.")
@click.option(
    "--max-ahead", default="1d", show_default=True, type=DURATION, help="How far ahead an event's time may be."
)
@fronted
@observed
def ingest(**options: Any) -> None:
    """The door on Kafka: takes events over HTTP and appends them to `taximeter.events`.

    Run as many as you like behind a load balancer.
    """
    from taximeter.workers import ingest as start

    _exit(run(start(**options)))


@main.command()
@kafka
@click.option("--snapshots", required=True, help="Folder or object store URL that all workers share.")
@click.option(
    "--state",
    type=FOLDER,
    help="Local folder for the part of the state on disk, this worker's alone (default: a temporary one).",
)
@click.option("--health-port", type=click.IntRange(0, 65535), help="Serve /health/…, /metrics and /v1/status here.")
@click.option("--health-host", default="127.0.0.1", show_default=True, help="Address of the health port.")
@click.option(
    "--session-timeout",
    default="6s",
    show_default=True,
    type=SOME_TIME,
    help="A worker that is silent for so long loses its partitions: the time of a failover.",
)
@click.option(
    "--max-ahead",
    default="1d",
    show_default=True,
    type=DURATION,
    help="How far ahead the time of an event in taximeter.events.json may be; 0: any. Give `ingest` the same.",
)
@click.option(
    "--tenant",
    default="default",
    show_default=True,
    type=TENANT,
    help="Whose events those in taximeter.events.json are: the same for all workers, and for good.",
)
@written
@click.option("--instance-id", help="Static membership: a name of this worker's own, which it keeps over restarts.")
@periods
@watched
@health_fronted
@observed
def rate(**options: Any) -> None:
    """A rating worker on Kafka: a Faust agent that owns some partitions. Run as many as there are partitions."""
    from taximeter.workers import rate as start

    _exit(start(**options))


@main.command()
@listening
@kafka
@click.option("--data", type=FOLDER, default=Path("taximeter-spend"), show_default=True, help="The store's folder.")
@click.option(
    "--clickhouse",
    help="ClickHouse in place of DuckDB: clickhouse://user:password@host:8123/database, or chdb:///folder (its engine "
    "in this process).",
)
@click.option("--lateness", default="1h", show_default=True, type=DURATION, help="As `rate` is run: for bills.")
@click.option("--window", default="35d", show_default=True, type=DURATION, help="As `rate` is run: for bills.")
@registry
@watched
@fronted
@observed
def spend(**options: Any) -> None:
    """Spend queries on Kafka: follows the topics into a store, and answers over HTTP."""
    from taximeter.workers import spend as start

    _exit(run(start(**options)))


main.add_command(keys)


@main.group()
def webhooks() -> None:
    """Posts invoices and alerts to those who asked for them, signed by the Standard Webhooks specification.

    `serve --webhooks FILE` does it in the same process; `webhooks run` is the process of its own on Kafka.
    """


_QUEUE = click.option(
    "--data", type=FOLDER, required=True, help="The folder of the queue: that of `serve`, or of `webhooks run`."
)
_ENDPOINT = click.option("--endpoint", help="Of this endpoint only.")


@webhooks.command("run")
@kafka
@click.option("--endpoints", type=FILE, required=True, help="YAML: who wants to be told what.")
@_QUEUE
@registry
def run_webhooks(endpoints: Path, data: Path, **options: Any) -> None:
    """Follows the topics on Kafka and delivers, until it is stopped. One process for a queue."""
    from taximeter.workers import webhooks as start

    _exit(run(start(endpoints=endpoints, data=data, **options)))


@webhooks.command()
def secret() -> None:
    """Makes a secret for an endpoint. Give it to the receiver on a way of its own."""
    from downstream.notifications.signing import make_secret

    click.echo(make_secret())


@webhooks.command()
@_QUEUE
@_ENDPOINT
def dead(data: Path, endpoint: str | None) -> None:
    """Lists what was given up, and why. Exit status 3 where there is something."""
    from taximeter.webhooks import show_dead

    _exit(_guarded(lambda: show_dead(data, endpoint)))


@webhooks.command()
@_QUEUE
@_ENDPOINT
@click.option("--id", help="Only this message.")
def replay(data: Path, endpoint: str | None, id: str | None) -> None:
    """Delivers dead letters again, from the first try. A process that runs takes them up by itself."""
    from taximeter.webhooks import replay_dead

    _exit(_guarded(lambda: replay_dead(data, endpoint, id)))


@main.command()
@click.option("--url", help="A running process that serves /v1/status, such as http://127.0.0.1:8080.")
@click.option("--data", type=FOLDER, help="The data folder of a server that does not run.")
@click.option("--bootstrap", envvar="KAFKA_BOOTSTRAP", help="Kafka brokers: from the journal and the topics alone.")
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Of --data (1) or of --bootstrap (4).")
@click.option("--prefix", default="", help="Of --bootstrap: stands before every topic's name.")
@click.option("--security", multiple=True, metavar="NAME=VALUE", help="Of --bootstrap: TLS and SASL, as of `rate`.")
@click.option("--group", default="taximeter", show_default=True, help="Of --bootstrap: the workers' consumer group.")
@click.option("--whole-journal", is_flag=True, help="Of --bootstrap: add up all of it, not its last part alone.")
@click.option("--json", is_flag=True, help="The answer of GET /v1/status in place of a table.")
def status(**options: Any) -> None:
    """How far every partition is, and whether its figures agree: every event in one place, to the last one.

    Give --url, --data or --bootstrap. Exit status 0: everything agrees; 1: it does not, or nobody could be asked;
    2: bad arguments.
    """
    from taximeter.status_command import status as start

    _exit(run(start(**options, width=_width())))


@main.command()
@kafka
@click.option("--to", required=True, help="Folder or object store URL of the archive.")
@click.option("--every", default="60s", show_default=True, type=DURATION, help="How often files are written.")
def archive(**options: Any) -> None:
    """Keeps raw events on Kafka as Parquet: follows `taximeter.events`, and catches up with what it has missed.

    One is enough. `taximeter audit` reads what it writes.
    """
    from taximeter.archive import archive as start

    _exit(run(start(**options)))


@main.command("rate-file")
@click.option("--catalogue", type=FILE, required=True, help="The price books, as YAML.")
@click.option("--events", type=FILE, required=True, help="CloudEvents as NDJSON, .gz too.")
@click.option("--as-of", type=TIME, help="Close and invoice every period that has ended by then.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the four NDJSON files.")
def rate_file(catalogue: Path, events: Path, as_of: int | None, out: Path) -> None:
    """Rates a file of events through the same engine.

    Writes line_items.ndjson, invoices.ndjson, alerts.ndjson and rejections.ndjson. Without --as-of periods stay open
    and invoices are those at thresholds only. Exit status 3: some events were rejected (`N rejected` on the last line).
    """
    from taximeter.rate_file import rate_path

    _exit(_guarded(lambda: rate_path(catalogue, events, as_of, out)))


@main.group()
def export() -> None:
    """What was billed, in the forms of other trades."""


@export.command()
@click.option("--url", help="A running server, such as http://127.0.0.1:8080.")
@click.option("--key", envvar="TAXIMETER_KEY", help="Of --url: an API key, where it wants one.")
@click.option("--folder", type=FOLDER, help="What `rate-file` has written, in place of --url.")
@click.option("--catalogue", type=FILE, help="For the names of customers and fees that are charged once.")
@click.option("--from", "since", type=TIME, help="Billing periods that begin at this time or later.")
@click.option("--to", "until", type=TIME, help="Billing periods that begin before this time.")
@click.option("--provider", required=True, help="Who sells: ProviderName, PublisherName and InvoiceIssuerName.")
@click.option("--service", help="ServiceName (default: the provider).")
@click.option("--category", default="Other", show_default=True, help="ServiceCategory, one of the specification's.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="A .csv or .parquet file.")
def focus(category: str, **options: Any) -> None:
    """Cost and usage in the columns of the FinOps FOCUS specification 1.2, from issued invoices.

    The BilledCost of an InvoiceId sums to the invoice's total, to the cent.
    """
    from taximeter.export import SERVICE_CATEGORIES
    from taximeter.export import focus as start

    if category not in SERVICE_CATEGORIES:
        raise click.BadParameter(
            f"found {category!r}, expected one of {', '.join(SERVICE_CATEGORIES)}", param_hint="--category"
        )
    _exit(start(category=category, **options))


@main.command()
@click.argument("catalogue", type=FILE)
def check(catalogue: Path) -> None:
    """Checks a catalogue and explains it: what 0, 1, the edges of the tiers and a million cost.

    Exit status 2 where it is refused, with every fault and its path.
    """
    from rating.catalogue import load_catalogue
    from taximeter.check import explain

    def checked() -> int:
        text = explain(load_catalogue(catalogue.read_bytes()), _width())
        click.echo(text, nl=False)
        return 0

    _exit(_guarded(checked))


@main.command()
@click.option("--catalogue", type=FILE, required=True, help="The price books, as YAML or JSON.")
@click.option("--events", type=FILE, required=True, help="CloudEvents as NDJSON, .gz too.")
@click.option("--as-of", type=TIME, help="Close and invoice every period that has ended by then.")
@click.option("--against", type=FILE, help="Another catalogue: show the difference by customer and charge.")
@click.option("--customer", "customers", multiple=True, help="Show only this customer; may be repeated.")
def simulate(**options: Any) -> None:
    """What a file of events would cost: the bills in tables, or how two catalogues differ.

    Nothing is written. Exit status 2: a catalogue is refused; 3: some events were rejected (`N rejected` on the last
    line).
    """
    from taximeter.simulate_command import simulate_path

    _exit(_guarded(lambda: simulate_path(**options, width=_width())))


@main.command()
@click.option("--customer", required=True, help="Whose billing periods.")
@click.option("--tenant", default="default", show_default=True, type=TENANT, help="Whose customer it is.")
@click.option("--from", "since", type=TIME, required=True, help="Periods that begin at this time or later.")
@click.option("--to", "until", type=TIME, help="Periods that begin before this time (default: all so far).")
@click.option("--price-book", help="Under this price book in place of the one that was billed, from now on.")
@click.option("--reason", default="", help="Kept with it in the log.")
@click.option("--apply", is_flag=True, help="Do it. Without it, what would change is shown and nothing is written.")
@click.option("--json", is_flag=True, help="The answer of POST /v1/rerate in place of tables.")
@click.option("--url", help="A running server, such as http://127.0.0.1:8080.")
@click.option("--data", type=FOLDER, help="The data folder, in place of --url (no server may hold it).")
@click.option("--partitions", default=1, show_default=True, type=click.IntRange(1, 1024), help="Of --data.")
def rerate(**options: Any) -> None:
    """Rates what was billed again: under today's prices, or under another price book.

    Nothing issued is edited. Closed periods get a correction invoice of the difference at once, open ones come to their
    new amounts. Exit status 2: it does not fit what was billed, and nothing was changed.
    """
    from taximeter.rerate_command import rerate as start

    _exit(run(start(**options, width=_width())))


@main.command()
@click.option("--data", type=FOLDER, help="The data folder of `serve` (no server may hold it).")
@click.option("--bootstrap", envvar="KAFKA_BOOTSTRAP", help="In place of --data: Kafka brokers, host:port.")
@click.option("--snapshots", help="Where snapshots are, where not in --data. On Kafka it is required.")
@click.option("--partition", type=click.IntRange(0, 9999), help="Only this partition.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Of the events on Kafka (default: 4).")
@click.option("--prefix", default="", help="As the workers have it.")
@click.option("--replication", default=1, show_default=True, help="As the workers have it.")
@click.option("--security", multiple=True, metavar="NAME=VALUE", help="TLS and SASL, by librdkafka's names.")
@written
@click.option("--window", default="35d", show_default=True, type=DURATION, help="As `serve` or `rate` has it.")
@click.option("--lateness", default="1h", show_default=True, type=DURATION, help="As `serve` or `rate` has it.")
@click.option("--max-ahead", default="1d", show_default=True, type=DURATION, help="As `rate` has it.")
def repair(**options: Any) -> None:
    """Finds what is damaged, and mends what can be made again from the source, without changing any result.

    Looks at journal records, snapshots, rows of the embedded log and the spend store. Stop the server or the workers
    first. Exit status 0: nothing to do, or all mended; 1: something could not be mended, and why.
    """
    from taximeter.repair.command import repair as start

    _exit(run(start(**options)))


@main.command()
@audited
@click.option("--customer", multiple=True, help="Only this customer; may be repeated.")
@click.option("--tenant", type=TENANT, help="Only this tenant (default: all of them).")
@click.option("--json", is_flag=True, help="One JSON object in place of text.")
def audit(**options: Any) -> None:
    """Computes every line item and invoice again from the kept raw events, by another road than the engine's.

    SQL over the archive, compared with what the engine wrote; it says through which offsets. Exit status 1: there are
    differences, each with the events behind it. What cannot be computed again is named as `not audited`.
    """
    from taximeter.audit.command import audit as start

    _exit(run(start(**options, width=_width())))


@main.command()
@click.argument("line_item")
@audited
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="Events on a page.")
@click.option("--page", default=1, show_default=True, type=click.IntRange(1), help="Which page of the events.")
@click.option("--json", is_flag=True, help="One JSON object in place of text.")
def explain(**options: Any) -> None:
    """Shows how a line item came about: prices, tiers, and every single event, from the kept raw events."""
    from taximeter.audit.explain import explain as start

    _exit(run(start(**options, width=_width())))


@main.command()
@click.argument("file", type=FILE)
@click.option("--mapping", type=FILE, help="YAML that says which column is which event field (not for CloudEvents).")
@click.option("--url", help="A running door, such as http://127.0.0.1:8080.")
@click.option("--data", type=FOLDER, help="The folder of an embedded log, in place of --url (no server may hold it).")
@click.option("--catalogue", type=FILE, help="With --data: documents that are brought into force first.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 10_000), help="Events in a request.")
@click.option("--concurrency", default=4, show_default=True, type=click.IntRange(1, 256), help="Requests at once.")
@click.option("--tick", type=TIME, help="Afterwards, say that it is this time: periods that ended before are closed.")
@click.option("--limit", type=click.IntRange(1), help="Send only so many events.")
def load(**options: Any) -> None:
    """Sends a CSV, NDJSON or Parquet file (.gz too) as events, to a running door or straight into an embedded log."""
    from taximeter.load import load as start

    _exit(_guarded(lambda: run(start(**options))))


@main.command()
@click.option("--customers", default=300, show_default=True, type=click.IntRange(1, 20_000))
@click.option("--events", default=100_000, show_default=True, type=click.IntRange(100, 10_000_000))
@click.option("--seed", default=2026, show_default=True, help="Another day of the same company.")
@click.option("--keep", type=FOLDER, help="Keep the data here, to look at afterwards with `serve --data`.")
@click.option("--plain", is_flag=True, help="No live view: lines of text only.")
def demo(**options: Any) -> None:
    """From usage events to invoices in one process: an AI company's day, every cent checked independently."""
    from taximeter.demo import demo as start

    _exit(run(start(**options)))


@main.command("demo-kafka")
@click.option("--customers", default=300, show_default=True, type=click.IntRange(1, 20_000))
@click.option("--events", default=100_000, show_default=True, type=click.IntRange(100, 10_000_000))
@click.option("--seed", default=2026, show_default=True, help="Another day of the same company.")
@click.option("--plain", is_flag=True, help="No live view: lines of text only.")
def demo_kafka(**options: Any) -> None:
    """The same on a real Kafka broker: a door, two rating workers and a spend server as separate processes."""
    from taximeter.demo_kafka import demo_kafka as start

    _exit(run(start(**options)))


main.add_command(rejections)


def _width() -> int:
    return min(shutil.get_terminal_size((WIDTH_MAX, 24)).columns, WIDTH_MAX)


def _guarded(command: Any) -> int:
    try:
        status: int = command()
    except CatalogueError as error:
        complain(str(error))
        return 2
    except BrokenPipeError:
        raise  # whoever read our output has enough (`| head`): click ends without a word
    except OSError as error:
        complain(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "))
        return 1
    return status


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.exit(status)


def entry() -> None:
    """The console script: options from the environment as TAXIMETER_COMMAND_OPTION."""
    leave_pandas_out()
    spare_the_collector()  # before the command's own modules are loaded, which make a million objects that stay
    main(auto_envvar_prefix="TAXIMETER")
