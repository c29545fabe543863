#pragma once

#include "kernels/cuda/device/pdl.cuh"
#include "kernels/cuda/sm90/top_k_rounds.cuh"

// Rows that a cluster's registers hold: each value is read once, and what CTAs have to know of one
// another goes by words straight into all of them, so that there is none through which everything
// has to pass. A word takes about 600 clocks from CTA to CTA, so they exchange twice: two guesses,
// between which the last one taken is expected, then what lies between them. All CTAs choose from
// that, and so all know when the guesses did not hold.

namespace foveal::kernels::cuda::top_k {

/// One row's selection, by a cluster.
class Resident {
 public:
  __device__ Resident(const TopKArgs& args, ResidentShared& shared)
      : args_(args),
        shared_(shared),
        ctas_(1 << args.log2_ctas),
        rank_(static_cast<int32_t>(foveal::cuda::cluster_rank())),
        thread_(static_cast<int32_t>(threadIdx.x)),
        warp_(static_cast<int32_t>(threadIdx.x / 32)),
        lane_(static_cast<int32_t>(threadIdx.x % 32)),
        run_(warp_ * ctas_ + rank_),
        capacity_(kMostListed >> args.log2_ctas),
        own_(args, &shared.values[0][0], run_) {}

  __device__ void run() {
    wait_for_previous();
    let_next_start();
    const auto row_index = static_cast<int32_t>(blockIdx.x) >> args_.log2_ctas;
    const foveal_top_k_params& p = args_.call;
    const Row row = p.starts == nullptr ? Row::longest(p, row_index) : Row::of(p, row_index);
    // Only one warp waits for the row's length, while the values are under way.
    if (thread_ == 0) fetch_length(row, row_index);
    own_.load(row);
    start();
    __syncthreads();
    foveal::cuda::cluster_arrive_relaxed();
    const int32_t length = shared_.length;
    const int32_t count = min(args_.call.k, length);
    own_.end(length);
    foveal::cuda::cluster_wait();
    if (count == length) {
      take_whole(Output::of(args_, row_index), count);
      if (rank_ == 0 && thread_ == 0) report(row_index, count);
      return;
    }
    guess(length);
    Run::Split split;
#pragma unroll 1
    for (uint32_t parity = 0;; ++parity) {
      split = own_.split(bracket_.low, bracket_.top);
      exchange(split.above, split.inside, parity);
      choose(row.before(), static_cast<uint32_t>(count));
      if (choice_.how != Choice::kNotHere) break;
      bracket_ = Rounds(shared_, own_, args_.log2_ctas, rank_)
                     .narrow(wider(), static_cast<uint32_t>(count));
      if (thread_ == 0) own_found()->listed = 0, shared_.tied = 0;
      __syncthreads();
    }
    if (rank_ == 0 && thread_ == 0) report(row_index, count);
    put(Output::of(args_, row_index), split.above, split.inside);
  }

 private:
  __device__ Found* own_found() const { return reinterpret_cast<Found*>(shared_.own); }
  __device__ Found* found(int32_t cta) const {
    return reinterpret_cast<Found*>(shared_.found + cta * Found::bytes(capacity_));
  }

  __device__ void start() {
    if (thread_ < kFewBins) shared_.bins[thread_] = 0;
    if (thread_ < kColumns) shared_.columns[thread_] = 0;
    if (thread_ == 0) {
      own_found()->listed = 0;
      shared_.tied = 0;
      foveal::cuda::barrier_init(&shared_.guessed, 1);
      foveal::cuda::barrier_arrive_expect(&shared_.guessed, static_cast<uint32_t>(ctas_) * 8);
      foveal::cuda::barrier_init(&shared_.exchanged, static_cast<uint32_t>(ctas_));
      foveal::cuda::barrier_init(&shared_.counted[0], 1);
      foveal::cuda::barrier_init(&shared_.counted[1], 1);
      foveal::cuda::barrier_init_fence();
      foveal::cuda::cp_async_wait<0>();
      shared_.length = min(max(shared_.length, 0), args_.call.max_length);
    }
    if (warp_ > 0) return;
    __syncwarp();
    const int32_t length = shared_.length;
    const Sampling sampling = Sampling::of(length, min(args_.call.k, length), args_, rank_);
    if (lane_ == 0) shared_.sampling = sampling;
  }
  __device__ void fetch_length(const Row& row, int32_t row_index) {
    const foveal_top_k_params& p = args_.call;
    if (p.lengths == nullptr || p.starts != nullptr) {
      shared_.length = row.length;
    } else {
      foveal::cuda::cp_async<4>(foveal::cuda::smem_address(&shared_.length),
                                p.lengths + Row::which_length(p, row_index), 4);
      foveal::cuda::cp_async_commit();
    }
  }

