#pragma once

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/decode_tile.cuh"
#include "kernels/cuda/sm90/rocket_window_args.h"

namespace foveal::kernels::cuda {

enum class WindowPass : uint8_t { kRows, kColumns };

/// 128 rows of queries against 64 keys at a time: queries are the rows of the products, 16 a warp,
/// and stay in registers; keys come through shared memory in DecodeTile's layout, whose lanes read
/// 16 contiguous bytes of a key.
template <class Kv, int kHeadDim>
class WindowTile {
 public:
  using Tile = DecodeTile<Kv, kHeadDim, 2, false>;
  static constexpr int kWarps = kWindowRows / 16;
  static constexpr int kBlocks = kWindowKeys / 8;  ///< products of 8 keys
  static constexpr int kStageBytes = kWindowKeys / kDecodeUnit * Tile::kShape.unit_bytes();
  static constexpr int kSharedBytes = 2 * kStageBytes;

  __device__ WindowTile(const WindowArgs& args, char* shared)
      : args_(args),
        shared_(shared),
        head_(static_cast<int32_t>(blockIdx.z)),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  /// First of the warp's rows; this lane has rows lane / 4 and 8 more of them.
  __device__ int32_t first_row() const {
    return static_cast<int32_t>(blockIdx.y) * kWindowRows + warp_ * 16;
  }
  __device__ int32_t num_rows() const { return args_.decode.group * args_.window; }
  __device__ int32_t position(int32_t row) const {
    return args_.prompt_len - args_.window + row % args_.window;
  }

  __device__ void load_queries() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int32_t row = first_row() + lane_ / 4 + 8 * half;
      const bool used = row < num_rows();
      const int32_t safe = used ? row : 0;
      const char* from = args_.decode.q + position(safe) % args_.window * args_.decode.q_row_bytes +
                         (static_cast<int64_t>(head_) * args_.decode.group + safe / args_.window) *
                             args_.decode.q_head_bytes;
      scale_[half] = args_.decode.scale_log2;
      const bool bytes = Tile::kBytes == 1 && args_.decode.q_dtype == FOVEAL_E4M3;
#pragma unroll
      for (int step = 0; step < Tile::kSteps; ++step) {
        const char* at = from + Tile::query_element(step, lane_) * (bytes ? 1 : 2);
        uint2 words{*reinterpret_cast<const uint32_t*>(at), 0};
        if (!bytes) words = *reinterpret_cast<const uint2*>(at);
        q_[half][step][0] = used ? words.x : 0;
        q_[half][step][1] = used ? words.y : 0;
      }
      if constexpr (Tile::kBytes == 1) scale_[half] *= Tile::widen(q_[half], args_.decode);
    }
  }

  /// Starts the copies of 64 keys; those past the prompt become zeros.
  __device__ void copy_keys(int stage, int32_t key) const {
    constexpr int kColumns = Tile::kRowBytes / 16;
    const uint32_t to = foveal::cuda::smem_address(shared_ + stage * kStageBytes);
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < kWindowKeys * kColumns; i += kWarps * 32) {
      const int row = i / kColumns;
      const int column = i % kColumns;
      const int32_t at = min(key + row, args_.prompt_len - 1);
      const int64_t page = args_.decode.page_table[at >> args_.decode.page_shift];
      const char* from =
          args_.decode.k + page * args_.decode.k_page_bytes + head_ * args_.decode.k_head_bytes +
          (at & ((1 << args_.decode.page_shift) - 1)) * args_.decode.k_token_bytes + column * 16;
      Tile::template copy_piece<true>(to + row / kDecodeUnit * Tile::kShape.unit_bytes(), from,
                                      row % kDecodeUnit, column,
                                      args_.prompt_len - key - row + row % kDecodeUnit);
    }
    foveal::cuda::cp_async_commit();
  }

  /// s[block][0, 1]: row lane / 4, keys 8 * block + 2 * (lane % 4) and the next; [2, 3]: row 8
  /// more.
  __device__ void score(float (&s)[kBlocks][4], int stage) const {
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const char* unit = shared_ + stage * kStageBytes + block / 2 * Tile::kShape.unit_bytes();
#pragma unroll
      for (int i = 0; i < 4; ++i) s[block][i] = 0;
#pragma unroll
      for (int piece = 0; piece < Tile::kKPieces; ++piece) {
        uint32_t words[Tile::kKWords];
        Tile::template read_piece<true>(words, unit, lane_ / 4 + block % 2 * 8,
                                        lane_ % 4 + 4 * piece);
        constexpr int kStepsAPiece = Tile::kKPiece / Tile::kBytes / 4;
#pragma unroll
        for (int i = 0; i < kStepsAPiece; ++i) {
          uint32_t b[2];
          if constexpr (Tile::kBytes == 2) {
            b[0] = words[2 * i], b[1] = words[2 * i + 1];
          } else {
            foveal::cuda::e4m3x4_to_f16x2(b[0], b[1], words[i]);
          }
          const int step = piece * kStepsAPiece + i;
          const uint32_t a[4] = {q_[0][step][0], q_[1][step][0], q_[0][step][1], q_[1][step][1]};
          foveal::cuda::mma_16x8x16<typename Tile::Math::Type>(s[block], a, b);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) s[block][i] *= scale_[i / 2];
    }
  }

 private:
  const WindowArgs& args_;
  char* shared_;
  int32_t head_;
  int warp_;
  int lane_;
  uint32_t q_[2][Tile::kSteps][2];
  float scale_[2];
};

