"""``distillkit``, and ``python -m distillkit``."""

from distillkit.process.startup import begin


def main() -> None:
    """Entry point of the console script, which is prepared before it imports what takes its time."""
    begin()
    from distillkit import cli

    cli.main()


if __name__ == "__main__":
    main()
