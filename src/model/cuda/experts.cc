#include "model/cuda/experts.h"

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/moe.h"

namespace foveal::model {
namespace {

namespace cuda = kernels::cuda;

void choose_experts(const DeviceExperts& experts, const ModelConfig& config, const StepRows& rows,
                    const DecoderScratch& scratch, Products& products, Stream& stream) {
  products.run(experts.router, scratch.normed, scratch.router, rows, stream);
  cuda::moe_route({.logits = scratch.router,
                   .m = rows.total,
                   .logits_stride = Products::f32_stride(experts.router),
                   .num_experts = config.num_experts,
                   .k = config.experts_per_token,
                   .normalize = config.norm_topk_prob,
                   .indices = scratch.expert_ids,
                   .weights = scratch.expert_weights,
                   .sigmoid = config.router.sigmoid,
                   .bias = experts.bias.empty() ? nullptr : experts.bias.f32(),
                   .num_groups = config.router.num_groups,
                   .topk_groups = config.router.topk_groups,
                   .scale = static_cast<float>(config.router.scale)},
                  stream);
  cuda::moe_sort({.indices = scratch.expert_ids,
                  .num_slots = rows.total * config.experts_per_token,
                  .num_experts = config.num_experts,
                  .offsets = scratch.expert_offsets,
                  .slots = scratch.expert_slots},
                 stream);
}

void run_shared(const DeviceExperts& experts, const ModelConfig& config, const StepRows& rows,
                const DecoderScratch& scratch, Products& products, Stream& stream) {
  if (experts.shared_down.weight.empty()) return;
  products.run_gated(experts.shared_gate_up, scratch.normed, scratch.gate_up, scratch.act,
                     config.activation, rows, stream);
  products.add(experts.shared_down, scratch.act, /*alpha=*/1, scratch.hidden, rows, stream);
}

}  // namespace

void run_experts(const DeviceExperts& experts, const ModelConfig& config, const StepRows& rows,
                 const DecoderScratch& scratch, Products& products, Stream& stream) {
  const int64_t hidden = config.hidden_size;
  const int64_t width = config.moe_intermediate_size;
  const int64_t num_slots = rows.total * config.experts_per_token;
  run_shared(experts, config, rows, scratch, products, stream);
  choose_experts(experts, config, rows, scratch, products, stream);
  cuda::GroupedGemmParams gemm{
      .x = scratch.normed,
      .weight = experts.gate_up.bf16(),
      .y = scratch.gate_up,
      .offsets = scratch.expert_offsets,
      .slots = scratch.expert_slots,
      .num_slots = num_slots,
      .num_experts = config.num_experts,
      .x_divisor = config.experts_per_token,
      .n = 2 * width,
      .k = hidden,
      .x_stride = hidden,
      .y_stride = 2 * width,
      .route = products.batch_invariant() ? cuda::GemmRoute::kLibrary : cuda::GemmRoute::kAuto};
  cuda::grouped_gemm(gemm, stream);
  cuda::act_mul({.gate_up = scratch.gate_up,
                 .y = scratch.act,
                 .m = num_slots,
                 .n = width,
                 .x_stride = 2 * width,
                 .y_stride = width,
                 .act = config.activation},
                stream);
  gemm.x = scratch.act;
  gemm.weight = experts.down.bf16();
  gemm.y = scratch.expert_out;
  gemm.x_divisor = 1;
  gemm.n = hidden;
  gemm.k = width;
  gemm.x_stride = width;
  gemm.y_stride = hidden;
  cuda::grouped_gemm(gemm, stream);
  cuda::moe_combine({.y = scratch.expert_out,
                     .weights = scratch.expert_weights,
                     .out = scratch.hidden,
                     .m = rows.total,
                     .n = hidden,
                     .k = config.experts_per_token,
                     .y_stride = hidden,
                     .out_stride = hidden,
                     .accumulate = true,
                     .alpha = static_cast<float>(config.residual_multiplier)},
                    stream);
}

}  // namespace foveal::model
