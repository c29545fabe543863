#include "input.h"

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "base/check.h"
#include "json_writer.h"

namespace foveal::tools {
namespace {

constexpr size_t kMaxInput = size_t{256} << 20;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string read_input(const std::string& path, std::string_view flag) {
  const bool from_stdin = path == "-";
  std::error_code ignored;
  if (!from_stdin && std::filesystem::is_directory(path, ignored)) {
    fail(ErrorKind::kInvalidArgument, flag, "got the folder '{}'; need a file", path);
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      from_stdin ? stdin : std::fopen(path.c_str(), "rb"),
      from_stdin ? [](std::FILE*) { return 0; } : std::fclose);
  FOVEAL_CHECK(file != nullptr, ErrorKind::kNotFound, flag, "got '{}'; need a readable file", path);
  std::string out;
  char buffer[1 << 16];
  for (size_t got = sizeof(buffer); got == sizeof(buffer);) {
    got = std::fread(buffer, 1, sizeof(buffer), file.get());
    out.append(buffer, got);
    FOVEAL_CHECK(out.size() <= kMaxInput, ErrorKind::kInvalidArgument, flag,
                 "got more than {} bytes in '{}'; need less", kMaxInput, path);
  }
  FOVEAL_CHECK(std::ferror(file.get()) == 0, ErrorKind::kIo, flag,
               "got a read error in '{}'; need a readable file", path);
  return out;
}

std::vector<std::string_view> split_list(std::string_view text) {
  std::vector<std::string_view> out;
  while (true) {
    const size_t comma = text.find(',');
    out.push_back(trim(text.substr(0, comma)));
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

bool is_empty_list(std::string_view text) {
  text = trim(text);
  if (text.starts_with('[') && text.ends_with(']')) text = trim(text.substr(1, text.size() - 2));
  return text.empty();
}

std::vector<int32_t> parse_token_ids(const std::string& text) {
  const std::string content =
      text.starts_with('@') ? read_input(text.substr(1), "token-ids") : text;
  std::string_view rest = trim(content);
  if (rest.starts_with('[') && rest.ends_with(']')) rest = trim(rest.substr(1, rest.size() - 2));
  std::vector<int32_t> out;
  for (const std::string_view item : split_list(rest)) {
    int32_t id = 0;
    const auto [end, status] = std::from_chars(item.data(), item.data() + item.size(), id);
    FOVEAL_CHECK(status == std::errc{} && end == item.data() + item.size() && id >= 0,
                 ErrorKind::kInvalidArgument, "token-ids",
                 "got '{}'; need integers from 0, separated by commas", item.substr(0, 40));
    out.push_back(id);
  }
  return out;
}

std::string json_string(std::string_view text) { return JsonWriter().value(text).text(); }

}  // namespace foveal::tools
