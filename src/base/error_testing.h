#pragma once

#include <gtest/gtest.h>

#include <string>

#include "foveal/error.h"

namespace foveal::test {

/// The text of the Error that `call` throws; "no error" where it throws none.
template <class Call>
std::string error_text(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// The same of an Error that must be of this kind.
template <class Call>
std::string error_text(ErrorKind kind, const Call& call) {
  return error_text([&] {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      throw;
    }
  });
}

}  // namespace foveal::test
