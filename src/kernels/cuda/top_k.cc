#include "kernels/cuda/top_k.h"

#include <cstring>
#include <string_view>

#include "base/check.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/top_k_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr std::string_view kWhere = "top_k";
constexpr auto kBad = ErrorKind::kInvalidArgument;

/// The call with zeros for what an older caller does not know of.
foveal_top_k_params whole(const foveal_top_k_params& given) {
  FOVEAL_CHECK(given.struct_size == sizeof(given) || given.struct_size == FOVEAL_TOP_K_SIZE_1, kBad,
               kWhere, "got struct_size {}; need {} or {}", given.struct_size, sizeof(given),
               FOVEAL_TOP_K_SIZE_1);
  foveal_top_k_params out{};
  std::memcpy(&out, &given, given.struct_size);
  out.struct_size = sizeof(out);
  return out;
}

void check_rows(const foveal_top_k_params& p) {
  constexpr int32_t kMostRows = 1 << 24;
  constexpr int32_t kMostValues = 1 << 20;
  FOVEAL_CHECK(p.num_rows >= 1 && p.num_rows <= kMostRows, kBad, kWhere,
               "got num_rows {}; need 1 to {}", p.num_rows, kMostRows);
  FOVEAL_CHECK(p.max_length >= 1 && p.max_length <= kMostValues &&
                   (p.num_rows == 1 || p.row_stride >= p.max_length),
               kBad, kWhere, "got max_length {} and row_stride {}; need 1 to {} and as much",
               p.max_length, p.row_stride, kMostValues);
  FOVEAL_CHECK(p.k >= 1 && p.k <= p.indices_stride, kBad, kWhere,
               "got k {} and indices_stride {}; need 1 or more and as much", p.k, p.indices_stride);
  FOVEAL_CHECK(p.values != nullptr && (p.indices != nullptr || p.slots != nullptr), kBad, kWhere,
               "got values {}, indices {} and slots {}; need values, and indices or slots",
               fmt::ptr(p.values), fmt::ptr(p.indices), fmt::ptr(p.slots));
  const bool ragged = p.lengths != nullptr || (p.slots != nullptr && p.row_seq == nullptr);
  FOVEAL_CHECK(!ragged || p.rows_a_length >= 1, kBad, kWhere,
               "got rows_a_length {}; need 1 or more", p.rows_a_length);
}

void check_later_fields(const foveal_top_k_params& p) {
  FOVEAL_CHECK((p.flags & ~FOVEAL_TOP_K_RADIX) == 0, kBad, kWhere, "got flags {}; need {} or 0",
               p.flags, FOVEAL_TOP_K_RADIX);
  FOVEAL_CHECK(p.starts == nullptr || p.lengths != nullptr, kBad, kWhere,
               "got starts without lengths; need both");
  FOVEAL_CHECK(p.slots == nullptr || (p.page_table != nullptr && p.page_size >= 1), kBad, kWhere,
               "got slots with page_table {} and page_size {}; need a table and 1 or more",
               fmt::ptr(p.page_table), p.page_size);
}

}  // namespace

void top_k(const foveal_top_k_params& given, void* stream) {
  const foveal_top_k_params params = whole(given);
  check_rows(params);
  check_later_fields(params);
  const int32_t processors = foveal::cuda::device_properties(usable_device(kWhere)).num_sms;
  launch_top_k(params, processors, stream);
}

}  // namespace foveal::kernels::cuda
