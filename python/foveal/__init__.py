"""Foveal: an inference engine for large language models with sparse attention."""

from foveal._foveal import __version__, set_log_level
from foveal._errors import (
    CancelledError, ContextLengthError, CorruptFileError, Error, InternalError,
    InvalidArgumentError, IoError, NotFoundError, OutOfMemoryError, UnsupportedError,
)
from foveal.generation import GenerationResult
from foveal.guided import GuidedDecodingParams
from foveal.llm import LLM
from foveal.outputs import CompletionOutput, Logprob, RequestOutput
from foveal.sampling_params import SamplingParams

from foveal import llmapi  # last: it takes the names above

__all__ = [
    "LLM", "CancelledError", "CompletionOutput", "ContextLengthError", "CorruptFileError", "Error",
    "GenerationResult", "GuidedDecodingParams", "InternalError", "InvalidArgumentError", "IoError",
    "Logprob", "NotFoundError", "OutOfMemoryError", "RequestOutput", "SamplingParams",
    "UnsupportedError", "__version__", "llmapi", "set_log_level",
]
