#include <array>

#include "fuzz_isa/generator.h"

namespace doppel::fuzz_isa {

namespace {

struct Row {
  ZydisMnemonic mnemonic;
  const char* why;
};
constexpr const char* kKernel = "belongs to the host's kernel";
constexpr const char* kModel = "another processor model, time or chance";
constexpr const char* kUmip = "Linux emulates it under UMIP";
constexpr const char* kXcr0 = "another XCR0: AVX-512";
constexpr const char* kLength = "its length differs between makers";
constexpr const char* kSvm = "the host has SVM, guests do not; or hypervisors intercept it";
constexpr const char* kAmdImage = "MXCSR_MASK has AMD's misaligned mode";
constexpr const char* kSelectors = "stores FCS and FDS, which are deprecated in guests";

constexpr std::array kRows{
    Row{ZYDIS_MNEMONIC_SYSCALL, kKernel},   Row{ZYDIS_MNEMONIC_SYSENTER, kKernel},
    Row{ZYDIS_MNEMONIC_CPUID, kModel},      Row{ZYDIS_MNEMONIC_RDTSC, kModel},
    Row{ZYDIS_MNEMONIC_RDTSCP, kModel},     Row{ZYDIS_MNEMONIC_RDRAND, kModel},
    Row{ZYDIS_MNEMONIC_RDSEED, kModel},     Row{ZYDIS_MNEMONIC_RDPID, kModel},
    Row{ZYDIS_MNEMONIC_RDPMC, kModel},      Row{ZYDIS_MNEMONIC_XGETBV, kXcr0},
    Row{ZYDIS_MNEMONIC_SGDT, kUmip},        Row{ZYDIS_MNEMONIC_SIDT, kUmip},
    Row{ZYDIS_MNEMONIC_SLDT, kUmip},        Row{ZYDIS_MNEMONIC_STR, kUmip},
    Row{ZYDIS_MNEMONIC_SMSW, kUmip},        Row{ZYDIS_MNEMONIC_VMCALL, kSvm},
    Row{ZYDIS_MNEMONIC_VMMCALL, kSvm},      Row{ZYDIS_MNEMONIC_XSAVE, kXcr0},
    Row{ZYDIS_MNEMONIC_XSAVE64, kXcr0},     Row{ZYDIS_MNEMONIC_XSAVEC, kXcr0},
    Row{ZYDIS_MNEMONIC_XSAVEC64, kXcr0},    Row{ZYDIS_MNEMONIC_XSAVEOPT, kXcr0},
    Row{ZYDIS_MNEMONIC_XSAVEOPT64, kXcr0},  Row{ZYDIS_MNEMONIC_XRSTOR, kXcr0},
    Row{ZYDIS_MNEMONIC_XRSTOR64, kXcr0},    Row{ZYDIS_MNEMONIC_UD0, kLength},
    Row{ZYDIS_MNEMONIC_UD1, kLength},       Row{ZYDIS_MNEMONIC_VMREAD, kLength},
    Row{ZYDIS_MNEMONIC_VMWRITE, kLength},   Row{ZYDIS_MNEMONIC_LSL, "a limit is the processor's number"},
    Row{ZYDIS_MNEMONIC_VMRUN, kSvm},        Row{ZYDIS_MNEMONIC_VMLOAD, kSvm},
    Row{ZYDIS_MNEMONIC_VMSAVE, kSvm},       Row{ZYDIS_MNEMONIC_STGI, kSvm},
    Row{ZYDIS_MNEMONIC_CLGI, kSvm},         Row{ZYDIS_MNEMONIC_SKINIT, kSvm},
    Row{ZYDIS_MNEMONIC_INVLPGA, kSvm},      Row{ZYDIS_MNEMONIC_INT1, kSvm},
    Row{ZYDIS_MNEMONIC_FXSAVE, kAmdImage},  Row{ZYDIS_MNEMONIC_FXSAVE64, kAmdImage},
    Row{ZYDIS_MNEMONIC_FNSAVE, kSelectors}, Row{ZYDIS_MNEMONIC_FNSTENV, kSelectors},
};

}  // namespace

const char* Generator::no_judge(ZydisMnemonic mnemonic) {
  for (const Row& row : kRows)
    if (row.mnemonic == mnemonic) return row.why;
  return nullptr;
}

}  // namespace doppel::fuzz_isa
