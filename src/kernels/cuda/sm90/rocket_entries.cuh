#pragma once

#include "kernels/cuda/sm90/rocket_args.h"

namespace foveal::kernels::cuda {

/// The entries of one (sequence, KV head), and where its pages lie.
struct Entries {
  int32_t seq = 0;
  int32_t kv_len = 0;
  int32_t pages = 0;   ///< of the sequence
  int32_t count = 0;   ///< entries; the newest page is the last
  int32_t listed = 0;  ///< of them candidates
  int32_t own = 0;     ///< page of the entry after those
  const int32_t* candidates = nullptr;

  __device__ static Entries of(const RocketArgs& args, int32_t seq, int32_t head) {
    Entries out;
    out.seq = seq;
    out.kv_len = max(args.decode.kv_len[seq], 0);
    out.pages = (out.kv_len + (1 << args.slot_shift) - 1) >> args.slot_shift;
    const int32_t* list = args.candidates != nullptr ? args.candidates[seq] : nullptr;
    if (list != nullptr && out.pages > 0) {
      out.own = min(list[0], out.pages - 1);
      list += args.candidates_offset + head * args.candidates_stride;
      out.listed = list[0];
      out.candidates = list + 1;
    }
    out.count = out.listed + out.pages - out.own;
    return out;
  }
  __device__ bool all(const RocketArgs& args) const { return count <= args.topk; }
  /// No ranks are needed: all, or the newest page alone.
  __device__ bool plain(const RocketArgs& args) const { return all(args) || args.topk == 1; }
  /// Entries of each of `parts` equal slices but the last.
  __device__ int32_t slice(int32_t parts) const {
    const int32_t units = (count + kScoreUnit - 1) / kScoreUnit;
    return (units + parts - 1) / parts * kScoreUnit;
  }
  /// Tokens of its list: pages of which the newest may be partly filled.
  __device__ int32_t list_length(const RocketArgs& args) const {
    const int32_t left_out = pages - min(count, args.topk);
    return pages > 0 ? kv_len - (left_out << args.slot_shift) : 0;
  }

  __device__ int32_t page(int32_t entry) const {
    return entry < listed ? candidates[entry] : own + entry - listed;
  }
  /// A page's place in the pool, in pages.
  __device__ int32_t slot(const RocketArgs& args, int32_t page) const {
    const int32_t shift = args.decode.page_shift - args.slot_shift;
    const int32_t cache_page =
        args.decode.page_table[seq * args.decode.page_table_stride + (page >> shift)];
    return (cache_page << shift) + (page & ((1 << shift) - 1));
  }
};

}  // namespace foveal::kernels::cuda
