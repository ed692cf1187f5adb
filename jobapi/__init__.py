"""The Job API: takes jobs in and tells what became of them. No job runs here. Start with `intake.py`."""
