#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "foveal/llm.h"
#include "model/test_files.h"

namespace foveal::test {

struct Tensor {
  std::string type;  ///< as safetensors calls it
  std::vector<int64_t> shape;
  std::string data;
};

/// A checkpoint as a map that a test changes before it is written.
struct Files {
  std::string config;
  std::map<std::string, Tensor> tensors;

  void write(const model::TempFolder& folder) const;
  /// Values of a bf16 tensor.
  std::vector<float> values(const std::string& name) const;
};

/// A model of this config.json with random bf16 tensors.
Files files_of(const std::string& config);

/// A small model of multi-head latent attention, of three layers, with every tensor its config asks
/// for in random bf16. Types other than deepseek_v3 have indexers in the first and the last layer.
Files make_files(const std::string& type, const std::string& more = "");

/// Everything in float32, on one thread.
LlmConfig config_of(const model::TempFolder& folder);

}  // namespace foveal::test
