#pragma once

#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/sm90/decode_segment.cuh"

namespace foveal::kernels::cuda {

/// Where the rows of K and V of one unit begin.
struct UnitRows {
  const char* k;
  const char* v;
};

/// Page ids of a warp's coming units: lane i holds that of the i-th of 32, so that one load a 32
/// units is enough and no copy waits for its address.
class PageWindow {
 public:
  __device__ void open(const DecodeArgs& args, const Segment& segment, int32_t unit, int32_t stride,
                       int lane) {
    used_ = 0;
    if (args.page_table == nullptr) {
      page_ = args.cu_k[segment.seq];
      return;
    }
    const int32_t last = (segment.kv_len - 1) >> args.page_shift;
    const int32_t at = min((unit + lane * stride) * kDecodeUnit >> args.page_shift, last);
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
/// memory's queues: behind those a miss takes 5 to 8 us. All CTAs together, a line a thread at
/// most.
__device__ inline void prefetch_small(const DecodeArgs& args) {
  constexpr uint32_t kLine = 128;
  uint32_t line = blockIdx.x * blockDim.x + threadIdx.x;
  const auto seqs = static_cast<uint32_t>(args.num_seqs);
  if (line < args.prefetch_lines * seqs) {
    foveal::cuda::prefetch_l2(args.page_table +
                              line / args.prefetch_lines * args.page_table_stride +
                              line % args.prefetch_lines * (kLine / sizeof(int32_t)));
    return;
  }
  line -= args.prefetch_lines * seqs;
  const uint32_t row_lines = (static_cast<uint32_t>(args.q_row_bytes) + kLine - 1) / kLine;
  if (line < row_lines * seqs) {
    foveal::cuda::prefetch_l2(args.q + line / row_lines * args.q_row_bytes +
                              line % row_lines * kLine);
    return;
  }
  line -= row_lines * seqs;
  const uint32_t rows = seqs * static_cast<uint32_t>(args.num_kv_heads);
  if (line <= rows * sizeof(uint32_t) / kLine) foveal::cuda::prefetch_l2(args.arrivals + line * 32);
  if (line == 0) foveal::cuda::prefetch_l2(args.tickets);
}

}  // namespace foveal::kernels::cuda
