// Computes: a token a row: logit edits (bias, bans, penalties, a mask of allowed tokens), then the
//           best entry (temperature 0), or the entry at quantile u of softmax(logits /
//           temperature) after top_k, top_p and min_p, u from Philox of the row's seed and index.
// In/out:   logits [m, vocab] float32, row stride given, left alone; rows [m]; edits with
//           edit_begin [m + 1]; allowed [masks, allowed_stride] bits; tokens, flags [m].
// Units:    score: distance to the best logit over temperature; weight: probability over the
//           best's.
// Launch:   a cluster of 8 blocks of 512 threads a row, each with an eighth of the row in shared
//           memory (ids in order of rank); about 20 KiB more for histograms.
// Needs:    sm_90; vocab <= 393216; logits_stride a multiple of 4.
// Numerics: weights in double as sampler/choice.cc has them. Thresholds by a histogram of 2048
//           bins of score, the members of one bin then sorted (thousands of them: by the float's
//           bits); sums of top_p in 64-bit fixed point (2^-44), so that atomics commute. Ties by
//           id. The draw's sums run in double over runs of ids, in a fixed order. NaN or +inf sets
//           a flag.
// Source:   ours; definitions from sampler/.
// Measured: H100, 2026-11-28, vocab 128256: 1 row greedy 11 us, temperature 24, top_k 33, top_p 58;
//           64 rows 43, 107, 152, 268.

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample_draw.cuh"
#include "kernels/cuda/sample_launch.h"
#include "kernels/cuda/sample_row.cuh"

namespace foveal::kernels::cuda {
namespace {

using namespace sampling;

/// Thresholds are nearly always this near: then only these few entries meet in the histogram.
constexpr float kHead = 12;
/// Weights are at most 1 and entries fewer than 2^19: sums stay below 2^63.
constexpr double kFixedOne = 0x1p44;
constexpr float kBanned = -__builtin_inff();

__device__ float saturated(double value) {
  constexpr double kMax = 3.4028234663852886e38;
  return static_cast<float>(fmin(fmax(value, -kMax), kMax));
}

/// LogitRules of sampler/rules.cc for one token.
__device__ float edited(float logit, const LogitEdit& edit, const SampleRow& row) {
  if ((edit.what & LogitEdit::kBan) != 0 || logit == kBanned) return kBanned;
  if ((edit.what & LogitEdit::kBias) != 0) logit = saturated(double{logit} + edit.bias);
  if ((edit.what & LogitEdit::kPenalise) != 0) {
    double value = logit;
    value = value > 0 ? value / row.repetition : value * row.repetition;
    value = __dsub_rn(value, __dmul_rn(row.frequency, static_cast<double>(edit.generated)));
    if (edit.generated > 0) value -= row.presence;
    logit = saturated(value);
  }
  return logit;
}

/// Loads the slice; returns counts: entries that are NaN or +inf in the upper half, finite ones in
/// the lower.
__device__ unsigned long long load_slice(const SampleParams& p, int64_t row, const Slice& slice) {
  const float* from = p.logits + row * p.logits_stride + slice.begin;
  unsigned long long counts = 0;
  const auto take = [&](int at, float x) {
    slice.logits[at] = x;
    if (!(x < __builtin_inff())) counts += 1ULL << 32;
    if (x > kBanned) counts += 1;
  };
  for (int at = 4 * static_cast<int>(threadIdx.x); at < slice.len; at += 4 * kThreads) {
    if (at + 4 <= slice.len) {
      const float4 x = *reinterpret_cast<const float4*>(from + at);
      take(at, x.x);
      take(at + 1, x.y);
      take(at + 2, x.z);
      take(at + 3, x.w);
    } else {
      for (int i = at; i < slice.len; ++i) take(i, from[i]);
    }
  }
  return counts;
}

__device__ void edit_slice(const SampleParams& p, int64_t row, const SampleRow& params,
                           const Slice& slice) {
  if (p.allowed != nullptr) {
    const int64_t mask = p.allowed_index != nullptr ? p.allowed_index[row] : row;
    if (mask >= 0) {
      const uint32_t* words = p.allowed + mask * p.allowed_stride;
      for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
        const int id = slice.begin + at;
        if ((words[id / 32] >> (id % 32) & 1) == 0) slice.logits[at] = kBanned;
      }
      __syncthreads();
    }
  }
  if (p.edits == nullptr) return;
  const int end = p.edit_begin[row + 1];
  for (int idx = p.edit_begin[row] + static_cast<int>(threadIdx.x); idx < end; idx += kThreads) {
    const LogitEdit edit = p.edits[idx];
    const int at = edit.token - slice.begin;
    if (at >= 0 && at < slice.len) slice.logits[at] = edited(slice.logits[at], edit, params);
  }
  __syncthreads();
}

/// The best entry, ties to the lower id: (key, complement of id).
__device__ unsigned long long find_best(Team& team, const Slice& slice) {
  unsigned long long best = 0;
  for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
    const unsigned long long packed = static_cast<unsigned long long>(order_key(slice.logits[at]))
                                          << 32 |
                                      (0xffffffffU - static_cast<uint32_t>(slice.begin + at));
    best = packed > best ? packed : best;
  }
  return team.reduce(best, Max());
}

