// CMake wants a source of each library; what libfoveal_kernels.so holds comes from static ones.
