"""Programs in any language that run this worker's jobs over the stream of WorkerService.Work (`docs/any-language.md`).

`service.py` serves the stream, `program.py` is one connected program, `connected.py` all of them, `places.py` says which one runs a job.
"""
