"""What LLM takes and refuses, and how it reads files."""

import os
import pathlib
import subprocess
import sys

import pytest

import foveal
from foveal import LLM
from foveal.llmapi import (
    DeepSeekSparseAttentionConfig, KvCacheConfig, RocketSparseAttentionConfig, SchedulerConfig,
    SkipSoftmaxAttentionConfig,
)


@pytest.mark.parametrize("given, kind, text", [
    ({"max_batch": 3}, foveal.InvalidArgumentError,
     "[LLM.max_batch] got unknown key; need one of model, tokenizer, device"),
    ({"max_batch": None}, foveal.InvalidArgumentError, "[LLM.max_batch] got unknown key"),
    ({"backend": "tensorrt"}, foveal.InvalidArgumentError, "Foveal has one backend of its own"),
    ({"tensor_parallel_size": 2}, foveal.InvalidArgumentError, "need 1: Foveal runs on one device"),
    ({"trust_remote_code": True}, foveal.InvalidArgumentError, "need false"),
    ({"dtype": "float16"}, foveal.InvalidArgumentError, "need auto"),
    ({"kv_cache_config": {"tokens": 5}}, foveal.InvalidArgumentError,
     "[LLM.kv_cache_config.tokens] got unknown key"),
    ({"max_num_tokens": 0}, foveal.InvalidArgumentError, "need an integer from 1"),
    ({"device": "cuda"}, foveal.UnsupportedError, "cuda"),
    ({"sparse_attention_config": []}, foveal.InvalidArgumentError, "empty list"),
    ({"sparse_attention_config": RocketSparseAttentionConfig(page_size=64)},
     foveal.InvalidArgumentError, "rocket.page_size"),
    ({"sparse_attention_config": DeepSeekSparseAttentionConfig(index_topk=64)},
     foveal.UnsupportedError, "dsa"),
    ({"sparse_attention_config": SkipSoftmaxAttentionConfig(target_sparsity=0.5)},
     foveal.Error, "target_sparsity"),
])
def test_refuses(tiny_path, given, kind, text):
    with pytest.raises(kind) as caught:
        LLM(tiny_path, **given)
    assert text in str(caught.value) and "; need " in str(caught.value)


def test_files_that_are_not_there_or_broken(tmp_path):
    with pytest.raises(FileNotFoundError):
        LLM("/nowhere/model.gguf")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(foveal.Error):
        LLM(broken)
    with pytest.raises(foveal.NotFoundError):
        LLM.from_yaml(tmp_path / "none.yaml")


def test_accepts(tiny_path):
    for method, sparse in [
            ("dense", None),
            ("skip_softmax", SkipSoftmaxAttentionConfig(threshold_scale_factor=5.0)),
            ("skip_softmax", [SkipSoftmaxAttentionConfig(threshold_scale_factor={"decode": 5.0})]),
            ("skip_softmax", {"algorithm": "skip_softmax", "threshold_scale_factor": 5}),
            ("rocket", RocketSparseAttentionConfig(prompt_budget=64)),
            ("skip_softmax+rocket",
             [SkipSoftmaxAttentionConfig(threshold_scale_factor={"prefill": 5.0}),
              RocketSparseAttentionConfig(mode="multi_turn")])]:
        with LLM(pathlib.Path(tiny_path), dtype="auto", tensor_parallel_size=1, load_format="auto",
                 trust_remote_code=False, enable_chunked_prefill=True, max_batch_size=4, threads=1,
                 scheduler_config=SchedulerConfig(), sparse_attention_config=sparse,
                 kv_cache_config=KvCacheConfig(max_tokens=2048)) as llm:
            assert llm.info.kv_tokens == 2048 and llm.info.threads == 1
            assert llm.info.method == method


def test_keywords_win_over_the_file(tiny_path, tmp_path):
    path = tmp_path / "extra.yaml"
    path.write_text(f"model: {tiny_path}\nthreads: 1\nkv_cache_config: {{max_tokens: 1024}}\n")
    with LLM.from_yaml(path) as llm:
        assert llm.info.threads == 1 and llm.info.kv_tokens == 1024
    with LLM.from_yaml(path, threads=None) as llm:
        assert llm.info.threads == 1
    with LLM.from_yaml(path, threads=2, kv_cache_config=KvCacheConfig(max_tokens=512)) as llm:
        assert llm.info.threads == 2 and llm.info.kv_tokens == 512
    path.write_text("kv_cache_config: {max_tokens: 0}\n")
    with pytest.raises(foveal.InvalidArgumentError, match=r"extra.yaml:1 kv_cache_config"):
        LLM.from_yaml(path, model=tiny_path)


def test_infos(tiny):
    assert tiny.info.name == "llama3" and "threads=" in repr(tiny.info)
    assert tiny.info.to_dict()["device"] == "cpu"


def run(code, **kwargs):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600,
                          **kwargs)


def test_quiet_and_clean_at_exit(tiny_path):
    # The engine still runs when the interpreter ends.
    done = run(f"import foveal\nllm = foveal.LLM({tiny_path!r})\n"
               "request = llm.generate_async([1] * 9, foveal.SamplingParams(max_tokens=900))\n"
               "print(llm.generate([1] * 9, foveal.SamplingParams(max_tokens=1)).finished)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


@pytest.mark.parametrize("name", ["generate.py", "generate_async.py"])
def test_examples(model_path, name):
    path = pathlib.Path(__file__).resolve().parents[2] / "examples" / name
    done = subprocess.run([sys.executable, path, model_path], capture_output=True, text=True,
                          timeout=600)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_version():
    done = subprocess.run([sys.executable, "-m", "foveal"], capture_output=True, text=True)
    assert done.stdout == f"foveal {foveal.__version__}\n"


def test_needs_nothing_else():
    done = run("import foveal, foveal.llmapi, sys; print('numpy' in sys.modules, 'torch' in "
               "sys.modules)", env={**os.environ, "PYTHONPATH": ""})
    assert done.stdout == "False False\n"
    package = pathlib.Path(foveal.__file__).parent
    for name in ("py.typed", "_foveal.pyi", "_configs.pyi"):
        assert (package / name).exists()
    assert "kernel_size: int" in (package / "_configs.pyi").read_text()
