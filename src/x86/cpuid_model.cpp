#include "x86/cpuid_model.h"

#include <cpuid.h>

#include <algorithm>
#include <array>
#include <bit>

#include "base/bits.h"
#include "time/vm_clock.h"
#include "x86/cpuid_features.h"
#include "x86/registers.h"
#include "x86/xstate.h"

namespace doppel::x86 {

using cpuid_table::kEax;
using cpuid_table::kEbx;
using cpuid_table::kEcx;
using cpuid_table::kEdx;
using cpuid_table::kRows;
using cpuid_table::Offered;
using cpuid_table::Source;

namespace {

constexpr std::uint32_t kAnySubleaf = ~std::uint32_t{0};
constexpr std::uint32_t kHypervisorBase = 0x4000'0000, kExtendedBase = 0x8000'0000;
constexpr std::uint32_t kMaxBasicLeaf = 0xD, kMaxHypervisorLeaf = 0x4000'0010, kMaxExtendedLeafAmd = 0x8000'0021,
                        kMaxExtendedLeafIntel = 0x8000'0008;

constexpr std::uint32_t mask(std::initializer_list<unsigned> bit_numbers) {
  std::uint32_t result = 0;
  for (const unsigned number : bit_numbers) result |= 1U << number;
  return result;
}

std::uint32_t reg_of(const CpuidResult& result, unsigned reg) {
  const std::array<std::uint32_t, 4> registers{result.eax, result.ebx, result.ecx, result.edx};
  return registers[reg];
}

bool is_vendor(const CpuidResult& leaf0, std::uint32_t ebx, std::uint32_t edx, std::uint32_t ecx) {
  return leaf0.ebx == ebx && leaf0.edx == edx && leaf0.ecx == ecx;
}

/// The number of APIC ID bits that tell `cpus` processors apart.
unsigned apic_id_bits(unsigned cpus) {
  return static_cast<unsigned>(std::bit_width(cpus - 1));
}

// What every x86-64 processor has and we emulate. Not VME: no processor since AMD's Zen does it right, and few guests
// ask. MONITOR, debug store, thermal control and their like are hidden.
constexpr std::uint32_t kLeaf1Edx = mask({0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26});
constexpr unsigned kHttBit = 28, kHypervisorBit = 31, kOsxsaveBit = 27;
constexpr std::uint32_t kDeprecatesFcsFds = 1U << 13;

}  // namespace

CpuidModel CpuidModel::for_host(unsigned cpus) {
  const auto host = [](std::uint32_t leaf, std::uint32_t subleaf) {
    CpuidResult result;
    __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
    return result;
  };
  return CpuidModel{host, cpus};
}

CpuidModel::CpuidModel(const CpuidFunction& host, unsigned cpus) : cpus_(cpus) {
  const CpuidResult leaf0 = host(0, 0);
  const bool amd = is_vendor(leaf0, 0x6874'7541, 0x6974'6E65, 0x444D'4163);    // AuthenticAMD
  const bool hygon = is_vendor(leaf0, 0x6F67'7948, 0x6E65'476E, 0x656E'6975);  // HygonGenuine
  vendor_ = amd || hygon ? Vendor::Amd : Vendor::Intel;

  constexpr unsigned kMostBits = 46;  // 4-level paging's share of the address space leaves no room for more
  physical_address_bits_ = std::min(host(0x8000'0008, 0).eax & 0xFF, kMostBits);
  take_features(host);
  add_basic_leaves(host);
  add_topology_leaves();
  if (vendor_ == Vendor::Intel) {
    add_intel_caches(host);
  } else {
    add_amd_caches(host);
  }
  add_xstate_leaves();
  add_hypervisor_leaves();
  add_extended_leaves(host);
}

void CpuidModel::take_features(const CpuidFunction& host) {
  const CpuidResult limits = host(0, 0), extended_limits = host(kExtendedBase, 0);
  const auto host_has = [&](std::uint32_t leaf, unsigned reg, unsigned bit_number) {
    if (leaf > (leaf >= kExtendedBase ? extended_limits.eax : limits.eax)) return false;
    return (reg_of(host(leaf, cpuid_table::subleaf_of(leaf)), reg) >> bit_number & 1) != 0;
  };
  // Vector state that the host's own kernel does not keep is of no use to us.
  constexpr std::uint64_t kAvxState = xcr0::kX87 | xcr0::kSse | xcr0::kAvx;
  const bool xsave = host_has(1, kEcx, kOsxsaveBit);
  const bool avx = xsave && host_has(1, kEcx, 28) && (host(0xD, 0).eax & kAvxState) == kAvxState;
  supported_xcr0_ = avx ? kAvxState : xcr0::kX87 | xcr0::kSse;

  for (const cpuid_table::Row& row : kRows) {
    if (row.offered == (vendor_ == Vendor::Intel ? Offered::Amd : Offered::Intel)) continue;
    const bool available =
        row.source == Source::Ours || ((row.source == Source::Host || avx) && host_has(row.leaf, row.reg, row.bit));
    if (available) features_ |= bit(static_cast<unsigned>(row.feature));
  }
  if (vendor_ == Vendor::Intel) features_ |= bit(static_cast<unsigned>(Feature::Ibpb));  // comes with SpecCtrl
}

std::uint32_t CpuidModel::feature_bits(std::uint32_t leaf, unsigned reg) const {
  std::uint32_t result = 0;
  for (const cpuid_table::Row& row : kRows) {
    const bool shown = row.offered == Offered::Both || (row.offered == Offered::Intel) == (vendor_ == Vendor::Intel);
    if (row.leaf == leaf && row.reg == reg && shown && has(row.feature)) result |= 1U << row.bit;
  }
  return result;
}

std::uint64_t CpuidModel::arch_capabilities() const {
  // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO,
  // BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO: nothing of the guest is ever executed ahead of its privilege checks.
  std::uint64_t result = 0;
  for (const unsigned number : {0, 1, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27, 62}) result |= bit(number);
  return has(Feature::ArchCapabilities) ? result : 0;
}

void CpuidModel::add(std::uint32_t leaf, std::uint32_t subleaf, const CpuidResult& result) {
  leaves_.push_back({leaf, subleaf, result});
}

void CpuidModel::add_basic_leaves(const CpuidFunction& host) {
  CpuidResult leaf0 = host(0, 0);
  leaf0.eax = kMaxBasicLeaf;
  add(0, kAnySubleaf, leaf0);

  CpuidResult leaf1 = host(1, 0);  // family, model and stepping are the host's
  constexpr std::uint32_t kClflushLine = 8;
  leaf1.ebx = kClflushLine << 8 | (cpus_ & 0xFF) << 16;
  leaf1.ecx = feature_bits(1, kEcx) | 1U << kHypervisorBit;
  leaf1.edx = kLeaf1Edx | (cpus_ > 1 ? 1U << kHttBit : 0);
  add(1, kAnySubleaf, leaf1);

  constexpr std::uint32_t kArat = 1U << 2;
  add(6, kAnySubleaf, {kArat, 0, 0, 0});
  // IBPB on Intel is the bit of SPEC_CTRL.
  add(7, 0, {0, feature_bits(7, kEbx) | kDeprecatesFcsFds, feature_bits(7, kEcx), feature_bits(7, kEdx)});
}

/// One thread a core, one package; APIC IDs are 0 to cpus - 1.
void CpuidModel::add_topology_leaves() {
  constexpr std::uint32_t kThreadLevel = 1 << 8, kCoreLevel = 2 << 8;
  add(0xB, 0, {0, 1, kThreadLevel | 0, 0});
  add(0xB, 1, {apic_id_bits(cpus_), cpus_, kCoreLevel | 1, 0});
}

void CpuidModel::add_intel_caches(const CpuidFunction& host) {
  add(2, kAnySubleaf, host(2, 0));
  constexpr unsigned kMostCaches = 8;
  const std::uint32_t ids = 1U << apic_id_bits(cpus_);
  for (unsigned i = 0; i < kMostCaches; ++i) {
    CpuidResult cache = host(4, i);
    if ((cache.eax & 0x1F) == 0) break;
    const unsigned level = cache.eax >> 5 & 7;
    cache.eax = (cache.eax & 0x3FFF) | (level >= 3 ? ids - 1 : 0) << 14 | std::min(ids - 1, 63U) << 26;
    add(4, i, cache);
  }
}

void CpuidModel::add_amd_caches(const CpuidFunction& host) {
  constexpr std::uint32_t kLeaf = 0x8000'001D;
  constexpr unsigned kMostCaches = 8;
  if (host(kExtendedBase, 0).eax < kLeaf) return;
  for (unsigned i = 0; i < kMostCaches; ++i) {
    CpuidResult cache = host(kLeaf, i);
    if ((cache.eax & 0x1F) == 0) break;
    const unsigned level = cache.eax >> 5 & 7;
    cache.eax = (cache.eax & 0x3FFF) | (level >= 3 ? cpus_ - 1 : 0) << 14;
    add(kLeaf, i, cache);
  }
}

void CpuidModel::add_xstate_leaves() {
  if (!has(Feature::Xsave)) return;
  add(0xD, 0, {static_cast<std::uint32_t>(supported_xcr0_), 0, xsave_area_size(supported_xcr0_, false), 0});
  add(0xD, 1, {feature_bits(0xD, kEax), 0, 0, 0});
  if ((supported_xcr0_ & xcr0::kAvx) != 0) add(0xD, 2, {kXsaveAvxSize, kXsaveAvxOffset, 0, 0});
}

/// Linux, Documentation/virt/kvm/x86/cpuid.rst: with these, a guest calibrates nothing.
void CpuidModel::add_hypervisor_leaves() {
  constexpr std::uint32_t kKvmk = 0x4B4D'564B, kVmkv = 0x564B'4D56, kM = 0x4D;  // "KVMKVMKVM"
  constexpr std::uint32_t kFeatures =
      mask({0, 1, 3, 24});  // CLOCKSOURCE, NOP_IO_DELAY, CLOCKSOURCE2, CLOCKSOURCE_STABLE
  constexpr auto kKhz = static_cast<std::uint32_t>(time::kTscHz / 1000);
  add(kHypervisorBase, kAnySubleaf, {kMaxHypervisorLeaf, kKvmk, kVmkv, kM});
  add(kHypervisorBase + 1, kAnySubleaf, {kFeatures, 0, 0, 0});
  add(kMaxHypervisorLeaf, kAnySubleaf, {kKhz, kKhz, 0, 0});  // TSC and local APIC timer
}

void CpuidModel::add_extended_leaves(const CpuidFunction& host) {
  const bool amd = vendor_ == Vendor::Amd;
  const CpuidResult leaf1 = host(1, 0), limits = host(kExtendedBase, 0);
  add(kExtendedBase, kAnySubleaf,
      {amd ? kMaxExtendedLeafAmd : kMaxExtendedLeafIntel, limits.ebx, limits.ecx, limits.edx});

  constexpr std::uint32_t kLahf = 1U << 0, kCmpLegacy = 1U << 1, kTopoext = 1U << 22;
  constexpr std::uint32_t kSyscall = 1U << 11, kNx = 1U << 20, kMmxExtensions = 1U << 22, kLongMode = 1U << 29;
  constexpr std::uint32_t kEdxOfLeaf1 = 0x0183'F3FF;  // AMD repeats these bits of leaf 1
  CpuidResult features = host(0x8000'0001, 0);
  const bool topoext = amd && find(0x8000'001D, 0) != nullptr;
  features.eax = amd ? leaf1.eax : 0;
  features.ebx = amd ? features.ebx : 0;
  features.ecx =
      feature_bits(0x8000'0001, kEcx) | kLahf | (amd && cpus_ > 1 ? kCmpLegacy : 0) | (topoext ? kTopoext : 0);
  features.edx = feature_bits(0x8000'0001, kEdx) | kSyscall | kNx | kLongMode |
                 (amd ? kMmxExtensions | (kLeaf1Edx & kEdxOfLeaf1) : 0);
  add(0x8000'0001, kAnySubleaf, features);

  for (std::uint32_t leaf = 0x8000'0002; leaf <= 0x8000'0004; ++leaf) add(leaf, kAnySubleaf, host(leaf, 0));
  if (amd) add(0x8000'0005, kAnySubleaf, host(0x8000'0005, 0));
  add(0x8000'0006, kAnySubleaf, host(0x8000'0006, 0));
  constexpr std::uint32_t kInvariantTsc = 1U << 8;
  add(0x8000'0007, kAnySubleaf, {0, 0, 0, kInvariantTsc});

  constexpr std::uint32_t kLinearBits = 48;
  // XSAVEERPTR: x87 pointers are always saved. SSB_NO, BTC_NO, IBPB_RET: nothing runs ahead of its checks.
  constexpr std::uint32_t kAmdEbx = mask({2, 26, 29, 30});
  CpuidResult sizes{physical_address_bits_ | kLinearBits << 8, 0, 0, 0};
  if (amd) {
    sizes.ebx = kAmdEbx | feature_bits(0x8000'0008, kEbx);
    sizes.ecx = (cpus_ - 1) | apic_id_bits(cpus_) << 12;
  }
  add(0x8000'0008, kAnySubleaf, sizes);
  if (!amd) return;

  if (limits.eax >= 0x8000'0019) add(0x8000'0019, kAnySubleaf, host(0x8000'0019, 0));
  if (topoext) add(0x8000'001E, kAnySubleaf, {});
  // LFENCE always serializes, a null selector clears the base, SRSO_NO; TSA_SQ_NO and TSA_L1_NO.
  add(0x8000'0021, kAnySubleaf, {feature_bits(0x8000'0021, kEax) | mask({2, 6, 29}), 0, mask({1, 2}), 0});
}

const CpuidResult* CpuidModel::find(std::uint32_t leaf, std::uint32_t subleaf) const {
  const auto found = std::find_if(leaves_.begin(), leaves_.end(), [&](const Leaf& candidate) {
    return candidate.leaf == leaf && (candidate.subleaf == kAnySubleaf || candidate.subleaf == subleaf);
  });
  return found == leaves_.end() ? nullptr : &found->result;
}

CpuidResult CpuidModel::query(std::uint32_t leaf, std::uint32_t subleaf, const Context& context) const {
  constexpr std::uint64_t kLimitCpuid = bit(22);  // of IA32_MISC_ENABLE
  const bool limited = (context.misc_enable & kLimitCpuid) != 0;
  const std::uint32_t max_basic = limited ? 3 : kMaxBasicLeaf;
  // Intel's processors answer a basic or extended leaf that they do not have as the highest basic one.
  if (vendor_ == Vendor::Intel) {
    const bool hypervisor = leaf >= kHypervisorBase && leaf < kHypervisorBase + 0x100;
    const std::uint32_t max = leaf >= kExtendedBase ? kMaxExtendedLeafIntel : max_basic;
    if (leaf > max && !hypervisor) leaf = max_basic;
  }
  const CpuidResult* found = find(leaf, subleaf);
  CpuidResult result = found == nullptr ? CpuidResult{} : *found;
  switch (leaf) {
    case 0:
      result.eax = max_basic;
      break;
    case 1:
      result.ebx |= (context.apic_id & 0xFF) << 24;
      if ((context.cr4 & cr4::kOsxsave) != 0) result.ecx |= 1U << kOsxsaveBit;
      break;
    case 0xB:
      if (found == nullptr) result.ecx = subleaf & 0xFF;
      result.edx = context.apic_id;
      break;
    case 0xD:
      if (found != nullptr && subleaf == 0) result.ebx = xsave_area_size(context.xcr0, false);
      if (found != nullptr && subleaf == 1 && has(Feature::Xsavec)) result.ebx = xsave_area_size(context.xcr0, true);
      break;
    case 0x8000'001E:
      if (found != nullptr) result = {context.apic_id, context.apic_id & 0xFF, 0, 0};
      break;
    default:
      break;
  }
  return result;
}

}  // namespace doppel::x86
