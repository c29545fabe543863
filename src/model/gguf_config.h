#pragma once

#include <string>

#include "model/config.h"
#include "model/gguf.h"
#include "tokenizer/tokenizer.h"

namespace foveal::model {

/// Hyperparameters from GGUF metadata and tensors (keys of ggml's docs/gguf.md; what the files
/// leave out is filled as llama.cpp does). Throws kCorruptFile naming the key, or kUnsupported.
ModelConfig read_gguf_config(const GgufFile& file, const std::string& source);

/// The vocabulary, as views into the file's bytes. Throws kCorruptFile when lists disagree.
tokenizer::GgufVocab read_gguf_vocab(const GgufFile& file, const std::string& source);

}  // namespace foveal::model
