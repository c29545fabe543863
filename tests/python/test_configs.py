import copy
import pickle
import subprocess
import sys

import pytest

import foveal
from foveal import InvalidArgumentError
from foveal.llmapi import (
    BaseSparseAttentionConfig, CudaGraphConfig, DeepSeekSparseAttentionConfig, KvCacheConfig,
    RocketSparseAttentionConfig, SchedulerConfig, SkipSoftmaxAttentionConfig,
)


def error_of(make):
    with pytest.raises(InvalidArgumentError) as caught:
        make()
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


def test_importing_the_package_brings_llmapi():
    subprocess.run([sys.executable, "-c", "import foveal; foveal.llmapi.KvCacheConfig()"], check=True)


def test_defaults_are_tensorrt_llms():
    rocket = RocketSparseAttentionConfig()
    assert (rocket.window_size, rocket.kernel_size, rocket.topr, rocket.topk) == (32, 63, 128, 64)
    assert (rocket.prompt_budget, rocket.page_size) == (2048, 4)
    assert (rocket.candidates, rocket.rank_size, rocket.score) == ("all", None, "auto")
    assert RocketSparseAttentionConfig(mode="multi_turn").topk == 128
    assert RocketSparseAttentionConfig(mode="multi_turn", topk=64).topk == 64
    assert (rocket.mode, rocket.force_recent, rocket.sink, rocket.dense_layers) == ("evict", 1, 0, [])
    assert rocket.kt_cache_dtype == "float8_e5m2" and rocket.algorithm == "rocket"
    dsa = DeepSeekSparseAttentionConfig()
    assert dsa.index_topk is None and dsa.q_split_threshold == 8192
    assert dsa.skip_indexer_for_short_seqs and not dsa.enable_heuristic_topk
    assert dsa.indexer_reference is None and not dsa.use_cute_dsl_topk
    skip = SkipSoftmaxAttentionConfig()
    assert skip.threshold_scale_factor is None and skip.target_sparsity is None
    kv = KvCacheConfig()
    assert kv.enable_block_reuse and kv.tokens_per_block == 32 and kv.dtype == "auto"


@pytest.mark.parametrize("make, text", [
    (lambda: RocketSparseAttentionConfig(topq=1),
     "[RocketSparseAttentionConfig.topq] got unknown key; need one of algorithm, window_size"),
    (lambda: RocketSparseAttentionConfig(kernel_size=64), "got 64; need an odd integer"),
    (lambda: RocketSparseAttentionConfig(window_size=64, prompt_budget=64),
     "[RocketSparseAttentionConfig.window_size] got 64; need less than prompt_budget (64)"),
    (lambda: RocketSparseAttentionConfig(topr=0), "topr] got 0; need"),
    (lambda: RocketSparseAttentionConfig(topr=1.5), "topr] got 1.5; need"),
    (lambda: RocketSparseAttentionConfig(mode="keep"), "mode] got 'keep'; need one of evict"),
    (lambda: RocketSparseAttentionConfig(dense_layers=[0]), "dense_layers] got 1 layers with mode"),
    (lambda: RocketSparseAttentionConfig(topk="64"), "got the text '64'; need an integer"),
    (lambda: RocketSparseAttentionConfig(topk=True), "got true; need an integer"),
    (lambda: RocketSparseAttentionConfig(topk=10**400), "need an integer"),
    (lambda: RocketSparseAttentionConfig(topk=object()), "got a value of type object"),
    (lambda: SkipSoftmaxAttentionConfig(threshold_scale_factor=float("nan")), "got nan; need"),
    (lambda: SkipSoftmaxAttentionConfig(threshold_scale_factor={"prefil": 1}),
     "threshold_scale_factor.prefil] got unknown key; need one of prefill, decode"),
    (lambda: SkipSoftmaxAttentionConfig(target_sparsity=1.5), "got 1.5; need a number from 0 to 1"),
    (lambda: KvCacheConfig(host_cache_size=1 << 30), "need 0: Foveal keeps pages in one place"),
    (lambda: KvCacheConfig(max_attention_window=[4096]), "need no such key"),
    (lambda: KvCacheConfig(free_memory_fraction=0.5, free_gpu_memory_fraction=0.5), "one field"),
    (lambda: KvCacheConfig(dtype="fp4"), "got 'fp4'; need one of auto, bf16, f16, f32, fp8"),
    (lambda: CudaGraphConfig(batch_sizes=[0]), "got 0; need an integer from 1 to 65536, or a list of them"),
    (lambda: SchedulerConfig(capacity_scheduler_policy="GUARANTEED_NO_EVICT"),
     "need MAX_UTILIZATION"),
    (lambda: DeepSeekSparseAttentionConfig(index_topk=0), "got 0; need an integer from 1"),
    (lambda: BaseSparseAttentionConfig(), "need one of"),
    (lambda: BaseSparseAttentionConfig.from_dict({"algorithm": "rockt"}), "got 'rockt'; need"),
])
def test_refuses(make, text):
    assert text in error_of(make)


