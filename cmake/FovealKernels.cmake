# libfoveal_kernels.so: the attention kernels behind include/foveal/kernels.h, with the CUDA runtime and the
# C++ library inside, so that it loads beside PyTorch's or anybody's. Included by src/kernels/cuda.
include(GNUInstallDirs)

set(exports ${CMAKE_SOURCE_DIR}/cmake/libfoveal_kernels.map)
add_library(foveal_kernels_shared SHARED ${CMAKE_SOURCE_DIR}/cmake/empty.cc)
target_link_libraries(foveal_kernels_shared PRIVATE "$<LINK_LIBRARY:WHOLE_ARCHIVE,foveal_kernels_abi>")
set_target_properties(foveal_kernels_shared PROPERTIES
  OUTPUT_NAME foveal_kernels
  LINKER_LANGUAGE CXX
  # One file without links to it: Python loads it by its name, and the header's ABI number is in it.
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib
  LINK_DEPENDS ${exports})
target_link_options(foveal_kernels_shared PRIVATE -Wl,--version-script=${exports} -Wl,-z,defs -Wl,--gc-sections)
install(TARGETS foveal_kernels_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library)
if(FOVEAL_PYTHON)
  install(TARGETS foveal_kernels_shared LIBRARY DESTINATION foveal COMPONENT python)
endif()
