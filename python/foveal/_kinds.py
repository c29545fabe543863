"""Which table of fields (src/base/config_fields.h) each configuration class shows, and what Python
adds to SamplingParams. The generator of type stubs reads this too, before the package exists."""

# class: (table, base, docstring). The table of a sparse method is its `algorithm`.
CONFIGS = {
    "KvCacheConfig": ("kv_cache", "Config", "The key-value cache."),
    "CudaGraphConfig": ("cuda_graph", "Config", "Recorded decode steps on CUDA."),
    "SchedulerConfig": (
        "scheduler", "Config",
        "TensorRT-LLM's scheduler settings: accepted where they are what Foveal does."),
    "SkipSoftmaxAttentionConfig": (
        "skip_softmax", "BaseSparseAttentionConfig",
        "Skip Softmax (BLASST): leaves out key tiles that cannot matter."),
    "RocketSparseAttentionConfig": (
        "rocket", "BaseSparseAttentionConfig",
        "RocketKV: keeps part of the prompt, and attends to part of that."),
    "DeepSeekSparseAttentionConfig": (
        "dsa", "BaseSparseAttentionConfig",
        "DeepSeek Sparse Attention: an indexer chooses the tokens to attend to."),
}

# name: (default, type, help)
SAMPLING_EXTRAS = {
    "best_of": (None, "int | None", "only n itself: all completions are returned"),
    "bad_token_ids": (None, "list[int] | None", "token ids that must not appear"),
    "end_id": (None, "int | None", "ends the text in place of the model's end tokens; -1: none"),
    "detokenize": (True, "bool", "False: token ids only, text stays empty"),
    "add_special_tokens": (True, "bool", "the begin token before a text prompt"),
    "truncate_prompt_tokens": (None, "int | None", "keep only so many last prompt tokens"),
    "guided_decoding": (None, "GuidedDecodingParams | None", "what the text must look like"),
}

# Fields whose default in TensorRT-LLM is None: whatever the table says then.
SAMPLING_NONE = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty",
                 "presence_penalty", "frequency_penalty", "min_tokens", "stop", "stop_token_ids",
                 "bad", "bad_words", "logit_bias")
