"""One of several processes that share a batch: writes the loss and gradients that it ends with.

`python -m tests.training.train_two RANK WORLD RENDEZVOUS OUT SHARDED`
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from zoo.training.kinds import kind_of, trained
from zoo.training.losses import list_losses
from zoo.training.losses.by_data import loss_of
from zoo.training.run import Run
from zoo.training.sharding import whole
from zoo.training.trainer import make_feed

from tests.training.train_support import fresh, fresh_reranker, quick, text_pairs
from zoo.inputs.item import Item

WRITTEN = {
    "matryoshka": "matryoshka(dims=[16, 8]):infonce",
    "layers": "infonce + layers",
    "matryoshka_2d": "matryoshka_2d(dims=[16, 8]):infonce",
    "starbucks": "starbucks(pairs=[[1, 8], [2, 32]]):infonce",
    "multi": "infonce(multi_positive=True)",
}


def main(rank: int, world: int, rendezvous: str, out: Path, sharded: bool) -> None:
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    pairs = [
        replace(pair, score=i / 12, teacher_scores=(0.9, 0.1 * i, 0.3)) for i, pair in enumerate(text_pairs(12, 2))
    ]
    for i in (1, 2, 6, 10):  # of some of either process's rows not all negatives are there, or none
        count = i % 2
        pairs[i] = replace(pairs[i], negatives=pairs[i].negatives[:count], teacher_scores=(0.9, 0.1 * i)[: 1 + count])
    # Each query comes twice, in either process, with several answers of which each draws.
    pairs = [
        replace(p, query=pairs[i % 6].query, extra_positives=(Item(text=f"so {i % 9}"),)) for i, p in enumerate(pairs)
    ]
    # Vectors are copied from a teacher of as many columns: a folder for each process, which would else write into one.
    taught = fresh("text-test", seed=4).save_pretrained(out.parent / f"teacher-{out.stem}-{rank}")
    found = {}
    for name in (*list_losses(), "multi", "by_data"):
        recipe = quick(loss=WRITTEN.get(name, name), batch_size=8, micro_batch=5, clip=1e9)
        mine = pairs
        if name == "by_data":  # every batch has one loss
            losses = (("graded", "cosent(learn=True)"),)
            recipe = replace(recipe, loss="infonce", losses=losses, sampler="homogeneous", batch_size=4)
            mine = [replace(pair, dataset=("graded", "other")[i % 2]) for i, pair in enumerate(pairs)]
        model = (trained(fresh_reranker()) if name in list_losses("rerankers") else fresh("text-test")).double()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # the processes draw apart
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        cache = out.parent / f"cache-{out.stem}"
        loss = loss_of(recipe).double()
        if "teacher_queries" in loss.reads:
            recipe = replace(recipe, teacher="zoo-mini")
        if name == "imitation":
            recipe, cache = replace(recipe, teacher=str(taught)), cache.with_name(f"{cache.name}-{name}")
        teacher = kind_of(model).teacher(model, mine, recipe, cache, loss, progress=False)
        run = Run(model, recipe, loss, sharded=sharded)
        feed = make_feed(model, mine, recipe, cache, progress=False, teacher=teacher)
        found[f"{name}/loss"] = torch.tensor(run._gradients(feed.batch(0)), dtype=torch.float64)
        for part, module in (("model", model), ("loss", run.loss)):
            for weight, parameter in module.named_parameters():
                if parameter.grad is not None:
                    found[f"{name}/{part}.{weight}"] = whole(parameter.grad).clone()
    if rank == 0:
        torch.save(found, out)
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5] == "sharded")
