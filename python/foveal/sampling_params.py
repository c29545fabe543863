"""How tokens are chosen. The fields are the C++ table's, plus what is TensorRT-LLM's alone."""

from foveal import _foveal
from foveal._configs import document
from foveal._errors import refuse
from foveal._kinds import SAMPLING_EXTRAS, SAMPLING_NONE
from foveal.guided import GuidedDecodingParams

_TABLE = _foveal.fields("sampling")
_FIXED = _foveal.fields("trtllm_sampling")


def _extra(name):
    default, _, text = SAMPLING_EXTRAS[name]
    return {"name": name, "default": default, "help": text, "need": text, "fixed": False}


class SamplingParams:
    """How tokens are chosen, and when to stop. Greedy unless temperature, top_k, top_p or min_p say
    otherwise; temperature is 1 where only the others are given."""

    _defaults = {
        **{field["name"]: None if field["name"] in SAMPLING_NONE else field["default"]
           for field in _TABLE},
        **{name: row[0] for name, row in SAMPLING_EXTRAS.items()},
        **{field["name"]: field["default"] for field in _FIXED},
    }

    def __init__(self, **values):
        for name in values:
            if name not in self._defaults:
                known = [field["name"] for field in _TABLE] + list(SAMPLING_EXTRAS)
                refuse(f"SamplingParams.{name}", "unknown keyword", f"one of {', '.join(known)}")
        self._set({**self._defaults, **values})

    def _set(self, values):
        before = dict(self.__dict__)
        self.__dict__.update(values)
        try:
            self._check()
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def __setattr__(self, name, value):
        if name not in self._defaults:
            refuse(f"SamplingParams.{name}", "unknown field", "a field of SamplingParams")
        self._set({name: value})

    def __eq__(self, other):
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None

    def __repr__(self):
        shown = [f"{name}={value!r}" for name, value in self.__dict__.items()
                 if value != self._defaults[name]]
        return f"SamplingParams({', '.join(shown)})"

    def to_dict(self):
        """What differs from the defaults."""
        return {name: value for name, value in self.__dict__.items()
                if value != self._defaults[name]}

    @classmethod
    def from_dict(cls, values):
        return cls(**values)

    def _check(self):
        fixed = {field["name"]: self.__dict__[field["name"]] for field in _FIXED}
        _foveal.bind("trtllm_sampling", fixed, "SamplingParams")
        bound = _foveal.bind("sampling", self.to_native(), "SamplingParams")
        if self.best_of not in (None, bound["n"]):
            refuse("SamplingParams.best_of", self.best_of,
                   f"n ({bound['n']}), since all completions are returned")
        if self.truncate_prompt_tokens is not None and not (
                type(self.truncate_prompt_tokens) is int and self.truncate_prompt_tokens >= 1):
            refuse("SamplingParams.truncate_prompt_tokens", repr(self.truncate_prompt_tokens),
                   "an integer >= 1")
        for name in ("detokenize", "add_special_tokens"):
            if self.__dict__[name] not in (True, False):
                refuse(f"SamplingParams.{name}", repr(self.__dict__[name]), "True or False")
        self.guided_native()

    def guided_native(self):
        guided = self.guided_decoding
        if isinstance(guided, dict):
            guided = GuidedDecodingParams(**guided)
        if guided is None or isinstance(guided, GuidedDecodingParams):
            return guided and guided.to_native()
        refuse("SamplingParams.guided_decoding", repr(guided), "GuidedDecodingParams")

    def to_native(self):
        """Values for the engine's table."""
        out = {field["name"]: self.__dict__[field["name"]] for field in _TABLE}
        # As TensorRT-LLM: who narrows down the choice wants one.
        off = {"top_k": (None, 0, 1), "top_p": (None, 1), "min_p": (None, 0)}
        if out["temperature"] is None and any(out[name] not in off[name] for name in off):
            out["temperature"] = 1
        words = _as_list(self.bad_token_ids)
        if words:
            out["bad_words"] = _as_list(out["bad_words"]) + [[word] for word in words]
        if self.end_id is not None:
            out["ignore_eos"] = True
            if self.end_id != -1:
                out["stop_token_ids"] = _as_list(out["stop_token_ids"]) + [self.end_id]
        return {name: value for name, value in out.items() if value is not None}


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


document(SamplingParams, [*_TABLE, *map(_extra, SAMPLING_EXTRAS)])
