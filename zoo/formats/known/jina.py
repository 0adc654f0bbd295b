"""config.json of jina-embeddings-v3 and of jina-embeddings-v5-text, beside the settings of their backbones.

v3: its authors' XLMRobertaFlashConfig (jinaai/xlm-roberta-flash-implementation). v5: their JinaEmbeddingsV5Config, which is that of
Qwen3 or of EuroBERT and the names of tasks.
"""

from zoo.formats.settings import Only, Table

_TRAINING = "of training; nothing is dropped or frozen when a text is embedded"
V3 = Table(
    followed={"lora_adaptations", "task_instructions", "lora_rank", "lora_alpha", "rotary_emb_base"},
    inert={"lora_dropout_p": _TRAINING, "lora_main_params_trainable": _TRAINING, "use_reentrant": _TRAINING},
    held={
        "emb_pooler": Only((None,), "its vectors are the mean of the states"),
        "load_trained_adapters": Only(
            (True,), "without it the authors' code starts with adapters that were never trained"
        ),
    },
)
V5 = Table(followed={"task_names"})
