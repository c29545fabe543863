#pragma once

#include <string>
#include <vector>

#include "attention/method.h"
#include "engine/engine.h"
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
};

/// What `foveal inspect` prints: a model and a config as the engine resolves them, without running.
struct Inspection {
  std::string format;
  model::ModelConfig model;
  std::string tokenizer;  ///< empty: none
  EngineInfo engine;
  std::string attention;  ///< one line
  std::vector<LayerInspection> layers;
  std::vector<TensorInspection> tensors;
};

/// Throws as starting an engine with this config would.
Inspection inspect(const LlmConfig& config);

}  // namespace foveal::engine
