#include "x86/tlb.h"

namespace doppel::x86 {

namespace {
constexpr std::array<unsigned, 3> kLargeShifts{21, 22, 30};
}

void Tlb::fill(LinearAddress page, const Translation& translation) {
  const std::size_t slot = index(page);
  entries_[slot] = {page, translation.writable ? page : kNoTag, translation.host, translation.code_lines};
  Details& details = details_[slot];
  details.physical = translation.physical;
  details.page_shift = static_cast<std::uint8_t>(translation.page_shift);
  details.global = translation.global;
  if (!details.logged) {
    details.logged = true;
    log_[logged_++] = static_cast<std::uint16_t>(slot);
  }
  if (translation.page_shift > memory::kPageShift) {
    large_.set(large_mark(page, translation.page_shift));
    any_large_ = true;
  }
}

void Tlb::flush_all() {
  for (std::size_t i = 0; i < logged_; ++i) {
    clear(log_[i]);
    details_[log_[i]].logged = false;
  }
  logged_ = 0;
  if (any_large_) large_.reset();
  any_large_ = false;
}

void Tlb::flush_non_global() {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < logged_; ++i) {
    const std::uint16_t slot = log_[i];
    if (holds(slot) && details_[slot].global) {
      log_[kept++] = slot;
    } else {
      clear(slot);
      details_[slot].logged = false;
    }
  }
  logged_ = kept;
}

void Tlb::flush_page(LinearAddress address) {
  const std::size_t slot = index(address);
  if (entries_[slot].read_tag == page_of(address)) clear(slot);
  if (!any_large_) return;
  for (const unsigned shift : kLargeShifts) {
    if (!large_.test(large_mark(address, shift))) continue;
    for (std::size_t i = 0; i < logged_; ++i) {
      const std::size_t piece = log_[i];
      if (details_[piece].page_shift != shift || entries_[piece].read_tag >> shift != address >> shift) continue;
      clear(piece);
    }
  }
}

}  // namespace doppel::x86
