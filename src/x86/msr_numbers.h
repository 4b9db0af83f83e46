#pragma once

#include <cstdint>

/// Numbers of model-specific registers, named as in SDM vol. 4, AMD's APM vol. 2, appendix A, and Linux's msr.rst of
/// KVM.
namespace doppel::x86::msr {

inline constexpr std::uint32_t kP5McAddr = 0x0, kP5McType = 0x1, kTimeStampCounter = 0x10, kKvmWallClock = 0x11,
                               kKvmSystemTime = 0x12, kPlatformId = 0x17, kApicBase = 0x1B, kEblCrPoweron = 0x2A,
                               kFeatureControl = 0x3A, kTscAdjust = 0x3B, kSpecCtrl = 0x48, kPredCmd = 0x49,
                               kBiosUpdtTrig = 0x79, kBiosSignId = 0x8B, kMtrrCap = 0xFE, kArchCapabilities = 0x10A,
                               kSysenterCs = 0x174, kSysenterEsp = 0x175, kSysenterEip = 0x176, kMcgCap = 0x179,
                               kMcgStatus = 0x17A, kMiscEnable = 0x1A0, kDebugCtl = 0x1D9, kLastBranchFromIp = 0x1DB,
                               kLastIntToIp = 0x1DE, kMtrrPhysBase0 = 0x200, kMtrrFix64k = 0x250, kMtrrFix16k = 0x258,
                               kMtrrFix4k = 0x268, kPat = 0x277, kMtrrDefType = 0x2FF, kTscDeadline = 0x6E0,
                               kX2apicFirst = 0x800, kX2apicLast = 0x8FF;

inline constexpr std::uint32_t kEfer = 0xC000'0080, kStar = 0xC000'0081, kLstar = 0xC000'0082, kCstar = 0xC000'0083,
                               kFmask = 0xC000'0084, kFsBase = 0xC000'0100, kGsBase = 0xC000'0101,
                               kKernelGsBase = 0xC000'0102, kTscAux = 0xC000'0103;

inline constexpr std::uint32_t kKvmWallClockNew = 0x4B56'4D00, kKvmSystemTimeNew = 0x4B56'4D01;

// AMD's own.
inline constexpr std::uint32_t kSysCfg = 0xC001'0010, kHwcr = 0xC001'0015, kNbCfg = 0xC001'001F,
                               kPatchLoader = 0xC001'0020, kIntPending = 0xC001'0055, kMmioConfBase = 0xC001'0058,
                               kVmHsavePa = 0xC001'0117, kLsCfg = 0xC001'1020, kDcCfg = 0xC001'1022,
                               kDeCfg = 0xC001'1029, kBuCfg2 = 0xC001'102A;

}  // namespace doppel::x86::msr
