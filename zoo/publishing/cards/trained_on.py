"""`python -m zoo.publishing.cards.trained_on`: what mteb's registry says of the training data of registered models and rerankers."""

import json
import sys
from importlib.metadata import version

from zoo.files import write
from zoo.registry import get_spec, list_models
from zoo.registry.trained_on import FILE
from zoo.reranking import get_reranker_spec, list_rerankers


def main() -> int:
    """Writes the records anew, of all whose training data mteb states."""
    from mteb.models.model_implementations import MODEL_REGISTRY

    specs = [get_spec(name) for name in list_models()] + [get_reranker_spec(name) for name in list_rerankers()]
    models = {}
    for hub_id in sorted({spec.hub_id for spec in specs if spec.hub_id}):
        record = MODEL_REGISTRY.get(hub_id)
        if record is not None and record.training_datasets is not None:
            models[hub_id] = sorted(record.training_datasets)
    told = {"source": f"mteb {version('mteb')}", "models": models}
    write(FILE, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    print(f"{FILE.name}: {len(models)} models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
