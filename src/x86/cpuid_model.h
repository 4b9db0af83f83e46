#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace doppel::x86 {

struct CpuidResult {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// Which processor the guest sees: a subset of the host's (its arithmetic runs there), up to the level x86-64-v3 and
/// what goes with it. One model serves all vCPUs; the leaves that differ (initial APIC ID, OSXSAVE, XSAVE sizes) take
/// CpuidContext. Immutable.
class CpuidModel {
 public:
  /// From the host's CPUID, for a guest of `cpus` processors.
  static CpuidModel for_host(unsigned cpus);
  /// From anyone's.
  using CpuidFunction = std::function<CpuidResult(std::uint32_t leaf, std::uint32_t subleaf)>;
  CpuidModel(const CpuidFunction& host, unsigned cpus);

  enum class Vendor : std::uint8_t { Intel, Amd };
  /// Whose model-specific registers and leaves the guest finds; Hygon counts as AMD, others as Intel.
  Vendor vendor() const { return vendor_; }

  struct Context {
    std::uint32_t apic_id;
    std::uint64_t cr4;
    std::uint64_t xcr0;
    std::uint64_t misc_enable;
  };
  CpuidResult query(std::uint32_t leaf, std::uint32_t subleaf, const Context& context) const;

  /// IA32_ARCH_CAPABILITIES.
  std::uint64_t arch_capabilities() const;

  /// Everything beyond x86-64-v1 that an instruction's presence depends on.
  enum class Feature : std::uint8_t {
    Sse3,
    Pclmulqdq,
    Ssse3,
    Fma,
    Cx16,
    Sse41,
    Sse42,
    Movbe,
    Popcnt,
    Aes,
    Xsave,
    Avx,
    F16c,
    Rdrand,
    Fsgsbase,
    Bmi1,
    Avx2,
    Smep,
    Bmi2,
    Erms,
    Invpcid,
    Pcid,
    Rdseed,
    Adx,
    Smap,
    Clflushopt,
    Clwb,
    Sha,
    Umip,
    Rdpid,
    Lzcnt,
    Sse4a,
    Prefetchw,
    Rdtscp,
    Page1Gb,
    Xsaveopt,
    Xsavec,
    Xgetbv1,
    X2apic,
    TscDeadline,
    Vaes,
    Vpclmulqdq,
    Gfni,
    Fsrm,
    TscAdjust,
    ArchCapabilities,  ///< IA32_ARCH_CAPABILITIES (Intel)
    SpecCtrl,          ///< IA32_SPEC_CTRL (Intel)
    Ibpb,              ///< IA32_PRED_CMD
    AutoIbrs,          ///< EFER.AIBRSE (AMD)
  };
  bool has(Feature feature) const { return (features_ >> static_cast<unsigned>(feature) & 1) != 0; }

  /// MAXPHYADDR; physical addresses above are reserved bits in page tables.
  unsigned physical_address_bits() const { return physical_address_bits_; }
  /// XCR0 bits that the guest may set.
  std::uint64_t supported_xcr0() const { return supported_xcr0_; }
  std::uint64_t mxcsr_mask() const { return mxcsr_mask_; }

 private:
  struct Leaf {
    std::uint32_t leaf, subleaf;
    CpuidResult result;
  };

  void take_features(const CpuidFunction& host);
  void add(std::uint32_t leaf, std::uint32_t subleaf, const CpuidResult& result);
  void add_basic_leaves(const CpuidFunction& host);
  void add_topology_leaves();
  void add_intel_caches(const CpuidFunction& host);
  void add_amd_caches(const CpuidFunction& host);
  void add_xstate_leaves();
  void add_hypervisor_leaves();
  void add_extended_leaves(const CpuidFunction& host);
  const CpuidResult* find(std::uint32_t leaf, std::uint32_t subleaf) const;
  /// The feature bits of one register.
  std::uint32_t feature_bits(std::uint32_t leaf, unsigned reg) const;

  Vendor vendor_ = Vendor::Intel;
  std::uint64_t features_ = 0;
  unsigned physical_address_bits_ = 40;
  std::uint64_t supported_xcr0_ = 3;
  std::uint32_t mxcsr_mask_ = 0xFFFF;
  unsigned cpus_ = 1;
  std::vector<Leaf> leaves_;
};

}  // namespace doppel::x86
