// Computes: moe_route: the k best experts of a row and their weights, by softmax; sigmoid_route: by
//           sigmoids with groups; both as kernels/moe_route.cc; moe_sort: slots grouped by expert,
//           stable; moe_combine: out (+)= alpha * weighted sum of a row's k slots.
// In/out:   logits [m, num_experts] float32; indices, weights [m, k]; offsets [num_experts + 1];
//           slots [m k]; y [m k, n] bf16 or float32; out [m, n] float32.
// Units:    slot = row * k + choice.
// Launch:   route: a warp a row, num_experts / 32 logits a lane; sort: a block of 128 or 1024 an
//           expert; combine: 8 columns a thread, 256 threads.
// Needs:    num_experts <= 1024, k <= 32; combine: n and strides multiples of 8.
// Numerics: exponentials in float32, their sum in double; ties to the lower expert, NaN last.
//           Combine adds in order of choice, in float32. No atomics: the same slots in the same
//           order always.
// Source:   ours.
// Measured: H100, 2026-11-28, 128 experts, 8 a row: moe_route and moe_sort 10 us for 1 to 64 rows,
//           49 us for 4096; moe_combine with the whole layer of docs/kernels/cuda_dense.md,
//           "Experts"; sigmoid_route in whole steps of bench/results/2026-11-28-cuda-dsa-engine.md.

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/vec.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/moe_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int kRouteThreads = 128;
constexpr int kCombineThreads = 256;
constexpr int kMaxPerLane = kMaxExperts / 32;

struct Choice {
  float logit;
  int32_t expert;  ///< kMaxExperts: none
};

__device__ bool goes_before(const Choice& a, const Choice& b) {
  if (a.expert == kMaxExperts || b.expert == kMaxExperts) return a.expert < b.expert;
  if (a.logit > b.logit) return true;
  if (b.logit > a.logit) return false;
  const bool a_nan = isnan(a.logit);
  const bool b_nan = isnan(b.logit);
  return a_nan == b_nan ? a.expert < b.expert : b_nan;
}

template <int kPerLane>
__device__ Choice best_left(const float (&logits)[kPerLane], uint32_t taken, int num_experts) {
  Choice best{0, kMaxExperts};
  const int lane = static_cast<int>(threadIdx.x % 32);
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const Choice own{logits[i], lane + 32 * i};
    if (own.expert < num_experts && (taken >> i & 1) == 0 && goes_before(own, best)) best = own;
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    const Choice other{__shfl_xor_sync(0xffffffffU, best.logit, step),
                       __shfl_xor_sync(0xffffffffU, best.expert, step)};
    if (goes_before(other, best)) best = other;
  }
  return best;
}

template <int kPerLane>
__global__ void __launch_bounds__(kRouteThreads) moe_route_kernel(MoeRouteParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = (int64_t{blockIdx.x} * kRouteThreads + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row >= p.m) return;
  float logits[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + 32 * i;
    logits[i] = expert < p.num_experts ? p.logits[row * p.logits_stride + expert] : 0;
  }
  uint32_t taken = 0;
  float max = 0;
  float own_weight = 0;  // lane j keeps choice j
  int32_t own_expert = 0;
  double sum = 0;
  for (int choice = 0; choice < p.k; ++choice) {
    const Choice best = best_left(logits, taken, p.num_experts);
    if (best.expert % 32 == lane) taken |= 1U << (best.expert / 32);
    if (choice == 0) max = best.logit;
    const float weight = expf(best.logit - max);
    sum += weight;
    if (lane == choice) {
      own_weight = weight;
      own_expert = best.expert;
    }
  }
  if (!p.normalize) {
    sum = 0;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      if (lane + 32 * i < p.num_experts) sum += expf(logits[i] - max);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
  }
  if (lane < p.k) {
    p.indices[row * p.k + lane] = own_expert;
    p.weights[row * p.k + lane] = static_cast<float>(own_weight / sum * p.scale);
  }
}

