#pragma once

#include "kernels/cuda/device/mbarrier.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/decode_tile.cuh"
#include "kernels/cuda/sm90/rocket_blocks.cuh"
#include "kernels/cuda/sm90/rocket_open.cuh"

namespace foveal::kernels::cuda {

/// How stored bounds reach the tensor cores: the tile whose layout of lanes they share (a page's
/// bounds lie as a key's row does), and four (two) of them as pairs of its type.
struct E5m2Bounds {
  using Kv = E4m3;  // a byte a value, widened to f16
  using Stored = uint8_t;
  /// e5m2 is the upper half of f16.
  __device__ static uint32_t low(uint32_t word) { return __byte_perm(word, 0, 0x1404); }
  __device__ static uint32_t high(uint32_t word) { return __byte_perm(word, 0, 0x3424); }
};
struct Bf16Bounds {
  using Kv = foveal::cuda::Bf16;
  using Stored = uint16_t;
};

/// One warp's units of 16 entries against up to 8 * kHeadBlocks query heads. Bounds come through
/// the warp's own ring in shared memory, least values of a unit's pages before the largest, each
/// side in the layout of DecodeTile's keys.
template <class Bound, int kHeadDim, int kHeadBlocks>
class ScoreWarp {
 public:
  using Tile = DecodeTile<typename Bound::Kv, kHeadDim, kHeadBlocks, false>;
  using Stored = typename Bound::Stored;
  using Opened = OpenedQuery<Stored, kHeadDim>;
  static constexpr int kBytes = sizeof(Stored);
  static constexpr ScoreShape kShape{kHeadDim, kBytes, kHeadBlocks};
  static constexpr int kStages = kShape.stages();
  static_assert(sizeof(Opened) <= kShape.opened_bytes());
  /// Scores are held within this: a page whose bound is infinite ranks first instead of as NaN.
  static constexpr float kHuge = 1e30F;

  __device__ ScoreWarp(const RocketArgs& args, char* shared, int lane)
      : args_(args),
        opened_(*reinterpret_cast<Opened*>(shared + kStages * 2 * kShape.side_bytes())),
        ring_(shared),
        shift_(args.decode.page_shift - args.slot_shift),
        lane_(lane) {}

  /// Starts the copies of a unit; makes the newest page's bounds, in the cache and for the unit.
  __device__ void copy(const UnitWalk& unit) {
    const uint32_t stage = foveal::cuda::smem_address(ring_) + write_ * 2 * kShape.side_bytes();
    const Entries& entries = unit.blocks.entries;
    const int32_t head = unit.blocks.head;
    const int32_t newest = entries.count - 1 - unit.first;  // the unit's row, if it has it
    if (unit.blocks.scored) {
      const int32_t own = min(unit.first + lane_ % kScoreUnit, entries.count - 1);
      const int32_t slot = entries.slot(args_, entries.page(own));
      constexpr int kColumns = Tile::kRowBytes / 16;
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        const int piece = i * 32 + lane_;
        const int row = piece / (2 * kColumns);
        const int side = piece / kColumns % 2;
        const int32_t place = __shfl_sync(~0U, slot, row);
        if (row == newest) continue;
        Tile::template copy_piece<true>(stage + side * kShape.side_bytes(),
                                        bounds_of(head, place) + piece % (2 * kColumns) * 16, row,
                                        piece % kColumns, newest);
      }
    }
    foveal::cuda::cp_async_commit();
    if (newest < kScoreUnit) make_newest(entries, head, newest, unit.blocks.scored);
    write_ = write_ + 1 == kStages ? 0 : write_ + 1;
  }

  __device__ void open(const BlockWalk& blocks) {
    const auto passes = static_cast<int32_t>(args_.decode.passes.divisor);
    const int32_t row = blocks.head * passes + blocks.pass;
    const char* q = args_.decode.q + blocks.entries.seq * args_.decode.q_row_bytes +
                    static_cast<int64_t>(blocks.head) * args_.heads * args_.decode.q_head_bytes;
    __syncwarp();
    Tile::load_query(query_, args_.decode, blocks.entries.seq, row, lane_);
    open_query<Stored, kHeadDim>(args_, q, blocks.pass * args_.decode.group, args_.decode.group,
                                 opened_, lane_);
    Tile::prepare(query_, args_.decode, lane_);
  }

