"""The names of tensorrt_llm.llmapi that make sense here."""

from foveal import LLM, CompletionOutput, GuidedDecodingParams, RequestOutput, SamplingParams
from foveal._configs import (
    BaseSparseAttentionConfig, CudaGraphConfig, DeepSeekSparseAttentionConfig, KvCacheConfig,
    RocketSparseAttentionConfig, SchedulerConfig, SkipSoftmaxAttentionConfig,
)

__all__ = [
    "LLM", "BaseSparseAttentionConfig", "CompletionOutput", "CudaGraphConfig",
    "DeepSeekSparseAttentionConfig", "GuidedDecodingParams", "KvCacheConfig", "RequestOutput", "RocketSparseAttentionConfig",
    "SamplingParams", "SchedulerConfig", "SkipSoftmaxAttentionConfig",
]
