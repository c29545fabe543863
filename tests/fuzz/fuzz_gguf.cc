// Bytes as a GGUF file: parsed, then everything a checkpoint reads from it.
#include <cstdint>
#include <cstring>
#include <memory>

#include "foveal/error.h"
#include "model/gguf.h"
#include "model/gguf_config.h"
#include "model/gguf_names.h"

namespace model = foveal::model;

uint8_t fuzz_sink = 0;  // keeps the reads of tensor data alive

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly this size, aligned as a mapped file is, so that a read past the end is seen.
  const auto copy = std::make_unique<std::byte[]>(size);
  if (size != 0) std::memcpy(copy.get(), data, size);
  try {
    const model::GgufFile file = model::parse_gguf({copy.get(), size}, "fuzz");
    for (const auto& [key, value] : file.metadata) {
      value.as_ints();
      value.as_doubles();
      value.as_strings();
    }
    uint8_t sum = 0;
    for (const model::GgufTensor& tensor : file.tensors) {
      model::hf_tensor_name(tensor.name, "gemma3");
      if (tensor.bytes != 0) {
        sum ^= static_cast<uint8_t>(tensor.view.data[0]);
        sum ^= static_cast<uint8_t>(tensor.view.data[tensor.bytes - 1]);
      }
    }
    fuzz_sink = sum;
    model::read_gguf_vocab(file, "fuzz");
    model::read_gguf_config(file, "fuzz");
  } catch (const foveal::Error& error) {
    if (error.kind() == foveal::ErrorKind::kInternal) __builtin_trap();
  }
  return 0;
}
