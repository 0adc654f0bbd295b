"""peft's adapter_config.json of a LoRA or a DoRA.

Which layers are adapted is said by the names of the tensors; what selects layers here (`target_modules`, ...) is held to them.
"""

from zoo.formats.settings import Only, Table

_MERGE = "it changes what the matrices mean; merge the adapter into its base model with peft, and load the sum"
_TRAINING = "it changes training alone"
_BEGINNING = "how the matrices began, before they were trained"
_UNSET = (None, False, {}, [])

ADAPTER = Table(
    followed={
        "peft_type",
        "base_model_name_or_path",
        "revision",
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "use_rslora",
        "use_dora",
        "lora_bias",
        "modules_to_save",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
    },
    inert={
        **dict.fromkeys(("lora_dropout", "inference_mode", "ensure_weight_tying", "megatron_core"), _TRAINING),
        **dict.fromkeys(("loftq_config", "eva_config"), _BEGINNING),
        "task_type": "which of peft's wrappers stands around the model",
        "auto_mapping": "the class of the base model, which its own config.json says",
        "peft_version": "a record of how the file came to be",
        "runtime_config": "where the numbers are kept as peft computes them",
        "fan_in_fan_out": "of GPT-2's Conv1D, which is no layer that the zoo adapts",
        "qalora_group_size": "only with use_qalora",
        "merge_weights": "peft's first versions merged by themselves or not, with the same sum",
        "enable_lora": "of peft's first versions, for GPT-2's Conv1D",
    },
    held={
        # Beginnings that leave the base's weights alone; for others (PiSSA, OLoRA, ...) the base is another one.
        "init_lora_weights": Only(
            (True, False, None, "gaussian", "eva", "orthogonal"),
            "the adapter belongs to another base than the one that it names; merge it with peft, and load the sum",
        ),
        "bias": Only((None, "none"), "the base's biases were trained as well, and peft does not save all of them"),
        **dict.fromkeys(
            (
                "megatron_config",
                "trainable_token_indices",
                "corda_config",
                "lora_ga_config",
                "velora_config",
                "alora_invocation_tokens",
                "use_qalora",
                "monteclora_config",
                "layer_replication",
                "target_parameters",
                "use_bdlora",
                "arrow_config",
                "kasa_config",
            ),
            Only(_UNSET, _MERGE),
        ),
    },
)
