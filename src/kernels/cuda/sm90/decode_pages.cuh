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
    return {args.k + whole * args.k_page_bytes + segment.head * args.k_head_bytes +
                row * args.k_token_bytes,
            args.v + whole * args.v_page_bytes + segment.head * args.v_head_bytes +
                row * args.v_token_bytes};
  }

 private:
  int32_t page_ = 0;
  int used_ = 0;
};

/// The table's lines and the queries come from memory while kv_len is still on its way.
__device__ inline void prefetch_tables(const DecodeArgs& args) {
  const int32_t thread = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
  if (thread >= args.prefetch_lines * args.num_seqs) return;
  foveal::cuda::prefetch_l2(args.page_table +
                            thread / args.prefetch_lines * args.page_table_stride +
                            thread % args.prefetch_lines * 32);
}

}  // namespace foveal::kernels::cuda
