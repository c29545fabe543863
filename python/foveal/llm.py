"""The engine: a model, loaded and ready."""

import atexit
import os
import weakref

from foveal import _foveal
from foveal._configs import plain
from foveal._errors import refuse
from foveal._inputs import Prompt, one_each, prompts_of, sparse_override
from foveal._progress import bar
from foveal.generation import GenerationResult
from foveal.outputs import Assembler
from foveal.sampling_params import SamplingParams
from foveal.tokenizer import Tokenizer

_live = weakref.WeakSet()


@atexit.register
def _shutdown_all():
    for llm in list(_live):
        llm.shutdown()


class LLM:
    """Loads a model: a .gguf file, or a folder with config.json. Keywords are the fields of
    docs/configuration.md; what is unknown or cannot be honoured is refused. Threads may share it:
    requests of all of them run together."""

    def __init__(self, model, tokenizer=None, **kwargs):
        self._start({"model": model, "tokenizer": tokenizer, **kwargs}, None)

    @classmethod
    def from_yaml(cls, path, **overrides):
        """Fields from a YAML file; keywords win over it."""
        self = cls.__new__(cls)
        self._start(overrides, os.fspath(path))
        return self

    def _start(self, keywords, yaml_path):
        self._engine = _foveal.Engine(plain(keywords), yaml_path)
        self._requests = weakref.WeakSet()
        self._next_id = 1
        self._closed = False
        _live.add(self)

    # --- generating ---

    def generate(self, inputs, sampling_params=None, use_tqdm=True, sparse_attention=None,
                 cache_salt=None):
        """Completes one prompt (text, token ids, or a dict of one of them) or a list of prompts.
        Returns a RequestOutput, or a list of them in the order of the prompts. A list of
        sampling_params or of sparse_attention holds one for each prompt."""
        prompts, single = prompts_of(inputs)
        outputs = self._run(prompts, sampling_params, use_tqdm, sparse_attention, cache_salt)
        return outputs[0] if single else outputs

    def generate_async(self, inputs, sampling_params=None, streaming=False, sparse_attention=None,
                       cache_salt=None):
        """Submits one prompt and returns at once, with a GenerationResult."""
        prompts, single = prompts_of(inputs)
        if not single:
            refuse("generate_async", f"{len(prompts)} prompts", "one; call it for each")
        return self._submit(prompts[0], sampling_params, streaming, sparse_attention, cache_salt)

    def chat(self, messages, sampling_params=None, use_tqdm=True, sparse_attention=None,
             cache_salt=None, tools=None, add_generation_prompt=True, chat_template_kwargs=None):
        """As generate, for a conversation (a list of {"role", "content"}) or a list of them."""
        single = not messages or isinstance(messages[0], dict)
        tokenizer = Tokenizer(self)
        prompts = [
            Prompt(None, tokenizer.apply_chat_template(conversation, tools, add_generation_prompt,
                                                       **(chat_template_kwargs or {})))
            for conversation in ([messages] if single else messages)
        ]
        outputs = self._run(prompts, sampling_params, use_tqdm, sparse_attention, cache_salt)
        return outputs[0] if single else outputs

    def _run(self, prompts, sampling_params, use_tqdm, sparse_attention, cache_salt):
        count = len(prompts)
        params = one_each(sampling_params, count, "sampling_params")
        sparse = one_each(sparse_attention, count, "sparse_attention")
        progress = bar(count, use_tqdm)
        signal = _foveal.Signal()
        results = []
        try:
            for number, prompt in enumerate(prompts):
                results.append(self._submit(prompt, params[number], False, sparse[number],
                                            cache_salt))
                results[-1].attach(signal, number)
            waiting = set(range(count))
            while waiting:
                ended = {number for number in signal.wait() if results[number].finished}
                progress.update(len(ended & waiting))
                waiting -= ended
            return [result.result() for result in results]
        except BaseException:  # Ctrl-C, or a prompt that was refused: nobody reads the others
            for result in results:
                result.abort()
            raise
        finally:
            progress.close()

    def _submit(self, prompt, sampling_params, streaming, sparse_attention, cache_salt):
        params = SamplingParams() if sampling_params is None else sampling_params
        if not isinstance(params, SamplingParams):
            refuse("sampling_params", type(params).__name__, "SamplingParams or a list of them")
        if not isinstance(cache_salt, (str, type(None))):
            refuse("cache_salt", repr(cache_salt), "text")
        ids = self._prompt_ids(prompt, params)
        native = params.to_native()
        request = self._engine.submit(ids, native, params.guided_native(),
                                      sparse_override(sparse_attention), cache_salt or "")
        try:
            assembler = Assembler(self._next_id, prompt.text, ids, params)
            self._next_id += 1
            result = GenerationResult(request, assembler, streaming)
            self._requests.add(result)
            return result
        except BaseException:  # Ctrl-C: its traceback would keep what nobody else has
            request.cancel()
            raise

    def _prompt_ids(self, prompt, params):
        ids = prompt.ids
        if ids is None and params.add_special_tokens:
            ids = self._engine.prompt_token_ids(prompt.text)
        elif ids is None:
            ids = self._engine.encode(prompt.text, False)
        if params.truncate_prompt_tokens is not None:
            ids = ids[-params.truncate_prompt_tokens:]
        return ids

    # --- what it is ---

    @property
    def tokenizer(self):
        """The model's tokenizer; None where the model has none."""
        return Tokenizer(self) if self._engine.has_tokenizer() else None

    @property
    def info(self):
        """What was loaded, and how it runs."""
        return self._engine.info()

    def get_stats(self, timeout=None):
        """Counts since the start, and what the engine holds now: at once, whatever `timeout` allows,
        which is there for calls written for TensorRT-LLM."""
        return self._engine.stats()

    # --- ending ---

    def shutdown(self):
        """Cancels what runs and frees the model. Later calls are refused; a second one is not."""
        if self._closed:
            return
        self._closed = True
        running = list(self._requests)
        for result in running:
            result.abort()
        for result in running:
            result.settle()
        self._engine.shutdown()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
