"""`python -m benchmarks [NAME ...]`: runs the named benchmarks, or all of them but the long ones."""

import argparse
import importlib
import sys
from pathlib import Path

QUICK = ("startup", "pixels", "images", "texts", "mini")
LONG = (
    "backends",
    "memory",
    "examples",
    "page",
    "bulk",
    "training",
    "finetune",
    "serving",
    "vlm",
    "composed",
    "regions",
    "region_rules",
    "region_training",
    "region_model",
)
LONG += ("region_points", "mini_choices", "near_copies", "videos", "documents", "audio", "mixed", "gpu")
LONG += (
    "text_models",
    "rerankers",
    "hybrid",
    "search",
    "filters",
    "ranking",
    "losses",
    "reranker_training",
    "depths",
    "omni_model",
    "omni_figures",
    "omni_mixed",
)
KEPT = (
    "finetune",
    "region_training",
    "region_model",
    "losses",
    "reranker_training",
    "depths",
    "omni_model",
    "omni_figures",
)  # what stands in their folder is not done again


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"among {', '.join((*QUICK, *LONG))}; default: {', '.join(QUICK)}")
    parser.add_argument("--folder", type=Path, help=f"of {', '.join(KEPT)}: where runs are kept")
    parser.add_argument(
        "--test", action="store_true", help="of omni_figures, omni_mixed and hybrid: on test, once, in place of val"
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="of reranker_training: five rates and three seeds, as documented (most of an hour)",
    )
    parser.add_argument("--model", help="of mixed: whose time and memory are measured (default: zoo-omni)")
    arguments = parser.parse_args()
    names = arguments.names or QUICK
    for name in names:
        if name not in (*QUICK, *LONG):
            parser.error(f"no benchmark {name!r}; there are {', '.join((*QUICK, *LONG))}")
    sys.argv = sys.argv[:1]
    for name in names:
        options = {"folder": arguments.folder} if name in KEPT else {}
        options |= {"test": arguments.test} if name in ("omni_figures", "omni_mixed", "hybrid") else {}
        options |= {"full": arguments.full} if name == "reranker_training" else {}
        options |= {"name": arguments.model} if name == "mixed" and arguments.model else {}
        importlib.import_module(f"benchmarks.{name}").main(**options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
