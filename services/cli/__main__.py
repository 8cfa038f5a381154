"""``weir``: parses, dispatches, turns errors into one line and an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from services.cli.commands import parser
from services.cli.shared import EXIT_ERROR, run

EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    given = parser().parse_args(arguments)
    try:
        return run(given)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left: nothing more to say
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
