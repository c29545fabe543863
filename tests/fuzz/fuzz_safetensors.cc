// Bytes as a safetensors file, and as the text of a shard index.
#include <cstdint>
#include <cstring>
#include <memory>

#include "foveal/error.h"
#include "model/safetensors.h"

namespace model = foveal::model;

uint8_t fuzz_sink = 0;  // keeps the reads of tensor data alive

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto copy = std::make_unique<std::byte[]>(size);
  if (size != 0) std::memcpy(copy.get(), data, size);
  try {
    uint8_t sum = 0;
    for (const auto& tensor : model::parse_safetensors({copy.get(), size}, "fuzz")) {
      if (tensor.bytes != 0) sum ^= static_cast<uint8_t>(tensor.view.data[tensor.bytes - 1]);
    }
    fuzz_sink = sum;
  } catch (const foveal::Error& error) {
    if (error.kind() == foveal::ErrorKind::kInternal) __builtin_trap();
  }
  try {
    model::parse_safetensors_index({reinterpret_cast<const char*>(copy.get()), size}, "fuzz");
  } catch (const foveal::Error& error) {
    if (error.kind() == foveal::ErrorKind::kInternal) __builtin_trap();
  }
  return 0;
}