  __device__ void report(int32_t row, int32_t count) const {
    const foveal_top_k_params& p = args_.call;
    if (p.counts != nullptr) p.counts[row] = count;
    if (p.counters != nullptr) atomicAdd(reinterpret_cast<unsigned long long*>(p.counters), 1ULL);
  }

  __device__ void take_whole(const Output& output, int32_t count) const {
#pragma unroll 1
    for (int32_t at = rank_ * kThreads + thread_; at < args_.call.k;
         at += kThreads << args_.log2_ctas) {
      output.put(at, at < count ? at : -1);
    }
  }

  /// Sets the bracket about where the last one taken is expected: from the first loads, while the
  /// others come.
  __device__ void guess(int32_t length) {
    const Sampling sampling = shared_.sampling;
    if (warp_ < sampling.warps) sample(sampling);
    __syncthreads();
    // A row may turn out too short for a block of each CTA.
    const bool valid = sampling.warps > 1 || own_.size() * (rank_ + 1) <= length;
    send_guesses(sampling, valid);
    own_.keep();
    foveal::cuda::barrier_wait(&shared_.guessed, 0);
    const uint32_t low = mean(shared_.guesses[0]);
    const uint32_t high = mean(shared_.guesses[1]);
    bracket_.low = min(low, high);
    const uint32_t top = max(low, high);
    span_ = low == 0 ? ~0U : top - bracket_.low;
    bracket_.top = sampling.open || low == 0 ? ~0U : max(top, bracket_.low + 1) - 1;
    bracket_.shift = Bracket::shift_of_span(span_);
  }

  /// Keeps the greatest of each group's samples: members of a group are far from one another.
  __device__ void sample(const Sampling& sampling) {
    float4 v = own_.load(0);
    if (sampling.log2_each == 2) {
      const float4& w = own_.load(1);
      v = {fmaxf(v.x, w.x), fmaxf(v.y, w.y), fmaxf(v.z, w.z), fmaxf(v.w, w.w)};
    }
    const bool front = lane_ < 16;
    float2 kept = front ? float2{v.x, v.y} : float2{v.z, v.w};
    if (sampling.log2_each > 0) {
      const float2 given = front ? float2{v.z, v.w} : float2{v.x, v.y};
      kept.x = fmaxf(kept.x, __shfl_xor_sync(~0U, given.x, 16));
      kept.y = fmaxf(kept.y, __shfl_xor_sync(~0U, given.y, 16));
    } else {
      const int others = (1 << -sampling.log2_each) - 1;
      if (((lane_ ^ warp_) & others) != 0) return;
    }
    atomicMax(&shared_.columns[lane_], any_key(kept.x));
    atomicMax(&shared_.columns[lane_ + 32], any_key(kept.y));
  }

