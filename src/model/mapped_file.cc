#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/check.h"

namespace foveal::model {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

std::string system_text(int code) { return std::generic_category().message(code); }

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) {
    const int code = errno;
    const bool absent = code == ENOENT || code == ENOTDIR;
    fail(absent ? ErrorKind::kNotFound : ErrorKind::kIo, path, "got '{}'; need a readable file",
         system_text(code));
  }
  struct stat info{};
  FOVEAL_CHECK(::fstat(file.fd, &info) == 0, ErrorKind::kIo, path, "got '{}'; need its size",
               system_text(errno));
  FOVEAL_CHECK(S_ISREG(info.st_mode), ErrorKind::kIo, path,
               "got something that is no regular file; need a file that can be mapped");
  if (info.st_size == 0) return;  // mmap refuses empty files; an empty span says it all
  void* mapped =
      ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, file.fd, 0);
  FOVEAL_CHECK(mapped != MAP_FAILED, ErrorKind::kIo, path, "got '{}'; need {} bytes of it mapped",
               system_text(errno), info.st_size);
  data_ = static_cast<const std::byte*>(mapped);
  size_ = static_cast<size_t>(info.st_size);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::prefetch() const {
  if (data_ == nullptr) return;
  void* start = const_cast<std::byte*>(data_);
  ::madvise(start, size_, MADV_WILLNEED);
#ifdef MADV_POPULATE_READ
  const auto memory =
      static_cast<size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  if (size_ <= memory / 2) ::madvise(start, size_, MADV_POPULATE_READ);
#endif
}

}  // namespace foveal::model
