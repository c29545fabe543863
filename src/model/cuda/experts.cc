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
  if (experts.shared_down.empty()) return;
  products.run_gated(experts.shared_gate_up, scratch.normed, scratch.gate_up, scratch.act,
                     config.activation, rows, stream);
  products.add(experts.shared_down, scratch.act, /*alpha=*/1, scratch.hidden, rows, stream);
}

/// One of the two products of all slots. With weights in e4m3, few slots are read in bf16; many are
/// put in e4m3 first.
void run_grouped(const DeviceTensor& weight, cuda::GroupedGemmParams gemm, int64_t x_rows,
                 const DecoderScratch& scratch, bool batch_invariant, Stream& stream) {
  gemm.weight = weight.buffer.data();
  if (!weight.fp8()) {
    gemm.route = batch_invariant ? cuda::GemmRoute::kLibrary : cuda::GemmRoute::kAuto;
    return cuda::grouped_gemm(gemm, stream);
  }
  gemm.dtype = DType::kF8E4M3;
  gemm.scaling = weight.scaling;
  gemm.weight_scale = weight.scale_data();
  const bool few = !batch_invariant && cuda::grouped_decodes(gemm.num_slots, gemm.num_experts);
  gemm.route = few ? cuda::GemmRoute::kDecode : cuda::GemmRoute::kLibrary;
  if (gemm.route == cuda::GemmRoute::kLibrary) {
    cuda::quantize_e4m3_blocks({.x = static_cast<const uint16_t*>(gemm.x),
                                .y = scratch.fp8_x,
                                .scale = scratch.fp8_scales,
                                .m = x_rows,
                                .k = gemm.k,
                                .x_stride = gemm.x_stride,
                                .y_stride = gemm.k,
                                .scale_stride = x_rows},
                               stream);
    gemm.x = scratch.fp8_x;
    gemm.x_stride = gemm.k;
    gemm.x_scale = scratch.fp8_scales;
    gemm.x_scale_stride = x_rows;
  }
  cuda::grouped_gemm(gemm, stream);
}

}  // namespace

void run_experts(const DeviceExperts& experts, const ModelConfig& config, const StepRows& rows,
                 const DecoderScratch& scratch, Products& products, Stream& stream) {
  const int64_t hidden = config.hidden_size;
  const int64_t width = config.moe_intermediate_size;
  const int64_t num_slots = rows.total * config.experts_per_token;
  run_shared(experts, config, rows, scratch, products, stream);
  choose_experts(experts, config, rows, scratch, products, stream);
  cuda::GroupedGemmParams gemm{.x = scratch.normed,
                               .y = scratch.gate_up,
                               .offsets = scratch.expert_offsets,
                               .slots = scratch.expert_slots,
                               .num_slots = num_slots,
                               .num_experts = config.num_experts,
                               .x_divisor = config.experts_per_token,
                               .n = 2 * width,
                               .k = hidden,
                               .x_stride = hidden,
                               .y_stride = 2 * width};
  const bool invariant = products.batch_invariant();
  run_grouped(experts.gate_up, gemm, rows.total, scratch, invariant, stream);
  cuda::act_mul({.gate_up = scratch.gate_up,
                 .y = scratch.act,
                 .m = num_slots,
                 .n = width,
                 .x_stride = 2 * width,
                 .y_stride = width,
                 .act = config.activation},
                stream);
  gemm.x = scratch.act;
  gemm.y = scratch.expert_out;
  gemm.x_divisor = 1;
  gemm.n = hidden;
  gemm.k = width;
  gemm.x_stride = width;
  gemm.y_stride = hidden;
  run_grouped(experts.down, gemm, num_slots, scratch, invariant, stream);
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
