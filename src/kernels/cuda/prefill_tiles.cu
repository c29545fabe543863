// Computes: an e4m3 cache in the order in which prefill's e4m3 kernel has it in shared memory, so
//           that it copies contiguous bytes, and V transposed.
// In/out:   k, v: pages or contiguous rows of e4m3, strides given. k_out: per KV head groups of 8
//           keys; in one, blocks of 32 channels, [8 keys][32 channels]. v_out: per KV head groups
//           of 32 keys; in one, [head_dim][32 keys]. In both the 16-byte halves of rows 4 to 7 of
//           eight are swapped (32-byte swizzle), and v's keys are ordered as below.
// Units:    bytes.
// Launch:   256 threads; a thread takes 32 keys of four channels of V and as much of K; grid
//           (32-key groups * head_dim / 4 / 256, num_kv_heads).
// Needs:    head_dim 64, 96, 128, 192 or 256; unit and rows multiples of 32.
// Numerics: copies bytes; zeros past a sequence's end.
// Source:   ours. The order of V's keys makes the accumulators of Q K^T the operand of P V.
// Measured: docs/kernels/cuda_prefill_e4m3.md

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prefill_scratch.cuh"

namespace foveal::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kKeys = 32;  // a group

/// Four keys of four channels to four channels of four keys; the first in the lowest byte.
__device__ void transpose4(const uint32_t (&in)[4], uint32_t (&out)[4]) {
  const uint32_t low01 = __byte_perm(in[0], in[1], 0x5140);  // k0c0 k1c0 k0c1 k1c1
  const uint32_t low23 = __byte_perm(in[2], in[3], 0x5140);
  const uint32_t high01 = __byte_perm(in[0], in[1], 0x7362);  // k0c2 k1c2 k0c3 k1c3
  const uint32_t high23 = __byte_perm(in[2], in[3], 0x7362);
  out[0] = __byte_perm(low01, low23, 0x5410);
  out[1] = __byte_perm(low01, low23, 0x7632);
  out[2] = __byte_perm(high01, high23, 0x5410);
  out[3] = __byte_perm(high01, high23, 0x7632);
}

/// Of the 16-byte half `half` of row `row` in blocks of rows of 32 bytes.
__device__ int swizzled(int row, int half) { return row * 32 + ((half ^ (row / 4 % 2)) * 16); }

template <int kHeadDim>
__device__ void tile_keys(const ExpandCacheParams& p, int32_t seq, int32_t first, int32_t keys,
                          int64_t head, int column, uint8_t* out) {
  constexpr int kTurns = 8;  // chunks of 16 bytes a thread
  uint4 chunk[kTurns];
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int item = turn * (kHeadDim / 4) + column;
    const int32_t key = first + item / (kHeadDim / 16);
    chunk[turn] = uint4{};
    if (key >= keys) continue;
    const uint8_t* row = k_row(p, cache_row(p, seq, key), head);
    chunk[turn] = *reinterpret_cast<const uint4*>(row + item % (kHeadDim / 16) * 16);
  }
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int item = turn * (kHeadDim / 4) + column;
    const int key = item / (kHeadDim / 16);
    const int at = item % (kHeadDim / 16);
    *reinterpret_cast<uint4*>(out + key / 8 * 8 * kHeadDim + at / 2 * 8 * 32 +
                              swizzled(key % 8, at % 2)) = chunk[turn];
  }
}

template <int kHeadDim>
__device__ void tile_values(const ExpandCacheParams& p, int32_t seq, int32_t first, int32_t keys,
                            int64_t head, int column, uint8_t* out) {
  uint32_t word[kKeys];
#pragma unroll
  for (int i = 0; i < kKeys; ++i) {
    word[i] = 0;
    if (first + i >= keys) continue;
    const uint8_t* row = v_row(p, cache_row(p, seq, first + i), head);
    word[i] = *reinterpret_cast<const uint32_t*>(row + column * 4);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t turned[4][4];  // [four keys][channel]
#pragma unroll
    for (int four = 0; four < 4; ++four) {
      // A thread's scores of sixteen keys are those of two neighbours in each group of eight.
      const int at = half * 16 + four * 2;
      const uint32_t in[4] = {word[at], word[at + 1], word[at + 8], word[at + 9]};
      transpose4(in, turned[four]);
    }
#pragma unroll
    for (int channel = 0; channel < 4; ++channel) {
      *reinterpret_cast<uint4*>(out + swizzled(column * 4 + channel, half)) = {
          turned[0][channel], turned[1][channel], turned[2][channel], turned[3][channel]};
    }
  }
}

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads) tile_cache_kernel(ExpandCacheParams p) {
  wait_for_previous();
  const int64_t item = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t group = item / (kHeadDim / 4);
  const int column = static_cast<int>(item % (kHeadDim / 4));
  const int32_t seq = sequence_of(p, group * kKeys);
  if (seq >= p.num_seqs) return;
  const auto first = static_cast<int32_t>(group * kKeys - p.starts[seq]);
  if (first < first_key(p, seq)) return;
  const int32_t keys = p.kv_len[seq];
  const int64_t head = blockIdx.y;
  const int64_t to = (head * p.rows + group * kKeys) * kHeadDim;
  tile_keys<kHeadDim>(p, seq, first, keys, head, column, static_cast<uint8_t*>(p.k_out) + to);
  tile_values<kHeadDim>(p, seq, first, keys, head, column, static_cast<uint8_t*>(p.v_out) + to);
}

auto find_kernel(int32_t head_dim) {
  switch (head_dim) {
    case 64:
      return tile_cache_kernel<64>;
    case 96:
      return tile_cache_kernel<96>;
    case 128:
      return tile_cache_kernel<128>;
    case 192:
      return tile_cache_kernel<192>;
    default:
      return tile_cache_kernel<256>;
  }
}

}  // namespace

void tile_cache_launch(const ExpandCacheParams& params, void* stream) {
  const int64_t items = params.rows / kKeys * (params.head_dim / 4);
  const Grid grid{.blocks = {static_cast<unsigned>((items + kThreads - 1) / kThreads),
                             static_cast<unsigned>(params.num_kv_heads)},
                  .threads = {kThreads}};
  launch("tile_cache", find_kernel(params.head_dim), grid, stream, params);
}

}  // namespace foveal::kernels::cuda
