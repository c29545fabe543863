#include <string_view>

#include "base/check.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/rocket.h"
#include "kernels/cuda/top_k_launch.h"

namespace foveal::kernels::cuda {

void top_k(const foveal_top_k_params& params, void* stream) {
  constexpr std::string_view kWhere = "top_k";
  constexpr int32_t kMostRows = 65535;
  constexpr int32_t kMostValues = 1 << 20;
  constexpr auto kBad = ErrorKind::kInvalidArgument;
  FOVEAL_CHECK(params.struct_size == sizeof(params), kBad, kWhere, "got struct_size {}; need {}",
               params.struct_size, sizeof(params));
  FOVEAL_CHECK(params.num_rows >= 1 && params.num_rows <= kMostRows, kBad, kWhere,
               "got num_rows {}; need 1 to {}", params.num_rows, kMostRows);
  FOVEAL_CHECK(params.max_length >= 1 && params.max_length <= kMostValues &&
                   (params.num_rows == 1 || params.row_stride >= params.max_length),
               kBad, kWhere, "got max_length {} and row_stride {}; need 1 to {} and as much",
               params.max_length, params.row_stride, kMostValues);
  FOVEAL_CHECK(params.k >= 1 && params.k <= params.indices_stride, kBad, kWhere,
               "got k {} and indices_stride {}; need 1 or more and as much", params.k,
               params.indices_stride);
  FOVEAL_CHECK(params.values != nullptr && params.indices != nullptr &&
                   (params.lengths == nullptr || params.rows_a_length >= 1),
               kBad, kWhere, "got no values or indices, or rows_a_length {}; need both, 1 or more",
               params.rows_a_length);
  usable_device(kWhere);
  launch_top_k(params, stream);
}

}  // namespace foveal::kernels::cuda
