#pragma once

#include "foveal/kernels.h"
#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/device/convert.cuh"
#include "kernels/cuda/device/cp_async.cuh"
#include "kernels/cuda/device/mma.cuh"
#include "kernels/cuda/sm90/decode_args.h"

// One warp's work on a unit of 16 keys. Keys are the rows of the products and the query heads their
// columns (8 a block), so that a group of 4 wastes half of the tensor cores' work, not three
// quarters:
//   S^T[16 keys, 8 heads] = K Q^T        O^T[d, 8 heads] += V^T P^T
// A warp copies its own units, whole rows at a time (512 contiguous bytes an instruction: copies of
// 64 or 128 contiguous bytes a row ran at 88 % of this rate), and shares them with no other warp,
// so no barrier of the CTA is met. The order of the reduced dimension is free as long as both sides
// agree: each lane reads 16 contiguous bytes and takes them as its k. With g = lane / 4 and t =
// lane % 4
//   K  keys g and g + 8, pieces t, t + 4, ... of the row
//   V  keys 2t, 2t + 1, 2t + 8, 2t + 9, pieces g, g + 8, ... of the row

namespace foveal::kernels::cuda {

struct E4m3 {};

/// How values of the cache reach the tensor cores: as they are, or e4m3 widened to f16 (exact).
template <class Kv>
struct KvTraits {
  using Math = Kv;
  static constexpr int kBytes = 2;
};
template <>
struct KvTraits<E4m3> {
  using Math = foveal::cuda::F16;
  static constexpr int kBytes = 1;
};

template <class Kv, int kHeadDim, int kHeadBlocks, bool kVote>
struct DecodeTile {
  using Math = typename KvTraits<Kv>::Math;
  static constexpr int kBytes = KvTraits<Kv>::kBytes;
  static constexpr DecodeShape kShape{kHeadDim, kBytes, kHeadBlocks, kVote};
  static constexpr int kRowBytes = kHeadDim * kBytes;
  static constexpr int kSteps = kHeadDim / 16;  ///< mma steps along head_dim, both products

  /// The largest copy that divides a lane's share of a row.
  static constexpr int piece_bytes(int share) {
    return share % 16 == 0 ? 16 : share % 8 == 0 ? 8 : 4;
  }
  static constexpr int kKPiece = piece_bytes(kRowBytes / 4);
  static constexpr int kKPieces = kRowBytes / 4 / kKPiece;
  static constexpr int kVPiece = piece_bytes(kRowBytes / 8);
  static constexpr int kVPieces = kRowBytes / 8 / kVPiece;
  static constexpr int kKWords = kKPiece / 4;
  static constexpr int kVWords = kVPiece / 4;
  static constexpr int kVElements = kVPiece / kBytes;

  /// b operands of all steps: lane's head is g + 8 * block.
  struct Query {
    uint32_t b[kHeadBlocks][kSteps][2];
    float scale[kHeadBlocks][2];  ///< of the scores of columns 2t, 2t + 1, to the log2 domain
  };
  struct Accumulator {
    float o[kHeadBlocks][kSteps][4];
    float max[kHeadBlocks]
             [2];  ///< reference of the exponentials, log2 domain, of columns 2t, 2t + 1
    float sum[kHeadBlocks][2];  ///< of this lane's keys only
  };

  // ------------------------------------------------------------------------------------ copies

  /// Exchanges 16-byte columns of a row so that the eight lanes that read together (two rows of K
  /// and four columns; four rows of V, two apart, and two columns) meet eight different columns.
  template <bool kKey>
  __device__ static int swizzle(int row) {
    if constexpr (!kShape.swizzled()) return 0;
    return kKey ? 4 * (row & 1) : 2 * (row >> 1 & 3);
  }

