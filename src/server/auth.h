#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace foveal::server {

/// The API keys of a server, as digests: comparing takes the same time whatever was sent.
class Auth {
 public:
  explicit Auth(const std::vector<std::string>& keys);

  bool required() const { return !digests_.empty(); }
  /// The number of the key in an Authorization field (`Bearer KEY`), nothing when it is none of
  /// ours.
  std::optional<size_t> check(std::optional<std::string_view> authorization) const;

 private:
  std::vector<std::array<unsigned char, 32>> digests_;
};

/// The lines of a key file that are neither empty nor begin with '#'. Throws kIo, and
/// kInvalidArgument for a file with no key.
std::vector<std::string> read_key_file(const std::string& path);

}  // namespace foveal::server
