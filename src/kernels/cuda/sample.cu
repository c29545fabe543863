// Computes: a token a row: logit edits (bias, bans, penalties, a mask of allowed tokens), then the
// best
//           entry (temperature 0), or the entry at quantile u of softmax(logits / temperature)
//           after top_k, top_p and min_p, u from Philox of the row's seed and index.
// In/out:   logits [m, vocab] float32, row stride given, left alone; rows [m]; edits with
// edit_begin
//           [m + 1]; allowed [masks, allowed_stride] bits; tokens, flags [m].
// Units:    score: distance to the best logit over temperature; weight: probability over the
// best's. Launch:   a cluster of 8 blocks of 512 threads a row, each with an eighth of the row in
// shared
//           memory (ids in order of rank); about 20 KiB more for histograms.
// Needs:    sm_90; vocab <= 393216; logits_stride a multiple of 4.
// Numerics: weights in double as sampler/choice.cc has them. Thresholds by histogram: 2048 bins of
//           score, then of the float's bits until one value is left; sums of top_p in 64-bit fixed
//           point (2^-44), so that atomics commute. Ties by id. The draw's sums run in double, 32
//           ids a step, in a fixed order. NaN or +inf sets a flag.
// Source:   ours; definitions from sampler/.
// Measured: see docs/kernels/cuda_dense.md.

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/philox.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample_launch.h"
#include "kernels/cuda/sample_row.cuh"

namespace foveal::kernels::cuda {
namespace {

using namespace sampling;

/// As in sampler/choice.cc: what is further down than e^-60 is never drawn.
constexpr float kFarthest = 60;
/// Weights are at most 1 and entries fewer than 2^19: sums stay below 2^63.
constexpr double kFixedOne = 0x1p44;
constexpr float kBanned = -__builtin_inff();

/// A block's part of the row.
struct Slice {
  float* logits;
  int begin;  ///< id of its first entry
  int len;
};

/// What is kept: entries better than (key, id), itself included, of weight at least min_weight.
struct Kept {
  uint32_t key = 0;
  int id = 0x7fffffff;
  double min_weight = 0;
};

struct Row {
  SampleRow params;
  float max = 0;
  float inverse = 0;  ///< 1 / temperature

  /// Monotone in the logit; float32 suffices to choose bins.
  __device__ float score(float logit) const { return (max - logit) * inverse; }
  __device__ double weight(float logit) const {
    return exp(-((double{max} - double{logit}) / params.temperature));
  }
  __device__ bool keeps(const Kept& kept, float logit, int id) const {
    if (!(score(logit) <= kFarthest)) return false;
    const uint32_t key = order_key(logit);
    return key > kept.key || (key == kept.key && id <= kept.id);
  }
};

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

/// Narrows `kept` to the shortest run of best entries that measures `share` of the kept ones (if
/// positive) or `goal`.
template <Measure kMeasure>
__device__ void narrow(Team& team, const Slice& slice, const Row& row, Kept& kept, double share,
                       double goal) {
  Shared& shared = team.shared;
  const auto bin_of = [&](float logit) {
    return static_cast<int>(row.score(logit) * ((kBins - 1) / kFarthest));
  };
  team.clear_histogram();
  for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
    const float logit = slice.logits[at];
    if (!row.keeps(kept, logit, slice.begin + at)) continue;
    atomicAdd(&shared.histogram[bin_of(logit)], measured<kMeasure>(row, logit));
  }
  goal = team.find_bin(share, goal);
  const int bin = shared.bin;
  if (bin == kNoBin) return;
  goal -= static_cast<double>(shared.before);
  // The values in that bin: from here on by the bits of the float, until one value is left.
  unsigned long long high = 0;
  unsigned long long low = 0;  // complemented, so that it is a maximum too
  for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
    const float logit = slice.logits[at];
    if (!row.keeps(kept, logit, slice.begin + at) || bin_of(logit) != bin) continue;
    const uint32_t key = order_key(logit);
    high = key > high ? key : high;
    low = ~key > low ? ~key : low;
  }
  auto top = static_cast<uint32_t>(team.reduce(high, Max()));
  auto bottom = ~static_cast<uint32_t>(team.reduce(low, Max()));
  while (top != bottom) {
    const int shift = max(0, 32 - __clz(static_cast<int>(top - bottom)) - 11);
    team.clear_histogram();
    for (int at = static_cast<int>(threadIdx.x); at < slice.len; at += kThreads) {
      const float logit = slice.logits[at];
      const uint32_t key = order_key(logit);
      if (key > top || key < bottom || !row.keeps(kept, logit, slice.begin + at)) continue;
      atomicAdd(&shared.histogram[(top - key) >> shift], measured<kMeasure>(row, logit));
    }
    team.find_bin(/*share=*/0, goal);
    if (shared.bin == kNoBin) {  // the goal is the whole range, but for the rounding of its sum
      if (bottom > kept.key) kept = {bottom, 0x7fffffff, kept.min_weight};
      return;
    }
    goal -= static_cast<double>(shared.before);
    const uint32_t best = top - (static_cast<uint32_t>(shared.bin) << shift);
    const uint32_t width = (1U << shift) - 1;
    bottom = best - bottom < width ? bottom : best - width;
    top = best;
    __syncthreads();  // shared.bin is read before it is cleared
  }
  // Among equal values the lower ids: as many as it takes.
  const float value = __uint_as_float((top & 0x80000000U) != 0 ? top ^ 0x80000000U : ~top);
  const auto each = static_cast<double>(measured<kMeasure>(row, value));
  const double count = fmax(1.0, ceil(goal / each));
  const int id = nth_equal(team, slice, row, kept, top, static_cast<unsigned long long>(count));
  if (top > kept.key || id < kept.id) kept = {top, id, kept.min_weight};
}

