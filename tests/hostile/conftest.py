"""Products under attack, each with a healthy client beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.fake_dependency import Clinic
from tests.support.hostile_env import Patient

HURRIED = {
    "HTTP_HEADER_TIMEOUT": "3",
    "HTTP_BODY_TIMEOUT": "1",
    "HTTP_WRITE_TIMEOUT": "1",
    "LOG_FORMAT": "json",
    "JOB_HANDLERS": "clinic_handlers",
}
"""Patience of seconds, so that tests are quick; a client beside them may need more than one until it has said something."""

StartPatient = Callable[..., Patient]


@pytest.fixture(scope="session")
def shared_patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """One for all attacks that need no other settings."""
    patient = Patient(Clinic(tmp_path_factory.mktemp("attacked")).folder, HURRIED)
    patient.rest()
    yield patient
    patient.discharge()


@pytest.fixture
def patient(shared_patient: Patient) -> Iterator[Patient]:
    """The shared one, as it is before this attack; at the end its client has been answered all the time."""
    shared_patient.examine()
    yield shared_patient
    shared_patient.check()
    shared_patient.rest()


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[StartPatient]:
    """Starts a product with settings of the test's, whose healthy client calls from then on; at the end every call of it was answered."""
    started: list[Patient] = []

    def start(**settings: str) -> Patient:
        started.append(Patient(Clinic(tmp_path).folder, HURRIED | settings))
        return started[-1]

    yield start
    for patient in started:
        patient.discharge()
