#pragma once

#include <cstddef>
#include <cstdint>

// The arithmetic of paged decode that host and device share: tile geometry, how work is cut into
// chunks and handed to CTAs, and the layout of the workspace. All of it is constexpr, so that nvcc
// compiles it for the device as well.

namespace foveal::kernels::cuda {

inline constexpr int32_t kDecodeUnit = 16;      ///< keys a warp takes at a time (rows of one mma)
inline constexpr int32_t kDecodeVoteKeys = 64;  ///< keys of a Skip Softmax vote
inline constexpr int32_t kMaxSharedBytes = 227 * 1024;  ///< of a CTA on sm_90

/// Of K and V, a multiprocessor. The memory needs no more; deeper queues are shared less evenly
/// between multiprocessors, a call ends with its slowest, and all else waits in them (e4m3, 1x32k:
/// 64, 96, 128 KiB: 33.2, 34.0, 35 us). Wide rows have two steps of copies, which is more.
inline constexpr int32_t kFlightBytes = 64 * 1024;

/// What a kernel is compiled for.
struct DecodeShape {
  int32_t head_dim;
  int32_t kv_bytes;     ///< an element of K and V
  int32_t head_blocks;  ///< blocks of 8 query heads: 1 or 2
  bool vote;            ///< Skip Softmax

  /// Wide rows take few warps: the accumulators and the copies in flight are large as it is.
  constexpr int32_t warps() const { return head_dim <= 128 ? 8 : 4; }
  /// A row of K or V in shared memory. Rows of whole 128-byte lines are swizzled in place, others
  /// are padded, so that the products' reads meet no bank conflict.
  constexpr int32_t row_bytes() const { return head_dim * kv_bytes; }
  constexpr bool swizzled() const { return row_bytes() % 128 == 0; }
  constexpr int32_t pitch() const { return swizzled() ? row_bytes() : row_bytes() + 16; }
  /// K or V of one unit.
  constexpr int32_t unit_bytes() const { return kDecodeUnit * pitch(); }
  /// Scores of a unit that wait for its V.
  constexpr int32_t score_bytes() const { return vote ? head_blocks * 16 * 32 : 0; }
  /// The heads' maxima over each warp's unit, for two steps, and where V of the units under way
  /// lies.
  constexpr int32_t vote_bytes() const {
    return vote ? warps() * (2 * head_blocks * 8 * 4 + 64) : 0;
  }
  /// Runs and segments on their way (sm90/decode_runs.cuh).
  static constexpr int32_t kRunQueueBytes = 16 * 8;
  static constexpr int32_t kSegmentQueueBytes = 12 * 48;  ///< a warp
  constexpr int32_t queue_bytes() const { return kRunQueueBytes + warps() * kSegmentQueueBytes; }
  /// A row of a warp's result in shared memory; four floats of padding spread it over the banks.
  constexpr int32_t merge_row() const { return head_dim + 4; }
  constexpr int32_t merge_bytes() const {
    return warps() * 8 * head_blocks * (merge_row() + 2) * 4 + 64;
  }
  constexpr int32_t stage_bytes() const { return (2 * unit_bytes() + score_bytes()) * warps(); }
  /// Units (K and V) in flight a warp. The voting kernel asks for less a step, and has no V under
  /// way when it merges: it merges there.
  constexpr int32_t stages() const {
    const int32_t fit = (kMaxSharedBytes - fixed_bytes()) / stage_bytes();
    const int32_t enough = kFlightBytes / stage_bytes();
    const int32_t wanted = vote || enough > fit ? fit : enough;
    return wanted > 8 ? 8 : wanted < 2 ? 2 : wanted;
  }
  constexpr int32_t ring_bytes() const { return stages() * stage_bytes(); }
  constexpr int32_t fixed_bytes() const {
    return vote_bytes() + queue_bytes() + (vote ? 0 : merge_bytes());
  }
  constexpr int32_t shared_bytes() const { return ring_bytes() + fixed_bytes(); }
};

/// Query heads that one pass over K and V serves; wide rows leave registers for one block of eight.
constexpr int32_t max_pass_heads(int32_t head_dim) { return head_dim <= 128 ? 16 : 8; }
/// Equal parts that a KV head's query heads are cut into, each with a pass of its own.
constexpr int32_t decode_passes(int32_t group, int32_t head_dim) {
  int32_t passes = 1;
  while (group % passes != 0 || group / passes > max_pass_heads(head_dim)) ++passes;
  return passes;
}

/// Division by a number fixed on the host, in three instructions (of numbers below 2^31).
struct Divider {
  uint32_t divisor;
  uint32_t factor;
  uint32_t shift;

