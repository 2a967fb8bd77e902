"""``python -m styleforge``: the ``styleforge`` command."""

from __future__ import annotations

import gc

import styleforge as _styleforge  # noqa: F401  the tree is on the path from here on


def main() -> None:
    """Run the command."""
    # ZenML's models are hundreds of thousands of objects that stay: the default looks through them again and again while they load.
    gc.set_threshold(100_000, 20, 20)
    from cli.app import main as command

    command()


if __name__ == "__main__":
    main()
