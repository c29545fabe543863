#include "server/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <fstream>

#include "base/check.h"

namespace foveal::server {
namespace {

using Digest = std::array<unsigned char, 32>;

Digest digest_of(std::string_view text) {
  Digest out{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data());
  return out;
}

bool is_scheme(std::string_view text) {
  constexpr std::string_view kScheme = "bearer ";
  if (text.size() < kScheme.size()) return false;
  for (size_t idx = 0; idx < kScheme.size(); ++idx) {
    const char c = text[idx];
    if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != kScheme[idx]) return false;
  }
  return true;
}

}  // namespace

Auth::Auth(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    FOVEAL_CHECK(key.find_first_of(" \t\r\n") == std::string::npos && !key.empty(),
                 ErrorKind::kInvalidArgument, "api_key",
                 "got an empty key or one with white space; need a word");
    digests_.push_back(digest_of(key));
  }
}

std::optional<size_t> Auth::check(std::optional<std::string_view> authorization) const {
  if (!authorization || !is_scheme(*authorization)) return std::nullopt;
  std::string_view key = authorization->substr(7);
  while (!key.empty() && key.front() == ' ') key.remove_prefix(1);
  const Digest digest = digest_of(key);
  std::optional<size_t> found;
  for (size_t idx = 0; idx < digests_.size(); ++idx) {  // all of them, always
    if (CRYPTO_memcmp(digest.data(), digests_[idx].data(), digest.size()) == 0) found = idx;
  }
  return found;
}

std::vector<std::string> read_key_file(const std::string& path) {
  std::ifstream file(path);
  FOVEAL_CHECK(file.good(), ErrorKind::kIo, "api_key_file",
               "got no readable file '{}'; need one key a line", path);
  std::vector<std::string> keys;
  for (std::string line; std::getline(file, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty() && !line.starts_with('#')) keys.push_back(line);
  }
  FOVEAL_CHECK(!keys.empty(), ErrorKind::kInvalidArgument, "api_key_file",
               "got no key in '{}'; need one a line", path);
  return keys;
}

}  // namespace foveal::server