  /// The 16 rows of a unit; those past `keys` become zeros.
  template <bool kKey>
  __device__ static void copy_rows(uint32_t slot, const char* rows, int64_t token_bytes,
                                   int32_t keys, int lane) {
    constexpr int kColumns = kRowBytes / 16;
    if constexpr (32 % kColumns == 0) {
      // Whole rows an instruction: one address a lane, the rest is uniform.
      constexpr int kRows = 32 / kColumns;
      const char* from = rows + (lane / kColumns) * token_bytes + lane % kColumns * 16;
#pragma unroll
      for (int i = 0; i < kDecodeUnit / kRows; ++i) {
        copy_piece<kKey>(slot, from, i * kRows + lane / kColumns, lane % kColumns, keys);
        from += kRows * token_bytes;
      }
    } else {
#pragma unroll
      for (int i = 0; i < kDecodeUnit * kColumns / 32; ++i) {
        const int row = (i * 32 + lane) / kColumns;
        const int column = (i * 32 + lane) % kColumns;
        copy_piece<kKey>(slot, rows + row * token_bytes + column * 16, row, column, keys);
      }
    }
  }
  template <bool kKey>
  __device__ static void copy_piece(uint32_t slot, const char* from, int row, int column,
                                    int32_t keys) {
    foveal::cuda::cp_async<16>(slot + row * kShape.pitch() + (column ^ swizzle<kKey>(row)) * 16,
                               from, row < keys ? 16 : 0);
  }

  /// Bytes [piece * kWords * 4, ...) of a row.
  template <bool kKey, int kWords>
  __device__ static void read_piece(uint32_t (&words)[kWords], const char* slot, int row,
                                    int piece) {
    const char* at = slot + row * kShape.pitch() + (piece ^ swizzle<kKey>(row)) * (kWords * 4);
    if constexpr (kWords == 4) {
      const uint4 value = *reinterpret_cast<const uint4*>(at);
      words[0] = value.x, words[1] = value.y, words[2] = value.z, words[3] = value.w;
    } else if constexpr (kWords == 2) {
      const uint2 value = *reinterpret_cast<const uint2*>(at);
      words[0] = value.x, words[1] = value.y;
    } else {
      words[0] = *reinterpret_cast<const uint32_t*>(at);
    }
  }

  // ------------------------------------------------------------------------------------ query

