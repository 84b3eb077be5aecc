"""The examples for those who send usage, run as their readers would."""

import re
import subprocess
import sys
from pathlib import Path

import httpx

from examples.asgi_middleware import make_app
from taximeter import Client
from tests.face.running import ROOT, Server, environment


def book(name: str) -> str:
    return (ROOT / "examples" / name).read_text()


def test_the_tokens_of_a_language_model(tmp_path: Path) -> None:
    with Server(tmp_path / "data", catalogue=book("llm.yaml")) as server:
        env = environment() | {"PYTHONPATH": str(ROOT), "TAXIMETER_URL": server.url}
        command = [sys.executable, str(ROOT / "examples" / "llm_tokens.py")]
        for _ in range(2):  # the same answers again are billed once
            done = subprocess.run(
                command, cwd=tmp_path, env=env, check=False, capture_output=True, text=True, timeout=60
            )
            assert done.stdout.splitlines() == [
                "be to not or be to",
                "question the is that",
                "acme has spent 0.00018 USD",  # 10 tokens in, 10 out
            ], done.stderr


async def test_an_asgi_application_is_billed_by_call(tmp_path: Path) -> None:
    with Server(tmp_path / "data", catalogue=book("api.yaml")) as server:
        app = make_app(server.url, linger_s=0.02, flush_s=30)
        transport = httpx.ASGITransport(app)
        inner = app._app  # type: ignore[attr-defined]
        async with (
            inner.router.lifespan_context(inner),
            httpx.AsyncClient(transport=transport, base_url="http://app") as http,
        ):
            for _ in range(1200):
                assert (await http.get("/hello", headers={"x-customer": "acme"})).text == "hello\n"
            await http.get("/hello")
            assert (await http.get("/nothing", headers={"x-customer": "beta"})).status_code == 404
        with Client(server.url) as client:
            client._courier.totals.position = app._client.totals.position  # type: ignore[attr-defined]
            # 1,200 calls, 1,000 of them free, and 7,200 bytes at 0.09 a gigabyte
            assert client.spend("acme")["currencies"][0]["total"] == "0.200000648"
            beta = client.spend("beta")["currencies"]
        assert [currency["total"] for currency in beta] == ["0.00000000081"]


def test_the_code_of_the_page_about_the_client(tmp_path: Path) -> None:
    pages = [(ROOT / "docs" / name).read_text() for name in ("client.md", "http.md")]
    code, catalogue = (
        re.search(rf"```{kind}\n(.*?)```", page, re.S) for kind, page in zip(("python", "yaml"), pages, strict=True)
    )
    assert code is not None and catalogue is not None
    with Server(tmp_path / "data", catalogue=catalogue[1]) as server:
        program = code[1].replace("http://127.0.0.1:8080", server.url)
        assert program != code[1]
        env = environment() | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=env,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        printed = re.search(r"this prints `(.*?)`", pages[0])
        assert printed is not None and done.stdout.strip() == printed[1], done.stderr
