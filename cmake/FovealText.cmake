# The Rust crate text/ as one static library, foveal_text. Configuring needs no network; building
# fetches the crates that text/Cargo.lock pins.

find_program(FOVEAL_CARGO cargo HINTS $ENV{CARGO_HOME}/bin $ENV{HOME}/.cargo/bin)
if(NOT FOVEAL_CARGO)
  foveal_missing("cargo, Rust's build tool" cargo-web)
endif()

set(FOVEAL_TEXT_DIR ${CMAKE_SOURCE_DIR}/text)
# Several builds of one tree may share this folder, since the crate has no options.
set(FOVEAL_TEXT_BUILD ${CMAKE_BINARY_DIR}/text CACHE PATH "Where the text crate is built")
set(FOVEAL_TEXT_LIBRARY ${FOVEAL_TEXT_BUILD}/release/libfoveal_text.a)
set(FOVEAL_TEXT_HEADER ${FOVEAL_TEXT_BUILD}/cxxbridge/foveal-text/src/lib.rs.h)
file(MAKE_DIRECTORY ${FOVEAL_TEXT_BUILD}/cxxbridge)
file(GLOB_RECURSE FOVEAL_TEXT_SOURCES CONFIGURE_DEPENDS ${FOVEAL_TEXT_DIR}/src/*.rs)

# Cargo compiles the bridge's C++ with the same compiler as the rest. It leaves files alone that did
# not change, so both outputs are touched.
add_custom_command(
  OUTPUT ${FOVEAL_TEXT_LIBRARY} ${FOVEAL_TEXT_HEADER}
  COMMAND ${CMAKE_COMMAND} -E env CARGO_TARGET_DIR=${FOVEAL_TEXT_BUILD} CC=${CMAKE_C_COMPILER}
          CXX=${CMAKE_CXX_COMPILER} ${FOVEAL_CARGO} build --release --locked --quiet
          --manifest-path ${FOVEAL_TEXT_DIR}/Cargo.toml
  COMMAND ${CMAKE_COMMAND} -E touch ${FOVEAL_TEXT_LIBRARY} ${FOVEAL_TEXT_HEADER}
  DEPENDS ${FOVEAL_TEXT_SOURCES} ${FOVEAL_TEXT_DIR}/Cargo.toml ${FOVEAL_TEXT_DIR}/Cargo.lock
          ${FOVEAL_TEXT_DIR}/build.rs
  COMMENT "Building the text crate"
  VERBATIM)
add_custom_target(foveal_text_build DEPENDS ${FOVEAL_TEXT_LIBRARY} ${FOVEAL_TEXT_HEADER})

add_library(foveal_text STATIC IMPORTED GLOBAL)
set_target_properties(foveal_text PROPERTIES
  IMPORTED_LOCATION ${FOVEAL_TEXT_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${FOVEAL_TEXT_BUILD}/cxxbridge)
target_link_libraries(foveal_text INTERFACE Threads::Threads ${CMAKE_DL_LIBS} m)
add_dependencies(foveal_text foveal_text_build)
