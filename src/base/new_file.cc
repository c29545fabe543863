#include "base/new_file.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace foveal {
namespace fs = std::filesystem;
namespace {

// What a rename would replace instead of writing to it: devices, pipes, and what standard output
// and error are, whose descriptors would go on writing to a file without a name.
bool is_special(const std::string& path) {
  struct stat at{};
  if (::stat(path.c_str(), &at) != 0) return false;
  if (!S_ISREG(at.st_mode)) return true;
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    struct stat own{};
    if (::fstat(fd, &own) == 0 && own.st_dev == at.st_dev && own.st_ino == at.st_ino) return true;
  }
  return false;
}

}  // namespace

std::string written_path(const std::string& path) {
  constexpr int kMaxLinks = 40;  // as the kernel follows
  std::error_code code;
  fs::path file = path;
  for (int i = 0; i < kMaxLinks && fs::is_symlink(file, code); ++i) {
    const fs::path target = fs::read_symlink(file, code);
    if (code) break;
    file = file.parent_path() / target;  // an absolute target replaces it
  }
  // A relative path of which nothing exists would stay relative.
  return fs::weakly_canonical(fs::absolute(file, code), code).string();
}

NewFile::NewFile(const std::string& path, std::string_view where)
    : shown_(path),
      where_(where.empty() ? path : where),
      final_(written_path(path)),
      direct_(is_special(path)),
      fresh_(direct_ ? path : fmt::format("{}.{}.tmp", final_, ::getpid())) {
  errno = 0;
  file_ = std::fopen(fresh_.c_str(), "wb");
  check(file_ != nullptr);
  struct stat old{};
  if (!direct_ && ::stat(final_.c_str(), &old) == 0)
    ::fchmod(::fileno(file_), old.st_mode & 07777U);
}

NewFile::~NewFile() {
  if (file_ != nullptr) std::fclose(file_);
  if (!committed_ && !direct_) std::remove(fresh_.c_str());
}

void NewFile::write(std::string_view bytes) {
  errno = 0;
  if (!bytes.empty()) check(std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size());
}

void NewFile::commit() {
  errno = 0;
  const int closed = std::fclose(std::exchange(file_, nullptr));
  check(closed == 0);
  check(direct_ || std::rename(fresh_.c_str(), final_.c_str()) == 0);
  committed_ = true;
}

void NewFile::check(bool good) const {
  FOVEAL_CHECK(good, ErrorKind::kIo, where_,
               "got no write to '{}' ({}); need a writable path with room for it", shown_,
               std::generic_category().message(errno));
}

}  // namespace foveal
