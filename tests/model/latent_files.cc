#include "latent_files.h"

#include <cstring>
#include <string_view>

#include "base/half.h"
#include "model/dummy_checkpoint.h"

namespace foveal::test {
namespace {

using model::TempFolder;

constexpr std::string_view kConfig =
    R"("hidden_size":128,"intermediate_size":160,"num_hidden_layers":3,"vocab_size":64,)"
    R"("num_attention_heads":2,"num_key_value_heads":2,"max_position_embeddings":256,)"
    R"("q_lora_rank":96,"kv_lora_rank":64,"qk_nope_head_dim":32,"qk_rope_head_dim":16,)"
    R"("v_head_dim":32,"moe_intermediate_size":48,"n_routed_experts":4,"n_shared_experts":1,)"
    R"("num_experts_per_tok":2,"n_group":2,"topk_group":1,"first_k_dense_replace":1,)"
    R"("eos_token_id":1)";
constexpr std::string_view kIndexer =
    R"(,"index_n_heads":8,"index_head_dim":32,"indexer_types":["full","shared","full"])";

}  // namespace

void Files::write(const TempFolder& folder) const {
  std::string header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    std::string shape;
    for (const int64_t extent : tensor.shape) {
      if (!shape.empty()) shape += ',';
      shape += std::to_string(extent);
    }
    header += (header.empty() ? "{\"" : ",\"") + name + R"(":{"dtype":")" + tensor.type +
              R"(","shape":[)" + shape + R"(],"data_offsets":[)" + std::to_string(data.size()) +
              "," + std::to_string(data.size() + tensor.data.size()) + "]}";
    data += tensor.data;
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  folder.write("model.safetensors", model::FileBuilder().text(header).raw(data).bytes());
  folder.write("config.json", config);
}

std::vector<float> Files::values(const std::string& name) const {
  const std::string& data = tensors.at(name).data;
  std::vector<float> out;
  for (size_t at = 0; at < data.size(); at += 2) {
    uint16_t bits = 0;
    std::memcpy(&bits, &data[at], sizeof(bits));
    out.push_back(bf16_to_float(bits));
  }
  return out;
}

Files make_files(const std::string& type, const std::string& more) {
  std::string config = R"({"model_type":")" + type + "\"," + std::string(kConfig) + more;
  if (type != "deepseek_v3") config += kIndexer;
  return files_of(config + "}");
}

Files files_of(const std::string& config) {
  Files out;
  out.config = config;
  const TempFolder folder;
  folder.write("config.json", out.config);
  const auto dummy = model::open_dummy_checkpoint(folder.path(), {}, model::DummyData::kHost);
  for (const std::string& name : dummy->names()) {
    const TensorView& view = *dummy->find(name);
    const auto bytes = static_cast<size_t>(view.num_elements()) * 2;
    const std::string data(reinterpret_cast<const char*>(view.data), bytes);
    const size_t hole = name.find("{}");
    if (hole == std::string::npos) {
      out.tensors[name] = {"BF16", view.shape, data};
      continue;
    }
    const size_t one = bytes / static_cast<size_t>(view.shape[0]);
    for (int64_t expert = 0; expert < view.shape[0]; ++expert) {
      std::string own = name;
      own.replace(hole, 2, std::to_string(expert));
      out.tensors[own] = {"BF16",
                          {view.shape[1], view.shape[2]},
                          data.substr(static_cast<size_t>(expert) * one, one)};
    }
  }
  return out;
}

LlmConfig config_of(const TempFolder& folder) {
  LlmConfig config;
  config.model = folder.path();
  config.device = "cpu";
  config.threads = 1;
  config.compute_dtype = "f32";
  config.kv_cache_config.dtype = "f32";
  config.kv_cache_config.max_tokens = 256;
  return config;
}

}  // namespace foveal::test