  /// Those of the CTA's groups that are in the places wanted, to all CTAs.
  __device__ void send_guesses(const Sampling& sampling, bool valid) {
    constexpr int kEach = kColumns / kWarps;
    static_assert(kEach == 4);
    const uint4 four = reinterpret_cast<const uint4*>(shared_.columns)[warp_];
    const uint32_t own[kEach] = {four.x, four.y, four.z, four.w};
    const uint32_t a = shared_.columns[lane_];
    const uint32_t b = shared_.columns[lane_ + 32];
    bool has_low = false;
    bool has_high = false;
    uint32_t low = 0;
    uint32_t high = 0;
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int column = warp_ * kEach + j;
      // Of equals the first column is before the others.
      const int before = __popc(__ballot_sync(~0U, a + (lane_ < column ? 1 : 0) > own[j])) +
                         __popc(__ballot_sync(~0U, b + (lane_ + 32 < column ? 1 : 0) > own[j]));
      if (before == sampling.low) has_low = true, low = own[j];
      if (before == sampling.high) has_high = true, high = own[j];
    }
    if (has_low) send_guess(0, valid ? low : 0);
    if (has_high) send_guess(1, valid ? high : 0);
  }
  __device__ void send_guess(int which, uint32_t key) {
    if (lane_ < ctas_) {
      foveal::cuda::barrier_send_cluster(&shared_.guesses[which][rank_], key, &shared_.guessed,
                                         static_cast<uint32_t>(lane_));
    }
    __syncwarp();
  }
  /// Of all CTAs' guesses; 0 where the first has none. One that another lacks counts as the
  /// first's, and none as farther from it than kFar.
  __device__ uint32_t mean(const uint32_t* guesses) const {
    constexpr int kFar = 1 << 26;
    const uint32_t own = guesses[lane_ & (ctas_ - 1)];
    const uint32_t base = __shfl_sync(~0U, own, 0);
    const int off = min(max(static_cast<int>(own - base), -kFar), kFar);
    const int sum = __reduce_add_sync(~0U, lane_ < ctas_ && own != 0 ? off : 0);
    return base == 0 ? 0 : base + static_cast<uint32_t>(sum >> args_.log2_ctas);
  }

  /// Tells all CTAs how many values of each run lie above the bracket and in it, and which are in
  /// it, unless they are equals.
  __device__ void exchange(uint32_t above, uint32_t inside, uint32_t parity) {
    Found* const mine = own_found();
    const uint32_t counts =
        __reduce_add_sync(~0U, static_cast<uint32_t>(__popc(above) | __popc(inside) << 16));
    if (lane_ == 0) {
      mine->above[warp_] = static_cast<uint16_t>(counts);
      mine->inside[warp_] = static_cast<uint16_t>(counts >> 16);
    }
    if (inside != 0 && !equals()) {
      auto at =
          static_cast<int32_t>(atomicAdd(&mine->listed, static_cast<uint32_t>(__popc(inside))));
      Run::each(inside, [&](int bit) {
        if (at < capacity_) mine->entries()[at] = own_.entry(bit);
        ++at;
      });
    }
    __syncthreads();
    // Each warp sends to one CTA.
    const auto peer = static_cast<uint32_t>(warp_ & (ctas_ - 1));
    const int32_t part = warp_ >> args_.log2_ctas;
    const auto listed = static_cast<int32_t>(mine->listed);
    const uint32_t bytes = Found::bytes(min(listed, capacity_));
    if (part == 0 && lane_ == 0) {
      foveal::cuda::barrier_arrive_expect_cluster(&shared_.exchanged, bytes, peer);
    }
    __syncwarp();
    const auto* from = reinterpret_cast<const uint4*>(mine);
    auto* to = reinterpret_cast<uint4*>(found(rank_));
#pragma unroll 1
    for (uint32_t i = part * 32 + lane_; i < bytes / sizeof(uint4);
         i += kThreads >> args_.log2_ctas) {
      foveal::cuda::barrier_send_cluster(to + i, from[i], &shared_.exchanged, peer);
    }
    __syncwarp();
    foveal::cuda::barrier_wait(&shared_.exchanged, parity & 1);
  }
  __device__ bool equals() const { return bracket_.low == bracket_.top; }

