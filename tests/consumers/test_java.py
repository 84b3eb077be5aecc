"""The example in another language: the totals of its customers are the engine's, to the cent."""

import subprocess
from decimal import Decimal
from types import ModuleType

import pytest

from tests.consumers.deployment import EXAMPLES, Fed

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]


def test_java_adds_up_what_the_engine_has_invoiced(fed: Fed, broker_module: ModuleType) -> None:
    jars = broker_module.Jars()
    jars.fetch()
    java, _ = broker_module.find_java()
    source = EXAMPLES / "java" / "InvoiceConsumer.java"
    command = [java, "-cp", jars.classpath(), str(source), fed.bootstrap, fed.prefix]
    totals = fed.totals(fed.live())
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = {tuple(line.split()[:2]): Decimal(line.split()[2]) for line in done.stdout.splitlines()}
    assert len(totals) == 15 and found == totals
