"""The Python snippets of TensorRT-LLM's page on sparse attention, word for word but for the package's
name and the model's path."""

import re

import pytest

import foveal

ROCKET = """
from foveal import LLM, SamplingParams
from foveal.llmapi import RocketSparseAttentionConfig, KvCacheConfig

sparse_attention_config = RocketSparseAttentionConfig(
    prompt_budget=2048,
    kt_cache_dtype="float8_e5m2",
)
kv_cache_config = KvCacheConfig(enable_block_reuse=False)

llm = LLM(
    model="<path_or_hf_id>",
    sparse_attention_config=sparse_attention_config,
    kv_cache_config=kv_cache_config,
)
outputs = llm.generate(["To be or not to be..."], SamplingParams(max_tokens=128))
"""

DSA = """
from foveal import LLM
from foveal.llmapi import DeepSeekSparseAttentionConfig

sparse_attention_config = DeepSeekSparseAttentionConfig(index_topk=64)

llm = LLM(
    model="<path_or_hf_id>",
    sparse_attention_config=sparse_attention_config,
)
"""

DSA_TOPK = """
from foveal.llmapi import DeepSeekSparseAttentionConfig
sparse_attention_config = DeepSeekSparseAttentionConfig(
    index_topk=2048,
    enable_heuristic_topk=True,
)
"""

SKIP_SOFTMAX = """
from foveal import LLM
from foveal.llmapi import SkipSoftmaxAttentionConfig

# Direct threshold (single value applied to both phases):
sparse_attention_config = SkipSoftmaxAttentionConfig(threshold_scale_factor=1000.0)
llm = LLM(model="<path_or_hf_id>", sparse_attention_config=sparse_attention_config)

# Direct threshold, per-phase:
sparse_attention_config = SkipSoftmaxAttentionConfig(
    threshold_scale_factor={"prefill": 1000.0, "decode": 500.0},
)
llm = LLM(model="<path_or_hf_id>", sparse_attention_config=sparse_attention_config)
"""

TARGET = """
from foveal import LLM
from foveal.llmapi import SkipSoftmaxAttentionConfig

# Target sparsity (requires the checkpoint to carry a calibration formula):
sparse_attention_config = SkipSoftmaxAttentionConfig(target_sparsity=0.5)

# Target sparsity, per-phase:
sparse_attention_config = SkipSoftmaxAttentionConfig(
    target_sparsity={"prefill": 0.5, "decode": 0.3},
)

llm = LLM(model="<path_or_hf_id>", sparse_attention_config=sparse_attention_config)
"""

def run(snippet, path):
    names = {}
    exec(snippet.replace("<path_or_hf_id>", path), names)
    return names


def test_rocket(model_path):
    names = run(ROCKET, model_path)
    assert names["llm"].info.method == "rocket" and len(names["outputs"]) == 1
    assert names["outputs"][0].sparsity.method == "rocket"
    names["llm"].shutdown()


def test_dsa_needs_an_indexer(model_path):
    with pytest.raises(foveal.UnsupportedError, match="dsa.*lightning indexer"):
        run(DSA, model_path)


def test_skip_softmax(model_path):
    llm = run(SKIP_SOFTMAX, model_path)["llm"]
    assert llm.info.method == "skip_softmax" and "decode: skip_softmax" in llm.info.attention
    llm.shutdown()


def test_configs_alone():
    assert run(DSA_TOPK, "")["sparse_attention_config"].enable_heuristic_topk


def test_target_needs_a_calibrated_checkpoint(model_path):
    with pytest.raises(foveal.Error, match="target_sparsity"):
        run(TARGET, model_path)
