#include "attention/latent.h"

#include "base/check.h"

namespace foveal::attention {

void attend_latent(const AttendArgs& args, const kernels::TokenSets* sets, Stream& stream) {
  FOVEAL_INVARIANT(args.activation == DType::kF32 && args.kv.value_dim > 0);
  kernels::latent_attention({.q = static_cast<const float*>(args.q),
                             .out = static_cast<float*>(args.out),
                             .q_stride = args.q_stride,
                             .out_stride = args.out_stride,
                             .num_heads = args.num_heads,
                             .kv = args.kv,
                             .seqs = args.seqs,
                             .sets = sets,
                             .softmax_scale = args.softmax_scale,
                             .counters = args.counters,
                             .exact = args.exact},
                            stream);
}

}  // namespace foveal::attention
