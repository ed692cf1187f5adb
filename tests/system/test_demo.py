"""The demo as documented: 20 emails open the circuit, and a reset closes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.system.clients import Clients
from tests.system.product import Product


def test_the_documented_loop_opens_the_email_circuit(tmp_path: Path, start: Callable[..., Product]):
    with Clients(start(tmp_path, {}).ready()) as sickbay:
        sickbay.wait(sickbay.submit("email", {"id": 0, "simulate": "ok"}), "SUCCEEDED")
        with sickbay.watching("email") as circuit:
            for number in range(1, 21):
                sickbay.submit("email", {"id": number})
            opened = circuit.until("OPEN")
            assert (opened.reason_code, opened.reason_count, opened.cooldown.seconds) == ("API_TIMEOUT", 5, 60)
        reset = sickbay.plane.post("/breakers/email/reset")
        assert reset.json() == {"message": "Circuit breaker for 'email' has been reset", "jobType": "email"}
        assert sickbay.circuit("email")["state"] == "CLOSED"
