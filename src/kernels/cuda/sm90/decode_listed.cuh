#pragma once

#include "kernels/cuda/sm90/decode_pages.cuh"

namespace foveal::kernels::cuda {

/// Rows of K and V of one unit that lie anywhere: lane i knows the pool row of key i % 16.
struct ListedRows {
  const char* k;  ///< of the KV head
  const char* v;
  int32_t token;

  template <class Tile, bool kKey>
  __device__ void copy(const DecodeArgs& args, uint32_t slot, int32_t keys, int lane) const {
    constexpr int kColumns = Tile::kRowBytes / 16;
    const int64_t page_bytes = kKey ? args.k_page_bytes : args.v_page_bytes;
    const int64_t token_bytes = kKey ? args.k_token_bytes : args.v_token_bytes;
    const int32_t in_page = (1 << args.page_shift) - 1;
#pragma unroll
    for (int i = 0; i < kDecodeUnit * kColumns / 32; ++i) {
      const int row = (i * 32 + lane) / kColumns;
      const int column = (i * 32 + lane) % kColumns;
      const int32_t own = __shfl_sync(~0u, token, row);
      const char* from = (kKey ? k : v) + (own >> args.page_shift) * page_bytes +
                         (own & in_page) * token_bytes + column * 16;
      Tile::template copy_piece<kKey>(slot, from, row, column, keys);
    }
  }
};

/// Pages of 2^slot_shift tokens from a list of each (sequence, KV head): key i of a row is token
/// i % 2^slot_shift of entry i / 2^slot_shift. Only the last entry may be partly filled, so that
/// lists look like shorter sequences to everybody else. A lane holds one entry of the coming units.
class ListedWindow {
 public:
  using Rows = ListedRows;

  /// To the KV head's own list. Its last part may have no keys; it has a unit, all masked.
  __device__ static void trim(const DecodeArgs& args, Segment& segment) {
    segment.kv_len = args.slots_lengths[row(args, segment)];
    const int32_t end = (segment.kv_len + kDecodeUnit - 1) / kDecodeUnit;
    segment.end_unit = max(min(segment.end_unit, end), segment.base_unit + 1);
  }

  /// As PageWindow's.
  __device__ void open(const DecodeArgs& args, const Segment& segment, int32_t unit, int32_t next,
                       int32_t stride, int lane) {
    used_ = 0;
    shift_ = max(0, kUnitShift - args.slot_shift);  // entries a unit, log2
    const int32_t last = (segment.kv_len - 1) >> args.slot_shift;
    const int32_t ahead = lane >> shift_;
    const int32_t own = ahead == 0 ? unit : next + (ahead - 1) * stride;
    const int32_t first = own * kDecodeUnit >> args.slot_shift;
    const int32_t at = first + (lane & ((1 << shift_) - 1));
    entry_ = args.slots[row(args, segment) * args.slots_stride + max(min(at, last), 0)];
  }
  __device__ bool exhausted() const { return used_ == 32 >> shift_; }
  __device__ ListedRows next(const DecodeArgs& args, const Segment& segment, int32_t unit) {
    const int key = static_cast<int>(threadIdx.x) % kDecodeUnit;
    const int32_t entry =
        __shfl_sync(~0u, entry_, (used_++ << shift_) + (shift_ > 0 ? key >> args.slot_shift : 0));
    const int32_t within = (unit * kDecodeUnit + key) & ((1 << args.slot_shift) - 1);
    const int64_t head = args.passes.divide(static_cast<uint32_t>(segment.head));
    return {args.k + head * args.k_head_bytes, args.v + head * args.v_head_bytes,
            (entry << args.slot_shift) + within};
  }

 private:
  __device__ static int64_t row(const DecodeArgs& args, const Segment& segment) {
    return static_cast<int64_t>(segment.seq) *
               args.passes.divide(static_cast<uint32_t>(args.num_kv_heads)) +
           args.passes.divide(static_cast<uint32_t>(segment.head));
  }

  static constexpr int kUnitShift = 4;
  static_assert(1 << kUnitShift == kDecodeUnit);
  int32_t entry_ = 0;
  int used_ = 0;
  int shift_ = 0;
};

}  // namespace foveal::kernels::cuda