  /// Scores of the next unit in the ring: its logits, and into the block's maxima and sums.
  __device__ void score(const UnitWalk& unit) {
    const char* stage = ring_ + read_ * 2 * kShape.side_bytes();
    read_ = read_ + 1 == kStages ? 0 : read_ + 1;
    float s[kHeadBlocks][4];
    products(s, stage);
    const int32_t left = unit.blocks.entries.count - unit.first;
    float* logits = args_.logits +
                    (int64_t{unit.blocks.row} * args_.max_entries + unit.first) * args_.heads +
                    unit.blocks.pass * args_.decode.group;
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int head = block * 8 + lane_ % 4 * 2 + i % 2;
        const int row = lane_ / 4 + i / 2 * 8;
        if (row >= left || head >= args_.decode.group) {
          s[block][i] = -INFINITY;
          continue;
        }
        const float value = s[block][i] * (query_.scale[block][i % 2] * opened_.factor[head]);
        s[block][i] = fmaxf(fminf(value, kHuge), -kHuge);
        logits[int64_t{row} * args_.heads + head] = s[block][i];
      }
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        float& max = max_[block][column];
        const float next = fmaxf(max, fmaxf(s[block][column], s[block][column + 2]));
        const float base = next == -INFINITY ? 0.0F : next;
        sum_[block][column] = sum_[block][column] * foveal::cuda::exp2_approx(max - base) +
                              foveal::cuda::exp2_approx(s[block][column] - base) +
                              foveal::cuda::exp2_approx(s[block][column + 2] - base);
        max = next;
      }
    }
  }

  /// What the block's lanes have, joined in a fixed order; ready for the next block.
  __device__ void finish(const BlockWalk& blocks) {
    float* stats =
        args_.stats +
        ((int64_t{blocks.row} * (args_.max_entries / kScoreBlock) + blocks.block) * args_.heads +
         blocks.pass * args_.decode.group) *
            2;
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        float max = max_[block][column];
#pragma unroll
        for (int step = 4; step < 32; step *= 2) {
          max = fmaxf(max, __shfl_xor_sync(~0U, max, step));
        }
        const float base = max == -INFINITY ? 0.0F : max;
        float sum = sum_[block][column] * foveal::cuda::exp2_approx(max_[block][column] - base);
#pragma unroll
        for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(~0U, sum, step);
        const int head = block * 8 + lane_ % 4 * 2 + column;
        if (lane_ < 4 && head < args_.decode.group) {
          stats[head * 2] = max;
          stats[head * 2 + 1] = sum;
        }
      }
    }
    clear();
  }
  __device__ void clear() {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
      max_[block][0] = max_[block][1] = -INFINITY;
      sum_[block][0] = sum_[block][1] = 0;
    }
  }
  /// An unscored unit has a place in the ring as well.
  __device__ void skip() { read_ = read_ + 1 == kStages ? 0 : read_ + 1; }

 private:
  __device__ char* bounds_of(int32_t head, int32_t slot) const {
    return args_.bounds + (slot >> shift_) * args_.bounds_page_bytes +
           ((static_cast<int64_t>(head) << shift_) + (slot & ((1 << shift_) - 1))) *
               (2 * kHeadDim * kBytes);
  }

  __device__ void make_newest(const Entries& entries, int32_t head, int32_t row, bool scored) {
    const int32_t page = entries.pages - 1;
    const int32_t slot = entries.slot(args_, page);
    const char* keys = args_.decode.k + (slot >> shift_) * args_.decode.k_page_bytes +
                       head * args_.decode.k_head_bytes +
                       (static_cast<int64_t>(slot & ((1 << shift_) - 1)) << args_.slot_shift) *
                           args_.decode.k_token_bytes;
    char* cache = bounds_of(head, slot);
    char* stage = ring_ + write_ * 2 * kShape.side_bytes() + row * Tile::kShape.pitch();
    make_bounds<kBytes>(keys, args_.decode.k_token_bytes, args_.kv_dtype, args_.bound_kind,
                        entries.kv_len - (page << args_.slot_shift), kHeadDim, lane_,
                        [&](int32_t channel, auto least, auto most) {
                          put_bounds<kBytes>(cache, kHeadDim, channel, least, most);
                          if (!scored) return;
                          const int at = channel * kBytes;
                          const int place =
                              (at / 16 ^ Tile::template swizzle<true>(row)) * 16 + at % 16;
                          using Word = decltype(least);
                          *reinterpret_cast<Word*>(stage + place) = least;
                          *reinterpret_cast<Word*>(stage + kShape.side_bytes() + place) = most;
                        });
  }

  /// The wanted side of each channel, zero where left out.
  __device__ void wanted(uint32_t (&words)[Tile::kKWords], const char* stage, int row, int piece) {
    uint32_t least[Tile::kKWords];
    Tile::template read_piece<true>(least, stage, row, piece);
    Tile::template read_piece<true>(words, stage + kShape.side_bytes(), row, piece);
    const auto* low = reinterpret_cast<const uint32_t*>(opened_.least) + piece * Tile::kKWords;
    const auto* high = reinterpret_cast<const uint32_t*>(opened_.most) + piece * Tile::kKWords;
#pragma unroll
    for (int word = 0; word < Tile::kKWords; ++word) {
      words[word] = (words[word] & high[word]) | (least[word] & low[word]);
    }
  }

  __device__ void products(float (&s)[kHeadBlocks][4], const char* stage) {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) s[block][i] = 0;
    }
    constexpr int kStepsAPiece = Tile::kKPiece / kBytes / 4;
