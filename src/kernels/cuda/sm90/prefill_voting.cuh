#pragma once

#include "kernels/cuda/sm90/prefill_votes.cuh"

namespace foveal::cuda {

/// Skip Softmax. In a warpgroup everything is one after the other: scores, their vote, the
/// probabilities in the registers of the scores, their product with V. So there is room for three
/// warpgroups, each in another part of a tile: whether a tile's second product comes is not known
/// in time to pair it with another one. They take turns in issuing scores only.
template <class Traits>
struct VotingConsumer : PrefillVotes<Traits> {
  using Base = PrefillVotes<Traits>;
  using Base::args, Base::item, Base::k_ring, Base::kScores, Base::kSteps, Base::o, Base::shared,
      Base::softmax, Base::v_ring;
  using Base::Base;
  using Element = typename Traits::Element;

  bool owed;  ///< V of the last tile, which was dropped, is still to be handed back

  __device__ void run() {
    this->each_item([this] { compute(); });
  }

  __device__ void compute() {
    softmax.begin_by_base();
#pragma unroll
    for (float& x : o) x = 0;
    this->begin_votes();
    owed = false;
    const auto whole = this->whole_tiles();
    this->wait_queries();
#pragma unroll 1
    for (int32_t tile = item.first_tile; tile < item.end_tile; ++tile) {
      step(tile, !whole.contain(tile));
    }
    this->release_queries();
    if (owed) this->pass_over_values();
    softmax.reference_from_base(args.scale_log2);
    this->write();
    if constexpr (Traits::kCount) this->flush_counts();
  }

  __device__ void step(int32_t tile, bool masked) {
    float s[kScores];
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    this->wait_turn();
    this->issue_scores(s);
    this->give_turn();
    if (owed) this->pass_over_values();
    wgmma_wait<0>();
    registers_fence(s);
    this->hand_back_keys();
    if (masked) this->mask(s, tile);
    float top[2];
    this->lane_tops(s, top);
    owed = tile != item.first_tile && this->vote(top);
    if constexpr (Traits::kCount) this->count(tile, !owed);
    if (owed) return;
    float alpha[2];
    if (softmax.admit(top, args.scale_log2, 0, RunningSoftmax::kSlack, alpha)) {
#pragma unroll
      for (int i = 0; i < Base::kOut; ++i) o[i] *= alpha[i % 4 / 2];
    }
    uint32_t p[kSteps][4];
    softmax.template exponentiate<Element, 0, kSteps>(s, args.scale_log2, p, softmax);
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    this->issue_output(p);
    this->note_kept(top);
    wgmma_wait<0>();
    registers_fence(o);
    this->hand_back_values();
  }
};

}  // namespace foveal::cuda
