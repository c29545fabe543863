#pragma once

#include <cstdint>

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/sm90/indexer_args.h"

namespace foveal::cuda {

/// What is fixed when a kernel over many rows is compiled.
template <int kHeads_>
struct RaggedTraits {
  static constexpr int kHeads = kHeads_;
  static constexpr int kColumns = 128;  ///< tokens x heads of one product
  static constexpr int kSetTokens = kColumns / kHeads;
  static constexpr int kSets = 2;  ///< products of a tile, one in flight while one is summed up
  static constexpr int kTokens = kSets * kSetTokens;
  static constexpr int kGroups = 2;  ///< warpgroups, 64 keys of a tile each
  static constexpr int kKeys = 128;
  static constexpr int kStages = 4;  ///< a round of the consumers' loop
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kQueryStages = 2;
  static constexpr int kThreads = 128 * (1 + kGroups);
  static constexpr int kKeyBytes = kKeys * 128;
  static constexpr int kSetBytes = kColumns * 128;
};

/// One block of rows and one run of keys of their sequence.
struct RaggedItem {
  int32_t seq;        ///< -1: no more work
  int32_t first_row;  ///< of q
  int32_t num_rows;
  int32_t first_key;
  int32_t num_tiles;
  int32_t kv_len;
};

template <class Traits>
struct RaggedShared {
  alignas(1024) uint8_t q[Traits::kQueryStages][Traits::kSets][Traits::kSetBytes];
  alignas(1024) uint8_t k[Traits::kStages][Traits::kKeyBytes];
  alignas(16) float scales[Traits::kStages][Traits::kKeys];
  alignas(16) float weights[Traits::kQueryStages][Traits::kTokens * Traits::kHeads];
  int32_t ends[Traits::kQueryStages][Traits::kTokens];
  RaggedItem items[Traits::kQueryStages];
  Barrier q_full[Traits::kQueryStages], q_empty[Traits::kQueryStages];
  Barrier k_full[Traits::kStages], k_empty[Traits::kStages];
};

/// One warp: which blocks of rows meet which keys, in what order. Of each sequence runs of keys
/// come one after another and in each all blocks of rows, so that the CTAs at work at a time read
/// the same keys, from L2.
template <class Traits>
struct RaggedSchedule {
  const IndexerArgs& args;
  int64_t index = blockIdx.x;
  int lane = threadIdx.x % 32;

  struct Span {
    int32_t first_row, num_rows, position, kv_len;  ///< scored rows of a sequence
    int64_t items;
  };

  __device__ Span span(int32_t seq) const {
    const int32_t begin = args.cu_q == nullptr ? seq : args.cu_q[seq];
    const int32_t end = args.cu_q == nullptr ? seq + 1 : args.cu_q[seq + 1];
    Span s{};
    s.kv_len = args.kv_len[seq];
    const int32_t position = s.kv_len - (end - begin);
    s.first_row = max(begin, args.row_begin);
    if (args.row_end == nullptr)
      s.first_row = max(s.first_row, begin + args.first_position - position);
    s.num_rows = max(0, min(end, args.row_begin + args.row_count) - s.first_row);
    s.position = position + s.first_row - begin;
    const int32_t keys =
        args.row_end == nullptr ? min(s.kv_len, s.position + s.num_rows) : s.kv_len;
    if (s.num_rows > 0 && keys > 0) {
      const int64_t chunks = (keys + args.chunk_keys - 1) / args.chunk_keys;
      s.items = chunks * ((s.num_rows + Traits::kTokens - 1) / Traits::kTokens);
    }
    return s;
  }

  /// All lanes get it. `end`: of the lane's token, the first key that it does not see.
  __device__ RaggedItem next(int32_t& end) {
    for (;;) {
      const RaggedItem item = locate(end);
      index += gridDim.x;
      if (item.seq < 0 || item.num_tiles > 0) return item;
    }
  }

  __device__ RaggedItem locate(int32_t& end) const {
    int64_t before = 0;
    for (int32_t base = 0; base < args.num_seqs; base += 32) {
      const int32_t seq = base + lane;
      const Span s = seq < args.num_seqs ? span(seq) : Span{};
      const int64_t up_to = kernels::cuda::warp_prefix_sum(s.items, lane);
      const uint32_t reach = __ballot_sync(~0U, before + up_to > index);
      if (reach != 0) {
        const int owner = __ffs(static_cast<int>(reach)) - 1;
        const int64_t start = before + __shfl_sync(~0U, up_to - s.items, owner);
        return item(base + owner, span(base + owner), index - start, end);
      }
      before += __shfl_sync(~0U, up_to, 31);
    }
    return RaggedItem{.seq = -1};
  }

  __device__ RaggedItem item(int32_t seq, const Span& s, int64_t number, int32_t& end) const {
    const int32_t blocks = (s.num_rows + Traits::kTokens - 1) / Traits::kTokens;
    const auto chunk = static_cast<int32_t>(number / blocks);
    const int32_t first = static_cast<int32_t>(number % blocks) * Traits::kTokens;
    RaggedItem out{};
    out.seq = seq;
    out.first_row = s.first_row + first;
    out.num_rows = min(Traits::kTokens, s.num_rows - first);
    out.kv_len = s.kv_len;
    out.first_key = chunk * args.chunk_keys;
    end = 0;
    if (lane < out.num_rows) {
      end = args.row_end == nullptr ? s.position + first + lane + 1
                                    : args.row_end[out.first_row + lane];
      end = min(end, s.kv_len);
    }
    const int32_t last = __reduce_max_sync(~0U, end);
    const int32_t keys = min(last - out.first_key, args.chunk_keys);
    out.num_tiles = keys > 0 ? (keys + Traits::kKeys - 1) / Traits::kKeys : 0;
    return out;
  }
};

}  // namespace foveal::cuda
