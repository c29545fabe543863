#include "server/usage.h"

namespace foveal::server {
namespace json = boost::json;
namespace {

json::object sparsity_json(const SparsityReport& sparsity) {
  const LayerSparsity total = sparsity.total();
  return {{"method", sparsity.method},
          {"prefill", total.prefill.skipped()},
          {"decode", total.decode.skipped()},
          {"prompt_tokens", sparsity.prompt_tokens},
          {"kept_tokens", sparsity.kept_tokens},
          {"decode_blocks", total.decode.blocks},
          {"decode_blocks_read", total.decode.blocks_read},
          {"decode_share_read", total.decode.share_read()}};
}

}  // namespace

Usage usage_of(const std::vector<RequestOutput>& outputs) {
  Usage usage;
  for (const RequestOutput& output : outputs) {
    usage.prompt_tokens += static_cast<int64_t>(output.prompt_token_ids.size());
    usage.cached_tokens += output.cached_tokens;
    usage.sparsity.method = output.sparsity.method;
    usage.sparsity.add(output.sparsity);
    for (const CompletionOutput& completion : output.outputs) {
      usage.completion_tokens += static_cast<int64_t>(completion.token_ids.size());
    }
  }
  return usage;
}

json::object usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", json::object{{"cached_tokens", usage.cached_tokens}}},
          {"sparsity", sparsity_json(usage.sparsity)}};
}

json::object response_usage_json(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", json::object{{"cached_tokens", usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", json::object{{"reasoning_tokens", 0}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"sparsity", sparsity_json(usage.sparsity)}};
}

}  // namespace foveal::server
