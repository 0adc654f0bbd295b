"""Train or fine-tune an embedder or a reranker on pairs of your own.

The pairs come from a CSV, TSV, JSONL or Parquet file, a folder of images, WebDataset shards or a Hub data set (hf:org/name).
Roles and modalities are inferred from the column names (image, text, query, positive, negative, query_image, score, ...) and
shown before anything starts. A column that matters but that the run would not read (a score, a second caption) stops it: choose a
loss that reads it, or name it with --ignore (--ignore score). A column `split` is followed: validation rows are held out, test
rows are not read. Rows that are not pairs, and missing or unreadable files, are set aside and listed (--max-bad). Held-out pairs are
ranked during the run; the best checkpoint becomes the model, and the report says whether it improved. A killed run continues
with --resume and its folder, and ends with the same bits.

Several processes: accelerate launch --config_file training/launch/ddp.yaml -m zoo.training pairs.csv --out runs/two
"""

import argparse
from typing import Any

from zoo.cli._shared import DEFAULT_MODEL, add_ignore, add_like, add_pair_options, existing, integer, positive, real
from zoo.errors import ZooError

EXAMPLES = (
    "zoo train pairs.csv --out runs/mine                  # columns image,text; fine-tunes zoo-mini",
    "zoo train pairs.csv --out runs/mine --dry-run        # check everything, train one step, write nothing",
    "zoo train --resume runs/mine                         # go on where a stopped run was",
    "zoo train --resume runs/mine --epochs 10             # lengthen a run, finished or not",
    "zoo train qa.jsonl --model bge-small-en-v1.5 --recipe hard-negatives --out runs/qa",
    "zoo train qa.jsonl --model qwen3vl-reranker-2b --recipe reranker --out runs/reranker",
    "zoo train shards/ --model siglip2-vit-b16-256 --recipe lora --loss sigmoid --micro-batch 64 --out runs/big",
    "zoo train retrieval=a.jsonl classes=b.jsonl --recipe retrieval-first --out runs/two-stages",
    "zoo train --recipe zoo-mini --out runs/zoo-mini      # the packaged model again, under an hour (pip: extra mini)",
    "zoo train --recipe zoo-mini-v1 --out runs/zoo-mini-v1    # the first zoo-mini again, from scratch, about an hour",
    "zoo train --list                                     # recipes, losses and samplers",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo train`."""
    parser.add_argument(
        "data", nargs="*", metavar="[NAME=]DATA", help="training pairs; several are data sets with a name each"
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help=f"what is trained: a name of `zoo list`, of `zoo list --rerankers`, or ./FOLDER (default: {DEFAULT_MODEL})",
    )
    add_like(parser)
    add_ignore(parser, "or this column of the data; ")
    parser.add_argument("--from-scratch", action="store_true", help="begin with random weights of that shape")
    parser.add_argument(
        "--out", type=existing, metavar="DIR", help="folder of this run: checkpoints, curves, report, model"
    )
    parser.add_argument("--recipe", default="finetune", metavar="NAME", help="see --list (default: finetune)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out (or named in place of DATA): options and data are those it began with",
    )
    parser.add_argument("--finish", action="store_true", help="write the model of a stopped run as it is now")
    parser.add_argument("--dry-run", action="store_true", help="check everything, train one step, write nothing")
    parser.add_argument("--show", action="store_true", help="print the recipe as JSON and stop")
    parser.add_argument("--list", action="store_true", help="print recipes, losses and samplers and stop")
    _add_data(parser.add_argument_group("data"))
    run = parser.add_argument_group("run")
    _add_steps(run)
    _add_checkpoints(run)


def _add_data(data: Any) -> None:
    """What is learned from, and what is held out."""
    add_pair_options(data)
    data.add_argument(
        "--split",
        default="train",
        help="rows to learn from, by a column split or by the names of files and folders (default: train)",
    )
    data.add_argument(
        "--held-out",
        metavar="[NAME=]DATA",
        help="pairs to choose the best checkpoint by, and for the figures (default: the validation rows of a column split, else a tenth)",
    )
    data.add_argument(
        "--holdout", type=real, metavar="X", help="share (below 1) or number of pairs kept back; 0 for none"
    )
    data.add_argument(
        "--keep-leaks",
        action="store_true",
        default=None,
        help="rank held-out pairs that stand in the training data too (default: leave them out)",
    )
    data.add_argument("--augment", metavar="WAYS", help='e.g. "crop,colour"; see --list')
    data.add_argument(
        "--views",
        type=integer,
        metavar="N",
        help="versions of every item that --augment makes, once, so that what does not learn is computed once for each (default: 0, "
        "a new one in every step)",
    )
    data.add_argument(
        "--max-bad",
        metavar="N|P%",
        help="number or share of inputs that may be broken, empty, missing or unreadable; they are set aside (default: 1%%)",
    )


def _add_steps(run: Any) -> None:
    """Loss, batches and optimiser: what a step does."""
    run.add_argument(
        "--loss",
        action="append",
        metavar="[DATA=]LOSS",
        help='e.g. sigmoid, "infonce(temperature=0.05)", of a reranker binary, plistmle; "infonce + focal(2) + guided(NAME) + matryoshka(128, 64)"; repeat for some '
        'data sets by name: "sts*=cosent"',
    )
    run.add_argument("--sampler", help='e.g. no_duplicates, homogeneous, "interleaved(sub_batch=64)"')
    run.add_argument("--epochs", type=real, metavar="N", help="passes over the pairs")
    run.add_argument("--steps", type=positive, metavar="N", help="optimiser steps, in place of --epochs")
    run.add_argument(
        "--batch-size", type=positive, metavar="N", help="pairs per step, which are each other's in-batch negatives"
    )
    run.add_argument(
        "--micro-batch", type=positive, metavar="N", help="items per forward pass; the batch may be any size"
    )
    run.add_argument(
        "--negatives", type=integer, metavar="N", help="hard negatives per pair (default: as many as most pairs have)"
    )
    run.add_argument(
        "--random-negatives",
        type=integer,
        metavar="N",
        help="of a reranker: documents of other rows beside each query (default: 4 where the data have no negatives)",
    )
    run.add_argument(
        "--without-negatives",
        choices=("keep", "drop"),
        help="pairs without a hard negative, if others have some: keep (default) or drop",
    )
    run.add_argument("--lr", type=real, metavar="X", help="highest learning rate")
    run.add_argument("--schedule", choices=("cosine", "linear", "constant", "wsd"), help="after the warm-up")
    run.add_argument("--warmup", type=real, metavar="X", help="steps, or below 1 a share of the run")
    run.add_argument("--betas", metavar="X,Y", help="of AdamW, such as 0.9,0.999 (default: 0.9,0.98)")
    run.add_argument(
        "--layer-decay", type=real, metavar="X", help="factor on the learning rate from each block to the one below it"
    )
    run.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="PATTERN=X",
        help="factor on the learning rate of a part: text=0.1; repeat",
    )
    run.add_argument(
        "--freeze", action="append", metavar="PATTERN", help="what stays frozen: text, image.encoder; repeat"
    )
    run.add_argument(
        "--region",
        choices=("masked-crop", "dense", "dense-hd", "ensemble"),
        help="how regions of images are read; saved with the model (default: the model's own way)",
    )
    run.add_argument("--ema", type=real, metavar="X", help="decay of the exponential moving average that is saved")
    run.add_argument("--precision", choices=("float32", "bf16", "fp16"), help="of the forward pass (default: float32)")
    run.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1 or mps (default: the best that is here)")
    run.add_argument(
        "--teacher",
        metavar="NAME",
        help="a frozen model for gist, distillation and adaptive_margin; for score_distillation a reranker",
    )
    run.add_argument("--seed", type=integer, help="seed of everything random")


def _add_checkpoints(run: Any) -> None:
    """What is written and measured while the run goes."""
    run.add_argument("--checkpoint-every", type=positive, metavar="N", help="steps between checkpoints")
    run.add_argument(
        "--keep-checkpoints",
        choices=("none", "last", "all"),
        help="which ones to keep of a finished run (default: last, from which it can be continued)",
    )
    run.add_argument(
        "--evaluate-every",
        type=integer,
        metavar="N",
        help="steps between rankings of the held-out pairs, 0 for none (default: what takes under 5 %% of the run)",
    )
    run.add_argument(
        "--evaluate-minutes",
        type=real,
        metavar="X",
        help="rank the held-out pairs whenever so many minutes have passed",
    )
    run.add_argument("--keep", choices=("best", "last"), help="which checkpoint is the model (default: best)")
    run.add_argument(
        "--patience", type=integer, metavar="N", help="stop after N evaluations without a better one; 0 for never"
    )
    run.add_argument(
        "--log", action="append", metavar="TRACKER", help="tensorboard (default), wandb, trackio or none; repeat"
    )


def run(arguments: argparse.Namespace) -> int:
    """Trains; returns the exit status."""
    try:
        import zoo.training  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("zoo"):
            raise
        raise ZooError(f'training needs {error.name}: pip install "embedding-zoo[train]"') from error
    from zoo.training.command import show_names, show_recipe, start

    if arguments.list:
        return show_names()
    if arguments.show:
        return show_recipe(arguments)
    return start(arguments)
