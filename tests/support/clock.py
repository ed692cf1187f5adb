"""A clock that stands still until the test moves it."""

START = 1_700_000_000_000


class ManualClock:
    """Milliseconds since the epoch, moved by the test alone."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now
