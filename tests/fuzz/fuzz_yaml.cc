// YAML text -> LlmConfig: whatever the bytes, the answer is a configuration that passes its own
// validation, or an Error of the documented form.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/config_fields.h"
#include "base/yaml_options.h"
#include "foveal/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  foveal::LlmConfig config;
  try {
    config = foveal::llm_config_from_yaml(text, "fuzz.yaml");
  } catch (const foveal::Error& error) {
    const std::string message = error.what();
    if (message.empty() || message.front() != '[' || message.find("] got ") == std::string::npos ||
        message.find("; need ") == std::string::npos || message.find('\n') != std::string::npos) {
      std::abort();
    }
    return 0;
  }
  foveal::validate(config);  // an Error from here is a difference between binding and validating
  return 0;
}
