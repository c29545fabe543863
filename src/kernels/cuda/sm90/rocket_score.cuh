#pragma once

#include "kernels/cuda/sm90/decode_tile.cuh"
#include "kernels/cuda/sm90/rocket_entries.cuh"
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

/// Where the bounds of a page of the pool lie.
__device__ inline char* bounds_of(const RocketArgs& args, int32_t head, int32_t slot,
                                  int64_t page_bytes) {
  const int32_t shift = args.decode.page_shift - args.slot_shift;
  const int64_t within = (static_cast<int64_t>(head) << shift) + (slot & ((1 << shift) - 1));
  return args.bounds + (slot >> shift) * args.bounds_page_bytes + within * page_bytes;
}

/// The newest page: its keys, and where its bounds go.
struct NewestPage {
  const char* keys;
  char* bounds;
  int64_t token_bytes;
  int32_t kv_dtype;
  int32_t bound_kind;
  int32_t tokens;
  int32_t head_dim;
};

/// Makes its bounds in the cache, by a warp. Apart from the rest: few warps come here, and
/// instructions are fetched in long lines. All by value: what lies behind a reference to a kernel's
/// parameters is read from memory each time.
template <int kBytes>
__device__ __noinline__ void make_newest(NewestPage page, int lane) {
  make_bounds<kBytes, 4>(page.keys, page.token_bytes, page.kv_dtype, page.bound_kind, page.tokens,
                         page.head_dim, lane, [&](int32_t channel, auto least, auto most) {
                           put_bounds<kBytes>(page.bounds, page.head_dim, channel, least, most);
                         });
  __syncwarp();
}
template <int kBytes>
__device__ inline void make_newest(const RocketArgs& args, const Entries& entries, int32_t head,
                                   int32_t head_dim, int lane) {
  const int32_t shift = args.decode.page_shift - args.slot_shift;
  const int32_t page = entries.pages - 1;
  const int32_t slot = entries.slot(args, page);
  const int64_t first_token = static_cast<int64_t>(slot & ((1 << shift) - 1)) << args.slot_shift;
  make_newest<kBytes>(
      {args.decode.k + (slot >> shift) * args.decode.k_page_bytes +
           head * args.decode.k_head_bytes + first_token * args.decode.k_token_bytes,
       bounds_of(args, head, slot, 2 * kBytes * head_dim), args.decode.k_token_bytes, args.kv_dtype,
       args.bound_kind, entries.kv_len - (page << args.slot_shift), head_dim},
      lane);
}

/// A warp's share of a CTA's entries against up to 8 * kHeadBlocks query heads. Bounds go from
/// memory to registers in the layout the tensor cores take (DecodeTile's of keys), kAhead pieces
/// ahead: a page is read once, by one warp, so shared memory would only be a detour.
template <class Bound, int kHeadDim, int kHeadBlocks>
class PageScorer {
 public:
  using Tile = DecodeTile<typename Bound::Kv, kHeadDim, kHeadBlocks, false>;
  using Stored = typename Bound::Stored;
  using Opened = OpenedQuery<Stored, kHeadDim>;
  static constexpr int kBytes = sizeof(Stored);

  /// Entries [begin, begin + count) of the KV head.
  __device__ PageScorer(const RocketArgs& args, const Entries& entries, int32_t head, int32_t begin,
                        int32_t count, const Opened& opened)
      : args_(args),
        entries_(entries),
        opened_(opened),
        head_(head),
        begin_(begin),
        count_(count),
        units_((count + kScoreUnit - 1) / kScoreUnit),
        lane_(static_cast<int>(threadIdx.x) % 32),
        warp_(static_cast<int>(threadIdx.x) / 32) {}