/// A row's maximum and sum over the keys seen by one lane.
struct RowPart {
  float max = -INFINITY;
  float sum = 0;

  template <int kCount>
  __device__ void add(const float (&s)[kCount]) {
    float next = max;
#pragma unroll
    for (int i = 0; i < kCount; ++i) next = fmaxf(next, s[i]);
    if (next == -INFINITY) return;
    sum *= foveal::cuda::exp2_approx(max - next);
    max = next;
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += foveal::cuda::exp2_approx(s[i] - next);
  }
  /// With the same row's parts in the other lanes of the quad.
  __device__ void join_quad() {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      const float other_max = __shfl_xor_sync(~0U, max, step);
      const float other_sum = __shfl_xor_sync(~0U, sum, step);
      const float next = fmaxf(max, other_max);
      const float base = next == -INFINITY ? 0.0F : next;
      sum = sum * foveal::cuda::exp2_approx(max - base) +
            other_sum * foveal::cuda::exp2_approx(other_max - base);
      max = next;
    }
  }
};

/// log2 of a row's sum over all splits, in ascending order; inf for rows that do not exist.
__device__ inline float row_lse(const WindowArgs& args, int32_t head, int32_t row) {
  if (row >= args.decode.group * args.window) return INFINITY;
  const int64_t step = int64_t{args.row_blocks} * kWindowRows;
  const auto* stats =
      reinterpret_cast<const float2*>(args.stats) + int64_t{head} * args.splits * step + row;
  float max = -INFINITY;
#pragma unroll 8
  for (int32_t split = 0; split < args.splits; ++split) {
    max = fmaxf(max, __ldcg(stats + split * step).x);
  }
  float sum = 0;
#pragma unroll 8
  for (int32_t split = 0; split < args.splits; ++split) {
    const float2 part = __ldcg(stats + split * step);
    sum += part.y * foveal::cuda::exp2_approx(part.x - max);
  }
  return max + __log2f(sum);
}

/// The 16 columns' sums over the eight lanes that share lane % 4: lane lane / 4 is left with two.
__device__ inline void sum_columns(float (&v)[16], int lane) {
#pragma unroll
  for (int width = 8, mask = 16; width >= 2; width /= 2, mask /= 2) {
    const bool upper = (lane & mask) != 0;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      const float give = upper ? v[i] : v[i + width];
      const float keep = upper ? v[i + width] : v[i];
      v[i] = keep + __shfl_xor_sync(~0U, give, mask);
    }
  }
}

