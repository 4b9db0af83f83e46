#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bits.h"
#include "memory/guest_memory.h"
#include "x86/cpu_io.h"
#include "x86/cpu_state.h"
#include "x86/cpuid_model.h"
#include "x86/fault.h"
#include "x86/tlb.h"

namespace doppel::x86 {

struct PagingRegisters;

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

  using TlbEntry = Tlb::Entry;
  static constexpr LinearAddress kNoTag = Tlb::kNoTag;
  static constexpr std::size_t kTlbEntries = Tlb::kEntries;

  /// The kTlbEntries entries of a view, for engines that look up inline; valid for the life of this object. The entry
  /// for an address is number (address / 4 KiB) mod kTlbEntries; read_tag or write_tag must equal the page of the
  /// access's last byte (neighbouring pages use different entries, so that one comparison finds accesses that cross).
  const TlbEntry* tlb(View view) const { return tlb_of(view).entries(); }

  template <class T>
  T read(LinearAddress address, View view) {
    const Tlb::Entry& entry = tlb_of(view).entry(address);
    if (entry.read_tag == Tlb::page_of(address + sizeof(T) - 1)) [[likely]]
      return load_le<T>(entry.host + page_offset(address));
    T value;
    read_bytes(address, {reinterpret_cast<std::byte*>(&value), sizeof value}, view);
    return value;
  }

  template <class T>
  void write(LinearAddress address, T value, View view) {
    const Tlb::Entry& entry = tlb_of(view).entry(address);
    if (entry.write_tag == Tlb::page_of(address + sizeof(T) - 1)) [[likely]] {
      store_le(entry.host + page_offset(address), value);
      note_store(entry, address, sizeof(T), view);
      return;
    }
    write_bytes(address, {reinterpret_cast<const std::byte*>(&value), sizeof value}, view);
  }

  void read_bytes(LinearAddress address, std::span<std::byte> out, View view);
  void write_bytes(LinearAddress address, std::span<const std::byte> bytes, View view);

  /// The host's view of [address, address + size) where that is one page of RAM (then no copy is needed, and for
  /// writing the caller calls wrote() after the store); nullptr where it crosses pages, is MMIO or is watched: use
  /// read/write_bytes instead. `size` is at most a page; `access` is Read or Write. The pointer stays good until the
  /// next flush.
  std::byte* host(LinearAddress address, std::size_t size, Access access, View view) {
    const Tlb::Entry& entry = tlb_of(view).entry(address);
    const LinearAddress tag = access == Access::Write ? entry.write_tag : entry.read_tag;
    if (tag == Tlb::page_of(address + size - 1)) [[likely]]
      return entry.host + page_offset(address);
    return host_slow(address, size, access, view);
  }
  /// After a store through host().
  void wrote(LinearAddress address, std::size_t size, View view) {
    const Tlb::Entry& entry = tlb_of(view).entry(address);
    if (entry.write_tag == Tlb::page_of(address)) [[likely]] {
      note_store(entry, address, size, view);
    } else {
      wrote_slow(address, size);
    }
  }

  /// Faults now if any byte of the range could not be accessed so; changes nothing but A and D bits.
  void probe(LinearAddress address, std::size_t size, Access access, View view);

  /// Where code at this address is fetched from. `host` is null when it is not RAM (then fetch through
  /// CpuIo::mmio_read).
  struct FetchPage {
    std::byte* host;
    memory::GuestPhysical physical;  ///< of `address` itself
  };
  FetchPage fetch(LinearAddress address) {
    const Tlb& tlb = tlb_[fetch_tlb_];
    const Tlb::Entry& entry = tlb.entry(address);
    if (entry.read_tag == Tlb::page_of(address)) [[likely]]
      return {entry.host + page_offset(address), tlb.physical_page(address) + page_offset(address)};
    return fetch_slow(address);
  }

  /// Translation for debuggers: no fault, no A/D bits, no permission checks. False when not mapped.
  bool debug_translate(LinearAddress address, memory::GuestPhysical& physical) const;

  /// A page for an engine's own tables, with what decides how long it may stay there. `host` is null where accesses
  /// have to come here each time: not RAM, or watched; or where the access faults, which happens too often to be
  /// thrown. Engines that write through it keep the writer's promises themselves but for prepare_write().
  struct EnginePage {
    std::byte* host = nullptr;
    memory::GuestPhysical physical = 0;
    unsigned page_shift = memory::kPageShift;
    bool global = false;
    std::optional<Fault> fault;
  };
  EnginePage engine_page(LinearAddress address, Access access, View view);
  /// Whether an access would succeed without changing anything: all accessed bits, and the dirty bit where that
  /// matters, are set. The page that it leads to. Never throws: a return to where no address is asks here, too.
  bool settled(LinearAddress address, Access access, View view, memory::GuestPhysical& physical_page) const;
  /// Whether it would, and leads to this page.
  bool leads_to(LinearAddress address, memory::GuestPhysical physical_page, Access access, View view) const {
    memory::GuestPhysical page = 0;
    return settled(address, access, view, page) && page == physical_page;
  }