/// Adds up to fixed-point weights (top_p) or plain counts (top_k).
enum class Measure : bool { kWeight, kCount };

template <Measure kMeasure>
__device__ unsigned long long measured(const Row& row, float logit) {
  if constexpr (kMeasure == Measure::kCount) return 1;
  constexpr float kNothing = 32;  // e^-32 is less than half a step
  if (row.score(logit) > kNothing) return 0;
  return static_cast<unsigned long long>(row.weight(logit) * kFixedOne + 0.5);
}

/// Id of the `count`-th entry equal to `key` among the kept, in order of id.
__device__ int nth_equal(Team& team, const Slice& slice, const Row& row, const Kept& kept,
                         uint32_t key, unsigned long long count) {
  const auto is_equal = [&](int at) {
    return at < slice.len && order_key(slice.logits[at]) == key &&
           row.keeps(kept, slice.logits[at], slice.begin + at);
  };
  unsigned long long own = 0;
  for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
    own += is_equal(at) ? 1 : 0;
  }
  const int slot = team.slot;
  team.exchange(team.block_reduce(own, Sum()), Sum());
  unsigned long long before = 0;
  for (int other = 0; other < team.rank; ++other) before += team.of(other).slots[slot];
  const unsigned long long here = team.shared.slots[slot];
  unsigned long long found = 0;
  if (before < count && count <= before + here && threadIdx.x < 32) {
    for (int first = 0; first < slice.len; first += 32) {
      const unsigned votes =
          __ballot_sync(0xffffffffU, is_equal(first + static_cast<int>(threadIdx.x)));
      const auto votes_count = static_cast<unsigned>(__popc(votes));
      if (before + votes_count < count) {
        before += votes_count;
        continue;
      }
      found = static_cast<unsigned long long>(slice.begin + first) +
              __fns(votes, 0, static_cast<int>(count - before));
      break;
    }
  }
  return static_cast<int>(team.reduce(found, Max()));
}

/// Rank 0 sorts the members of one bin and takes as many as reach `goal`: (key, complement of id)
/// of the last one, to every thread.
template <Measure kMeasure>
__device__ unsigned long long last_member(Team& team, const Row& row, double goal) {
  Shared& shared = team.shared;
  if (team.rank == 0) {
    const auto count = static_cast<int>(shared.num_members);
    for (int at = static_cast<int>(threadIdx.x); at < count; at += kThreads) {
      const unsigned long long own = shared.members[at];
      int place = 0;
      for (int other = 0; other < count; ++other) place += shared.members[other] > own ? 1 : 0;
      shared.sorted[place] = own;
    }
    __syncthreads();
    constexpr int kEach = kMembers / kThreads;
    unsigned long long own[kEach];
    unsigned long long sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = kEach * static_cast<int>(threadIdx.x) + i;
      own[i] = at < count ? measured<kMeasure>(
                                row, key_float(static_cast<uint32_t>(shared.sorted[at] >> 32)))
                          : 0;
      sum += own[i];
    }
    unsigned long long running = team.scan_block(sum) - sum;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int at = kEach * static_cast<int>(threadIdx.x) + i;
      const bool reached_before = static_cast<double>(running) >= goal;
      running += own[i];
      const bool reached = static_cast<double>(running) >= goal;
      // At the end even if rounding left the goal a little above the sum.
      if (at < count && !reached_before && (reached || at == count - 1)) {
        for (int other = 0; other < kCluster; ++other) team.of(other).last = shared.sorted[at];
      }
    }
  }
  team.cluster.sync();
  return shared.last;
}

