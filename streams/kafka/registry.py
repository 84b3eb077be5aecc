"""A schema registry, by the REST interface that Confluent's has and others answer to as well."""

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from streams.log import LogUnavailable

if TYPE_CHECKING:  # whoever asks no registry does not load it
    import httpx

_TIMEOUT_S: Final = 10.0
_TYPE: Final = "application/vnd.schemaregistry.v1+json"


class RegistryError(LogUnavailable):
    """The registry cannot be reached or refuses; the message says what and where, without the password."""


class Registry:
    """`url`: with `user:password@`, where it wants them. Every call blocks."""

    def __init__(self, url: str) -> None:
        """Raises: RegistryError where the URL is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RegistryError("the schema registry: expected a URL such as https://user:password@registry:8081")
        host = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._auth = (parts.username, parts.password or "") if parts.username else None

    def register(self, subject: str, schema: Any) -> int:
        """The id of a schema under a subject; one that is there already keeps its id. Raises: RegistryError."""
        body = json.dumps({"schema": json.dumps(schema), "schemaType": "AVRO"}).encode()
        answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", body)
        return int(answer["id"])

    def schema(self, id: int) -> Any:
        """The schema of an id. Raises: RegistryError."""
        return json.loads(self._ask("GET", f"/schemas/ids/{id}")["schema"])

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        import httpx

        headers = {"accept": _TYPE, **({"content-type": _TYPE} if body else {})}
        try:
            answer = httpx.request(
                method, self.url + path, content=body, headers=headers, auth=self._auth, timeout=_TIMEOUT_S
            )
        except httpx.HTTPError as error:
            raise RegistryError(f"the schema registry at {self.url} does not answer: {error}") from error
        if answer.status_code != 200:
            raise RegistryError(
                f"the schema registry at {self.url} answered {answer.status_code} to {method} {path}: {_said(answer)}"
            )
        try:
            return answer.json()
        except ValueError as error:
            raise RegistryError(f"{self.url}{path}: found no JSON: {answer.text[:100]!r}") from error


def _said(answer: "httpx.Response") -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:300]
