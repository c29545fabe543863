#pragma once

#include <cstdio>
#include <string>
#include <string_view>

namespace foveal {

/// Where a write to `path` goes: absolute, through links, those that lead to no file yet as well.
std::string written_path(const std::string& path);

/// A file that has its name only when it is whole: what is written goes to a file beside it, which
/// takes the name, and the mode of what had it, in `commit`, and is removed where that is not
/// reached (a full disk, an error elsewhere). Devices and pipes are written to at once.
class NewFile {
 public:
  /// `where` names the path's flag in errors; empty: the path. Throws kIo.
  explicit NewFile(const std::string& path, std::string_view where = {});
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  /// Throws kIo.
  void write(std::string_view bytes);
  /// Throws kIo. Nothing may be written after it.
  void commit();

 private:
  void check(bool good) const;

  std::string shown_;  ///< the path as it was given
  std::string where_;
  std::string final_;
  bool direct_;
  std::string fresh_;  ///< what is written to
  std::FILE* file_ = nullptr;
  bool committed_ = false;
};

}  // namespace foveal
