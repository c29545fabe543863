#pragma once

#include "kernels/cuda/device/wgmma.cuh"
#include "kernels/cuda/sm90/prefill_e4m3_traits.cuh"
#include "kernels/cuda/sm90/prefill_votes.cuh"

namespace foveal::cuda {

/// One warpgroup: 64 query rows. As PrefillConsumer, with two differences. Probabilities are
/// rounded to e4m3 2^kShift times as large, since e4m3 has few values below 2^-6; the accumulators
/// of the scores are the fragments of the second product as they stand, because V's keys lie in the
/// order that this gives. And the tensor cores' sum is short: `o` holds that of a few tiles, the
/// others' is in shared memory.
template <class Traits>
struct E4m3Consumer : PrefillVotes<Traits> {
  using Base = PrefillVotes<Traits>;
  using Base::args, Base::group, Base::lane, Base::shared, Base::k_ring, Base::v_ring, Base::slot,
      Base::o, Base::softmax, Base::item;
  using Base::Base;

  /// Probabilities reach 2^(kShift + kSlack) = 430, and e4m3 448.
  static constexpr float kShift = 7;
  static constexpr float kSlack = 1.75F;

  float s[Base::kScores];
  bool pending;  ///< fragments wait for their product with V
  uint32_t fragments[Traits::kKeys / 32][4];
  float kept_scale[2];  ///< of the sum in shared memory, by row
  int32_t tiles_in_o;   ///< since the last set_aside; below 0: none at all, see start_counting

  __device__ void run() {
    if (group == Traits::kWarpgroups - 1) this->give_turn();
    for (;;) {
      barrier_wait(&shared.item_full[slot.stage], slot.parity);
      item = shared.items[slot.stage];
      if (item.seq < 0) return;
      compute();
      item = shared.items[slot.stage];  // again: registers are short meanwhile
      __syncwarp();
      if (lane == 0) barrier_arrive(&shared.item_empty[slot.stage]);
      slot.next();
      this->write();
      if constexpr (Traits::kCount) this->flush_counts();
    }
  }

  __device__ void compute() {
    softmax.begin_by_base();
    start_counting();
    kept_scale[0] = kept_scale[1] = 1;
#pragma unroll
    for (int i = 0; i < Traits::kOutputs; i += 4) kept_sum()[i * 8] = {};
    this->begin_votes();
    const auto whole = this->whole_tiles();
    barrier_wait(&shared.q_full[q_stage()], q_parity());
    int32_t tile = item.first_tile;
    first_tile(tile, !whole.contain(tile));
    ++tile;
    pending = true;
#pragma unroll 1
    for (; tile < item.end_tile; ++tile) next_tile(tile, !whole.contain(tile));
    if (lane == 0) barrier_arrive(&shared.q_empty[q_stage()]);
    if (!Traits::kSkip || pending) last_product();
    finish();
  }

  /// Items and queries take turns together.
  __device__ int q_stage() const { return Traits::kQueryStages == 1 ? 0 : slot.stage; }
  __device__ uint32_t q_parity() const {
    return Traits::kQueryStages == 1 ? static_cast<uint32_t>(slot.stage) : slot.parity;
  }

  __device__ void issue_scores() {
    const uint64_t queries = narrow_descriptor(smem_address(shared.q[q_stage()][group]), 8 * 32);
    const uint64_t keys =
        narrow_descriptor(smem_address(shared.k[k_ring.stage]), 8 * Traits::kHeadDim);
    registers_fence(s);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Traits::kHeadDim / 32; ++step) {
      Wgmma<E4m3, Traits::kKeys>::ss(s, advance(queries, step * Traits::kQueryBlockBytes),
                                     advance(keys, step * 8 * 32), step > 0);
    }
    wgmma_commit();
  }

