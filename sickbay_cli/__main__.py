"""`python -m sickbay_cli` is the `sickbay` command."""

from sickbay_cli.main import main

if __name__ == "__main__":
    main()
