#include <algorithm>
#include <cstring>
#include <exception>

#include "foveal/error.h"
#include "foveal/kernels.h"
#include "kernels/cuda/attention.h"
#include "kernels/cuda/decode_choose.h"
#include "kernels/cuda/indexer.h"
#include "kernels/cuda/latent.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/rocket.h"
#include "kernels/cuda/top_k.h"

// The C entries: what was thrown becomes a status and a sentence.

namespace foveal::kernels::cuda {
namespace {

void tell(const char* text, char* message, size_t size) {
  if (message == nullptr || size == 0) return;
  const size_t length = std::min(std::strlen(text), size - 1);
  std::memcpy(message, text, length);
  message[length] = '\0';
}

foveal_status status_of(ErrorKind kind) {
  if (kind == ErrorKind::kInvalidArgument) return FOVEAL_INVALID_ARGUMENT;
  return kind == ErrorKind::kUnsupported ? FOVEAL_UNSUPPORTED : FOVEAL_CUDA_ERROR;
}

template <class Params>
foveal_status guarded(void (*entry)(const Params&, void*), const char* name, const Params* params,
                      void* stream, char* message, size_t size) {
  try {
    tell("", message, size);
    if (params == nullptr) {
      tell("[kernels] got no parameters; need their address", message, size);
      return FOVEAL_INVALID_ARGUMENT;
    }
    entry(*params, stream);
    return FOVEAL_OK;
  } catch (const Error& error) {
    tell(error.what(), message, size);
    return status_of(error.kind());
  } catch (const std::exception& error) {
    tell(error.what(), message, size);
  } catch (...) {
    tell(name, message, size);
  }
  return FOVEAL_CUDA_ERROR;
}

/// What `query` says of sizes that the entry takes, by `check`; nothing for others.
template <class Check, class Query, class Params>
auto sized(Check check, Query query, const Params* params) noexcept {
  decltype(query(*params)) nothing{};
  try {
    if (params == nullptr) return nothing;
    check(*params);
    return query(*params);
  } catch (...) {
    return nothing;
  }
}

}  // namespace
}  // namespace foveal::kernels::cuda

namespace ours = foveal::kernels::cuda;

foveal_status foveal_attention_prefill(const foveal_attention_params* params, void* cuda_stream,
                                       char* message, size_t message_size) {
  return ours::guarded(ours::attention_prefill, "attention_prefill", params, cuda_stream, message,
                       message_size);
}

foveal_status foveal_attention_decode(const foveal_attention_params* params, void* cuda_stream,
                                      char* message, size_t message_size) {
  return ours::guarded(ours::attention_decode, "attention_decode", params, cuda_stream, message,
                       message_size);
}

size_t foveal_attention_prefill_workspace(const foveal_attention_params* params) {
  return ours::sized(ours::prefill_check_sizes, ours::prefill_workspace_bytes, params);
}
size_t foveal_attention_decode_workspace(const foveal_attention_params* params) {
  return ours::sized(ours::decode_check_sizes, ours::decode_workspace_bytes, params);
}
foveal_attention_tiling foveal_attention_prefill_tiling(const foveal_attention_params* params) {
  return ours::sized(ours::prefill_check_sizes, ours::prefill_tiling, params);
}
foveal_attention_tiling foveal_attention_decode_tiling(const foveal_attention_params* params) {
  return ours::sized(ours::decode_check_sizes, ours::decode_tiling, params);
}

foveal_status foveal_rocket_decode(const foveal_rocket_params* params, void* cuda_stream,
                                   char* message, size_t message_size) {
  return ours::guarded(ours::rocket_decode, "rocket_decode", params, cuda_stream, message,
                       message_size);
}

size_t foveal_rocket_decode_workspace(const foveal_rocket_params* params) {
  return ours::sized(ours::rocket_check_sizes, ours::rocket_decode_workspace_bytes, params);
}

foveal_status foveal_rocket_prompt(const foveal_rocket_prompt_params* params, void* cuda_stream,
                                   char* message, size_t message_size) {
  return ours::guarded(ours::rocket_prompt, "rocket_prompt", params, cuda_stream, message,
                       message_size);
}

size_t foveal_rocket_prompt_workspace(const foveal_rocket_prompt_params* params) {
  return ours::sized(ours::rocket_prompt_check_sizes, ours::rocket_prompt_workspace_bytes, params);
}

foveal_status foveal_rocket_compact(const foveal_compact_params* params, void* cuda_stream,
                                    char* message, size_t message_size) {
  return ours::guarded(ours::rocket_compact, "rocket_compact", params, cuda_stream, message,
                       message_size);
}

foveal_status foveal_rocket_candidates(const foveal_candidates_params* params, void* cuda_stream,
                                       char* message, size_t message_size) {
  return ours::guarded(ours::rocket_candidates, "rocket_candidates", params, cuda_stream, message,
                       message_size);
}

foveal_status foveal_rocket_bounds(const foveal_bounds_params* params, void* cuda_stream,
                                   char* message, size_t message_size) {
  return ours::guarded(ours::rocket_bounds, "rocket_bounds", params, cuda_stream, message,
                       message_size);
}

foveal_status foveal_top_k(const foveal_top_k_params* params, void* cuda_stream, char* message,
                           size_t message_size) {
  return ours::guarded(ours::top_k, "top_k", params, cuda_stream, message, message_size);
}

foveal_status foveal_mla_attention(const foveal_mla_params* params, void* cuda_stream,
                                   char* message, size_t message_size) {
  return ours::guarded(ours::mla_attention, "mla_attention", params, cuda_stream, message,
                       message_size);
}

size_t foveal_mla_workspace(const foveal_mla_params* params) {
  return ours::sized(ours::mla_check_sizes, ours::mla_workspace_bytes, params);
}

foveal_status foveal_mla_rows(const foveal_mla_rows_params* params, void* cuda_stream,
                              char* message, size_t message_size) {
  return ours::guarded(ours::mla_rows, "mla_rows", params, cuda_stream, message, message_size);
}

foveal_status foveal_mla_store(const foveal_mla_store_params* params, void* cuda_stream,
                               char* message, size_t message_size) {
  return ours::guarded(ours::mla_store, "mla_store", params, cuda_stream, message, message_size);
}

foveal_status foveal_indexer_prepare(const foveal_indexer_prepare_params* params, void* cuda_stream,
                                     char* message, size_t message_size) {
  return ours::guarded(ours::indexer_prepare, "indexer_prepare", params, cuda_stream, message,
                       message_size);
}

foveal_status foveal_indexer_scores(const foveal_indexer_scores_params* params, void* cuda_stream,
                                    char* message, size_t message_size) {
  return ours::guarded(ours::indexer_scores, "indexer_scores", params, cuda_stream, message,
                       message_size);
}