/// Too many in one bin to sort: by the bits of the float until one value is left, then by id.
template <Measure kMeasure>
__device__ unsigned long long last_by_bits(Team& team, const Slice& slice, const Row& row,
                                           const Kept& kept, double goal, uint32_t top,
                                           uint32_t bottom) {
  Shared& shared = team.shared;
  while (top != bottom) {
    const int shift = max(0, 32 - __clz(static_cast<int>(top - bottom)) - 11);
    team.clear_histogram();
    for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
      const float logit = slice.logits[at];
      const uint32_t key = order_key(logit);
      if (key > top || key < bottom || !row.keeps(kept, logit, slice.begin + at)) continue;
      atomicAdd(&shared.histogram[(top - key) >> shift], measured<kMeasure>(row, logit));
    }
    team.find_bin(goal);
    // Below the goal by the rounding of a sum: all of the range is kept.
    if (shared.bin == kNoBin) return static_cast<unsigned long long>(bottom) << 32;
    goal -= static_cast<double>(shared.before);
    const uint32_t best = top - (static_cast<uint32_t>(shared.bin) << shift);
    const uint32_t width = (1U << shift) - 1;
    bottom = best - bottom < width ? bottom : best - width;
    top = best;
  }
  const auto each = static_cast<double>(measured<kMeasure>(row, key_float(top)));
  const double count = fmax(1.0, ceil(goal / each));
  const int id = nth_equal(team, slice, row, kept, top, static_cast<unsigned long long>(count));
  return static_cast<unsigned long long>(top) << 32 | (0xffffffffU - static_cast<uint32_t>(id));
}

/// Narrows `kept` to the shortest run of best entries that measures `share` of all that is kept
/// (kWeight) or `share` entries (kCount), looking at entries down to score `range`. False when
/// those are too few.
template <Measure kMeasure>
__device__ bool narrow_within(Team& team, const Slice& slice, const Row& row, Kept& kept,
                              double share, float range) {
  Shared& shared = team.shared;
  const float scale = (kBins - 1) / range;
  const auto bin_of = [&](int at) {
    const float logit = slice.logits[at];
    const float score = row.score(logit);
    if (!(score <= range) || !row.keeps(kept, logit, slice.begin + at)) return kNoBin;
    return static_cast<int>(score * scale);
  };
  team.clear_histogram();
  unsigned long long sum = 0;
  for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
    const int bin = bin_of(at);
    const float logit = slice.logits[at];
    if constexpr (kMeasure == Measure::kCount) {
      // A 32-bit half never carries.
      if (bin != kNoBin) atomicAdd(reinterpret_cast<unsigned*>(&shared.histogram[bin]), 1U);
    } else if (row.keeps(kept, logit, slice.begin + at)) {
      const unsigned long long own = measured<kMeasure>(row, logit);
      sum += own;
      if (bin != kNoBin) atomicAdd(&shared.histogram[bin], own);
    }
  }
  double goal = share;
  if constexpr (kMeasure == Measure::kWeight) {
    goal *= static_cast<double>(team.reduce(sum, Sum()));
  }
  team.find_bin(goal);
  const int edge = shared.bin;
  if (edge == kNoBin) return false;
  goal -= static_cast<double>(shared.before);
  unsigned long long high = 0;
  unsigned long long low = 0;  // complemented, so that it is a maximum too
  const auto lane = threadIdx.x % 32;
  for (int first = static_cast<int>(threadIdx.x - lane); first < slice.len; first += kThreads) {
    const int at = first + static_cast<int>(lane);
    const bool mine = at < slice.len && bin_of(at) == edge;
    const unsigned votes = __ballot_sync(0xffffffffU, mine);
    if (votes == 0) continue;
    unsigned place = 0;
    if (lane == 0) place = atomicAdd(&team.of(0).num_members, __popc(votes));
    place = __shfl_sync(0xffffffffU, place, 0) + __popc(votes & ((1U << lane) - 1));
    if (!mine) continue;
    const uint32_t key = order_key(slice.logits[at]);
    high = key > high ? key : high;
    low = ~key > low ? ~key : low;
    if (place < kMembers) {
      team.of(0).members[place] = static_cast<unsigned long long>(key) << 32 |
                                  (0xffffffffU - static_cast<uint32_t>(slice.begin + at));
    }
  }
  team.cluster.sync();
  unsigned long long last = 0;
  if (team.of(0).num_members <= kMembers) {
    last = last_member<kMeasure>(team, row, goal);
  } else {
    const auto top = static_cast<uint32_t>(team.reduce(high, Max()));
    const auto bottom = ~static_cast<uint32_t>(team.reduce(low, Max()));
    last = last_by_bits<kMeasure>(team, slice, row, kept, goal, top, bottom);
  }
  kept.key = static_cast<uint32_t>(last >> 32);
  kept.id = static_cast<int>(0xffffffffU - static_cast<uint32_t>(last));
  return true;
}

