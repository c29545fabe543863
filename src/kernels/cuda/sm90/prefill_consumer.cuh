#pragma once

#include "kernels/cuda/sm90/prefill_warpgroup.cuh"

namespace foveal::cuda {

/// Dense: while the tensor cores multiply the next tile's Q K^T and the last one's P V, the other
/// warpgroups compute their exponentials: they take turns in issuing products.
template <class Traits>
struct PrefillConsumer : PrefillWarpgroup<Traits> {
  using Base = PrefillWarpgroup<Traits>;
  using Base::args, Base::item, Base::k_ring, Base::kSteps, Base::o, Base::shared, Base::softmax,
      Base::v_ring;
  using Base::Base;
  using Element = typename Traits::Element;
  /// Steps whose probabilities come before the last output is complete.
  static constexpr int kEarly = Traits::kEarlySteps;

  float s[Base::kScores];
  uint32_t p[kSteps][4];

  __device__ void run() {
    this->each_item([this] { compute(); });
  }

  __device__ void compute() {
    softmax = RunningSoftmax{};
#pragma unroll
    for (float& x : o) x = 0;
    const auto whole = this->whole_tiles();
    this->wait_queries();
    int32_t tile = item.first_tile;
    first_tile(tile, !whole.contain(tile));
    ++tile;
    // Masked tiles at the window's edge, whole ones, masked ones at the diagonal.
#pragma unroll 1
    for (int pass = 0; pass < 2; ++pass) {
      const int32_t masked_end = pass == 0 ? min(whole.begin, item.end_tile) : item.end_tile;
      const int32_t whole_end = pass == 0 ? min(whole.end, item.end_tile) : item.end_tile;
#pragma unroll 1
      for (; tile < masked_end; ++tile) step<true>(tile);
#pragma unroll 1
      for (; tile < whole_end; ++tile) step<false>(tile);
    }
    this->release_queries();
    last_product();
    this->write();
  }

  __device__ void first_tile(int32_t tile, bool masked) {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    this->issue_scores(s);
    wgmma_wait<0>();
    registers_fence(s);
    this->hand_back_keys();
    if (masked) this->mask(s, tile);
    float top[2];
    float alpha[2];
    RunningSoftmax::lane_max(s, top);
    softmax.move(TileSum{}, top, args.scale_log2, alpha);
    exponentiate_tile();
  }

  /// Issues the scores of the next tile and beside them the output of the last one.
  __device__ void issue_both() {
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    this->wait_turn();
    this->issue_scores(s);
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    this->issue_output(p);
    this->give_turn();
  }

  /// No maxima: a tile whose sums stay small under the present reference needs none (a maximum
  /// takes twice as long while products run). The first probabilities come while the last output
  /// is under way, and with it what it reads.
  template <bool kMasked>
  __device__ void step(int32_t tile) {
    issue_both();
    paired_softmax<kMasked>(tile);
  }

  /// What stands beside and behind the two products, scores first.
  template <bool kMasked>
  __device__ void paired_softmax(int32_t tile) {
    wgmma_wait<1>();
    registers_fence(s);
    this->hand_back_keys();
    if constexpr (kMasked) this->mask(s, tile);
    uint32_t early[kEarly][4];
    TileSum sum;
    softmax.template exponentiate<Element, 0, kEarly>(s, args.scale_log2, early, sum);
    const bool early_asks = softmax.warp_asks(sum);
    finish_output(early_asks);
#pragma unroll
    for (int i = 0; i < kEarly; ++i) {
#pragma unroll
      for (int c = 0; c < 4; ++c) p[i][c] = register_move(early[i][c]);
    }
    softmax.template exponentiate<Element, kEarly, kSteps>(s, args.scale_log2, p, sum);
    if (early_asks || softmax.warp_asks(sum)) {
      float top[2];
      RunningSoftmax::lane_max(s, top);
      move_reference(sum, top);
      exponentiate_tile();
    } else {
      softmax.add(sum);
    }
  }

  __device__ void exponentiate_tile() {
    TileSum sum;
    softmax.template exponentiate<Element, 0, kSteps>(s, args.scale_log2, p, sum);
    softmax.add(sum);
  }

  /// While no product runs.
  template <class Tile>
  __device__ void move_reference(const Tile& tile, const float (&top)[2]) {
    float alpha[2];
    softmax.move(tile, top, args.scale_log2, alpha);
#pragma unroll
    for (int i = 0; i < Base::kOut; ++i) o[i] *= alpha[i % 4 / 2];
  }

  /// Ends the product that runs beside the softmax. The waits are in branches of their own because
  /// the assembler would move a wait to the start of its block.
  __device__ void finish_output(bool rare) {
    if (rare) {
      wgmma_wait<0>();
      registers_fence(o);
    } else {
      wgmma_wait<0>();
      registers_fence(o);
    }
    this->hand_back_values();
  }

  __device__ void last_product() {
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    this->issue_output(p);
    wgmma_wait<0>();
    registers_fence(o);
    this->hand_back_values();
  }
};

}  // namespace foveal::cuda
