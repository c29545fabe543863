#pragma once

#include <string>

#include "attention/method.h"

namespace foveal::attention {

/// What a device's prefill kernels decide about at once: query rows of a head that vote together x
/// keys. Skip Softmax's factors belong to it.
struct PrefillTiles {
  int32_t rows = 0;
  int32_t keys = 0;
  std::string name() const;  ///< "64x128"
};

/// `e4m3`: on CUDA, prefill's attention multiplies in e4m3.
PrefillTiles prefill_tiles(DeviceKind device, const ModelShape& shape, bool e4m3);

}  // namespace foveal::attention
