#include <algorithm>

#include "kernels/cuda/device/bulk.cuh"
#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/device/tma.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/sm90/top_k_emit.cuh"
#include "kernels/cuda/top_k_launch.h"

namespace foveal::kernels::cuda {
namespace top_k {
namespace {

using foveal::cuda::Barrier;

struct Shared {
  Scratch scratch;
  ChooseScratch choose;
  uint32_t count;   ///< candidates of this CTA
  uint32_t failed;  ///< the row goes to radix selection
  uint32_t gates[kMostCtas];
  Barrier agreed;    ///< all CTAs' gates are here
  Barrier received;  ///< all CTAs' candidates are
};

/// Dynamic shared memory. Radix selection, of which nothing else is left, begins at the bitmap.
struct Memory {
  static constexpr int kSpace = kWords / 2;  ///< for bins, then for what is before each word
  static_assert(kSpace >= kBins);

  uint32_t* bitmap;
  uint32_t* bins;
  int32_t* staged;
  unsigned char* candidates;

  __device__ static Memory of(unsigned char* base, int32_t staged) {
    auto* bitmap = reinterpret_cast<uint32_t*>(base);
    auto* after = reinterpret_cast<int32_t*>(bitmap + kWords + kSpace);
    return {bitmap, bitmap + kWords, staged > 0 ? after : nullptr,
            reinterpret_cast<unsigned char*>(after + staged)};
  }
  static size_t bytes(int32_t staged, int32_t ctas, int32_t capacity) {
    return (kWords + kSpace + static_cast<size_t>(staged)) * 4 +
           static_cast<size_t>(ctas) * Candidates::region_bytes(capacity);
  }
};

/// Reads the row from memory as often as it must; nothing to guess or to overflow. Apart from the
/// rest, so that the usual path's instructions lie together.
template <bool kCluster>
__device__ __noinline__ void select_by_radix(Row row, Output output, int32_t count, int32_t ctas,
                                             int32_t rank, unsigned char* memory) {
  using Select = RadixSelect<kThreads, kCluster>;
  static_assert(sizeof(typename Select::Shared) <= (kWords + Memory::kSpace) * 4);
  __syncthreads();
  const int32_t slice = (row.length + ctas - 1) / ctas;
  const int32_t begin = min(rank * slice, row.length);
  const int32_t own = min(slice, row.length - begin);
  const StridedValues values{row.values + begin, 1};
  Select select(*reinterpret_cast<typename Select::Shared*>(memory));
  const typename Select::Threshold threshold =
      select.threshold(values, own, static_cast<uint32_t>(count));
  select.emit(values, own, threshold, [&](uint32_t position, int32_t at) {
    output.put(static_cast<int32_t>(position), begin + at);
  });
}

template <bool kCluster>
class TopK {
 public:
  __device__ TopK(const TopKArgs& args, Shared& shared, unsigned char* memory)
      : args_(args),
        shared_(shared),
        base_(memory),
        memory_(Memory::of(memory, args.staged)),
        log2_ctas_(kCluster ? args.log2_ctas : 0),
        rank_(kCluster ? static_cast<int32_t>(foveal::cuda::cluster_rank()) : 0),
        thread_(static_cast<int32_t>(threadIdx.x)) {}

  __device__ void run() {
    start();
    wait_for_previous();
    let_next_start();
    const auto row_index = static_cast<int32_t>(blockIdx.x) >> log2_ctas_;
    // With one tile a CTA its loads need not wait for the row's length.
    Row row = Row::longest(args_.call, row_index);
    Deal deal = Deal::of(row, log2_ctas_, rank_);
    const bool early = deal.tiles == 1 && args_.call.starts == nullptr;
    if (!early) {
      row = Row::of(args_.call, row_index);
      deal = Deal::of(row, log2_ctas_, rank_);
    }
    Tile tile;
    tile.load(row, deal, 0);
    const Edge edge = Edge::of(row, rank_);
    if (early) row.length = Row::of(args_.call, row_index).length;
    const int32_t count = min(args_.call.k, row.length);
    if (rank_ == 0 && thread_ == 0) report(row_index, count);
    if (count == row.length) {
      take_whole(row_index, count);
      if constexpr (kCluster) foveal::cuda::cluster_wait();
      return;
    }
    if (args_.capacity == 0) {
      if constexpr (kCluster) foveal::cuda::cluster_wait();
    } else if (sift(row, deal, tile, edge, row_index, count)) {
      return;
    }
    select_by_radix<kCluster>(row, Output::of(args_, row_index), count, 1 << log2_ctas_, rank_,
                              base_);
  }

