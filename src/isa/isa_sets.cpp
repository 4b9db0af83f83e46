#include "isa/isa_sets.h"

#include <array>

namespace doppel::isa {

namespace {

using Feature = x86::CpuidModel::Feature;

/// Sets that every x86-64 processor has, and those of VMCALL and VMMCALL: of these two nobody has the rest, which is
/// then undefined.
constexpr std::array kBaseline{
    ZYDIS_ISA_SET_I86,        ZYDIS_ISA_SET_I186,         ZYDIS_ISA_SET_I286REAL, ZYDIS_ISA_SET_I286PROTECTED,
    ZYDIS_ISA_SET_I386,       ZYDIS_ISA_SET_I486,         ZYDIS_ISA_SET_I486REAL, ZYDIS_ISA_SET_PENTIUMREAL,
    ZYDIS_ISA_SET_PENTIUMMMX, ZYDIS_ISA_SET_PPRO,         ZYDIS_ISA_SET_CMOV,     ZYDIS_ISA_SET_FCMOV,
    ZYDIS_ISA_SET_X87,        ZYDIS_ISA_SET_FAT_NOP,      ZYDIS_ISA_SET_FXSAVE,   ZYDIS_ISA_SET_FXSAVE64,
    ZYDIS_ISA_SET_SSE,        ZYDIS_ISA_SET_SSE2,         ZYDIS_ISA_SET_SSE2MMX,  ZYDIS_ISA_SET_SSEMXCSR,
    ZYDIS_ISA_SET_CLFSH,      ZYDIS_ISA_SET_SSE_PREFETCH, ZYDIS_ISA_SET_LAHF,     ZYDIS_ISA_SET_LONGMODE,
    ZYDIS_ISA_SET_PAUSE,      ZYDIS_ISA_SET_PREFETCH_NOP, ZYDIS_ISA_SET_RDPMC,    ZYDIS_ISA_SET_AMD,
    ZYDIS_ISA_SET_VTX,        ZYDIS_ISA_SET_SVM,
};

struct FeatureOfSet {
  ZydisISASet set;
  Feature feature;
};
constexpr std::array kOptional{
    FeatureOfSet{ZYDIS_ISA_SET_ADOX_ADCX, Feature::Adx},
    FeatureOfSet{ZYDIS_ISA_SET_AES, Feature::Aes},
    FeatureOfSet{ZYDIS_ISA_SET_AVX, Feature::Avx},
    FeatureOfSet{ZYDIS_ISA_SET_AVX2, Feature::Avx2},
    FeatureOfSet{ZYDIS_ISA_SET_AVX2GATHER, Feature::Avx2},
    FeatureOfSet{ZYDIS_ISA_SET_BMI1, Feature::Bmi1},
    FeatureOfSet{ZYDIS_ISA_SET_BMI2, Feature::Bmi2},
    FeatureOfSet{ZYDIS_ISA_SET_CLFLUSHOPT, Feature::Clflushopt},
    FeatureOfSet{ZYDIS_ISA_SET_CLWB, Feature::Clwb},
    FeatureOfSet{ZYDIS_ISA_SET_CMPXCHG16B, Feature::Cx16},
    FeatureOfSet{ZYDIS_ISA_SET_F16C, Feature::F16c},
    FeatureOfSet{ZYDIS_ISA_SET_FMA, Feature::Fma},
    FeatureOfSet{ZYDIS_ISA_SET_GFNI, Feature::Gfni},
    FeatureOfSet{ZYDIS_ISA_SET_INVPCID, Feature::Invpcid},
    FeatureOfSet{ZYDIS_ISA_SET_LZCNT, Feature::Lzcnt},
    FeatureOfSet{ZYDIS_ISA_SET_MOVBE, Feature::Movbe},
    FeatureOfSet{ZYDIS_ISA_SET_PCLMULQDQ, Feature::Pclmulqdq},
    FeatureOfSet{ZYDIS_ISA_SET_POPCNT, Feature::Popcnt},
    FeatureOfSet{ZYDIS_ISA_SET_RDPID, Feature::Rdpid},
    FeatureOfSet{ZYDIS_ISA_SET_RDRAND, Feature::Rdrand},
    FeatureOfSet{ZYDIS_ISA_SET_RDSEED, Feature::Rdseed},
    FeatureOfSet{ZYDIS_ISA_SET_RDTSCP, Feature::Rdtscp},
    FeatureOfSet{ZYDIS_ISA_SET_RDWRFSGS, Feature::Fsgsbase},
    FeatureOfSet{ZYDIS_ISA_SET_SHA, Feature::Sha},
    FeatureOfSet{ZYDIS_ISA_SET_SMAP, Feature::Smap},
    FeatureOfSet{ZYDIS_ISA_SET_SSE3, Feature::Sse3},
    FeatureOfSet{ZYDIS_ISA_SET_SSE3X87, Feature::Sse3},
    FeatureOfSet{ZYDIS_ISA_SET_SSE4, Feature::Sse41},
    FeatureOfSet{ZYDIS_ISA_SET_SSE42, Feature::Sse42},
    FeatureOfSet{ZYDIS_ISA_SET_SSE4A, Feature::Sse4a},
    FeatureOfSet{ZYDIS_ISA_SET_SSSE3, Feature::Ssse3},
    FeatureOfSet{ZYDIS_ISA_SET_SSSE3MMX, Feature::Ssse3},
    FeatureOfSet{ZYDIS_ISA_SET_VAES, Feature::Vaes},
    FeatureOfSet{ZYDIS_ISA_SET_VPCLMULQDQ, Feature::Vpclmulqdq},
    FeatureOfSet{ZYDIS_ISA_SET_XSAVE, Feature::Xsave},
    FeatureOfSet{ZYDIS_ISA_SET_XSAVEC, Feature::Xsavec},
    FeatureOfSet{ZYDIS_ISA_SET_XSAVEOPT, Feature::Xsaveopt},
};

/// The VEX forms of what another feature brought: both must be there.
constexpr std::array kAlsoAvx{
    FeatureOfSet{ZYDIS_ISA_SET_AVXAES, Feature::Aes},
    FeatureOfSet{ZYDIS_ISA_SET_AVX_GFNI, Feature::Gfni},
};

}  // namespace

bool has_isa_set(const x86::CpuidModel& cpuid, ZydisISASet set) {
  for (const ZydisISASet baseline : kBaseline) {
    if (set == baseline) return true;
  }
  for (const FeatureOfSet& row : kOptional) {
    if (set == row.set) return cpuid.has(row.feature);
  }
  for (const FeatureOfSet& row : kAlsoAvx) {
    if (set == row.set) return cpuid.has(row.feature) && cpuid.has(Feature::Avx);
  }
  return false;
}

}  // namespace doppel::isa
