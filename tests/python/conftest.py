import os
import pathlib

import golden
import pytest

import foveal

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tiny_path():
    """A tiny random model without a tokenizer."""
    return str(ROOT / "tests/golden/llama3")


@pytest.fixture(scope="session")
def tiny(tiny_path):
    with foveal.LLM(tiny_path, device="cpu", compute_dtype="f32",
                    kv_cache_config={"dtype": "f32"}) as llm:
        yield llm


@pytest.fixture(scope="session")
def tiny_golden(tiny_path):
    return golden.load(pathlib.Path(tiny_path) / "golden.safetensors")


@pytest.fixture(scope="session")
def model_path():
    path = os.environ.get("FOVEAL_TEST_MODEL")
    if not path:
        pytest.skip("FOVEAL_TEST_MODEL names no model")
    return path


@pytest.fixture(scope="session")
def llm(model_path):
    with foveal.LLM(model_path) as llm:
        yield llm


@pytest.fixture(scope="session")
def long_text():
    return (ROOT / "LICENSE").read_text()
