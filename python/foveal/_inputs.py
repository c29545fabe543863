"""What may be given to generate, as token ids."""

import operator
from dataclasses import dataclass

from foveal._configs import BaseSparseAttentionConfig, plain
from foveal._errors import refuse

_NEED = 'text, token ids, {"prompt": text}, {"prompt_token_ids": ids}, or a list of these'


@dataclass
class Prompt:
    text: str | None
    ids: list[int] | None


def token_ids(values, where="prompt_token_ids"):
    if isinstance(values, (str, bytes, dict)):
        refuse(where, type(values).__name__, "a list of token ids")
    try:
        ids = [operator.index(value) for value in values]
    except TypeError:
        refuse(where, f"{values!r:.80}", "a list of token ids")
    for token in ids:
        if not 0 <= token < 2**31:
            refuse(where, token, "token ids from 0 to 2^31 - 1")
    return ids


def one_prompt(value):
    if isinstance(value, str):
        return Prompt(value, None)
    if isinstance(value, dict):
        for key in value:
            if key not in ("prompt", "prompt_token_ids"):
                refuse(f"inputs.{key}", "unknown key", "one of prompt, prompt_token_ids")
        text, ids = value.get("prompt"), value.get("prompt_token_ids")
        if (text is None and ids is None) or not isinstance(text, (str, type(None))):
            refuse("inputs", f"{value!r:.80}", _NEED)
        return Prompt(text, None if ids is None else token_ids(ids))
    if isinstance(value, (list, tuple)) or hasattr(value, "tolist"):
        return Prompt(None, token_ids(value))
    refuse("inputs", type(value).__name__, _NEED)


def _is_number(value):  # an array has __index__ as well
    return hasattr(value, "__index__") and not hasattr(value, "__len__")


def prompts_of(inputs):
    """(prompts, is one). A list of whole numbers is one prompt in tokens."""
    if isinstance(inputs, (list, tuple)):
        if not inputs or not _is_number(inputs[0]):
            return [one_prompt(value) for value in inputs], False
    return [one_prompt(inputs)], True


def one_each(value, count, where):
    """A list holds one for each prompt; anything else is for all of them."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        refuse(where, f"{len(value)} of them", f"one, or one for each of {count} prompts")
    return list(value)


def sparse_override(value):
    """A request's own sparse attention, as the engine's table reads it."""
    if value is None:
        return None
    if value is False or value == "off":
        return {"off": True}
    if isinstance(value, BaseSparseAttentionConfig):
        value = {name: item for name, item in value.to_dict().items() if item is not None}
    if not isinstance(value, dict):
        refuse("sparse_attention", repr(value),
               'None, "off", or {"threshold_scale_factor": ...}')
    if value.get("algorithm", "skip_softmax") != "skip_softmax":
        refuse("sparse_attention.algorithm", repr(value["algorithm"]), "skip_softmax")
    return plain({name: item for name, item in value.items() if name != "algorithm"})
