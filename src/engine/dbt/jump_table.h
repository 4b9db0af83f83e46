#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "memory/guest_memory.h"
#include "x86/tlb.h"

namespace doppel::engine::dbt {

/// Where indirect jumps, returns and jumps to other pages find the code for a guest address, without leaving the code
/// cache. Each address has two places, of which the second is for what another has displaced from the first. One table
/// for user and one for supervisor code, because an address alone must not lead from one to the other. Valid for one
/// mode. The vCPU's thread.
class JumpTable {
 public:
  static constexpr unsigned kBits = 17;
  static constexpr std::size_t kEntries = std::size_t{1} << kBits;

  struct alignas(16) Entry {
    std::uint64_t negated_address;
    const void* code;
  };
  /// Where PDEP puts the low bits of an address to make of them, in units of 8 bytes, its entry's place.
  static constexpr std::uint64_t kPlaces = (kEntries - 1) * (sizeof(Entry) / 8);
  /// An address plus itself rotated to the right by this is what the second place is made of: addresses that share the
  /// first, unless multiples of 64 MiB apart, do not share the second.
  static constexpr unsigned kSecondRotation = 9;
  using Entries = std::array<Entry, kEntries>;
  /// Its tag is in slot 0, where it can be met while Env::jump_mask is 0 only; what is found then is the code of its
  /// own slot. A jump there is possible, but is an error of the guest's: the address is not canonical.
  static constexpr x86::LinearAddress kNowhere = 0xC000'0000'0000'0001;

  /// Takes zeroed memory.
  void attach(Entries* entries) {
    entries_ = entries;
    (*entries_)[0].negated_address = kNothing;
  }

  const void* find(x86::LinearAddress address) const {
    for (const std::size_t slot : {slot_of(address), second_slot_of(address)}) {
      const Entry& entry = (*entries_)[slot];
      if (entry.negated_address == ~address + 1) return entry.code;
    }
    return nullptr;
  }

  /// The code that is found for kNowhere.
  void set_nowhere(const void* code) { (*entries_)[slot_of(kNowhere)].code = code; }

  /// Slot 0 stays empty: it is where look-ups go while Env::jump_mask is 0. So does that of kNowhere. True for the
  /// first entry of a linear page that leads to this physical page.
  bool put(x86::LinearAddress address, const void* code, memory::GuestPhysical physical_page, bool global) {
    const std::size_t slot = slot_of(address);
    const x86::LinearAddress linear_page = x86::Tlb::page_of(address);
    if (last_page_ != linear_page) {
      last_ = &pages_[linear_page];
      last_page_ = linear_page;
    }
    const bool first = last_->physical != physical_page;
    if (first) rename(linear_page, *last_, physical_page);
    if (last_->global != global) {
      last_->global = global;
      if (global) {
        local_.erase(linear_page);
      } else {
        local_.insert(linear_page);
      }
    }
    if (stays_empty(slot)) return first;
    last_->slots.set(slot % kSlotsPerPage);
    Entry& entry = (*entries_)[slot];
    if (const x86::LinearAddress displaced = ~entry.negated_address + 1; displaced != 0 && displaced != address) {
      if (const std::size_t second = second_slot_of(displaced); !stays_empty(second)) (*entries_)[second] = entry;
    }
    entry = {~address + 1, code};
    return first;
  }
  /// Another entry of the page of the last put(), if one of its places is free.
  void put_beside(x86::LinearAddress address, const void* code) {
    for (const std::size_t slot : {slot_of(address), second_slot_of(address)}) {
      Entry& entry = (*entries_)[slot];
      if (stays_empty(slot) || entry.negated_address != 0) continue;
      last_->slots.set(slot_of(address) % kSlotsPerPage);
      entry = {~address + 1, code};
      return;
    }
  }

