"""The document of a circuit and its JSON."""

from __future__ import annotations

import pytest

from sickbay.breaker import machine as breaker
from sickbay.breaker.document import sanitize, sanitize_job_id
from sickbay.domain.breaker import BreakerKey
from tests.support.breaker_driver import DOWN, START, Circuit


def test_the_document_is_flat_sorted_json_without_empty_fields():
    circuit = Circuit()
    circuit.run(DOWN, job="job 1/ä")
    at = START
    assert breaker.to_json(circuit.doc) == (
        f'{{"epoch":{at},"jobType":"email","rev":{at + 1},"run":"1 {at} 1 API_TIMEOUT job_1/_","seq":1,"state":"CLOSED","trips":0,'
        f'"updatedAt":{at},"v":1}}'
    )


def test_every_state_survives_its_json():
    for circuit in (Circuit(), Circuit().open(), Circuit().recover()):
        assert breaker.from_json(breaker.to_json(circuit.doc)) == circuit.doc
    circuit = Circuit().open()
    circuit.probe()
    assert breaker.from_json(breaker.to_json(circuit.doc).encode()) == circuit.doc
    tenant = breaker.new_document(BreakerKey("email", "acme"), START)
    assert breaker.from_json(breaker.to_json(tenant)) == tenant


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '"x"', "{}", '{"v":2}', '{"v":1,"jobType":"a","state":"ODD"}', '{"v":1,"jobType":"a","state":"OPEN","epoch":"1"}'],
)
def test_what_is_no_document_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        breaker.from_json(text)


def test_a_document_with_an_odd_run_or_field_is_a_value_error():
    good = breaker.to_json(Circuit().doc)
    for more in ('"run":"1 2 3"', '"run":5', '"ramp":"1"', '"unheard":1', '"openedAt":"soon"'):
        with pytest.raises(ValueError, match=r"."):
            breaker.from_json(f"{good[:-1]},{more}}}")


def test_texts_are_cut_and_cleaned():
    assert sanitize("a\x00b\x7f\ud800c") == "a b  c"
    assert len(sanitize("x" * 1000)) == 500
    assert sanitize_job_id("ä b") == "__b"
    assert sanitize_job_id("") == "-"
    assert len(sanitize_job_id("x" * 1000)) == 64
