#include "kernels/cuda/prefill_vote.h"

#include "device/cuda/check.h"
#include "device/cuda/properties.h"
#include "kernels/cuda/attention_check.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/prefill_vote_keys.h"

namespace foveal::kernels::cuda {
namespace {

using foveal::cuda::PrefillArgs;
using foveal::cuda::PrefillMaps;
using Params = foveal_attention_params;

constexpr std::string_view kWhere = "prefill_vote";

VoteKeysParams vote_keys(const Params& p, const VoteScratch& scratch) {
  ExpandCacheParams cache = cached_keys(p);
  cache.starts = scratch.starts;
  cache.unit = 128;
  cache.rows = scratch.rows;
  cache.k_out = scratch.keys;
  std::byte* const behind = scratch.keys + scratch.rows * p.num_kv_heads * p.head_dim;
  return {.cache = cache, .scales = reinterpret_cast<float*>(behind)};
}

}  // namespace

void prefill_vote(const Params& call, const VoteScratch& scratch,
                  const foveal::cuda::KeptTiles& kept, void* stream) {
  const VoteKeysParams keys = vote_keys(call, scratch);
  const bool f16 = call.q_dtype == FOVEAL_F16;
  vote_keys_launch(keys, f16, stream);

  const auto& properties = foveal::cuda::device_properties(usable_device(kWhere));
  PrefillArgs args = prefill_args(call, 0, 0, properties.l2_bytes);
  args.page_table = nullptr;
  args.cu_k = scratch.starts;
  args.k_tiles = reinterpret_cast<const uint8_t*>(scratch.keys);
  args.tiles_head_bytes = scratch.rows * call.head_dim;
  args.key_scales = keys.scales;
  args.kept = kept;
  args.next_item = scratch.counter;
  PrefillMaps maps;
  maps.q = prefill_query_map(call);
  maps.k = maps.v = maps.q;  // keys are copied without one
  const auto launch = foveal::cuda::find_prefill_vote_launch(call.head_dim, f16);
  foveal::cuda::check_launch(
      launch({}, args, maps, properties.num_sms, static_cast<cudaStream_t>(stream)),
      "prefill_vote");
}

}  // namespace foveal::kernels::cuda
