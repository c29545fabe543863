#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "device/stream.h"

namespace foveal::bench {

/// RocketKV's numeric core beside dense decode. Bytes are those that each step must read: K and V
/// (dense), the bounds lane (selection), K and V of selected tokens (attention; K comes in cache
/// lines of 16 tokens, which is not counted).
struct RocketOptions {
  int32_t num_kv_heads = 3;
  int32_t group = 3;
  int32_t head_dim = 64;
  int32_t cache_page = 32;
  int32_t page_size = 4;
  int32_t topk = 64;
  int32_t depth = 7680;
  int32_t window = 32;
  int32_t budget = 2048;
  int32_t layers = 30;  ///< distinct caches, so that decode's do not stay in L3
  bool bf16_bounds = false;
  double min_seconds = 0.3;
  bool cpu_time = false;  ///< the calling thread's own: busy neighbours take less of the result
};

/// Times each part; `done(what, seconds of a layer, bytes)` after each. With all pages selected the
/// values must be dense's, bit for bit: throws kInternal else.
void time_rocket(const RocketOptions& options, Stream& stream,
                 const std::function<void(std::string_view, double, double)>& done);

}  // namespace foveal::bench
