#include "attention/tiles.h"

#include <fmt/format.h>

#include "kernels/cuda/prefill_tiles.h"
#include "kernels/paged_attention.h"

namespace foveal::attention {

std::string PrefillTiles::name() const { return fmt::format("{}x{}", rows, keys); }

PrefillTiles prefill_tiles(DeviceKind device, const ModelShape& shape, bool e4m3) {
  if (device == DeviceKind::kCpu) return {kernels::kQueryTile, kernels::kKeyTile};
  const bool latent = shape.value_dim > 0;
  const int32_t keys = latent ? kernels::cuda::prefill_heads_tile_keys()
                              : kernels::cuda::prefill_tile_keys(shape.head_dim, e4m3);
  return {kernels::kCudaQueryTile, keys};
}

}  // namespace foveal::attention