  /// Sets `choice_`, and `last_` where that goes by rank. `before` is the row's.
  __device__ void choose(int32_t before, uint32_t count) {
    each_entry([&](const Entry& e) { atomicAdd(&shared_.bins[bracket_.bin(e.key)], 1U); });
    Choice choice{};
    if (warp_ == 0) choice = look(count);
    __syncthreads();
    if (warp_ == 0) {
      if (choice.how == Choice::kByRank) find(choice);
      if (lane_ == 0) shared_.choice = choice;
    }
    __syncthreads();
    choice_ = shared_.choice;
    if (choice_.how != Choice::kByRank) return;
    auto* const above = reinterpret_cast<uint32_t*>(found(warp_ & (ctas_ - 1))->above);
    const int log2_run = args_.log2_ctas + args_.log2_loads + 7;
    each_entry([&](const Entry& e) {
      const uint32_t bin = bracket_.bin(e.key);
      if (bin < choice_.bin) return;
      if (bin > choice_.bin) {
        const uint32_t warp = (e.index + static_cast<uint32_t>(before)) >> log2_run;
        atomicAdd(above + warp / 2, 1U << warp % 2 * 16);
      } else {
        shared_.ties[atomicAdd(&shared_.tied, 1U)] = e;
      }
    });
    __syncthreads();
    rank_ties();
  }
  /// By one warp, what all CTAs' counts say. By rank where the last one taken is to be found.
  __device__ Choice look(uint32_t count) const {
    const int32_t cta = lane_ / 2;
    uint32_t above = 0;
    uint32_t inside = 0;
    bool fits = true;
    if (cta < ctas_) {
      const Found* const from = found(cta);
      above = sum_of_halves(reinterpret_cast<const uint4*>(from->above)[lane_ % 2]);
      inside = sum_of_halves(reinterpret_cast<const uint4*>(from->inside)[lane_ % 2]);
      fits = static_cast<int32_t>(from->listed) <= capacity_;
    }
    const auto need = static_cast<int32_t>(count - __reduce_add_sync(~0U, above));
    inside = __reduce_add_sync(~0U, inside);
    fits = __all_sync(~0U, fits) != 0;
    Choice out{Choice::kNotHere, need, inside, 0, 0, 0};
    if (need < 0 || need > static_cast<int32_t>(inside)) return out;
    if (need == 0 || need == static_cast<int32_t>(inside) || equals()) {
      out.how = Choice::kByIndex;
    } else if (fits) {
      out.how = Choice::kByRank;
    }
    return out;
  }
  /// By one warp, the bin of the last one taken; not here if too many share it.
  __device__ void find(Choice& choice) const {
    const uint4 four = reinterpret_cast<const uint4*>(shared_.bins)[31 - lane_];
    const uint32_t own[4] = {four.w, four.z, four.y, four.x};
    const auto need = static_cast<uint32_t>(choice.need);
    const Place place = Place::of(own, need);
    if (place.inside > kMostTies) choice.how = Choice::kNotHere;
    choice.bin = place.bin;
    choice.tied = place.inside;
    choice.taken = need - place.above;
  }
  __device__ static uint32_t sum_of_halves(const uint4& of) {
    const uint32_t sum = of.x + of.y + of.z + of.w;  // no half overflows: 512 values a run
    return (sum & 0xffffU) + (sum >> 16);
  }

  /// visit(entry) for this thread's share of what all CTAs found in the bracket.
  template <class Visit>
  __device__ void each_entry(Visit visit) const {
    const Found* const from = found(warp_ & (ctas_ - 1));
    const int32_t listed = min(static_cast<int32_t>(from->listed), capacity_);
#pragma unroll 1
    for (int32_t i = (warp_ >> args_.log2_ctas) * 32 + lane_; i < listed;
         i += kThreads >> args_.log2_ctas) {
      visit(from->entries()[i]);
    }
  }

