#pragma once

#include <memory>
#include <string>

#include "model/checkpoint.h"

namespace foveal::model {

/// The two formats behind Checkpoint::open.
std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::string& file);
std::unique_ptr<Checkpoint> open_safetensors_checkpoint(const std::string& folder);

}  // namespace foveal::model
