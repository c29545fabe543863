import pytest

from foveal import GuidedDecodingParams, InvalidArgumentError, SamplingParams


def test_defaults():
    params = SamplingParams()
    assert params.max_tokens == 32 and params.n == 1 and params.best_of is None
    assert params.temperature is None and params.top_k is None and params.top_p is None
    assert params.detokenize and params.add_special_tokens and not params.ignore_eos
    assert repr(params) == "SamplingParams()"
    assert "temperature" not in params.to_native()  # greedy


@pytest.mark.parametrize("given, temperature", [
    ({"top_p": 0.9}, 1), ({"top_k": 40}, 1), ({"min_p": 0.1}, 1), ({"top_k": 1}, None),
    ({"top_p": 1.0}, None), ({"temperature": 0.5, "top_k": 40}, 0.5),
    ({"temperature": 0, "top_p": 0.9}, 0),
])
def test_who_narrows_the_choice_wants_one(given, temperature):
    assert SamplingParams(**given).to_native().get("temperature") == temperature


@pytest.mark.parametrize("given, text", [
    ({"max_token": 5}, "[SamplingParams.max_token] got unknown keyword; need one of max_tokens"),
    ({"max_tokens": -1}, "[SamplingParams.max_tokens] got -1; need an integer from 0"),
    ({"top_p": 0}, "need a number above 0"), ({"temperature": float("inf")}, "got inf"),
    ({"n": 2, "best_of": 4}, "[SamplingParams.best_of] got 4; need n (2)"),
    ({"use_beam_search": True}, "got true; need false: Foveal has no beam search"),
    ({"logits_processor": 5}, "need no such key"), ({"return_context_logits": True}, "need false"),
    ({"truncate_prompt_tokens": 0}, "need an integer >= 1"),
    ({"detokenize": "no"}, "need True or False"), ({"min_tokens": 40}, "at most max_tokens"),
    ({"guided_decoding": "json"}, "need GuidedDecodingParams"), ({"logprobs": 1000}, "got 1000"),
    ({"stop": [[5]]}, "got a list"), ({"bad_token_ids": [-1]}, "got -1"),
])
def test_refuses(given, text):
    with pytest.raises(InvalidArgumentError) as caught:
        SamplingParams(**given)
    assert text in str(caught.value)


def test_assignment_is_checked_and_undone():
    params = SamplingParams(stop=["a", "b"], seed=2**64 - 1)
    with pytest.raises(InvalidArgumentError):
        params.top_p = 7
    with pytest.raises(InvalidArgumentError):
        params.topp = 0.5
    assert params.top_p is None
    params.top_p = 0.5
    assert params == SamplingParams(stop=["a", "b"], seed=2**64 - 1, top_p=0.5)
    assert SamplingParams.from_dict(params.to_dict()) == params


def test_maps_names():
    native = SamplingParams(end_id=7, stop_token_ids=[9], bad_token_ids=[1, 2]).to_native()
    assert native["ignore_eos"] and native["stop_token_ids"] == [9, 7]
    assert native["bad_words"] == [[1], [2]]
    assert SamplingParams(end_id=-1).to_native()["ignore_eos"]


def test_guided():
    native = GuidedDecodingParams(json={"type": "object"}).to_native()
    assert native == {"kind": "json", "text": '{"type": "object"}'}
    assert GuidedDecodingParams(choice=["a"]).to_native() == {"kind": "choice", "text": ["a"]}
    assert SamplingParams(guided_decoding={"regex": "a+"}).guided_native()["kind"] == "regex"
    for bad in ({}, {"json": "{}", "regex": "a"}, {"choice": []}, {"choice": [1]}, {"regex": 5},
                {"structural_tag": "x"}):
        with pytest.raises(InvalidArgumentError):
            GuidedDecodingParams(**bad)
