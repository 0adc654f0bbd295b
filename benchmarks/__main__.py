"""`python -m benchmarks [NAME ...]`: runs the named benchmarks, or all of them but the long one."""

import argparse
import importlib
import sys

QUICK = ("startup", "pixels", "images", "texts", "mini")
LONG = ("bulk",)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"among {', '.join((*QUICK, *LONG))}; default: {', '.join(QUICK)}")
    names = parser.parse_args().names or QUICK
    for name in names:
        if name not in (*QUICK, *LONG):
            parser.error(f"no benchmark {name!r}; there are {', '.join((*QUICK, *LONG))}")
    sys.argv = sys.argv[:1]
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
