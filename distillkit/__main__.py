"""``distillkit``, and ``python -m distillkit``."""

from distillkit.process.interruption import listen


def main() -> None:
    """Entry point of the console script, which hears signals before it imports what takes its time."""
    listen()
    from distillkit import cli

    cli.main()


if __name__ == "__main__":
    main()
