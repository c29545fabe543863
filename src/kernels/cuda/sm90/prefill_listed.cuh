#pragma once

#include "kernels/cuda/sm90/prefill_consumer.cuh"

namespace foveal::cuda {

/// Dense attention over a list of tiles: the product P V of one kept tile beside Q K^T of the next
/// kept one. A warpgroup passes over tiles that only others keep. What becomes of a row depends on
/// its own unit's tiles alone, whatever partner a product found.
template <class Traits>
struct ListedConsumer : PrefillConsumer<Traits> {
  using Base = PrefillConsumer<Traits>;
  using Base::args, Base::item, Base::k_ring, Base::kSteps, Base::lane, Base::o, Base::p, Base::s,
      Base::shared, Base::softmax, Base::v_ring;
  using Base::Base;
  using Element = typename Traits::Element;
  static constexpr uint32_t kEverybody = (1U << Traits::kWarpgroups) - 1;
  /// Values of others' tiles that may wait behind a product without a partner: more would take all
  /// stages, and nobody's keys could come.
  static constexpr int kMostOwed = Traits::kValueStages - 1;

  PrefillEntry entry, next;
  bool waiting;  ///< the last kept tile's product P V
  int owed;      ///< values of others' tiles behind it, still to be handed back

  __device__ void run() {
    this->each_item([this] { compute(); });
  }

  __device__ void compute() {
    softmax = RunningSoftmax{};
#pragma unroll
    for (float& x : o) x = 0;
    const auto whole = this->whole_tiles();
    this->wait_queries();
    waiting = false;
    owed = 0;
    next = item.first;
    bool fresh = true;
    while (find()) {
      const bool masked = !whole.contain(entry.tile());
      if (!waiting) {
        alone(fresh, masked);
      } else if (masked) {
        step_masked();
      } else {
        steps(whole);
      }
      fresh = false;
      waiting = true;
    }
    if (waiting) catch_up();
    this->write();
    // Copies of queries come behind what was written to these.
    async_proxy_fence();
    __syncwarp();
    this->release_queries();
  }

  __device__ bool kept(PrefillEntry of) const {
    return of.exists() && (of.wants() >> this->group & 1) != 0;
  }

  /// The next entry, whose keys are there then.
  __device__ void take() {
    entry = next;
    barrier_wait(&shared.k_full[k_ring.stage], k_ring.parity);
    const uint32_t packed = shared.following[k_ring.stage].packed;
    // Lane 0 hands the stage back for all of them: not before all have read.
    __syncwarp();
    next.packed = __shfl_sync(~0U, packed, 0);
  }

  /// Takes entries up to the next that this warpgroup keeps. False at the list's end.
  __device__ bool find() {
    while (next.exists()) {
      take();
      if (kept(entry)) return true;
      this->hand_back_keys();
      if (waiting && owed < kMostOwed) {
        ++owed;
        continue;
      }
      if (waiting) catch_up();
      pass_over_values();
    }
    return false;
  }

  __device__ void pass_over_values() {
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    this->hand_back_values();
  }

  __device__ void pay() {
    for (; owed > 0; --owed) pass_over_values();
  }

  /// The waiting product, by itself.
  __device__ void catch_up() {
    this->last_product();
    pay();
    waiting = false;
  }

  /// Warpgroups take turns in issuing products for tiles that all of them keep.
  __device__ bool in_turn() const { return entry.wants() == kEverybody; }

  __device__ void issue_pair() {
    if (in_turn()) this->wait_turn();
    this->issue_scores(s);
    barrier_wait(&shared.v_full[v_ring.stage], v_ring.parity);
    this->issue_output(p);
    if (in_turn()) this->give_turn();
  }

  __device__ void step_masked() {
    issue_pair();
    this->template paired_softmax<true>(entry.tile());
    pay();
  }

  /// Whole tiles as long as one follows the other: the usual. Whether another one comes is settled
  /// while products run, for every instruction between two tiles counts.
  __device__ void steps(const typename Base::Tiles& whole) {
#pragma unroll 1
    for (;;) {
      issue_pair();
      const bool follows = kept(next) && whole.contain(next.tile()) && owed == 0;
      const uint32_t on = register_move(static_cast<uint32_t>(follows));
      this->template paired_softmax<false>(entry.tile());
      if (on == 0) break;
      take();
    }
    pay();
  }

  /// A tile whose scores have no partner: the first, or one after a product that could not wait.
  __device__ void alone(bool fresh, bool masked) {
    if (in_turn()) this->wait_turn();
    this->issue_scores(s);
    if (in_turn()) this->give_turn();
    wgmma_wait<0>();
    registers_fence(s);
    this->hand_back_keys();
    if (masked) this->mask(s, entry.tile());
    TileSum sum;
    if (!fresh) softmax.template exponentiate<Element, 0, kSteps>(s, args.scale_log2, p, sum);
    if (softmax.warp_asks(sum)) {
      float top[2];
      RunningSoftmax::lane_max(s, top);
      this->move_reference(sum, top);
      this->exponentiate_tile();
    } else {
      softmax.add(sum);
    }
  }
};

template <class Element, int kHeadDim>
struct PrefillRoles<ListedTraits<Element, kHeadDim>> {
  using Traits = ListedTraits<Element, kHeadDim>;
  __device__ static void prepare(PrefillShared<Traits>& /*shared*/) {}
  __device__ static void consume(PrefillShared<Traits>& shared, const PrefillArgs& args,
                                 int group) {
    ListedConsumer<Traits>(shared, args, group).run();
  }
};

}  // namespace foveal::cuda