/// Sum of the two best of a group; NaN where one is. All lanes get it.
template <int kPerLane>
__device__ float best_two(const float (&choice)[kPerLane], int group, int size, int num_experts) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint32_t outside = 0;
  bool any_nan = false;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + 32 * i;
    const bool inside = expert < num_experts && expert / size == group;
    outside |= inside ? 0U : 1U << i;
    any_nan = any_nan || (inside && isnan(choice[i]));
  }
  const Choice first = best_left(choice, outside, num_experts);
  if (first.expert % 32 == lane) outside |= 1U << (first.expert / 32);
  const Choice second = best_left(choice, outside, num_experts);
  const bool nan = __any_sync(0xffffffffU, any_nan) != 0;
  return nan ? __int_as_float(0x7fc00000) : first.logit + second.logit;
}

/// Of the groups, those with the largest sums, as a mask.
template <int kPerLane>
__device__ uint32_t kept_groups(const float (&choice)[kPerLane], const MoeRouteParams& p) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int size = p.num_experts / p.num_groups;
  Choice own{0, kMaxExperts};  // lane g keeps group g
  for (int group = 0; group < p.num_groups; ++group) {
    const float sum = best_two(choice, group, size, p.num_experts);
    if (lane == group) own = {sum, group};
  }
  int before = 0;
  for (int group = 0; group < p.num_groups; ++group) {
    const Choice other{__shfl_sync(0xffffffffU, own.logit, group), group};
    before += group != lane && goes_before(other, own) ? 1 : 0;
  }
  return __ballot_sync(0xffffffffU, lane < p.num_groups && before < p.topk_groups);
}

template <int kPerLane>
__global__ void __launch_bounds__(kRouteThreads) sigmoid_route_kernel(MoeRouteParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = (int64_t{blockIdx.x} * kRouteThreads + threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (row >= p.m) return;
  const float* logits = p.logits + row * p.logits_stride;
  const auto score = [&](int expert) { return 1.0F / (1.0F + expf(-logits[expert])); };
  float choice[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = lane + 32 * i;
    choice[i] = expert < p.num_experts ? score(expert) + p.bias[expert] : 0;
  }
  if (p.num_groups > 1) {
    const uint32_t kept = kept_groups(choice, p);
    const int size = p.num_experts / p.num_groups;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int group = (lane + 32 * i) / size;
      if (group < p.num_groups && (kept >> group & 1) == 0) choice[i] = -INFINITY;
    }
  }
  uint32_t taken = 0;
  int32_t own_expert = 0;  // lane j keeps choice j
  for (int at = 0; at < p.k; ++at) {
    const Choice best = best_left(choice, taken, p.num_experts);
    if (best.expert % 32 == lane) taken |= 1U << (best.expert / 32);
    if (lane == at) own_expert = best.expert;
  }
  const float weight = lane < p.k ? score(own_expert) : 0;
  double sum = 1e-20;
  for (int at = 0; at < p.k; ++at) sum += __shfl_sync(0xffffffffU, weight, at);
  if (lane >= p.k) return;
  p.indices[row * p.k + lane] = own_expert;
  p.weights[row * p.k + lane] =
      static_cast<float>(weight * (p.normalize ? p.scale / sum : double{p.scale}));
}

/// Of the block's threads with `mine` set, how many come before this one; `total`: all of them.
template <int kSortThreads>
__device__ int rank_in_block(bool mine, int* parts, int& total) {
  const unsigned votes = __ballot_sync(0xffffffffU, mine);
  const unsigned lane = threadIdx.x % 32;
  const unsigned warp = threadIdx.x / 32;
  __syncthreads();
  if (lane == 0) parts[warp] = __popc(votes);
  __syncthreads();
  int before = __popc(votes & ((1U << lane) - 1));
  total = 0;
  for (unsigned i = 0; i < kSortThreads / 32; ++i) {
    before += i < warp ? parts[i] : 0;
    total += parts[i];
  }
  return before;
}

