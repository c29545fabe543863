"""What a request returns."""

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token's log probability; rank 1 is the best."""

    logprob: float
    rank: int | None = None


@dataclass(slots=True)
class CompletionOutput:
    """One completion, without the prompt. `text` ends before a stop string or an end token;
    `token_ids` ends with the token that completed it."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    prompt_logprobs: list[dict[int, Logprob]] = field(default_factory=list)
    finish_reason: str | None = None  # "stop", "length", "cancelled"; None while it runs
    stop_reason: int | str | None = None  # the stop token or string; None for an end token
    _last_text: int = field(default=0, repr=False, compare=False)
    _last_tokens: int = field(default=0, repr=False, compare=False)

    @property
    def length(self):
        return len(self.token_ids)

    @property
    def text_diff(self):
        """The text since the item before, when streaming."""
        return self.text[self._last_text:]

    @property
    def token_ids_diff(self):
        return self.token_ids[self._last_tokens:]

    @property
    def logprobs_diff(self):
        return self.logprobs[self._last_tokens:]


@dataclass(slots=True)
class RequestOutput:
    """A request as far as it has come; `sparsity`, `timings` and `memory` come with the end."""

    request_id: int
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = False
    cached_tokens: int = 0
    sparsity: Any = None
    timings: Any = None
    memory: Any = None
    context_logits: None = None


def _logprobs(own, top):
    out = {entry.token: Logprob(entry.logprob, entry.rank) for entry in top}
    if own is not None:
        out[own.token] = Logprob(own.logprob, own.rank)
    return out


class Assembler:
    """Puts a request's deltas together."""

    def __init__(self, request_id, prompt, prompt_token_ids, sampling):
        self._sampling = sampling
        self.output = RequestOutput(request_id, prompt, prompt_token_ids,
                                    [CompletionOutput(index) for index in range(sampling.n)])
        if sampling.logprobs is not None:
            for completion in self.output.outputs:
                completion.cumulative_logprob = 0.0

    def add(self, deltas):
        for delta in deltas:
            completion = self.output.outputs[delta.index]
            if self._sampling.detokenize:
                completion.text += delta.text
            completion.token_ids += delta.token_ids
            for own, top in zip(delta.logprobs, delta.top_logprobs):
                completion.logprobs.append(_logprobs(own, top))
                completion.cumulative_logprob += own.logprob
            completion.finish_reason = delta.finish_reason

    def finish(self, result):
        """The end: `result` is the engine's."""
        out = self.output
        out.finished = True
        out.cached_tokens = result.cached_tokens
        out.sparsity, out.timings, out.memory = result.sparsity, result.timings, result.memory
        prompt_logprobs = [_logprobs(own, top) for own, top in
                           zip(result.prompt_logprobs, result.prompt_top_logprobs)]
        for completion, ended in zip(out.outputs, result.outputs):
            completion.finish_reason = ended.finish_reason
            completion.prompt_logprobs = prompt_logprobs
            completion.stop_reason = self._stop_reason(completion, ended)

    def _stop_reason(self, completion, ended):
        if ended.stop_text is not None:
            return ended.stop_text
        stops = self._sampling.stop_token_ids
        stops = stops if isinstance(stops, (list, tuple)) else [stops]
        last = completion.token_ids[-1] if completion.token_ids else None
        return last if ended.finish_reason == "stop" and last in stops else None

    def snapshot(self):
        """A copy that later tokens leave alone; the next one's diffs start where it ends."""
        copies = [replace(one, token_ids=list(one.token_ids), logprobs=list(one.logprobs))
                  for one in self.output.outputs]
        for one in self.output.outputs:
            one._last_text, one._last_tokens = len(one.text), len(one.token_ids)
        return replace(self.output, outputs=copies)
