#pragma once

#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/sm90/decode_segment.cuh"

namespace foveal::kernels::cuda {

/// Where the rows of K and V of one unit begin.
struct UnitRows {
  const char* k;
  const char* v;

  template <class Tile, bool kKey>
  __device__ void copy(const DecodeArgs& args, uint32_t slot, int32_t keys, int lane) const {
    Tile::template copy_rows<kKey>(slot, kKey ? k : v,
                                   kKey ? args.k_token_bytes : args.v_token_bytes, keys, lane);
  }
};

/// Page ids of a warp's coming units: lane i holds that of the i-th of 32, so that one load a 32
/// units is enough and no copy waits for its address.
class PageWindow {
 public:
  using Rows = UnitRows;

  __device__ static void trim(const DecodeArgs& /*args*/, Segment& /*segment*/) {}
  /// The unit `unit`, then every `stride`-th from `next` on.
  __device__ void open(const DecodeArgs& args, const Segment& segment, int32_t unit, int32_t next,
                       int32_t stride, int lane) {
    used_ = 0;
    if (args.page_table == nullptr) {
      page_ = args.cu_k[segment.seq];
      return;
    }
    const int32_t last = (segment.kv_len - 1) >> args.page_shift;
    const int32_t own = lane == 0 ? unit : next + (lane - 1) * stride;
    const int32_t at = min(own * kDecodeUnit >> args.page_shift, last);
    page_ = args.page_table[segment.seq * args.page_table_stride + at];
  }
  __device__ bool exhausted() const { return used_ == 32; }
  __device__ UnitRows next(const DecodeArgs& args, const Segment& segment, int32_t unit) {
    const int32_t page = __shfl_sync(~0u, page_, used_++);
    const bool paged = args.page_table != nullptr;
    const int64_t row = paged ? (unit * kDecodeUnit) & ((1 << args.page_shift) - 1)
                              : static_cast<int64_t>(unit) * kDecodeUnit + page;
    const int64_t whole = paged ? page : 0;
    const int64_t head = args.passes.divide(static_cast<uint32_t>(segment.head));
    return {
        args.k + whole * args.k_page_bytes + head * args.k_head_bytes + row * args.k_token_bytes,
        args.v + whole * args.v_page_bytes + head * args.v_head_bytes + row * args.v_token_bytes};
  }

 private:
  int32_t page_ = 0;
  int used_ = 0;
};

/// Brings what is small and needed soon into the second-level cache before K and V fill the
/// memory's queues: behind those a miss takes 5 to 8 us. A warp a sequence; the last CTAs begin,
/// for they have no work in a short call.
__device__ inline void prefetch_small(const DecodeArgs& args) {
  constexpr uint32_t kLine = 128;
  const uint32_t lane = threadIdx.x % 32;
  const uint32_t warps = blockDim.x / 32;
  const auto seqs = static_cast<uint32_t>(args.num_seqs);
  const uint32_t row_lines = (static_cast<uint32_t>(args.q_row_bytes) + kLine - 1) / kLine;
#pragma unroll 1
  for (uint32_t seq = (gridDim.x - 1 - blockIdx.x) * warps + threadIdx.x / 32; seq < seqs;
       seq += gridDim.x * warps) {
    const int32_t* table = args.page_table + seq * args.page_table_stride;
#pragma unroll 1
    for (uint32_t line = lane; line < args.prefetch_lines; line += 32) {
      foveal::cuda::prefetch_l2(table + line * (kLine / sizeof(int32_t)));
    }
    const char* q = args.q + seq * args.q_row_bytes;
#pragma unroll 1
    for (uint32_t line = lane; line < row_lines; line += 32) {
      foveal::cuda::prefetch_l2(q + line * kLine);
    }
    if (lane == 0) foveal::cuda::prefetch_l2(args.arrivals + seq * args.num_kv_heads);
    if (lane == 1) foveal::cuda::prefetch_l2(args.tickets);
  }
}

}  // namespace foveal::kernels::cuda
