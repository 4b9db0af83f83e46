#pragma once

#include <array>
#include <atomic>
#include <bitset>
#include <cstddef>
#include <cstdint>

#include "base/bits.h"
#include "memory/guest_memory.h"

namespace doppel::x86 {

using LinearAddress = std::uint64_t;

/// 48-bit linear addresses: bits 63–47 are equal.
constexpr bool is_canonical(LinearAddress address) {
  return static_cast<std::uint64_t>(sign_extend(address, 48)) == address;
}

/// A direct-mapped cache of translations by 4 KiB page, for one kind of access and one set of rights. Larger pages are
/// cached piece by piece. Belongs to one vCPU's thread.
class Tlb {
 public:
  /// A tag is the page's linear address, or kNoTag where that kind of access has to take the slow path. A slot only
  /// ever holds pages of its own index, so the tag of the page of an access's last byte tells at once whether the
  /// page is here and whether the access stays inside it.
  struct Entry {
    LinearAddress read_tag = kNoTag;
    LinearAddress write_tag = kNoTag;
    std::byte* host = nullptr;
    const std::atomic<std::uint32_t>* code_lines = nullptr;  ///< CodeMap's cell, to be tested after a store
  };
  static constexpr LinearAddress kNoTag = 1;  // not page-aligned, so equal to no page
  static constexpr std::size_t kEntries = 1024;

  static LinearAddress page_of(LinearAddress address) { return align_down(address, memory::kPageSize); }
  static std::size_t index(LinearAddress address) { return (address >> memory::kPageShift) & (kEntries - 1); }

  const Entry* entries() const { return entries_.data(); }
  const Entry& entry(LinearAddress address) const { return entries_[index(address)]; }
  /// Of the page in the slot for this address.
  memory::GuestPhysical physical_page(LinearAddress address) const { return details_[index(address)].physical; }

  unsigned page_shift(LinearAddress address) const { return details_[index(address)].page_shift; }
  bool global(LinearAddress address) const { return details_[index(address)].global; }

  struct Translation {
    std::byte* host;  ///< of the page
    memory::GuestPhysical physical;
    const std::atomic<std::uint32_t>* code_lines;
    unsigned page_shift;
    bool global;
    bool writable;
  };
  void fill(LinearAddress page, const Translation& translation);

  // Their cost is that of the slots filled since the last one.
  void flush_all();
  void flush_non_global();
  /// Drops the page of this address, all of it where it is larger than 4 KiB.
  void flush_page(LinearAddress address);

 private:
  struct Details {
    memory::GuestPhysical physical = 0;
    std::uint8_t page_shift = 0;
    bool global = false;
    bool logged = false;
  };
  static constexpr std::size_t kLargeMarks = 4096;
  static std::size_t large_mark(LinearAddress address, unsigned page_shift) {
    constexpr std::uint64_t kGoldenRatio = 0x9E37'79B9'7F4A'7C15;
    return ((address >> page_shift) + page_shift) * kGoldenRatio >> 52;
  }
  void clear(std::size_t slot) { entries_[slot] = Entry{}; }
  bool holds(std::size_t slot) const { return entries_[slot].read_tag != kNoTag; }

  alignas(sizeof(Entry)) std::array<Entry, kEntries> entries_{};  // none straddles two cache lines
  std::array<Details, kEntries> details_{};
  std::array<std::uint16_t, kEntries> log_{};  ///< the slots filled since the last flush
  std::size_t logged_ = 0;
  /// A Bloom filter of the large pages seen, so that flush_page need not search for pieces of them.
  std::bitset<kLargeMarks> large_;
  bool any_large_ = false;
};

}  // namespace doppel::x86
