// Debian's libboost_json.a is not position independent, so libfoveal.so carries its own copy of
// what is in it, compiled here. See FovealInstall.cmake.
#include <boost/json/src.hpp>