template <Measure kMeasure>
__device__ void narrow(Team& team, const Slice& slice, const Row& row, Kept& kept, double share) {
  if (narrow_within<kMeasure>(team, slice, row, kept, share, kHead)) return;
  narrow_within<kMeasure>(team, slice, row, kept, share, kFarthest);
}

__device__ int sample_row(Team& team, const Slice& slice, Row& row) {
  const SampleRow& p = row.params;
  row.inverse = fmin(1.0 / p.temperature, 1e300);  // 0 times it stays 0
  row.inverse_float = static_cast<float>(fmin(row.inverse, 3e38));
  Kept kept;
  if (p.top_k > 0) narrow<Measure::kCount>(team, slice, row, kept, static_cast<double>(p.top_k));
  if (p.top_p < 1) narrow<Measure::kWeight>(team, slice, row, kept, fmax(p.top_p, 1e-300));
  kept.min_weight = p.min_p;
  return draw_token(team, slice, row, kept);
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SampleParams p, int per_block) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared*>(memory);
  Team team(shared);
  const int64_t row_idx = blockIdx.x / kCluster;
  Slice slice;
  slice.logits = reinterpret_cast<float*>(memory + sizeof(Shared));
  slice.begin = min(team.rank * per_block, p.vocab);
  slice.len = min(per_block, p.vocab - slice.begin);
  let_next_start();
  wait_for_previous();
  Row row{.params = p.rows[row_idx]};
  const unsigned long long counts = team.reduce(load_slice(p, row_idx, slice), Sum());
  const bool bad = counts >> 32 != 0 || (counts & 0xffffffffU) == 0;
  int token = 0;
  uint32_t flag = bad ? kSampleBadLogit : kSampleFine;
  if (!bad) {
    edit_slice(p, row_idx, row.params, slice);
    const unsigned long long best = find_best(team, slice);
    const auto key = static_cast<uint32_t>(best >> 32);
    row.max = key_float(key);
    token = static_cast<int>(0xffffffffU - static_cast<uint32_t>(best));
    if (row.max == kBanned) {
      flag = kSampleAllBanned;
      token = 0;
    } else if (row.params.temperature > 0) {
      token = sample_row(team, slice, row);
    }
  }
  if (team.rank == 0 && threadIdx.x == 0) {
    p.tokens[row_idx] = token;
    if (p.flags != nullptr) p.flags[row_idx] = flag;
  }
  team.cluster.sync();  // nobody leaves while others may still read its shared memory
}

}  // namespace

void sample_launch(const SampleParams& params, void* stream) {
  const int per_block = ((params.vocab + kCluster - 1) / kCluster + 3) / 4 * 4;
  const Grid grid{.blocks = {static_cast<unsigned>(params.m * kCluster)},
                  .threads = {kThreads},
                  .shared_bytes = sizeof(Shared) + static_cast<size_t>(per_block) * sizeof(float),
                  .cluster = kCluster};
  launch("sample", sample_kernel, grid, stream, params, per_block);
}

}  // namespace foveal::kernels::cuda
