#include "engine/setup.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <random>
#include <thread>

#include "attention/tiles.h"
#include "base/check.h"
#include "base/math.h"
#include "engine/graph_sizes.h"
#include "kernels/cpu/isa.h"
#include "model/cuda/memory_plan.h"
#include "model/shape.h"

namespace foveal::engine {
namespace {

/// What a config leaves open, by device: a GPU wants more rows in a step, and its memory is nobody
/// else's.
struct DeviceDefaults {
  int64_t prefill_chunk;
  int64_t max_num_tokens;
  double free_memory_fraction;
};
DeviceDefaults defaults_of(Device device) {
  if (device.kind == DeviceKind::kCpu) return {512, 2048, 0.5};
  return {8192, 8192, 0.9};
}

DType parse_kv_dtype(const std::string& text, Device device) {
  if (text == "auto" || text == "bf16") return DType::kBF16;
  constexpr std::string_view kField = "kv_cache_config.dtype";
  if (text == "f32") return DType::kF32;
  if (text == "f16") {
    // The kernels take a cache of the queries' own type, which is bf16.
    FOVEAL_CHECK(device.kind == DeviceKind::kCpu, ErrorKind::kUnsupported, kField,
                 "got f16 on cuda; need auto or bf16");
    return DType::kF16;
  }
  FOVEAL_CHECK(text == "fp8" || text == "e4m3", ErrorKind::kInvalidArgument, kField,
               "got '{}'; need auto, bf16, f16, f32 or fp8", text);
  FOVEAL_CHECK(device.kind == DeviceKind::kCuda, ErrorKind::kUnsupported, kField,
               "got fp8 on cpu; need auto, bf16, f16 or f32");
  return DType::kF8E4M3;
}

bool parse_exact(const std::string& text, Device device) {
  FOVEAL_CHECK(text == "auto" || text == "f32", ErrorKind::kInvalidArgument, "compute_dtype",
               "got '{}'; need auto or f32", text);
  FOVEAL_CHECK(text == "auto" || device.kind == DeviceKind::kCpu, ErrorKind::kUnsupported,
               "compute_dtype",
               "got f32 on cuda; need auto (bfloat16, float32 accumulation), or cpu");
  return text == "f32";
}

void check_fp8_context(const LlmConfig& config, const Setup& setup) {
  if (!config.use_fp8_context_fmha) return;
  constexpr std::string_view kField = "use_fp8_context_fmha";
  FOVEAL_CHECK(setup.device.kind == DeviceKind::kCuda, ErrorKind::kUnsupported, kField,
               "got true on cpu; need false, or cuda with kv_cache_config.dtype fp8");
  FOVEAL_CHECK(setup.geometry.value_dim == 0, ErrorKind::kUnsupported, kField,
               "got true with a latent cache; need false, or a model with K and V per KV head");
  FOVEAL_CHECK(setup.geometry.dtype == DType::kF8E4M3, ErrorKind::kUnsupported, kField,
               "got true with a cache in {}; need false, or kv_cache_config.dtype fp8",
               dtype_name(setup.geometry.dtype));
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
scheduler::SchedulerConfig scheduler_config(const LlmConfig& config, Device device,
                                            int32_t multiple) {
  const DeviceDefaults defaults = defaults_of(device);
  const int64_t wanted = config.prefill_chunk.value_or(defaults.prefill_chunk);
  const int64_t rows = config.max_num_tokens.value_or(defaults.max_num_tokens);
  FOVEAL_CHECK(wanted >= 1, ErrorKind::kInvalidArgument, "prefill_chunk", "got {}; need at least 1",
               wanted);
  FOVEAL_CHECK(config.max_batch_size >= 1, ErrorKind::kInvalidArgument, "max_batch_size",
               "got {}; need at least 1", config.max_batch_size);
  FOVEAL_CHECK(rows >= multiple, ErrorKind::kInvalidArgument, "max_num_tokens",
               "got {}; need at least {}", rows, multiple);
  const int64_t chunk = std::min(wanted, rows);
  return {.max_batch_size = as_int32(config.max_batch_size),
          .max_step_tokens = as_int32(rows),
          .prefill_chunk = as_int32(std::max<int64_t>(multiple, chunk / multiple * multiple)),
          .chunk_multiple = multiple,
          .page_size = as_int32(config.kv_cache_config.tokens_per_block)};
}

/// Tokens' worth of pages that a prompt of `length` needs beside its own while what it keeps is
/// copied.
int64_t spare_tokens(const Setup& setup, int64_t length) {
  const int64_t kept = setup.attention->kept_tokens(as_int32(length));
  return kept < length ? round_up(kept, setup.geometry.page_size) : 0;
}

// The longest prompt that can be read is the longest request.
int64_t longest_request(const Setup& setup) {
  if (setup.shortage) return setup.max_seq_len;
  const int64_t pool = setup.capacity.num_tokens;
  const int64_t length = std::min(setup.max_seq_len, pool);
  const int64_t kept = setup.attention->kept_tokens(as_int32(length));
  return std::max(kept, std::min(length, pool - spare_tokens(setup, length)));
}

// Of a size and a share of memory the smaller counts. Without a size, the pool holds what
// max_batch_size requests of full length need, at most.
kv::CapacityPlan plan_pool(const LlmConfig& config, const Setup& setup, int64_t weights_to_come) {
  const KvCacheConfig& cache = config.kv_cache_config;
  const bool both = cache.max_tokens && cache.free_memory_fraction;
  kv::CapacityRequest request{.max_tokens = both ? std::nullopt : cache.max_tokens,
                              .free_memory_fraction = cache.free_memory_fraction.value_or(
                                  defaults_of(setup.device).free_memory_fraction)};
  const std::vector<kv::LaneSpec> lanes = setup.attention->lanes(setup.geometry);
  const int64_t available = available_memory(setup.device);
  FOVEAL_CHECK(weights_to_come < available - setup.workspace_bytes, ErrorKind::kOutOfMemory,
               "memory",
               "got weights of {} MiB and a workspace of {} MiB with {} MiB free on {}; need room "
               "for them and a cache",
               weights_to_come >> 20, setup.workspace_bytes >> 20, available >> 20,
               device_name(setup.device));
  request.free_bytes = available - weights_to_come - setup.workspace_bytes;
  kv::CapacityPlan plan = kv::plan_capacity(setup.geometry, lanes, request);
  if (!request.max_tokens) {
    const std::optional<int64_t> whole = checked_mul(setup.max_seq_len, config.max_batch_size);
    const int64_t needed = whole ? checked_add(*whole, spare_tokens(setup, setup.max_seq_len))
                                       .value_or(std::numeric_limits<int64_t>::max())
                                 : std::numeric_limits<int64_t>::max();
    const int64_t most = cache.max_tokens.value_or(needed);
    if (plan.num_tokens > most) {
      request.max_tokens = most;
      plan = kv::plan_capacity(setup.geometry, lanes, request);
    }
  }
  return plan;
}

/// A pool or, where there is no memory for it, what it would take.
void plan_memory(const LlmConfig& config, int64_t weights_to_come, Setup& setup) {
  try {
    setup.capacity = plan_pool(config, setup, weights_to_come);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::kOutOfMemory) throw;
    const std::vector<kv::LaneSpec> lanes = setup.attention->lanes(setup.geometry);
    setup.capacity = {.bytes_per_page = kv::bytes_per_page(setup.geometry, lanes)};
    const int64_t one = setup.max_seq_len + spare_tokens(setup, setup.max_seq_len);
    const int64_t tokens = config.kv_cache_config.max_tokens.value_or(one);
    const std::optional<int64_t> cache = checked_mul(
        ceil_div(tokens, int64_t{setup.geometry.page_size}), setup.capacity.bytes_per_page);
    const std::optional<int64_t> rest = checked_add(weights_to_come, setup.workspace_bytes);
    const std::optional<int64_t> needed = cache && rest ? checked_add(*cache, *rest) : std::nullopt;
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    setup.shortage = {.needed_bytes = needed.value_or(kMost),
                      .free_bytes = available_memory(setup.device),
                      .cache_tokens = tokens,
                      .cache_bytes = cache.value_or(kMost),
                      .error = error};
  }
}

/// What the pool cannot outgrow, before it is known what else takes memory.
int64_t most_cached_tokens(const LlmConfig& config, const Setup& setup) {
  const std::vector<kv::LaneSpec> lanes = setup.attention->lanes(setup.geometry);
  const int64_t page = kv::bytes_per_page(setup.geometry, lanes);
  const int64_t room = available_memory(setup.device) / page * setup.geometry.page_size;
  const int64_t wanted = config.kv_cache_config.max_tokens.value_or(room);
  return std::min(room, round_up(wanted, int64_t{setup.geometry.page_size}));
}

void set_up_cuda(Setup& setup, const LlmConfig& config, const model::Checkpoint& checkpoint) {
  const model::ModelLimits limits = model_limits(setup, config);
  const model::MemoryPlan memory = model::plan_cuda_memory(checkpoint, limits);
  setup.weights_bytes = memory.weights_bytes;
  setup.workspace_bytes += memory.workspace_bytes;
  const CudaGraphConfig& graphs = config.cuda_graph_config;
  // Recorded or not, a step has the same sizes, and so the same results.
  setup.graph_sizes = graph_sizes(graphs, setup.scheduler.max_batch_size);
  setup.graph_padding = graphs.enable_padding;
  setup.record_graphs = graphs.enable;
}

}  // namespace

model::ModelLimits model_limits(const Setup& setup, const LlmConfig& config) {
  return {.max_positions = setup.max_seq_len,
          .max_rows = setup.scheduler.max_step_tokens,
          .max_logit_rows = setup.scheduler.max_batch_size,
          .kv_dtype = setup.geometry.dtype,
          .batch_invariant = config.batch_invariant,
          .e4m3_prefill = setup.e4m3_prefill};
}

Setup plan_setup(const LlmConfig& config, const model::Checkpoint& checkpoint) {
  const model::ModelConfig& model = checkpoint.config();
  Setup setup;
  setup.device = parse_device(config.device);
  setup.exact = parse_exact(config.compute_dtype, setup.device);
  setup.shape = model::shape_of(model);
  setup.attention = attention::make_attention(config.sparse_attention_config, setup.shape,
                                              model.sparse_attention_json, setup.device,
                                              setup.exact, config.use_fp8_context_fmha);
  setup.geometry = {.num_layers = model.num_layers,
                    .num_kv_heads = setup.shape.num_kv_heads,
                    .head_dim = setup.shape.head_dim,
                    .value_dim = setup.shape.value_dim,
                    .dtype = parse_kv_dtype(config.kv_cache_config.dtype, setup.device),
                    .page_size = as_int32(config.kv_cache_config.tokens_per_block)};
  setup.attention->require(setup.device, setup.geometry);
  check_fp8_context(config, setup);
  setup.e4m3_prefill = config.use_fp8_context_fmha;
  setup.max_seq_len = context_length(config, model);
  setup.scheduler =
      scheduler_config(config, setup.device, setup.attention->prefill_chunk_multiple());
  setup.weights_bytes = checkpoint.total_bytes();
  const int64_t threads =
      config.threads > 0 ? config.threads : std::max(1U, std::thread::hardware_concurrency());
  setup.workspace_bytes =
      setup.attention->workspace_bytes({.max_kv_len = setup.max_seq_len,
                                        .max_rows = setup.scheduler.max_step_tokens,
                                        .max_seqs = setup.scheduler.max_batch_size,
                                        .max_cached = most_cached_tokens(config, setup),
                                        .kv_dtype = setup.geometry.dtype,
                                        .threads = as_int32(threads)});
  if (setup.device.kind == DeviceKind::kCuda) set_up_cuda(setup, config, checkpoint);
  const bool cpu = setup.device.kind == DeviceKind::kCpu;
  plan_memory(config, cpu ? checkpoint.bytes_to_come() : setup.weights_bytes, setup);
  setup.max_seq_len = longest_request(setup);
  setup.prefix_settings =
      fmt::format("{:x}|{}|{}|{}|{}", process_secret(), config.model, config.compute_dtype,
                  dtype_name(setup.geometry.dtype), setup.e4m3_prefill);
  return setup;
}

Setup make_setup(const LlmConfig& config, const model::Checkpoint& checkpoint) {
  Setup setup = plan_setup(config, checkpoint);
  if (setup.shortage) throw setup.shortage->error;
  return setup;
}

EngineInfo engine_info(const Setup& setup, int num_threads) {
  return {
      .device = device_name(setup.device),
      .isa = std::string(kernels::cpu::isa_name(kernels::cpu::active_isa())),
      .threads = num_threads,
      .method = setup.attention->name(),
      .attention = setup.attention->describe(setup.shape.num_layers) +
                   (setup.e4m3_prefill ? "; prefill's attention in e4m3" : ""),
      .kv_dtype = std::string(dtype_name(setup.geometry.dtype)),
      .tiles = attention::prefill_tiles(setup.device.kind, setup.shape, setup.e4m3_prefill).name(),
      .max_seq_len = setup.max_seq_len,
      .kv_tokens = setup.capacity.num_tokens,
      .kv_bytes_per_token = setup.capacity.bytes_per_page / setup.geometry.page_size,
      .kv_bytes = setup.capacity.num_bytes,
      .weights_bytes = setup.weights_bytes,
      .workspace_bytes = setup.workspace_bytes};
}

}  // namespace foveal::engine