  /// Asks where the first pages lie.
  __device__ void look_up(int32_t pass) {
    const bool newest =
        count_ > 0 && begin_ + count_ == entries_.count && (units_ - 1) % kChooseWarps == warp_;
    if (newest && pass == 0) make_newest<kBytes>(args_, entries_, head_, kHeadDim, lane_);
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) find(first_[unit], warp_ + unit * kChooseWarps);
    find(place_, warp_ + kUnits * kChooseWarps);
  }
  /// Starts the first loads.
  __device__ void start() {
#pragma unroll
    for (int unit = 0; unit < kUnits; ++unit) {
      if (warp_ + unit * kChooseWarps >= units_) break;
      locate(first_[unit]);
#pragma unroll
      for (int piece = 0; piece < min(kAhead, kPieces); ++piece) {
        load(ring_[unit * kPieces + piece], piece);
      }
    }
  }

  /// Logits [heads of the pass, pitch], and the largest of each head among this warp's entries: to
  /// maxima [16].
  __device__ void score(float* logits, int64_t pitch, float* maxima) {
    take_query();
    float max[kHeadBlocks][2];
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) max[block][0] = max[block][1] = -INFINITY;
#pragma unroll 1
    for (int32_t first = warp_; first < units_; first += kUnits * kChooseWarps) {
#pragma unroll
      for (int unit = 0; unit < kUnits; ++unit) {
        const int32_t own = first + unit * kChooseWarps;
        if (own >= units_) break;
        float s[kHeadBlocks][4] = {};
        products(s, unit, own + kUnits * kChooseWarps < units_);
        find(place_, own + (kUnits + 1) * kChooseWarps);
        finish(s, max, logits, pitch, own);
      }
    }
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int column = 0; column < 2; ++column) {
#pragma unroll
        for (int step = 4; step < 32; step *= 2) {
          max[block][column] =
              fmaxf(max[block][column], __shfl_xor_sync(~0U, max[block][column], step));
        }
        if (lane_ < 4) maxima[block * 8 + lane_ * 2 + column] = max[block][column];
      }
    }
  }

 private:
  static constexpr int kPieces = Tile::kKPieces;
  static constexpr int kWords = Tile::kKWords;
  /// Scores are held within this: a page whose bound is infinite ranks first instead of as NaN.
  static constexpr float kHuge = 1e30F;

  /// What a lane holds of two pages (rows g and g + 8 of the product), both sides.
  struct Piece {
    uint32_t words[2][2][kWords];
  };
  static constexpr int kMostWords = kHeadBlocks == 1 ? 64 : 32;  ///< registers of the ring
  static constexpr int ahead() {
    const int most = kMostWords / (4 * kWords);
    if (most >= 2 * kPieces) return 2 * kPieces;
    int pieces = kPieces;
    while (pieces > most) pieces = kPieces / (kPieces / pieces + 1);
    return pieces;
  }
  static constexpr int kAhead = ahead();
  static constexpr int kUnits = kAhead > kPieces ? 2 : 1;  ///< in the ring
  static_assert(kAhead % kPieces == 0 || kPieces % kAhead == 0);

  __device__ void take_query() {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
      // Columns past the group repeat its last head: nobody reads their results.
      const int head = min(block * 8 + lane_ / 4, args_.decode.group - 1);
#pragma unroll
      for (int step = 0; step < Tile::kSteps; ++step) {
        const uint16_t* at = &opened_.rows[head][Tile::query_element(step, lane_)];
        const uint2 words = *reinterpret_cast<const uint2*>(at);
        query_[block][step][0] = words.x, query_[block][step][1] = words.y;
      }
#pragma unroll
      for (int column = 0; column < 2; ++column) {
        const int own = min(block * 8 + lane_ % 4 * 2 + column, args_.decode.group - 1);
        scale_[block][column] = opened_.scale[own];
      }
    }
  }

  /// Asks where the pages of a unit lie; past the end it is the last one.
  __device__ void find(int32_t (&place)[2], int32_t unit) const {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const int32_t own = min(unit * kScoreUnit + lane_ / 4 + 8 * row, count_ - 1);
      place[row] = entries_.slot(args_, entries_.page(begin_ + own));
    }
  }
  __device__ const char* bounds_at(int32_t place) const {
    return bounds_of(args_, head_, place, 2 * kHeadDim * kBytes);
  }
  __device__ void locate(const int32_t (&place)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) rows_[row] = bounds_at(place[row]) + lane_ % 4 * (kWords * 4);
  }
  __device__ void load(Piece& to, int piece) const {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const char* from = rows_[row] + side * kHeadDim * kBytes + piece * (16 * kWords);
        uint32_t(&words)[kWords] = to.words[row][side];
        // Not through the read-only path: the newest page has just been written.
        if constexpr (kWords == 4) {
          const uint4 value = __ldcg(reinterpret_cast<const uint4*>(from));
          words[0] = value.x, words[1] = value.y, words[2] = value.z, words[3] = value.w;
        } else if constexpr (kWords == 2) {
          const uint2 value = __ldcg(reinterpret_cast<const uint2*>(from));
          words[0] = value.x, words[1] = value.y;
        } else {
          words[0] = __ldcg(reinterpret_cast<const uint32_t*>(from));
        }
      }
    }
  }

  /// The wanted side of each channel, zero where left out.
  __device__ void wanted(uint32_t (&words)[2][kWords], const Piece& from, int piece) const {
    const int first = (lane_ % 4 + 4 * piece) * kWords;
    const auto* least = reinterpret_cast<const uint32_t*>(opened_.least) + first;
    const auto* most = reinterpret_cast<const uint32_t*>(opened_.most) + first;
#pragma unroll
    for (int word = 0; word < kWords; ++word) {
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        words[row][word] =
            (from.words[row][1][word] & most[word]) | (from.words[row][0][word] & least[word]);
      }
    }
  }

  /// Of the ring's unit; what it frees is filled again.
  __device__ void products(float (&s)[kHeadBlocks][4], int unit, bool more) {
    constexpr int kStepsAPiece = kWords * 4 / kBytes / 4;
    if constexpr (kAhead >= kPieces) {
      if (more) locate(place_);
    }
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      Piece& at = ring_[(unit * kPieces + piece) % kAhead];
      uint32_t words[2][kWords];
      wanted(words, at, piece);
      if constexpr (kAhead >= kPieces) {
        if (more) load(at, piece);
      } else {
        if (piece == kPieces - kAhead && more) locate(place_);
        if (piece < kPieces - kAhead || more) load(at, (piece + kAhead) % kPieces);
      }
#pragma unroll
      for (int i = 0; i < kStepsAPiece; ++i) {
        uint32_t a[4];
        if constexpr (kBytes == 2) {
          a[0] = words[0][2 * i], a[1] = words[1][2 * i];
          a[2] = words[0][2 * i + 1], a[3] = words[1][2 * i + 1];
        } else {
          a[0] = Bound::low(words[0][i]), a[1] = Bound::low(words[1][i]);
          a[2] = Bound::high(words[0][i]), a[3] = Bound::high(words[1][i]);
        }
#pragma unroll
        for (int block = 0; block < kHeadBlocks; ++block) {
          foveal::cuda::mma_16x8x16<typename Tile::Math::Type>(
              s[block], a, query_[block][piece * kStepsAPiece + i]);
        }
      }
    }
  }

  __device__ void finish(const float (&s)[kHeadBlocks][4], float (&max)[kHeadBlocks][2],
                         float* logits, int64_t pitch, int32_t unit) const {
#pragma unroll
    for (int block = 0; block < kHeadBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int head = block * 8 + lane_ % 4 * 2 + i % 2;
        const int32_t own = unit * kScoreUnit + lane_ / 4 + i / 2 * 8;
        if (own >= count_ || head >= args_.decode.group) continue;
        const float value = s[block][i] * scale_[block][i % 2];
        const float held = fmaxf(fminf(value, kHuge), -kHuge);
        logits[head * pitch + own] = held;
        max[block][i % 2] = fmaxf(max[block][i % 2], held);
      }
    }
  }

  const RocketArgs& args_;
  const Entries& entries_;
  const Opened& opened_;
  int32_t head_;
  int32_t begin_;
  int32_t count_;
  int32_t units_;
  int lane_;
  int warp_;
  uint32_t query_[kHeadBlocks][Tile::kSteps][2];  ///< b operands: lane's head is g + 8 * block
  float scale_[kHeadBlocks][2];                   ///< of columns 2t, 2t + 1
  Piece ring_[kAhead];
  const char* rows_[2];
  int32_t first_[kUnits][2];
  int32_t place_[2];
};

}  // namespace foveal::kernels::cuda
