"""NV-Embed's texts: its end is written after a text, and the instruction before it is left out of the pool."""

from pathlib import Path
from typing import Any

from torch import nn

from zoo.encoders.text import TransformersText
from zoo.encoders.tokenizing import check_text


class NvEmbedText(TransformersText):
    """A backbone that reads texts as NV-Embed's `encode`: `<s>`, instruction, text, `</s>`, cut off at the end.

    The end is part of the text, so that a text that is cut off loses it. As many tokens are left out of the pool as the
    instruction has by itself; since `<s>` stands before them, the instruction's last one is pooled.

    Args:
        end: what is written after a text. The others as TransformersText.
    """

    def __init__(
        self,
        config: dict[str, Any],
        max_tokens: int,
        end: str = "</s>",
        lower: bool = False,
        padding_side: str = "right",
        assets: Path | None = None,
        backbone: nn.Module | None = None,
        tokenizer: Any = None,
        pool_prompt: bool = False,
    ) -> None:
        super().__init__(config, max_tokens, lower, padding_side, assets, backbone, tokenizer, pool_prompt)
        self.end = end

    def written(self, text: str) -> str:
        return check_text(text) + self.end

    def skipped(self, prompt: str) -> int:
        return self.tokenize.prompt_length(prompt, special_tokens=False)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "end": self.end, "pool_prompt": self.pool_prompt}
