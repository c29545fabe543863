#include "measure/result_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/check.h"
#include "base/new_file.h"
#include "input.h"
#include "json_writer.h"
#include "measure/json.h"

namespace foveal::measure {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kFlag = "output-dir";

std::string system_text() { return std::generic_category().message(errno); }

std::string settings_text(const Settings& settings) {
  tools::JsonWriter out;
  out.begin_object();
  for (const auto& [name, value] : settings) out.field(name, std::string_view(value));
  out.end_object();
  return out.text() + "\n";
}

void write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t count = ::write(fd, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    FOVEAL_CHECK(count > 0, ErrorKind::kIo, kFlag, "got no write to '{}' ({}); need room for it",
                 path, system_text());
    text.remove_prefix(static_cast<size_t>(count));
  }
}

}  // namespace

ResultFolder::ResultFolder(std::string path, const Settings& settings, bool overwrite)
    : path_(std::move(path)) {
  std::error_code code;
  fs::create_directories(path_, code);
  FOVEAL_CHECK(fs::is_directory(path_, code), ErrorKind::kIo, kFlag,
               "got '{}' ({}); need a folder, or a place for one", path_, code.message());
  const std::string samples = path_ + "/samples.jsonl";
  file_.fd = ::open(samples.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  FOVEAL_CHECK(file_.fd >= 0, ErrorKind::kIo, kFlag, "got '{}' ({}); need a writable folder", path_,
               system_text());
  FOVEAL_CHECK(::flock(file_.fd, LOCK_EX | LOCK_NB) == 0, ErrorKind::kIo, kFlag,
               "got '{}', which another process writes to; need a folder of its own", path_);
  if (overwrite) {
    fs::remove(path_ + "/settings.json", code);
    FOVEAL_CHECK(::ftruncate(file_.fd, 0) == 0, ErrorKind::kIo, kFlag, "got '{}' ({}); need a file",
                 samples, system_text());
  }
  check_settings(settings);
  read_samples();
  write("settings.json", settings_text(settings));
}

ResultFolder::File::~File() {
  if (fd >= 0) ::close(fd);
}

void ResultFolder::check_settings(const Settings& settings) const {
  const std::string file = path_ + "/settings.json";
  std::error_code code;
  if (!fs::exists(file, code)) {
    FOVEAL_CHECK(fs::file_size(path_ + "/samples.jsonl", code) == 0, ErrorKind::kInvalidArgument,
                 kFlag,
                 "got '{}', which has samples without settings.json; need another folder, "
                 "or --overwrite",
                 path_);
    return;
  }
  const boost::json::object there = parse_object(tools::read_input(file), file);
  for (const auto& [name, value] : settings) {
    const boost::json::value* old = there.if_contains(name);
    const bool same = old != nullptr && old->is_string() && old->get_string() == value;
    FOVEAL_CHECK(same, ErrorKind::kInvalidArgument, kFlag,
                 "got '{}', whose results are of another {}; need the same ('{}'), another folder, "
                 "or --overwrite",
                 path_, name, value);
  }
  for (const auto& old : there) {
    const bool known = std::any_of(settings.begin(), settings.end(),
                                   [&](const auto& one) { return one.first == old.key(); });
    FOVEAL_CHECK(
        known, ErrorKind::kInvalidArgument, kFlag,
        "got '{}', whose results are of {} '{}'; need the same, another folder, or "
        "--overwrite",
        path_, std::string_view(old.key()),
        old.value().is_string() ? std::string_view(old.value().get_string()) : std::string_view());
  }
}

void ResultFolder::read_samples() {
  const std::string file = path_ + "/samples.jsonl";
  const std::string text = tools::read_input(file);
  size_t begin = 0;
  for (size_t line = 1; begin < text.size(); ++line) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // cut short: its sample is done again
    Record record = record_from_json(std::string_view(text).substr(begin, end - begin),
                                     fmt::format("{}:{}", file, line));
    records_.insert_or_assign(record.id, std::move(record));
    begin = end + 1;
  }
  FOVEAL_CHECK(begin == text.size() || ::ftruncate(file_.fd, static_cast<off_t>(begin)) == 0,
               ErrorKind::kIo, kFlag, "got '{}' ({}); need a file", file, system_text());
}

void ResultFolder::add(const Record& record) {
  const std::string line = to_json(record) + "\n";
  const std::lock_guard lock(mutex_);
  write_all(file_.fd, line, path_ + "/samples.jsonl");
  records_.insert_or_assign(record.id, record);
}

void ResultFolder::write(const std::string& file, const std::string& text) const {
  NewFile out(path_ + "/" + file, kFlag);
  out.write(text);
  out.commit();
}

}  // namespace foveal::measure
