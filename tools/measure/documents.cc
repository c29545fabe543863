#include "measure/documents.h"

#include <boost/json/array.hpp>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "input.h"
#include "measure/json.h"

namespace foveal::measure {
namespace json = boost::json;
namespace {

std::vector<int32_t> read_ids(const json::value& value, const std::string& where) {
  FOVEAL_CHECK(value.is_array(), ErrorKind::kInvalidArgument, where,
               "got input_ids that is no list; need a list of token ids");
  std::vector<int32_t> out;
  for (const json::value& item : value.get_array()) {
    const int64_t* id = item.if_int64();
    FOVEAL_CHECK(id != nullptr && *id >= 0 && *id <= std::numeric_limits<int32_t>::max(),
                 ErrorKind::kInvalidArgument, where,
                 "got an item of input_ids that is no token id; need integers from 0");
    out.push_back(static_cast<int32_t>(*id));
  }
  return out;
}

Document read_line(std::string_view line, const std::string& where) {
  Document out{.id = where, .object = parse_object(line, where)};
  const json::object& object = out.object;
  if (const json::value* ids = object.if_contains("input_ids")) {
    out.ids = read_ids(*ids, where);
    return out;
  }
  const json::value* text = object.if_contains("text");
  if (text == nullptr) text = object.if_contains("prompt");
  FOVEAL_CHECK(text != nullptr, ErrorKind::kInvalidArgument, where,
               "got an object without them; need text, prompt or input_ids");
  FOVEAL_CHECK(text->is_string(), ErrorKind::kInvalidArgument, where,
               "got a text that is no string; need a string");
  out.text = text->get_string();
  return out;
}

template <class Read>
std::vector<Document> each_line(const std::string& path, std::string_view flag, const Read& read) {
  const std::string content = tools::read_input(path, flag);
  const std::string name = std::filesystem::path(path).filename().string();
  std::vector<Document> out;
  size_t begin = 0;
  for (size_t line = 1; begin < content.size(); ++line) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string_view text = std::string_view(content).substr(begin, end - begin);
    begin = end + 1;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = fmt::format("{}:{}", name, line);
    try {
      out.push_back(read(text, where));
    } catch (const Error& error) {
      out.push_back({.id = where, .error = error.what()});
    }
  }
  FOVEAL_CHECK(!out.empty(), ErrorKind::kInvalidArgument, flag,
               "got '{}' without a line; need a document a line", path);
  return out;
}

}  // namespace

std::vector<Document> read_documents(const std::string& path, std::string_view flag) {
  const std::filesystem::path file(path);
  if (file.extension() == ".jsonl") return read_lines(path, flag);
  std::string content = tools::read_input(path, flag);
  FOVEAL_CHECK(!content.empty(), ErrorKind::kInvalidArgument, flag,
               "got '{}' with nothing in it; need a text", path);
  std::vector<Document> out;
  out.push_back({.id = file.filename().string(), .text = std::move(content)});
  return out;
}

std::vector<Document> read_lines(const std::string& path, std::string_view flag) {
  return each_line(path, flag, read_line);
}

std::vector<Document> read_objects(const std::string& path, std::string_view flag) {
  return each_line(path, flag, [](std::string_view line, const std::string& where) {
    return Document{.id = where, .object = parse_object(line, where)};
  });
}

void check_document(const Document& document) {
  if (document.error) throw Error(ErrorKind::kInvalidArgument, *document.error);
}

std::string content_hash(const std::string& path, std::string_view flag) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : tools::read_input(path, flag)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace foveal::measure
