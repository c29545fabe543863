"""Text to token ids and back, as the model's own files say."""

import json

from foveal._inputs import token_ids


class Tokenizer:
    """`LLM.tokenizer`. Names are those of Hugging Face's tokenizers."""

    def __init__(self, llm):
        self._llm = llm

    @property
    def _engine(self):
        return self._llm._engine

    @property
    def vocab_size(self):
        return self._engine.info().vocab_size

    def __len__(self):
        return self.vocab_size

    @property
    def chat_template(self):
        return self._engine.chat_template() or None

    def encode(self, text, add_special_tokens=True, parse_special=False):
        """Ids of text. Special tokens spelled out in it are text unless `parse_special`."""
        ids = self._engine.encode(text, parse_special)
        if not add_special_tokens:
            return ids
        begin = self._engine.prompt_token_ids("")
        return begin + ids

    def decode(self, token_ids_, skip_special_tokens=True):
        return self._engine.decode(token_ids(token_ids_), skip_special_tokens)

    def token_bytes(self, token_id):
        """What one id stands for; may be part of a character."""
        return self._engine.token_bytes(token_id)

    def apply_chat_template(self, messages, tools=None, add_generation_prompt=True, tokenize=True,
                            **template_kwargs):
        """A conversation as token ids, or as text without `tokenize`."""
        extra = {**template_kwargs, **({"tools": tools} if tools is not None else {})}
        ids = self._engine.chat_token_ids(json.dumps(messages), json.dumps(extra),
                                          add_generation_prompt)
        return ids if tokenize else self._engine.decode(ids, False)
