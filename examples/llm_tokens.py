"""Bills the tokens of a language model: one event for each answer, with what its provider says was used.

The provider here is a stand-in; with a real one, `complete` is its SDK's call, and `usage` what it answers with.
Try it: `taximeter serve --catalogue examples/llm.yaml`, then `python examples/llm_tokens.py`.
"""

import os
from dataclasses import dataclass

from taximeter import Client


@dataclass(frozen=True)
class Usage:
    """What providers answer with, by whatever names."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


def complete(model: str, prompt: str) -> tuple[str, Usage, str]:
    """Stands in for a provider: the answer, what it used, and the id of the answer."""
    answer = " ".join(reversed(prompt.split()))
    return answer, Usage(len(prompt.split()), len(answer.split())), f"{model}-{prompt}"


def ask(client: Client, customer: str, model: str, prompt: str) -> str:
    """Answers, and bills the customer for it.

    The event has the answer's own id: whoever records the same answer twice bills it once.
    """
    answer, usage, answer_id = complete(model, prompt)
    client.record(
        "llm.request",
        subject=customer,
        id=answer_id,
        data={
            "model": model,
            "input": usage.input_tokens,
            "output": usage.output_tokens,
            "cached": usage.cached_tokens,
        },
    )
    return answer


if __name__ == "__main__":
    with Client(
        os.environ.get("TAXIMETER_URL", "http://127.0.0.1:8080"), source="assistant", buffer="unsent"
    ) as client:
        for prompt in ("to be or not to be", "that is the question"):
            print(ask(client, "acme", "large", prompt))
        client.flush(30)
        for currency in client.spend("acme")["currencies"]:
            print(f"acme has spent {currency['total']} {currency['currency']}")
