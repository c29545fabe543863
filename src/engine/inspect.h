#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attention/method.h"
#include "engine/engine.h"
#include "engine/setup.h"
#include "foveal/config.h"
#include "model/config.h"

namespace foveal::engine {

/// One layer of the model as the engine would run it.
struct LayerInspection {
  int32_t window = 0;  ///< 0: full attention
  bool rotates = true;
  bool experts = false;
  attention::Resolution prefill;
  attention::Resolution decode;
};

struct TensorInspection {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string expanded;   ///< why the device holds it in bf16, not in e4m3 as the file; or empty
  bool left_out = false;  ///< of a layer that predicts further tokens: never read
};

/// What a method keeps under the page table of K and V.
struct LaneInspection {
  std::string name;
  int64_t bytes_per_token = 0;  ///< of a layer, rounded up
  int32_t layers = 0;           ///< that have it
};

/// KV memory of a request, in whole pages; what it generates comes on top.
struct MemoryInspection {
  int64_t prompt_tokens = 0;
  int64_t kept_tokens = 0;
  int64_t dense_bytes = 0;    ///< without sparse attention
  int64_t reading_bytes = 0;  ///< at most, while its prompt is read
  int64_t kept_bytes = 0;     ///< afterwards
};

/// What `foveal inspect` prints: a model and a config as the engine resolves them, without running.
struct Inspection {
  std::string format;
  model::ModelConfig model;
  std::string tokenizer;  ///< empty: none
  EngineInfo engine;
  std::optional<Shortage> shortage;      ///< where starting an engine would fail for memory
  std::string attention;                 ///< one line
  std::vector<LaneInspection> lanes;     ///< what the cache holds beside K and V, or latents
  std::vector<MemoryInspection> memory;  ///< of prompts of some lengths
  std::vector<LayerInspection> layers;
  std::vector<TensorInspection> tensors;
  std::string expanded;  ///< which of those, by reason; or empty
};

/// Throws as starting an engine with this config would, but not for want of memory.
Inspection inspect(const LlmConfig& config);

}  // namespace foveal::engine
