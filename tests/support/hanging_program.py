"""A program that registers, says so, and then does nothing but heartbeats: `python hanging_program.py PORT`. To be stopped and killed."""

import sys
import threading

import grpc

from sickbay.jobs.v1 import work_pb2 as pb
from sickbay.jobs.v1.worker_service_pb2_grpc import WorkerServiceStub


def main(port: str) -> None:
    """Run until killed; each run is printed."""
    lock = threading.Event()

    def say():
        yield pb.WorkRequest(
            register=pb.WorkRequest.Register(name="hanging", slots=2, types=[pb.WorkRequest.HandledType(job_type="email")])
        )
        while not lock.wait(0.05):
            yield pb.WorkRequest(heartbeat=pb.WorkRequest.Heartbeat())

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for said in WorkerServiceStub(channel).Work(say()):
            if said.HasField("run"):
                pass


if __name__ == "__main__":
    main(sys.argv[1])
