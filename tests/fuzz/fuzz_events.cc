// Bytes as what a server streams: events must not depend on how the network cuts them.
#include <cstdint>
#include <string>
#include <string_view>

#include "client/openai.h"

namespace {

std::string events(std::string_view bytes, size_t step) {
  foveal::client::EventReader reader;
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += step) {
    reader.feed(bytes.substr(at, step),
                [&out](std::string_view data) { out.append(data).push_back('\0'); });
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 16 << 10) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string whole = events(bytes, size + 1);
  if (events(bytes, 1) != whole || events(bytes, 5) != whole) __builtin_trap();
  return 0;
}
