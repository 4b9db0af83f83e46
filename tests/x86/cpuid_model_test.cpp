#include "x86/cpuid_model.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "base/bits.h"
#include "x86/cpuid_features.h"
#include "x86/registers.h"

namespace doppel::x86 {
namespace {

using Feature = CpuidModel::Feature;
using Vendor = CpuidModel::Vendor;

/// A made-up host: what it is, and every feature bit set wherever nothing else is said.
class Host {
 public:
  explicit Host(Vendor vendor) {
    if (vendor == Vendor::Intel) {
      leaf(0) = {0x20, 0x756E'6547, 0x6C65'746E, 0x4965'6E69};
      leaf(1) = {0x000C'06F2, 0xFFFF'FFFF, ~0U, ~0U};
      leaf(0x8000'0000) = {0x8000'0008, 0, 0, 0};
      leaf(4, 0) = {0xFC00'4121, 0x02C0'003F, 0x3F, 0};
      leaf(4, 1) = {0xFC00'4122, 0x01C0'003F, 0x3F, 0};
      leaf(4, 2) = {0xFC00'4143, 0x03C0'003F, 0x7FF, 0};
      leaf(4, 3) = {0xFC1F'C163, 0x04C0'003F, 0x1'7FFF, 4};
      leaf(2) = {0x00FE'FF01, 0xF0, 0, 0};
    } else {
      leaf(0) = {0x1C, 0x6874'7541, 0x444D'4163, 0x6974'6E65};
      leaf(1) = {0x00B0'0F21, 0xFFFF'FFFF, ~0U, ~0U};
      leaf(0x8000'0000) = {0x8000'0028, 0x6874'7541, 0x444D'4163, 0x6974'6E65};
      leaf(0x8000'001D, 0) = {0x4121, 0x02C0'003F, 0x3F, 0};
      leaf(0x8000'001D, 1) = {0x4122, 0x01C0'003F, 0x3F, 0};
      leaf(0x8000'001D, 2) = {0x4143, 0x03C0'003F, 0x3FF, 2};
      leaf(0x8000'001D, 3) = {0x3'C163, 0x03C0'003F, 0x7FFF, 1};
    }
    leaf(7) = {2, ~0U, ~0U, ~0U};
    leaf(0xD) = {0xE7, 0xA88, 0xA88, 0};
    leaf(0xD, 1) = {0x1F, 0xA88, 0, 0};
    leaf(0x8000'0001) = {0, 0x4000'0000, ~0U, ~0U};
    leaf(0x8000'0002) = {0x6944'6F64, 1, 2, 3};
    leaf(0x8000'0008) = {0x0000'3934, ~0U, 0, 0};  // 52 and 57 bits
  }

  CpuidResult& leaf(std::uint32_t number, std::uint32_t subleaf = 0) { return leaves_[{number, subleaf}]; }
  CpuidModel model(unsigned cpus) const {
    return CpuidModel{[this](std::uint32_t number, std::uint32_t subleaf) {
                        const auto found = leaves_.find({number, subleaf});
                        return found == leaves_.end() ? CpuidResult{} : found->second;
                      },
                      cpus};
  }

 private:
  std::map<std::pair<std::uint32_t, std::uint32_t>, CpuidResult> leaves_;
};

constexpr CpuidModel::Context kBoot{0, 0, 1, 1};

CpuidResult query(const CpuidModel& model, std::uint32_t leaf, std::uint32_t subleaf = 0) {
  return model.query(leaf, subleaf, kBoot);
}

// What has to stay hidden even on a host that has everything: (leaf, register, bit, name).
struct Hidden {
  std::uint32_t leaf;
  unsigned reg, bit_number;
  const char* name;
};
constexpr unsigned kEax = 0, kEbx = 1, kEcx = 2, kEdx = 3;
constexpr std::array kHidden{
    Hidden{1, kEcx, 2, "DTES64"},
    Hidden{1, kEcx, 3, "MONITOR"},
    Hidden{1, kEcx, 5, "VMX"},
    Hidden{1, kEcx, 6, "SMX"},
    Hidden{1, kEcx, 7, "EIST"},
    Hidden{1, kEcx, 15, "PDCM"},
    Hidden{1, kEdx, 1, "VME"},
    Hidden{1, kEdx, 21, "DS"},
    Hidden{1, kEdx, 22, "ACPI"},
    Hidden{7, kEbx, 2, "SGX"},
    Hidden{7, kEbx, 4, "HLE"},
    Hidden{7, kEbx, 11, "RTM"},
    Hidden{7, kEbx, 12, "PQM"},
    Hidden{7, kEbx, 14, "MPX"},
    Hidden{7, kEbx, 16, "AVX512F"},
    Hidden{7, kEbx, 25, "PT"},
    Hidden{7, kEbx, 31, "AVX512VL"},
    Hidden{7, kEcx, 3, "PKU"},
    Hidden{7, kEcx, 5, "WAITPKG"},
    Hidden{7, kEcx, 7, "CET_SS"},
    Hidden{7, kEcx, 16, "LA57"},
    Hidden{7, kEcx, 31, "PKS"},
    Hidden{7, kEdx, 5, "UINTR"},
    Hidden{7, kEdx, 20, "CET_IBT"},
    Hidden{7, kEdx, 22, "AMX"},
    Hidden{0xD, kEax, 3, "subleaf 0: BNDREGS"},
    Hidden{0xD, kEax, 5, "AVX-512 state"},
    Hidden{0x8000'0001, kEcx, 2, "SVM"},
    Hidden{0x8000'0001, kEcx, 11, "XOP"},
    Hidden{0x8000'0001, kEcx, 16, "FMA4"},
    Hidden{0x8000'0001, kEcx, 29, "MONITORX"},
    Hidden{0x8000'0001, kEdx, 25, "FFXSR"},
    Hidden{0x8000'0001, kEdx, 31, "3DNow"},
};

unsigned reg_of(const CpuidResult& result, unsigned reg) {
  return std::array{result.eax, result.ebx, result.ecx, result.edx}[reg];
}

class CpuidVendorTest : public ::testing::TestWithParam<Vendor> {};
INSTANTIATE_TEST_SUITE_P(Vendors, CpuidVendorTest, ::testing::Values(Vendor::Intel, Vendor::Amd),
                         [](const auto& parameter) { return parameter.param == Vendor::Intel ? "Intel" : "Amd"; });

TEST_P(CpuidVendorTest, HidesWhatWeDoNotHave) {
  const CpuidModel model = Host(GetParam()).model(2);
  for (const Hidden& hidden : kHidden)
    EXPECT_EQ(reg_of(query(model, hidden.leaf), hidden.reg) >> hidden.bit_number & 1, 0U) << hidden.name;
  EXPECT_EQ(query(model, 7).eax, 0U);
  EXPECT_EQ(query(model, 0xA).eax, 0U) << "no performance counters";
  EXPECT_EQ(query(model, 5).eax | query(model, 5).edx, 0U) << "no MWAIT";
  EXPECT_EQ(query(model, 0xD, 1).eax & 8, 0U) << "no XSAVES";
  EXPECT_EQ(query(model, 6).eax, 4U) << "ARAT alone";
}

TEST_P(CpuidVendorTest, ShowsEveryFeatureOfAFullHostWhereTheManualHasIt) {
  const CpuidModel model = Host(GetParam()).model(2);
  const Vendor vendor = GetParam();
  for (const cpuid_table::Row& row : cpuid_table::kRows) {
    const bool offered = row.offered == cpuid_table::Offered::Both ||
                         (row.offered == cpuid_table::Offered::Intel) == (vendor == Vendor::Intel);
    if (!offered) continue;
    EXPECT_TRUE(model.has(row.feature)) << row.leaf << " " << unsigned{row.bit};
    const CpuidResult result = query(model, row.leaf, row.leaf == 0xD ? 1 : 0);
    EXPECT_EQ(reg_of(result, row.reg) >> row.bit & 1, 1U) << row.leaf << " " << unsigned{row.bit};
  }
}

TEST_P(CpuidVendorTest, ShowsNoFeatureThatTheHostLacks) {
  Host host(GetParam());
  host.leaf(1).ecx = host.leaf(1).edx = 0;
  host.leaf(7) = {};
  host.leaf(0xD) = {};
  host.leaf(0xD, 1) = {};
  host.leaf(0x8000'0001) = {};
  const CpuidModel model = host.model(1);
  for (const cpuid_table::Row& row : cpuid_table::kRows) {
    if (row.source == cpuid_table::Source::Ours) continue;
    EXPECT_FALSE(model.has(row.feature)) << row.leaf << " " << unsigned{row.bit};
  }
  EXPECT_EQ(model.supported_xcr0(), 3U);
  EXPECT_EQ(query(model, 0xD).eax, 0U);
}

TEST_P(CpuidVendorTest, AvxGoesWithItsState) {
  Host host(GetParam());
  host.leaf(0xD).eax = 3;
  const CpuidModel model = host.model(1);
  for (const Feature feature : {Feature::Avx, Feature::Avx2, Feature::Fma, Feature::F16c, Feature::Vaes})
    EXPECT_FALSE(model.has(feature));
  EXPECT_EQ(model.supported_xcr0(), 3U);
  EXPECT_EQ(query(model, 0xD).ecx, 576U);
  EXPECT_EQ(query(model, 0xD, 2).eax, 0U);
}

TEST_P(CpuidVendorTest, KeepsTheHostsIdentity) {
  Host host(GetParam());
  const CpuidModel model = host.model(1);
  EXPECT_EQ(model.vendor(), GetParam());
  EXPECT_EQ(query(model, 0).ebx, host.leaf(0).ebx);
  EXPECT_EQ(query(model, 0).eax, 0xDU);
  EXPECT_EQ(query(model, 1).eax, host.leaf(1).eax);
  EXPECT_EQ(query(model, 0x8000'0002).eax, 0x6944'6F64U);
}

TEST_P(CpuidVendorTest, TopologyIsCoherent) {
  for (const unsigned cpus : {1U, 2U, 3U, 4U, 7U, 16U}) {
    const CpuidModel model = Host(GetParam()).model(cpus);
    const unsigned shift = query(model, 0xB, 1).eax;
    EXPECT_GE(1U << shift, cpus);
    EXPECT_LT(shift == 0 ? 0 : 1U << (shift - 1), cpus);
    EXPECT_EQ(query(model, 0xB, 0).ebx, 1U);
    EXPECT_EQ(query(model, 0xB, 0).ecx, 0x100U);
    EXPECT_EQ(query(model, 0xB, 1).ebx, cpus);
    EXPECT_EQ(query(model, 0xB, 1).ecx, 0x201U);
    EXPECT_EQ(query(model, 0xB, 2).ecx, 2U);
    EXPECT_EQ(query(model, 0xB, 2).ebx, 0U);
    EXPECT_EQ(query(model, 1).ebx >> 16 & 0xFF, cpus);
    EXPECT_EQ(query(model, 1).edx >> 28 & 1, cpus > 1 ? 1U : 0U);
    if (GetParam() == Vendor::Amd) {
      EXPECT_EQ(query(model, 0x8000'0008).ecx & 0xFF, cpus - 1);
      EXPECT_EQ(query(model, 0x8000'0008).ecx >> 12, shift);
      EXPECT_EQ(query(model, 0x8000'0001).ecx >> 1 & 1, cpus > 1 ? 1U : 0U);
      EXPECT_EQ(query(model, 0x8000'001D, 0).eax >> 14 & 0xFFF, 0U) << "an L1 cache serves one";
      EXPECT_EQ(query(model, 0x8000'001D, 3).eax >> 14 & 0xFFF, cpus - 1) << "the L3 cache serves all";
      EXPECT_EQ(query(model, 0x8000'001D, 4).eax, 0U);
    } else {
      EXPECT_EQ(query(model, 4, 0).eax >> 26, (1U << shift) - 1);
      EXPECT_EQ(query(model, 4, 0).eax >> 14 & 0xFFF, 0U);
      EXPECT_EQ(query(model, 4, 3).eax >> 14 & 0xFFF, (1U << shift) - 1);
      EXPECT_EQ(query(model, 4, 4).eax, 0U);
    }
  }
}

TEST_P(CpuidVendorTest, EachProcessorSeesItsOwnId) {
  const CpuidModel model = Host(GetParam()).model(4);
  const CpuidModel::Context third{3, 0, 1, 1};
  EXPECT_EQ(model.query(1, 0, third).ebx >> 24, 3U);
  for (unsigned subleaf = 0; subleaf < 3; ++subleaf) EXPECT_EQ(model.query(0xB, subleaf, third).edx, 3U);
  if (GetParam() == Vendor::Amd) {
    EXPECT_EQ(model.query(0x8000'001E, 0, third).eax, 3U);
    EXPECT_EQ(model.query(0x8000'001E, 0, third).ebx, 3U);
  }
}

TEST_P(CpuidVendorTest, XsaveSizesFollowXcr0) {
  const CpuidModel model = Host(GetParam()).model(1);
  EXPECT_EQ(query(model, 0xD).eax, 7U);
  EXPECT_EQ(query(model, 0xD).edx, 0U);
  EXPECT_EQ(query(model, 0xD).ecx, 832U);
  EXPECT_EQ(query(model, 0xD).ebx, 576U);
  EXPECT_EQ(query(model, 0xD, 1).ebx, 576U);
  const CpuidModel::Context with_avx{0, cr4::kOsxsave, 7, 1};
  EXPECT_EQ(model.query(0xD, 0, with_avx).ebx, 832U);
  EXPECT_EQ(model.query(0xD, 1, with_avx).ebx, 832U);
  EXPECT_EQ(query(model, 0xD, 2).eax, 256U);
  EXPECT_EQ(query(model, 0xD, 2).ebx, 576U);
  EXPECT_EQ(query(model, 0xD, 3).eax, 0U);
  EXPECT_EQ(model.query(1, 0, with_avx).ecx >> 27 & 1, 1U) << "OSXSAVE mirrors CR4";
  EXPECT_EQ(query(model, 1).ecx >> 27 & 1, 0U);
}

TEST_P(CpuidVendorTest, SpeaksKvmToGuests) {
  const CpuidModel model = Host(GetParam()).model(1);
  const CpuidResult base = query(model, 0x4000'0000);
  std::array<char, 13> signature{};
  std::memcpy(signature.data(), &base.ebx, 4);
  std::memcpy(signature.data() + 4, &base.ecx, 4);
  std::memcpy(signature.data() + 8, &base.edx, 4);
  EXPECT_STREQ(signature.data(), "KVMKVMKVM");
  EXPECT_EQ(query(model, 0x4000'0001).eax, bit(0) | bit(1) | bit(3) | bit(24));
  EXPECT_EQ(query(model, 0x4000'0010).eax, 1'000'000U);
  EXPECT_EQ(query(model, 0x4000'0002).eax, 0U);
  EXPECT_EQ(query(model, 1).ecx >> 31, 1U);
  EXPECT_EQ(query(model, 0x8000'0007).edx, 0x100U) << "the TSC is invariant";
}

TEST_P(CpuidVendorTest, PhysicalAddressesHaveAtMost46Bits) {
  EXPECT_EQ(Host(GetParam()).model(1).physical_address_bits(), 46U);
  EXPECT_EQ(query(Host(GetParam()).model(1), 0x8000'0008).eax, 0x302EU);
  Host small(GetParam());
  small.leaf(0x8000'0008).eax = 0x3027;
  EXPECT_EQ(small.model(1).physical_address_bits(), 39U);
}

TEST_P(CpuidVendorTest, MiscEnableLimitsTheBasicLeaves) {
  const CpuidModel::Context limited{0, 0, 1, bit(22) | 1};
  EXPECT_EQ(Host(GetParam()).model(1).query(0, 0, limited).eax, 3U);
}

TEST(CpuidModel, IntelAnswersUnknownLeavesAsTheLastOne) {
  const CpuidModel intel = Host(Vendor::Intel).model(1), amd = Host(Vendor::Amd).model(1);
  EXPECT_EQ(query(intel, 0x15).ecx, 832U);
  EXPECT_EQ(query(intel, 0x8000'0021).ecx, 832U);
  EXPECT_EQ(query(amd, 0x15).ecx, 0U);
  EXPECT_EQ(query(amd, 0x9000'0000).eax, 0U);
}

TEST(CpuidModel, MitigationsAreAskedForOnlyWhereTheyHelp) {
  const CpuidModel intel = Host(Vendor::Intel).model(1), amd = Host(Vendor::Amd).model(1);
  EXPECT_EQ(intel.arch_capabilities() & (bit(0) | bit(1) | bit(4) | bit(5) | bit(8)),
            bit(0) | bit(1) | bit(4) | bit(5) | bit(8));
  EXPECT_EQ(amd.arch_capabilities(), 0U);
  EXPECT_FALSE(amd.has(Feature::SpecCtrl));
  EXPECT_TRUE(amd.has(Feature::AutoIbrs));
  EXPECT_EQ(query(amd, 0x8000'0021).eax & (bit(2) | bit(6) | bit(8) | bit(29)), bit(2) | bit(6) | bit(8) | bit(29));
}

/// The real host's model is what v3 programs expect of it, and no more than the host has.
TEST(CpuidModel, TheHostsModelIsASubsetOfTheHost) {
  const CpuidModel model = CpuidModel::for_host(4);
  EXPECT_TRUE(model.has(Feature::X2apic));
  EXPECT_EQ(model.has(Feature::Avx2), __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(model.has(Feature::Bmi2), __builtin_cpu_supports("bmi2") != 0);
  EXPECT_EQ(model.has(Feature::Fma), __builtin_cpu_supports("fma") != 0);
  EXPECT_GE(model.physical_address_bits(), 36U);
}

}  // namespace
}  // namespace doppel::x86