def test_assignment_is_checked_and_undone():
    config = KvCacheConfig(free_gpu_memory_fraction=0.25)
    assert config.free_memory_fraction == config.free_gpu_memory_fraction == 0.25
    config.free_gpu_memory_fraction = 0.75
    assert config.free_memory_fraction == 0.75
    error_of(lambda: setattr(config, "tokens_per_block", 33))
    error_of(lambda: setattr(config, "token_per_block", 32))
    assert config.tokens_per_block == 32
    with pytest.raises(AttributeError):
        config.tokens


def test_what_was_not_set_follows_what_is():
    rocket = RocketSparseAttentionConfig()
    rocket.mode = "multi_turn"
    assert rocket.topk == rocket.to_dict()["topk"] == 128
    assert rocket == RocketSparseAttentionConfig(mode="multi_turn", topk=128)
    assert repr(rocket) == "RocketSparseAttentionConfig(mode='multi_turn')"
    rocket.mode = "evict"
    assert rocket.topk == 64
    given = RocketSparseAttentionConfig(topk=64)
    given.mode = "multi_turn"
    assert given.topk == 64 and eval(repr(given)) == given
    del given.topk
    assert given.topk == 128
    error_of(lambda: setattr(given, "sink", 128))
    assert given.sink == 0 and given.topk == 128


def test_is_a_value():
    configs = [
        KvCacheConfig(max_tokens=4096, host_cache_size=0), SchedulerConfig(),
        RocketSparseAttentionConfig(topr=1.0, prompt_budget=512),
        RocketSparseAttentionConfig(topr=1, mode="multi_turn", dense_layers=[0, 1], sink=2),
        SkipSoftmaxAttentionConfig(threshold_scale_factor={"prefill": 1000}),
        SkipSoftmaxAttentionConfig(threshold_scale_factor={"prefill": None}),
        DeepSeekSparseAttentionConfig(index_topk=64),
    ]
    for config in configs:
        assert eval(repr(config)) == config
        assert type(config).from_dict(config.to_dict()) == config
        assert copy.deepcopy(config) == config
        assert pickle.loads(pickle.dumps(config)) == config
        assert config != object()
    rocket = configs[2]
    assert isinstance(rocket.topr, float) and isinstance(configs[3].topr, int)
    assert BaseSparseAttentionConfig.from_dict(rocket.to_dict()) == rocket
    assert "prompt_budget: prompt tokens kept" in RocketSparseAttentionConfig.__doc__


def test_numbers_of_other_types_count():
    class Whole:
        def __index__(self):
            return 7

    assert RocketSparseAttentionConfig(topk=Whole()).topk == 7
    assert RocketSparseAttentionConfig(topk=1e3).topk == 1000


def test_errors_are_builtin_exceptions_too():
    for ours, builtin in [
        (foveal.NotFoundError, FileNotFoundError), (foveal.UnsupportedError, NotImplementedError),
        (foveal.OutOfMemoryError, MemoryError), (foveal.IoError, OSError),
        (foveal.InternalError, RuntimeError),
    ]:
        assert issubclass(ours, foveal.Error) and issubclass(ours, builtin)
