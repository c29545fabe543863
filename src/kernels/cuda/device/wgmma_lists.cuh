#pragma once

// Inline assembly knows no arrays and counts its operands by number, D's registers first. So for a
// product of N columns (see wgmma.cuh), which has N / 2 of them a thread:
//   FOVEAL_WGMMA_NUMBERS_N  their numbers in the text, each list the one before and what it adds
//   FOVEAL_WGMMA_D_N(C)     they as operands: array d under constraint C
//   FOVEAL_WGMMA_BEHIND_N   the numbers, in the text, of the six operands that follow

// clang-format off
#define FOVEAL_WGMMA_NUMBERS_8 "%0, %1, %2, %3"
#define FOVEAL_WGMMA_NUMBERS_16 FOVEAL_WGMMA_NUMBERS_8 ", %4, %5, %6, %7"
#define FOVEAL_WGMMA_NUMBERS_32 FOVEAL_WGMMA_NUMBERS_16 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define FOVEAL_WGMMA_NUMBERS_48 FOVEAL_WGMMA_NUMBERS_32 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define FOVEAL_WGMMA_NUMBERS_64 FOVEAL_WGMMA_NUMBERS_48 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define FOVEAL_WGMMA_NUMBERS_72 FOVEAL_WGMMA_NUMBERS_64 ", %32, %33, %34, %35"
#define FOVEAL_WGMMA_NUMBERS_96 FOVEAL_WGMMA_NUMBERS_72 \
  ", %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define FOVEAL_WGMMA_NUMBERS_104 FOVEAL_WGMMA_NUMBERS_96 ", %48, %49, %50, %51"
#define FOVEAL_WGMMA_NUMBERS_128 FOVEAL_WGMMA_NUMBERS_104 \
  ", %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FOVEAL_WGMMA_NUMBERS_136 FOVEAL_WGMMA_NUMBERS_128 ", %64, %65, %66, %67"
#define FOVEAL_WGMMA_NUMBERS_192 FOVEAL_WGMMA_NUMBERS_136 \
  ", %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81" \
  ", %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define FOVEAL_WGMMA_NUMBERS_200 FOVEAL_WGMMA_NUMBERS_192 ", %96, %97, %98, %99"
#define FOVEAL_WGMMA_NUMBERS_256 FOVEAL_WGMMA_NUMBERS_200 \
  ", %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113" \
  ", %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

#define FOVEAL_WGMMA_BEHIND_8 "%4", "%5", "%6", "%7", "%8", "%9"
#define FOVEAL_WGMMA_BEHIND_16 "%8", "%9", "%10", "%11", "%12", "%13"
#define FOVEAL_WGMMA_BEHIND_32 "%16", "%17", "%18", "%19", "%20", "%21"
#define FOVEAL_WGMMA_BEHIND_48 "%24", "%25", "%26", "%27", "%28", "%29"
#define FOVEAL_WGMMA_BEHIND_64 "%32", "%33", "%34", "%35", "%36", "%37"
#define FOVEAL_WGMMA_BEHIND_72 "%36", "%37", "%38", "%39", "%40", "%41"
#define FOVEAL_WGMMA_BEHIND_96 "%48", "%49", "%50", "%51", "%52", "%53"
#define FOVEAL_WGMMA_BEHIND_104 "%52", "%53", "%54", "%55", "%56", "%57"
#define FOVEAL_WGMMA_BEHIND_128 "%64", "%65", "%66", "%67", "%68", "%69"
#define FOVEAL_WGMMA_BEHIND_136 "%68", "%69", "%70", "%71", "%72", "%73"
#define FOVEAL_WGMMA_BEHIND_192 "%96", "%97", "%98", "%99", "%100", "%101"
#define FOVEAL_WGMMA_BEHIND_200 "%100", "%101", "%102", "%103", "%104", "%105"
#define FOVEAL_WGMMA_BEHIND_256 "%128", "%129", "%130", "%131", "%132", "%133"

#define FOVEAL_WGMMA_D4(C, I) C(d[I]), C(d[I + 1]), C(d[I + 2]), C(d[I + 3])
#define FOVEAL_WGMMA_D8(C, I) FOVEAL_WGMMA_D4(C, I), FOVEAL_WGMMA_D4(C, I + 4)
#define FOVEAL_WGMMA_D16(C, I) FOVEAL_WGMMA_D8(C, I), FOVEAL_WGMMA_D8(C, I + 8)
#define FOVEAL_WGMMA_D32(C, I) FOVEAL_WGMMA_D16(C, I), FOVEAL_WGMMA_D16(C, I + 16)
#define FOVEAL_WGMMA_D64(C, I) FOVEAL_WGMMA_D32(C, I), FOVEAL_WGMMA_D32(C, I + 32)
#define FOVEAL_WGMMA_D_8(C) FOVEAL_WGMMA_D4(C, 0)
#define FOVEAL_WGMMA_D_16(C) FOVEAL_WGMMA_D8(C, 0)
#define FOVEAL_WGMMA_D_32(C) FOVEAL_WGMMA_D16(C, 0)
#define FOVEAL_WGMMA_D_48(C) FOVEAL_WGMMA_D16(C, 0), FOVEAL_WGMMA_D8(C, 16)
#define FOVEAL_WGMMA_D_64(C) FOVEAL_WGMMA_D32(C, 0)
#define FOVEAL_WGMMA_D_72(C) FOVEAL_WGMMA_D32(C, 0), FOVEAL_WGMMA_D4(C, 32)
#define FOVEAL_WGMMA_D_96(C) FOVEAL_WGMMA_D32(C, 0), FOVEAL_WGMMA_D16(C, 32)
#define FOVEAL_WGMMA_D_104(C) \
  \
  FOVEAL_WGMMA_D32(C, 0), FOVEAL_WGMMA_D16(C, 32), FOVEAL_WGMMA_D4(C, 48)
#define FOVEAL_WGMMA_D_128(C) FOVEAL_WGMMA_D64(C, 0)
#define FOVEAL_WGMMA_D_136(C) FOVEAL_WGMMA_D64(C, 0), FOVEAL_WGMMA_D4(C, 64)
#define FOVEAL_WGMMA_D_192(C) FOVEAL_WGMMA_D64(C, 0), FOVEAL_WGMMA_D32(C, 64)
#define FOVEAL_WGMMA_D_200(C) \
  \
  FOVEAL_WGMMA_D64(C, 0), FOVEAL_WGMMA_D32(C, 64), FOVEAL_WGMMA_D4(C, 96)
#define FOVEAL_WGMMA_D_256(C) FOVEAL_WGMMA_D64(C, 0), FOVEAL_WGMMA_D64(C, 64)
// clang-format on