template <int kSortThreads>
__global__ void __launch_bounds__(kSortThreads) moe_sort_kernel(MoeSortParams p) {
  __shared__ int parts[kSortThreads / 32];
  let_next_start();
  wait_for_previous();
  const auto expert = static_cast<int32_t>(blockIdx.x);  // num_experts: only writes the end
  int smaller = 0;
  for (int64_t slot = threadIdx.x; slot < p.num_slots; slot += kSortThreads) {
    smaller += p.indices[slot] < expert ? 1 : 0;
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) smaller += __shfl_xor_sync(0xffffffffU, smaller, step);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = smaller;
  __syncthreads();
  int place = 0;
  for (int part : parts) place += part;
  if (threadIdx.x == 0) p.offsets[expert] = place;
  if (expert == p.num_experts) return;
  for (int64_t first = 0; first < p.num_slots; first += kSortThreads) {
    const int64_t slot = first + threadIdx.x;
    const bool mine = slot < p.num_slots && p.indices[slot] == expert;
    int total = 0;
    const int before = rank_in_block<kSortThreads>(mine, parts, total);
    if (mine) p.slots[place + before] = static_cast<int32_t>(slot);
    place += total;
  }
}

template <class T>
__global__ void __launch_bounds__(kCombineThreads) moe_combine_kernel(MoeCombineParams p) {
  let_next_start();
  wait_for_previous();
  const int64_t row = blockIdx.x;
  const int64_t col = (int64_t{blockIdx.y} * kCombineThreads + threadIdx.x) * 8;
  if (col >= p.n) return;
  const T* y = static_cast<const T*>(p.y) + row * p.k * p.y_stride + col;
  Vec8 sum{};
  for (int choice = 0; choice < p.k; ++choice) {
    const float weight = p.weights[row * p.k + choice];
    const Vec8 x = load8(y, choice * p.y_stride);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] = fmaf(weight, x.v[i], sum.v[i]);
  }
  float* out = p.out + row * p.out_stride + col;
  Vec8 old{};
  if (p.accumulate) old = load8(out, 0);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum.v[i] = fmaf(p.alpha, sum.v[i], old.v[i]);
  store8(out, 0, sum);
}

}  // namespace

void moe_route_launch(const MoeRouteParams& params, void* stream) {
  constexpr int64_t kRows = kRouteThreads / 32;
  const Grid grid{.blocks = {static_cast<unsigned>((params.m + kRows - 1) / kRows)},
                  .threads = {kRouteThreads}};
  const int width = params.num_experts <= 128 ? 0 : params.num_experts <= 256 ? 1 : 2;
  void (*const by_softmax[])(MoeRouteParams) = {moe_route_kernel<4>, moe_route_kernel<8>,
                                                moe_route_kernel<kMaxPerLane>};
  void (*const by_sigmoids[])(MoeRouteParams) = {sigmoid_route_kernel<4>, sigmoid_route_kernel<8>,
                                                 sigmoid_route_kernel<kMaxPerLane>};
  launch("moe_route", params.sigmoid ? by_sigmoids[width] : by_softmax[width], grid, stream,
         params);
}

void moe_sort_launch(const MoeSortParams& params, void* stream) {
  const bool few = params.num_slots <= 1024;
  const Grid grid{.blocks = {static_cast<unsigned>(params.num_experts + 1)},
                  .threads = {few ? 128U : 1024U}};
  launch("moe_sort", few ? moe_sort_kernel<128> : moe_sort_kernel<1024>, grid, stream, params);
}

void moe_combine_launch(const MoeCombineParams& params, void* stream) {
  constexpr int64_t kCols = kCombineThreads * 8;
  const Grid grid{.blocks = {static_cast<unsigned>(params.m),
                             static_cast<unsigned>((params.n + kCols - 1) / kCols)},
                  .threads = {kCombineThreads}};
  const auto kernel =
      params.y_dtype == DType::kF32 ? moe_combine_kernel<float> : moe_combine_kernel<__nv_bfloat16>;
  launch("moe_combine", kernel, grid, stream, params);
}

}  // namespace foveal::kernels::cuda