// Computes: pass rows: each row's maximum and sum of 2^(s - maximum) over the keys of a split that
//   it sees; pass columns: each key's sum over rows of 2^(s - lse of the row), for keys before the
//   window. s = scale q k log2(e).
// In/out: WindowArgs.
// Units: rows of 128, keys of 64 (a step) and 1,024 (a CTA); scores in the log2 domain.
// Launch: (splits, row blocks, KV heads) CTAs of 8 warps; two tiles of keys in shared memory.
// Needs: sm_90; window below prompt_len; rows at multiples of 16 bytes.
// Numerics: float32 sums in a fixed order; splits at absolute positions: chunks of the prompt do
// not
//   show. e4m3 keys and their queries go through f16, exactly (queries scaled by powers of two).
// Source: RocketKV (arXiv 2502.14051) stage one, after SnapKV (arXiv 2404.14469); two passes are
//   ours.
// Measured: bench/results/2026-11-28-cuda-h200.md ("choosing what stays").
template <class Kv, int kHeadDim, WindowPass kPass>
__global__ void __launch_bounds__(256, kHeadDim <= 128 ? 2 : 1)
    rocket_window_kernel(const __grid_constant__ WindowArgs args) {
  using Window = WindowTile<Kv, kHeadDim>;
  constexpr bool kColumns = kPass == WindowPass::kColumns;
  extern __shared__ __align__(128) char shared[];
  __shared__ float lse[kColumns ? kWindowRows : 1];
  __shared__ float sums[kColumns ? Window::kWarps : 1][kWindowKeys];
  wait_for_previous();
  let_next_start();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const auto head = static_cast<int32_t>(blockIdx.z);
  const int32_t prefix = args.prompt_len - args.window;
  const int32_t begin = static_cast<int32_t>(blockIdx.x) * kWindowSplit;
  const int32_t end = min(begin + kWindowSplit, kColumns ? prefix : args.prompt_len);
  if (begin >= end) return;
  Window tile(args, shared);
  tile.copy_keys(0, begin);
  tile.load_queries();
  if constexpr (kColumns) {
    if (threadIdx.x < kWindowRows) {
      lse[threadIdx.x] =
          row_lse(args, head, static_cast<int32_t>(blockIdx.y * kWindowRows + threadIdx.x));
    }
  }
  const int32_t rows[2] = {tile.first_row() + lane / 4, tile.first_row() + lane / 4 + 8};
  RowPart parts[2];
#pragma unroll 1
  for (int32_t key = begin, stage = 0; key < end; key += kWindowKeys, stage ^= 1) {
    if (key + kWindowKeys < end) {
      tile.copy_keys(stage ^ 1, key + kWindowKeys);
      foveal::cuda::cp_async_wait<1>();
    } else {
      foveal::cuda::cp_async_wait<0>();
    }
    __syncthreads();
    float s[Window::kBlocks][4];
    tile.score(s, stage);
    if constexpr (!kColumns) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float own[2 * Window::kBlocks];
        const int32_t visible = tile.position(rows[half]) - key - lane % 4 * 2;  // the last key
#pragma unroll
        for (int block = 0; block < Window::kBlocks; ++block) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            own[2 * block + i] = 8 * block + i <= visible ? s[block][2 * half + i] : -INFINITY;
          }
        }
        parts[half].add(own);
      }
      __syncthreads();  // the stage is read
    } else {
      float column[2 * Window::kBlocks];
      const float low = lse[warp * 16 + lane / 4];
      const float high = lse[warp * 16 + lane / 4 + 8];
#pragma unroll
      for (int block = 0; block < Window::kBlocks; ++block) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          column[2 * block + i] = foveal::cuda::exp2_approx(s[block][i] - low) +
                                  foveal::cuda::exp2_approx(s[block][2 + i] - high);
        }
      }
      sum_columns(column, lane);
      // Two columns next to each other: of block lane / 4, as keys go by block and lane % 4.
      const int first =
          ((lane & 16) != 0 ? 8 : 0) + ((lane & 8) != 0 ? 4 : 0) + ((lane & 4) != 0 ? 2 : 0);
      float* to = &sums[warp][first / 2 * 8 + lane % 4 * 2];
      to[0] = column[0];
      to[1] = column[1];
      __syncthreads();  // the stage is read, too
      if (threadIdx.x < kWindowKeys && key + static_cast<int32_t>(threadIdx.x) < end) {
        float sum = 0;
#pragma unroll
        for (int w = 0; w < Window::kWarps; ++w) sum += sums[w][threadIdx.x];
        args.scores[(int64_t{head} * args.row_blocks + blockIdx.y) * prefix + key + threadIdx.x] =
            sum;
      }
      // The next step writes `sums` only after its own barrier.
    }
  }
  if constexpr (!kColumns) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      parts[half].join_quad();
      if (lane % 4 == 0) {
        reinterpret_cast<float2*>(
            args.stats)[(int64_t{head} * args.splits + blockIdx.x) * args.row_blocks * kWindowRows +
                        rows[half]] = float2{parts[half].max, parts[half].sum};
      }
    }
  }
}

template <class Kv, int kHeadDim>
const void* rocket_window_instance(WindowPass pass) {
  return pass == WindowPass::kRows
             ? reinterpret_cast<const void*>(&rocket_window_kernel<Kv, kHeadDim, WindowPass::kRows>)
             : reinterpret_cast<const void*>(
                   &rocket_window_kernel<Kv, kHeadDim, WindowPass::kColumns>);
}

}  // namespace foveal::kernels::cuda