  // Invalidation (SDM vol. 3, 4.10.4).
  void flush_all();         ///< everything, global pages too
  void flush_non_global();  ///< MOV to CR3
  void flush_page(LinearAddress address);

  /// The view of ordinary data accesses now. To be called again (refresh_view) after CPL, EFLAGS.AC, CR0.AM, CR0.PG or
  /// CR4.SMAP changed.
  View data_view() const { return data_view_; }
  void refresh_view();

  /// Alignment checking is on (CR0.AM, EFLAGS.AC and CPL 3; SDM vol. 3, 6.15 #AC). View::User's TLB then stays empty,
  /// so that each access takes the slow path, where it is checked. An engine with tables of its own keeps them empty
  /// likewise: the flush listener is told of the change.
  bool checks_alignment() const { return checks_alignment_; }

  /// True once after a store hit decoded code: the running block may be stale.
  bool take_code_modified() {
    const bool modified = code_modified_;
    code_modified_ = false;
    return modified;
  }
  bool code_modified() const { return code_modified_; }

  /// Data breakpoints: DR0–DR3 by DR7 (control_registers.h sets them), and a debugger's watchpoints. Pages that hold
  /// one take the slow path; a hit is recorded once the access has succeeded.
  struct Watch {
    LinearAddress address;
    std::uint64_t length;
    bool on_read, on_write;
    std::uint8_t dr6_bits;  ///< what a hit adds to CpuState::pending_debug; 0: a debugger's own
  };
  void set_watches(std::vector<Watch> watches);                 ///< the debugger's
  void set_debug_register_watches(std::vector<Watch> watches);  ///< the guest's
  bool has_watches() const { return !watches_.empty() || !debug_register_watches_.empty(); }
  /// The debugger's watchpoint that was hit last, if any, once.
  bool take_watch_hit(LinearAddress& address);

  /// Told of each flush, for engines that keep tables of their own beside this TLB.
  class FlushListener {
   public:
    virtual ~FlushListener() = default;
    virtual void flushed_all() = 0;
    virtual void flushed_non_global() = 0;
    /// A page of any size, of which this is an address.
    virtual void flushed_page(LinearAddress address) = 0;
  };
  void set_flush_listener(FlushListener* listener) { flush_listener_ = listener; }

  struct Stats {
    std::uint64_t misses = 0, walks = 0, flushes = 0;
  };
  const Stats& stats() const { return stats_; }

 private:
  /// Two more TLBs, for instruction fetches.
  static constexpr std::size_t kUserFetch = kViews, kSupervisorFetch = kViews + 1, kTlbs = kViews + 2;

  /// One page's part of an access.
  struct Target {
    std::byte* host;  ///< of `physical`; null when it is not RAM
    memory::GuestPhysical physical;
  };
  using Targets = std::array<Target, 2>;

  const Tlb& tlb_of(View view) const { return tlb_[static_cast<std::size_t>(view)]; }
  static std::uint64_t page_offset(LinearAddress address) { return address & (memory::kPageSize - 1); }
  /// Cuts the address to 32 bits outside long mode; false where it is not canonical in it.
  bool addressable(LinearAddress& address) const;
  /// The same; raises #GP.
  LinearAddress effective(LinearAddress address) const;

  void note_store(const Tlb::Entry& entry, LinearAddress address, std::size_t size, View view) {
    if (memory_.code().lines_after_store(*entry.code_lines) != 0) [[unlikely]]
      note_physical_store(tlb_of(view).physical_page(address) + page_offset(address), size);
  }
  void note_physical_store(memory::GuestPhysical address, std::size_t size);

  Target translate(LinearAddress address, Access access, View view);
  PagingRegisters paging_registers() const;
  std::optional<Fault> try_walk_and_fill(LinearAddress address, Access access, View view, Target& target);
  Target walk_and_fill(LinearAddress address, Access access, View view);
  Targets translate_span(LinearAddress address, std::size_t size, Access access, View view);
  void read_target(const Target& target, std::span<std::byte> out);
  void write_target(const Target& target, std::span<const std::byte> bytes);
  std::byte* host_slow(LinearAddress address, std::size_t size, Access access, View view);
  void wrote_slow(LinearAddress address, std::size_t size);
  FetchPage fetch_slow(LinearAddress address);

  void set_alignment_checks(bool on);
  void check_alignment(LinearAddress address, std::size_t size, View view) const;
  bool watched(LinearAddress page) const;
  void check_watches(LinearAddress address, std::size_t size, Access access);

  CpuState& state_;
  memory::GuestMemory& memory_;
  CpuIo& io_;
  const CpuidModel& cpuid_;
  View data_view_ = View::Supervisor;
  std::size_t fetch_tlb_ = kSupervisorFetch;
  bool checks_alignment_ = false;
  bool code_modified_ = false;
  std::array<Tlb, kTlbs> tlb_{};
  std::vector<Watch> watches_, debug_register_watches_;
  std::optional<LinearAddress> watch_hit_;
  FlushListener* flush_listener_ = nullptr;
  Stats stats_;
};

}  // namespace doppel::x86
