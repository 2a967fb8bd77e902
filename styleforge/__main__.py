"""``python -m styleforge``: the ``styleforge`` command."""

from __future__ import annotations

import styleforge as _styleforge  # noqa: F401  the tree is on the path from here on


def main() -> None:
    """Run the command."""
    from cli.app import main as command

    command()


if __name__ == "__main__":
    main()
