"""``python -m figures --output DIR``: every figure of exact theory."""

import argparse
from pathlib import Path

from figures import ALL, make

parser = argparse.ArgumentParser(prog="python -m figures", description=__doc__)
parser.add_argument("--output", type=Path, default=Path("figures-out"), metavar="DIR")
parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ALL)}; default: all")
arguments = parser.parse_args()
for name in arguments.names or ALL:
    print(make(name, arguments.output).png, flush=True)