 private:
  __device__ void start() {
    auto* words = reinterpret_cast<uint4*>(memory_.bitmap);
#pragma unroll
    for (int i = 0; i < (kWords + kBins) / 4 / kThreads; ++i) {
      words[i * kThreads + thread_] = {0, 0, 0, 0};
    }
    if (thread_ == 0) {
      shared_.scratch.bin = kNoBin;
      shared_.choose.listed = 0;
      shared_.count = 0;
      shared_.failed = 0;
      if constexpr (kCluster) {
        foveal::cuda::barrier_init(&shared_.agreed, 1);
        foveal::cuda::barrier_init(&shared_.received, (1U << log2_ctas_) - 1);
        foveal::cuda::barrier_init_fence();
      }
    }
    if constexpr (kCluster) {
      __syncwarp();
      foveal::cuda::cluster_arrive_relaxed();
    }
  }

  __device__ void report(int32_t row, int32_t count) const {
    const foveal_top_k_params& p = args_.call;
    if (p.counts != nullptr) p.counts[row] = count;
    if (p.counters != nullptr) atomicAdd(reinterpret_cast<unsigned long long*>(p.counters), 1ULL);
  }

  __device__ void take_whole(int32_t row_index, int32_t count) const {
    const Output output = Output::of(args_, row_index);
#pragma unroll 1
    for (int32_t at = rank_ * kThreads + thread_; at < args_.call.k; at += kThreads << log2_ctas_) {
      output.put(at, at < count ? at : -1);
    }
  }

  /// Guess a gate, find what is not below it, choose among that. False, in all CTAs, where the
  /// guess was wrong; then nothing is written.
  __device__ bool sift(const Row& row, const Deal& deal, Tile& tile, const Edge& edge,
                       int32_t row_index, int32_t count) {
    const bool all = row.length <= args_.take_all;
    Gate gate{0, 0};
    __syncthreads();
    if (!all) gate = guess(row, deal, tile);
    if constexpr (kCluster) {
      foveal::cuda::cluster_wait();
      if (!all && deal.spread) gate.key = agree(gate.key);
    }
    const float below = float_below(gate.key);
#pragma unroll 1
    for (int32_t t = 0; t < deal.tiles; ++t) {
      Tile next;
      if (t + 1 < deal.tiles) next.load(row, deal, t + 1);
      if (all || row.length < row.loaded) tile.mend(row, deal, t, all);
      append(row, deal, tile, t, below, all);
      tile = next;
    }
    append(row, edge, below, all);
    reinterpret_cast<uint4*>(memory_.bins)[thread_] = {0, 0, 0, 0};
    const Candidates candidates{memory_.candidates, log2_ctas_, args_.capacity};
    if (!gather(candidates, gate)) return shared_.failed == 0;
    return finish(candidates, all, row.length, row_index, count);
  }

  /// Samples where candidates will be: a quarter of a tile that is spread, else up to four groups
  /// of four values a thread from all over the row.
  __device__ Gate guess(const Row& row, const Deal& deal, const Tile& tile) {
    constexpr int32_t kRowOfOneGroup = 32 * 1024;
    auto* samples = reinterpret_cast<float4*>(memory_.candidates);
    int32_t groups = kLoads / 4;
    int32_t samples_taken;
    if (deal.spread) {
#pragma unroll
      for (int i = 0; i < kLoads; i += 4) {
        float own[4] = {tile.loads[i].x, tile.loads[i + 1].y, tile.loads[i + 2].z,
                        tile.loads[i + 3].w};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (deal.first(0, i + j) + j >= row.length) own[j] = no_value();
        }
        samples[i / 4 * kThreads + thread_] = {own[0], own[1], own[2], own[3]};
      }
      const int32_t step = deal.tiles << log2_ctas_;
      const int32_t blocks = (row.blocks() - rank_ + step - 1) / step;
      samples_taken = blocks * (kBlock / 4);
    } else {
      groups = min(max(row.length / kRowOfOneGroup, 1), kLoads);
      const int32_t offset = -row.before() & 3;
      const float apart = __fdividef(static_cast<float>((row.length - offset) / 4),
                                     static_cast<float>(groups * kThreads));
      float4 own[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const auto group = static_cast<int32_t>(static_cast<float>(i * kThreads + thread_) * apart);
        if (i < groups) own[i] = row.load(offset + 4 * group);
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (i < groups) samples[i * kThreads + thread_] = own[i];
      }
      samples_taken = groups * kThreads * 4;
    }
    const auto wanted = static_cast<uint32_t>(
        max(1, static_cast<int32_t>(__fdividef(static_cast<float>(args_.aim * samples_taken),
                                               static_cast<float>(row.length)))));
    return guess_gate(samples, groups, wanted, memory_.bins, shared_.scratch);
  }