/// The warps of the cluster in order hold the ids in order; each adds up its own.
struct Draw {
  const Slice& slice;
  const Row& row;
  const Kept& kept;

  __device__ int per_warp() const { return (slice.len + 32 * kWarps - 1) / (32 * kWarps) * 32; }
  __device__ double weight_at(int at) const {
    if (at >= slice.len || !row.keeps(kept, slice.logits[at], slice.begin + at)) return 0;
    const double weight = row.weight(slice.logits[at]);
    return weight < kept.min_weight ? 0 : weight;
  }
  __device__ double warp_sum(int warp) const {
    double sum = 0;
    const int begin = warp * per_warp();
    for (int at = begin; at < begin + per_warp(); at += 32) {
      sum += weight_at(at + static_cast<int>(threadIdx.x % 32));
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
    return sum;
  }
  /// The first of the warp's entries at which `sum` exceeds `goal`; its last one if none does.
  __device__ int find(int warp, double sum, double goal) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int begin = warp * per_warp();
    int last = -1;
    for (int at = begin; at < begin + per_warp(); at += 32) {
      const double own = weight_at(at + lane);
      double running = own;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const double other = __shfl_up_sync(0xffffffffU, running, step);
        if (lane >= step) running += other;
      }
      const unsigned hit = __ballot_sync(0xffffffffU, own > 0 && sum + running > goal);
      if (hit != 0) return slice.begin + at + __ffs(static_cast<int>(hit)) - 1;
      const unsigned alive = __ballot_sync(0xffffffffU, own > 0);
      if (alive != 0) last = slice.begin + at + 31 - __clz(static_cast<int>(alive));
      sum += __shfl_sync(0xffffffffU, running, 31);
    }
    return last;
  }
};

__device__ double uniform_draw(uint64_t seed, uint64_t index) {
  const uint4 words =
      philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = static_cast<uint64_t>(words.x) << 32 | words.y;
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

/// Returns the token in every thread.
__device__ int draw_token(Team& team, const Slice& slice, const Row& row, const Kept& kept) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const Draw draw{slice, row, kept};
  const double own = draw.warp_sum(warp);
  if (threadIdx.x % 32 == 0) team.shared.weights[warp] = own;
  team.cluster.sync();
  constexpr int kAll = kCluster * kWarps;
  double* all = team.shared.all_weights;
  if (const int at = static_cast<int>(threadIdx.x); at < kAll) {
    all[at] = team.of(at / kWarps).weights[at % kWarps];
  }
  __syncthreads();
  double total = 0;
  double before = 0;  // of this warp
  int last = 0;       // the last warp with anything
  const int self = team.rank * kWarps + warp;
  for (int other = 0; other < kAll; ++other) {
    if (other == self) before = total;
    total += all[other];
    if (all[other] > 0) last = other;
  }
  const double goal = uniform_draw(row.params.seed, row.params.index) * total;
  // Exactly one warp: running sums are the same numbers everywhere.
  const bool mine = own > 0 && before <= goal && (before + own > goal || self == last);
  unsigned long long token = 0;
  if (mine) token = static_cast<unsigned long long>(draw.find(warp, before, goal) + 1);
  return static_cast<int>(team.reduce(token, Max())) - 1;
}

__device__ int sample_row(Team& team, const Slice& slice, Row& row) {
  const SampleRow& p = row.params;
  row.inverse = static_cast<float>(fmin(1.0 / p.temperature, 3e38));  // 0 times it stays 0
  Kept kept;
  if (p.top_k > 0) narrow<Measure::kCount>(team, slice, row, kept, /*share=*/0, double(p.top_k));
  if (p.top_p < 1) narrow<Measure::kWeight>(team, slice, row, kept, fmax(p.top_p, 1e-300), 0);
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
  wait_for_previous();
  let_next_start();
  Row row{.params = p.rows[row_idx]};
  const unsigned long long counts = team.reduce(load_slice(p, row_idx, slice), Sum());
  const bool bad = counts >> 32 != 0 || (counts & 0xffffffffU) == 0;
  int token = 0;
  uint32_t flag = bad ? kSampleBadLogit : kSampleFine;
  if (!bad) {
    edit_slice(p, row_idx, row.params, slice);
    const unsigned long long best = find_best(team, slice);
    const auto key = static_cast<uint32_t>(best >> 32);
    row.max = __uint_as_float((key & 0x80000000U) != 0 ? key ^ 0x80000000U : ~key);
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
