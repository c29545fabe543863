"""generate and its kin, on a tiny model whose tokens are known and on a real one."""

import pytest

import foveal
from foveal import LLM, InvalidArgumentError, SamplingParams
from foveal.llmapi import KvCacheConfig, RocketSparseAttentionConfig, SkipSoftmaxAttentionConfig


def test_golden_tokens(tiny, tiny_golden):
    prompts = [tiny_golden["input_ids.short"], tiny_golden["input_ids.long"]]
    outputs = tiny.generate(prompts, SamplingParams(max_tokens=24, ignore_eos=True))
    for output, prompt, name in zip(outputs, prompts, ["short", "long"]):
        assert output.prompt is None and output.prompt_token_ids == prompt and output.finished
        (completion,) = output.outputs
        assert completion.token_ids == tiny_golden[f"greedy.{name}"]
        assert completion.length == 24 and completion.finish_reason == "length"
        assert completion.text == ""  # there is no tokenizer
        assert output.sparsity.method == "dense" and output.timings.prefill_tokens > 0
        assert output.memory.kv_bytes > 0


def test_forms_of_a_prompt(tiny, tiny_golden):
    ids = tiny_golden["input_ids.short"]
    params = SamplingParams(max_tokens=4, ignore_eos=True)
    want = tiny_golden["greedy.short"][:4]
    for one in (ids, tuple(ids), {"prompt_token_ids": ids}):
        assert tiny.generate(one, params).outputs[0].token_ids == want
    assert [o.outputs[0].token_ids for o in tiny.generate([ids, {"prompt_token_ids": ids}],
                                                          params)] == [want, want]
    assert tiny.generate([], params) == []
    for bad in (5, None, {"text": "a"}, {}, [None], [[1.5]], [ids, object()], b"bytes", {"prompt": 5}):
        with pytest.raises(InvalidArgumentError):
            tiny.generate(bad, params)
    with pytest.raises(InvalidArgumentError):
        tiny.generate([10**6], params)  # no such token
    with pytest.raises(foveal.UnsupportedError):
        tiny.generate("text", params)  # no tokenizer
    assert tiny.tokenizer is None


def test_batched_equals_single(llm, long_text):
    prompts = [long_text[:1 + 137 * idx] for idx in range(24)] + ["Paris is", "I"]
    params = [SamplingParams(max_tokens=3 + idx % 17, ignore_eos=True,
                             **({"temperature": 0.9, "seed": idx} if idx % 3 == 0 else {}))
              for idx in range(len(prompts))]
    together = llm.generate(prompts, params)
    for prompt, param, output in zip(prompts, params, together):
        alone = llm.generate(prompt, param, use_tqdm=False)
        assert alone.outputs[0].token_ids == output.outputs[0].token_ids
        assert alone.outputs[0].text == output.outputs[0].text


def test_params_of_a_list(llm):
    outputs = llm.generate(["a", "b"], [SamplingParams(max_tokens=1), SamplingParams(max_tokens=2)])
    assert [output.outputs[0].length for output in outputs] == [1, 2]
    for bad in ([SamplingParams()], "greedy", [None, 5]):
        with pytest.raises(InvalidArgumentError):
            llm.generate(["a", "b"], bad)


def test_logprobs(llm):
    output = llm.generate("The capital of France is",
                          SamplingParams(max_tokens=4, logprobs=3, prompt_logprobs=2))
    completion = output.outputs[0]
    assert len(completion.logprobs) == 4 and len(completion.prompt_logprobs) == 5
    assert completion.prompt_logprobs[0] == {}
    for token, row in zip(completion.token_ids, completion.logprobs):
        assert row[token].rank == 1 and len(row) == 3
    total = sum(row[t].logprob for t, row in zip(completion.token_ids, completion.logprobs))
    assert completion.cumulative_logprob == pytest.approx(total)


