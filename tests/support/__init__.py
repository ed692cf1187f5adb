"""What tests share: isolated servers, the product under test, fake dependencies, faults, clocks. No tests in here."""

from pathlib import Path

SUPPORT = Path(__file__).parent
