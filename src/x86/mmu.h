#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bits.h"
#include "memory/guest_memory.h"
#include "x86/cpu_io.h"
#include "x86/cpu_state.h"
#include "x86/cpuid_model.h"

namespace doppel::x86 {

using LinearAddress = std::uint64_t;

enum class Access : std::uint8_t { Read, Write, Execute };

/// Whose rights a linear access has; each has a TLB of its own, so that a change of privilege flushes nothing.
enum class View : std::uint8_t {
  User,            ///< CPL 3
  Supervisor,      ///< CPL 0–2 with EFLAGS.AC set, or CR4.SMAP clear: user pages may be touched
  SupervisorSmap,  ///< CPL 0–2 under SMAP, and implicit supervisor accesses (descriptor tables, TSS) whatever the CPL
                   ///< and AC
};
inline constexpr std::size_t kViews = 3;

/// Linear to physical translation (SDM vol. 3, ch. 4) with a software TLB, and guest memory through it. One per vCPU;
/// its thread only.
///
/// All accesses here are at linear addresses: segmentation has been applied. They throw Fault(#PF) before anything is
/// changed. Accesses may have any alignment, cross pages (both are probed before the first byte is written), and reach
/// MMIO.
class Mmu {
 public:
  Mmu(CpuState& state, memory::GuestMemory& memory, CpuIo& io, const CpuidModel& cpuid);

  /// One direct-mapped entry; a tag is the page's linear address, or kNoTag where that kind of access has to take the
  /// slow path (not filled, not permitted, MMIO, a watched page; for writing also: D not yet set).
  struct TlbEntry {
    LinearAddress read_tag = kNoTag;
    LinearAddress write_tag = kNoTag;
    std::byte* host = nullptr;
    memory::GuestPhysical physical = 0;
    const std::atomic<std::uint32_t>* code_lines = nullptr;
  };
  static constexpr LinearAddress kNoTag = 1;  // not page-aligned, so equal to no page
  static constexpr std::size_t kTlbEntries = 1024;

  /// The kTlbEntries entries of a view, for engines that look up inline; valid for the life of this object. The entry
  /// for an address is number (address / 4 KiB) mod kTlbEntries; read_tag or write_tag must equal the page of the
  /// access's last byte (neighbouring pages use different entries, so that one comparison finds accesses that cross).
  const TlbEntry* tlb(View view) const { return tlb_[static_cast<std::size_t>(view)].data(); }

  template <class T>
  T read(LinearAddress address, View view) {
    const TlbEntry& entry = tlb_[static_cast<std::size_t>(view)][tlb_index(address)];
    // An access that would leave the page compares unequal: the sum then has another page number.
    if (entry.read_tag == align_down(address + sizeof(T) - 1, memory::kPageSize) &&
        entry.read_tag == align_down(address, memory::kPageSize)) [[likely]] {
      return load_le<T>(entry.host + (address & (memory::kPageSize - 1)));
    }
    T value;
    read_slow(address, {reinterpret_cast<std::byte*>(&value), sizeof value}, view);
    return value;
  }

  template <class T>
  void write(LinearAddress address, T value, View view) {
    const TlbEntry& entry = tlb_[static_cast<std::size_t>(view)][tlb_index(address)];
    if (entry.write_tag == align_down(address + sizeof(T) - 1, memory::kPageSize) &&
        entry.write_tag == align_down(address, memory::kPageSize)) [[likely]] {
      store_le(entry.host + (address & (memory::kPageSize - 1)), value);
      if (memory::CodeMap::lines_after_store(*entry.code_lines) != 0) [[unlikely]]
        note_write(entry.physical, address, sizeof(T));
      return;
    }
    write_slow(address, {reinterpret_cast<const std::byte*>(&value), sizeof value}, view);
  }

  void read_bytes(LinearAddress address, std::span<std::byte> out, View view);
  void write_bytes(LinearAddress address, std::span<const std::byte> bytes, View view);

  /// The host's view of [address, address + size) where that is one page of RAM (then no copy is needed, and for
  /// writing the caller calls wrote() after the store); nullptr where it crosses pages, is MMIO or is watched: use
  /// read/write_bytes instead.
  std::byte* host(LinearAddress address, std::size_t size, Access access, View view);
  /// After a store through host().
  void wrote(LinearAddress address, std::size_t size, View view);

  /// Faults now if any byte of the range could not be accessed so; changes nothing but A and D bits.
  void probe(LinearAddress address, std::size_t size, Access access, View view);

  /// Where code at this address is fetched from. `host` is null when it is not RAM (then fetch through
  /// CpuIo::mmio_read).
  struct FetchPage {
    std::byte* host;
    memory::GuestPhysical physical;  ///< of `address` itself
  };
  FetchPage fetch(LinearAddress address);

  /// Translation for debuggers: no fault, no A/D bits, no permission checks. False when not mapped.
  bool debug_translate(LinearAddress address, memory::GuestPhysical& physical) const;

  // Invalidation (SDM vol. 3, 4.10.4).
  void flush_all();         ///< everything, global pages too
  void flush_non_global();  ///< MOV to CR3
  void flush_page(LinearAddress address);

  /// The view of ordinary data accesses now. To be called again (refresh_view) after CPL, EFLAGS.AC, CR0.PG or CR4.SMAP
  /// changed.
  View data_view() const { return data_view_; }
  void refresh_view();

  /// True once after a store hit decoded code: the running block may be stale.
  bool take_code_modified() {
    const bool modified = code_modified_;
    code_modified_ = false;
    return modified;
  }
  bool code_modified() const { return code_modified_; }

  /// Data breakpoints: DR0–DR3 by DR7, and a debugger's watchpoints. Pages that hold one take the slow path; a hit is
  /// recorded.
  struct Watch {
    LinearAddress address;
    std::uint64_t length;
    bool on_read, on_write;
    std::uint8_t dr6_bits;  ///< what a hit adds to CpuState::pending_debug; 0: a debugger's own
  };
  void set_watches(std::vector<Watch> watches);
  /// The debugger's watchpoint that was hit last, if any, once.
  bool take_watch_hit(LinearAddress& address);

  /// Told of each flush, for engines that keep tables of their own beside this TLB.
  class FlushListener {
   public:
    virtual ~FlushListener() = default;
    virtual void flushed_all() = 0;
    virtual void flushed_page(LinearAddress address) = 0;
  };
  void set_flush_listener(FlushListener* listener) { flush_listener_ = listener; }

  struct Stats {
    std::uint64_t misses = 0, walks = 0, flushes = 0;
  };
  const Stats& stats() const { return stats_; }

 private:
  static std::size_t tlb_index(LinearAddress address) { return (address >> memory::kPageShift) & (kTlbEntries - 1); }
  void read_slow(LinearAddress address, std::span<std::byte> out, View view);
  void write_slow(LinearAddress address, std::span<const std::byte> bytes, View view);
  void note_write(memory::GuestPhysical page, LinearAddress address, std::size_t size);

  CpuState& state_;
  memory::GuestMemory& memory_;
  CpuIo& io_;
  const CpuidModel& cpuid_;
  std::unique_ptr<std::array<TlbEntry, kTlbEntries>[]> tlb_;  ///< by View
  View data_view_ = View::Supervisor;
  bool code_modified_ = false;
  std::vector<Watch> watches_;
  FlushListener* flush_listener_ = nullptr;
  Stats stats_;
};

}  // namespace doppel::x86
