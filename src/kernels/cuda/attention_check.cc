#include "kernels/cuda/attention_check.h"

#include <cuda_runtime_api.h>

#include <atomic>
#include <cmath>
#include <cstdint>

#include "base/check.h"
#include "base/math.h"
#include "device/backend.h"
#include "device/cuda/check.h"

namespace foveal::kernels::cuda {
namespace {

using Params = foveal_attention_params;

constexpr int64_t kMost = int64_t{1} << 38;  // of a stride, or of all keys

void check_shape(const Params& p, std::string_view where) {
  const auto positive = [&](int64_t value, std::string_view name) {
    FOVEAL_CHECK(value > 0, ErrorKind::kInvalidArgument, where, "got {} {}; need 1 or more", name,
                 value);
  };
  positive(p.num_seqs, "num_seqs");
  positive(p.num_rows, "num_rows");
  positive(p.num_heads, "num_heads");
  positive(p.num_kv_heads, "num_kv_heads");
  FOVEAL_CHECK(p.num_heads % p.num_kv_heads == 0, ErrorKind::kInvalidArgument, where,
               "got {} heads over {} KV heads; need a multiple", p.num_heads, p.num_kv_heads);
  check_head_dim(p.head_dim, where);
  FOVEAL_CHECK(p.max_kv_len >= 0 && p.max_q_len >= 0, ErrorKind::kInvalidArgument, where,
               "got max_kv_len {}, max_q_len {}; need 0 or more", p.max_kv_len, p.max_q_len);
  FOVEAL_CHECK(p.total_kv_len >= 0 && p.total_kv_len < kMost, ErrorKind::kInvalidArgument, where,
               "got total_kv_len {}; need 0 (num_seqs * max_kv_len) or more, below 2^38",
               p.total_kv_len);
  FOVEAL_CHECK(p.window >= 0, ErrorKind::kInvalidArgument, where,
               "got window {}; need 0 (none) or more", p.window);
  const bool pages =
      p.page_size == 16 || p.page_size == 32 || p.page_size == 64 || p.page_size == 128;
  FOVEAL_CHECK(pages || p.page_table == nullptr, ErrorKind::kUnsupported, where,
               "got page_size {}; need 16, 32, 64 or 128", p.page_size);
  constexpr uint32_t kFlags = FOVEAL_ATTENTION_FIXED_SPLITS | FOVEAL_ATTENTION_INT8_VOTES;
  FOVEAL_CHECK((p.flags & ~kFlags) == 0, ErrorKind::kInvalidArgument, where,
               "got flags {:#x}; need FOVEAL_ATTENTION_FIXED_SPLITS, FOVEAL_ATTENTION_INT8_VOTES, "
               "both or 0",
               p.flags);
}

void check_dtypes(const Params& p, std::string_view where) {
  const auto known = [](int32_t dtype) { return dtype >= FOVEAL_BF16 && dtype <= FOVEAL_E4M3; };
  FOVEAL_CHECK(known(p.q_dtype) && known(p.kv_dtype), ErrorKind::kInvalidArgument, where,
               "got q_dtype {}, kv_dtype {}; need FOVEAL_BF16, FOVEAL_F16 or FOVEAL_E4M3",
               p.q_dtype, p.kv_dtype);
  FOVEAL_CHECK(p.kv_dtype == p.q_dtype || p.kv_dtype == FOVEAL_E4M3, ErrorKind::kUnsupported, where,
               "got q_dtype {} with kv_dtype {}; need the same, or e4m3 keys and values", p.q_dtype,
               p.kv_dtype);
}

void check_aligned(const void* pointer, std::string_view name, std::string_view where) {
  FOVEAL_CHECK(pointer != nullptr, ErrorKind::kInvalidArgument, where,
               "got no {}; need its address", name);
  FOVEAL_CHECK(reinterpret_cast<uintptr_t>(pointer) % 16 == 0, ErrorKind::kInvalidArgument, where,
               "got {} at an address that is no multiple of 16; need one", name);
}

/// Of arrays that may be absent: a device would stop at an element that lies across a boundary.
void check_arrays(const Params& p, std::string_view where) {
  const auto aligned = [&](const void* pointer, size_t bytes, std::string_view name) {
    FOVEAL_CHECK(reinterpret_cast<uintptr_t>(pointer) % bytes == 0, ErrorKind::kInvalidArgument,
                 where, "got {} at an address that is no multiple of {}; need one", name, bytes);
  };
  aligned(p.lse, 4, "lse");
  aligned(p.cu_q, 4, "cu_q");
  aligned(p.kv_len, 4, "kv_len");
  aligned(p.page_table, 4, "page_table");
  aligned(p.cu_k, 4, "cu_k");
  aligned(p.skip_factors, 4, "skip_factors");
  aligned(p.threshold_len, 4, "threshold_len");
  aligned(p.counters, 8, "counters");
  aligned(p.workspace, 256, "workspace");
}

void check_stride(int64_t stride, int64_t least, int32_t dtype, std::string_view name,
                  std::string_view where) {
  const int64_t multiple = 16 / element_bytes(dtype);
  FOVEAL_CHECK(stride >= least && stride % multiple == 0 && stride < kMost,
               ErrorKind::kInvalidArgument, where,
               "got {} {}; need at least {}, a multiple of {} elements (16 bytes) and below 2^38",
               name, stride, least, multiple);
}

void check_tensors(const Params& p, std::string_view where) {
  check_aligned(p.q, "q", where);
  check_aligned(p.k, "k", where);
  check_aligned(p.v, "v", where);
  check_aligned(p.out, "out", where);
  check_stride(p.q_row_stride, p.head_dim, p.q_dtype, "q_row_stride", where);
  check_stride(p.q_head_stride, p.head_dim, p.q_dtype, "q_head_stride", where);
  check_stride(p.out_row_stride, p.head_dim, FOVEAL_BF16, "out_row_stride", where);
  check_stride(p.out_head_stride, p.head_dim, FOVEAL_BF16, "out_head_stride", where);
  check_stride(p.k_head_stride, p.head_dim, p.kv_dtype, "k_head_stride", where);
  check_stride(p.k_token_stride, p.head_dim, p.kv_dtype, "k_token_stride", where);
  check_stride(p.v_head_stride, p.head_dim, p.kv_dtype, "v_head_stride", where);
  check_stride(p.v_token_stride, p.head_dim, p.kv_dtype, "v_token_stride", where);
  FOVEAL_CHECK(p.num_pages > 0, ErrorKind::kInvalidArgument, where,
               "got num_pages {}; need 1 or more (rows of k and v without a page table)",
               p.num_pages);
  FOVEAL_CHECK(p.kv_len != nullptr, ErrorKind::kInvalidArgument, where,
               "got no kv_len; need its address on the device");
  if (p.page_table == nullptr) {
    FOVEAL_CHECK(p.cu_k != nullptr, ErrorKind::kInvalidArgument, where,
                 "got neither page_table nor cu_k; need one of them");
    return;
  }
  check_stride(p.k_page_stride, p.head_dim, p.kv_dtype, "k_page_stride", where);
  check_stride(p.v_page_stride, p.head_dim, p.kv_dtype, "v_page_stride", where);
  FOVEAL_CHECK(
      p.page_table_stride >= ceil_div(p.max_kv_len, p.page_size) && p.page_table_stride < kMost,
      ErrorKind::kInvalidArgument, where,
      "got page_table_stride {}; need the pages of max_kv_len ({} keys of pages of {}), below 2^38",
      p.page_table_stride, p.max_kv_len, p.page_size);
}

void check_numbers(const Params& p, std::string_view where) {
  const auto positive = [&](float value, std::string_view name) {
    FOVEAL_CHECK(std::isfinite(value) && value > 0, ErrorKind::kInvalidArgument, where,
                 "got {} {}; need a finite number above 0", name, value);
  };
  positive(p.softmax_scale, "softmax_scale");
  positive(p.q_scale, "q_scale");
  positive(p.k_scale, "k_scale");
  positive(p.v_scale, "v_scale");
  FOVEAL_CHECK(std::isfinite(p.skip_factor) && p.skip_factor >= 0, ErrorKind::kInvalidArgument,
               where, "got skip_factor {}; need 0 (dense) or more", p.skip_factor);
  FOVEAL_CHECK(p.skip_factors == nullptr || p.skip_factor > 0, ErrorKind::kInvalidArgument, where,
               "got skip_factors beside skip_factor 0 (dense); need a skip_factor above 0");
}

}  // namespace

int32_t element_bytes(int32_t dtype) { return dtype == FOVEAL_E4M3 ? 1 : 2; }

void check_struct_size(size_t got, size_t need, std::string_view header, std::string_view where) {
  FOVEAL_CHECK(got == need, ErrorKind::kInvalidArgument, where,
               "got struct_size {}; need {} (a caller built against another {}?)", got, need,
               header);
}

void check_head_dim(int32_t head_dim, std::string_view where) {
  const bool known =
      head_dim == 64 || head_dim == 96 || head_dim == 128 || head_dim == 192 || head_dim == 256;
  FOVEAL_CHECK(known, ErrorKind::kUnsupported, where,
               "got head_dim {}; need 64, 96, 128, 192 or 256", head_dim);
}

void check_workspace(const void* workspace, size_t bytes, size_t need, std::string_view where) {
  const bool enough =
      workspace != nullptr && reinterpret_cast<uintptr_t>(workspace) % 256 == 0 && bytes >= need;
  FOVEAL_CHECK(need == 0 || enough, ErrorKind::kInvalidArgument, where,
               "got {} bytes of workspace at {}; need {} at a multiple of 256", bytes,
               fmt::ptr(workspace), need);
}

void check_sizes(const Params& params, std::string_view where) {
  check_struct_size(params.struct_size, sizeof(Params), "foveal/kernels.h", where);
  check_shape(params, where);
  check_dtypes(params, where);
}

void check_attention(const Params& params, std::string_view where) {
  check_sizes(params, where);
  check_tensors(params, where);
  check_arrays(params, where);
  check_numbers(params, where);
}

int usable_device(std::string_view where) {
  static std::atomic<uint64_t> known{0};  // a bit a device that was found good
  int index = 0;
  const cudaError_t status = cudaGetDevice(&index);
  const uint64_t bit = index < 64 ? uint64_t{1} << static_cast<unsigned>(index) : 0;
  if (status == cudaSuccess && (known.load(std::memory_order_relaxed) & bit) != 0) return index;
  const GpuList list = foveal::cuda::list_gpus();
  const GpuChoice choice = choose_gpu(list);
  FOVEAL_CHECK(choice.index.has_value(), ErrorKind::kUnsupported, where,
               "got no GPU that the kernels run on ({}); need one", choice.reason);
  foveal::cuda::check(status, "cudaGetDevice");
  check_gpu(list, index);
  known.fetch_or(bit, std::memory_order_relaxed);
  return index;
}

}  // namespace foveal::kernels::cuda
