#include "kernels/cuda/sm90/prefill_launch.cuh"

#include "kernels/cuda/sm90/prefill_vote_consumer.cuh"

namespace foveal::cuda {
namespace {

template <class Element, int kHeadDim>
cudaError_t vote_launch(const PrefillChoice& /*choice*/, const PrefillArgs& args,
                        const PrefillMaps& maps, int32_t num_sms, cudaStream_t stream) {
  return prefill_launch<VoteTraits<Element, kHeadDim>>(args, maps, num_sms, stream);
}

template <class Element>
PrefillLaunch find_launch(int32_t head_dim) {
  switch (head_dim) {
    case 64:
      return vote_launch<Element, 64>;
    case 96:
      return vote_launch<Element, 96>;
    case 128:
      return vote_launch<Element, 128>;
    case 192:
      return vote_launch<Element, 192>;
    default:
      return vote_launch<Element, 256>;
  }
}

}  // namespace

PrefillLaunch find_prefill_vote_launch(int32_t head_dim, bool f16) {
  return f16 ? find_launch<F16>(head_dim) : find_launch<Bf16>(head_dim);
}

}  // namespace foveal::cuda
