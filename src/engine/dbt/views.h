#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "engine/dbt/env.h"
#include "engine/dbt/jump_table.h"
#include "x86/mmu.h"

namespace doppel::engine::dbt {

/// A linear table of one vCPU's translations for one kind of access under one view: entry n is what to add to an
/// address in linear page n to get the host's address, or 0. It covers 48 bits of address space; what is not used is
/// reserved only. The vCPU's thread.
class DeltaTable {
 public:
  static constexpr unsigned kIndexBits = 36;
  static constexpr std::size_t kBytes = std::size_t{8} << kIndexBits;
  static constexpr unsigned kRegionShift = 9;
  static constexpr std::size_t kRegionBytes = (std::size_t{1} << (kIndexBits - kRegionShift)) / 8;
  /// What attach() takes.
  static constexpr std::size_t kReserved = kBytes + kRegionBytes;

  void attach(std::byte* memory) {
    entries_ = reinterpret_cast<std::uint64_t*>(memory);
    regions_ = reinterpret_cast<std::uint64_t*>(memory + kBytes);
  }
  std::uint64_t* entries() const { return entries_; }

  void fill(x86::LinearAddress address, const std::byte* host_page, bool global);
  void drop(x86::LinearAddress address);
  void flush_all();
  void flush_non_global();
  /// Drops every entry that leads to this page of the host's.
  void drop_host_page(const std::byte* host_page);
  std::size_t filled() const { return global_.size() + local_.size(); }
  std::size_t committed_bytes() const { return committed_ * memory::kPageSize; }

 private:
  static std::uint64_t index_of(x86::LinearAddress address) {
    return (address >> memory::kPageShift) & ((std::uint64_t{1} << kIndexBits) - 1);
  }
  static std::uint64_t delta_of(x86::LinearAddress address, const std::byte* host_page) {
    return reinterpret_cast<std::uint64_t>(host_page) - x86::Tlb::page_of(address);
  }
  void log_global(x86::LinearAddress page, const std::byte* host_page);
  std::uint64_t& region_word(std::uint64_t index) const { return regions_[index >> kRegionShift >> 6]; }
  static std::uint64_t region_bit(std::uint64_t index) { return std::uint64_t{1} << (index >> kRegionShift & 63); }
  /// A guest that touches ever new places must not make the host commit ever more of the table.
  void give_back_when_large();

  std::uint64_t* entries_ = nullptr;
  // What was filled since its last flush. Global pages are many and stay: they are found by where they lead to.
  struct Filled {
    x86::LinearAddress page;
    const std::byte* host_page;
  };
  std::unordered_multimap<const std::byte*, x86::LinearAddress> global_;
  std::vector<Filled> local_;
  /// Which pieces of the table, a host page each, may be committed, by bit; reserved only, like the table.
  std::uint64_t* regions_ = nullptr;
  std::size_t committed_ = 0;
};

/// The address space that translated code of one vCPU lives by: for each view a read table with the Env just below it,
/// and a write table, which the gs register points to.
class Views {
 public:
  static Result<std::unique_ptr<Views>> create();
  ~Views();
  Views(const Views&) = delete;
  Views& operator=(const Views&) = delete;

  Env& env() { return *env_[0]; }
  /// The host's rsp under a view.
  void* stack_pointer(x86::View view) {
    return reinterpret_cast<std::byte*>(env_[static_cast<std::size_t>(view)]) + kEnvAnchor;
  }
  JumpTable& jumps(bool user) { return jumps_[user ? 1 : 0]; }

  DeltaTable& reads(x86::View view) { return reads_[static_cast<std::size_t>(view)]; }
  DeltaTable& writes(x86::View view) { return writes_[static_cast<std::size_t>(view)]; }

  /// Distance of the read table from rsp.
  static constexpr std::int32_t kReadTable = 4096 - kEnvAnchor;
  /// Distance of a jump table from rsp.
  static constexpr std::int32_t jump_table(bool user) {
    return kReadTable - static_cast<std::int32_t>(kRegion) +
           (user ? static_cast<std::int32_t>(sizeof(JumpTable::Entries)) : 0);
  }

  void flush_all();
  void flush_non_global();
  void flush_page(x86::LinearAddress address);
  void drop_writes_to(const std::byte* host_page);

  /// Of the host's memory, at most.
  std::size_t committed_bytes() const;

 private:
  Views() = default;
  /// What lies below each read table, the same memory each time: the jump tables, and the Env in the last page.
  static constexpr std::size_t kRegion = std::size_t{16} << 20;
  static_assert(2 * sizeof(JumpTable::Entries) + 4096 <= kRegion);
  static_assert(sizeof(Env) <= 4096);
  static constexpr std::size_t kReserved = x86::kViews * (kRegion + 2 * DeltaTable::kReserved);

  std::byte* reserved_ = nullptr;
  std::array<Env*, x86::kViews> env_{};
  std::array<JumpTable, 2> jumps_{};
  std::array<DeltaTable, x86::kViews> reads_{}, writes_{};
};

}  // namespace doppel::engine::dbt
