"""The fleet as a test says, in place of a `FleetView`."""

from sickbay.domain.workers import UNKNOWN


class KnownFleet:
    """Unknown at first: nothing may be concluded from it."""

    def __init__(self, fleet=UNKNOWN):
        self.fleet = fleet
        self.asked = 0

    async def look(self):
        self.asked += 1
        return self.fleet