def test_stops(llm):
    text = llm.generate("Count: one, two,", SamplingParams(max_tokens=16)).outputs[0]
    stop = text.text[3:6]
    cut = llm.generate("Count: one, two,", SamplingParams(max_tokens=16, stop=stop)).outputs[0]
    assert cut.text == text.text[:text.text.index(stop)]
    assert cut.finish_reason == "stop" and cut.stop_reason == stop
    token = text.token_ids[2]
    cut = llm.generate("Count: one, two,",
                       SamplingParams(max_tokens=16, stop_token_ids=[token])).outputs[0]
    assert cut.finish_reason == "stop" and cut.stop_reason == token
    none = llm.generate("Count: one, two,", SamplingParams(max_tokens=2, detokenize=False))
    assert none.outputs[0].text == "" and none.outputs[0].length == 2


def test_several_completions(llm):
    output = llm.generate("Once upon a time", SamplingParams(n=3, temperature=1.0, seed=5))
    assert [completion.index for completion in output.outputs] == [0, 1, 2]
    assert len({completion.text for completion in output.outputs}) == 3
    again = llm.generate("Once upon a time", SamplingParams(temperature=1.0, seed=6))
    assert again.outputs[0].text == output.outputs[1].text


def test_chat_and_tokenizer(llm):
    tokenizer = llm.tokenizer
    assert tokenizer.decode(tokenizer.encode("Hello, wörld")) == "Hello, wörld"
    assert tokenizer.vocab_size == len(tokenizer) == llm.info.vocab_size
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode("é"))) == "é".encode()
    messages = [{"role": "user", "content": "Say hi."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert "Say hi." in text and text.endswith("assistant\n")
    ids = tokenizer.apply_chat_template(messages)
    params = SamplingParams(max_tokens=8)
    assert llm.chat(messages, params).outputs[0].text == llm.generate(ids, params).outputs[0].text
    assert len(llm.chat([messages, messages], params)) == 2


def test_prompt_options(llm):
    ids = llm.tokenizer.encode("one two three four")
    cut = llm.generate(ids, SamplingParams(max_tokens=1, truncate_prompt_tokens=2))
    assert cut.prompt_token_ids == ids[-2:]
    bare = llm.generate("one", SamplingParams(max_tokens=1, add_special_tokens=False))
    assert bare.prompt_token_ids == llm.tokenizer.encode("one", add_special_tokens=False)


def test_reuse_and_salt(model_path, long_text):
    with LLM(model_path, kv_cache_config=KvCacheConfig(max_tokens=8192)) as llm:
        params = SamplingParams(max_tokens=1)
        text = long_text[:3000]
        assert llm.generate(text, params).cached_tokens == 0
        assert llm.generate(text, params).cached_tokens > 0
        assert llm.generate(text, params, cache_salt="other").cached_tokens == 0
        stats = llm.get_stats(timeout=2)
        assert stats.cached_tokens > 0 and stats.running == 0 and stats.kv_pages_used == 0
        assert stats.to_dict()["sparsity"]["method"] == "dense"


def test_sparse_attention_of_a_request(model_path, long_text):
    config = SkipSoftmaxAttentionConfig(threshold_scale_factor={"prefill": 200.0, "decode": 100.0})
    with LLM(model_path, sparse_attention_config=config) as llm:
        params = SamplingParams(max_tokens=4)
        own, off, more = llm.generate([long_text] * 3, params, sparse_attention=[
            None, "off", {"threshold_scale_factor": {"prefill": 1000.0}}])
        assert own.sparsity.method == "skip_softmax" and own.sparsity.prefill.skipped > 0
        assert off.sparsity.prefill.skipped == 0
        assert more.sparsity.prefill.skipped > own.sparsity.prefill.skipped
        assert len(own.sparsity.layers) == 30
        for bad in ({"threshold_scale_factor": -1}, {"threshold": 1}, 5,
                    RocketSparseAttentionConfig()):
            with pytest.raises(InvalidArgumentError):
                llm.generate("a", params, sparse_attention=bad)


def test_guided_is_honoured_or_refused(llm):
    guided = foveal.GuidedDecodingParams(choice=["yes", "no"])
    try:
        output = llm.generate("Is water wet?", SamplingParams(guided_decoding=guided))
    except foveal.UnsupportedError as error:
        assert "guided" in str(error)
    else:
        assert output.outputs[0].text in ("yes", "no")
