#pragma once

#include <cstdint>

#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

/// The walk through the guest's paging structures, apart from any TLB; SDM vol. 3, 4.3–4.8.
namespace doppel::x86 {

/// SDM vol. 3, 4.1.1. Derived from the control registers; total: any combination, even one that no register write
/// would have allowed, is one of these.
enum class PagingMode : std::uint8_t { None, Bits32, Pae, FourLevel };

/// What of the processor's state a walk depends on.
struct PagingRegisters {
  PagingMode mode = PagingMode::None;
  bool write_protect = false;  ///< CR0.WP
  bool page_size_extensions = false, smep = false, smap = false;
  bool no_execute = false;    ///< EFER.NXE
  bool global_pages = false;  ///< CR4.PGE
  bool page_1gb = false;      ///< CPUID
  unsigned physical_address_bits = 36;
  std::uint64_t cr3 = 0;
  const std::uint64_t* pdpte = nullptr;  ///< the four of CpuState, for PAE

  static PagingRegisters of(const CpuState& state, unsigned physical_address_bits, bool page_1gb);
};

/// An access to be translated.
struct WalkRequest {
  std::uint64_t linear;
  bool write = false;
  bool fetch = false;
  bool user = false;       ///< a user-mode access: CPL 3 and not implicitly the supervisor's
  bool user_pages = true;  ///< a supervisor-mode access that may touch user pages under SMAP (EFLAGS.AC set)
};

/// Where it leads, or the page fault.
struct WalkResult {
  bool ok;
  std::uint32_t error_code;        ///< of the #PF; SDM vol. 3, 4.7
  memory::GuestPhysical physical;  ///< of the very byte
  unsigned page_shift;             ///< 12, 21, 22 or 30
  bool global;
  bool code_modified = false;  ///< setting A or D hit bytes that some engine had decoded
};

/// Sets the accessed bits of the entries used and, for writing, the dirty bit, when and only when the access is
/// permitted; each by compare-exchange, starting over when another processor changed an entry meanwhile. Paging
/// structures that are not in RAM read as all ones.
WalkResult walk(memory::GuestMemory& memory, const PagingRegisters& registers, const WalkRequest& request);

/// Whether walk() would succeed without setting anything; changes nothing.
bool walk_settled(const memory::GuestMemory& memory, const PagingRegisters& registers, const WalkRequest& request,
                  memory::GuestPhysical& physical);

/// The translation alone: no permissions, no accessed or dirty bits. For debuggers.
bool walk_quietly(const memory::GuestMemory& memory, const PagingRegisters& registers, std::uint64_t linear,
                  memory::GuestPhysical& physical);

/// The bits of a PAE page-directory-pointer-table entry that must be clear in a present one (SDM vol. 3, table 4-8).
std::uint64_t pdpte_reserved_bits(unsigned physical_address_bits);

}  // namespace doppel::x86