  /// The mean of all CTAs' gates: nearer than any of them.
  __device__ uint32_t agree(uint32_t key) {
    if (thread_ == 0) foveal::cuda::barrier_arrive_expect(&shared_.agreed, 4U << log2_ctas_);
    if (thread_ < 1 << log2_ctas_) {
      foveal::cuda::barrier_send_cluster(&shared_.gates[rank_], key, &shared_.agreed,
                                         static_cast<uint32_t>(thread_));
    }
    __syncwarp();
    foveal::cuda::barrier_wait(&shared_.agreed, 0);
    return mean_key(shared_.gates, log2_ctas_);
  }

  /// Candidates of a tile behind those before, a warp's in one go. What does not fit is not
  /// written.
  __device__ void append(const Row& row, const Deal& deal, const Tile& tile, int32_t t, float below,
                         bool all) {
    const int lane = thread_ % 32;
    uint32_t bits;
    if (all) {
      bits = 0;
#pragma unroll
      for (int i = 0; i < kLoads; ++i) bits |= row.inside(deal.first(t, i)) << 4 * i;
    } else {
      bits = tile.greater(below);
    }
    const auto own = static_cast<uint32_t>(__popc(bits));
    uint32_t through = own;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const uint32_t other = __shfl_up_sync(~0U, through, step);
      if (lane >= step) through += other;
    }
    const uint32_t total = __shfl_sync(~0U, through, 31);
    if (total == 0) return;
    uint32_t begin = 0;
    if (lane == 0) begin = atomicAdd(&shared_.count, total);
    begin = __shfl_sync(~0U, begin, 0);
    if (begin + total > static_cast<uint32_t>(args_.capacity)) return;
    auto* to =
        reinterpret_cast<uint2*>(memory_.candidates + sizeof(Header)) + begin + through - own;
    tile.each_of(bits, [&](float value, int i, int j) {
      *to++ = {__float_as_uint(value), static_cast<uint32_t>(deal.first(t, i) + j)};
    });
  }
  __device__ void append(const Row& row, const Edge& edge, float below, bool all) {
    const float value = all ? fmaxf(edge.value, -INFINITY) : edge.value;
    if (edge.index < 0 || edge.index >= row.length || !(all || value > below)) return;
    const uint32_t at = atomicAdd(&shared_.count, 1U);
    if (at >= static_cast<uint32_t>(args_.capacity)) return;
    reinterpret_cast<uint2*>(memory_.candidates + sizeof(Header))[at] = {
        __float_as_uint(value), static_cast<uint32_t>(edge.index)};
  }
  /// All candidates to the first CTA, which alone goes on: false in the others, once it has told
  /// whether the guess failed.
  __device__ bool gather(const Candidates& candidates, const Gate& gate) {
    if constexpr (kCluster) foveal::cuda::async_proxy_fence();
    __syncthreads();
    const uint32_t count = shared_.count;
    if (thread_ == 0) {
      *candidates.header(0) = {count, gate.key, gate.high, 0};
      shared_.scratch.bin = kNoBin;
    }
    if constexpr (kCluster) {
      if (rank_ != 0) {
        if (thread_ == 0) {
          const bool fits = count <= static_cast<uint32_t>(candidates.capacity);
          const uint32_t bytes = sizeof(Header) + (fits ? (count + 1) / 2 * 16 : 0);
          const uint32_t to =
              foveal::cuda::cluster_address(candidates.base, 0) +
              static_cast<uint32_t>(rank_ * Candidates::region_bytes(candidates.capacity));
          foveal::cuda::async_proxy_fence();
          foveal::cuda::bulk_send(to, candidates.base, bytes, &shared_.received, 0);
        }
        __syncwarp();
        foveal::cuda::cluster_arrive_relaxed();
        foveal::cuda::cluster_wait();
        return false;
      }
      foveal::cuda::barrier_wait(&shared_.received, 0);
    }
    __syncthreads();
    return true;
  }

  /// By the first CTA.
  __device__ bool finish(const Candidates& candidates, bool all, int32_t length, int32_t row_index,
                         int32_t count) {
    const Found found = Found::of(candidates);
    bool good = !found.overflow && (all || found.gate > kInfinityBelow);
    Threshold threshold{};
    if (good) {
      threshold =
          choose(candidates, found.gate, all ? ~0U : found.high, static_cast<uint32_t>(count),
                 memory_.bins, shared_.scratch, shared_.choose, [&](bool enough) {
                   good = enough;
                   tell(good);
                 });
    } else {
      tell(false);
    }
    if (!good) {
      if (thread_ == 0 && args_.call.counters != nullptr) {
        atomicAdd(reinterpret_cast<unsigned long long*>(args_.call.counters) + 1, 1ULL);
      }
      if constexpr (kCluster) foveal::cuda::cluster_wait();
      return false;
    }
    __syncthreads();
    const Emit emit{candidates,     threshold,
                    memory_.bitmap, reinterpret_cast<uint16_t*>(memory_.bins),
                    memory_.staged, shared_.scratch.sums};
    emit(Output::of(args_, row_index), length, count);
    return true;
  }
  /// Lets the others go, or come along to radix selection.
  __device__ void tell(bool good) {
    if constexpr (kCluster) {
      if (good) {
        foveal::cuda::cluster_arrive_relaxed();
        return;
      }
      if (thread_ > 0 && thread_ < 1 << log2_ctas_) {
        foveal::cuda::store_cluster(
            foveal::cuda::cluster_address(&shared_.failed, static_cast<uint32_t>(thread_)), 1);
      }
      __syncwarp();
      foveal::cuda::cluster_arrive();
    }
  }

