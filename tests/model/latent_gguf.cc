#include "latent_gguf.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <utility>

#include "base/half.h"
#include "model/mapped_file.h"
#include "model/safetensors.h"

namespace foveal::test {
namespace {

using boost::json::object;
using model::GgufBuilder;
using model::GgufType;

constexpr std::pair<const char*, const char*> kNames[] = {
    {"input_layernorm", "attn_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.q_a_proj", "attn_q_a"},
    {"self_attn.q_a_layernorm", "attn_q_a_norm"},
    {"self_attn.q_b_proj", "attn_q_b"},
    {"self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    {"self_attn.kv_a_layernorm", "attn_kv_a_norm"},
    {"self_attn.kv_b_proj", "attn_kv_b"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.indexer.wq_b", "indexer.attn_q_b"},
    {"self_attn.indexer.wk", "indexer.attn_k"},
    {"self_attn.indexer.k_norm", "indexer.k_norm"},
    {"self_attn.indexer.weights_proj", "indexer.proj"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"mlp.gate", "ffn_gate_inp"},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
    {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp"},
    {"eh_proj", "nextn.eh_proj"},
    {"enorm", "nextn.enorm"},
    {"hnorm", "nextn.hnorm"},
    {"shared_head.norm", "nextn.shared_head_norm"},
};

std::string gguf_name(const std::string& name) {
  if (name == "lm_head.weight") return "output.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  const std::string rest = name.substr(std::strlen("model.layers."));
  const std::string block = "blk." + rest.substr(0, rest.find('.')) + ".";
  const std::string part = rest.substr(rest.find('.') + 1);
  if (part == "mlp.gate.e_score_correction_bias") return block + "exp_probs_b.bias";
  const size_t dot = part.rfind('.');
  for (const auto& [hf, gguf] : kNames) {
    if (part.substr(0, dot) == hf) return block + gguf + part.substr(dot);
  }
  throw std::runtime_error("no GGUF name for " + name);
}

std::vector<float> widened(const Tensor& tensor) {
  const size_t size = tensor.type == "F32" ? 4 : 2;
  std::vector<float> out(tensor.data.size() / size);
  for (size_t at = 0; at < out.size(); ++at) {
    if (size == 4) {
      std::memcpy(&out[at], &tensor.data[at * 4], 4);
      continue;
    }
    uint16_t bits = 0;
    std::memcpy(&bits, &tensor.data[at * 2], 2);
    out[at] = bf16_to_float(bits);
  }
  return out;
}

std::vector<uint64_t> innermost_first(std::vector<int64_t> shape) {
  return {shape.rbegin(), shape.rend()};
}

/// Vectors and routers in float32, as the converter keeps them; the rest as it is.
void add(GgufBuilder& out, const std::string& name, const Tensor& tensor) {
  constexpr uint32_t kF32 = 0;
  constexpr uint32_t kBF16 = 30;
  const bool wide = tensor.shape.size() == 1 || name.find("ffn_gate_inp") != std::string::npos;
  if (wide) return out.f32(name, innermost_first(tensor.shape), widened(tensor));
  out.tensor(name, innermost_first(tensor.shape), tensor.type == "F32" ? kF32 : kBF16, tensor.data);
}

/// [heads, nope + value, rank] as [heads, rank, nope] and [heads, value, rank].
void add_apart(GgufBuilder& out, const std::string& block, const Tensor& whole,
               const object& config) {
  const int64_t heads = config.at("num_attention_heads").as_int64();
  const int64_t nope = config.at("qk_nope_head_dim").as_int64();
  const int64_t value = config.at("v_head_dim").as_int64();
  const int64_t rank = whole.shape[1];
  const auto size = static_cast<int64_t>(whole.data.size()) / (whole.shape[0] * rank);
  Tensor keys{whole.type, {heads, rank, nope}, std::string(size * heads * rank * nope, '\0')};
  Tensor values{whole.type, {heads, value, rank}, ""};
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t first = head * (nope + value);
    for (int64_t channel = 0; channel < nope; ++channel) {
      for (int64_t at = 0; at < rank; ++at) {
        std::memcpy(&keys.data[((head * rank + at) * nope + channel) * size],
                    &whole.data[((first + channel) * rank + at) * size], size);
      }
    }
    values.data += whole.data.substr((first + nope) * rank * size, value * rank * size);
  }
  add(out, block + "attn_k_b.weight", keys);
  add(out, block + "attn_v_b.weight", values);
}

void add_tensors(GgufBuilder& out, const Files& files, const object& config, bool apart) {
  std::map<std::string, Tensor> stacked;
  for (const auto& [name, tensor] : files.tensors) {
    const size_t experts = name.find(".mlp.experts.");
    if (experts != std::string::npos) {
      // Names sort 0, 1, 10, ...: data goes to its place.
      const size_t number = experts + std::strlen(".mlp.experts.");
      const size_t after = name.find('.', number);
      const std::string kind = name.substr(after + 1, name.find("_proj", after) - after - 1);
      const std::string layer = name.substr(std::strlen("model.layers."), experts - 13);
      Tensor& all = stacked[fmt::format("blk.{}.ffn_{}_exps.weight", layer, kind)];
      const int64_t count = config.at("n_routed_experts").as_int64();
      if (all.shape.empty()) {
        all = {tensor.type,
               {count, tensor.shape[0], tensor.shape[1]},
               std::string(tensor.data.size() * static_cast<size_t>(count), '\0')};
      }
      all.data.replace(std::stoul(name.substr(number)) * tensor.data.size(), tensor.data.size(),
                       tensor.data);
      continue;
    }
    const std::string to = gguf_name(name);
    if (apart && to.ends_with("attn_kv_b.weight")) {
      add_apart(out, to.substr(0, to.find("attn_kv_b")), tensor, config);
      continue;
    }
    add(out, to, tensor);
  }
  for (const auto& [name, tensor] : stacked) add(out, name, tensor);
}

/// Copies keys of config.json under GGUF's names, where they are there and not null.
class Keys {
 public:
  Keys(GgufBuilder& out, const object& config, std::string arch)
      : out_(out), config_(config), arch_(std::move(arch)) {}

  int64_t integer(const char* name) const { return config_.at(name).as_int64(); }
  void set(const std::string& key, int64_t value) {
    out_.set(arch_ + "." + key, static_cast<uint32_t>(value));
  }
  void set(const std::string& key, double value) {
    out_.set(arch_ + "." + key, static_cast<float>(value));
  }
  void size(const char* from, const std::string& key) {
    if (const auto* value = config_.if_contains(from); value && value->is_int64()) {
      set(key, value->as_int64());
    }
  }
  void number(const char* from, const std::string& key) {
    if (const auto* value = config_.if_contains(from); value && value->is_number()) {
      set(key, value->to_number<double>());
    }
  }

 private:
  GgufBuilder& out_;
  const object& config_;
  std::string arch_;
};

void add_heads(Keys& keys, bool apart) {
  const int64_t rope = keys.integer("qk_rope_head_dim");
  const int64_t rank = keys.integer("kv_lora_rank");
  const int64_t head = keys.integer("qk_nope_head_dim") + rope;
  const int64_t value = keys.integer("v_head_dim");
  keys.set("attention.head_count_kv", apart ? int64_t{1} : keys.integer("num_attention_heads"));
  keys.set("attention.key_length", apart ? rank + rope : head);
  keys.set("attention.value_length", apart ? rank : value);
  keys.set("attention.kv_lora_rank", rank);
  keys.set("rope.dimension_count", rope);
  keys.size("q_lora_rank", "attention.q_lora_rank");
  if (!apart) return;
  keys.set("attention.key_length_mla", head);
  keys.set("attention.value_length_mla", value);
}

void add_rope(GgufBuilder& out, const std::string& arch, const object& config, Keys& keys) {
  keys.number("rope_theta", "rope.freq_base");
  if (const auto* modern = config.if_contains("rope_parameters")) {
    keys.set("rope.freq_base", modern->at("rope_theta").to_number<double>());
  }
  const auto* yarn = config.if_contains("rope_scaling");
  if (yarn == nullptr || !yarn->is_object()) return;
  out.set(arch + ".rope.scaling.type", "yarn");
  keys.set("rope.scaling.factor", yarn->at("factor").to_number<double>());
  keys.set("rope.scaling.original_context_length",
           yarn->at("original_max_position_embeddings").as_int64());
  keys.set("rope.scaling.yarn_log_multiplier",
           0.1 * yarn->at("mscale_all_dim").to_number<double>());
}

void add_indexer_types(GgufBuilder& out, const std::string& arch, const object& config) {
  const auto* types = config.if_contains("indexer_types");
  if (types == nullptr) return;
  auto& entry = out.entry();
  entry.key(arch + ".attention.indexer.types", GgufType::kArray)
      .array(GgufType::kBool, types->as_array().size());
  for (const auto& type : types->as_array()) entry.put<uint8_t>(type == "full" ? 1 : 0);
}

}  // namespace

GgufBuilder to_gguf(const Files& files, const GgufStyle& style) {
  const object config = boost::json::parse(files.config).as_object();
  const std::string type = config.at("model_type").as_string().c_str();
  const std::string arch = type == "glm_moe_dsa"    ? "glm-dsa"
                           : type == "deepseek_v32" ? "deepseek32"
                                                    : "deepseek2";
  GgufBuilder out;
  out.set("general.architecture", arch.c_str());
  Keys keys(out, config, arch);
  const auto* further = config.if_contains("num_nextn_predict_layers");
  const int64_t more = further == nullptr ? 0 : further->as_int64();
  keys.set("block_count", keys.integer("num_hidden_layers") + more);
  if (more > 0) keys.set("nextn_predict_layers", more);
  keys.size("hidden_size", "embedding_length");
  keys.size("intermediate_size", "feed_forward_length");
  keys.size("num_attention_heads", "attention.head_count");
  keys.size("max_position_embeddings", "context_length");
  keys.number("rms_norm_eps", "attention.layer_norm_rms_epsilon");
  add_heads(keys, style.apart);
  add_rope(out, arch, config, keys);
  keys.size("first_k_dense_replace", "leading_dense_block_count");
  keys.size("n_routed_experts", "expert_count");
  keys.size("num_experts_per_tok", "expert_used_count");
  keys.size("moe_intermediate_size", "expert_feed_forward_length");
  keys.size("n_shared_experts", "expert_shared_count");
  keys.size("n_group", "expert_group_count");
  keys.size("topk_group", "expert_group_used_count");
  keys.set("expert_gating_func", int64_t{2});
  keys.number("routed_scaling_factor", "expert_weights_scale");
  out.set(arch + ".expert_weights_norm", true);
  keys.size("index_n_heads", "attention.indexer.head_count");
  keys.size("index_head_dim", "attention.indexer.key_length");
  keys.size("index_topk", "attention.indexer.top_k");
  if (style.list_types) add_indexer_types(out, arch, config);
  add_tensors(out, files, config, style.apart);
  return out;
}

Files load_files(const std::string& folder) {
  namespace fs = std::filesystem;
  Files out;
  std::ifstream config(fs::path(folder) / "config.json");
  out.config.assign(std::istreambuf_iterator<char>(config), {});
  const model::MappedFile file((fs::path(folder) / "model.safetensors").string());
  for (const auto& tensor : model::parse_safetensors(file.bytes(), folder)) {
    const auto* data = reinterpret_cast<const char*>(tensor.view.data);
    out.tensors[tensor.name] = {std::string(model::safetensors_dtype_name(tensor.view.dtype)),
                                tensor.view.shape, std::string(data, tensor.bytes)};
  }
  return out;
}

}  // namespace foveal::test