  static constexpr Divider of(uint32_t divisor) {
    uint32_t shift = 0;
    while ((uint64_t{1} << shift) < divisor) ++shift;
    const uint64_t scaled = ((uint64_t{1} << shift) - divisor) << 32;
    return {divisor, static_cast<uint32_t>(scaled / divisor + 1), shift};
  }
  constexpr uint32_t divide(uint32_t x) const {
    const auto high = static_cast<uint32_t>(static_cast<uint64_t>(x) * factor >> 32);
    return (high + x) >> shift;
  }
};

/// Keys [first_key, kv_len) of a row, in units at absolute positions, grouped into chunks of
/// `chunk_units` that lie at absolute positions too.
struct DecodeSpan {
  int32_t first_unit;  ///< a multiple of chunk_units
  int32_t end_unit;
  uint32_t chunks;
};
constexpr int32_t first_visible_key(int32_t kv_len, int32_t window) {
  return window > 0 && kv_len > window ? kv_len - window : 0;
}
constexpr DecodeSpan decode_span(int32_t kv_len, int32_t window, const Divider& chunk_units) {
  const auto first_unit = static_cast<uint32_t>(first_visible_key(kv_len, window)) / kDecodeUnit;
  const uint32_t end_unit = (static_cast<uint32_t>(kv_len) + kDecodeUnit - 1) / kDecodeUnit;
  const uint32_t first_chunk = chunk_units.divide(first_unit);
  const uint32_t end_chunk = chunk_units.divide(end_unit + chunk_units.divisor - 1);
  return {static_cast<int32_t>(first_chunk * chunk_units.divisor), static_cast<int32_t>(end_unit),
          end_chunk - first_chunk};
}

/// All chunks of a call in one line (sequence, then KV head, then position), cut into runs: one
/// long run a CTA, known without asking, then short ones that CTAs take as they come, for
/// multiprocessors get unequal shares of the memory's bandwidth (measured: 36 to 59 us for equal
/// work). Where a run ends depends on the lengths only, so who takes it does not show in the
/// result. 32 bits: a 64-bit division is a hundred instructions, fetched cold at the head of every
/// call.
struct DecodeDeal {
  uint32_t chunks;
  uint32_t workers;    ///< CTAs with a long run
  uint32_t long_run;   ///< chunks
  uint32_t short_run;  ///< chunks
  uint32_t runs;       ///< the long ones first

  constexpr uint32_t begin(uint32_t run) const {
    if (run < workers) return run * long_run;
    const uint32_t at = workers * long_run + (run - workers) * short_run;
    return at < chunks ? at : chunks;
  }
  /// The run of a chunk.
  constexpr uint32_t run(uint32_t chunk) const {
    const uint32_t dealt = workers * long_run;
    return chunk < dealt ? chunk / long_run : workers + (chunk - dealt) / short_run;
  }
};
/// Of an even share, the part that a slow multiprocessor manages in the time of an average one.
inline constexpr uint32_t kLongRunPercent = 95;
/// Short runs an even share: the grain of the end of a call.
inline constexpr uint32_t kShortRuns = 40;
/// Runs of a call: each CTA's long one; short ones for what the percentage and the rounding down
/// (less than one chunk of each share) leave.
inline constexpr uint32_t kMaxRunsAWorker = 8;

/// Below so many chunks a CTA all is dealt evenly at once: a short run costs 5 us of its CTA
/// (queries, page ids and the join of another segment), more than unequal speeds cost in a short
/// call. Measured: at 31 chunks 57 us dealt evenly, 69 us with short runs; at 993, 1400 and 1376
/// us.
inline constexpr uint32_t kStaticShare = 400;

/// A CTA has 2^min_chunks_log2 chunks at least: a split costs its share of the joining.
constexpr DecodeDeal decode_deal(uint32_t chunks, uint32_t min_chunks_log2, uint32_t grid) {
  const uint32_t least = 1U << min_chunks_log2;
  const uint32_t share = chunks / grid;
  if (share < kStaticShare) {
    const uint32_t even = (chunks + grid - 1) / grid;
    const uint32_t run = even > least ? even : least;
    const uint32_t runs = (chunks + run - 1) / run;
    return {chunks, runs, run, run, runs};
  }
  const uint32_t long_run = share * kLongRunPercent / 100;
  const uint32_t piece = share / kShortRuns;
  const uint32_t short_run = piece > least ? piece : least;
  const uint32_t left = chunks - grid * long_run;
  return {chunks, grid, long_run, short_run, grid + (left + short_run - 1) / short_run};
}

/// How the CTA that joins a row's parts shares them out: to each thread an item (four outputs of a
/// head), and where there are threads for it, several to an item, who take its parts in turn. Who
/// takes a part leaves zeros, for which another would wait for ever: threads that are left over,
/// as where 48 items have 5 shares of 51, take nothing.
struct DecodeJoin {
  uint32_t shares;
  uint32_t threads;  ///< a share

  static constexpr DecodeJoin of(uint32_t items, uint32_t threads) {
    constexpr uint32_t kMostShares = 8;
    const uint32_t fit = threads / items;
    const uint32_t shares = fit < 1 ? 1 : fit > kMostShares ? kMostShares : fit;
    return {shares, threads / shares};
  }
  constexpr uint32_t share(uint32_t thread) const { return thread / threads; }
  /// Of those from `begin` on.
  constexpr uint32_t item(uint32_t thread, uint32_t begin) const {
    return begin + thread - share(thread) * threads;
  }
  constexpr bool takes(uint32_t thread, uint32_t begin, uint32_t items) const {
    return share(thread) < shares && item(thread, begin) < items;
  }
};

/// Rows (sequences times KV heads) of a call at most.
inline constexpr int32_t kMaxDecodeRows = 1 << 16;

/// The workspace: counters, zero between calls and at the same place whatever the call's shape
/// (arrivals uint32 [kMaxDecodeRows]; the next short run; CTAs done), then what splits leave for
/// the join. Sizes follow from the call's bounds alone.
struct DecodeWorkspace {
  size_t stats_offset;    ///< float2 [slots, group]: running maximum (log2) and sum
  size_t partial_offset;  ///< float [slots, group, head_dim]
  size_t bytes;
};
inline constexpr size_t kDecodeCounterBytes = size_t{kMaxDecodeRows} * 4 + 256;
constexpr DecodeWorkspace decode_workspace(int64_t slots, int32_t group, int32_t head_dim) {
  constexpr size_t kAlign = 256;
  const size_t lines = static_cast<size_t>(slots) * static_cast<size_t>(group);
  const size_t partial = kDecodeCounterBytes + (lines * 8 + kAlign - 1) / kAlign * kAlign;
  return {kDecodeCounterBytes, partial, partial + lines * static_cast<size_t>(head_dim) * 4};
}

}  // namespace foveal::kernels::cuda
