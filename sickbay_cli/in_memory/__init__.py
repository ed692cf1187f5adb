"""The whole product in memory, with a clock that a test moves: what the fixture `sickbay_system` of `sickbay.testing` returns."""
