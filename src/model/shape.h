#pragma once

#include "attention/method.h"
#include "model/config.h"

namespace foveal::model {

/// What a model looks like to an attention method, and so what its cache holds.
attention::ModelShape shape_of(const ModelConfig& config);

}  // namespace foveal::model