#pragma unroll
    for (int piece = 0; piece < Tile::kKPieces; ++piece) {
      uint32_t low[Tile::kKWords], high[Tile::kKWords];
      wanted(low, stage, lane_ / 4, lane_ % 4 + 4 * piece);
      wanted(high, stage, lane_ / 4 + 8, lane_ % 4 + 4 * piece);
#pragma unroll
      for (int i = 0; i < kStepsAPiece; ++i) {
        uint32_t a[4];
        if constexpr (kBytes == 2) {
          a[0] = low[2 * i], a[1] = high[2 * i], a[2] = low[2 * i + 1], a[3] = high[2 * i + 1];
        } else {
          a[0] = Bound::low(low[i]), a[1] = Bound::low(high[i]);
          a[2] = Bound::high(low[i]), a[3] = Bound::high(high[i]);
        }
#pragma unroll
        for (int block = 0; block < kHeadBlocks; ++block) {
          foveal::cuda::mma_16x8x16<typename Tile::Math::Type>(
              s[block], a, query_.b[block][piece * kStepsAPiece + i]);
        }
      }
    }
  }

  const RocketArgs& args_;
  Opened& opened_;
  char* ring_;
  int32_t shift_;
  int lane_;
  int write_ = 0;
  int read_ = 0;
  typename Tile::Query query_;
  float max_[kHeadBlocks][2];
  float sum_[kHeadBlocks][2];
};

// Computes: bounds of each sequence's newest page from its keys; s[h][P] = scale t[h] sum over
//   channels of q[h][i] b[i][P] of all entries (include/foveal/kernels_rocket.h); each block's
//   largest s and sum of 2^(s - largest).
// In/out: RocketArgs; bounds [cache pages][KV heads][pages][2][head_dim] e5m2 or bf16.
// Units: entries of 16 (a warp's step) and 64 (a block); logits in the log2 domain.
// Launch: CTAs of ScoreShape::warps() warps that know nothing of each other; blocks dealt evenly to
//   all warps, ScoreShape::shared_bytes().
// Needs: sm_90; rows of bounds at multiples of 16 bytes; bf16 bounds: bf16 queries.
// Numerics: e5m2 bounds are exact in f16, as are the queries, scaled by a power of two a row;
//   float32 sums. A page's logit depends on nothing beside it. Logits are held within 1e30 and a
//   NaN becomes 1e30.
// Source: RocketKV (arXiv 2502.14051) stage two; rows of bounds on tensor cores are ours.
// Measured: docs/kernels/cuda_rocket.md.
template <class Bound, int kHeadDim, int kHeadBlocks>
__global__ void __launch_bounds__(ScoreWarp<Bound, kHeadDim, kHeadBlocks>::kShape.warps() * 32, 2)
    rocket_score_kernel(const __grid_constant__ RocketArgs args) {
  using Warp = ScoreWarp<Bound, kHeadDim, kHeadBlocks>;
  extern __shared__ __align__(128) char shared[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  wait_for_previous();
  let_next_start();
  // Neighbouring blocks go to different multiprocessors.
  const uint32_t worker = static_cast<uint32_t>(warp) * gridDim.x + blockIdx.x;
  const uint32_t workers = gridDim.x * Warp::kShape.warps();
  UnitWalk copies(args, worker, workers, lane);
  UnitWalk units = copies;
  Warp scorer(args, shared + warp * Warp::kShape.warp_bytes(), lane);
  scorer.clear();
#pragma unroll 1
  for (int step = 1 - Warp::kStages;; ++step) {
    if (copies.next(args)) {
      scorer.copy(copies);
    } else {
      foveal::cuda::cp_async_commit();
    }
    if (step < 0) continue;
    if (!units.next(args)) break;
    if (!units.blocks.scored) {
      scorer.skip();
      continue;
    }
    if (units.blocks.moved && units.begins()) scorer.open(units.blocks);
    foveal::cuda::cp_async_wait<Warp::kStages - 1>();
    __syncwarp();
    scorer.score(units);
    __syncwarp();
    if (units.ends()) scorer.finish(units.blocks);
  }
}

}  // namespace foveal::kernels::cuda
