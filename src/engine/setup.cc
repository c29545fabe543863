#include "engine/setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <random>

#include "base/check.h"
#include "base/math.h"
#include "kernels/cpu/isa.h"

namespace foveal::engine {
namespace {

DType parse_kv_dtype(const std::string& text) {
  if (text == "auto" || text == "bf16") return DType::kBF16;
  if (text == "f16") return DType::kF16;
  if (text == "f32") return DType::kF32;
  fail(ErrorKind::kInvalidArgument, "kv_cache_config.dtype",
       "got '{}'; need auto, bf16, f16 or f32", text);
}

bool parse_exact(const std::string& text) {
  FOVEAL_CHECK(text == "auto" || text == "f32", ErrorKind::kInvalidArgument, "compute_dtype",
               "got '{}'; need auto or f32", text);
  return text == "f32";
}

int64_t context_length(const LlmConfig& config, const model::ModelConfig& model) {
  if (!config.max_seq_len) return model.max_positions;
  FOVEAL_CHECK(*config.max_seq_len >= 1 && *config.max_seq_len <= model.max_positions,
               ErrorKind::kInvalidArgument, "max_seq_len",
               "got {}; need 1 to {}, the model's context", *config.max_seq_len,
               model.max_positions);
  return *config.max_seq_len;
}

/// So that nobody outside can compute which prompts would collide in the prefix index.
uint64_t process_secret() {
  static const uint64_t kSecret = [] {
    try {
      std::random_device device;
      return (static_cast<uint64_t>(device()) << 32U) | device();
    } catch (const std::exception& error) {
      fail(ErrorKind::kIo, "engine", "got no random numbers ({}); need a source of them",
           error.what());
    }
  }();
  return kSecret;
}

int32_t as_int32(int64_t value) {
  return static_cast<int32_t>(std::min<int64_t>(value, std::numeric_limits<int32_t>::max()));
}

// Chunks end at the method's multiples; the configured size is rounded down to one of them.
scheduler::SchedulerConfig scheduler_config(const LlmConfig& config, int32_t multiple) {
  FOVEAL_CHECK(config.prefill_chunk >= 1, ErrorKind::kInvalidArgument, "prefill_chunk",
               "got {}; need at least 1", config.prefill_chunk);
  FOVEAL_CHECK(config.max_batch_size >= 1, ErrorKind::kInvalidArgument, "max_batch_size",
               "got {}; need at least 1", config.max_batch_size);
  FOVEAL_CHECK(config.max_num_tokens >= multiple, ErrorKind::kInvalidArgument, "max_num_tokens",
               "got {}; need at least {}", config.max_num_tokens, multiple);
  const int64_t chunk = std::min(config.prefill_chunk, config.max_num_tokens);
  return {.max_batch_size = as_int32(config.max_batch_size),
          .max_step_tokens = as_int32(config.max_num_tokens),
          .prefill_chunk = as_int32(std::max<int64_t>(multiple, chunk / multiple * multiple)),
          .chunk_multiple = multiple,
          .page_size = as_int32(config.kv_cache_config.tokens_per_block)};
}

// Without a size, the pool holds what max_batch_size requests of full length need, at most.
kv::CapacityPlan plan_pool(const LlmConfig& config, const Setup& setup,
                           const model::Checkpoint& checkpoint) {
  kv::CapacityRequest request{.max_tokens = config.kv_cache_config.max_tokens,
                              .free_memory_fraction = config.kv_cache_config.free_memory_fraction};
  const std::vector<kv::LaneSpec> lanes = setup.attention->lanes();
  request.free_bytes = available_memory(setup.device) - checkpoint.total_bytes();
  kv::CapacityPlan plan = kv::plan_capacity(setup.geometry, lanes, request);
  if (!request.max_tokens) {
    const int64_t most = checked_mul(setup.max_seq_len, config.max_batch_size)
                             .value_or(std::numeric_limits<int64_t>::max());
    if (plan.num_tokens > most) {
      request.max_tokens = most;
      plan = kv::plan_capacity(setup.geometry, lanes, request);
    }
  }
  return plan;
}

}  // namespace

Setup make_setup(const LlmConfig& config, const model::Checkpoint& checkpoint) {
  const model::ModelConfig& model = checkpoint.config();
  Setup setup;
  setup.device = parse_device(config.device);
  setup.exact = parse_exact(config.compute_dtype);
  setup.shape = {.num_layers = model.num_layers,
                 .num_heads = model.num_heads,
                 .num_kv_heads = model.num_kv_heads,
                 .head_dim = model.head_dim,
                 .windows = model.windows};
  setup.attention = attention::make_attention(config.sparse_attention_config, setup.shape,
                                              model.sparse_attention_json, setup.device);
  setup.geometry = {.num_layers = model.num_layers,
                    .num_kv_heads = model.num_kv_heads,
                    .head_dim = model.head_dim,
                    .dtype = parse_kv_dtype(config.kv_cache_config.dtype),
                    .page_size = as_int32(config.kv_cache_config.tokens_per_block)};
  setup.max_seq_len = context_length(config, model);
  setup.capacity = plan_pool(config, setup, checkpoint);
  setup.max_seq_len = std::min(setup.max_seq_len, setup.capacity.num_tokens);
  setup.scheduler = scheduler_config(config, setup.attention->prefill_chunk_multiple());
  setup.prefix_settings = fmt::format("{:x}|{}|{}|{}", process_secret(), config.model,
                                      config.compute_dtype, dtype_name(setup.geometry.dtype));
  return setup;
}

EngineInfo engine_info(const Setup& setup, const model::Checkpoint& checkpoint, int num_threads) {
  return {.device = device_name(setup.device),
          .isa = std::string(kernels::cpu::isa_name(kernels::cpu::active_isa())),
          .threads = num_threads,
          .method = setup.attention->name(),
          .attention = setup.attention->describe(setup.shape.num_layers),
          .kv_dtype = std::string(dtype_name(setup.geometry.dtype)),
          .max_seq_len = setup.max_seq_len,
          .kv_tokens = setup.capacity.num_tokens,
          .kv_bytes_per_token = setup.capacity.bytes_per_page / setup.geometry.page_size,
          .kv_bytes = setup.capacity.num_bytes,
          .weights_bytes = checkpoint.total_bytes()};
}

}  // namespace foveal::engine
