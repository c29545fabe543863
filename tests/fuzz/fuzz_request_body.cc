// Bytes as a request's JSON body, read as any, and what a chat's messages and forms are read from.
// Breaking is a crash, an exception other than foveal::Error, and an Error that blames the server.
#include <boost/json/serialize.hpp>
#include <cstdint>
#include <string_view>

#include "base/json_scan.h"
#include "foveal/error.h"
#include "server/json_read.h"
#include "server/messages.h"

namespace json = boost::json;
namespace server = foveal::server;

namespace {

template <class Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const foveal::Error& error) {
    const std::string_view text = error.what();
    const bool theirs = error.kind() == foveal::ErrorKind::kInvalidArgument ||
                        error.kind() == foveal::ErrorKind::kUnsupported;
    if (!theirs || !text.starts_with('[') || text.find('\n') != std::string_view::npos) {
      __builtin_trap();
    }
  }
}

void read_fields(const json::object& body) {
  for (const auto& entry : body) {
    const std::string_view name(entry.key().data(), entry.key().size());
    const auto each = [&](auto read) {
      attempt([&] {
        server::JsonReader reader(body, "r");
        read(reader);
      });
    };
    each([&](auto& reader) { reader.flag(name); });
    each([&](auto& reader) { reader.integer(name, -5, 1 << 20); });
    each([&](auto& reader) { reader.seed(name); });
    each([&](auto& reader) { reader.number(name, -2, 2); });
    each([&](auto& reader) { reader.text(name); });
    each([&](auto& reader) { reader.texts(name, 16); });
    each([&](auto& reader) { reader.ids(name, 64); });
    each([&](auto& reader) { reader.finish(); });
    if (const json::array* list = entry.value().if_array()) {
      attempt([&] {
        const json::array read = server::read_messages(*list, "messages");
        // What is handed to templates is JSON that can be read again.
        server::parse_body("{\"m\":" + json::serialize(read) + "}");
      });
    }
    attempt([&] { server::read_content(entry.value(), "content"); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 64 << 10) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  foveal::scan_json(text, 4);
  attempt([&] { read_fields(server::parse_body(text)); });
  return 0;
}
