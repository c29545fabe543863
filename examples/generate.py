"""Answers a batch of prompts with Skip Softmax, then streams one: generate.py MODEL [PROMPT...]"""

import sys

from foveal import LLM, SamplingParams
from foveal.llmapi import KvCacheConfig, SkipSoftmaxAttentionConfig


def main(model, prompts):
    with LLM(
        model=model,
        sparse_attention_config=SkipSoftmaxAttentionConfig(
            threshold_scale_factor={"prefill": 100.0, "decode": 30.0}),
        kv_cache_config=KvCacheConfig(enable_block_reuse=True),
    ) as llm:
        for output in llm.generate(prompts, SamplingParams(max_tokens=32)):
            print(output.prompt + output.outputs[0].text, output.sparsity, sep="\n")
        for output in llm.generate_async(prompts[0], SamplingParams(max_tokens=32), streaming=True):
            print(output.outputs[0].text_diff, end="", flush=True)
        print()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] or ["The capital of France is", "To be or not to be"])
