#include "model/gguf_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace foveal::model {
namespace {

struct Rename {
  std::string_view from;
  std::string_view to;
  std::string_view only = {};  ///< the one architecture this holds for; empty: all
};

constexpr std::array<Rename, 3> kTop{
    {{"token_embd", "model.embed_tokens"}, {"output_norm", "model.norm"}, {"output", "lm_head"}}};

// The first row that fits wins, so an architecture's own rows stand before the general ones.
constexpr std::array<Rename, 38> kLayer{{
    {"ffn_norm", "pre_feedforward_layernorm", "gemma3"},
    {"ffn_up", "mlp.gate_up_proj", "phi3"},
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_qkv", "self_attn.qkv_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"post_attention_norm", "post_attention_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
    {"ffn_up_exps", "mlp.experts.{}.up_proj"},
    {"ffn_down_exps", "mlp.experts.{}.down_proj"},
    {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
    {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
    {"ffn_down_shexp", "mlp.shared_experts.down_proj"},
    {"attn_q_a", "self_attn.q_a_proj"},
    {"attn_q_a_norm", "self_attn.q_a_layernorm"},
    {"attn_q_b", "self_attn.q_b_proj"},
    {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
    {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
    {"attn_kv_b", "self_attn.kv_b_proj"},
    {"attn_k_b", "self_attn.k_b_proj"},  // kv_b_proj taken apart; see load_latent_heads
    {"attn_v_b", "self_attn.v_b_proj"},
    {"indexer.attn_q_b", "self_attn.indexer.wq_b"},
    {"indexer.attn_k", "self_attn.indexer.wk"},
    {"indexer.k_norm", "self_attn.indexer.k_norm"},
    {"indexer.proj", "self_attn.indexer.weights_proj"},
    {"nextn.eh_proj", "eh_proj"},
    {"nextn.enorm", "enorm"},
    {"nextn.hnorm", "hnorm"},
}};

template <size_t N>
std::string_view renamed(const std::array<Rename, N>& table, std::string_view name,
                         std::string_view architecture) {
  for (const Rename& row : table) {
    if (row.from == name && (row.only.empty() || row.only == architecture)) return row.to;
  }
  return {};
}

}  // namespace

std::string hf_tensor_name(std::string_view gguf_name, std::string_view architecture) {
  const size_t last_dot = gguf_name.rfind('.');
  if (last_dot == std::string_view::npos) return std::string(gguf_name);
  const std::string_view suffix = gguf_name.substr(last_dot);  // ".weight" or ".bias"
  std::string_view stem = gguf_name.substr(0, last_dot);
  constexpr std::string_view kBlock = "blk.";
  if (!stem.starts_with(kBlock)) {
    const std::string_view top = renamed(kTop, stem, architecture);
    return top.empty() ? std::string(gguf_name) : fmt::format("{}{}", top, suffix);
  }
  stem.remove_prefix(kBlock.size());
  const size_t dot = stem.find('.');
  if (dot == std::string_view::npos) return std::string(gguf_name);
  const std::string_view layer = stem.substr(0, dot);
  const std::string_view part = renamed(kLayer, stem.substr(dot + 1), architecture);
  const bool number = !layer.empty() && std::all_of(layer.begin(), layer.end(),
                                                    [](char c) { return c >= '0' && c <= '9'; });
  if (number && stem.substr(dot + 1) == "exp_probs_b" && suffix == ".bias") {
    return fmt::format("model.layers.{}.mlp.gate.e_score_correction_bias", layer);
  }
  if (part.empty() || !number) return std::string(gguf_name);
  return fmt::format("model.layers.{}.{}{}", layer, part, suffix);
}

}  // namespace foveal::model
