"""Makes the spend store's tables in ClickHouse, and brings older ones up to date.

The definitions stand in `clickhouse/`, one file for each version; a change of the tables is a new file that only adds
(columns with a default, tables, indexes), so that a program of the version before goes on beside it. The table
`schema_versions` says what has been applied. `python -m rating.spend.clickhouse_schema [DATABASE]` prints all of it,
for those who make tables by hand.
"""

import re
import sys
from importlib.resources import files
from typing import Any

from rating.spend.store import StoreError

_FILE = re.compile(r"(\d{4})_\w+\.sql")
_VERSIONS = "CREATE TABLE IF NOT EXISTS {database}.schema_versions (version UInt32) ENGINE = MergeTree ORDER BY version"


def migrations() -> dict[int, str]:
    """Version -> its statements, with `{database}` in them; rising."""
    found = {}
    for file in sorted((files("rating.spend") / "clickhouse").iterdir(), key=lambda file: file.name):
        if match := _FILE.fullmatch(file.name):
            found[int(match[1])] = file.read_text()
    return found


def statements(text: str, database: str) -> list[str]:
    """The statements of a file."""
    parts = re.sub(r"--.*", "", text).replace("{database}", database).split(";")
    return [part.strip() for part in parts if part.strip()]


def migrate(client: Any, database: str) -> int:
    """Applies what has not been applied, in order. Returns the version that stands then.

    A migration that was broken off is applied again: every statement of one may be repeated. Two programs may do this
    at once. Raises: StoreError where the tables are of a newer program.
    """
    known = migrations()
    client.command(f"CREATE DATABASE IF NOT EXISTS {database}")
    client.command(_VERSIONS.replace("{database}", database))
    stands = int(client.query(f"SELECT max(version) FROM {database}.schema_versions").result_rows[0][0])
    if stands > max(known):
        raise StoreError(
            f"the ClickHouse database {database}: found tables of version {stands}, this program knows versions up to "
            f"{max(known)}: run the version of Taximeter that made them, or a later one"
        )
    for version, text in known.items():
        if version > stands:
            for statement in statements(text, database):
                client.command(statement)
            client.command(f"INSERT INTO {database}.schema_versions (version) VALUES ({version})")
    return max(known)


def script(database: str = "taximeter") -> str:
    """Everything that `migrate` does on an empty server, as one script."""
    parts = [f"CREATE DATABASE IF NOT EXISTS {database}", _VERSIONS.replace("{database}", database)]
    for version, text in migrations().items():
        parts += statements(text, database)
        parts.append(f"INSERT INTO {database}.schema_versions (version) VALUES ({version})")
    return "".join(f"{part};\n\n" for part in parts).rstrip("\n") + "\n"


if __name__ == "__main__":
    print(script(*sys.argv[1:2]), end="")
