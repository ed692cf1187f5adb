"""A Job API that passes batches on to the real one and keeps the answers to itself: the moment between a submit and its record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Self

import grpc

from sickbay.jobs.v1.job_service_pb2_grpc import JobServiceServicer, JobServiceStub, add_JobServiceServicer_to_server


class AnswerlessApi(JobServiceServicer):
    """Listens on `address`; `accepted` is set once the real one has answered, and the caller waits until `stop`."""

    def __init__(self, real: str) -> None:
        self.accepted, self._stopped = Event(), Event()
        self.answers: list[Any] = []
        self._channel = grpc.insecure_channel(real)
        self._real = JobServiceStub(self._channel)
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_JobServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def BatchSubmitJobs(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        answer = self._real.BatchSubmitJobs(request, timeout=60)
        self.answers.append(answer)
        self.accepted.set()
        self._stopped.wait(60)
        return answer

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.stop(None).wait()
        self._channel.close()
