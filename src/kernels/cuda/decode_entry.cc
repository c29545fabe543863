#include <cstdio>
#include <exception>
#include <string_view>

#include "foveal/error.h"
#include "foveal/kernels.h"
#include "kernels/cuda/decode_launch.h"

namespace {

void write_message(std::string_view text, char* message, size_t size) {
  if (message != nullptr && size > 0) {
    std::snprintf(message, size, "%.*s", static_cast<int>(text.size()), text.data());
  }
}

foveal_status status_of(foveal::ErrorKind kind) {
  switch (kind) {
    case foveal::ErrorKind::kInvalidArgument:
      return FOVEAL_INVALID_ARGUMENT;
    case foveal::ErrorKind::kUnsupported:
      return FOVEAL_UNSUPPORTED;
    default:
      return FOVEAL_CUDA_ERROR;
  }
}

}  // namespace

extern "C" foveal_status foveal_attention_decode(const foveal_attention_params* params, void* cuda_stream,
                                                 char* message, size_t message_size) {
  try {
    if (params == nullptr) {
      write_message("[decode] got no parameters; need a struct", message, message_size);
      return FOVEAL_INVALID_ARGUMENT;
    }
    foveal::kernels::cuda::decode_attention(*params, cuda_stream);
    write_message("", message, message_size);
    return FOVEAL_OK;
  } catch (const foveal::Error& error) {
    write_message(error.what(), message, message_size);
    return status_of(error.kind());
  } catch (const std::exception& error) {
    write_message(error.what(), message, message_size);
    return FOVEAL_CUDA_ERROR;
  }
}

extern "C" size_t foveal_attention_decode_workspace(const foveal_attention_params* params) {
  using namespace foveal::kernels::cuda;
  return params == nullptr ? 0 : decode_choose(*params, kMaxDecodeGrid).workspace.bytes;
}

extern "C" foveal_attention_tiling foveal_attention_decode_tiling(const foveal_attention_params* params) {
  const int32_t group = params == nullptr || params->num_kv_heads < 1 ? 1 : params->num_heads / params->num_kv_heads;
  return {group, foveal::kernels::cuda::kDecodeVoteKeys};
}
