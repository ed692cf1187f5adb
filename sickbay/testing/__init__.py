"""For tests of handlers: `from sickbay.testing import run, make_job`.

    def test_a_mailbox_that_is_full_is_tried_again():
        assert run(send_email, {"to": "full@example.com"}).will_retry

`run` calls a handler once, with the product's own parts, and says how that ended and where the job would go. It needs no service, and
nothing but the SDK (`pip install sickbay`). `start_system`, and the fixture `sickbay_system` of `sickbay.testing.pytest_plugin`, run the
whole product in memory with a clock that the test moves; that needs `sickbay[server]`. docs/testing.md explains both.
"""

from sickbay.domain.progress import Progress
from sickbay.testing.follow_ups import Submitted
from sickbay.testing.jobs import make_job
from sickbay.testing.result import Result
from sickbay.testing.run import run, run_async
from sickbay.testing.system import System, start_system

__all__ = ["Progress", "Result", "Submitted", "System", "make_job", "run", "run_async", "start_system"]
