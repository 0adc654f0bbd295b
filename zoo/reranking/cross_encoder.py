"""CrossEncoder: a text backbone that reads `[CLS] query [SEP] document [SEP]`, and a classifier of one class after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo import pooling
from zoo.encoders.base import Batch
from zoo.errors import EmptyTextError, UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.inputs.item import Item, as_item
from zoo.reranking.reranker import Reranker
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.encoders.pair import PairText


@dataclass(frozen=True)
class Head:
    """What transformers' class for the classification of sequences has after a backbone, and where its tensors are.

    Attributes:
        cls: the class. prefix: of the backbone's tensors. out: the last layer. dense, norm: layers before it, "" where it has none.
        activation: after `dense`, a name of torch's or transformers', or "config:KEY" for the one that the configuration says.
        dropout: the keys of the configuration that say how much is dropped before `out` in training; the first that is set counts.
        pooling: the configuration's key that says the pooler; "" for the first token.
    """

    cls: str
    prefix: str
    out: str
    dense: str = ""
    norm: str = ""
    activation: str = "tanh"
    dropout: tuple[str, ...] = ("classifier_dropout", "hidden_dropout_prob")
    pooling: str = ""


def _roberta(cls: str, prefix: str = "roberta", activation: str = "tanh") -> Head:
    return Head(cls, prefix, "classifier.out_proj", "classifier.dense", activation=activation)


# model_type → its head in transformers 5.
HEADS: Mapping[str, Head] = {
    "bert": Head("BertForSequenceClassification", "bert", "classifier", "bert.pooler.dense"),
    "camembert": _roberta("CamembertForSequenceClassification"),
    "deberta-v2": Head(
        "DebertaV2ForSequenceClassification",
        "deberta",
        "classifier",
        "pooler.dense",
        activation="config:pooler_hidden_act",
        dropout=("cls_dropout", "hidden_dropout_prob"),
    ),
    "distilbert": Head(
        "DistilBertForSequenceClassification",
        "distilbert",
        "classifier",
        "pre_classifier",
        activation="relu",
        dropout=("seq_classif_dropout",),
    ),
    "electra": _roberta("ElectraForSequenceClassification", "electra", "gelu"),
    "gte": Head("GteForSequenceClassification", "gte", "classifier", "gte.pooler.dense"),
    "modernbert": Head(
        "ModernBertForSequenceClassification",
        "model",
        "classifier",
        "head.dense",
        "head.norm",
        activation="config:classifier_activation",
        dropout=("classifier_dropout",),
        pooling="classifier_pooling",
    ),
    "mpnet": _roberta("MPNetForSequenceClassification", "mpnet"),
    "roberta": _roberta("RobertaForSequenceClassification"),
    "xlm-roberta": _roberta("XLMRobertaForSequenceClassification"),
}
_POOLERS = {"cls": "Cls", "mean": "Mean"}


class Classifier(nn.Module):
    """Token states → one logit: pooled, a layer with its activation and norm where the backbone's class has one, and the last layer.

    Args:
        config: of the backbone.

    Raises:
        UnrecognisedCheckpointError: the zoo has no head for its kind, or the configuration asks for another pooling.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers.activations import ACT2FN

        head, width = head_of(config.model_type), config.hidden_size
        pooled = getattr(config, head.pooling) if head.pooling else "cls"
        if pooled not in _POOLERS:
            raise UnrecognisedCheckpointError(
                f"config.json: {head.pooling} is {pooled!r}, and is one of {list(_POOLERS)}"
            )
        self.pool = getattr(pooling, _POOLERS[pooled])()
        self.dense = nn.Linear(width, width, bias=getattr(config, "classifier_bias", True))
        kind, _, key = head.activation.partition(":")
        self.activation = ACT2FN[getattr(config, key) if key else kind]
        self.norm = nn.Identity()
        if head.norm:
            self.norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.norm_bias)
        dropped = (getattr(config, key, None) for key in head.dropout)
        self.dropout = next((share for share in dropped if share is not None), 0.0)
        self.out = nn.Linear(width, 1)

    def forward(self, tokens: Any) -> Tensor:
        """`(B, T, W)` → `(B,)`."""
        pooled = self.norm(self.activation(self.dense(self.pool(tokens))))
        return self.out(nn.functional.dropout(pooled, self.dropout, self.training))[:, 0]


class CrossEncoder(Reranker):
    """Its logit is that of the one class of transformers' `…ForSequenceClassification`; it reads texts, and no instruction.

    Args:
        encoder: reads both texts as one sequence. head: token states → logits. spec: its facts.
    """

    encoder: "PairText"

    def __init__(self, encoder: "PairText", head: Classifier, spec: RerankerSpec) -> None:
        super().__init__(encoder, spec)
        self.head = head

    def prepare(self, query: Any, document: Any) -> Any:
        return self.encoder.prepare_pair(*(self._text(as_item(one)) for one in (query, document)))

    def lost_tokens(self, query: Any, document: Any) -> int:
        return self.encoder.lost_tokens(*(self._text(as_item(one)) for one in (query, document)))

    def _text(self, item: Item) -> str:
        if item.instruction:
            raise UnsupportedModalityError(
                f"{self.spec.name} follows no instruction: it reads a query and a document, and was trained without one. Leave "
                "the instruction out, or take a reranker that is asked in words, such as qwen3-reranker-0.6b",
                what=item.instruction[:60],
            )
        self.check_read(item)
        texts = [part.text for part in map(as_item, item.parts)] if item.parts else [item.text]
        if len(texts) != 1 or texts[0] is None:
            raise EmptyTextError(f"{self.spec.name} reads one text as query and one as document, and this is none")
        return texts[0]

    def logits(self, inputs: Batch) -> Tensor:
        device = self.device
        return self.head(self.encoder({name: tensor.to(device) for name, tensor in inputs.items()})).float()


def head_of(model_type: object) -> Head:
    """The head of a kind of backbone; raises UnrecognisedCheckpointError where the zoo has none for it."""
    if isinstance(model_type, str) and model_type in HEADS:
        return HEADS[model_type]
    raise UnrecognisedCheckpointError(
        f"a cross-encoder of the type {model_type!r}; the zoo reads those of {', '.join(HEADS)}"
    )


def state_of(model: CrossEncoder) -> dict[str, Tensor]:
    """Its weights by the names that transformers' class has for them."""
    head = head_of(model.encoder.backbone.config.model_type)
    state = {f"{head.prefix}.{name}": tensor for name, tensor in model.encoder.backbone.state_dict().items()}
    for name, layer in (("dense", head.dense), ("norm", head.norm), ("out", head.out)):
        if layer:
            state |= {f"{layer}.{key}": value for key, value in getattr(model.head, name).state_dict().items()}
    return state


def taken(spec: RerankerSpec, whole: nn.Module, **parts: Any) -> CrossEncoder:
    """The cross-encoder around the weights of transformers' model.

    Args:
        whole: a loaded model of `Head.cls`. parts: further arguments of `PairText`.
    """
    from zoo.encoders.pair import PairText

    head = head_of(whole.config.model_type)
    classifier = Classifier(whole.config)
    for name, layer in (("dense", head.dense), ("norm", head.norm), ("out", head.out)):
        if layer:
            getattr(classifier, name).load_state_dict(whole.get_submodule(layer).state_dict())
    settings = whole.config.to_diff_dict() | {"model_type": whole.config.model_type}
    encoder = PairText(settings, spec.max_tokens, backbone=getattr(whole, head.prefix), **parts)
    return CrossEncoder(encoder, classifier.to(torch.float32), spec)
