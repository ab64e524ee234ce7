"""The command ``bon-theory``: Ctrl-C ends it at once, also while its packages are imported.

Outside of the package, whose import takes most of a second: an interrupt in there would be a
traceback through other people's extension modules.
"""

import signal

__all__ = ["main"]


def main() -> None:
    """Import with the system's own answer to Ctrl-C, which is silence; then run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from bon_theory.cli import run

    run()
