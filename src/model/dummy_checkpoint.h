#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/checkpoint.h"

namespace foveal::model {

enum class DummyData : uint8_t {
  kNone,   ///< shapes alone
  kHost,   ///< random values in host memory
  kDevice  ///< matrices have no data: whoever loads them makes random values where it wants them
};

/// A model of random weights with the shapes of a config.json, for benchmarks: `path` is the file
/// or its folder. `num_layers`: of so many layers instead. Norms are 1, biases small. With
/// `fp8`, matrices without data are in e4m3 where the config's quantization_config says so. The
/// same every time. Throws as Checkpoint::open for a config that is not one of ours, kOutOfMemory
/// where the data do not fit in memory.
std::unique_ptr<Checkpoint> open_dummy_checkpoint(const std::string& path,
                                                  std::optional<int64_t> num_layers, DummyData data,
                                                  bool fp8 = true);

}  // namespace foveal::model