  __device__ void issue_output() {
    const uint64_t values = narrow_descriptor(smem_address(shared.v[v_ring.stage]), 8 * 32);
    registers_fence(o);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Traits::kKeys / 32; ++step) {
      Wgmma<E4m3, Traits::kProductChannels>::rs(o, fragments[step],
                                                advance(values, step * Traits::kValueBlockBytes),
                                                step > 0 || tiles_in_o >= 0);
    }
    wgmma_commit();
    tiles_in_o = tiles_in_o < 0 ? -tiles_in_o : tiles_in_o + 1;
  }

  /// A sum from zero starts where others are at a third of their way: at key 0, and from there on
  /// sums end at absolute keys, so that no row's result depends on where its block begins.
  __device__ void start_counting() {
    constexpr int32_t kTiles = Traits::kExactTiles;
    tiles_in_o = -1 - (item.first_tile + kTiles / 3) % kTiles;
  }

  __device__ void pack_fragments() {
#pragma unroll
    for (int step = 0; step < Traits::kKeys / 32; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = step * 16 + i / 2 * 8 + i % 2 * 2;
        fragments[step][i] = pack_e4m3(s[at], s[at + 1], s[at + 4], s[at + 5]);
      }
    }
  }

  __device__ bool admit(const float (&top)[2], float (&alpha)[2]) {
    return softmax.admit(top, args.scale_log2, kShift, kShift + kSlack, alpha);
  }

  /// Scores to probabilities; without a channel of ones also their sum.
  __device__ void exponentiate() {
#pragma unroll
    for (int i = 0; i < Base::kScores; ++i) {
      s[i] = exp2_approx(fmaf(s[i], args.scale_log2, -softmax.base[i % 4 / 2]));
      if constexpr (!Traits::kOnes) softmax.sum[i % 4 / 2] += s[i];
    }
  }

  __device__ void rescale(const float (&alpha)[2]) {
#pragma unroll
    for (int i = 0; i < Traits::kOutputs; ++i) o[i] *= alpha[i % 4 / 2];
    kept_scale[0] *= alpha[0];
    kept_scale[1] *= alpha[1];
  }

  /// [fours of accumulators][lanes].
  __device__ float4* kept_sum() {
    return reinterpret_cast<float4*>(shared.staging[threadIdx.x / 32 - 4]) + lane;
  }

  /// With accumulators i to i + 3: a pair of each row.
  __device__ float4 kept_and_own(int i) {
    const float4 sum = kept_sum()[i * 8];
    return {fmaf(sum.x, kept_scale[0], o[i]), fmaf(sum.y, kept_scale[0], o[i + 1]),
            fmaf(sum.z, kept_scale[1], o[i + 2]), fmaf(sum.w, kept_scale[1], o[i + 3])};
  }

  /// `o` becomes its own opposite half, and the rest goes to shared memory. So a sum that grows
  /// evenly is never larger than two thirds of what it gains between, and what the tensor cores cut
  /// of a product goes by the sum's size; of a row whose weight lies in a few keys, the sum that
  /// would cut all others halves each time.
  /// The warpgroup's, from shared memory: registers are short.
  __device__ int32_t first_row() const { return shared.items[slot.stage].position + group * 64; }

  /// With kEnds, rows that see nothing from `tile` on keep what they have: how many tiles their
  /// block goes on for must not reach their last bit.
  template <bool kEnds>
  __device__ void set_aside(int32_t tile) {
    constexpr float kBack = 0.5F;
    const int32_t row = first_row() + this->thread / 32 * 16 + lane / 4;
    const bool ended[2] = {kEnds && row < tile * Traits::kKeys,
                           kEnds && row + 8 < tile * Traits::kKeys};
#pragma unroll
    for (int i = 0; i < Traits::kOutputs; i += 4) {
      float4 sum = kept_and_own(i);
      sum.x += kBack * o[i];
      sum.y += kBack * o[i + 1];
      sum.z += kBack * o[i + 2];
      sum.w += kBack * o[i + 3];
      if constexpr (kEnds) {
        const float4 before = kept_sum()[i * 8];
        if (ended[0]) sum.x = before.x, sum.y = before.y;
        if (ended[1]) sum.z = before.z, sum.w = before.w;
      }
      kept_sum()[i * 8] = sum;
    }
#pragma unroll
    for (int i = 0; i < Traits::kOutputs; ++i) o[i] *= ended[i % 4 / 2] ? 1 : -kBack;
#pragma unroll
    for (int r = 0; r < 2; ++r) kept_scale[r] = ended[r] ? kept_scale[r] : 1;
    tiles_in_o = 0;
  }

  /// Ends the product that runs beside the softmax; as PrefillConsumer::finish_output.
  __device__ void finish_output(int32_t tile, bool grown, const float (&alpha)[2]) {
    if (grown) {
      wgmma_wait<0>();
      registers_fence(o);
      rescale(alpha);
    } else {
      wgmma_wait<0>();
      registers_fence(o);
    }
    this->hand_back_values();
    if (tiles_in_o == Traits::kExactTiles) {
      if (first_row() < tile * Traits::kKeys) {
        set_aside<true>(tile);
      } else {
        set_aside<false>(tile);
      }
    }
  }

  __device__ void first_tile(int32_t tile, bool masked) {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    issue_scores();
    wgmma_wait<0>();
    registers_fence(s);
    this->hand_back_keys();
    if (masked) this->mask(s, tile);
    float top[2];
    float alpha[2];
    RunningSoftmax::lane_max(s, top);
    if constexpr (Traits::kCount) this->count(tile, true);
    admit(top, alpha);
    if constexpr (Traits::kSkip) this->note_kept(top);
    exponentiate();
    pack_fragments();
  }

  template <int kPending>
  __device__ void take_scores(int32_t tile, bool masked, float (&top)[2]) {
    wgmma_wait<kPending>();
    registers_fence(s);
    this->hand_back_keys();
    if (masked) this->mask(s, tile);
    RunningSoftmax::lane_max(s, top);
  }

  __device__ void next_tile(int32_t tile, bool masked) {
    if constexpr (Traits::kSkip) {
      pending = pending ? step(tile, masked) : step_after_dropped(tile, masked);
    } else {
      step(tile, masked);
    }
  }

  __device__ bool step(int32_t tile, bool masked) {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    this->wait_turn();
    issue_scores();
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    issue_output();
    this->give_turn();
    float top[2];
    take_scores<1>(tile, masked, top);
    float alpha[2] = {1, 1};
    if constexpr (Traits::kSkip) {
      if (this->drops(tile, top)) {
        finish_output(tile, false, alpha);
        this->pass_over_values();
        return false;
      }
    }
    const bool grown = admit(top, alpha);
    finish_output(tile, grown, alpha);
    exponentiate();
    if constexpr (Traits::kSkip) this->note_kept(top);
    pack_fragments();
    return true;
  }

  __device__ bool step_after_dropped(int32_t tile, bool masked) {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    this->wait_turn();
    issue_scores();
    this->give_turn();
    float top[2];
    take_scores<0>(tile, masked, top);
    if (this->drops(tile, top)) {
      this->pass_over_values();
      return false;
    }
    float alpha[2];
    if (admit(top, alpha)) rescale(alpha);
    exponentiate();
    this->note_kept(top);
    pack_fragments();
    return true;
  }

  __device__ void last_product() {
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    issue_output();
    wgmma_wait<0>();
    registers_fence(o);
    this->hand_back_values();
  }

  /// The whole sum, without the shift.
  __device__ void finish() {
    if (tiles_in_o < 0) {
#pragma unroll
      for (float& value : o) value = 0;
    }
    constexpr float kBack = 1.0F / (1 << static_cast<int>(kShift));
#pragma unroll
    for (int i = 0; i < Traits::kOutputs; i += 4) {
      const float4 sum = kept_and_own(i);
      o[i] = sum.x * kBack;
      o[i + 1] = sum.y * kBack;
      o[i + 2] = sum.z * kBack;
      o[i + 3] = sum.w * kBack;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      // Of the four lanes of a row one has the channel of ones, the others those of zeros.
      if constexpr (Traits::kOnes) softmax.sum[r] = o[Base::kOut + 2 * r];
      if constexpr (!Traits::kOnes) softmax.sum[r] *= kBack;
      softmax.reference[r] = (softmax.base[r] + kShift) / args.scale_log2;
    }
    __syncwarp();  // the sums are read before the output takes their place
  }
};

template <int kHeadDim, int kCluster, bool kSkip, bool kCount>
struct PrefillRoles<E4m3Traits<kHeadDim, kCluster, kSkip, kCount>> {
  using Traits = E4m3Traits<kHeadDim, kCluster, kSkip, kCount>;
  __device__ static void prepare(PrefillShared<Traits>& shared) {
    if constexpr (Traits::kOnes) {
      // Rows of 32 keys: one of ones, and seven of zeros.
      constexpr uint32_t kOne = 0x38383838;
      for (int i = static_cast<int>(threadIdx.x);
           i < Traits::kValueStages * Traits::kKeys / 32 * 64; i += Traits::kThreads) {
        const int block = i / 64;
        uint8_t* rows = shared.v[0] + (block + 1) * Traits::kValueBlockBytes - 256;
        reinterpret_cast<uint32_t*>(rows)[i % 64] = i % 64 < 8 ? kOne : 0;
      }
      async_proxy_fence();
    }
  }

  __device__ static void consume(PrefillShared<Traits>& shared, const PrefillArgs& args,
                                 int group) {
    E4m3Consumer<Traits>(shared, args, group).run();
  }
};

}  // namespace foveal::cuda
