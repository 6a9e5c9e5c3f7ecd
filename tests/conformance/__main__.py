"""``python -m tests.conformance`` tells what is missing and why; with ``--update`` it rewrites ``missing.txt``."""

from __future__ import annotations

import argparse

from tests.conformance import surface


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--update", action="store_true", help="rewrite missing.txt")
    update = parser.parse_args().update
    found = surface.problems()
    if update:
        reasons = surface.known_missing()
        lines = [f"{entry}: {reasons.get(entry, why)}\n" for entry, why in sorted(found.items())]
        surface.MISSING.write_text("".join(lines), encoding="utf-8")
    else:
        for entry, why in sorted(found.items()):
            print(f"{entry}: {why}")
    total = sum(len(surface.entries(name, expected)) for name, expected in surface.surface().items())
    print(f"{total - len(found)} of {total} entries are there, {len(found)} are missing")


if __name__ == "__main__":
    main()