  const TopKArgs& args_;
  Shared& shared_;
  unsigned char* base_;
  Memory memory_;
  int32_t log2_ctas_;
  int32_t rank_;
  int32_t thread_;
};

// Computes: indices of the k largest values of each row, ascending; of equals the lowest; the slots
//   they lie in.
// In/out: foveal_top_k_params.
// Units: values in float32.
// Launch: a cluster of 1 to 16 CTAs of 512 threads a row; shared memory by Memory::bytes.
// Needs: sm_90.
// Numerics: exact; NaN counts as -inf, -0 equals +0.
// Source: guess, verify, refine (arXiv 2604.22312) by samples of the row; ours.
// Measured: docs/kernels/cuda_top_k.md.
template <bool kCluster, int kCtas>
__global__ void __launch_bounds__(kThreads, kCtas)
    top_k_kernel(const __grid_constant__ TopKArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ Shared shared;
  TopK<kCluster>(args, shared, memory).run();
}

}  // namespace
}  // namespace top_k

namespace {

TopKArgs plan(const foveal_top_k_params& call, int32_t processors) {
  constexpr int32_t kMostCandidates = 24 * 1024;  // what shared memory holds
  constexpr int32_t kMostStaged = 4096;
  constexpr int32_t kSlice = 4096;  // values of a CTA before others are worth their exchange
  const int64_t places = 2 * int64_t{processors};
  TopKArgs out{};
  out.call = call;
  const uint64_t page = static_cast<uint64_t>(std::max(call.page_size, 1));
  out.page_inverse = ((uint64_t{1} << 40) + page - 1) / page;
  int32_t ctas = 1;
  while (ctas < 16 && call.max_length > ctas * kSlice &&
         int64_t{call.num_rows} * ctas * 2 <= places) {
    ctas *= 2;
    ++out.log2_ctas;
  }
  const bool sifts = call.k <= kMostCandidates * 2 / 3 && (call.flags & FOVEAL_TOP_K_RADIX) == 0;
  if (!sifts) return out;
  const int32_t candidates = std::min(std::max(3 * call.k, 4096), kMostCandidates);
  out.capacity = candidates / ctas / 2 * 2;
  out.aim = std::min(call.k + call.k / 2, (call.k + candidates) / 2);
  if (call.k < 1024) out.aim = candidates / 2;
  // Whole blocks of each CTA, and the first may begin up to three places late.
  out.take_all = std::max(0, out.capacity / top_k::kBlock * top_k::kBlock * ctas - 3);
  out.staged = call.k <= kMostStaged ? (call.k + 3) / 4 * 4 : 0;
  return out;
}

}  // namespace

void launch_top_k(const foveal_top_k_params& call, int32_t processors, void* stream) {
  const TopKArgs args = plan(call, processors);
  if ((call.flags & FOVEAL_TOP_K_RADIX) == 0 && launch_top_k_resident(args, processors, stream)) {
    return;
  }
  const int32_t ctas = 1 << args.log2_ctas;
  const bool cluster = ctas > 1;
  // Registers enough for all, where no multiprocessor has to hold two.
  const bool alone = cluster && int64_t{call.num_rows} * ctas <= processors;
  const auto kernel = alone     ? top_k::top_k_kernel<true, 1>
                      : cluster ? top_k::top_k_kernel<true, 2>
                                : top_k::top_k_kernel<false, 2>;
  if (ctas > 8) {
    foveal::cuda::check_launch(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), "top_k");
  }
  const Grid grid{
      .blocks = dim3(static_cast<unsigned>(call.num_rows) * static_cast<unsigned>(ctas)),
      .threads = dim3(top_k::kThreads),
      .shared_bytes = top_k::Memory::bytes(args.staged, ctas, args.capacity),
      .cluster = static_cast<unsigned>(ctas)};
  launch("top_k", kernel, grid, stream, args);
}

}  // namespace foveal::kernels::cuda
