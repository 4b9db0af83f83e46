#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "x86/tlb.h"

namespace doppel::engine::dbt {

/// Where indirect jumps, returns and jumps to other pages find the code for a guest address, without leaving the code
/// cache. Direct-mapped; one for user and one for supervisor code, because an address alone must not lead from one to
/// the other. Valid for one state of the mappings and one mode. The vCPU's thread.
class JumpTable {
 public:
  static constexpr unsigned kBits = 17, kLowestBit = 1;
  static constexpr std::size_t kEntries = std::size_t{1} << kBits;
  static constexpr std::uint64_t kMask = (kEntries - 1) << kLowestBit;

  /// Three arrays, so that one index scaled by 8 reaches them all.
  struct Arrays {
    std::array<std::uint64_t, kEntries> negated_address;
    std::array<const void*, kEntries> code;
    std::array<std::uint64_t, kEntries> page_base;
  };

  /// Takes zeroed memory.
  void attach(Arrays* arrays) {
    arrays_ = arrays;
    arrays_->negated_address[0] = kNothing;
  }

  const void* find(x86::LinearAddress address) const {
    const std::size_t slot = (address & kMask) >> kLowestBit;
    return arrays_->negated_address[slot] == ~address + 1 ? arrays_->code[slot] : nullptr;
  }

  /// Slot 0 stays empty: it is where look-ups go while Env::jump_mask is 0.
  void put(x86::LinearAddress address, const void* code, bool global) {
    const std::size_t slot = (address & kMask) >> kLowestBit;
    if (slot == 0) return;
    arrays_->negated_address[slot] = ~address + 1;
    arrays_->code[slot] = code;
    arrays_->page_base[slot] = x86::Tlb::page_of(address);
    if (last_page_ != x86::Tlb::page_of(address)) pages_.insert(last_page_ = x86::Tlb::page_of(address));
    const std::uint8_t log = global ? kInGlobal : kInLocal;
    if ((logged_[slot] & log) != 0) return;
    logged_[slot] |= log;
    (global ? global_ : local_).push_back(static_cast<std::uint32_t>(slot));
  }

  void flush_all() {
    flush(global_, kInGlobal);
    flush(local_, kInLocal);
    pages_.clear();
    last_page_ = kNoPage;
  }
  void flush_local() { flush(local_, kInLocal); }
  /// Drops what leads into the page of this address.
  void flush_page(x86::LinearAddress address) {
    const x86::LinearAddress page = x86::Tlb::page_of(address);
    if (!pages_.contains(page)) return;
    for (const std::vector<std::uint32_t>* log : {&global_, &local_}) {
      for (const std::uint32_t slot : *log) {
        if (arrays_->page_base[slot] == page) invalidate(slot);
      }
    }
  }

 private:
  /// In slot 0, as no canonical address has this tag. Elsewhere 0 is enough: that address belongs into slot 0.
  static constexpr std::uint64_t kNothing = std::uint64_t{1} << 62;
  static constexpr std::uint8_t kInGlobal = 1, kInLocal = 2;
  void invalidate(std::size_t slot) { arrays_->negated_address[slot] = 0; }
  void flush(std::vector<std::uint32_t>& log, std::uint8_t which) {
    for (const std::uint32_t slot : log) {
      invalidate(slot);
      logged_[slot] &= static_cast<std::uint8_t>(~which);
    }
    log.clear();
  }

  static constexpr x86::LinearAddress kNoPage = 1;

  Arrays* arrays_ = nullptr;
  std::vector<std::uint32_t> global_, local_;                               ///< slots filled since their last flush
  std::vector<std::uint8_t> logged_ = std::vector<std::uint8_t>(kEntries);  ///< in which of these a slot is
  std::unordered_set<x86::LinearAddress> pages_;                            ///< that entries lead into, or did
  x86::LinearAddress last_page_ = kNoPage;                                  ///< put into pages_ last
};

}  // namespace doppel::engine::dbt
