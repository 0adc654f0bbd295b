"""A text model that only its own Python code can build: refused by default, right where it is trusted."""

import json

import pytest
import torch

import zoo
from zoo.errors import UnsafeCheckpointError

CODE = """
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own-bert"

class OwnModel(BertModel):
    config_class = OwnConfig

    def forward(self, *args, **options):
        out = super().forward(*args, **options)
        out.last_hidden_state = 2 * out.last_hidden_state + 1  # what no class of transformers does
        return out
"""


@pytest.fixture
def folder(tmp_path):
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from zoo.models.text import byte_tokenizer

    model = BertModel(
        BertConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
    model.save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(), pad_token="[PAD]", model_max_length=64)
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    auto_map = {"AutoConfig": "own_code.OwnConfig", "AutoModel": "own_code.OwnModel"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "own-bert", "auto_map": auto_map}))
    (tmp_path / "own_code.py").write_text(CODE)
    return tmp_path, model.eval()


def test_it_is_refused_and_the_message_says_how_to_allow_it(folder):
    with pytest.raises(UnsafeCheckpointError, match="trust_remote_code=True"):
        zoo.load_model(folder[0])


@pytest.mark.usefixtures("_same_seed")
def test_trusted_code_is_run_and_gives_its_own_vectors(folder):
    path, plain = folder
    model = zoo.load_model(path, trust_remote_code=True)
    ids = torch.tensor([model.towers[0].encoder.prepare_item(zoo.Item(text="a cat"))])
    with torch.inference_mode():
        expected = torch.nn.functional.normalize((2 * plain(ids).last_hidden_state + 1).mean(1), dim=-1)[0]
    torch.testing.assert_close(model.encode("a cat"), expected, atol=1e-6, rtol=0)
