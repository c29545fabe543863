"""The names of tensorrt_llm.llmapi that make sense here."""

from foveal import LLM, CompletionOutput, GuidedDecodingParams, RequestOutput, SamplingParams
from foveal import _configs
from foveal._configs import *  # noqa: F403 - the configuration classes (_kinds.py)

__all__ = ["LLM", "CompletionOutput", "GuidedDecodingParams", "RequestOutput", "SamplingParams"]
__all__ += _configs.__all__