  /// By each warp: finds the last of the ties that are taken, and counts those before its run.
  __device__ void rank_ties() {
    const auto count = static_cast<int>(choice_.tied);
    ties_before_ = 0;
#pragma unroll 1
    for (int base = 0; base < count; base += 32) {
      const bool own = base + lane_ < count;
      const Entry mine = shared_.ties[own ? base + lane_ : 0];
      uint32_t before = 0;
#pragma unroll 1
      for (int i = 0; i < count; i += 4) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {  // there are kMostTies places, a multiple
          before += (i + j < count) & shared_.ties[i + j].beats(mine) ? 1 : 0;
        }
      }
      const uint32_t last = __ballot_sync(~0U, own && before == choice_.taken - 1);
      if (last != 0) {
        const int from = __ffs(static_cast<int>(last)) - 1;
        last_ = {__shfl_sync(~0U, mine.key, from), __shfl_sync(~0U, mine.index, from)};
      }
      const bool earlier = static_cast<int32_t>(mine.index) < own_.begin();
      ties_before_ += static_cast<uint32_t>(
          __popc(__ballot_sync(~0U, own && before < choice_.taken && earlier)));
    }
  }

  /// Where bins are to begin when the bracket did not hold: about it, or if too much was in it, in
  /// it.
  __device__ Bracket wider() const {
    constexpr uint32_t kMostSpan = 1U << 27;
    if (choice_.need >= 0 && choice_.need <= static_cast<int32_t>(choice_.inside)) {
      return {bracket_.low, ~0U, bracket_.shift};
    }
    const uint32_t span = min(max(span_, 1U), kMostSpan);
    const uint32_t low = bracket_.low - min(bracket_.low, 6 * span);
    return {low, ~0U, Bracket::shift_of_span(16 * span)};
  }

  __device__ void put(const Output& output, uint32_t above, uint32_t inside) const {
    const bool ranked = choice_.how == Choice::kByRank;
    uint32_t above_before = 0;
    uint32_t inside_before = 0;
    const int32_t cta = lane_ / 2;
    if (cta < ctas_) {
      // Of the eight warps that this lane counts, those whose run is before this one's.
      const int32_t runs = warp_ - lane_ % 2 * 8 + (cta < rank_ ? 1 : 0);
      const auto first = [runs](uint4 of) {
        const auto part = [runs](uint32_t two, int at) {
          return runs > at + 1 ? two : runs > at ? two & 0xffffU : 0;
        };
        return sum_of_halves({part(of.x, 0), part(of.y, 2), part(of.z, 4), part(of.w, 6)});
      };
      const Found* const from = found(cta);
      above_before = first(reinterpret_cast<const uint4*>(from->above)[lane_ % 2]);
      if (!ranked) inside_before = first(reinterpret_cast<const uint4*>(from->inside)[lane_ % 2]);
    }
    above_before = __reduce_add_sync(~0U, above_before);
    uint32_t take = above;
    if (ranked) {
      above_before += ties_before_;
      Run::each(inside, [&](int bit) { take |= !last_.beats(own_.entry(bit)) ? 1U << bit : 0; });
      __syncwarp();
    } else {
      inside_before = __reduce_add_sync(~0U, inside_before);
      const auto need = static_cast<uint32_t>(choice_.need);
      const Places places = Places::of(inside, lane_);
      Run::each(inside,
                [&](int bit) { take |= inside_before + places.at(bit) < need ? 1U << bit : 0; });
      __syncwarp();
      above_before += min(inside_before, need);
    }
    const Places places = Places::of(take, lane_);
    Run::each(take, [&](int bit) {
      output.put(static_cast<int32_t>(above_before + places.at(bit)), own_.index(bit));
    });
  }

  const TopKArgs& args_;
  ResidentShared& shared_;
  int32_t ctas_;
  int32_t rank_;
  int32_t thread_;
  int32_t warp_;
  int32_t lane_;
  int32_t run_;       ///< of the warp: they are dealt out to CTAs in turn
  int32_t capacity_;  ///< values in the bracket that a CTA may have
  Run own_;
  Bracket bracket_{};
  uint32_t span_ = 0;  ///< of the guesses
  Choice choice_{};
  Entry last_{};              ///< that is taken, by rank
  uint32_t ties_before_ = 0;  ///< taken ones of its bin in earlier runs
};

}  // namespace foveal::kernels::cuda::top_k
