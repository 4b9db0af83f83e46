#include "x86/paging_walk.h"

#include <array>
#include <atomic>

#include "base/bits.h"
#include "x86/registers.h"

namespace doppel::x86 {

namespace {

namespace entry {
constexpr std::uint64_t kPresent = bit(0), kWritable = bit(1), kUser = bit(2), kAccessed = bit(5), kDirty = bit(6),
                        kPageSize = bit(7), kGlobal = bit(8), kNoExecute = bit(63);
constexpr std::uint64_t kAddress = low_mask(52) & ~low_mask(12);
}  // namespace entry

using memory::GuestMemory;
using memory::GuestPhysical;

/// The entries that lead to a linear address, and what they say together.
struct Path {
  struct Step {
    GuestPhysical address;
    std::uint64_t value;
  };
  std::array<Step, 4> step;
  unsigned steps = 0;
  std::uint32_t fault = 0;  ///< with `mapped` false: P and RSVD of the error code
  bool mapped = false;
  bool user = true, writable = true, no_execute = false, global = false;
  unsigned page_shift = 0;
  GuestPhysical physical = 0;
};

template <class T>
std::atomic_ref<T> in_memory(std::byte* page, GuestPhysical address) {
  return std::atomic_ref<T>{*reinterpret_cast<T*>(page + (address & (memory::kPageSize - 1)))};
}

template <class T>
std::uint64_t load_entry(const GuestMemory& memory, GuestPhysical address) {
  std::byte* page = memory.page(address);
  return page == nullptr ? static_cast<T>(~T{0}) : in_memory<T>(page, address).load(std::memory_order_relaxed);
}

/// Records an entry; false when it ends the walk.
bool take(Path& path, GuestPhysical address, std::uint64_t value, std::uint64_t reserved) {
  if ((value & entry::kPresent) == 0) return false;
  if ((value & reserved) != 0) {
    path.fault = pf::kPresent | pf::kReserved;
    return false;
  }
  path.step[path.steps++] = {address, value};
  path.user = path.user && (value & entry::kUser) != 0;
  path.writable = path.writable && (value & entry::kWritable) != 0;
  return true;
}

void finish(Path& path, std::uint64_t linear, std::uint64_t value, GuestPhysical base, unsigned shift) {
  path.mapped = true;
  path.global = (value & entry::kGlobal) != 0;
  path.page_shift = shift;
  path.physical = base | (linear & low_mask(shift));
}

/// SDM vol. 3, 4.3, table 4-3 to 4-6.
Path follow_32bit(const GuestMemory& memory, const PagingRegisters& registers, std::uint64_t linear) {
  Path path;
  const GuestPhysical directory = registers.cr3 & 0xFFFF'F000;
  const GuestPhysical pde_address = directory + bits(linear, 31, 22) * 4;
  const std::uint64_t pde = load_entry<std::uint32_t>(memory, pde_address);
  if (registers.page_size_extensions && (pde & entry::kPageSize) != 0) {
    // PSE-36: bits 20:13 of the entry are bits 39:32 of the address.
    const unsigned address_bits = registers.physical_address_bits < 40 ? registers.physical_address_bits : 40;
    const std::uint64_t reserved = low_mask(22) & ~low_mask(address_bits - 19);
    if (!take(path, pde_address, pde, reserved)) return path;
    finish(path, linear, pde, (pde & 0xFFC0'0000) | bits(pde, 20, 13) << 32, 22);
    return path;
  }
  if (!take(path, pde_address, pde, 0)) return path;
  const GuestPhysical pte_address = (pde & 0xFFFF'F000) + bits(linear, 21, 12) * 4;
  const std::uint64_t pte = load_entry<std::uint32_t>(memory, pte_address);
  if (!take(path, pte_address, pte, 0)) return path;
  finish(path, linear, pte, pte & 0xFFFF'F000, 12);
  return path;
}

/// SDM vol. 3, 4.4 and 4.5, tables 4-9 to 4-20.
Path follow_64bit_entries(const GuestMemory& memory, const PagingRegisters& registers, std::uint64_t linear) {
  Path path;
  unsigned shift = 39;
  GuestPhysical table = registers.cr3 & entry::kAddress;
  // Bits 62:52 are ignored in 4-level paging, reserved in PAE paging.
  std::uint64_t reserved = low_mask(52) & ~low_mask(registers.physical_address_bits);
  if (registers.mode == PagingMode::Pae) {
    shift = 21;
    reserved = low_mask(63) & ~low_mask(registers.physical_address_bits);
    const std::uint64_t pdpte = registers.pdpte[bits(linear, 31, 30)];
    if ((pdpte & entry::kPresent) == 0) return path;
    table = pdpte & entry::kAddress;
  }
  if (!registers.no_execute) reserved |= entry::kNoExecute;

  for (;; shift -= 9) {
    const GuestPhysical address = table + ((linear >> shift) & 511) * 8;
    const std::uint64_t value = load_entry<std::uint64_t>(memory, address);
    const bool page_size = shift != 12 && (value & entry::kPageSize) != 0;
    std::uint64_t reserved_here = reserved;
    if (page_size) {
      const bool may_be_page = shift == 21 || (shift == 30 && registers.page_1gb);
      reserved_here |= may_be_page ? low_mask(shift) & ~low_mask(13) : entry::kPageSize;
    }
    if (!take(path, address, value, reserved_here)) return path;
    path.no_execute = path.no_execute || (value & entry::kNoExecute) != 0;
    if (page_size || shift == 12) {
      finish(path, linear, value, value & entry::kAddress & ~low_mask(shift), shift);
      return path;
    }
    table = value & entry::kAddress;
  }
}

Path follow(const GuestMemory& memory, const PagingRegisters& registers, std::uint64_t linear) {
  return registers.mode == PagingMode::Bits32 ? follow_32bit(memory, registers, linear)
                                              : follow_64bit_entries(memory, registers, linear);
}

/// SDM vol. 3, 4.6.1.
bool permitted(const Path& path, const PagingRegisters& registers, const WalkRequest& request) {
  if (request.fetch && path.no_execute) return false;
  if (request.user) return path.user && (path.writable || !request.write);
  if (request.fetch) return !(path.user && registers.smep);
  if (path.user && registers.smap && !request.user_pages) return false;
  return path.writable || !request.write || !registers.write_protect;
}

/// Sets bits in an entry unless it has changed; false when it has.
template <class T>
bool update(std::byte* page, const Path::Step& step, std::uint64_t bits_to_set) {
  T expected = static_cast<T>(step.value);
  return in_memory<T>(page, step.address).compare_exchange_strong(expected, static_cast<T>(step.value | bits_to_set));
}

/// What an access sets in the entry of a step.
std::uint64_t wanted_bits(const Path& path, unsigned step, bool write) {
  const bool leaf = step + 1 == path.steps;
  return entry::kAccessed | (leaf && write ? entry::kDirty : 0);
}

/// Sets A and D where they are clear; false when another processor has changed an entry since it was read. `hit_code`
/// becomes true when the bytes of an entry had been decoded.
bool mark_used(GuestMemory& memory, PagingMode mode, const Path& path, bool write, bool& hit_code) {
  for (unsigned i = 0; i < path.steps; ++i) {
    const Path::Step& step = path.step[i];
    const std::uint64_t wanted = wanted_bits(path, i, write);
    if ((step.value & wanted) == wanted) continue;
    // An entry that is not in RAM read as all ones, so had nothing to set.
    std::byte* page = memory.page(step.address);
    memory.prepare_write(step.address);
    const bool wide = mode != PagingMode::Bits32;
    if (!(wide ? update<std::uint64_t>(page, step, wanted) : update<std::uint32_t>(page, step, wanted))) return false;
    hit_code = memory.note_write(step.address, wide ? 8 : 4) || hit_code;
  }
  return true;
}

std::uint32_t access_bits(const PagingRegisters& registers, const WalkRequest& request) {
  const bool fetches_reported = registers.smep || (registers.no_execute && registers.mode != PagingMode::Bits32);
  return (request.write ? pf::kWrite : 0) | (request.user ? pf::kUser : 0) |
         (request.fetch && fetches_reported ? pf::kFetch : 0);
}

}  // namespace

PagingRegisters PagingRegisters::of(const CpuState& state, unsigned physical_address_bits, bool page_1gb) {
  PagingRegisters registers;
  if ((state.cr0 & cr0::kPg) != 0) {
    registers.mode = state.long_mode_active()       ? PagingMode::FourLevel
                     : (state.cr4 & cr4::kPae) != 0 ? PagingMode::Pae
                                                    : PagingMode::Bits32;
  }
  registers.write_protect = (state.cr0 & cr0::kWp) != 0;
  registers.page_size_extensions = (state.cr4 & cr4::kPse) != 0;
  registers.smep = (state.cr4 & cr4::kSmep) != 0;
  registers.smap = (state.cr4 & cr4::kSmap) != 0;
  registers.no_execute = (state.efer & efer::kNxe) != 0;
  registers.global_pages = (state.cr4 & cr4::kPge) != 0;
  registers.page_1gb = page_1gb;
  registers.physical_address_bits = physical_address_bits;
  registers.cr3 = state.cr3;
  registers.pdpte = state.pdpte.data();
  return registers;
}

WalkResult walk(GuestMemory& memory, const PagingRegisters& registers, const WalkRequest& request) {
  bool code_modified = false;
  for (;;) {
    const Path path = follow(memory, registers, request.linear);
    if (!path.mapped || !permitted(path, registers, request)) {
      const std::uint32_t cause = path.mapped ? pf::kPresent : path.fault;
      return {false, cause | access_bits(registers, request), 0, 0, false, code_modified};
    }
    if (!mark_used(memory, registers.mode, path, request.write, code_modified)) continue;
    return {true, 0, path.physical, path.page_shift, path.global && registers.global_pages, code_modified};
  }
}

bool walk_settled(const GuestMemory& memory, const PagingRegisters& registers, const WalkRequest& request,
                  GuestPhysical& physical) {
  const Path path = follow(memory, registers, request.linear);
  if (!path.mapped || !permitted(path, registers, request)) return false;
  physical = path.physical;
  for (unsigned i = 0; i < path.steps; ++i) {
    if ((path.step[i].value & wanted_bits(path, i, request.write)) != wanted_bits(path, i, request.write)) return false;
  }
  return true;
}

bool walk_quietly(const GuestMemory& memory, const PagingRegisters& registers, std::uint64_t linear,
                  GuestPhysical& physical) {
  const Path path = follow(memory, registers, linear);
  physical = path.physical;
  return path.mapped;
}

std::uint64_t pdpte_reserved_bits(unsigned physical_address_bits) {
  return (low_mask(3) & ~low_mask(1)) | (low_mask(9) & ~low_mask(5)) | ~low_mask(physical_address_bits);
}

}  // namespace doppel::x86