  void flush_all() {
    drop_if([](x86::LinearAddress, const Page&) { return true; });
    linear_pages_.clear();
  }
  /// The TLB has been flushed, or its entries that are not global. What leads into their pages is not dropped but asked
  /// after, once it is wanted again: most of it is as before.
  void doubt_all() { doubtful_ = Doubtful::All; }
  void doubt_local() {
    if (doubtful_ == Doubtful::None) doubtful_ = Doubtful::Local;
  }
  bool doubtful() const { return doubtful_ != Doubtful::None; }
  /// To be called before look-ups; `same(linear page, physical page)` tells whether one still leads to the other.
  template <class Same>
  void revalidate(Same same) {
    if (doubtful_ == Doubtful::None) return;
    const bool all = std::exchange(doubtful_, Doubtful::None) == Doubtful::All;
    if (all)
      return drop_if([&same](x86::LinearAddress linear, const Page& page) { return !same(linear, page.physical); });
    std::erase_if(local_, [&](x86::LinearAddress linear) {
      const auto found = pages_.find(linear);
      if (same(linear, found->second.physical)) return false;
      drop(linear, found->second);
      pages_.erase(found);
      return true;
    });
    last_page_ = kNoPage;
  }
  /// Drops what leads into the page of this address.
  void flush_page(x86::LinearAddress address) {
    const auto found = pages_.find(x86::Tlb::page_of(address));
    if (found == pages_.end()) return;
    drop(found->first, found->second);
    pages_.erase(found);
    local_.erase(x86::Tlb::page_of(address));
    last_page_ = kNoPage;
  }
  /// Drops what leads into a page of RAM.
  void drop_physical(memory::GuestPhysical page) {
    const auto names = linear_pages_.find(page);
    if (names == linear_pages_.end()) return;
    for (const x86::LinearAddress linear : names->second) {
      if (const auto found = pages_.find(linear); found != pages_.end() && found->second.physical == page)
        flush_page(linear);
    }
    linear_pages_.erase(names);
    last_page_ = kNoPage;
  }

 private:
  /// In slot 0. Elsewhere 0 is enough: that address belongs into slot 0.
  static constexpr std::uint64_t kNothing = ~kNowhere + 1;
  static constexpr x86::LinearAddress kNoPage = 1;
  /// The addresses of a page share all of the slot's number but its low bits.
  static constexpr std::size_t kSlotsPerPage = memory::kPageSize;

  /// A page that entries lead into, or did.
  struct Page {
    memory::GuestPhysical physical = ~memory::GuestPhysical{0};
    bool global = true;
    std::bitset<kSlotsPerPage> slots;  ///< first places of what was put, wherever it is now
  };

  static std::size_t slot_of(x86::LinearAddress address) { return address & (kEntries - 1); }
  static bool stays_empty(std::size_t slot) { return slot == 0 || slot == slot_of(kNowhere); }
  static std::size_t second_slot_of(x86::LinearAddress address) {
    return slot_of(address + std::rotr(address, kSecondRotation));
  }

  void drop(x86::LinearAddress linear_page, const Page& page) {
    for (std::size_t i = page.slots._Find_first(); i < kSlotsPerPage; i = page.slots._Find_next(i)) {
      const x86::LinearAddress address = linear_page + i;
      for (const std::size_t slot : {slot_of(address), second_slot_of(address)}) {
        Entry& entry = (*entries_)[slot];
        if (entry.negated_address == ~address + 1 && !stays_empty(slot)) entry.negated_address = 0;
      }
    }
  }
  void rename(x86::LinearAddress linear_page, Page& page, memory::GuestPhysical physical) {
    drop(linear_page, page);
    page.slots.reset();
    page.physical = physical;
    std::vector<x86::LinearAddress>& names = linear_pages_[physical];
    if (std::find(names.begin(), names.end(), linear_page) == names.end()) names.push_back(linear_page);
  }
  template <class Condition>
  void drop_if(Condition condition) {
    for (auto page = pages_.begin(); page != pages_.end();) {
      if (condition(page->first, page->second)) {
        drop(page->first, page->second);
        local_.erase(page->first);
        page = pages_.erase(page);
      } else {
        ++page;
      }
    }
    last_page_ = kNoPage;
  }

  Entries* entries_ = nullptr;
  std::unordered_map<x86::LinearAddress, Page> pages_;
  std::unordered_set<x86::LinearAddress> local_;  ///< those of them that are not global
  /// Where each of their physical pages is, or was.
  std::unordered_map<memory::GuestPhysical, std::vector<x86::LinearAddress>> linear_pages_;
  x86::LinearAddress last_page_ = kNoPage;  ///< put into last; its entry in pages_:
  Page* last_ = nullptr;
  enum class Doubtful : std::uint8_t { None, Local, All } doubtful_ = Doubtful::None;
};

}  // namespace doppel::engine::dbt
