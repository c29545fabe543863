// Computes: for one token a row, log softmax(logits)[token] and its rank: one more than the logits
//           above its own, and equal ones of lower ids.
// In/out:   logits [m, vocab] float32, row stride given; tokens [m], negative: nothing of the row;
//           out [m] ScoredToken.
// Units:    natural logarithms; entries.
// Launch:   a block of 1024 threads a row.
// Needs:    16-byte rows.
// Numerics: two passes over the row, the second out of the L2 cache: the maximum and the counts,
//           then exp(x - max) in float32 (2 ulp), summed in double in a fixed order. NaN, +inf or
//           -inf everywhere set a flag.
// Source:   ours; definitions from sampler/logprob.cc.
// Measured: H200, 2026-11-28, vocab 128256: 25 us for 1 row, 26 for 64.

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/reduce.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/token_logprob_launch.h"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr float kInf = __builtin_inff();

/// Calls take(id, logit) for this thread's entries of a row.
template <class Take>
__device__ __forceinline__ void each_entry(const float* row, int vocab, const Take& take) {
  const int whole = vocab / 4 * 4;
  for (int at = 4 * static_cast<int>(threadIdx.x); at < whole; at += 4 * kThreads) {
    const float4 x = *reinterpret_cast<const float4*>(row + at);
    take(at, x.x);
    take(at + 1, x.y);
    take(at + 2, x.z);
    take(at + 3, x.w);
  }
  const int rest = whole + static_cast<int>(threadIdx.x);
  if (rest < vocab) take(rest, row[rest]);
}

__global__ void __launch_bounds__(kThreads) token_logprobs_kernel(TokenLogprobParams p) {
  __shared__ float maxima[32];
  __shared__ int counts[32];
  __shared__ double sums[32];
  let_next_start();
  wait_for_previous();
  const int token = p.tokens[blockIdx.x];
  if (token < 0) return;
  const float* row = p.logits + blockIdx.x * p.logits_stride;
  const float own = row[token];
  float max = -kInf;
  int better = 0;
  bool bad = false;
  each_entry(row, p.vocab, [&](int id, float x) {
    max = fmaxf(max, x);
    better += x > own || (x == own && id < token) ? 1 : 0;
    bad |= !(x < kInf);
  });
  max = block_reduce(max, maxima, -kInf, [](float a, float b) { return fmaxf(a, b); });
  better = block_reduce(better, counts, 0, [](int a, int b) { return a + b; });
  double sum = 0;
  each_entry(row, p.vocab, [&](int, float x) { sum += double{expf(x - max)}; });
  sum = block_reduce(sum, sums, 0.0, [](double a, double b) { return a + b; });
  bad = __syncthreads_or(bad ? 1 : 0) != 0 || max == -kInf;
  if (threadIdx.x != 0) return;
  ScoredToken out{.rank = better + 1, .flags = bad ? kSampleBadLogit : kSampleFine};
  if (!bad) out.logprob = static_cast<float>(double{own} - (double{max} + log(sum)));
  p.out[blockIdx.x] = out;
}

}  // namespace

void token_logprobs_launch(const TokenLogprobParams& params, void* stream) {
  const Grid grid{.blocks = {static_cast<unsigned>(params.m)}, .threads = {kThreads}};
  launch("token_logprobs", token_logprobs_kernel, grid, stream, params);
}

}  // namespace foveal::kernels::cuda
