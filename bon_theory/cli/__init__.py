"""The command line: from a file of scores to what best-of-n gives, in a terminal or a pipe.

``bon-theory --help`` lists the commands. Needs the extra ``cli``.
"""

import signal
import sys

__all__ = ["run"]


def run() -> None:
    """The command ``bon-theory``; without its extra, one line says what is missing."""
    try:
        from bon_theory.cli.main import app
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: no module {error.name}: pip install 'bon-theory[cli]'\n")
        raise SystemExit(2) from None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app(prog_name="bon-theory")
