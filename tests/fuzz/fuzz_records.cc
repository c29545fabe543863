// Lines of files that measuring commands read: a record that eval wrote, which must come out as it
// went in, and a line of a data set.
#include <boost/json/serialize.hpp>
#include <cstdint>
#include <string_view>

#include "foveal/error.h"
#include "measure/json.h"
#include "measure/records.h"

namespace measure = foveal::measure;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 64 << 10) return 0;
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  try {
    measure::parse_object(line, "fuzz:1");
    const std::string once = measure::to_json(measure::record_from_json(line, "fuzz:1"));
    if (measure::to_json(measure::record_from_json(once, "fuzz:1")) != once) __builtin_trap();
  } catch (const foveal::Error& error) {
    if (error.kind() != foveal::ErrorKind::kInvalidArgument) __builtin_trap();
  }
  return 0;
}
