"""``python -m die_algorithm``: the command ``die``."""

from die_algorithm.cli import main

if __name__ == "__main__":
    main()
