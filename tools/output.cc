#include "output.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <deque>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/gguf_part.h"
#include "base/new_file.h"

namespace foveal::tools {
namespace {

std::string system_text(int code) { return std::generic_category().message(code); }

// Only what a signal handler may call.
void on_bus_error(int) {
  constexpr std::string_view kText =
      "[foveal] got no data behind a mapped file (it shrank, or its disk failed); need it whole "
      "while it is in use\n";
  if (::write(STDERR_FILENO, kText.data(), kText.size()) < 0) ::_exit(1);
  ::_exit(1);
}

std::atomic<const std::string*> interrupt_line{nullptr};
std::atomic<bool> on_terminal{false};

// Likewise. Raised again, it ends the process with the status that shells expect.
void on_interrupt(int signal) {
  const std::string* line = interrupt_line.load();
  if (on_terminal.load() && ::write(STDERR_FILENO, "\n", 1) < 0) line = nullptr;
  if (line != nullptr && ::write(STDERR_FILENO, line->data(), line->size()) < 0) line = nullptr;
  ::raise(signal);
}

}  // namespace

void write_out(std::string_view text) {
  errno = 0;
  const bool good =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!good && errno == EPIPE) throw NoReader(ErrorKind::kIo, "[stdout] got no reader; need one");
  FOVEAL_CHECK(good, ErrorKind::kIo, "stdout", "got '{}'; need an output that takes {} bytes",
               system_text(errno), text.size());
}

void write_file(std::string_view flag, const std::string& path, const std::string& text) {
  if (path.empty()) return;
  NewFile file(path, flag);
  file.write(text);
  file.commit();
}

void write_results(std::span<const OutputText> files, std::string_view shown) {
  std::exception_ptr first;
  const auto guarded = [&](const auto& call) {
    try {
      call();
    } catch (const Error&) {
      if (!first) first = std::current_exception();
    }
  };
  for (const OutputText& file : files) {
    guarded([&] { write_file(file.flag, file.path, file.text); });
  }
  guarded([&] { write_out(shown); });
  if (first) std::rethrow_exception(first);
}

void check_writable(std::string_view flag, const std::string& path) {
  if (path.empty()) return;
  namespace fs = std::filesystem;
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (fs::exists(status)) {
    FOVEAL_CHECK(!fs::is_directory(status), ErrorKind::kInvalidArgument, flag,
                 "got the folder '{}'; need a file", path);
    FOVEAL_CHECK(::access(path.c_str(), W_OK) == 0, ErrorKind::kIo, flag,
                 "got '{}' ({}); need a writable file", path, system_text(errno));
    if (!fs::is_regular_file(status)) return;  // a device or a pipe needs no room beside it
  }
  std::error_code unread;
  const bool link = fs::is_symlink(path, unread);
  const std::string folder = fs::path(link ? written_path(path) : path).parent_path().string();
  FOVEAL_CHECK(::access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0, ErrorKind::kIo,
               flag, "got '{}' ({}); need a path in a writable folder", path, system_text(errno));
  FOVEAL_CHECK(!code || status.type() == fs::file_type::not_found, ErrorKind::kIo, flag,
               "got '{}' ({}); need a writable path", path, code.message());
}

void check_not_input(std::string_view flag, const std::string& path, const std::string& input) {
  namespace fs = std::filesystem;
  std::error_code code;
  if (path.empty() || input.empty() || !fs::is_regular_file(path, code)) return;
  const auto check = [&](const fs::path& file) {
    FOVEAL_CHECK(!fs::equivalent(path, file, code), ErrorKind::kInvalidArgument, flag,
                 "got '{}', which is also read as '{}'; need another file", path, file.string());
  };
  const bool folder = fs::is_directory(input, code);
  if (!folder) check(input);
  const auto part_of = [](const fs::path& file) { return gguf_part(file.filename().string()); };
  const std::optional<GgufPart> one = folder ? std::nullopt : part_of(input);
  if (!folder && !one) return;
  const fs::path parent = fs::path(input).parent_path();
  const fs::path where = folder ? fs::path(input) : parent.empty() ? fs::path(".") : parent;
  for (fs::directory_iterator entry(where, code), end; !code && entry != end;
       entry.increment(code)) {
    const std::optional<GgufPart> other = one ? part_of(entry->path()) : std::nullopt;
    if (folder || (other && other->same_model(*one))) check(entry->path());
  }
}

bool same_output(const std::string& one, const std::string& other) {
  namespace fs = std::filesystem;
  std::error_code code;
  if (one.empty() || other.empty()) return false;
  if (fs::is_regular_file(one, code)) return fs::equivalent(one, other, code);
  if (fs::exists(one, code)) return false;  // a device or a pipe takes several
  const std::string new_file = written_path(one);
  return !new_file.empty() && new_file == written_path(other);
}

void check_outputs(std::span<const OutputFile> outputs, std::span<const std::string> inputs) {
  for (const OutputFile& output : outputs) {
    check_writable(output.flag, output.path);
    for (const std::string& input : inputs) check_not_input(output.flag, output.path, input);
    for (const OutputFile& other : outputs) {
      FOVEAL_CHECK(&output == &other || !same_output(output.path, other.path),
                   ErrorKind::kInvalidArgument, output.flag,
                   "got '{}', which --{} writes to as well; need a file for each", output.path,
                   other.flag);
    }
  }
}

void guard_process() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // The wrong way round, so that reading or writing goes on failing. Takes the lowest free
    // number, which is `fd`.
    if (::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file size limit: likewise
  struct sigaction action{};
  action.sa_handler = on_bus_error;
  ::sigaction(SIGBUS, &action, nullptr);
  struct sigaction before{};
  ::sigaction(SIGINT, nullptr, &before);
  if (before.sa_handler == SIG_IGN) return;  // a shell's background job: it stays so
  set_interrupt_text(
      "[foveal] got an interrupt before the end; need the command again for all of it");
  on_terminal = ::isatty(STDERR_FILENO) == 1;
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
}

void set_interrupt_text(std::string text) {
  static std::deque<std::string> kept;  // the handler may be reading the one before
  interrupt_line = &kept.emplace_back(std::move(text) + "\n");
}

}  // namespace foveal::tools
