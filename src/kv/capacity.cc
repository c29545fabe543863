#include "kv/capacity.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/kv_view.h"
#include "base/math.h"

namespace foveal::kv {
namespace {

constexpr const char* kWhere = "kv_cache";
constexpr int64_t kMaxPages = std::numeric_limits<int32_t>::max();

/// Every page id must be an int32 and every token position of the pool an int64; the latter
/// follows.
int64_t pages_for_tokens(int64_t max_tokens, int32_t page_size) {
  FOVEAL_CHECK(max_tokens > 0, ErrorKind::kInvalidArgument, kWhere,
               "got max_tokens {}; need 1 or more", max_tokens);
  const int64_t num_pages = (max_tokens - 1) / page_size + 1;
  FOVEAL_CHECK(num_pages <= kMaxPages, ErrorKind::kInvalidArgument, kWhere,
               "got max_tokens {}; need at most {}", max_tokens, kMaxPages * page_size);
  return num_pages;
}

void check_latent(const KvGeometry& geometry) {
  FOVEAL_CHECK(geometry.num_kv_heads == 1 && geometry.value_dim <= geometry.head_dim,
               ErrorKind::kInvalidArgument, kWhere,
               "got a latent cache of {} KV heads, {} channels and {} values; need one head and no "
               "more values than channels",
               geometry.num_kv_heads, geometry.head_dim, geometry.value_dim);
  const bool fp8 = geometry.dtype == DType::kF8E4M3;
  FOVEAL_CHECK(!fp8 || (geometry.value_dim == 512 && geometry.head_dim == 576),
               ErrorKind::kUnsupported, kWhere,
               "got f8_e4m3 rows of {} latent and {} rotating channels; need 512 and 64, or bf16",
               geometry.value_dim, geometry.head_dim - geometry.value_dim);
}

int64_t layers_of(const KvGeometry& geometry, const LaneSpec& lane) {
  if (lane.layers.empty()) return geometry.num_layers;
  FOVEAL_INVARIANT(lane.layers.size() == static_cast<size_t>(geometry.num_layers));
  return std::count_if(lane.layers.begin(), lane.layers.end(), [](uint8_t in) { return in != 0; });
}

/// Of one token in one lane of one layer.
std::optional<int64_t> row_bytes(const KvGeometry& geometry) {
  if (geometry.value_dim > 0 && geometry.dtype == DType::kF8E4M3) return kFp8LatentRowBytes;
  const std::optional<int64_t> head =
      checked_mul(dtype_info(geometry.dtype).bytes, geometry.head_dim);
  return head ? checked_mul(*head, geometry.num_kv_heads) : head;
}

}  // namespace

int64_t lane_page_bytes(const KvGeometry& geometry) {
  const bool stored = geometry.dtype == DType::kF32 || geometry.dtype == DType::kF16 ||
                      geometry.dtype == DType::kBF16 || geometry.dtype == DType::kF8E4M3;
  FOVEAL_CHECK(stored, ErrorKind::kInvalidArgument, kWhere,
               "got dtype {}; need bf16, f16, f32 or f8_e4m3", dtype_name(geometry.dtype));
  FOVEAL_CHECK(geometry.num_layers > 0 && geometry.num_kv_heads > 0, ErrorKind::kInvalidArgument,
               kWhere, "got {} layers of {} KV heads; need 1 or more of both", geometry.num_layers,
               geometry.num_kv_heads);
  FOVEAL_CHECK(geometry.head_dim > 0 && geometry.head_dim % 2 == 0, ErrorKind::kInvalidArgument,
               kWhere, "got head dim {}; need an even number above 0", geometry.head_dim);
  FOVEAL_CHECK(geometry.page_size > 0 && geometry.page_size % 16 == 0, ErrorKind::kInvalidArgument,
               kWhere, "got a page of {} tokens; need a multiple of 16 above 0",
               geometry.page_size);
  if (geometry.value_dim > 0) check_latent(geometry);
  std::optional<int64_t> bytes = row_bytes(geometry);
  if (bytes) bytes = checked_mul(*bytes, geometry.page_size);
  FOVEAL_CHECK(bytes.has_value(), ErrorKind::kInvalidArgument, kWhere,
               "got pages of {} tokens, {} KV heads and head dim {}; need a size below 2^63",
               geometry.page_size, geometry.num_kv_heads, geometry.head_dim);
  return *bytes;
}

int64_t bytes_per_page(const KvGeometry& geometry, std::span<const LaneSpec> lanes) {
  std::optional<int64_t> bytes = checked_mul(kv_lanes(geometry), lane_page_bytes(geometry));
  if (bytes) bytes = checked_mul(*bytes, geometry.num_layers);
  for (const LaneSpec& lane : lanes) {
    FOVEAL_CHECK(lane.bytes_per_page > 0, ErrorKind::kInvalidArgument, kWhere,
                 "got {} bytes a page for lane '{}'; need 1 or more", lane.bytes_per_page,
                 lane.name);
    const std::optional<int64_t> whole =
        checked_mul(lane.bytes_per_page, layers_of(geometry, lane));
    bytes = bytes && whole ? checked_add(*bytes, *whole) : std::nullopt;
  }
  FOVEAL_CHECK(bytes.has_value(), ErrorKind::kInvalidArgument, kWhere,
               "got {} layers whose pages overflow 63 bits; need a smaller geometry",
               geometry.num_layers);
  return *bytes;
}

int64_t bytes_per_token(const KvGeometry& geometry, std::span<const LaneSpec> lanes) {
  const int64_t bytes = bytes_per_page(geometry, lanes);
  return (bytes - 1) / geometry.page_size + 1;
}

CapacityPlan plan_capacity(const KvGeometry& geometry, std::span<const LaneSpec> lanes,
                           const CapacityRequest& request) {
  const int64_t page_bytes = bytes_per_page(geometry, lanes);
  const int64_t free_bytes = std::max<int64_t>(0, request.free_bytes);
  int64_t num_pages = 0;
  if (request.max_tokens) {
    num_pages = pages_for_tokens(*request.max_tokens, geometry.page_size);
    const auto bytes = checked_mul(num_pages, page_bytes);
    FOVEAL_CHECK(bytes && *bytes <= free_bytes, ErrorKind::kOutOfMemory, kWhere,
                 "got max_tokens {} at {} bytes a page of {} tokens; need at most {} tokens, for "
                 "{} bytes are free",
                 *request.max_tokens, page_bytes, geometry.page_size,
                 std::min(free_bytes / page_bytes, kMaxPages) * geometry.page_size, free_bytes);
  } else {
    const double fraction = request.free_memory_fraction;
    // Written so that NaN is refused too.
    FOVEAL_CHECK(fraction > 0 && fraction <= 1, ErrorKind::kInvalidArgument, kWhere,
                 "got free_memory_fraction {}; need a number above 0 and at most 1", fraction);
    // A double cannot hold every int64, so the product may round past the free bytes.
    const double share =
        static_cast<double>(free_bytes) * fraction / static_cast<double>(page_bytes);
    num_pages = share < static_cast<double>(kMaxPages) ? static_cast<int64_t>(share) : kMaxPages;
    num_pages = std::min(num_pages, free_bytes / page_bytes);
    FOVEAL_CHECK(num_pages > 0, ErrorKind::kOutOfMemory, kWhere,
                 "got {} bytes (free_memory_fraction {} of {} free); need {} for one page",
                 static_cast<int64_t>(static_cast<double>(free_bytes) * fraction), fraction,
                 free_bytes, page_bytes);
  }
  return {.num_pages = static_cast<int32_t>(num_pages),
          .num_tokens = num_pages * geometry.page_size,
          .bytes_per_page = page_bytes,
          .num_bytes = num_pages * page_bytes};
}

}  // namespace foveal::kv
