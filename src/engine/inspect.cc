#include "engine/inspect.h"

#include <algorithm>
#include <limits>

#include "base/math.h"
#include "engine/load.h"
#include "engine/setup.h"
#include "model/arch/registry.h"
#include "model/cuda/fp8_device.h"
#include "model/layers/weights.h"

namespace foveal::engine {
namespace {

std::vector<LayerInspection> inspect_layers(const model::ModelConfig& model, const Setup& setup) {
  std::vector<LayerInspection> out;
  for (int32_t layer = 0; layer < model.num_layers; ++layer) {
    const auto at = static_cast<size_t>(layer);
    out.push_back({.window = model.windows.at(at),
                   .rotates = model.use_rope.at(at) != 0,
                   .experts = model.num_experts > 0 && model.moe_layers.at(at) != 0,
                   .prefill = setup.attention->resolve(layer, attention::Phase::kPrefill),
                   .decode = setup.attention->resolve(layer, attention::Phase::kDecode)});
  }
  return out;
}

// What does not fit may take more than there are numbers for.
int64_t page_bytes(int64_t pages, int64_t page) {
  return checked_mul(pages, page).value_or(std::numeric_limits<int64_t>::max());
}

// Powers of two from 1024 on, and the longest prompt.
std::vector<MemoryInspection> inspect_memory(const Setup& setup) {
  const kv::KvGeometry& cache = setup.geometry;
  const int64_t dense_page = kv::bytes_per_page(cache, {});
  const int64_t page = setup.capacity.bytes_per_page;
  std::vector<MemoryInspection> out;
  for (int64_t length = 1024; out.empty() || length < 2 * setup.max_seq_len; length *= 2) {
    const int64_t tokens = std::min(length, setup.max_seq_len);
    const int64_t kept = setup.attention->kept_tokens(static_cast<int32_t>(tokens));
    const int64_t whole = ceil_div(tokens, cache.page_size);
    const int64_t part = ceil_div(kept, cache.page_size);
    out.push_back({.prompt_tokens = tokens,
                   .kept_tokens = kept,
                   .dense_bytes = page_bytes(whole, dense_page),
                   .reading_bytes = page_bytes(kept < tokens ? whole + part : whole, page),
                   .kept_bytes = page_bytes(part, page)});
  }
  return out;
}

std::vector<LaneInspection> inspect_lanes(const Setup& setup) {
  std::vector<LaneInspection> out;
  for (const kv::LaneSpec& lane : setup.attention->lanes(setup.geometry)) {
    LaneInspection shown{
        .name = lane.name,
        .bytes_per_token = ceil_div(lane.bytes_per_page, int64_t{setup.geometry.page_size})};
    for (int32_t layer = 0; layer < setup.geometry.num_layers; ++layer) {
      shown.layers += lane.in_layer(layer) ? 1 : 0;
    }
    out.push_back(std::move(shown));
  }
  return out;
}

std::vector<TensorInspection> inspect_tensors(const model::Checkpoint& checkpoint) {
  std::vector<TensorInspection> out;
  for (const std::string& name : checkpoint.names()) {
    const TensorView* tensor = checkpoint.find(name);
    out.push_back({.name = name,
                   .dtype = std::string(dtype_name(tensor->dtype)),
                   .shape = tensor->shape,
                   .expanded = {},
                   .left_out = checkpoint.leaves_out(name)});
  }
  return out;
}

void inspect_expanded(const model::Checkpoint& checkpoint, Inspection& out) {
  const model::Fp8OnDevice fp8(checkpoint);
  for (TensorInspection& tensor : out.tensors) {
    const auto found = fp8.expanded().find(tensor.name);
    if (found != fp8.expanded().end()) tensor.expanded = found->second;
  }
  out.expanded = fp8.summary();
}

}  // namespace

Inspection inspect(const LlmConfig& config) {
  const auto checkpoint = open_checkpoint(config, Weights::kShapes);
  model::find_architecture(checkpoint->config().architecture);
  model::check_layer_count(*checkpoint);
  const auto tokenizer = load_tokenizer(config.tokenizer, *checkpoint);
  const Setup setup = plan_setup(config, *checkpoint);
  const ThreadPool pool(static_cast<int>(config.threads));
  Inspection out;
  out.format = checkpoint->format();
  out.model = checkpoint->config();
  if (tokenizer) out.tokenizer = tokenizer->describe();
  out.engine = engine_info(setup, pool.num_threads());
  out.shortage = setup.shortage;
  out.attention = out.engine.attention;
  out.lanes = inspect_lanes(setup);
  out.memory = inspect_memory(setup);
  out.layers = inspect_layers(out.model, setup);
  out.tensors = inspect_tensors(*checkpoint);
  if (setup.device.kind == DeviceKind::kCuda) inspect_expanded(*checkpoint, out);
  return out;
}

}  // namespace foveal::engine