  /// Four consecutive values of a query row, as stored, to float.
  __device__ static float4 widen_query(const DecodeArgs& args, const uint32_t (&words)[2]) {
    if (args.q_dtype == FOVEAL_BF16) {
      return {__uint_as_float(words[0] << 16), __uint_as_float(words[0] & 0xffff0000u),
              __uint_as_float(words[1] << 16), __uint_as_float(words[1] & 0xffff0000u)};
    }
    uint32_t low = words[0];
    uint32_t high = words[1];
    if (args.q_dtype == FOVEAL_E4M3) {
      foveal::cuda::e4m3x4_to_f16x2(low, high, words[0]);
    }
    const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&low));
    const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&high));
    return {a.x, a.y, b.x, b.y};
  }

  /// First of the four values of head_dim that step `step` takes from this lane.
  __device__ static int query_element(int step, int lane) {
    constexpr int kElements = kKPiece / kBytes;
    constexpr int kStepsAPiece = kElements / 4;
    return (step / kStepsAPiece) * 4 * kElements + (lane % 4) * kElements +
           (step % kStepsAPiece) * 4;
  }

  /// Asks for the queries as they are stored; they are there when `prepare` wants them. Columns
  /// past the group repeat its last head: nobody reads their results.
  __device__ static void load_query(Query& query, const DecodeArgs& args, int32_t seq,
                                    int32_t head_row, int lane) {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
      const int head = min(block * 8 + lane / 4, args.group - 1);
      const char* row =
          args.q + seq * args.q_row_bytes + (head_row * args.group + head) * args.q_head_bytes;
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        uint32_t(&b)[2] = query.b[block][step];
        if (kBytes == 1 && args.q_dtype == FOVEAL_E4M3) {
          b[0] = *reinterpret_cast<const uint32_t*>(row + query_element(step, lane));
        } else {
          const uint2 words = *reinterpret_cast<const uint2*>(row + query_element(step, lane) * 2);
          b[0] = words.x, b[1] = words.y;
        }
      }
    }
  }

  /// Queries to what the tensor cores take.
  __device__ static void prepare(Query& query, const DecodeArgs& args, int lane) {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
      float factor = args.scale_log2;
      if constexpr (kBytes == 1) factor *= widen(query.b[block], args);
      query.scale[block][0] = __shfl_sync(~0u, factor, (lane % 4) * 8);
      query.scale[block][1] = __shfl_sync(~0u, factor, (lane % 4) * 8 + 4);
    }
  }

  /// Queries for a cache that is widened to f16: scaled by a power of two (exactly) so that the
  /// row's largest value lies in [1, 2) and any bf16 fits. Returns the inverse of that scale.
  __device__ static float widen(uint32_t (&b)[kSteps][2], const DecodeArgs& args) {
    float largest = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const float4 v = widen_query(args, b[step]);
      largest = fmaxf(largest, fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))));
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    const int exponent = min(max(static_cast<int>(__float_as_uint(largest) >> 23), 1), 253);
    const float down = __uint_as_float(static_cast<uint32_t>(254 - exponent) << 23);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const float4 v = widen_query(args, b[step]);
      b[step][0] = foveal::cuda::pack<foveal::cuda::F16>(v.x * down, v.y * down);
      b[step][1] = foveal::cuda::pack<foveal::cuda::F16>(v.z * down, v.w * down);
    }
    return __uint_as_float(static_cast<uint32_t>(exponent) << 23);
  }

  // ------------------------------------------------------------------------------------ products

  /// Scores in the log2 domain: s[block][0, 1] of key g, columns 2t and 2t + 1; [2, 3] of key g
  /// + 8.
  __device__ static void score(float (&s)[kHeadBlocks][4], const Query& query, const char* slot,
                               int lane) {
    // Chains of additions side by side: a part of the latency.
    constexpr int kChains = kSteps >= 8 ? 4 : 2;
    float chain[kChains][kHeadBlocks][4] = {};
#pragma unroll
    for (int piece = 0; piece < kKPieces; ++piece) {
      uint32_t low[kKWords], high[kKWords];
      read_piece<true>(low, slot, lane / 4, lane % 4 + 4 * piece);
      read_piece<true>(high, slot, lane / 4 + 8, lane % 4 + 4 * piece);
      constexpr int kStepsAPiece = kKPiece / kBytes / 4;
#pragma unroll
      for (int i = 0; i < kStepsAPiece; ++i) {
        uint32_t a[4];
        if constexpr (kBytes == 2) {
          a[0] = low[2 * i], a[1] = high[2 * i], a[2] = low[2 * i + 1], a[3] = high[2 * i + 1];
        } else {
          foveal::cuda::e4m3x4_to_f16x2(a[0], a[2], low[i]);
          foveal::cuda::e4m3x4_to_f16x2(a[1], a[3], high[i]);
        }
        const int step = piece * kStepsAPiece + i;
#pragma unroll
        for (int block = 0; block < kHeadBlocks; ++block) {
          foveal::cuda::mma_16x8x16<typename Math::Type>(chain[step % kChains][block], a,
                                                         query.b[block][step]);
        }
      }
    }
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float sum = chain[0][block][i] + chain[1][block][i];
        if constexpr (kChains == 4) sum += chain[2][block][i] + chain[3][block][i];
        s[block][i] = sum * query.scale[block][i % 2];
      }
    }
  }

  /// Scores of keys outside [first, end) become -inf.
  __device__ static void mask(float (&s)[kHeadBlocks][4], int32_t unit, int32_t first, int32_t end,
                              int lane) {
    const int32_t key = unit * kDecodeUnit + lane / 4;
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int32_t own = key + 8 * (i / 2);
        if (own < first || own >= end) s[block][i] = -INFINITY;
      }
    }
  }

  __device__ static void clear(Accumulator& acc) {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc.o[block][step][i] = 0;
      }
      acc.max[block][0] = acc.max[block][1] = -INFINITY;
      acc.sum[block][0] = acc.sum[block][1] = 0;
    }
  }

  /// Largest value of each column over the unit's keys, in all lanes.
  __device__ static float column_max(const float (&s)[4], int column) {
    float largest = fmaxf(s[column], s[column + 2]);
#pragma unroll
    for (int step = 4; step < 32; step *= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    }
    return largest;
  }

  /// Moves the exponentials' reference to `next` (per block and column).
  __device__ static void rescale(Accumulator& acc, int block, int column, float next) {
    const float factor =
        next == -INFINITY ? 1.0F : foveal::cuda::exp2_approx(acc.max[block][column] - next);
    acc.max[block][column] = next;
    acc.sum[block][column] *= factor;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      acc.o[block][step][column] *= factor;
      acc.o[block][step][column + 2] *= factor;
    }
  }

  /// The reference follows the running maximum only when a score passes it by 2^kSlack: any
  /// reference gives the same quotient, and the usual unit then needs no exchange between lanes.
  static constexpr float kSlack = 8;
  __device__ static void raise_max(Accumulator& acc, const float (&s)[kHeadBlocks][4]) {
    bool passed = false;
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
      passed |= fmaxf(s[block][0], s[block][2]) > acc.max[block][0] + kSlack;
      passed |= fmaxf(s[block][1], s[block][3]) > acc.max[block][1] + kSlack;
    }
    if (!__any_sync(~0u, passed)) return;
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        rescale(acc, block, column, fmaxf(acc.max[block][column], column_max(s[block], column)));
      }
    }
  }

  /// Scores to weights: the b operand of the second product (a pair of keys of one head a
  /// register).
  __device__ static void weigh(uint32_t (&p)[kHeadBlocks][2], Accumulator& acc,
                               const float (&s)[kHeadBlocks][4]) {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
      float w[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float max = acc.max[block][i % 2];
        w[i] = foveal::cuda::exp2_approx(s[block][i] - (max == -INFINITY ? 0.0F : max));
      }
      acc.sum[block][0] += w[0] + w[2];
      acc.sum[block][1] += w[1] + w[3];
      p[block][0] = foveal::cuda::transpose_8x8(foveal::cuda::pack<Math>(w[0], w[1]));
      p[block][1] = foveal::cuda::transpose_8x8(foveal::cuda::pack<Math>(w[2], w[3]));
    }
  }

  __device__ static void accumulate(Accumulator& acc, const uint32_t (&p)[kHeadBlocks][2],
                                    const char* slot, int lane) {
#pragma unroll
    for (int piece = 0; piece < kVPieces; ++piece) {
      uint32_t rows[4][kVWords];
#pragma unroll
      for (int index = 0; index < 4; ++index) {
        const int row = 2 * (lane % 4) + index % 2 + 8 * (index / 2);
        read_piece<false>(rows[index], slot, row, lane / 4 + 8 * piece);
      }
#pragma unroll
      for (int word = 0; word < kVWords; ++word) {
        if constexpr (kBytes == 2) {
          const uint32_t a[4] = {__byte_perm(rows[0][word], rows[1][word], 0x5410),
                                 __byte_perm(rows[0][word], rows[1][word], 0x7632),
                                 __byte_perm(rows[2][word], rows[3][word], 0x5410),
                                 __byte_perm(rows[2][word], rows[3][word], 0x7632)};
          product(acc, a, p, piece * kVWords + word);
        } else {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint32_t select = half == 0 ? 0x5140 : 0x7362;
            const uint32_t first = __byte_perm(rows[0][word], rows[1][word], select);
            const uint32_t second = __byte_perm(rows[2][word], rows[3][word], select);
            uint32_t a[4];
            foveal::cuda::e4m3x4_to_f16x2(a[0], a[1], first);
            foveal::cuda::e4m3x4_to_f16x2(a[2], a[3], second);
            product(acc, a, p, (piece * kVWords + word) * 2 + half);
          }
        }
      }
    }
  }

  /// head_dim index of o[.][step][0, 1]; [2, 3] hold the next one.
  __device__ static int out_element(int step, int lane) {
    constexpr int kStepsAPiece = kVElements / 2;
    return (step / kStepsAPiece) * 8 * kVElements + (lane / 4) * kVElements +
           (step % kStepsAPiece) * 2;
  }

 private:
  __device__ static void product(Accumulator& acc, const uint32_t (&a)[4],
                                 const uint32_t (&p)[kHeadBlocks][2], int step) {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
      foveal::cuda::mma_16x8x16<typename Math::Type>(acc.o[block][step], a, p[block]);
    }
  }
};

}  // namespace foveal::kernels::cuda
